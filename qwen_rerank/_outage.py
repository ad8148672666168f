"""What earlier calls found of an outage, and whose turn it is to ask again; nothing is sent here.

A circuit breaker. Of the kept libraries pybreaker serialises its calls and awaits under Tornado
only, purgatory has separate objects for sync and async and reads the wall clock, circuitbreaker has
no lock and a global registry; none lets one state serve threads and event loops at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from qwen_rerank._advice import advise
from qwen_rerank._values import Outcome, Request
from qwen_rerank.errors import RerankError, ServiceError

__all__ = ["Outages", "Watch", "is_of_outage"]


class _Outage(NamedTuple):
    """Why a route counts as dead, and when the next call may ask."""

    why: str
    until: float
    is_tried: bool = False


class Outages:
    """The routes to the service on which it was gone or silent, for all threads and event loops.

    Args:
        clock: A monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[Hashable, _Outage] = {}
        self._unanswered: dict[Hashable, object] = {}
        """What stands for the time since the last answer on a route; none before a call begins."""

    def watch(
        self,
        requests: tuple[Request, ...],
        *,
        route: Hashable,
        host: str,
        pause: float,
        lease: float,
    ) -> Watch:
        """What a call is to do before it sends *requests*, and to be told how that ended.

        Args:
            requests: What it would send. Without any, nothing is learnt and nothing refused.
            route: Where to, through what, and to which model.
            host: The host, for messages.
            pause: Seconds for which a route that was found dead is left alone; 0 for a call that
                always asks, of which no more than an answer is learnt.
            lease: Seconds after which another may try if this call does and is never heard of.
        """
        if not requests or not pause:
            return Watch(self, route, 0.0, None)
        with self._lock:
            watch = Watch(self, route, pause, self._unanswered.setdefault(route, object()))
            outage = self._found.get(route)
            if outage is None:
                return watch
            left = outage.until - self._clock()
            if left <= 0:
                until = self._clock() + lease
                self._found[route] = outage._replace(until=until, is_tried=True)
                return watch
        again = "another call is asking now" if outage.is_tried else f"for {math.ceil(left)} s more"
        refusal = ServiceError(
            f"{host} was not asked, because an earlier call found it gone or silent "
            f"({again}): {outage.why}",
            hint=advise("{outage_pause=0} asks with every call."),
            retry_after=left,
        )
        return watch._replace(spared=Outcome((None,) * len(requests), refusal, sent=False))

    def is_known(self, route: Hashable) -> bool:
        """Whether *route* was found dead and is left alone for now."""
        outage = self._found.get(route)
        return outage is not None and outage.until > self._clock()

    def _learn(self, watch: Watch, outcome: Outcome) -> None:
        if outcome.failure is not None and outcome.failure._unsent:
            return
        with self._lock:
            if not _is_dead(outcome):
                if outcome.sent:
                    self._unanswered.pop(watch.route, None)
                    self._found.pop(watch.route, None)
            # One slow call says nothing while others are answered there.
            elif watch.pause and watch.since is self._unanswered.get(watch.route):
                why = str(outcome.failure).partition("\n")[0]
                self._found[watch.route] = _Outage(why, self._clock() + watch.pause)


class Watch(NamedTuple):
    """One call's look at the outages.

    Attributes:
        spared: What the call ends in if it is to ask nothing, else None.
    """

    outages: Outages
    route: Hashable
    pause: float
    since: object
    spared: Outcome | None = None

    def ended(self, outcome: Outcome) -> None:
        """Keeps what *outcome* says of the service."""
        if self.spared is None:
            self.outages._learn(self, outcome)


def is_of_outage(failure: RerankError | None) -> bool:
    """Whether *failure* is that of a service that is gone, broken or silent."""
    if not isinstance(failure, ServiceError):
        return False
    return failure.status is None or failure.status >= 500


def _is_dead(outcome: Outcome) -> bool:
    """Whether *outcome* is that of a service of which nothing else was heard."""
    was_there = outcome.answered or any(outcome.replies)
    return outcome.sent and not was_there and is_of_outage(outcome.failure)
