"""`qwen-rerank evaluate`: the flow, the tables and the JSON. Measuring lives in `compare`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from qwen_rerank.cli._runs import judgements, opened, ranked_lists
from qwen_rerank.cli._terminal import open_console, told, visible
from qwen_rerank.cli.evaluate.compare import Comparison, Measured, compared, measured, measures_of

__all__ = ["DEFAULT_MEASURES", "evaluate"]

DEFAULT_MEASURES = ("nDCG@10", "RR", "R@100")
_NOTES = (
    "Means over all {count} judged queries; a query that a run lacks counts 0. Runs are ordered by "
    "score, and equal scores as the file has them."
)
_TEST_NOTES = (
    "p: a paired test that exchanges the runs at random in each query (two-sided). Whatever it "
    "says, differences below about 0.02 mean little on collections of this kind."
)


def evaluate(
    qrels: str,
    runs: Sequence[str],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    changed: int = 5,
    as_json: bool = False,
) -> int:
    """Measures every run, and compares each with the first.

    Args:
        qrels: The file of judgements.
        runs: Files of runs, each as ``FILE`` or ``NAME=FILE``.
        measures: Names of measures, as ir_measures has them.
        changed: How many of the queries that changed most are shown, by the first measure.
        as_json: Print JSON with every query instead of tables.

    Returns:
        The exit code.

    Raises:
        ValueError: A file or a name is not what it has to be.
    """
    wanted = measures_of(measures)
    names = list(dict.fromkeys(str(measure) for measure in wanted))
    try:
        judged = judgements(qrels)
        found = []
        for name, path in _named(runs):
            with opened(path) as file:
                found.append(measured(name, list(ranked_lists(file, path)), judged, wanted))
    except OSError as error:
        raise ValueError(told(error)) from None
    comparisons = [[compared(found[0], after, name) for name in names] for after in found[1:]]
    if as_json:
        print(json.dumps(_as_json(found, comparisons, names, len(judged))))
        return 0
    console = open_console()
    console.print(_figures(found, names))
    notes = [_NOTES.format(count=f"{len(judged):,}"), *_remarks(found)]
    for after, of_run in zip(found[1:], comparisons, strict=True):
        console.print(_differences(found[0], after, of_run))
        if any(change.gain for change in of_run[0].changes[:changed]):
            console.print(_changes(found[0], after, of_run[0], changed))
    if comparisons:
        notes.append(_TEST_NOTES)
    _print_notes(console, notes)
    return 0


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
    table = Table(box=box.ROUNDED, border_style="cyan", header_style="bold")
    table.add_column("mean")
    for run in found:
        table.add_column(Text(visible(run.name)), justify="right")
    for name in names:
        table.add_row(Text(name), *(f"{run.mean(name):.3f}" for run in found))
    return table


def _differences(before: Measured, after: Measured, comparisons: Sequence[Comparison]) -> Table:
    table = _titled(f"{after.name} against {before.name}")
    for column in ("measure", "difference", "p", "wins", "ties", "losses"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for each in comparisons:
        p = "<0.0001" if each.p < 1e-4 else f"{each.p:.4f}"
        counts = (f"{number:,}" for number in (each.wins, each.ties, each.losses))
        table.add_row(Text(each.measure), f"{each.difference:+.3f}", p, *counts)
    return table


def _changes(before: Measured, after: Measured, comparison: Comparison, most: int) -> Table:
    table = _titled(f"most changed in {comparison.measure}")
    table.add_column("query")
    for name in (before.name, after.name):
        table.add_column(Text(visible(name)), justify="right")
    table.add_column("change", justify="right")
    for change in comparison.changes[:most]:
        if change.gain:
            style = "green" if change.gain > 0 else "red"
            table.add_row(
                Text(visible(change.query)),
                f"{change.before:.3f}",
                f"{change.after:.3f}",
                Text(f"{change.gain:+.3f}", style),
            )
    return table


def _titled(title: str) -> Table:
    return Table(
        title=Text(visible(title), "bold"),
        title_justify="left",
        box=box.ROUNDED,
        border_style="cyan",
        header_style="bold",
    )


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
                "p": each.p,
                "wins": each.wins,
                "ties": each.ties,
                "losses": each.losses,
                "changes": [
                    {"query": change.query, "before": change.before, "after": change.after}
                    for change in each.changes
                ],
            }
            for after, of_run in zip(found[1:], comparisons, strict=True)
            for each in of_run
        ],
    }
