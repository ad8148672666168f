"""Whatever is raised in the middle of a call costs no turn, no lock and no connection."""

import asyncio
import contextvars
import sys
import threading
from functools import partial

import pytest

from qwen_rerank import Reranker, _drive, _loop, _turns
from qwen_rerank._prepare import prepare
from qwen_rerank._turns import turn_at
from qwen_rerank.reranker import BaseReranker

_QUERY = "a fast red sports car"
_TEXTS = ["green tea", "the red car is fast", "sports in the city", "red"]
_OF_CALLS = {BaseReranker._once.__name__, BaseReranker._sent.__name__}
_EVENTS = ("call", "c_return")  # where a signal that has come is looked at

_TIDYING = ("__del__", "gc_callback")  # which hypothesis has at each collection of garbage
_one = pytest.mark.parametrize("several", [False, True], ids=["one request", "several"])


class _Struck(BaseException):
    """What a signal's handler raises."""


class _Lightning:
    """Raises at the point of that number where a signal could be handled, in one thread."""

    def __init__(self, number):
        self.left = number

    def __call__(self, frame, event, argument):
        if event in _EVENTS and argument is not sys.setprofile:
            self.left -= 1
            if self.left == 0:
                if _is_told_nobody(frame):
                    self.left = 1  # it is the next point's turn
                    return
                sys.setprofile(None)
                raise _Struck


def _is_told_nobody(frame):
    """Whether what is raised there is, because Python tidies up or gives up a generator."""
    if frame.f_code.co_name == "<genexpr>":
        return True
    while frame is not None:
        code = frame.f_code
        if (
            code.co_filename.endswith(("/weakref.py", "/_weakrefset.py"))
            or code.co_name in _TIDYING
        ):
            return True
        frame = frame.f_back
    return False


@pytest.fixture(name="make")
def _make(connection):
    """Makes rerankers, with a cache and a rate limiter as few as there may be."""

    class Paced(Reranker):
        @property
        def _pace(self):
            return _Pace()

    def make(*, several):
        options = {"max_documents_per_request": 1} if several else {}
        return Paced(
            **connection, cache=_Cache(), max_concurrency=2, max_retries=0, timeout=5.0, **options
        )

    return make


class _Cache:
    """Remembers nothing, so that every call is sent."""

    def __getitem__(self, key):
        raise KeyError(key)

    def __setitem__(self, key, value):
        pass


class _Pace:
    counts_tokens = on_any_loop = False

    def take(self, _tokens, _deadline, doze):
        doze(0)
        return True

    async def atake(self, _tokens):
        await asyncio.sleep(0)


def _running():
    """The tasks of calls on the engine's loop, where an object that is forgotten may be closing."""
    return [each for each in asyncio.all_tasks() if each.get_coro().__name__ in _OF_CALLS]


def _is_whole(reranker):
    """Whether nothing runs or is asked any more, and turns and cache are free again."""

    async def idle(_):
        for _ in range(1_000):
            if not _running():
                break
            await asyncio.sleep(0.001)
        asked = _loop.engine().in_flight._by_key
        return not _running() and not asked and reranker._shared.live.gate.free == 2

    # Scores that came before are kept in a thread of ours, which may be at it.
    is_free = any(_is_free(reranker.cache) for _ in range(1_000))
    return is_free and _loop.run(idle)


def _is_free(cache):
    """Whether it is another thread's turn at *cache* at once, and no others are kept."""
    turns = []

    def look():
        with turn_at(cache, 0) as mine:
            turns.append(mine)

    other = threading.Thread(target=look)
    other.start()
    other.join()
    return turns == [True] and len(_turns._register.turns) <= 1


def _points(call):
    """How many points there are in *call*."""
    lightning = _Lightning(0)
    sys.setprofile(lightning)
    try:
        call()
    finally:
        sys.setprofile(None)
    return -lightning.left


@_one
def test_an_exception_at_any_point_of_a_sync_call(make, several):
    """A sync call that is interrupted anywhere leaves nothing running and nothing taken."""
    reranker = make(several=several)
    call = partial(reranker.rerank, _QUERY, _TEXTS)
    call()
    every = _points(call)

    struck = 0
    for number in range(1, every + 1, 4 if several else 1):
        sys.setprofile(_Lightning(number))
        try:
            call()
        except _Struck:
            struck += 1
        finally:
            sys.setprofile(None)
        assert _is_whole(reranker), number

    assert struck > 200
    assert len(call()) == len(_TEXTS)


@_one
def test_a_cancellation_after_any_step(make, several):
    """A call that is cancelled after any number of steps of its loop gives all back."""
    reranker = make(several=several)
    reranker.rerank(_QUERY, _TEXTS)
    line = reranker._line()
    job = reranker._job(_QUERY, _TEXTS, {})
    asked = reranker._asked(job, prepare(job), line, _drive.deadline_in(5))
    [way] = line.transport._ways.values()

    async def cancelled_after_each(caller):
        cancelled = 0
        for steps in (*range(60), *range(60, 500, 4)):  # at first it is sent, then it waits
            deadline = _drive.deadline_in(5)
            task = asyncio.create_task(
                _drive.drive(asked.requests, line, deadline, lambda *_: None, caller)
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            cancelled += task.cancelled()
            assert (line.gate.free, way.busy) == (2, 0), steps
            assert not way.session.connector._acquired, steps
            assert not _running(), steps
        return cancelled

    assert _loop.run(cancelled_after_each) > 50
    assert _is_whole(reranker)
    assert len(reranker.rerank(_QUERY, _TEXTS)) == len(_TEXTS)


@_one
async def test_a_cancellation_after_any_step_of_the_callers_loop(make, several):
    """So does one that is cancelled after any step of the caller's own loop, to which it hops."""
    reranker = make(several=several)
    await reranker.arerank(_QUERY, _TEXTS)

    cancelled = 0
    for steps in range(60):
        task = asyncio.create_task(reranker.arerank(_QUERY, _TEXTS))
        for _ in range(min(steps, 20)):
            await asyncio.sleep(0)
        if steps > 20:  # while it is served elsewhere, this loop takes no steps
            await asyncio.sleep(0.0002 * (steps - 20))
        task.cancel()
        await asyncio.wait([task])
        cancelled += task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}, steps

    assert cancelled > 10
    assert await asyncio.to_thread(_is_whole, reranker)
    assert len(await reranker.arerank(_QUERY, _TEXTS)) == len(_TEXTS)


def test_a_rate_limiter_is_asked_where_the_caller_is(connection):
    """A rate limiter sees the caller's thread and context, sync and async, request by request."""
    user, seen = contextvars.ContextVar("user", default="nobody"), []

    class Looking(_Pace):
        def take(self, *arguments):
            seen.append((threading.current_thread(), user.get()))
            return super().take(*arguments)

        async def atake(self, tokens):
            seen.append((asyncio.get_running_loop(), user.get()))
            await super().atake(tokens)

    class Paced(Reranker):
        @property
        def _pace(self):
            return Looking()

    async def awaited():
        user.set("ann")
        await reranker.arerank(_QUERY, _TEXTS)
        return asyncio.get_running_loop()

    reranker = Paced(**connection, max_documents_per_request=1)
    loop = asyncio.run(awaited())
    assert seen == [(loop, "ann")] * 4
    seen.clear()
    contextvars.copy_context().run(lambda: (user.set("bob"), reranker.rerank(_QUERY, _TEXTS)))
    assert seen == [(threading.current_thread(), "bob")] * 4
