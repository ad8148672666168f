"""`qwen-rerank rerank` while the service fails, throttles or refuses, and where it ends."""

import json
import re
import subprocess
import sys
import time
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from bulk_files import RED, many, rank, read, write
from PIL import Image as Pillow

from qwen_rerank import Reranker
from qwen_rerank.cli.rerank import journal
from qwen_rerank.cli.rerank.bulk import Pump, Stop
from qwen_rerank.cli.rerank.records import Record
from qwen_rerank.emulator import Reply


def test_max_tokens_stops_cleanly(tmp_path, capfd):
    """The exit code says so, what was paid for is there, and --resume goes on."""
    source, out = write(tmp_path / "in", *[RED] * 12), tmp_path / "out"
    assert rank(write(tmp_path / "one", RED), tmp_path / "cost") == 0
    arguments = ["--max-tokens", str(read(tmp_path / "cost")[1]["tokens"] * 5)]

    assert rank(source, out, *arguments, "--concurrency", "1") == 3

    assert set(read(out)) == {1, 2, 3, 4, 5}
    assert "--max-tokens is reached" in capfd.readouterr().err
    assert rank(source, out, "--resume", *arguments, "--concurrency", "1") == 3
    assert rank(source, out, "--resume", *arguments) == 0
    assert set(read(out)) == set(range(1, 13))


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


def test_tokens_that_no_server_reports(tmp_path, emulator, capfd):
    """They are null and unknown, and --max-tokens, which they cannot be held against, stops."""
    source, out = many(tmp_path / "in", 12), tmp_path / "out"
    there = ["--server", "tei", "--base-url", emulator.server_url("tei"), "--concurrency", "1"]

    assert rank(source, out, *there, "--max-tokens", "100") == 1

    first = read(out)
    assert len(first) < 6
    assert {line["tokens"] for line in first.values()} == {None}
    assert "does not report the tokens" in capfd.readouterr().err
    assert rank(source, out, *there, "--resume") == 0
    assert len(read(out)) == 12
    assert "tokens unknown" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["429-rate", "503"])
def test_what_passes_is_waited_for(tmp_path, emulator, name):
    """Throttling and outages fail no line: only tries while others get through count."""
    emulator.fault(name, first=200)  # eight tries of a line, which has four
    out, errors = tmp_path / "out", tmp_path / "errors"

    assert rank(many(tmp_path / "in", 10), out, "--errors", str(errors)) == 0

    assert set(read(out)) == set(range(1, 11))
    assert not errors.read_text()


def test_no_wait_is_longer_than_patience(tmp_path, emulator):
    """A service with a wrong clock may ask for hours."""
    emulator.fault("429-after-10000", first=1)

    assert rank(write(tmp_path / "in", RED), tmp_path / "out", "--patience", "0.2") == 0


def test_a_line_that_always_fails_is_given_up(tmp_path, emulator):
    """While others get through, even one at a time, it is tried four times, and holds up none."""
    emulator.fault("503", holding="cursed")
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", {"query": "q", "documents": ["cursed"]}, *[RED] * 40)

    assert rank(source, out, "--errors", str(errors), "--concurrency", "1") == 4

    assert {line: each["error"] for line, each in read(errors).items()} == {1: "ServiceError"}
    assert set(read(out)) == set(range(2, 42))


def test_throttling_without_end_ends_the_run(tmp_path, emulator, capfd, monkeypatch):
    """No line fails by it: after --patience the run stops, and --resume goes on."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._TOLD_AT", 1)  # there may be no second try
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = many(tmp_path / "in", 6)
    emulator.fault("429-rate")
    arguments = ["--errors", str(errors), "--patience", "0.3"]

    assert rank(source, out, *arguments) == 1

    said = capfd.readouterr().err
    assert "no line got through any more: RateLimitError" in said
    assert said.count(" waits, and others may: ") == 1
    assert not errors.read_text()
    emulator.clear()
    assert rank(source, out, "--resume", *arguments) == 0
    assert set(read(out)) == set(range(1, 7))


@pytest.mark.parametrize(
    ("refusal", "said"),
    [((400, "Arrearage"), "QuotaError"), ((401, "InvalidApiKey"), "AuthenticationError")],
)
def test_what_every_line_would_share_stops_the_run(tmp_path, emulator, capfd, refusal, said):
    """A used-up balance or a refused key ends it at once, and no line is called failed."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = many(tmp_path / "in", 40)
    emulator.script(Reply.error(*refusal, repeat=99))

    assert rank(source, out, "--errors", str(errors), "--concurrency", "2") == 1

    shown = " ".join(capfd.readouterr().err.split())
    assert f"stopped, because every line would fail so: {said}" in shown
    assert len(emulator.log) <= 4
    assert not errors.read_text()


def test_an_outage_without_end_ends_the_run(tmp_path, emulator, capfd, monkeypatch):
    """While nothing gets through, no line is written off, and --resume ranks them all."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._AT_FIRST", 0.3)
    emulator.fault("html-200")
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = many(tmp_path / "in", 60)
    arguments = ["--errors", str(errors), "--concurrency", "16"]

    assert rank(source, out, *arguments) == 1

    assert "no line got through any more: " in capfd.readouterr().err
    assert not errors.read_text()
    emulator.clear()
    assert rank(source, out, *arguments, "--resume") == 0
    assert set(read(out)) == set(range(1, 61))


def test_refused_content_blocks_nothing(tmp_path, emulator):
    """However many lines moderation refuses at the head, with its code, the others are ranked."""
    emulator.fault("400-content", holding="bad word")
    bad = {"id": "b", "query": "q", "documents": ["a bad word"]}
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", *[bad] * 25, *[RED] * 5)

    assert rank(source, out, "--errors", str(errors)) == 4

    assert set(read(out)) == set(range(26, 31))
    told = {(each["id"], each["error"], each["code"]) for each in read(errors).values()}
    assert told == {("b", "ContentError", "DataInspectionFailed")}


def test_a_wrong_request_is_not_made_of_every_line(tmp_path, capfd, emulator):
    """If all that the service does is refuse, the run stops, and says what would pass over it."""
    out = tmp_path / "out"
    source = many(tmp_path / "in", 60)

    assert rank(source, out, "--model", "qwen9") == 1

    said = capfd.readouterr().err
    assert "with --errors FILE, --resume passes over such lines" in said
    assert ", the last so: RequestError: " in said
    assert len(emulator.log) < 40


def test_an_image_without_pillow(tmp_path, capfd, monkeypatch):
    """What is in flight is finished, and the image's line is tried again once Pillow is there."""
    Pillow.new("RGB", (64, 64)).save(picture := BytesIO(), "png")
    image = {"image": f"data:image/png;base64,{b64encode(picture.getvalue()).decode()}"}
    source = write(tmp_path / "in", RED, RED | {"documents": [image]}, *[RED] * 9)
    out, errors = tmp_path / "out", tmp_path / "errors"
    arguments = ["--model", "qwen3-vl-rerank", "--concurrency", "2", "--errors", str(errors)]

    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "PIL", None)
        assert rank(source, out, *arguments) == 1

    assert 1 in read(out)
    assert errors.read_bytes() == b""
    said = capfd.readouterr().err
    assert (
        'stopped: images as bytes or files need Pillow: pip install "qwen-rerank[images]"' in said
    )
    assert re.search(rf"{len(read(out))} lines? ranked, .* tokens", said)
    assert rank(source, out, *arguments, "--resume") == 0
    assert set(read(out)) == set(range(1, 12))


def test_a_file_of_something_else(tmp_path, capfd, emulator):
    """A file in which no line is a list is given up early."""
    source = tmp_path / "in"
    source.write_text(json.dumps([RED] * 99, indent=1))

    assert rank(source, tmp_path / "out") == 1

    said = capfd.readouterr().err
    assert "line after line failed (with --errors" in said
    assert "the last so: InvalidLine: the line is" in said
    assert said.count("\n") < 30
    assert not emulator.log


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(tmp_path):
    """Six times the lines take no more memory."""
    code = (
        "import sys; from qwen_rerank.cli import main; code = main(sys.argv[1:]); "
        "print(open('/proc/self/statm').read()); sys.exit(code)"
    )
    resident = []
    for count in (50, 300):
        text = "words " * 500
        lists = ({"query": f"q{n}", "documents": [f"{n} {text}"] * 5} for n in range(count))
        source = write(tmp_path / f"in{count}", *lists)
        done = subprocess.run(  # noqa: S603  our own interpreter, our own code
            [sys.executable, "-c", code, "rerank", source, "--output", str(tmp_path / f"o{count}")],
            capture_output=True,
            text=True,
            check=True,
        )
        resident.append(int(done.stdout.split()[1]))
    assert resident[1] < 1.1 * resident[0]
