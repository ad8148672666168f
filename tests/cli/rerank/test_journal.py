"""`qwen-rerank rerank --resume`: nothing that was paid for is lost, repeated or overwritten."""

import errno
import os
import random
import signal
import subprocess
import time
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from bulk_files import COMMAND, RED, many, rank, read, write
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank.cli.rerank.journal import ChangedError, Settled
from qwen_rerank.emulator import Emulator


def test_an_output_is_never_overwritten(tmp_path, capfd):
    """What was paid for is continued or left alone."""
    out = tmp_path / "out"
    out.write_text("mine")
    source = write(tmp_path / "in", RED)

    assert rank(source, out) == 2
    assert "--resume" in capfd.readouterr().err
    assert rank(source, out, "--resume") == 2
    assert "was not written by this command" in capfd.readouterr().err
    out.write_text("mine\n")
    assert rank(source, out, "--resume") == 2
    assert rank(source, out, "--resume", "--format", "trec") == 2
    assert out.read_text() == "mine\n"


@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
def test_a_torn_line_is_done_again(tmp_path, fmt):
    """Wherever the output ends, --resume makes of it what an undisturbed run does."""
    source = many(tmp_path / "in", 8)
    out, whole = tmp_path / "out", tmp_path / "whole"
    journals = [tmp_path / "out.journal", tmp_path / "whole.journal"]
    assert rank(source, whole, "--format", fmt) == 0
    expected = whole.read_bytes()
    chance = random.Random(3)  # noqa: S311  no secret
    for size in (0, 1, 7, len(expected) - 1, *(chance.randrange(len(expected)) for _ in range(4))):
        out.write_bytes(expected[:size])
        if fmt == "trec":
            journals[0].write_bytes(journals[1].read_bytes()[: chance.choice([9999, -1, -30])])

        assert rank(source, out, "--resume", "--format", fmt) == 0

        assert sorted(out.read_bytes().splitlines()) == sorted(expected.splitlines())


def test_resuming_sends_only_what_is_missing(tmp_path, capfd, emulator):
    """What is done and what failed is not sent again; lines that were mended or added are."""
    source, out, errors = tmp_path / "in", tmp_path / "out", tmp_path / "errors"
    blank = RED | {"query": " "}
    arguments = ["--errors", str(errors), "--resume"]  # of nothing, it begins
    assert rank(write(source, RED, blank, b"{"), out, *arguments) == 4
    emulator.clear()

    assert rank(source, out, *arguments) == 4
    assert not emulator.log
    capfd.readouterr()
    assert rank(write(source, RED, RED, b"{", RED), out, *arguments) == 4
    assert len(emulator.log) == 2
    assert "2 lines ranked, 1 done before, 1 failed before, " in capfd.readouterr().err
    assert set(read(out)) == {1, 2, 4}
    assert set(read(errors)) == {2, 3}
    assert rank(write(source, RED, RED, RED, RED), out, *arguments) == 0


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
def test_another_input_is_refused(tmp_path, capfd, emulator, lines, arguments, said):
    """Resuming with a changed input or options would mix two jobs."""
    source, out = tmp_path / "in", tmp_path / "out"
    assert rank(write(source, RED, RED), out) == 0
    before = out.read_bytes()
    emulator.clear()
    capfd.readouterr()

    assert rank(write(source, *lines), out, "--resume", *arguments) == 2

    assert said in capfd.readouterr().err
    assert out.read_bytes() == before
    assert not emulator.log


def test_another_host_is_another_job(tmp_path, monkeypatch, capfd, emulator):
    """No host's scores are mixed with another's; what one refused, another is asked."""
    source, out, errors = write(tmp_path / "in", RED, RED), tmp_path / "out", tmp_path / "errors"
    with Emulator(faults=["404-model-not-exist"]) as wrong:
        arguments = ["--errors", str(errors), "--resume"]
        assert rank(source, out, "--base-url", wrong.base_url, *arguments) == 4

        assert rank(source, out, *arguments) == 0

        assert len(emulator.log) == 2
        monkeypatch.setenv("DASHSCOPE_BASE_URL", wrong.base_url)
        assert rank(source, out, *arguments) == 2
        assert len(wrong.log) == 2
    assert "--region and --base-url, which may also come from" in capfd.readouterr().err


@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
def test_a_run_that_reached_nobody_can_be_repeated(tmp_path, monkeypatch, emulator, fmt):
    """The same command is taken again, as nothing is in its output that could be lost."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._AT_FIRST", 0.1)
    source, out = write(tmp_path / "in", RED), tmp_path / "out"
    arguments = [source, out, "--format", fmt, "--errors", str(tmp_path / "errors")]
    emulator.fault("refused")
    assert rank(*arguments) == 1
    assert rank(*arguments) == 1
    emulator.clear()

    assert rank(*arguments) == 0
    assert rank(*arguments) == 2  # now there is something
    assert rank(*arguments, "--resume") == 0
    assert len(emulator.log) == 1


def test_a_journal_may_outlive_its_output(tmp_path, monkeypatch, capfd):
    """What is at the output's name by then is not taken for the run that it was the journal of."""
    source, out = many(tmp_path / "in", 6), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setenv("DASHSCOPE_API_KEY", "sk-wrong")
        assert rank(source, out, "--format", "trec") == 1
    assert rank(source, out) == 0
    before = out.read_bytes()

    assert rank(source, out, "--format", "trec", "--resume") == 2

    assert "was not written with --format trec" in capfd.readouterr().err
    assert out.read_bytes() == before
    out.unlink()
    assert rank(source, out, "--format", "trec", "--resume") == 0
    out.rename(tmp_path / "kept")
    for other in (before, b"1 Q0 the-first 1 9.9 another-tool\n" * 20):
        out.write_bytes(other)
        assert rank(source, out, "--format", "trec", "--resume") == 2
        assert out.read_bytes() == other


def test_what_asks_nothing_binds_nothing(tmp_path, capfd, emulator):
    """A list of which nothing is sent holds up neither the end of a wrong run nor its mending."""
    nothing = [{"query": "a car", "documents": documents} for documents in ([], [" "], [" ", ""])]
    source, out = write(tmp_path / "in", *nothing, *[RED] * 60), tmp_path / "out"
    assert rank(source, out, "--model", "qwen9") == 1
    assert "line after line failed" in capfd.readouterr().err
    assert len(emulator.log) < 40

    assert rank(source, out, "--resume", "--top-n", "1") == 2  # it does depend on that
    assert rank(source, out, "--resume") == 0

    assert "60 lines ranked, 3 done before" in capfd.readouterr().err
    assert rank(source, out, "--resume", "--model", "qwen3.7-text-rerank") == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")  # noqa: PTH110  as above
@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
@pytest.mark.parametrize(("device", "code"), [("/dev/full", 1), ("/dev/zero", 0)])
def test_an_output_without_end(tmp_path, monkeypatch, capfd, fmt, device, code):
    """A device that could be read for ever is only written to, and nothing is put beside it."""
    opened = Path.open

    def nothing_endless(path, *arguments, **options):
        assert str(path) != device
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", nothing_endless)

    assert rank(write(tmp_path / "in", RED), device, "--format", fmt, "--resume") == code

    said = capfd.readouterr().err
    assert ("/dev/full: No space left on device" in said) is bool(code)
    assert "--resume" not in said
    assert not Path(f"{device}.journal").exists()


def test_errors_without_room(tmp_path, capfd):
    """A file of errors that takes nothing ends the run as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("no such device")

    assert rank(write(tmp_path / "in", b"{"), tmp_path / "out", "--errors", "/dev/full") == 2

    assert "/dev/full: No space left on device" in capfd.readouterr().err


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
def test_an_output_is_read_in_pieces(tmp_path, monkeypatch, end, code):
    """However long a line is, and whatever stands at the end, no more than a piece is held."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.journal._READ", 48)
    source, out = write(tmp_path / "in", RED, RED), tmp_path / "out"
    assert rank(source, out) == 0
    whole = out.read_bytes()
    out.write_bytes(whole + end)

    assert rank(source, out, "--resume") == code

    assert out.read_bytes() == whole + (end if code else b"")


@pytest.mark.parametrize(
    ("name", "number"),
    [("out", errno.EACCES), ("out.journal", errno.EROFS), ("errors", errno.ENOENT)],
)
def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, capfd, emulator, number, name):
    """It is said before anything is sent; what was made by then is in nobody's way."""
    source, really = write(tmp_path / "in", RED), os.open

    def opening(path, *arguments, **options):
        if str(path) == str(tmp_path / name):
            raise OSError(number, os.strerror(number), path)
        return really(path, *arguments, **options)

    arguments = [source, tmp_path / "out", "--errors", str(tmp_path / "errors"), "--format", "trec"]
    with monkeypatch.context() as patches:
        patches.setattr("qwen_rerank.cli.rerank.journal.os.open", opening)
        assert rank(*arguments) == 2

    assert f"{tmp_path / name}: {os.strerror(number)}" in capfd.readouterr().err
    assert not emulator.log
    assert rank(*arguments) == 0


@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
def test_a_full_disk_tears_no_line(tmp_path, monkeypatch, capfd, fmt):
    """If a write fails half-way, its half is cut off before anything else is written."""
    source, out = many(tmp_path / "in", 12), tmp_path / "out"
    write_all, writes = os.write, []

    def full_once(number, content):
        writes.append(number)
        if len(writes) == 7:
            return write_all(number, content[:20])
        if len(writes) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_all(number, content)

    monkeypatch.setattr("qwen_rerank.cli.rerank.journal.os.write", full_once)

    assert rank(source, out, "--format", fmt) == 1

    said = capfd.readouterr().err
    assert "No space left on device; --resume goes on" in said
    assert str(out) in said
    assert rank(source, out, "--format", fmt, "--resume") == 0
    if fmt == "jsonl":
        assert set(read(out)) == set(range(1, 13))
    else:
        assert len(out.read_text().splitlines()) == 12 * 4


@pytest.mark.slow
def test_kill_9_and_resume(tmp_path, emulator):
    """Killed at any moment and started again, it neither repeats nor loses a line."""
    lines, arguments = 250, ["--format", "trec", "--concurrency", "6"]
    source = many(tmp_path / "in", lines)
    with open(source, "ab") as file:  # noqa: PTH123
        file.write(b"{\n")
    out, whole = tmp_path / "out", tmp_path / "whole"
    errors = tmp_path / "errors"
    assert rank(source, whole, *arguments, "--errors", str(tmp_path / "e")) == 4
    expected = sorted(whole.read_bytes().splitlines())
    chance = random.Random(5)  # noqa: S311  no secret
    kills = 0
    for _ in range(3):
        before = out.stat().st_size if out.exists() else 0
        with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
            [
                *(*COMMAND, source, "--output", str(out), "--resume"),
                *(*arguments, "--errors", str(errors)),
            ],
            stderr=subprocess.DEVNULL,
        ) as process:
            more = before + chance.randrange(1, whole.stat().st_size // 3)
            while process.poll() is None and not (out.exists() and out.stat().st_size > more):
                time.sleep(0.001)
            process.kill()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2

    assert rank(source, out, *arguments, "--errors", str(errors), "--resume") == 4

    assert sorted(out.read_bytes().splitlines()) == expected
    assert set(read(errors)) == {lines + 1}
    assert len(emulator.log) < 2 * lines + kills * 6 + 1
