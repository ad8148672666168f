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
def test_an_earlier_report_is_kept_until_something_is_asked(monkeypatch, tmp_path):
    """Who says no, or reaches nobody, keeps what an earlier visit found; a first one is written."""
    earlier, new = tmp_path / "earlier.json", tmp_path / "new.json"
    earlier.write_text("earlier")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", "--json", str(earlier)]) == 1
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:9")
    for file in (earlier, new):
        assert main(["doctor", "--yes", "--json", str(file)]) == 1
    assert earlier.read_text() == "earlier"
    assert json.loads(new.read_text())["problems"][0]["during"] == "reachability"


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


@pytest.mark.parametrize(
    ("file", "said"),
    [("none/x.json", "cannot be written: No such file"), ("-", "--json takes a file")],
)
def test_a_report_that_cannot_be_written(live, capsys, file, said):
    """That is known before anything is sent."""
    assert main(["doctor", "--yes", "--json", file]) == 2
    assert said in capsys.readouterr().err
    assert live.log == ()


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
