"""The frozen values that pass from room to room; no decisions and no I/O live here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, overload

from qwen_rerank.errors import RerankError

__all__ = [
    "Answer",
    "Estimate",
    "Hit",
    "Item",
    "Job",
    "Outcome",
    "Place",
    "Prepared",
    "Price",
    "Ranking",
    "Reply",
    "Request",
    "Scored",
    "Usage",
    "positions",
]


def _short(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "\u2026")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a ranking cost.

    Attributes:
        requests: HTTP requests that were answered with scores.
        tokens: Input tokens billed, as the service reported them (``usage.total_tokens``);
            0 where it reported none.
        cache_hits: Distinct texts whose score came from the cache and was not asked for.
    """

    requests: int = 0
    tokens: int = 0
    cache_hits: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.tokens + other.tokens,
            self.cache_hits + other.cache_hits,
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """One document and where it came from.

    Attributes:
        index: Position of the document in the list that was given, from 0.
        score: Relevance as the service returned it (0.0 to 1.0 for DashScope's models; higher is
            more relevant), or None if the document was never scored, as a blank one is not.
        document: The document as it was given.
        window: With ``long_documents="split"``, the part of an over-long document that scored best:
            ``document[window[0]:window[1]]``. None for a document that was scored in one piece.
    """

    index: int
    score: float | None
    document: str
    window: tuple[int, int] | None = None

    def __repr__(self) -> str:
        window = f", window={self.window}" if self.window else ""
        document = _short(self.document)
        return f"Hit(index={self.index}, score={self.score}, document={document}{window})"


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Hit]):
    """The documents of one call, best first; a sequence of `Hit`.

    Equal scores keep the order of the input. Documents without a score come last, in input order.

    Attributes:
        hits: The hits, best first, already cut to ``top_n`` and ``score_threshold``.
        model: The model that was asked.
        usage: What the call cost.
        request_ids: The service's ids, one for each request that it gave an id, in sending order.
        truncated: Positions of the documents that were cut to the model's limit before they
            were scored, ascending.
        query_truncated: Whether the query was cut to the model's limit.
        degraded: The error that made this a passed-through list instead of a ranking, else None.
    """

    hits: tuple[Hit, ...]
    model: str
    usage: Usage = Usage()
    request_ids: tuple[str, ...] = ()
    truncated: tuple[int, ...] = ()
    query_truncated: bool = False
    degraded: RerankError | None = None

    @overload
    def __getitem__(self, key: int) -> Hit: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, key: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[key]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.hits[:3])) + (", ..." if len(self.hits) > 3 else "")
        failed = f", degraded={self.degraded!r}" if self.degraded is not None else ""
        return (
            f"Ranking([{shown}], {len(self.hits)} hits, model={self.model!r}, {self.usage}{failed})"
        )

    def _repr_html_(self) -> str:
        from qwen_rerank import _view  # noqa: PLC0415  only notebooks look

        return _view.table(self)


@dataclass(frozen=True, slots=True)
class Price:
    """A list price, where it stands and when it was read.

    Attributes:
        per_million: Price of a million input tokens.
        currency: ISO code, such as ``"CNY"``.
        source: Where it was read.
        date: When.
    """

    per_million: float
    currency: str
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call would take, counted without sending anything.

    Attributes:
        requests: Requests that would be sent.
        tokens: Input tokens, by the vendor's formula for the size of a request (query tokens x
            documents + document tokens) and by our tokenizer; the bill may differ, because the
            template around each pair is not documented.
        truncated: Positions of the documents that would be cut, ascending.
        query_truncated: Whether the query would be cut.
        cache_hits: Distinct texts that the cache already knows.
        cost: What those tokens cost, in the currency of `list_price` or of the price that was
            passed; None if no price is known.
        list_price: The list price that was used, or None.
    """

    requests: int
    tokens: int
    truncated: tuple[int, ...] = ()
    query_truncated: bool = False
    cache_hits: int = 0
    cost: float | None = None
    list_price: Price | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One validated call: what is asked, of which model, and how much of the answer is wanted."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    instruct: str | None = None
    score_threshold: float | None = None


class Place(NamedTuple):
    """Where a text to be scored stands: a whole document, its head, or a window of it."""

    position: int
    window: tuple[int, int] | None = None


class Item(NamedTuple):  # there may be many thousands, and a dataclass takes three times as long
    """One distinct text to be scored, standing for every place that holds it.

    Attributes:
        text: The text as it will be sent.
        tokens: At most this many tokens.
        places: Where it stands in the job's documents, ascending by position.
    """

    text: str
    tokens: int
    places: tuple[Place, ...] = ()


Scored: TypeAlias = tuple[Item, float]


def positions(items: Iterable[Item]) -> tuple[int, ...]:
    """Where *items* stand in the list that was given, ascending."""
    return tuple(sorted({place.position for item in items for place in item.places}))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job as it will be asked: the query, the distinct items, and what had to be cut.

    Attributes:
        query: The query as it will be sent.
        instruct: The instruct, likewise.
        items: The distinct texts, in the order of their first place.
        truncated: Positions of the documents that were cut, ascending.
        query_truncated: Whether the query was cut.
    """

    query: Item
    instruct: Item
    items: tuple[Item, ...]
    truncated: tuple[int, ...] = ()
    query_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the service: the query as sent, and some of a job's items."""

    model: str
    query: str
    instruct: str | None
    items: tuple[Item, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of its documents in the list that was given, ascending."""
        return positions(self.items)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, unread. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A validated answer: one finite score for each item of its request, in the request's order."""

    scores: tuple[float, ...]
    tokens: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the sending of a call's requests ended.

    Attributes:
        replies: One for each request, in their order; None for one that has no answer.
        failure: The first failure, after which nothing more was sent, or None.
    """

    replies: tuple[Reply | None, ...]
    failure: RerankError | None = None
