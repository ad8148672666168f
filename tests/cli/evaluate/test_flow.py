"""`qwen-rerank evaluate`: its figures against ir_measures, its test, and what it refuses."""

import gzip
import itertools
import json
import math
import re
from xml.etree import ElementTree as ET

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG
from PIL import Image
from scipy.stats import bootstrap

from qwen_rerank.cli import main
from qwen_rerank.cli._runs import Ranked
from qwen_rerank.cli.evaluate.compare import compared, measured, measures_of
from qwen_rerank.cli.evaluate.threshold import Scores

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
    """Means of each run, the difference with interval and test, and what changed most."""
    before = run(tmp_path, "before.trec", "q1 Q0 a 1 2 x\nq1 Q0 b 2 1 x\nq2 Q0 z 1 1 x\n")
    after = run(tmp_path, "after.trec", "q1 Q0 b 1 2 x\nq1 Q0 a 2 1 x\nq2 Q0 c 1 1 x\n")

    assert main(["evaluate", "--qrels", qrels, "--run", before, "--run", after]) == 0

    out = " ".join(capfd.readouterr().out.split())
    assert "nDCG@10 │ 0.287 │ 0.667" in out
    assert "after against before" in out
    assert re.search(r"nDCG@10 │ \+0\.380 │ \+0\.\d+ to \+\d\.\d+ │ 0\.5000 │ 2 │ 1 │ 0", out)
    assert "most improved in nDCG@10: 2 of 2" in out
    assert "q2 │ 0.000 │ 1.000 │ +1.000" in out
    assert "worsened" not in out
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


def test_lists_without_ids(tmp_path, capfd):
    """What was ranked without ids is judged by its line and places, as in a TREC run of it."""
    qrels = run(tmp_path, "qrels", "1 0 1 1\n")
    trec = run(tmp_path, "trec", "1 Q0 1 1 2 x\n1 Q0 0 2 1 x\n")
    results = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]
    lines = run(tmp_path, "lines", json.dumps({"line": 1, "results": results}))

    first, second = as_json(capfd, qrels, trec, lines, arguments=["--measure", "RR"])["runs"]

    assert first["means"] == second["means"]
    assert first["means"]["RR"] == 1


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
        ("q1 Q0 a 1 nan x\n", "line 1 is no line of a run"),
        ("q1 Q0 a 1 2 x\nq1 a\n", "line 2 is no line of a run"),
        ("one two\n", "line 1 is no line of a run"),
        ('{"line": 1}\n', "has no 'results'"),
        ('{"line": 1, "results": [{"score": 0.5}]}\n', "has no 'index'"),
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
        ("q 0 d 1\nq 0 d 0\n", "line 2 gives a document a second grade"),
        ("q 0 d 1\nq 0 d x\n", "line 2 is no judgement"),
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


def test_the_losses_stand_beside_the_gains(tmp_path, capfd):
    """However large the gains are, the largest losses are shown too, and how many there were."""
    gained, lost = [f"up{number}" for number in range(6)], ["down1", "down2"]
    orders = {"before": ("z\ta", "a\tz"), "after": ("a\tz", "z\ta")}
    qrels = run(tmp_path, "qrels", "".join(f"{query} 0 a 1\n" for query in gained + lost))
    paths = [
        run(
            tmp_path,
            name,
            "".join(f"{query}\t{up}\n" for query in gained)
            + "".join(f"{query}\t{down}\n" for query in lost),
        )
        for name, (up, down) in orders.items()
    ]

    arguments = ["--qrels", qrels, "--run", paths[0], "--run", paths[1], "--changed", "3"]
    assert main(["evaluate", *arguments]) == 0

    improved, worsened = capfd.readouterr().out.partition("most improved")[2].split("most worsened")
    assert "nDCG@10: 3 of 6" in improved
    assert (improved.count("up"), improved.count("down")) == (3, 0)
    assert "nDCG@10: 2 of 2" in worsened
    assert (worsened.count("up"), worsened.count("down"), worsened.count("-0.369")) == (0, 2, 2)


def test_the_interval_of_a_difference():
    """It is scipy's percentile bootstrap over queries, the same every time; of one query, none."""
    gains = [1, -1, 0, 1, 1, 0, 0, 1, -1, 1]
    found = comparison(gains)

    values = [change.gain for change in found.changes]
    again = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert found.interval == pytest.approx(tuple(again), abs=0.03)
    assert found.interval == comparison(gains).interval
    assert comparison([0, 0]).interval == (0, 0)
    assert comparison([1]).interval is None


def test_the_paired_test():
    """It is scipy's permutation test: few differences are counted exactly, many by a fixed lot."""
    assert comparison([0, 0]).p == 1
    assert comparison([1]).p == 1
    assert comparison([1] * 5 + [0] * 9).p == pytest.approx(2 / 2**5)
    assert comparison([-1] * 10).p == pytest.approx(2 / 2**10)
    many = comparison([1] * 16 + [-1] * 9)
    assert many.p == comparison([1] * 16 + [-1] * 9).p
    assert many.p == pytest.approx(0.2295, abs=0.02)  # of the binomial distribution
    assert (many.better, many.equal, many.worse) == (16, 0, 9)
    assert comparison([1] * 60).p == pytest.approx(2 / 10_000)


def lists(*results):
    """Lines as `qwen-rerank rerank` writes them: for each query a dict of scores by document."""
    return "".join(
        json.dumps(
            {
                "line": number,
                "id": f"q{number}",
                "results": [
                    {"index": place, "id": name, "score": score}
                    for place, (name, score) in enumerate(of_query.items())
                ],
            }
        )
        + "\n"
        for number, of_query in enumerate(results, 1)
    )


def of_thresholds(capfd, qrels, path, *arguments):
    """What --threshold --json prints."""
    command = ["evaluate", "--qrels", qrels, "--run", path, "--threshold", "--json"]
    assert main([*command, *arguments]) == 0
    return json.loads(capfd.readouterr().out)


def test_what_each_threshold_keeps_and_loses(tmp_path, qrels, capfd):
    """Counted over all questions; a score that equals the threshold is kept."""
    path = run(
        tmp_path, "run", lists({"a": 0.9, "z": 0.8, "b": 0.5}, {"y": 0.4, "c": 0.3}, {"x": 0.2})
    )

    found = of_thresholds(capfd, qrels, path)

    rows = {row["threshold"]: row for row in found["thresholds"]}
    assert rows[None] == {
        "threshold": None,
        "documents": 6,
        "relevant": 3,
        "precision": 0.5,
        "recall": 1.0,
        "empty": 0,
        "unanswered": 0,
    }
    half = {"documents": 3, "relevant": 2, "precision": 2 / 3, "recall": 2 / 3}
    assert rows[0.5] == {"threshold": 0.5, **half, "empty": 2, "unanswered": 1}
    assert (rows[0.9]["documents"], rows[0.9]["empty"]) == (1, 2)
    assert (found["relevant"], found["found"], found["unjudged"]) == (4, 3, 3)


def test_the_proposed_threshold(tmp_path, capfd):
    """The highest that has the wanted recall; what is a relevant document is said by its grade."""
    scores = {f"d{number}": number / 20 for number in range(20)}
    qrels = run(tmp_path, "qrels", "".join(f"q1 0 d{each} {1 + each % 2}\n" for each in range(20)))
    path = run(tmp_path, "run", lists(scores))

    assert of_thresholds(capfd, qrels, path)["proposed"]["threshold"] == 0.05
    half = of_thresholds(capfd, qrels, path, "--recall", "0.5")["proposed"]
    assert (half["threshold"], half["documents"], half["recall"]) == (0.5, 10, 0.5)
    assert half["interval"] is None  # of one question
    odd = of_thresholds(capfd, qrels, path, "--recall", "0.7", "--min-grade", "2")["proposed"]
    assert (odd["threshold"], odd["recall"]) == (0.35, 0.7)  # d19, d17, ... d7


@pytest.mark.parametrize(
    ("scores", "proposed"),
    [
        ([0.9998678, 0.9991234], "0.9998678"),  # six digits would say 0.999868
        ([1000.1267, 999.9], "1000.1267"),
        ([0.57, 0.0], "0.57"),  # 57 hundredths in floats are a little less than 57
        ([0.30005, 0.0], "0.3"),  # down, to four digits of the span
        ([0.30009, 0.0], "0.3"),
        ([0.12345678901234566] * 2, "0.12345678901234566"),  # without a span
        ([2.0, -2.0], "2"),
    ],
)
def test_the_proposed_threshold_is_what_was_measured(tmp_path, qrels, capfd, scores, proposed):
    """The number to copy, from the table, the sentence or the picture, is the one that is kept."""
    path = run(tmp_path, "run", lists(dict(zip("az", scores, strict=True))))
    drawn = tmp_path / "drawn.svg"
    command = ["evaluate", "--qrels", qrels, "--run", path, "--threshold", "--recall", "1"]

    assert main([*command, "--picture", str(drawn)]) == 0

    out = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert f"▸ {proposed} " in out
    assert f"score_threshold={proposed} keeps 1 of 1" in out
    assert f"run: score_threshold={proposed} has a recall of 1" in texts(drawn)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=1, max_size=6),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.01, 1),
)
def test_a_proposal_keeps_what_it_says(questions, recall):
    """Whatever the scores are, it has the wanted recall, and its figures are those of a count."""
    pairs = [pair for of_question in questions for pair in of_question]
    ranked, judged = [], {}
    for number, of_question in enumerate(questions):
        name = f"q{number}"
        documents = tuple(f"d{place}" for place in range(len(of_question)))
        ranked.append(Ranked(name, documents, tuple(score for score, _ in of_question)))
        judged[name] = {
            document: int(is_relevant)
            for document, (_, is_relevant) in zip(documents, of_question, strict=True)
        }
    pairs += [(9.5, True), (9.25, False)]  # something relevant, and scores that are no ranks
    ranked.append(Ranked("last", ("a", "b"), (9.5, 9.25)))
    judged["last"] = {"a": 1}
    questions = [*questions, pairs[-2:]]

    kept = Scores(ranked, judged, 1).proposal(recall).kept

    above = [is_relevant for score, is_relevant in pairs if score >= kept.threshold]
    assert (kept.documents, kept.relevant) == (len(above), sum(above))
    assert kept.recall == kept.relevant / sum(is_relevant for _, is_relevant in pairs)
    assert kept.recall >= recall - 1e-9
    left = [max(score for score, _ in each) >= kept.threshold for each in questions]
    assert kept.empty == left.count(False)


def test_the_interval_of_a_threshold():
    """95 percent of what is proposed for questions drawn anew, as many, with replacement."""
    chance = np.random.default_rng(0)
    ranked, judged, relevant = [], {}, []
    for number in range(40):
        scores = tuple(map(float, chance.beta(2, 2, 5).round(3)))
        ranked.append(Ranked(f"q{number}", tuple("abcde"), scores))
        judged[f"q{number}"] = {"a": 1, "b": number % 2}
        relevant.append(scores[: 1 + number % 2])

    found = Scores(ranked, judged, 1).proposal(0.8)

    proposed = []
    for _ in range(400):
        drawn = itertools.chain.from_iterable(relevant[at] for at in chance.integers(0, 40, 40))
        falling = sorted(drawn, reverse=True)
        proposed.append(falling[math.ceil(0.8 * len(falling)) - 1])
    assert found.interval == pytest.approx(tuple(np.percentile(proposed, [2.5, 97.5])), abs=0.03)
    assert found.interval[0] < found.kept.threshold < found.interval[1]
    assert found.recall[0] < found.kept.recall < found.recall[1]
    assert found.precision[0] < found.kept.precision < found.precision[1]


def test_the_tables_of_thresholds(tmp_path, qrels, capfd):
    """The proposed one is marked, and it is said what the number does not carry over to."""
    path = run(tmp_path, "run", lists({"a": 0.91, "z": 0.8, "b": 0.5}, {"y": 0.4, "c": 0.3}))

    assert main(["evaluate", "--qrels", qrels, "--run", path, "--threshold"]) == 0

    out = capfd.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    out = " ".join(out.replace("│", " ").split())
    assert "none 0.600 1.000 5 0 0 0" in out
    assert "▸ 0.3 0.600 1.000 5 0 0 0" in out
    assert "0.6 0.500 0.333 2 2 1 1" in out
    assert "score_threshold=0.3 [0.3 to 0.5]" in out
    assert "3 documents in the run; it lacks 1 of the judged queries" in out
    assert "another region, model, instruction or collection has others" in out
    assert "lexical stand-in's" in out


def test_documents_without_a_score(tmp_path, qrels, capfd):
    """Every threshold drops them, so there may be none that keeps enough."""
    path = run(tmp_path, "run", lists({"a": 0.9, "b": None}, {"c": None}))

    found = of_thresholds(capfd, qrels, path)
    assert (found["proposed"], found["unscored"]) == (None, 2)
    assert found["thresholds"][0]["recall"] == 1
    assert found["thresholds"][1]["recall"] == pytest.approx(1 / 3)
    found = of_thresholds(capfd, qrels, path, "--recall", "0.3")
    assert found["proposed"]["threshold"] == 0.9
    picture = tmp_path / "none.svg"
    command = ["evaluate", "--qrels", qrels, "--run", path, "--threshold"]
    assert main([*command, "--picture", str(picture)]) == 0
    assert "No threshold keeps 95%" in capfd.readouterr().out
    assert "no threshold has a recall of 0.95" in picture.read_text()


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("q1\ta\tb\n", [], "the run has no scores"),
        ("q1 Q0 a 1 2 x\nq1 Q0 z 2 1 x\n", [], "the scores of the run are ranks"),
        ("q1 Q0 a 1 1 x\nq2 Q0 c 1 1 x\n", [], "the scores of the run are ranks"),  # --top-n 1
        ("q1 Q0 a 1 inf x\nq1 Q0 z 2 1 x\n", [], "infinite score"),
        ("q1 Q0 z 1 0.5 x\n", [], "no document of the run has a grade of 1 or more"),
        ('{"line": 1, "results": [{"id": "a", "score": "high"}]}\n', [], "'high' is no score"),
        ("q1 Q0 a 1 0.5 x\n", ["--run", "other"], "give --run once"),
        ("q1 Q0 a 1 0.5 x\n", ["--changed", "3"], "--changed is not for --threshold"),
        ("q1 Q0 a 1 0.5 x\n", ["--recall", "0"], "--recall"),
        ("q1 Q0 a 1 0.5 x\n", ["--recall", "nan"], "'--recall': nan is no share"),
        ("q1 Q0 a 1 0.5 x\n", ["--picture", "a.gif"], "must end in .png or .svg"),
        ("q1 Q0 a 1 0.5 x\n", ["--picture", "missing/a.png"], "no folder missing"),
    ],
)
def test_where_no_threshold_can_be_set(tmp_path, qrels, capfd, text, arguments, said):
    """One sentence instead of a number that means nothing."""
    path = run(tmp_path, "run", text)
    assert main(["evaluate", "--qrels", qrels, "--run", path, "--threshold", *arguments]) == 2
    assert said in capfd.readouterr().err


def texts(picture):
    """The words in an SVG picture."""
    return [
        "".join(each.itertext()).strip()
        for each in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  ours
    ]


def test_pictures(tmp_path, capfd):
    """Each query before and after, or what thresholds keep; the same files, the same picture."""
    qrels = run(tmp_path, "qrels", "q1 0 a 1\nq2 0 a 1\nq3 0 a 1\nq3 0 b 1\n")
    before = run(tmp_path, "before", "q1\tz\ta\nq2\ta\tz\nq3\ta\n")
    after = run(tmp_path, "after", lists({"a": 0.9, "z": 0.1}, {"z": 0.9, "a": 0.2}, {"a": 0.8}))
    pair = ["evaluate", "--qrels", qrels, "--run", before, "--run", f"$x$={after}", "--picture"]
    cut = ["evaluate", "--qrels", qrels, "--run", after, "--threshold", "--json", "--picture"]
    drawn = tmp_path / "drawn.svg"

    assert main([*pair, str(drawn)]) == 0
    shown = texts(drawn)
    assert {"1 better", "1 equal", "1 worse", "before", "$x$"} <= set(shown)
    assert "rises for 1, falls for 1 of 3" in shown

    assert main([*cut, str(drawn)]) == 0
    first = drawn.read_bytes()
    assert {"recall", "precision", "documents kept"} <= set(texts(drawn))
    assert "after: score_threshold=0.2 has a recall of 0.95" in texts(drawn)
    assert main([*cut, str(drawn)]) == 0
    assert drawn.read_bytes() == first

    for command in (pair, cut):
        assert main([*command, str(tmp_path / "drawn.PNG")]) == 0
        with Image.open(tmp_path / "drawn.PNG") as picture:
            assert min(picture.size) > 500
    capfd.readouterr()
    assert main([*pair[:5], "--picture", str(drawn)]) == 2
    assert "give two of --run" in capfd.readouterr().err


def test_one_score_for_all(tmp_path, qrels, capfd):
    """There is one threshold then, and its picture is drawn."""
    path = run(tmp_path, "run", lists({"a": 0.5, "z": 0.5}, {"c": 0.5}))
    found = of_thresholds(capfd, qrels, path, "--picture", str(tmp_path / "one.svg"))
    assert found["proposed"]["threshold"] == 0.5
    assert [row["threshold"] for row in found["thresholds"]] == [None, 0.5]


def test_progress_is_for_a_terminal(tmp_path, qrels, capfd, monkeypatch):
    """It is on standard error and only on a terminal, so that tables and JSON stay clean."""
    path = run(tmp_path, "run", "q1\ta\n")
    command = ["evaluate", "--qrels", qrels, "--run", path, "--json"]
    assert main(command) == 0
    plain, silent = capfd.readouterr()
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich: as on a terminal
    assert main(command) == 0
    again, told = capfd.readouterr()

    assert again == plain
    assert silent == ""
    assert "reading run" in told
