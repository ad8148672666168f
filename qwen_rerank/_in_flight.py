"""Which keys are being asked for by which call, so that no other asks meanwhile; it sends nothing.

All of it runs on the engine's loop, where no interrupt comes: there is no lock to be left behind,
and a call that ends in whatever way lets go of its keys there. What async-lru and its like share is
a whole call; two lists have some pairs in common.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["InFlight", "Tell"]

Tell: TypeAlias = Callable[[Mapping[Hashable, float]], None]


class InFlight:
    """What all calls of one engine are asking for.

    Attributes:
        settled: How many calls have ended with answers. May be read in any thread: who looks for an
            answer where those calls keep theirs, and finds none, has to look again if it changed.
    """

    def __init__(self) -> None:
        self._by_key: dict[Hashable, _Asking] = {}
        self.settled = 0

    async def once(
        self,
        keys: Sequence[Hashable],
        ask: Callable[[list[Hashable], Tell], Awaitable[bool]],
        keep: Callable[[], Awaitable[None]],
        *,
        share: bool,
        left: Callable[[], float],
    ) -> Mapping[Hashable, float]:
        """Asks for *keys*, but for those that others ask for: their answers are waited for.

        It waits when it has asked for all else, so that no two wait for each other; what they will
        not get after all, it asks for.

        Args:
            keys: What is wanted.
            ask: Asks for some of them and tells answers as they come; false if no more is wanted.
            keep: Puts what was answered where others look for it, before they may ask again.
            share: Whether others are waited for; else all of *keys* are asked for.
            left: For how many seconds from now to wait.

        Returns:
            What others were told.
        """
        one = _Asking(self._by_key)
        try:
            todo = keys
            while True:
                mine = one.take(todo, share=share)
                if mine and not await ask(mine, one.answer):
                    break
                if not (todo := await one.wait(left())):
                    break
            await keep()
        finally:
            self.settled += one.end()
        return one.found


class _Asking:
    """What one call asks for, and what it waits for because others do."""

    def __init__(self, by_key: dict[Hashable, _Asking]) -> None:
        self.found: dict[Hashable, float] = {}
        self._by_key = by_key
        self._taken: list[Hashable] = []
        self._answers: dict[Hashable, float] = {}
        self._is_over = False
        self._waits: dict[Hashable, _Asking] = {}
        self._waiting: set[_Asking] = set()
        self._news = asyncio.Event()

    def take(self, keys: Iterable[Hashable], *, share: bool) -> list[Hashable]:
        """Those of *keys* that this call has to ask for; without *share*, all of them."""
        mine = []
        for key in keys:
            asking = self._by_key.setdefault(key, self)
            if asking is self or not share:
                mine.append(key)
            elif key in asking._answers:
                self.found[key] = asking._answers[key]
            else:
                self._waits[key] = asking
                asking._waiting.add(self)
        self._taken += mine
        return mine

    def answer(self, answers: Mapping[Hashable, float]) -> None:
        """Tells *answers* to all who wait for them."""
        self._answers.update(answers)
        for asking in self._waiting:
            asking._hear(answers)

    async def wait(self, seconds: float) -> list[Hashable]:
        """Waits for what others ask for; returns at once with what they will not get after all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waits:
                    if lost := [key for key, asking in self._waits.items() if asking._is_over]:
                        for key in lost:
                            del self._waits[key]
                        return lost
                    self._news.clear()
                    await self._news.wait()
        return []

    def _hear(self, answers: Mapping[Hashable, float]) -> None:
        for key in self._waits.keys() & answers.keys():
            self.found[key] = answers[key]
            del self._waits[key]
        if not self._waits:
            self._news.set()

    def end(self) -> bool:
        """Lets go of all; whether anything was answered."""
        self._is_over = True
        for key in self._taken:
            if self._by_key.get(key) is self:
                del self._by_key[key]
        for asking in self._waiting:
            asking._news.set()
        self._waiting.clear()
        for asking in set(self._waits.values()):
            asking._waiting.discard(self)
        return bool(self._answers)
