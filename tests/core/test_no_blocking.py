"""Nothing that we do in an event loop holds it up; first use in a fresh process counts."""

import json

import pytest

from qwen_rerank.emulator import Reply

# Every blocking call made by whatever runs in a loop is noted, with its stack, and raised.
_PRELUDE = """
import asyncio, json, logging, os, sys, traceback
from blockbuster import blockbuster
noted = []
class Noted(blockbuster.BlockingError):
    def __init__(self, *arguments):
        noted.append("".join(traceback.format_stack(limit=14)))
        super().__init__(*arguments)
blockbuster.BlockingError = Noted
base_url, key, folder = sys.argv[1:]
options = {"base_url": base_url, "api_key": key}
query = "a fast red sports car"
short = ["green tea", "the red car is fast", "", "sports in the city", query]
heavy = [f"{number} " + "tea \u7eff\u8336 " * 500 for number in range(60)]
long = ["green tea grows on hills " * 2_000 + query, *short]
"""
# Taking the patches of built-in types back can crash the interpreter, so it never gets there.
_RUN = """
blockbuster.BlockBuster().activate()
try:
    asyncio.run(main())
except blockbuster.BlockingError:
    pass  # noted
print(json.dumps(noted), flush=True)
os._exit(0)
"""

_CASES = {
    "first calls of what is made in the loop, many at once": """
import pickle
from qwen_rerank import Reranker
os.environ["DASHSCOPE_API_KEY_FILE_PATH"] = os.path.join(folder, "key")
with open(os.environ["DASHSCOPE_API_KEY_FILE_PATH"], "w") as file:
    file.write(key)
async def main():
    made = Reranker(**options, max_documents_per_request=1, max_concurrency=2)
    reranker = pickle.loads(pickle.dumps(made))
    await reranker.awarm_up()
    assert len(await reranker.arerank(query, short, top_n=2)) == 2
    await asyncio.gather(*(reranker.arerank(query, short) for _ in range(6)))
    call = asyncio.create_task(reranker.arerank(query, short))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait([call])
    await reranker.aclose()
""",
    "lists whose tokens have to be counted": """
from qwen_rerank import Reranker
reranker = Reranker(**options, max_concurrency=3)
split = reranker.with_options(long_documents="split")
async def main():
    async with reranker:
        assert len(await reranker.arerank(query, heavy)) == len(heavy)
        assert len(await reranker.arerank(query, long)) == len(long)
        ranking = await split.arerank(query, long)
        assert next(hit for hit in ranking if hit.index == 0).window
""",
    "a cache on disk and a client of the caller's": """
import diskcache, httpx
from qwen_rerank import Reranker
client = httpx.AsyncClient()
reranker = Reranker(**options, cache=diskcache.Cache(folder), async_http_client=client)
async def main():
    async with client, reranker:
        first = await reranker.arerank(query, short)
        again = await reranker.arerank(query, short)
        assert (again.hits, again.usage.cache_hits) == (first.hits, 4)
""",
    "LangChain": """
from langchain_core.documents import Document
from langchain_qwen_rerank import QwenRerank
reranker = QwenRerank(**options, top_n=None)
documents = [Document(text) for text in short]
many = [Document(text) for text in heavy]
async def main():
    async with reranker:
        assert len(await reranker.acompress_documents(documents, query)) == len(short)
        assert len(await reranker.acompress_documents(many, query)) == 60
""",
    "LlamaIndex": """
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_qwen_rerank import QwenRerank
reranker = QwenRerank(None, **options)
nodes = [NodeWithScore(node=TextNode(text=text)) for text in short]
many = [NodeWithScore(node=TextNode(text=text)) for text in heavy]
async def main():
    async with reranker:
        assert len(await reranker.apostprocess_nodes(nodes, query_str=query)) == len(short)
        assert len(await reranker.apostprocess_nodes(many, query_str=query)) == 60
""",
}

_FAILING = """
from qwen_rerank import Reranker, RerankError
reranker = Reranker(**options, max_documents_per_request=1, timeout=5.0)
async def main():
    async with reranker:
        for _ in range(3):
            try:
                await reranker.arerank(query, short)
            except RerankError as error:
                print(type(error).__name__, file=sys.stderr)
"""


@pytest.fixture(name="noted")
def _noted(fresh, emulator, tmp_path):
    """What a case blocked the loop with, each with its stack."""

    def noted(case):
        arguments = emulator.base_url, emulator.api_key, str(tmp_path)
        said = fresh(_PRELUDE + case + _RUN, *arguments, strict=False)
        return "\n\n".join(json.loads(said.splitlines()[-1]))

    return noted


@pytest.mark.slow
@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_nothing_blocks(noted, emulator, case):
    """In a fresh process no file, socket, lock or sleep is waited for in the event loop."""
    for framework in ("langchain_core", "llama_index"):
        if f"from {framework}" in case:
            pytest.importorskip(framework)

    assert not noted(case)
    assert {seen.status for seen in emulator.log if seen.method == "POST"} == {200}


@pytest.mark.slow
def test_failures_and_retries_do_not_block(noted, emulator):
    """Nor when requests are repeated, fail for good, or are cut off."""
    emulator.script(
        Reply.error(429, "Throttling.RateQuota", headers={"retry-after-ms": "20"}),
        Reply.error(503, "ServiceUnavailable"),
        Reply(drop="mid"),
        Reply(drop="before"),
        Reply(),
        Reply.error(400, "InvalidParameter"),
    )

    assert not noted(_FAILING)
    assert 400 in {seen.status for seen in emulator.log}
