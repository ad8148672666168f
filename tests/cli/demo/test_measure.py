"""The figures: by hand for small rankings, and what they must not depend on."""

import math

import pytest

from qwen_rerank import Usage
from qwen_rerank.cli.demo.corpus import Passage, Question
from qwen_rerank.cli.demo.measure import Found, Judged, Quality, Result, Trial, by_topic, judge


def ranking(*topics):
    """A ranking of passages of these topics; the scores are all the same on purpose."""
    return tuple(
        Found(Passage(f"{topic}-{place}", topic, f"text {place}"), 0.5)
        for place, topic in enumerate(topics)
    )


def question(**grades):
    """A question with these grades."""
    return Question("q", "why?", grades)


def quality(found, **grades):
    """How good one ranking is."""
    (judged,) = judge([question(**grades)], [found])
    return judged.quality


def trial(before, after, name="q"):
    """A question whose nDCG@10 went from *before* to *after*."""
    return Trial(
        Question(name, f"{name}?", {}),
        Judged((), Quality(before, before / 2)),
        Judged((), Quality(after, after / 2)),
    )


def test_a_topic_counts_once():
    """A topic stands where its first passage does; its other passages take no place."""
    found = ranking("a", "a", "b", "a", "c", "b")
    assert [one.passage.id for one in by_topic(found)] == ["a-0", "b-2", "c-4"]


def test_ndcg_counts_grades():
    """A higher grade is worth more, and what was not found belongs to the best order too."""
    gained, best = 1 + 3 / math.log2(3), 3 + 1 / math.log2(3)
    assert quality(ranking("low", "high"), high=3, low=1).ndcg == pytest.approx(gained / best)
    assert quality(ranking("a"), a=3, b=3).ndcg < 1


def test_ndcg_looks_at_ten_topics():
    """The tenth topic still counts, the eleventh does not, however many passages come before."""
    fillers = [f"t{number}" for number in range(10) for _ in range(2)]
    assert quality(ranking(*fillers[:18], "good"), good=3).ndcg > 0
    assert quality(ranking(*fillers, "good"), good=3).ndcg == 0


@pytest.mark.parametrize(("topics", "expected"), [("ab", 1.0), ("xab", 1 / 2), ("xxyzb", 1 / 4)])
def test_rr_is_one_over_the_first_good_rank(topics, expected):
    """Any grade makes a topic good; repeated topics do not push the rank."""
    assert quality(ranking(*topics), a=1, b=3).rr == pytest.approx(expected)


def test_equal_scores_keep_their_order():
    """Ties are not broken by name: the order that was shown is the order that is measured."""
    assert quality(ranking("z", "a"), z=3).ndcg == 1.0
    assert quality(ranking("a", "z"), a=3).ndcg == 1.0


def test_questions_are_judged_one_by_one():
    """Each question is measured against its own grades, in the order given."""
    questions = [Question("q2", "b?", {"b": 3}), Question("q1", "a?", {"a": 3})]
    both = [ranking("a", "b"), ranking("a", "b")]
    assert [judged.quality.rr for judged in judge(questions, both)] == [0.5, 1.0]


def test_a_result_counts_and_averages():
    """Rose, fell and stayed add up, and rounding noise is no change."""
    trials = (trial(0.2, 0.4), trial(0.6, 0.5), trial(0.3, 0.3 + 1e-12), trial(0.1, 0.2))
    result = Result("X", trials, Usage(), 1.0)
    assert (result.rose, result.fell, result.stayed) == (2, 1, 1)
    assert result.before.ndcg == pytest.approx(0.3)
    assert result.before.rr == pytest.approx(0.15)
    assert result.after.ndcg == pytest.approx(0.35)
    assert [one.gain for one in trials] == pytest.approx([0.2, -0.1, 0.0, 0.1])
    assert trials[2].gain == 0.0
