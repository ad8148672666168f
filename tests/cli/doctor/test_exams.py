"""`qwen-rerank doctor`: both answers of each question that it asks of a service."""

import io

import pytest
from rich.console import Console

from qwen_rerank import QuotaError, RequestError
from qwen_rerank._models import limits_for
from qwen_rerank.cli.doctor import chart
from qwen_rerank.cli.doctor.exams import (
    CANDIDATES,
    blanks,
    independence,
    instruct,
    judged_independence,
    judged_length,
    latency,
    over_long,
)
from qwen_rerank.cli.doctor.probe import Rehearsal, Terms, Told
from qwen_rerank.emulator import Reply

TERMS = Terms(limits_for("qwen3-rerank"), 500, takes_instruct=True)
TOLD = Told((0.9, 0.5, 0.1), 100, 0.0)


class Service:
    """A service that answers as *reply* does to the documents it is asked about."""

    def __init__(self, reply, terms=TERMS):
        self.reply = reply
        self.terms = terms

    def ask(self, ask, **_):
        """The answer."""
        return self.reply(ask.documents)

    def hang_up(self):
        """Has no connection."""


def shown(**findings):
    """What a pipe would get of these."""
    console = Console(width=300, file=io.StringIO())
    console.print(chart.answers(findings))
    return console.file.getvalue()


def relevance(text):
    """A score that the answer wins."""
    return 0.9 if text == CANDIDATES[1] else 0.5 if text == CANDIDATES[2] else 0.1


@pytest.mark.parametrize(
    ("score", "alone", "order"),
    [
        (lambda text, _, count: relevance(text) / (1 if count < 40 else 2), 0.45, 0),
        (lambda text, place, count: relevance(text) + 0.05 * (place > count / 2), 0.05, 0.05),
    ],
    ids=["neighbours", "order"],
)
def test_scores_that_depend_on_others(score, alone, order):
    """Scores that shrink with the list, or favour its head, are noticed, and by how much."""

    def reply(documents):
        count = len(documents)
        return Told(tuple(score(text, at, count) for at, text in enumerate(documents)), count, 0.0)

    found = independence(Service(reply))

    assert found.answer == "depends"
    assert (found.alone, found.order) == pytest.approx((alone, order))
    assert f"{alone} alone, {order} in reverse order" in shown(found=found)


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ((0.0, 0.0, 0.0), "same"),
        ((0.001, 0.0, 0.002), "nearly"),
        ((0.2, 0.0, 0.0), "depends"),
        ((0.0, 0.2, 0.02), "depends"),
        ((0.02, 0.03, 0.02), "unsteady"),
    ],
)
def test_the_word_for_differences(differences, answer):
    """Noise that the same request shows too is not taken for the neighbours' influence."""
    alone, order, again = differences
    found = judged_independence(alone=alone, order=order, again=again, spread=0.9, others=50)
    assert found.answer == answer


def test_a_limit_far_below_the_documented_one():
    """If even a much shorter document is refused, it says so instead of searching on."""

    def strict(documents):
        if max(map(len, documents)) > 1_500:
            raise RequestError("too long")
        return TOLD

    found = over_long(Service(strict))

    assert (found.answer, found.most_accepted, found.least_refused) == ("refused", None, 3_000)


@pytest.mark.parametrize(
    ("scores", "tokens", "answer", "counted"),
    [
        ((0.9, 0.1, 0.1), 3 * 4_008, "cut", 4_000),
        ((0.9, 0.8, 0.1), 3 * 5_008, "read", 5_000),
        ((0.1, 0.1, 0.1), 3 * 5_008, "unclear", 5_000),
        ((0.9, 0.1, 0.1), None, "cut", None),
    ],
)
def test_the_word_for_long_documents(scores, tokens, answer, counted):
    """Whether the end was read is told by the answer that stands there."""
    found = judged_length(Told(scores, tokens, 0.0), 5_000, 4_000, 8)
    assert (found.answer, found.counted) == (answer, counted)


def test_a_limit_that_nobody_documents():
    """Of a model that we know nothing of, no guess of ours is called documented."""
    terms = Terms(limits_for("my-own-reranker"), 500, takes_instruct=True)
    found = over_long(Service(lambda _: TOLD, terms))
    assert found.documented is None
    assert "No limit is documented" in shown(found=found)


@pytest.mark.parametrize(
    ("bills", "contrary", "billed", "counts"),
    [
        ((124, 100), 0.1, "per document", True),
        ((108, 100), 0.1, "per request", True),
        ((100, 100), 0.9, "not counted", False),
        ((100, 124), 0.1, "unclear", True),
        ((None, None), 0.9, "unreported", False),
    ],
)
def test_the_words_for_an_instruct(bills, contrary, billed, counts):
    """How often it is billed, if anybody says; and whether a contrary one changes the scores."""
    answers = [
        Told((score,), bill, 0.0) for score, bill in zip((0.9, contrary), bills, strict=True)
    ]
    found = instruct(Service(lambda _: answers.pop(0)))
    assert (found.answer, found.changes_scores) == (billed, counts)
    assert found.billed is None or found.billed >= 0
    assert ("It counts here" if counts else "It does not count here") in shown(found=found)


def test_a_server_with_small_requests_and_no_instruct():
    """Fewer others are asked with, sizes end earlier, and what is not taken is not asked."""
    small = Rehearsal(Terms(limits_for("my-model"), 32, takes_instruct=False), refuses=False)
    assert instruct(small).answer == "not taken"
    assert small.requests == 0
    assert independence(small).others == 31
    assert [one.documents for one in latency(small).lists] == [1, 10]


def test_blank_documents_are_two_questions():
    """Empty and white text may be treated differently."""

    def reply(documents):
        if "" in documents:
            raise RequestError("empty!")
        return TOLD

    said = shown(found=blanks(Service(reply)))

    assert "empty refused, spaces accepted" in said
    assert "It says: empty!" in said


def test_a_size_that_fails():
    """A length that the service refuses has its reason instead of a time."""

    def reply(documents):
        if len(documents) > 100:
            raise RequestError("The request body is too large.")
        return TOLD

    found = latency(Service(reply))

    *rest, last = found.lists
    assert all(one.failed is None for one in rest)
    assert (last.cold, last.failed) == (None, "The request body is too large.")
    console = Console(width=200, file=io.StringIO())
    console.print(chart.latencies(found))
    assert "The request body is too large." in console.file.getvalue()


def test_an_empty_purse_at_the_end_is_no_latency():
    """Lists fail by their length only if the service says so of the request."""

    def reply(_):
        raise QuotaError("Top up.")

    with pytest.raises(QuotaError):
        latency(Service(reply))


@pytest.mark.parametrize(
    ("kind", "over_long", "billed", "others"),
    [("vllm", "refused", "per document", 50), ("tei", "cut", "not taken", 31)],
)
def test_servers_of_your_own(visit, emulator, kind, over_long, billed, others):
    """Each kind is examined in its own dialect and within its own limits, without a key."""
    there = ["--server", kind, "--base-url", emulator.server_url(kind)]
    code, report, out = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert code == 0
    assert report["over_long"]["answer"] == over_long
    assert report["over_long"]["documented"] == 32_768
    assert report["instruct"]["answer"] == billed
    assert report["score_independence"]["others"] == others
    assert report["blanks"]["empty"] == "accepted"
    assert report["setup"]["key"]["value"] is None
    assert report["setup"]["protocol"] == {"value": "compatible", "found_in": "--server"}
    for part in ("call", "spent"):
        assert (report[part]["tokens"] is None) == (kind == "tei")
    assert ("no tokens reported" in out) == ("not reported" in out) == (kind == "tei")


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        ((0.9, 0.1, 0.1), "Wrong order"),
        ((0.5, 0.5, 0.5), "Equal scores"),
        ((0.1, 0.8, 0.8), "A tie"),
        ((-0.4, 0.6, -0.4), "Negative scores"),
    ],
)
def test_scores_that_are_odd(live, visit, asking, scores, error):
    """What no reranker should say of the first texts has a name; the questions go on."""
    asking("blanks")
    results = [{"index": at, "relevance_score": score} for at, score in enumerate(scores)]
    answer = Reply(200, {"output": {"results": results}, "request_id": "r"})
    live.script(Reply(), Reply(), answer)  # to two requests that ask nothing, and to the call
    code, report, out = visit()
    assert code == 1
    assert [each["error"] for each in report["problems"]] == [error]
    assert report["call"]["best_first"] is (error == "Negative scores")
    assert report["blanks"]
    assert error in out


def test_a_server_that_answers_to_any_name(visit, asking, emulator):
    """An Infinity with one model serves it under every name, and says which it used."""
    asking("blanks")
    there = ["--server", "infinity", "--base-url", emulator.server_url("infinity")]
    code, report, _ = visit(*there, "--model", "my-reranker")
    assert code == 1
    [problem] = report["problems"]
    assert problem["error"] == "Another model"
    assert "Qwen/Qwen3-Reranker-0.6B" in problem["message"]
