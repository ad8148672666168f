"""Charts for notebooks: what reranking moved and changed, what is kept, when requests were sent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from io import BytesIO
from statistics import fmean
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image as Pillow

__all__ = ["Span", "changes", "kept", "movement", "timeline"]

# Blue and orange stay apart for every kind of colour blindness, and differ in brightness too.
INK, FAINT, STILL, LINE = "#333840", "#767c86", "#b9bfc8", "#d5d8dd"
UP, DOWN = "#0072b2", "#e08214"
STYLE = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # texts of others may hold dollar signs
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}
WIDTH = 9  # inches
COLOURS = 64  # enough for charts, in half the bytes


class Span(NamedTuple):
    """One request: when it was sent and answered, in seconds, its documents and its status."""

    sent: float
    answered: float
    documents: int
    status: int


def movement(
    before: Sequence[str],
    after: Sequence[tuple[str, float | None]],
    marked: Collection[str] = (),
    query: str = "",
    most: int = 12,
) -> Pillow.Image:
    """Draws where each candidate stood before and stands after reranking.

    Args:
        before: Names of all candidates, in the order of the retrieval.
        after: Names and scores of those that were kept, best first.
        marked: Names to set off, such as the right answers; by default what is first now.
        query: What was looked for.
        most: How many places of either side are drawn. Where a name of those came from, and where
            a marked one went, is drawn too.
    """
    scores = dict(after)
    then = {name: rank for rank, name in enumerate(before, 1)}
    now = {name: rank for rank, name in enumerate(scores, 1)}
    marked = set(marked) & scores.keys() or {after[0][0]}
    right = [name for name in now if now[name] <= most or (name in marked and then[name] <= most)]
    left = [name for name in before if then[name] <= most or name in right]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1 + 0.26 * max(len(left), len(right))))
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set(xlim=(-1, 2), ylim=(max(len(left), len(right)) + 0.6, -0.9 if query else -0.2))
        axes.set_title(_finding(marked, then, now))
        axes.text(-1, -0.6, query, va="center")
        axes.text(0, 0.1, "retrieved", color=FAINT, **_at("right"))
        axes.text(1, 0.1, "reranked, with score", color=FAINT, **_at("left"))
        for row, name in enumerate(left, 1):
            look = _look(name, marked, then, now)
            axes.text(-0.03, row, f"{name}   {then[name]}", **look, **_at("right"))
        for row, name in enumerate(right, 1):
            look = _look(name, marked, then, now)
            score = "no score" if scores[name] is None else f"{scores[name]:.2f}"
            axes.text(1.03, row, f"{now[name]}   {score}   {name}", **look, **_at("left"))
            axes.plot(
                (0, 1),
                (left.index(name) + 1, row),
                color=look["color"] if name in marked else STILL,
                linewidth=2.2 if name in marked else 1.4,
                marker="o",
                markersize=4,
            )
        return _drawn(figure)


def changes(gains: Sequence[float], interval: tuple[float, float], measure: str) -> Pillow.Image:
    """Draws what reranking changed for each query, largest gain first.

    Args:
        gains: For each query, the measure after less the measure before.
        interval: The confidence interval of their mean.
        measure: Name of the measure.
    """
    gains = sorted(gains, reverse=True)
    rose, fell = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    mean, (low, high), end = fmean(gains), interval, len(gains)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4))
        axes = figure.add_subplot()
        axes.bar(range(end), gains, color=[UP if gain > 0 else DOWN for gain in gains])
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.fill_between((-1, end), low, high, color=INK, alpha=0.18, linewidth=0)
        axes.plot((-1, end), (mean, mean), color=INK, linewidth=1.4)
        axes.text(end + 0.5, mean, f"mean {mean:+.3f}\n{low:+.3f} to {high:+.3f}", va="center")
        axes.set_title(f"{measure} rises for {rose} and falls for {fell} of {end} queries")
        axes.set(
            xticks=[],
            xlim=(-1, end * 1.17),
            xlabel="one bar for each query, largest gain first",
            ylabel=f"change of {measure}",
        )
        axes.spines.bottom.set_visible(False)
        return _drawn(figure)


def kept(
    scores: Mapping[str, float],
    answers: Collection[str],
    threshold: float,
    query: str = "",
    most: int = 12,
) -> Pillow.Image:
    """Draws what is left of a ranking without a score threshold and with one.

    Args:
        scores: Of each name, best first.
        answers: Names that are right, which are set off.
        threshold: What scores less is dropped.
        query: What was looked for.
        most: How many places are drawn.
    """
    shown = list(scores.items())[:most]
    left = [name for name, score in scores.items() if score >= threshold]
    right = [len([name for name in names if name in answers]) for names in (scores, left)]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.26 * len(shown)))
        without, with_one = figure.subplots(1, 2, sharex=True, sharey=True)
        figure.suptitle(f"“{query}”", x=0.01, ha="left")
        for row, (name, score) in enumerate(shown):
            colour = UP if name in answers else STILL
            without.barh(row, score, height=0.7, color=colour)
            drop = {"fill": False, "edgecolor": colour, "linestyle": ":"}
            look = {"color": colour} if score >= threshold else drop
            with_one.barh(row, score, height=0.7, **look)
            weight = "bold" if name in answers else "normal"
            without.text(score, row, f" {score:.2f}", va="center", weight=weight)
            if score >= threshold:
                with_one.text(score, row, f" {score:.2f}", va="center", weight=weight)
            else:
                with_one.text(threshold, row, " dropped", va="center", color=FAINT, weight=weight)
        with_one.axvline(threshold, color=INK, linewidth=1.2)
        for axes, names, count, what in zip(
            (without, with_one),
            (scores, left),
            right,
            ("no threshold", f"score_threshold={threshold:g}"),
            strict=True,
        ):
            axes.set_title(f"{what}: {len(names)} kept, {count} right")
            axes.set(xlabel="score", xlim=(0, 1.18 * max(scores.values())))
        without.set_yticks(range(len(shown)), [name for name, _ in shown])
        without.set_ylim(len(shown) - 0.4, -0.6)
        for label, (name, _) in zip(without.get_yticklabels(), shown, strict=True):
            label.set(color=INK, weight="bold" if name in answers else "normal")
        return _drawn(figure)


def timeline(spans: Sequence[Span], title: str) -> Pillow.Image:
    """Draws requests as bars over time, from when each was sent to when it was answered."""
    spans = sorted(spans)
    begun = spans[0].sent
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1 + 0.3 * len(spans)))
        axes = figure.add_subplot()
        for row, span in enumerate(spans, 1):
            is_good = span.status == 200
            start, length = 1e3 * (span.sent - begun), 1e3 * (span.answered - span.sent)
            axes.barh(row, length, left=start, height=0.7, color=UP if is_good else DOWN)
            told = f"{span.documents} documents" if is_good else f"refused with {span.status}"
            axes.text(start + length, row, f"  {told}", va="center")
        end = 1e3 * (max(span.answered for span in spans) - begun)
        axes.set_title(title)
        axes.set(
            xlim=(0, end * 1.25),
            ylim=(len(spans) + 0.6, 0.4),
            yticks=range(1, len(spans) + 1),
            xlabel="milliseconds since the first request was sent",
            ylabel="request",
        )
        return _drawn(figure)


def _finding(names: Iterable[str], then: Mapping[str, int], now: Mapping[str, int]) -> str:
    """What the picture shows, in a line: what became of the name that stood highest."""
    name = min(sorted(names), key=lambda name: min(then[name], now[name]))
    if then[name] == now[name]:
        return f"“{name}” stays at rank {now[name]}"
    verb = "rises" if now[name] < then[name] else "falls"
    return f"“{name}” {verb} from rank {then[name]} to rank {now[name]}"


def _look(
    name: str, marked: Collection[str], then: Mapping[str, int], now: Mapping[str, int]
) -> dict[str, str]:
    if name in marked:
        return {"color": UP if now[name] <= then[name] else DOWN, "weight": "bold"}
    return {"color": INK if name in now else FAINT}


def _at(side: str) -> dict[str, str]:
    return {"ha": side, "va": "center"}


def _drawn(figure: Figure) -> Pillow.Image:
    """*figure* as a picture that shows itself at the end of a notebook's cell."""
    drawn = BytesIO()
    figure.savefig(drawn)
    with Pillow.open(drawn) as chart:
        return chart.convert("RGB").quantize(COLOURS, dither=Pillow.Dither.NONE)
