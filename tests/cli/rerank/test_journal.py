"""`qwen-rerank rerank --resume`: nothing that was paid for is lost, repeated or overwritten."""

import errno
import os
import random
import signal
import subprocess
import threading
import time
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from bulk_files import COMMAND, RED, Job
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank import Reranker
from qwen_rerank.cli.rerank.journal import ChangedError, Journal, Settled
from qwen_rerank.cli.rerank.records import Record
from qwen_rerank.emulator import Emulator, Reply


def test_an_output_is_never_overwritten(job, capfd):
    """What was paid for is continued or left alone."""
    job.write(RED)
    job.output.write_text("mine")

    assert job.rank() == 2
    assert "--resume" in capfd.readouterr().err
    assert job.rank("--resume") == 2
    assert "was not written by this command" in capfd.readouterr().err
    job.output.write_text("mine\n")
    assert job.rank("--resume") == 2
    assert job.rank("--resume", "--format", "trec") == 2
    assert job.output.read_text() == "mine\n"


@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
def test_a_torn_line_is_done_again(job, fmt):
    """Wherever the output ends, --resume makes of it what an undisturbed run does."""
    job.write_many(8)
    assert job.rank("--format", fmt) == 0
    whole, journal = job.output.read_bytes(), job.output.with_name("out.journal")
    entries = journal.read_bytes() if fmt == "trec" else b""
    chance = random.Random(3)  # noqa: S311  no secret
    for size in (0, 1, 7, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(4))):
        job.output.write_bytes(whole[:size])
        if fmt == "trec":
            journal.write_bytes(entries[: chance.choice([9999, -1, -30])])

        assert job.rank("--resume", "--format", fmt) == 0

        assert sorted(job.output.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_resuming_sends_only_what_is_missing(job, capfd, emulator):
    """What is done and what failed is not sent again; lines that were mended or added are."""
    job.write(RED, RED | {"query": " "}, b"{")
    assert job.rank("--resume") == 4  # of nothing, it begins
    emulator.clear()

    assert job.rank("--resume") == 4
    assert not emulator.log
    capfd.readouterr()
    job.write(RED, RED, b"{", RED)
    assert job.rank("--resume") == 4
    assert len(emulator.log) == 2
    assert "2 lines ranked, 1 done before, 1 failed before, " in capfd.readouterr().err
    assert set(job.ranked) == {1, 2, 4}
    assert set(job.failed) == {2, 3}
    job.write(*[RED] * 4)
    assert job.rank("--resume") == 0


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [
        ([RED | {"query": "another"}, RED], [], "line 1 of the input has changed"),
        ([RED], [], "the input now ends at line 1, but the output has line 2"),
        ([RED, RED], ["--top-n", "1"], "an option that results depend on"),
        ([RED, RED], ["--model", "qwen3.7-text-rerank"], "an option that results depend on"),
        ([RED, RED], ["--instruct", "Find cars."], "an option that results depend on"),
        ([RED, RED], ["--long-query", "tail"], "an option that results depend on"),
    ],
)
def test_another_input_is_refused(job, capfd, emulator, lines, arguments, said):
    """Resuming with a changed input or options would mix two jobs."""
    job.write(RED, RED)
    assert job.rank() == 0
    before = job.output.read_bytes()
    emulator.clear()
    job.write(*lines)

    assert job.rank("--resume", *arguments) == 2

    assert said in capfd.readouterr().err
    assert job.output.read_bytes() == before
    assert not emulator.log


def test_another_host_is_another_job(job, monkeypatch, capfd, emulator):
    """No host's scores are mixed with another's; what one refused, another is asked."""
    job.write(RED, RED)
    with Emulator(faults=["404-model-not-exist"]) as wrong:
        assert job.rank("--base-url", wrong.base_url) == 4

        assert job.rank("--resume") == 0

        assert len(emulator.log) == 2
        monkeypatch.setenv("DASHSCOPE_BASE_URL", wrong.base_url)
        assert job.rank("--resume") == 2
        assert len(wrong.log) == 2
    assert "--region and --base-url, which may also come from" in capfd.readouterr().err


@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
def test_a_run_that_reached_nobody_can_be_repeated(job, monkeypatch, emulator, fmt):
    """The same command is taken again, as nothing is in its output that could be lost."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._AT_FIRST", 0.1)
    job.write(RED)
    emulator.fault("refused")
    assert job.rank("--format", fmt) == 1
    assert job.rank("--format", fmt) == 1
    emulator.clear()

    assert job.rank("--format", fmt) == 0
    assert job.rank("--format", fmt) == 2  # now there is something
    assert job.rank("--format", fmt, "--resume") == 0
    assert len(emulator.log) == 1


def test_a_journal_may_outlive_its_output(job, monkeypatch, capfd):
    """What is at the output's name by then is not taken for the run that it was the journal of."""
    job.write_many(6)
    with monkeypatch.context() as patched:
        patched.setenv("DASHSCOPE_API_KEY", "sk-wrong")
        assert job.rank("--format", "trec") == 1
    assert job.rank() == 0
    before = job.output.read_bytes()

    assert job.rank("--format", "trec", "--resume") == 2

    assert "was not written with --format trec" in capfd.readouterr().err
    assert job.output.read_bytes() == before
    job.output.unlink()
    assert job.rank("--format", "trec", "--resume") == 0
    for other in (before, b"1 Q0 the-first 1 9.9 another-tool\n" * 20):
        job.output.write_bytes(other)
        assert job.rank("--format", "trec", "--resume") == 2
        assert job.output.read_bytes() == other


def test_what_asks_nothing_binds_nothing(job, capfd, emulator):
    """A list of which nothing is sent holds up neither the end of a wrong run nor its mending."""
    nothing = [{"query": "a car", "documents": documents} for documents in ([], [" "], [" ", ""])]
    job.write(*nothing, *[RED] * 60)
    assert job.rank("--model", "qwen9", errors=False) == 1
    assert "line after line failed" in capfd.readouterr().err
    assert len(emulator.log) < 40

    assert job.rank("--resume", "--top-n", "1") == 2  # it does depend on that
    assert job.rank("--resume") == 0

    assert "60 lines ranked, 3 done before" in capfd.readouterr().err
    assert job.rank("--resume", "--model", "qwen3.7-text-rerank") == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")  # noqa: PTH110  as above
@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
@pytest.mark.parametrize(("device", "code"), [("/dev/full", 1), ("/dev/zero", 0)])
def test_an_output_without_end(job, monkeypatch, capfd, fmt, device, code):
    """A device that could be read for ever is only written to, and nothing is put beside it."""
    opened = Path.open

    def nothing_endless(path, *arguments, **options):
        assert str(path) != device
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", nothing_endless)
    job.write(RED)

    job.output = device
    assert job.rank("--format", fmt, "--resume", errors=False) == code

    said = capfd.readouterr().err
    assert ("/dev/full: No space left on device" in said) is bool(code)
    assert "--resume" not in said
    assert not Path(f"{device}.journal").exists()


def test_a_line_that_claims_to_be_far_away():
    """An odd number in an output asks for no memory."""
    settled = Settled()
    tracemalloc.start()
    settled.add(500_000_000, 1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@given(st.dictionaries(st.integers(1, 60), st.integers(1, 2**32 - 1)), st.integers(0, 9))
def test_what_is_settled(lines, ahead):
    """Every line is found again with its checksum, however far they are apart, in any order."""
    with mock.patch("qwen_rerank.cli.rerank.journal._AHEAD", ahead):
        settled = Settled()
        for line, fingerprint in lines.items():
            settled.add(line, fingerprint)
            settled.add(line, fingerprint)

    assert {line: settled.was(line) for line in range(1, 62)} == {
        line: lines.get(line, 0) for line in range(1, 62)
    }
    assert settled.count == len(lines)
    settled.check_end(max(lines, default=0))
    if lines:
        with pytest.raises(ChangedError):
            settled.check_end(max(lines) - 1)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (b'{"line":3,"fingerprint":"00000001","id":"' + b"x" * 99, 0),
        (b'{"li', 0),
        (b"\0" * 99, 0),  # as file systems leave them when the power goes
        (b"\0" * 99 + b"mine", 2),
        (b"mine" * 99, 2),
    ],
)
def test_an_output_is_read_in_pieces(job, monkeypatch, end, code):
    """However long a line is, and whatever stands at the end, no more than a piece is held."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.journal._READ", 48)
    job.write(RED, RED)
    assert job.rank() == 0
    whole = job.output.read_bytes()
    job.output.write_bytes(whole + end)

    assert job.rank("--resume") == code

    assert job.output.read_bytes() == whole + (end if code else b"")


@pytest.mark.parametrize(
    ("name", "number"),
    [("out", errno.EACCES), ("out.journal", errno.EROFS), ("errors", errno.ENOENT)],
)
def test_a_folder_that_cannot_be_written_to(job, monkeypatch, capfd, emulator, number, name):
    """It is said before anything is sent; what was made by then is in nobody's way."""
    refused, really = job.output.with_name(name), os.open
    job.write(RED)

    def opening(path, *arguments, **options):
        if str(path) == str(refused):
            raise OSError(number, os.strerror(number), path)
        return really(path, *arguments, **options)

    with monkeypatch.context() as patches:
        patches.setattr("qwen_rerank.cli.rerank.journal.os.open", opening)
        assert job.rank("--format", "trec") == 2

    assert f"{refused}: {os.strerror(number)}" in capfd.readouterr().err
    assert not emulator.log
    assert job.rank("--format", "trec") == 0


def test_a_full_disk_tears_no_line(job, monkeypatch, capfd):
    """If a write fails half-way, its half is cut off before anything else is written."""
    job.write_many(12)
    write_all, writes = os.write, []

    def full_once(number, content):
        writes.append(number)
        if len(writes) == 7:
            return write_all(number, content[:20])
        if len(writes) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_all(number, content)

    monkeypatch.setattr("qwen_rerank.cli.rerank.journal.os.write", full_once)

    assert job.rank() == 1

    said = capfd.readouterr().err
    assert "No space left on device; --resume goes on" in said
    assert str(job.output) in said
    assert job.rank("--resume") == 0
    assert set(job.ranked) == set(range(1, 13))


async def test_a_journal_without_room_tears_no_run(tmp_path, connection, monkeypatch):
    """The lines of a TREC run whose entry in the journal cannot be written are cut off again."""
    ranking = await Reranker(**connection).arerank("tea", ["green tea"])
    first, second = (Record(n, n, n, None, "tea", ("green tea",), (None,)) for n in (1, 2))
    with Journal(str(tmp_path / "out"), None, fmt="trec") as journal:
        with monkeypatch.context() as patched:
            patched.setattr(journal._ends, "write", mock.Mock(side_effect=OSError))
            with pytest.raises(OSError):  # noqa: PT011  it is the one
                await journal.ranked(first, ranking)
        await journal.ranked(second, ranking)

    assert (tmp_path / "out").read_text() == "2 Q0 0 1 1 qwen3-rerank\n"


def test_the_disk_keeps_what_is_written_meanwhile(job, monkeypatch, emulator):
    """A machine that loses its power in a long run loses a few seconds of it."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._SYNC_EVERY", 0.01)
    kept = threading.Event()
    monkeypatch.setattr("qwen_rerank.cli.rerank.journal.os.fsync", lambda _: kept.set())

    def reply(_):
        return Reply() if kept.wait(10) else Reply.error(400, "InvalidParameter")

    emulator.script(reply)
    job.write(RED)

    assert job.rank() == 0


@pytest.mark.slow
def test_kill_9_and_resume(job, tmp_path, emulator):
    """Killed at any moment and started again, it neither repeats nor loses a line."""
    lines, arguments = 250, ["--format", "trec", "--concurrency", "6", "--resume"]
    whole = Job(tmp_path / "whole")
    for each in (whole, job):
        each.write_many(lines)
        with each.source.open("ab") as file:
            file.write(b"{\n")
    assert whole.rank(*arguments) == 4
    chance = random.Random(5)  # noqa: S311  no secret
    kills = 0
    for _ in range(3):
        before = job.output.stat().st_size if job.output.exists() else 0
        more = before + chance.randrange(1, whole.output.stat().st_size // 3)
        with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
            [*COMMAND, *job.arguments(*arguments)], stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and not (
                job.output.exists() and job.output.stat().st_size > more
            ):
                time.sleep(0.001)
            process.kill()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2

    assert job.rank(*arguments) == 4

    assert sorted(job.output.read_bytes().splitlines()) == sorted(
        whole.output.read_bytes().splitlines()
    )
    assert set(job.failed) == {lines + 1}
    assert len(emulator.log) < 2 * lines + kills * 6 + 1
