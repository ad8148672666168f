"""The LlamaIndex door inside LlamaIndex's own parts, over HTTP against the emulator."""

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.tools import QueryEngineTool

from llama_index_qwen_rerank import QwenRerank

QUESTION = "Which animal sleeps upside down in a cave?"
FACTS = [
    "The blue whale is the largest animal of the sea.",
    "A bat sleeps upside down, often in a cave.",
    "The cheetah runs faster than any other animal.",
    "Bees dance to tell where the flowers are.",
]


@pytest.fixture(name="retriever")
def _retriever():
    """A first stage that knows nothing: every embedding is the same."""
    nodes = [TextNode(text=fact, id_=str(at)) for at, fact in enumerate(FACTS)]
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=4))
    return index.as_retriever(similarity_top_k=4)


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(top_n=2, **connection)


@pytest.fixture(name="engine")
def _engine(retriever, reranker):
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[reranker])


def test_query_engine(engine):
    """The answer is made from the reranked nodes, best first, with their scores."""
    response = engine.query(QUESTION)

    best, second = response.source_nodes
    assert (best.node_id, best.text) == ("1", FACTS[1])
    assert best.score > second.score
    assert FACTS[1] in str(response)


async def test_query_engine_async(engine):
    """The async engine gives what the sync one gives."""
    sources = (await engine.aquery(QUESTION)).source_nodes

    assert sources == engine.query(QUESTION).source_nodes


def test_chat_engine(retriever, reranker):
    """A chat engine shows the model the reranked nodes."""
    chat = ContextChatEngine.from_defaults(retriever, llm=MockLLM(), node_postprocessors=[reranker])

    assert chat.chat(QUESTION).source_nodes[0].text == FACTS[1]


async def test_chat_engine_async(retriever, reranker):
    """So does the async chat."""
    chat = ContextChatEngine.from_defaults(retriever, llm=MockLLM(), node_postprocessors=[reranker])

    assert (await chat.achat(QUESTION)).source_nodes[0].text == FACTS[1]


async def test_query_engine_tool(engine):
    """An agent's tool call reranks too."""
    tool = QueryEngineTool.from_defaults(engine, name="facts", description="Facts.")

    answer = await tool.acall(QUESTION)

    assert answer.raw_output.source_nodes[0].text == FACTS[1]
