"""The routes: from an HTTP request to an HTTP answer. Behaviour and formats live elsewhere."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from qwen_rerank.emulator._alter import Altered
from qwen_rerank.emulator._faults import Asked, Fault
from qwen_rerank.emulator._log import (
    Log,
    LoggedRequest,
    without_bulk,
    without_credentials,
    without_secrets,
)
from qwen_rerank.emulator._media import base64_of, decoded_size
from qwen_rerank.emulator._models import BASE64_CHARACTERS, BODY_BYTES, WIRE_BYTES
from qwen_rerank.emulator._onwire import CLOSE_BEFORE, CLOSE_MID, Manner, RawAnswer, gone
from qwen_rerank.emulator._script import ErrorBody, Reply, Script
from qwen_rerank.emulator._servers import SERVERS, OwnServer, Slip, server_at
from qwen_rerank.emulator._service import Own, RefusedError, Service, invalid
from qwen_rerank.emulator._when import Faults
from qwen_rerank.emulator._wire import (
    COMPATIBLE,
    NATIVE,
    Format,
    documents_in,
    media_in,
    read_json,
    write_json,
)

_LEAST_SECRET = 8  # characters; masking a shorter "key" would blot out ordinary text
_NORMAL = Reply()
_NOT_JSON = object()
_TOO_LARGE = object()
_DROPS = {None: None, "before": CLOSE_BEFORE, "mid": CLOSE_MID}


@dataclass(frozen=True)
class Desk:
    """What the routes share."""

    service: Service
    script: Script
    faults: Faults
    log: Log
    api_key: str
    max_model_len: int
    server_key: str | None


@dataclass(frozen=True)
class _Call:
    """One request, read to its end."""

    request: Request
    wire: Format | None
    body: Any
    """Parsed JSON, or one of the two marks above."""
    request_id: str

    def failed(self, refused: RefusedError, envelope: Format | None = None) -> Response:
        wire = envelope or self.wire or server_at(self.request.url.path) or NATIVE
        body = wire.failure(refused, self.request_id)
        if isinstance(body, str):
            return Response(body, refused.status, media_type="text/plain")
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
                "other servers": [server.path for server in SERVERS.values()],
            }
        )

    async def nothing_here(request: Request, _: Exception) -> Response:
        return await _handle(desk, request, None)

    app.add_api_route("/", about, response_model=None)
    for wire in (NATIVE, COMPATIBLE):
        app.add_api_route(wire.path, _route(desk, wire), methods=["POST"], response_model=None)
    for path in COMPATIBLE.models_paths:
        app.add_api_route(path, _listing(desk), response_model=None)
    for server in SERVERS.values():
        for path in server.paths:
            app.add_api_route(path, _route(desk, server), methods=["POST"], response_model=None)
        for tail in server.tells:
            told = _telling(server.about(tail, desk.max_model_len))
            app.add_api_route(server.prefix + tail, told, response_model=None)
    # Unknown paths and methods; the vendor documents no 405.
    app.add_exception_handler(HTTPException, nothing_here)
    return app


def _route(desk: Desk, wire: Format) -> Callable[[Request], Awaitable[Response]]:
    async def rerank(request: Request) -> Response:
        return await _handle(desk, request, wire)

    return rerank


def _telling(about: Any) -> Callable[[Request], Awaitable[Response]]:
    """Return a route that says what a server is: it is not logged, and meets no fault."""

    async def tell(_: Request) -> Response:
        return Response() if about is None else _json(about)

    return tell


def _listing(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    """Return a route that lists DashScope's models to who has the key; likewise."""

    async def models(request: Request) -> Response:
        if _has_key(desk, request):
            return _json(COMPATIBLE.models())
        refused = RefusedError(401, "InvalidApiKey")
        return _json(COMPATIBLE.failure(refused, str(uuid.uuid4())), refused.status)

    return models


async def _handle(desk: Desk, request: Request, wire: Format | None) -> Response:
    """Log the request, then answer it by the script, by a fault or by the service."""
    try:
        call = _Call(request, wire, await _body(request), str(uuid.uuid4()))
    except ClientDisconnect:
        return Response()  # to nobody
    seen = _logged(desk, call)
    desk.log.add(seen)

    reply, fault, tokens = _NORMAL, None, None
    try:
        scripted = desk.script.take(seen)
        fault = None if scripted else desk.faults.take(call.body)
        reply = scripted or _reply(fault, request)
        if reply.delay and await gone(request.receive, reply.delay):
            return Response()  # to nobody
        if reply.body is None:
            response, tokens = await _serve(desk, call)
        elif isinstance(reply.body, ErrorBody):
            said = reply.body
            refused = RefusedError(reply.status, said.code, said.message, inner=said.inner)
            response = call.failed(refused, said.envelope)
        else:
            is_json = isinstance(reply.body, dict | list)
            content = write_json(reply.body) if is_json else reply.body
            response = Response(content, reply.status, media_type="application/json")
    except RefusedError as refused:
        response = call.failed(refused)
    except Exception as error:  # noqa: BLE001 - a function of the caller's may raise anything
        response = call.failed(
            RefusedError(500, "InternalError", f"{type(error).__name__}: {error}")
        )

    response.headers[getattr(wire, "id_header", "x-request-id")] = call.request_id
    response.headers.update(reply.headers)
    of_dashscope = not isinstance(wire, OwnServer)
    if isinstance(fault, Altered) and tokens is not None and of_dashscope:  # it has answered
        response = _altered(response, fault, seen.documents)
    manner = fault if isinstance(fault, Manner) else _DROPS[reply.drop]
    if manner is None or manner.status:
        desk.log.answered(call.request_id, response.status_code, tokens)
    return RawAnswer(response, manner) if manner else response


def _reply(fault: Fault | None, request: Request) -> Reply:
    """Return what is answered instead of the service, if that is what *fault* is about."""
    if callable(fault):
        authorization = request.headers.get("authorization", "")
        path, port = request.scope["raw_path"].decode(), request.url.port or 80
        fault = fault(Asked(authorization, path, port, datetime.now(UTC)))
    return fault if isinstance(fault, Reply) else _NORMAL


def _altered(honest: Response, fault: Altered, documents: int) -> Response:
    headers = {**honest.headers, **fault.headers}
    del headers["content-length"]
    kept = {name: value for name, value in headers.items() if value is not None}
    return Response(fault.body(bytes(honest.body), documents), honest.status_code, kept)


async def _serve(desk: Desk, call: _Call) -> tuple[Response, int]:
    """Answer as the service does; raise `RefusedError` where it refuses."""
    headers = call.request.headers
    if call.wire is None:
        raise _nowhere(call.request.method, call.request.url.path)
    if call.body is _TOO_LARGE:  # the code of this failure is documented nowhere
        raise RefusedError(413, "RequestTooLarge", "The request body is too large.")
    if isinstance(call.wire, OwnServer):
        _let_in(call, call.wire, desk.server_key)
        kind = headers.get("content-type", "application/json").partition(";")[0]
        if call.wire.takes_json_only and kind != "application/json":
            raise call.wire.bad_body([Slip("", "content_type", "Unsupported Media Type")])
        if call.body is _NOT_JSON:
            said = {"error": "Expecting value"}
            slip = Slip("", "json_invalid", "JSON decode error", {}, said, (0,))
            raise call.wire.bad_body([slip])
        question = call.wire.parse(call.body)
        server = call.wire
        refusal = server.too_long if server.refuses_long else None
        own = Own(desk.max_model_len, server.template, refusal)
        answer = await asyncio.to_thread(desk.service.answer_freely, question, own)
        return _json(call.wire.render(question, answer, call.request_id)), answer.tokens
    if not _has_key(desk, call.request):
        raise RefusedError(401, "InvalidApiKey")
    if "x-dashscope-async" in headers:
        message = "Current user api does not support asynchronous calls."
        raise RefusedError(403, "AccessDenied", message)
    if call.body is _NOT_JSON:
        raise invalid("The request body is not valid JSON.")
    question = call.wire.parse(call.body)
    answer = await asyncio.to_thread(desk.service.answer, question)
    return _json(call.wire.render(question, answer, call.request_id)), answer.tokens


def _nowhere(method: str, path: str) -> RefusedError:
    """Return the refusal of a path or method that is not served."""
    server = server_at(path)
    if server is not None:
        return server.nowhere(405 if path in server.paths else 404, method)
    if method == "POST" and path.startswith(NATIVE.tasks):
        return invalid("task can not be null")
    return RefusedError(404, "NotFound", "Not found.")


def _has_key(desk: Desk, request: Request) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and key.strip() == desk.api_key


def _let_in(call: _Call, server: OwnServer, key: str | None) -> None:
    """Refuse a key that is wrong or missing, where *server* was started with one and looks."""
    tail = call.request.url.path.removeprefix(server.prefix)
    if key is None or not tail.startswith(server.guarded):
        return
    if call.request.headers.get("authorization", "") != f"Bearer {key}":
        raise server.bad_key()


async def _body(request: Request) -> Any:
    """Read the whole body and parse it; what is too large is read only to be thrown away."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > WIRE_BYTES.value:
            parts.clear()
        else:
            parts.append(part)
    if size > WIRE_BYTES.value:
        return _TOO_LARGE
    try:
        body = read_json(b"".join(parts))
    except ValueError:
        body = _NOT_JSON
    base64s = [text for text in map(base64_of, media_in(body)) if text is not None]
    decoded = size - sum(len(text) - decoded_size(text) for text in base64s)
    if decoded > BODY_BYTES.value or max(map(len, base64s), default=0) > BASE64_CHARACTERS.value:
        return _TOO_LARGE
    return body


def _logged(desk: Desk, call: _Call) -> LoggedRequest:
    request = call.request
    presented = request.headers.get("authorization", "").rpartition(" ")[2]
    secrets = [key for key in (desk.api_key, presented) if len(key) >= _LEAST_SECRET]
    query = unquote_plus(request.url.query)
    readable = call.body is not _NOT_JSON and call.body is not _TOO_LARGE
    return LoggedRequest(
        method=request.method,
        path=without_secrets(request.url.path + (f"?{query}" if query else ""), secrets),
        headers=without_credentials(request.headers.items(), secrets),
        body=without_secrets(without_bulk(call.body), secrets) if readable else None,
        documents=documents_in(call.body),
        request_id=call.request_id,
    )


def _json(body: Any, status: int = 200) -> Response:
    return Response(write_json(body), status, media_type="application/json")
