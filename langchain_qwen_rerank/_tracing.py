"""One rerank as a run of LangChain's callbacks: its start and its end; nothing is ranked here.

The run is of type retriever, which tracers show with its documents; there is no type for rerankers.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    CallbackManager,
)
from typing_extensions import override

from qwen_rerank.media import without_content
from qwen_rerank.traces import current_spans, dollars, facts, harmless, named, tell_spans, tokens

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseRunManager, Callbacks
    from langchain_core.documents import Document

    from qwen_rerank import Image, Ranking

__all__ = ["Outcome", "arun", "may_be_heard", "run"]

_NAME = "QwenRerank"
_EVENT = "qwen_rerank"
_TRACING = "langsmith.run_helpers"
# What LangChain is told to trace by.
_SWITCHES = tuple(
    f"{owner}_{name}" for owner in ("LANGSMITH", "LANGCHAIN") for name in ("TRACING_V2", "TRACING")
)


class Outcome:
    """What a run ended in; filled by whoever ranks."""

    def __init__(self) -> None:
        self.documents: list[Document] = []

    ranking: Ranking | None = None


@contextmanager
def run(callbacks: Callbacks, query: str | Image, about: dict[str, Any]) -> Iterator[Outcome]:
    """A run below whatever run *callbacks* belong to; its end is what the yielded outcome says.

    A passed-through list ends the run as a failure, because the reranking was one. Usage, request
    ids and the reason are in the run's metadata and in a custom event named ``qwen_rerank``.

    Args:
        callbacks: Whose run it is below.
        query: The question.
        about: The metadata that it starts with.
    """
    outcome, inherited = Outcome(), _inherited(callbacks)
    if not may_be_heard(inherited):
        yield outcome
        return
    manager = CallbackManager.configure(inherited, local_metadata=about)
    if not manager.handlers:
        yield outcome
        return
    before = current_spans()
    started = manager.on_retriever_start(None, _words(query), name=_NAME)
    try:
        yield outcome
    except BaseException as error:
        started.on_retriever_error(error)
        raise
    if outcome.ranking is not None:
        _tell(started, outcome.ranking, before)
        manager.on_custom_event(_EVENT, facts(outcome.ranking), run_id=started.run_id)
        if outcome.ranking.degraded is not None:
            started.on_retriever_error(outcome.ranking.degraded)
            return
    started.on_retriever_end(_slim(outcome.documents))


@asynccontextmanager
async def arun(
    callbacks: Callbacks, query: str | Image, about: dict[str, Any]
) -> AsyncIterator[Outcome]:
    """`run` for a running event loop."""
    outcome, inherited = Outcome(), _inherited(callbacks)
    if not may_be_heard(inherited):
        yield outcome
        return
    if _TRACING not in sys.modules:  # its import reads many files, so not on the event loop
        await asyncio.to_thread(CallbackManager.configure)
    manager = AsyncCallbackManager.configure(inherited, local_metadata=about)
    if not manager.handlers:
        yield outcome
        return
    manager.set_handlers(list(map(_kept, manager.handlers)))
    before = current_spans()
    started = await manager.on_retriever_start(None, _words(query), name=_NAME)
    try:
        yield outcome
    except BaseException as error:
        await started.on_retriever_error(error)
        raise
    if outcome.ranking is not None:
        _tell(started, outcome.ranking, before)
        await manager.on_custom_event(_EVENT, facts(outcome.ranking), run_id=started.run_id)
        if outcome.ranking.degraded is not None:
            await started.on_retriever_error(outcome.ranking.degraded)
            return
    await started.on_retriever_end(_slim(outcome.documents))


class _InThreads(AsyncCallbackHandler):
    """A handler whose events LangChain runs in threads, each in a new context: here all in one.

    A tracer that makes its span the current one does so in that context, where it can be told.
    """

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self.handler, self.context = handler, copy_context()
        self.raise_error = handler.raise_error

    @property
    @override
    def ignore_retriever(self) -> bool:
        return self.handler.ignore_retriever

    @property
    @override
    def ignore_custom_event(self) -> bool:
        return self.handler.ignore_custom_event

    @override
    async def on_retriever_start(self, *args: Any, **more: Any) -> None:
        await self._run(self.handler.on_retriever_start, *args, **more)

    @override
    async def on_retriever_end(self, *args: Any, **more: Any) -> None:
        await self._run(self.handler.on_retriever_end, *args, **more)

    @override
    async def on_retriever_error(self, *args: Any, **more: Any) -> None:
        await self._run(self.handler.on_retriever_error, *args, **more)

    @override
    async def on_custom_event(self, *args: Any, **more: Any) -> None:
        await self._run(self.handler.on_custom_event, *args, **more)

    async def _run(self, event: Callable[..., Any], *args: Any, **more: Any) -> None:
        if inspect.iscoroutinefunction(event):
            await event(*args, **more)
            return
        run = partial(self.context.run, event, *args, **more)
        await asyncio.get_running_loop().run_in_executor(None, run)


def _kept(handler: BaseCallbackHandler) -> BaseCallbackHandler:
    """*handler*, in one context where LangChain would give it several."""
    is_async = inspect.iscoroutinefunction(handler.on_retriever_start)
    return handler if is_async or handler.run_inline else _InThreads(handler)


def _tell(started: BaseRunManager, ranking: Ranking, before: Sequence[Any]) -> None:
    """Writes what *ranking* has cost where tracers look that pass over custom events.

    Spans that were current *before* are left alone.
    """
    from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer  # noqa: PLC0415  loaded now

    metadata = named(ranking)
    if usage := {**tokens(ranking), **dollars(ranking)}:
        metadata["usage_metadata"] = usage  # LangSmith's name
    tell_spans(ranking, _NAME, before=before)
    for handler in started.handlers:
        if isinstance(handler, _InThreads):
            handler.context.run(tell_spans, ranking, _NAME, before=before)
            handler = handler.handler  # noqa: PLW2901
        if not isinstance(handler, BaseTracer | AsyncBaseTracer):
            continue
        with harmless():
            if (run := handler.run_map.get(str(started.run_id))) is not None:
                run.add_metadata(metadata)
            if callable(get_span := getattr(handler, "get_span", None)):  # as OpenInference's has
                tell_spans(ranking, _NAME, [get_span(started.run_id)], before=before)


def _words(query: str | Image) -> str:
    return query if isinstance(query, str) else repr(query)


def _slim(documents: Sequence[Document]) -> list[Document]:
    """*documents* without the contents of images, which would flood a trace."""
    slim = []
    for each in documents:
        text, metadata = without_content(each.page_content), without_content(each.metadata)
        if text is each.page_content and metadata is each.metadata:
            slim.append(each)
        else:
            slim.append(each.model_copy(update={"page_content": text, "metadata": metadata}))
    return slim


def may_be_heard(callbacks: Callbacks) -> bool:
    """Whether anybody can listen; asking LangChain itself imports its tracing, which takes long."""
    told = sys.modules.get("langchain_core.globals")  # where somebody turned debugging on
    return (
        callbacks is not None
        or _TRACING in sys.modules
        or any(name in os.environ for name in _SWITCHES)
        or (told is not None and told.get_debug())
    )


def _inherited(callbacks: Callbacks) -> Callbacks:
    """*callbacks*, or those of the runnable or tool that this call stands in."""
    if callbacks is not None:
        return callbacks
    # Where it is not loaded, no runnable can be running.
    config = sys.modules.get("langchain_core.runnables.config")
    return None if config is None else config.ensure_config().get("callbacks")
