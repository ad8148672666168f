"""How each contender is called: the same question and documents, in the words of its own API.

Imports stand inside the functions, so that a worker loads what its contender needs and no more.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

MODEL = "qwen3-rerank"
KEY = "sk-benchmark"
QUERY = "how does the import system find a module?"
TOP_N = 3

Call = Callable[[], Any]
AsyncCall = Callable[[], Awaitable[Any]]


def core(base_url: str, texts: list[str], **options: Any) -> Call:
    """`qwen_rerank.Reranker`."""
    from qwen_rerank import Reranker

    reranker = Reranker(model=MODEL, base_url=base_url, api_key=KEY, top_n=TOP_N, **options)
    return lambda: reranker.rerank(QUERY, texts)


def ours_in_langchain(base_url: str, texts: list[str]) -> Call:
    """`langchain_qwen_rerank.QwenRerank`."""
    from langchain_core.documents import Document

    from langchain_qwen_rerank import QwenRerank

    reranker = QwenRerank(model=MODEL, base_url=base_url, api_key=KEY, top_n=TOP_N)
    documents = [Document(text, metadata={"source": "benchmark"}) for text in texts]
    return lambda: reranker.compress_documents(documents, QUERY)


def ours_in_llama_index(base_url: str, texts: list[str]) -> Call:
    """`llama_index_qwen_rerank.QwenRerank`."""
    from llama_index.core.schema import NodeWithScore, TextNode

    from llama_index_qwen_rerank import QwenRerank

    reranker = QwenRerank(TOP_N, model=MODEL, base_url=base_url, api_key=KEY)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    return lambda: reranker.postprocess_nodes(nodes, query_str=QUERY)


def sdk_client(base_url: str, texts: list[str]) -> Call:
    """The SDK's `dashscope.Client`."""
    import dashscope

    client = dashscope.Client(base_url=base_url, api_key=KEY)
    return lambda: client.rerank.create(model=MODEL, query=QUERY, documents=texts, top_n=TOP_N)


def community(base_url: str, texts: list[str]) -> Call:
    """langchain-community's `DashScopeRerank`."""
    reranker, documents = _community(base_url, texts)
    return lambda: reranker.compress_documents(documents, QUERY)


def llama_index_peer(base_url: str, texts: list[str]) -> Call:
    """`llama-index-postprocessor-dashscope-rerank`."""
    import dashscope
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.dashscope_rerank import DashScopeRerank

    dashscope.base_http_api_url = base_url
    reranker = DashScopeRerank(top_n=TOP_N, model=MODEL, api_key=KEY)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    return lambda: reranker.postprocess_nodes(nodes, query_str=QUERY)


@contextlib.asynccontextmanager
async def acore(base_url: str, texts: list[str], in_flight: int) -> AsyncIterator[AsyncCall]:
    """`qwen_rerank.Reranker.arerank`."""
    from qwen_rerank import Reranker

    options = {"max_concurrency": in_flight, "timeout": 300}
    async with Reranker(model=MODEL, base_url=base_url, api_key=KEY, **options) as reranker:
        yield lambda: reranker.arerank(QUERY, texts)


@contextlib.asynccontextmanager
async def aiohttp(base_url: str, texts: list[str], in_flight: int) -> AsyncIterator[AsyncCall]:
    """A bare aiohttp loop: build the body, post it, parse the answer, nothing else."""
    import aiohttp

    url = f"{base_url}/services/rerank/text-rerank/text-rerank"
    headers = {"Authorization": f"Bearer {KEY}"}
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def call() -> list[Any]:
            body = {
                "model": MODEL,
                "input": {"query": QUERY, "documents": texts},
                "parameters": {},
            }
            async with session.post(url, json=body) as response:
                return (await response.json())["output"]["results"]

        yield call


@contextlib.asynccontextmanager
async def sdk_async(base_url: str, texts: list[str], in_flight: int) -> AsyncIterator[AsyncCall]:  # noqa: ARG001  it has no such option
    """The SDK's `dashscope.AsyncClient`."""
    import dashscope

    async with dashscope.AsyncClient(base_url=base_url, api_key=KEY, timeout=300) as client:
        yield lambda: client.rerank.create(model=MODEL, query=QUERY, documents=texts)


@contextlib.asynccontextmanager
async def acommunity(base_url: str, texts: list[str], in_flight: int) -> AsyncIterator[AsyncCall]:  # noqa: ARG001  nor has this
    """langchain-community's `DashScopeRerank`, whose async call runs sync code in threads."""
    reranker, documents = _community(base_url, texts)
    yield lambda: reranker.acompress_documents(documents, QUERY)


def _community(base_url: str, texts: list[str]) -> tuple[Any, list[Any]]:
    import dashscope
    from langchain_community.document_compressors import DashScopeRerank
    from langchain_core.documents import Document

    dashscope.base_http_api_url = base_url
    # Without a client of the caller's it overwrites the model and refuses the key.
    reranker = DashScopeRerank(client=dashscope.TextReRank, model=MODEL, api_key=KEY, top_n=TOP_N)
    return reranker, [Document(text, metadata={"source": "benchmark"}) for text in texts]
