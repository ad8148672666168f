"""An outage costs one call its timeout: who is let through, who asks again, what counts as one."""

import asyncio
import contextlib
import copy
import errno
import os
import pickle
import threading
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
_DOWN = {
    "silent": Reply(delay=60.0, repeat=None),
    "down": Reply.error(503, "ModelUnavailable", repeat=None),
    "cut off": Reply(drop="before", repeat=None),
}
_ALIVE = {
    "moderation": Reply.error(400, "DataInspectionFailed"),
    "balance": Reply.error(400, "Arrearage"),
    "rate limit": Reply.error(429, "Throttling.RateQuota"),
    "no ranking": Reply(200, {"output": {"results": []}}),
}


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


@pytest.mark.parametrize("reply", _DOWN.values(), ids=_DOWN)
def test_the_next_call_asks_nothing(reranker, rank, emulator: Emulator, reply):
    """After one call has found the service gone or silent, the next passes through at once."""
    emulator.script(reply)
    if reply.delay:
        reranker.timeout = 0.5
    first = rank(reranker, _QUERY, _TEXTS)
    asked = len(emulator.log)

    then = rank(reranker, "another question", _TEXTS)

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
    """After the pause one call asks; a try in vain begins another one; after an answer all ask."""
    emulator.script(*[Reply.error(503, "ModelUnavailable")] * 2)
    rank(reranker, _QUERY, _TEXTS)

    for asked in (1, 2):
        clock.now += 4.9
        assert rank(reranker, _QUERY, _TEXTS).degraded is not None
        assert len(emulator.log) == asked
        clock.now += 0.1
        again = rank(reranker, _QUERY, _TEXTS).degraded
        assert (again is None) is (asked == 2)
    assert rank(reranker, _QUERY, _TEXTS).degraded is None


def test_one_of_many_tries(reranker, emulator: Emulator, clock):
    """While one call finds out whether the service is back, the others do not wait for it."""
    asked = threading.Event()

    def late(_):
        asked.set()
        return Reply(delay=60)

    emulator.script(Reply(drop="before"), late)
    reranker.rerank(_QUERY, _TEXTS)
    clock.now += 5.0

    async def many():
        trying = asyncio.create_task(reranker.arerank(_QUERY, _TEXTS))
        await asyncio.to_thread(asked.wait, 10)
        others = await asyncio.gather(*[reranker.arerank(_QUERY, _TEXTS) for _ in range(4)])
        trying.cancel()
        return others

    for ranking in asyncio.run(many()):
        assert "another call is asking now" in str(ranking.degraded)


@pytest.mark.parametrize("reply", _ALIVE.values(), ids=_ALIVE)
def test_an_answer_is_no_outage(reranker, rank, emulator: Emulator, reply):
    """A service that refuses, throttles or answers with nonsense is there: the next call asks."""
    emulator.script(reply)
    assert rank(reranker, _QUERY, _TEXTS).degraded is not None

    assert rank(reranker, _QUERY, _TEXTS).degraded is None


def test_a_mistake_ends_an_outage(reranker, rank, emulator: Emulator, clock):
    """Whoever is told that the key is wrong has been answered."""
    emulator.script(Reply.error(503, "ModelUnavailable"), Reply.error(401, "InvalidApiKey"))
    rank(reranker, _QUERY, _TEXTS)
    clock.now += 5.0
    with pytest.raises(errors.AuthenticationError):
        rank(reranker, _QUERY, _TEXTS)

    assert rank(reranker, _QUERY, _TEXTS).degraded is None


def _paced(*permissions):
    """A reranker's class whose rate limiter gives these permissions, and then none in time."""
    left = [*permissions]

    class Pace:
        counts_tokens = on_any_loop = False

        def take(self, _tokens, _deadline, _doze):
            return bool(left) and left.pop(0)

        async def atake(self, _tokens):
            await asyncio.sleep(60)

    class Paced(Reranker):
        @property
        def _pace(self):
            return Pace()

    return Paced


def test_what_was_never_sent_is_no_outage(connection, rank):
    """A rate limiter that gives no permission in time says nothing of the service."""
    reranker = _paced()(on_error="passthrough", timeout=0.1, **connection)

    for _ in range(2):
        assert type(rank(reranker, _QUERY, _TEXTS).degraded) is errors.DeadlineError


@pytest.mark.parametrize(
    ("replies", "is_outage"),
    [
        ([Reply.error(429, "Throttling.RateQuota")], False),
        ([Reply.error(503, "ModelUnavailable"), Reply.error(429, "Throttling.RateQuota")], False),
        ([Reply.error(503, "ModelUnavailable")], True),
    ],
    ids=["throttled", "throttled later", "down"],
)
def test_out_of_time_after_an_answer(monkeypatch, connection, emulator, replies, is_outage):
    """A service that throttled a call is there, though the call had no time to ask again."""
    monkeypatch.setattr(_drive, "random", SimpleNamespace(random=lambda: 0.0))  # waits for nothing
    emulator.script(*replies)
    kind = _paced(*[True] * len(replies), False, True)
    reranker = kind(on_error="passthrough", **connection)

    assert type(reranker.rerank(_QUERY, _TEXTS).degraded) is errors.DeadlineError
    assert (reranker.rerank(_QUERY, _TEXTS).degraded is not None) is is_outage


@pytest.mark.parametrize(
    "options", [{"on_error": "raise"}, {"outage_pause": 0}], ids=["raise", "off"]
)
def test_every_call_asks(reranker, rank, emulator: Emulator, options):
    """Under on_error="raise", and with outage_pause=0, no call is spared."""
    emulator.script(_DOWN["down"])
    for name, value in options.items():
        setattr(reranker, name, value)
    for _ in range(3):
        if reranker.on_error == "raise":
            with pytest.raises(ServiceError, match="ModelUnavailable"):
                rank(reranker, _QUERY, _TEXTS)
        else:
            assert rank(reranker, _QUERY, _TEXTS).degraded.status == 503

    assert len(emulator.log) == 3


@pytest.mark.parametrize(
    "options", [{"on_error": "raise"}, {"outage_pause": 0}], ids=["raise", "off"]
)
def test_whoever_is_answered_ends_an_outage(reranker, rank, emulator: Emulator, options):
    """The answer to a call that asks whatever is known is one for all that pass through."""
    emulator.script(Reply.error(503, "ModelUnavailable"))
    rank(reranker, _QUERY, _TEXTS)

    assert rank(reranker.with_options(**options), _QUERY, _TEXTS).degraded is None
    assert rank(reranker, "another question", _TEXTS).degraded is None


def test_the_pause(reranker, rank, emulator: Emulator):
    """It is outage_pause, and no more than ten timeouts: who waits little misses little."""
    emulator.script(_DOWN["down"])
    reranker.timeout, reranker.outage_pause = 2.0, 30.0
    rank(reranker, _QUERY, _TEXTS)

    assert rank(reranker, _QUERY, _TEXTS).degraded.retry_after == 20.0


def test_known_scores_need_nobody(reranker, rank, emulator: Emulator):
    """What the cache knows is ranked during an outage, and is no try."""
    reranker.cache = {}
    honest = rank(reranker, _QUERY, _TEXTS)
    emulator.script(_DOWN["down"])
    rank(reranker, "another question", _TEXTS)

    ranking = rank(reranker, _QUERY, _TEXTS)

    assert ranking.degraded is None
    assert list(ranking) == list(honest)


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own pickle


@pytest.mark.parametrize("twin", [copy.copy, _pickled], ids=["copy", "pickle"])
def test_copies_know_of_no_outage(reranker, rank, emulator: Emulator, twin):
    """A copy asks for itself, and so does what comes out of a pickle."""
    emulator.script(Reply.error(503, "ModelUnavailable"))
    rank(reranker, _QUERY, _TEXTS)

    other = twin(reranker)
    other.api_key = emulator.api_key

    assert rank(other, _QUERY, _TEXTS).degraded is None


def test_with_options_shares_what_is_known(reranker, rank, emulator: Emulator):
    """An object made for one question does not wait for a service that another found dead."""
    emulator.fault("503")
    rank(reranker, _QUERY, _TEXTS)
    asked = len(emulator.log)

    ranking = rank(reranker.with_options(top_n=1), _QUERY, _TEXTS)

    assert ranking.degraded is not None
    assert len(emulator.log) == asked


def test_a_callers_client(reranker, rank, clients, emulator: Emulator):
    """An outage is known through a client of the caller's too; another client begins anew."""
    emulator.script(_DOWN["down"])
    for name, client in clients().items():
        setattr(reranker, name, client)
    rankings = [rank(reranker, _QUERY, _TEXTS) for _ in range(2)]
    assert [ranking.degraded.status for ranking in rankings] == [503, None]

    reranker.http_client = reranker.async_http_client = None
    assert rank(reranker, _QUERY, _TEXTS).degraded.status == 503


_OF_THIS_MACHINE = {
    "files": OSError(errno.EMFILE, "Too many open files"),
    "threads": RuntimeError("can't start new thread"),
    "a missing file": FileNotFoundError(errno.ENOENT, "No such file", "/none/client.pem"),
}


@pytest.mark.parametrize("error", _OF_THIS_MACHINE.values(), ids=_OF_THIS_MACHINE)
@pytest.mark.parametrize("is_out", [False, True], ids=["before", "in an outage"])
def test_what_this_machine_lacks(reranker, rank, clients, clock, error, is_out):
    """What keeps a call from being sent says nothing of the service: no outage begins or ends."""
    raised = [httpx.ConnectError("gone")] * is_out + [error] * 2
    asked = []

    def fail(_):
        asked.append(raised.pop(0))
        raise asked[-1]

    for name, client in clients(transport=httpx.MockTransport(fail)).items():
        setattr(reranker, name, client)
    for _ in range(3 if is_out else 2):
        with contextlib.suppress(errors.RequestError):  # the file's
            rank(reranker, _QUERY, _TEXTS)
        if is_out and len(asked) == 1:
            clock.now += 5.0

    assert len(asked) == 2


def test_another_connection(reranker, rank, emulator: Emulator):
    """Another host, key or model was not found gone."""
    home = reranker.base_url
    reranker.base_url = _NOWHERE
    rank(reranker, _QUERY, _TEXTS)

    assert rank(reranker, _QUERY, _TEXTS, model="gte-rerank-v2").degraded.retry_after is None
    reranker.base_url = home
    assert rank(reranker, _QUERY, _TEXTS).degraded is None
    reranker.base_url = _NOWHERE
    reranker.api_key = "another-key-of-ours"
    assert rank(reranker, _QUERY, _TEXTS).degraded.retry_after is None
    assert len(emulator.log) == 1


_FORK = """
import os
from qwen_rerank import Reranker

reranker = Reranker(
    base_url="http://127.0.0.1:1/api/v1", api_key="none", on_error="passthrough", max_retries=0
)
made = reranker.with_options(top_n=1)
made.rerank("a query", ["a text"])
if not (child := os.fork()):
    print(made.rerank("a query", ["a text"]).degraded.retry_after, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_knows_of_no_outage(fresh):
    """A worker asks for itself, whatever the process that it was forked from has found."""
    assert fresh(_FORK, strict=False).strip() == "None"


# The state


_REQUESTS = (Request("m", "q", None, (Item("t", 1, (Place(0),)),)),)
_GONE = Outcome((None,), ServiceError("gone"))
_FINE = Outcome((None,), errors.RateLimitError("slow down"))


def _watch(outages: Outages, *, route="here", pause=10.0, lease=5.0):
    return outages.watch(_REQUESTS, route=route, host="h", pause=pause, lease=lease)


def test_a_slow_call_among_others_is_no_outage(clock):
    """Of a call that ran out of time while others were answered only its own list is to blame."""
    outages = Outages(clock)
    slow = _watch(outages)
    _watch(outages).ended(_FINE)
    slow.ended(_GONE)

    assert _watch(outages).spared is None


def test_who_always_asks_finds_no_outage(clock):
    """A call that raises, or has no pause, spares the others nothing when it fails."""
    outages = Outages(clock)
    _watch(outages, pause=0.0).ended(_GONE)

    assert [_watch(outages).spared for _ in range(2)] == [None, None]


def test_answers_elsewhere_do_not_hide_an_outage(clock):
    """Another host, key or model that answers in the meantime says nothing of a silent one."""
    outages = Outages(clock)
    silent = _watch(outages)
    _watch(outages, route="there").ended(_FINE)
    silent.ended(_GONE)

    assert _watch(outages).spared is not None
    assert _watch(outages, route="there").spared is None


def test_a_try_that_is_never_heard_of(clock):
    """A try that was cancelled holds up the others no longer than it could have taken."""
    outages = Outages(clock)
    _watch(outages).ended(_GONE)
    clock.now += 10.0
    assert _watch(outages, lease=3.0).spared is None

    assert _watch(outages).spared is not None
    clock.now += 3.0
    assert _watch(outages).spared is None
