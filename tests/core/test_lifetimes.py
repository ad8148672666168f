"""One object through everything that can happen to it: threads, loops, forks, copies, the end."""

import asyncio
import contextlib
import contextvars
import copy
import gc
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import warnings
from itertools import pairwise
from pathlib import Path

import cloudpickle
import httpx
import pytest

from qwen_rerank import Reranker, errors
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

    def settle(self):
        """Waits until nothing is in flight."""
        _until(lambda: not self.flying)

    def expect(self, width):
        """Answers nothing more until *width* requests are in flight at once."""
        self.peak, self.wanted = 0, width
        self.reached.clear()


def _until(true):
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


async def _seen(emulator):
    """Returns when a request has arrived."""
    await asyncio.to_thread(_until, lambda: emulator.log)


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


@pytest.fixture(name="reranker")
def _reranker(connection):
    with Reranker(**connection) as reranker:
        yield reranker


@pytest.fixture(name="at")
def _at(serve):
    """Makes a reranker that asks the given service, by default in requests of one document."""
    with contextlib.ExitStack() as stack:

        def at(service, **options):
            options = {"max_documents_per_request": 1, "max_retries": 0, **options}
            url = f"http://{serve(service).address}/api/v1"
            return stack.enter_context(Reranker(base_url=url, api_key="sk-x", **options))

        yield at


@pytest.fixture(name="silent")
def _silent(tmp_path):
    """Runs a script in an interpreter of its own; it has to end well and say nothing on stderr."""

    def run(script, *arguments, strict=True):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "COV_"))
        }
        done = subprocess.run(  # noqa: S603  our own script and interpreter
            [sys.executable, *(["-W", "error"] if strict else []), "-c", script, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An httpx transport of the caller's own, whose answers are worked out by a function."""

    def __init__(self, answer):
        self._answer = answer

    def handle_request(self, request):
        return self._reply(request, self._answer(request))

    async def handle_async_request(self, request):
        return self._reply(request, await self._answer(request))

    @staticmethod
    def _reply(request, status):
        count = len(json.loads(request.content)["input"]["documents"])
        results = [{"index": i, "relevance_score": 0.5} for i in range(count)]
        failed = {"code": "InvalidParameter", "message": "no"}
        return httpx.Response(
            status, json={"output": {"results": results}} if status == 200 else failed
        )


# Many threads, many loops


def test_sixteen_threads_at_once(connection):
    """A fresh object may be used by sixteen threads from its first call on."""
    queries = [f"{_QUERY} {number}" for number in range(16)]
    with Reranker(**connection, max_documents_per_request=2) as reranker:
        rankings = _all_together(
            *(lambda query=query: reranker.rerank(query, _DOCUMENTS) for query in queries)
        )

        assert [ranking.hits for ranking in rankings] == [
            reranker.rerank(query, _DOCUMENTS).hits for query in queries
        ]


def test_event_loops_in_threads_at_once(connection):
    """Threads with an event loop each share an object, several calls in flight in every loop."""

    async def ask():
        return await asyncio.gather(*(reranker.arerank(_QUERY, _DOCUMENTS) for _ in range(3)))

    with Reranker(**connection, max_documents_per_request=2) as reranker:
        answers = _all_together(*[lambda: asyncio.run(ask())] * 6)
        expected = reranker.rerank(_QUERY, _DOCUMENTS).hits

    assert [ranking.hits for loop in answers for ranking in loop] == [expected] * 18


_FIFTY_LOOPS = """
import asyncio, os, sys
from qwen_rerank import Reranker
base_url, key = sys.argv[1:]
reranker = Reranker(base_url=base_url, api_key=key, max_documents_per_request=1)
counts = []
for _ in range(50):
    asyncio.run(reranker.arerank("red car", ["a", "b car"]))
    counts.append(len(os.listdir("/proc/self/fd")))
assert max(counts[3:]) == min(counts[3:]), counts
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file descriptors in /proc")
def test_fifty_event_loops_in_a_row(silent, emulator):
    """One asyncio.run after another leaves neither open files nor a word on stderr behind."""
    silent(_FIFTY_LOOPS, emulator.base_url, emulator.api_key)

    assert len(emulator.log) == 100


# Each is a process of its own, whose warnings are errors and whose stderr has to stay empty.
_LIVES = {
    "loops closed by hand": """
counts = []
for _ in range(12):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(reranker.arerank("red car", ["a", "b"]))
    loop.close()
    counts.append(len(os.listdir("/proc/self/fd")))
assert len(set(counts[2:])) == 1, counts
""",
    "loops never closed": """
warnings.simplefilter("ignore", ResourceWarning)  # which is what Python itself says of them
counts = []
for _ in range(12):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(reranker.arerank("red car", ["a", "b"]))
    del loop
    gc.collect()
    counts.append(len(os.listdir("/proc/self/fd")))
assert max(counts[2:]) <= counts[0] + 3, counts
""",
    "forgotten before its loop": """
loop = asyncio.new_event_loop()
loop.run_until_complete(reranker.arerank("red car", ["a"]))
del reranker
gc.collect()
loop.close()
""",
    "forgotten after its loop": """
loop = asyncio.new_event_loop()
loop.run_until_complete(reranker.arerank("red car", ["a"]))
loop.close()
del loop, reranker
gc.collect()
""",
    "a call that its loop was closed over": """
loop = asyncio.new_event_loop()
call = loop.create_task(reranker.arerank("red car", ["a"]))
loop.run_until_complete(asyncio.sleep(0))
call.cancel()
loop.run_until_complete(asyncio.wait([call]))
loop.close()
assert len(reranker.rerank("red car", ["a"])) == 1
""",
    "a worker of a pool that was forked after use": """
reranker.rerank("red car", ["a"])
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(ranked, range(4)) == [1] * 4
assert ranked(0) == 1
""",
    "threads of an executor": """
with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(ranked, range(40))) == [1] * 40
""",
    "a daemon thread in the middle of calls": """
threading.Thread(target=lambda: [ranked(each) for each in range(10**6)], daemon=True).start()
time.sleep(0.3)
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
jobs = [gevent.spawn(ranked, each) for each in range(5)]
gevent.joinall(jobs)
assert [job.value for job in jobs] == [1] * 5
""",
}
_BORN = """
import asyncio, atexit, builtins, gc, multiprocessing, os, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
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


_INTERRUPTED = """
import os, signal, socket, sys, threading, time
from qwen_rerank import Reranker
signal.signal(signal.SIGINT, signal.default_int_handler)
with socket.create_server(("127.0.0.1", 0)) as silent:
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    reranker = Reranker(base_url=url, api_key="sk-x", timeout=60, max_documents_per_request=1)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        reranker.rerank("red car", list("abc"))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
def test_an_interrupted_process_ends(silent):
    """Ctrl-C ends a call at once, and the process is not held up by what was under way."""
    started = time.monotonic()

    assert silent(_INTERRUPTED) == "interrupted\n"
    assert time.monotonic() - started < 30


async def test_sync_inside_a_running_loop(reranker):
    """The sync call can be made where a loop is running, for a list of many requests too."""
    reranker.max_documents_per_request = 1
    ranking = await reranker.arerank(_QUERY, _DOCUMENTS)

    assert reranker.rerank(_QUERY, _DOCUMENTS).hits == ranking.hits
    await reranker.aclose()


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
    """max_concurrency holds over all threads and event loops together, and is made use of."""
    service = Service()
    reranker = at(service, max_concurrency=3)

    def rank():
        return reranker.rerank(_QUERY, _MANY)

    def arank():
        return asyncio.run(reranker.arerank(_QUERY, _MANY))

    rankings = _all_together(rank, rank, rank, rank, arank, arank)

    assert [len(ranking) for ranking in rankings] == [len(_MANY)] * 6
    assert service.answered == 6 * len(_MANY)
    assert 1 < service.peak <= 3


def test_one_limit_over_sync_calls_inside_loops(at):
    """It holds for sync calls that are made inside running loops of several threads, too."""
    service = Service()
    reranker = at(service, max_concurrency=3)

    async def rank():
        return reranker.rerank(_QUERY, _MANY[:12])

    rankings = _all_together(*[lambda: asyncio.run(rank())] * 4)

    assert [len(ranking) for ranking in rankings] == [12] * 4
    assert 1 < service.peak <= 3


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_one_call_uses_the_whole_width(at, colour):
    """The requests of one call run at the same time, as many as allowed and no more."""
    service = Service()
    service.expect(5)
    reranker = at(service, max_concurrency=5)

    if colour == "sync":
        reranker.rerank(_QUERY, _MANY)
    else:
        asyncio.run(reranker.arerank(_QUERY, _MANY))

    assert service.peak == 5


def test_no_turn_is_lost(at, serve):
    """After any mixture of cancellations and timeouts the full width is there again."""
    chance = random.Random(7)  # noqa: S311  no secret
    service = Service(delay=0.01)
    reranker = at(service, max_concurrency=3)

    async def cancelled():
        for _ in range(12):
            calls = [asyncio.create_task(reranker.arerank(_QUERY, _MANY[:6])) for _ in range(3)]
            for call in calls:
                await asyncio.sleep(chance.random() * 0.015)
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    def late():
        for _ in range(8):
            with contextlib.suppress(errors.DeadlineError):
                reranker.rerank(_QUERY, _MANY[:6])

    reranker.timeout = 0.04
    _all_together(late, late, lambda: asyncio.run(cancelled()), lambda: asyncio.run(cancelled()))
    # Another service, on its way to which there is no request that was given up.
    service = Service(delay=0.01)
    reranker.base_url = f"http://{serve(service).address}/api/v1"
    reranker.timeout = _PATIENCE

    service.expect(3)
    reranker.rerank(_QUERY, _MANY)
    assert service.peak == 3
    service.expect(3)
    asyncio.run(reranker.arerank(_QUERY, _MANY))
    assert service.peak == 3


def test_an_assigned_limit(at):
    """Another max_concurrency holds from the next call on."""
    service = Service()
    reranker = at(service, max_concurrency=1)
    reranker.rerank(_QUERY, _MANY[:4])
    assert service.peak == 1
    reranker.max_concurrency = 4
    service.expect(4)

    reranker.rerank(_QUERY, _MANY)

    assert service.peak == 4


def test_an_assigned_limit_with_other_options(at):
    """It holds for what with_options gave before, whoever of them calls first."""
    service = Service()
    reranker = at(service, max_concurrency=1)
    made = reranker.with_options(top_n=1)
    reranker.max_concurrency = 4
    service.expect(4)

    made.rerank(_QUERY, _MANY)
    assert service.peak == 4

    reranker.max_concurrency = 2
    service.expect(2)
    made.rerank(_QUERY, _MANY)
    assert service.peak == 2


def test_a_limit_that_is_assigned_while_others_call(at):
    """Never are more in flight than the larger of two limits, and afterwards all of the last."""
    service = Service(delay=0.005)
    reranker = at(service, max_concurrency=2, timeout=_PATIENCE)

    def rank():
        return len(reranker.rerank(_QUERY, _MANY))

    def arank():
        return len(asyncio.run(reranker.arerank(_QUERY, _MANY)))

    def assign():
        for width in (5, 1, 3, 5, 2):
            reranker.max_concurrency = width
            assert rank() == len(_MANY)

    _all_together(rank, arank, rank, arank, assign)
    assert 2 < service.peak <= 5

    for width in (6, 3):
        reranker.max_concurrency = width
        service.expect(width)
        rank()
        assert service.peak == width


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


_FORK_WITH_EMULATOR = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
from qwen_rerank import Reranker
from qwen_rerank.emulator import Emulator
def ranked(reranker):
    return len(reranker.rerank("red car", [f"car {each}" for each in range(24)]))
def check(emulator, reranker):
    assert ranked(reranker) == 24
    assert reranker._shared.live.gate.free == reranker.max_concurrency == 4
with Emulator() as emulator:
    reranker = Reranker(base_url=emulator.base_url, api_key=emulator.api_key, max_concurrency=4,
                        max_documents_per_request=1)
    busy = [threading.Thread(target=ranked, args=(reranker,)) for _ in range(4)]
    for thread in busy:
        thread.start()
    while emulator.requests_seen < 8:
        time.sleep(0.001)
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            check(emulator, reranker)
            with Emulator() as own:
                check(own, reranker.model_copy(update={"base_url": own.base_url,
                                                       "api_key": own.api_key}))
            sys.stderr.flush()
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    for thread in busy:
        thread.join()
    check(emulator, reranker)
    reranker.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_with_an_emulator_in_the_process(silent):
    """Beside an emulator of the same process, parent and children have the full width after."""
    silent(_FORK_WITH_EMULATOR)


# Others with other options


def test_one_limit_with_other_options(at):
    """What with_options gives shares the limit of requests in flight, over threads and loops."""
    service = Service()
    reranker = at(service, max_concurrency=3)
    early = reranker.with_options(top_n=1)  # before any connection was open

    def rank():
        return reranker.with_options(top_n=2, timeout=_PATIENCE).rerank(_QUERY, _MANY)

    def arank():
        return asyncio.run(early.with_options(top_n=3).arerank(_QUERY, _MANY))

    whole = lambda: reranker.rerank(_QUERY, _MANY)  # noqa: E731  one of four
    rankings = _all_together(whole, rank, arank, lambda: early.rerank(_QUERY, _MANY))

    assert [len(ranking) for ranking in rankings] == [len(_MANY), 2, 3, 1]
    assert service.answered == 4 * len(_MANY)
    assert 1 < service.peak <= 3


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
    """After asyncio.wait_for gave up no task is left, no more is sent, and the object works."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    await reranker.arerank(_QUERY, ["a"])
    emulator.clear()
    emulator.script(Reply(delay=5.0, repeat=None))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reranker.arerank(_QUERY, _MANY), 0.3)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    sent = len(emulator.log)
    await asyncio.sleep(0.3)
    assert len(emulator.log) == sent == 2
    emulator.clear()
    assert len(await reranker.arerank(_QUERY, _MANY)) == len(_MANY)
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


async def test_cancelled_while_queueing(reranker, emulator):
    """A call that is cancelled before its turn was never sent, and takes nobody's turn."""
    reranker.max_concurrency = 1
    emulator.script(Reply(delay=0.5))
    first = asyncio.create_task(reranker.arerank("first", ["a"]))
    await _seen(emulator)
    second = asyncio.create_task(reranker.arerank("second", ["a"]))
    third = asyncio.create_task(reranker.arerank("third", ["a"]))
    await asyncio.sleep(0.05)
    second.cancel()

    await asyncio.gather(first, third)
    await reranker.aclose()

    assert second.cancelled()
    assert [seen.body["input"]["query"] for seen in emulator.log] == ["first", "third"]


async def test_a_retry_can_be_cancelled(reranker, emulator):
    """A call that waits to try again ends at once when it is cancelled."""
    emulator.script(Reply.error(429, "Throttling.RateQuota", headers={"retry-after": "20"}))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reranker.arerank(_QUERY, ["a"]), 0.4)

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(emulator.log) == 1
    await reranker.aclose()


# Failures of one among many


@pytest.mark.parametrize("latency", [0.05, 0.0])
async def test_a_failure_ends_the_others_before_it_is_raised(connection, latency):
    """When an async call fails, its other requests have ended by the time the caller knows."""
    started, ended = [], []

    async def answer(request):
        started.append(request)
        if len(started) == 3:
            if latency:
                await asyncio.sleep(latency)
            return 400
        try:
            await asyncio.sleep(_PATIENCE)
        finally:
            ended.append(request)

    async with httpx.AsyncClient(transport=Wire(answer)) as client:
        reranker = Reranker(
            **connection, async_http_client=client, max_documents_per_request=1, max_concurrency=3
        )
        with pytest.raises(errors.RequestError):
            await reranker.arerank(_QUERY, _MANY)

        assert len(ended) == 2
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(started) == 3


def test_nothing_is_sent_after_a_failure(reranker, emulator):
    """When a sync call fails, its other requests have ended by then, as those of an async one."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 3
    emulator.script(
        Reply(), Reply(delay=0.5), Reply.error(400, "InvalidParameter"), Reply(delay=0.5)
    )

    with pytest.raises(errors.RequestError):
        reranker.rerank(_QUERY, _MANY)

    sent = len(emulator.log)
    time.sleep(0.2)
    assert len(emulator.log) == sent <= 4


@pytest.mark.slow
def test_nothing_is_repeated_after_a_failure(reranker, emulator):
    """A request that waits to be sent again is given up when another one has failed for good."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    again = {"retry-after-ms": "600"}
    emulator.script(
        # Both are on their way before the first is answered.
        Reply.error(429, "Throttling.RateQuota", headers=again, delay=0.2),
        Reply.error(400, "InvalidParameter", delay=0.4),
    )

    with pytest.raises(errors.RequestError):
        reranker.rerank(_QUERY, ["a", "b"])

    time.sleep(1.0)
    assert len(emulator.log) == 2


@pytest.mark.slow
def test_the_failure_itself_is_raised(connection):
    """What the caller gets is the failure, never what its other requests made of it."""
    interval, kinds = sys.getswitchinterval(), set()
    with httpx.Client(transport=Wire(lambda _: 400)) as client:
        reranker = Reranker(**connection, http_client=client, max_documents_per_request=1)
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(400):
                try:
                    reranker.rerank(_QUERY, _MANY[:16])
                except Exception as error:  # noqa: BLE001  its kind is the question
                    kinds.add(type(error))
        finally:
            sys.setswitchinterval(interval)

    assert kinds == {errors.RequestError}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_foreign_mistake_in_one_of_many(connection, colour):
    """An error of the caller's own client comes out as it is, however many requests there are."""

    def broken(_):
        raise LookupError("mine")

    async def abroken(_):
        raise LookupError("mine")

    reranker = Reranker(
        **connection,
        max_documents_per_request=1,
        http_client=httpx.Client(transport=Wire(broken)),
        async_http_client=httpx.AsyncClient(transport=Wire(abroken)),
    )
    call = reranker.rerank
    if colour == "async":

        def call(*arguments):
            return asyncio.run(reranker.arerank(*arguments))

    with pytest.raises(LookupError, match="mine"):
        call(_QUERY, _MANY)


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

    with httpx.Client(transport=Wire(answer)) as client:
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


# Throttling


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_when_one_is_throttled_all_wait(reranker, emulator, colour):
    """A 429 with a pause holds back the other requests of the object too, and nothing is lost."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    arrivals = []

    def answer(_):
        arrivals.append(time.monotonic())
        if len(arrivals) == 1:
            return Reply.error(429, "Throttling.RateQuota", headers={"retry-after-ms": "800"})
        return Reply(delay=0.2)

    emulator.script(*[answer] * 7)

    if colour == "sync":
        ranking = reranker.rerank(_QUERY, _MANY[:6])
    else:
        ranking = asyncio.run(reranker.arerank(_QUERY, _MANY[:6]))

    assert len(ranking) == 6
    assert len(arrivals) == 7
    gaps = [later - one for one, later in pairwise(arrivals)]
    pause = gaps.index(max(gaps))
    assert pause <= 2  # those that were on their way
    assert arrivals[pause + 1] - arrivals[0] >= 0.8


@pytest.mark.slow
def test_another_call_waits_too(reranker, emulator):
    """So does a call that another thread makes with the same object meanwhile."""
    throttled = threading.Event()
    arrivals = []

    def answer(_):
        arrivals.append(time.monotonic())
        throttled.set()
        return Reply.error(429, "Throttling.RateQuota", headers={"retry-after-ms": "700"})

    def other():
        assert throttled.wait(_PATIENCE)
        time.sleep(0.2)
        reranker.rerank("second", ["b"])
        return time.monotonic()

    emulator.script(answer)

    _, ended = _all_together(lambda: reranker.rerank("first", ["a"]), other)

    assert ended - arrivals[0] >= 0.7


# Fork

_FORK = """
import asyncio, os, sys
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key="sk-x", max_documents_per_request=1)
def use(who):
    for _ in range(2):
        assert len(reranker.rerank(who, ["a", "b", "c"])) == 3
        assert len(asyncio.run(reranker.arerank(who, ["a", "b", "c"]))) == 3
if sys.argv[2] == "used":
    use("parent")
else:
    reranker.warm_up()  # as a server that loads its application before it forks its workers
    asyncio.run(reranker.awarm_up())
children = {}
for name in ("one", "two"):
    if not (child := os.fork()):
        use(name)
        sys.exit(0)
    children[child] = name
use("parent")
while children:
    child, status = os.wait()
    assert status == 0, (children[child], status)
    del children[child]
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("before", ["used", "warmed up"])
def test_fork(silent, serve, before):
    """After a fork, preload of a server included, each process ranks over its own connections."""
    service = Service(delay=0.0)
    server = serve(service)

    silent(_FORK, f"http://{server.address}/api/v1", before)

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
busy = [threading.Thread(target=reranker.rerank, args=("parent", list("abcdef"))) for _ in range(4)]
for thread in busy:
    thread.start()
time.sleep(float(sys.argv[2]))
child = os.fork()
if not child:
    assert len(reranker.rerank("child", ["a", "b", "c"])) == 3
    sys.stderr.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for thread in busy:
    thread.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("after", [0.03, 0.1, 0.5])
def test_fork_in_the_middle_of_calls(silent, serve, after):
    """A child that is forked while other threads open all, or hold all turns, is not held up."""
    service = Service(delay=0.1)
    server = serve(service)

    silent(_FORK_BUSY, f"http://{server.address}/api/v1", str(after))

    assert not service.ports["child"] & service.ports["parent"]


_FORK_IN_LOOP = """
import asyncio, gc, os, sys
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2])
async def main():
    await reranker.arerank("red car", ["a"])
    child = os.fork()
    if not child:
        assert len(reranker.rerank("red car", ["a"])) == 1
        gc.collect()
        sys.stderr.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    await reranker.arerank("red car", ["a"])
asyncio.run(main())
"""


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_while_what_is_opened_logs(fresh):
    """A fork waits for what is being opened, and that does not wait for the fork to write a log."""
    fresh(_FORK_LOGGING)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_inside_a_running_loop(silent, emulator):
    """A child forked from a coroutine, as multiprocessing does, ranks and says nothing."""
    silent(_FORK_IN_LOOP, emulator.base_url, emulator.api_key)

    assert [seen.status for seen in emulator.log] == [200] * 3


_FORK_CACHE = """
import faulthandler, os, sys, threading
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
from qwen_rerank import Reranker
reading, go_on = threading.Event(), threading.Event()
class Cache(dict):
    def __getitem__(self, key):
        reading.set()
        go_on.wait(20)
        raise KeyError(key)
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2], cache=Cache())
busy = threading.Thread(target=reranker.rerank, args=("red car", ["a"]))
busy.start()
reading.wait(20)
child = os.fork()
go_on.set()
if not child:
    faulthandler.dump_traceback_later(10, exit=True)
    assert len(reranker.rerank("red car", ["b"])) == 1
    sys.stderr.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
busy.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_while_the_cache_is_read(silent, emulator):
    """A child that is forked while another thread reads the cache is not held up by that."""
    silent(_FORK_CACHE, emulator.base_url, emulator.api_key)

    assert [seen.status for seen in emulator.log] == [200] * 2


_FORK_LOOP = """
import asyncio, atexit, os, sys
from qwen_rerank import Reranker
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2], timeout=5.0, max_retries=0)
with asyncio.Runner() as runner:
    runner.run(reranker.arerank("red car", ["a"]))
    child = os.fork()
    if not child:
        atexit._run_exitfuncs()  # what the end of a child does, with the parent's loop still open
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(2):
        runner.run(reranker.arerank("red car", ["a"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_end_of_a_child_is_not_the_end_of_the_parent(silent, emulator):
    """A forked process that ends leaves the connections of the parent's open loop alone."""
    silent(_FORK_LOOP, emulator.base_url, emulator.api_key)

    assert [seen.status for seen in emulator.log] == [200] * 3


# Copies and pickles


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda one: one.model_copy()])
def test_copies_keep_the_key(reranker, emulator, how):
    """A copy of a used object has its key and options, and lives on after the original."""
    reranker.top_n = 2
    expected = reranker.rerank(_QUERY, _DOCUMENTS).hits

    other = how(reranker)
    reranker.close()

    assert other.rerank(_QUERY, _DOCUMENTS).hits == expected
    assert asyncio.run(other.arerank(_QUERY, _DOCUMENTS)).hits == expected
    other.close()
    assert [seen.status for seen in emulator.log] == [200] * 3


def test_copies_are_independent(reranker, emulator):
    """An option assigned to a copy is not the original's."""
    other = copy.deepcopy(reranker)
    other.top_n, other.api_key = 1, "sk-other-0123456789"

    assert len(reranker.rerank(_QUERY, _DOCUMENTS)) == len(_DOCUMENTS)
    with pytest.raises(errors.AuthenticationError):
        other.rerank(_QUERY, _DOCUMENTS)
    other.close()
    assert len(emulator.log) == 2


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
async def test_pickles_drop_what_lives(monkeypatch, connection, emulator, pickler):
    """A pickle keeps the options, but no key, client or cache; the key is found where it lands."""
    async with httpx.AsyncClient() as other:
        with httpx.Client() as client:
            clients = {"http_client": client, "async_http_client": other}
            reranker = Reranker(**connection, **clients, top_n=2, cache={})
            expected = reranker.rerank(_QUERY, _DOCUMENTS).hits
            pickled = pickler.dumps(reranker)

    again = pickle.loads(pickled)  # noqa: S301  our own pickle
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    assert emulator.api_key.encode() not in pickled
    assert (again.cache, again.http_client, again.async_http_client) == (None, None, None)
    assert (again.api_key, again.top_n) == (None, 2)
    with again:
        assert again.rerank(_QUERY, _DOCUMENTS).hits == expected
    assert len(emulator.log) == 2


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_unpickling_never_fails(monkeypatch, emulator, pickler):
    """Without a key an object can be unpickled all the same; its first call asks for one."""
    pickled = pickler.dumps(Reranker(api_key="sk-0123456789", max_documents_per_request=3))
    again = pickle.loads(pickled)  # noqa: S301  our own pickle

    with pytest.raises(ValueError, match="DASHSCOPE_API_KEY"):
        again.rerank(_QUERY, ["a"])
    with pytest.raises(ValueError, match="DASHSCOPE_API_KEY"):
        asyncio.run(again.arerank(_QUERY, ["a"]))
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)

    assert len(again.rerank(_QUERY, ["a"])) == 1
    assert len(asyncio.run(again.arerank(_QUERY, ["a"]))) == 1
    again.close()


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


@pytest.mark.slow
def test_closed_by_one_thread_while_others_call(connection):
    """A thread that closes the object does not break the calls of the others."""
    reranker = Reranker(**connection, max_documents_per_request=1, timeout=5.0)
    over = threading.Event()

    def close():
        while not over.is_set():
            reranker.close()
            time.sleep(0.002)

    def call():
        try:
            for _ in range(6):
                reranker.rerank(_QUERY, _DOCUMENTS)
        finally:
            over.set()

    _all_together(close, call, call)
    reranker.close()


async def test_closed_by_one_task_while_others_call(connection, emulator):
    """Nor does a task that leaves `async with` break the calls of the others."""
    reranker = Reranker(**connection)
    emulator.script(Reply(delay=0.3))
    call = asyncio.create_task(reranker.arerank(_QUERY, ["a"]))
    await _seen(emulator)

    await reranker.aclose()

    assert len(await call) == 1
    await reranker.aclose()


def test_a_forgotten_object_closes_its_connections(connection):
    """An object that is dropped without being closed leaves no warning behind."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        reranker = Reranker(**connection, max_documents_per_request=1)
        reranker.rerank(_QUERY, _DOCUMENTS)
        asyncio.run(reranker.arerank(_QUERY, _DOCUMENTS))
        del reranker
        gc.collect()

    assert [str(warning.message) for warning in seen] == []


# The end of the process

_END_OPEN = """
import asyncio, sys, threading
from qwen_rerank import Reranker
base_url, key, how = sys.argv[1:]
reranker = Reranker(base_url=base_url, api_key=key, max_documents_per_request=1)
reranker.rerank("red car", ["a", "b"])
if how == "run":
    asyncio.run(reranker.arerank("red car", ["a", "b"]))
elif how == "open loop":
    loop = asyncio.new_event_loop()
    loop.run_until_complete(reranker.arerank("red car", ["a", "b"]))
elif how == "running loop":
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(reranker.arerank("red car", ["a", "b"]), loop).result()
print("ranked")
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sync", "run", "open loop", "running loop"])
def test_exit_with_an_open_object(silent, emulator, how):
    """A process that ends without closing anything says nothing about it."""
    # An event loop that nobody closes is warned of by Python itself.
    out = silent(
        _END_OPEN, emulator.base_url, emulator.api_key, how, strict=not how.endswith("loop")
    )

    assert out == "ranked\n"


_END_BUSY = """
import asyncio, sys
from qwen_rerank import Reranker, RerankError
base_url, key, colour = sys.argv[1:]
reranker = Reranker(base_url=base_url, api_key=key, max_documents_per_request=1, max_concurrency=2)
try:
    if colour == "sync":
        reranker.rerank("red car", list("abcdef"))
    else:
        asyncio.run(reranker.arerank("red car", list("abcdef")))
except RerankError as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_exit_while_a_request_is_under_way(silent, emulator, colour):
    """A process may end while a request of a failed call is still under way."""
    emulator.script(Reply(delay=1.5), Reply.error(400, "InvalidParameter", delay=0.2))

    out = silent(_END_BUSY, emulator.base_url, emulator.api_key, colour)

    assert out == "RequestError\n"
    assert len(emulator.log) == 2


_EXHAUSTED = """
import asyncio, logging, os, resource, sys
from qwen_rerank import Reranker, ServiceError
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
for file in kept:
    os.close(file)
assert len(rank()) == 3
loop.close()
reranker.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit here")
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("what", ["short", "counted"])
@pytest.mark.parametrize("when", ["cold", "warm"])
def test_no_file_is_left_to_open(silent, emulator, when, what, colour):
    """A process that may open no more files is told so, whatever was to be opened, and recovers."""
    silent(_EXHAUSTED, emulator.base_url, emulator.api_key, when, what, colour)


_NO_THREADS = """
import asyncio, logging, sys, threading
from qwen_rerank import Reranker, ServiceError
logging.disable()
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2])
loop = asyncio.new_event_loop()
ways = [
    lambda: reranker.rerank("a query", ["a"]),
    lambda: loop.run_until_complete(reranker.arerank("a query", ["a"])),
]
def refused(_):
    raise RuntimeError("can't start new thread")
start, threading.Thread.start = threading.Thread.start, refused
for rank in ways:
    try:
        rank()
    except ServiceError as error:
        assert "start no more threads" in error.message, error
    else:
        raise AssertionError
threading.Thread.start = start
for rank in ways:
    assert len(rank()) == 1
loop.close()
reranker.close()
"""


@pytest.mark.slow
def test_no_thread_is_left_to_start(silent, emulator):
    """So is one that may start no more threads."""
    silent(_NO_THREADS, emulator.base_url, emulator.api_key)
