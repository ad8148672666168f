"""Calls per second of many async calls at once, against bare aiohttp and against the peers."""

import asyncio
import time
from contextlib import ExitStack

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, Spread, at_least, ratios, spread
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

CALLS, DOCUMENTS, CHARACTERS, DELAY = 1_500, 20, 500, 50
IN_FLIGHT = {16: 0.95, 64: 0.92, 256: 0.75}
PEERS = {"acommunity": 7, "sdk_async": 7}
NAMES = {
    "acore": "qwen-rerank",
    "aiohttp": "bare aiohttp",
    "sdk_async": "dashscope AsyncClient",
    "acommunity": "langchain-community",
}

Rates = dict[int, dict[str, list[float]]]


def async_throughput(server: Server, *, quick: bool = False) -> list[Comparison]:
    """1,500 calls of 20 documents, an answer after 50 ms, with 16, 64 and 256 in flight."""
    calls = 40 if quick else CALLS
    rates: Rates = {in_flight: {name: [] for name in NAMES} for in_flight in IN_FLIGHT}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker()) for name in NAMES}
        for number in range(1 if quick else 5):
            for in_flight, names in rates.items():
                # The slow ones take minutes: three rounds of the five where a target asks for
                # them, one where only the chart does. So does everybody with 16 in flight.
                slow = number < (3 if in_flight == 256 else 1)
                if in_flight == 16 and number >= 3:
                    continue
                for name in names if slow else ("acore", "aiohttp"):
                    rate = workers[name].call(
                        run,
                        contender=name,
                        base_url=server.base_url(DELAY),
                        calls=calls,
                        in_flight=in_flight,
                    )
                    names[name].append(rate)
    return [
        _against_the_floor(rates, calls),
        _against_the_peers(rates[256], calls),
    ]


def run(contender: str, base_url: str, calls: int, in_flight: int) -> float:
    """Calls per second of *contender*; runs in a worker."""
    return asyncio.run(_run(contender, base_url, calls, in_flight))


async def _run(contender: str, base_url: str, calls: int, in_flight: int) -> float:
    client = getattr(contenders, contender)
    async with client(base_url, texts(DOCUMENTS, CHARACTERS), in_flight) as call:

        async def one_after_another(numbers: range) -> None:
            for _ in numbers:
                await call()

        async def together(number: int) -> None:
            async with asyncio.TaskGroup() as group:
                for first in range(in_flight):
                    group.create_task(one_after_another(range(first, number, in_flight)))

        await together(min(in_flight, calls))  # opens the connections
        started = time.perf_counter()
        await together(calls)
        return calls / (time.perf_counter() - started)


def _against_the_floor(rates: Rates, calls: int) -> Comparison:
    return Comparison(
        what=f"{calls:,} async calls of {DOCUMENTS} documents, {DELAY} ms server: calls per second "
        "against bare aiohttp",
        how="One object, as many tasks as are in flight, a process for each contender; 500 "
        "characters a document, connections opened before the clock starts.",
        measures=[
            measure
            for in_flight, least in IN_FLIGHT.items()
            for measure in (
                Measure(
                    f"{in_flight} in flight",
                    ratios(rates[in_flight]["acore"], rates[in_flight]["aiohttp"]),
                    at_least(least),
                ),
                Measure(f"{in_flight} in flight, alone", _rate(rates[in_flight]["acore"])),
            )
        ],
        would_take="Fewer microseconds of Python for each call: beside aiohttp's own work that is "
        "planning, the checks of the reply, the deadline and the ranking.",
        drawn={
            NAMES[name]: {each: spread(rates[each][name]).median for each in rates}
            for name in NAMES
        },
    )


def _against_the_peers(rates: dict[str, list[float]], calls: int) -> Comparison:
    measures = []
    for peer, least in PEERS.items():
        theirs = rates[peer]
        ours = rates["acore"][: len(theirs)]
        measures.append(Measure(f"against {NAMES[peer]}", ratios(ours, theirs), at_least(least)))
        measures.append(Measure(f"{NAMES[peer]}, alone", _rate(theirs)))
    return Comparison(
        what=f"{calls:,} async calls at 256 in flight: calls per second against the peers",
        how="As above, in the same rounds. langchain-community runs sync code in the event loop's "
        "default threads; the SDK's AsyncClient is used with its default limits, and "
        "its rate swings from round to round.",
        measures=measures,
        would_take="Fewer microseconds of CPU per call; the peers' own rates are what they are.",
    )


def _rate(values: list[float]) -> Spread:
    return spread(values, " calls/s")
