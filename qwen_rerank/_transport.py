"""Where a request is sent: one POST or GET out, status and bytes in.

It knows nothing of reranking and decides nothing: no retry, no limit, no deadline, no reading of
bodies. Connections are opened at the first call, in a thread, because importing aiohttp and reading
certificates takes longer than a call.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import encodings.idna  # noqa: F401  else the first look-up imports it, where a fork may be under way
import re
import socket
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from qwen_rerank import _loop
from qwen_rerank._advice import advise
from qwen_rerank._clients import Client, elsewhere, kinds
from qwen_rerank._fork import no_fork
from qwen_rerank._refusal import exhausted
from qwen_rerank._route import Proxy, certificates, distrust, proxy_for
from qwen_rerank._sealed import linked, without_frames
from qwen_rerank._values import Answer
from qwen_rerank.errors import ReplyError, RequestError, RerankError, ServiceError

if TYPE_CHECKING:
    import aiohttp

    from qwen_rerank._endpoint import Endpoint

__all__ = ["Transport"]

# 500 results are about 40 KB; without a cap one bad server can fill the memory. Beside that it may
# repeat what it was asked, as vLLM does with every document; written in ASCII that is three times
# as long at most.
_MAX_BODY = 8 * 2**20
_ECHO = 3
_PIECE = 2**18
# What libraries raise for the network's sake; UnicodeError: a host name that no look-up can carry.
# Of httpx it is one branch: what is wrong with a caller's hook is raised as it is.
_OF_LIBRARIES = (
    *("aiohttp", "aiohttp_socks", "python_socks", "httpcore", "httpcore2"),
    *("httpx.RequestError", "httpx2.RequestError"),
)
_NETWORK = (OSError, UnicodeError)
_WATCHES_NOTHING = contextlib.nullcontext()

_Headers = Iterable[tuple[bytes, bytes]]


class Transport:
    """The connections of one reranker. All of it but `close` runs on the engine's loop."""

    def __init__(self) -> None:
        self._ways: dict[str, _Way] = {}
        self._opening = asyncio.Lock()
        # Few users close a reranker; the sockets of a forgotten one are closed all the same.
        weakref.finalize(self, _forget, self._ways).atexit = False

    async def send(
        self,
        endpoint: Endpoint,
        body: bytes | None,
        deadline: float,
        caller: _loop.Caller,
        client: Client | None = None,
    ) -> Answer:
        """Posts *body*, or asks without one; reads the answer and goes on until it is cancelled.

        Args:
            endpoint: Where to, with which headers.
            body: The body, JSON; None for a GET.
            deadline: When a blocking client, which cannot be cancelled, gives up as well.
            caller: Whose client that is.
            client: A client of the caller's to send through.

        Raises:
            ServiceError: There was no whole answer.
            ReplyError: It is far too large for a ranking; of a refusal the head will do.
        """
        most = _MAX_BODY + _ECHO * len(body or b"")
        method = "GET" if body is None else "POST"
        try:
            if client is None:
                status, headers, said = await self._ask(method, endpoint, body or b"", most)
            else:
                status, headers, said = await client.send(
                    caller, deadline, most, method, endpoint.url, endpoint.headers, body or b""
                )
            return _answer(status, headers, said, endpoint, most)
        except BaseException as error:  # noqa: BLE001  a cancellation too is shown with its frames
            failure = _failure(error, endpoint, self._proxy(endpoint), client)
        # Outside the handler: frames and chained causes hold the request and its key.
        raise failure

    async def touch(
        self,
        endpoint: Endpoint,
        deadline: float,
        caller: _loop.Caller,
        client: Client | None = None,
    ) -> None:
        """Opens a connection that the next call finds; nothing is asked and no key is shown.

        Args:
            endpoint: Where to.
            deadline: When to give up, in ``time.monotonic`` time.
            caller: As for `send`.
            client: As for `send`.

        Raises:
            ServiceError: The host cannot be reached.
        """
        limit = asyncio.timeout(max(0.0, deadline - time.monotonic()))
        try:
            async with limit:
                if client is None:
                    await self._ask("HEAD", endpoint, b"", _PIECE)
                else:
                    await client.send(caller, deadline, _PIECE, "HEAD", endpoint.origin, dict, b"")
                return
        except BaseException as error:  # noqa: BLE001  as in `send`
            proxy = self._proxy(endpoint)
            failure = (
                endpoint.late(silent=True)
                if limit.expired()
                else _failure(error, endpoint, proxy, client)
            )
        raise failure

    async def close(self) -> None:
        """Closes the connections, busy ones once their calls have ended; the next opens others."""
        ways = list(self._ways.values())
        self._ways.clear()
        for way in ways:
            await way.give_up()

    @property
    def is_open(self) -> bool:
        """Whether there is anything to close. From any thread."""
        return bool(self._ways)

    async def _ask(
        self, method: str, endpoint: Endpoint, body: bytes, most: int
    ) -> tuple[int, _Headers, bytes]:
        """The answer to *body*, or to a GET; that to a HEAD, which shows no key, is of no use."""
        is_call = method != "HEAD"
        way = self._ways.get(endpoint.origin) or await self._opened(endpoint)
        way.busy += 1
        try:
            # No name for the headers, or whoever prints this frame while it waits sees the key.
            answer = await way.session.request(
                method,
                endpoint.url if is_call else endpoint.origin,
                # aiohttp wants large ones in pieces, which would otherwise hold up the loop.
                data=_in_pieces(body) if len(body) > _PIECE else body or None,
                headers={"content-length": str(len(body))} if body else None,
                middlewares=(partial(_dressed, endpoint, way, is_call),),
                allow_redirects=False,
                **way.options,
            )
            async with answer:
                if answer.status == 407 and way.proxy is not None:
                    raise way.proxy.refusal("it wants a login")
                pieces, content = bytearray(), answer.content
                # Without a connection, the body has come with the head.
                with _WATCHES_NOTHING if answer.connection is None else _watched(answer):
                    # A body that failed at its end is at it as well: reading is what says so.
                    while not content.at_eof() or content.exception() is not None:
                        pieces += await content.readany()
                        if len(pieces) > most:
                            answer.close()  # else its rest is read
                            break
                return answer.status, answer.raw_headers, bytes(pieces)
        finally:
            way.leave()

    def _proxy(self, endpoint: Endpoint) -> Proxy | None:
        way = self._ways.get(endpoint.origin)
        return None if way is None else way.proxy

    async def _opened(self, endpoint: Endpoint) -> _Way:
        async with self._opening:
            if endpoint.origin not in self._ways:
                # In a thread, because it imports and reads files.
                proxy, session = await asyncio.to_thread(_found, endpoint)
                self._ways[endpoint.origin] = _Way(session(), proxy, endpoint.origin)
            return self._ways[endpoint.origin]


def _found(endpoint: Endpoint) -> tuple[Proxy | None, Callable[[], aiohttp.ClientSession]]:
    """The proxy to *endpoint*, and what opens a session in the running loop."""
    proxy = None if endpoint.local else proxy_for(endpoint.url)
    plain = endpoint.origin.startswith("http:") and (proxy is None or proxy.scheme != "https")
    trusted = None if plain else certificates()
    with no_fork:
        from qwen_rerank._pool import session  # noqa: PLC0415  imports aiohttp
    return proxy, partial(session, proxy, trusted)


class _Way:
    """The connections to one host, and what they take to go through a proxy."""

    def __init__(self, session: aiohttp.ClientSession, proxy: Proxy | None, origin: str) -> None:
        self.session = session
        self.proxy = proxy
        self.busy = 0
        self.headers: dict[str, str] = {}
        """What each request carries for the proxy."""
        self.options: dict[str, Any] = {}
        """Likewise, for aiohttp."""
        self._engine = _loop.engine()
        self._engine.open.add(session)
        self._given_up = False
        if proxy is None or proxy.kind == "socks":
            return
        self.options["proxy"] = proxy.url
        if proxy.auth is not None:
            told = base64.b64encode(":".join(proxy.auth).encode()).decode()
            if origin.startswith("https:"):  # the proxy is told when it opens the tunnel
                self.options["proxy_headers"] = {"proxy-authorization": f"Basic {told}"}
            else:
                self.headers["proxy-authorization"] = f"Basic {told}"

    def leave(self) -> None:
        """Ends one use of it."""
        self.busy -= 1
        if self._given_up and not self.busy:
            self._engine.spawn(self._close())

    async def give_up(self) -> None:
        """Closes it as soon as nobody uses it."""
        self._given_up = True
        if not self.busy:
            await self._close()

    def forget(self) -> None:
        """`give_up`, from any thread."""
        self._engine.post(lambda: self._engine.spawn(self.give_up()))

    async def _close(self) -> None:
        await self.session.close()
        self._engine.open.discard(self.session)


def _forget(ways: dict[str, _Way]) -> None:
    for way in ways.values():
        way.forget()


def _dressed(
    endpoint: Endpoint,
    way: _Way,
    asks: bool,
    request: aiohttp.ClientRequest,
    go_on: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
) -> Awaitable[aiohttp.ClientResponse]:
    """Puts on the headers, where aiohttp's tracing has been told of those that it was given.

    No coroutine, or whoever prints its frame while it waits sees the key.
    """
    request.headers.update((endpoint.headers() if asks else {}) | way.headers)
    return go_on(request)


@contextlib.contextmanager
def _watched(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """Ends the wait for a body whose connection is gone.

    aiohttp (3.14) gives up a connection over a broken chunk without telling who reads from it.
    """
    protocol = answer.connection and answer.connection.protocol
    closed: asyncio.Future[None] | None = getattr(protocol, "closed", None)
    if closed is None:
        yield
        return

    def lost(_: asyncio.Future[None]) -> None:
        if not answer.content.is_eof() and answer.content.exception() is None:
            answer.content.set_exception(ConnectionError("the connection was lost in the body"))

    closed.add_done_callback(lost)
    try:
        yield
    finally:
        closed.remove_done_callback(lost)


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _answer(status: int, raw: _Headers, body: bytes, endpoint: Endpoint, most: int) -> Answer:
    if len(body) > most and status == 200:
        error = ReplyError(f"{endpoint.host} sent more than {most} bytes: that is no ranking.")
        error.retryable = False  # it would be as large again, and is billed each time
        raise error
    head = list(raw)
    # Some servers quote what they refuse. A header's value may be any word of a good answer.
    for secret in endpoint.secrets if status != 200 else filter(None, [endpoint.secret]):
        key = secret.encode()
        if key in body or key in b"\n".join(chain.from_iterable(head)):
            body = body.replace(key, b"***")
            head = [(name.replace(key, b"***"), value.replace(key, b"***")) for name, value in head]
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head}
    return Answer(status, headers, body)


def _failure(
    error: BaseException, endpoint: Endpoint, proxy: Proxy | None, client: Client | None
) -> BaseException:
    """What to raise for *error*; no frame, cause or request that holds the key hangs on it."""
    *_, cause = linked(error, lambda one: [one.__cause__ or one.__context__])
    if (limit := exhausted(cause)) is not None:
        return limit
    if proxy is not None:
        from qwen_rerank._pool import failure_of  # noqa: PLC0415  is imported where a proxy is

        if (of_proxy := failure_of(proxy, error, cause)) is not None:
            return of_proxy
    # A DeadlineError is an OSError too.
    if isinstance(error, RerankError) or not (
        isinstance(error, _NETWORK) or not kinds(error).isdisjoint(_OF_LIBRARIES)
    ):
        return without_frames(error)
    if (of_file := _about_a_file(error)) is not None:
        failure = RequestError(
            f"The call could not be made, because {of_file.filename} cannot be used: "
            f"{of_file.strerror}.",
            hint="That is a file on this machine, such as one of certificates, and not the "
            "network: look for where it is named.",
        )
        failure._unsent = True
        return failure
    return _unanswered(error, cause, endpoint, proxy, client)


def _about_a_file(error: BaseException) -> OSError | None:
    """What *error* or one of its causes says of a file; what it was raised amid may be got over."""
    for one in linked(error, lambda one: [one.__cause__]):
        if isinstance(one, OSError) and one.filename is not None:
            return one
    return None


def _unanswered(
    error: BaseException,
    cause: BaseException,
    endpoint: Endpoint,
    proxy: Proxy | None,
    client: Client | None,
) -> RerankError:
    """What kept *endpoint* from answering."""
    hint: str
    retryable = True
    other = None if client is None else elsewhere(error, endpoint.url)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint, retryable = distrust(cause, by_client=client is not None), False
    elif other is not None:
        hint = f"Your HTTP client asked there, for a token say, and not {endpoint.host}."
    elif isinstance(cause, socket.gaierror):
        hint = endpoint.unknown
        if client:  # which name it was, that does not say
            hint += " Or it is that of your HTTP client's proxy."
    else:
        settings = "the proxy settings" if proxy is None else proxy.named_by
        hint = advise(
            (
                "Check the network, {settings} and {places}.",
                "Check the network and {settings}.",
            ),
            settings=settings,
            places=endpoint.places,
        )
    failure = ServiceError(f"No answer from {other or endpoint.host}: {_said(cause)}.", hint=hint)
    failure.retryable = retryable
    return failure


def _said(cause: BaseException) -> str:
    """What *cause* says of itself, without the bytes that a parser quotes: they may be anything."""
    said = str(cause)
    if not isinstance(cause, OSError):
        said = re.split(r"[:\n(]| ['\"]| b['\"]", str(getattr(cause, "message", said)).strip())[0]
    return said.strip(" .") or type(cause).__name__
