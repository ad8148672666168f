"""The thread that serves all calls, by itself; `test_lifetimes.py` has it under rerankers."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from qwen_rerank import _loop

_user = contextvars.ContextVar("user", default="nobody")


@pytest.fixture(name="serve", params=["sync", "async"])
def _serve(request):
    """Has a coroutine function served, and waits for it in either way."""

    def serve(function):
        if request.param == "sync":
            return _loop.run(function)
        return asyncio.run(_loop.wait(function))

    return serve


async def _here(_):
    return threading.current_thread(), _user.get()


def test_one_thread_serves_all(serve):
    """Calls are served in one thread, which is none of the caller's and never ends by itself."""
    thread, _ = serve(_here)

    assert serve(_here)[0] is thread is not threading.current_thread()
    assert (thread.name, thread.daemon) == ("qwen-rerank", True)


def test_the_callers_context(serve):
    """What runs below a call sees the caller's context variables, and changes none of them."""

    async def look(caller):
        seen = (await _here(caller))[1]
        _user.set("somebody else")
        return seen

    token = _user.set("ann")
    assert serve(look) == "ann"
    assert _user.get() == "ann"
    _user.reset(token)


@pytest.mark.parametrize("kind", [LookupError, asyncio.CancelledError])
def test_what_is_raised_there(serve, kind):
    """An error comes out as it is."""

    async def fail(_):
        raise kind("mine")

    with pytest.raises(kind):
        serve(fail)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("aside", [True, False], ids=["in a thread", "on the loop"])
def test_what_would_end_the_loop(serve, kind, aside):
    """An exit out of a hook or a log handler reaches its caller, and the loop goes on."""

    def leave():
        raise kind("mine")

    async def serve_it(_):
        await asyncio.to_thread(leave) if aside else leave()

    thread, _ = serve(_here)
    with pytest.raises(kind, match="mine"):
        serve(serve_it)

    assert serve(_here)[0] is thread


def test_errands(serve):
    """The caller's own code runs where the caller is, and what it raises is raised where asked."""

    async def errand():
        return threading.get_ident()

    async def broken():
        raise LookupError

    async def ask(caller):
        if caller.awaits:
            return await caller.do(errand), await _failed(caller.do(broken))
        return await caller.do(threading.get_ident), await _failed(caller.do({}.popitem))

    assert serve(ask) == (threading.get_ident(), True)


async def _failed(errand):
    try:
        await errand
    except LookupError:
        return True
    return False


@pytest.mark.parametrize("where", ["on the engine", "in the caller's loop"])
async def test_cancelled_again_and_again(where):
    """Anyio cancels in each turn of the loop: a call has ended all the same when that is raised."""
    begun, ended = threading.Event(), []

    async def slowly_ended(_=None):
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append(True)

    def serve(caller):
        return slowly_ended() if where == "on the engine" else caller.do(slowly_ended)

    async def cancel():
        await asyncio.to_thread(begun.wait, 30)
        scope.cancel()

    with anyio.CancelScope() as scope:
        cancelling = asyncio.create_task(cancel())
        await _loop.wait(serve)
    await cancelling

    assert ended == [True]
    assert scope.cancelled_caught
    assert asyncio.current_task().cancelling() == 0


async def test_cancelled_as_it_ends():
    """A call that has ended, but for an errand that is still at it, is cancelled all the same."""
    begun, served, free = threading.Event(), threading.Event(), asyncio.Event()

    async def errand():
        begun.set()
        await free.wait()

    async def serve(caller):
        doing = asyncio.create_task(caller.do(errand))
        await asyncio.to_thread(begun.wait, 30)
        served.set()
        return doing

    call = asyncio.create_task(_loop.wait(serve))
    await asyncio.to_thread(served.wait, 30)
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.sleep(0.01)
    assert not call.done()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_soon():
    """What takes a moment is done once: in a thread, or here if none gets free in time."""
    over, threads = threading.Event(), []

    def note():
        threads.append(threading.current_thread())
        return "done"

    assert await _loop.soon(30, note) == "done"
    busy = [_loop.aside(over.wait, 30) for _ in range(_loop.engine().aside._max_workers)]
    assert await _loop.soon(0.01, note) == "done"
    waiting = asyncio.create_task(_loop.soon(30, note))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    over.set()
    await asyncio.gather(*busy)
    assert await _loop.soon(0, note) == "done"  # begun or not

    assert [thread is threading.current_thread() for thread in threads[:2]] == [False, True]
    assert len(threads) == 3


async def test_soon_where_no_thread_can_be_started(monkeypatch):
    """Then it is done here, and not once more by a thread that gets free."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    over, done = threading.Event(), []
    with ThreadPoolExecutor(2) as threads:
        threads.submit(over.wait, 30)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        await _loop.soon(30, done.append, threading.current_thread(), threads=threads)
        over.set()

    assert done == [threading.current_thread()]


@pytest.mark.parametrize("threads", ["ours", "ours-or-here", "the loop's", "the caller's"])
def test_stop_iteration(threads):
    """What code of the caller's raises is an error and ends the wait, if it is this one too."""

    async def fail(caller):
        async with asyncio.timeout(30):
            match threads:
                case "ours":
                    await _loop.aside(next, iter(()))
                case "ours-or-here":
                    await _loop.soon(30, next, iter(()))
                case "the loop's":
                    await asyncio.to_thread(next, iter(()))
                case _:
                    await caller.do(lambda: next(iter(())))

    with pytest.raises(RuntimeError, match=r"raised StopIteration, as next\(\) does") as caught:
        _loop.run(fail)

    assert isinstance(caught.value.__cause__, StopIteration)


def test_calls_within_calls():
    """An async one is served in the thread itself, and a sync one where a call has its caller.

    A sync call from code that runs in that thread is refused at once, and not waited for.
    """

    async def sync_within(_):
        return _loop.run(_here)

    async def async_within(_):
        return await _loop.wait(_here)

    async def errand_within(caller):
        return await caller.do(lambda: _loop.run(_here))

    thread, _ = _loop.run(_here)
    assert _loop.run(async_within)[0] is thread
    assert _loop.run(errand_within)[0] is thread
    with pytest.raises(RuntimeError, match="hand it to another thread"):
        _loop.run(sync_within)


def test_blocking_work_has_threads_without_end():
    """No look-up of a name waits because others take long."""
    over = threading.Event()

    async def many(_):
        slow = [asyncio.create_task(asyncio.to_thread(over.wait, 60)) for _ in range(50)]
        quick = await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 30)
        over.set()
        await asyncio.gather(*slow)
        return quick

    assert _loop.run(many) == "done"


async def test_many_calls_wake_a_loop_once(monkeypatch):
    """Calls that begin or end at the same time share a wake-up, of our loop and of their own.

    Each is served in the context of its caller all the same.
    """
    engine, here = _loop.engine(), asyncio.get_running_loop()
    is_held, go_on = threading.Event(), threading.Event()
    woken = []

    def hold():
        is_held.set()
        go_on.wait(5)

    for loop in (engine.loop, here):
        wake = loop.call_soon_threadsafe

        def count(function, *arguments, loop=loop, wake=wake):
            woken.append(loop)
            return wake(function, *arguments)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)

    async def call(number):
        _user.set(number)
        return await _loop.wait(_here)

    engine.loop.call_soon_threadsafe(hold)
    await asyncio.to_thread(is_held.wait, 5)
    woken.clear()
    calls = [asyncio.create_task(call(number)) for number in range(50)]
    await asyncio.sleep(0)
    go_on.set()

    assert await asyncio.gather(*calls) == [(engine.thread, number) for number in range(50)]
    assert [woken.count(loop) for loop in (engine.loop, here)] == [1, 1]
