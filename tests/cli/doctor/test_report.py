"""`qwen-rerank doctor --json`: the file, and the page that describes it."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from visits import posts

from qwen_rerank.cli import main
from qwen_rerank.cli.doctor.exams import (
    EXAMS,
    passage,
)
from qwen_rerank.cli.doctor.probe import Rehearsal

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


@pytest.mark.usefixtures("live")
def test_an_earlier_report_is_kept_until_something_is_asked(monkeypatch, tmp_path, capsys):
    """Who says no, or looks at the cost only, keeps what an earlier visit found."""
    file = tmp_path / "report.json"
    file.write_text("earlier")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", "--json", str(file)]) == 1
    assert file.read_text() == "earlier"
    assert main(["doctor", "--json", "-"]) == 2
    assert "--json takes a file" in capsys.readouterr().err


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("variables", "during"),
    [
        (
            {"DASHSCOPE_BASE_URL": "https://dashscope.aliyuncs.com", "DASHSCOPE_API_KEY": ""},
            "set-up",
        ),
        ({"DASHSCOPE_BASE_URL": "https://h.example", "HTTPS_PROXY": "ftp://proxy"}, "set-up"),
        ({"DASHSCOPE_BASE_URL": "http://127.0.0.1:9"}, "reachability"),
    ],
)
def test_an_earlier_report_outlives_a_wrong_setup(monkeypatch, tmp_path, variables, during):
    """A visit that asks nothing costs no report; if it is the first, it says what is wrong."""
    earlier, new = tmp_path / "earlier.json", tmp_path / "new.json"
    assert main(["doctor", "--yes", "--json", str(earlier)]) == 0
    found = earlier.read_text()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for file in (earlier, new):
        assert main(["doctor", "--yes", "--json", str(file)]) == 1
    assert earlier.read_text() == found
    assert json.loads(new.read_text())["problems"][0]["during"] == during


def test_ctrl_c_keeps_what_was_found(live, monkeypatch, tmp_path, capsys):
    """What was paid for is in the report, with its sum, when a visit is broken off."""

    def broken_off(asker):
        if not isinstance(asker, Rehearsal):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        "qwen_rerank.cli.doctor.flow.EXAMS", {**EXAMS, "score_independence": broken_off}
    )
    file = tmp_path / "report.json"
    assert main(["doctor", "--yes", "--json", str(file)]) == 130
    report = json.loads(file.read_text())
    assert report["reach"]
    assert report["call"]["best_first"]
    assert report["spent"]["requests"] == len(posts(live)) == 1
    assert "Spent: 1 request," in capsys.readouterr().out


def test_a_report_that_cannot_be_written(live, capsys, tmp_path):
    """That is known before anything is sent."""
    assert main(["doctor", "--yes", "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "cannot be written: No such file" in capsys.readouterr().err
    assert live.log == ()


def test_a_variable_without_a_key(live, capsys):
    """A wrong name for --api-key-env is one sentence, without what may be a key."""
    for typed in ("NO_SUCH_KEY", "sk-0123456789abcdef", "token_abc123"):  # or the key itself
        assert main(["doctor", "--yes", "--api-key-env", typed]) == 2
        out, err = capsys.readouterr()
        assert (out, live.log) == ("", ())
        assert err == (
            "qwen-rerank doctor: --api-key-env takes the name of an environment variable that "
            "holds a key\n"
        )


def fields(value, path=""):
    """The names of all fields of *value*, as the page writes them."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}{name}"
            yield from fields(inner, f"{path}{name}.")


def test_the_page_describes_every_field(live, visit):
    """docs/doctor.md has each field of the report, and no other."""
    live.fault("413", holding=passage(3))
    _, broken, _ = visit()
    live.clear()
    _, whole, _ = visit()
    described = set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE.read_text(), re.MULTILINE))
    setup = {"value", "found_in"}
    seen = {
        name
        for report in (broken, whole)
        for name in fields(report)
        if not (name.startswith("setup.") and name.rpartition(".")[2] in setup)
    }
    assert seen == described
