"""Room 3: items into requests, by count, tokens and bytes. Pure arithmetic; order is kept."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, pairwise

from qwen_rerank._limits import ModelLimits
from qwen_rerank._values import Item, Job, Prepared, Request

__all__ = ["fits", "plan"]


def fits(prepared: Prepared, limits: ModelLimits, width: int) -> bool:
    """Whether the lengths in *prepared*, mere bounds perhaps, prove that counting changes nothing.

    They do if no item is too long and no more requests are needed than the document count asks for.
    """
    query, characters = prepared.query.tokens, limits.item_characters.value
    if query > limits.planned_item_tokens:
        return False
    most = limits.planned_document_tokens(query + prepared.instruct.tokens)
    if any(item.tokens > most or len(item.text) > characters for item in prepared.items):
        return False
    ends = _Ruler(prepared, limits, width).ends()
    return len(ends) == -(-len(prepared.items) // width)


def plan(job: Job, prepared: Prepared, limits: ModelLimits, width: int) -> tuple[Request, ...]:
    """*prepared* as requests: no more of them than needed, and filled evenly.

    A request's tokens are those of its documents plus the query's once per document, as DashScope
    documents it. A given instruct is counted like the query: the service bills it that way.

    Args:
        job: Names the model.
        prepared: What is asked.
        limits: The model's limits.
        width: Documents per request, at most the model's limit.
    """
    if any(item.kind != "text" for item in prepared.items):
        prepared = replace(prepared, items=_mingled(prepared.items))
    ruler = _Ruler(prepared, limits, width)
    if ruler.ends() != ruler.ends(bytes_count=False):
        ruler = _Ruler(prepared, limits, width, size=_size)
    best = ruler.ends()
    if len(best) > 1:
        # Lowering all caps together, until one more request would be needed, evens them out.
        low, high = 0.0, 1.0
        for _ in range(10):
            middle = (low + high) / 2
            if len(ends := ruler.ends(middle)) == len(best):
                high, best = middle, ends
            else:
                low = middle
    return tuple(
        Request(
            job.model,
            prepared.query.text,
            prepared.instruct.text or None,
            prepared.items[start:end],
            prepared.query.kind,
            job.fps,
            tokens=ruler.tokens(start, end),
            extra=job.extra,
        )
        for start, end in pairwise([0, *best])
    )


def _mingled(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """*items* with every kind spread evenly, so that each request takes its share of each."""
    counts = Counter(item.kind for item in items)
    seen: Counter[str] = Counter()
    places = []
    for item in items:
        places.append((seen[item.kind] + 0.5) / counts[item.kind])
        seen[item.kind] += 1
    return tuple(items[at] for at in sorted(range(len(items)), key=places.__getitem__))


def _bound(text: str) -> int:
    # JSON escapes a control character in six bytes; everything else takes fewer per character.
    return 6 * len(text)


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())


class _Ruler:
    """Says where requests have to end; sums are taken once.

    Args:
        prepared: What is asked.
        limits: The model's limits.
        width: Documents per request.
        size: Bytes of a text in a request's body: by default a bound, which nearly always will do.
    """

    def __init__(
        self,
        prepared: Prepared,
        limits: ModelLimits,
        width: int,
        size: Callable[[str], int] = _bound,
    ) -> None:
        items = prepared.items
        pair = prepared.query.tokens + prepared.instruct.tokens + limits.template_tokens
        query = prepared.query
        around = (query.size or size(query.text)) + size(prepared.instruct.text)
        self._count = len(items)
        self._width = width
        self._tokens = list(accumulate([item.tokens + pair for item in items], initial=0))
        # 2 for the comma and the space between two texts
        self._bytes = list(
            accumulate([(item.size or size(item.text)) + 2 for item in items], initial=0)
        )
        self._few = [
            (list(accumulate([item.kind == kind for item in items], initial=0)), most.value)
            for kind, most in (("image", limits.images), ("video", limits.videos))
            if most is not None and any(item.kind == kind for item in items)
        ]
        self._most_tokens = limits.planned_request_tokens
        self._most_bytes = limits.planned_body_bytes - around

    def tokens(self, start: int, end: int) -> int:
        """Tokens of a request of the items from *start* to *end*."""
        return self._tokens[end] - self._tokens[start]

    def ends(self, fraction: float = 1.0, *, bytes_count: bool = True) -> list[int]:
        """Where the fewest order-preserving requests end that hold this part of every cap."""
        width = max(1, int(self._width * fraction))
        tokens, most_tokens = self._tokens, self._most_tokens * fraction
        sizes, most_bytes = self._bytes, self._most_bytes * fraction if bytes_count else math.inf
        start, ends = 0, []
        while start < self._count:
            # An item that is too large on its own still gets a request: the service decides.
            start = max(
                start + 1,
                min(
                    start + width,
                    bisect_right(tokens, tokens[start] + most_tokens) - 1,
                    bisect_right(sizes, sizes[start] + most_bytes) - 1,
                    self._count,
                    *[
                        bisect_right(counts, counts[start] + max(1, int(most * fraction))) - 1
                        for counts, most in self._few
                    ],
                ),
            )
            ends.append(start)
        return ends
