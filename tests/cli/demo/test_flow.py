"""`qwen-rerank demo`, from the arguments to the figures."""

import io
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
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


def queries(emulator):
    """What the emulator was asked, in order."""
    return [request.body["input"]["query"] for request in emulator.log]


def test_the_flow(capsys):
    """An explanation, two samples and both frameworks' figures are printed, in 80 columns."""
    assert main(["demo", "--questions", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.index("qwen-rerank demo") < out.index("Largest gain") < out.index("2 questions  ")
    assert len(figures(out)) == 4
    assert re.search(r"requests +│ +2 │ +2 │", out)
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "sk-" not in out


@pytest.mark.slow
def test_the_whole_demo(tmp_path):
    """With an empty home and every proxy dead both frameworks gain, and no key is shown."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ},
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
        "HOME": str(tmp_path),
        "COLUMNS": "80",
        "DASHSCOPE_API_KEY": KEY,
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(  # noqa: S603  our own command
        [Path(sys.executable).with_name("qwen-rerank"), "demo", "--questions", "33"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    numbers = figures("\n".join(done.stdout.splitlines()[-20:]))
    assert len(numbers) == 4
    for measure in ("nDCG@10", "MRR"):
        for before, after in zip(
            numbers[measure, "before"], numbers[measure, "after"], strict=True
        ):
            assert 0 < before < after < 1
    assert "33 questions" in done.stdout
    assert KEY not in done.stdout
    assert "sk-" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 12, 98])
def test_questions_are_spread(count):
    """As many questions as asked for are taken from the whole list, in its order."""
    chosen = _spread(load_questions(), count)
    places = [load_questions().index(question) for question in chosen]
    assert len(set(places)) == count
    assert places == sorted(places)
    if count > 1:
        gaps = {after - before for before, after in pairwise(places)}
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [None, 10_000])
def test_all_questions_are_the_most(count):
    """Without a number, or with one too large, every question is used."""
    assert list(_spread(load_questions(), count)) == list(load_questions())


def test_live_sends_a_dozen_questions(live, capsys):
    """With --yes, twelve questions go to the host, which is named, once per framework."""
    assert main(["demo", "--live", "--yes"]) == 0
    out, err = capsys.readouterr()
    asked = queries(live)
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


def test_a_model_that_is_none(capsys):
    """A model that the emulator does not know is its typed error, not a traceback."""
    assert main(["demo", "--questions", "1", "--model", "no-such-model"]) == 1
    assert "Error: " in capsys.readouterr().err
