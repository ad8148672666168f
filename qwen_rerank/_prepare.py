"""Room 1: what will be asked. Blanks, surrogates, duplicates, over-long items; no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

from qwen_rerank import _tokens
from qwen_rerank._limits import ModelLimits
from qwen_rerank._values import Item, Job, Loaded, Place, Prepared
from qwen_rerank.errors import RequestError

__all__ = ["Counter", "LongDocuments", "is_blank", "measure", "prepare"]

LongDocuments: TypeAlias = Literal["truncate", "split", "error"]
_Part = TypeVar("_Part", str, Item)
_NOTHING = Loaded()

# Not spaces (Z, and what str.isspace knows), controls (Cc) or format characters (Cf) of Unicode 16.
_VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Counter(Protocol):
    """What `measure` needs of a tokenizer."""

    def count(self, text: str) -> int:
        """Tokens of *text*."""

    def head(self, text: str, most: int) -> int:
        """Where a head of *text* with at most *most* tokens ends, in characters."""

    def windows(self, text: str, most: int, characters: int) -> list[tuple[int, int]]:
        """Overlapping parts of *text* within both limits, as offsets in characters."""


def prepare(job: Job, loaded: Loaded = _NOTHING) -> Prepared:
    """The distinct items of *job* that can be sent, with bounds on their lengths, not counts.

    Blank documents are left out: one of them fails the service's whole request. Equal documents
    become one item. A lone surrogate, which no UTF-8 body can carry, is replaced. Images and
    videos, which are *loaded*, come after the texts.
    """
    texts = (
        (text if text.isascii() else _sendable(text), Place(position))
        for position, text in _texts(job, loaded)
        if not is_blank(text)
    )
    media = (
        (item, Place(position))
        for position, parts in loaded.parts.items()
        for item in parts
        if isinstance(item, Item)
    )
    instruct = _sendable(job.instruct or "")
    return Prepared(
        query=loaded.query or _text(_sendable(str(job.query))),
        instruct=_text(instruct),
        items=(
            *[Item(text, _tokens.bound(text), places) for text, places in _distinct(texts)],
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
    return Item(text, _tokens.bound(text))


def measure(
    prepared: Prepared, limits: ModelLimits, counter: Counter, long_documents: LongDocuments
) -> Prepared:
    """*prepared* with its lengths counted, and what is over-long cut, split or refused.

    Raises:
        RequestError: Something is too long and *long_documents* is ``"error"``.
    """
    ruler = _Ruler(limits, counter)
    query = prepared.query
    long_query = query.kind == "text" and not ruler.fits(query.text)
    items = [item for item in prepared.items if item.kind == "text"]
    media = [_capped(item, ruler.tokens) for item in prepared.items if item.kind != "text"]
    long = {item.text for item in items if not ruler.fits(item.text)}
    positions = sorted(
        place.position for item in items if item.text in long for place in item.places
    )
    if long_documents == "error" and (long_query or positions):
        raise _too_long(long_query, positions, limits)

    def parts(text: str) -> Iterable[tuple[str, tuple[int, int] | None]]:
        if text not in long:
            return [(text, None)]
        return ruler.windows(text) if long_documents == "split" else [(ruler.head(text), None)]

    texts = (
        (part, Place(place.position, window))
        for item in items
        for part, window in parts(item.text)
        for place in item.places
    )
    if query.kind == "text":
        query = ruler.item(ruler.head(query.text) if long_query else query.text)
    return Prepared(
        query=_capped(query, ruler.tokens),
        instruct=ruler.item(prepared.instruct.text),
        items=(*[ruler.item(text, places) for text, places in _distinct(texts)], *media),
        truncated=() if long_documents == "split" else tuple(positions),
        query_truncated=long_query,
        unsendable=prepared.unsendable,
    )


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

    def __init__(self, limits: ModelLimits, counter: Counter) -> None:
        self.tokens = limits.planned_item_tokens
        self._characters = limits.item_characters.value
        self._counter = counter
        self._counted: dict[str, int] = {}

    def fits(self, text: str) -> bool:
        return len(text) <= self._characters and self._count(text) <= self.tokens

    def item(self, text: str, places: tuple[Place, ...] = ()) -> Item:
        return Item(text, self._count(text), places)

    def head(self, text: str) -> str:
        # A head of nothing but blanks would fail the whole request.
        text = text[visible.start() :] if (visible := _VISIBLE.search(text)) else text
        return text[: self._counter.head(text[: self._characters], self.tokens)]

    def windows(self, text: str) -> Iterator[tuple[str, tuple[int, int]]]:
        for start, end in self._counter.windows(text, self.tokens, self._characters):
            if not is_blank(part := text[start:end]):
                yield part, (start, end)

    def _count(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self._counter.count(text)
        return self._counted[text]


def _too_long(query: bool, positions: list[int], limits: ModelLimits) -> RequestError:
    shown = ", ".join(map(str, positions[:10])) + (", ..." if len(positions) > 10 else "")
    many = "s" if len(positions) > 1 else ""
    what = " and ".join(["the query"] * query + [f"document{many} {shown}"] * bool(positions))
    return RequestError(
        f"too long for one item: {what}; it may have {limits.planned_item_tokens:,} tokens "
        f"({limits.share:.0%} of the limit) and {limits.item_characters.value:,} characters",
        hint="long_documents='truncate' scores the head, 'split' the best of overlapping windows.",
        documents=tuple(positions),
    )


def _distinct(parts: Iterable[tuple[_Part, Place]]) -> Iterator[tuple[_Part, tuple[Place, ...]]]:
    places: dict[_Part, list[Place]] = {}
    for part, place in parts:
        if (found := places.get(part)) is None:
            places[part] = [place]
        else:
            found.append(place)
    for part, where in places.items():
        yield part, tuple(sorted(where, key=itemgetter(0)) if len(where) > 1 else where)


def _sendable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)  # character by character, so offsets stay true
    return text
