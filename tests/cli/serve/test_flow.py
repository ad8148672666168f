"""`qwen-rerank serve`: what it prints, that it serves, and how it ends."""

import errno
import os
import re
import shlex
import signal

import httpx
import pytest

from qwen_rerank import Reranker
from qwen_rerank.cli import main
from qwen_rerank.emulator import FAULTS, Emulator


@pytest.fixture(name="once_it_serves")
def _once_it_serves(monkeypatch):
    """Does something with the greeting, as soon as that is printed."""

    def once_it_serves(act):
        def said(text, **options):
            print(text, **options)  # noqa: T201  as it does
            if "Ctrl-C" in text:
                act(text)

        monkeypatch.setattr("qwen_rerank.cli.serve.flow.print", said, raising=False)

    return once_it_serves


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_on_a_signal(once_it_serves, capfd, number):
    """Ctrl-C and a polite kill end it with exit code 0 and give the handlers back."""
    before = signal.getsignal(number)
    once_it_serves(lambda _: os.kill(os.getpid(), number))
    assert main(["serve", "--port", "0"]) == 0
    assert signal.getsignal(number) is before
    out, err = capfd.readouterr()
    assert "lexical stand-in, not the Qwen models" in " ".join(out.split())
    assert out.endswith("Stopped. Requests seen: 0\n")
    assert err == ""


def test_what_it_prints_can_be_exported(once_it_serves, monkeypatch, capsys):
    """The two variables it shows send a reranker's calls there, whatever the key looks like."""
    key, best = "sk-my'own$key", []

    def follow(greeting):
        for name, value in re.findall(r"^  export (\w+)=(.*)$", greeting, re.MULTILINE):
            monkeypatch.setenv(name, shlex.split(value)[0])
        with Reranker() as reranker:
            best.append(reranker.rerank("a red car", ["green tea", "a red sports car"])[0].index)
        os.kill(os.getpid(), signal.SIGINT)

    once_it_serves(follow)
    assert main(["serve", "--port", "0", "--api-key", key, "--over-long", "refuse"]) == 0
    out = capsys.readouterr().out
    assert best == [1]
    assert f"  {key}\n" in out
    assert re.search(r"http://127\.0\.0\.1:\d+/compatible-api/v1\n", out)
    assert out.endswith("Stopped. Requests seen: 1\n")


def test_it_serves_faults(once_it_serves, capsys):
    """What --fault names goes wrong, in the order given, and is shown."""
    statuses = []

    def ask(greeting):
        url = re.search(r"http://127\.0\.0\.1:\d+/", greeting)[0]
        with httpx.Client(trust_env=False) as client:
            client.get(url)
            statuses.extend(client.post(url).status_code for _ in range(4))
        os.kill(os.getpid(), signal.SIGINT)

    once_it_serves(ask)
    faults = ["--fault", "503:first=2", "--fault", "429-rate:percent=50"]

    assert main(["serve", "--port", "0", *faults]) == 0
    assert statuses == [503, 503, 404, 429]
    assert re.findall(r"^  fault +(\S+)$", capsys.readouterr().out, re.MULTILINE) == [
        "503:first=2",
        "429-rate:percent=50",
    ]


def test_it_lists_the_faults(capsys):
    """--list-faults prints each name with its sentence, and serves nothing."""
    assert main(["serve", "--list-faults"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

    assert listed == FAULTS


def test_what_the_emulator_refuses(capsys):
    """A refused setting is one sentence and exit code 2."""
    assert main(["serve", "--host", "0.0.0.0"]) == 2  # noqa: S104  that is refused
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("qwen-rerank serve: ")
    assert "loopback only" in err
    assert err.count("\n") == 1


def test_a_taken_port(capsys, emulator: Emulator):
    """A port that somebody else listens on is one sentence and exit code 1."""
    port = re.search(r":(\d+)/", emulator.base_url)[1]
    before = signal.getsignal(signal.SIGTERM)
    assert main(["serve", "--port", port]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_pipe_is_no_taken_port(monkeypatch, capsys):
    """Whoever reads the greeting may leave; that is not blamed on the port."""

    def closed(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("qwen_rerank.cli.serve.flow._greeting", closed)
    with pytest.raises(SystemExit) as end:
        main(["serve", "--port", "0"])
    assert end.value.code == 1
    assert "cannot listen" not in capsys.readouterr().err
