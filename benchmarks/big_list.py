"""A big list beside other work: how long the event loop stands still, and how long the call takes."""

import asyncio
import contextlib
import gc
import time

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, at_most, spread
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

CHARACTERS = 1_000
STALLS = {1_000: 20, 10_000: 50}  # documents, and milliseconds that the loop may stand still
LONGEST = 100_000
_TICK = 0.001  # seconds


def stalls(server: Server, *, quick: bool = False) -> Comparison:
    """The worst stall of a ticking task while a list is ranked, core and doors."""
    measures = []
    ways = {"core": core, "langchain door": langchain_door, "llama index door": llama_index_door}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker()) for name in ways}
        for count, most in STALLS.items():
            worst = {name: [] for name in ways}
            for _ in range((2 if quick else 9) + 1):
                for name, way in ways.items():
                    worst[name].append(
                        workers[name].call(way, base_url=server.base_url(), count=count)
                    )
            measures += [
                Measure(
                    f"{name}, {count:,} documents", spread(each[1:], " ms"), at_most(most, " ms")
                )
                for name, each in worst.items()
            ]
    return Comparison(
        what=f"the longest time for which the caller's event loop stands still while a list of "
        f"texts of {CHARACTERS:,} characters is ranked",
        how="A task of that loop sleeps for a millisecond again and again; the longest time between "
        "two of its turns, less that millisecond, while one awaited call runs. A server without "
        "delay, which shares the two cores; a process for each contender.",
        measures=measures,
        would_take="Not the interpreter's lock, which threads hand over after 5 ms at the "
        "earliest, and collections of garbage, during which all threads stand still.",
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
        how="200 requests, 8 at once, to a server without delay, which parses 100 MB meanwhile on "
        "the other core; sync and async in turn.",
        measures=[
            Measure(kind, spread(each[1:], " s"), at_most(2, " s"))
            for kind, each in seconds.items()
        ],
        would_take="Fewer Python objects for each document.",
    )


def core(base_url: str, count: int) -> float:
    """Milliseconds of the worst stall; runs in a worker, as those below."""
    from qwen_rerank import Reranker

    documents = texts(count, CHARACTERS)

    async def call() -> int:
        async with Reranker(
            model=contenders.MODEL, base_url=base_url, api_key=contenders.KEY
        ) as it:
            await it.arerank(contenders.QUERY, documents[:1])
            return await _watched(it.arerank(contenders.QUERY, documents))

    return asyncio.run(call())


def langchain_door(base_url: str, count: int) -> float:
    """The same through `langchain_qwen_rerank.QwenRerank`."""
    from langchain_core.documents import Document

    from langchain_qwen_rerank import QwenRerank

    documents = [Document(text) for text in texts(count, CHARACTERS)]

    async def call() -> float:
        async with QwenRerank(
            model=contenders.MODEL, base_url=base_url, api_key=contenders.KEY, top_n=None
        ) as it:
            await it.acompress_documents(documents[:1], contenders.QUERY)
            return await _watched(it.acompress_documents(documents, contenders.QUERY))

    return asyncio.run(call())


def llama_index_door(base_url: str, count: int) -> float:
    """The same through `llama_index_qwen_rerank.QwenRerank`."""
    from llama_index.core.schema import NodeWithScore, TextNode

    from llama_index_qwen_rerank import QwenRerank

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts(count, CHARACTERS)]

    async def call() -> float:
        async with QwenRerank(
            None, model=contenders.MODEL, base_url=base_url, api_key=contenders.KEY
        ) as it:
            await it.apostprocess_nodes(nodes[:1], query_str=contenders.QUERY)
            return await _watched(it.apostprocess_nodes(nodes, query_str=contenders.QUERY))

    return asyncio.run(call())


def whole(kind: str, base_url: str, count: int) -> float:
    """Seconds of one call of *kind*; runs in a worker."""
    from qwen_rerank import Reranker

    documents = texts(count, CHARACTERS)
    options = {"model": contenders.MODEL, "base_url": base_url, "api_key": contenders.KEY}
    with Reranker(timeout=60, **options) as reranker:
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


async def _watched(call) -> float:
    """Milliseconds of the loop's worst stall while *call* runs."""
    worst, last, over = 0.0, time.perf_counter(), False

    async def tick() -> None:
        nonlocal worst, last
        while not over:
            await asyncio.sleep(_TICK)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    gc.collect()
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    worst = 0.0
    await call
    over = True
    await ticking
    return 1000 * (worst - _TICK)
