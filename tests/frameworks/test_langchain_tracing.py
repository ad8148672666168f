"""The run that LangChain's tracers see of one rerank."""

import asyncio
import json
import sys
from unittest.mock import create_autospec

import pytest
import requests
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langsmith import Client
from langsmith.utils import get_env_var
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.instrumentation.langchain.callback_handler import TraceloopCallbackHandler
from opentelemetry.metrics import get_meter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langchain_qwen_rerank import QwenRerank, _tracing
from qwen_rerank import ServiceError
from qwen_rerank.emulator import Emulator, Reply

QUERY = "a fast red sports car"
_SWITCHES = [
    "LANGSMITH_TRACING_V2",
    "LANGSMITH_TRACING",
    "LANGCHAIN_TRACING_V2",
    "LANGCHAIN_TRACING",
]
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
    """The same, with coroutines; it knows nothing of custom events."""

    def __init__(self):
        super().__init__()
        self.roots, self.events = [], []

    async def _persist_run(self, run):
        self.roots.append(run)


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
def test_one_run(compress, emulator: Emulator, kind):
    """A run of type retriever with the query, the ranked documents and whose model it was.

    What it cost is its metadata, and a custom event for those who hear of such.
    """
    tracer = kind()

    ranked = compress([tracer])

    [run] = tracer.roots
    assert (run.name, run.run_type, run.inputs) == ("QwenRerank", "retriever", {"query": QUERY})
    assert run.outputs == {"documents": ranked}
    assert run.error is None
    metadata = run.extra["metadata"]
    assert metadata["ls_provider"] == "dashscope"
    assert metadata["ls_model_name"] == "qwen3-rerank"
    [request] = emulator.log
    cost = {
        "model": "qwen3-rerank",
        "requests": 1,
        "tokens": request.tokens,
        "cache_hits": 0,
        "request_ids": [request.request_id],
        "truncated": [],
        "query_truncated": False,
    }
    assert metadata["qwen_rerank.request_ids"] == [request.request_id]
    assert metadata["qwen_rerank.tokens"] == request.tokens
    assert "qwen_rerank.degraded" not in metadata
    assert tracer.events == ([("qwen_rerank", cost, run.id)] if kind is _Tracer else [])


class _Async(BaseCallbackHandler):
    """Its methods are coroutines, but for the start that it does not hear."""

    def __init__(self):
        self.heard = []

    async def on_custom_event(self, name, *_, **__):
        """Keep *name*."""
        self.heard.append(name)

    async def on_retriever_end(self, *_, **__):
        """Keep that it was over."""
        self.heard.append("end")


def test_a_handler_of_coroutines(compress):
    """A handler is heard whichever of its methods are coroutines, as LangChain hears it."""
    handler = _Async()
    compress([handler])
    assert handler.heard == ["qwen_rerank", "end"]


class _Sampling(_Tracer):
    """Has spans, but not of this run."""

    def get_span(self, run_id):
        """Fails."""
        raise KeyError(run_id)


def test_a_tracer_without_a_span_of_the_run(compress, caplog):
    """A tracer that cannot say which span is the rerank's costs no ranking, and the run ends."""
    tracer = _Sampling()
    assert len(compress([tracer])) == len(DOCUMENTS)
    assert [run.error for run in tracer.roots] == [None]
    assert "A tracer could not be told what a rerank has cost." in caplog.text


def test_whose_server_it_is(emulator: Emulator):
    """A server of one's own is named as what it is, not as DashScope."""
    tracer = _Tracer()
    reranker = QwenRerank(server="tei", base_url=emulator.server_url("tei"))

    reranker.compress_documents(DOCUMENTS, QUERY, [tracer])

    [run] = tracer.roots
    assert run.extra["metadata"]["ls_provider"] == "tei"
    assert "qwen_rerank.tokens" not in run.extra["metadata"]  # which it does not report


def test_failures(compress, reranker, emulator: Emulator):
    """A failed rerank is a failed run, also if its list was passed through, which says why.

    Of a rerank that raises a run says no cost.
    """
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    tracer = _Tracer()

    with pytest.raises(ServiceError):
        compress([tracer])
    assert tracer.events == []
    reranker.on_error = "passthrough"
    assert compress([tracer]) == DOCUMENTS

    raised, passed = tracer.roots
    assert "ModelUnavailable" in raised.error
    assert "qwen_rerank" not in str(raised.extra["metadata"].keys())
    assert "ModelUnavailable" in passed.error
    degraded = passed.extra["metadata"]["qwen_rerank.degraded"]
    assert "ModelUnavailable" in degraded
    assert passed.extra["metadata"]["qwen_rerank.requests"] == 0
    assert [data["degraded"] for _, data, _ in tracer.events] == [degraded]


def test_inside_a_runnable(invoke, reranker):
    """Called without callbacks in a step or a node, it is traced below that all the same.

    What gives back no documents is not told of: scores alone, or a list with nothing in it.
    """
    tracer = _Tracer()

    def rerank(query):
        reranker.compress_documents([], query)
        reranker.rerank(DOCUMENTS, query)
        return reranker.compress_documents(DOCUMENTS, query)

    async def arerank(query):
        await reranker.acompress_documents([], query)
        await reranker.arerank(DOCUMENTS, query)
        return await reranker.acompress_documents(DOCUMENTS, query)

    invoke(RunnableLambda(rerank, arerank), QUERY, {"callbacks": [tracer]})

    assert [run.name for run in tracer.roots[0].child_runs] == ["QwenRerank"]
    assert len(tracer.events) == 1


def test_nobody_listens(compress, monkeypatch):
    """Then nothing is made ready for tracers."""
    monkeypatch.setattr(_tracing, "_slim", pytest.fail)

    assert len(compress([])) == len(DOCUMENTS)


@pytest.mark.parametrize("name", _SWITCHES)
def test_a_variable_that_switches_tracing_on(monkeypatch, name):
    """Tracers are looked for if LangChain may be told to trace; to ask it takes long to import."""
    monkeypatch.delitem(sys.modules, "langsmith.run_helpers")
    for each in _SWITCHES:
        monkeypatch.delenv(each, raising=False)
    assert not _tracing.may_be_heard(None)

    monkeypatch.setenv(name, "true")
    get_env_var.cache_clear()
    told = get_env_var("TRACING_V2", default=get_env_var("TRACING"))  # as LangSmith reads them
    get_env_var.cache_clear()

    assert told == "true"
    assert _tracing.may_be_heard(None)


# The tracers that people use, sending nothing


def test_langsmith(compress, emulator: Emulator, in_dollars):
    """LangSmith is sent tokens and cost in its own words, and the request ids."""
    answer = requests.Response()
    answer.status_code, answer._content = 202, b"{}"
    wire = create_autospec(requests.Session, instance=True)
    wire.request.return_value = answer
    url = "http://127.0.0.1:1"
    client = Client(api_url=url, api_key="none", session=wire, auto_batch_tracing=False, info={})

    compress([LangChainTracer(client=client, project_name="tests")])

    _, ended = wire.request.call_args_list
    assert ended.args[0] == "PATCH"
    metadata = json.loads(ended.kwargs["data"])["extra"]["metadata"]
    [request] = emulator.log
    usage = metadata["usage_metadata"]
    assert usage["total_cost"] == pytest.approx(in_dollars * request.tokens / 1e6)
    assert usage["input_tokens"] == usage["total_tokens"] == request.tokens
    assert metadata["qwen_rerank.currency"] == "USD"
    assert metadata["qwen_rerank.request_ids"] == [request.request_id]


@pytest.fixture(name="exported")
def _exported():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


@pytest.fixture(name="traced", params=["openinference", "traceloop", "in threads"])
def _traced(request, exported):
    """What makes spans of one of OpenInference's and Traceloop's tracers, and those spans."""
    provider, exporter = exported
    if request.param == "openinference":
        instrumentor = LangChainInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        yield [], exporter.get_finished_spans
        instrumentor.uninstrument()
    else:  # its instrumentor could not be taken back
        seconds = get_meter("tests").create_histogram("seconds")
        tracer = TraceloopCallbackHandler(provider.get_tracer("traceloop"), seconds, seconds)
        tracer.run_inline = request.param == "traceloop"  # Langfuse's and MLflow's are not
        yield [tracer], exporter.get_finished_spans


def test_openinference_and_traceloop(compress, emulator: Emulator, exported, traced, in_dollars):
    """The rerank's span has the tokens and the cost by the names of either, and the request ids.

    A span that was open before the rerank is not written on, even by such a name.
    """
    provider, _ = exported
    callbacks, spans = traced

    with provider.get_tracer("theirs").start_as_current_span("try QwenRerank"):
        compress(callbacks)

    [span, theirs], [request] = spans(), emulator.log
    told = span.attributes
    assert span.name.endswith("QwenRerank")
    for name in ("llm.token_count.prompt", "llm.token_count.total", "gen_ai.usage.input_tokens"):
        assert told[name] == request.tokens
    assert told["llm.cost.total"] == pytest.approx(in_dollars * request.tokens / 1e6)
    assert told["qwen_rerank.request_ids"] == (request.request_id,)
    assert told["qwen_rerank.query_truncated"] is False
    assert theirs.name == "try QwenRerank"
    assert not theirs.attributes
