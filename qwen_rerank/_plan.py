"""Room 3: items into requests, by count, tokens and bytes. Pure arithmetic; order is kept."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import NamedTuple

from qwen_rerank._models import ModelLimits
from qwen_rerank._values import Item, Job, Prepared, Request

__all__ = ["Budget", "plan"]

# JSON escapes a control character in six bytes; everything else takes fewer per character.
_WIDEST = 6
_WORK = 20_000  # tries times requests: some milliseconds; most lists take a few for each request


class Budget(NamedTuple):
    """What fits into the fewest requests that the number of documents asks for.

    Attributes:
        limits: The model's limits.
        width: Documents per request, at most the model's limit.
    """

    limits: ModelLimits
    width: int

    def holds(self, prepared: Prepared) -> bool:
        """Whether the lengths in *prepared*, bounds perhaps, prove that counting changes nothing.

        They do if no item is too long and no more requests are needed.
        """
        query, extent = prepared.query.tokens, prepared.extent
        if query > self.limits.planned_query_tokens(prepared.instruct.tokens):
            return False
        if not prepared.items:
            return True
        most = self.limits.planned_document_tokens(query + prepared.instruct.tokens)
        if extent.most_tokens > most or extent.most_characters > self.limits.item_characters.value:
            return False
        if _as_one(prepared, self.limits, self.width) is not None:
            return True
        ends = _Ruler(prepared, self.limits, self.width).ends()
        return len(ends) == self._fewest(prepared)

    def surplus(self, prepared: Prepared) -> float:
        """Tokens that *prepared* has over what those requests hold together."""
        pair = _around(prepared, self.limits)
        tokens = sum(item.tokens + pair for item in prepared.items)
        return tokens - self._fewest(prepared) * self.limits.planned_request_tokens

    def _fewest(self, prepared: Prepared) -> int:
        return -(-len(prepared.items) // self.width)


def _around(prepared: Prepared, limits: ModelLimits) -> int:
    """Tokens that each pair has besides its document's."""
    return prepared.query.tokens + prepared.instruct.tokens + limits.template_tokens


def plan(job: Job, prepared: Prepared, limits: ModelLimits, width: int) -> tuple[Request, ...]:
    """*prepared* as requests: no more of them than needed, and filled evenly.

    Where that takes no more of them, no two have as many items: the answer to one that comes back
    for another, as something in between may mix them up, has then a wrong number of results.

    A request's tokens are those of its documents plus the query's once per document, as DashScope
    documents it. A given instruct is counted like the query: the service bills it that way.

    Args:
        job: Names the model.
        prepared: What is asked.
        limits: The model's limits.
        width: Documents per request, at most the model's limit.
    """
    if (tokens := _as_one(prepared, limits, width)) is not None:
        return (_request(job, prepared, prepared.items, tokens),)
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
        best = _differing(ruler, best)
    return tuple(
        _request(job, prepared, prepared.items[start:end], ruler.tokens(start, end))
        for start, end in pairwise([0, *best])
    )


def _request(job: Job, prepared: Prepared, items: tuple[Item, ...], tokens: int) -> Request:
    return Request(
        job.model,
        prepared.query.text,
        prepared.instruct.text or None,
        items,
        prepared.query.kind,
        job.fps,
        tokens=tokens,
        extra=job.extra,
    )


def _as_one(prepared: Prepared, limits: ModelLimits, width: int) -> int | None:
    """The tokens of a request of texts that surely holds all of *prepared*, as most lists do."""
    count, extent = len(prepared.items), prepared.extent
    if not 0 < count <= width or not extent.are_texts:
        return None
    total = extent.tokens + count * _around(prepared, limits)
    query = prepared.query
    size = (query.size or _bound(query.text)) + _bound(prepared.instruct.text)
    # Of all lengths together, and 4 for the quotes of a text, and the comma and the space after it.
    size += _WIDEST * extent.characters + 4 * count
    fits = total <= limits.planned_request_tokens and size <= limits.planned_body_bytes
    return total if fits else None


def _differing(ruler: _Ruler, even: list[int]) -> list[int]:
    """Where as many requests end, near to *even*, if they can have sizes that all differ.

    A search from the first to the last, each as near to its even end as it can be, which backs off
    where the rest cannot be had any more. One that takes too long ends with *even*.
    """
    count, total = len(even), even[-1]
    if len({end - start for start, end in pairwise([0, *even])}) == count:
        return even
    widest = ruler.widest()
    if not _add_up(count, total, widest, set()):
        return even

    def nearest() -> Iterator[int]:
        start, wanted = starts[-1], even[len(starts) - 1] - starts[-1]
        sizes = range(1, ruler.reach(start) - start + 1)
        return iter(sorted(sizes, key=lambda size: abs(size - wanted)))

    starts = [0]
    untried = [nearest()]  # of each request so far, the sizes that it could have too
    for _ in range(max(2 * count, _WORK // count)):
        size = next(untried[-1], None)
        if size is None:
            untried.pop()
            starts.pop()
            if not starts:
                break
            continue
        end, left = starts[-1] + size, count - len(starts)
        used = {end - start for start, end in pairwise([*starts, end])}
        if (
            len(used) == len(starts)
            and _add_up(left, total - end, widest, used)
            and ruler.least(end, left)
        ):
            starts.append(end)
            if not left:
                return starts[1:]
            untried.append(nearest())
    return even


def _add_up(count: int, total: int, widest: int, used: set[int]) -> bool:
    """Whether *count* sizes up to *widest* that differ and are not *used* might make *total*."""
    if count == 1:
        return 0 < total <= widest and total not in used
    reach = count + len(used)
    if reach > widest:
        return False
    least = [size for size in range(1, reach + 1) if size not in used][:count]
    most = [size for size in range(widest, widest - reach, -1) if size not in used][:count]
    return sum(least) <= total <= sum(most)


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
    return _WIDEST * len(text) + 2  # its quotes


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
        pair = _around(prepared, limits)
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
        self._caps = [
            (self._tokens, self._most_tokens),
            (self._bytes, self._most_bytes),
            *self._few,
        ]

    def tokens(self, start: int, end: int) -> int:
        """Tokens of a request of the items from *start* to *end*."""
        return self._tokens[end] - self._tokens[start]

    def ends(self, fraction: float = 1.0, *, bytes_count: bool = True) -> list[int]:
        """Where the fewest order-preserving requests end that hold this part of every cap."""
        width, caps = max(1, int(self._width * fraction)), [(self._tokens, self._most_tokens)]
        if bytes_count:
            caps.append((self._bytes, self._most_bytes))
        held = [(sums, most * fraction) for sums, most in caps]
        held += [(counts, max(1, int(most * fraction))) for counts, most in self._few]
        start, ends = 0, []
        while start < self._count:
            start = self._reach(start, width, held)
            ends.append(start)
        return ends

    def reach(self, start: int) -> int:
        """Where the largest request ends that begins at *start*."""
        return self._reach(start, self._width, self._caps)

    def _reach(self, start: int, width: int, caps: list[tuple[list[int], float]]) -> int:
        end = min(start + width, self._count)
        for sums, most in caps:
            end = bisect_right(sums, sums[start] + most, start + 1, end + 1) - 1
        # An item that is too large on its own still gets a request: the service decides.
        return max(start + 1, end)

    def least(self, start: int, most: int) -> bool:
        """Whether *most* requests are enough for the items from *start* on."""
        for _ in range(most):
            if start >= self._count:
                break
            start = self.reach(start)
        return start >= self._count

    def widest(self) -> int:
        """A bound of the items that any request can hold."""
        cheapest = accumulate(sorted(end - start for start, end in pairwise(self._tokens)))
        return min(self._width, max(1, sum(1 for cost in cheapest if cost <= self._most_tokens)))
