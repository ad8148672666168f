"""How good an order is: rankings collapsed to topics, then ir_measures. Nothing is ranked or shown.

The judgements are by topic, so a ranking is worth what its topics are worth, each counted once and
at its first passage.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import ir_measures
from ir_measures import RR, nDCG

from qwen_rerank import Usage
from qwen_rerank.cli.demo.corpus import Passage, Question

__all__ = ["Found", "Judged", "Quality", "Result", "Trial", "by_topic", "judge"]

_NDCG = nDCG @ 10
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Found:
    """A passage in a ranking, with the score that put it there."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How good an order is, or several on average: 0 is worst, 1 is best.

    Attributes:
        ndcg: nDCG@10, over the grades.
        rr: One over the rank of the first topic with any grade; its mean is the MRR.
    """

    ndcg: float
    rr: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A ranking as it is judged: each topic's first passage, best first, and how good that is."""

    topics: tuple[Found, ...]
    quality: Quality


@dataclass(frozen=True, slots=True)
class Trial:
    """One question: the order of the first stage, and the order after reranking."""

    question: Question
    before: Judged
    after: Judged

    @property
    def gain(self) -> float:
        """What reranking changed in nDCG@10; exactly 0 where only the rounding differs."""
        gain = self.after.quality.ndcg - self.before.quality.ndcg
        return gain if abs(gain) > _SAME else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """All questions through one framework.

    Attributes:
        framework: Its name.
        trials: One for each question.
        usage: What the reranking cost.
        seconds: How long the reranking took.
    """

    framework: str
    trials: tuple[Trial, ...]
    usage: Usage
    seconds: float

    @property
    def before(self) -> Quality:
        """The mean quality of the first stage."""
        return _mean(trial.before.quality for trial in self.trials)

    @property
    def after(self) -> Quality:
        """The mean quality after reranking."""
        return _mean(trial.after.quality for trial in self.trials)

    @property
    def rose(self) -> int:
        """How many questions gained in nDCG@10."""
        return sum(trial.gain > 0 for trial in self.trials)

    @property
    def fell(self) -> int:
        """How many questions lost in nDCG@10."""
        return sum(trial.gain < 0 for trial in self.trials)

    @property
    def stayed(self) -> int:
        """How many questions did neither."""
        return len(self.trials) - self.rose - self.fell


def by_topic(ranking: Iterable[Found]) -> tuple[Found, ...]:
    """*ranking* with each topic's first passage only."""
    first: dict[str, Found] = {}
    for found in ranking:
        first.setdefault(found.passage.topic, found)
    return tuple(first.values())


def judge(questions: Sequence[Question], rankings: Iterable[Iterable[Found]]) -> list[Judged]:
    """One ranking for each of *questions*, collapsed to topics and measured."""
    collapsed = [by_topic(ranking) for ranking in rankings]
    # Ranks as scores: equal scores would be ordered by name, not as they were ranked.
    run = {
        question.id: {
            found.passage.topic: float(len(topics) - rank) for rank, found in enumerate(topics)
        }
        for question, topics in zip(questions, collapsed, strict=True)
    }
    grades = {question.id: dict(question.grades) for question in questions}
    measured = {
        (metric.query_id, metric.measure): metric.value
        for metric in ir_measures.iter_calc([_NDCG, RR], grades, run)
    }
    return [
        Judged(topics, Quality(measured[question.id, _NDCG], measured[question.id, RR]))
        for question, topics in zip(questions, collapsed, strict=True)
    ]


def _mean(qualities: Iterable[Quality]) -> Quality:
    ndcg, rr = zip(*((quality.ndcg, quality.rr) for quality in qualities), strict=True)
    return Quality(fmean(ndcg), fmean(rr))
