"""`qwen-rerank evaluate`: its figures against ir_measures, its test, and what it refuses."""

import gzip
import itertools
import json

import ir_measures
import pytest
from ir_measures import RR, R, nDCG

from qwen_rerank.cli import main
from qwen_rerank.cli._runs import Ranked
from qwen_rerank.cli.evaluate.compare import compared, measured, measures_of

QRELS = "q1 0 a 1\nq1 0 b 2\nq2 0 c 1\nq3 0 d 1\n"


@pytest.fixture
def qrels(tmp_path):
    """A file of judgements."""
    path = tmp_path / "qrels"
    path.write_text(QRELS)
    return str(path)


def run(tmp_path, name, text):
    """A file of a run."""
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def as_json(capfd, qrels, *runs, arguments=()):
    """What --json prints."""
    named = itertools.chain.from_iterable(("--run", each) for each in runs)
    assert main(["evaluate", "--qrels", qrels, *named, "--json", *arguments]) == 0
    return json.loads(capfd.readouterr().out)


def test_the_tables(tmp_path, qrels, capfd):
    """Means of each run, the difference with its test, and the queries that changed most."""
    before = run(tmp_path, "before.trec", "q1 Q0 a 1 2 x\nq1 Q0 b 2 1 x\nq2 Q0 z 1 1 x\n")
    after = run(tmp_path, "after.trec", "q1 Q0 b 1 2 x\nq1 Q0 a 2 1 x\nq2 Q0 c 1 1 x\n")

    assert main(["evaluate", "--qrels", qrels, "--run", before, "--run", after]) == 0

    out = " ".join(capfd.readouterr().out.split())
    assert "nDCG@10 │ 0.287 │ 0.667" in out
    assert "after against before" in out
    assert "nDCG@10 │ +0.380 │ 0.5000 │ 2 │ 1 │ 0" in out
    assert "q2 │ 0.000 │ 1.000 │ +1.000" in out
    assert "Means over all 3 judged queries" in out
    assert "after: lacks 1 of the judged queries." in out


def test_it_is_what_ir_measures_says(tmp_path, qrels, capfd):
    """Every figure of a run without ties is that of ir_measures called directly."""
    text = "q1 Q0 z 1 9 x\nq1 Q0 b 2 8 x\nq1 Q0 a 3 7 x\nq2 Q0 c 1 1 x\nq9 Q0 c 1 1 x\n"
    path = run(tmp_path, "run", text)
    wanted = [nDCG @ 10, RR, R @ 100, nDCG @ 1]
    names = [name for measure in wanted for name in ("--measure", str(measure))]

    found = as_json(capfd, qrels, path, arguments=names)

    expected = ir_measures.calc_aggregate(
        wanted, list(ir_measures.read_trec_qrels(QRELS)), list(ir_measures.read_trec_run(text))
    )
    assert found["runs"][0]["means"] == pytest.approx(
        {str(measure): value for measure, value in expected.items()}
    )
    assert (found["runs"][0]["missing"], found["runs"][0]["unjudged"]) == (1, 1)


def test_equal_scores_keep_the_order_of_the_file(tmp_path, qrels, capfd):
    """Neither the ids nor the ranks decide, and the run is said to have ties."""
    first = run(tmp_path, "first", "q2 Q0 c 2 1.0 x\nq2 Q0 z 1 1.0 x\n")
    second = run(tmp_path, "second", "q2 Q0 z 2 1.0 x\nq2 Q0 c 1 1.0 x\n")

    found = as_json(capfd, qrels, first, second, arguments=["--measure", "RR"])

    assert [each["means"]["RR"] for each in found["runs"]] == pytest.approx([1 / 3, 1 / 6])
    assert [each["tied"] for each in found["runs"]] == [1, 1]


def test_every_form_of_a_run_is_the_same(tmp_path, qrels, capfd):
    """A TREC run, lists with tabs, gzipped ones and our own JSON lines are read alike."""
    trec = run(tmp_path, "trec", "q1 Q0 z 1 3 x\nq1 Q0 b 2 2 x\nq1 Q0 a 3 1 x\n")
    tabs = run(tmp_path, "tabs", "q1\tz\tb\ta\n")
    zipped = tmp_path / "zipped.gz"
    zipped.write_bytes(gzip.compress(b"q1\tz\tb\ta\n"))
    results = [{"index": 0, "id": name, "score": None} for name in "zba"]
    lines = run(tmp_path, "lines", json.dumps({"line": 1, "id": "q1", "results": results}))

    found = as_json(capfd, qrels, trec, tabs, str(zipped), lines)

    means = [each["means"] for each in found["runs"]]
    assert means == [means[0]] * 4
    assert all(each["difference"] == 0 and each["p"] == 1 for each in found["comparisons"])


def test_judgements_of_beir(tmp_path, capfd):
    """Three columns with a head are read like four without."""
    qrels = run(tmp_path, "qrels.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    found = as_json(capfd, qrels, run(tmp_path, "run", "q1\ta\n"))
    assert found["queries"] == 1
    assert found["runs"][0]["means"]["RR"] == 1


def test_names(tmp_path, qrels, capfd):
    """A run may be named; equal names become paths; the same file twice needs names."""
    (tmp_path / "x").mkdir()
    one, two = run(tmp_path, "run.trec", "q1\ta\n"), run(tmp_path, "x/run.trec", "q1\tb\n")

    found = as_json(capfd, qrels, one, two)
    assert [each["name"] for each in found["runs"]] == [one, two]
    found = as_json(capfd, qrels, f"old={one}", f"new={one}")
    assert [each["name"] for each in found["runs"]] == ["old", "new"]
    assert main(["evaluate", "--qrels", qrels, "--run", one, "--run", one]) == 2
    assert "NAME=FILE" in capfd.readouterr().err


def test_text_of_others_is_only_shown(tmp_path, capfd):
    """Ids with markup or control characters neither break nor colour the tables."""
    qrels = run(tmp_path, "qrels", "[/red]\x1b[2J 0 a 1\n")
    before, after = (
        run(tmp_path, name, f"[/red]\x1b[2J\t{documents}\n")
        for name, documents in (("b", "z\ta"), ("a", "a\tz"))
    )

    assert main(["evaluate", "--qrels", qrels, "--run", f"[x]={before}", "--run", after]) == 0

    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert r"[/red]\x1b[2J" in out
    assert "[x]" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q1 Q0 a 1 2 x\nq1 Q0 a 2 1 x\n", "query 'q1' has a document twice"),
        ("q1 Q0 a 1 2 x\nq2 Q0 a 1 1 x\nq1 Q0 b 2 1 x\n", "is there twice, or its lines"),
        ("q1 Q0 a 1 x x\n", "line 1 is no line of a run"),
        ("q1 Q0 a 1 nan x\n", "line 1 is no line of a run"),
        ("q1 Q0 a 1 2 x\nq1 a\n", "line 2 is no line of a run"),
        ("one two\n", "line 1 is no line of a run"),
        ('{"line": 1}\n', "has no 'results'"),
        ('{"line": 1, "results": [{"index": 0}]}\n', "has no 'id'"),
        ('{"line": 1, "results": 3}\n', "line 1: "),
        ("{\n", "line 1: the line is not JSON"),
    ],
)
def test_what_is_no_run(tmp_path, qrels, capfd, text, said):
    """One sentence, with the line, instead of a wrong figure."""
    assert main(["evaluate", "--qrels", qrels, "--run", run(tmp_path, "run", text)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no judgements"),
        ("query-id corpus-id score\n", "holds no judgements"),  # a head and nothing below it
        ("q d high\n", "line 1 is no judgement"),
        ("q 0 d 1\nq 0 d 0\n", "line 2 gives a document a second grade"),
        ("q 0 d 1\nq 0 d x\n", "line 2 is no judgement"),
        ("q 0 d 1 1\n", "line 1 is no judgement"),
    ],
)
def test_what_are_no_judgements(tmp_path, capfd, text, said):
    """Likewise."""
    good = run(tmp_path, "run", "q1\ta\n")
    assert main(["evaluate", "--qrels", run(tmp_path, "qrels", text), "--run", good]) == 2
    assert said in capfd.readouterr().err


def test_other_mistakes(tmp_path, qrels, capfd):
    """A file that is not there, one that is not UTF-8 and a measure that is none are said."""
    good = run(tmp_path, "run", "q1\ta\n")
    bad = tmp_path / "bad"
    bad.write_bytes(b"q1\t\xff\n")
    harmed = tmp_path / "harmed.gz"
    harmed.write_bytes(gzip.compress(b"q1\ta\n")[:10] + b"\xff" * 20)
    for arguments, said in (
        (["--run", "missing"], "No such file"),
        (["--run", str(bad)], "is not UTF-8"),
        (["--run", str(harmed)], "harmed.gz: "),
        (["--run", good, "--measure", "nDCC@10"], "is no measure"),
        (["--run", good, "--measure", "NumRet"], "counts over all queries"),
    ):
        assert main(["evaluate", "--qrels", qrels, *arguments]) == 2
        assert said in capfd.readouterr().err


def test_a_measure_that_fails(tmp_path, qrels, capfd, monkeypatch):
    """A measure that cannot be computed of these files ends in a sentence."""

    def fails(*_):
        raise RuntimeError

    monkeypatch.setattr(ir_measures, "iter_calc", fails)
    assert main(["evaluate", "--qrels", qrels, "--run", run(tmp_path, "run", "q1\ta\n")]) == 2
    assert "nDCG@10, RR, R@100 cannot be computed of run" in capfd.readouterr().err


def test_lines_with_an_id_need_no_number(tmp_path, qrels, capfd):
    """The id names a query; the line does only where there is none."""
    path = run(tmp_path, "run", '{"id": "q1", "results": [{"id": "b"}]}\n')
    assert as_json(capfd, qrels, path)["runs"][0]["missing"] == 2


def comparison(gains):
    """Two runs of one document a query, which differ by *gains* in reciprocal rank."""
    judged = {f"q{number}": {"good": 1} for number in range(len(gains))}
    orders = {1: ("good",), 0: ("bad", "good"), -1: ()}
    before, after = (
        measured(
            name,
            [
                Ranked(f"q{number}", orders[gain if name == "after" else 0])
                for number, gain in enumerate(gains)
            ],
            judged,
            measures_of(["RR"]),
        )
        for name in ("before", "after")
    )
    return compared(before, after, "RR")


def test_the_paired_test():
    """Few differences are counted exactly, many by a fixed lot; both are two-sided."""
    assert comparison([0, 0]).p == 1
    assert comparison([1]).p == 1
    assert comparison([1] * 5 + [0] * 9).p == pytest.approx(2 / 2**5)
    assert comparison([-1] * 10).p == pytest.approx(2 / 2**10)
    many = comparison([1] * 16 + [-1] * 9)
    assert many.p == comparison([1] * 16 + [-1] * 9).p
    assert many.p == pytest.approx(0.2295, abs=0.005)  # of the binomial distribution
    assert (many.wins, many.ties, many.losses) == (16, 0, 9)
    assert comparison([1] * 60).p == pytest.approx(1e-5, rel=0.01)
