"""The reranker for users of no framework; `framework` has what frameworks' classes build on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Unpack

from qwen_rerank._values import Estimate, Ranking
from qwen_rerank.media import Candidate, Image
from qwen_rerank.reranker import BaseReranker, CallOptions

__all__ = ["Reranker"]


class Reranker(BaseReranker, defer_build=False):
    """Ranks texts by relevance to a query with a DashScope rerank model.

    Examples:
        >>> from qwen_rerank import Reranker
        >>> from qwen_rerank.emulator import Emulator
        >>> with Emulator() as emulator:
        ...     reranker = Reranker(base_url=emulator.base_url, api_key=emulator.api_key)
        ...     ranking = reranker.rerank("a fast red car", ["green tea", "a red sports car"])
        >>> [hit.index for hit in ranking]
        [1, 0]

    Args:
        model: Name of the rerank model, ``"qwen3-rerank"`` by default. Any name is sent as it is;
            one without a row in the table of limits is planned for conservatively.
        top_n: How many documents to keep, at least 1; None, the default here, keeps all.
        api_key: The DashScope API key. None looks for one where the dashscope SDK does: in
            ``dashscope.settings.api_key`` and ``dashscope.api_key`` if they were set in code, in
            ``DASHSCOPE_API_KEY``, in its config file and its key file; a key found there is sent to
            Alibaba Cloud and loopback hosts only. One in quotes or behind ``Bearer`` is refused.
            ``dashscope_api_key`` is an alias.
        base_url: Base URL of the service, such as ``https://host/api/v1``; None uses the region's.
        region: ``cn-beijing`` (Beijing, the default), ``ap-southeast-1`` (Singapore),
            ``cn-hongkong`` (Hong Kong), ``us-east-1`` (Virginia; whether rerank is served there is
            not known), and with *workspace* also ``eu-central-1`` (Frankfurt) and
            ``ap-northeast-1`` (Tokyo).
        workspace: Model Studio workspace id. Calls go to its own host; where a base URL is given or
            found they go there, and a header names the workspace.
        protocol: ``"dashscope"``, the default, for the native protocol, which serves every model,
            or ``"compatible"`` for the flat one at ``/compatible-api/v1/reranks``, which *server*
            implies.
        server: What answers at *base_url*, if it is a server of your own: ``"vllm"``, ``"sglang"``,
            ``"tei"`` (Text Embeddings Inference), ``"xinference"``, ``"infinity"``, ``"litellm"``,
            or ``"cohere"`` for what else speaks as Cohere's API does; their dialects of the
            compatible protocol differ. It gets a key only if *api_key* is given. None is Alibaba
            Cloud.
        instruct: What counts as relevant, in an English sentence; None leaves the model's default
            (web search retrieval). The gte models ignore it.
        score_threshold: Keep only documents with at least this score; None keeps all. Scores differ
            by model, region and *instruct*.
        timeout: Seconds for the whole call, 30 by default and a million at most, from its start to
            its ranking: queueing, all attempts, the waits between them and the reading of answers
            included.
        max_retries: How often a request is sent again after a failure that may pass; 2 by default.
        max_concurrency: Requests in flight at once, 8 by default, over all calls, threads and event
            loops that use this object.
        max_documents_per_request: Cut requests smaller than the model's limit asks for: more of
            them at once for a lower latency. The token bill stays the same. None uses the limit.
            For a *server* of your own it may be larger too, as one may be started with another
            limit; None is the server's default limit, or 100 where it has none.
        max_model_len: For a *server* of your own: tokens that query, instruct, document and
            template may have together, at least 16. None asks a server that tells, until it did;
            else it goes by the model's name, or 512.
        max_tokens_per_doc: For a *server* of your own: tokens that a document may have, by our
            count. None is what the query leaves.
        long_documents: What happens to a document over the model's token limit: ``"truncate"``, the
            default, scores its head and reports it in ``Ranking.truncated``, ``"split"`` scores
            overlapping windows, keeps the best and reports it in ``Hit.window``, ``"error"``
            refuses before anything is sent. An over-long query is cut under the first two, with a
            warning.
        long_query: Which end of a query over the model's token limit is asked: ``"head"``, the
            default, or ``"tail"``, where a conversation has its last question.
        on_error: What happens when there is no ranking and that is not the caller's mistake (the
            service is down, slow, overloaded, refuses a text or answers with nonsense, or the
            balance is used up): ``"raise"``, the default, or ``"passthrough"`` to get the documents
            in their original order, cut to *top_n*, without scores and with ``Ranking.degraded``
            set. Wrong calls and refused keys always raise.
        outage_pause: Under ``"passthrough"``, seconds for which calls pass through at once after
            one has found the service gone or silent, 30 by default, but no more than ten times
            *timeout*; then one call tries again. 0 asks with every call.
        mixed: What is scored of a document that has a text and an image or video, of which the
            service takes one: ``"max"``, the default, scores both and keeps the better, ``"text"``
            or ``"media"`` prefers one, and ``"together"`` scores an image and its text as one,
            which vLLM takes (*server*). ``Hit.kind`` says what a score is of.
        fps: For videos, the part of the frames that is looked at, 0 to 1; None leaves the service's
            default, all that it samples. A ratio, in spite of its name.
        cache: Where scores are kept: anything with ``[]``, such as a dict, ``cachetools.TTLCache``
            or ``diskcache.Cache``, or with ``mget`` and ``mset``, such as a key-value store of
            LangChain's. It is used as given, never copied. A cached score assumes that a pair's
            score does not depend on its neighbours, which others measured for qwen3-rerank and the
            vendor does not promise. Keys hold the URL: no region is given another's score.
        client: A ``dashscope.Client`` (dashscope 2.x) whose connections, key and host are used for
            sync calls, whatever *base_url* and *region* say. Awaited calls go out without it, so
            give *async_client* too.
        async_client: A ``dashscope.AsyncClient`` (dashscope 2.x), likewise for awaited calls.
        headers: More headers for every request, such as a gateway asks for. Like the key, their
            values are in no repr, dump, pickle, log or error. They win over those of *http_client*;
            the key's and the request's own cannot be given.
        extra_body: More fields for every request's body, for gateways and for what this version
            does not know. They are merged at its top level, and into the objects that stand there,
            such as ``parameters``; a field that the request has itself is refused.
        http_client: An ``httpx.Client``, or one of httpx2, to send sync calls through: proxies,
            certificates. It is used in threads of ours that see the caller's context variables.
        async_http_client: An ``httpx.AsyncClient``, or one of httpx2, to send async calls through,
            in the caller's loop.
        allow_http: Whether the key and the documents may leave this machine over plain http; not by
            default.

    Raises:
        ValueError: An option is unknown or wrong, or there is no key for an Alibaba Cloud host.
    """

    _slips: ClassVar[Mapping[str, str]] = {
        "rank_fields": "give it to rerank(), with the dicts",
        "return_documents": "a hit has its document anyway, as hit.document",
    }

    def rerank(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        *,
        rank_fields: Sequence[str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Ranking:
        """Ranks *documents* by their relevance to *query*.

        A list of any length can be given: it is split over as many requests as the model's limits
        ask for, and those run at the same time. Blank documents are not sent and come last without
        a score; equal documents are sent once; what is too long is handled by ``long_documents``.

        Args:
            query: What to look for; a text that is not blank, or an `Image`.
            documents: The candidates; may be empty. Each is a text, or, for a model that takes them
                such as ``qwen3-vl-rerank``, an `Image`, a `Video` or a tuple of a text and one of
                these, of which ``mixed`` says what is scored. A dict is ranked by its texts under
                *rank_fields*, and comes back as it is.
            rank_fields: Keys of dicts among *documents*: of one its value is ranked, several become
                lines ``key: value`` in this order. ``["text"]`` by default.
            **options: ``model``, ``top_n``, ``instruct`` and ``score_threshold`` for this call
                alone.

        Returns:
            All documents, or the best ``top_n`` of those that reach ``score_threshold``. With
            ``on_error="passthrough"``, after a failure that is not the caller's mistake: the first
            ``top_n`` documents in their original order, with ``degraded`` set.

        Raises:
            RequestError: The call is wrong; nothing was sent unless the service says so.
            DeadlineError: ``timeout`` ran out.
            RerankError: There is no ranking; see `qwen_rerank.errors` for the branches. After the
                first request that fails for good nothing more is sent, and those that are on their
                way, which may be billed, are given up before it is raised; so they are if anything
                else is raised meanwhile, such as ``KeyboardInterrupt``. With a ``cache``, scores
                that had come by then are kept.
            RuntimeError: It is called in the thread that serves all calls, by a tracing hook say,
                or the process is ending.
        """
        return self._rank(query, documents, options, rank_fields=rank_fields)

    async def arerank(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        *,
        rank_fields: Sequence[str] | None = None,
        **options: Unpack[CallOptions],
    ) -> Ranking:
        """`rerank` for a running event loop, which it does not block.

        A failure or a cancellation ends all requests of the call before it is raised.
        """
        return await self._arank(query, documents, options, rank_fields=rank_fields)

    def estimate(
        self,
        query: str | Image,
        documents: Iterable[Candidate],
        *,
        rank_fields: Sequence[str] | None = None,
        price_per_million: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Estimate:
        """What ranking *documents* would take. Nothing is sent; what the cache knows is free.

        Args:
            query: The query.
            documents: The candidates.
            rank_fields: As for `rerank`.
            price_per_million: Your price of a million input tokens, instead of the list price.
            **options: As for the call; only ``model`` and ``instruct`` matter here.

        Raises:
            RequestError: The call would be refused.
        """
        return self._estimate(
            query,
            documents,
            options,
            rank_fields=rank_fields,
            price_per_million=price_per_million,
        )
