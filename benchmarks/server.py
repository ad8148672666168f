"""A bare server that answers any rerank request after a fixed delay, in a process of its own.

It speaks just enough HTTP/1.1 (keep-alive, Content-Length) and only the native rerank protocol, so
that it costs next to nothing beside the clients that are measured. The delay stands in the path:
below ``/50-1`` an answer takes 50 ms and 1 ms more for each document. It ends with the process that
started it, or after fifteen minutes.
"""

import asyncio
import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_LIFETIME = 15 * 60
_STATS = "/stats"


class Stats(NamedTuple):
    """What the server has seen since it started."""

    requests: int
    documents: int
    cpu: float


class Server(NamedTuple):
    """A running server, seen from the process that started it."""

    port: int

    def base_url(self, milliseconds: float = 0, per_document: float = 0) -> str:
        """The base URL below which answers take that long."""
        return f"http://127.0.0.1:{self.port}/{milliseconds:g}-{per_document:g}/api/v1"

    def stats(self) -> Stats:
        """What it has seen so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", _STATS)
            return Stats(**json.loads(connection.getresponse().read()))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Runs the server in a process of its own while the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.stdin.close()  # it ends when this does, however we end


class _Connection(asyncio.Protocol):
    """One client. Requests on a connection come one after another, as HTTP clients send them."""

    requests = documents = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.received = bytearray()
        self.expected = None  # where the request ends, once its head is here

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.expected is None:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.received[:end]).decode("latin-1")
            self.line, *lines = head.split("\r\n")
            length = 0
            for name, _, value in (line.partition(":") for line in lines):
                if name.lower() == "content-length":
                    length = int(value)
                elif name.lower() == "expect":
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.start, self.expected = end + 4, end + 4 + length
        if len(self.received) >= self.expected:
            body = bytes(self.received[self.start : self.expected])
            del self.received[: self.expected]
            self.expected = None
            self.answer(body)

    def answer(self, body: bytes) -> None:
        method, path, _ = self.line.split(" ")
        if path == _STATS:
            seen = Stats(_Connection.requests, _Connection.documents, time.process_time())
            self.send(_http(json.dumps(seen._asdict()).encode()))
        elif method != "POST":  # a client that opens its connection ahead of time
            self.send(_http(b""))
        else:
            asked = json.loads(body)
            count = len(asked["input"]["documents"])
            _Connection.requests += 1
            _Connection.documents += count
            answer = _answer(count, asked["parameters"].get("top_n") or count)
            base, per_document = map(float, path.split("/")[1].split("-"))
            if delay := (base + per_document * count) / 1000:
                asyncio.get_running_loop().call_later(delay, self.send, answer)
            else:
                self.send(answer)

    def send(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


@cache
def _answer(count: int, top_n: int) -> bytes:
    """An answer for *count* documents: the first is the best, as in the list that came."""
    results = [
        {"index": index, "relevance_score": round(1 - index / count, 6)}
        for index in range(min(count, top_n))
    ]
    body = {
        "output": {"results": results},
        "usage": {"total_tokens": 100 * count},
        "request_id": "00000000-0000-4000-8000-000000000000",
    }
    return _http(json.dumps(body).encode())


def _http(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LIFETIME):
            await _parent_ended()


async def _parent_ended() -> None:
    """Waits until standard input is closed, which the parent's end does in any case."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    asyncio.run(_serve())
