"""A client of the caller's, and how a request goes through it: all that is known of httpx.

It makes its own requests, so that httpx is imported nowhere here; httpx2 has the same interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from qwen_rerank._loop import Caller
from qwen_rerank._sealed import without_frames

__all__ = ["Client", "Sent", "elsewhere", "kinds"]

_LATER = 0.5  # seconds

Sent = tuple[int, Iterable[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""


class Client:
    """An ``httpx.Client``, used in threads, or an ``httpx.AsyncClient``, used in its own loop.

    Or one of httpx2. Its settings and headers are the caller's, and it is left open.
    """

    def __init__(self, http: Any) -> None:
        self._http = http
        self.is_async = inspect.iscoroutinefunction(http.send)

    async def send(
        self,
        caller: Caller,
        deadline: float,
        most: int,
        *what: Any,
    ) -> Sent:
        """Sends one request and reads no more than *most* bytes and a piece of its answer.

        Args:
            caller: Whose client it is.
            deadline: When the answer has to be there, in ``time.monotonic`` time.
            most: Bytes.
            *what: Method, URL, what makes the headers, and the body. They are made late, or whoever
                prints a frame that waits sees the key.
        """
        if self.is_async:
            return await caller.do(lambda: self._awaited(most, *what))  # type: ignore[no-any-return]
        # A blocking client cannot be interrupted: its thread is left to itself when time is up.
        over = threading.Event()
        try:
            return await asyncio.to_thread(self._blocking, over, deadline, most, *what)
        finally:
            over.set()

    def _blocking(self, over: threading.Event, deadline: float, most: int, *what: Any) -> Sent:
        # Each wait of it ends after the call has, which then says why.
        request = self._request(max(0.0, deadline - time.monotonic()) + _LATER, *what)
        try:
            response = self._http.send(request, stream=True, follow_redirects=False)
        except Exception as error:
            if (refused := _refused(error, request)) is None:
                raise
            return refused
        try:
            if response.is_stream_consumed:  # a caller's transport may answer from memory
                return response.status_code, response.headers.raw, response.content
            pieces = bytearray()
            for piece in response.iter_raw():
                pieces += piece
                if over.is_set() or len(pieces) > most:
                    break
            return response.status_code, response.headers.raw, bytes(pieces)
        finally:
            response.close()

    async def _awaited(self, most: int, *what: Any) -> Sent:
        try:
            return await self._answered(most, *what)
        except BaseException as error:  # noqa: BLE001  as in the transport
            # Here too: a request that was given up tells nobody, and a client may raise one error
            # for several.
            failure = without_frames(error)
        raise failure

    async def _answered(self, most: int, *what: Any) -> Sent:
        request = self._request(None, *what)
        try:
            response = await self._http.send(request, stream=True, follow_redirects=False)
        except Exception as error:
            if (refused := _refused(error, request)) is None:
                raise
            return refused
        try:
            if response.is_stream_consumed:
                return response.status_code, response.headers.raw, response.content
            pieces = bytearray()
            async for piece in response.aiter_raw():
                pieces += piece
                if len(pieces) > most:
                    break
            return response.status_code, response.headers.raw, bytes(pieces)
        finally:
            await response.aclose()

    def _request(
        self,
        timeout: float | None,
        method: str,
        url: str,
        headers: Callable[[], dict[str, str]],
        body: bytes,
    ) -> Any:
        # By the client, which has headers, a query and cookies of its own, and takes no other
        # library's requests.
        request = self._http.build_request(
            method, url, content=body, headers=headers(), timeout=timeout
        )
        if method == "HEAD":  # a connection is opened without a key, wherever the client keeps it
            request.url = request.url.copy_with(query=None)
            for name in ("authorization", "cookie"):
                request.headers.pop(name, None)
        return request


def kinds(error: BaseException) -> set[str]:
    """What *error* is: its classes, such as ``httpx.RequestError``, and their packages."""
    found = set()
    for kind in type(error).__mro__:
        package = kind.__module__.partition(".")[0]
        found |= {package, f"{package}.{kind.__name__}"}
    return found


def elsewhere(error: Any, url: str) -> str | None:
    """The host that a client asked when it raised *error*, if that is another than *url*'s."""
    try:
        asked = error.request.url
        is_there = asked.netloc == type(asked)(url).netloc
    except (AttributeError, RuntimeError):  # it says of no request
        return None
    return None if is_there else asked.netloc.decode("ascii")


def _refused(error: Exception, request: Any) -> Sent | None:
    """The answer to *request* that a hook of the client's made *error* of; None if none did.

    Its body is gone if the hook did not read it: the client has closed the connection.
    """
    if kinds(error).isdisjoint(("httpx.HTTPStatusError", "httpx2.HTTPStatusError")):
        return None
    response, body = cast("Any", error).response, b""
    try:
        is_other = response.request.url != request.url  # of what gives tokens, say
    except RuntimeError:  # of nobody: the hook made it up
        return None
    if is_other or response.is_success:  # which the hook has reasons of its own to refuse
        return None
    with contextlib.suppress(RuntimeError):  # it was not read
        body = response.content
    return response.status_code, response.headers.raw, body
