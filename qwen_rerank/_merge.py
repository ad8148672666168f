"""Room 5: scores become one ranking. They are compared by raw value and top_n is applied here.

The open Qwen rerankers score every pair on its own, and so did the service in an independent run of
943 requests with qwen3-rerank: other orders and shorter lists moved no score by more than 6.7e-7
(github.com/samyung0/capy-notebook, 1ab3bc07, 2026-09-25). The vendor documents scores as relative
to one request all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from qwen_rerank._values import Hit, Job, Kind, Prepared, Ranking, Scored, Usage
from qwen_rerank.errors import RerankError

__all__ = ["merge", "passed_through"]

_Part: TypeAlias = tuple[tuple[int, int] | None, Kind | None]  # of a document: its window and kind

_TEXT_FIRST: dict[Kind | None, int] = {"text": 2, "image": 1, "video": 0, None: -1}
_NONE: _Part = (None, None)
_WHOLE: dict[Kind, _Part] = {kind: (None, kind) for kind in ("text", "image", "video")}


def merge(
    job: Job,
    prepared: Prepared,
    scored: Iterable[Scored],
    usage: Usage,
    request_ids: tuple[str, ...],
) -> Ranking:
    """The ranking of *job* from the scores of its items. A split document has its best window's."""
    scores: dict[int, float] = {}
    parts: dict[int, _Part] = {}
    for item, score in scored:
        whole = _WHOLE[item.kind]
        for position, window in item.places:
            part = whole if window is None else (window, item.kind)
            # Of windows that score alike, the first wins, and a text before its image, whatever
            # order they come in.
            if position not in scores or (score, _precedence(part)) > (
                scores[position],
                _precedence(parts[position]),
            ):
                scores[position], parts[position] = score, part
    order = sorted(sorted(scores), key=scores.__getitem__, reverse=True)  # ties keep their order
    if job.score_threshold is not None:
        order = [position for position in order if scores[position] >= job.score_threshold]
    elif len(order) < len(job.documents):
        order += [position for position in range(len(job.documents)) if position not in scores]
    given = job.given
    return Ranking(
        hits=tuple(
            [
                Hit(position, scores.get(position), given[position], *parts.get(position, _NONE))
                for position in order[: job.top_n]
            ]
        ),
        model=job.model,
        usage=usage,
        request_ids=request_ids,
        truncated=prepared.truncated,
        query_truncated=prepared.query_truncated,
        unsendable=prepared.unsendable,
    )


def passed_through(
    job: Job,
    failure: RerankError,
    usage: Usage,
    request_ids: tuple[str, ...],
    unsendable: tuple[tuple[int, str], ...] = (),
) -> Ranking:
    """The head of *job*'s documents in their own order, unscored: what there is without a ranking.

    Scores that did come are not used: some scored and some not is no order anybody asked for.
    """
    return Ranking(
        hits=tuple(
            Hit(position, None, document)
            for position, document in enumerate(job.given[: job.top_n])
        ),
        model=job.model,
        usage=usage,
        request_ids=request_ids,
        unsendable=unsendable,
        degraded=failure,
    )


def _precedence(part: _Part) -> tuple[int, int]:
    window, kind = part
    return -window[0] if window else 0, _TEXT_FIRST[kind]
