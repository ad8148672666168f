"""What a second call sends when nine tenths of its pairs are known."""

import asyncio
import random

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, exactly, spread
from benchmarks.server import Server
from benchmarks.texts import texts

DOCUMENTS, KNOWN = 1_000, 900


def cache(server: Server, *, quick: bool = False) -> Comparison:
    """Documents sent by a second call, 90 percent of whose pairs are known."""
    rounds = 2 if quick else 5
    return Comparison(
        what="second call with 90 percent known pairs, cache on: documents sent, of 1,000",
        how="Counted by the server; a dict as `cache=`, the unknown ones strewn among the others.",
        measures=[
            Measure(kind, spread([_sent(server, kind) for _ in range(rounds)]), exactly(100))
            for kind in ("sync", "async")
        ],
        would_take="This is a count: a miss is a mistake.",
    )


def _sent(server: Server, kind: str) -> int:
    from qwen_rerank import Reranker

    documents = texts(DOCUMENTS, 150)
    known = random.Random(1).sample(documents, KNOWN)  # noqa: S311  no secret
    with Reranker(
        model=contenders.MODEL, base_url=server.base_url(), api_key=contenders.KEY, cache={}
    ) as reranker:
        for candidates in (known, documents):
            before = server.stats().documents
            if kind == "sync":
                ranking = reranker.rerank(contenders.QUERY, candidates)
            else:
                ranking = asyncio.run(reranker.arerank(contenders.QUERY, candidates))
            if len(ranking) != len(candidates):
                raise RuntimeError("documents were lost")
    return server.stats().documents - before
