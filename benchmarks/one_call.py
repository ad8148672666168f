"""Wall time of one call with many candidates: near the ideal, and shorter when it is cut."""

import asyncio
import atexit
import time
from functools import cache
from typing import Any

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, at_least, at_most, ratios, spread
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

BASE, PER_DOCUMENT = 50, 1  # milliseconds
WIDTH, CONCURRENCY = 100, 16
CUTS = (1, 2, 4, 8)


def near_ideal(server: Server, *, quick: bool = False) -> Comparison:
    """5,000 candidates of 1,000 characters in one call, against rounds x time of one request."""
    count = 5_000
    requests = -(-count // WIDTH)
    ideal = -(-requests // CONCURRENCY) * (BASE + PER_DOCUMENT * WIDTH) / 1000
    seconds: dict[str, list[float]] = {"sync": [], "async": []}
    with Worker() as worker:
        for _ in range((1 if quick else 7) + 1):
            for kind, each in seconds.items():
                each.append(
                    worker.call(
                        run,
                        kind=kind,
                        base_url=server.base_url(BASE, PER_DOCUMENT),
                        count=count,
                        characters=1_000,
                        width=WIDTH,
                    )
                )
    return Comparison(
        what=f"{count:,} candidates of 1,000 characters in one call, {BASE} ms + {PER_DOCUMENT} ms "
        f"per document, {CONCURRENCY} at once, width {WIDTH}: wall time against the ideal",
        how=f"The ideal is 4 rounds of the server's own {BASE + PER_DOCUMENT * WIDTH} ms, which "
        "grants the network and the client nothing; sync and async in turn.",
        measures=[
            Measure(kind, ratios(each[1:], [ideal] * len(each[1:])), at_most(1.3))
            for kind, each in seconds.items()
        ],
        would_take="Planning and merging before and after the requests, which nothing overlaps.",
    )


def cut_finer(server: Server, *, quick: bool = False) -> Comparison:
    """500 candidates cut over 1, 2, 4 and 8 requests."""
    count = 500
    seconds: dict[str, dict[int, list[float]]] = {
        kind: {cut: [] for cut in CUTS} for kind in ("sync", "async")
    }
    with Worker() as worker:
        for _ in range((1 if quick else 7) + 1):
            for kind, by_cut in seconds.items():
                for cut, each in by_cut.items():
                    each.append(
                        worker.call(
                            run,
                            kind=kind,
                            base_url=server.base_url(BASE, PER_DOCUMENT),
                            count=count,
                            characters=150,
                            width=-(-count // cut),
                        )
                    )
    return Comparison(
        what=f"{count} candidates, {BASE} ms + {PER_DOCUMENT} ms per document, cut over 1, 2, 4, 8 "
        "requests: how many times faster at 8 than at 1",
        how="`max_documents_per_request` at 500, 250, 125 and 63, 150 characters a document, so "
        "that one request can hold them all; the fastest possible is 4.9 times.",
        measures=[
            Measure(kind, ratios(by_cut[1][1:], by_cut[8][1:]), at_least(4))
            for kind, by_cut in seconds.items()
        ],
        would_take="Less work per call outside the requests.",
        drawn={
            kind: {cut: spread(each[1:]).median for cut, each in by_cut.items()}
            for kind, by_cut in seconds.items()
        },
    )


def run(kind: str, base_url: str, count: int, characters: int, width: int) -> float:
    """Seconds of one call, sync or async; runs in a worker."""
    reranker, documents = _ready(base_url, count, characters, width)
    if kind == "sync":
        started = time.perf_counter()
        ranking = reranker.rerank(contenders.QUERY, documents)
    else:
        loop = _loop()
        started = time.perf_counter()
        ranking = loop.run(reranker.arerank(contenders.QUERY, documents))
    elapsed = time.perf_counter() - started
    if len(ranking) != count:
        raise RuntimeError(f"{len(ranking)} of {count} documents came back")
    return elapsed


@cache
def _ready(base_url: str, count: int, characters: int, width: int) -> tuple[Any, list[str]]:
    from qwen_rerank import Reranker

    reranker = Reranker(
        model=contenders.MODEL,
        base_url=base_url,
        api_key=contenders.KEY,
        max_concurrency=CONCURRENCY,
        max_documents_per_request=width,
    )
    return reranker, texts(count, characters)


@cache
def _loop() -> asyncio.Runner:
    runner = asyncio.Runner()
    atexit.register(runner.close)  # and with it the connections of its loop
    return runner
