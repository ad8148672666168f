"""Room 5: replies become one ranking. Scores are compared by raw value and top_n is applied here.

The open Qwen rerankers score every pair on its own, and public clients merge requests this way; the
vendor nevertheless documents scores as relative to one request. Never checked against the service.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen_rerank._values import Hit, Job, Plan, Ranking, Reply, Usage

__all__ = ["merge"]


def merge(job: Job, plan: Plan, replies: Sequence[Reply]) -> Ranking:
    """The ranking that *replies*, one for each request of *plan* in its order, give for *job*."""
    scores: dict[int, float] = {
        position: score
        for request, reply in zip(plan.requests, replies, strict=True)
        for item, score in zip(request.items, reply.scores, strict=True)
        for position in item.positions
    }
    order = sorted(scores, key=lambda position: (-scores[position], position))
    if job.score_threshold is None:
        order += [position for position in range(len(job.documents)) if position not in scores]
    else:
        order = [position for position in order if scores[position] >= job.score_threshold]
    return Ranking(
        hits=tuple(
            Hit(position, scores.get(position), job.documents[position])
            for position in order[: job.top_n]
        ),
        model=job.model,
        usage=Usage(requests=len(replies), tokens=sum(reply.tokens for reply in replies)),
        request_ids=tuple(reply.request_id for reply in replies if reply.request_id),
        truncated=plan.truncated,
        query_truncated=plan.query_truncated,
    )
