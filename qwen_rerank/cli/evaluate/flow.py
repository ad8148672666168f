"""`qwen-rerank evaluate`: the flow, the tables and the JSON.

Measuring lives in `compare`, thresholds in `threshold`, and what is drawn in `pictures`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from qwen_rerank.cli._runs import Ranked, judgements, opened, ranked_lists
from qwen_rerank.cli._terminal import open_console, progress, told, visible
from qwen_rerank.cli.evaluate.compare import (
    Change,
    Comparison,
    Measured,
    compared,
    measured,
    measures_of,
)
from qwen_rerank.cli.evaluate.resample import Interval
from qwen_rerank.cli.evaluate.threshold import Proposal, Scores, written

__all__ = ["evaluate", "evaluate_threshold"]

_ROWS, _FINER = 10, 100  # thresholds in the table, and in JSON
_ENDINGS = (".png", ".svg")  # of pictures
_BETTER, _WORSE = "green", "red"
_NOTES = (
    "Means over all {count} judged queries; a query that a run lacks counts 0. Runs are ordered by "
    "score, and equal scores as the file has them."
)
_TEST_NOTES = (
    "95 %: of the difference, by resampling queries. p: a paired test that exchanges the runs at "
    "random in each query (two-sided). Whatever they say, differences below about 0.02 mean little "
    "on collections of this kind."
)
_COUNTED_NOTES = (
    "All questions are counted together. Precision: how many of the kept documents are relevant; "
    "recall: how many of the relevant documents in the run are kept. In brackets, 95 % of the "
    "resamples of the questions."
)
_CARRY_NOTES = (
    "A threshold belongs to the scores it was found in: another region, model, instruction or "
    "collection has others, so measure there again. Scores of `qwen-rerank serve` are a lexical "
    "stand-in's, and say nothing of a Qwen model's."
)


def evaluate(
    qrels: str,
    runs: Sequence[str],
    *,
    measures: Sequence[str],
    changed: int,
    as_json: bool,
    picture: Path | None,
) -> int:
    """Measures every run, and compares each with the first.

    Args:
        qrels: The file of judgements.
        runs: Files of runs, each as ``FILE`` or ``NAME=FILE``.
        measures: Names of measures, as ir_measures has them.
        changed: How many of the queries that gained and lost most are shown, by the first measure.
        as_json: Print JSON with every query instead of tables.
        picture: Draw every query before and after, by the first measure, to this file.

    Returns:
        The exit code.

    Raises:
        ValueError: A file or a name is not what it has to be.
    """
    wanted = measures_of(measures)
    names = list(dict.fromkeys(str(measure) for measure in wanted))
    pictures = None if picture is None else _pictures(picture)
    if pictures and len(runs) < 2:
        raise ValueError("--picture draws a difference: give two of --run, or --threshold")
    with progress(Console(stderr=True)) as bar:
        with _files():
            judged = judgements(qrels)
            found = [
                measured(name, _read(bar, name, path, judged), judged, wanted)
                for name, path in _named(runs)
            ]
        pairs = [(after, name) for after in found[1:] for name in names]
        tested = [
            compared(found[0], after, name)
            for after, name in bar.track(pairs, description="resampling queries")
        ]
    comparisons = [tested[at : at + len(names)] for at in range(0, len(tested), len(names))]
    if pictures:
        firsts = [of_run[0] for of_run in comparisons]
        with _files():
            pictures.draw_changes(picture, found[0], list(zip(found[1:], firsts, strict=True)))
    if as_json:
        print(json.dumps(_as_json(found, comparisons, names, len(judged))))
        return 0
    console = open_console()
    console.print(_figures(found, names))
    notes = [_NOTES.format(count=f"{len(judged):,}"), *_remarks(found)]
    for after, of_run in zip(found[1:], comparisons, strict=True):
        _print_table(console, f"{after.name} against {found[0].name}", _differences(of_run))
        first = of_run[0]
        for what, count, changes in (
            ("improved", first.better, first.changes),
            ("worsened", first.worse, first.changes[::-1]),
        ):
            if shown := changes[: min(changed, count)]:
                title = f"most {what} in {first.measure}: {len(shown):,} of {count:,}"
                _print_table(console, title, _changes(found[0], after, shown))
    if comparisons:
        notes.append(_TEST_NOTES)
    _print_notes(console, notes)
    return 0


def evaluate_threshold(
    qrels: str,
    runs: Sequence[str],
    *,
    recall: float,
    min_grade: int,
    as_json: bool,
    picture: Path | None,
) -> int:
    """Shows what every score threshold keeps and loses of a reranked run, and proposes one.

    Args:
        qrels: The file of judgements.
        runs: The file of the run, as ``FILE`` or ``NAME=FILE``.
        recall: The share of the relevant documents to keep, above 0 and at most 1.
        min_grade: The lowest grade that counts as relevant.
        as_json: Print JSON instead of tables.
        picture: Draw what the thresholds keep and lose to this file.

    Returns:
        The exit code.

    Raises:
        ValueError: A file is not what it has to be.
    """
    [(name, path), *others] = _named(runs)
    if others:
        raise ValueError("--threshold is about the scores of one run: give --run once")
    pictures = None if picture is None else _pictures(picture)
    with progress(Console(stderr=True)) as bar:
        with _files():
            judged = judgements(qrels)
            scores = Scores(list(_read(bar, name, path, judged)), judged, min_grade)
        bar.add_task("resampling questions", total=None)
        proposal = scores.proposal(recall)
    if pictures:
        with _files():
            pictures.draw_thresholds(picture, name, scores, recall, proposal)
    if as_json:
        print(json.dumps(_thresholds_as_json(name, scores, recall, min_grade, proposal)))
        return 0
    console = open_console()
    _print_table(console, f"what a score_threshold keeps of {name}", _thresholds(scores, proposal))
    console.print(_proposed(scores, recall, proposal))
    _print_notes(console, [*_scores_remarks(name, scores, min_grade), _COUNTED_NOTES, _CARRY_NOTES])
    return 0


def _read(
    bar: Progress, name: str, path: str, judged: Mapping[str, Mapping[str, int]]
) -> Iterator[Ranked]:
    """A run, with progress by queries, of which there should be as many as are judged."""
    with opened(path) as file:
        lists = ranked_lists(file, path)
        yield from bar.track(lists, total=len(judged), description=f"reading {visible(name)}")


@contextmanager
def _files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(told(error)) from None


def _pictures(path: Path) -> ModuleType:
    """What draws to *path*; what would be wrong with that is said before anything is measured."""
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"--picture: the file's name must end in {' or '.join(_ENDINGS)}")
    if not path.parent.is_dir():
        raise ValueError(f"--picture: there is no folder {path.parent}")
    from qwen_rerank.cli.evaluate import pictures  # noqa: PLC0415  matplotlib

    return pictures


def _named(runs: Sequence[str]) -> list[tuple[str, str]]:
    """Name and path of each run; names that would be the same become the paths."""
    pairs = []
    for run in runs:
        name, given, path = run.partition("=")
        if not given or Path(run).exists():
            name, path = ("-", "-") if run == "-" else (Path(run).name.partition(".")[0], run)
        pairs.append((name, path))
    if len({name for name, _ in pairs}) < len(pairs):
        pairs = [(path, path) for _, path in pairs]
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("--run: the same file is there twice; give NAME=FILE")
    return pairs


def _remarks(found: Sequence[Measured]) -> list[str]:
    return [
        f"{visible(run.name)}: {', '.join(facts)}."
        for run in found
        if (
            facts := [
                fact
                for number, fact in (
                    (run.missing, f"lacks {run.missing:,} of the judged queries"),
                    (run.unjudged, f"{run.unjudged:,} queries without judgements are left out"),
                    (run.tied, f"equal scores in {run.tied:,} queries"),
                )
                if number
            ]
        )
    ]


def _figures(found: Sequence[Measured], names: Sequence[str]) -> Table:
    table = _table("mean", *(run.name for run in found))
    for name in names:
        table.add_row(Text(name), *(f"{run.mean(name):.3f}" for run in found))
    return table


def _differences(comparisons: Sequence[Comparison]) -> Table:
    table = _table("measure", "difference", "95 %", "p", "better", "equal", "worse")
    for each in comparisons:
        table.add_row(
            Text(each.measure),
            Text(f"{each.difference:+.3f}", _style(each)),
            "" if each.interval is None else "{:+.3f} to {:+.3f}".format(*each.interval),
            f"{each.p:.4f}",
            Text(f"{each.better:,}", _BETTER if each.better else ""),
            f"{each.equal:,}",
            Text(f"{each.worse:,}", _WORSE if each.worse else ""),
        )
    return table


def _style(comparison: Comparison) -> str:
    """A colour only where the interval leaves out 0."""
    low, high = comparison.interval or (0.0, 0.0)
    return _BETTER if low > 0 else _WORSE if high < 0 else ""


def _changes(before: Measured, after: Measured, changes: Sequence[Change]) -> Table:
    table = _table("query", before.name, after.name, "change")
    for change in changes:
        table.add_row(
            Text(visible(change.query)),
            f"{change.before:.3f}",
            f"{change.after:.3f}",
            Text(f"{change.gain:+.3f}", _BETTER if change.gain > 0 else _WORSE),
        )
    return table


def _thresholds(scores: Scores, proposal: Proposal | None) -> Table:
    table = _table(
        *("threshold", "precision", "recall", "documents\nkept", "relevant\nlost"),
        *("questions\nwith none", "with none\nrelevant"),
    )
    table.columns[0].no_wrap = True  # a number to copy
    proposed = None if proposal is None else proposal.kept.threshold
    steps = {*scores.steps(_ROWS), *([] if proposed is None else [proposed])}
    for threshold in (None, *sorted(steps)):
        kept = scores.at(threshold)
        is_proposed = threshold is not None and threshold == proposed
        table.add_row(
            f"{'▸ ' if is_proposed else ''}{written(threshold)}",
            "" if kept.precision is None else f"{kept.precision:.3f}",
            f"{kept.recall:.3f}",
            f"{kept.documents:,}",
            f"{scores.found - kept.relevant:,}",
            f"{kept.empty:,}",
            f"{kept.unanswered:,}",
            style="bold" if is_proposed else "",
            end_section=threshold is None,
        )
    return table


def _proposed(scores: Scores, recall: float, proposal: Proposal | None) -> Panel:
    text = Text()
    if proposal is None:
        text.append(f"No threshold keeps {recall:.0%} of the relevant documents: too many of them ")
        text.append("have no score.")
    else:
        kept = proposal.kept
        text.append(f"score_threshold={written(kept.threshold)}", "bold")
        text.append(
            f"{_between(proposal.interval, '.4g')} keeps {kept.relevant:,} of {scores.found:,} "
        )
        text.append(f"relevant documents, a recall of {kept.recall:.3f}")
        text.append(f"{_between(proposal.recall, '.3f')}, among {kept.documents:,} of ")
        text.append(f"{scores.documents:,} documents, a precision of {kept.precision:.3f}")
        text.append(f"{_between(proposal.precision, '.3f')}. ")
        text.append(f"{kept.empty:,} of {scores.questions:,} questions are left with nothing.")
    title = Text(f"for a recall of {recall:g}", "bold")
    return Panel(text, title=title, title_align="left", border_style="cyan", padding=(0, 1))


def _between(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}} to {interval[1]:{form}}]"


def _scores_remarks(name: str, scores: Scores, min_grade: int) -> list[str]:
    facts = [
        f"{scores.questions:,} judged queries with {scores.documents:,} documents",
        f"relevant is a grade of {min_grade} or more: {scores.found:,} documents in the run",
    ]
    facts += [
        fact.format(f"{number:,}")
        for number, fact in (
            (scores.relevant - scores.found, "{} more that were judged are not in it"),
            (scores.missing, "it lacks {} of the judged queries"),
            (scores.unjudged, "{} documents without a judgement count as not relevant"),
            (scores.unscored, "{} without a score are dropped by every threshold"),
        )
        if number
    ]
    return [f"{visible(name)}: {'; '.join(facts)}."]


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.ROUNDED, border_style="cyan", header_style="bold")
    table.add_column(Text(first), vertical="bottom")
    for name in others:
        table.add_column(Text("\n".join(map(visible, name.split("\n")))), justify="right")
    return table


def _print_table(console: Console, title: str, table: Table) -> None:
    """A title of its own: that of a table would be as narrow."""
    console.print(Text(visible(title), "bold"), table, sep="\n")


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(Padding(Text(note, "dim"), (0, 1)))


def _as_json(
    found: Sequence[Measured],
    comparisons: Sequence[Sequence[Comparison]],
    names: Sequence[str],
    count: int,
) -> Mapping[str, Any]:
    return {
        "queries": count,
        "runs": [
            {
                "name": run.name,
                "means": {name: run.mean(name) for name in names},
                "missing": run.missing,
                "unjudged": run.unjudged,
                "tied": run.tied,
            }
            for run in found
        ],
        "comparisons": [
            {
                "before": found[0].name,
                "after": after.name,
                "measure": each.measure,
                "difference": each.difference,
                "interval": each.interval,
                "p": each.p,
                "better": each.better,
                "equal": each.equal,
                "worse": each.worse,
                "changes": [
                    {"query": change.query, "before": change.before, "after": change.after}
                    for change in each.changes
                ],
            }
            for after, of_run in zip(found[1:], comparisons, strict=True)
            for each in of_run
        ],
    }


def _thresholds_as_json(
    name: str, scores: Scores, recall: float, min_grade: int, proposal: Proposal | None
) -> Mapping[str, Any]:
    return {
        "run": name,
        "queries": scores.questions,
        "missing": scores.missing,
        "documents": scores.documents,
        "unjudged": scores.unjudged,
        "unscored": scores.unscored,
        "min_grade": min_grade,
        "relevant": scores.relevant,
        "found": scores.found,
        "wanted_recall": recall,
        "proposed": None
        if proposal is None
        else asdict(proposal.kept)
        | {
            "interval": proposal.interval,
            "precision_interval": proposal.precision,
            "recall_interval": proposal.recall,
        },
        "thresholds": [asdict(scores.at(each)) for each in (None, *scores.steps(_FINER))],
    }
