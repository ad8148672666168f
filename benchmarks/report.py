"""The generated README: the table, the machine, the pictures, and how each row was measured."""

import datetime as dt
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import charts
from benchmarks.results import Comparison

_INTRODUCTION = (
    "Written by `make bench`; do not edit. Every figure is the median of several rounds in one "
    "run in which the contenders took turns, with the middle half of the rounds in brackets. "
    "Nothing is compared with a figure from another run, and nothing leaves this machine: a bare "
    "server in a process of its own answers after a fixed delay. Rows without a target are there "
    "to compare with."
)
_PACKAGES = (
    "qwen-rerank",
    "dashscope",
    "httpx",
    "aiohttp",
    "pydantic",
    "tiktoken",
    "langchain-core",
    "langchain-community",
    "llama-index-core",
    "llama-index-postprocessor-dashscope-rerank",
)


def write(comparisons: Sequence[Comparison], folder: Path) -> None:
    """Writes ``README.md`` and the pictures into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [each.drawn for each in comparisons if each.drawn is not None]
    charts.throughput(drawn[0], folder / charts.THROUGHPUT)
    charts.curve(drawn[1], folder / charts.CURVE)
    (folder / "README.md").write_text("\n".join(_lines(comparisons)) + "\n", "utf-8")


def _lines(comparisons: Sequence[Comparison]) -> list[str]:
    missed = [each for each in comparisons if any(measure.missed for measure in each.measures)]
    return [
        "# Benchmarks",
        "",
        _INTRODUCTION,
        "",
        f"{_machine()}.",
        "",
        "Versions: " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + ".",
        "",
        *_table(comparisons),
        "",
        f"![Calls per second over calls in flight]({charts.THROUGHPUT})",
        "",
        f"![Wall time of one call over the requests it is cut into]({charts.CURVE})",
        "",
        "## How each was measured",
        "",
        *(f"{number}. {each.how}" for number, each in enumerate(comparisons, 1)),
        "",
        "## What was missed",
        "",
        *(
            [f"- Row {comparisons.index(each) + 1}: {each.would_take}" for each in missed]
            or ["Nothing in this run."]
        ),
    ]


def _table(comparisons: Sequence[Comparison]) -> list[str]:
    lines = ["| | what | | target | measured | met |", "|---|---|---|---|---|---|"]
    for number, each in enumerate(comparisons, 1):
        head = f"{number} | {each.what}"
        for measure in each.measures:
            target, met = "", ""
            if measure.target is not None:
                target, met = str(measure.target), "no" if measure.missed else "yes"
            lines.append(f"| {head} | {measure.name} | {target} | {measure.value} | {met} |")
            head = " | "
    return lines


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    today = dt.datetime.now(dt.UTC).date()
    return f"Date: {today}. Machine: {os.cpu_count()} cores, {_processor()}. {python}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
