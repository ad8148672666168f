"""Calls per second of many threads that share one reranker, against a bare aiohttp loop."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks import async_throughput, contenders
from benchmarks.results import Comparison, Measure, at_least, ratios, spread
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

CALLS, DOCUMENTS, CHARACTERS, DELAY, THREADS = 1_500, 20, 500, 50, 64


def sync_throughput(server: Server, *, quick: bool = False) -> Comparison:
    """1,500 calls of 20 documents from 64 threads, an answer after 50 ms."""
    calls, rounds = (40, 1) if quick else (CALLS, 5)
    ours, theirs = [], []
    with ExitStack() as stack:
        threads, loop = stack.enter_context(Worker()), stack.enter_context(Worker())
        for _ in range(rounds):
            asked = {"base_url": server.base_url(DELAY), "calls": calls}
            ours.append(threads.call(run, **asked))
            theirs.append(
                loop.call(async_throughput.run, contender="aiohttp", in_flight=THREADS, **asked)
            )
    return Comparison(
        what=f"{calls:,} sync calls of {DOCUMENTS} documents from {THREADS} threads, {DELAY} ms "
        "server: calls per second against bare aiohttp with as many in flight",
        how=f"One object that all threads share, a process for each contender; {CHARACTERS} "
        "characters a document, connections opened before the clock starts.",
        measures=[
            Measure(f"{THREADS} threads", ratios(ours, theirs), at_least(0.75)),
            Measure(f"{THREADS} threads, alone", spread(ours, " calls/s")),
        ],
        would_take="As for async calls, and fewer changes of thread: each call is handed to the "
        "engine's loop and back.",
    )


def run(base_url: str, calls: int) -> float:
    """Calls per second; runs in a worker."""
    call = contenders.core(base_url, texts(DOCUMENTS, CHARACTERS), max_concurrency=THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: call(), range(THREADS)))  # opens the connections
        started = time.perf_counter()
        list(pool.map(lambda _: call(), range(calls)))
        return calls / (time.perf_counter() - started)
