"""When to try again and how long to wait: pure functions, and tenacity objects made of them.

Nothing here sleeps or looks at a clock: room 4 does, and hands both in.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen_rerank.errors import DeadlineError, RerankError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

__all__ = ["Policy", "backoff", "retry_after", "transient"]

_FIRST, _LONGEST = 0.5, 20.0  # seconds; the vendor says that a rate limit recovers within a minute


def transient(error: BaseException | None) -> bool:
    """Whether the same request may succeed if it is sent again before the deadline."""
    return (
        isinstance(error, RerankError) and error.retryable and not isinstance(error, DeadlineError)
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks us to wait, or None if it asks for nothing that makes sense.

    Args:
        headers: Lower-case names. ``retry-after-ms`` wins over ``retry-after``.
        now: Wall-clock time here, against which a date is read if the answer does not say when it
            was sent: whose clock is wrong matters only then.
    """
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        elif (asked := headers.get("retry-after")) is None:
            return None
        elif asked.strip().replace(".", "", 1).isdecimal():
            seconds = float(asked)
        else:
            seconds = _moment(asked) - _sent_at(headers, now)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _moment(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


def _sent_at(headers: Mapping[str, str], now: float) -> float:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return _moment(headers.get("date", ""))
    return now


def backoff(attempt: int, asked: float | None, chance: float) -> float:
    """Seconds to wait after failed attempt number *attempt*, counted from 1.

    Exponential with full jitter; never less than the service asked for.

    Args:
        attempt: Which attempt failed.
        asked: What `retry_after` read, or None.
        chance: A random number from 0 to 1.
    """
    # Bounded before the power, which has no float for the thousandth attempt and later ones.
    longest: float = min(_LONGEST, _FIRST * 2.0 ** min(attempt - 1, 10))
    return (asked or 0.0) + chance * longest


class Policy(NamedTuple):
    """The one retry authority of a call.

    Attributes:
        max_retries: How often one request is sent again.
        deadline: When the call ends, in *clock* time.
        clock: A monotonic clock.
        chance: A source of random numbers from 0 to 1.
        before_sleep: Told of every failed attempt that will be repeated, with the seconds to wait.
    """

    max_retries: int
    deadline: float
    clock: Callable[[], float]
    chance: Callable[[], float]
    before_sleep: Callable[[RerankError, float], None]

    def retrying(self, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
        """A tenacity object that calls a coroutine function until it succeeds, or it is no use."""
        from tenacity import AsyncRetrying  # noqa: PLC0415  only failures need it

        return AsyncRetrying(sleep=sleep, **self._options())

    def _options(self) -> dict[str, Any]:
        def error(state: RetryCallState) -> BaseException | None:
            return state.outcome.exception() if state.outcome else None

        def stop(state: RetryCallState) -> bool:
            # tenacity knows the wait before it asks; one that outlasts the deadline is no use.
            late = self.clock() + state.upcoming_sleep >= self.deadline
            return state.attempt_number > self.max_retries or late

        def wait(state: RetryCallState) -> float:
            asked = getattr(error(state), "retry_after", None)
            return backoff(state.attempt_number, asked, self.chance())

        def before_sleep(state: RetryCallState) -> None:
            failed = error(state)
            if isinstance(failed, RerankError):
                self.before_sleep(failed, state.upcoming_sleep)

        return {
            "retry": lambda state: transient(error(state)),
            "wait": wait,
            "stop": stop,
            "before_sleep": before_sleep,
            "reraise": True,
        }
