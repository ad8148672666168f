"""`qwen-rerank serve`: what it prints, that it serves, and how it ends."""

import errno
import os
import re
import shlex
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from qwen_rerank import Reranker
from qwen_rerank.cli import main
from qwen_rerank.emulator import FAULTS, Emulator

RUN = "import sys; from qwen_rerank.cli import main; sys.exit(main(sys.argv[1:]))"


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


def test_what_it_prints_can_be_exported(monkeypatch):
    """The two variables it shows send a reranker's calls there, whatever the key looks like."""
    key = "sk-my'own$key"
    arguments = ["serve", "--port", "0", "--api-key", key, "--over-long", "refuse"]
    with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
        [sys.executable, "-c", RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            shown = ""
            while "Ctrl-C" not in shown:
                line = server.stdout.readline()
                assert line, server.stderr.read()
                shown += line
            for name, value in re.findall(r"^  export (\w+)=(.*)$", shown, re.MULTILINE):
                monkeypatch.setenv(name, shlex.split(value)[0])
            with Reranker() as reranker:
                ranking = reranker.rerank("a red car", ["green tea", "a red sports car"])
            assert [hit.index for hit in ranking] == [1, 0]
            assert f"  {key}\n" in shown
            assert re.search(r"http://127\.0\.0\.1:\d+/compatible-api/v1\n", shown)
        finally:
            server.terminate()
        assert server.wait(30) == 0
        assert server.stdout.read().endswith("Stopped. Requests seen: 1\n")
        assert server.stderr.read() == ""


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "loopback only"),  # noqa: S104  that is what is refused
        (["--fault", "500", "--fault", "score-nam"], "the nearest name is 'score-nan'"),
        (["--fault", "503:first=x"], ":first=N, :nth=N, :percent=P or :holding=TEXT"),
    ],
)
def test_what_the_emulator_refuses(capsys, arguments, said):
    """A refused setting is one sentence and exit code 2."""
    assert main(["serve", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("qwen-rerank serve: ")
    assert err.count("\n") == 1


def test_a_taken_port(capsys, emulator: Emulator):
    """A port that somebody else listens on is one sentence and exit code 1."""
    port = re.search(r":(\d+)/", emulator.base_url)[1]
    before = signal.getsignal(signal.SIGTERM)
    assert main(["serve", "--port", port]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6_loopback(once_it_serves, capsys):
    """The other loopback address works, and its URL is a URL."""
    once_it_serves(lambda _: os.kill(os.getpid(), signal.SIGINT))
    code = main(["serve", "--host", "::1", "--port", "0"])
    if code:
        pytest.skip("this machine has no ::1")
    assert "http://[::1]:" in capsys.readouterr().out


def test_a_closed_pipe_is_no_taken_port(monkeypatch, capsys):
    """Whoever reads the greeting may leave; that is not blamed on the port."""

    def closed(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("qwen_rerank.cli.serve.flow._greeting", closed)
    with pytest.raises(SystemExit) as end:
        main(["serve", "--port", "0"])
    assert end.value.code == 1
    assert "cannot listen" not in capsys.readouterr().err
