"""Intervals by resampling queries, with scipy. The seed is fixed: the same files say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import bootstrap

__all__ = ["AT_ONCE", "Interval", "chance", "interval", "resamples"]

Interval = tuple[float, float]

AT_ONCE = 1_000_000  # numbers in memory
_FEWEST, _MOST, _DRAWN = 999, 9_999, 5_000_000  # resamples, and queries in all of them


def resamples(queries: int) -> int:
    """How many: fewer of more than 500 queries, so that thousands take no more than seconds."""
    return min(_MOST, max(_FEWEST, _DRAWN // queries))


def chance() -> np.random.Generator:
    """The same numbers every time."""
    return np.random.default_rng(20_250_605)


def interval(statistic: Callable[..., Any], *data: Any, size: int | None = None) -> Interval | None:
    """95 percent of *statistic*, where queries are drawn anew with replacement (percentiles).

    Args:
        statistic: Takes arrays like *data* and ``axis=``.
        data: Arrays with a number for each query, drawn together.
        size: How many numbers the statistic holds at once for a draw; default: the queries.

    Returns:
        None of fewer than two queries.
    """
    if len(data[0]) < 2:
        return None
    found = bootstrap(
        data,
        statistic,
        paired=len(data) > 1,
        vectorized=True,
        method="percentile",
        n_resamples=resamples(len(data[0])),
        batch=max(1, AT_ONCE // (size or len(data[0]))),
        rng=chance(),
    ).confidence_interval
    return float(found.low), float(found.high)
