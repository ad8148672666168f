"""One rerank as LlamaIndex's instrumentation and older callbacks are told of it; ranks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankStartEvent
from llama_index.core.schema import NodeWithScore
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler

from llama_index_qwen_rerank._thin import all_thin, full, thin_query
from llama_index_qwen_rerank.events import QwenRerankEndEvent
from qwen_rerank import Image, Ranking, RerankError
from qwen_rerank.framework import held
from qwen_rerank.traces import current_spans, tell_spans

__all__ = ["Outcome", "is_heard", "reported", "spanned"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

# The spans that were current before the rerank's own.
_before: ContextVar[tuple[Any, ...]] = ContextVar("_before", default=())


class Outcome:
    """What a rerank ended in; filled by whoever ranks."""

    ranking: Ranking | None = None

    def __init__(self) -> None:
        self.nodes: list[NodeWithScore] = []

    @property
    def degraded(self) -> RerankError | None:
        return None if self.ranking is None else self.ranking.degraded


def is_heard(dispatcher: Dispatcher) -> bool:
    """Whether a handler gets what *dispatcher* is told, other than the root's that do nothing."""
    above: Dispatcher | None = dispatcher
    while above is not None:
        for handler in (*above.span_handlers, *above.event_handlers):
            if not isinstance(handler, NullSpanHandler | NullEventHandler):
                return True
        above = above.parent if above.propagate else None
    return False


def spanned(
    dispatcher: Dispatcher, is_heard: Callable[[Any], bool]
) -> Callable[[_Method], _Method]:
    """``dispatcher.span`` for those calls of a method alone that somebody hears.

    A span looks at the method's signature and copies the context, whoever hears of it. It is told
    of thin nodes, here and no further out: whoever overrides the method gets whole ones.

    Args:
        dispatcher: Of LlamaIndex's instrumentation.
        is_heard: Whether anybody listens to the object that is called.
    """

    def decorated(method: _Method) -> _Method:
        told: Any = dispatcher.span(method)  # bound below: a span tells of whom

        # With LlamaIndex's mark, so that it makes no span of its own.
        if iscoroutinefunction(method):

            @wraps(method)
            async def awaited(self: Any, nodes: Any, query_bundle: Any = None) -> Any:
                if not is_heard(self):
                    return await method(self, nodes, query_bundle)
                shown, asked = all_thin(nodes), thin_query(query_bundle)
                with held(_before, current_spans()):
                    return full(await told.__get__(self)(shown, asked))

            return cast("_Method", awaited)

        @wraps(method)
        def called(self: Any, nodes: Any, query_bundle: Any = None) -> Any:
            if not is_heard(self):
                return method(self, nodes, query_bundle)
            shown, asked = all_thin(nodes), thin_query(query_bundle)
            with held(_before, current_spans()):
                return full(told.__get__(self)(shown, asked))

        return cast("_Method", called)

    return decorated


@contextmanager
def reported(
    dispatcher: Dispatcher,
    callbacks: CallbackManager,
    given: Sequence[NodeWithScore],
    asked: str | Image,
    *,
    step: str,
    model: str,
    top_n: int | None,
) -> Iterator[Outcome]:
    """Tells *dispatcher* and *callbacks* of one rerank.

    Yields the outcome to be filled; what it holds at the end is reported, which after a failure is
    nothing. A passed-through list is reported together with the error that made it one.

    Args:
        dispatcher: Of LlamaIndex's instrumentation.
        callbacks: Of its older callbacks.
        given: The candidates.
        asked: The query.
        step: What the spans around it are called: the name of the reranker's class.
        model: The model that is asked.
        top_n: How many nodes are kept, or None.
    """
    outcome, shown = Outcome(), all_thin(given)
    words = asked if isinstance(asked, str) else repr(asked)
    kept = len(shown) if top_n is None else top_n  # the event takes no None
    payload: dict[str, Any] = {
        EventPayload.NODES: shown,
        EventPayload.MODEL_NAME: model,
        EventPayload.QUERY_STR: words,
        EventPayload.TOP_K: kept,
    }
    dispatcher.event(ReRankStartEvent(query=words, nodes=shown, top_n=kept, model_name=model))
    try:
        if not callbacks.handlers:  # it would keep the id of every event for ever
            yield outcome
            return
        with callbacks.event(CBEventType.RERANKING, payload=payload) as event:
            yield outcome
            ended: dict[str, Any] = {EventPayload.NODES: all_thin(outcome.nodes)}
            if (degraded := outcome.degraded) is not None:
                ended[EventPayload.EXCEPTION] = degraded
            event.on_end(payload=ended)
    finally:
        if (degraded := outcome.degraded) is not None:
            dispatcher.event(ExceptionEvent(exception=degraded))
        dispatcher.event(QwenRerankEndEvent.of(all_thin(outcome.nodes), outcome.ranking))
        if outcome.ranking is not None:
            tell_spans(outcome.ranking, step, before=_before.get())
