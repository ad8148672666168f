"""The run that LangChain's tracers see of one rerank."""

import asyncio

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import RateLimitError
from qwen_rerank.emulator import Emulator, Reply

QUERY = "a fast red sports car"
DOCUMENTS = [Document("green tea"), Document("a red sports car"), Document("")]


class _Tracer(BaseTracer):
    """Keeps the finished roots of runs."""

    def __init__(self):
        super().__init__()
        self.roots, self.events = [], []

    def _persist_run(self, run):
        self.roots.append(run)

    def on_custom_event(self, name, data, *, run_id, **_):
        """Keep *data*."""
        self.events.append((name, data, run_id))


class _AsyncTracer(AsyncBaseTracer):
    """The same, with coroutines."""

    def __init__(self):
        super().__init__()
        self.roots = []

    async def _persist_run(self, run):
        self.roots.append(run)


class _Store(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):  # noqa: ARG002  their signature
        return DOCUMENTS


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(max_retries=0, **connection)


@pytest.fixture(name="compress", params=["sync", "async"])
def _compress(request, reranker):
    def compress(callbacks):
        if request.param == "sync":
            return reranker.compress_documents(DOCUMENTS, QUERY, callbacks)
        return asyncio.run(reranker.acompress_documents(DOCUMENTS, QUERY, callbacks))

    return compress


@pytest.mark.parametrize("kind", [_Tracer, _AsyncTracer])
def test_one_run(compress, kind):
    """A run of type retriever with the query, the ranked documents and whose model it was."""
    tracer = kind()

    ranked = compress([tracer])

    [run] = tracer.roots
    assert (run.name, run.run_type, run.inputs) == ("QwenRerank", "retriever", {"query": QUERY})
    assert run.outputs == {"documents": ranked}
    assert run.error is None
    metadata = run.extra["metadata"]
    assert metadata["ls_provider"] == "dashscope"
    assert metadata["ls_model_name"] == "qwen3-rerank"


def test_usage_is_an_event_of_the_run(compress, emulator: Emulator):
    """Documents have no place for what a rerank cost: a custom event has."""
    tracer = _Tracer()

    compress([tracer])

    [(name, data, run_id)] = tracer.events
    assert (name, run_id) == ("qwen_rerank", tracer.roots[0].id)
    assert data == {
        "model": "qwen3-rerank",
        "requests": 1,
        "tokens": emulator.log[0].tokens,
        "cache_hits": 0,
        "request_ids": [emulator.log[0].request_id],
        "truncated": [],
        "degraded": None,
    }


def test_failure_is_the_runs(compress, emulator: Emulator):
    """A failed rerank is a failed run, and the error reaches the caller."""
    tracer = _Tracer()
    emulator.script(Reply.error(429, "Throttling.RateQuota"))

    with pytest.raises(RateLimitError):
        compress([tracer])

    assert "Throttling.RateQuota" in tracer.roots[0].error


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_child_of_the_retriever(reranker, native):
    """Below ContextualCompressionRetriever it stands beside the base retriever's run."""
    tracer = _Tracer()
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=_Store())
    config = {"callbacks": [tracer]}

    if native:
        asyncio.run(retriever.ainvoke(QUERY, config))
    else:
        retriever.invoke(QUERY, config)

    [root] = tracer.roots
    assert [child.name for child in root.child_runs] == ["_Store", "QwenRerank"]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_child_of_the_surrounding_runnable(reranker, native):
    """Called without callbacks inside a runnable, it is traced below it."""
    tracer = _Tracer()

    async def awork(query):
        return await reranker.acompress_documents(DOCUMENTS, query)

    chain = RunnableLambda(lambda query: reranker.compress_documents(DOCUMENTS, query), awork)
    if native:
        asyncio.run(chain.ainvoke(QUERY, {"callbacks": [tracer]}))
    else:
        chain.invoke(QUERY, {"callbacks": [tracer]})

    [root] = tracer.roots
    assert [child.name for child in root.child_runs] == ["QwenRerank"]


def test_nothing_to_rank_is_no_run(reranker):
    """No call, no run."""
    tracer = _Tracer()

    assert reranker.compress_documents([], QUERY, [tracer]) == []
    assert tracer.roots == []
