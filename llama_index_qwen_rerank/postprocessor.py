"""Nodes in, nodes out: LlamaIndex's conventions; nothing about ranking is decided here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import Dispatcher
from pydantic import Field, SecretStr, WithJsonSchema, field_validator
from typing_extensions import override

from llama_index_qwen_rerank._candidates import candidate, query, with_retrieval_score
from llama_index_qwen_rerank._pace import Pace
from llama_index_qwen_rerank._thin import ThinNode, full, full_query, is_list, thin_as, whole
from llama_index_qwen_rerank._tracing import Outcome, is_heard, reported, spanned
from qwen_rerank import Candidate, Estimate, Image, Ranking, RequestError
from qwen_rerank.framework import FrameworkReranker

__all__ = ["QwenRerank"]

dispatcher: Dispatcher = get_dispatcher(__name__)
_span = spanned(dispatcher, lambda reranker: reranker._is_heard())


class QwenRerank(FrameworkReranker, BaseNodePostprocessor, defer_build=False):
    """Reranks LlamaIndex nodes with a DashScope rerank model.

    Works wherever a node postprocessor does, such as
    ``index.as_query_engine(node_postprocessors=[...])``. What comes back are new `NodeWithScore`
    objects around the same nodes, best first; a node that was never scored, such as a blank one,
    comes last with the score None. With ``on_error="passthrough"``, after a failure that is not the
    caller's mistake, the first ``top_n`` come back in their original order with the retrieval
    scores that they came with.

    LangChain's class has the same name. To import both, give one of them another:
    ``from llama_index_qwen_rerank import QwenRerank as QwenNodeRerank``.

    ``return_documents``, which ``DashScopeRerank`` takes, is accepted with a warning: it does
    nothing, there as here.

    Examples:
        >>> from llama_index.core.schema import NodeWithScore, TextNode
        >>> from llama_index_qwen_rerank import QwenRerank
        >>> from qwen_rerank.emulator import Emulator
        >>> texts = ("green tea", "a red sports car")
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        >>> with Emulator() as emulator:
        ...     reranker = QwenRerank(1, base_url=emulator.base_url, api_key=emulator.api_key)
        ...     [best] = reranker.postprocess_nodes(nodes, query_str="a fast red car")
        >>> best.node.text
        'a red sports car'

    Args:
        top_n: How many documents to keep, at least 1; 3 by default. None keeps all.
        callback_manager: LlamaIndex's older callbacks; engines set it themselves. None makes a new
            one.
        model: Name of the rerank model, ``"qwen3-rerank"`` by default. Any name is sent as it is;
            one without a row in the table of limits is planned for conservatively.
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
        item: What is ranked of a node, instead of its text, image and video: called with the node,
            it returns a text, an `Image`, a `Video`, or a tuple of a text and one of these. A
            pickle keeps it, so it has to be picklable; ``to_dict`` cannot.
        metadata_mode: Which text of a node is ranked; by default what would be embedded.
        keep_retrieval_score: Whether the score that a node came with is kept as
            ``metadata["retrieval_score"]`` of a copy of the node, which neither language models nor
            embeddings see.
        rate_limiter: A limiter of ``llama_index.core.rate_limiter``, asked before every request
            with its tokens; share one to stay within an account's limit. A pickle has none.

    Raises:
        ValueError: An option is unknown or wrong, or there is no key for an Alibaba Cloud host.
    """

    _pairs: ClassVar[Mapping[str, str]] = {
        "postprocess_nodes": "apostprocess_nodes",
        "_postprocess_nodes": "_apostprocess_nodes",
    }

    metadata_mode: MetadataMode = MetadataMode.EMBED
    """Which text of a node is ranked; by default what would be embedded."""
    keep_retrieval_score: bool = False
    """Whether the score that a node came with is kept as ``metadata["retrieval_score"]`` of a copy
    of the node, which neither language models nor embeddings see.
    """
    item: Annotated[Callable[[BaseNode], Candidate] | None, WithJsonSchema({})] = Field(
        default=None, exclude=True, repr=False
    )
    """What is ranked of a node, instead of its text, image and video: called with the node, it
    returns a text, an `Image`, a `Video`, or a tuple of a text and one of these. A pickle keeps it,
    so it has to be picklable; ``to_dict`` cannot.
    """
    rate_limiter: Any = Field(default=None, exclude=True, repr=False)
    """A limiter of ``llama_index.core.rate_limiter``, asked before every request with its tokens;
    share one to stay within an account's limit. A pickle has none.
    """
    callback_manager: CallbackManager = Field(
        default_factory=CallbackManager, exclude=True, repr=False
    )
    """LlamaIndex's older callbacks; engines set it themselves. None makes a new one."""

    if not TYPE_CHECKING:

        def __init__(self, top_n: int | None = 3, **options: Any) -> None:
            by_position = isinstance(top_n, str)
            given = self._sealed({"top_n": top_n, **options})
            del options, top_n
            if by_position:
                given.clear()  # it may be a key
                raise ValueError("top_n comes first and is a number; write QwenRerank(model=...)")
            if "return_documents" in given:
                del given["return_documents"]
                warnings.warn(
                    "return_documents does nothing: the nodes that come back are always yours",
                    UserWarning,
                    stacklevel=2,
                )
            if given.get("class_name") == self.class_name():  # its own dump has it
                del given["class_name"]
            if given.get("callback_manager", ...) is None:
                del given["callback_manager"]
            try:
                super().__init__(**given)
            except ValueError:
                given.clear()  # a key in the wrong place would show in this frame
                raise

    else:  # as editors and type checkers have it; a test compares it with the fields

        def __init__(
            self,
            top_n: int | None = 3,
            *,
            model: str = "qwen3-rerank",
            api_key: SecretStr | str | None = None,
            dashscope_api_key: SecretStr | str | None = None,
            base_url: str | None = None,
            region: str | None = None,
            workspace: str | None = None,
            protocol: Literal["dashscope", "compatible"] = "dashscope",
            server: (
                Literal["vllm", "sglang", "tei", "xinference", "infinity", "litellm", "cohere"]
                | None
            ) = None,
            instruct: str | None = None,
            score_threshold: float | None = None,
            timeout: float = 30.0,
            max_retries: int = 2,
            max_concurrency: int = 8,
            max_documents_per_request: int | None = None,
            max_model_len: int | None = None,
            max_tokens_per_doc: int | None = None,
            long_documents: Literal["truncate", "split", "error"] = "truncate",
            long_query: Literal["head", "tail"] = "head",
            on_error: Literal["raise", "passthrough"] = "raise",
            outage_pause: float = 30.0,
            mixed: Literal["max", "text", "media", "together"] = "max",
            fps: float | None = None,
            cache: Any = None,
            client: Any = None,
            async_client: Any = None,
            headers: Mapping[str, SecretStr | str] | None = None,
            extra_body: Mapping[str, Any] | None = None,
            http_client: Any = None,
            async_http_client: Any = None,
            allow_http: bool = False,
            local_files: str | os.PathLike[str] | None = None,
            item: Callable[[BaseNode], Candidate] | None = None,
            metadata_mode: MetadataMode = MetadataMode.EMBED,
            keep_retrieval_score: bool = False,
            rate_limiter: Any = None,
            callback_manager: CallbackManager | None = None,
            return_documents: bool | None = None,
        ) -> None: ...

    @field_validator("callback_manager", mode="plain")
    @classmethod
    def _is_callback_manager(cls, manager: Any) -> CallbackManager:
        if not isinstance(manager, CallbackManager):
            raise ValueError("must be a CallbackManager")  # noqa: TRY004  pydantic's own kind
        return manager

    @field_validator("rate_limiter")
    @classmethod
    def _is_limiter(cls, limiter: Any) -> Any:
        # By its methods: older releases of llama-index-core have no module for it.
        if limiter is not None and not (
            callable(getattr(limiter, "acquire", None))
            and callable(getattr(limiter, "async_acquire", None))
        ):
            raise ValueError("must be a rate limiter of llama_index.core.rate_limiter")
        return limiter

    @property
    @override
    def _pace(self) -> Pace | None:
        return None if self.rate_limiter is None else Pace(self.rate_limiter)

    @override
    @classmethod
    def class_name(cls) -> str:
        return "QwenRerank"

    # Overridden for the sake of tracers, which see what the methods below are given and return.
    @override
    def postprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,
        query_str: str | None = None,
    ) -> list[NodeWithScore]:
        """Reranks *nodes*.

        Args:
            nodes: The candidates; they are left as they are.
            query_bundle: What to look for; its image, if it has one, for a model that takes them.
            query_str: The same as a text; one of the two is needed.

        Returns:
            New wrappers around the best ``top_n`` nodes, best first. With
            ``on_error="passthrough"``, after a failure that is not the caller's mistake: around the
            first ``top_n`` in their original order, with the scores that they came with.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
            ValueError: Both queries are given.
        """
        return super().postprocess_nodes(nodes, query_bundle, query_str)

    @override
    async def apostprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,
        query_str: str | None = None,
    ) -> list[NodeWithScore]:
        """`postprocess_nodes` for a running event loop, without a thread.

        A subclass that overrides `postprocess_nodes` or `_postprocess_nodes` alone is called in
        one.
        """
        if self._overrides_alone(sync := "postprocess_nodes"):
            method = self.postprocess_nodes
            return await self._by_thread(sync, method, nodes, query_bundle, query_str)
        # Asked here, as it has its own span, whose nodes are thin.
        if self._overrides_alone(sync := "_postprocess_nodes"):
            bundle = _bundle(query_bundle, query_str)
            return await self._by_thread(sync, self._postprocess_nodes, nodes, bundle)
        return await super().apostprocess_nodes(nodes, query_bundle, query_str)

    @override
    @_span
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes = _listed(nodes)
        asked, found = self._query(query_bundle), _found(nodes)
        with self._reported(nodes, asked) as outcome:
            outcome.ranking = self._rank_found(asked, found)
            outcome.nodes = self._reranked(nodes, outcome.ranking)
        return outcome.nodes

    def estimate(
        self,
        nodes: Sequence[NodeWithScore],
        query_bundle: QueryBundle | None = None,
        query_str: str | None = None,
        *,
        price_per_million: float | None = None,
    ) -> Estimate:
        """What `postprocess_nodes` would take. Nothing is sent; what the cache knows is free.

        Args:
            nodes: The candidates.
            query_bundle: The query, or
            query_str: its text.
            price_per_million: Your price of a million input tokens, instead of the list price.

        Raises:
            RequestError: The call would be refused.
        """
        query_bundle = _bundle(query_bundle, query_str)
        found = _found(_listed(nodes))
        return self._estimate(
            self._query(query_bundle),
            self._candidates(found),
            {},
            lenient=range(len(found)),
            price_per_million=price_per_million,
        )

    # Spanned by hand: the base class spans only what is abstract in it, and without a span of its
    # own the events below would be attached to the caller's.
    @override
    @_span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes = _listed(nodes)
        asked, found = self._query(query_bundle), await self._apart(nodes, _found, nodes)
        with self._reported(nodes, asked) as outcome:
            outcome.ranking = ranking = await self._arank_found(asked, found)
            outcome.nodes = await self._apart(ranking.hits, self._reranked, nodes, ranking)
        return outcome.nodes

    def _query(self, bundle: QueryBundle | None) -> str | Image:
        bundle, takes_media = full_query(bundle), self._takes_media()
        asked = query(bundle, self.mixed, takes_media=takes_media)
        has_image = bundle is not None and bundle.image_path
        if has_image and isinstance(asked, str) and self.mixed != "text":
            self._warn_once(
                "query",
                "The query is asked by its text, and its image is ignored%s. Set mixed='text' if "
                "that is meant.",
                "; mixed='media' asks by the image"
                if takes_media
                else f", because {self.model} takes texts only here",
            )
        return asked

    def _reranked(self, given: Sequence[NodeWithScore], ranking: Ranking) -> list[NodeWithScore]:
        """New wrappers around the given nodes, thin where those are."""
        # A list that was passed through keeps the scores of the retrieval it came with.
        keeps = ranking.degraded is not None
        reranked = []
        for hit in ranking:
            before = given[hit.index]
            score = before.score if keeps else hit.score
            made = NodeWithScore(node=self._remembering(whole(before)), score=score)
            if type(before) is ThinNode:
                made = ThinNode.of(self._remembering(before), made)
            reranked.append(made)
        return thin_as(given, reranked)

    def _remembering(self, before: NodeWithScore) -> BaseNode:
        if not self.keep_retrieval_score or before.score is None:
            return before.node
        return with_retrieval_score(before.node, before.score)

    @override
    def _chooser(self) -> Callable[[BaseNode], Candidate]:
        mode, folder, takes_media = self.metadata_mode, self.local_files, self._takes_media
        return lambda found: candidate(found, mode, folder, takes_media)

    def _is_heard(self) -> bool:
        """Whether a tracer sees what LlamaIndex says of this object's calls."""
        return bool(self.callback_manager.handlers) or is_heard(dispatcher)

    def _reported(
        self, nodes: list[NodeWithScore], asked: str | Image
    ) -> AbstractContextManager[Outcome]:
        """Tells tracers of one rerank, if there are any and there is one."""
        if not nodes or not self._is_heard():
            return nullcontext(Outcome())
        return reported(
            dispatcher,
            self.callback_manager,
            nodes,
            asked,
            step=type(self).__name__,
            model=self.model,
            top_n=self.top_n,
        )


def _bundle(bundle: QueryBundle | None, text: str | None) -> QueryBundle | None:
    """The query, which callers give in one of two ways."""
    if text is None:
        return bundle
    if bundle is not None:
        raise RequestError("give query_bundle or query_str, not both")
    return QueryBundle(text)


def _listed(nodes: Any) -> Any:
    """*nodes* as a list, since they are walked more than once; a mistake as it is."""
    return list(nodes) if is_list(nodes) and not isinstance(nodes, list) else nodes


def _found(nodes: Sequence[NodeWithScore]) -> list[BaseNode]:
    """What *nodes* hold, in full."""
    if not is_list(nodes):
        none = "Where nothing was found, pass an empty list."
        one = "Put a single node into a list; a query goes into query_str=."
        raise RequestError(
            f"nodes must be a list of NodeWithScore, not {_name(nodes)}",
            hint=none if nodes is None else one,
        )
    for position, node in enumerate(nodes):
        if not isinstance(node, NodeWithScore):
            raise RequestError(
                f"node {position} must be a NodeWithScore, not {_name(node)}", hint=_instead(node)
            )
    return [each.node for each in full(nodes)]


def _instead(given: Any) -> str | None:
    """What to write for what was given instead of a node with a score."""
    if isinstance(given, BaseNode):
        return "Write NodeWithScore(node=node)."
    if isinstance(given, str):
        return "Write NodeWithScore(node=TextNode(text=text))."
    if hasattr(given, "page_content"):
        return "A document of LangChain: write NodeWithScore(node=TextNode(text=it.page_content))."
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], BaseNode):
        return "Write NodeWithScore(node=node, score=score)."
    return None


def _name(given: object) -> str:
    return "None" if given is None else type(given).__name__
