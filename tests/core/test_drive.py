import asyncio
import json
import threading
from functools import partial

import pytest
from pydantic import SecretStr

from qwen_rerank import _drive, _loop, errors
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._gate import Gate
from qwen_rerank._values import Answer, Item, Place, Request

_ENDPOINT = Endpoint("http://host.example/x", "host.example", False, SecretStr("sk-x"), None)


class Recorder:
    """A transport that scores every document by the number in its text, or fails in its turn."""

    def __init__(self, *outcomes, seconds=0.0):
        self.outcomes = list(outcomes)
        self.calls = []
        self.inside = self.peak = 0
        self._lock = threading.Lock()
        self._seconds = seconds

    async def send(self, endpoint, body, deadline, _caller, client=None):
        outcome = self._enter(endpoint, body, deadline, client)
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.inside -= 1
            raise
        return self._leave(outcome, body)

    def _enter(self, *call):
        with self._lock:
            self.inside += 1
            self.peak = max(self.peak, self.inside)
            self.calls.append(call)
            return self.outcomes.pop(0) if self.outcomes else None

    def _leave(self, outcome, body):
        with self._lock:
            self.inside -= 1
        if isinstance(outcome, Exception):
            raise outcome
        asked = json.loads(body)
        texts = asked.get("input", asked)["documents"]
        results = [{"index": i, "relevance_score": float(text)} for i, text in enumerate(texts)]
        flat = {"results": results, "usage": {"total_tokens": len(results)}, "id": texts[0]}
        return outcome or Answer(200, {}, json.dumps({**flat, "output": flat}).encode())


def _item(number):
    return Item(str(number), 1, (Place(number),))


def _requests(*sizes):
    numbers = iter(range(sum(sizes)))
    return tuple(
        Request("m", "q", "rules", tuple(_item(next(numbers)) for _ in range(size)))
        for size in sizes
    )


def _unmetered(_request, _reply):
    pass


@pytest.fixture(name="drive", params=["sync", "async"])
def _drive_fixture(request):
    """Both colours of `drive`, as one awaitable function that raises the failure there is."""

    async def drive(requests, transport, **options):
        whole = options.pop("whole", False)
        seconds = options.pop("seconds", 30.0)
        line = _drive.Line(
            _ENDPOINT,
            options.pop("protocol", "dashscope"),
            transport,
            options.pop("client", None),
            options.pop("gate", None) or Gate(options.pop("width", 1)),
            options.pop("max_retries", 0),
        )
        deadline = _drive.deadline_in(seconds)
        serve = partial(_drive.drive, requests, line, deadline, _unmetered)
        if request.param == "async":
            outcome = await _loop.wait(serve)
        else:
            outcome = await asyncio.to_thread(_loop.run, serve)
        if outcome.failure is not None and not whole:
            raise outcome.failure
        return outcome if whole else list(outcome.replies)

    return drive


@pytest.mark.parametrize(("protocol", "width"), [("dashscope", 1), ("compatible", 2)])
async def test_replies_in_order(drive, protocol, width):
    """Every request is sent once, and the replies come back in the plan's order."""
    transport = Recorder()

    replies = await drive(_requests(2, 1, 3), transport, protocol=protocol, width=width)

    assert [reply.scores for reply in replies] == [(0.0, 1.0), (2.0,), (3.0, 4.0, 5.0)]
    assert [reply.request_id for reply in replies] == ["0", "2", "3"]
    assert [reply.tokens for reply in replies] == [2, 1, 3]
    bodies = [json.loads(body) for _, body, _, _ in transport.calls]
    assert len(bodies) == 3
    assert all(("input" in body) is (protocol == "dashscope") for body in bodies)


@pytest.mark.parametrize("width", [3, 20])
async def test_as_many_at_once_as_allowed(drive, width):
    """Requests of one call run at the same time, up to the limit and never over it."""
    transport = Recorder(seconds=0.05)

    await drive(_requests(*[1] * 10), transport, width=width)

    assert transport.peak == min(width, 10)
    assert len(transport.calls) == 10


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (errors.ServiceError("down"), errors.ServiceError),
        (
            Answer(401, {}, b'{"code": "InvalidApiKey", "message": "no"}'),
            errors.AuthenticationError,
        ),
        (Answer(200, {}, b"{}"), errors.ReplyError),
    ],
)
async def test_the_first_failure_ends_the_call(drive, failure, kind):
    """After a failed request no further one is paid for."""
    transport = Recorder(None, failure)

    with pytest.raises(kind):
        await drive(_requests(1, 1, 1, 1), transport)

    assert len(transport.calls) == 2


async def test_a_fatal_failure_wakes_a_waiting_request(drive):
    """A request that waits to try again does not hold up the error of another."""
    slow = errors.RateLimitError("slow down", retry_after=200.0)
    transport = Recorder(slow, errors.RequestError("no"), seconds=0.02)

    with pytest.raises(errors.RequestError):
        await drive(_requests(1, 1), transport, width=2, max_retries=2, seconds=600.0)

    assert len(transport.calls) == 2


async def test_failures_that_pass_are_repeated(drive):
    """One bad answer among many costs one more request."""
    transport = Recorder(Answer(503, {"retry-after-ms": "1"}, b"{}"))

    replies = await drive(_requests(1, 1), transport, max_retries=1)

    assert [reply.scores for reply in replies] == [(0.0,), (1.0,)]
    assert len(transport.calls) == 3


async def test_the_wait_that_was_asked_for_is_on_the_error(drive):
    """The caller sees what the service asked for."""
    with pytest.raises(errors.RateLimitError) as caught:
        await drive(_requests(1), Recorder(Answer(429, {"retry-after": "7"}, b"{}")))

    assert caught.value.retry_after == 7.0


async def test_throttling_slows_the_others_down(drive):
    """When one request is throttled, those still to be sent wait as well."""
    gate, throttled = Gate(1), errors.RateLimitError("slow down", retry_after=0.3)
    transport = Recorder(throttled)

    await drive(_requests(1, 1, 1), transport, gate=gate, max_retries=1)

    assert len(transport.calls) == 4
    assert gate.quiet() == 0.0


async def test_quiet_beyond_the_deadline(drive):
    """A call that has no time for the pause the service asked for says so."""
    gate = Gate(1)
    gate.hush(60)

    with pytest.raises(errors.RateLimitError, match="pause") as caught:
        await drive(_requests(1), Recorder(), gate=gate, seconds=5.0, max_retries=2)

    assert 50 < caught.value.retry_after <= 60
    assert gate.quiet() > 50


async def test_queueing_counts(drive):
    """A call that never gets its turn ends at its deadline, and says that it had none."""
    gate = Gate(1)
    await gate.enter()

    with pytest.raises(errors.DeadlineError, match="before it was its turn") as caught:
        await drive(_requests(1), Recorder(), gate=gate, seconds=0.1)

    assert "max_concurrency=1 " in caught.value.hint
    assert caught.value.documents == (0,)

    gate.leave()
    assert len(await drive(_requests(1), Recorder(), gate=gate)) == 1


async def test_what_was_answered_before_the_failure_is_kept(drive):
    """What was paid for is not lost: replies and failure come back together."""
    broken = errors.QuotaError("used up")
    transport = Recorder(None, None, broken)

    outcome = await drive(_requests(1, 2, 1, 1), transport, whole=True)

    assert outcome.failure is broken
    assert [reply and reply.scores for reply in outcome.replies] == [(0.0,), (1.0, 2.0), None, None]
    assert broken.documents == (3,)


async def test_nothing_to_send(drive):
    """An empty plan sends nothing."""
    transport = Recorder()

    assert await drive((), transport) == []
    assert transport.calls == []


@pytest.mark.parametrize("turn", [1, 2, 3])
async def test_a_request_that_is_cancelled_alone(turn):
    """A transport that is cancelled by itself ends the call; no document is left out silently."""

    class Cancelled(Recorder):
        async def send(self, *call):
            reply = await super().send(*call)
            if len(self.calls) == turn:
                raise asyncio.CancelledError
            return reply

    line = _drive.Line(_ENDPOINT, "dashscope", Cancelled(), None, Gate(1), 0)

    with pytest.raises(asyncio.CancelledError):
        await _loop.wait(
            partial(_drive.drive, _requests(1, 1, 1), line, _drive.deadline_in(5), _unmetered)
        )
