"""`qwen-rerank demo`, from the arguments to the figures."""

import io
import re
import sys
from itertools import pairwise
from urllib.parse import urlsplit

import langchain_core  # noqa: F401  the demo takes both frameworks
import llama_index.core  # noqa: F401
import pytest

from qwen_rerank.cli import main
from qwen_rerank.cli.demo.corpus import load_questions
from qwen_rerank.cli.demo.flow import _spread
from qwen_rerank.emulator import Reply

KEY = "sk-secret-of-the-test"
FIGURE = re.compile(
    r"│ (nDCG@10|MRR) (before|after) +│ +(?:[▲▼] \S+ +)?(\d\.\d{3}) │ +(?:[▲▼] \S+ +)?(\d\.\d{3}) │"
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Whatever terminal the tests run in, the demo sees a pipe of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def live(monkeypatch, emulator):
    """An environment in which the live service is the emulator."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    return emulator


def figures(out):
    """The four numbers of each framework."""
    return {
        (measure, when): (float(one), float(other))
        for measure, when, one, other in FIGURE.findall(out)
    }


def test_the_flow(capsys, monkeypatch, tmp_path):
    """An explanation, two samples and both frameworks' gains are printed, in 80 columns.

    That takes no file and no proxy, and shows no key.
    """
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert main(["demo", "--questions", "33"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.index("qwen-rerank demo") < out.index("Largest gain") < out.index("33 questions  ")
    numbers = figures(out)
    assert len(numbers) == 4
    for measure in ("nDCG@10", "MRR"):
        before, after = numbers[measure, "before"], numbers[measure, "after"]
        for one, other in zip(before, after, strict=True):
            assert 0 < one < other < 1
    assert re.search(r"requests +│ +33 │ +33 │", out)
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    said = " ".join(re.sub("[│\n]", " ", out).split())
    assert "embedding that is weak on purpose" in said
    assert "no measure of the Qwen models; --live asks the real one" in said
    assert "sk-" not in out
    assert list(tmp_path.iterdir()) == []  # which is its home


def test_questions_are_spread():
    """As many as asked for are taken from the whole list, in its order; all of them at most."""
    questions = list(load_questions())
    places = [questions.index(question) for question in _spread(questions, 12)]
    gaps = [after - before for before, after in pairwise(places)]
    assert len(places) == 12
    assert min(gaps) > 0
    assert max(gaps) - min(gaps) <= 1
    assert places[-1] + max(gaps) >= len(questions)
    assert _spread(questions, None) == _spread(questions, 10_000) == questions


def test_live_sends_a_dozen_questions(live, capsys):
    """With --yes, twelve questions go to the host, which is named, once per framework."""
    assert main(["demo", "--live", "--yes"]) == 0
    out, err = capsys.readouterr()
    asked = [request.body["input"]["query"] for request in live.log]
    assert len(asked) == 24
    assert asked[:12] == asked[12:] == [question.text for question in _spread(load_questions(), 12)]
    assert {request.documents for request in live.log} == {100}
    assert len(figures(out)) == 4
    shown = " ".join(re.sub("[│\n]", " ", out).split())
    assert shown.count(f"qwen3-rerank at {urlsplit(live.base_url).netloc}") == 3
    assert "on DashScope" not in shown
    assert "This sends 24 requests" in out
    assert "stand-in" not in out
    assert live.api_key not in out + err


def test_live_asks_first(live, capsys, monkeypatch):
    """What is sent, to which model and host, is told near to what is billed; a yes sends it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    model = "qwen3.7-text-rerank"
    assert main(["demo", "--live", "--questions", "2", "--model", model]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        f"sends 4 requests of 100 passages each to {model} at {urlsplit(live.base_url).netloc},"
        in out
    )
    assert {request.body["model"] for request in live.log} == {model}
    estimate = int(re.search(r"about ([\d,]+) tokens", out)[1].replace(",", ""))
    billed = sum(request.tokens for request in live.log)
    assert billed * 0.9 < estimate < billed * 1.3


def test_live_takes_no_for_an_answer(live, capsys, monkeypatch):
    """Declined, nothing is sent and the exit code is 1."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["demo", "--live", "--questions", "2"]) == 1
    assert capsys.readouterr().err == "Nothing was sent.\n"
    assert live.log == ()


def test_live_without_a_key(capsys, monkeypatch):
    """Without a key there is one sentence, at once, that names the variable to set."""
    monkeypatch.setitem(sys.modules, "qwen_rerank.cli.demo.frameworks", None)  # not even loaded
    assert main(["demo", "--live"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no API key" in err
    assert "DASHSCOPE_API_KEY" in err
    assert err.count("\n") == 1


def test_live_failure_is_readable(live, capsys):
    """A failing call prints its typed error and no traceback; the exit code is 1."""
    live.script(Reply.error(401, "InvalidApiKey", "\x1b[2J\u202eno [/such] key", repeat=None))
    assert main(["demo", "--live", "--yes", "--questions", "1"]) == 1
    out, err = capsys.readouterr()
    assert re.match(r"AuthenticationError: .*no \[/such\] key \(HTTP 401, code InvalidApiKey", err)
    assert err.replace("\n", "").isprintable()
    assert "Traceback" not in err
    assert live.api_key not in out + err
