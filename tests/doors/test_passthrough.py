"""on_error="passthrough" in both doors: what comes back, and who gets to know."""

import asyncio
import logging

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_instrumentation import root_dispatcher
from llama_index_instrumentation.event_handlers import BaseEventHandler

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import QuotaError, ServiceError
from qwen_rerank.emulator import Emulator, Reply

_DOWN = Reply.error(503, "ModelUnavailable", repeat=None)
_QUERY = "a fast red sports car"


class _Events(BaseEventHandler):
    seen: list = []  # noqa: RUF012  a pydantic field

    def handle(self, event, **_):
        """Keep *event*."""
        self.seen.append(event)


@pytest.fixture(name="events")
def _events():
    handler = _Events(seen=[])
    root_dispatcher.add_event_handler(handler)
    yield handler.seen
    root_dispatcher.event_handlers.remove(handler)


@pytest.fixture(name="options")
def _options(connection):
    return {"on_error": "passthrough", "max_retries": 0, "top_n": 2, **connection}


def _compressed(reranker, documents, native, callbacks=None):
    if native:
        return asyncio.run(reranker.acompress_documents(documents, _QUERY, callbacks))
    return reranker.compress_documents(documents, _QUERY, callbacks)


def _postprocessed(reranker, nodes, native):
    if native:
        return asyncio.run(reranker.apostprocess_nodes(nodes, query_str=_QUERY))
    return reranker.postprocess_nodes(nodes, query_str=_QUERY)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_documents(options, emulator: Emulator, native):
    """The first top_n in their order; no score is invented, and no stale one survives."""
    emulator.script(_DOWN)
    documents = [
        Document("green tea", id="a", metadata={"relevance_score": 0.9, "page": 1}),
        Document("a red car", id="b"),
        Document("cold caves", id="c"),
    ]

    kept = _compressed(langchain_qwen_rerank.QwenRerank(**options), documents, native)

    assert [document.id for document in kept] == ["a", "b"]
    assert [document.metadata for document in kept] == [{"page": 1}, {}]
    assert documents[0].metadata["relevance_score"] == 0.9


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_nodes(options, emulator: Emulator, native):
    """The first top_n in their order, with the retrieval scores they came with."""
    emulator.script(_DOWN)
    nodes = [
        NodeWithScore(node=TextNode(text=text), score=score)
        for text, score in (("green tea", 0.3), ("a red car", None), ("cold caves", 0.2))
    ]

    kept = _postprocessed(llama_index_qwen_rerank.QwenRerank(**options), nodes, native)

    assert [(each.node, each.score) for each in kept] == [
        (nodes[0].node, 0.3),
        (nodes[1].node, None),
    ]


def test_logged_once(door, options, emulator: Emulator, caplog):
    """Every door says it once per call, in the core's words."""
    emulator.script(_DOWN)
    caplog.set_level(logging.WARNING)

    door(door.kind(**options), _QUERY, ["green tea", "a red car", "cold caves"])

    [record] = caplog.records
    assert record.name == "qwen_rerank"
    assert "3 documents are passed through" in record.getMessage()


def test_an_outage_is_met_once(door, options, emulator: Emulator):
    """While the service is known to be gone, every door gives back what it was given at once."""
    emulator.script(_DOWN)
    reranker = door.kind(**options)

    first, then = (door(reranker, _QUERY, ["green tea", "a red car", "cold"]) for _ in range(2))

    assert first == then
    assert len(emulator.log) == 1


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_instrumentation_sees_it(options, emulator: Emulator, events, native):
    """LlamaIndex's events hold the reason: an exception event, and a tag on the end event."""
    emulator.script(_DOWN)
    nodes = [NodeWithScore(node=TextNode(text="a red car"), score=0.3)]

    kept = _postprocessed(llama_index_qwen_rerank.QwenRerank(**options), nodes, native)

    [failed] = [event for event in events if isinstance(event, ExceptionEvent)]
    [ended] = [event for event in events if isinstance(event, ReRankEndEvent)]
    assert isinstance(failed.exception, ServiceError)
    assert "ModelUnavailable" in ended.degraded
    assert ended.nodes == kept
    assert failed.span_id == ended.span_id


def test_traces_see_that_nothing_was_asked(options, emulator: Emulator, events):
    """A call that an outage spared is a failed step too, and says that it asked nothing."""
    emulator.script(_DOWN)
    documents, nodes = [Document("a red car")], [NodeWithScore(node=TextNode(text="a red car"))]
    for_documents = langchain_qwen_rerank.QwenRerank(**options)
    for_nodes = llama_index_qwen_rerank.QwenRerank(**options)
    handler = _Handler()
    for _ in range(2):
        _compressed(for_documents, documents, native=False, callbacks=[handler])
        _postprocessed(for_nodes, nodes, native=False)

    ended = [event for event in events if isinstance(event, ReRankEndEvent)]
    assert "was not asked" in str(handler.seen[-1])
    assert "was not asked" in ended[-1].degraded


def test_older_callbacks_see_it(options, emulator: Emulator):
    """The RERANKING callback ends with the nodes and the exception."""
    emulator.script(Reply.error(400, "Arrearage"))
    handler = LlamaDebugHandler(print_trace_on_end=False)
    reranker = llama_index_qwen_rerank.QwenRerank(
        callback_manager=CallbackManager([handler]), **options
    )

    kept = reranker.postprocess_nodes([NodeWithScore(node=TextNode(text="x"))], query_str=_QUERY)

    [(_, end)] = handler.get_event_pairs(CBEventType.RERANKING)
    assert isinstance(end.payload[EventPayload.EXCEPTION], QuotaError)
    assert end.payload[EventPayload.NODES] == kept


class _Handler(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_retriever_error(self, error, **_):
        """Keep *error*."""
        self.seen.append(("error", error))

    def on_retriever_end(self, documents, **_):
        """Keep *documents*."""
        self.seen.append(("end", list(documents)))

    def on_custom_event(self, name, data, **_):
        """Keep *data*."""
        self.seen.append((name, data))


class _AsyncHandler(AsyncCallbackHandler):
    def __init__(self):
        self.seen = []

    async def on_retriever_error(self, error, **_):
        """Keep *error*."""
        self.seen.append(("error", error))

    async def on_custom_event(self, name, data, **_):
        """Keep *data*."""
        self.seen.append((name, data))


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", [_Handler, _AsyncHandler])
def test_callbacks_see_it(options, emulator: Emulator, native, kind):
    """LangChain's run ends as a failure, and the custom event gives the reason."""
    emulator.script(_DOWN)
    handler = kind()

    kept = _compressed(
        langchain_qwen_rerank.QwenRerank(**options), [Document("x")], native, [handler]
    )

    assert len(kept) == 1
    (name, data), (ended, error) = handler.seen
    assert (name, ended) == ("qwen_rerank", "error")
    assert "ModelUnavailable" in data["degraded"]
    assert isinstance(error, ServiceError)
