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
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(_NOW + 7, usegmt=True)}, 7.0),
        ({"retry-after": formatdate(_NOW - 7, usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after-ms": "-1"}, 0.0),
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


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0
        self.slept = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture(name="attempt")
def _attempt():
    """Runs a list of outcomes through the policy; what came out, and the waits."""

    def run(*outcomes, max_retries=2, seconds=30.0, chance=1.0):
        clock, told, left = Clock(), [], list(outcomes)

        async def once():
            outcome = left.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        policy = Policy(
            max_retries,
            clock.now + seconds,
            clock,
            lambda: chance,
            lambda error, wait: told.append((error, wait)),
        )
        try:
            result = asyncio.run(_await(policy.retrying(clock.sleep), once))
        except errors.RerankError as error:
            result = error
        assert [wait for _, wait in told] == clock.slept
        return result, clock.slept, len(outcomes) - len(left)

    return run


async def _await(retrying, function):
    return await retrying(function)


def test_the_first_answer_is_enough(attempt):
    """A success is not repeated and waits for nothing."""
    assert attempt("fine", "never") == ("fine", [], 1)


def test_waits_double(attempt):
    """Failures that may pass are repeated, with growing waits."""
    down = errors.ServiceError("down")

    assert attempt(down, down, "fine") == ("fine", [0.5, 1.0], 3)


def test_retries_end(attempt):
    """After max_retries repetitions the last error is raised as it is."""
    first, last = errors.ServiceError("first"), errors.RateLimitError("last")

    assert attempt(first, first, last, "never")[0] is last
    assert attempt(last, "never", max_retries=0) == (last, [], 1)


@pytest.mark.parametrize("kind", [errors.RequestError, errors.DeadlineError])
def test_lasting_errors_are_final(attempt, kind):
    """A caller's mistake is raised at once, and so is the end of the call's time."""
    mistake = kind("no")

    assert attempt(mistake, "never") == (mistake, [], 1)


def test_the_service_is_obeyed(attempt):
    """A wait that the service asked for is kept, with a little spread."""
    throttled = errors.RateLimitError("slow down", retry_after=4.0)

    assert attempt(throttled, "fine") == ("fine", [4.5], 2)
    assert attempt(throttled, "fine", chance=0.0) == ("fine", [4.0], 2)


def test_waits_beyond_the_deadline_are_not_begun(attempt):
    """If the wait would outlast the call, the error is raised now."""
    throttled = errors.RateLimitError("slow down", retry_after=10_000.0)

    assert attempt(throttled, "never") == (throttled, [], 1)
    assert attempt(errors.ServiceError("down"), "never", seconds=0.4)[1] == []
