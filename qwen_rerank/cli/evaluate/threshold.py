"""What a score threshold keeps and loses, and one for a wanted recall. Nothing is read or shown.

All questions are counted together: precision is of all documents that are kept, recall of all
relevant ones in the run. What the run lacks is lost before any threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen_rerank.cli._runs import Ranked
from qwen_rerank.cli.evaluate.resample import Interval, interval

__all__ = ["Kept", "Proposal", "Scores", "written"]

_UNITS = (1.0, 2.0, 5.0, 10.0)  # that round steps are made of
_DIGITS = 4  # that a proposal has, of the span of the scores

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left.

    Attributes:
        threshold: Documents that score less are dropped; None keeps all.
        documents: How many are kept.
        relevant: How many of them are relevant.
        precision: Their share of *documents*, or None if nothing is kept.
        recall: Their share of the relevant documents in the run.
        empty: How many questions are left with no document.
        unanswered: How many questions had a relevant document and are left with none.
    """

    threshold: float | None
    documents: int
    relevant: int
    precision: float | None
    recall: float
    empty: int
    unanswered: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """The highest threshold that has the wanted recall, with intervals.

    Attributes:
        kept: What it keeps.
        interval: Of the threshold, proposed anew for each resample of the questions.
        precision: Of the precision at the proposed one.
        recall: Of the recall there.
    """

    kept: Kept
    interval: Interval | None
    precision: Interval | None
    recall: Interval | None


class Scores:
    """The scores of a run, with what was judged relevant.

    Attributes:
        questions: How many are judged and in the run.
        missing: How many are judged, and the run lacks them.
        documents: How many documents the run has for them.
        unjudged: How many of those have no grade; they count as not relevant.
        unscored: How many have no score; every threshold drops them.
        found: How many are relevant.
        relevant: How many were judged relevant for these questions, in the run or not.
        low: The lowest score.
        high: The highest.
    """

    def __init__(
        self, lists: Sequence[Ranked], judged: Mapping[str, Mapping[str, int]], min_grade: int
    ) -> None:
        """Takes the queries of *lists* that are *judged*.

        Args:
            lists: The run.
            judged: Grades by query and document.
            min_grade: The lowest grade that counts as relevant.

        Raises:
            ValueError: There are no scores that a threshold could cut, or nothing is relevant.
        """
        used = [ranked for ranked in lists if ranked.query in judged]
        found = np.array([score for each in used for score in each.scores], dtype=float)
        scored = found[~np.isnan(found)]
        if not len(scored):
            raise ValueError("the run has no scores of judged queries, and a threshold cuts scores")
        if np.isinf(scored).any():
            raise ValueError("the run has an infinite score, so there is no scale to cut")
        if _are_ranks(used):
            raise ValueError(
                "the scores of the run are ranks, as `qwen-rerank rerank --format trec` writes "
                "them: a threshold needs the service's own, which its JSON lines have"
            )
        grades = [judged[each.query].get(name) for each in used for name in each.documents]
        relevant = np.array([grade is not None and grade >= min_grade for grade in grades])
        questions = np.repeat(np.arange(len(used)), [len(each.documents) for each in used])
        best_first = np.argsort(-found, kind="stable")  # nan, of those without a score, last
        self._scores: _Floats = np.nan_to_num(found[best_first], nan=-np.inf)
        self._relevant = relevant[best_first]
        self._questions: _Integers = questions[best_first]
        self._relevant_before = np.concatenate([[0], np.cumsum(self._relevant)])
        _, self._first = np.unique(self._questions, return_index=True)
        _, places = np.unique(self._questions[self._relevant], return_index=True)
        self._first_relevant = np.flatnonzero(self._relevant)[places]
        self.questions: int = len(used)
        self.missing: int = len(judged) - len(used)
        self.documents: int = len(grades)
        self.found: int = relevant.sum().item()
        self.unjudged: int = grades.count(None)
        self.unscored: int = len(found) - len(scored)
        self.relevant: int = sum(
            grade >= min_grade for each in used for grade in judged[each.query].values()
        )
        self.low: float = scored.min().item()
        self.high: float = scored.max().item()
        if not self.found:
            raise ValueError(
                f"no document of the run has a grade of {min_grade} or more: nothing is relevant"
            )

    def at(self, threshold: float | None) -> Kept:
        """What *threshold* keeps."""
        documents = self.documents
        if threshold is not None:
            documents = int(np.searchsorted(-self._scores, -threshold, side="right"))
        relevant = int(self._relevant_before[documents])
        return Kept(
            threshold,
            documents,
            relevant,
            precision=relevant / documents if documents else None,
            recall=relevant / self.found,
            empty=self.questions - int(np.sum(self._first < documents)),
            unanswered=int(np.sum(self._first_relevant >= documents)),
        )

    def steps(self, most: int) -> list[float]:
        """About *most* round thresholds, from the lowest score to the highest."""
        if self.low == self.high:
            return [self.low]
        least = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(least))
        step = next(unit * each for each in _UNITS if unit * each >= least)
        digits = max(0, -math.floor(math.log10(step)))
        first, last = math.floor(self.low / step), math.ceil(self.high / step)
        return [round(number * step, digits) for number in range(first, last + 1)]

    def proposal(self, recall: float) -> Proposal | None:
        """The highest threshold that keeps *recall* of the relevant documents, rounded down.

        Args:
            recall: Above 0 and at most 1.

        Returns:
            None if no threshold does, because those without a score are dropped.
        """
        relevant = self._scores[self._relevant]
        exact = float(relevant[_needed(recall, self.found) - 1])
        if math.isinf(exact):
            return None
        kept = self.at(self._rounded(exact))
        is_kept = np.arange(self.documents) < kept.documents
        documents, kept_relevant, all_relevant = (
            np.bincount(self._questions[chosen], minlength=self.questions)
            for chosen in (is_kept, is_kept & self._relevant, self._relevant)
        )
        # Questions that add nothing to a share are left out, so that no resample divides by 0.
        left, asked = documents > 0, all_relevant > 0
        return Proposal(
            kept,
            self._interval(recall, np.maximum(relevant, self.low)),
            interval(_share, kept_relevant[left], documents[left]),
            interval(_share, kept_relevant[asked], all_relevant[asked]),
        )

    def _rounded(self, threshold: float) -> float:
        """Not above *threshold*, so that what it keeps is still kept."""
        if self.low == self.high:
            return threshold
        digits = max(0, _DIGITS - 1 - math.floor(math.log10(self.high - self.low)))
        rounded = round(threshold, digits)
        return rounded if rounded <= threshold else round(rounded - 10.0**-digits, digits)

    def _interval(self, recall: float, relevant: _Floats) -> Interval | None:
        names, questions = np.unique(self._questions[self._relevant], return_inverse=True)
        count = len(names)

        def thresholds(drawn: _Integers, axis: int = -1) -> _Floats:  # noqa: ARG001  always the last
            rows = drawn.reshape(-1, count)
            places = (rows + count * np.arange(len(rows))[:, None]).ravel()
            times = np.bincount(places, minlength=rows.size).reshape(rows.shape)
            kept = np.cumsum(times[:, questions], axis=1)
            enough = np.argmax(kept >= _needed(recall, kept[:, -1:]), axis=1)
            found: _Floats = relevant[enough].reshape(drawn.shape[:-1])
            return found

        return interval(thresholds, np.arange(count), size=len(relevant))


def written(threshold: float | None) -> str:
    """*threshold* with every digit it has: rounded up, it would keep less."""
    return "none" if threshold is None else repr(threshold).removesuffix(".0")


def _are_ranks(lists: Sequence[Ranked]) -> bool:
    """Whether the scores of every list fall by exactly 1, or all lists are of one with 1."""
    steps = {
        None if first is None or second is None else first - second
        for ranked in lists
        for first, second in zip(ranked.scores, ranked.scores[1:], strict=False)
    }
    return steps == {1.0} or {each.scores for each in lists if each.scores} == {(1.0,)}


def _needed(recall: float, count: Any) -> Any:
    """How many of *count*; 0.7 of 10 are 7, whatever floats say."""
    return np.maximum(1, np.ceil(recall * count - 1e-9)).astype(int)


def _share(parts: Any, wholes: Any, axis: int = -1) -> Any:
    return parts.sum(axis=axis) / wholes.sum(axis=axis)
