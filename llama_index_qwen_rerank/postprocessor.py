"""Nodes in, nodes out: LlamaIndex's conventions; nothing about ranking is decided here."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Unpack

from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import Dispatcher
from pydantic import Field, field_validator
from typing_extensions import override

from llama_index_qwen_rerank._candidates import candidate, query, with_retrieval_score
from llama_index_qwen_rerank._options import Options
from llama_index_qwen_rerank._pace import Pace
from llama_index_qwen_rerank._thin import (
    ThinNode,
    all_thin,
    full,
    full_query,
    is_list,
    thin_as,
    thin_query,
    whole,
)
from llama_index_qwen_rerank._tracing import Outcome, is_heard, reported, spanned
from qwen_rerank import Candidate, Estimate, Image, Ranking, RequestError
from qwen_rerank.door import Door

__all__ = ["QwenRerank"]

dispatcher: Dispatcher = get_dispatcher(__name__)
_span = spanned(dispatcher, lambda reranker: reranker._is_heard())


class QwenRerank(Door[BaseNode], BaseNodePostprocessor):
    """Reranks LlamaIndex nodes with a DashScope rerank model.

    Works wherever a node postprocessor does, such as
    ``index.as_query_engine(node_postprocessors=[...])``. What comes back are new `NodeWithScore`
    objects around the same nodes, best first; a node that was never scored, such as a blank one,
    comes last with the score None. With ``on_error="passthrough"``, after a failure that is not the
    caller's mistake, the first ``top_n`` come back in their original order with the retrieval
    scores that they came with.

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

    The options are those of `qwen_rerank.RerankSettings`, and:

    Attributes:
        top_n (int | None): How many nodes to keep, at least 1; None keeps all. 3 by default. The
            only option that can be given by position.
        metadata_mode: Which text of a node is ranked; by default what would be embedded.
        local_files (Path | str | None): The folder below which the paths of images in nodes are
            read; None reads none.
        item (Callable | None): What is ranked of a node, instead of its text, image and video:
            called with the node, it returns a text, an `Image`, a `Video`, or a tuple of a text and
            one of these. A pickle keeps it, so it has to be picklable; ``to_dict`` cannot.
        keep_retrieval_score: Whether the score that a node came with is kept as
            ``metadata["retrieval_score"]`` of a copy of the node, which neither language models nor
            embeddings see.
        rate_limiter (BaseRateLimiter | None): A limiter of ``llama_index.core.rate_limiter``, asked
            before every request with its tokens; share one to stay within an account's limit. A
            pickle has none.
        return_documents (bool): Accepted for those who come from ``DashScopeRerank``; it does
            nothing, there as here, and warns.
    """

    metadata_mode: MetadataMode = MetadataMode.EMBED
    keep_retrieval_score: bool = False
    rate_limiter: Any = Field(default=None, exclude=True, repr=False)
    callback_manager: CallbackManager = Field(
        default_factory=CallbackManager, exclude=True, repr=False
    )

    def __init__(self, top_n: int | None = 3, **options: Unpack[Options]) -> None:
        by_position = isinstance(top_n, str)
        given = self._sealed({"top_n": top_n, **options})
        del options, top_n
        if by_position:
            given.clear()  # it may be a key
            raise ValueError("top_n comes first and is a number; write QwenRerank(model=...)")
        if "return_documents" in given:
            del given["return_documents"]
            warnings.warn(
                "return_documents does nothing: the nodes that come back are always the caller's",
                UserWarning,
                stacklevel=2,
            )
        if given.get("callback_manager", ...) is None:
            del given["callback_manager"]
        try:
            super().__init__(**given)
        except ValueError:
            given.clear()  # a key in the wrong place would show in this frame
            raise

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
        if not self._is_heard():
            return super().postprocess_nodes(nodes, query_bundle, query_str)
        shown, asked = all_thin(nodes), thin_query(query_bundle)
        return full(super().postprocess_nodes(shown, asked, query_str))

    @override
    async def apostprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,
        query_str: str | None = None,
    ) -> list[NodeWithScore]:
        """`postprocess_nodes` for a running event loop, without a thread."""
        if not self._is_heard():
            return await super().apostprocess_nodes(nodes, query_bundle, query_str)
        shown, asked = all_thin(nodes), thin_query(query_bundle)
        return full(await super().apostprocess_nodes(shown, asked, query_str))

    @override
    @_span
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
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
        if query_str is not None:
            if query_bundle is not None:
                raise RequestError("give query_bundle or query_str, not both")
            query_bundle = QueryBundle(query_str)
        candidates = self._candidates(_found(nodes))
        return self._estimate(
            self._query(query_bundle),
            candidates,
            {},
            lenient=range(len(candidates)),
            price_per_million=price_per_million,
        )

    # Spanned by hand: the base class spans only what is abstract in it, and without a span of its
    # own the events below would be attached to the caller's.
    @override
    @_span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
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
    def _candidate(self, found: BaseNode) -> Candidate:
        return candidate(found, self.metadata_mode, self.local_files, self._takes_media)

    def _is_heard(self) -> bool:
        """Whether a tracer sees what LlamaIndex says of this object's calls."""
        if self.callback_manager.handlers:
            return True
        for kind in type(self).__mro__:  # a subclass has spans of its own module's dispatcher
            if is_heard(get_dispatcher(kind.__module__)):
                return True
            if kind is QwenRerank:
                break
        return False

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
