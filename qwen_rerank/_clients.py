"""A client of the caller's, and how a request goes through it: all that is known of httpx."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from qwen_rerank._loop import Caller
from qwen_rerank._sealed import without_frames

__all__ = ["Client", "Sent"]

_LATER = 0.5  # seconds

Sent = tuple[int, Iterable[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""


class Client:
    """An ``httpx.Client``, used in threads, or an ``httpx.AsyncClient``, used in its own loop.

    Its settings and headers are the caller's, and it is left open.
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
        response = self._http.send(request, stream=True, follow_redirects=False)
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
        response = await self._http.send(request, stream=True, follow_redirects=False)
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
    ) -> httpx.Request:
        request = httpx.Request(
            method,
            url,
            content=body,
            headers=headers(),
            extensions={
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout),
            },
        )
        return self._dressed(request)

    def _dressed(self, request: httpx.Request) -> httpx.Request:
        """*request* with the client's own headers, such as its key, its query and its cookies."""
        headers = httpx.Headers(self._http.headers)
        headers.update(request.headers)
        request.headers = headers
        if request.method == "HEAD":  # a connection is opened without a key
            headers.pop("authorization", None)
            return request
        if self._http.params:
            request.url = request.url.copy_merge_params(self._http.params)
        self._http.cookies.set_cookie_header(request)
        return request
