"""Nodes in, nodes out: LlamaIndex's conventions; nothing about ranking is decided here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import Field, SkipValidation, Strict, field_validator
from typing_extensions import override

from llama_index_qwen_rerank._candidates import candidate, query, slim
from qwen_rerank import BaseReranker, Candidate, Image, Ranking, RequestError, RerankError

__all__ = ["QwenRerank"]

dispatcher = get_dispatcher(__name__)


class QwenRerank(BaseReranker, BaseNodePostprocessor):
    """Reranks LlamaIndex nodes with a DashScope rerank model.

    Works wherever a node postprocessor does, such as
    ``index.as_query_engine(node_postprocessors=[...])``. What comes back are new `NodeWithScore`
    objects around the same nodes, best first; a node that was never scored, such as a blank one,
    comes last with the score None. With ``on_error="passthrough"``, after a failure that is not the
    caller's mistake, the first ``top_n`` come back in their original order with the retrieval
    scores that they came with.

    Example:
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
        top_n: How many nodes to keep, at least 1; None keeps all. 3 by default. The only option
            that can be given by position.
        metadata_mode: Which text of a node is ranked; by default what would be embedded.
        local_files: The folder below which the paths of images in nodes are read; None reads
            none.
        item: What is ranked of a node, instead of its text, image and video: called with the
            node, it returns a text, an `Image`, a `Video`, or a tuple of a text and one of these.
        return_documents: Accepted for those who come from ``DashScopeRerank``; it does nothing,
            there as here, and warns.
    """

    top_n: Annotated[int, Strict(), Field(ge=1)] | None = 3
    metadata_mode: MetadataMode = MetadataMode.EMBED
    local_files: Path | None = None
    item: SkipValidation[Callable[[BaseNode], Candidate] | None] = Field(
        default=None, exclude=True, repr=False
    )
    callback_manager: CallbackManager = Field(
        default_factory=CallbackManager, exclude=True, repr=False
    )

    def __init__(self, top_n: int | None = 3, **options: Any) -> None:
        if "return_documents" in options:
            del options["return_documents"]
            warnings.warn(
                "return_documents does nothing: the nodes that come back are always the caller's",
                UserWarning,
                stacklevel=2,
            )
        if options.get("callback_manager", ...) is None:
            del options["callback_manager"]
        options = self._sealed(options | {"top_n": top_n})
        del top_n
        try:
            super().__init__(**options)
        except ValueError:
            options.clear()  # a key in the wrong place would show in this frame
            raise

    @field_validator("callback_manager", mode="plain")
    @classmethod
    def _is_callback_manager(cls, manager: Any) -> CallbackManager:
        if not isinstance(manager, CallbackManager):
            raise ValueError("must be a CallbackManager")  # noqa: TRY004  pydantic's own kind
        return manager

    @override
    @classmethod
    def class_name(cls) -> str:
        return "QwenRerank"

    @override
    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        asked, candidates = query(query_bundle, self.mixed), self._candidates(nodes)
        with self._reported(nodes, asked) as outcome:
            outcome.take(nodes, self._rank(asked, candidates, strict=False))
        return outcome.nodes

    # Spanned by hand: the base class spans only what is abstract in it, and without a span of its
    # own the events below would be attached to the caller's.
    @override
    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        asked, candidates = query(query_bundle, self.mixed), self._candidates(nodes)
        with self._reported(nodes, asked) as outcome:
            outcome.take(nodes, await self._arank(asked, candidates, strict=False))
        return outcome.nodes

    def _candidates(self, nodes: Sequence[NodeWithScore]) -> list[Candidate]:
        for position, node in enumerate(nodes):
            if not isinstance(node, NodeWithScore):
                raise RequestError(
                    f"node {position} must be a NodeWithScore, not {type(node).__name__}"
                )
        if self.item is not None:
            return [self.item(each.node) for each in nodes]
        return [
            candidate(
                each.node, self.metadata_mode, self.local_files, takes_media=self._takes_media
            )
            for each in nodes
        ]

    @contextmanager
    def _reported(self, nodes: list[NodeWithScore], asked: str | Image) -> Iterator[_Outcome]:
        """Tells LlamaIndex's instrumentation and its older callbacks of one rerank.

        Yields the outcome to be filled; what it holds at the end is reported, which after a failure
        is nothing. A passed-through list is reported together with the error that made it one.
        Without nodes there is no call and nothing to tell.
        """
        outcome = _Outcome()
        if not nodes:
            yield outcome
            return
        top_n = len(nodes) if self.top_n is None else self.top_n  # the event takes no None
        shown, words = slim(nodes), asked if isinstance(asked, str) else repr(asked)
        payload: dict[str, Any] = {
            EventPayload.NODES: shown,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: words,
            EventPayload.TOP_K: top_n,
        }
        dispatcher.event(
            ReRankStartEvent(query=words, nodes=shown, top_n=top_n, model_name=self.model)
        )
        try:
            if not self.callback_manager.handlers:  # it would keep the id of every event for ever
                yield outcome
                return
            with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
                yield outcome
                ended: dict[str, Any] = {EventPayload.NODES: slim(outcome.nodes)}
                if outcome.degraded is not None:
                    ended[EventPayload.EXCEPTION] = outcome.degraded
                event.on_end(payload=ended)
        finally:
            if outcome.degraded is not None:
                dispatcher.event(ExceptionEvent(exception=outcome.degraded))
            dispatcher.event(ReRankEndEvent(nodes=slim(outcome.nodes), tags=outcome.tags()))


class _Outcome:
    """What a rerank ended in; filled by whoever ranks."""

    def __init__(self) -> None:
        self.nodes: list[NodeWithScore] = []
        self.degraded: RerankError | None = None

    def take(self, given: Sequence[NodeWithScore], ranking: Ranking) -> None:
        self.degraded = ranking.degraded
        for hit in ranking:
            # A list that was passed through keeps the scores of the retrieval it came with.
            score = hit.score if ranking.degraded is None else given[hit.index].score
            self.nodes.append(NodeWithScore(node=given[hit.index].node, score=score))

    def tags(self) -> dict[str, Any]:
        return {} if self.degraded is None else {"qwen_rerank.degraded": str(self.degraded)}
