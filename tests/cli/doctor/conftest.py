"""A doctor that sees a wide pipe, and asks the emulator."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from qwen_rerank.cli import main
from qwen_rerank.cli.doctor.exams import EXAMS

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Whatever terminal the tests run in, the doctor sees a pipe of 300 columns."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def live(monkeypatch, emulator):
    """An environment in which the service is the emulator."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    return emulator


@pytest.fixture
def visit(capsys, tmp_path):
    """Runs the doctor; its exit code, its report, and its words without frames, on one line."""

    def visit(*arguments, confirmed=True):
        file = tmp_path / "report.json"
        code = main(["doctor", "--json", str(file), *["--yes"] * confirmed, *arguments])
        out, err = capsys.readouterr()
        assert err == "" or not confirmed
        words = re.sub(r"[│╭╮╰╯─├┤┬┴┼]", " ", out).split()
        return code, json.loads(file.read_text()), " ".join(words)

    return visit


@pytest.fixture
def look(visit, monkeypatch):
    """Has the doctor show the set-up and send nothing: that of its report, and its words."""

    def look(*arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
        code, report, words = visit(*arguments, confirmed=False)
        assert code == 1
        setup = report["setup"].items()
        return {name: (each["value"], each["found_in"]) for name, each in setup}, words

    return look


@pytest.fixture
def asking(monkeypatch):
    """Has a visit ask no more than the questions that are named, which is quicker than all."""

    def asking(*names):
        exams = {name: EXAMS[name] for name in names}
        monkeypatch.setattr("qwen_rerank.cli.doctor.flow.EXAMS", exams)

    return asking
