"""Honest answers with one thing changed, as pure functions; nothing is sent or chosen here."""

import functools
import gzip
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from qwen_rerank.emulator._wire import write_json

Change: TypeAlias = Callable[[dict[str, Any], int], Any]
"""``(parsed body, number of documents asked about) -> body to send``; it may change the first."""


@dataclass(frozen=True)
class Altered:
    """What becomes of an honest answer."""

    change: Change = lambda body, _: body
    """Of the parsed body."""
    rewrite: Callable[[bytes], bytes] = bytes
    """Of the body's bytes, afterwards."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Headers instead of the honest ones; None leaves one out."""

    def body(self, raw: bytes, documents: int) -> bytes:
        """Return what is sent instead of *raw*, an honest answer about so many *documents*."""
        return self.rewrite(write_json(self.change(json.loads(raw), documents)))


def without(*names: str) -> Change:
    """Leave out the first of the fields *names* that is there."""

    def change(body: dict[str, Any], _: int) -> Any:
        del body[next(name for name in names if name in body)]
        return body

    return change


def usage(value: dict[str, Any]) -> Change:
    """Send *value* as the usage."""
    return lambda body, _: {**body, "usage": value}


def results(edit: Callable[[list[dict[str, Any]], int], Any]) -> Change:
    """Put into place of the results what *edit* makes of them and of the number of documents."""

    def change(body: dict[str, Any], documents: int) -> Any:
        holder = body.get("output", body)
        holder["results"] = edit(holder["results"], documents)
        return body

    return change


def first(**fields: Any) -> Change:
    """Replace *fields* of the first result."""
    return results(lambda found, _: [{**found[0], **fields}, *found[1:]])


def first_without(name: str) -> Change:
    """Leave the field *name* out of the first result."""
    return results(lambda found, _: [{k: v for k, v in found[0].items() if k != name}, *found[1:]])


def duplicated(found: list[dict[str, Any]], _: int) -> list[dict[str, Any]]:
    """Give the second result the index of the first; a lone result comes twice."""
    second = found[1] if len(found) > 1 else found[0]
    return [found[0], {**second, "index": found[0]["index"]}, *found[2:]]


def of_another_request(_: list[dict[str, Any]], documents: int) -> list[dict[str, Any]]:
    """Return the ranking of one document more than twice as many."""
    count = 2 * documents + 1
    return [
        {"index": index, "relevance_score": round(0.9 * 0.9**rank, 6)}
        for rank, index in enumerate(reversed(range(count)))
    ]


def with_broken_utf8(raw: bytes) -> bytes:
    """Add a field whose text is no UTF-8."""
    return raw.removesuffix(b"}") + b', "note": "caf\xe9"}'


def gzipped(raw: bytes) -> bytes:
    """Pack *raw*, always into the same bytes."""
    return gzip.compress(raw, mtime=0)


_SPACES = 10**6, 1_000  # a chunk, and how often it is repeated
_SPACES_CHECKSUM = 0xB7F4C6A9  # CRC-32 of all of them, which takes half a second to find


@functools.cache
def gzip_bomb() -> bytes:
    """Return a megabyte that unpacks to a gigabyte of spaces.

    One packed chunk is repeated: a full flush makes it independent of what went before.
    """
    size, times = _SPACES
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    chunk = packer.compress(b" " * size) + packer.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    trailer = struct.pack("<II", _SPACES_CHECKSUM, size * times)
    return head + chunk * times + packer.flush() + trailer
