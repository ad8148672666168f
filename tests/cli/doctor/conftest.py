"""A doctor that sees a wide pipe, and asks the emulator."""

import json
import sys
from pathlib import Path

import pytest

from qwen_rerank.cli import main
from qwen_rerank.cli.doctor.exams import EXAMS

sys.path.insert(0, str(Path(__file__).parent))

from visits import flat, settle


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Whatever terminal the tests run in, the doctor sees a pipe of 300 columns."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def live(monkeypatch, emulator):
    """An environment in which the service is the emulator."""
    settle(monkeypatch, emulator)
    return emulator


@pytest.fixture
def visit(capsys, tmp_path):
    """Runs the doctor without a question; its exit code, report and output on one line."""

    def run(*arguments, yes=True):
        file = tmp_path / "report.json"
        code = main(["doctor", "--json", str(file), *["--yes"] * yes, *arguments])
        out, err = capsys.readouterr()
        assert err == "" or not yes
        return code, json.loads(file.read_text()), flat(out)

    return run


@pytest.fixture
def asking(monkeypatch):
    """Has a visit ask no more than the questions that are named, which is quicker than all."""

    def asking(*names):
        exams = {name: EXAMS[name] for name in names}
        monkeypatch.setattr("qwen_rerank.cli.doctor.flow.EXAMS", exams)

    return asking
