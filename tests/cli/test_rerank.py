"""`qwen-rerank rerank` over real HTTP: what is written, what is refused, and how it goes on."""

import errno
import gzip
import itertools
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank.cli import main
from qwen_rerank.cli._runs import Collection
from qwen_rerank.cli.rerank.journal import ChangedError, Settled
from qwen_rerank.emulator import Reply

COMMAND = [sys.executable, "-m", "qwen_rerank.cli", "rerank"]
WORDS = "red green car tea fast slow cave bat rain snow book road".split()  # noqa: SIM905
RED = {"query": "a red car", "documents": ["green tea", "a red sports car"]}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses between tries are short."""
    monkeypatch.setattr("qwen_rerank._retry._FIRST", 0.001)
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._growing", lambda _: 0.01)


@pytest.fixture(autouse=True)
def at_the_emulator(monkeypatch, emulator):
    """Key and host come from the environment, as they do for a user."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)


def write(path, *lines):
    """A file of JSON lines; what is bytes stands there as it is."""
    path.write_bytes(
        b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in lines
        )
    )
    return str(path)


def many(path, count):
    """A file of that many different lists, always the same."""
    chance = random.Random(7)  # noqa: S311  no secret

    def text(length):
        return " ".join(chance.choices(WORDS, k=length))

    return write(
        path,
        *(
            {
                "id": f"q{number}",
                "query": text(3),
                "documents": [{"id": f"d{place}", "text": text(6)} for place in range(4)],
            }
            for number in range(count)
        ),
    )


def read(path):
    """The JSON lines of a file, by their line number; each is there once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    numbers = [each["line"] for each in found]
    assert len(set(numbers)) == len(numbers)
    return {each.pop("line"): each for each in found}


def rank(source, output, *arguments):
    """The exit code of the command."""
    return main(["rerank", str(source), "--output", str(output), *arguments])


def test_the_shape_of_a_line(tmp_path, capfd):
    """A line of output has the input's line and ids, every document best first, and the bill."""
    out = tmp_path / "out"
    source = write(
        tmp_path / "in",
        {"id": "q", "query": "a red car", "documents": [{"id": 7, "text": "tea"}, "", "a red car"]},
        b"",
        RED,
    )

    assert rank(source, out) == 0

    found = read(out)
    assert set(found) == {1, 3}  # 2 is blank
    assert found[1]["id"] == "q"
    assert [hit["index"] for hit in found[1]["results"]] == [2, 0, 1]
    assert found[1]["results"][1]["id"] == 7
    assert found[1]["results"][2] == {"index": 1, "score": None}
    assert found[1]["model"] == "qwen3-rerank"
    assert found[1]["tokens"] > 0
    assert "id" not in found[3]
    assert capfd.readouterr().err.startswith("qwen-rerank rerank: 2 lines ranked, ")


def test_options_reach_the_service(tmp_path, emulator):
    """Model, instruct and top_n are those of the arguments."""
    out = tmp_path / "out"
    source = write(tmp_path / "in", RED)
    arguments = ["--model", "qwen3.7-text-rerank", "--instruct", "Find cars.", "--top-n", "1"]

    assert rank(source, out, *arguments) == 0

    assert len(read(out)[1]["results"]) == 1
    assert emulator.log[0].body["model"] == "qwen3.7-text-rerank"
    assert emulator.log[0].body["parameters"]["instruct"] == "Find cars."


def test_any_text(tmp_path):
    """Any script, a lone surrogate, a byte order mark and line separators are no trouble."""
    out = tmp_path / "out"
    line = {
        "id": "é\u2028",
        "query": "红色的车",
        "documents": ["绿茶\u2028", "红色的车 🚗", "\udc80"],
    }
    source = tmp_path / "in"
    write(source, b"\xef\xbb\xbf" + json.dumps(line).encode(), {**line, "id": "\udc80"})

    assert rank(source, out) == 0

    lines = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert {line["id"] for line in lines} == {"é\u2028", "\udc80"}
    assert all(line["results"][0]["index"] == 1 for line in lines)


def test_images_and_videos(tmp_path, emulator):
    """Media go by URL, as queries too, and a text together with its image is one document."""
    out = tmp_path / "out"
    source = write(
        tmp_path / "in",
        {
            "query": {"image": "https://pictures.example/red-car.png"},
            "documents": [
                {"id": "v", "video": "https://pictures.example/green-tea.mp4"},
                {"id": "i", "image": "https://pictures.example/red-car.png"},
                {"id": "b", "text": "tea", "image": "https://pictures.example/tea.png"},
            ],
        },
    )

    assert rank(source, out, "--model", "qwen3-vl-rerank") == 0

    assert read(out)[1]["results"][0]["id"] == "i"
    assert len(emulator.log[0].body["input"]["documents"]) == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8: byte 1"),
        (b"[1]", "not an object"),
        (b"[" * 100_000, "nested too deeply"),
        ({"query": "q"}, 'needs "query" and "documents"'),
        ({"query": "q", "documents": "text"}, "must be a list"),
        ({"query": 3, "documents": []}, '"query" must be a text'),
        ({"query": {"image": "/etc/passwd"}, "documents": []}, "the query: url must begin"),
        ({"query": "q", "documents": [1]}, "document 0 must be a text or an object"),
        ({"query": "q", "documents": ["a", {"txt": "b"}]}, 'document 1 needs "text"'),
        ({"query": "q", "documents": [{"text": 1}]}, '"text" of document 0 must be'),
        ({"query": "q", "documents": [{"id": [], "text": "t"}]}, '"id" of document 0'),
        ({"query": "q", "documents": [{"video": "file:///v.mp4"}]}, "a Video takes"),
        ({"id": True, "query": "q", "documents": []}, '"id" of the line'),
        ({"query": " ", "documents": ["a"]}, "query is blank"),
        ({"query": "q", "documents": [{"image": "https://a.example/i.png"}]}, "takes texts only"),
    ],
)
def test_a_bad_line_is_noted_and_the_rest_goes_on(tmp_path, capfd, line, reason):
    """It goes to --errors with its number and reason; the exit code says that lines failed."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", RED, line, RED)

    assert rank(source, out, "--errors", str(errors)) == 4

    assert set(read(out)) == {1, 3}
    noted = read(errors)
    assert set(noted) == {2}
    assert reason in noted[2]["reason"]
    assert noted[2]["error"] in ("InvalidLine", "RequestError")
    assert f"what failed is in {errors}" in capfd.readouterr().err


def test_what_the_service_refuses_is_noted_with_its_code(tmp_path, emulator):
    """A refused list is noted with the service's code."""
    emulator.fault("400-content", holding="bad word")
    out, errors = tmp_path / "out", tmp_path / "errors"
    bad = {"id": "b", "query": "q", "documents": ["a bad word"]}

    assert rank(write(tmp_path / "in", RED, bad, RED), out, "--errors", str(errors)) == 4

    noted = read(errors)[2]
    assert (noted["id"], noted["error"], noted["code"]) == (
        *("b", "ContentError"),
        "DataInspectionFailed",
    )
    assert set(read(out)) == {1, 3}


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


def test_a_line_of_any_length(tmp_path, monkeypatch):
    """A line without an end does not fill the memory."""
    monkeypatch.setattr("qwen_rerank.cli._records._LONGEST", 1000)
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", RED, b"x" * 5000, RED, b"y" * 3000)

    assert rank(source, out, "--errors", str(errors)) == 4

    assert set(read(out)) == {1, 3}
    assert [noted["reason"] for noted in read(errors).values()] == [
        "the line is longer than 1,000 bytes"
    ] * 2


def test_pipes(tmp_path, capfd, monkeypatch):
    """- reads standard input and writes standard output, where nothing else is said."""
    with open(write(tmp_path / "in", RED, RED)) as file:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", file)
        assert rank("-", "-") == 0
    out, err = capfd.readouterr()
    assert {json.loads(line)["line"] for line in out.splitlines()} == {1, 2}
    assert err.count("\n") == 1


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_gzipped_input(tmp_path, emulator, capfd, harm):
    """What ends in .gz is unzipped. If it is damaged, all that can be read of it is ranked."""
    plain, source, out = tmp_path / "in", tmp_path / "in.jsonl.gz", tmp_path / "out"
    many(plain, 20)
    zipped = gzip.compress(plain.read_bytes())
    damaged = bytearray(zipped[:-600] if harm == "cut" else zipped)
    if harm == "flipped":
        damaged[-500] ^= 255
    source.write_bytes(damaged)
    emulator.script(*[Reply(delay=0.3)] * 4)  # of lines in flight when the end comes

    assert rank(source, out) == 1

    assert len(read(out)) >= 4
    assert len(read(out)) == len(emulator.log)
    said = capfd.readouterr().err
    assert "in.jsonl.gz: " in said
    assert f"{len(read(out))} lines ranked, " in said
    if harm == "cut":
        source.write_bytes(zipped)
        assert rank(source, out, "--resume") == 0
        assert set(read(out)) == set(range(1, 21))


def test_trec_in_and_out(tmp_path):
    """A run with its texts goes in, a run with strictly falling scores comes out."""
    corpus = write(
        tmp_path / "corpus",
        {"_id": "d1", "text": "green tea"},
        {"_id": "d2", "title": "A red", "text": "sports car"},
        {"_id": "d3", "text": ""},
    )
    queries = tmp_path / "queries.tsv"
    queries.write_text("q1\ta red car\nq2\ttea\n")
    run = tmp_path / "run"
    run.write_text(
        "q1 Q0 d3 1 9 bm25\nq1 Q0 d1 2 9 bm25\nq1 Q0 d2 3 8 bm25\n"
        "q2 Q0 d2 1 2 bm25\nq2 Q0 d1 2 1 bm25\n"
    )
    out = tmp_path / "out"
    arguments = ["--run", str(run), "--corpus", corpus, "--queries", str(queries)]

    assert main(["rerank", *arguments, "--output", str(out), "--format", "trec"]) == 0

    rows = sorted(line.split() for line in out.read_text().splitlines())
    assert sorted(rows, key=lambda row: (row[0], int(row[3]))) == [
        ["q1", "Q0", "d2", "1", "3", "qwen3-rerank"],
        ["q1", "Q0", "d1", "2", "2", "qwen3-rerank"],
        ["q1", "Q0", "d3", "3", "1", "qwen3-rerank"],
        ["q2", "Q0", "d1", "1", "2", "qwen3-rerank"],
        ["q2", "Q0", "d2", "2", "1", "qwen3-rerank"],
    ]


def test_what_a_run_names_has_to_be_there(tmp_path):
    """A query or document without a text is a failed line."""
    corpus = write(tmp_path / "corpus", {"id": "d1", "text": "green tea"})
    queries = write(tmp_path / "queries", {"id": "q1", "text": "tea"}, {"id": 2, "text": "tea"})
    run = tmp_path / "run"
    run.write_text("q1 Q0 d1 1 1 x\n2 Q0 d1 1 1 x\n2 Q0 d2 1 1 x\nq3 Q0 d1 1 1 x\n")
    out, errors = tmp_path / "out", tmp_path / "errors"
    texts = ["--run", str(run), "--corpus", corpus, "--queries", queries]

    assert main(["rerank", *texts, "--output", str(out), "--errors", str(errors)]) == 4

    assert set(read(out)) == {1}
    assert {each["id"]: each["reason"] for each in read(errors).values()} == {
        "2": "document 'd2' is not in --corpus",
        "q3": "query 'q3' is not in --queries",
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("corpus", "plain", "corpus, line 1 is neither JSON nor"),
        ("corpus", "{", "corpus, line 1: the line is not JSON"),
        ("corpus", '{"_id": "d1"}', 'corpus, line 1 needs "_id" or "id", and "text"'),
        ("corpus", "d1\ta\nd1\tb", "corpus has an id twice"),
        ("queries", "q1\t\udcff", "queries, line 1 is not UTF-8"),
        ("queries", "q1\t" + "x" * 5000, "queries, line 1 is too long"),
        ("run", "q1 Q0 d1 1 1 x\nq1", "run, line 2 is no line of a run"),
    ],
)
def test_texts_that_make_no_sense(tmp_path, monkeypatch, capfd, name, text, said):
    """A corpus, queries or a run that is wrong is refused with its line."""
    monkeypatch.setattr("qwen_rerank.cli._records._LONGEST", 4096)
    monkeypatch.chdir(tmp_path)
    files = {"corpus": "d1\ttea", "queries": "q1\ttea", "run": "q1 Q0 d1 1 1 x"} | {name: text}
    for each, content in files.items():
        (tmp_path / each).write_text(content, errors="surrogateescape")
    arguments = ["--run", "run", "--corpus", "corpus", "--queries", "queries", "--output", "out"]

    assert main(["rerank", *arguments]) == 2

    assert said in capfd.readouterr().err


def test_no_room_for_the_texts(tmp_path, monkeypatch, capfd):
    """A temporary folder that is full ends in a sentence."""
    texts = Collection()

    def full(*_):
        yield "d1", "a text"
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("qwen_rerank.cli.rerank.flow.Collection", lambda: texts)
    monkeypatch.setattr("qwen_rerank.cli._runs._texts", full)
    write(tmp_path / "empty")
    arguments = [f"--{name}={tmp_path / 'empty'}" for name in ("run", "corpus", "queries")]

    assert main(["rerank", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert "the temporary file of texts: database or disk is full" in capfd.readouterr().err


def test_closed_standard_input(monkeypatch, tmp_path, capfd):
    """Without a standard input, - is refused."""
    monkeypatch.setattr("sys.stdin", None)
    assert rank("-", tmp_path / "out") == 2
    assert "standard input is closed" in capfd.readouterr().err


def test_an_empty_run_is_no_mistake(tmp_path):
    """There is nothing to do, and that is done."""
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.write_text("")
    texts = ["--corpus", str(empty), "--queries", str(empty)]
    assert main(["rerank", "--run", str(empty), *texts, "--output", str(out)]) == 0
    assert rank(empty, out, "--resume") == 0
    assert out.read_text() == ""


def test_what_was_cut_is_said(tmp_path):
    """A line tells which documents, and whether the query, were scored by their head."""
    out = tmp_path / "out"
    long = "red " * 9000
    source = write(tmp_path / "in", {"query": long, "documents": ["red", long]})

    assert rank(source, out) == 0

    assert read(out)[1]["truncated"] == [1]
    assert read(out)[1]["query_truncated"] is True


@pytest.mark.parametrize("end", ["head", "tail"])
def test_the_end_of_a_query(tmp_path, emulator, end):
    """--long-query says which end is asked; an output of the other end is not gone on with."""
    out = tmp_path / "out"
    query = "green tea " * 5_000 + "a red car"
    source = write(tmp_path / "in", {"query": query, "documents": ["a red car"]})

    assert rank(source, out, "--long-query", end) == 0

    [asked] = [entry.body["input"]["query"] for entry in emulator.log]
    assert query.startswith(asked) if end == "head" else query.endswith(asked)
    other = "tail" if end == "head" else "head"
    assert rank(source, out, "--long-query", other, "--resume") == 2


def test_warnings_are_told_with_their_line(tmp_path, capfd):
    """The first five are shown with the line they are about, and then only counted."""
    out = tmp_path / "out"
    long = {"query": "red " * 9_000, "documents": ["red"]}

    assert rank(write(tmp_path / "in", RED, *[long] * 7, RED), out) == 0

    said = capfd.readouterr().err.splitlines()
    told = [line for line in said if "The query is too long" in line]
    assert len({line.partition(": ")[2].partition(": ")[0] for line in told}) == len(told) == 5
    assert all(re.match(r"qwen-rerank rerank: line [2-8]: The query is too long", x) for x in told)
    assert "9 lines ranked, 2 more warnings, " in said[-1]


def test_ids_that_a_run_cannot_hold(tmp_path):
    """In a TREC run an id has no white space and stands once; places stand for missing ids."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    twice = [{"id": "d", "text": "a"}, {"id": "d", "text": "b"}]
    source = write(
        tmp_path / "in",
        RED | {"id": "a b"},
        {"query": "q", "documents": twice},
        {"query": "q", "documents": [{"id": "", "text": "a"}]},
        RED,
    )

    assert rank(source, out, "--format", "trec", "--errors", str(errors)) == 4

    assert set(read(errors)) == {1, 2, 3}
    assert out.read_text() == "4 Q0 1 1 2 qwen3-rerank\n4 Q0 0 2 1 qwen3-rerank\n"


def test_an_id_stands_in_a_run_once(tmp_path):
    """Two lists of one id, in whatever runs they are ranked, are not mixed into one."""
    source, out, errors = tmp_path / "in", tmp_path / "out", tmp_path / "errors"
    arguments = ["--format", "trec", "--errors", str(errors), "--resume"]
    write(source, RED | {"id": "a"}, RED | {"id": 3})
    assert rank(source, out, *arguments) == 0

    write(source, RED | {"id": "a"}, RED | {"id": 3}, RED, RED | {"id": "a"}, RED)
    assert rank(source, out, *arguments) == 4

    assert {number: each["reason"] for number, each in read(errors).items()} == {
        3: "an id of another line, '3', cannot stand in a TREC run again",
        4: "an id of another line, 'a', cannot stand in a TREC run again",
    }
    assert sorted(line.split()[0] for line in out.read_text().splitlines()) == [*"3355aa"]


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


def test_resuming_sends_only_what_is_missing(tmp_path, emulator):
    """Finished and failed lines are not sent again; lines that were added are new."""
    source, out, errors = tmp_path / "in", tmp_path / "out", tmp_path / "errors"
    write(source, RED, b"{", RED)
    arguments = ["--errors", str(errors), "--resume"]  # of nothing, it begins
    assert rank(source, out, *arguments) == 4
    emulator.clear()

    assert rank(source, out, *arguments) == 4
    assert not emulator.log
    write(source, RED, b"{", RED, RED)
    assert rank(source, out, *arguments) == 4
    assert len(emulator.log) == 1
    assert set(read(out)) == {1, 3, 4}
    assert set(read(errors)) == {2}


@pytest.mark.parametrize(
    ("lines", "arguments", "said"),
    [
        ([RED | {"query": "another"}, RED], [], "line 1 of the input has changed"),
        ([RED], [], "the input now ends at line 1, but the output has line 2"),
        ([RED, RED], ["--top-n", "1"], "an option that results depend on"),
        ([RED, RED], ["--model", "qwen3.7-text-rerank"], "an option that results depend on"),
        ([RED, RED], ["--instruct", "Find cars."], "an option that results depend on"),
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


def test_max_tokens_stops_cleanly(tmp_path, capfd):
    """The exit code says so, what was paid for is there, and --resume goes on."""
    source, out = many(tmp_path / "in", 12), tmp_path / "out"
    arguments = ["--concurrency", "1", "--max-tokens", "100"]

    assert rank(source, out, *arguments) == 3

    first = read(out)
    assert sum(line["tokens"] for line in first.values()) >= 100
    assert sorted(first) == list(range(1, len(first) + 1))
    assert len(first) < 6
    assert "--max-tokens is reached" in capfd.readouterr().err
    runs = 1
    while (code := rank(source, out, "--resume", *arguments)) == 3:
        runs += 1
    assert code == 0
    assert runs > 2
    assert set(read(out)) == set(range(1, 13))


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


@pytest.mark.parametrize("name", ["429-rate", "503", "reset-before"])
def test_what_passes_is_waited_for(tmp_path, emulator, name):
    """Throttling and outages fail no line."""
    emulator.fault(name, first=40)
    out = tmp_path / "out"

    assert rank(many(tmp_path / "in", 10), out) == 0

    assert set(read(out)) == set(range(1, 11))
    assert len(emulator.log) >= 50


def test_a_line_that_always_fails_is_given_up(tmp_path, emulator):
    """While others get through, a line is tried four times, each with the core's own retries."""
    emulator.fault("503", holding="cursed")
    out, errors = tmp_path / "out", tmp_path / "errors"
    cursed = {"query": "q", "documents": ["cursed"]}
    source = write(tmp_path / "in", RED, cursed, *[RED] * 60)

    assert rank(source, out, "--errors", str(errors), "--concurrency", "2") == 4

    assert {each["error"] for each in read(errors).values()} == {"ServiceError"}
    assert set(read(errors)) == {2}


def test_throttling_without_end_ends_the_run(tmp_path, emulator, capfd):
    """No line fails by it: after --patience the run stops, and --resume goes on."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = many(tmp_path / "in", 6)
    emulator.fault("429-rate")
    arguments = ["--errors", str(errors), "--patience", "1"]

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


@pytest.mark.parametrize("name", ["result-missing", "html-200", "no-answer"])
def test_an_outage_of_any_kind_fails_no_line(tmp_path, emulator, capfd, monkeypatch, name):
    """While nothing gets through, no line is written off, and --resume ranks them all."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._AT_FIRST", 0.3)
    emulator.fault(name)
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = many(tmp_path / "in", 60)
    arguments = ["--errors", str(errors), "--timeout", "0.2", "--concurrency", "16"]

    assert rank(source, out, *arguments) == 1

    assert "no line got through any more: " in capfd.readouterr().err
    assert not errors.read_text()
    emulator.clear()
    assert rank(source, out, "--errors", str(errors), "--resume") == 0
    assert set(read(out)) == set(range(1, 61))


def test_a_line_that_failed_in_an_outage_is_not_its_own_fault(tmp_path, emulator):
    """Only tries that failed while others got through count against a line."""
    emulator.fault("503", first=60)
    emulator.fault("503", holding="unlucky")
    threading.Timer(0.5, emulator.clear).start()
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", {"query": "q", "documents": ["unlucky"]})

    assert rank(source, out, "--errors", str(errors)) == 0

    assert not errors.read_text()


def test_one_line_holds_up_no_other(tmp_path, emulator):
    """With one request in flight a line that never gets through is passed over, too."""
    emulator.fault("503", holding="cursed")
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", {"query": "q", "documents": ["cursed"]}, *[RED] * 40)

    assert rank(source, out, "--errors", str(errors), "--concurrency", "1") == 4

    assert set(read(errors)) == {1}
    assert set(read(out)) == set(range(2, 42))


def test_refused_content_blocks_nothing(tmp_path, emulator):
    """However many lines moderation refuses at the head, the others are ranked."""
    emulator.fault("400-content", holding="bad word")
    bad = {"query": "q", "documents": ["a bad word"]}
    out = tmp_path / "out"

    assert rank(write(tmp_path / "in", *[bad] * 25, *[RED] * 5), out) == 4

    assert set(read(out)) == set(range(26, 31))


def test_a_wrong_request_is_not_made_of_every_line(tmp_path, capfd, emulator):
    """If all that the service does is refuse, the run stops, and says what would pass over it."""
    out = tmp_path / "out"
    source = many(tmp_path / "in", 60)

    assert rank(source, out, "--model", "qwen9") == 1

    said = capfd.readouterr().err
    assert "line after line failed, the last so: RequestError: " in said
    assert "with --errors FILE, --resume passes over such lines" in said
    assert len(emulator.log) < 40


@pytest.mark.parametrize(
    ("variable", "value"), [("HTTPS_PROXY", "ftp://h"), ("CURL_CA_BUNDLE", "/none.pem")]
)
def test_surroundings_that_stop_every_call(tmp_path, capfd, monkeypatch, variable, value):
    """A proxy or certificates that cannot be followed are complained of once, not per line."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "https://dashscope.aliyuncs.com")
    monkeypatch.setenv(variable, value)
    out = tmp_path / "out"

    assert rank(many(tmp_path / "in", 9), out) == 2

    assert capfd.readouterr().err.count(variable) == 1
    assert not out.exists()


def test_a_file_of_something_else(tmp_path, capfd, emulator):
    """A file in which no line is a list is given up early."""
    source = tmp_path / "in"
    source.write_text(json.dumps([RED] * 99, indent=1))

    assert rank(source, tmp_path / "out") == 1

    said = capfd.readouterr().err
    assert "line after line failed, the last so: InvalidLine: the line is" in said
    assert said.count("\n") < 30
    assert not emulator.log


@pytest.mark.parametrize("blank", ["", "\n\n"])
def test_a_run_that_is_given_as_input(tmp_path, capfd, emulator, blank):
    """It is refused as a whole, with the option that takes it, and leaves nothing in the way."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_text(f"{blank}q1 Q0 d1 1 9.5 bm25\nq1 Q0 d2 2 9.1 bm25\n")

    assert rank(source, out, "--errors", str(tmp_path / "errors")) == 2

    assert f"{source} is a TREC run: name it with --run" in capfd.readouterr().err
    assert not emulator.log
    assert rank(write(source, RED), out, "--errors", str(tmp_path / "errors")) == 0


def test_lists_that_are_given_as_a_run(tmp_path, capfd):
    """The other way round they are sent to where they belong as well."""
    texts = write(tmp_path / "texts", {"id": "d1", "text": "tea"})
    lists = write(tmp_path / "in", RED)
    arguments = ["--run", lists, "--corpus", texts, "--queries", texts]

    assert main(["rerank", *arguments, "--output", str(tmp_path / "out")]) == 2

    assert "is a list to rank, which `qwen-rerank rerank` takes as INPUT" in capfd.readouterr().err


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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")  # noqa: PTH110  as above
@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["anew", "resumed"])
@pytest.mark.parametrize(("device", "code"), [("/dev/full", 2), ("/dev/zero", 0), ("/dev/null", 0)])
def test_an_output_without_end(tmp_path, monkeypatch, capfd, fmt, more, device, code):
    """A device that could be read for ever is only written to, and nothing is put beside it."""
    opened = Path.open

    def nothing_endless(path, *arguments, **options):
        assert str(path) != device
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", nothing_endless)

    assert rank(write(tmp_path / "in", RED), device, "--format", fmt, *more) == code

    assert ("/dev/full: No space left on device" in capfd.readouterr().err) is bool(code)
    assert not Path(f"{device}.journal").exists()


def test_errors_without_room(tmp_path, capfd):
    """A file of errors that takes nothing ends the run as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("no such device")

    assert rank(write(tmp_path / "in", b"{"), tmp_path / "out", "--errors", "/dev/full") == 2

    assert "/dev/full: No space left on device" in capfd.readouterr().err


def test_a_line_that_claims_to_be_far_away(tmp_path, capfd):
    """An odd number in an output is one more line of it, and asks for no memory."""
    source, out = write(tmp_path / "in", RED, RED), tmp_path / "out"
    assert rank(source, out) == 0
    with out.open("a") as file:
        for number in (9_999_999_999, 5_000_000_000):
            file.write(f'{{"line":{number},"fingerprint":"00000001","results":[]}}\n')
    tracemalloc.start()

    assert rank(source, out, "--resume") == 2

    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()
    said = capfd.readouterr().err
    assert "ends at line 2, but the output has line 9999999999\n" in said
    assert "--resume goes on" not in said  # it would end like this again


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
        (b"mine" * 99 + b"\n", 2),
        (b'{"line":3,"fingerprint":"1"}\n', 2),
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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT])
@pytest.mark.parametrize("name", ["out", "out.journal", "errors"])
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


@pytest.mark.parametrize("by", [-3_600, 3_600])
@pytest.mark.parametrize("fault", ["429-rate", "429-after-date", "503"])
def test_a_clock_that_jumps(tmp_path, monkeypatch, capfd, emulator, fault, by):
    """An hour more or less each time it is read: no line fails for it, or waits beyond patience."""
    jumps, really, here = itertools.count(), time.time, threading.current_thread()

    def jumping():
        return really() + (by * next(jumps) if threading.current_thread() is here else 0)

    monkeypatch.setattr("time.time", jumping)
    emulator.fault(fault, first=3)

    assert rank(many(tmp_path / "in", 9), tmp_path / "out", "--patience", "0.2") == 0

    assert set(read(tmp_path / "out")) == set(range(1, 10))
    assert "9 lines ranked" in capfd.readouterr().err


def test_a_mended_line_is_tried_again(tmp_path, capfd):
    """A failed line may be corrected in the input, or with other options; the rest stays done."""
    source, out, errors = tmp_path / "in", tmp_path / "out", tmp_path / "errors"
    write(source, RED, RED | {"query": " "}, b"{")
    assert rank(source, out, "--errors", str(errors)) == 4

    write(source, RED, RED, b"{")
    assert rank(source, out, "--errors", str(errors), "--resume") == 4

    assert set(read(out)) == {1, 2}
    assert "1 line ranked, 1 done before, 1 failed before, " in capfd.readouterr().err
    write(source, RED, RED, RED)
    assert rank(source, out, "--errors", str(errors), "--resume") == 0
    assert set(read(out)) == {1, 2, 3}


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


def test_an_address_where_nobody_is(tmp_path, monkeypatch, capfd):
    """It is told soon, not after ten minutes."""
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._AT_FIRST", 0.1)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:9/api/v1")

    assert rank(write(tmp_path / "in", RED), tmp_path / "out") == 1

    assert "no line got through any more: ServiceError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "o"], "either INPUT or --run"),
        (["i", "--run", "r", "--output", "o"], "either INPUT or --run"),
        (["--run", "r", "--output", "o"], "belong together"),
        (["i", "--corpus", "c", "--output", "o"], "belong together"),
        (["i"], "--output"),
        (["i", "--output", "o", "--timeout", "0"], "'0' is not a number of seconds"),
        (["i", "--output", "o", "--patience", "nan"], "'nan' is not a number of seconds"),
        (["i", "--output", "o", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["i", "--output", "o", "--api-key", "sk-secret"], "use --api-key-env NAME"),
        (["i", "--output", "o", "--api-key=sk-secret"], "use --api-key-env NAME"),
        (["i", "--output", "o", "--api-key"], "use --api-key-env NAME"),
    ],
)
def test_wrong_arguments(capsys, arguments, said):
    """They end in the usage; a key is no argument, and is not shown."""
    assert main(["rerank", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing", "--output", "o"], "No such file"),
        (["in", "--output", "no/such/folder"], "No such file"),
        (["in", "--output", "-", "--resume"], "cannot be resumed"),
        (["in", "--output", "o", "--errors", "o"], "must be two files"),
        (["in", "--output", "o", "--errors", "-"], "--errors takes a file"),
        (["in", "--output", "pipe"], "pipe is no file but a pipe; - is standard output"),
        (["bad\x1b[31m", "--output", "o"], "bad\\x1b[31m: No such file"),
        (["in", "--output", "o", "--api-key-env", "NOWHERE"], "variable that holds a key"),
        (["in", "--output", "o", "--api-key-env", "sk-1"], "variable that holds a key"),
        (
            ["in", "--output", "o", "--header-env", "X-A=NOWHERE"],
            "--header-env takes NAME=VARIABLE",
        ),
        (
            ["in", "--output", "o", "--header-env", "X-A: secret"],
            "--header-env takes NAME=VARIABLE",
        ),
        (["in", "--output", "o", "--header-env", "Host=HOME"], "--header-env: 'host' is set by"),
        (["in", "--output", "o", "--server", "vlm"], "server: "),
        (["in", "--output", "o", "--base-url", "http://10.0.0.1/api/v1"], "plain http"),
    ],
)
def test_wrong_settings(tmp_path, monkeypatch, capfd, arguments, said):
    """One sentence, before anything is sent."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in", RED)
    os.mkfifo(tmp_path / "pipe")

    assert main(["rerank", *arguments]) == 2

    err = capfd.readouterr().err
    assert said in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_a_server_of_ones_own(tmp_path, emulator, monkeypatch):
    """--server speaks its dialect; no key is looked for."""
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    url = emulator.server_url("tei")
    out = tmp_path / "out"

    assert rank(write(tmp_path / "in", RED), out, "--server", "tei", "--base-url", url) == 0

    assert [hit["index"] for hit in read(out)[1]["results"]] == [1, 0]


def test_a_key_by_the_name_of_its_variable(tmp_path, monkeypatch, emulator):
    """--api-key-env names the variable; the key itself is nobody's business."""
    monkeypatch.setenv("OTHER_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-wrong")
    out = tmp_path / "out"

    assert rank(write(tmp_path / "in", RED), out, "--api-key-env", "OTHER_KEY") == 0


def test_a_header_by_the_name_of_its_variable(tmp_path, monkeypatch, emulator):
    """--header-env adds a header to every request."""
    monkeypatch.setenv("TENANT", "seven")

    assert rank(write(tmp_path / "in", RED), tmp_path / "out", "--header-env", "X-T=TENANT") == 0
    assert {seen.headers["x-t"] for seen in emulator.log} == {"seven"}


@pytest.mark.parametrize(("interrupts", "kept"), [(1, 2), (2, 0)])
def test_ctrl_c_finishes_what_is_paid_for(tmp_path, emulator, capfd, interrupts, kept):
    """The lines in flight are finished; a second Ctrl-C drops them. --resume goes on."""
    source, out = many(tmp_path / "in", 30), tmp_path / "out"
    done = threading.Event()

    def interrupt():
        while len(emulator.log) < 2 and not done.is_set():
            time.sleep(0.01)
        for _ in range(interrupts):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    def slowly(_):
        return Reply(delay=1.0 if kept else 9.0)

    emulator.script(slowly, slowly)
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    started = time.monotonic()
    try:
        code = rank(source, out, "--concurrency", "2")
    finally:
        done.set()
        interrupting.join()

    assert time.monotonic() - started < 5
    assert code == 130
    assert len(read(out)) == kept
    assert "finishing the lines in flight" in capfd.readouterr().err
    emulator.clear()
    assert rank(source, out, "--resume") == 0
    assert set(read(out)) == set(range(1, 31))


@pytest.mark.parametrize("piped", [False, True])
def test_a_terminal_sees_how_far_it_is(tmp_path, monkeypatch, emulator, capfd, piped):
    """Lines, rate, tokens and, of a file, the time left; the bar is gone at the end."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("qwen_rerank.cli.rerank.flow._SHOWN_EVERY", 0.05)
    monkeypatch.setattr("qwen_rerank.cli._records._LONGEST", 4096)  # is what is read ahead
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


def test_whoever_reads_the_output_may_leave(tmp_path):
    """`| head` ends it without a traceback."""
    source = many(tmp_path / "in", 60)
    with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
        [*COMMAND, source, "--output", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == ""


def test_a_slow_pipe_gets_each_line_at_once():
    """A line from a pipe is ranked when it comes, and Ctrl-C does not wait for the next."""
    with subprocess.Popen(  # noqa: S603  our own interpreter, our own code
        [*COMMAND, "-", "--output", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for number in (1, 2):
            process.stdin.write(json.dumps(RED) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["line"] == number
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Fatal" not in process.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["jsonl", "trec"])
def test_kill_9_and_resume(tmp_path, emulator, fmt):
    """Killed at any moment and started again, it neither repeats nor loses a line."""
    lines, arguments = 250, ["--format", fmt, "--concurrency", "6"]
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


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(tmp_path):
    """Six times the lines take no more memory."""
    code = (
        "import sys; from qwen_rerank.cli import main; code = main(sys.argv[1:]); "
        "print(open('/proc/self/statm').read()); sys.exit(code)"
    )
    resident = []
    for count in (100, 600):
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
