import asyncio
import contextlib
import contextvars
import errno
import gc
import gzip
import itertools
import json
import socket
import threading
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
from pydantic import SecretStr

from qwen_rerank import Reranker, _endpoint, _loop, errors
from qwen_rerank._transport import Transport
from qwen_rerank.emulator import Reply

_KEY = "sk-given-0123456789abcdef"
_TOKEN = "token-of-a-gateway"
_OK = b'{"ok": true}'
_BODY = json.dumps(
    {"model": "qwen3-rerank", "input": {"query": "q", "documents": ["a"]}, "parameters": {}}
).encode()
_FDS = Path("/proc/self/fd")


def _endpoint_at(address, *, local=True, scheme="http", key=_KEY):
    url = f"{scheme}://{address}/api/v1"
    return _endpoint.Endpoint(url, address, local, SecretStr(key), None)


@pytest.fixture(name="transport")
def _transport():
    transport = Transport()
    yield transport
    _loop.run(lambda _: transport.close())


@pytest.fixture(name="send")
def _send(transport):
    """Sends one request, as a call with that timeout does, from this thread."""

    def send(endpoint, body=_BODY, *, seconds=10.0, through=None):
        return _loop.run(partial(_sent, through or transport, endpoint, body, seconds))

    return send


async def _sent(transport, endpoint, body, seconds, caller):
    async with asyncio.timeout(seconds):
        return await transport.send(endpoint, body, time.monotonic() + seconds, caller)


def _answering(*what):
    return lambda server, connection: server.answer(connection, *what)


# Answers and none, beside those of tests/faults


def test_packed_answers_stay_packed(send, serve):
    """A body is never unpacked, whatever the server made of it."""
    packed = gzip.compress(_OK)
    server = serve(_answering(packed, "200 OK", "content-encoding: gzip"))

    answer = send(_endpoint_at(server.address))

    assert (answer.headers["content-encoding"], answer.body) == ("gzip", packed)


@pytest.mark.parametrize(("status", "token"), [("401 No", "***"), ("200 OK", _TOKEN)])
def test_a_quoted_key_is_scrubbed(send, serve, status, token):
    """A server that quotes our key, in body or header, does not get it into our logs.

    Nor a secret header, where it refuses: in a good answer that may be an ordinary word.
    """
    said = f"bad key {_KEY} and again {_KEY} with {_TOKEN}".encode()
    server = serve(_answering(said, status, f"x-request-id: {_KEY}", f"x-k: a{_KEY}b"))
    extra = (("x-token", SecretStr(_TOKEN)),)

    answer = send(replace(_endpoint_at(server.address), extra=extra))

    assert answer.body.decode() == f"bad key *** and again *** with {token}"
    assert _KEY not in repr(answer)


def test_a_name_that_nobody_can_look_up(send, shown):
    """A host name that no DNS would take is the service's error, which shows no key."""
    with pytest.raises(errors.ServiceError) as caught:
        send(_endpoint_at("a" * 64 + ".example", local=False))

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert _KEY not in shown(caught.value)


def test_a_flood_through_the_callers_client(serve, rank, clients):
    """What a given client reads is capped too, and the client is left open."""

    def flood(server, connection):
        server.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
        connection.sendall(b" " * 16 * 2**20)
        server.over.wait(10)

    given = clients()
    reranker = Reranker(base_url=f"http://{serve(flood).address}", api_key=_KEY, **given)

    with pytest.raises(errors.ReplyError, match="more than"):
        rank(reranker, "a query", ["a text"])

    assert not any(client.is_closed for client in given.values())


def test_a_refusal_that_quotes_all_and_more(send, serve):
    """Of a refusal that is far too large the head is kept, since its status says enough."""
    server = serve(_answering(b" " * 9 * 2**20, "422 Unprocessable Entity"))

    answer = send(_endpoint_at(server.address))

    assert answer.status == 422
    assert len(answer.body) > 8 * 2**20


@pytest.mark.parametrize(("asked", "told"), [(0, 8), (1, 11)])
def test_a_large_answer(send, serve, asked, told):
    """An answer of 8 MiB is read, and of three times what was asked besides, as documents echo."""
    server = serve(_answering(b" " * told * 2**20))

    answer = send(_endpoint_at(server.address), b" " * asked * 2**20)

    assert len(answer.body) == told * 2**20


def test_a_missing_file_is_no_network_problem(make):
    """What cannot be read on this machine is named, and not taken for an outage.

    But an error of the network raised while a client got over a missing file is the network's.
    """
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/none/client.pem")

    def fail(_):
        raise missing

    def get_over(_):
        try:
            raise missing
        except FileNotFoundError:
            raise httpx.ConnectError("refused")  # noqa: B904  as clients do

    def failure_through(handler):
        client = httpx.Client(transport=httpx.MockTransport(handler))
        with pytest.raises(errors.RerankError) as caught:
            make(http_client=client, max_retries=0).rerank("q", ["a text"])
        return caught.value

    failure = failure_through(fail)
    assert type(failure) is errors.RequestError
    assert "/none/client.pem cannot be used" in str(failure)
    assert "not the network" in failure.hint
    assert type(failure_through(get_over)) is errors.ServiceError


def test_who_refused_once_has_answered(emulator, make):
    """A server that refuses and then says nothing more is not said to have answered nothing."""
    emulator.script(Reply.error(503, "ModelUnavailable"), Reply(delay=60))

    with pytest.raises(errors.DeadlineError) as caught:
        make(timeout=1.5).rerank("q", ["a text"])

    assert "had answered nothing" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "body"), [("http", b" " * 32 * 2**20), ("https", _BODY)], ids=["sending", "TLS"]
)
def test_the_deadline_covers_all(send, serve, shown, scheme, body):
    """A server that reads no large request, or finishes no handshake, does not hold the call.

    What is raised shows no key, with all frames that it came through.
    """
    server = serve(lambda server, _: server.over.wait(10))

    with pytest.raises(TimeoutError) as caught:
        send(_endpoint_at(server.address, scheme=scheme), body, seconds=0.3)

    assert _KEY not in shown(caught.value)


def test_an_address_where_nobody_listens(monkeypatch, emulator, make):
    """A host whose first address takes no connection is called at its next one."""
    port = urlsplit(emulator.base_url).port
    look_up = socket.getaddrinfo

    def several(host, *arguments, **options):
        if host != "several.example":
            return look_up(host, *arguments, **options)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in ("127.0.0.7", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    reranker = make(base_url=f"http://several.example:{port}", allow_http=True, max_retries=0)

    assert len(reranker.rerank("q", ["a", "b"])) == 2


# Connections


def test_closing_waits_for_who_is_at_it(send, transport, serve):
    """A call under way goes on when the object is closed, and its connection is closed with it."""
    asked, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def behave(server, connection):
        server.read(connection)
        asked.set()
        go_on.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        if not connection.recv(1):
            ended.set()

    endpoint = _endpoint_at(serve(behave).address)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(send(endpoint)))
    caller.start()
    asked.wait(10)
    _loop.run(lambda _: transport.close())
    go_on.set()
    caller.join(10)

    assert [answer.body for answer in answers] == [b"{}"]
    assert ended.wait(10)


@pytest.mark.skipif(not _FDS.is_dir(), reason="counts file descriptors under /proc")
def test_a_forgotten_one_closes_its_connections(send, emulator, caplog):
    """One that is dropped, in a reference cycle too, leaves no socket and no word behind."""
    endpoint = _endpoint_at(urlsplit(emulator.base_url).netloc, key=emulator.api_key)
    send(endpoint)
    gc.collect()
    before = len(list(_FDS.iterdir()))

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cycle = [Transport()]
        cycle.append(cycle)
        send(endpoint, through=cycle[0])
        assert len(list(_FDS.iterdir())) > before
        del cycle
        gc.collect()
        deadline = time.monotonic() + 10
        while len(list(_FDS.iterdir())) > before and time.monotonic() < deadline:
            time.sleep(0.01)

    assert len(list(_FDS.iterdir())) <= before
    assert [str(warning.message) for warning in seen] == []
    assert caplog.records == []


# What comes before it is asked for


def _with_length(body):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize("has_body", [True, False], ids=["body", "no body"])
def test_more_than_one_answer(send, serve, has_body):
    """What a server sends behind an answer is never taken for the answer to the next request."""
    numbers, answered, sent = itertools.count(), threading.Event(), threading.Event()

    def behave(server, connection):
        while server.read(connection).strip():
            number = next(numbers)
            connection.sendall(
                _with_length(b"[%d]" % number) if has_body else b"HTTP/1.1 204 No\r\n\r\n"
            )
            answered.wait(10)
            answered.clear()
            with contextlib.suppress(OSError):
                connection.sendall(_with_length(b"[99]"))
            sent.set()

    endpoint = _endpoint_at(serve(behave).address)
    bodies = []
    for _ in range(3):
        bodies.append(send(endpoint).body)
        answered.set()
        assert sent.wait(10)
        sent.clear()

    assert bodies == ([b"[0]", b"[1]", b"[2]"] if has_body else [b""] * 3)


def test_interim_answers(send, serve):
    """What comes before the answer, such as early hints, is passed over and costs nothing."""
    connections = []

    def behave(server, connection):
        connections.append(connection)
        while server.read(connection).strip():
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2 + _with_length(_OK))

    endpoint = _endpoint_at(serve(behave).address)

    assert [send(endpoint).body for _ in range(3)] == [_OK] * 3
    assert len(connections) == 1


def test_what_the_loop_has_not_seen_yet(transport, serve):
    """Nor one whose end or whose bytes nobody has read yet, because the loop was busy meanwhile."""
    behaviours = iter([b"", _with_length(b"[99]")] * 3)
    sent = threading.Event()

    def behave(server, connection):
        server.read(connection)
        connection.sendall(_with_length(_OK))
        assert idle.wait(10)
        connection.sendall(next(behaviours))
        connection.shutdown(socket.SHUT_WR)
        sent.set()
        connection.recv(1)

    endpoint = _endpoint_at(serve(behave).address)
    idle = threading.Event()

    async def busy_between(caller):
        said = [(await _sent(transport, endpoint, _BODY, 10.0, caller)).body]
        for _ in range(3):
            idle.set()
            sent.wait(10)  # which holds up the loop
            sent.clear()
            idle.clear()
            said.append((await _sent(transport, endpoint, _BODY, 10.0, caller)).body)
        idle.set()
        return said

    assert _loop.run(busy_between) == [_OK] * 4


# Those who trace what is sent


_traced_for = contextvars.ContextVar("traced_for", default=None)


@pytest.fixture(name="traced")
def _traced(monkeypatch):
    """All that aiohttp's tracing tells whoever put themselves into every session."""
    config, told = aiohttp.TraceConfig(), []
    for name in [name for name in dir(config) if name.startswith("on_")]:

        async def tell(_session, _context, said, name=name):
            told.append((name, repr(said), _traced_for.get()))

        getattr(config, name).append(tell)
    make = aiohttp.ClientSession.__init__

    def instrumented(session, *arguments, **options):
        make(session, *arguments, trace_configs=[config], **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    return told


def test_tracing_shows_no_key(traced, send, serve):
    """The tracing of aiohttp sees each request in the caller's context, and no key."""
    server = serve(_answering(_OK, "401 Said"))
    _traced_for.set("ann")

    send(_endpoint_at(server.address))
    with pytest.raises(errors.ServiceError):
        send(_endpoint_at("127.0.0.1:1"))

    names = {name for name, _, _ in traced}
    assert {"on_request_start", "on_request_headers_sent", "on_request_end"} <= names
    assert {who for _, _, who in traced} == {"ann"}
    assert _KEY not in repr(traced)
    assert _KEY.encode() in server.requests[0]


def test_opentelemetry_captures_no_key(monkeypatch, emulator, make):
    """OpenTelemetry's own instrumentation, told to capture all headers, has the span and no key.

    It is below the caller's own, and goes on at the service.
    """
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    of_aiohttp = pytest.importorskip("opentelemetry.instrumentation.aiohttp_client")
    for what in ("REQUEST", "RESPONSE"):
        name = f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_{what}"
        monkeypatch.setenv(name, ".*")
    ended, provider = [], sdk.TracerProvider()
    keeping = sdk.SpanProcessor()
    keeping.on_end = ended.append
    provider.add_span_processor(keeping)

    instrumentor = of_aiohttp.AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with provider.get_tracer("mine").start_as_current_span("mine") as mine:
            make().rerank("a query", ["a text"])
    finally:
        instrumentor.uninstrument()

    post, _ = ended
    assert post.parent.span_id == mine.context.span_id
    assert "http.response.header.x_request_id" in post.attributes
    assert emulator.api_key not in repr(post.attributes)
    assert f"{post.context.span_id:016x}" in emulator.log[0].headers["traceparent"]
