"""`qwen-rerank doctor`: both answers of each question that it asks of a service."""

import io

import pytest
from rich.console import Console
from visits import scored, settle

from qwen_rerank import RequestError
from qwen_rerank._models import limits_for
from qwen_rerank.cli.doctor import chart
from qwen_rerank.cli.doctor.exams import (
    CANDIDATES,
    independence,
    instruct,
    judged_independence,
    judged_length,
    latency,
    over_long,
    passage,
)
from qwen_rerank.cli.doctor.probe import Rehearsal, Terms, Told
from qwen_rerank.emulator import Emulator, Reply

TERMS = Terms(limits_for("qwen3-rerank"), 500, takes_instruct=True)


def relevance(text):
    """A score that the answer wins."""
    return 0.9 if text == CANDIDATES[1] else 0.5 if text == CANDIDATES[2] else 0.1


def test_scores_that_depend_on_neighbours(live, visit):
    """Scores that shrink with the length of the list are noticed, and by how much."""
    live.script(scored(lambda text, _, all_: relevance(text) / (1 if len(all_) < 40 else 2)))
    _, report, out = visit()
    found = report["score_independence"]
    assert found["answer"] == "depends"
    assert found["alone"] == pytest.approx(0.45)
    assert found["order"] == 0
    assert "depends on the others" in out
    assert "0.45 alone" in out
    assert report["blanks"] == {"empty": "accepted", "spaces": "accepted", "said": None}


def test_scores_that_depend_on_the_order(live, visit):
    """Scores that favour the head of the list are noticed."""
    live.script(scored(lambda text, place, all_: relevance(text) + 0.05 * (place > len(all_) / 2)))
    _, report, _ = visit()
    found = report["score_independence"]
    assert found["answer"] == "depends"
    assert found["order"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ((0.0, 0.0, 0.0), "same"),
        ((0.001, 0.0, 0.002), "nearly"),
        ((0.2, 0.0, 0.0), "depends"),
        ((0.0, 0.2, 0.02), "depends"),
        ((0.02, 0.03, 0.02), "unsteady"),
        ((0.5, 0.03, 0.02), "depends"),
    ],
)
def test_the_word_for_differences(differences, answer):
    """Noise that the same request shows too is not taken for the neighbours' influence."""
    alone, order, again = differences
    found = judged_independence(alone=alone, order=order, again=again, spread=0.9, others=50)
    assert found.answer == answer


def test_long_documents_that_are_refused(monkeypatch, visit, canary):
    """A service that answers 400 is found to, and the length is narrowed down."""
    with Emulator(api_key=canary, over_long="refuse") as emulator:
        settle(monkeypatch, emulator)
        code, report, out = visit()
    found = report["over_long"]
    assert code == 0
    assert found["answer"] == "refused"
    assert 3_800 < found["most_accepted"] <= 4_000 < found["least_refused"] < 4_200
    assert "Range of input length should be [1, 4000]" in out


class Strict(Rehearsal):
    """A service that takes nothing over a tenth of its documented limit."""

    def ask(self, ask, *, patient=True):
        """Refuses."""
        if max(map(len, ask.documents)) > 1_500:
            raise RequestError("too long")
        return super().ask(ask, patient=patient)


def test_a_limit_far_below_the_documented_one():
    """If even a much shorter document is refused, it says so instead of searching on."""
    found = over_long(Strict(TERMS, refuses=False))
    assert (found.answer, found.most_accepted, found.least_refused) == ("refused", None, 3_000)


@pytest.mark.parametrize(
    ("scores", "tokens", "answer", "counted"),
    [
        ((0.9, 0.1, 0.1), 3 * 4_008, "cut", 4_000),
        ((0.9, 0.8, 0.1), 3 * 5_008, "read", 5_000),
        ((0.1, 0.1, 0.1), 3 * 5_008, "unclear", 5_000),
        ((0.9, 0.1, 0.1), 0, "cut", None),
        ((0.9, 0.1, 0.1), 3, "cut", None),
    ],
)
def test_the_word_for_long_documents(scores, tokens, answer, counted):
    """Whether the end was read is told by the answer that stands there."""
    found = judged_length(Told(scores, tokens, 0.0), 5_000, 4_000, 8)
    assert (found.answer, found.counted) == (answer, counted)


class Billed:
    """A service that bills what it is told to."""

    terms = TERMS

    def __init__(self, *bills):
        self.bills = list(bills)

    def ask(self, ask, **_):
        """The next bill."""
        return Told((0.5,) * len(ask.documents), self.bills.pop(0), 0.0)


@pytest.mark.parametrize(
    ("bills", "answer"),
    [
        ((124, 100), "per document"),
        ((108, 100), "per request"),
        ((100, 100), "not counted"),
        ((100, 124), "unclear"),
        ((0, 0), "unreported"),
        ((None, None), "unreported"),
    ],
)
def test_the_word_for_a_bill(bills, answer):
    """Counted once for each document, once for the request, or not; or nobody says."""
    found = instruct(Billed(*bills))
    assert found.answer == answer
    assert found.billed is None or found.billed >= 0


def test_a_server_with_small_requests_and_no_instruct():
    """Fewer others are asked with, sizes end earlier, and what is not taken is not asked."""
    small = Rehearsal(Terms(limits_for("my-model"), 32, takes_instruct=False), refuses=False)
    assert instruct(small).answer == "not taken"
    assert small.requests == 0
    assert independence(small).others == 31
    assert [one.documents for one in latency(small).lists] == [1, 10]


@pytest.mark.parametrize(
    ("kind", "billed", "others", "blank"),
    [
        ("vllm", "per document", 50, "accepted"),
        ("sglang", "unreported", 50, "refused"),
        ("tei", "not taken", 31, "accepted"),
    ],
)
def test_servers_of_your_own(visit, emulator, kind, billed, others, blank):
    """Each kind is examined in its own dialect and within its own limits, without a key."""
    there = ["--server", kind, "--base-url", emulator.server_url(kind)]
    code, report, out = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert code == 0
    # The emulator's servers take 32,768 tokens for a pair; vLLM alone refuses more.
    assert report["over_long"]["answer"] == ("refused" if kind == "vllm" else "cut")
    told = "the server" if kind in ("vllm", "tei") else "the model's name"
    length = {"value": "32,768 tokens for query and document", "found_in": told}
    assert report["setup"]["length"] == length
    assert report["instruct"]["answer"] == billed
    assert report["score_independence"]["others"] == others
    assert report["over_long"]["documented"] == 32_768
    assert report["blanks"]["empty"] == blank
    assert report["setup"]["key"]["value"] is None
    assert report["setup"]["protocol"] == {"value": "compatible", "found_in": "--server"}
    for part in ("call", "spent"):
        assert (report[part]["tokens"] is None) == (kind != "vllm")
    assert ("no tokens reported" in out) == ("not reported" in out) == (kind != "vllm")


@pytest.mark.parametrize("counts", [True, False])
def test_whether_an_instruct_counts(counts):
    """It is asked with a contrary one, and said in words."""
    told = Told((0.9, 0.5, 0.1), 100, 0.0)
    answers = [told, told._replace(scores=(0.1, 0.5, 0.9), tokens=90) if counts else told]

    class Asked:
        terms = TERMS

        def ask(self, _, **__):
            return answers.pop(0)

    found = instruct(Asked())
    console = Console(width=200, file=io.StringIO())
    console.print(chart.answers({"instruct": found}))
    words = "It counts here" if counts else "It does not count here"
    assert words in console.file.getvalue()


@pytest.mark.parametrize(
    ("score", "error"),
    [
        (lambda *_: 0.5, "Equal scores"),
        (lambda _, text: 0.1 if "tea" in text else 0.8, "A tie"),
        (lambda _, text: 0.6 if "Ines" in text else -0.4, "Negative scores"),
    ],
)
def test_scores_that_are_odd(visit, score, error):
    """Equal scores for all, and negative ones, are named for what they are."""
    with Emulator(score=score) as emulator:
        there = ["--server", "vllm", "--base-url", emulator.server_url("vllm")]
        code, report, _ = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert code == 1
    assert [each["error"] for each in report["problems"]] == [error]


def test_a_server_that_answers_to_any_name(visit, emulator):
    """An Infinity with one model serves it under every name, and says which it used."""
    there = ["--server", "infinity", "--base-url", emulator.server_url("infinity")]
    code, report, _ = visit(*there, "--model", "my-reranker")
    assert code == 1
    [problem] = report["problems"]
    assert problem["error"] == "Another model"
    assert "Qwen/Qwen3-Reranker-0.6B" in problem["message"]


def test_a_limit_that_nobody_documents(visit, emulator):
    """Of a model that we know nothing of, no guess of ours is called documented."""
    there = ["--server", "sglang", "--base-url", emulator.server_url("sglang")]
    _, report, out = visit(*there, "--model", "my-own-reranker")
    assert report["over_long"]["documented"] is None
    assert "No limit is documented" in out


def test_blank_documents_are_two_questions(live, visit):
    """Empty and white text may be treated differently."""

    def reply(request):
        if request.method == "POST" and "" in request.body["input"]["documents"]:
            return Reply.error(400, "InvalidParameter", "empty!", repeat=None)
        return scored(lambda text, *_: relevance(text))(request)

    live.script(reply)
    _, report, out = visit()
    assert report["blanks"] == {"empty": "refused", "spaces": "accepted", "said": "empty!"}
    assert "empty refused, spaces accepted" in out


def test_a_size_that_fails(live, visit):
    """A length that the service refuses has its reason instead of a time."""
    live.fault("413", holding=passage(400))
    code, report, out = visit()
    *rest, last = report["latency"]["lists"]
    assert code == 0
    assert all(one["failed"] is None for one in rest)
    assert (last["cold"], last["failed"]) == (None, "The request body is too large.")
    assert "The request body is too large." in out
