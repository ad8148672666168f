"""`qwen-rerank rerank` while the service fails, throttles or refuses, and where it ends."""

import json
import re
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest
from bulk_files import RED, Job
from pictures import drawn

from qwen_rerank import Reranker
from qwen_rerank.cli.rerank import journal
from qwen_rerank.cli.rerank.bulk import Pump, Stop
from qwen_rerank.cli.rerank.records import Record
from qwen_rerank.emulator import Reply


def test_max_tokens_stops_cleanly(job, tmp_path, capfd):
    """The exit code says so, what was paid for is there, and --resume goes on."""
    one = Job(tmp_path / "one")
    one.write(RED)
    assert one.rank() == 0
    arguments = ["--max-tokens", str(one.ranked[1]["tokens"] * 5)]
    job.write(*[RED] * 12)

    assert job.rank(*arguments, "--concurrency", "1") == 3

    assert set(job.ranked) == {1, 2, 3, 4, 5}
    assert "--max-tokens is reached" in capfd.readouterr().err
    assert job.rank(*arguments, "--concurrency", "1", "--resume") == 3
    assert job.rank(*arguments, "--resume") == 0
    assert set(job.ranked) == set(range(1, 13))


async def test_a_line_that_is_being_written_is_counted_once(monkeypatch, connection, capfd):
    """Its tokens are billed by then, and it is still in flight."""
    write_it, query, documents = journal._print, "tea", ("green tea", "a car")
    cost = Reranker(**connection).rerank(query, documents).usage.tokens
    pump = Pump(
        Reranker(**connection, max_concurrency=2),
        journal.Journal("-", None),
        pytest.fail,
        max_tokens=3 * cost,
    )

    def once_both_are_billed(content):
        for _ in range(10_000):
            if pump.tokens >= 2 * cost:
                break
            time.sleep(0.001)
        write_it(content)

    monkeypatch.setattr(journal, "_print", once_both_are_billed)

    stop = await pump.run(
        Record(n, 0, 0, None, query, documents, (None, None)) for n in range(1, 9)
    )

    assert stop == Stop("tokens")
    assert len(capfd.readouterr().out.splitlines()) == 3


def test_tokens_that_no_server_reports(job, emulator, capfd):
    """They are null and unknown, and --max-tokens, which they cannot be held against, stops."""
    job.write(*[RED] * 12)
    there = ["--server", "tei", "--base-url", emulator.server_url("tei"), "--concurrency", "1"]

    assert job.rank(*there, "--max-tokens", "100") == 1

    assert len(job.ranked) < 6
    assert {line["tokens"] for line in job.ranked.values()} == {None}
    assert "does not report the tokens" in capfd.readouterr().err
    assert job.rank(*there, "--resume") == 0
    assert len(job.ranked) == 12
    assert "tokens unknown" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["429-rate", "503"])
def test_what_passes_is_waited_for(job, emulator, name):
    """Throttling and outages fail no line: only tries while others get through count."""
    emulator.fault(name, first=200)  # eight tries of a line, which has four
    job.write_many(10)

    assert job.rank() == 0

    assert set(job.ranked) == set(range(1, 11))


def test_no_wait_is_longer_than_patience(job, emulator):
    """A service with a wrong clock may ask for hours."""
    emulator.fault("429-after-10000", first=1)
    job.write(RED)

    assert job.rank("--patience", "0.2") == 0


def test_a_line_that_always_fails_is_given_up(job, emulator):
    """While others get through, even one at a time, it is tried four times, and holds up none."""
    emulator.fault("503", holding="cursed")
    job.write({"query": "q", "documents": ["cursed"]}, *[RED] * 40)

    assert job.rank("--concurrency", "1") == 4

    assert {line: each["error"] for line, each in job.failed.items()} == {1: "ServiceError"}
    assert set(job.ranked) == set(range(2, 42))


def test_a_line_that_is_throttled_is_not_given_up(job, emulator):
    """Not even while others get through: what is throttled is no fault of its line."""
    emulator.fault("429-rate", holding="unlucky")
    job.write({"query": "q", "documents": ["unlucky"]}, *[RED] * 40)

    assert job.rank("--concurrency", "1", "--patience", "0.5") == 1

    assert job.failed == {}


@pytest.mark.parametrize(
    ("fault", "arguments"), [("429-rate", ["--patience", "0.3"]), ("html-200", [])]
)
def test_an_outage_without_end_ends_the_run(job, emulator, capfd, monkeypatch, fault, arguments):
    """While nothing gets through no line is written off, and --resume ranks them all.

    Throttling is waited for as long as --patience says, other faults at first not so long.
    """
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._AT_FIRST", 0.3)
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._TOLD_AT", 1)  # there may be no second
    emulator.fault(fault)
    job.write_many(60)

    assert job.rank(*arguments) == 1

    said = capfd.readouterr().err
    assert "no line got through any more: " in said
    assert said.count(" waits, and others may: ") == 1
    assert job.failed == {}
    emulator.clear()
    assert job.rank("--resume") == 0
    assert set(job.ranked) == set(range(1, 61))


@pytest.mark.parametrize(
    ("refusal", "said"),
    [((400, "Arrearage"), "QuotaError"), ((401, "InvalidApiKey"), "AuthenticationError")],
)
def test_what_every_line_would_share_stops_the_run(job, emulator, capfd, refusal, said):
    """A used-up balance or a refused key ends it at once, and no line is called failed."""
    emulator.script(Reply.error(*refusal, repeat=99))
    job.write_many(40)

    assert job.rank("--concurrency", "2") == 1

    shown = " ".join(capfd.readouterr().err.split())
    assert f"stopped, because every line would fail so: {said}" in shown
    assert len(emulator.log) <= 4
    assert job.failed == {}


def test_refused_content_blocks_nothing(job, emulator):
    """However many lines moderation refuses at the head, with its code, the others are ranked."""
    emulator.fault("400-content", holding="bad word")
    bad = {"id": "b", "query": "q", "documents": ["a bad word"]}
    job.write(*[bad] * 25, *[RED] * 5)

    assert job.rank() == 4

    assert set(job.ranked) == set(range(26, 31))
    told = {(each["id"], each["error"], each["code"]) for each in job.failed.values()}
    assert told == {("b", "ContentError", "DataInspectionFailed")}


def test_a_wrong_request_is_not_made_of_every_line(job, capfd, emulator):
    """If all that the service does is refuse, the run stops, and says what would pass over it."""
    job.write_many(60)

    assert job.rank("--model", "qwen9", errors=False) == 1

    said = capfd.readouterr().err
    assert "with --errors FILE, --resume passes over such lines" in said
    assert ", the last so: RequestError: " in said
    assert len(emulator.log) < 40


def test_a_file_of_something_else(job, capfd, emulator):
    """A file in which no line is a list is given up early."""
    job.source.write_text(json.dumps([RED] * 99, indent=1))

    assert job.rank(errors=False) == 1

    said = capfd.readouterr().err
    assert "line after line failed" in said
    assert "the last so: InvalidLine: the line is" in said
    assert said.count("\n") < 30
    assert not emulator.log


def test_an_image_without_pillow(job, capfd, monkeypatch):
    """What is in flight is finished, and the image's line is tried again once Pillow is there."""
    image = {"image": f"data:image/png;base64,{b64encode(drawn()).decode()}"}
    job.write(RED, RED | {"documents": [image]}, *[RED] * 9)
    arguments = ["--model", "qwen3-vl-rerank", "--concurrency", "2"]

    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "PIL", None)
        assert job.rank(*arguments) == 1

    assert 1 in job.ranked
    assert job.failed == {}
    said = capfd.readouterr().err
    assert (
        'stopped: images as bytes or files need Pillow: pip install "qwen-rerank[images]"' in said
    )
    assert re.search(rf"{len(job.ranked)} lines? ranked, .* tokens", said)
    assert job.rank(*arguments, "--resume") == 0
    assert set(job.ranked) == set(range(1, 12))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(job):
    """Six times the lines take no more memory."""
    code = (
        "import sys; from qwen_rerank.cli import main; code = main(sys.argv[1:]); "
        "print(open('/proc/self/statm').read()); sys.exit(code)"
    )
    resident = []
    for count in (50, 300):
        text = "words " * 500
        job.write(*({"query": f"q{n}", "documents": [f"{n} {text}"] * 5} for n in range(count)))
        done = subprocess.run(  # noqa: S603  our own interpreter, our own code
            [sys.executable, "-c", code, "rerank", *job.arguments()],
            capture_output=True,
            text=True,
            check=True,
        )
        resident.append(int(done.stdout.split()[1]))
        job.output.unlink()
    assert resident[1] < 1.1 * resident[0]
