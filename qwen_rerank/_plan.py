"""Room 3: items into requests, by count, tokens and bytes. Pure arithmetic; order is kept."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

from qwen_rerank._limits import ModelLimits
from qwen_rerank._values import Job, Prepared, Request

__all__ = ["fits", "plan"]


def fits(prepared: Prepared, limits: ModelLimits, width: int) -> bool:
    """Whether the lengths in *prepared*, mere bounds perhaps, prove that counting changes nothing.

    They do if no item is too long and no more requests are needed than the document count asks for.
    """
    most = limits.planned_item_tokens
    if prepared.query.tokens > most or any(
        item.tokens > most or len(item.text) > limits.item_characters.value
        for item in prepared.items
    ):
        return False
    return len(_ends(prepared, limits, width)) == -(-len(prepared.items) // width)


def plan(job: Job, prepared: Prepared, limits: ModelLimits, width: int) -> tuple[Request, ...]:
    """*prepared* as requests: no more of them than needed, and filled evenly.

    A request's tokens are those of its documents plus the query's once per document, as DashScope
    documents it. A given instruct is counted like the query: the service bills it that way.

    Args:
        job: Names model and instruct.
        prepared: What is asked.
        limits: The model's limits.
        width: Documents per request, at most the model's limit.
    """
    return tuple(
        Request(job.model, prepared.query.text, job.instruct, prepared.items[start:end])
        for start, end in pairwise([0, *_ends(prepared, limits, width)])
    )


def _ends(prepared: Prepared, limits: ModelLimits, width: int) -> list[int]:
    """Where each request ends: the fewest order-preserving requests, then the lowest such caps."""
    items = prepared.items
    pair = prepared.query.tokens + prepared.instruct.tokens
    tokens = list(accumulate((item.tokens + pair for item in items), initial=0))
    sizes = list(accumulate((item.size + 2 for item in items), initial=0))  # 2 for ", "
    most_bytes = limits.planned_body_bytes - prepared.query.size - prepared.instruct.size

    def split(fraction: float) -> list[int]:
        documents = max(1, int(width * fraction))
        caps = (
            (tokens, limits.planned_request_tokens * fraction),
            (sizes, most_bytes * fraction),
        )
        ends = [0]
        while (start := ends[-1]) < len(items):
            full = min(bisect_right(sums, sums[start] + cap) - 1 for sums, cap in caps)
            # An item that is too large on its own still gets a request: the service decides.
            ends.append(max(start + 1, min(start + documents, full, len(items))))
        return ends[1:]

    fullest = split(1.0)
    if len(fullest) <= 1:
        return fullest
    # Lowering all caps together, until one more request would be needed, evens the requests out.
    low, high, best = 0.0, 1.0, fullest
    for _ in range(10):
        middle = (low + high) / 2
        if len(ends := split(middle)) == len(fullest):
            high, best = middle, ends
        else:
            low = middle
    return best
