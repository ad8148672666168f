"""Room 4: queues, sends, repeats and waits for the requests of one plan; it reads no answer.

Sync and async stand side by side. Both hold one limit of requests in flight, one deadline, one
retry policy, and stop sending as soon as one request has failed for good.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from qwen_rerank import _dialects, _wire
from qwen_rerank._gate import Gate
from qwen_rerank._retry import Policy, retry_after, transient
from qwen_rerank._values import Answer, Outcome, Reply, Request
from qwen_rerank.errors import DeadlineError, RateLimitError, RerankError

if TYPE_CHECKING:
    from qwen_rerank._endpoint import Endpoint
    from qwen_rerank._transport import Transport

__all__ = ["Line", "Pace", "adrive", "deadline_in", "drive", "left"]

_log = logging.getLogger("qwen_rerank")


class Pace(Protocol):
    """A framework's rate limiter, asked before every attempt to send a request.

    Attributes:
        counts_tokens: Whether it is told the number of tokens; else only the most there may be.
    """

    counts_tokens: ClassVar[bool]

    def take(self, tokens: int, deadline: float, doze: Callable[[float], None]) -> bool:
        """Waits for permission to send *tokens*, dozing in between; False if none came in time."""

    async def atake(self, tokens: int) -> None:
        """Waits for permission for as long as it takes."""


@dataclass(frozen=True, slots=True)
class Line:
    """An open line to the service: where to, how, and how many requests at once.

    Attributes:
        endpoint: Where requests go and what they carry.
        protocol: The protocol spoken there.
        transport: Our own http clients.
        client: An httpx client of the caller's to be used instead, sync or async as the call is.
        gate: Shared by all calls of one reranker.
        max_retries: How often one request is sent again.
        pace: The caller's rate limiter, or None.
        server: What kind of server it is, or None for DashScope.
    """

    endpoint: Endpoint
    protocol: _dialects.Protocol
    transport: Transport
    client: Any
    gate: Gate
    max_retries: int
    pace: Pace | None = None
    server: _dialects.Server | None = None

    @property
    def place(self) -> str:
        """What a score depends on besides model, query and text."""
        return f"{self.protocol} {self.endpoint.url}"

    def crowded(self, documents: tuple[int, ...]) -> DeadlineError:
        """The error of a call whose time ran out before it was its turn to send anything."""
        return DeadlineError(
            "The call's timeout ran out before it was its turn to send anything.",
            hint=f"max_concurrency={self.gate.width} is for all calls of one object together: "
            "raise it, or timeout=.",
            documents=documents,
        )


def deadline_in(seconds: float) -> float:
    """The moment *seconds* from now, in the clock of every deadline here."""
    return time.monotonic() + seconds


def drive(
    requests: tuple[Request, ...], line: Line, deadline: float, meter: Callable[[Reply], None]
) -> Outcome:
    """The replies to *requests*, each told to *meter* when it comes. A single one needs no thread.

    After the first failure nothing more is sent, and what has been answered by then is kept;
    requests that are on their way end in the background, because a thread cannot be stopped.
    """
    stop, policy = _Stop(), _policy(line, deadline)
    replies: list[Reply | None] = [None] * len(requests)
    queue = not line.gate.held_by_this_loop()

    def doze(seconds: float) -> None:
        if stop.wait(seconds):
            raise _StoppedError

    def one(place: int, request: Request) -> None:
        try:
            replies[place] = reply = _patiently(
                lambda: _send(request, line, deadline, stop, doze, queue=queue), policy, doze
            )
            meter(reply)
        except BaseException as error:
            stop.fail(error)  # not in the main thread, which would let one more request go out
            raise

    if len(requests) <= 1:
        with suppress(RerankError):  # it is kept, as those of several requests are
            for request in requests:
                one(0, request)
        return stop.outcome(replies)
    pool = ThreadPoolExecutor(min(line.gate.width, len(requests)), "qwen-rerank")
    try:
        jobs = [
            pool.submit(contextvars.copy_context().run, one, place, request)
            for place, request in enumerate(requests)
        ]
        wait(jobs, return_when=FIRST_EXCEPTION)
        return stop.outcome(replies)
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


async def adrive(
    requests: tuple[Request, ...], line: Line, deadline: float, meter: Callable[[Reply], None]
) -> Outcome:
    """`drive` for a running event loop; a failure or a cancellation leaves nothing running."""
    stop, policy = _Stop(), _policy(line, deadline)
    replies: list[Reply | None] = [None] * len(requests)

    async def one(place: int, request: Request) -> None:
        try:
            replies[place] = reply = await _apatiently(
                lambda: _asend(request, line, deadline, stop), policy
            )
            meter(reply)
        except Exception as error:
            stop.fail(error)
            raise

    try:
        async with asyncio.timeout(left(deadline)):
            if len(requests) <= 1:
                for request in requests:
                    await one(0, request)
            else:
                async with asyncio.TaskGroup() as group:
                    for place, request in enumerate(requests):
                        group.create_task(one(place, request))
    except RerankError:
        pass  # it is kept, as those of several requests are
    except TimeoutError:
        waiting = {
            position
            for request, reply in zip(requests, replies, strict=True)
            if reply is None
            for position in request.positions
        }
        positions = tuple(sorted(waiting))
        stop.fail(line.endpoint.late(positions) if stop.begun else line.crowded(positions))
    except BaseExceptionGroup:
        pass  # the first of them is kept
    if stop.failure is None and None in replies:
        raise asyncio.CancelledError  # of one request, though nobody cancelled the call
    return stop.outcome(replies)


# The first attempt is made outside tenacity, which is slower than all else here; a failure that may
# pass is then told to it as that of its own first attempt.
def _patiently(send: Callable[[], Reply], policy: Policy, sleep: Callable[[float], None]) -> Reply:
    try:
        return send()
    except RerankError as error:
        if not transient(error):
            raise
        failed = [error]

    def attempt() -> Reply:
        if failed:
            raise failed.pop()
        return send()

    return policy.sync(sleep)(attempt)


async def _apatiently(send: Callable[[], Awaitable[Reply]], policy: Policy) -> Reply:
    try:
        return await send()
    except RerankError as error:
        if not transient(error):
            raise
        failed = [error]

    async def attempt() -> Reply:
        if failed:
            raise failed.pop()
        return await send()

    return await policy.aio(asyncio.sleep)(attempt)


def _send(
    request: Request,
    line: Line,
    deadline: float,
    stop: _Stop,
    doze: Callable[[float], None],
    *,
    queue: bool,
) -> Reply:
    try:
        line.gate.enter(left(deadline), queue=queue)
    except TimeoutError:
        raise line.crowded(request.positions) from None
    with _turn(line.gate, stop, request):
        if quiet := _quiet(line, deadline):
            doze(quiet)
        if line.pace is not None and not line.pace.take(request.tokens, deadline, doze):
            raise line.endpoint.late(request.positions)
        if stop.is_set():
            raise _StoppedError
        body = _wire.encode(request, line.protocol, line.server)
        stop.sent = True
        # No frame holds the answer, which may quote what it was sent.
        return _read(line.transport.send(line.endpoint, body, deadline, line.client), request, line)


async def _asend(request: Request, line: Line, deadline: float, stop: _Stop) -> Reply:
    with line.gate.from_loop() as loop:
        await line.gate.aenter()
        stop.begun = True
        with _turn(line.gate, stop, request, loop):
            if quiet := _quiet(line, deadline):
                await asyncio.sleep(quiet)
            if line.pace is not None:
                await line.pace.atake(request.tokens)
            if stop.is_set():
                raise _StoppedError
            if request.is_text:
                body = _wire.encode(request, line.protocol, line.server)
            else:  # images take their time
                body = await asyncio.to_thread(_wire.encode, request, line.protocol, line.server)
            stop.sent = True
            return _read(
                await line.transport.asend(line.endpoint, body, deadline, line.client),
                request,
                line,
            )


@contextmanager
def _turn(
    gate: Gate, stop: _Stop, request: Request, loop: asyncio.AbstractEventLoop | None = None
) -> Iterator[None]:
    """A turn that has been taken. A failure for good is known before the next one gets it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, RerankError) and not error.documents:
            error.documents = request.positions
        if isinstance(error, asyncio.CancelledError):
            stop.set()  # whoever cancelled says why
        elif not transient(error):
            stop.fail(error)
        raise
    finally:
        gate.leave(loop)


def _policy(line: Line, deadline: float) -> Policy:
    def told(error: RerankError, seconds: float) -> None:
        if isinstance(error, RateLimitError):
            line.gate.hush(seconds)
        _log.info("Trying again in %.2f s: %r", seconds, error)

    return Policy(line.max_retries, deadline, time.monotonic, random.random, told)


def _quiet(line: Line, deadline: float) -> float:
    """Seconds to wait because another request was throttled; a little apart, so as not to storm."""
    quiet = line.gate.quiet()
    if quiet and quiet >= left(deadline):
        raise RateLimitError(
            "The service asked for a longer pause than this call has time for.", retry_after=quiet
        )
    return min(quiet * (1 + random.random() / 2), left(deadline))  # noqa: S311  no secret


def _read(answer: Answer, request: Request, line: Line) -> Reply:
    try:
        reply = _wire.decode(
            answer,
            request,
            protocol=line.protocol,
            host=line.endpoint.host,
            server=line.server,
        )
    except RerankError as error:
        error.retry_after = retry_after(answer.headers, time.time())
        failure = _masked(error, line.endpoint)
        del answer
    else:
        shown = line.endpoint.masked(reply.request_id)
        return reply if shown == reply.request_id else replace(reply, request_id=shown)
    raise failure


def _masked(error: RerankError, endpoint: Endpoint) -> RerankError:
    """*error* without the key, should the service have quoted it, and without decoding's frames."""
    error.message = endpoint.masked(error.message) or ""
    error.args = (error.message,)
    error.code = endpoint.masked(error.code)
    error.request_id = endpoint.masked(error.request_id)
    error.hint = endpoint.masked(error.hint)
    return error.with_traceback(None)


def left(deadline: float) -> float:
    """Seconds until *deadline*."""
    return max(0.0, deadline - time.monotonic())


class _Stop(threading.Event):
    """Set by the first failure of a call, which it keeps: what follows from that is none."""

    failure: BaseException | None = None
    begun = False
    """Whether a request had its turn."""
    sent = False
    """Whether one was sent."""

    def fail(self, error: BaseException) -> None:
        if not isinstance(error, _StoppedError):
            self.failure = self.failure or error
        self.set()

    def outcome(self, replies: Iterable[Reply | None]) -> Outcome:
        """How the call ended; what is no failure of a rerank call is raised."""
        if self.failure is not None and not isinstance(self.failure, RerankError):
            raise self.failure
        return Outcome(tuple(replies), self.failure, self.sent)


class _StoppedError(Exception):
    """Another request of the same call has failed."""
