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
from qwen_rerank.cli.evaluate.compare import Measured, compared
from qwen_rerank.cli.evaluate.threshold import Scores, written

QRELS = "q1 0 a 1\nq1 0 b 2\nq2 0 c 1\nq3 0 d 1\n"
HARMED = (gzip.compress(b"q1\ta\n")[:10] + b"\xff" * 20).decode(errors="surrogateescape")


@pytest.fixture
def file(tmp_path):
    """Writes a file; its path."""

    def file(name, text):
        path = tmp_path / name
        path.write_text(text, errors="surrogateescape")
        return str(path)

    return file


@pytest.fixture
def evaluate(file, capfd):
    """Runs the command with judgements; its exit code and what it says on either output."""
    judgements = file("qrels", QRELS)

    def evaluate(*arguments, qrels=judgements):
        code = main(["evaluate", "--qrels", qrels, *arguments])
        return code, *capfd.readouterr()

    return evaluate


@pytest.fixture
def as_json(evaluate):
    """What --json prints of these runs."""

    def as_json(*runs, arguments=(), **options):
        named = itertools.chain.from_iterable(("--run", each) for each in runs)
        code, out, _ = evaluate(*named, "--json", *arguments, **options)
        assert code == 0
        return json.loads(out)

    return as_json


def test_the_tables(file, evaluate):
    """Means of each run, the difference with interval and test, and what changed most."""
    before = file("before.trec", "q1 Q0 a 1 2 x\nq1 Q0 b 2 1 x\nq2 Q0 z 1 1 x\n")
    after = file("after.trec", "q1 Q0 b 1 2 x\nq1 Q0 a 2 1 x\nq2 Q0 c 1 1 x\n")

    code, out, _ = evaluate("--run", before, "--run", after)

    assert code == 0
    out = " ".join(out.split())
    assert "nDCG@10 │ 0.287 │ 0.667" in out
    assert "after against before" in out
    assert re.search(r"nDCG@10 │ \+0\.380 │ \+0\.\d+ to \+\d\.\d+ │ 0\.5000 │ 2 │ 1 │ 0", out)
    assert "most improved in nDCG@10: 2 of 2" in out
    assert "q2 │ 0.000 │ 1.000 │ +1.000" in out
    assert "worsened" not in out
    assert "Means over all 3 judged queries" in out
    assert "after: lacks 1 of the judged queries." in out


def test_it_is_what_ir_measures_says(file, as_json):
    """Every figure of a run without ties is that of ir_measures called directly."""
    text = "q1 Q0 z 1 9 x\nq1 Q0 b 2 8 x\nq1 Q0 a 3 7 x\nq2 Q0 c 1 1 x\nq9 Q0 c 1 1 x\n"
    wanted = [nDCG @ 10, RR, R @ 100, nDCG @ 1]
    names = [name for measure in wanted for name in ("--measure", str(measure))]

    [found] = as_json(file("run", text), arguments=names)["runs"]

    expected = ir_measures.calc_aggregate(
        wanted, list(ir_measures.read_trec_qrels(QRELS)), list(ir_measures.read_trec_run(text))
    )
    assert found["means"] == pytest.approx({str(each): mean for each, mean in expected.items()})
    assert (found["missing"], found["unjudged"]) == (1, 1)


def test_equal_scores_keep_the_order_of_the_file(file, as_json):
    """Neither the ids nor the ranks decide, and the run is said to have ties."""
    first = file("first", "q2 Q0 c 2 1.0 x\nq2 Q0 z 1 1.0 x\n")
    second = file("second", "q2 Q0 z 2 1.0 x\nq2 Q0 c 1 1.0 x\n")

    found = as_json(first, second, arguments=["--measure", "RR"])["runs"]

    assert [each["means"]["RR"] for each in found] == pytest.approx([1 / 3, 1 / 6])
    assert [each["tied"] for each in found] == [1, 1]


def test_every_form_of_a_run_is_the_same(file, tmp_path, as_json):
    """A TREC run, lists with tabs, gzipped ones and our own JSON lines are read alike.

    What was ranked without ids is judged by its line and places.
    """
    qrels = file("numbers", "1 0 0 1\n1 0 2 2\n")
    trec = file("trec", "1 Q0 1 1 3 x\n1 Q0 2 2 2 x\n1 Q0 0 3 1 x\n")
    tabs = file("tabs", "1\t1\t2\t0\n")
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(b"1\t1\t2\t0\n"))
    bare = [{"index": place, "score": None} for place in (1, 2, 0)]
    lists = [
        {"line": 7, "id": "1", "results": [{"id": each["index"], "index": 9} for each in bare]},
        {"line": 1, "results": bare},
    ]
    ours = [file(f"lines{number}", json.dumps(each)) for number, each in enumerate(lists)]

    found = as_json(trec, tabs, str(tmp_path / "zipped.gz"), *ours, qrels=qrels)

    means = [each["means"] for each in found["runs"]]
    assert means == [means[0]] * 5
    assert means[0]["RR"] == 0.5
    assert all(each["difference"] == 0 and each["p"] == 1 for each in found["comparisons"])


def test_judgements_of_beir(file, as_json):
    """Three columns with a head are read like four without."""
    qrels = file("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\n")
    found = as_json(file("run", "q1\ta\n"), qrels=qrels)
    assert found["queries"] == 1
    assert found["runs"][0]["means"]["RR"] == 1


def test_names(file, tmp_path, evaluate, as_json):
    """A run may be named; equal names become paths; the same file twice needs names."""
    (tmp_path / "x").mkdir()
    one, two = file("run.trec", "q1\ta\n"), file("x/run.trec", "q1\tb\n")

    assert [each["name"] for each in as_json(one, two)["runs"]] == [one, two]
    found = as_json(f"old={one}", f"new={one}")["runs"]
    assert [each["name"] for each in found] == ["old", "new"]
    code, _, err = evaluate("--run", one, "--run", one)
    assert code == 2
    assert "NAME=FILE" in err


def test_text_of_others_is_only_shown(file, evaluate):
    """Ids with markup or control characters neither break nor colour the tables."""
    name = "[/red]\x1b[2J"
    before, after = file("b", f"{name}\tz\ta\n"), file("a", f"{name}\ta\tz\n")
    qrels = file("qrels", f"{name} 0 a 1\n")

    code, out, _ = evaluate("--run", f"[x]={before}", "--run", after, qrels=qrels)

    assert code == 0
    assert "\x1b" not in out
    assert r"[/red]\x1b[2J" in out
    assert "[x]" in out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run", "q1 Q0 a 1 2 x\nq1 Q0 a 2 1 x\n", "query 'q1' has a document twice"),
        ("run", "q1 Q0 a 1 2 x\nq2 Q0 a 1 1 x\nq1 Q0 b 2 1 x\n", "is there twice, or its lines"),
        ("run", "q1 Q0 a 1 nan x\n", "line 1 is no line of a run"),
        ("run", "q1 Q0 a 1 2 x\nq1 a\n", "line 2 is no line of a run"),
        ("run", "one two\n", "line 1 is no line of a run"),
        ("run", "q1\t\udcff\n", "is not UTF-8"),
        ("run", '{"line": 1}\n', "has no 'results'"),
        ("run", '{"line": 1, "results": 3}\n', "line 1: "),
        ("run", "{\n", "line 1: the line is not JSON"),
        ("run.gz", HARMED, "run.gz: "),
        ("qrels", "query-id corpus-id score\n", "holds no judgements"),  # nothing below its head
        ("qrels", "q 0 d 1\nq 0 d 0\n", "line 2 gives a document a second grade"),
        ("qrels", "q 0 d 1\nq 0 d x\n", "line 2 is no judgement"),
    ],
)
def test_files_that_make_no_sense(file, evaluate, name, text, said):
    """One sentence, with the line, instead of a wrong figure."""
    given = file(name, text)
    files = {"qrels": given} if name == "qrels" else {}
    code, out, err = evaluate("--run", file("good", "q1\ta\n") if files else given, **files)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "missing"], "No such file"),
        (["--measure", "nDCC@10"], "is no measure"),
        (["--measure", "NumRet"], "counts over all queries"),
    ],
)
def test_names_of_nothing(file, evaluate, arguments, said):
    """A file that is not there and a measure that is none are said."""
    code, _, err = evaluate("--run", file("run", "q1\ta\n"), *arguments)
    assert code == 2
    assert said in err


def test_a_measure_that_fails(file, evaluate, monkeypatch):
    """A measure that cannot be computed of these files ends in a sentence."""

    def fails(*_):
        raise RuntimeError

    monkeypatch.setattr(ir_measures, "iter_calc", fails)
    code, _, err = evaluate("--run", file("run", "q1\ta\n"))
    assert code == 2
    assert "nDCG@10, RR, R@100 cannot be computed of run" in err


def test_the_losses_stand_beside_the_gains(file, evaluate):
    """However large the gains are, the largest losses are shown too, and how many there were."""
    gained, lost = [f"up{number}" for number in range(6)], ["down1", "down2"]
    qrels = file("qrels", "".join(f"{query} 0 a 1\n" for query in gained + lost))
    good, bad = "{}\ta\tz\n", "{}\tz\ta\n"
    before = file("before", "".join([*map(bad.format, gained), *map(good.format, lost)]))
    after = file("after", "".join([*map(good.format, gained), *map(bad.format, lost)]))

    _, out, _ = evaluate("--run", before, "--run", after, "--changed", "3", qrels=qrels)

    improved, worsened = out.partition("most improved")[2].split("most worsened")
    assert "nDCG@10: 3 of 6" in improved
    assert (improved.count("up"), improved.count("down")) == (3, 0)
    assert "nDCG@10: 2 of 2" in worsened
    assert (worsened.count("up"), worsened.count("down"), worsened.count("-0.369")) == (0, 2, 2)


def comparison(gains):
    """Two runs that differ by *gains* in reciprocal rank, query by query."""
    before = {f"q{number}": 0.0 for number in range(len(gains))}
    after = dict(zip(before, map(float, gains), strict=True))
    runs = [Measured(name, {"RR": of}, 0, 0, 0) for name, of in (("x", before), ("y", after))]
    return compared(*runs, "RR")


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
    lines = []
    for number, scores in enumerate(results, 1):
        hits = [{"index": 0, "id": name, "score": score} for name, score in scores.items()]
        lines.append(json.dumps({"line": number, "id": f"q{number}", "results": hits}) + "\n")
    return "".join(lines)


def test_what_each_threshold_keeps_and_loses(file, as_json):
    """Counted over all questions; a score that equals the threshold is kept."""
    path = file("run", lists({"a": 0.9, "z": 0.8, "b": 0.5}, {"y": 0.4, "c": 0.3}, {"x": 0.2}))

    found = as_json(path, arguments=["--threshold"])

    rows = {row["threshold"]: row for row in found["thresholds"]}
    everything = {"documents": 6, "relevant": 3, "precision": 0.5, "recall": 1.0}
    assert rows[None] == {"threshold": None, **everything, "empty": 0, "unanswered": 0}
    half = {"documents": 3, "relevant": 2, "precision": 2 / 3, "recall": 2 / 3}
    assert rows[0.5] == {"threshold": 0.5, **half, "empty": 2, "unanswered": 1}
    assert (rows[0.9]["documents"], rows[0.9]["empty"]) == (1, 2)
    assert (found["relevant"], found["found"], found["unjudged"]) == (4, 3, 3)


def test_the_proposed_threshold(file, as_json):
    """The highest that has the wanted recall; what is a relevant document is said by its grade."""
    qrels = file("qrels", "".join(f"q1 0 d{each} {1 + each % 2}\n" for each in range(20)))
    path = file("run", lists({f"d{number}": number / 20 for number in range(20)}))

    def proposed(*arguments):
        return as_json(path, arguments=["--threshold", *arguments], qrels=qrels)["proposed"]

    assert proposed()["threshold"] == 0.05
    half = proposed("--recall", "0.5")
    assert (half["threshold"], half["documents"], half["recall"]) == (0.5, 10, 0.5)
    assert half["interval"] is None  # of one question
    odd = proposed("--recall", "0.7", "--min-grade", "2")
    assert (odd["threshold"], odd["recall"]) == (0.35, 0.7)  # d19, d17, ... d7


@pytest.mark.parametrize(
    ("scores", "proposed"),
    [
        ((0.9998678, 0.9991234), "0.9998678"),  # six digits would say 0.999868
        ((0.57, 0.0), "0.57"),  # 57 hundredths in floats are a little less than 57
        ((0.30005, 0.0), "0.3"),  # down, to four digits of the span
        ((0.12345678901234566, 0.12345678901234566), "0.12345678901234566"),  # without a span
        ((2.0, -2.0), "2"),
    ],
)
def test_the_proposed_threshold_is_what_was_measured(scores, proposed):
    """The number to copy is the one that is kept."""
    found = Scores([Ranked("q1", ("a", "z"), scores)], {"q1": {"a": 1}}, 1).proposal(1)
    assert written(found.kept.threshold) == proposed
    assert found.kept.relevant == 1


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
    questions = [*questions, [(9.5, True), (9.25, False)]]  # one relevant, and no ranks
    ranked, judged = [], {}
    for number, pairs in enumerate(questions):
        documents = tuple(f"d{place}" for place in range(len(pairs)))
        ranked.append(Ranked(f"q{number}", documents, tuple(score for score, _ in pairs)))
        grades = [int(is_relevant) for _, is_relevant in pairs]
        judged[f"q{number}"] = dict(zip(documents, grades, strict=True))

    kept = Scores(ranked, judged, 1).proposal(recall).kept

    pairs = [pair for of_question in questions for pair in of_question]
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


def test_the_tables_of_thresholds(file, evaluate):
    """The proposed one is marked, and it is said what the number does not carry over to."""
    path = file("run", lists({"a": 0.91, "z": 0.8, "b": 0.5}, {"y": 0.4, "c": 0.3}))

    code, out, _ = evaluate("--run", path, "--threshold")

    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    out = " ".join(out.replace("│", " ").split())
    assert "none 0.600 1.000 5 0 0 0" in out
    assert "▸ 0.3 0.600 1.000 5 0 0 0" in out
    assert "0.6 0.500 0.333 2 2 1 1" in out
    assert "score_threshold=0.3 [0.3 to 0.5]" in out
    assert "3 documents in the run; it lacks 1 of the judged queries" in out
    assert "another region, model, instruction or collection has others" in out
    assert "lexical stand-in's" in out


def test_documents_without_a_score(file, tmp_path, evaluate, as_json):
    """Every threshold drops them, so there may be none that keeps enough."""
    path = file("run", lists({"a": 0.9, "b": None}, {"c": None}))

    found = as_json(path, arguments=["--threshold"])
    assert (found["proposed"], found["unscored"]) == (None, 2)
    assert [row["recall"] for row in found["thresholds"]] == pytest.approx([1, 1 / 3])
    found = as_json(path, arguments=["--threshold", "--recall", "0.3"])
    assert found["proposed"]["threshold"] == 0.9
    picture = tmp_path / "none.svg"
    _, out, _ = evaluate("--run", path, "--threshold", "--picture", str(picture))
    assert "No threshold keeps 95%" in out
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
        ("q1 Q0 a 1 0.5 x\n", ["--recall", "nan"], "'--recall': nan is no share"),
        ("q1 Q0 a 1 0.5 x\n", ["--picture", "a.gif"], "must end in .png or .svg"),
        ("q1 Q0 a 1 0.5 x\n", ["--picture", "missing/a.png"], "no folder missing"),
    ],
)
def test_where_no_threshold_can_be_set(file, evaluate, text, arguments, said):
    """One sentence instead of a number that means nothing."""
    code, _, err = evaluate("--run", file("run", text), "--threshold", *arguments)
    assert code == 2
    assert said in err


def texts(picture):
    """The words in an SVG picture."""
    return [
        "".join(each.itertext()).strip()
        for each in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314  ours
    ]


def test_pictures(file, tmp_path, evaluate):
    """Each query before and after, or what thresholds keep; the same files, the same picture."""
    qrels = file("qrels", "q1 0 a 1\nq2 0 a 1\nq3 0 a 1\nq3 0 b 1\n")
    before = file("before", "q1\tz\ta\nq2\ta\tz\nq3\ta\n")
    after = file("after", lists({"a": 0.9, "z": 0.1}, {"z": 0.9, "a": 0.2}, {"a": 0.8}))
    drawn = tmp_path / "drawn.svg"

    def draw(*arguments, to=drawn):
        return evaluate(*arguments, "--picture", str(to), qrels=qrels)

    pair = ["--run", before, "--run", f"$x$={after}"]
    assert draw(*pair)[0] == 0
    assert {"1 better", "1 equal", "1 worse", "before", "$x$"} <= set(texts(drawn))
    assert "rises for 1, falls for 1 of 3" in texts(drawn)

    cut = ["--run", after, "--threshold"]
    assert draw(*cut)[0] == 0
    first = drawn.read_bytes()
    assert {"recall", "precision", "documents kept"} <= set(texts(drawn))
    assert "after: score_threshold=0.2 has a recall of 0.95" in texts(drawn)
    assert draw(*cut)[0] == 0
    assert drawn.read_bytes() == first

    assert draw(*pair, to=tmp_path / "drawn.PNG")[0] == 0
    with Image.open(tmp_path / "drawn.PNG") as picture:
        assert min(picture.size) > 500
    code, _, err = draw("--run", before)
    assert code == 2
    assert "give two of --run" in err


def test_one_score_for_all(file, tmp_path, evaluate):
    """There is one threshold then; table, sentence and picture have every digit of it."""
    path = file("run", lists({"a": 0.9998678, "z": 0.9998678}))
    picture = tmp_path / "one.svg"
    _, out, _ = evaluate("--run", path, "--threshold", "--picture", str(picture))
    out = " ".join(out.replace("│", " ").split())
    assert out.count("0.9998678 0.500") == out.count("▸ 0.9998678 0.500") == 1
    assert "score_threshold=0.9998678 keeps 1 of 1 " in out
    assert "run: score_threshold=0.9998678 has a recall of 0.95" in texts(picture)


def test_progress_is_for_a_terminal(file, evaluate, monkeypatch):
    """It is on standard error and only on a terminal, so that tables and JSON stay clean."""
    command = ["--run", file("run", "q1\ta\n"), "--json"]
    _, plain, silent = evaluate(*command)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich: as on a terminal
    _, again, told = evaluate(*command)

    assert again == plain
    assert silent == ""
    assert "reading run" in told
