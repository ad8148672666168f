"""`qwen-rerank rerank`: its arguments and settings, pipes and signals, over real HTTP."""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import threading

import pytest
from bulk_files import COMMAND, RED, Job

from qwen_rerank.cli import main
from qwen_rerank.cli.rerank.view import View
from qwen_rerank.emulator import Emulator


def test_options_reach_the_service(job, emulator):
    """Model, instruct and top_n are those of the arguments."""
    job.write(RED)
    arguments = ["--model", "qwen3.7-text-rerank", "--instruct", "Find cars.", "--top-n", "1"]

    assert job.rank(*arguments) == 0

    assert len(job.ranked[1]["results"]) == 1
    assert emulator.log[0].body["model"] == "qwen3.7-text-rerank"
    assert emulator.log[0].body["parameters"]["instruct"] == "Find cars."


def test_the_end_of_a_query(job, emulator):
    """--long-query says which end of an over-long one is asked."""
    query = "green tea " * 5_000 + "a red car"
    job.write(RED | {"query": query})

    assert job.rank("--long-query", "tail") == 0

    asked = emulator.log[0].body["input"]["query"]
    assert len(asked) < len(query)
    assert query.endswith(asked)


@pytest.mark.parametrize(
    ("variable", "value"), [("HTTPS_PROXY", "ftp://h"), ("CURL_CA_BUNDLE", "/none.pem")]
)
def test_surroundings_that_stop_every_call(job, capfd, monkeypatch, variable, value):
    """A proxy or certificates that cannot be followed are complained of once, not per line."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "https://dashscope.aliyuncs.com")
    monkeypatch.setenv(variable, value)
    job.write_many(9)

    assert job.rank() == 2

    assert capfd.readouterr().err.count(variable) == 1
    assert not job.output.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["i", "--run", "r"], "either INPUT or --run"),
        (["--run", "r"], "belong together"),
        (["--run", "-", "--corpus", "-", "--queries", "q"], "can be only one of"),
        (["i", "--patience", "nan"], "'nan' is not a number of seconds"),
        (["i", "--timeout", "soon"], "'soon' is not a number of seconds"),
    ],
)
def test_wrong_arguments(capsys, arguments, said):
    """They end in the usage."""
    assert main(["rerank", *arguments, "--output", "o"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing", "--output", "o"], "No such file"),
        (["in", "--output", "no/such/folder"], "No such file"),
        (["in", "--output", "-", "--resume"], "cannot be resumed"),
        (["in", "--output", "o", "--errors", "o"], "must be two files"),
        (["in", "--output", "o", "--errors", "-"], "--errors takes a file"),
        (["in", "--output", "o.gz"], "o.gz would not be zipped"),
        (["in", "--output", "pipe"], "pipe is no file but a pipe; - is standard output"),
        (["in", "--output", "o", "--api-key-env", "my-secret"], "variable that holds a key"),
        (
            ["in", "--output", "o", "--header-env", "X-A: secret"],
            "--header-env takes NAME=VARIABLE",
        ),
        (
            ["in", "--output", "o", "--header-env", "X-A=HOME", "--header-env", "X-A=PATH"],
            "--header-env: a header is given twice",
        ),
    ],
)
def test_wrong_settings(tmp_path, monkeypatch, capfd, arguments, said):
    """One sentence, before anything is sent."""
    monkeypatch.chdir(tmp_path)
    Job(tmp_path).write(RED)
    os.mkfifo(tmp_path / "pipe")

    assert main(["rerank", *arguments]) == 2

    err = capfd.readouterr().err
    assert said in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_an_option_that_no_line_can_be_sent_with(job, capfd, emulator):
    """It is complained of once and before anything is written, not at every line."""
    job.write_many(9)
    server = ["--server", "tei", "--base-url", emulator.server_url("tei")]

    assert job.rank(*server, "--instruct", "Find cars.") == 2

    assert "Leave --instruct out" in capfd.readouterr().err
    assert not job.output.exists()


def test_secrets_by_the_names_of_their_variables(job, monkeypatch, emulator):
    """--api-key-env names the one with the key, --header-env that of a header for every request."""
    monkeypatch.setenv("OTHER_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-wrong")
    monkeypatch.setenv("TENANT", "seven")
    job.write(RED)

    assert job.rank("--api-key-env", "OTHER_KEY", "--header-env", "X-T=TENANT") == 0
    assert {seen.headers["x-t"] for seen in emulator.log} == {"seven"}


@pytest.mark.parametrize(("interrupts", "kept"), [(1, 2), (2, 0)])
def test_ctrl_c_finishes_what_is_paid_for(job, monkeypatch, interrupts, kept):
    """The lines in flight are finished; a second Ctrl-C drops them. --resume goes on."""
    job.write_many(30)
    asked, said, answering = [], [], threading.Event()

    def score(*_):
        asked.append(None)
        if len(asked) == 2:  # both lines are in flight
            os.kill(os.getpid(), signal.SIGINT)
        answering.wait(60)
        return 0.5

    def say(_, sentence):
        said.append(sentence)
        if interrupts == 2 and len(said) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            answering.set()

    monkeypatch.setattr(View, "say", say)
    with Emulator(score=score) as emulator:
        monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
        monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)

        assert job.rank("--concurrency", "2", "--timeout", "600") == 130

        assert "once more drops them" in said[0]
        assert len(job.ranked) == kept
        assert job.rank("--resume") == 0
    assert set(job.ranked) == set(range(1, 31))


def test_whoever_reads_the_output_may_leave(job):
    """`| head` ends it without a traceback."""
    job.write_many(60)
    with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
        [*COMMAND, job.source, "--output", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


@pytest.mark.parametrize("name", ["-", "pipe", "pipe.gz"])
def test_a_slow_pipe_gets_each_line_at_once(tmp_path, name):
    """A line from a pipe is ranked when it comes, and Ctrl-C does not wait for the next."""
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
        [*COMMAND, "-" if name == "-" else pipe, "--output", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        there = process.stdin if name == "-" else pipe.open("r+b", buffering=0)
        lines = gzip.GzipFile(fileobj=there, mode="wb") if name.endswith(".gz") else there
        try:
            for number in (1, 2):
                lines.write(json.dumps(RED).encode() + b"\n")
                lines.flush()
                assert json.loads(process.stdout.readline())["line"] == number
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert b"Fatal" not in process.stderr.read()
        finally:
            process.kill()
            for each in (lines, there):
                with contextlib.suppress(BrokenPipeError):  # nobody reads any more
                    each.close()
