"""Requests per second and client's processor time against bare aiohttp, at one real server.

    python throughput.py CONTENDER REQUESTS IN_FLIGHT   reads a `Server`'s facts as JSON from stdin

runs one contender in a process of its own; `measured` lets them take turns. Both send the same
documents over as many connections as there are requests in flight, and read the answer as JSON,
with the documents that vLLM repeats in it. What is measured is the process itself, all its threads,
once the connections are open: what was imported before and what the server does is not counted.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from served import QUERY, Server, texts

__all__ = ["DOCUMENTS", "IN_FLIGHT", "compared", "draw", "measured"]

IN_FLIGHT = {1: 40, 4: 120, 16: 480, 64: 480}
"""How many requests are made with so many in flight."""
DOCUMENTS = 20
_ROUNDS = 5
_COLOURS = {"qwen-rerank": "#0a5fb4", "bare aiohttp": "#5c6670"}

_Ask = Callable[[], Awaitable[Any]]


def measured(server: Server) -> dict[str, dict[str, list[list[float]]]]:
    """By contender and requests in flight: for each round requests per second and CPU in ms."""
    facts = {
        "kind": server.kind,
        "address": server.address,
        "model": server.model,
        "tokens": server.tokens,
        "api_key": server.api_key,
        "path": server.path,
    }
    found = {name: {str(number): [] for number in IN_FLIGHT} for name in CONTENDERS}
    for round_ in range(_ROUNDS):
        for in_flight, requests in IN_FLIGHT.items():
            # Who goes first has a server that has rested, or not: turn about.
            for name in sorted(CONTENDERS, reverse=bool(round_ % 2)):
                command = [sys.executable, __file__, name, str(requests), str(in_flight)]
                done = subprocess.run(  # noqa: S603  our own script
                    command, input=json.dumps(facts), stdout=subprocess.PIPE, check=True, text=True
                )
                found[name][str(in_flight)].append(json.loads(done.stdout))
    return found


def compared(found: dict[str, dict[str, list[list[float]]]], in_flight: int) -> dict[str, Any]:
    """What *found* comes to with so many requests in flight.

    Returns:
        Under the name of each contender the medians of its requests per second and of its
        processor time in ms; and of ours over bare aiohttp, round by round, the median, the least
        and the most of both, as "rate" and "cpu".
    """
    rounds = {name: found[name][str(in_flight)] for name in _COLOURS}
    medians = {
        name: [statistics.median(each[which] for each in of) for which in (0, 1)]
        for name, of in rounds.items()
    }
    ours, bare = rounds.values()
    ratios = {}
    for which, name in enumerate(("rate", "cpu")):
        of = [our[which] / their[which] for our, their in zip(ours, bare, strict=True)]
        ratios[name] = [statistics.median(of), min(of), max(of)]
    return {
        name: [round(each, 2) for each in numbers]
        for name, numbers in {**medians, **ratios}.items()
    }


@asynccontextmanager
async def _ours(server: Server, in_flight: int) -> AsyncIterator[_Ask]:
    documents = texts(DOCUMENTS)
    async with server.reranker(max_concurrency=in_flight) as reranker:
        yield lambda: reranker.arerank(QUERY, documents)


@asynccontextmanager
async def _bare(server: Server, in_flight: int) -> AsyncIterator[_Ask]:
    import aiohttp

    body = {"model": server.model, "query": QUERY, "documents": texts(DOCUMENTS)}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=in_flight),
        headers={"Authorization": f"Bearer {server.api_key}"},
    ) as session:

        async def ask() -> Any:
            async with session.post(server.address + server.path, json=body) as answer:
                return (await answer.json())["results"]

        yield ask


CONTENDERS = {"qwen-rerank": _ours, "bare aiohttp": _bare}


async def _run(contender: str, requests: int, in_flight: int, server: Server) -> list[float]:
    async with CONTENDERS[contender](server, in_flight) as ask:

        async def one_after_another(count: int) -> None:
            for _ in range(count):
                await ask()

        async def together(count: int) -> None:
            async with asyncio.TaskGroup() as group:
                for first in range(in_flight):
                    group.create_task(one_after_another(len(range(first, count, in_flight))))

        await together(in_flight)  # opens the connections
        started, used = time.perf_counter(), time.process_time()
        await together(requests)
        took, used = time.perf_counter() - started, time.process_time() - used
    return [requests / took, 1_000 * used / requests]


def draw(found: dict[str, dict[str, list[list[float]]]], title: str, path: Path) -> None:
    """Requests per second over requests in flight: medians, and from the least to the most."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "#e3e6e8",
        "axes.axisbelow": True,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots()
        for name, colour in reversed(_COLOURS.items()):
            rates = [[rate for rate, _ in found[name][str(number)]] for number in IN_FLIGHT]
            medians = [statistics.median(each) for each in rates]
            least, most = list(map(min, rates)), list(map(max, rates))
            axes.fill_between(list(IN_FLIGHT), least, most, color=colour, alpha=0.12, linewidth=0)
            ours = name == "qwen-rerank"
            axes.plot(
                list(IN_FLIGHT),
                medians,
                color=colour,
                marker="o",
                markersize=5 if ours else 9,
                linewidth=2.2 if ours else 1.4,
                linestyle="-" if ours else (0, (5, 3)),
                label=name,
            )
        axes.legend(frameon=False, loc="lower right")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(IN_FLIGHT), [str(number) for number in IN_FLIGHT])
        axes.set_ylim(bottom=0)
        axes.minorticks_off()
        axes.set_xlabel("requests in flight", loc="left")
        axes.set_ylabel("requests per second")
        axes.set_title(title, loc="left", fontsize=12, pad=12)
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    asked = Server(**json.load(sys.stdin))
    print(json.dumps(asyncio.run(_run(name, *map(int, numbers), asked))))  # noqa: T201
