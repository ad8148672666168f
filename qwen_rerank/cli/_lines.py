"""Lines of files and the JSON in them. Nothing is opened, and nothing of the core is imported."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["LONGEST", "InvalidError", "lines", "parsed_json"]

LONGEST = 64 * 2**20  # bytes; a line is held in memory, and a missing line end must not fill it
_BOM = b"\xef\xbb\xbf"


class InvalidError(ValueError):
    """What is wrong with a line."""


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """Number, content and completeness of every line that is not blank.

    Of a line that is too long to hold, only the head is given.

    Raises:
        OSError: *file* cannot be read to its end, or not be unzipped.
    """
    try:
        yield from _lines(file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise OSError(f"{file.name}: {error}") from None


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    for number in itertools.count(1):
        line = file.readline(LONGEST)
        if not line:
            return
        whole = len(line) < LONGEST or line.endswith(b"\n")
        end = whole
        while not end:
            rest = file.readline(LONGEST)
            end = not rest or rest.endswith(b"\n")
        if number == 1:
            line = line.removeprefix(_BOM)
        if line := line.strip():
            yield number, line, whole


def parsed_json(line: bytes) -> dict[str, Any]:
    """The JSON object in *line*.

    Raises:
        ValueError: There is none.
    """
    try:
        fields = json.loads(line.decode())  # unlike pydantic's, it reads lone surrogates
    except UnicodeDecodeError as error:
        raise InvalidError(f"the line is not UTF-8: byte {error.start + 1}") from None
    except RecursionError:
        raise InvalidError("the line is nested too deeply") from None
    except ValueError as error:
        raise InvalidError(f"the line is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidError("the line is JSON, but not an object")
    return fields
