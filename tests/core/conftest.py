"""Small servers that misbehave on purpose, and a look at everything an error could show."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import qwen_rerank
from qwen_rerank import Reranker

_PACKAGE = str(Path(qwen_rerank.__file__).parent)


class Server:
    """Hands every loopback connection to *behaviour*, each in a thread; `over` ends them all.

    With a file of a *certificate* and its key it speaks TLS.
    """

    def __init__(
        self,
        behaviour: Callable[["Server", socket.socket], None],
        certificate: Path | None = None,
    ) -> None:
        self._behaviour = behaviour
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self._start(self._accept)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def read(self, connection: socket.socket) -> bytes:
        """One whole request, which is also remembered."""
        seen = b""
        while b"\r\n\r\n" not in seen and (piece := connection.recv(65_536)):
            seen += piece
        head, _, body = seen.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length and (piece := connection.recv(65_536)):
            body += piece
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def answer(
        self, connection: socket.socket, body: bytes = b"", status: str = "200 OK", *headers: str
    ) -> None:
        """Reads a request and answers it, once; a HEAD has no body."""
        if self.read(connection).startswith(b"HEAD"):
            body = b""
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def stop(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)  # wakes recv()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            if self._context is None:
                self._behaviour(self, connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as encrypted:
                self._behaviour(self, encrypted)


@pytest.fixture(name="serve")
def _serve() -> Iterator[Callable[..., Server]]:
    """Starts servers from behaviours, and ends them with the test."""
    servers: list[Server] = []

    def start(
        behaviour: Callable[[Server, socket.socket], None], certificate: Path | None = None
    ) -> Server:
        servers.append(Server(behaviour, certificate))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


class _Scorer:
    """A service that scores every document, and notes from which port each query came."""

    def __init__(self) -> None:
        self.ports: dict[str, set[int]] = {}
        self.url = ""

    def __call__(self, server: Server, connection: socket.socket) -> None:
        while (request := server.read(connection)).strip():
            answer = b""  # to a warm-up
            if body := request.partition(b"\r\n\r\n")[2]:
                asked = json.loads(body)["input"]
                port = connection.getpeername()[1]
                self.ports.setdefault(asked["query"], set()).add(port)
                scores = [
                    {"index": at, "relevance_score": 0.5} for at in range(len(asked["documents"]))
                ]
                answer = json.dumps({"output": {"results": scores}}).encode()
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer)
            connection.sendall(head + answer)


@pytest.fixture(name="scorer")
def _scorer(serve: Callable[..., Server]) -> _Scorer:
    """One that runs, for what the emulator would not tell or would take too long for."""
    scorer = _Scorer()
    scorer.url = f"http://{serve(scorer).address}/api/v1"
    return scorer


@pytest.fixture(name="until")
def _until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Waits in an event loop for something that there is no event for."""

    async def until(is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not is_so():  # noqa: ASYNC110  see above
                await asyncio.sleep(0.001)

    return until


@pytest.fixture(name="make")
def _make(connection: dict[str, str]) -> Iterator[Callable[..., Reranker]]:
    """Makes rerankers, on the emulator unless told otherwise, and closes them with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Reranker(**{**connection, **options}))


@pytest.fixture(name="reranker")
def _reranker(make: Callable[..., Reranker]) -> Reranker:
    return make()


@pytest.fixture(name="rank", params=["sync", "async"])
def _rank(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Both colours of the call, as one plain function; the async one has a loop of its own."""

    def rank(reranker: Reranker, *arguments: Any, **options: Any) -> Any:
        if request.param == "sync":
            return reranker.rerank(*arguments, **options)
        return runner.run(reranker.arerank(*arguments, **options))

    with asyncio.Runner() as runner:
        yield rank


@pytest.fixture(name="clients")
def _clients() -> Iterator[Callable[..., dict[str, Any]]]:
    """Both kinds of a caller's client; the async one keeps nothing open that had to be closed."""
    with contextlib.ExitStack() as stack:

        def make(library: Any = httpx, **own: Any) -> dict[str, Any]:
            limits = library.Limits(max_keepalive_connections=0)
            own_async = {"transport": library.AsyncHTTPTransport(limits=limits), **own}
            return {
                "http_client": stack.enter_context(library.Client(**own)),
                "async_http_client": library.AsyncClient(**own_async),
            }

        yield make


def _shown(error: BaseException) -> str:
    """All that printing, logging or a debugger's view of our frames shows of *error*."""
    pieces = ["".join(traceback.format_exception(error))]
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        todo += [one.__cause__, one.__context__]
        pieces += [str(one), repr(one), repr(vars(one))]
        pieces += [
            f"{frame.f_code.co_name}: {name} = {value!r}"
            for frame, _ in traceback.walk_tb(one.__traceback__)
            if frame.f_code.co_filename.startswith(_PACKAGE)
            for name, value in frame.f_locals.items()
        ]
    return "\n".join(pieces)


@pytest.fixture(name="shown")
def _shown_fixture() -> Callable[[BaseException], str]:
    return _shown


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> Callable[..., str]:
    """Runs a script in an interpreter of its own, whose warnings are errors; what it printed."""

    def run(
        script: str,
        *arguments: str,
        path: str | None = None,
        strict: bool = True,
        silent: bool = False,
    ) -> str:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "COV_"))
        }
        if path:
            environment["PYTHONPATH"] = path
        done = subprocess.run(  # noqa: S603  our own script and interpreter
            [sys.executable, *(["-W", "error"] if strict else []), "-c", script, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not silent or not done.stderr, done.stderr
        return done.stdout

    return run
