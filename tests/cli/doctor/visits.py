"""What the tests of the doctor ask, and how they read its words."""

import io
import json
import re
import sys

from qwen_rerank.cli import main


def settle(monkeypatch, emulator):
    """Points the environment at *emulator*."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)


def flat(out):
    """*out* without frames and line breaks, so that a sentence can be found in it."""
    return " ".join(re.sub(r"[│╭╮╰╯─├┤┬┴┼]", " ", out).split())


def posts(emulator):
    """The questions that *emulator* was asked."""
    return [request for request in emulator.log if request.method == "POST"]


def setup_of(capsys, monkeypatch, tmp_path, *arguments):
    """The set-up as the report has it; nothing is sent."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    file = tmp_path / "setup.json"
    assert main(["doctor", "--json", str(file), *arguments]) == 1
    capsys.readouterr()
    setup = json.loads(file.read_text())["setup"]
    return {name: (each["value"], each["found_in"]) for name, each in setup.items()}
