"""`qwen-rerank doctor`: a visit from the set-up to the bill, and what it says is wrong."""

import io
import re
import socket
import sys

import pytest
from visits import posts

from qwen_rerank._values import Price
from qwen_rerank.cli import main
from qwen_rerank.cli.doctor.exams import EXAMS, passage
from qwen_rerank.emulator import Reply

QUESTIONS = list(EXAMS)


def test_all_is_well(live, visit):
    """Every question is answered, in order, and the exit code is 0."""
    code, report, out = visit()
    titles = ("Set-up", "Cost", "Reachability", "One call", "Measured", "Latency", "Spent")
    places = [out.index(title) for title in titles]
    assert code == 0
    assert places == sorted(places)
    assert report["problems"] == []
    assert all(report[question] for question in QUESTIONS)
    assert report["call"]["best_first"]
    assert live.api_key not in out
    # The emulator scores each pair alone, reads heads, bills instructs and refuses blanks.
    alone, long = report["score_independence"], report["over_long"]
    assert (alone["answer"], alone["others"]) == ("same", 50)
    assert alone["alone"] == alone["order"] == alone["again"] == 0
    assert "independent" in out
    assert (long["answer"], long["counted"], long["documented"]) == ("cut", 4000, 4000)
    assert "Billed: 4,000 tokens" in out
    assert report["instruct"]["answer"] == "per document"
    assert report["instruct"]["billed"] == 3 * report["instruct"]["ours"]
    assert "Does instruct count in usage? per document" in out
    assert (report["protocols"]["answer"], report["protocols"]["difference"]) == ("same", 0)
    assert {"compatible" in request.path for request in posts(live)} == {True, False}
    assert report["blanks"]["empty"] == report["blanks"]["spaces"] == "refused"
    assert "text input should not be empty" in out
    lists = report["latency"]["lists"]
    assert [one["documents"] for one in lists] == [1, 10, 50, 100, 500]
    assert all(0 < one["cold"] < 60 and 0 < one["warm"] < 60 for one in lists)
    assert all(re.search(rf"\b{one['documents']} +[\d.,]+ ms", out) for one in lists)
    assert max(request.documents for request in live.log) == 500
    # All are different texts, so that none is scored for free.
    for request in posts(live):
        documents = request.body.get("input", request.body)["documents"]
        assert len(set(documents)) == len(documents)


@pytest.mark.usefixtures("live")
def test_it_fits_the_terminal(capsys, monkeypatch):
    """Nothing is wider than 80 columns, and a pipe gets no escape codes."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", "--yes"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


def test_the_price_is_named(live, visit, asking, monkeypatch):
    """Where a list price is known, it is named before and after, with its source."""
    asking("blanks")
    price = Price(0.5, "CNY", "a page", "2026")
    monkeypatch.setattr("qwen_rerank.cli.doctor.probe.price_of", lambda *_: price)
    _, report, out = visit()
    planned, spent = report["planned"], report["spent"]
    assert live.log
    assert planned["cost"] == pytest.approx(planned["tokens"] * 0.5 / 1e6, abs=1e-6)
    assert (planned["price_source"], spent["currency"]) == ("a page", "CNY")
    assert f"CNY {planned['cost']:.4f} by the list price" in out
    assert f"CNY {spent['cost']:.4f} by the list price" in out


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_it_takes_no_for_an_answer(live, capsys, monkeypatch, answer):
    """It names the cost and asks; without a yes not even a connection is made."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"sends up to \d+ requests .* tokens in all", " ".join(out.split()))
    assert err == "Nothing was sent.\n"
    assert live.log == ()


def test_a_yes_is_enough(live, asking, capsys, monkeypatch):
    """A yes at the question sends it."""
    asking("blanks")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["doctor"]) == 0
    assert len(posts(live)) == 3
    assert "Measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "arguments", "during", "fix"),
    [
        (None, ["--model", "gte-rerank"], "call", "set --model qwen3-rerank"),
        (
            "refused",
            [],
            "reachability",
            "Check the network, the proxy settings and the environment variable DASHSCOPE_BASE_URL",
        ),
    ],
)
def test_a_wrong_setup_ends_in_what_to_do(live, visit, fault, arguments, during, fix):
    """The sentence that mends it is shown and kept, nothing more is asked, and the code is 1."""
    if fault:
        live.fault(fault)
    code, report, out = visit(*arguments)
    (problem,) = report["problems"]
    assert code == 1
    assert problem["during"] == during
    assert fix in problem["hint"]
    assert out.index("What to do") < out.index(fix)
    assert all(report[question] is None for question in QUESTIONS)
    assert {request.documents for request in posts(live)} <= {3}


def test_words_of_others_are_tamed(live, visit):
    """What a server says can neither draw nor hide."""
    said = "\x1b[2J\u202e[/bold] who?"
    live.script(Reply(), Reply.error(401, "InvalidApiKey", said, repeat=None))
    _, report, out = visit()
    assert "[/bold] who?" in out
    assert out.isprintable()
    assert report["problems"][0]["status"] == 401


@pytest.mark.parametrize(
    ("variables", "fix"),
    [
        ({}, "set the environment variable DASHSCOPE_API_KEY or --api-key-env"),
        (
            {"DASHSCOPE_API_KEY": "sk-0123456789abcdef", "https_proxy": "ftp://proxy.example"},
            "https_proxy has a scheme that is not known",
        ),
    ],
)
def test_a_setup_that_is_refused(visit, monkeypatch, variables, fix):
    """A setting refused before anything is sent ends in its sentence and exit code 1."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, report, out = visit()
    assert code == 1
    assert fix in out
    assert fix in report["problems"][0]["message"]
    assert (report["problems"][0]["during"], report["setup"]) == ("set-up", None)


def test_a_name_that_is_not_known(visit, monkeypatch):
    """A host without an address ends in the setting to look at."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    code, report, out = visit()
    assert code == 1
    assert report["problems"][0]["during"] == "reachability"
    assert "The name dashscope.aliyuncs.com is not known here: check the network" in out


def test_a_question_that_fails_is_left_open(live, visit, asking):
    """A failure amid the questions is a problem of its question; the others are answered."""
    asking("score_independence", "blanks")
    live.fault("400-content", holding=passage(3))
    code, report, out = visit()
    (problem,) = report["problems"]
    assert code == 1
    assert (problem["during"], problem["error"]) == ("score independence", "ContentError")
    assert report["score_independence"] is None
    assert report["blanks"]
    assert "Not answered: score independence" in out


def test_an_empty_purse_ends_the_visit(live, visit, asking):
    """Once the balance is used up, nothing more is asked, and what was found is kept."""
    asking("score_independence", "blanks")
    live.fault("400-arrearage", holding=passage(3))
    code, report, out = visit()
    assert code == 1
    assert len(report["problems"]) == 1
    assert report["call"]["best_first"]
    assert report["score_independence"] is report["blanks"] is None
    assert "top up the Alibaba Cloud account" in out
