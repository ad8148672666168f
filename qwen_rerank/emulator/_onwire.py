"""Answers written byte by byte, past what an HTTP server allows; which answer lives elsewhere."""

import asyncio
import http.client
import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from qwen_rerank.emulator._wire import write_json

_PAUSE = 0.05  # seconds between two bytes
_MINUTES = b" " * 6_000  # what makes five minutes of them
_GIGABYTE = 10**9
_CHUNK = b" " * 65_536
_OTHER_ID = "of-another-request"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Whole(NamedTuple):
    """A whole answer, as it would be sent if nothing was wrong."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def head(self, *more: tuple[bytes, bytes]) -> bytes:
        """Return status line and headers; *more* replace those of the same name."""
        replaced = {name for name, _ in more}
        lines = [(name, value) for name, value in self.headers if name not in replaced]
        text = b"".join(b"%s: %s\r\n" % line for line in (*lines, *more))
        phrase = http.client.responses.get(self.status, "").encode()
        return b"HTTP/1.1 %d %s\r\n%s\r\n" % (self.status, phrase, text)

    @property
    def half(self) -> int:
        """Where the middle of the body is."""
        return len(self.body) // 2


@dataclass(frozen=True)
class Manner:
    """How an answer is written."""

    pieces: Callable[[Whole], Iterable[bytes]]
    """The bytes to write, some at a time."""
    pause: float = 0.0
    """Seconds to wait after each piece."""
    end: Literal["close", "reset", "silence", "next"] = "close"
    """What follows: FIN, RST, nothing more, or the connection's next request."""
    status: bool = True
    """Whether a status is among the bytes."""


def _nothing(_: Whole) -> Iterator[bytes]:
    return iter(())


def _half(whole: Whole) -> Iterator[bytes]:
    yield whole.head() + whole.body[: whole.half]


def _with_length(length: Callable[[Whole], object]) -> Callable[[Whole], Iterator[bytes]]:
    def pieces(whole: Whole) -> Iterator[bytes]:
        announced = str(length(whole)).encode()
        yield whole.head((b"content-length", announced)) + whole.body

    return pieces


def _slowly(whole: Whole) -> Iterator[bytes]:
    everything = whole.head((b"x-padding", b"x" * len(_MINUTES))) + whole.body
    return (everything[at : at + 1] for at in range(len(everything)))


def _trickling(whole: Whole) -> Iterator[bytes]:
    body = whole.body + _MINUTES
    yield whole.head((b"content-length", b"%d" % len(body)))
    yield from (body[at : at + 1] for at in range(len(body)))


def _huge_header(whole: Whole) -> Iterator[bytes]:
    yield whole.head((b"x-padding", b"x" * 2**20)) + whole.body


def _broken_chunks(whole: Whole) -> Iterator[bytes]:
    plain = whole._replace(headers=tuple(h for h in whole.headers if h[0] != b"content-length"))
    right, rest = whole.body[: whole.half], whole.body[whole.half :]
    first = b"%x\r\n%s\r\n" % (len(right), right)
    # Apart, so that every client is reading the body when it breaks, in every run.
    yield plain.head((b"transfer-encoding", b"chunked")) + first
    yield b"none\r\n%s\r\n0\r\n\r\n" % rest


def _two(whole: Whole) -> Iterator[bytes]:
    # In one piece, so that no client can be done with the first before the second is there.
    other = whole._replace(body=_anothers(whole.body))
    second = other.head(
        (b"content-length", b"%d" % len(other.body)), (b"x-request-id", _OTHER_ID.encode())
    )
    yield whole.head() + whole.body + second + other.body


def _anothers(raw: bytes) -> bytes:
    """Return the answer *raw* as another request might have got it: the order reversed."""
    body = json.loads(raw)
    of_dashscope = isinstance(body, dict)
    results = body.get("output", body).get("results", []) if of_dashscope else body
    indices = [result["index"] for result in reversed(results)]
    for result, index in zip(results, indices, strict=True):
        result["index"] = index
    if of_dashscope:
        body["request_id" if "request_id" in body else "id"] = _OTHER_ID
    return write_json(body)


def _gigabyte_announced(whole: Whole) -> Iterator[bytes]:
    yield whole.head((b"content-length", b"%d" % _GIGABYTE)) + whole.body[: whole.half]


def _gigabyte(whole: Whole) -> Iterator[bytes]:
    """The body with a gigabyte of spaces before its last brace: whoever reads it all has JSON."""
    yield whole.head((b"content-length", b"%d" % _GIGABYTE)) + whole.body[:-1]
    chunks, rest = divmod(_GIGABYTE - len(whole.body), len(_CHUNK))
    for _ in range(chunks):
        yield _CHUNK
    yield _CHUNK[:rest] + whole.body[-1:]


def _garbage(_: Whole) -> Iterator[bytes]:
    yield b"\x16\x03\x01\x00\xff SSH-2.0-teapot\r\n\x00\xfe\xff 200 fine\r\n\r\n{}"


RESET_BEFORE = Manner(_nothing, end="reset", status=False)
RESET_MID = Manner(_half, end="reset")
CLOSE_BEFORE = Manner(_nothing, status=False)
CLOSE_MID = Manner(_half)
NO_ANSWER = Manner(_nothing, end="silence", status=False)
SLOW_HEADERS = Manner(_slowly, pause=_PAUSE)
TRICKLE = Manner(_trickling, pause=_PAUSE)
LENGTH_SHORT = Manner(_with_length(lambda whole: whole.half), end="next")
LENGTH_LONG = Manner(_with_length(lambda whole: len(whole.body) + 100))
LENGTH_GARBAGE = Manner(_with_length(lambda _: "abc"))
GARBAGE = Manner(_garbage, status=False)
HEADER_HUGE = Manner(_huge_header, end="next")
CHUNK_BROKEN = Manner(_broken_chunks, pause=_PAUSE)
TWO_ANSWERS = Manner(_two, end="next")
GIGABYTE_ANNOUNCED = Manner(_gigabyte_announced, end="silence")
GIGABYTE_SENT = Manner(_gigabyte, end="next")


class RawAnswer(Response):
    """The answer *whole*, written in a *manner* of its own."""

    def __init__(self, whole: Response, manner: Manner) -> None:
        super().__init__()
        self._whole = Whole(whole.status_code, tuple(whole.raw_headers), bytes(whole.body))
        self._manner = manner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope["state"]["transport"]
        connection: H11Protocol = transport.get_protocol()
        for piece in self._manner.pieces(self._whole):
            if transport.is_closing():  # the client has left, or the emulator stops
                break
            transport.write(piece)
            await connection.flow.drain()
            await asyncio.sleep(self._manner.pause)
        match "silence" if transport.is_closing() else self._manner.end:
            case "close":
                transport.close()  # sends what is buffered, then closes
            case "reset":
                connected: socket.socket = transport.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                transport.abort()
            case "next":
                # Uvicorn believes that it sends an answer, and turns to the next request.
                connection.cycle.transport = _Unsent(transport)  # type: ignore[assignment]
                await Response()(scope, receive, send)
                return
        await gone(receive)


class _Unsent:
    """A transport for an answer that has been written already."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self._transport.close()


async def gone(receive: Receive, seconds: float | None = None) -> bool:
    """Wait until the client leaves, for *seconds* at most; return whether it left."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
