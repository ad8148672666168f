"""One object through everything that can happen to it: threads, loops, forks, copies, the end."""

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import json
import os
import pickle
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from qwen_rerank import Reranker, _drive, _loop, errors
from qwen_rerank.emulator import Reply

_QUERY = "a fast red sports car"
_DOCUMENTS = ["green tea", "the red car is fast", "", "sports in the city", "a fast red sports car"]
_MANY = [f"document {i} about a red car" for i in range(24)]
_PATIENCE = 30.0


class Service:
    """Answers in the native protocol after a while, and counts what it is asked at once."""

    def __init__(self, delay=0.02):
        self.delay = delay
        self.flying = self.peak = self.answered = 0
        self.wanted = 0  # hold every answer back until so many are in flight
        self.reached = threading.Event()
        self.ports = {}
        self._lock = threading.Lock()

    def __call__(self, server, connection):
        while (request := server.read(connection)).strip():
            body = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
            if not body:  # a HEAD of warm_up
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                continue
            with self._lock:
                self.flying += 1
                self.peak = max(self.peak, self.flying)
                port = connection.getpeername()[1]
                self.ports.setdefault(body["input"]["query"], set()).add(port)
                if self.wanted and self.flying >= self.wanted:
                    self.reached.set()
            if self.wanted:
                self.reached.wait(_PATIENCE)
            server.over.wait(self.delay)
            with self._lock:  # before the answer: the next request may come at once
                self.flying -= 1
                self.answered += 1
            documents = body["input"]["documents"]
            results = [{"index": i, "relevance_score": 1.0} for i in range(len(documents))]
            answer = json.dumps({"output": {"results": results}}).encode()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer)
            )

    def expect(self, width):
        """Answers nothing more until *width* requests are in flight at once."""
        self.peak, self.wanted = 0, width
        self.reached.clear()


def _until(true):
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


async def _seen(emulator, requests=1):
    """Returns when so many requests have arrived."""
    await asyncio.to_thread(_until, lambda: emulator.requests_seen >= requests)


def _all_together(*targets):
    """Runs functions in threads that start at the same moment; raises what one of them raised."""
    barrier = threading.Barrier(len(targets))
    results, failures = [None] * len(targets), []

    def run(place, target):
        try:
            barrier.wait(_PATIENCE)
            results[place] = target()
        except BaseException as error:  # noqa: BLE001  shown in the main thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * _PATIENCE)
    if failures:
        raise failures[0]
    return results


@pytest.fixture(name="at")
def _at(serve, make):
    """Makes a reranker that asks the given service, by default in requests of one document."""

    def at(service, **options):
        options = {"max_documents_per_request": 1, "max_retries": 0, **options}
        return make(base_url=f"http://{serve(service).address}/api/v1", **options)

    return at


@pytest.fixture(name="silent")
def _silent(fresh):
    """Runs a script in an interpreter of its own; it has to end well and say nothing on stderr."""
    return partial(fresh, silent=True)


def _through(answer):
    """An httpx transport of the caller's own; the status it answers with comes from a function."""

    def reply(request, status):
        count = len(json.loads(request.content)["input"]["documents"])
        results = [{"index": i, "relevance_score": 0.5} for i in range(count)]
        failed = {"code": "InvalidParameter", "message": "no"}
        return httpx.Response(
            status, json={"output": {"results": results}} if status == 200 else failed
        )

    async def awaited(request):
        return reply(request, await answer(request))

    is_async = inspect.iscoroutinefunction(answer)
    return httpx.MockTransport(awaited if is_async else lambda each: reply(each, answer(each)))


# Many threads, many loops


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
loop = asyncio.new_event_loop()
call = loop.create_task(ranks())
loop.run_until_complete(asyncio.sleep(0))
call.cancel()
loop.run_until_complete(asyncio.wait([call]))
loop.close()
assert ranked(0) == 1
""",
    "a loop that runs to the end": """
warnings.simplefilter("ignore", ResourceWarning)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
call = reranker.arerank("red car", ["a", "b"])
assert len(asyncio.run_coroutine_threadsafe(call, loop).result()) == 2
""",
    "a worker of a pool that was forked after use": """
reranker.rerank("red car", ["a"])
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(ranked, range(4)) == [1] * 4
assert ranked(0) == 1
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
    "a first call at the end": """
atexit.register(lambda: ranked(0) == 1 or os._exit(1))
""",
    "a call when all is over": """
class Late:
    def __del__(self):
        try:
            ranked(0)
        except RuntimeError:
            os.write(1, b"refused")
ranked(0)
builtins.late = Late()
""",
    "a fork inside a running loop": """
async def main():
    await reranker.arerank("red car", ["a"])
    if not (child := os.fork()):
        assert ranked(0) == 1
        gc.collect()
        atexit._run_exitfuncs()  # what the end of a child does, with the parent's loop still open
        sys.stderr.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    await reranker.arerank("red car", ["a"])
asyncio.run(main())
""",
    "a fork while a thread reads the cache": """
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
reading, go_on = threading.Event(), threading.Event()
parent = os.getpid()
class Cache(dict):
    def __getitem__(self, key):
        if os.getpid() == parent:
            reading.set()
            go_on.wait(20)
        raise KeyError(key)
reranker.cache = Cache()
busy = threading.Thread(target=ranked, args=(0,))
busy.start()
reading.wait(20)
child = os.fork()
if child:
    go_on.set()
else:
    faulthandler.dump_traceback_later(10, exit=True)
    assert ranked(1) == 1
    sys.stderr.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
busy.join()
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
import asyncio, atexit, builtins, contextlib, faulthandler, gc, multiprocessing, os
import signal, socket, sys, threading, warnings
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2])
def ranked(number):
    return len(reranker.rerank("red car", [f"car {number}"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file descriptors in /proc")
@pytest.mark.parametrize("life", _LIVES)
def test_lives(silent, emulator, life):
    """However a process and its loops live and end, it ranks, leaves nothing open, says nothing."""
    born = _BORN
    if life == "a first call at the end" and (3, 12) <= sys.version_info < (3, 12, 2):
        pytest.skip("Python 3.12.0 and 3.12.1 start no thread at the end of a process")
    if life in ("uvloop", "gevent"):
        pytest.importorskip(life)
    if life == "gevent":
        born = "from gevent import monkey\nmonkey.patch_all()\n" + born

    out = silent(born + _LIVES[life], emulator.base_url, emulator.api_key)

    assert out == ("refused" if life == "a call when all is over" else "")
    assert {seen.status for seen in emulator.log} <= {200, None}


async def test_sync_beside_async_calls_of_the_same_loop(reranker, emulator):
    """A sync call does not wait for async ones of the loop that it holds up itself."""
    reranker.max_concurrency, reranker.timeout = 1, 3.0
    emulator.script(Reply(delay=0.3))
    beside = asyncio.create_task(reranker.arerank(_QUERY, ["a"]))
    await _seen(emulator)

    assert len(reranker.rerank(_QUERY, ["b"])) == 1
    with contextlib.suppress(errors.DeadlineError):
        await beside
    await reranker.aclose()


# One limit


def test_one_limit_over_threads_and_loops(at):
    """max_concurrency holds over threads, event loops and what with_options gives together."""
    service = Service()
    reranker = at(service, max_concurrency=3, timeout=_PATIENCE)
    early = reranker.with_options(top_n=1)  # before any connection was open

    def rank(using=reranker):
        return len(using.rerank(_QUERY, _MANY))

    def arank(using=reranker):
        return len(asyncio.run(using.arerank(_QUERY, _MANY)))

    async def rank_in_a_loop():
        return rank()

    lengths = _all_together(
        *(rank, rank, arank, arank),
        *[lambda: asyncio.run(rank_in_a_loop())] * 2,
        lambda: rank(early),
        lambda: arank(reranker.with_options(top_n=2)),
    )

    assert lengths == [len(_MANY)] * 6 + [1, 2]
    assert service.answered == 8 * len(_MANY)
    assert 1 < service.peak <= 3


def test_an_assigned_limit(at, rank):
    """Another max_concurrency holds from the next call on, also for what with_options gave."""
    service = Service()
    reranker = at(service, max_concurrency=1)
    made = reranker.with_options(top_n=1)
    reranker.max_concurrency = 4
    service.expect(4)

    rank(made, _QUERY, _MANY)
    assert service.peak == 4

    reranker.max_concurrency = 2
    service.expect(2)
    rank(made, _QUERY, _MANY)
    assert service.peak == 2


def test_loops_that_were_broken_off(at):
    """Loops that are stopped in the middle of calls, and never closed, take no turn with them."""
    service = Service()
    service.expect(8)
    reranker = at(service, max_concurrency=8, timeout=_PATIENCE)
    loops = [asyncio.new_event_loop() for _ in range(9)]  # one more than there are turns
    for number, loop in enumerate(loops):
        loop.create_task(reranker.arerank(f"query {number}", ["a"]))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()

    service.reached.wait(_PATIENCE)
    service.expect(8)
    rankings = reranker.rerank(_QUERY, _MANY)

    assert len(rankings) == len(_MANY)
    assert service.peak == 8
    for loop in loops:
        loop.run_until_complete(_all_done(loop))
        loop.close()


async def _all_done(loop):
    others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    await asyncio.wait(others) if others else None


# Others with other options


def test_the_same_connection_with_other_options(at):
    """It asks over the connection that is open, and whoever closes it closes it for all."""
    service = Service()
    reranker = at(service)
    made = reranker.with_options(top_n=1)

    for query, asks in (("1", reranker), ("2", made), ("3", made.with_options()), ("4", reranker)):
        if query == "4":
            made.close()
        asks.rerank(query, ["a text"])

    first, second, third, fourth = (service.ports[str(number)] for number in (1, 2, 3, 4))
    assert first == second == third
    assert len(first) == 1
    assert fourth != first


def test_a_limit_that_is_shared(at):
    """One with other options cannot have another limit; a copy can."""
    made = at(Service(), max_concurrency=3).with_options(top_n=1)

    with pytest.raises(ValueError, match="max_concurrency: is a limit of the object"):
        made.max_concurrency = 4
    with pytest.raises(ValueError, match=r"model_copy\(update"):
        made.with_options(max_concurrency=4)
    assert made.model_copy(update={"max_concurrency": 4}).max_concurrency == 4


# Cancellation


async def test_a_cancelled_call_leaves_nothing_running(reranker, emulator):
    """After a call was cancelled no task is left, no more is sent, and the object works."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    await reranker.arerank(_QUERY, ["a"])
    emulator.clear()
    emulator.script(Reply(delay=5.0, repeat=None))

    call = asyncio.create_task(reranker.arerank(_QUERY, _MANY))
    await _seen(emulator, 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert asyncio.all_tasks() == {asyncio.current_task()}
    emulator.clear()  # of what it was still to send nothing may come
    assert len(await reranker.arerank(_QUERY, _MANY)) == len(emulator.log) == len(_MANY)
    await reranker.aclose()


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


# Failures of one among many


async def test_a_failure_ends_the_others_before_it_is_raised(connection):
    """When an async call fails, its other requests have ended by the time the caller knows."""
    started, ended = [], []

    async def answer(request):
        started.append(request)
        if len(started) == 3:
            return 400
        try:
            await asyncio.sleep(_PATIENCE)
        except asyncio.CancelledError:
            ended.append(request)
            raise LookupError from None  # which is not why the call failed

    async with httpx.AsyncClient(transport=_through(answer)) as client:
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


@pytest.mark.parametrize("turn", [1, 3])
async def test_a_request_that_is_cancelled_alone(connection, turn):
    """A client that cancels one request by itself ends the call: no document is left out."""
    turns = itertools.count(1)

    async def answer(_):
        if next(turns) == turn:
            raise asyncio.CancelledError
        return 200

    async with httpx.AsyncClient(transport=_through(answer)) as client:
        reranker = Reranker(**connection, async_http_client=client, max_documents_per_request=1)
        with pytest.raises(asyncio.CancelledError):
            await reranker.arerank(_QUERY, _MANY[:3])


# Threads


_user = contextvars.ContextVar("user", default="nobody")


def test_context_variables_reach_the_threads(connection):
    """What runs below a call sees the caller's context variables, as tracing relies on."""
    seen = []

    def answer(_):
        seen.append((_user.get(), threading.current_thread()))
        return 200

    def work(name):
        _user.set(name)
        reranker.rerank(_QUERY, _MANY)

    with httpx.Client(transport=_through(answer)) as client:
        reranker = Reranker(**connection, http_client=client, max_documents_per_request=1)
        _all_together(*(lambda name=name: work(name) for name in ("ann", "bob")))

    assert sorted(name for name, _ in seen) == ["ann"] * len(_MANY) + ["bob"] * len(_MANY)
    assert _user.get() == "nobody"


def test_threads_end_with_the_call(connection):
    """A call through a blocking client leaves none of its threads behind; ours is always one."""
    names = lambda: [each.name for each in threading.enumerate()]  # noqa: E731
    with httpx.Client() as client:
        Reranker(**connection, http_client=client, max_documents_per_request=1).rerank(
            _QUERY, _MANY
        )

    _until(lambda: "qwen-rerank-job" not in names())
    assert names().count("qwen-rerank") == 1


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


@pytest.fixture(name="throttled")
async def _throttled(reranker, emulator):
    """A reranker of which one call waits because the service asked for a long pause."""
    emulator.script(Reply.error(429, "Throttling.RateQuota", headers={"retry-after": "300"}))
    reranker.timeout = 600.0
    first = asyncio.create_task(reranker.arerank("first", ["a"]))
    await _seen(emulator)
    await asyncio.to_thread(_until, lambda: reranker._shared.live.gate._quiet_until)

    yield reranker

    first.cancel()
    await asyncio.wait([first], timeout=30)  # its pause is 300
    assert first.cancelled()


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_when_one_is_throttled_all_wait(throttled, emulator, colour):
    """While a service that throttled one call asks for a pause, no other of the object is sent."""
    hasty = throttled.with_options(timeout=5.0)
    other = hasty.arerank if colour == "async" else partial(asyncio.to_thread, hasty.rerank)

    with pytest.raises(errors.RateLimitError, match="longer pause than this call has time for"):
        await other("second", ["b"])

    assert len(emulator.log) == 1


@pytest.mark.parametrize("other", ["host", "key", "model"])
async def test_elsewhere_nobody_waits(throttled, emulator, other):
    """A limit is for one account and model: another host, key or model is asked meanwhile."""
    options = {
        "host": {"base_url": emulator.base_url.replace("127.0.0.1", "localhost")},
        "key": {"api_key": "sk-another-key-of-ours"},
        "model": {"model": "gte-rerank-v2"},
    }

    elsewhere = throttled.with_options(timeout=5.0, **options[other])
    with contextlib.suppress(errors.AuthenticationError):  # that key is none of the emulator's
        await elsewhere.arerank("second", ["b"])

    assert len(emulator.log) == 2


@pytest.mark.parametrize(("quiet", "latest"), [(4.0, 4.6), (1.0, 1.5)])
def test_after_a_pause_there_is_time_to_send(monkeypatch, quiet, latest):
    """Waits for another call's pause are spread, but no wider than half of the time after it."""
    chances = iter([0.0, 1.0])
    monkeypatch.setattr(_drive, "random", SimpleNamespace(random=lambda: next(chances)))

    waits = [_drive._apart(quiet, 5.2) for _ in range(2)]

    assert waits == pytest.approx([quiet, latest])


def test_after_a_pause_all_go_on(reranker, emulator, rank):
    """Nothing of a list is lost when one of its requests was throttled."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    emulator.script(Reply.error(429, "Throttling.RateQuota", headers={"retry-after-ms": "50"}))

    assert len(rank(reranker, _QUERY, _MANY[:4])) == 4
    assert len(emulator.log) == 5


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
def test_fork(silent, serve):
    """Forked after a warm-up or after use, each process ranks over connections of its own."""
    service = Service(delay=0.0)

    silent(_FORK, f"http://{serve(service).address}/api/v1")

    assert sorted(service.ports) == ["one", "parent", "two"]
    one, parent, two = (service.ports[name] for name in ("one", "parent", "two"))
    assert one.isdisjoint(parent | two)
    assert two.isdisjoint(parent)


_FORK_BUSY = """
import os, sys, threading, time
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key="sk-x", max_concurrency=2,
                    max_documents_per_request=1)
def is_at(moment):
    live = reranker._shared.live
    return moment == "opening" or live is not None and not live.gate.free
def use(who):
    assert len(reranker.rerank(who, list("abcdef"))) == 6
busy = [threading.Thread(target=use, args=("parent",)) for _ in range(4)]
for thread in busy:
    thread.start()
while not is_at(sys.argv[2]):
    time.sleep(0.001)
child = os.fork()
if not child:
    use("child")
    assert reranker._shared.live.gate.free == 2
    sys.stderr.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for thread in busy:
    thread.join()
use("parent")
assert reranker._shared.live.gate.free == 2
"""


@pytest.mark.slow
@_forks
@pytest.mark.parametrize("moment", ["opening", "all turns are held"])
def test_fork_in_the_middle_of_calls(silent, serve, moment):
    """A child that is forked while other threads open all, or hold all turns, is not held up."""
    service = Service(delay=0.1)

    silent(_FORK_BUSY, f"http://{serve(service).address}/api/v1", moment)

    assert not service.ports["child"] & service.ports["parent"]


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


def test_a_pickle_asks_for_a_key_when_it_is_called(monkeypatch, emulator, rank):
    """Without a key an object can be unpickled all the same; its first call asks for one."""
    reranker = Reranker(api_key="sk-0123456789", max_documents_per_request=3)
    again = pickle.loads(pickle.dumps(reranker))  # noqa: S301  our own pickle

    with pytest.raises(ValueError, match="DASHSCOPE_API_KEY"):
        rank(again, _QUERY, ["a"])
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)

    assert len(rank(again, _QUERY, ["a"])) == 1


# Closing


def test_closed_and_used_again(reranker):
    """Closing is not the end, whichever way and how often it is done."""

    async def both():
        await reranker.aclose()
        hits = (await reranker.arerank(_QUERY, _DOCUMENTS)).hits
        await reranker.aclose()
        return hits

    reranker.max_documents_per_request = 1
    expected = reranker.rerank(_QUERY, _DOCUMENTS).hits
    for _ in range(3):
        reranker.close()
        reranker.close()
        assert reranker.rerank(_QUERY, _DOCUMENTS).hits == expected
        assert asyncio.run(both()) == expected


# The end of the process

_EXHAUSTED = """
import asyncio, logging, os, resource, sys
from qwen_rerank import AuthenticationError, Reranker, ServiceError
logging.disable()
url, key, when, what, colour = sys.argv[1:]
options = {"base_url": url, "api_key": key, "max_documents_per_request": 1}
reranker = Reranker(max_retries=0, **options)
loop = asyncio.new_event_loop()
texts = {"short": ["a", "b", "c"], "counted": ["green tea " * 20_000, "b", "c"]}[what]
def rank(reranker=reranker):
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
try:
    rank()
except ServiceError as error:
    assert "Too many open files" in error.message, error
    assert "ulimit -n" in error.hint, error
else:
    raise AssertionError
lenient = reranker.with_options(on_error="passthrough", outage_pause=0)
assert [hit.index for hit in rank(lenient)] == [0, 1, 2]
if (when, what) == ("warm", "short"):  # the one connection that is open does for all of them
    assert len(rank(reranker.with_options(max_retries=9))) == 3
    try:
        lenient.with_options(api_key="sk-of-nobody").rerank("a query", ["a"])
    except AuthenticationError as error:  # whose hint takes a module that is read by now
        assert "api_key=" in error.hint
    else:
        raise AssertionError
for file in kept:
    os.close(file)
assert len(rank()) == 3
loop.close()
reranker.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit here")
@pytest.mark.parametrize(
    ("when", "what", "colour"),
    [
        ("cold", "short", "sync"),
        ("cold", "counted", "async"),
        ("warm", "short", "async"),
        ("warm", "counted", "sync"),
    ],
)
def test_no_file_is_left_to_open(silent, emulator, when, what, colour):
    """A process that may open no more files is told so, whatever was to be opened, and recovers."""
    silent(_EXHAUSTED, emulator.base_url, emulator.api_key, when, what, colour)


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
