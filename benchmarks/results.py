"""What a comparison found: ratios of interleaved runs, and whether they meet their targets."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median of some rounds, and the lowest and highest of their middle half."""

    median: float
    low: float
    high: float
    unit: str = ""

    def __str__(self) -> str:
        shown = f"{_short(self.median)}{self.unit}"
        if self.low == self.high:
            return shown
        return f"{shown} ({_short(self.low)} to {_short(self.high)})"


class Target(NamedTuple):
    """The bound a median has to keep."""

    kind: str
    value: float
    unit: str = ""

    def met(self, measured: Spread) -> bool:
        """Whether *measured* keeps it."""
        if self.kind == "at most":
            return measured.median <= self.value
        if self.kind == "at least":
            return measured.median >= self.value
        return measured.low == measured.high == self.value

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}{self.unit}"


class Measure(NamedTuple):
    """One number of a comparison; one without a target is there to compare with."""

    name: str
    value: Spread
    target: Target | None = None

    @property
    def missed(self) -> bool:
        """Whether there is a target and it was not met."""
        return self.target is not None and not self.target.met(self.value)


@dataclass
class Comparison:
    """One line of the table.

    Attributes:
        what: What is compared with what.
        how: How it was measured, in a sentence.
        measures: The numbers.
        would_take: What it would take to meet a target that was missed.
        drawn: What a chart needs.
    """

    what: str
    how: str
    measures: list[Measure]
    would_take: str = ""
    drawn: Any = field(default=None, repr=False)


def at_most(value: float, unit: str = "") -> Target:
    """The target not to exceed *value*."""
    return Target("at most", value, unit)


def at_least(value: float, unit: str = "") -> Target:
    """The target to reach *value*."""
    return Target("at least", value, unit)


def exactly(value: float, unit: str = "") -> Target:
    """The target to have *value* in every round."""
    return Target("exactly", value, unit)


def spread(values: Sequence[float], unit: str = "") -> Spread:
    """The median of *values* and their middle half."""
    if len(values) < 4:
        return Spread(statistics.median(values), min(values), max(values), unit)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(statistics.median(values), low, high, unit)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """*ours* over *theirs*, round by round."""
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
