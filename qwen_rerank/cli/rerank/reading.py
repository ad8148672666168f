"""An input as it is read, line by line or query by query, past what an earlier run has settled."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from qwen_rerank import Candidate
from qwen_rerank.cli._lines import lines
from qwen_rerank.cli._runs import Collection, Ranked, is_trec, ranked_lists
from qwen_rerank.cli.rerank.journal import Format, Journal
from qwen_rerank.cli.rerank.records import BadLine, Record, crc, fit_for_trec, parse

__all__ = ["Begun", "Reading"]


class Begun(NamedTuple):
    """Checksums of the options that results depend on.

    Attributes:
        asked: Of all of them.
        unasked: Of those that a list depends on of which nothing is sent.
    """

    asked: int
    unasked: int

    def of(self, parts: Iterable[bytes]) -> tuple[int, int]:
        """The same with *parts* of the input."""
        return crc(parts, self.asked), crc(parts, self.unasked)


class Reading:
    """An input being read, by a thread; how far, and what was passed over."""

    def __init__(self, file: BinaryIO, journal: Journal, fmt: Format) -> None:
        self._file = file
        self._settled = journal.settled
        self._failed_before = journal.failed_before
        self._queries: set[str] | None = set() if fmt == "trec" else None
        self._is_begun = False
        self.skipped: int = 0
        self.failed: int = 0
        self.size: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            status = os.fstat(file.fileno())
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else None

    @property
    def position(self) -> int:
        """Bytes read of `size`; of a gzipped file, of what is on the disk."""
        return os.lseek(self._file.fileno(), 0, os.SEEK_CUR) if self.size else 0

    def lists(self, path: str, begun: Begun) -> Iterator[Record | BadLine]:
        """Every line that is not settled."""
        number = 0
        for number, line, whole in lines(self._file):
            if not self._is_begun and is_trec(line):
                raise ValueError(
                    f"{path} is a TREC run: name it with --run, and its texts with --corpus and "
                    "--queries"
                )
            self._is_begun = True
            prints = begun.of([line])
            is_new = self._is_new(number, *prints)
            if is_new or self._queries is not None:  # whose ids of settled lines are taken
                record = self._fit(parse(number, line, *prints, whole=whole))
                if is_new:
                    yield record
        self._settled.check_end(number)

    def run(self, path: str, texts: Collection, begun: Begun) -> Iterator[Record | BadLine]:
        """Every query of a run that is not settled, with its documents in the run's order."""
        number = 0
        for number, ranked in enumerate(ranked_lists(self._file, path), 1):
            query = texts.query(ranked.query)
            documents = [texts.document(name) for name in ranked.documents]
            parts = (ranked.query, query, *ranked.documents, *documents)
            prints = begun.of([str(part).encode("utf-8", "replace") for part in parts])
            if self._is_new(number, *prints):
                yield self._fit(_record(number, prints, ranked, query, documents))
        self._settled.check_end(number)

    def _fit(self, record: Record | BadLine) -> Record | BadLine:
        if self._queries is None or isinstance(record, BadLine):
            return record
        return fit_for_trec(record, self._queries)

    def _is_new(self, number: int, fingerprint: int, unasked: int) -> bool:
        if self._settled.holds(number, fingerprint, unasked):
            self.skipped += 1
            return False
        if self._failed_before.was(number) == fingerprint:
            self.failed += 1
            return False
        return True


def _record(
    number: int, prints: tuple[int, int], ranked: Ranked, query: str | None, found: list[str | None]
) -> Record | BadLine:
    reason = f"query {ranked.query!r} is not in --queries" if query is None else ""
    documents: list[Candidate] = []
    for name, text in zip(ranked.documents, found, strict=True):
        if text is None:
            reason = reason or f"document {name!r} is not in --corpus"
        else:
            documents.append(text)
    if query is None or reason:
        return BadLine(number, prints[0], reason, id=ranked.query)
    return Record(number, *prints, ranked.query, query, tuple(documents), tuple(ranked.documents))
