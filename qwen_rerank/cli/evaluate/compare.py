"""How good runs are and whether they differ: ir_measures and a sign-flip test. Nothing is shown.

A measure's figure is the mean over all queries with judgements; a query that a run lacks counts 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import ir_measures
import numpy as np
from ir_measures.measures import MeanAgg

from qwen_rerank.cli._runs import Ranked

__all__ = ["Change", "Comparison", "Measured", "compared", "measured", "measures_of"]

_SAME = 1e-9
_FLIPS = 100_000
_EXACT = 16  # differences up to which every combination of signs is counted
_AT_ONCE = 2_000_000  # signs in memory
_SEED = 20_250_605


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
        changes: Every judged query, the largest gain or loss first.
        p: How often a difference of the means at least this large, in either direction, comes about
            if the two runs are exchanged at random in each query.
    """

    measure: str
    changes: tuple[Change, ...]
    p: float

    @property
    def difference(self) -> float:
        """Of the means."""
        return fmean(change.gain for change in self.changes)

    @property
    def wins(self) -> int:
        """How many queries gained."""
        return sum(change.gain > 0 for change in self.changes)

    @property
    def losses(self) -> int:
        """How many queries lost."""
        return sum(change.gain < 0 for change in self.changes)

    @property
    def ties(self) -> int:
        """How many queries did neither."""
        return len(self.changes) - self.wins - self.losses


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
    lists: Sequence[Ranked],
    judged: Mapping[str, Mapping[str, int]],
    measures: Sequence[Any],
) -> Measured:
    """The figures of one run.

    Raises:
        ValueError: A measure cannot be computed of these queries and documents.
    """
    # Ranks as scores: equal scores would be ordered by id, not as the run has them.
    run = {
        ranked.query: {
            document: float(len(ranked.documents) - rank)
            for rank, document in enumerate(ranked.documents)
        }
        for ranked in lists
        if ranked.query in judged
    }
    grades = {query: dict(of_query) for query, of_query in judged.items()}
    figures = {str(measure): dict.fromkeys(judged, 0.0) for measure in measures}
    try:
        for metric in ir_measures.iter_calc(list(measures), grades, run):
            figures[str(metric.measure)][metric.query_id] = float(metric.value)
    except Exception as error:  # each provider has its own, such as a subprocess that fails
        raise ValueError(f"{', '.join(figures)} cannot be computed of {name}") from error
    return Measured(
        name,
        figures,
        missing=len(judged) - len(run),
        unjudged=len(lists) - len(run),
        tied=sum(ranked.tied for ranked in lists),
    )


def compared(before: Measured, after: Measured, measure: str) -> Comparison:
    """Two runs with the same judgements."""
    earlier, later = before.per_query[measure], after.per_query[measure]
    changes = [Change(query, earlier[query], later[query]) for query in earlier]
    changes.sort(key=lambda change: -abs(change.gain))
    return Comparison(measure, tuple(changes), _p([change.gain for change in changes]))


def _p(gains: Sequence[float]) -> float:
    """The two-sided p value of a paired test that flips signs; of a fixed seed."""
    moved = np.array([abs(gain) for gain in gains if gain])
    observed = abs(sum(gains)) - _SAME
    count = len(moved)
    if count <= _EXACT:
        numbers = np.arange(2**count)[:, None] >> np.arange(count)
        sums = (1.0 - 2.0 * (numbers & 1)) @ moved
        return float(np.mean(np.abs(sums) >= observed))
    chance = np.random.default_rng(_SEED)
    extreme, done = 0, 0
    while done < _FLIPS:
        size = min(_FLIPS - done, max(1, _AT_ONCE // count))
        signs = 1.0 - 2.0 * chance.integers(0, 2, (size, count), dtype=np.int8)
        extreme += int(np.sum(np.abs(signs @ moved) >= observed))
        done += size
    return (extreme + 1) / (_FLIPS + 1)
