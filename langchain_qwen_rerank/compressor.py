"""Documents in, documents out: LangChain's conventions; nothing about ranking is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, Unpack, cast

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.load.serializable import Serializable
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict, override  # pydantic takes no other before Python 3.12

from langchain_qwen_rerank import _tracing
from langchain_qwen_rerank._candidates import candidate, listed, several
from langchain_qwen_rerank._pace import Pace
from qwen_rerank import CallOptions, Candidate, Estimate, Hit, Image, Ranking
from qwen_rerank.framework import FrameworkReranker

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks
    from langchain_core.runnables import Runnable

__all__ = ["QwenRerank", "Score"]

_SCORE = "relevance_score"
_PLAIN = {str, int, float, bool, type(None)}


class Score(TypedDict):
    """Where a document stands in the list that was given, and its score if it has one."""

    index: int
    relevance_score: float | None


class QwenRerank(FrameworkReranker, BaseDocumentCompressor, Serializable, defer_build=False):
    """Reranks LangChain documents with a DashScope rerank model.

    Works wherever a document compressor does, such as ``ContextualCompressionRetriever``. What
    comes back are copies of the documents, best first, with ``metadata["relevance_score"]`` set; a
    document that was never scored, such as a blank one, comes last and carries no score. A document
    whose image cannot be sent is ranked by its text if it has one, and comes last without a score
    if not; a warning says why.

    LlamaIndex's class has the same name. To import both, give one of them another:
    ``from llama_index_qwen_rerank import QwenRerank as QwenNodeRerank``.

    Examples:
        >>> from langchain_core.documents import Document
        >>> from langchain_qwen_rerank import QwenRerank
        >>> from qwen_rerank.emulator import Emulator
        >>> documents = [Document("green tea"), Document("a red sports car")]
        >>> with Emulator() as emulator:
        ...     reranker = QwenRerank(base_url=emulator.base_url, api_key=emulator.api_key, top_n=1)
        ...     [best] = reranker.compress_documents(documents, "a fast red car")
        >>> best.page_content
        'a red sports car'

    Args:
        model: Name of the rerank model, ``"qwen3-rerank"`` by default. Any name is sent as it is;
            one without a row in the table of limits is planned for conservatively.
        top_n: How many documents to keep, at least 1; 3 by default. None keeps all.
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
        local_files: The folder below which paths of images are read; None reads none.
        item: What is ranked of a document, instead of its text and what the keys name: called with
            the document, it returns a text, an `Image`, a `Video`, or a tuple of a text and one of
            these. `WithMetadata` is one that adds metadata fields to the text. Pickles keep it, so
            it has to be picklable; ``dumps`` cannot.
        image_key: The metadata key that holds a document's image, for a model that takes them: a
            URL, a data URI, bytes, base64 text of at least 100 characters or, below *local_files*,
            a path. None does not look.
        video_key: The metadata key that holds the URL of a document's video, for a model that takes
            them. None does not look.
        rate_limiter: A ``BaseRateLimiter`` of langchain-core, asked before every request; share one
            to stay within an account's limit. A pickle has none.

    Raises:
        ValueError: An option is unknown or wrong, or there is no key for an Alibaba Cloud host.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # which Serializable would undo

    _pairs: ClassVar[Mapping[str, str]] = {"compress_documents": "acompress_documents"}

    _slips: ClassVar[Mapping[str, str]] = {
        "rank_fields": "give it to rerank(), with dicts; of documents item=WithMetadata(...)",
        "return_documents": "documents come back anyway, from rerank() their positions",
    }

    image_key: str | None = None
    """The metadata key that holds a document's image, for a model that takes them: a URL, a data
    URI, bytes, base64 text of at least 100 characters or, below *local_files*, a path. None does
    not look.
    """
    video_key: str | None = None
    """The metadata key that holds the URL of a document's video, for a model that takes them. None
    does not look.
    """
    item: Annotated[Callable[[Document], Candidate] | None, WithJsonSchema({})] = Field(
        default=None, exclude=True, repr=False
    )
    """What is ranked of a document, instead of its text and what the keys name: called with the
    document, it returns a text, an `Image`, a `Video`, or a tuple of a text and one of these.
    `WithMetadata` is one that adds metadata fields to the text. Pickles keep it, so it has to be
    picklable; ``dumps`` cannot.
    """
    rate_limiter: Annotated[BaseRateLimiter | None, WithJsonSchema({})] = Field(
        default=None, exclude=True, repr=False
    )
    """A ``BaseRateLimiter`` of langchain-core, asked before every request; share one to stay within
    an account's limit. A pickle has none.
    """

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Reranks *documents*.

        Args:
            documents: The candidates; they are left as they are.
            query: What to look for; not blank.
            callbacks: LangChain's callbacks. They see a retriever run named ``QwenRerank`` with
                the ranked documents; its metadata and a custom event ``qwen_rerank`` have model,
                usage, request ids, what was cut, and the reason if the list was passed through.
                None takes those of the surrounding runnable or tool.

        Returns:
            Copies of the best ``top_n`` documents, best first. With ``on_error="passthrough"``,
            after a failure that is not the caller's mistake: copies of the first ``top_n`` in
            their original order, without a score.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        documents = listed(documents)
        if not documents:
            self._rank(query, [], {})  # a wrong call is wrong whatever was found
            return []
        with _tracing.run(callbacks, query, self._about()) as outcome:
            outcome.ranking = self._rank_found(query, documents)
            outcome.documents = _reranked(documents, outcome.ranking)
        return outcome.documents

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents` for a running event loop, without a thread.

        A subclass that overrides `compress_documents` alone is called in one.
        """
        if self._overrides_alone(sync := "compress_documents"):
            method = self.compress_documents
            return await self._by_thread(sync, method, documents, query, callbacks)
        documents = await self._apart(documents, listed, documents)
        if not documents:
            await self._arank(query, [], {})  # likewise
            return []
        async with _tracing.arun(callbacks, query, self._about()) as outcome:
            outcome.ranking = ranking = await self._arank_found(query, documents)
            outcome.documents = await self._apart(ranking.hits, _reranked, documents, ranking)
        return outcome.documents

    def rerank(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        *,
        rank_fields: Sequence[str] | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """Scores *documents* without touching them; callbacks see no run of it.

        Args:
            documents: Texts, documents, dicts, and for a model that takes them `Image` and `Video`.
            query: What to look for; a text that is not blank, or an `Image`.
            rank_fields: Keys of the dicts: of one its value is ranked, several become lines
                ``key: value`` in this order. ``["text"]`` by default.
            **options: ``model``, ``top_n``, ``instruct`` and ``score_threshold`` for this call
                alone.

        Returns:
            ``{"index": ..., "relevance_score": ...}`` for each kept document, best first.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        candidates, found = self._explicit(documents)
        return _scores(
            self._rank(query, candidates, options, lenient=found, rank_fields=rank_fields)
        )

    async def arerank(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        *,
        rank_fields: Sequence[str] | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """`rerank` for a running event loop."""
        candidates, found = await self._apart(documents, self._explicit, documents)
        ranking = await self._arank_made(
            query, documents, candidates, options, lenient=found, rank_fields=rank_fields
        )
        return await self._apart(ranking.hits, _scores, ranking)

    def estimate(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        *,
        rank_fields: Sequence[str] | None = None,
        price_per_million: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Estimate:
        """What ranking *documents* would take. Nothing is sent; what the cache knows is free.

        Args:
            documents: As for `rerank`.
            query: Likewise.
            rank_fields: Likewise.
            price_per_million: Your price of a million input tokens, instead of the list price.
            **options: As for `rerank`; only ``model`` and ``instruct`` matter here.

        Raises:
            RequestError: The call would be refused.
        """
        candidates, found = self._explicit(documents)
        return self._estimate(
            query,
            candidates,
            options,
            lenient=found,
            rank_fields=rank_fields,
            price_per_million=price_per_million,
        )

    def as_runnable(self, config_prefix: str = "") -> Runnable[Mapping[str, Any], list[Document]]:
        """A step of a chain: ``{"query": ..., "documents": ...}`` in, documents out.

        It shares this object's options, connections, usage and limits. One call can differ by its
        config: ``chain.invoke(question, {"configurable": {"top_n": 5}})``, and likewise ``model``,
        ``instruct`` and ``score_threshold``. They are declared, in ``config_specs`` and
        ``config_schema()`` of the step and of every chain that holds it.

        Examples:
            >>> from langchain_core.runnables import RunnableParallel, RunnablePassthrough
            >>> from langchain_qwen_rerank import QwenRerank
            >>> def chain(retriever, reranker: QwenRerank):
            ...     found = RunnableParallel(query=RunnablePassthrough(), documents=retriever)
            ...     return found | reranker.as_runnable()

        Args:
            config_prefix: Where a chain's model is configurable by the same names, what these
                begin with here: with ``"rerank"``, ``rerank_top_n`` and so on.
        """
        from langchain_qwen_rerank._step import Step  # noqa: PLC0415  slow to import

        # Typed as what other steps make, which type checkers know as a dict of anything.
        return cast("Runnable[Mapping[str, Any], list[Document]]", Step(self, config_prefix))

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "DASHSCOPE_API_KEY"}

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        return {} if self.local_files is None else {"local_files": str(self.local_files)}

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    @override
    def _pace(self) -> Pace | None:
        return None if self.rate_limiter is None else Pace(self.rate_limiter)

    def _with(self, query: str, options: CallOptions) -> Self:
        """What ranks for *query* with the *options* of one call, which are refused if wrong.

        So such a call, too, is one of `compress_documents`, which a subclass may have its own of:
        it finds its private attributes, and is neither made nor validated anew.
        """
        job = self._job(query, (), options)
        if not options:
            return self
        made = self._as_it_is()
        made._forget()
        object.__setattr__(made, "__pydantic_private__", self.__pydantic_private__)  # not copies
        made.__dict__.update({name: getattr(job, name) for name in options})
        return made

    def _about(self) -> dict[str, Any]:
        """What a run is told of who ranks, by LangSmith's names."""
        return {"ls_provider": self.server or "dashscope", "ls_model_name": self.model}

    @override
    def _chooser(self) -> Callable[[Document], Candidate]:
        image_key, video_key, folder = self.image_key, self.video_key, self.local_files
        if image_key is None and video_key is None:
            return attrgetter("page_content")
        return lambda found: candidate(found, image_key, video_key, folder)

    def _explicit(
        self, documents: Sequence[Candidate | Document]
    ) -> tuple[Iterator[Candidate], frozenset[int]]:
        """The candidates in *documents*, and the positions of those that stand in a document."""
        documents, choose = several(documents), self.item or self._chooser()
        return (
            (choose(each) if isinstance(each, Document) else each for each in documents),
            frozenset(at for at, each in enumerate(documents) if isinstance(each, Document)),
        )


def _scores(ranking: Ranking) -> list[Score]:
    return [Score(index=hit.index, relevance_score=hit.score) for hit in ranking]


def _reranked(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    return [_copy(documents[hit.index], hit) for hit in ranking]


def _copy(document: Document, hit: Hit) -> Document:
    """A copy that keeps id, subclass and metadata; a score from an earlier stage never survives."""
    metadata = _copied(document.metadata)
    metadata.pop(_SCORE, None)
    if hit.score is not None:
        metadata[_SCORE] = hit.score
    return document.model_copy(update={"metadata": metadata})


def _copied(metadata: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares nothing which can change, if there is one."""
    if type(metadata) is not dict or not _PLAIN.issuperset(map(type, metadata.values())):
        with suppress(Exception):  # some values (locks, clients) refuse; they are then shared
            return deepcopy(metadata)
    return dict(metadata)
