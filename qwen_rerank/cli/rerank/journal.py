"""What is finished, on disk: whole lines appended, and found again after any end. Sends nothing.

Every line is one write, so that a process that is killed leaves whole lines and at most one torn
one at the end, which is cut off when the file is opened again. A line says which line of the input
it is of and holds a checksum of that. The blocks of a TREC run cannot say so: a journal beside the
run does, one line for each block, written after it; what the journal does not know is cut off.
No database keeps it: what the user asked for is the record, and stays whole if it is moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self, TypeAlias

from qwen_rerank import Ranking
from qwen_rerank.cli._runs import is_trec
from qwen_rerank.cli._troubles import dropping
from qwen_rerank.cli.rerank.records import BadLine, Record, as_json, as_trec, bad_as_json

__all__ = ["ChangedError", "Format", "Journal", "Settled"]

Format: TypeAlias = Literal["jsonl", "trec"]

_HEAD = re.compile(rb'\{"line":(\d{1,10}),"fingerprint":"([0-9a-f]{8})"(?:,"end":(\d{1,18})\}\n)?')
_BEGINNING = b'{"line":'
_READ = 2**20
_AHEAD = 2**20  # lines that failed or are blank, in a row


class ChangedError(ValueError):
    """The input, or an option that results depend on, is not what the output was begun with."""


class Settled:
    """Which lines are finished: four bytes a line, however long the lines.

    Those far beyond all others take more each, so that one odd number does not ask for gigabytes.
    """

    def __init__(self) -> None:
        self._prints = array("I")
        self._beyond: dict[int, int] = {}
        self._last = 0
        self.count: int = 0

    def add(self, line: int, fingerprint: int) -> None:
        """*line* is finished."""
        self.count += not self.was(line)
        self._last = max(self._last, line)
        missing = line - len(self._prints)
        if missing > _AHEAD:
            self._beyond[line] = fingerprint
            return
        if missing > 0:
            self._prints.extend(array("I", bytes(4 * missing)))
        self._prints[line - 1] = fingerprint

    def was(self, line: int) -> int:
        """The fingerprint of *line* when it was finished, or 0."""
        found = self._prints[line - 1] if line <= len(self._prints) else 0
        return found or self._beyond.get(line, 0)

    def holds(self, line: int, *fingerprints: int) -> bool:
        """Whether *line* is finished, as that with one of *fingerprints*.

        Raises:
            ChangedError: It is, but was another.
        """
        if not (was := self.was(line)):
            return False
        if was not in fingerprints:
            raise ChangedError(
                f"line {line} of the input has changed since the output was begun, or an option "
                "that results depend on has (--model, --instruct, --long-query, --top-n, "
                "--protocol, --server, --max-model-len, or --region and --base-url, which may also "
                "come from the environment)"
            )
        return True

    def check_end(self, line: int) -> None:
        """Refuses an input that ends at *line* if later ones are finished.

        Raises:
            ChangedError: They are.
        """
        if line < self._last:
            raise ChangedError(
                f"the input now ends at line {line}, but the output has line {self._last}"
            )


class Journal:
    """The output and the file of errors, and what each already holds.

    Attributes:
        settled: The lines of the output.
        failed_before: Those of the file of errors, which may be mended and tried again.

    Args:
        output: The path, or ``-`` for standard output.
        errors: The path of the file of errors; None for none.
        fmt: What the output is made of.
        resume: Continue what is there. Without it, files that hold anything are refused.

    Raises:
        ValueError: A file holds something else, or another process writes to it.
        OSError: A file cannot be opened.
    """

    def __init__(
        self, output: str, errors: str | None, *, fmt: Format = "jsonl", resume: bool = False
    ) -> None:
        if output == "-" and sys.stdout is None:
            raise OSError("standard output is closed")
        self.settled: Settled = Settled()
        self.failed_before: Settled = Settled()
        self._format = fmt
        self._turn = asyncio.Lock()
        self._open = contextlib.ExitStack()
        self._output: _File | None = None  # standard output
        self._errors: _File | None = None
        self._ends: _File | None = None
        try:
            if output != "-":
                self._output = self._opened(output, resume=resume)
                if fmt == "trec" and self._output.is_kept:
                    # A run that never got a line through has left its mark, and nothing to lose.
                    self._ends = self._opened(f"{output}.journal", resume=resume, mark=_MARK)
                    _go_on(self._ends, self._output, self.settled)
                elif fmt == "jsonl":
                    _recover(self._output, self.settled)
            if errors is not None:
                self._errors = self._opened(errors, resume=resume)
                _recover(self._errors, self.failed_before)
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def is_resumable(self) -> bool:
        """Whether the output can be gone on with, unlike a pipe or a device."""
        return self._output is not None and self._output.is_kept

    @property
    def keeps_errors(self) -> bool:
        """Whether there is a file of errors."""
        return self._errors is not None

    async def ranked(self, record: Record, ranking: Ranking) -> None:
        """Writes the result of *record*."""
        made = as_json(record, ranking) if self._format == "jsonl" else as_trec(record, ranking)
        if self._output is None:
            # A pipe may be slow, and meanwhile answers have deadlines.
            async with self._turn:
                await asyncio.to_thread(_print, made)
            return
        before = self._output.size
        self._output.write(made)
        if self._ends is not None:
            try:
                self._ends.write(_entry(record.line, record.fingerprint, self._output.size))
            except OSError:  # else the next entry would cover this block too
                self._output.cut(before)
                raise

    def failed(self, bad: BadLine) -> None:
        """Writes what is wrong with a line, if there is a file for that."""
        if self._errors is not None:
            self._errors.write(bad_as_json(bad))

    def sync(self) -> None:
        """Has the disk keep what was written; takes a while, so not on an event loop."""
        for file in (self._output, self._errors, self._ends):  # no end before what it is the end of
            if file is not None:
                file.sync()

    def _opened(self, path: str, *, resume: bool, mark: bytes = b"") -> _File:
        file = _File(path)
        self._open.callback(file.close)
        if file.size and not resume and not (mark and file.holds(mark)):
            raise ValueError(
                f"{path} is there already: continue it with --resume, or give another name"
            )
        return file


def _recover(file: _File, settled: Settled, most: int | None = None) -> int:
    """Notes the lines of *file* as *settled*; where the last block ended.

    Args:
        file: Read, and cut behind its last whole line.
        settled: Where they are noted.
        most: The size of what *file* is the journal of; a block beyond that is not there.
    """
    end = kept = 0
    for number, (line, length) in enumerate(file.whole_lines(), 1):
        if not (head := _HEAD.match(line)):
            raise ValueError(f"{file.path}, line {number} was not written by this command")
        if most is not None:
            if int(head[3] or 0) > most:
                break
            end = int(head[3] or 0)
        kept += length
        if line_of := int(head[1]):
            settled.add(line_of, int(head[2], 16))
    file.cut(kept)
    return end


def _go_on(journal: _File, output: _File, settled: Settled) -> None:
    """Cuts *output* to what *journal* says was finished, unless it is something else's.

    A journal may outlive its output, so it alone does not say what the output is.
    """
    if output.size and not (journal.size and output.may_be_trec()):
        raise ValueError(f"{output.path} was not written with --format trec")
    if not journal.size:
        journal.write(_MARK)
    end = _recover(journal, settled, output.size)
    if not output.ends_a_line(end):
        raise ValueError(f"{output.path} was not written with this journal")
    output.cut(end)


def _entry(line: int, fingerprint: int, end: int) -> bytes:
    return f'{{"line":{line},"fingerprint":"{fingerprint:08x}","end":{end}}}\n'.encode()


_MARK = _entry(0, 0, 0)


def _print(content: bytes) -> None:
    with dropping("stdout"):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


class _File:
    """A file that only grows, of whole lines; ours alone while it is open.

    Attributes:
        path: Where it is.
        size: Its bytes.
        is_kept: Whether it can be read again, unlike a device.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(self._number, path)
            self.is_kept = stat.S_ISREG(os.fstat(self._number).st_mode)
            try:
                self.size = os.lseek(self._number, 0, os.SEEK_END)
            except OSError:
                raise ValueError(f"{path} is no file but a pipe; - is standard output") from None
        except BaseException:
            os.close(self._number)
            raise

    def close(self) -> None:
        os.close(self._number)

    def write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[os.write(self._number, rest) :]
        except OSError as error:  # a shorter line may fit, but not behind a torn one
            if self.is_kept:
                os.ftruncate(self._number, self.size)
                self.cut(self.size)
            error.filename = self.path
            raise
        self.size += len(content)

    def sync(self) -> None:
        if self.is_kept:
            os.fsync(self._number)

    def cut(self, size: int) -> None:
        """Drops all after *size* bytes, and goes on there."""
        if size < self.size:
            os.ftruncate(self._number, size)
        self.size = os.lseek(self._number, size, os.SEEK_SET)

    def holds(self, content: bytes) -> bool:
        """Whether it is *content* and no more."""
        if self.size != len(content) or not self.is_kept:
            return False
        with Path(self.path).open("rb") as file:
            return file.read() == content

    def ends_a_line(self, size: int) -> bool:
        """Whether no line goes on behind its first *size* bytes."""
        if not size:
            return True
        with Path(self.path).open("rb") as file:
            file.seek(size - 1)
            return file.read(1) == b"\n"

    def may_be_trec(self) -> bool:
        """Whether its first line is one of a TREC run, or torn."""
        with Path(self.path).open("rb") as file:
            head = file.readline(_READ)
        return is_trec(head) or not (head.endswith(b"\n") or head.startswith(_BEGINNING))

    def whole_lines(self) -> Iterator[tuple[bytes, int]]:
        """The beginning and the length of each of its lines, without a torn one at the end.

        Nothing is read of what is no file, as a device may go on for ever.

        Raises:
            ValueError: The torn one is none of ours, which is not ours to cut off.
        """
        if not self.is_kept:
            return
        with Path(self.path).open("rb", buffering=_READ) as file:
            while head := file.readline(_READ):
                length, last = len(head), head
                # A disk that lost its power leaves zeros behind.
                is_ours = head[: len(_BEGINNING)] == _BEGINNING[: len(head)]
                while not last.endswith(b"\n") and (is_ours or not last.strip(b"\0")):
                    if not (last := file.readline(_READ)):
                        return
                    length += len(last)
                if not last.endswith(b"\n"):
                    raise ValueError(f"{self.path} was not written by this command")
                yield head, length


def _lock(number: int, path: str) -> None:
    """Two processes at one output would pay for every line twice."""
    try:
        import fcntl  # noqa: PLC0415  not on Windows
    except ImportError:  # pragma: no cover
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{path} is being written by another process") from None
    except OSError:  # pragma: no cover  a file system without locks
        return
