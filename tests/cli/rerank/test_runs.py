"""`qwen-rerank rerank --run`: TREC runs, the texts that they name, and how files are opened."""

import gzip
import json
import sqlite3

import pytest
from bulk_files import RED

from qwen_rerank.cli import main
from qwen_rerank.cli._runs import Collection
from qwen_rerank.emulator import Reply


@pytest.fixture
def rank_run(job, tmp_path, monkeypatch):
    """Ranks a run with its texts; the exit code."""
    monkeypatch.chdir(tmp_path)
    files = ["--run", "run", "--corpus", "corpus", "--queries", "queries"]

    def rank_run(*arguments, **texts):
        for name, text in texts.items():
            (tmp_path / name).write_text(text, errors="surrogateescape")
        _, *output = job.arguments()  # without INPUT
        return main(["rerank", *files, *output, *arguments])

    return rank_run


def test_pipes(job, capfd, monkeypatch):
    """- reads standard input and writes standard output, where nothing else is said."""
    job.write(RED, RED)
    with job.source.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        job.source = job.output = "-"
        assert job.rank() == 0
    out, err = capfd.readouterr()
    assert {json.loads(line)["line"] for line in out.splitlines()} == {1, 2}
    assert err.count("\n") == 1


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_gzipped_input(job, emulator, capfd, harm):
    """What ends in .gz is unzipped. If it is damaged, all that can be read of it is ranked."""
    job.write_many(20)
    zipped = gzip.compress(job.source.read_bytes())
    damaged = bytearray(zipped[: len(zipped) * 3 // 4] if harm == "cut" else zipped)
    if harm == "flipped":
        damaged[-5] ^= 255  # of the checksum
    job.source = job.source.with_name("in.jsonl.gz")
    job.source.write_bytes(damaged)
    emulator.script(*[Reply(delay=0.3)] * 4)  # of lines in flight when the end comes

    assert job.rank() == 1

    assert len(emulator.log) == len(job.ranked) >= 4
    said = capfd.readouterr().err
    assert "in.jsonl.gz: " in said
    assert f"{len(job.ranked)} lines ranked, " in said
    if harm == "cut":
        job.source.write_bytes(zipped)
        assert job.rank("--resume") == 0
        assert set(job.ranked) == set(range(1, 21))


def test_trec_in_and_out(job, rank_run):
    """A run with its texts goes in, a run with strictly falling scores comes out."""
    corpus = [
        {"_id": "d1", "text": "green tea"},
        {"_id": "d2", "title": "A red", "text": "sports car"},
        {"_id": "d3", "text": ""},
    ]
    code = rank_run(
        *("--format", "trec"),
        run="q1 Q0 d3 1 9 bm25\nq1 Q0 d1 2 9 bm25\nq1 Q0 d2 3 8 bm25\n"
        "q2 Q0 d2 1 2 bm25\nq2 Q0 d1 2 1 bm25\n",
        corpus="\n".join(map(json.dumps, corpus)),
        queries="q1\ta red car\nq2\ttea\n",
    )

    assert code == 0
    lines = job.output.read_text().splitlines()
    assert sorted(lines, key=lambda line: (line[:2], line.split()[3])) == [
        "q1 Q0 d2 1 3 qwen3-rerank",
        "q1 Q0 d1 2 2 qwen3-rerank",
        "q1 Q0 d3 3 1 qwen3-rerank",
        "q2 Q0 d1 1 2 qwen3-rerank",
        "q2 Q0 d2 2 1 qwen3-rerank",
    ]


def test_what_a_run_names_has_to_be_there(job, rank_run):
    """A query or document without a text is a failed line."""
    code = rank_run(
        run="q1 Q0 d1 1 1 x\n2 Q0 d1 1 1 x\n2 Q0 d2 1 1 x\nq3 Q0 d1 1 1 x\n",
        corpus='{"id": "d1", "text": "green tea"}',
        queries='{"id": "q1", "text": "tea"}\n{"id": 2, "text": "tea"}',
    )

    assert code == 4
    assert set(job.ranked) == {1}
    assert {each["id"]: each["reason"] for each in job.failed.values()} == {
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
        ("run", json.dumps(RED), "is a list to rank, which `qwen-rerank rerank` takes as INPUT"),
    ],
)
def test_texts_that_make_no_sense(rank_run, monkeypatch, capfd, name, text, said):
    """A corpus, queries or a run that is wrong is refused with its line."""
    monkeypatch.setattr("qwen_rerank.cli._lines.LONGEST", 4096)
    files = {"corpus": "d1\ttea", "queries": "q1\ttea", "run": "q1 Q0 d1 1 1 x"}

    assert rank_run(**files | {name: text}) == 2

    assert said in capfd.readouterr().err


def test_no_room_for_the_texts(rank_run, monkeypatch, capfd):
    """A temporary folder that is full ends in a sentence."""

    def full(*_):
        yield "d1", "a text"
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("qwen_rerank.cli._runs._texts", full)

    assert rank_run(run="", corpus="", queries="") == 2
    assert "the temporary file of texts: database or disk is full" in capfd.readouterr().err


def test_the_texts_leave_no_file(tmp_path, monkeypatch):
    """While they are read there is nothing in the temporary folder that a kill could leave."""
    temporary, corpus, text = tmp_path / "temporary", tmp_path / "corpus", "green tea " * 2_000
    temporary.mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    corpus.write_text("".join(f"{number}\t{text}.\n" for number in range(300)))

    with Collection() as texts:
        texts.add_corpus(str(corpus))

        assert texts.document("299") == f"{text}."
        assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("stream", "name", "part"), [("stdin", "input", "source"), ("stdout", "output", "output")]
)
def test_closed_streams(job, monkeypatch, capfd, emulator, stream, name, part):
    """Without a standard input or output, - is refused before anything is sent."""
    job.write(RED)
    setattr(job, part, "-")
    monkeypatch.setattr(f"sys.{stream}", None)
    assert job.rank() == 2
    assert f"standard {name} is closed" in capfd.readouterr().err
    assert emulator.log == ()


def test_an_empty_run_is_no_mistake(job, rank_run):
    """There is nothing to do, and that is done."""
    assert rank_run(run="", corpus="", queries="") == 0
    job.write()
    assert job.rank("--resume") == 0
    assert job.output.read_text() == ""


def test_a_run_that_is_given_as_input(job, capfd, emulator):
    """It is refused as a whole, with the option that takes it, and leaves nothing in the way."""
    job.write(b"", b"q1 Q0 d1 1 9.5 bm25", b"q1 Q0 d2 2 9.1 bm25")

    assert job.rank() == 2

    assert f"{job.source} is a TREC run: name it with --run" in capfd.readouterr().err
    assert not emulator.log
    job.write(RED)
    assert job.rank() == 0
