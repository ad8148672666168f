"""Room 2: which (query, item) pairs are already scored; reads and writes the caller's cache.

A cached score assumes that a pair's score depends on nothing but what its key digests. The open
Qwen rerankers are pointwise; the vendor does not promise it for the service.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from qwen_rerank._values import Item, Job, Prepared, Scored

__all__ = ["Cache", "recall", "remember"]

_log = logging.getLogger("qwen_rerank")


class Cache(Protocol):
    """Anything with ``[]``: a dict, a ``cachetools.TTLCache``, a ``diskcache.Cache``, Redis."""

    def __getitem__(self, key: str, /) -> float | str | bytes:
        """The score under *key*, or as the text that a store made of it; KeyError if none."""

    def __setitem__(self, key: str, value: float, /) -> None:
        """Keeps *value* under *key*."""


def recall(
    job: Job, prepared: Prepared, place: str, cache: Cache
) -> tuple[tuple[Scored, ...], Prepared]:
    """What *cache* knows of *prepared*, and what is left to ask.

    Args:
        job: Names the model.
        prepared: Query, instruct and items as they would be sent, so that a whole text, its head
            and its windows never share a score.
        place: Where they would be sent: URL and protocol.
        cache: The caller's. One that fails to answer knows nothing, and the call goes on.
    """
    common = _common(job, prepared, place)
    known: list[Scored] = []
    unknown: list[Item] = []
    odd = ""
    for at, item in enumerate(prepared.items):
        try:
            kept = cache[_digest(common, *_named(item, job))]
        except KeyError:
            unknown.append(item)
            continue
        except Exception as error:  # noqa: BLE001  a broken cache costs money, not the answer
            _log.warning("The cache failed to read, so this call asks for all scores: %r", error)
            unknown += prepared.items[at:]
            break
        if (score := _score(kept)) is None:
            odd = type(kept).__name__
            unknown.append(item)
        else:
            known.append((item, score))
    if odd:
        _log.warning("The cache holds something else than scores (%s), which is asked anew.", odd)
    return tuple(known), replace(prepared, items=tuple(unknown))


def remember(
    job: Job, prepared: Prepared, scored: Iterable[Scored], place: str, cache: Cache
) -> None:
    """Keeps new scores under the keys that `recall` looks for; a failing cache is left alone."""
    common = _common(job, prepared, place)
    for item, score in scored:
        try:
            cache[_digest(common, *_named(item, job))] = score
        except Exception as error:  # noqa: BLE001  as above
            _log.warning("The cache failed to write, so these scores are not kept: %r", error)
            return


def _score(kept: Any) -> float | None:
    try:
        score = float(kept)
    except (TypeError, ValueError, OverflowError):
        return None
    return score if math.isfinite(score) else None


def _common(job: Job, prepared: Prepared, place: str) -> str:
    extra = [f"extra {json.dumps(job.extra, sort_keys=True)}"] if job.extra else []
    return _digest(place, job.model, prepared.instruct.text, *_named(prepared.query, job), *extra)


def _named(item: Item, job: Job) -> tuple[str, ...]:
    if item.kind == "text":
        return (item.text,)
    fps = (f"fps {job.fps}",) if item.kind == "video" and job.fps is not None else ()
    return (item.kind, item.text, *fps)


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)  # no two lists run together
    return digest.hexdigest()
