"""What `qwen-rerank evaluate` draws with matplotlib. Nothing is measured or printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qwen_rerank.cli._terminal import visible
from qwen_rerank.cli.evaluate.compare import Comparison, Measured
from qwen_rerank.cli.evaluate.threshold import Proposal, Scores, written

__all__ = ["draw_changes", "draw_thresholds"]

# Blue and orange stay apart for every kind of colour blindness; shapes and sides say it too.
_INK, _FAINT, _LINE = "#333840", "#767c86", "#d5d8dd"
_BETTER, _WORSE = "#0072b2", "#e08214"
_FIRST, _SECOND = "#333840", "#cc79a7"  # nothing is better or worse of these
_STYLE: Any = {
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "qwen-rerank",  # the same picture is the same file
    "text.color": _INK,
    "text.parse_math": False,  # names of others may hold dollar signs
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
}
_WIDTH = 9  # inches
_POINTS = 400  # of a curve


def draw_changes(
    path: Path, before: Measured, pairs: Sequence[tuple[Measured, Comparison]]
) -> None:
    """Draws each query before and after, and what changed, a row for each run.

    Args:
        path: Where to; its ending is the format.
        before: The run that the others are compared with.
        pairs: Each other run, and the comparison.

    Raises:
        OSError: It cannot be written.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 4.2 * len(pairs)))
        rows = figure.subplots(len(pairs), 2, squeeze=False, width_ratios=(2, 3))
        for (left, right), (after, comparison) in zip(rows, pairs, strict=True):
            _draw_pairs(left, before, after, comparison)
            _draw_gains(right, comparison)
        _save(figure, path)


def draw_thresholds(
    path: Path, name: str, scores: Scores, recall: float, proposal: Proposal | None
) -> None:
    """Draws what every threshold keeps and loses, and the proposed one.

    Args:
        path: Where to; its ending is the format.
        name: Of the run.
        scores: Its scores.
        recall: The wanted one.
        proposal: The threshold for it, if there is one.

    Raises:
        OSError: It cannot be written.
    """
    low, high = scores.low, scores.high
    thresholds = [low + (high - low) * number / _POINTS for number in range(_POINTS + 1)]
    kept = [scores.at(threshold) for threshold in thresholds]
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 6))
        above, below = figure.subplots(2, 1, sharex=True)
        told = "no threshold has"
        if proposal is not None:
            told = f"score_threshold={written(proposal.kept.threshold)} has"
        figure.suptitle(f"{visible(name)}: {told} a recall of {recall:g}", ha="left", x=0.01)
        precision = [each.precision for each in kept]
        _draw_curve(above, thresholds, [each.recall for each in kept], "recall")
        _draw_curve(above, thresholds, precision, "precision", second=True)
        documents = [each.documents / scores.documents for each in kept]
        empty = [each.empty / scores.questions for each in kept]
        _draw_curve(below, thresholds, documents, "documents kept")
        _draw_curve(below, thresholds, empty, "questions left\nwith nothing", second=True)
        for axes in (above, below):
            axes.set(ylim=(-0.02, 1.04), ylabel="share")
            axes.margins(x=0)
            axes.grid(axis="y", color=_LINE, linewidth=0.6)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
            if proposal is not None:
                _draw_proposal(axes, proposal)
        below.set_xlabel(
            "score_threshold"
            if proposal is None or proposal.interval is None
            else "score_threshold; the band is the 95 % interval of the proposed one"
        )
        _save(figure, path)


def _draw_pairs(axes: Axes, before: Measured, after: Measured, comparison: Comparison) -> None:
    for label, sign, colour, marker in (
        ("better", 1, _BETTER, "^"),
        ("equal", 0, _FAINT, "."),
        ("worse", -1, _WORSE, "v"),
    ):
        chosen = [each for each in comparison.changes if (each.gain > 0) - (each.gain < 0) == sign]
        axes.scatter(
            [each.before for each in chosen],
            [each.after for each in chosen],
            s=22,
            color=colour,
            marker=marker,
            alpha=0.6,
            linewidth=0,
            clip_on=False,
            label=f"{len(chosen):,} {label}",
        )
    ends = [each for change in comparison.changes for each in (change.before, change.after)]
    low, high = min(0.0, *ends), max(1.0, *ends)
    axes.plot((low, high), (low, high), color=_FAINT, linewidth=0.8, zorder=0)
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
        title=f"{comparison.measure} of each query",
        xlabel=visible(before.name),
        ylabel=visible(after.name),
    )
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=3,
        frameon=False,
        handletextpad=0,
        columnspacing=0.8,
    )


def _draw_gains(axes: Axes, comparison: Comparison) -> None:
    gains, end = [change.gain for change in comparison.changes], len(comparison.changes)
    edges = range(end + 1)
    for colour, side in (
        (_BETTER, [max(gain, 0.0) for gain in gains]),
        (_WORSE, [min(gain, 0.0) for gain in gains]),
    ):
        axes.stairs(side, edges, fill=True, color=colour, linewidth=0)
    axes.axhline(0, color=_FAINT, linewidth=0.8)
    mean = comparison.difference
    told = f"mean {mean:+.3f}"
    if comparison.interval is not None:
        low, high = comparison.interval
        axes.fill_between((0, end), low, high, color=_INK, alpha=0.18, linewidth=0)
        told += f"\n95 % {low:+.3f} to {high:+.3f}"
    axes.plot((0, end), (mean, mean), color=_INK, linewidth=1.4)
    axes.annotate(told, (1, 1), xycoords="axes fraction", ha="right", va="top")
    axes.set(
        xlim=(0, end),
        xticks=[],
        title=f"rises for {comparison.better:,}, falls for {comparison.worse:,} of {end:,}",
        xlabel="one bar for each query, largest gain first",
        ylabel=f"change of {comparison.measure}",
    )
    axes.spines.bottom.set_visible(False)


def _draw_curve(
    axes: Axes,
    thresholds: Sequence[float],
    shares: Sequence[float | None],
    label: str,
    *,
    second: bool = False,
) -> None:
    """A share for each threshold; none where nothing is kept."""
    axes.step(
        thresholds,
        [float("nan") if each is None else each for each in shares],
        where="post",
        color=_SECOND if second else _FIRST,
        linestyle="--" if second else "-",
        linewidth=1.8,
        label=label,
    )


def _draw_proposal(axes: Axes, proposal: Proposal) -> None:
    if proposal.interval is not None:
        axes.axvspan(*proposal.interval, color=_INK, alpha=0.12, linewidth=0)
    axes.axvline(proposal.kept.threshold or 0.0, color=_INK, linewidth=1.2)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
