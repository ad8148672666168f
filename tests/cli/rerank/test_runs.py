"""`qwen-rerank rerank --run`: TREC runs, the texts that they name, and how files are opened."""

import gzip
import json
import sqlite3

import pytest
from bulk_files import RED, many, rank, read, write

from qwen_rerank.cli import main
from qwen_rerank.cli._runs import Collection
from qwen_rerank.emulator import Reply


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
    monkeypatch.setattr("qwen_rerank.cli._lines.LONGEST", 4096)
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


def test_the_texts_leave_no_file(tmp_path, monkeypatch):
    """While they are read there is nothing in the temporary folder that a kill could leave."""
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    corpus = write(tmp_path / "corpus", *({"id": n, "text": "tea " * 5_000} for n in range(300)))

    with Collection() as texts:
        texts.add_corpus(corpus)

        assert texts.document("299") == "tea " * 5_000
        assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(("stream", "name"), [("stdin", "input"), ("stdout", "output")])
def test_closed_streams(monkeypatch, tmp_path, capfd, emulator, stream, name):
    """Without a standard input or output, - is refused before anything is sent."""
    paths = {"stdin": write(tmp_path / "in", RED), "stdout": tmp_path / "out", stream: "-"}
    monkeypatch.setattr(f"sys.{stream}", None)
    assert rank(*paths.values()) == 2
    assert f"standard {name} is closed" in capfd.readouterr().err
    assert emulator.log == ()


def test_an_empty_run_is_no_mistake(tmp_path):
    """There is nothing to do, and that is done."""
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.write_text("")
    texts = ["--corpus", str(empty), "--queries", str(empty)]
    assert main(["rerank", "--run", str(empty), *texts, "--output", str(out)]) == 0
    assert rank(empty, out, "--resume") == 0
    assert out.read_text() == ""


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
