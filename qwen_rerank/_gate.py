"""How many requests are in flight at once, and whose turn it is; it knows nothing of requests."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Hashable

__all__ = ["Gate"]


class Gate:
    """At most *width* requests at once, first come, first served. It belongs to one event loop.

    asyncio's semaphore has one width for good, and anyio's limiter lets nobody in over the limit.

    The width alone may be set from any thread. Whoever is in when it shrinks stays in.

    It also remembers on which routes the service asked to be left alone, and until when, so that
    requests that were not throttled themselves slow down too.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._quiet_until: dict[Hashable, float] = {}
        self._needed: Counter[object] = Counter()

    async def enter(self, *, queue: bool = True) -> None:
        """Waits for a turn for as long as it takes; without *queue* it takes one over the limit."""
        self._hand_out()  # it may have become wider
        if self._taken < self.width or not queue:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was handed over this very moment
                self.leave()
            raise

    def leave(self) -> None:
        """Gives the turn to whoever waits longest."""
        self._taken -= 1
        self._hand_out()

    @property
    def free(self) -> int:
        """How many may enter at once."""
        return self.width - self._taken

    def _hand_out(self) -> None:
        while self._taken < self.width and self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # else it has given up waiting
                self._taken += 1
                turn.set_result(None)

    def hush(self, seconds: float, route: Hashable) -> None:
        """Nobody should send on *route* for *seconds* from now."""
        now = time.monotonic()
        until = max(now + seconds, self._quiet_until.get(route, now))
        lasting = {each: end for each, end in self._quiet_until.items() if end > now}
        self._quiet_until = {**lasting, route: until}

    def quiet(self, route: Hashable) -> float:
        """Seconds for which nobody should send on *route*."""
        if not self._quiet_until:  # a route is dear to look up
            return 0.0
        return max(0.0, self._quiet_until.get(route, 0.0) - time.monotonic())

    def hold(self, loop: object) -> None:
        """Remembers that turns do not end unless a caller's *loop* runs on; None for no loop."""
        if loop is not None:
            self._needed[loop] += 1

    def let_go(self, loop: object) -> None:
        """Ends one `hold`."""
        if loop is not None:
            self._needed[loop] -= 1
            if not self._needed[loop]:
                del self._needed[loop]

    def is_held_by(self, loop: object) -> bool:
        """Whether turns do not end unless *loop* runs on: who holds it up must not queue."""
        return loop in self._needed
