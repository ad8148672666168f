"""One object through everything that can happen to it: threads, loops, forks, the end."""

import asyncio
import contextlib
import contextvars
import itertools
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from qwen_rerank import Reranker, _drive, _loop, errors
from qwen_rerank.emulator import Reply

_QUERY = "a fast red sports car"
_MANY = [f"document {i} about a red car" for i in range(6)]


@pytest.fixture(name="single")
def _single(make):
    """Makes rerankers that ask for each document by itself."""
    return partial(make, max_documents_per_request=1)


@pytest.fixture(name="silent")
def _silent(fresh):
    """Runs a script in an interpreter of its own; it has to end well and say nothing on stderr."""
    return partial(fresh, silent=True)


# The life of a process

# Each is a process of its own, whose warnings are errors and whose stderr has to stay empty.
_LIVES = {
    "loops however they end": """
warnings.simplefilter("ignore", ResourceWarning)  # which is what Python itself says of open ones
async def ranks():
    assert len(await reranker.arerank("red car", ["a", "b"])) == 2
counts = []
for close in [True] * 12 + [False] * 12:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ranks())
    if close:
        loop.close()
    del loop
    gc.collect()
    counts.append(len(os.listdir("/proc/self/fd")))
assert len(set(counts[2:12])) == 1, counts
assert max(counts[12:]) <= counts[11] + 3, counts
""",
    "a daemon thread in the middle of calls": """
begun = threading.Event()
def work():
    with contextlib.suppress(RuntimeError):  # of a call that would begin after the end
        while True:
            ranked(0)
            begun.set()
threading.Thread(target=work, daemon=True).start()
begun.wait()
""",
    "calls at the end": """
class Late:
    def __del__(self):
        try:
            ranked(0)
        except RuntimeError:
            os.write(1, b"refused")
builtins.late = Late()
atexit.register(lambda: ranked(0) == 1 or os._exit(1))
""",
    "Ctrl-C in the middle of a call": """
signal.signal(signal.SIGINT, signal.default_int_handler)
over = threading.Event()
def interrupt():
    with server.accept()[0]:
        os.kill(os.getpid(), signal.SIGINT)
        over.wait()
with socket.create_server(("127.0.0.1", 0)) as server:
    reranker.base_url = f"http://127.0.0.1:{server.getsockname()[1]}"
    reranker.timeout, reranker.max_documents_per_request = 600, 1
    threading.Thread(target=interrupt).start()
    try:
        reranker.rerank("red car", list("abc"))
    except KeyboardInterrupt:
        over.set()
over.wait()
""",
    "uvloop": """
import uvloop
async def both():
    assert len(await reranker.arerank("red car", ["a", "b"])) == 2
    assert ranked(0) == 1
for _ in range(3):
    uvloop.run(both())
""",
    "gevent": """
import gevent
assert len(asyncio.run(reranker.arerank("red car", ["a", "b"]))) == 2
seen = set()
def look():  # as Django does before each query
    while True:
        seen.add(asyncio._get_running_loop())
        gevent.sleep()
other = gevent.spawn(look)
jobs = [gevent.spawn(ranked, each) for each in range(5)]
gevent.joinall(jobs)
assert [job.value for job in jobs] == [1] * 5
other_one = Reranker(base_url=sys.argv[1], api_key=sys.argv[2])
assert len(other_one.rerank("red car", ["a red car"])) == 1
other.kill()
assert seen == {None}, seen
assert len(asyncio.run(reranker.arerank("red car", ["a", "b"]))) == 2
""",
}
_BORN = """
import asyncio, atexit, builtins, contextlib, gc, os, signal, socket, sys
import threading, warnings
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2])
def ranked(number):
    return len(reranker.rerank("red car", [f"car {number}"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file descriptors in /proc")
@pytest.mark.parametrize("life", _LIVES)
def test_lives(silent, emulator, life):
    """However a process and its loops live and end, it ranks, leaves nothing open, says nothing.

    A call is served as long as the process runs its own code, and refused after that.
    """
    born = _BORN
    if life == "calls at the end" and (3, 12) <= sys.version_info < (3, 12, 2):
        pytest.skip("Python 3.12.0 and 3.12.1 start no thread at the end of a process")
    if life in ("uvloop", "gevent"):
        pytest.importorskip(life)
    if life == "gevent":
        born = "from gevent import monkey\nmonkey.patch_all()\n" + born

    out = silent(born + _LIVES[life], emulator.base_url, emulator.api_key)

    assert out == ("refused" if life == "calls at the end" else "")
    assert {seen.status for seen in emulator.log} <= {200, None}


# One object in many threads and loops


def test_one_limit_over_threads_and_loops(single, emulator):
    """max_concurrency holds over threads, event loops and what with_options gives together."""
    flying = []

    def answer(_):
        flying.append(sum(seen.status is None for seen in emulator.log))
        return Reply(delay=0.02, repeat=None)

    emulator.script(answer)
    reranker = single(max_concurrency=3)
    early = reranker.with_options(top_n=1)  # before any connection was open

    async def rank_in_a_loop():
        return reranker.rerank(_QUERY, _MANY)

    calls = [
        *[lambda: reranker.rerank(_QUERY, _MANY)] * 2,
        *[lambda: asyncio.run(reranker.arerank(_QUERY, _MANY))] * 2,
        lambda: asyncio.run(rank_in_a_loop()),
        lambda: early.rerank(_QUERY, _MANY),
    ]
    with ThreadPoolExecutor(len(calls)) as threads:
        rankings = [each.result() for each in [threads.submit(call) for call in calls]]

    assert [len(each) for each in rankings] == [len(_MANY)] * 5 + [1]
    assert len(emulator.log) == len(calls) * len(_MANY)
    assert max(flying) <= 3


async def test_an_assigned_limit(single, emulator, until):
    """Another max_concurrency holds from the next call on, also for what with_options gave.

    That cannot have a limit of its own; a copy can.
    """
    reranker = single(max_concurrency=1)
    made = reranker.with_options(top_n=1)
    for limit in (4, 2):
        emulator.clear()
        emulator.fault("no-answer")
        reranker.max_concurrency = limit
        call = asyncio.create_task(made.arerank(_QUERY, _MANY))
        await until(lambda limit=limit: emulator.requests_seen >= limit)
        call.cancel()
        await asyncio.wait([call])
        assert emulator.requests_seen == limit

    with pytest.raises(ValueError, match="max_concurrency: is a limit of the object"):
        made.max_concurrency = 4
    with pytest.raises(ValueError, match=r"model_copy\(update"):
        made.with_options(max_concurrency=4)
    assert made.model_copy(update={"max_concurrency": 4}).max_concurrency == 4


def test_a_loop_that_was_broken_off(reranker, emulator, until):
    """A loop that stops in the middle of a call, and goes on late, holds up no other call."""
    reranker.max_concurrency = 1
    emulator.script(Reply(delay=0.2))
    loop = asyncio.new_event_loop()
    call = loop.create_task(reranker.arerank(_QUERY, ["a"]))
    loop.run_until_complete(until(lambda: emulator.requests_seen == 1))

    assert len(reranker.rerank(_QUERY, ["b"])) == 1

    assert len(loop.run_until_complete(call)) == 1
    loop.close()


def test_closed_and_used_again(make, scorer):
    """Others with other options ask over the connections that are open; closed, all open others.

    That is not the end, whichever way and how often it is done.
    """
    reranker = make(base_url=scorer.url)
    made = reranker.with_options(top_n=1)

    reranker.rerank("before", ["a"])
    made.rerank("before", ["a"])
    for close in (made.close, reranker.close, lambda: asyncio.run(made.aclose())):
        close()
        close()
        assert len(reranker.rerank("after", ["a"])) == 1
        assert len(asyncio.run(made.arerank("after", ["a"]))) == 1

    assert len(scorer.ports["before"]) == 1
    assert len(scorer.ports["after"]) == 3
    assert scorer.ports["before"].isdisjoint(scorer.ports["after"])


# One of many requests


async def test_cancelled_during_the_first_call(connection, emulator):
    """A first call that is cancelled while its client is being made does no harm to the next."""
    for steps in range(6):
        reranker = Reranker(**connection)
        call = asyncio.create_task(reranker.arerank(_QUERY, ["a"]))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert len(await reranker.arerank(_QUERY, ["a"])) == 1
        await reranker.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert 6 <= len(emulator.log) <= 12  # one that is given up may have been sent by then


async def test_a_failure_ends_the_others_before_it_is_raised(connection):
    """When an async call fails, its other requests have ended by the time the caller knows."""
    started, ended = [], []

    async def answer(request):
        started.append(request)
        if len(started) == 3:
            return httpx.Response(400, json={"code": "InvalidParameter", "message": "no"})
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(request)
            raise LookupError from None  # which is not why the call failed

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        reranker = Reranker(
            **connection, async_http_client=client, max_documents_per_request=1, max_concurrency=3
        )
        with pytest.raises(errors.RequestError):
            await reranker.arerank(_QUERY, _MANY)

        assert len(ended) == 2
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(started) == 3


def test_a_foreign_mistake_in_one_of_many(connection, rank):
    """An error of the caller's own client comes out as it is, however many requests there are."""

    def broken(_):
        raise LookupError("mine")

    reranker = Reranker(
        **connection,
        max_documents_per_request=1,
        http_client=httpx.Client(transport=httpx.MockTransport(broken)),
        async_http_client=httpx.AsyncClient(transport=httpx.MockTransport(broken)),
    )
    with pytest.raises(LookupError, match="mine"):
        rank(reranker, _QUERY, _MANY)


def test_a_failure_wakes_who_waits_to_try_again(reranker, emulator):
    """A request that waits to be sent again does not hold up the error of another."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    reranker.timeout = 600.0
    emulator.script(
        Reply.error(429, "Throttling.RateQuota", headers={"retry-after": "200"}),
        Reply.error(400, "InvalidParameter", delay=0.2),
    )

    with pytest.raises(errors.RequestError):
        reranker.rerank(_QUERY, ["a", "b"])

    assert len(emulator.log) == 2


async def test_a_request_that_is_cancelled_alone(connection):
    """A client that cancels one request by itself ends the call: no document is left out."""
    turns = itertools.count(1)

    async def answer(_):
        if next(turns) == 3:
            raise asyncio.CancelledError
        results = [{"index": 0, "relevance_score": 0.5}]
        return httpx.Response(200, json={"output": {"results": results}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        reranker = Reranker(**connection, async_http_client=client, max_documents_per_request=1)
        with pytest.raises(asyncio.CancelledError):
            await reranker.arerank(_QUERY, _MANY)


# Threads


def test_a_blocking_client_is_used_in_threads(connection):
    """They see the caller's context variables, as tracing relies on, and end with the call."""
    user, seen = contextvars.ContextVar("user", default="nobody"), []

    def note(_):
        seen.append((user.get(), threading.current_thread()))

    with httpx.Client(event_hooks={"request": [note]}) as client:
        reranker = Reranker(**connection, http_client=client, max_documents_per_request=1)
        user.set("ann")
        reranker.rerank(_QUERY, _MANY)

    assert [name for name, _ in seen] == ["ann"] * len(_MANY)
    for _, thread in seen:
        assert thread is not threading.current_thread()
        thread.join(30)
        assert not thread.is_alive()


async def test_warm_up_where_all_threads_are_busy(connection):
    """It waits for one as long as for the service, and then does without."""
    over = threading.Event()
    busy = [_loop.aside(over.wait, 30) for _ in range(_loop.engine().aside._max_workers)]
    try:
        with contextlib.suppress(errors.DeadlineError):  # of the connection, on a slow machine
            async with asyncio.timeout(15), Reranker(timeout=0.2, **connection) as reranker:
                await reranker.awarm_up()
    finally:
        over.set()
        await asyncio.gather(*busy)


# Throttling


async def test_when_one_is_throttled_all_wait(reranker, emulator, until):
    """While a service that throttled one call asks for a pause, no other of the object is sent.

    A limit is for one account and model: another host, key or model is asked meanwhile.
    """
    emulator.script(Reply.error(429, "Throttling.RateQuota", headers={"retry-after": "300"}))
    first = asyncio.create_task(reranker.with_options(timeout=600.0).arerank("first", ["a"]))
    await until(lambda: reranker._shared.live and reranker._shared.live.gate._quiet_until)

    with pytest.raises(errors.RateLimitError, match="longer pause than this call has time for"):
        await reranker.arerank("second", ["b"])
    assert len(emulator.log) == 1

    for options in (
        {"base_url": emulator.base_url.replace("127.0.0.1", "localhost")},
        {"api_key": "sk-another-key-of-ours"},
        {"model": "gte-rerank-v2"},
    ):
        before = len(emulator.log)
        with contextlib.suppress(errors.AuthenticationError):  # that key is none of the emulator's
            await reranker.with_options(**options).arerank("second", ["b"])
        assert len(emulator.log) == before + 1
    first.cancel()
    await asyncio.wait([first])


@pytest.mark.parametrize(("quiet", "latest"), [(4.0, 4.6), (1.0, 1.5)])
def test_after_a_pause_there_is_time_to_send(monkeypatch, quiet, latest):
    """Waits for another call's pause are spread, but no wider than half of the time after it."""
    chances = iter([0.0, 1.0])
    monkeypatch.setattr(_drive, "random", SimpleNamespace(random=lambda: next(chances)))

    waits = [_drive._apart(quiet, 5.2) for _ in range(2)]

    assert waits == pytest.approx([quiet, latest])


def test_after_a_pause_all_go_on(reranker, emulator):
    """Nothing of a list is lost when one of its requests was throttled."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    emulator.script(Reply.error(429, "Throttling.RateQuota", headers={"retry-after-ms": "50"}))

    assert len(reranker.rerank(_QUERY, _MANY)) == len(_MANY)
    assert len(emulator.log) == len(_MANY) + 1


# Fork

_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_FORK = """
import asyncio, os, sys
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key="sk-x", max_documents_per_request=1)
children = {}
def use(who):
    for _ in range(2):
        assert len(reranker.rerank(who, ["a", "b", "c"])) == 3
        assert len(asyncio.run(reranker.arerank(who, ["a", "b", "c"]))) == 3
def fork(name):
    if not (child := os.fork()):
        use(name)
        sys.exit(0)
    children[child] = name
reranker.warm_up()  # as a server that loads its application before it forks its workers
fork("one")
use("parent")
fork("two")
use("parent")
while children:
    child, status = os.wait()
    assert status == 0, (children[child], status)
    del children[child]
"""


@pytest.mark.slow
@_forks
def test_fork(silent, scorer):
    """Forked after a warm-up or after use, each process ranks over connections of its own."""
    silent(_FORK, scorer.url)

    assert sorted(scorer.ports) == ["one", "parent", "two"]
    one, parent, two = (scorer.ports[name] for name in ("one", "parent", "two"))
    assert one.isdisjoint(parent | two)
    assert two.isdisjoint(parent)


_FORK_BUSY = """
import faulthandler, os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
from qwen_rerank import Reranker
url, key, moment = sys.argv[1:]
parent, is_read, go_on = os.getpid(), threading.Event(), threading.Event()
class Cache(dict):
    def __getitem__(self, key):
        if moment == "a cache is read" and os.getpid() == parent:
            is_read.set()
            go_on.wait(20)
        raise KeyError(key)
reranker = Reranker(base_url=url, api_key=key, cache=Cache(), max_concurrency=2,
                    max_documents_per_request=1)
def is_there():
    if moment == "a cache is read":
        return is_read.is_set()
    live = reranker._shared.live
    return moment == "all is opened" or live is not None and not live.gate.free
def use():
    assert len(reranker.rerank("red car", list("abcd"))) == 4
busy = [threading.Thread(target=use) for _ in range(2)]
for thread in busy:
    thread.start()
while not is_there():
    time.sleep(0.001)
child = os.fork()
if not child:
    faulthandler.dump_traceback_later(20, exit=True)
    use()
    assert reranker._shared.live.gate.free == 2
    sys.stderr.flush()
    os._exit(0)
go_on.set()
assert os.waitpid(child, 0)[1] == 0
for thread in busy:
    thread.join()
use()
"""


@pytest.mark.slow
@_forks
@pytest.mark.parametrize("moment", ["all is opened", "all turns are held", "a cache is read"])
def test_fork_in_the_middle_of_calls(silent, emulator, moment):
    """A child that is forked while other threads are at it is not held up.

    It asks for itself what they are asking for, has all turns, and may read the cache.
    """
    emulator.script(Reply(delay=0.1, repeat=None))

    silent(_FORK_BUSY, emulator.base_url, emulator.api_key, moment)


_FORK_LOGGING = """
import faulthandler, os, threading, time, warnings
from qwen_rerank._fork import no_fork
import logging
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
faulthandler.dump_traceback_later(10, exit=True)
is_held = threading.Event()

def open_slowly():
    with no_fork:
        is_held.set()
        time.sleep(0.2)
        logging.getLogger("of what is imported first")

thread = threading.Thread(target=open_slowly)
thread.start()
is_held.wait()
if not (child := os.fork()):
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""


@_forks
def test_fork_while_what_is_opened_logs(fresh):
    """A fork waits for what is being opened, and that does not wait for the fork to write a log."""
    fresh(_FORK_LOGGING)


# Pickles


def test_a_pickle_finds_a_key_when_it_is_called(monkeypatch, emulator, rank):
    """A key that is there by then is found, also after a call for which there was none."""
    again = pickle.loads(pickle.dumps(Reranker(api_key="sk-0123456789")))  # noqa: S301  ours
    with pytest.raises(errors.RequestError, match="DASHSCOPE_API_KEY"):
        rank(again, _QUERY, ["a"])

    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)

    assert len(rank(again, _QUERY, ["a"])) == 1


# What a process has no more of

_EXHAUSTED = """
import asyncio, logging, os, resource, sys
from qwen_rerank import AuthenticationError, Reranker, ServiceError
logging.disable()
url, key, when, colour = sys.argv[1:]
options = {"base_url": url, "api_key": key, "max_documents_per_request": 1}
reranker = Reranker(max_retries=0, **options)
loop = asyncio.new_event_loop()
short, counted = ["a", "b", "c"], ["green tea " * 20_000, "b", "c"]
def rank(texts, reranker=reranker):
    if colour == "sync":
        return reranker.rerank("a query", texts)
    return loop.run_until_complete(reranker.arerank("a query", texts))
if when == "warm":
    reranker.rerank("a query", ["a"])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
kept = []
try:
    while True:
        kept.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
lenient = reranker.with_options(on_error="passthrough", outage_pause=0)
for texts in (short, counted):
    try:
        rank(texts)
    except ServiceError as error:
        assert "Too many open files" in error.message, error
        assert "ulimit -n" in error.hint, error
    else:
        raise AssertionError
    assert [hit.index for hit in rank(texts, lenient)] == [0, 1, 2]
if when == "warm":  # the one connection that is open does for all of them
    assert len(rank(short, reranker.with_options(max_retries=9))) == 3
    try:
        lenient.with_options(api_key="sk-of-nobody").rerank("a query", ["a"])
    except AuthenticationError as error:  # whose hint takes a module that is read by now
        assert "api_key=" in error.hint
    else:
        raise AssertionError
for file in kept:
    os.close(file)
for texts in (short, counted):
    assert len(rank(texts)) == 3
loop.close()
reranker.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit here")
@pytest.mark.parametrize(("when", "colour"), [("cold", "sync"), ("warm", "async")])
def test_no_file_is_left_to_open(silent, emulator, when, colour):
    """A process that may open no more files is told so, whatever was to be opened, and recovers."""
    silent(_EXHAUSTED, emulator.base_url, emulator.api_key, when, colour)


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file descriptors in /proc")
def test_no_thread_is_left_to_start(reranker, rank, monkeypatch):
    """So is one that may start no more threads; it leaves nothing open, and recovers."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    rank(reranker, _QUERY, [])  # whose loop is open from here on
    monkeypatch.setattr(_loop, "_current", None)
    before = _open_files()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(errors.ServiceError, match="start no more threads"):
                rank(reranker, _QUERY, ["a"])

    assert _open_files() <= before
    assert len(rank(reranker, _QUERY, ["a"])) == 1
    reranker.close()
    _loop.engine().end()
