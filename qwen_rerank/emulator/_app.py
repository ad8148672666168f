"""The routes: from an HTTP request to an HTTP answer. Behaviour and formats live elsewhere."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwen_rerank.emulator._limits import BODY_BYTES
from qwen_rerank.emulator._log import Log, LoggedRequest, without_credentials, without_secrets
from qwen_rerank.emulator._script import ErrorBody, Reply, Script
from qwen_rerank.emulator._service import RefusedError, Service, invalid
from qwen_rerank.emulator._wire import (
    COMPATIBLE,
    NATIVE,
    Format,
    documents_in,
    read_json,
    write_json,
)

_LEAST_SECRET = 8  # characters; masking a shorter "key" would blot out ordinary text
_NORMAL = Reply()
_NOT_JSON = object()
_TOO_LARGE = object()


@dataclass(frozen=True)
class Desk:
    """What the routes share."""

    service: Service
    script: Script
    log: Log
    api_key: str


@dataclass(frozen=True)
class _Call:
    """One request, read to its end."""

    request: Request
    wire: Format | None
    body: Any
    """Parsed JSON, or one of the two marks above."""
    request_id: str

    def failed(self, refused: RefusedError) -> Response:
        body = (self.wire or NATIVE).failure(refused, self.request_id)
        return _json(body, refused.status)


def build(desk: Desk) -> FastAPI:
    """Return the application that serves *desk*."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    async def about(_: Request) -> Response:
        return _json(
            {
                "service": "qwen-rerank emulator of the DashScope rerank API",
                "scores": "lexical stand-in, not a Qwen model",
                "routes": [NATIVE.path, COMPATIBLE.path],
            }
        )

    async def nothing_here(request: Request, _: Exception) -> Response:
        return await _handle(desk, request, None)

    app.add_api_route("/", about, response_model=None)
    for wire in (NATIVE, COMPATIBLE):
        app.add_api_route(wire.path, _route(desk, wire), methods=["POST"], response_model=None)
    # Unknown paths and methods; the vendor documents no 405.
    app.add_exception_handler(HTTPException, nothing_here)
    return app


def _route(desk: Desk, wire: Format) -> Callable[[Request], Awaitable[Response]]:
    async def rerank(request: Request) -> Response:
        return await _handle(desk, request, wire)

    return rerank


async def _handle(desk: Desk, request: Request, wire: Format | None) -> Response:
    """Log the request, then answer it by the script or by the service."""
    try:
        call = _Call(request, wire, await _body(request), str(uuid.uuid4()))
    except ClientDisconnect:
        return Response()  # to nobody
    seen = _logged(desk, call)
    desk.log.add(seen)

    reply, tokens = _NORMAL, None
    try:
        reply = desk.script.take(seen) or _NORMAL
        if reply.delay and await _gone(request, reply.delay):
            return Response()  # to nobody
        if reply.body is None:
            response, tokens = await _serve(desk, call)
        elif isinstance(reply.body, ErrorBody):
            response = call.failed(RefusedError(reply.status, reply.body.code, reply.body.message))
        else:
            content = write_json(reply.body) if isinstance(reply.body, dict) else reply.body
            response = Response(content, reply.status, media_type="application/json")
    except RefusedError as refused:
        response = call.failed(refused)
    except Exception as error:  # noqa: BLE001 - a function of the caller's may raise anything
        response = call.failed(
            RefusedError(500, "InternalError", f"{type(error).__name__}: {error}")
        )

    response.headers["x-request-id"] = call.request_id
    response.headers.update(reply.headers)
    if reply.drop != "before":
        desk.log.answered(call.request_id, response.status_code, tokens)
    return _Dropped(response, reply.drop) if reply.drop else response


async def _serve(desk: Desk, call: _Call) -> tuple[Response, int]:
    """Answer as the service does; raise `RefusedError` where it refuses."""
    headers = call.request.headers
    if call.wire is None:
        raise RefusedError(404, "NotFound", "Not found.")
    if call.body is _TOO_LARGE:  # the code of this failure is documented nowhere
        raise RefusedError(413, "RequestTooLarge", "The request body is too large.")
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or key.strip() != desk.api_key:
        raise RefusedError(401, "InvalidApiKey")
    if "x-dashscope-async" in headers:
        message = "Current user api does not support asynchronous calls."
        raise RefusedError(403, "AccessDenied", message)
    if call.body is _NOT_JSON:
        raise invalid("The request body is not valid JSON.")
    question = call.wire.parse(call.body)
    answer = await asyncio.to_thread(desk.service.answer, question)
    return _json(call.wire.render(question, answer, call.request_id)), answer.tokens


async def _body(request: Request) -> Any:
    """Read the whole body and parse it; what is too large is read only to be thrown away."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES.value:
            parts.clear()
        else:
            parts.append(part)
    if size > BODY_BYTES.value:
        return _TOO_LARGE
    try:
        return read_json(b"".join(parts))
    except ValueError:
        return _NOT_JSON


def _logged(desk: Desk, call: _Call) -> LoggedRequest:
    request = call.request
    presented = request.headers.get("authorization", "").rpartition(" ")[2]
    secrets = [desk.api_key, *([presented] if len(presented) >= _LEAST_SECRET else [])]
    query = unquote_plus(request.url.query)
    readable = call.body is not _NOT_JSON and call.body is not _TOO_LARGE
    return LoggedRequest(
        method=request.method,
        path=without_secrets(request.url.path + (f"?{query}" if query else ""), secrets),
        headers=without_credentials(request.headers.items(), secrets),
        body=without_secrets(call.body, secrets) if readable else None,
        documents=documents_in(call.body),
        request_id=call.request_id,
    )


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(write_json(body), status, media_type="application/json")


async def _gone(request: Request, seconds: float) -> bool:
    """Wait for *seconds*, or until the client leaves; return whether it left."""
    try:
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


class _Dropped(Response):
    """An answer whose connection is closed before its head, or in the middle of its body."""

    def __init__(self, whole: Response, drop: str) -> None:
        super().__init__()
        self._whole = whole
        self._drop = drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._drop == "mid":
            body = bytes(self._whole.body)
            await send(
                {
                    "type": "http.response.start",
                    "status": self._whole.status_code,
                    "headers": self._whole.raw_headers,
                }
            )
            half = body[: len(body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["state"]["transport"].close()  # sends what is buffered, then closes
        while (await receive())["type"] != "http.disconnect":
            pass
