"""An outage costs one call its timeout: who is let through, who asks again, what counts as one."""

import contextlib
import copy
import errno
import os
from types import SimpleNamespace

import httpx
import pytest

from qwen_rerank import Reranker, ServiceError, _drive, errors
from qwen_rerank._outage import Outages
from qwen_rerank._values import Item, Outcome, Place, Request
from qwen_rerank.emulator import Emulator, Reply

_QUERY = "a fast red sports car"
_TEXTS = ["green tea", "a red sports car"]
_NOWHERE = "http://127.0.0.1:1/api/v1"  # where nobody listens
_DOWN = Reply.error(503, "ModelUnavailable")
_THROTTLED = Reply.error(429, "Throttling.RateQuota")


class _Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return _Clock()


@pytest.fixture(name="reranker")
def _reranker(connection, clock):
    reranker = Reranker(on_error="passthrough", max_retries=0, outage_pause=5, **connection)
    reranker._shared.outages = Outages(clock)
    return reranker


# A call


@pytest.mark.parametrize("reply", [_DOWN, Reply(delay=60.0)], ids=["down", "silent"])
def test_the_next_call_asks_nothing(reranker, rank, emulator: Emulator, reply):
    """After one call has found the service gone or silent, the next passes through at once.

    That of an object with other options, which was made for one question, does so too.
    """
    emulator.script(reply)
    if reply.delay:
        reranker.timeout = 0.5
    first = rank(reranker, _QUERY, _TEXTS)
    asked = len(emulator.log)

    then = rank(reranker.with_options(top_n=2), "another question", _TEXTS)

    assert first.degraded.retry_after is None
    assert len(emulator.log) == asked
    assert [(hit.index, hit.score) for hit in then] == [(0, None), (1, None)]
    assert type(then.degraded) is ServiceError
    assert then.degraded.retry_after == 5.0
    assert "was not asked" in str(then.degraded)
    assert "for 5 s more" in str(then.degraded)
    assert str(first.degraded).partition("\n")[0] in str(then.degraded)
    assert "outage_pause=0" in then.degraded.hint


def test_it_tries_again(reranker, rank, emulator: Emulator, clock):
    """After the pause one call asks; a try in vain begins another one; after an answer all ask.

    Whoever is told that the key is wrong has been answered.
    """
    emulator.script(_DOWN, _DOWN, Reply.error(401, "InvalidApiKey"))
    rank(reranker, _QUERY, _TEXTS)

    for asked in (1, 2):
        clock.now += 4.9
        assert rank(reranker, _QUERY, _TEXTS).degraded is not None
        assert len(emulator.log) == asked
        clock.now += 0.1
        if asked == 1:
            assert rank(reranker, _QUERY, _TEXTS).degraded.status == 503
    with pytest.raises(errors.AuthenticationError):
        rank(reranker, _QUERY, _TEXTS)
    assert rank(reranker, _QUERY, _TEXTS).degraded is None


@pytest.mark.parametrize(
    "reply",
    [
        _THROTTLED,
        Reply.error(400, "DataInspectionFailed"),
        Reply(307, ""),
        Reply(200, {"output": {"results": []}}),
    ],
    ids=["throttled", "refused", "redirected", "no ranking"],
)
def test_an_answer_is_no_outage(reranker, rank, emulator: Emulator, reply):
    """A service that refuses, throttles or answers with nonsense is there: the next call asks."""
    emulator.script(reply)
    assert rank(reranker, _QUERY, _TEXTS).degraded is not None

    assert rank(reranker, _QUERY, _TEXTS).degraded is None


def _paced(*permissions):
    """A reranker's class whose rate limiter gives these permissions, and then none in time."""
    left = [*permissions]

    class Pace:
        counts_tokens = on_any_loop = False

        def take(self, _tokens, _deadline, _doze):
            return bool(left) and left.pop(0)

    class Paced(Reranker):
        @property
        def _pace(self):
            return Pace()

    return Paced


@pytest.mark.parametrize(
    ("replies", "is_outage"),
    [
        ([], False),
        ([_THROTTLED], False),
        ([_DOWN, _THROTTLED], False),
        ([_DOWN], True),
    ],
    ids=["not sent", "throttled", "throttled later", "down"],
)
def test_out_of_time_after_an_answer(monkeypatch, connection, emulator, replies, is_outage):
    """A service that throttled a call is there, though the call had no time to ask again.

    And what was never sent, because a rate limiter gave no permission, says nothing of it.
    """
    monkeypatch.setattr(_drive, "random", SimpleNamespace(random=lambda: 0.0))  # waits for nothing
    emulator.script(*replies)
    kind = _paced(*[True] * len(replies), False, True)
    reranker = kind(on_error="passthrough", **connection)

    assert type(reranker.rerank(_QUERY, _TEXTS).degraded) is errors.DeadlineError
    assert (reranker.rerank(_QUERY, _TEXTS).degraded is not None) is is_outage


@pytest.mark.parametrize(
    "options", [{"on_error": "raise"}, {"outage_pause": 0}], ids=["raise", "off"]
)
def test_who_always_asks(reranker, rank, emulator: Emulator, options):
    """Under on_error="raise", and with outage_pause=0, no call is spared.

    An answer to one of them is one for all that pass through.
    """
    asks = reranker.with_options(**options)

    def degraded(one):
        try:
            return rank(one, _QUERY, _TEXTS).degraded
        except ServiceError as error:
            return error

    emulator.script(_DOWN, _DOWN)
    assert degraded(reranker).status == 503
    assert degraded(asks).status == 503
    assert degraded(reranker).status is None

    assert degraded(asks) is None
    assert degraded(reranker) is None
    assert len(emulator.log) == 4


def test_the_pause(reranker, rank, emulator: Emulator):
    """It is outage_pause, and no more than ten timeouts: who waits little misses little."""
    emulator.script(_DOWN)
    reranker.timeout, reranker.outage_pause = 2.0, 30.0
    rank(reranker, _QUERY, _TEXTS)

    assert rank(reranker, _QUERY, _TEXTS).degraded.retry_after == 20.0


def test_known_scores_need_nobody(reranker, rank, emulator: Emulator, clock):
    """What the cache knows is ranked during an outage, and is no try."""
    reranker.cache = {}
    honest = rank(reranker, _QUERY, _TEXTS)
    emulator.script(_DOWN)
    rank(reranker, "another question", _TEXTS)
    clock.now += 5.0

    assert list(rank(reranker, _QUERY, _TEXTS)) == list(honest)
    assert rank(reranker, "another question", _TEXTS).degraded is None


@pytest.mark.parametrize("is_forked", [False, True], ids=["copy", "fork"])
def test_who_begins_anew_knows_of_no_outage(monkeypatch, reranker, rank, emulator, is_forked):
    """A copy asks for itself, and so does a worker, whatever its parent process has found."""
    emulator.script(_DOWN)
    rank(reranker, _QUERY, _TEXTS)

    if is_forked:
        monkeypatch.setattr(os, "getpid", lambda: -1)
    other = reranker if is_forked else copy.copy(reranker)

    assert rank(other, _QUERY, _TEXTS).degraded is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("can't start new thread"),
        FileNotFoundError(errno.ENOENT, "No such file", "/none/client.pem"),
    ],
    ids=["no file left", "no thread left", "a missing file"],
)
def test_what_this_machine_lacks(reranker, rank, clients, clock, error):
    """What keeps a call from being sent says nothing of the service: no outage begins or ends."""
    raised = [error, error, httpx.ConnectError("gone"), error]

    def fail(_):
        raise raised.pop(0)

    for name, client in clients(transport=httpx.MockTransport(fail)).items():
        setattr(reranker, name, client)

    for left in (3, 2, 1, 0, 0):
        with contextlib.suppress(errors.RequestError):  # the file's
            rank(reranker, _QUERY, _TEXTS)
        assert len(raised) == left
        if left == 1:  # that was an outage, and now another may try
            clock.now += 5.0


def test_another_connection(reranker, rank, clients, emulator: Emulator):
    """Another host, key, model or client was not found gone."""
    home = reranker.base_url
    reranker.base_url = _NOWHERE

    def is_spared(**options):
        degraded = rank(reranker, _QUERY, _TEXTS, **options).degraded
        return degraded is not None and degraded.retry_after is not None

    assert not is_spared()
    assert not is_spared(model="gte-rerank-v2")
    reranker.base_url = home
    assert not is_spared()
    reranker.base_url = _NOWHERE
    assert is_spared()
    reranker.api_key = "another-key-of-ours"
    assert not is_spared()
    for name, client in clients().items():
        setattr(reranker, name, client)
    assert not is_spared()
    assert is_spared()
    assert len(emulator.log) == 1


# The state

_REQUESTS = (Request("m", "q", None, (Item("t", 1, (Place(0),)),)),)
_GONE = Outcome((None,), ServiceError("gone"))
_ANSWERED = Outcome((None,), errors.RateLimitError("slow down"))


def _watch(outages: Outages, *, route="here", pause=10.0, lease=5.0):
    return outages.watch(_REQUESTS, route=route, host="h", pause=pause, lease=lease)


def test_a_slow_call_among_others_is_no_outage(clock):
    """Of a call that ran out of time while others were answered only its own list is to blame."""
    outages = Outages(clock)
    slow = _watch(outages)
    _watch(outages).ended(_ANSWERED)
    slow.ended(_GONE)

    assert _watch(outages).spared is None


def test_who_always_asks_finds_no_outage(clock):
    """A call that raises, or has no pause, spares no other one when it fails."""
    outages = Outages(clock)
    _watch(outages, pause=0.0).ended(_GONE)

    assert [_watch(outages).spared for _ in range(2)] == [None, None]


def test_answers_elsewhere_do_not_hide_an_outage(clock):
    """Another host, key or model that answers in the meantime says nothing of a silent one."""
    outages = Outages(clock)
    silent = _watch(outages)
    _watch(outages, route="there").ended(_ANSWERED)
    silent.ended(_GONE)

    assert _watch(outages).spared is not None
    assert _watch(outages, route="there").spared is None


def test_a_try_that_is_never_heard_of(clock):
    """While one call tries others are spared; if it is never heard of, another tries in the end."""
    outages = Outages(clock)
    _watch(outages).ended(_GONE)
    clock.now += 10.0
    assert _watch(outages, lease=3.0).spared is None

    assert "another call is asking now" in str(_watch(outages).spared.failure)
    clock.now += 3.0
    assert _watch(outages).spared is None
