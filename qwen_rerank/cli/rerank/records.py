"""Lines in, frozen records out, and back: the JSONL of `qwen-rerank rerank`. Nothing is opened.

Input is text of others: what is wrong with a line becomes a value with a reason, and no exception.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from qwen_rerank import Candidate, Image, Ranking, RerankError, Video
from qwen_rerank.cli import _lines
from qwen_rerank.cli._lines import InvalidError, parsed_json
from qwen_rerank.cli._words import complaint

__all__ = [
    "BadLine",
    "Id",
    "Record",
    "as_json",
    "as_trec",
    "bad_as_json",
    "crc",
    "fit_for_trec",
    "parse",
]

Id: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Record:
    """One list to rank.

    Attributes:
        line: Its line in the input, from 1; of a TREC run, the number of its query.
        fingerprint: Of what it was read from and of the options that results depend on.
        unasked: The same if nothing of it is sent: then they depend on fewer.
        id: Its id, or None.
        query: What to look for.
        documents: The candidates.
        ids: Their ids, or None for one without.
    """

    line: int
    fingerprint: int
    unasked: int
    id: Id | None
    query: str | Image
    documents: tuple[Candidate, ...]
    ids: tuple[Id | None, ...]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be ranked, and why.

    Attributes:
        line: As in `Record`.
        fingerprint: As in `Record`.
        reason: What is wrong with it.
        error: The kind of error.
        code: The service's code, or None.
        id: The id, where it could be read.
    """

    line: int
    fingerprint: int
    reason: str
    error: str = "InvalidLine"
    code: str | None = None
    id: Id | None = None

    @classmethod
    def of(cls, record: Record, error: RerankError) -> BadLine:
        """What became of *record*."""
        kind = type(error).__name__
        reason = "\n".join(filter(None, complaint(error, "rerank")))
        return cls(record.line, record.fingerprint, reason, kind, error.code, record.id)


def crc(parts: Iterable[bytes], start: int = 0) -> int:
    """A checksum of *parts*, never 0, and not that of the same bytes in other parts."""
    for part in parts:
        start = zlib.crc32(part, zlib.crc32(b"%d:" % len(part), start))
    return start or 1


def parse(
    number: int, line: bytes, fingerprint: int, unasked: int, *, whole: bool = True
) -> Record | BadLine:
    """The record in *line*."""
    name: Id | None = None
    try:
        if not whole:
            raise InvalidError(f"the line is longer than {_lines.LONGEST:,} bytes")
        fields = parsed_json(line)
        name = _id(fields, "the line")
        if "query" not in fields or "documents" not in fields:
            raise InvalidError('the line needs "query" and "documents"')
        documents = fields["documents"]
        if not isinstance(documents, list):
            raise InvalidError('"documents" must be a list')
        read = [_document(position, each) for position, each in enumerate(documents)]
        return Record(
            number,
            fingerprint,
            unasked,
            name,
            _query(fields["query"]),
            tuple(document for _, document in read),
            tuple(each for each, _ in read),
        )
    except ValueError as error:
        return BadLine(number, fingerprint, str(error), id=name)


def _id(fields: Mapping[str, Any], what: str) -> Id | None:
    name = fields.get("id")
    if name is None or isinstance(name, str) or (type(name) is int):
        return name
    raise InvalidError(f'"id" of {what} must be a text or a whole number')


def _query(query: Any) -> str | Image:
    if isinstance(query, str):
        return query
    if (
        isinstance(query, dict)
        and isinstance(query.get("image"), str)
        and query.get("text") is query.get("video") is None  # which would not be asked for
    ):
        return cast("Image", _media(Image, query["image"], "the query"))
    raise InvalidError('"query" must be a text or {"image": URL}')


def _document(position: int, document: Any) -> tuple[Id | None, Candidate]:
    if isinstance(document, str):
        return None, document
    what = f"document {position}"
    if not isinstance(document, dict):
        raise InvalidError(f"{what} must be a text or an object")
    parts: list[str | Image | Video] = []
    for field, kind in (("text", None), ("image", Image), ("video", Video)):
        if (value := document.get(field)) is None:
            continue
        if not isinstance(value, str):
            raise InvalidError(f'"{field}" of {what} must be a text')
        parts.append(value if kind is None else _media(kind, value, what))
    if not parts:
        raise InvalidError(f'{what} needs "text", "image" or "video"')
    return _id(document, what), parts[0] if len(parts) == 1 else tuple(parts)


def _media(kind: Any, url: str, what: str) -> Any:
    try:
        return kind(url=url)
    except ValueError as error:
        raise InvalidError(f"{what}: {complaint(error, 'rerank')[0]}") from None


def fit_for_trec(record: Record, queries: set[str]) -> Record | BadLine:
    """*record*, unless one of its ids cannot stand in a TREC run.

    Args:
        record: Its id, or its line, is added to *queries*.
        queries: The ids of the records before it.
    """
    query = str(_query_name(record))
    names = [_doc_name(record, position) for position in range(len(record.ids))]
    reason = ""
    if any(name.split() != [name] for name in (query, *names)):
        reason = "an id that is empty or holds white space cannot stand in a TREC run"
    elif len(set(names)) < len(names):
        reason = "an id that is there twice cannot stand in a TREC run"
    elif query in queries:
        reason = f"an id of another line, {query!r}, cannot stand in a TREC run again"
    queries.add(query)
    if not reason:
        return record
    return BadLine(record.line, record.fingerprint, reason, id=record.id)


def as_json(record: Record, ranking: Ranking) -> bytes:
    """The line of the output; what resuming looks for stands first."""
    fields: dict[str, Any] = _head(record)
    if record.id is not None:
        fields["id"] = record.id
    fields["results"] = [
        {"index": hit.index, "score": hit.score}
        if record.ids[hit.index] is None
        else {"index": hit.index, "id": record.ids[hit.index], "score": hit.score}
        for hit in ranking
    ]
    fields["model"] = ranking.model
    fields["tokens"] = ranking.usage.tokens
    if ranking.truncated:
        fields["truncated"] = ranking.truncated
    if ranking.query_truncated:
        fields["query_truncated"] = True
    return _line(fields)


def as_trec(record: Record, ranking: Ranking) -> bytes:
    """The lines of a TREC run.

    Their scores come from the ranks: tools order a run by its scores alone and break ties by id,
    and a document without a score needs a place too.
    """
    query, tag = _query_name(record), "_".join(ranking.model.split())
    count = len(ranking)
    return "".join(
        f"{query} Q0 {_doc_name(record, hit.index)} {rank} {count - rank + 1} {tag}\n"
        for rank, hit in enumerate(ranking, 1)
    ).encode("utf-8", "replace")


def bad_as_json(bad: BadLine) -> bytes:
    """The line of the file of errors."""
    fields = _head(bad)
    if bad.id is not None:
        fields["id"] = bad.id
    return _line(fields | {"error": bad.error, "code": bad.code, "reason": bad.reason})


def _head(line: Record | BadLine) -> dict[str, Any]:
    return {"line": line.line, "fingerprint": f"{line.fingerprint:08x}"}


def _line(fields: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # an id with a lone surrogate
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _query_name(record: Record) -> Id:
    return record.line if record.id is None else record.id


def _doc_name(record: Record, position: int) -> str:
    name = record.ids[position]
    return str(position if name is None else name)
