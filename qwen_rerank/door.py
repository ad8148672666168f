"""What every framework's class is built on. It knows no framework itself.

A door turns its framework's objects into candidates, and a `Ranking` back into objects in its
framework's manner; whatever lies between is done here and below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import Field, Strict, WithJsonSchema

from qwen_rerank._drive import Pace
from qwen_rerank._sealed import Sealed
from qwen_rerank._values import Ranking
from qwen_rerank.media import Candidate, Image
from qwen_rerank.reranker import BaseReranker, CallOptions
from qwen_rerank.settings import Folder

__all__ = ["Door", "Pace", "Sealed"]

Found = TypeVar("Found")


class Door(BaseReranker, Generic[Found]):
    """The options and calls that the classes of all frameworks share.

    A subclass names its framework's object, as in ``Door[Document]``, defines `_candidate`, and
    calls `_rank_found` and `_arank_found` with the objects that it was given, even if there are
    none, and `_estimate` with their `_candidates`. If its framework has rate limiters, it overrides
    `_pace`. If it has an ``__init__``, that hands its options to `_sealed` first, so that no frame
    shows the key.

    Attributes:
        top_n: How many objects to keep, at least 1; None keeps all.
        local_files: The folder below which paths of images in objects are read; None reads none.
        item: What is ranked of an object, instead of what `_candidate` says.
    """

    # No dump can hold it, and without it another text would be ranked, without a word.
    _pickled: ClassVar[tuple[str, ...]] = ("item",)

    top_n: Annotated[int, Strict(), Field(ge=1)] | None = 3
    local_files: Folder | None = None
    item: Annotated[Callable[[Found], Candidate] | None, WithJsonSchema({})] = Field(
        default=None, exclude=True, repr=False
    )

    # Not abstract, or LlamaIndex would trace every single call of it.
    def _candidate(self, found: Found) -> Candidate:
        """What of *found* is ranked where ``item`` does not say."""
        raise NotImplementedError

    def _candidates(self, found: Iterable[Found]) -> list[Candidate]:
        """What of each of *found* is ranked."""
        return list(map(self.item or self._candidate, found))

    def _rank_found(
        self, query: str | Image, found: Sequence[Found], options: CallOptions | None = None
    ) -> Ranking:
        """The ranking of *found*; one that cannot be sent comes last instead of failing the call.

        Args:
            query: As for `Reranker.rerank`.
            found: The framework's objects, which the caller retrieved and did not make.
            options: As for `Reranker.rerank`.
        """
        candidates = self._candidates(found)
        return self._rank(query, candidates, options or {}, lenient=range(len(candidates)))

    async def _arank_found(
        self, query: str | Image, found: Sequence[Found], options: CallOptions | None = None
    ) -> Ranking:
        """`_rank_found` for a running event loop."""
        candidates = await self._apart(found, self._candidates, found)
        return await self._arank(query, candidates, options or {}, lenient=range(len(candidates)))
