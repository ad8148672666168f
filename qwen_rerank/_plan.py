"""Room 3: items into requests, by count and by tokens. Pure arithmetic; order is kept."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise

from qwen_rerank._limits import ModelLimits
from qwen_rerank._values import Job, Plan, Prepared, Request

__all__ = ["fits", "plan"]


def fits(prepared: Prepared, limits: ModelLimits) -> bool:
    """Whether the tokens in *prepared*, mere bounds perhaps, prove that counting changes nothing.

    They do if no item is too long and no more requests are needed than the document count asks for.
    """
    most = limits.planned_item_tokens
    if prepared.query.tokens > most or any(
        item.tokens > most or len(item.text) > limits.item_characters.value
        for item in prepared.items
    ):
        return False
    by_count = -(-len(prepared.items) // limits.documents.value)
    return len(_ends(prepared, limits)) == by_count


def plan(job: Job, prepared: Prepared, limits: ModelLimits) -> Plan:
    """*prepared* as requests: no more of them than needed, and filled evenly.

    A request's tokens are those of its documents plus the query's once per document, as DashScope
    documents it. A given instruct is counted like the query: the service bills it that way.
    """
    requests = tuple(
        Request(job.model, prepared.query.text, job.instruct, prepared.items[start:end])
        for start, end in pairwise([0, *_ends(prepared, limits)])
    )
    return Plan(
        requests,
        truncated=tuple(
            sorted(place for item in prepared.items if item.truncated for place in item.positions)
        ),
        query_truncated=prepared.query.truncated,
    )


def _ends(prepared: Prepared, limits: ModelLimits) -> list[int]:
    """Where each request ends. The fewest order-preserving requests, then the smallest such cap."""
    per_document = prepared.query.tokens + prepared.instruct_tokens
    tokens = list(accumulate((item.tokens + per_document for item in prepared.items), initial=0))

    def split(fraction: float) -> list[int]:
        width = max(1, int(limits.documents.value * fraction))
        budget = int(limits.planned_request_tokens * fraction)
        ends = [0]
        while ends[-1] < len(prepared.items):
            start = ends[-1]
            by_tokens = bisect_right(tokens, tokens[start] + budget) - 1
            # An item that is too large on its own still gets a request: the service decides.
            ends.append(max(start + 1, min(start + width, by_tokens, len(prepared.items))))
        return ends[1:]

    fullest = split(1.0)
    if len(fullest) <= 1:
        return fullest
    # Lowering both caps together until one more request would be needed evens the requests out.
    low, high, best = 0.0, 1.0, fullest
    for _ in range(10):
        middle = (low + high) / 2
        if len(ends := split(middle)) == len(fullest):
            high, best = middle, ends
        else:
            low = middle
    return best
