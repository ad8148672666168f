"""What LlamaIndex's users can rely on beyond the duties of every door."""

import asyncio
from types import SimpleNamespace

import pytest
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    Document,
    ImageNode,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import RequestError
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"


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


@pytest.mark.parametrize("kind", [Document, ImageNode])
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


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("b", "str\nWrite NodeWithScore(node=TextNode(text=text))."),
        (TextNode(text="b"), "TextNode\nWrite NodeWithScore(node=node)."),
        ((TextNode(text="b"), 0.5), "tuple\nWrite NodeWithScore(node=node, score=score)."),
        (SimpleNamespace(page_content="b"), f"SimpleNamespace\n{_OF_LANGCHAIN}"),
        (None, "None"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_not_a_node(reranker, emulator: Emulator, wrong, said):
    """A candidate that is no node is named by its position, with what to write instead."""
    with pytest.raises(RequestError) as caught:
        run(reranker, [*nodes_of("a"), wrong], native=False)

    assert str(caught.value) == f"node 1 must be a NodeWithScore, not {said}"
    assert emulator.log == ()


@both_ways
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (None, "None\nWhere nothing was found, pass an empty list."),
        *(
            (each, f"{type(each).__name__}\n{_ONE}")
            for each in (QUERY, QueryBundle(QUERY), nodes_of("b")[0])
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
