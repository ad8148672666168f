"""TREC runs, judgements and collections, as files hold them. Nothing is measured, sent or shown.

A run is read as an order: by score, highest first, and equal scores as the file has them. Runs and
judgements that make no sense are refused with their line, because a figure of them would be wrong.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import os
import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Self, cast

from qwen_rerank.cli._lines import lines, parsed_json

__all__ = ["Collection", "Ranked", "is_trec", "judgements", "opened", "ranked_lists"]

_query, _score = itemgetter(0), itemgetter(2)  # of a line of a TREC run


@dataclass(frozen=True, slots=True)
class Ranked:
    """What a run has for one query.

    Attributes:
        query: Its id.
        documents: Ids, best first.
        scores: As many, None for a document without one; empty where the file has none.
        tied: Whether lines of a TREC run have equal scores.
    """

    query: str
    documents: tuple[str, ...]
    scores: tuple[float | None, ...] = ()
    tied: bool = False


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The bytes of *path*, unzipped if it ends in .gz; ``-`` is standard input.

    Raises:
        OSError: It cannot be opened.
    """
    if path == "-":
        if sys.stdin is None:
            raise OSError("standard input is closed")
        # Not sys.stdin: a thread that waits in that when the process ends would abort it.
        yield _unclosed(sys.stdin.fileno())
    elif Path(path).is_fifo() or Path(path).is_char_device():
        number = os.open(path, os.O_RDONLY)
        if path.endswith(".gz"):  # unbuffered, or no line would come before many have
            pipe = _unclosed(number, buffering=0)
            yield cast("BinaryIO", gzip.GzipFile(path, "rb", fileobj=pipe))
        else:
            yield _unclosed(number)
    elif path.endswith(".gz"):
        with gzip.open(path) as file:
            yield cast("BinaryIO", file)
    else:
        with Path(path).open("rb") as file:
            yield file


def _unclosed(number: int, buffering: int = -1) -> BinaryIO:
    """A pipe or a device: to close it would wait for a thread that waits for its next line."""
    return open(number, "rb", buffering, closefd=False)


def ranked_lists(file: BinaryIO, place: str) -> Iterator[Ranked]:
    """The lists of a run, in the file's order, one in memory at a time.

    Args:
        file: A TREC run (``query Q0 document rank score tag``), lines of a query and its documents
            with tabs between them, best first, or what ``qwen-rerank rerank`` writes as JSONL.
        place: The file's name, for messages.

    Raises:
        ValueError: A line is none of that, a query is there twice, or a document is for one query.
    """
    found = ((number, line) for number, line, _ in lines(file))
    first = next(found, None)
    if first is None:
        return
    rows = itertools.chain([first], found)
    lists: Iterator[Ranked]
    if first[1].startswith(b"{"):
        lists = (_from_json(line, f"{place}, line {number}") for number, line in rows)
    elif is_trec(first[1]):
        lists = _from_trec(rows, place)
    elif b"\t" in first[1]:
        lists = (_from_tabs(line, f"{place}, line {number}") for number, line in rows)
    else:
        raise ValueError(
            f"{place}, line {first[0]} is no line of a run: query Q0 document rank score tag"
        )
    seen: set[str] = set()
    for ranked in lists:
        if ranked.query in seen:
            raise ValueError(
                f"{place}: query {ranked.query!r} is there twice, or its lines are not together"
            )
        seen.add(ranked.query)
        if len(set(ranked.documents)) < len(ranked.documents):
            raise ValueError(f"{place}: query {ranked.query!r} has a document twice")
        yield ranked


def judgements(path: str) -> dict[str, dict[str, int]]:
    """Grades by query and document.

    Args:
        path: TREC judgements (``query 0 document grade``), or BEIR's three columns with their head.

    Raises:
        ValueError: A line is neither, or a pair has two grades.
    """
    grades: dict[str, dict[str, int]] = {}
    with opened(path) as file:
        for number, line, _ in lines(file):
            fields = _text(line, f"{path}, line {number}").split()
            if number == 1 and len(fields) == 3 and fields[2].lower() == "score":
                continue  # the names of the columns
            if len(fields) not in (3, 4) or not re.fullmatch(r"[+-]?\d{1,9}", fields[-1]):
                raise ValueError(f"{path}, line {number} is no judgement: query 0 document grade")
            query, document, grade = fields[0], fields[-2], int(fields[-1])
            if grades.setdefault(query, {}).setdefault(document, grade) != grade:
                raise ValueError(f"{path}, line {number} gives a document a second grade")
    if not grades:
        raise ValueError(f"{path} holds no judgements")
    return grades


class Collection:
    """The texts of a corpus and its queries, by id, in a temporary file and not in memory."""

    def __init__(self) -> None:
        # SQLite's own temporary file has no name, so that no end of the process leaves it behind.
        # It is read in another thread than it is filled in, one after the other.
        self._base = sqlite3.connect("", check_same_thread=False)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        for table in ("corpus", "queries"):
            self._base.execute(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, text TEXT)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add_corpus(self, path: str) -> None:
        """Takes in the lines ``{"_id" or "id", "title"?, "text"}`` of *path*.

        Raises:
            ValueError: A line is not that, or an id is there twice.
        """
        with opened(path) as file:
            self._add("corpus", path, _texts(file, path))

    def add_queries(self, path: str) -> None:
        """The same for queries; lines of an id, a tab and a text are read too."""
        with opened(path) as file:
            self._add("queries", path, _texts(file, path))

    def query(self, name: str) -> str | None:
        """The text of a query, or None."""
        return self._text("queries", name)

    def document(self, name: str) -> str | None:
        """The text of a document, or None."""
        return self._text("corpus", name)

    def _text(self, table: str, name: str) -> str | None:
        found = self._base.execute(f"SELECT text FROM {table} WHERE id = ?", (name,))  # noqa: S608  one of two
        row = found.fetchone()
        return None if row is None else row[0]

    def _add(self, table: str, path: str, texts: Iterable[tuple[str, str]]) -> None:
        statement = f"INSERT INTO {table} VALUES (?, ?)"  # noqa: S608  one of two
        try:
            with self._base:
                self._base.executemany(statement, texts)
        except sqlite3.IntegrityError:
            raise ValueError(f"{path} has an id twice") from None
        except sqlite3.OperationalError as error:
            raise OSError(f"the temporary file of texts: {error}") from None


def _texts(file: BinaryIO, path: str) -> Iterator[tuple[str, str]]:
    for number, line, whole in lines(file):
        place = f"{path}, line {number}"
        if not whole:
            raise ValueError(f"{place} is too long")
        if not line.startswith(b"{"):
            name, tab, text = _text(line, place).partition("\t")
            if not tab:
                raise ValueError(f"{place} is neither JSON nor an id, a tab and a text")
            yield name.strip(), text
            continue
        try:
            fields = parsed_json(line)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        given, written = fields.get("_id", fields.get("id")), fields.get("text")
        title = fields.get("title")
        if not (isinstance(given, str | int) and isinstance(written, str)):
            raise ValueError(f'{place} needs "_id" or "id", and "text"')  # noqa: TRY004  of a file
        joined = f"{title} {written}" if isinstance(title, str) and title.strip() else written
        yield _sendable(str(given)), _sendable(joined)


def _sendable(text: str) -> str:
    """*text* without lone surrogates, which neither a base nor a request takes."""
    return text.encode("utf-8", "replace").decode()


def is_trec(line: bytes) -> bool:
    """Whether *line* is one of a TREC run."""
    fields = line.split()
    return len(fields) == 6 and fields[1].upper() in (b"Q0", b"0")


def _from_trec(rows: Iterable[tuple[int, bytes]], place: str) -> Iterator[Ranked]:
    for query, group in itertools.groupby(_split(rows, place), key=_query):
        ordered = sorted(group, key=_score, reverse=True)
        documents = tuple(document for _, document, _ in ordered)
        scores = tuple(score for _, _, score in ordered)
        yield Ranked(query, documents, scores, tied=len(set(scores)) < len(scores))


def _split(rows: Iterable[tuple[int, bytes]], place: str) -> Iterator[tuple[str, str, float]]:
    """Query, document and score of each line; there are millions, so little is done for one."""
    for number, line in rows:
        try:
            query, _, document, _, score, _ = line.decode().split()
            value = float(score)
        except ValueError:
            _text(line, f"{place}, line {number}")
            value = math.nan
        if math.isnan(value):
            raise ValueError(
                f"{place}, line {number} is no line of a run: query Q0 document rank score tag"
            )
        yield query, document, value


def _from_tabs(line: bytes, place: str) -> Ranked:
    query, *documents = (field.strip() for field in _text(line, place).split("\t"))
    return Ranked(query, tuple(document for document in documents if document))


def _from_json(line: bytes, place: str) -> Ranked:
    try:
        fields = parsed_json(line)
        query = fields["id"] if "id" in fields else fields["line"]
        documents = tuple(
            str(result["id"] if "id" in result else result["index"]) for result in fields["results"]
        )
        scores = tuple(_number(result.get("score")) for result in fields["results"])
    except KeyError as error:
        if "documents" in fields:
            raise ValueError(
                f"{place} is a list to rank, which `qwen-rerank rerank` takes as INPUT, and no run"
            ) from None
        raise ValueError(f"{place} has no {error.args[0]!r}, which measuring it needs") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from None
    return Ranked(str(query), documents, scores)


def _number(score: object) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float) or math.isnan(score):
        raise ValueError(f"{score!r} is no score")
    return float(score)


def _text(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{place} is not UTF-8") from None
