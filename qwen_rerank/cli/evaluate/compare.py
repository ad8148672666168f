"""How good runs are and whether they differ, by ir_measures and scipy. Nothing is shown.

A measure's figure is the mean over all queries with judgements; a query that a run lacks counts 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import ir_measures
import numpy as np
from ir_measures.measures import MeanAgg
from scipy.stats import permutation_test

from qwen_rerank.cli._runs import Ranked
from qwen_rerank.cli.evaluate.resample import AT_ONCE, Interval, chance, interval, resamples

__all__ = ["Change", "Comparison", "Measured", "compared", "measured", "measures_of"]

_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's figures.

    Attributes:
        name: The run's name.
        per_query: By measure and judged query.
        missing: How many judged queries the run lacks.
        unjudged: How many queries of the run have no judgements, and are left out.
        tied: How many of its queries have documents with equal scores.
    """

    name: str
    per_query: Mapping[str, Mapping[str, float]]
    missing: int
    unjudged: int
    tied: int

    def mean(self, measure: str) -> float:
        """The figure of *measure*."""
        return fmean(self.per_query[measure].values())


@dataclass(frozen=True, slots=True)
class Change:
    """One query, before and after."""

    query: str
    before: float
    after: float

    @property
    def gain(self) -> float:
        """What changed; exactly 0 where only the rounding differs."""
        gain = self.after - self.before
        return gain if abs(gain) > _SAME else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs in one measure.

    Attributes:
        measure: Its name.
        changes: Every judged query, the largest gain first, the largest loss last.
        interval: Of the difference of the means, 95 percent, by resampling queries; None of one
            query.
        p: How often a difference of the means at least this large, in either direction, comes about
            if the two runs are exchanged at random in each query.
    """

    measure: str
    changes: tuple[Change, ...]
    interval: Interval | None
    p: float

    @property
    def difference(self) -> float:
        """Of the means."""
        return fmean(change.gain for change in self.changes)

    @property
    def better(self) -> int:
        """How many queries gained."""
        return sum(change.gain > 0 for change in self.changes)

    @property
    def worse(self) -> int:
        """How many queries lost."""
        return sum(change.gain < 0 for change in self.changes)

    @property
    def equal(self) -> int:
        """How many queries did neither."""
        return len(self.changes) - self.better - self.worse


def measures_of(names: Sequence[str]) -> tuple[Any, ...]:
    """The measures of ir_measures with these *names*.

    Raises:
        ValueError: There is none of a name, it needs more than is installed, or it is no mean.
    """
    found = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            ir_measures.evaluator([measure], {"q": {"d": 1}})
        except Exception as error:
            raise ValueError(
                f"{name!r} is no measure that can be computed here: such as nDCG@10, RR or R@100"
            ) from error
        if not isinstance(measure.aggregator(), MeanAgg):
            raise ValueError(  # noqa: TRY004  of a name
                f"{name!r} counts over all queries, and has no mean to compare"
            )
        found.append(measure)
    return tuple(found)


def measured(
    name: str,
    lists: Iterable[Ranked],
    judged: Mapping[str, Mapping[str, int]],
    measures: Sequence[Any],
) -> Measured:
    """The figures of one run.

    Raises:
        ValueError: A measure cannot be computed of these queries and documents.
    """
    run, unjudged, tied = {}, 0, 0
    for ranked in lists:
        tied += ranked.tied
        if ranked.query in judged:
            # Ranks as scores: equal scores would be ordered by id, not as the run has them.
            ranks = map(float, range(len(ranked.documents), 0, -1))
            run[ranked.query] = dict(zip(ranked.documents, ranks, strict=True))
        else:
            unjudged += 1
    grades = {query: dict(of_query) for query, of_query in judged.items()}
    figures = {str(measure): dict.fromkeys(judged, 0.0) for measure in measures}
    try:
        for metric in ir_measures.iter_calc(list(measures), grades, run):
            figures[str(metric.measure)][metric.query_id] = float(metric.value)
    except Exception as error:  # each provider has its own, such as a subprocess that fails
        raise ValueError(f"{', '.join(figures)} cannot be computed of {name}") from error
    return Measured(name, figures, len(judged) - len(run), unjudged, tied)


def compared(before: Measured, after: Measured, measure: str) -> Comparison:
    """Two runs with the same judgements."""
    earlier, later = before.per_query[measure], after.per_query[measure]
    changes = [Change(query, earlier[query], later[query]) for query in earlier]
    changes.sort(key=lambda change: -change.gain)
    gains = np.array([change.gain for change in changes])
    around = interval(np.mean, gains) if gains.any() else (0.0, 0.0)
    return Comparison(measure, tuple(changes), around, _p(gains))


def _p(gains: np.ndarray) -> float:
    """The two-sided p value of a paired test that flips signs; of a fixed seed."""
    moved = np.rint(gains[gains != 0] / _SAME)  # whole numbers: their sums are exact
    if len(moved) < 2:  # to flip one sign is as large a difference
        return 1.0
    found = permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples(len(moved)),
        batch=max(1, AT_ONCE // len(moved)),
        rng=chance(),
    )
    return float(found.pvalue)
