"""The two pictures of the README: calls per second in flight, and one call cut finer."""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import async_throughput, one_call

THROUGHPUT, CURVE = "throughput.png", "one-call.png"

_ACCOUNT_LIMIT = 90  # requests per second for qwen3-rerank, from the vendor's page on rate limits
_COLOURS = {
    "qwen-rerank": "#0a5fb4",
    "bare aiohttp": "#5c6670",
    "dashscope AsyncClient": "#b4530a",
    "langchain-community": "#8a3ffc",
}
_GREY = "#5c6670"
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e6e8",
    "axes.axisbelow": True,
}


def throughput(rates: dict[str, dict[int, float]], path: Path) -> None:
    """Calls per second over calls in flight, with the account's limit drawn in."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.subplots()
        for name, points in rates.items():
            bold = name == "qwen-rerank"
            axes.plot(
                list(points),
                list(points.values()),
                color=_COLOURS[name],
                marker="o",
                linewidth=2.6 if bold else 1.6,
                zorder=3 if bold else 2,
            )
        last = max(next(iter(rates.values())))
        ends = {name: points[last] for name, points in rates.items()}
        for (name, rate), height in zip(
            ends.items(), _apart(list(ends.values()), 1.25), strict=True
        ):
            axes.annotate(
                f"{name}  {rate:,.0f}",
                (last, height),
                xytext=(10, 0),
                textcoords="offset points",
                va="center",
                color=_COLOURS[name],
                fontweight="bold" if name == "qwen-rerank" else "normal",
            )
        axes.hlines(
            _ACCOUNT_LIMIT,
            min(points) * 0.85,
            last,
            color="#c4162a",
            linewidth=1.4,
            linestyle=(0, (5, 3)),
        )
        axes.annotate(
            f"account limit of qwen3-rerank: {_ACCOUNT_LIMIT} per second",
            (min(points), _ACCOUNT_LIMIT),
            xytext=(0, -5),
            textcoords="offset points",
            va="top",
            color="#c4162a",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(list(points), [str(number) for number in points])
        axes.set_xlim(min(points) * 0.85, last * 5)
        axes.set_ylim(40, max(map(max, (each.values() for each in rates.values()))) * 1.6)
        ticks = [50, 100, 200, 500, 1000, 2000]
        axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.spines["bottom"].set_bounds(min(points) * 0.85, last)
        axes.set_xlabel("calls in flight", loc="left")
        axes.set_ylabel("calls per second (log scale)")
        _title(
            axes,
            f"{async_throughput.CALLS:,} async calls of {async_throughput.DOCUMENTS} documents "
            f"to a server that takes {async_throughput.DELAY} ms",
        )
        figure.savefig(path, dpi=150)


def curve(seconds: dict[str, dict[int, float]], path: Path) -> None:
    """Wall time of one call over the requests it is cut into, with the ideal."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 4.4), layout="constrained")
        axes = figure.subplots()
        cuts = one_call.CUTS
        ideal = [one_call.BASE + one_call.PER_DOCUMENT * -(-500 // cut) for cut in cuts]
        axes.plot(cuts, ideal, color=_GREY, linestyle=(0, (5, 3)), linewidth=1.4, marker="_")
        milliseconds = {
            kind: [1000 * points[cut] for cut in cuts] for kind, points in seconds.items()
        }
        for kind, colour in (("sync", "#0a8f72"), ("async", "#0a5fb4")):
            axes.plot(cuts, milliseconds[kind], color=colour, marker="o", linewidth=2.2)
        ends = {
            "sync": ("#0a8f72", milliseconds["sync"][-1]),
            "async": ("#0a5fb4", milliseconds["async"][-1]),
            "ideal: the server alone": (_GREY, ideal[-1]),
        }
        for (name, (colour, value)), height in zip(
            ends.items(),
            _apart([value for _, value in ends.values()], 34, ratio=False),
            strict=True,
        ):
            axes.annotate(
                f"{name}  {value:.0f} ms",
                (cuts[-1], height),
                xytext=(12, 0),
                textcoords="offset points",
                va="center",
                color=colour,
            )
        for cut, *values in zip(cuts[:-1], *milliseconds.values(), strict=False):
            axes.annotate(
                f"{sum(values) / len(values):.0f} ms",
                (cut, max(values)),
                xytext=(6, 6),
                textcoords="offset points",
                color="#30363b",
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(cuts), [str(cut) for cut in cuts])
        axes.set_xlim(0.9, 25)
        axes.set_ylim(0, max(map(max, milliseconds.values())) * 1.15)
        axes.minorticks_off()
        axes.spines["bottom"].set_bounds(0.9, cuts[-1])
        axes.set_xlabel("requests that one call is cut into", loc="left")
        axes.set_ylabel("wall time of the call (ms)")
        _title(
            axes,
            f"500 candidates, a server that takes {one_call.BASE} ms "
            f"and {one_call.PER_DOCUMENT} ms per document",
        )
        figure.savefig(path, dpi=150)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=12, pad=12)


def _apart(values: list[float], gap: float, *, ratio: bool = True) -> list[float]:
    """Heights for labels: those of *values*, moved up where two would touch."""
    heights = list(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    for below, above in pairwise(order):
        least = heights[below] * gap if ratio else heights[below] + gap
        heights[above] = max(heights[above], least)
    return heights
