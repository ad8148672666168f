"""What the class of every framework is built on. It knows no framework itself.

Such a class turns its framework's objects into candidates, and a `Ranking` back into objects in its
framework's manner; whatever lies between is done here and below.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field, Strict, WithJsonSchema

from qwen_rerank._drive import Pace
from qwen_rerank._sealed import Sealed
from qwen_rerank._values import Ranking
from qwen_rerank.media import Candidate, Image
from qwen_rerank.reranker import BaseReranker
from qwen_rerank.settings import PATH

__all__ = ["FrameworkReranker", "Pace", "Sealed"]

_Result = TypeVar("_Result")

# Whose sync method runs in a thread; it may await the async one, which is then the reranker's own.
_in_thread: ContextVar[object] = ContextVar("_in_thread", default=None)


class FrameworkReranker(BaseReranker):
    """The options and calls that the classes of all frameworks share.

    A subclass declares ``item`` anew with its framework's object, defines `_chooser`, and calls
    `_rank_found` and `_arank_found` with the objects that it was given, even if there are none, and
    `_estimate` with their `_candidates`. If its framework has rate limiters, it overrides `_pace`.
    If it has an ``__init__``, that hands its options to `_sealed` first, so that no frame shows the
    key. Its framework's async method goes by `_by_thread` where `_overrides_sync_alone` says so.
    It is declared with ``defer_build=False``: the classes below are left unbuilt, which makes
    importing quicker, because nobody makes objects of them.
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

    # Not abstract, or LlamaIndex would trace every single call of it.
    def _chooser(self) -> Callable[[Any], Candidate]:
        """What is called with each object where there is no ``item``."""
        raise NotImplementedError

    def _candidates(self, found: Iterable[Any]) -> list[Candidate]:
        """What of each of *found* is ranked."""
        return list(map(self.item or self._chooser(), found))

    def _rank_found(self, query: str | Image, found: Sequence[Any]) -> Ranking:
        """The ranking of *found*; one that cannot be sent comes last instead of failing the call.

        Options of one call are `with_options`'.

        Args:
            query: As for `Reranker.rerank`.
            found: The framework's objects, which the caller retrieved and did not make.
        """
        candidates = self._candidates(found)
        return self._rank(query, candidates, {}, lenient=range(len(candidates)))

    async def _arank_found(self, query: str | Image, found: Sequence[Any]) -> Ranking:
        """`_rank_found` for a running event loop."""
        candidates = await self._apart(found, self._candidates, found)
        return await self._arank(query, candidates, {}, lenient=range(len(candidates)))

    def _overrides_sync_alone(self, sync: frozenset[str], awaited: frozenset[str]) -> bool:
        """Whether an awaited call has to take the sync way, or it would leave an override out.

        Args:
            sync: The framework's methods that people override.
            awaited: Their async twins.
        """
        if _in_thread.get() is self:
            return False
        for kind in type(self).__mro__:
            own = vars(kind).keys()
            if not awaited.isdisjoint(own):
                return False
            if not sync.isdisjoint(own):
                return True
        return False

    async def _by_thread(self, method: Callable[..., _Result], *arguments: Any) -> _Result:
        """What a sync *method* returns; as in the frameworks' own bases, in a thread."""
        before = _in_thread.set(self)
        try:
            return await asyncio.to_thread(method, *arguments)
        finally:
            _in_thread.reset(before)
