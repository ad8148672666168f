"""What LlamaIndex's instrumentation, its older callbacks and OpenInference are told of a rerank."""

import asyncio
import json
import pickle
from importlib.metadata import version

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.events.span import SpanDropEvent
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span import active_span_id
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_index_qwen_rerank import QwenRerank, _tracing
from llama_index_qwen_rerank.events import QwenRerankEndEvent
from qwen_rerank import ServiceError
from qwen_rerank.emulator import Reply

pytestmark = pytest.mark.filterwarnings("ignore:.langchain-community. is being sunset")

QUERY = "a fast red sports car"
TEXTS = ("green tea", "a red sports car", "a fast horse")
DOWN = Reply.error(503, "ModelUnavailable", "down", repeat=None)

sees_attributes = pytest.mark.skipif(
    version("openinference-instrumentation-llama-index").startswith("4.3."),
    reason="4.3 of OpenInference's instrumentor shows no attributes that others set",
)


def nodes_of(*texts, score=0.5):
    """Nodes around *texts*, with the score of a first stage."""
    return [NodeWithScore(node=TextNode(text=text), score=score) for text in texts]


@pytest.fixture(name="run", params=["sync", "async"])
def _run(request):
    """One rerank by the sync or the async way."""

    def run(reranker, nodes, query=QUERY):
        bundle = QueryBundle(query) if isinstance(query, str) else query
        if request.param == "sync":
            return reranker.postprocess_nodes(nodes, bundle)
        return asyncio.run(reranker.apostprocess_nodes(nodes, bundle))

    return run


@pytest.fixture(name="older")
def _older():
    """What LlamaIndex's older callbacks are told."""
    return LlamaDebugHandler(print_trace_on_end=False)


def reranked(older):
    """What *older* was told as the one rerank began, and as it ended."""
    [(start, end)] = older.get_event_pairs(CBEventType.RERANKING)
    return start.payload, end.payload


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(2, max_retries=0, **connection)


# The event


def test_what_a_rerank_cost(run, reranker, emulator, told, older):
    """The start has the candidates; the end says what was asked, and what it was billed.

    The older callbacks, whose manager engines put into it, are told what was asked and what came.
    """
    nodes = nodes_of(*TEXTS)
    reranker.callback_manager = CallbackManager([older])

    ranked = run(reranker, nodes)

    [start], [end] = told.of(ReRankStartEvent), told.of(QwenRerankEndEvent)
    assert (start.query, start.top_n, start.model_name) == (QUERY, 2, "qwen3-rerank")
    assert start.nodes == nodes
    assert start.span_id == end.span_id
    assert start.span_id.startswith("QwenRerank._")
    [request] = emulator.log
    assert (end.model_name, end.requests, end.total_tokens) == ("qwen3-rerank", 1, request.tokens)
    assert end.request_ids == [request.request_id]
    assert (end.cache_hits, end.truncated, end.degraded) == (0, [], None)
    assert (end.query_truncated, end.cost, end.currency) == (False, None, None)
    assert end.nodes == ranked
    dumped = json.loads(json.dumps(end.model_dump(mode="json")))
    assert (dumped["class_name"], dumped["requests"]) == ("QwenRerankEndEvent", 1)
    began, ended = reranked(older)
    assert began[EventPayload.QUERY_STR] == QUERY
    assert began[EventPayload.MODEL_NAME] == "qwen3-rerank"
    assert began[EventPayload.TOP_K] == 2
    assert ended[EventPayload.NODES] == ranked


def test_what_was_cut(run, reranker, told, emulator, in_dollars):
    """Positions are those of the list that was given, whatever came back; and of the query too.

    Requests and their price are summed up.
    """
    reranker.max_documents_per_request = 2
    nodes = nodes_of("green tea", "red car " * 6000, "a fast horse", "sports " * 6000)

    run(reranker, nodes, "car " * 9000)

    [end] = told.of(QwenRerankEndEvent)
    assert end.truncated == [1, 3]
    assert end.query_truncated is True
    assert len(end.nodes) == 2
    assert end.requests == 2
    assert end.total_tokens == sum(request.tokens for request in emulator.log)
    assert end.cost == pytest.approx(in_dollars * end.total_tokens / 1e6)
    assert end.currency == "USD"


def test_passed_through(run, reranker, emulator, told, older):
    """Nodes that were passed through are told with their retrieval scores, and the reason why."""
    emulator.script(DOWN)
    reranker.on_error = "passthrough"
    reranker.callback_manager = CallbackManager([older])

    ranked = run(reranker, nodes_of(*TEXTS))

    [end] = told.of(QwenRerankEndEvent)
    assert "HTTP 503" in end.degraded
    assert (end.model_name, end.requests, end.total_tokens) == ("qwen3-rerank", 0, 0)
    assert [(each.node.text, each.score) for each in end.nodes] == [(it, 0.5) for it in TEXTS[:2]]
    assert ranked == end.nodes
    [failure] = told.of(ExceptionEvent)
    assert isinstance(failure.exception, ServiceError)
    assert failure.span_id == end.span_id
    assert told.of(SpanDropEvent) == []
    _, ended = reranked(older)
    assert ended[EventPayload.NODES] == ranked
    assert ended[EventPayload.EXCEPTION] is failure.exception


def test_after_a_failure(run, reranker, emulator, told, older):
    """What was raised ends the rerank with no nodes and no cost, and its span is dropped."""
    emulator.script(DOWN)
    reranker.callback_manager = CallbackManager([older])

    with pytest.raises(ServiceError) as failure:
        run(reranker, nodes_of(*TEXTS))

    [start], [end] = told.of(ReRankStartEvent), told.of(ReRankEndEvent)
    assert end.nodes == []
    assert (end.model_name, end.requests, end.total_tokens) == (None, 0, None)
    [drop] = told.of(SpanDropEvent)
    assert drop.err_str == str(failure.value)
    assert drop.span_id == end.span_id == start.span_id
    _, ended = reranked(older)
    assert ended[EventPayload.EXCEPTION] is failure.value


def test_event_of_all_nodes(run, reranker, told):
    """top_n=None is told as the number of candidates; an empty list is no rerank to tell of."""
    reranker.top_n = None

    run(reranker, [])
    assert told.seen == []
    run(reranker, nodes_of(*TEXTS))

    [start] = told.of(ReRankStartEvent)
    assert start.top_n == len(TEXTS)


# Who listens

PIXELS = "iVBORw0KGgo" * 40


def test_nobody_listens(run, reranker, monkeypatch):
    """Then nothing is made ready for tracers."""
    monkeypatch.setattr(_tracing, "all_thin", pytest.fail)

    assert len(run(reranker, nodes_of(*TEXTS))) == 2


def test_a_span_where_one_listens(run, connection, older):
    """A rerank has a span of its own if a tracer hears of it, which takes long, and else none."""
    spans = []

    def item(node):
        spans.append(active_span_id.get())
        return node.text

    reranker = QwenRerank(**connection, item=item)
    run(reranker, nodes_of("green tea"))
    reranker.callback_manager = CallbackManager([older])
    run(reranker, nodes_of("green tea"))

    silent, told = spans
    assert silent is None
    assert told.startswith("QwenRerank._")


class _Reprs(SimpleSpanHandler):
    """Keeps what spans begin and end with, as text and as a pickle's."""

    seen: list = []  # noqa: RUF012  a pydantic field

    def new_span(self, id_, bound_args, **more):
        """Keep the arguments."""
        given = dict(bound_args.arguments)
        self.seen.append(f"{given}{pickle.dumps(given)}")
        return super().new_span(id_, bound_args, **more)

    def prepare_to_exit_span(self, id_, bound_args, result=None, **more):
        """Keep the result."""
        self.seen.append(f"{result}{pickle.dumps(result)}")
        return super().prepare_to_exit_span(id_, bound_args, result=result, **more)


@pytest.fixture(name="reprs")
def _seen_reprs(request):
    """Such a handler, added to the dispatcher that a test names, or to the root."""
    handler, place = _Reprs(), get_dispatcher(getattr(request, "param", "root"))
    place.add_span_handler(handler)
    yield handler
    place.span_handlers.remove(handler)


@pytest.mark.parametrize("reprs", ["root", "llama_index_qwen_rerank.postprocessor"], indirect=True)
def test_whoever_listens_sees_no_content(run, connection, reprs):
    """A handler of spans sees no image, whichever dispatcher it was added to, and all else."""
    node = NodeWithScore(node=ImageNode(text="a red car", image=PIXELS), score=0.5)
    bundle = QueryBundle(QUERY, image_path=f"data:image/png;base64,{PIXELS}")
    reranker = QwenRerank(2, keep_retrieval_score=True, **connection)

    ranked = run(reranker, [node, *nodes_of("tea")], bundle)

    given, came = reprs.seen
    assert PIXELS not in given + came
    assert "retrieval_score" in came.partition("a red car")[0]
    assert ranked[0].node.image == PIXELS


class _Mine(QwenRerank):
    """One's own, whose method LlamaIndex makes a span of."""

    def _postprocess_nodes(self, nodes, query_bundle=None):
        return super()._postprocess_nodes(nodes, query_bundle)


def test_a_span_of_what_a_subclass_overrides(run, connection, reprs):
    """LlamaIndex's own span of it shows what it is given; the rerank's inside shows no image.

    Whoever overrides a method gets whole nodes, though somebody listens.
    """
    nodes = [NodeWithScore(node=ImageNode(text="a red car", image=PIXELS))]

    [ranked] = run(_Mine(**connection), nodes)

    assert ranked.node is nodes[0].node
    assert [PIXELS in each for each in reprs.seen] == [True, False, False, True]


def test_a_span_of_somebody_else(run, reranker, told):
    """A span that was open before the rerank is not written on, even by such a name."""
    with TracerProvider().get_tracer("theirs").start_as_current_span("try QwenRerank") as theirs:
        run(reranker, nodes_of(*TEXTS))

    assert told.seen
    assert not theirs.attributes


def test_no_manager(reranker):
    """What is no callback manager is refused, and the old one stays."""
    before = reranker.callback_manager

    with pytest.raises(ValueError, match="must be a CallbackManager"):
        reranker.callback_manager = None

    assert reranker.callback_manager is before


# OpenInference


@pytest.fixture(name="exported")
def _exported():
    """The finished spans of OpenInference's instrumentation of LlamaIndex."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter.get_finished_spans
    instrumentor.uninstrument()
    provider.shutdown()


def documents(span, side):
    """The texts and scores of the input or output documents of *span*."""
    found, prefix = [], f"reranker.{side}_documents"
    while (content := span.attributes.get(f"{prefix}.{len(found)}.document.content")) is not None:
        score = span.attributes.get(f"{prefix}.{len(found)}.document.score")
        found.append((content, score))
    return found


@sees_attributes
def test_openinference(run, reranker, emulator, exported):
    """A trace shows one rerank, with its query, its model and the documents before and after."""
    ranked = run(reranker, nodes_of(*TEXTS))

    [span] = exported()
    assert span.attributes["openinference.span.kind"] == "RERANKER"
    assert span.name.startswith("QwenRerank.")
    assert span.attributes["reranker.query"] == QUERY
    assert span.attributes["reranker.model_name"] == "qwen3-rerank"
    assert span.attributes["reranker.top_k"] == 2
    assert span.attributes["llm.token_count.prompt"] == emulator.log[0].tokens
    assert span.attributes["qwen_rerank.request_ids"] == (emulator.log[0].request_id,)
    assert documents(span, "input") == [(text, 0.5) for text in TEXTS]
    assert documents(span, "output") == [(each.node.text, each.score) for each in ranked]
    assert span.status.is_ok
