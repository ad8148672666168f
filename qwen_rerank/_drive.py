"""Room 4: queues, sends, repeats and waits for the requests of one plan; it reads no answer.

All of it runs on the engine's loop, whoever waits for it: one limit of requests in flight, one
deadline, one retry policy, and no more is sent as soon as one request has failed for good.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from qwen_rerank import _loop, _refusal, _servers, _told, _wire
from qwen_rerank._advice import Advice, Option, advise
from qwen_rerank._gate import Gate
from qwen_rerank._outage import is_of_outage
from qwen_rerank._retry import Policy, retry_after, transient
from qwen_rerank._values import Answer, Outcome, Reply, Request
from qwen_rerank.errors import DeadlineError, RateLimitError, RerankError

if TYPE_CHECKING:
    from qwen_rerank._clients import Client
    from qwen_rerank._endpoint import Endpoint
    from qwen_rerank._loop import Caller
    from qwen_rerank._transport import Transport

__all__ = [
    "Line",
    "Pace",
    "awarm",
    "deadline_in",
    "drive",
    "left",
    "warm",
]

_log = logging.getLogger("qwen_rerank")


class Pace(Protocol):
    """A framework's rate limiter, asked before every attempt to send a request.

    Attributes:
        counts_tokens: Whether it is told the number of tokens; else only the most there may be.
        on_any_loop: Whether `atake` may be awaited on the engine's loop, also for a sync call. Else
            it is asked where the caller is.
    """

    counts_tokens: ClassVar[bool]

    @property
    def on_any_loop(self) -> bool: ...

    def take(self, tokens: int, deadline: float, doze: Callable[[float], None]) -> bool:
        """Waits for permission to send *tokens*, dozing in between; False if none came in time.

        In the caller's thread. Doze a few hundredths of a second at a time: then the call can end.
        """

    async def atake(self, tokens: int) -> None:
        """Waits for permission for as long as it takes."""


class Line(NamedTuple):
    """An open line to the service: where to, how, and how many requests at once.

    Attributes:
        endpoint: Where requests go and what they carry.
        protocol: The protocol spoken there.
        transport: Our own connections.
        client: A client of the caller's to be used instead, sync or async as the call is.
        gate: Shared by all calls of one reranker.
        max_retries: How often one request is sent again.
        lengths: What its server told.
        pace: The caller's rate limiter, or None.
        server: What kind of server it is, or None for DashScope.
    """

    endpoint: Endpoint
    protocol: _servers.Protocol
    transport: Transport
    client: Client | None
    gate: Gate
    max_retries: int
    lengths: _told.Lengths
    pace: Pace | None = None
    server: _servers.Server | None = None

    @property
    def place(self) -> str:
        """What a score depends on besides model, query and text."""
        return f"{self.protocol} {self.endpoint.url}"

    def crowded(self, documents: tuple[int, ...]) -> DeadlineError:
        """The error of a call whose time ran out before it was its turn to send anything."""
        return DeadlineError(
            "The call's timeout ran out before it was its turn to send anything.",
            hint=advise(
                "{width} is for all calls of one object together: raise it, or {timeout=:change}.",
                width=Advice(Option("max_concurrency", str(self.gate.width), "change")),
            ),
            documents=documents,
        )


def deadline_in(seconds: float) -> float:
    """The moment *seconds* from now, in the clock of every deadline here."""
    return time.monotonic() + seconds


def warm(line: Line, deadline: float) -> None:
    """Opens a connection that the next call finds."""
    _loop.run(partial(line.transport.touch, line.endpoint, deadline, client=line.client))


async def awarm(line: Line, deadline: float) -> None:
    """`warm` for a running event loop."""
    await _loop.wait(partial(line.transport.touch, line.endpoint, deadline, client=line.client))


async def drive(
    requests: tuple[Request, ...],
    line: Line,
    deadline: float,
    meter: Callable[[Request, Reply], None],
    caller: Caller,
) -> Outcome:
    """The replies to *requests*, each told to *meter* when it comes; on the engine's loop.

    After the first failure nothing more is sent, and what has been answered by then is kept. Once
    it returns, or raises, nothing is running any more.
    """
    sending = _Sending(requests, line, deadline, meter, caller)
    line.gate.hold(sending.needed)
    try:
        async with asyncio.timeout(left(deadline)):
            if len(requests) == 1:
                await sending.one(0)
            else:
                async with asyncio.TaskGroup() as group:
                    for place in range(len(requests)):
                        group.create_task(sending.one(place))
    except RerankError:
        pass  # it is kept, as those of several requests are
    except TimeoutError:
        waiting = sending.waiting
        late = line.endpoint.late(waiting, silent=sending.sent and not sending.heard)
        sending.fail(late if sending.begun else line.crowded(waiting))
    except BaseExceptionGroup:
        pass  # the first of them is kept
    finally:
        sending.over = True
        line.gate.let_go(sending.needed)
    return sending.outcome()


class _Sending:
    """The requests of one call on their way, and its first failure: what follows of that is none.

    One object, and few coroutines: Python's garbage collector looks at all that some hundreds of
    calls hold while they wait, again and again.
    """

    failure: BaseException | None = None
    begun = False
    """Whether a request had its turn."""
    sent = False
    """Whether one was sent."""
    heard = False
    """Whether anything was answered, a refusal too."""
    answered = False
    """Whether anything but a failure of the service was, before a request was sent again."""
    over = False

    def __init__(
        self,
        requests: tuple[Request, ...],
        line: Line,
        deadline: float,
        meter: Callable[[Request, Reply], None],
        caller: Caller,
    ) -> None:
        self._requests = requests
        self._replies: list[Reply | None] = [None] * len(requests)
        self._line = line
        self._deadline = deadline
        self._meter = meter
        self._caller = caller
        self._route = line.endpoint, requests[0].model if requests else None
        """What the service's limits are for."""
        self._queues = caller.awaits or not line.gate.is_held_by(caller.loop)
        self.needed = caller.loop if caller.awaits and (line.pace or line.client) else None
        """The caller's loop, if no request ends unless that runs on."""

    @property
    def waiting(self) -> tuple[int, ...]:
        """The documents of the requests that are not answered."""
        unanswered = (
            request
            for request, reply in zip(self._requests, self._replies, strict=True)
            if reply is None
        )
        return tuple(sorted({each for request in unanswered for each in request.positions}))

    def fail(self, error: BaseException) -> None:
        """Sends no more, because of *error*."""
        if not isinstance(error, _StoppedError):
            self.failure = self.failure or error
        self.over = True

    def outcome(self) -> Outcome:
        """How the call ended; what is no failure of a rerank call is raised."""
        if self.failure is None and None in self._replies:
            raise asyncio.CancelledError  # of one request, though nobody cancelled the call
        if self.failure is not None and not isinstance(self.failure, RerankError):
            raise self.failure
        return Outcome(tuple(self._replies), self.failure, self.sent, self.answered)

    async def one(self, place: int) -> None:
        """Sends the request at *place* until it is answered or that is no use."""
        request = self._requests[place]
        failed: RerankError | None = None
        try:
            try:
                reply = await self._send(request)
            except RerankError as error:
                if not transient(error):
                    raise
                failed = error
            if failed is not None:
                reply = await self._again(request, failed)
            self._replies[place] = reply
            self._meter(request, reply)
        except Exception as error:
            self.fail(error)
            raise

    # The first attempt is made outside tenacity, which is slower than all else here; a failure that
    # may pass is then told to it as that of its own first attempt.
    async def _again(self, request: Request, cause: RerankError) -> Reply:
        failed = [cause]

        async def attempt() -> Reply:
            nonlocal cause
            if failed:
                raise failed.pop()
            try:
                return await self._send(request)
            except RerankError as error:
                # That a gateway rests after a failure says nothing of the failure.
                cause = cause if _refusal.cools_down(error) else error
                raise

        retries, clock, chance = self._line.max_retries, time.monotonic, random.random
        policy = Policy(retries, self._deadline, clock, chance, self._told)
        try:
            return await policy.retrying(asyncio.sleep)(attempt)
        except RerankError:
            failure = cause
        raise failure

    def _told(self, error: RerankError, seconds: float) -> None:
        if not (is_of_outage(error) or _refusal.cools_down(error)):
            self.answered = True
        if isinstance(error, RateLimitError):
            self._line.gate.hush(seconds, self._route)
        _log.info("Trying again in %.2f s: %r", seconds, error)

    async def _send(self, request: Request) -> Reply:
        """Sends *request* once, when it is its turn."""
        gate = self._line.gate
        await gate.enter(queue=self._queues)
        try:
            self.begun = True
            if (quiet := gate.quiet(self._route)) or self._line.pace is not None:
                await self._paced(request, quiet)
            return await self._answer(request)
        except BaseException as error:
            if isinstance(error, RerankError) and not error.documents:
                error.documents = request.positions
            if isinstance(error, asyncio.CancelledError):
                self.over = True  # whoever cancelled says why
            elif not transient(error):
                self.fail(error)  # known before the next one gets the turn
            raise
        finally:
            gate.leave()

    async def _paced(self, request: Request, quiet: float) -> None:
        """Waits because another request was throttled, and for the caller's rate limiter."""
        if quiet:
            await asyncio.sleep(_apart(quiet, left(self._deadline)))
        if (pace := self._line.pace) is None:
            return
        if pace.on_any_loop:
            await pace.atake(request.tokens)
        elif self._caller.awaits:  # it is asked where the caller is
            await self._caller.do(lambda: pace.atake(request.tokens))
        elif not await self._caller.do(
            lambda: pace.take(request.tokens, self._deadline, self._doze)
        ):
            raise self._line.endpoint.late(request.positions)

    def _doze(self, seconds: float) -> None:
        """Waits in the caller's thread, which must not share a lock with the loop's.

        An interrupt there may come between taking a lock and knowing of it.
        """
        time.sleep(seconds)
        self._check()

    def _check(self) -> None:
        """Ends what would go on after the call."""
        if self.over:
            raise _StoppedError

    async def _answer(self, request: Request) -> Reply:
        line = self._line
        self._check()
        if not left(self._deadline):  # the timer may be late, and a request that is sent is billed
            raise line.endpoint.late(request.positions)
        if request.is_text:
            body = _wire.encode(request, line.protocol, line.server)
        else:  # images take their time
            body = await asyncio.to_thread(_wire.encode, request, line.protocol, line.server)
        self.sent = True
        # No frame holds the answer, which may quote what it was sent.
        try:
            return _read(
                self._heard(
                    await line.transport.send(
                        line.endpoint, body, self._deadline, self._caller, line.client
                    )
                ),
                request,
                line,
            )
        except RerankError as error:
            if line.server is None or not _refusal.is_of_model(error):
                raise
            failure = error
        served = await _told.models(line, self._deadline, self._caller)
        failure.hint = _refusal.among(failure.hint, request, served)
        raise failure

    def _heard(self, answer: Answer) -> Answer:
        self.heard = True
        return answer


def _apart(quiet: float, remaining: float) -> float:
    """Seconds to wait because another request was throttled; a little apart, so as not to storm."""
    if quiet >= remaining:
        raise RateLimitError(
            "The service asked for a longer pause than this call has time for.", retry_after=quiet
        )
    # At least half of what then remains is for the answer.
    return quiet + random.random() / 2 * min(quiet, remaining - quiet)  # noqa: S311  no secret


def _read(answer: Answer, request: Request, line: Line) -> Reply:
    try:
        reply = _wire.decode(
            answer,
            request,
            protocol=line.protocol,
            asked=line.endpoint,
            server=line.server,
        )
    except RerankError as error:
        if (asked := retry_after(answer.headers, time.time())) is not None:
            error.retry_after = asked
        failure = _masked(error, line.endpoint)
        del answer
    else:
        shown = line.endpoint.masked(reply.request_id)
        return reply if shown == reply.request_id else reply._replace(request_id=shown)
    raise failure


def _masked(error: RerankError, endpoint: Endpoint) -> RerankError:
    """*error* without the key, should the service have quoted it, and without decoding's frames."""
    error.message = endpoint.masked(error.message) or ""
    error.args = (error.message,)
    error.code = endpoint.masked(error.code)
    error.request_id = endpoint.masked(error.request_id)
    error.hint = endpoint.masked_advice(error.hint)
    return error.with_traceback(None)


def left(deadline: float) -> float:
    """Seconds until *deadline*."""
    return max(0.0, deadline - time.monotonic())


class _StoppedError(Exception):
    """Another request of the same call has failed."""
