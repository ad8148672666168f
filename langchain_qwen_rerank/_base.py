"""What a base retriever takes and how it is called, by LangChain's own rules; ranks nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBinding, RunnableBindingBase
from langchain_core.runnables.config import (
    ensure_config,
    merge_configs,
    run_in_executor,
    set_config_context,
)
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.passthrough import RunnableAssign
from typing_extensions import override

__all__ = ["afind", "find", "unknown"]


def find(
    base: Runnable[str, Any], query: str, config: RunnableConfig, options: dict[str, Any]
) -> Any:
    """What *base* finds, called as a chain calls its steps.

    So *config* reaches what *base* calls in its turn, even if it hands on none.
    """
    with set_config_context(config) as context:
        return context.run(base.invoke, query, config, **options)


async def afind(
    base: Runnable[str, Any], query: str, config: RunnableConfig, options: dict[str, Any]
) -> Any:
    """`find` for a running event loop."""
    if options:
        base = _awaitable(base, config)
    with set_config_context(config) as context:
        call: Any = base.ainvoke(query, config, **options)
        return await asyncio.create_task(call, context=context)


def _awaitable(runnable: Runnable[Any, Any], config: RunnableConfig) -> Runnable[Any, Any]:
    """*runnable*, with threads where LangChain's would take no keyword arguments, and only there.

    What comes after such a one, or instead of it, may be such as can only be awaited.
    """
    if all(map(_is_native, _reached(runnable, config))):
        return runnable
    parts: dict[str, Any]
    match runnable:
        case RunnableBindingBase():
            parts = {"bound": _awaitable(runnable.bound, merge_configs(runnable.config, config))}
        case DynamicRunnable():
            made, whole = runnable.prepare(config)
            return RunnableBinding(bound=_awaitable(made, whole), config=runnable.config)
        case RunnableSequence():
            parts = {"first": _awaitable(runnable.first, config)}
        case RunnableWithFallbacks():
            first, *others = [_awaitable(each, config) for each in runnable.runnables]
            parts = {"runnable": first, "fallbacks": others}
        case RunnableBranch():
            parts = {
                "branches": [(when, _awaitable(each, config)) for when, each in runnable.branches],
                "default": _awaitable(runnable.default, config),
            }
        case _:
            return _InThread(runnable)
    return runnable.model_copy(update=parts)


class _InThread(Runnable[str, Any]):
    """Awaits `find` in a thread."""

    def __init__(self, base: Runnable[str, Any]) -> None:
        self._base = base

    @override
    def invoke(self, input: str, config: RunnableConfig | None = None, **options: Any) -> Any:
        return find(self._base, input, ensure_config(config), options)

    @override
    async def ainvoke(
        self, input: str, config: RunnableConfig | None = None, **options: Any
    ) -> Any:
        return await run_in_executor(config, self.invoke, input, config, **options)


def unknown(
    names: Collection[str], base: Runnable[str, Any], config: RunnableConfig, *, native: bool
) -> list[str]:
    """Which of *names* *base* does not take as keyword arguments of this call."""
    if not names:
        return []  # to look at a configurable base makes it
    called = [_called(each, native=native) for each in _reached(base, config)]
    return [name for name in names if not all(_takes(each, name) for each in called)]


def _reached(runnable: Runnable[Any, Any], config: RunnableConfig) -> Iterator[Runnable[Any, Any]]:
    """The runnables that keyword arguments for *runnable* may end at."""
    inner: Iterable[Runnable[Any, Any]]
    match runnable:
        case RunnableBindingBase():
            inner, config = (runnable.bound,), merge_configs(runnable.config, config)
        case DynamicRunnable():
            inner = (runnable.prepare(config)[0],)
        case RunnableSequence():
            inner = (runnable.first,)
        case RunnableWithFallbacks():
            inner = runnable.runnables
        case RunnableBranch():
            inner = (*(branch for _, branch in runnable.branches), runnable.default)
        case _:
            yield runnable
            return
    for each in inner:
        yield from _reached(each, config)


def _called(runnable: Runnable[Any, Any], *, native: bool) -> Callable[..., Any]:
    """What gets the keyword arguments of a call of *runnable*, after one text."""
    match runnable:
        case BaseRetriever() if not runnable._expects_other_args:  # which are then dropped
            return _takes_none
        case BaseRetriever():
            if native and _is_native(runnable):
                return runnable._aget_relevant_documents
            return runnable._get_relevant_documents
        case RunnableLambda():
            function = getattr(runnable, "afunc" if native else "func", None)
            return function or getattr(runnable, "func", None) or runnable.afunc
        case RunnableParallel() | RunnableAssign():
            return _takes_none
        case _:
            return runnable.ainvoke if native else runnable.invoke


def _is_native(runnable: Runnable[Any, Any]) -> bool:
    """Whether *runnable* is awaited as such; of a retriever, whether it says how."""
    own = getattr(type(runnable), "_aget_relevant_documents", None)
    return own is None or own.__module__ != BaseRetriever.__module__


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        inspect.signature(function).bind_partial("a text", **{name: None})
    except (TypeError, ValueError):  # the latter of functions written in C
        return False
    return True


def _takes_none(_text: str, /) -> list[Document]:
    raise NotImplementedError
