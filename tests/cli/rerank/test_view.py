"""What `qwen-rerank rerank` says on standard error while it runs."""

import os
import re

import pytest
from bulk_files import RED

from qwen_rerank.emulator import Reply


def test_without_a_file_of_errors_they_are_told(job, capfd):
    """Standard error has each, in one visible line, and --resume tries them again."""
    job.write(RED, {"query": "q", "documents": [{"\x1b[2J[/red]": ""}]})

    assert job.rank(errors=False) == 4
    said = capfd.readouterr().err
    assert "line 2 failed: document 0 needs" in said
    assert "\x1b" not in said
    assert job.rank("--resume", errors=False) == 4
    said = capfd.readouterr().err
    assert "line 2 failed" in said
    assert "0 lines ranked, 1 failed, 1 done before" in said


def test_what_was_cut_is_said(job):
    """A line tells which documents, and whether the query, were scored by their head."""
    long = "red " * 9000
    job.write({"query": long, "documents": ["red", long]})

    assert job.rank() == 0

    assert job.ranked[1]["truncated"] == [1]
    assert job.ranked[1]["query_truncated"] is True


def test_warnings_are_told_with_their_line(job, capfd):
    """The first five are shown with their line and the command's options, then only counted."""
    long = {"query": "red " * 9_000, "documents": ["red"]}
    job.write(RED, *[long] * 7, RED)

    assert job.rank() == 0

    said = capfd.readouterr().err.splitlines()
    told = [line for line in said if "The query is too long" in line]
    assert len({line.partition(": ")[2].partition(": ")[0] for line in told}) == len(told) == 5
    assert all(re.match(r"qwen-rerank rerank: line [2-8]: The query is too long", x) for x in told)
    assert all("or set --long-query tail to keep its other end" in line for line in told)
    assert "9 lines ranked, 2 more warnings, " in said[-1]


@pytest.mark.parametrize("piped", [False, True])
def test_a_terminal_sees_how_far_it_is(request, job, monkeypatch, emulator, capfd, piped):
    """Lines, rate, tokens and, of a file, the time left; the bar is gone at the end."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("qwen_rerank.cli.rerank.flow.SHOWN_EVERY", 0.05)
    monkeypatch.setattr("qwen_rerank.cli._lines.LONGEST", 4096)  # is what is read ahead
    emulator.script(*[Reply(delay=0.02)] * 10)
    emulator.fault("400-content", nth=1)
    job.write_many(40)
    if piped:
        reading, writing = os.pipe()
        os.write(writing, job.source.read_bytes())
        os.close(writing)
        request.addfinalizer((stdin := os.fdopen(reading)).close)
        monkeypatch.setattr("sys.stdin", stdin)
        job.source = "-"

    assert job.rank("--concurrency", "2") == 4

    err = capfd.readouterr().err
    assert re.search(r"\d+ lines · [\d.]+/s · [\d,]+ tokens", err)
    assert " · 1 failed" in err
    assert ("%" in err) is not piped
    assert "39 lines ranked, 1 failed, " in err.splitlines()[-2]
