"""The event loop that serves all calls, in a thread of its own; it knows no request.

One a process, made at the first call and anew after a fork. Async calls go there as sync ones do:
so connections, limits and deadlines do not depend on what loop a caller has, whether that stands
still, and what becomes of it. anyio's portal, which is such a loop too, goes on with a call whose
thread was interrupted, and knows nothing of a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import os
import queue
import selectors
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from qwen_rerank._fork import no_fork
from qwen_rerank._in_flight import InFlight

__all__ = ["Caller", "Engine", "aside", "beside", "engine", "run", "soon", "unstopped", "wait"]

T = TypeVar("T")

_NAME = "qwen-rerank"
_LOOK = 1.0  # seconds that a thread waits at a stretch
_FAREWELL = 2.0  # seconds that the end of the process waits for connections to close


class Caller(Protocol):
    """Who waits for a call, and where code of theirs has to run, such as a rate limiter."""

    awaits: bool
    """Whether the call is awaited in a loop; else it holds up its thread."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that runs in the caller's thread, or None."""

    async def do(self, errand: Callable[[], Any]) -> Any:
        """What *errand* returns in the caller's thread or, awaited, in the caller's loop."""


def run(serve: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
    """What *serve* returns on the loop, in the caller's context; the caller's thread waits.

    Whatever is raised meanwhile in that thread, by a signal say, cancels it.
    """
    running = engine()
    if running.thread.ident == threading.get_ident():
        raise RuntimeError(
            "A sync call cannot be made in the thread that serves all calls, where code such as "
            "a tracing hook or a log handler runs: hand it to another thread."
        )
    call = _FromThread(running, serve)
    try:
        running.begin(call)
        while (errand := call.next()) is not None:
            errand()
    except BaseException:
        call.cancel()
        raise
    return call.result()


async def wait(serve: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
    """`run` for a running event loop; a call that is cancelled has ended when that is raised."""
    running, here = engine(), asyncio.get_running_loop()
    call = _FromLoop(running, serve, here)
    if running.loop is here:
        return await serve(call)
    try:
        running.begin(call)
        await call.ended
    except BaseException as error:
        call.cancel()
        if isinstance(error, asyncio.CancelledError):
            await _outlast(call.end)
        raise
    finally:
        await _outlast(call.end_errands)
    return call.result()


async def _outlast(end: Callable[[], Awaitable[None]]) -> None:
    """Waits for *end* however often that is cancelled, and raises the cancellation then.

    anyio cancels again in each turn of the loop. As in a ``TaskGroup``, what never ends is waited
    for; but only code of the caller's can do that, such as a client that swallows cancellations.
    """
    cancelled = None
    while True:
        try:
            await end()
            break
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # or it would hold this frame, which holds it


def aside(
    function: Callable[..., T], *arguments: Any, threads: ThreadPoolExecutor | None = None
) -> asyncio.Future[T]:
    """What *function* will return in one of *threads*, in the caller's context.

    By default in one of ours, which are for what ends by itself; never in one of the running loop's
    own, which the caller may have filled for a long time.
    """
    job = partial(contextvars.copy_context().run, unstopped, function, *arguments)
    return asyncio.get_running_loop().run_in_executor(threads or engine().aside, job)


async def soon(
    seconds: float,
    function: Callable[..., T],
    *arguments: Any,
    threads: ThreadPoolExecutor | None = None,
) -> T:
    """What *function* returns in one of *threads*, or here if none is free for *seconds*.

    For what takes a moment, and so is rather done here than not at all. The threads are as for
    `aside`.
    """
    job: Future[T] = Future()
    work = partial(_once, job, function, *arguments)
    try:
        (threads or engine().aside).submit(contextvars.copy_context().run, work)
    except (OSError, RuntimeError):  # no thread can be started; it may be in the queue all the same
        seconds = 0.0
    done = asyncio.wrap_future(job)
    try:
        await asyncio.wait({done}, timeout=seconds)
        return function(*arguments) if job.cancel() else await done
    finally:
        done.cancel()


def _once(job: Future[T], function: Callable[..., T], *arguments: Any) -> None:
    """Does *job*, unless it was cancelled, and so is done elsewhere."""
    if not job.set_running_or_notify_cancel():
        return
    try:
        job.set_result(unstopped(function, *arguments))
    except BaseException as error:  # noqa: BLE001  as every executor does
        job.set_exception(error)
        del job  # or it would hold this frame, which holds it


def unstopped(function: Callable[..., T], *arguments: Any) -> T:
    """What *function* returns; a StopIteration becomes the error that a coroutine makes of it.

    No future of asyncio takes one: who waits for it would wait for ever.
    """
    try:
        return function(*arguments)
    except StopIteration as error:
        problem = "what this call runs raised StopIteration, as next() does without a default"
        raise RuntimeError(problem) from error


async def beside(
    caller: Caller,
    function: Callable[..., T],
    *arguments: Any,
    threads: ThreadPoolExecutor | None = None,
) -> T:
    """What *function* returns in the caller's thread if that waits, else as from `aside`."""
    if caller.awaits:
        return await aside(function, *arguments, threads=threads)
    return await caller.do(partial(function, *arguments))  # type: ignore[no-any-return]


class Engine:
    """The loop, its thread, and what is open and asked for there."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.over = False
        """Whether the process is ending."""
        self.closed = False
        self.open: set[Any] = set()
        """What is to be closed at the end of the process; each has an async ``close``."""
        self.in_flight = InFlight()
        # A wake-up is a system call, at which one thread loses the interpreter to the other: calls
        # that begin or end together share one.
        self._begun: deque[_Call[Any]] = deque()
        self._is_woken = False
        self._ended: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
        self._spawned: set[asyncio.Task[None]] = set()
        self.aside = ThreadPoolExecutor(thread_name_prefix=f"{_NAME}-aside")
        _afford(files=3)
        self.loop = _new_loop()
        self.loop.set_default_executor(_Daemons())
        self.thread = threading.Thread(target=self._serve, name=_NAME, daemon=True)
        try:
            self.thread.start()
        except RuntimeError:  # there are too many
            self.loop.close()
            raise

    def serves(self) -> bool:
        """Whether it can be called here and now; the thread is not there after a fork.

        It is not the thread that is asked: ``is_alive`` (before Python 3.13) takes a thread for
        ended if it is interrupted.
        """
        return self.process == os.getpid()

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Calls *function* on the loop, from any thread; no more once that has ended."""
        if self.process == os.getpid():  # else the loop is a parent's
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(function, *arguments)

    def begin(self, call: _Call[Any]) -> None:
        """Starts *call* on the loop; one that is awake anyway is not woken for each of many."""
        self._begun.append(call)
        if not self._is_woken:
            self._is_woken = True
            try:
                self.loop.call_soon_threadsafe(self.start)
            except BaseException:
                self._is_woken = False
                raise

    def start(self) -> None:
        """Starts all calls that were begun; on the loop."""
        self._is_woken = False
        while self._begun:
            self._begun.popleft().start()

    def tell(self, loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
        """Calls *function* on a caller's *loop*, together with what else that is told just now."""
        told = self._ended.get(loop)
        if told is None:
            told = self._ended[loop] = []
            self.loop.call_soon(self._tell)
        told.append(function)

    def _tell(self) -> None:
        ended, self._ended = self._ended, {}
        for loop, functions in ended.items():
            with contextlib.suppress(RuntimeError):  # it is closed, and nobody waits
                loop.call_soon_threadsafe(_each, functions)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Lets *coroutine* run on the loop, which this is called on."""
        task = self.loop.create_task(coroutine)
        self._spawned.add(task)  # the loop itself holds none
        task.add_done_callback(self._spawned.discard)

    def end(self) -> None:
        """Closes all that is open; whoever still waits for a call is told nothing any more."""
        self.over = True
        self.post(lambda: self.spawn(self._close()))
        self.thread.join(_FAREWELL)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.closed:
            # What a log handler raises, say, is told to whose call it was, and to no other.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        self.loop.close()

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        for each in list(self.open):
            await each.close()
        self.closed = True
        self.loop.stop()


def _each(functions: list[Callable[[], None]]) -> None:
    try:
        while functions:
            functions.pop(0)()
    finally:
        if functions:  # an interrupt came in between
            asyncio.get_running_loop().call_soon(_each, functions)


def _new_loop() -> asyncio.AbstractEventLoop:
    gevent = sys.modules.get("gevent.monkey")
    is_greenlet = gevent is not None and gevent.is_module_patched("threading")
    return _Discreet() if is_greenlet else asyncio.new_event_loop()


class _Discreet(asyncio.SelectorEventLoop):
    """Lets nobody see that a loop runs while it waits, or starts a thread.

    Which one runs is noted for a thread of the system, and gevent's threads, ours among them, share
    one: Django would refuse its queries there, and asyncio any other loop.
    """

    _elsewhere: asyncio.AbstractEventLoop | None = None

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()  # gevent's, or it would hold up all the others
        self._wait = selector.select
        selector.select = self._select  # type: ignore[method-assign]  # of this one
        super().__init__(selector)

    def run_forever(self) -> None:
        self._elsewhere = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            super().run_forever()
        finally:
            self._hide()

    def run_in_executor(  # type: ignore[override]  # only passed on
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        self._hide()
        try:
            return super().run_in_executor(executor, func, *args)
        finally:
            self._show()

    def _select(self, timeout: float | None = None) -> Any:
        self._hide()
        try:
            return self._wait(timeout)
        finally:
            self._show()

    def _hide(self) -> None:
        other = self._elsewhere
        is_left = other is not None and other.is_running()
        asyncio._set_running_loop(other if is_left else None)

    def _show(self) -> None:
        self._elsewhere = asyncio._get_running_loop()
        asyncio._set_running_loop(self)


def _afford(files: int) -> None:
    """Raises what opening as many *files* raises: a loop that is half made complains of itself."""
    with contextlib.ExitStack() as stack:
        for _ in range(files):
            stack.enter_context(socket.socket())


_current: Engine | None = None
_inherited: list[Engine] = []  # a parent's, whose selector is shared: to close it here breaks both
_over = False


def engine() -> Engine:
    """The running engine of this process."""
    if _over:
        raise RuntimeError("The process is ending, and no call can be made any more.")
    running = _current
    if running is None or not running.serves():
        return _begun()
    return running


def _begun() -> Engine:
    global _current  # noqa: PLW0603  one a process
    with no_fork:
        if _current is None or not _current.serves():
            if _current is not None:
                _inherited.append(_current)
            _current = Engine()
        return _current


@atexit.register
def _end() -> None:
    global _over  # noqa: PLW0603  as above
    _over = True
    if _current is not None and _current.serves():
        _current.end()


class _Call(ABC, Generic[T]):
    """One call that is served on the loop, and its `Caller`."""

    awaits: bool
    loop: asyncio.AbstractEventLoop | None

    def __init__(self, running: Engine, serve: Callable[[Caller], Coroutine[Any, Any, T]]) -> None:
        self._engine = running
        self._serve = serve
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[T] | None = None

    def cancel(self) -> None:
        self._engine.post(self._cancel)

    def result(self) -> T:
        assert self._task is not None  # noqa: S101  it has ended
        try:
            return self._task.result()
        except _Quit as quit_:
            error = quit_.error
        raise error

    @abstractmethod
    def tell(self) -> None:
        """Lets the caller know that it has ended; on the engine's loop."""

    @abstractmethod
    async def do(self, errand: Callable[[], Any]) -> Any:
        """See `Caller`."""

    def start(self) -> None:
        """Starts it in the context of its caller."""
        self._task = self._engine.loop.create_task(self._serve(self), context=self._context)
        self._task.add_done_callback(self._ended, context=self._context)

    def _cancel(self) -> None:
        self._engine.start()  # whoever was interrupted in beginning it may have woken nobody
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits for it any more
        if not self._engine.over:
            self.tell()


class _FromThread(_Call[T]):
    """The call of a thread that waits, and runs errands meanwhile."""

    awaits = False

    def __init__(self, running: Engine, serve: Callable[[Caller], Coroutine[Any, Any, T]]) -> None:
        super().__init__(running, serve)
        # By its module: gevent may have put its own there since this was imported.
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.loop = asyncio._get_running_loop()

    def tell(self) -> None:
        self._inbox.put(None)

    def next(self) -> Callable[[], None] | None:
        """Waits for the next errand; None when the call has ended."""
        while True:
            # No wait without a bound, which Ctrl-C does not end everywhere.
            try:
                return self._inbox.get(timeout=_LOOK)
            except queue.Empty:
                pass
            if self._task is None:  # an interrupt may have kept another call from waking the loop
                self._engine.post(self._engine.start)

    async def do(self, errand: Callable[[], Any]) -> Any:
        loop = self._engine.loop
        done: asyncio.Future[Any] = loop.create_future()

        def here() -> None:
            try:
                result = unstopped(errand)
            except Exception as error:  # noqa: BLE001  it is raised where it is waited for
                _settle(loop, done, error=error)
            else:
                _settle(loop, done, result)

        self._inbox.put(here)
        return await done


class _FromLoop(_Call[T]):
    """The call of an event loop, where errands are tasks of their own."""

    awaits = True

    def __init__(
        self,
        running: Engine,
        serve: Callable[[Caller], Coroutine[Any, Any, T]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(running, serve)
        self.loop = self._here = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self.errands: set[asyncio.Task[Any]] = set()

    async def end(self) -> None:
        """Waits for the end of a call that was cancelled, and `ended` with it."""
        if self._task is None or not self._task.done():  # else it was told of in vain
            self.ended = self._here.create_future()
            await self.ended

    async def end_errands(self) -> None:
        if self.errands:
            await asyncio.wait(self.errands)

    def tell(self) -> None:
        self._engine.tell(self._here, self._settle)

    def _settle(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    async def do(self, errand: Callable[[], Awaitable[Any]]) -> Any:
        loop = self._engine.loop
        if loop is self.loop:
            return await errand()
        done: asyncio.Future[Any] = loop.create_future()
        task: asyncio.Task[Any] | None = None

        async def there() -> None:
            try:
                result = await errand()
            except (asyncio.CancelledError, GeneratorExit):
                self._engine.post(done.cancel)
                raise
            except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
                _settle(loop, done, error=error if isinstance(error, Exception) else _Quit(error))
            else:
                _settle(loop, done, result)

        def start() -> None:
            nonlocal task
            task = self._here.create_task(there())
            self.errands.add(task)
            task.add_done_callback(self.errands.discard)

        def stop() -> None:
            if task is not None:
                task.cancel()

        self._here.call_soon_threadsafe(start)
        try:
            return await done
        except asyncio.CancelledError:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._here.call_soon_threadsafe(stop)
            raise


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: Any = None,
    error: Exception | None = None,
) -> None:
    """Ends *future*, which belongs to *loop*, from another thread."""

    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(settle)


class _Quit(Exception):  # noqa: N818  it is none by itself
    """Carries what would end the loop if it were raised there."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
        self.__cause__ = error  # so that whoever cleans its frames finds it


class _Daemons(ThreadPoolExecutor):
    """Gives each job a thread: none waits for another's, and none holds up the end of the process.

    It does what may take long whatever the deadline says: looking up names, reading certificates,
    sending through a caller's blocking client. How many there are is limited by their callers.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        job: Future[T] = Future()

        def work() -> None:
            if not job.set_running_or_notify_cancel():
                return
            try:
                result = unstopped(partial(fn, *args, **kwargs))
            except (KeyboardInterrupt, SystemExit) as error:
                job.set_exception(_Quit(error))
            except BaseException as error:  # noqa: BLE001  as every executor does
                job.set_exception(error)
            else:
                job.set_result(result)

        threading.Thread(target=work, name=f"{_NAME}-job", daemon=True).start()
        return job
