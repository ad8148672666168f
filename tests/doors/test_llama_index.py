"""What LlamaIndex's users can rely on beyond the duties of every door."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    Document,
    ImageNode,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index_instrumentation import root_dispatcher
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import SimpleSpan
from llama_index_instrumentation.span_handlers import SimpleSpanHandler

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import RequestError, RerankError
from qwen_rerank.emulator import Emulator, Reply

QUERY = "a fast red sports car"


class Events(BaseEventHandler):
    """Keeps every event that reaches the root dispatcher."""

    seen: list = []  # noqa: RUF012  a pydantic field

    def handle(self, event, **_):
        """Keep *event*."""
        self.seen.append(event)


@pytest.mark.parametrize("mode", list(MetadataMode))
@pytest.mark.parametrize("metadata", [{}, {"page": 3}, {"page": 3, "hidden": 1}])
def test_the_content_that_is_ranked(connection, emulator, mode, metadata):
    """It is what the node itself says, with and without metadata, whatever its templates are."""
    node = TextNode(
        text=" a red car\n",
        metadata=metadata,
        text_template="<{metadata_str}> {content}",
        excluded_embed_metadata_keys=["hidden"],
    )

    QwenRerank(**connection, metadata_mode=mode).postprocess_nodes(
        [NodeWithScore(node=node)], query_str=QUERY
    )

    [request] = emulator.log
    assert request.body["input"]["documents"] == [node.get_content(metadata_mode=mode)]


@pytest.fixture(name="trace")
def _trace():
    """The events and spans that LlamaIndex's instrumentation sees."""
    events, spans = Events(), SimpleSpanHandler()
    root_dispatcher.add_event_handler(events)
    root_dispatcher.add_span_handler(spans)
    yield events.seen, spans
    root_dispatcher.event_handlers.remove(events)
    root_dispatcher.span_handlers.remove(spans)


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(**connection)


def nodes_of(*texts: str) -> list[NodeWithScore]:
    """Nodes around *texts*, with the score of a first stage."""
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]


def run(reranker: QwenRerank, nodes: list[NodeWithScore], *, native: bool):
    """One rerank by the sync or the async way."""
    if native:
        return asyncio.run(reranker.apostprocess_nodes(nodes, query_str=QUERY))
    return reranker.postprocess_nodes(nodes, query_str=QUERY)


both_ways = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])


def test_is_a_node_postprocessor():
    """It fits wherever a postprocessor is asked for."""
    assert issubclass(QwenRerank, BaseNodePostprocessor)
    assert QwenRerank.class_name() == "QwenRerank"


def test_replaces_dashscope_rerank(connection):
    """The arguments of DashScopeRerank are taken, top_n by position too."""
    assert QwenRerank(5, **connection).top_n == 5
    with pytest.warns(UserWarning, match="return_documents does nothing"):
        reranker = QwenRerank(
            top_n=3,
            model="qwen3-rerank",
            return_documents=True,
            callback_manager=None,
            **connection,
        )

    assert reranker.postprocess_nodes(nodes_of("red car"), query_str=QUERY)


@both_ways
def test_same_nodes_in_new_wrappers(reranker, native):
    """The nodes that come back are the caller's own; their scores outside are untouched."""
    nodes = nodes_of("green tea", "a red sports car")

    ranked = run(reranker, nodes, native=native)

    assert [each.node for each in ranked] == [nodes[1].node, nodes[0].node]
    assert ranked[0].node is nodes[1].node
    assert ranked[0] is not nodes[1]
    assert [each.score for each in nodes] == [0.5, 0.5]


def test_text_as_embedded_by_default(reranker, emulator: Emulator):
    """Metadata counts as it does for the embedding, unless another mode is chosen."""
    node = TextNode(text="red car", metadata={"maker": "acme", "shelf": "9"})
    node.excluded_embed_metadata_keys = ["shelf"]

    reranker.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    reranker.metadata_mode = MetadataMode.NONE
    reranker.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)

    first, second = (request.body["input"]["documents"][0] for request in emulator.log)
    assert "acme" in first
    assert "shelf" not in first
    assert second == "red car"


@pytest.mark.parametrize("kind", [TextNode, Document, ImageNode])
def test_every_kind_of_text_node(reranker, kind):
    """Documents and image nodes with a caption are ranked by their text."""
    nodes = [NodeWithScore(node=kind(text="red sports car")), *nodes_of("green tea")]

    assert reranker.postprocess_nodes(nodes, query_str=QUERY)[0].node is nodes[0].node


@both_ways
@pytest.mark.parametrize("nodes", [[], nodes_of("text")])
def test_missing_query(reranker, native, nodes):
    """No query at all is a ValueError."""

    def without_query():
        return (
            asyncio.run(reranker.apostprocess_nodes(nodes))
            if native
            else (reranker.postprocess_nodes(nodes))
        )

    with pytest.raises(ValueError, match="a query is needed"):
        without_query()


@both_ways
def test_query_in_the_wrong_place(reranker, native):
    """A text where LlamaIndex has its QueryBundle is a ValueError that names the right argument."""
    rerank = reranker.apostprocess_nodes if native else reranker.postprocess_nodes

    with pytest.raises(RequestError, match="must be a QueryBundle, not str; pass query_str="):
        asyncio.run(rerank(nodes_of("a"), QUERY)) if native else rerank(nodes_of("a"), QUERY)


def test_estimate_takes_one_query(reranker):
    """estimate() takes the query as `postprocess_nodes` does: in either form, but not in both."""
    nodes = nodes_of("a red sports car")

    assert reranker.estimate(nodes, QueryBundle(QUERY)) == reranker.estimate(nodes, query_str=QUERY)
    with pytest.raises(RequestError, match="not both"):
        reranker.estimate(nodes, QueryBundle(QUERY), QUERY)


_ONE = "Put a single node into a list; a query goes into query_str=."
_OF_LANGCHAIN = "A document of LangChain: write NodeWithScore(node=TextNode(text=it.page_content))."


@both_ways
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("b", "str\nWrite NodeWithScore(node=TextNode(text=text))."),
        (TextNode(text="b"), "TextNode\nWrite NodeWithScore(node=node)."),
        (Document(text="b"), "Document\nWrite NodeWithScore(node=node)."),
        ((TextNode(text="b"), 0.5), "tuple\nWrite NodeWithScore(node=node, score=score)."),
        (SimpleNamespace(page_content="b"), f"SimpleNamespace\n{_OF_LANGCHAIN}"),
        (None, "None"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_not_a_node(reranker, emulator: Emulator, native, wrong, said):
    """A candidate that is no node is named by its position, with what to write instead."""
    with pytest.raises(RequestError) as caught:
        run(reranker, [*nodes_of("a"), wrong], native=native)

    assert str(caught.value) == f"node 1 must be a NodeWithScore, not {said}"
    assert emulator.log == ()


@both_ways
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "None\nWhere nothing was found, pass an empty list."),
        *(
            (each, f"{type(each).__name__}\n{_ONE}")
            for each in (QUERY, QueryBundle(QUERY), TextNode(text="b"), nodes_of("b")[0], {})
        ),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_no_nodes(reranker, emulator: Emulator, native, wrong, said):
    """What is no list of nodes is told so, whatever its parts would be."""
    with pytest.raises(RequestError) as caught:
        run(reranker, wrong, native=native)

    assert str(caught.value) == f"nodes must be a list of NodeWithScore, not {said}"
    assert emulator.log == ()


def test_a_model_by_position(connection):
    """What comes first is top_n, so a text there is told where it belongs, and not shown."""
    with pytest.raises(ValueError, match=r"write QwenRerank\(model=\.\.\.\)") as caught:
        QwenRerank("qwen3-rerank", **connection)

    assert "qwen3" not in str(caught.value)


def test_query_of_a_tool(reranker, emulator: Emulator):
    """The blanks that tools put around a query are not sent."""
    reranker.postprocess_nodes(nodes_of("a"), QueryBundle("\ninput is from agent\n"))

    assert emulator.log[0].body["input"]["query"] == "input is from agent"


@both_ways
def test_events_are_paired(reranker, trace, native):
    """A start event with the candidates, an end event with the ranking, inside our own span."""
    events, spans = trace
    nodes = nodes_of("green tea", "a red sports car")

    ranked = run(reranker, nodes, native=native)

    start, end = (e for e in events if isinstance(e, ReRankStartEvent | ReRankEndEvent))
    method = "_apostprocess_nodes" if native else "_postprocess_nodes"
    assert (start.query, start.top_n, start.model_name) == (QUERY, 3, "qwen3-rerank")
    assert [each.node.node_id for each in start.nodes] == [each.node.node_id for each in nodes]
    assert [each.score for each in end.nodes] == [each.score for each in ranked]
    assert start.span_id.startswith(f"QwenRerank.{method}")
    assert end.span_id == start.span_id
    assert [span.id_.split("-")[0] for span in spans.completed_spans] == [f"QwenRerank.{method}"]


@both_ways
def test_events_are_paired_after_a_failure(reranker, trace, emulator: Emulator, native):
    """A failed rerank ends its event with nothing, and its span carries the error."""
    events, spans = trace
    emulator.script(Reply.error(400, "InvalidParameter", "no", repeat=None))

    with pytest.raises(RerankError):
        run(reranker, nodes_of("text"), native=native)

    kinds = [type(event).__name__ for event in events]
    assert kinds == ["ReRankStartEvent", "QwenRerankEndEvent", "SpanDropEvent"]
    assert events[1].nodes == []
    dropped: list[SimpleSpan] = spans.dropped_spans
    assert len(dropped) == 1


def test_no_event_without_a_call(reranker, trace):
    """An empty list is no rerank, so nothing is reported."""
    reranker.postprocess_nodes([], query_str=QUERY)

    assert trace[0] == []


def test_event_of_all_nodes(connection, trace):
    """top_n=None is reported as the number of candidates, since the event takes no None."""
    QwenRerank(top_n=None, **connection).postprocess_nodes(nodes_of("a", "b"), query_str=QUERY)

    assert trace[0][0].top_n == 2


@both_ways
def test_older_callbacks(reranker, native):
    """The RERANKING callback is still told, through a callback manager assigned later."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    reranker.callback_manager = CallbackManager([debug])

    ranked = run(reranker, nodes_of("green tea", "a red sports car"), native=native)

    [(start, end)] = debug.get_event_pairs(CBEventType.RERANKING)
    assert start.payload[EventPayload.QUERY_STR] == QUERY
    assert start.payload[EventPayload.TOP_K] == 3
    assert end.payload[EventPayload.NODES] == ranked


def test_older_callbacks_after_a_failure(reranker, emulator: Emulator):
    """A failure ends the callback's event with the exception."""
    debug = LlamaDebugHandler(print_trace_on_end=False)
    reranker.callback_manager = CallbackManager([debug])
    emulator.script(Reply.error(400, "InvalidParameter", "no", repeat=None))

    with pytest.raises(RerankError):
        reranker.postprocess_nodes(nodes_of("text"), query_str=QUERY)

    [(_, end)] = debug.get_event_pairs(CBEventType.RERANKING)
    assert isinstance(end.payload[EventPayload.EXCEPTION], RerankError)


async def test_sync_inside_a_running_loop(reranker):
    """Some callers call the sync method inside a running loop; it is plain sync HTTP."""
    assert reranker.postprocess_nodes(nodes_of("a red sports car"), query_str=QUERY)


def test_dict_round_trip(emulator: Emulator, monkeypatch):
    """to_dict and to_json hold every option but the key; from_dict finds the key again."""
    reranker = QwenRerank(7, base_url=emulator.base_url, api_key="sk-secret", instruct="Match.")

    stored = json.loads(reranker.to_json())
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    again = QwenRerank.from_dict(stored)

    assert "secret" not in json.dumps(stored)
    assert again.to_dict() == reranker.to_dict()
    assert again.postprocess_nodes(nodes_of("red car"), query_str=QUERY)
