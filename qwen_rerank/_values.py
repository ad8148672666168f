"""The frozen values that pass from room to room; no decisions and no I/O live here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, cast, overload

from qwen_rerank import _plain
from qwen_rerank._advice import counted
from qwen_rerank.errors import RerankError
from qwen_rerank.media import Candidate, Image, Parts, is_data_uri

__all__ = [
    "Answer",
    "Estimate",
    "Extent",
    "Hit",
    "Item",
    "Job",
    "Kind",
    "Loaded",
    "Outcome",
    "Place",
    "Prepared",
    "Price",
    "Ranking",
    "Reply",
    "Request",
    "Scored",
    "Usage",
    "of_texts",
    "positions",
    "whole",
]


Kind: TypeAlias = Literal["text", "image", "video"]


def _short(document: Candidate, width: int = 60) -> str:
    if isinstance(document, tuple):
        return f"({', '.join(_short(part, width) for part in document)})"
    if isinstance(document, Mapping):
        shown = repr(document)
        return shown if len(shown) <= width else f"{shown[: width - 2]}\u2026}}"
    if isinstance(document, str) and len(document) > width:
        document = document[: width - 1] + "\u2026"
    return repr(document)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a ranking cost.

    Attributes:
        requests: HTTP requests that were answered with scores.
        tokens: Input tokens billed, as the service reported them (``usage.total_tokens``); None if
            one of the requests came back without them, as some servers of one's own report none.
        cache_hits: Distinct texts, images and videos whose score came from the cache, or from
            another call with that cache that was asking for it already.
        cost: What *tokens* cost by the list price, in *currency*; None where none is known, as for
            images and videos and where *tokens* is None, or where a sum has several currencies.
        currency: ISO code of *cost*, or None.
    """

    requests: int = 0
    tokens: int | None = 0
    cache_hits: int = 0
    cost: float | None = None
    currency: str | None = None

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        priced = [usage for usage in (self, other) if usage.requests or usage.cost is not None]
        currencies = {usage.currency for usage in priced}
        known = len(currencies) == 1 and None not in currencies
        return Usage(
            self.requests + other.requests,
            # A sum that left out what nobody reported would be a wrong bill.
            None if self.tokens is None or other.tokens is None else self.tokens + other.tokens,
            self.cache_hits + other.cache_hits,
            cost=sum(usage.cost or 0.0 for usage in priced) if known else None,
            currency=currencies.pop() if known else None,
        )

    def __repr__(self) -> str:
        cost = "" if self.cost is None else f", cost={self.cost:.6f} {self.currency}"
        return (
            f"Usage(requests={self.requests}, tokens={self.tokens}, "
            f"cache_hits={self.cache_hits}{cost})"
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
            ``document[window[0]:window[1]]``, or of a tuple or dict that part of its text. None for
            a document that was scored in one piece.
        kind: What the score is of: ``"text"``, ``"image"`` or ``"video"``; of a document that has
            more than one, the better one with ``mixed="max"``, and the image with
            ``mixed="together"``. None without a score.
    """

    index: int
    score: float | None
    document: Annotated[Candidate, _plain.Text]
    window: tuple[int, int] | None = None
    kind: Kind | None = None

    def __post_init__(self) -> None:
        # Checkpoints of LangGraph hand a tuple back as a list.
        if isinstance(self.window, list):
            object.__setattr__(self, "window", tuple(self.window))
        if isinstance(self.document, list):
            object.__setattr__(self, "document", tuple(self.document))

    def __repr__(self) -> str:
        window = f", window={self.window}" if self.window else ""
        window += f", kind={self.kind!r}" if self.kind not in (None, "text") else ""
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
        unsendable: Positions of documents that could not be sent, with the reason; they have no
            score, unless another part of them was sent.
        degraded: The error that made this a passed-through list instead of a ranking, else None.
    """

    hits: tuple[Hit, ...]
    model: str
    usage: Usage = Usage()
    request_ids: tuple[str, ...] = ()
    truncated: tuple[int, ...] = ()
    query_truncated: bool = False
    unsendable: tuple[tuple[int, str], ...] = ()
    degraded: RerankError | None = None

    def __post_init__(self) -> None:
        if isinstance(self.hits, list):  # a plain form, as checkpoints of LangGraph hand it back
            _plain.read_again(self)

    def _asdict(self) -> dict[str, Any]:
        """The plain form, which LangGraph's checkpoints ask for by this name."""
        return _plain.written(self)

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
            f"Ranking([{shown}], {counted(len(self.hits), 'hit')}, model={self.model!r}, "
            f"{self.usage}{failed})"
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
        cache_hits: Distinct texts, images and videos that the cache already knows.
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

    def __post_init__(self) -> None:
        if isinstance(self.truncated, list):  # likewise of a plain form
            _plain.read_again(self)

    def _asdict(self) -> dict[str, Any]:
        return _plain.written(self)


class Job(NamedTuple):
    """One validated call: what is asked, of which model, and how much of the answer is wanted.

    Attributes:
        documents: What is ranked; of a dict, its text.
        dicts: By their positions, the documents that were given as dicts.
        extra: More fields for the bodies of its requests.
    """

    model: str
    query: str | Image
    documents: tuple[Parts, ...]
    top_n: int | None = None
    instruct: str | None = None
    score_threshold: float | None = None
    fps: float | None = None
    is_text: bool = True
    dicts: Mapping[int, Mapping[str, object]] = {}
    extra: Mapping[str, Any] = {}

    @property
    def given(self) -> tuple[Candidate, ...]:
        """The documents as they were given."""
        if not self.dicts:
            return self.documents
        return tuple(self.dicts.get(at, document) for at, document in enumerate(self.documents))


class Place(NamedTuple):
    """Where something to be scored stands: a whole document, its head, a window or part of it.

    Most are plain tuples of the same two, so read them as such: Python's garbage collector lets go
    of a tuple that holds nothing else, and never of an object of a class.
    """

    position: int
    window: tuple[int, int] | None = None


def _places(*positions: int) -> Iterator[tuple[Place, ...]]:
    return zip(zip(range(*positions), repeat(None)))  # type: ignore[return-value]  # plain tuples, for the collector


_KEPT = 10_000  # places; some 170 bytes each
_whole = tuple(_places(500))


def whole(count: int) -> Sequence[tuple[Place, ...]]:
    """The places of *count* whole documents and more; the first are made once for all lists."""
    global _whole  # noqa: PLW0603  every list has the same
    known = _whole
    if count > len(known):
        known = (*known, *_places(len(known), count))
        if count <= _KEPT:
            _whole = known
    return known


class Item(NamedTuple):  # there may be many thousands, and a dataclass takes three times as long
    """One distinct text, image or video to be scored, standing for every place that holds it.

    Attributes:
        text: The text as it will be sent; of an image or video, its URL or data URI.
        tokens: At most this many tokens; of an image or video, an estimate.
        places: Where it stands in the job's documents, ascending by position.
        kind: What it is.
        size: Of an image or video, the bytes it takes in a request's body after decoding.
        beside: Of an image, a text that is scored together with it, or "".
    """

    text: str
    tokens: int
    places: tuple[Place, ...] = ()
    kind: Kind = "text"
    size: int = 0
    beside: str = ""

    @property
    def is_fetched(self) -> bool:
        """Whether the service fetches it from a URL."""
        return self.kind != "text" and not is_data_uri(self.text)

    def __repr__(self) -> str:  # what prints frames shall not print images
        return f"Item({_short(self.text)}, {self.tokens} tokens, {self.kind})"


def of_texts(
    texts: Iterable[str], tokens: Iterable[int], places: Iterable[tuple[Place, ...]]
) -> Iterator[Item]:
    """An `Item` for each of *texts*, three times as fast as one by one."""
    columns = zip(texts, tokens, places, repeat("text"), repeat(0), repeat(""), strict=False)
    return map(tuple.__new__, repeat(Item), columns)


def _are_texts(items: Iterable[Item]) -> bool:
    return {"text"}.issuperset(map(_KIND, items))


_KIND = attrgetter("kind")


class Loaded(NamedTuple):
    """The images and videos of a job, as they will be sent.

    Attributes:
        query: The query, if it is an image.
        parts: For every position that is more than a text: its texts and its loaded items.
        unsendable: Positions with a part that cannot be sent, and the reason, ascending.
        ignored: Positions whose text is all that is looked at, because only texts can be sent.
    """

    query: Item | None = None
    parts: Mapping[int, tuple[str | Item, ...]] = {}
    unsendable: tuple[tuple[int, str], ...] = ()
    ignored: tuple[int, ...] = ()


Scored: TypeAlias = tuple[Item, float]


def positions(items: Iterable[Item]) -> tuple[int, ...]:
    """Where *items* stand in the list that was given, ascending."""
    return tuple(sorted({position for item in items for position, _ in item.places}))


class Extent(NamedTuple):
    """What several items have together, and the longest of them: at most, as far as is known."""

    tokens: int
    characters: int
    most_tokens: int
    most_characters: int
    are_texts: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job as it will be asked: the query, the distinct items, and what had to be cut.

    Attributes:
        query: The query as it will be sent.
        instruct: The instruct, likewise.
        items: The distinct texts in the order of their first place, then images and videos.
        truncated: Positions of the documents that were cut, ascending.
        query_truncated: Whether the query was cut.
        unsendable: Positions with a part that cannot be sent, and the reason, ascending.
    """

    query: Item
    instruct: Item
    items: tuple[Item, ...]
    truncated: tuple[int, ...] = ()
    query_truncated: bool = False
    unsendable: tuple[tuple[int, str], ...] = ()
    _extent: Extent | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def extent(self) -> Extent:
        """Of `items`, which are looked at once, however often it is asked."""
        if self._extent is None:
            object.__setattr__(self, "_extent", self._measured())
        return cast("Extent", self._extent)

    def _measured(self) -> Extent:
        tokens = [item.tokens for item in self.items]
        characters = [len(item.text) for item in self.items]
        return Extent(
            sum(tokens),
            sum(characters),
            max(tokens, default=0),
            max(characters, default=0),
            _are_texts(self.items),
        )


class Request(NamedTuple):
    """One request to the service: the query as sent, some of a job's items, and their tokens."""

    model: str
    query: str
    instruct: str | None
    items: tuple[Item, ...]
    query_kind: Kind = "text"
    fps: float | None = None
    tokens: int = 0
    extra: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"Request({self.model!r}, {_short(self.query)}, {len(self.items)} items)"

    @property
    def is_text(self) -> bool:
        """Whether nothing but texts is in it."""
        return self.query_kind == "text" and _are_texts(self.items)

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of its documents in the list that was given, ascending."""
        return positions(self.items)


class Answer(NamedTuple):
    """What came back over HTTP, unread. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """A validated answer: one finite score for each item of its request, in the request's order.

    Attributes:
        scores: The scores.
        tokens: Input tokens billed, or None if the answer does not say.
        request_id: The service's id, or None.
        model: The model that it says it used, or None if it does not say.
    """

    scores: tuple[float, ...]
    tokens: int | None
    request_id: str | None
    model: str | None = None


class Outcome(NamedTuple):
    """How the sending of a call's requests ended.

    Attributes:
        replies: One for each request, in their order; None for one that has no answer.
        failure: The first failure, after which nothing more was sent, or None.
        sent: Whether any request was sent; a call's time may run out before.
        answered: Whether the service was there, though it threw a request out: it throttled, say.
    """

    replies: tuple[Reply | None, ...]
    failure: RerankError | None = None
    sent: bool = True
    answered: bool = False
