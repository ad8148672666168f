"""How many requests are in flight at once, and whose turn it is; it knows nothing of requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """At most *width* requests at once, over all threads and event loops; first come, first served.

    What a closed event loop held is taken back when somebody needs it. It also remembers until when
    the service asked to be left alone, so that requests that were not throttled themselves slow
    down too.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._free = width
        self._queue: deque[tuple[Future[None], asyncio.AbstractEventLoop | None]] = deque()
        self._lock = threading.Lock()
        self._quiet_until = 0.0
        self._calls: Counter[asyncio.AbstractEventLoop] = Counter()
        self._turns: Counter[asyncio.AbstractEventLoop] = Counter()

    def enter(self, timeout: float, *, queue: bool = True) -> None:
        """Waits for a turn; raises TimeoutError if none comes in *timeout* seconds.

        Without *queue* it takes one at once, over the limit if need be.
        """
        turn = self._ask(None, force=not queue)
        if turn is None:
            return
        try:
            turn.result(timeout)
        except BaseException:
            self._give_up(turn, None)
            raise

    async def aenter(self) -> None:
        """Waits for a turn of the running event loop, for as long as it takes."""
        loop = asyncio.get_running_loop()
        turn = self._ask(loop)
        if turn is None:
            return
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            self._give_up(turn, loop)
            raise

    def leave(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Gives the turn, which is that of *loop* if it was waited for there, to the next one."""
        with self._lock:
            if loop is not None:
                if loop not in self._turns:  # taken back
                    return
                _less(self._turns, loop)
            self._free += 1
            turns = self._handed_over()
        for turn in turns:
            turn.set_result(None)

    def hush(self, seconds: float) -> None:
        """Nobody should send for *seconds* from now."""
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    def quiet(self) -> float:
        """Seconds for which nobody should send."""
        return max(0.0, self._quiet_until - time.monotonic())

    @contextmanager
    def from_loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        """Remembers that the running event loop, which it yields, queues or is inside."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._calls[loop] += 1
        try:
            yield loop
        finally:
            with self._lock:
                _less(self._calls, loop)

    def held_by_this_loop(self) -> bool:
        """Whether this thread runs a loop with calls here.

        A sync call made there must not queue behind them, because it does not let them go on.
        """
        try:
            return asyncio.get_running_loop() in self._calls
        except RuntimeError:
            return False

    def _ask(
        self, loop: asyncio.AbstractEventLoop | None, *, force: bool = False
    ) -> Future[None] | None:
        """None if a turn was free, which is then taken; else what tells of one."""
        turn: Future[None] | None = None
        turns: list[Future[None]] = []
        with self._lock:
            if self._free <= 0 and not force:
                for closed in [each for each in self._turns if each.is_closed()]:
                    self._free += self._turns.pop(closed)
                turns = self._handed_over()
            if force or self._free > 0:
                self._take(loop)
            else:
                turn = Future()
                self._queue.append((turn, loop))
        for each in turns:
            each.set_result(None)
        return turn

    def _take(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._free -= 1
        if loop is not None:
            self._turns[loop] += 1

    def _handed_over(self) -> list[Future[None]]:
        """Takes what is free for those who wait longest, who are to be told without the lock."""
        turns = []
        while self._queue and self._free > 0:
            turn, loop = self._queue.popleft()
            if loop is not None and loop.is_closed():
                continue
            if turn.set_running_or_notify_cancel():  # False: it has given up waiting
                self._take(loop)
                turns.append(turn)
        return turns

    def _give_up(self, turn: Future[None], loop: asyncio.AbstractEventLoop | None) -> None:
        if not turn.cancel():  # it is being handed over this very moment
            turn.result()
            self.leave(loop)


def _less(counted: Counter[asyncio.AbstractEventLoop], loop: asyncio.AbstractEventLoop) -> None:
    counted[loop] -= 1
    if not counted[loop]:
        del counted[loop]
