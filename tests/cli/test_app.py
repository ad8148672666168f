"""The command's arguments, exit codes and what it says when something is missing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_rerank import __version__
from qwen_rerank.cli import main

COMMANDS = ("demo", "doctor", "evaluate", "rerank", "serve")


def test_version(capsys):
    """--version names the package's version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qwen-rerank {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(capsys, command):
    """It is listed, and says that without the live service the scores are a stand-in's."""
    assert main(["--help"]) == main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"\n  {command} " in out
    assert "lexical stand-in" in " ".join(out.split())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "COMMAND"),
        (["fly"], "No such command 'fly'"),
        (["demo", "--questions", "0"], "0 is not in the range x>=1"),
        (["demo", "--region", "cn-beijing"], "--region needs --live"),
        (["serve", "--port", "65536"], "65536 is not in the range 0<=x<=65535"),
        (["serve", "--over-long", "split"], "'split' is not one of 'truncate', 'refuse'"),
    ],
)
def test_wrong_arguments(capsys, argv, said):
    """Wrong arguments end in the usage and exit code 2, before any work."""
    assert main(argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "package", "extra", "ours"),
    [
        ("", "click", "cli", ("cli._app",)),
        ("rerank in --output out", "rich", "cli", ("cli.rerank.flow", "cli.rerank.view")),
        ("serve", "fastapi", "cli,emulator", ("cli.serve.flow", "emulator")),
    ],
)
def test_a_missing_package_is_one_sentence(monkeypatch, capsys, typed, package, extra, ours):
    """Without a package of the extras there is one sentence that says what to install."""
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    for name in (*ours, "cli._terminal"):  # they may have been imported by now
        monkeypatch.delitem(sys.modules, f"qwen_rerank.{name}", raising=False)
        folder, _, module = f"qwen_rerank.{name}".rpartition(".")
        monkeypatch.delattr(f"{folder}.{module}", raising=False)

    assert main(typed.split()) == 2

    command = " ".join(["qwen-rerank", *typed.split()[:1]])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f'{command} needs {package}, which is not installed: pip install "qwen-rerank[{extra}]"\n'
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("somewhere"), "needs a package, which is not installed"),
        (ImportError("cannot import name 'x' from 'rich'"), "cannot be run with what is installed"),
    ],
)
def test_an_import_error_is_a_sentence(monkeypatch, capsys, error, said):
    """One that names nothing, or comes of another release than wanted, too."""

    def raising(**_):
        raise error

    monkeypatch.setattr("qwen_rerank.cli.serve.flow.serve", raising)
    assert main(["serve"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["doctor --protocol {}", "rerank {} --output out"])
def test_a_key_in_a_wrong_place_is_not_shown(monkeypatch, capsys, typed):
    """What looks like a key is masked in whatever is said of wrong arguments and missing files."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-of-nobody")
    assert main(typed.format("sk-0123456789abcdef").split()) == 2
    err = capsys.readouterr().err
    assert "sk-***" in err
    assert "0123456789abcdef" not in err


def test_ctrl_c_leaves_no_traceback(monkeypatch, capsys):
    """An interrupted command ends with the shell's exit code for it, in silence."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("qwen_rerank.cli.demo.flow.demo", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("qwen_rerank.cli._app.app.invoke", interrupted)
    assert main(["demo"]) == 130


def test_the_command_line_is_light():
    """Until a command runs, help too, nothing is imported but what reads and explains arguments."""
    code = (
        "import sys, click._termui_impl, click._textwrap, importlib, locale, math, typing; "
        "before = {*sys.modules}; "
        "from qwen_rerank.cli import main; main(['--help']); "
        "print(*(name for name in {*sys.modules} - before if not name.startswith('qwen_rerank')))"
    )
    done = subprocess.run(  # noqa: S603  our own interpreter, our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith('qwen-rerank)"\n\n')


@pytest.mark.parametrize(("columns", "most"), [("70", 68), ("300", 98), ("9", 50), ("wide", 78)])
def test_help_fits_the_terminal(monkeypatch, capsys, columns, most):
    """Help is as wide as the terminal, but never so wide that it is hard to read."""
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["rerank", "--help"]) == 0
    widest = max(map(len, capsys.readouterr().out.splitlines()))
    assert most - 5 <= widest <= most


def test_a_shell_completes(monkeypatch, capsys):
    """A shell gets a script that asks the command, and by it what an option may be."""
    monkeypatch.setenv("_QWEN_RERANK_COMPLETE", "zsh_source")
    with pytest.raises(SystemExit):
        main([])
    assert "_QWEN_RERANK_COMPLETE=zsh_complete" in capsys.readouterr().out
    monkeypatch.setenv("_QWEN_RERANK_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "qwen-rerank serve --over-long re")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        main([])
    assert "refuse" in capsys.readouterr().out


@pytest.mark.parametrize("typed", [["--api-key", "sk-secret"], ["--api-key=sk-secret"]])
def test_a_key_is_no_argument(capsys, typed):
    """Who types a key is told how it is given, and does not find it in the terminal."""
    assert main(["doctor", *typed]) == 2
    err = capsys.readouterr().err
    assert "use --api-key-env NAME" in err
    assert "secret" not in err


FULL = Path("/dev/full")


@pytest.fixture
def job(emulator, monkeypatch, tmp_path):
    """A list to rank, as arguments that lack an output."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    lists = tmp_path / "in.jsonl"
    lists.write_text(json.dumps({"query": "tea", "documents": ["tea"]}))
    return ["rerank", str(lists), "--base-url", emulator.base_url, "--output"]


def _ended(argv, **outputs):
    """How a process of its own ends, which flushes its outputs last: exit code, and stderr."""
    code = "import sys; from qwen_rerank.cli import main; sys.exit(main(sys.argv[1:]))"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **outputs}
    command = [sys.executable, "-c", code, *argv]
    done = subprocess.run(command, check=False, env=buffered, **outputs)  # noqa: S603  our own
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")
@pytest.mark.parametrize(
    ("command", "spent"),
    [
        ("--help", ""),
        ("serve --list-faults", ""),
        ("a job", r"qwen-rerank rerank: 0 lines ranked, [1-9]\d* tokens, .*\n"),
    ],
)
def test_an_output_that_takes_nothing(job, command, spent):
    """A disk that is full ends a command in one sentence, and in what was paid for."""
    argv = [*job, "-"] if command == "a job" else command.split()
    with FULL.open("w") as full:
        ended, told = _ended(argv, stdout=full)

    assert ended == 1
    assert re.fullmatch(rf"qwen-rerank.*No space left on device.*\n{spent}", told)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")
def test_a_full_standard_error(job, tmp_path):
    """Where nothing can be told, a job is done all the same."""
    with FULL.open("w") as full:
        assert _ended([*job, str(tmp_path / "out")], stderr=full) == (0, "")

    assert json.loads((tmp_path / "out").read_text())["line"] == 1


def test_a_closed_output(monkeypatch, capsys):
    """To a closed output nothing is said."""
    monkeypatch.setattr("sys.stdout", None)
    assert main(["serve", "--list-faults"]) == 0
    assert capsys.readouterr().err == ""


def test_without_standard_error(monkeypatch, capsys):
    """What it would be told is not printed among the results instead."""
    monkeypatch.setattr("sys.stderr", None)
    assert main(["evaluate", "--qrels", "none", "--run", "none"]) == 2
    assert capsys.readouterr().out == ""


def test_messages_cannot_draw(capsys):
    """What an argument or a file says is shown with its control characters spelled out."""
    assert main(["evaluate", "--qrels", "o\x1b[31m", "--run", "r"]) == 2
    assert "o\\x1b[31m: No such file" in capsys.readouterr().err
