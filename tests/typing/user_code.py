"""Code as users write it, for type checkers alone: `assert_type` says what they have to see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, assert_type

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import Runnable, RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from langchain_qwen_rerank import QwenRerankRetriever, Score, WithMetadata
from qwen_rerank import (
    BaseReranker,
    CallOptions,
    Candidate,
    Estimate,
    Hit,
    Image,
    QuotaError,
    Ranking,
    RateLimitError,
    Reranker,
    RerankError,
    Usage,
    Video,
)
from qwen_rerank.emulator import FAULTS, Emulator, LoggedRequest, Reply

# The core


def core(key: str, cache: dict[Any, Any]) -> list[str]:
    with Reranker(api_key=key, region="ap-southeast-1", timeout=10, cache=cache) as reranker:
        ranking = reranker.rerank("q", ["a", "b"], top_n=1, score_threshold=None)
        assert_type(ranking, Ranking)
        assert_type(ranking[0], Hit)
        assert_type(ranking[:2], tuple[Hit, ...])
        assert_type(ranking[0].score, float | None)
        assert_type(ranking.usage, Usage)
        assert_type(ranking.degraded, RerankError | None)
        assert_type(reranker.usage.cost, float | None)
        assert_type(reranker.estimate("q", ["a"], price_per_million=0.5), Estimate)
        reranker.top_n = 5
        reranker.long_query = "tail"
        reranker.api_key = "another"
        copy = reranker.model_copy(update={"model": "gte-rerank-v2"})
        assert_type(copy, Reranker)
        assert_type(reranker.with_options(top_n=1), Reranker)
        assert_type(reranker.usage.tokens, int | None)
        assert_type(Hit(0, 0.5, "a").document, Candidate)
        books = [{"title": "On Tea", "shelf": 3}]
        assert_type(reranker.rerank("q", books, rank_fields=["title"], top_n=1), Ranking)
    return [f"{hit.index} {hit.score or 0.0:.2f} {hit.kind}" for hit in ranking]


async def core_async(options: CallOptions) -> Ranking:
    async with Reranker(on_error="passthrough", long_documents="split") as reranker:
        await reranker.awarm_up()
        return await reranker.arerank("q", (text for text in ("a", "b")), **options)


def media(folder: Path) -> Ranking:
    candidates: list[Candidate] = [
        "a text",
        Image(path=folder / "cat.png"),
        ("a caption", Image(data=b"...")),
        Video("https://example.com/a.mp4"),
        {"text": "a text", "shelf": 3},
    ]
    reranker = Reranker(model="qwen3-vl-rerank", mixed="text", fps=0.5)
    Reranker(headers={"x-tenant": "seven"}, extra_body={"user": "u"}, outage_pause=5)
    return reranker.rerank(Image(url="https://example.com/a.png"), candidates)


def errors(reranker: Reranker) -> float | None:
    try:
        reranker.rerank("q", ["a"])
    except RateLimitError as error:
        return error.retry_after
    except QuotaError as error:
        assert_type(error.documents, tuple[int, ...])
        assert_type(error.hint, str | None)
    except RerankError as error:
        assert_type(error.retryable, bool)
    return None


def emulated() -> None:
    def answer(request: LoggedRequest) -> Reply:
        return Reply(delay=0.1) if request.documents > 3 else Reply.error(429, "Throttling")

    with Emulator(score=lambda query, text: float(len(text)), over_long="refuse") as emulator:
        assert_type(emulator, Emulator)
        emulator.script(answer, Reply(drop="mid"))
        emulator.fault(next(iter(FAULTS)), percent=5)
        Reranker(base_url=emulator.base_url, api_key=emulator.api_key).rerank("q", ["a"])
        assert_type(emulator.log[0].status, int | None)


def any_of_them(reranker: BaseReranker) -> str:
    return reranker.model


# LangChain


def _text(documents: list[Document]) -> dict[str, str]:
    return {"documents": "\n".join(each.page_content for each in documents)}


class State(TypedDict, total=False):
    """What the nodes of a graph share."""

    query: str
    documents: list[Document]
    answer: str


def chain(key: str) -> Runnable[str, str]:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    reranker = langchain_qwen_rerank.QwenRerank(
        api_key=key,
        top_n=None,
        local_files="pictures",
        item=WithMetadata("title"),
        rate_limiter=InMemoryRateLimiter(requests_per_second=5),
    )
    assert_type(reranker.compress_documents([Document("a")], "q"), list[Document])
    assert_type(reranker.as_runnable(), Runnable[Mapping[str, Any], list[Document]])
    assert_type(
        reranker.rerank(["a", Document("b")], "q", top_n=1)[0]["relevance_score"], float | None
    )
    retriever = QwenRerankRetriever(base_retriever=store.as_retriever(), reranker=reranker, k=3)
    assert_type(retriever.invoke("q", k=5, instruct="Find facts."), list[Document])
    found = RunnableParallel(query=RunnablePassthrough[str](), documents=store.as_retriever())
    prompt = ChatPromptTemplate.from_template("{documents}")
    model = FakeListChatModel(responses=["a"])
    # An agent's or a graph's state is a dict of its own kind.
    state = State(query="q", documents=[])
    assert_type(reranker.as_runnable("rerank").invoke(state), list[Document])
    return found | reranker.as_runnable() | _text | prompt | model | StrOutputParser()


async def chain_async(reranker: langchain_qwen_rerank.QwenRerank) -> list[Document]:
    assert_type(await reranker.arerank(["a"], "q"), list[Score])
    return await reranker.acompress_documents([Document("a")], "q")


# LlamaIndex


def title(node: BaseNode) -> str:
    return node.get_content()


def engine(key: str) -> list[NodeWithScore]:
    reranker = llama_index_qwen_rerank.QwenRerank(
        5,
        api_key=key,
        metadata_mode=MetadataMode.NONE,
        item=title,
        keep_retrieval_score=True,
        local_files=Path("pictures"),
    )
    nodes = [NodeWithScore(node=TextNode(text="a"), score=0.5)]
    assert_type(reranker.postprocess_nodes(nodes, query_str="q"), list[NodeWithScore])
    return reranker.postprocess_nodes(nodes, QueryBundle("q"))


async def engine_async(reranker: llama_index_qwen_rerank.QwenRerank) -> list[NodeWithScore]:
    return await reranker.apostprocess_nodes([], query_str="q")
