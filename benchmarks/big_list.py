"""A big list beside other work: how long the event loop stands still, and what a call takes."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable
from typing import Any

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, at_most, spread
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

CHARACTERS, WIDTH = 1_000, 100
STALLS = {1_000: 20, 10_000: 50}  # documents, and milliseconds that the loop may stand still
LONGEST = 100_000
_TICK = 0.001  # seconds


def stalls(server: Server, *, quick: bool = False) -> Comparison:
    """The worst stall of a ticking task while a list is ranked, by the core and the frameworks."""
    measures = []
    ways = {
        "core": core,
        "ours in langchain": ours_in_langchain,
        "ours in llama index": ours_in_llama_index,
    }
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker()) for name in ways}
        for count, most in STALLS.items():
            for frozen in (False, True):
                worst: dict[str, list[float]] = {name: [] for name in ways}
                for _ in range((2 if quick else 9) + 1):
                    for name, way in ways.items():
                        options = {"base_url": server.base_url(), "count": count}
                        worst[name].append(workers[name].call(way, frozen=frozen, **options))
                measures += [
                    Measure(
                        f"{name}, {count:,}" + ", after `gc.freeze()`" * frozen,
                        spread(each[1:], " ms"),
                        None if frozen else at_most(most, " ms"),
                    )
                    for name, each in worst.items()
                ]
    return Comparison(
        what="the longest time for which the caller's event loop stands still while 1,000 or "
        f"10,000 documents of {CHARACTERS:,} characters are ranked",
        how="A task of that loop sleeps for a millisecond again and again: the longest time "
        f"between two of its turns, less that millisecond, during one awaited call. Width {WIDTH}, "
        "all documents kept; a server without delay shares the two cores; a process for each.",
        measures=measures,
        would_take="Fewer objects that Python's garbage collector looks through, while all threads "
        "stand still: the framework's own are made anew for what comes back.",
    )


def longest(server: Server, *, quick: bool = False) -> Comparison:
    """100,000 documents in one call."""
    seconds: dict[str, list[float]] = {"sync": [], "async": []}
    with Worker() as worker:
        for _ in range((1 if quick else 5) + 1):
            for kind, each in seconds.items():
                each.append(
                    worker.call(whole, kind=kind, base_url=server.base_url(), count=LONGEST)
                )
    return Comparison(
        what=f"{LONGEST:,} documents of {CHARACTERS:,} characters in one call: wall time",
        how=f"Width {WIDTH}, 16 requests at once, a server without delay, which parses 100 MB "
        "meanwhile on the other core; sync and async in turn.",
        measures=[
            Measure(kind, spread(each[1:], " s"), at_most(2, " s"))
            for kind, each in seconds.items()
        ],
        would_take="Fewer Python objects for each document than an item, its place and its hit.",
    )


def core(base_url: str, count: int, *, frozen: bool) -> float:
    """Milliseconds of the worst stall; runs in a worker, as do those below."""
    from qwen_rerank import Reranker

    documents = texts(count, CHARACTERS)

    async def call() -> float:
        async with Reranker(**_options(base_url)) as reranker:
            await reranker.arerank(contenders.QUERY, documents[:1])
            return await _worst(reranker.arerank(contenders.QUERY, documents), frozen=frozen)

    return asyncio.run(call())


def ours_in_langchain(base_url: str, count: int, *, frozen: bool) -> float:
    """The same through `langchain_qwen_rerank.QwenRerank`."""
    from langchain_core.documents import Document

    from langchain_qwen_rerank import QwenRerank

    documents = [Document(text) for text in texts(count, CHARACTERS)]

    async def call() -> float:
        async with QwenRerank(**_options(base_url)) as reranker:
            await reranker.acompress_documents(documents[:1], contenders.QUERY)
            return await _worst(
                reranker.acompress_documents(documents, contenders.QUERY), frozen=frozen
            )

    return asyncio.run(call())


def ours_in_llama_index(base_url: str, count: int, *, frozen: bool) -> float:
    """The same through `llama_index_qwen_rerank.QwenRerank`."""
    from llama_index.core.schema import NodeWithScore, TextNode

    from llama_index_qwen_rerank import QwenRerank

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts(count, CHARACTERS)]

    async def call() -> float:
        async with QwenRerank(**_options(base_url)) as reranker:
            await reranker.apostprocess_nodes(nodes[:1], query_str=contenders.QUERY)
            return await _worst(
                reranker.apostprocess_nodes(nodes, query_str=contenders.QUERY), frozen=frozen
            )

    return asyncio.run(call())


def whole(kind: str, base_url: str, count: int) -> float:
    """Seconds of one call of *kind*; runs in a worker."""
    from qwen_rerank import Reranker

    documents = texts(count, CHARACTERS)
    with Reranker(**_options(base_url)) as reranker:
        reranker.warm_up()
        started = time.perf_counter()
        if kind == "sync":
            ranking = reranker.rerank(contenders.QUERY, documents)
        else:
            ranking = asyncio.run(reranker.arerank(contenders.QUERY, documents))
        elapsed = time.perf_counter() - started
    if len(ranking) != count:
        raise RuntimeError(f"{len(ranking)} of {count} documents came back")
    return elapsed


def _options(base_url: str) -> dict[str, Any]:
    known = {"model": contenders.MODEL, "base_url": base_url, "api_key": contenders.KEY}
    return known | {
        "top_n": None,
        "timeout": 60,
        "max_concurrency": 16,
        "max_documents_per_request": WIDTH,
    }


async def _worst(call: Awaitable[Any], *, frozen: bool) -> float:
    """Milliseconds of the loop's worst stall during *call*."""
    worst, last, over = 0.0, time.perf_counter(), False

    async def tick() -> None:
        nonlocal worst, last
        while not over:
            await asyncio.sleep(_TICK)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    gc.collect()
    if frozen:
        gc.freeze()
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(10 * _TICK)
    worst = 0.0
    await call
    over = True
    await ticking
    gc.unfreeze()
    return 1000 * max(0.0, worst - _TICK)
