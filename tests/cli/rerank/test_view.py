"""What `qwen-rerank rerank` says on standard error while it runs."""

import os
import re
from pathlib import Path

import pytest
from bulk_files import RED, many, rank, read, write

from qwen_rerank.emulator import Reply


def test_without_a_file_of_errors_they_are_told(tmp_path, capfd):
    """Standard error has each, in one visible line, and --resume tries them again."""
    out = tmp_path / "out"
    source = write(tmp_path / "in", RED, {"query": "q", "documents": [{"\x1b[2J[/red]": ""}]})

    assert rank(source, out) == 4
    said = capfd.readouterr().err
    assert "line 2 failed: document 0 needs" in said
    assert "\x1b" not in said
    assert rank(source, out, "--resume") == 4
    said = capfd.readouterr().err
    assert "line 2 failed" in said
    assert "0 lines ranked, 1 failed, 1 done before" in said


def test_what_was_cut_is_said(tmp_path):
    """A line tells which documents, and whether the query, were scored by their head."""
    out = tmp_path / "out"
    long = "red " * 9000
    source = write(tmp_path / "in", {"query": long, "documents": ["red", long]})

    assert rank(source, out) == 0

    assert read(out)[1]["truncated"] == [1]
    assert read(out)[1]["query_truncated"] is True


def test_warnings_are_told_with_their_line(tmp_path, capfd):
    """The first five are shown with their line and the command's options, then only counted."""
    out = tmp_path / "out"
    long = {"query": "red " * 9_000, "documents": ["red"]}

    assert rank(write(tmp_path / "in", RED, *[long] * 7, RED), out) == 0

    said = capfd.readouterr().err.splitlines()
    told = [line for line in said if "The query is too long" in line]
    assert len({line.partition(": ")[2].partition(": ")[0] for line in told}) == len(told) == 5
    assert all(re.match(r"qwen-rerank rerank: line [2-8]: The query is too long", x) for x in told)
    assert all("or set --long-query tail to keep its other end" in line for line in told)
    assert "9 lines ranked, 2 more warnings, " in said[-1]


@pytest.mark.parametrize("piped", [False, True])
def test_a_terminal_sees_how_far_it_is(tmp_path, monkeypatch, emulator, capfd, piped):
    """Lines, rate, tokens and, of a file, the time left; the bar is gone at the end."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("qwen_rerank.cli.rerank.flow.SHOWN_EVERY", 0.05)
    monkeypatch.setattr("qwen_rerank.cli._lines.LONGEST", 4096)  # is what is read ahead
    emulator.script(*[Reply(delay=0.02)] * 10)
    emulator.fault("400-content", nth=1)
    source = many(tmp_path / "in", 40)
    if piped:
        reading, writing = os.pipe()
        os.write(writing, Path(source).read_bytes())
        os.close(writing)
        with open(reading) as file:  # noqa: PTH123
            monkeypatch.setattr("sys.stdin", file)
            assert rank("-", tmp_path / "out", "--concurrency", "2") == 4
    else:
        assert rank(source, tmp_path / "out", "--concurrency", "2") == 4

    err = capfd.readouterr().err
    assert re.search(r"\d+ lines · [\d.]+/s · [\d,]+ tokens", err)
    assert " · 1 failed" in err
    assert ("%" in err) is not piped
    assert "39 lines ranked, 1 failed, " in err.splitlines()[-1]
