"""What belongs to a base retriever reaches it, whoever calls: LangChain's retrievers, LangGraph."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pytest
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    EnsembleRetriever,
    MultiQueryRetriever,
)
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableConfig, RunnableLambda
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import get_runtime

from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever

QUERY = "a document"
ACME: RunnableConfig = {"configurable": {"tenant": "acme", "thread_id": "1"}}


class _Tenants(BaseRetriever):
    """Finds what one tenant has."""

    tenant: str = "nobody"

    def _get_relevant_documents(self, query, *, run_manager, year=None):  # noqa: ARG002
        return [Document(f"a document of {self.tenant}, {year}")]

    async def _aget_relevant_documents(self, query, *, run_manager, year=None):
        return self._get_relevant_documents(query, run_manager=run_manager, year=year)


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(max_retries=0, **connection)


@pytest.fixture(name="tenants")
def _tenants():
    return _Tenants().configurable_fields(tenant=ConfigurableField(id="tenant"))


@pytest.fixture(name="retriever")
def _retriever(reranker, tenants):
    return QwenRerankRetriever(base_retriever=tenants, reranker=reranker)


def texts(documents):
    """What *documents* say."""
    return [document.page_content for document in documents]


# langchain-classic


def test_compressor_pipeline(reranker):
    """It is one step of a `DocumentCompressorPipeline`."""
    pipeline = DocumentCompressorPipeline(transformers=[reranker])

    [best, _] = pipeline.compress_documents([Document("tea"), Document(QUERY)], QUERY)

    assert best.page_content == QUERY


_PAGE = Path(__file__).parents[2] / "docs" / "filters-and-tenants.md"


def test_what_the_page_says(invoke, reranker, tenants):
    """The page's table of what reaches a retriever below each of LangChain's own is true."""
    below = QwenRerankRetriever(base_retriever=tenants, reranker=reranker)
    model = FakeListChatModel(responses=["one question"])
    around = {
        "QwenRerankRetriever": QwenRerankRetriever(base_retriever=below, reranker=reranker),
        "ContextualCompressionRetriever": ContextualCompressionRetriever(
            base_compressor=reranker, base_retriever=below
        ),
        "MultiQueryRetriever": MultiQueryRetriever.from_llm(retriever=below, llm=model),
        "EnsembleRetriever": EnsembleRetriever(retrievers=[below]),
    }
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", _PAGE.read_text(), re.MULTILINE)

    assert {name for name, *_ in rows} == around.keys()
    for name, keyword, direct, in_chain in rows:
        each = around[name]
        for said, found in (
            (keyword, invoke(each, QUERY, year=7)),
            (direct, invoke(each, QUERY, ACME)),
            (in_chain, invoke(RunnableLambda(str) | each, QUERY, ACME)),
        ):
            arrived = re.search("acme|7", *texts(found)) is not None
            assert arrived == (said != "**lost**"), (name, said)


# A real vector store


def _is_acme(document):
    return document.metadata["tenant"] == "acme"


def _store():
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    documents = [
        Document(f"document {number} of {tenant}", metadata={"tenant": tenant})
        for number in range(3)
        for tenant in ("acme", "umbrella")
    ]
    store.add_documents(documents)
    return store.as_retriever(search_kwargs={"k": 6})


def test_a_vector_stores_filter(invoke, reranker):
    """A filter for one call reaches the vector store, bound or given, and k is ours."""
    retriever = QwenRerankRetriever(base_retriever=_store(), reranker=reranker, k=2)

    for found in (
        invoke(retriever, QUERY, filter=_is_acme),
        invoke(retriever.bind(filter=_is_acme), QUERY),
    ):
        assert len(found) == 2
        assert all(_is_acme(each) for each in found)
    one = QwenRerankRetriever(base_retriever=_store().bind(k=1), reranker=reranker)
    assert len(invoke(one, QUERY, k=2)) == 1


# LangGraph and agents


class _State(TypedDict, total=False):
    query: str
    documents: list[Document]


@dataclass
class _Context:
    language: str


@pytest.mark.parametrize("explicit", [True, False], ids=["config", "no config"])
def test_a_node_of_a_graph(invoke, reranker, explicit):
    """In a node the base sees tenant, thread and run-time context, with the config or without."""

    def find(query, config: RunnableConfig):
        asked, language = config["configurable"], get_runtime(_Context).context.language
        return [Document(f"{query} {asked['tenant']} {asked['thread_id']} {language}")]

    retriever = QwenRerankRetriever(base_retriever=RunnableLambda(find), reranker=reranker)

    def search(state: _State, config: RunnableConfig) -> _State:
        given = (config,) if explicit else ()
        return {"documents": retriever.invoke(state["query"], *given)}

    async def asearch(state: _State, config: RunnableConfig) -> _State:
        given = (config,) if explicit else ()
        return {"documents": await retriever.ainvoke(state["query"], *given)}

    graph = StateGraph(_State, context_schema=_Context)
    graph.add_node("search", RunnableLambda(search, asearch))
    graph.add_edge(START, "search")
    graph.add_edge("search", END)
    compiled = graph.compile(checkpointer=InMemorySaver())

    state = invoke(compiled, {"query": "tea"}, ACME, context=_Context("en"))

    assert texts(state["documents"]) == ["tea acme 1 en"]
    assert texts(compiled.get_state(ACME).values["documents"]) == ["tea acme 1 en"]


class _Model(GenericFakeChatModel):
    def bind_tools(self, *_tools, **_options):
        return self


def test_an_agents_tool(invoke, retriever):
    """An agent's search tool finds the documents of the tenant that the agent is asked for."""
    pytest.importorskip("langchain.agents.middleware", reason="its agents come with LangChain 1.0")
    from langchain.agents import create_agent

    search = ToolCall(name="search", args={"query": QUERY}, id="1")
    model = _Model(messages=iter([AIMessage("", tool_calls=[search]), AIMessage("done")]))
    tool = create_retriever_tool(retriever, "search", "Searches.")
    agent = create_agent(model, [tool], checkpointer=InMemorySaver())

    state = invoke(agent, {"messages": [("user", "Hello.")]}, ACME)

    _, _, found, answer = state["messages"]
    assert (found.content, answer.content) == ("a document of acme, None", "done")
