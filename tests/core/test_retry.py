import asyncio
import math
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen_rerank import errors
from qwen_rerank._retry import Policy, backoff, retry_after

_NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": formatdate(_NOW + 7, usegmt=True)}, 7.0),
        ({"retry-after": formatdate(_NOW - 7, usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "\u0663"}, 3.0),
        ({"retry-after": "\u00b2"}, None),
    ],
)
def test_retry_after(headers, seconds):
    """Seconds, fractions, milliseconds and dates are read; nonsense asks for nothing."""
    assert retry_after(headers, _NOW) == seconds


def test_a_date_is_read_by_the_services_own_clock():
    """A wrong clock on this machine makes no wait longer or shorter."""
    headers = {
        "retry-after": "Sun, 29 Nov 2026 12:00:30 GMT",
        "date": "Sun, 29 Nov 2026 12:00:00 GMT",
    }
    assert retry_after(headers, _NOW) == 30.0
    assert retry_after({**headers, "date": "yesterday"}, 1_795_953_620.0) == 10.0


@given(st.text("0123456789+-.,:/ eEinfaGMTSunJan\u0663\u00b2\u00a0\0"))
def test_retry_after_never_raises(text):
    """No header can break a call."""
    seconds = retry_after({"retry-after": text}, _NOW)

    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(st.integers(1, 5_000), st.floats(0, 1))
@example(1_025, 1.0)
def test_backoff(attempt, chance):
    """Waits grow with every attempt up to a cap, are spread from zero, and obey the service."""
    wait = backoff(attempt, None, chance)

    assert 0 <= wait <= min(20.0, 0.5 * 2 ** min(attempt - 1, 99))
    assert wait <= backoff(attempt + 1, None, chance)
    assert backoff(attempt, 5.0, chance) >= 5.0
    assert backoff(attempt, None, 0.0) == 0.0


@pytest.fixture(name="attempt")
def _attempt():
    """Runs a list of outcomes through the policy; what came out, and the waits.

    Its clock is moved by its waits alone.
    """

    def run(*outcomes, max_retries=2, seconds=30.0, chance=1.0):
        slept, told, left = [], [], list(outcomes)

        async def sleep(wait):
            slept.append(wait)

        async def once():
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        policy = Policy(
            max_retries,
            seconds,
            lambda: sum(slept),
            lambda: chance,
            lambda _, wait: told.append(wait),
        )

        async def retried():
            return await policy.retrying(sleep)(once)

        try:
            result = asyncio.run(retried())
        except errors.RerankError as error:
            result = error
        assert told == slept
        return result, slept

    return run


def test_waits_double(attempt):
    """Failures that may pass are repeated, with growing waits."""
    down = errors.ServiceError("down")

    assert attempt(down, down, "fine") == ("fine", [0.5, 1.0])


def test_retries_end(attempt):
    """After max_retries repetitions the last error is raised as it is."""
    first, last = errors.ServiceError("first"), errors.RateLimitError("last")

    assert attempt(first, first, last, "never")[0] is last
    assert attempt(last, "never", max_retries=0) == (last, [])


@pytest.mark.parametrize("kind", [errors.RequestError, errors.DeadlineError])
def test_lasting_errors_are_final(attempt, kind):
    """A caller's mistake is raised at once, and so is the end of the call's time."""
    mistake = kind("no")

    assert attempt(mistake, "never") == (mistake, [])


def test_waits_are_spread(attempt):
    """None is shorter than what the service asked for."""
    throttled = errors.RateLimitError("slow down", retry_after=4.0)

    assert attempt(throttled, "fine") == ("fine", [4.5])
    assert attempt(throttled, "fine", chance=0.0) == ("fine", [4.0])


def test_waits_beyond_the_deadline_are_not_begun(attempt):
    """If the wait would outlast the call, the error is raised now."""
    down = errors.ServiceError("down")

    assert attempt(down, "never", seconds=0.5) == (down, [])
    assert attempt(down, down, "never", seconds=1.5) == (down, [0.5])
    assert attempt(down, down, "fine", seconds=1.6) == ("fine", [0.5, 1.0])
