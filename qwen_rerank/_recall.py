"""Room 2: which (query, item) pairs are already scored; reads and writes the caller's cache.

A cached score assumes that a pair's score depends on nothing but what its key digests. The open
Qwen rerankers are pointwise, and the service was found to be for qwen3-rerank (see `_merge`); the
vendor does not promise it. Regions score differently, so the URL is digested too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from numbers import Number
from typing import Any, Protocol

from typing_extensions import TypeIs

from qwen_rerank._models import ANY, Range
from qwen_rerank._values import Item, Job, Prepared, Scored

__all__ = ["Cache", "Store", "keys", "recall", "remember"]

_log = logging.getLogger("qwen_rerank")

_ABSENT = object()
_NUMBER = r"(?a)-?\d+(\.\d+)?([eE][+-]?\d+)?"


class Cache(Protocol):
    """Anything with ``[]``: a dict, a ``cachetools.TTLCache``, a ``diskcache.Cache``, Redis."""

    def __getitem__(self, key: str, /) -> float | str | bytes:
        """The score under *key*, or as the text that a store made of it; KeyError if none."""

    def __setitem__(self, key: str, value: float, /) -> None:
        """Keeps *value* under *key*."""


class Store(Protocol):
    """A store that is asked for many keys at once, as LangChain's key-value stores are."""

    def mget(self, keys: Sequence[str], /) -> Sequence[float | str | bytes | None]:
        """For each of *keys* what `Cache` would give, or None if there is none."""

    def mset(self, pairs: Sequence[tuple[str, bytes]], /) -> None:
        """Keeps the second of each of *pairs* under its first."""


def recall(
    job: Job,
    prepared: Prepared,
    place: str,
    cache: Cache | Store,
    scores: Range = ANY,
    *,
    check: Callable[[], None] = lambda: None,
) -> tuple[tuple[Scored, ...], Prepared]:
    """What *cache* knows of *prepared*, and what is left to ask.

    Args:
        job: Names the model.
        prepared: Query, instruct and items as they would be sent, so that a whole text, its head
            and its windows never share a score.
        place: Where they would be sent: URL and protocol.
        cache: The caller's. One that fails to answer knows nothing, and the call goes on.
        scores: What the model gives; anything else was not put there by us, and is asked anew.
        check: Called before each key; what it raises ends the reading.
    """
    known: list[Scored] = []
    unknown: list[Item] = []
    odd = ""
    looked_for = keys(job, prepared, prepared.items, place)
    for item, kept in zip(prepared.items, _read(cache, looked_for, check), strict=True):
        if kept is _ABSENT:
            unknown.append(item)
        elif (score := _score(kept, scores)) is None:
            odd = type(kept).__name__
            unknown.append(item)
        else:
            known.append((item, score))
    if odd:
        _log.warning("The cache holds something else than scores (%s), which is asked anew.", odd)
    return tuple(known), replace(prepared, items=tuple(unknown))


def remember(  # noqa: PLR0917  the same as above
    job: Job,
    prepared: Prepared,
    scored: Iterable[Scored],
    place: str,
    cache: Cache | Store,
    scores: Range = ANY,
) -> None:
    """Keeps new scores under the keys that `recall` looks for; a failing cache is left alone.

    A score that `recall` would not take is not kept.
    """
    scored = tuple(pair for pair in scored if _score(pair[1], scores) is not None)
    under = keys(job, prepared, (item for item, _ in scored), place)
    kept = zip(under, (score for _, score in scored), strict=True)
    try:
        if _has_brackets(cache):
            for key, score in kept:
                cache[key] = score
        elif scored:
            # As text in bytes, which is all that most stores take.
            cache.mset([(key, repr(score).encode()) for key, score in kept])
    except Exception as error:  # noqa: BLE001  as below
        _log.warning("The cache failed to write, so these scores are not kept: %r", error)


def _read(cache: Cache | Store, keys: list[str], check: Callable[[], None]) -> list[Any]:
    """What *cache* holds under each of *keys*, `_ABSENT` where it holds nothing."""
    found: list[Any] = []
    try:
        if _has_brackets(cache):
            for key in keys:
                check()
                try:
                    found.append(cache[key])
                except KeyError:
                    found.append(_ABSENT)
        elif keys:
            pairs = zip(keys, cache.mget(keys), strict=True)  # fewer would be those of others
            found = [_ABSENT if value is None else value for _, value in pairs]
    except Exception as error:  # noqa: BLE001  a broken cache costs money, not the answer
        check()  # whose own error is none of the cache's
        _log.warning("The cache failed to read, so this call asks for all scores: %r", error)
    return found + [_ABSENT] * (len(keys) - len(found))


def _has_brackets(cache: Cache | Store) -> TypeIs[Cache]:
    """Whether *cache* is used by ``[]``, which some have beside an ``mget`` of another kind."""
    return hasattr(cache, "__getitem__") and hasattr(cache, "__setitem__")


def _score(kept: Any, scores: Range) -> float | None:
    """*kept* as a score, if it is one: a number, or a plain one as the text that a store made."""
    try:  # it may be anything, which may do anything when it is looked at
        if isinstance(kept, bytes | bytearray):
            kept = kept.decode()
        if isinstance(kept, str):
            if not re.fullmatch(_NUMBER, kept):
                return None
        elif isinstance(kept, bool) or not isinstance(kept, Number):
            return None  # bool is an int to Python, but it is no score
        score = float(kept)
    except Exception:  # noqa: BLE001  see above
        return None
    least, most = scores
    return score if math.isfinite(score) and least <= score <= most else None


def keys(job: Job, prepared: Prepared, items: Iterable[Item], place: str) -> list[str]:
    """Under what the score of each of *items* is kept. See `recall`."""
    extra = [f"extra {json.dumps(job.extra, sort_keys=True)}"] if job.extra else []
    query = _named(prepared.query, job)
    common = _digest(place, job.model, prepared.instruct.text, *query, *extra)
    return [_digest(common, *_named(item, job)) for item in items]


def _named(item: Item, job: Job) -> tuple[str, ...]:
    if item.kind == "text":
        return (item.text,)
    fps = (f"fps {job.fps}",) if item.kind == "video" and job.fps is not None else ()
    beside = (f"beside {item.beside}",) if item.beside else ()
    return (item.kind, item.text, *fps, *beside)


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)  # no two lists run together
    return digest.hexdigest()
