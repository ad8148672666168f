"""Room 4: queues, sends, repeats and waits for the requests of one plan; it reads no answer.

All of it runs on the engine's loop, whoever waits for it: one limit of requests in flight, one
deadline, one retry policy, and no more is sent as soon as one request has failed for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import quote

from qwen_rerank import _dialects, _loop, _refusal, _wire
from qwen_rerank._advice import Advice, Option, advise
from qwen_rerank._gate import Gate
from qwen_rerank._retry import Policy, retry_after, transient
from qwen_rerank._values import Answer, Outcome, Reply, Request
from qwen_rerank.errors import DeadlineError, RateLimitError, RerankError

if TYPE_CHECKING:
    from qwen_rerank._clients import Client
    from qwen_rerank._endpoint import Endpoint
    from qwen_rerank._loop import Caller
    from qwen_rerank._transport import Transport

__all__ = [
    "Lengths",
    "Line",
    "Pace",
    "alearn_length",
    "awarm",
    "deadline_in",
    "drive",
    "learn_length",
    "left",
    "warm",
]

_log = logging.getLogger("qwen_rerank")


_ASK_SECONDS = 5.0  # for what can be done without


class Lengths:
    """How many tokens a pair may have, as servers of one's own told of themselves."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], int | None] = {}
        """By URL and model; None where a server did not tell, which is not asked again."""
        self.turn = asyncio.Lock()


class Pace(Protocol):
    """A framework's rate limiter, asked before every attempt to send a request.

    Attributes:
        counts_tokens: Whether it is told the number of tokens; else only the most there may be.
    """

    counts_tokens: ClassVar[bool]

    def take(self, tokens: int, deadline: float, doze: Callable[[float], None]) -> bool:
        """Waits for permission to send *tokens*, dozing in between; False if none came in time.

        In the caller's thread. Doze a few hundredths of a second at a time: then the call can end.
        """

    async def atake(self, tokens: int) -> None:
        """Waits for permission for as long as it takes."""


@dataclass(frozen=True, slots=True)
class Line:
    """An open line to the service: where to, how, and how many requests at once.

    Attributes:
        endpoint: Where requests go and what they carry.
        protocol: The protocol spoken there.
        transport: Our own connections.
        client: A client of the caller's to be used instead, sync or async as the call is.
        gate: Shared by all calls of one reranker.
        max_retries: How often one request is sent again.
        pace: The caller's rate limiter, or None.
        server: What kind of server it is, or None for DashScope.
        lengths: What is known of it.
    """

    endpoint: Endpoint
    protocol: _dialects.Protocol
    transport: Transport
    client: Client | None
    gate: Gate
    max_retries: int
    pace: Pace | None = None
    server: _dialects.Server | None = None
    lengths: Lengths = field(default_factory=Lengths)

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


def learn_length(line: Line, model: str, deadline: float) -> None:
    """Asks a server of one's own how long a pair may be, once; what does not answer says it later.

    No document is sent, and it is in nobody's way for longer than a few seconds.
    """
    _loop.run(partial(_learn_length, line, model, deadline))


async def alearn_length(line: Line, model: str, deadline: float) -> None:
    """`learn_length` for a running event loop."""
    await _loop.wait(partial(_learn_length, line, model, deadline))


async def _learn_length(line: Line, model: str, deadline: float, caller: Caller) -> None:
    dialect, key = _dialects.spoken(line.protocol, line.server), (line.endpoint.url, model)
    if dialect.length is None:
        return
    path, name = dialect.length
    with contextlib.suppress(RerankError, TimeoutError):
        async with asyncio.timeout(min(left(deadline), _ASK_SECONDS)), line.lengths.turn:
            if key in line.lengths.told:
                return
            if dialect.registered is not None and dialect.models is not None:
                listed = await _told(line, dialect.models, deadline, caller)
                registered = _wire.name_in(listed, dialect.registered, model)
                path += quote(registered or model, safe="")
            answer = await _told(line, path, deadline, caller)
            line.lengths.told[key] = _wire.length_in(answer, name, model)


async def _served(line: Line, deadline: float, caller: Caller) -> tuple[str, ...]:
    """The models that a server of one's own says it serves."""
    if (path := _dialects.spoken(line.protocol, line.server).models) is None:
        return ()
    with contextlib.suppress(RerankError, TimeoutError):
        async with asyncio.timeout(min(left(deadline), _ASK_SECONDS)):
            names = _wire.models_in(await _told(line, path, deadline, caller))
            return tuple(filter(None, map(line.endpoint.masked, names)))
    return ()


async def _told(line: Line, path: str, deadline: float, caller: Caller) -> Answer:
    """What a server of one's own says at *path*, below its address."""
    address = re.sub(r"(/v\d)?/[^/]*$", "", line.endpoint.url)
    endpoint = replace(line.endpoint, url=address + path)
    return await line.transport.send(endpoint, None, deadline, caller, line.client)


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
    stop, policy = _Stop(), _policy(line, deadline)
    replies: list[Reply | None] = [None] * len(requests)
    queue = caller.awaits or not line.gate.is_held_by(caller.loop)
    needed = caller.loop if caller.awaits and (line.pace or line.client) else None

    async def one(place: int, request: Request) -> None:
        try:
            replies[place] = reply = await _patiently(
                lambda: _send(request, line, deadline, stop, caller, queue=queue), policy
            )
            meter(request, reply)
        except Exception as error:
            stop.fail(error)
            raise

    try:
        with line.gate.needing(needed):
            async with asyncio.timeout(left(deadline)):
                if len(requests) == 1:
                    await one(0, requests[0])
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
        late = line.endpoint.late(positions, silent=not any(replies))
        stop.fail(late if stop.begun else line.crowded(positions))
    except BaseExceptionGroup:
        pass  # the first of them is kept
    finally:
        stop.over = True
    if stop.failure is None and None in replies:
        raise asyncio.CancelledError  # of one request, though nobody cancelled the call
    return stop.outcome(replies)


# The first attempt is made outside tenacity, which is slower than all else here; a failure that may
# pass is then told to it as that of its own first attempt.
async def _patiently(send: Callable[[], Awaitable[Reply]], policy: Policy) -> Reply:
    try:
        return await send()
    except RerankError as error:
        if not transient(error):
            raise
        failed, cause = [error], error

    async def attempt() -> Reply:
        nonlocal cause
        if failed:
            raise failed.pop()
        try:
            return await send()
        except RerankError as error:
            # That a gateway rests after a failure says nothing of the failure.
            cause = cause if _refusal.cools_down(error) else error
            raise

    try:
        return await policy.retrying(asyncio.sleep)(attempt)
    except RerankError:
        failure = cause
    raise failure


async def _send(
    request: Request, line: Line, deadline: float, stop: _Stop, caller: Caller, *, queue: bool
) -> Reply:
    await line.gate.enter(queue=queue)
    try:
        stop.begun = True
        return await _sent(request, line, deadline, stop, caller)
    except BaseException as error:
        if isinstance(error, RerankError) and not error.documents:
            error.documents = request.positions
        if isinstance(error, asyncio.CancelledError):
            stop.over = True  # whoever cancelled says why
        elif not transient(error):
            stop.fail(error)  # known before the next one gets the turn
        raise
    finally:
        line.gate.leave()


async def _sent(
    request: Request, line: Line, deadline: float, stop: _Stop, caller: Caller
) -> Reply:
    """What a request does while it is its turn."""
    if quiet := _quiet(line, deadline):
        await asyncio.sleep(quiet)
    if (pace := line.pace) is not None:  # it is asked where the caller is
        if caller.awaits:
            await caller.do(lambda: pace.atake(request.tokens))
        elif not await caller.do(lambda: pace.take(request.tokens, deadline, stop.doze)):
            raise line.endpoint.late(request.positions)
    stop.check()
    if not left(deadline):  # the timer may be late, and a request that is sent is billed
        raise line.endpoint.late(request.positions)
    if request.is_text:
        body = _wire.encode(request, line.protocol, line.server)
    else:  # images take their time
        body = await asyncio.to_thread(_wire.encode, request, line.protocol, line.server)
    stop.sent = True
    # No frame holds the answer, which may quote what it was sent.
    try:
        return _read(
            await line.transport.send(line.endpoint, body, deadline, caller, line.client),
            request,
            line,
        )
    except RerankError as error:
        if line.server is None or not _refusal.is_of_model(error):
            raise
        failure = error
    failure.hint = _refusal.among(failure.hint, request, await _served(line, deadline, caller))
    raise failure


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
        return reply if shown == reply.request_id else replace(reply, request_id=shown)
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


class _Stop:
    """Whether a call goes on, and its first failure: what follows from that is none."""

    failure: BaseException | None = None
    begun = False
    """Whether a request had its turn."""
    over = False
    sent = False
    """Whether one was sent."""

    def fail(self, error: BaseException) -> None:
        if not isinstance(error, _StoppedError):
            self.failure = self.failure or error
        self.over = True

    def check(self) -> None:
        """Ends what would go on after the call."""
        if self.over:
            raise _StoppedError

    def doze(self, seconds: float) -> None:
        """Waits in the caller's thread, which must not share a lock with the loop's.

        An interrupt there may come between taking a lock and knowing of it.
        """
        time.sleep(seconds)
        self.check()

    def outcome(self, replies: Iterable[Reply | None]) -> Outcome:
        """How the call ended; what is no failure of a rerank call is raised."""
        if self.failure is not None and not isinstance(self.failure, RerankError):
            raise self.failure
        return Outcome(tuple(replies), self.failure, self.sent)


class _StoppedError(Exception):
    """Another request of the same call has failed."""
