"""What the class of every framework is built on. It knows no framework itself.

Such a class turns its framework's objects into candidates, and a `Ranking` back into objects in its
framework's manner; whatever lies between is done here and below.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from inspect import isfunction
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field, Strict, WithJsonSchema
from typing_extensions import override

from qwen_rerank import _loop
from qwen_rerank._drive import Pace, deadline_in
from qwen_rerank._sealed import Sealed
from qwen_rerank._values import Ranking
from qwen_rerank.media import Candidate, Image
from qwen_rerank.reranker import BaseReranker, CallOptions
from qwen_rerank.settings import PATH

__all__ = ["FrameworkReranker", "Pace", "Paired", "Sealed", "held"]

_Result = TypeVar("_Result")

# Whose overrides of which sync methods are under way: what these await is the class's own.
_under_way: ContextVar[tuple[tuple[object, str], ...]] = ContextVar("_under_way", default=())


class Paired:
    """A class with methods in pairs, a sync one and one to be awaited, which people override.

    Where a subclass overrides the sync one alone, an awaited call would leave that out. So the
    awaited one asks `_overrides_alone` and goes `_by_thread`, as it does in the frameworks' bases.
    """

    _pairs: ClassVar[Mapping[str, str]] = {}
    """The names of the awaited methods by those of the sync ones."""

    # Not pydantic's own hook, which comes after LlamaIndex has made spans of the methods.
    def __init_subclass__(cls, **options: Any) -> None:
        own = vars(cls)
        for sync, awaited in cls._pairs.items():
            if isfunction(method := own.get(sync)) and awaited not in own:
                setattr(cls, sync, _noted(sync, method))
        super().__init_subclass__(**options)

    @property
    def _whose(self) -> object:
        """What this object has in common with others that its overrides may call."""
        return self

    def _overrides_alone(self, sync: str) -> bool:
        """Whether the class overrides *sync* alone, and this is no call of that override."""
        whose = self._whose
        if any(one is whose and name == sync for one, name in _under_way.get()):
            return False
        for kind in type(self).__mro__:
            if self._pairs[sync] in vars(kind):
                return False
            if sync in vars(kind):
                return True
        return False

    async def _by_thread(
        self, sync: str, method: Callable[..., _Result], *given: Any, **options: Any
    ) -> _Result:
        """What the *method* named *sync* returns, from a thread that has the context."""

        def called() -> _Result:
            _under_way.set((*_under_way.get(), (self._whose, sync)))  # in the thread's own context
            return method(*given, **options)

        return await asyncio.to_thread(_loop.unstopped, called)


def _noted(sync: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """*method*, which notes that *sync* is under way."""

    @wraps(method)
    def called(self: Paired, *given: Any, **options: Any) -> Any:
        with held(_under_way, (*_under_way.get(), (self._whose, sync))):
            return method(self, *given, **options)

    return called


@contextmanager
def held(variable: ContextVar[_Result], value: _Result) -> Iterator[None]:
    """Sets *variable* for what is called meanwhile, even if that ends in another context."""
    before = variable.set(value)
    try:
        yield
    finally:
        with suppress(ValueError):  # as of a coroutine that is closed elsewhere: nothing to reset
            variable.reset(before)


class FrameworkReranker(Paired, BaseReranker):
    """The options and calls that the classes of all frameworks share.

    A subclass declares ``item`` anew with its framework's object, defines `_chooser`, and calls
    `_rank_found` and `_arank_found` with the objects that it was given, even if there are none, and
    `_estimate` with their `_candidates`. It names its framework's methods in `_pairs`. If its
    framework has rate limiters, it overrides `_pace`. If it has an ``__init__``, that hands its
    options to `_sealed` first, so that no frame shows the key. It is declared with
    ``defer_build=False``: the classes below are left unbuilt, which makes importing quicker,
    because nobody makes objects of them.
    """

    # No dump can hold it, and without it another text would be ranked, without a word.
    _pickled: ClassVar[tuple[str, ...]] = ("item",)

    top_n: Annotated[int, Strict(), Field(ge=1)] | None = 3
    """How many documents to keep, at least 1; 3 by default. None keeps all."""
    local_files: Annotated[str | os.PathLike[str], PATH] | None = None
    """The folder below which paths of images are read; None reads none."""
    # Not generic: what a model is made of shows in its name, its bases and the frameworks' errors.
    item: Annotated[Callable[[Any], Candidate] | None, WithJsonSchema({})] = Field(
        default=None, exclude=True, repr=False
    )
    """What is ranked of an object, instead of what the class would take of it."""

    @property
    @override
    def _whose(self) -> object:
        return self._shared  # with what `with_options` gave

    # Not abstract, or LlamaIndex would trace every single call of it.
    def _chooser(self) -> Callable[[Any], Candidate]:
        """What is called with each object where there is no ``item``."""
        raise NotImplementedError

    def _candidates(self, found: Iterable[Any]) -> Iterator[Candidate]:
        """What of each of *found* is ranked; made by the call, whose time it takes."""
        choose = self.item or self._chooser()
        return (choose(one) for one in found)  # no map, which a StopIteration would end early

    def _rank_found(self, query: str | Image, found: Sequence[Any]) -> Ranking:
        """The ranking of *found*; one that cannot be sent comes last instead of failing the call.

        Options of one call are `with_options`'.

        Args:
            query: As for `Reranker.rerank`.
            found: The framework's objects, which the caller retrieved and did not make.
        """
        return self._rank(query, self._candidates(found), {}, lenient=range(len(found)))

    async def _arank_found(self, query: str | Image, found: Sequence[Any]) -> Ranking:
        """`_rank_found` for a running event loop."""
        candidates = self._candidates(found)
        return await self._arank_made(query, found, candidates, {}, lenient=range(len(found)))

    async def _arank_made(
        self,
        query: str | Image,
        objects: Iterable[Any],
        candidates: Iterator[Candidate],
        options: CallOptions,
        *,
        lenient: Container[int],
        rank_fields: Sequence[str] | None = None,
    ) -> Ranking:
        """`_arank` of the *candidates* that are made of *objects*, which takes of the call's time.

        If there are many, they are made in a thread: of the class's own code, or of ``item``.
        """
        deadline = deadline_in(self.timeout)
        made: list[Candidate] = await self._apart(
            objects, list, candidates, may_hang=self.item is not None
        )
        return await self._arank(
            query, made, options, lenient=lenient, rank_fields=rank_fields, deadline=deadline
        )
