"""Room 1: what will be asked. Blanks, surrogates, duplicates, over-long items; no I/O, no clock."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import compress
from operator import itemgetter
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

from qwen_rerank._advice import Advice, Option, advise
from qwen_rerank._bound import far, near
from qwen_rerank._models import ModelLimits
from qwen_rerank._plain import without_surrogates
from qwen_rerank._refusal import listed
from qwen_rerank._values import Item, Job, Loaded, Place, Prepared, of_texts, positions, whole
from qwen_rerank.errors import RequestError
from qwen_rerank.media import is_mostly_base64

__all__ = [
    "Budget",
    "Counter",
    "LongDocuments",
    "LongQuery",
    "bounded",
    "is_blank",
    "measure",
    "prepare",
]

LongDocuments: TypeAlias = Literal["truncate", "split", "error"]
LongQuery: TypeAlias = Literal["head", "tail"]
_Part = TypeVar("_Part", str, Item)
_NOTHING = Loaded()

# Not spaces (Z, and what str.isspace knows), controls (Cc) or format characters (Cf) of Unicode 16.
_VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f]"
)

_log = logging.getLogger("qwen_rerank")


class Counter(Protocol):
    """What `measure` needs of a tokenizer."""

    def count(self, text: str) -> int:
        """Tokens of *text*."""

    def head(self, text: str, most: int) -> int:
        """Where a head of *text* with at most *most* tokens ends, in characters."""

    def tail(self, text: str, most: int) -> int:
        """Where a tail of *text* with at most *most* tokens begins, in characters."""

    def windows(self, text: str, most: int, characters: int) -> list[tuple[int, int]]:
        """Overlapping parts of *text* within both limits, as offsets in characters."""


class Budget(Protocol):
    """What `measure` needs of a plan to know when enough has been counted."""

    def holds(self, prepared: Prepared) -> bool:
        """Whether more counting would change nothing."""

    def surplus(self, prepared: Prepared) -> float:
        """Tokens that it is too large by, as far as its lengths tell."""


def prepare(job: Job, loaded: Loaded = _NOTHING) -> Prepared:
    """The distinct items of *job* that can be sent, with bounds on their lengths, not counts.

    Blank documents are left out: one of them fails the service's whole request. Equal documents
    become one item. A lone surrogate, which no UTF-8 body can carry, is replaced. Images and
    videos, which are *loaded*, come after the texts.
    """
    places: dict[str, tuple[Place, ...]] = {}
    again: dict[str, list[int]] = {}
    alone = whole(len(job.documents))
    for position, text in _texts(job, loaded):
        if not text[:1].isalnum() and is_blank(text):
            continue
        sent = text if text.isascii() else without_surrogates(text)
        if sent in places:
            again.setdefault(sent, []).append(position)
        else:
            places[sent] = alone[position]
    for text, more in again.items():
        places[text] += tuple(map(Place, more))
    bound = len if all(map(str.isascii, places)) else far  # which is the same, of ASCII
    items = [*of_texts(places, map(bound, places), places.values())]
    media = (
        (item, Place(position))
        for position, parts in loaded.parts.items()
        for item in parts
        if isinstance(item, Item)
    )
    if encoded := positions(compress(items, map(is_mostly_base64, places))):
        _log.warning(
            "%s: the text is mostly base64, which is ranked and billed as any other text. Leave it "
            "out, or give an image as one.",
            listed(encoded).capitalize(),
        )
    instruct = without_surrogates(job.instruct or "")
    return Prepared(
        query=loaded.query or _text(without_surrogates(str(job.query))),
        instruct=_text(instruct),
        items=(
            *items,
            *[item._replace(places=places) for item, places in _distinct(media)],
        ),
        unsendable=loaded.unsendable,
    )


def _texts(job: Job, loaded: Loaded) -> Iterable[tuple[int, str]]:
    if not loaded.parts:
        return enumerate(cast("tuple[str, ...]", job.documents))
    return (
        (position, part)
        for position, document in enumerate(job.documents)
        for part in loaded.parts.get(position, (document,))
        if isinstance(part, str)
    )


def _text(text: str) -> Item:
    return Item(text, far(text))


def bounded(prepared: Prepared) -> Prepared:
    """*prepared* with closer bounds on its lengths, for which each text is read once."""

    def closer(item: Item) -> Item:
        return item._replace(tokens=min(item.tokens, near(item.text)))

    return replace(
        prepared,
        query=closer(prepared.query) if prepared.query.kind == "text" else prepared.query,
        instruct=closer(prepared.instruct),
        items=tuple(closer(item) if item.kind == "text" else item for item in prepared.items),
    )


def measure(
    prepared: Prepared,
    limits: ModelLimits,
    counter: Counter,
    long_documents: LongDocuments,
    *,
    long_query: LongQuery = "head",
    budget: Budget | None = None,
) -> Prepared:
    """*prepared* with its lengths counted, and what is over-long cut, split or refused.

    Args:
        prepared: What is to be asked.
        limits: The model's.
        counter: Counts and cuts.
        long_documents: What becomes of an over-long document; ``"error"`` is for the query too.
        long_query: Which end of an over-long query is asked.
        budget: Says when enough has been counted, the longest texts first; None counts all.

    Raises:
        RequestError: Something is too long and *long_documents* is ``"error"``, or the instruct
            leaves too little to cut it to.
    """
    query = prepared.query
    instruct = prepared.instruct._replace(tokens=counter.count(prepared.instruct.text))
    of_query = _Ruler(limits, counter, limits.planned_query_tokens(instruct.tokens))
    query_is_long = query.kind == "text" and not of_query.fits(query)
    _check_room(limits, instruct, is_cut=query_is_long)
    if query.kind == "text":
        is_cut = query_is_long and long_documents != "error"
        query = of_query.counted(_cut(query.text, of_query, long_query) if is_cut else query.text)
    query = _capped(query, of_query.tokens)
    ruler = of_query.of_tokens(limits.planned_document_tokens(query.tokens + instruct.tokens))
    items = [item for item in prepared.items if item.kind == "text"]
    long = {item.text for item in items if not ruler.fits(item)}
    media, cut = [], []
    for item in prepared.items:
        if item.kind != "text":
            media.append(_capped(whole := _beside(item, ruler), ruler.tokens))
            cut += [item] if whole.beside != item.beside else []
    if cut:  # what is left of them may be equal
        bare = ((item._replace(places=()), place) for item in media for place in item.places)
        media = [item._replace(places=places) for item, places in _distinct(bare)]
    over_long = positions([*cut, *(item for item in items if item.text in long)])
    _check_room(limits, instruct, is_cut=bool(over_long))
    if long_documents == "error" and (query_is_long or over_long):
        raise _too_long(over_long, ruler if over_long else of_query, query=query_is_long)

    def parts(text: str) -> Iterable[tuple[str, tuple[int, int] | None]]:
        if text not in long:
            return [(text, None)]
        if long_documents == "split":
            return ruler.windows(text)
        # A first character may have more tokens than there is room for: as little as a blank.
        return [(head, None)] if (head := ruler.head(text)) else []

    texts: Iterable[Item] = items
    if long:
        bounds = {item.text: item.tokens for item in items}
        placed = (
            (part, Place(position, window))
            for item in items
            for part, window in parts(item.text)
            for position, _ in item.places
        )
        texts = (
            Item(text, bounds.get(text, ruler.tokens), places) for text, places in _distinct(placed)
        )
    measured = Prepared(
        query=query,
        instruct=instruct,
        items=(*texts, *media),
        truncated=positions(cut) if long_documents == "split" else over_long,
        query_truncated=query_is_long,
        unsendable=prepared.unsendable,
    )
    return _counted(measured, ruler, budget)


def _counted(measured: Prepared, ruler: _Ruler, budget: Budget | None) -> Prepared:
    """*measured* with its texts counted, the longest first, until that is enough for *budget*."""
    surplus = math.inf if budget is None else budget.surplus(measured)
    items = list(measured.items)
    texts = [at for at, item in enumerate(items) if item.kind == "text"]
    for at in sorted(texts, key=lambda at: -items[at].tokens):
        if surplus <= 0 and budget is not None:
            if budget.holds(enough := replace(measured, items=tuple(items))):
                return enough
            surplus = math.inf  # something else is in the way, so all lengths matter
        tokens = ruler.count(items[at].text)
        surplus -= items[at].tokens - tokens
        items[at] = items[at]._replace(tokens=tokens)
    return replace(measured, items=tuple(items))


def _cut(query: str, ruler: _Ruler, end: LongQuery) -> str:
    """The *end* of *query* that is asked; a warning says that it is not the whole."""
    kept = ruler.head(query) if end == "head" else ruler.tail(query)
    _log.warning(
        "The query is too long, and asked by its %s alone: %s of its %s characters. It may have "
        "%s. Ask a shorter one, or set %s to keep its other end.",
        end,
        f"{len(kept):,}",
        f"{len(query):,}",
        ruler.limit,
        Advice(Option("long_query", repr("tail" if end == "head" else "head"))),
    )
    return kept


def _beside(item: Item, ruler: _Ruler) -> Item:
    """*item* with so much of the text beside it as fits there; windows of that are none."""
    if not item.beside:
        return item
    image = item.tokens - far(item.beside)
    ruler = ruler.of_tokens(max(1, ruler.tokens - image))
    text = item.beside
    beside = ruler.counted(text if ruler.fits(_text(text)) else ruler.head(text))
    size = item.size - len(text.encode()) + len(beside.text.encode())
    return item._replace(tokens=image + beside.tokens, size=size, beside=beside.text)


def _capped(item: Item, most: int) -> Item:
    """*item* with no more tokens than one may have: a larger image is scaled down."""
    return item if item.tokens <= most else item._replace(tokens=most)


def is_blank(text: str) -> bool:
    """Whether *text* has nothing to read: only spaces, control and format characters, or nothing.

    The service refuses a whole request for one blank; which invisible characters it counts as
    blank is not documented, and none of them can be relevant.
    """
    return not text[:1].isalnum() and _VISIBLE.search(text) is None


class _Ruler:
    """Measures texts against the limits of one item, and counts each text once."""

    def __init__(self, limits: ModelLimits, counter: Counter, tokens: int) -> None:
        self.limit = _limit(limits, tokens)
        self.tokens = tokens
        self._limits = limits
        self._characters = limits.item_characters.value
        self._counter = counter
        self._counts: dict[str, int] = {}

    def of_tokens(self, tokens: int) -> _Ruler:
        """The same with another limit."""
        if tokens == self.tokens:
            return self
        return _Ruler(self._limits, self._counter, tokens)

    def counted(self, text: str) -> Item:
        return Item(text, self.count(text))

    def fits(self, item: Item) -> bool:
        """Whether *item*, of which a bound is known, is within both limits."""
        return len(item.text) <= self._characters and (
            item.tokens <= self.tokens or self.count(item.text) <= self.tokens
        )

    def count(self, text: str) -> int:
        if text not in self._counts:
            self._counts[text] = self._counter.count(text)
        return self._counts[text]

    def head(self, text: str) -> str:
        # A head of nothing but blanks would fail the whole request.
        text = text[visible.start() :] if (visible := _VISIBLE.search(text)) else text
        return text[: self._counter.head(text[: self._characters], self.tokens)]

    def tail(self, text: str) -> str:
        # Likewise; every character is looked at by itself, so backwards will do.
        text = text[: len(text) - last.start()] if (last := _VISIBLE.search(text[::-1])) else text
        text = text[-self._characters :]
        return text[self._counter.tail(text, self.tokens) :]

    def windows(self, text: str) -> Iterator[tuple[str, tuple[int, int]]]:
        for start, end in self._counter.windows(text, self.tokens, self._characters):
            if not is_blank(part := text[start:end]):
                yield part, (start, end)


def _limit(limits: ModelLimits, tokens: int) -> str:
    part = f"{limits.share:.0%} of the limit"
    if (pair := limits.pair_tokens) is not None:
        part = f"of the {pair.value:,} of query, document and template together"
    elif limits.document_tokens is not None and tokens <= limits.document_tokens:
        part = "by max_tokens_per_doc="
    return f"{tokens:,} tokens ({part}) and {limits.item_characters.value:,} characters"


def _check_room(limits: ModelLimits, instruct: Item, *, is_cut: bool) -> None:
    """Refuses to cut what would have next to nothing left, of which a ranking says nothing."""
    pair = limits.pair_tokens
    if not is_cut or pair is None or limits.leaves_room(instruct.tokens):
        return
    raise RequestError(
        f"instruct leaves too little for query and documents: it has {instruct.tokens:,} of the "
        f"{pair.value:,} tokens for all together, and the server's template "
        f"{limits.template_tokens:,}",
        hint=advise(
            "Shorten {instruct=:change}, or raise {max_model_len=:change} if the server takes more."
        ),
    )


def _too_long(long: tuple[int, ...], ruler: _Ruler, *, query: bool) -> RequestError:
    what = " and ".join(["the query"] * query + [listed(long)] * bool(long))
    return RequestError(
        f"too long for one item: {what}; it may have {ruler.limit}",
        hint=advise(
            "{long_documents='truncate':change} scores the head, 'split' the best of overlapping "
            "windows"
            + ("; under both the query is cut, as {long_query=:change} says." if query else ".")
        ),
        documents=long,
    )


def _distinct(parts: Iterable[tuple[_Part, Place]]) -> Iterator[tuple[_Part, tuple[Place, ...]]]:
    places: dict[_Part, list[Place]] = {}
    for part, place in parts:
        if (found := places.get(part)) is None:
            places[part] = [place]
        else:
            found.append(place)
    for part, where in places.items():
        yield part, tuple(sorted(where, key=itemgetter(0)))
