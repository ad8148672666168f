"""The LangChain door inside LangChain's own parts, over HTTP against the emulator."""

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_qwen_rerank import QwenRerank

QUESTION = "Which animal sleeps upside down in a cave?"
FACTS = [
    "The blue whale is the largest animal of the sea.",
    "A bat sleeps upside down, often in a cave.",
    "The cheetah runs faster than any other animal.",
    "Bees dance to tell where the flowers are.",
]


@pytest.fixture(name="retriever")
def _retriever():
    """A first stage that knows nothing: its embeddings are random, so its order is too."""
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    store.add_documents([Document(fact, id=str(at)) for at, fact in enumerate(FACTS)])
    return store.as_retriever(search_kwargs={"k": 4})


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(top_n=2, **connection)


def test_contextual_compression_retriever(retriever, reranker):
    """ContextualCompressionRetriever returns the reranked documents, ids and scores included."""
    compressed = ContextualCompressionRetriever(base_retriever=retriever, base_compressor=reranker)

    best, second = compressed.invoke(QUESTION)

    assert (best.id, best.page_content) == ("1", FACTS[1])
    assert best.metadata["relevance_score"] > second.metadata["relevance_score"]


async def test_contextual_compression_retriever_async(retriever, reranker):
    """The async retriever gives what the sync one gives."""
    compressed = ContextualCompressionRetriever(base_retriever=retriever, base_compressor=reranker)

    assert await compressed.ainvoke(QUESTION) == compressed.invoke(QUESTION)


def test_compressor_pipeline(reranker):
    """It is one step of a DocumentCompressorPipeline."""
    pipeline = DocumentCompressorPipeline(transformers=[reranker])

    [best, _] = pipeline.compress_documents([Document(fact) for fact in FACTS], QUESTION)

    assert best.page_content == FACTS[1]


@pytest.fixture(name="chain")
def _chain(retriever, reranker):
    """Retrieve, rerank, fill a prompt, ask a fake model that repeats what it read."""
    rerank = RunnableLambda(
        lambda found: reranker.compress_documents(found["documents"], found["query"]),
        afunc=lambda found: reranker.acompress_documents(found["documents"], found["query"]),
    )
    return (
        RunnableParallel(documents=retriever, query=RunnablePassthrough())
        | RunnablePassthrough.assign(documents=rerank)
        | RunnablePassthrough.assign(
            answer=ChatPromptTemplate.from_template("{documents}\n{query}")
            | FakeListChatModel(responses=["A bat."])
            | StrOutputParser()
        )
    )


def test_lcel_chain(chain):
    """In an LCEL chain the model is shown the reranked documents."""
    outcome = chain.invoke(QUESTION)

    assert outcome["answer"] == "A bat."
    assert outcome["documents"][0].page_content == FACTS[1]


async def test_lcel_chain_async(chain):
    """The async chain gives what the sync one gives."""
    assert await chain.ainvoke(QUESTION) == chain.invoke(QUESTION)
