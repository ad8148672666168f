"""The event that ends a rerank, with what the nodes do not say; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterable

from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.schema import NodeWithScore
from typing_extensions import override

from qwen_rerank import Ranking
from qwen_rerank.traces import facts

__all__ = ["QwenRerankEndEvent"]


class QwenRerankEndEvent(ReRankEndEvent):
    """LlamaIndex's event for the end of a rerank, and what the rerank cost.

    After a failure that was raised it has neither nodes nor usage; the span holds the error.

    Attributes:
        nodes: The nodes that come back, images' contents left out.
        model_name: The model that was asked, or None after a failure.
        requests: Requests that were answered with scores.
        total_tokens: Input tokens billed; None where that is unknown.
        cache_hits: Distinct texts whose score came from the cache.
        cost: What those tokens cost by the list price, in *currency*; None where none is known.
        currency: ISO code of *cost*, or None.
        request_ids: The service's ids of those requests.
        truncated: Positions, among the nodes that were given, of those that were cut.
        query_truncated: Whether the query was cut.
        degraded: Why the nodes were passed through unranked, or None.
    """

    model_name: str | None = None
    requests: int = 0
    total_tokens: int | None = None
    cache_hits: int = 0
    cost: float | None = None
    currency: str | None = None
    request_ids: list[str] = []  # noqa: RUF012  pydantic copies it
    truncated: list[int] = []  # noqa: RUF012  likewise
    query_truncated: bool = False
    degraded: str | None = None

    @classmethod
    def of(cls, nodes: Iterable[NodeWithScore], ranking: Ranking | None) -> QwenRerankEndEvent:
        """The end of the rerank that gave *ranking*, or of one that failed."""
        if ranking is None:
            return cls(nodes=list(nodes))
        told = facts(ranking)
        names = {"model": "model_name", "tokens": "total_tokens"}
        return cls(nodes=list(nodes), **{names.get(name, name): told[name] for name in told})

    @override
    @classmethod
    def class_name(cls) -> str:
        return "QwenRerankEndEvent"
