"""The window: one POST out, status and bytes in; the only file that imports an http library.

It knows nothing of reranking and decides nothing: no retry, no limit, no reading of bodies. Clients
are made at the first call, because importing and building them takes longer than a call.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import encodings.idna  # noqa: F401  else the first look-up imports it, where a fork may be under way
import os
import re
import socket
import ssl
import threading
import time
import traceback
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.request import getproxies

import httpcore
import httpx

from qwen_rerank._fork import no_fork
from qwen_rerank._values import Answer
from qwen_rerank.errors import ReplyError, RerankError, ServiceError

if TYPE_CHECKING:
    import aiohttp

    from qwen_rerank._endpoint import Endpoint

__all__ = ["Transport"]

# 500 results are about 40 KB; without a cap one bad server can fill the memory.
_MAX_BODY = 8 * 2**20
_PIECE = 2**18
# UnicodeError: a host name that no look-up can carry.
_NETWORK = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, UnicodeError)
# Wide enough never to be the limit: how many requests are in flight is decided elsewhere.
_POOL = httpx.Limits(max_connections=1_000, max_keepalive_connections=100, keepalive_expiry=15)


class Transport:
    """The http clients of one reranker: sync ones shared by all threads, an async one per loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sync: dict[bool, _Sender] = {}
        self._async: dict[tuple[asyncio.AbstractEventLoop, bool], asyncio.Task[_Kept]] = {}
        self._process = os.getpid()
        # Few users close a reranker; the sockets of a forgotten one are closed all the same.
        weakref.finalize(self, _abandon, self._async).atexit = False
        _OPEN.add(self)

    def send(
        self, endpoint: Endpoint, body: bytes, deadline: float, client: httpx.Client | None = None
    ) -> Answer:
        """Posts *body* and reads the whole answer before *deadline* (in ``time.monotonic`` time).

        Args:
            endpoint: Where to, with which headers.
            body: The body, JSON.
            deadline: When to give up, whatever is under way; name look-up alone is not covered.
            client: A client of the caller's to send through. Its own transport is left as it is,
                so there the deadline is checked between the pieces of the answer.

        Raises:
            DeadlineError: The deadline passed.
            ServiceError: There was no whole answer.
        """
        try:
            return _exchange(client or self._sync_sender(endpoint.local), endpoint, body, deadline)
        except BaseException as error:  # noqa: BLE001  Ctrl-C too is shown with its frames
            failure = _failure(error, deadline, endpoint)
        # Outside the handler: frames and chained causes hold the request and its key.
        raise failure

    async def asend(
        self,
        endpoint: Endpoint,
        body: bytes,
        deadline: float,
        client: httpx.AsyncClient | None = None,
    ) -> Answer:
        """`send` for a running event loop; the deadline covers name look-up too."""
        limit = asyncio.timeout(max(0.0, deadline - time.monotonic()))
        try:
            async with limit:
                http = client or await self._async_sender(endpoint.local)
                return await _aexchange(http, endpoint, body, deadline)
        except BaseException as error:  # noqa: BLE001  a cancellation too is shown with its frames
            # A loop's timer may be a little early by the clock, as uvloop's is.
            failure = endpoint.late() if limit.expired() else _failure(error, deadline, endpoint)
        raise failure

    def touch(
        self,
        endpoint: Endpoint,
        deadline: float,
        client: httpx.Client | None = None,
        trace: Callable[[str, Any], None] | None = None,
    ) -> None:
        """Opens a connection that the next call finds; nothing is asked and no key is shown.

        Args:
            endpoint: Where to.
            deadline: When to give up, as for `send`.
            client: A client of the caller's.
            trace: Told of each step as httpcore names it, such as
                ``connection.connect_tcp.started``, and of what belongs to it.

        Raises:
            ServiceError: The host cannot be reached.
        """
        try:
            http = client or self._sync_sender(endpoint.local)
            with (
                _clamped(deadline),
                _sent(
                    http,
                    httpx.Request(
                        "HEAD",
                        endpoint.origin,
                        extensions={
                            **_timeouts(_left(deadline, httpx.ReadTimeout)),
                            **({} if trace is None else {"trace": trace}),
                        },
                    ),
                ),
            ):
                pass
        except BaseException as error:  # noqa: BLE001  as in `send`
            failure = _failure(error, deadline, endpoint)
        else:
            return
        raise failure

    async def atouch(
        self, endpoint: Endpoint, deadline: float, client: httpx.AsyncClient | None = None
    ) -> None:
        """`touch` for the running event loop's own connections."""
        limit = asyncio.timeout(max(0.0, deadline - time.monotonic()))
        try:
            async with limit:
                http = client or await self._async_sender(endpoint.local)
                async with _asent(http, "HEAD", endpoint, b""):
                    pass
        except BaseException as error:  # noqa: BLE001  as in `asend`
            failure = endpoint.late() if limit.expired() else _failure(error, deadline, endpoint)
        else:
            return
        raise failure

    def close(self) -> None:
        """Closes the sync connections; the next call makes new ones."""
        with self._lock:
            self._sync.clear()  # each closes when the last call that uses it has ended

    async def aclose(self) -> None:
        """Closes the sync clients and this event loop's async ones."""
        self.close()
        loop = asyncio.get_running_loop()
        for key in [key for key in list(self._async) if key[0] is loop]:
            await (await self._async.pop(key)).aclose()

    def _sync_sender(self, local: bool) -> _Sender:
        with self._lock:
            if local not in self._sync:
                self._sync[local] = _build_sync(local)
            return self._sync[local]

    async def _async_sender(self, local: bool) -> _AsyncSender:
        loop = asyncio.get_running_loop()
        task = self._async.get((loop, local))
        if task is None:  # no await before the assignment, so one task per loop
            for key in [key for key in list(self._async) if key[0].is_closed()]:
                self._async.pop(key, None)
            task = loop.create_task(_keep(weakref.ref(self), (loop, local)))
            self._async[loop, local] = task
        if task.done() and not task.cancelled() and not task.exception():
            return task.result().sender
        try:
            return (await asyncio.shield(task)).sender
        except BaseException:
            if task.done() and (task.cancelled() or task.exception()):
                self._async.pop((loop, local), None)
            raise

    def _forget(self, key: tuple[asyncio.AbstractEventLoop, bool]) -> None:
        self._async.pop(key, None)


def _abandon(senders: dict[tuple[asyncio.AbstractEventLoop, bool], asyncio.Task[_Kept]]) -> None:
    def close(task: asyncio.Task[_Kept]) -> None:
        task.get_loop().create_task(task.result().aclose())

    for (loop, _), task in senders.items():
        if task.done() and not task.cancelled() and not task.exception():
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the sender
                loop.call_soon_threadsafe(close, task)


_OPEN: weakref.WeakSet[Transport] = weakref.WeakSet()


@atexit.register
def _close_idle_loops() -> None:
    """Closes what belongs to event loops that nobody closed."""
    for transport in [each for each in _OPEN if each._process == os.getpid()]:
        for (loop, _), task in list(transport._async.items()):
            if not loop.is_closed() and not loop.is_running() and task.done():
                with contextlib.suppress(Exception):  # it is too late to complain
                    loop.run_until_complete(task.result().aclose())


class _Kept:
    """An async sender that closes with its loop: ``shutdown_asyncgens`` ends the generator."""

    def __init__(self, sender: _AsyncSender, keeper: AsyncGenerator[None]) -> None:
        self.sender = sender
        self._keeper = keeper

    async def aclose(self) -> None:
        await self._keeper.aclose()


async def _keep(
    owner: weakref.ref[Transport], key: tuple[asyncio.AbstractEventLoop, bool]
) -> _Kept:
    sender = (await asyncio.to_thread(_async_maker, key[1]))()

    async def keeper() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if (transport := owner()) is not None:
                transport._forget(key)
            await (sender.aclose() if isinstance(sender, httpx.AsyncClient) else sender.close())

    kept = keeper()
    await anext(kept)
    return _Kept(sender, kept)


# What sends: a transport or session of ours, which costs much less than an httpx client around it;
# a client of ours where the environment names proxies, whose rules httpx knows; or the caller's.
_Sender: TypeAlias = "httpx.HTTPTransport | httpx.Client"
_AsyncSender: TypeAlias = "aiohttp.ClientSession | httpx.AsyncClient"
_RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]


def _build_sync(local: bool) -> _Sender:
    if local or not getproxies():
        return _clamping(httpx.HTTPTransport(verify=_certificates(), limits=_POOL))
    client = httpx.Client(verify=_certificates(), limits=_POOL)
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            _clamping(transport)
    return client


def _async_maker(local: bool) -> Callable[[], _AsyncSender]:
    """What makes a sender inside a loop. Imports aiohttp and reads files: run it in a thread."""
    proxies = {} if local else getproxies()
    if any(url.startswith("socks") for url in proxies.values()):  # aiohttp speaks no SOCKS
        return partial(httpx.AsyncClient, verify=_certificates(), limits=_POOL)
    if proxies:
        with no_fork:
            import httpx_aiohttp  # noqa: PLC0415  few have a proxy

        return partial(httpx_aiohttp.HttpxAiohttpClient, verify=_certificates(), limits=_POOL)
    with no_fork:
        import aiohttp  # noqa: PLC0415  sync callers need none

    certificates = _certificates()
    return lambda: aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, keepalive_timeout=_POOL.keepalive_expiry, ssl=certificates
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
    )


def _exchange(http: _Sender, endpoint: Endpoint, body: bytes, deadline: float) -> Answer:
    asked = _post(endpoint, body, _left(deadline, httpx.ReadTimeout))
    with _clamped(deadline), _sent(http, asked) as response:
        status, headers = response.status_code, response.headers.raw
        if response.is_stream_consumed:  # a caller's transport may answer from memory
            return _answer(status, headers, response.content, endpoint)
        pieces = bytearray()
        for piece in response.iter_raw():
            pieces += piece
            _check(pieces, deadline, endpoint)
        return _answer(status, headers, bytes(pieces), endpoint)


async def _aexchange(
    http: _AsyncSender, endpoint: Endpoint, body: bytes, deadline: float
) -> Answer:
    async with _asent(http, "POST", endpoint, body) as (status, headers, parts):
        pieces = bytearray()
        async for piece in parts:
            pieces += piece
            _check(pieces, deadline, endpoint)
        return _answer(status, headers, bytes(pieces), endpoint)


def _post(endpoint: Endpoint, body: bytes, timeout: float) -> httpx.Request:
    """The request that carries *body*; nobody else holds its headers, which hold the key."""
    return httpx.Request(
        "POST",
        _url(endpoint.url),
        content=body,
        headers=endpoint.headers(),
        extensions=_timeouts(timeout),
    )


@lru_cache(maxsize=64)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)  # parsing costs as much as planning a call


def _timeouts(seconds: float | None) -> dict[str, Any]:
    return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)}


def _dressed(request: httpx.Request, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
    """*request* with the client's own headers, such as its key, its query and its cookies."""
    headers = httpx.Headers(http.headers)
    headers.update(request.headers)
    request.headers = headers
    if request.method == "HEAD":  # a connection is opened without a key
        headers.pop("authorization", None)
        return request
    if http.params:
        request.url = request.url.copy_merge_params(http.params)
    http.cookies.set_cookie_header(request)
    return request


@contextlib.contextmanager
def _sent(http: _Sender, request: httpx.Request) -> Iterator[httpx.Response]:
    if isinstance(http, httpx.HTTPTransport):
        response = http.handle_request(request)
    else:
        response = http.send(_dressed(request, http), stream=True, follow_redirects=False)
    try:
        yield response
    finally:
        response.close()


@contextlib.asynccontextmanager
async def _asent(
    http: _AsyncSender, method: str, endpoint: Endpoint, body: bytes
) -> AsyncIterator[tuple[int, _RawHeaders, AsyncIterator[bytes]]]:
    """Status, headers and body of an answer; the deadline is the caller's business."""
    url, headers = (endpoint.url, endpoint.headers()) if body else (endpoint.origin, {})
    content = _in_pieces(body) if len(body) > _PIECE else body
    if body:
        headers["content-length"] = str(len(body))
    if not isinstance(http, httpx.AsyncClient):
        async with http.request(
            method, url, data=content or None, headers=headers, allow_redirects=False
        ) as answer:
            with _watched(answer):
                yield answer.status, answer.raw_headers, answer.content.iter_any()
        return
    request = httpx.Request(
        method, url, content=content, headers=headers, extensions=_timeouts(None)
    )
    response = await http.send(_dressed(request, http), stream=True, follow_redirects=False)
    async with contextlib.aclosing(response):
        consumed = response.is_stream_consumed  # a caller's transport may answer from memory
        parts = response.aiter_bytes() if consumed else response.aiter_raw()
        yield response.status_code, response.headers.raw, parts


_WATCHED: weakref.WeakSet[asyncio.Future[None]] = weakref.WeakSet()


@contextlib.contextmanager
def _watched(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """Ends the wait for a body whose connection is gone.

    aiohttp (3.14) gives up a connection over a broken chunk without telling who reads from it.
    """
    protocol = None if answer.connection is None else answer.connection.protocol
    closed: asyncio.Future[None] | None = getattr(protocol, "closed", None)
    if closed is None:  # the body has come with the head
        yield
        return

    if closed not in _WATCHED:
        _WATCHED.add(closed)
        closed.add_done_callback(lambda gone: gone.cancelled() or gone.exception())  # seen

    def lost(_: asyncio.Future[None]) -> None:
        if not answer.content.is_eof() and answer.content.exception() is None:
            answer.content.set_exception(ConnectionError("the connection was lost in the body"))

    closed.add_done_callback(lost)
    try:
        yield
    finally:
        closed.remove_done_callback(lost)


def _certificates() -> ssl.SSLContext:
    """What servers have to show; shared, because reading it takes longer than a call."""
    return _read_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _read_certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    try:
        with no_fork:
            return httpx.create_ssl_context()
    except OSError as error:
        problem = f"what SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({error.strerror})"
    raise OSError(problem)


def _answer(status: int, raw: _RawHeaders, body: bytes, endpoint: Endpoint) -> Answer:
    head = list(raw)
    # Some servers quote what they refuse. A header's value may be any word of a good answer.
    for secret in endpoint.secrets if status != 200 else filter(None, [endpoint.secret]):
        key = secret.encode()
        if key in body or any(key in part for pair in head for part in pair):
            body = body.replace(key, b"***")
            head = [(name.replace(key, b"***"), value.replace(key, b"***")) for name, value in head]
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head}
    return Answer(status, headers, body)


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """*body* as aiohttp wants large ones, which would otherwise hold up the event loop."""
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _check(pieces: bytearray, deadline: float, endpoint: Endpoint) -> None:
    if len(pieces) > _MAX_BODY:
        raise ReplyError(f"{endpoint.host} sent more than {_MAX_BODY} bytes: that is no ranking.")
    if time.monotonic() >= deadline:
        raise endpoint.late()


def _failure(error: BaseException, deadline: float, endpoint: Endpoint) -> BaseException:
    """What to raise for *error*; no frame, cause or request that holds the key hangs on it."""
    # httpx-aiohttp lets several of aiohttp's own errors through.
    of_aiohttp = type(error).__module__.partition(".")[0] == "aiohttp"
    # A DeadlineError is an OSError too.
    if isinstance(error, RerankError) or not (of_aiohttp or isinstance(error, _NETWORK)):
        return _without_frames(error)
    if time.monotonic() >= deadline:
        return endpoint.late()
    # Through httpx-aiohttp a refused connection arrives as a timeout: the innermost cause knows.
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    hint = "Check the network, the proxy settings and base_url=."
    if isinstance(cause, socket.gaierror):
        hint = f"The name {endpoint.host} is not known here: check base_url= and the network."
    elif isinstance(cause, ssl.SSLCertVerificationError):
        hint = "The certificate is not trusted here: set SSL_CERT_FILE, or pass http_client=."
    return ServiceError(f"No answer from {endpoint.host}: {_said(cause)}.", hint=hint)


def _said(cause: BaseException) -> str:
    """What *cause* says of itself, without the bytes that a parser quotes: they may be anything."""
    said = str(cause)
    if not isinstance(cause, OSError):
        said = re.split(r"[:\n(]| ['\"]| b['\"]", str(getattr(cause, "message", said)).strip())[0]
    return said.strip(" .") or type(cause).__name__


def _without_frames(error: BaseException) -> BaseException:
    """*error*, which is none of the network's, with its places noted instead of its frames."""
    if isinstance(error, Exception) and not isinstance(error, RerankError):
        places = "".join(
            f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}\n"
            for frame, line in traceback.walk_tb(error.__traceback__)
        )
        error.add_note(f"Frames are not kept, because some hold the API key. Raised at:\n{places}")
    chain: list[BaseException | None] = [error]
    while chain:
        if (one := chain.pop()) is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            chain += [one.__cause__, one.__context__]
    return error


# A total deadline for the sync client, whose own timeouts are per read: each network operation is
# clamped to what is left of the sending thread's time.
_thread = threading.local()


@contextlib.contextmanager
def _clamped(deadline: float) -> Iterator[None]:
    _thread.deadline = deadline
    try:
        yield
    finally:
        del _thread.deadline


def _left(deadline: float, late: type[Exception]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("the deadline passed")
    return left


def _clamp(timeout: float | None, late: type[Exception]) -> float | None:
    if (deadline := getattr(_thread, "deadline", None)) is None:
        return timeout
    left = _left(deadline, late)
    return left if timeout is None else min(left, timeout)


_HEAD_END, _LAST_CHUNK = b"\r\n\r\n", b"0\r\n\r\n"
_NO_BODY = re.compile(rb"HTTP/1\.[01] (1\d\d|204|304)\b")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)


class _Stream(httpcore.NetworkStream):
    """A connection whose reads and writes end with the deadline.

    It also watches for bytes behind the end of an answer: to httpcore they would be the answer to
    the next request, which could be another list's scores in good order.
    """

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._forget()

    def _forget(self) -> None:
        self._asks = b""  # the first bytes of the request
        self._head = b""  # of the answer that is being read
        self._read = 0
        self._due: int | None = None  # bytes of the whole answer; None while, or if, not known
        self._tail = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, _clamp(timeout, httpcore.ReadTimeout))
        self._read += len(data)
        self._tail = (self._tail + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
        if not self._head.endswith(_HEAD_END):
            head, end, _ = (self._head + data).partition(_HEAD_END)
            self._head = head + end
            if end and (self._asks.startswith(b"HEAD ") or _NO_BODY.match(self._head)):
                self._due = len(self._head)
            elif end and (length := _LENGTH.search(self._head)):
                self._due = len(self._head) + int(length[1])
        return data

    def _is_read_through(self) -> bool:
        if not self._read:
            return True
        return self._tail == _LAST_CHUNK if self._due is None else self._read == self._due

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._is_read_through():
            self._inner.close()
            raise httpcore.ReadError("there were bytes behind the last answer")
        if self._read:
            self._forget()
        self._asks = self._asks or buffer[:8]
        # In pieces, because one write of a large body gets its whole timeout for every piece sent.
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            self._inner.write(piece, _clamp(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _clamp(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        # An idle connection that is readable is closed by httpcore instead of used again. It looks
        # before it knows that the connection is idle, so `write` looks again.
        if info == "is_readable" and not self._is_read_through():
            return True
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _clamp(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options))


def _clamping(transport: httpx.HTTPTransport) -> httpx.HTTPTransport:
    # The one private touch of httpx; a test with slow headers fails if it stops working.
    transport._pool._network_backend = _Backend()
    weakref.finalize(transport, transport._pool.close)
    return transport
