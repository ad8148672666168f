"""What LlamaIndex's users can rely on beyond the duties of every door."""

import asyncio
import copy
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pytest
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import AuthenticationError, RequestError
from qwen_rerank.emulator import Emulator, Reply

try:
    from llama_index.core.rate_limiter import TokenBucketRateLimiter
except ImportError:  # an older release, whose users bring their own
    TokenBucketRateLimiter = None

has_limiters = pytest.mark.skipif(
    TokenBucketRateLimiter is None, reason="this llama-index-core has no rate limiters"
)

QUERY = "a fast red sports car"
TEXTS = ("green tea", "a red sports car", "a fast horse")

both_ways = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])


def nodes_of(*texts, score=0.5):
    """Nodes around *texts*, with the score of a first stage."""
    return [NodeWithScore(node=TextNode(text=text), score=score) for text in texts]


def run(reranker, nodes, query=QUERY, *, native=False):
    """One rerank by the sync or the async way."""
    if native:
        return asyncio.run(reranker.apostprocess_nodes(nodes, query_str=query))
    return reranker.postprocess_nodes(nodes, query_str=query)


[TEA] = nodes_of("green tea")


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(2, **connection)


@pytest.mark.parametrize("mode", list(MetadataMode))
@pytest.mark.parametrize("metadata", [{}, {"page": 3, "hidden": 1}], ids=["bare", "metadata"])
def test_the_content_that_is_ranked(connection, emulator, mode, metadata):
    """It is what the node itself says, with and without metadata, whatever its templates are."""
    node = TextNode(
        text=" a red car\n",
        metadata=metadata,
        text_template="<{metadata_str}> {content}",
        excluded_embed_metadata_keys=["hidden"],
    )

    run(QwenRerank(**connection, metadata_mode=mode), [NodeWithScore(node=node)])

    [request] = emulator.log
    assert request.body["input"]["documents"] == [node.get_content(metadata_mode=mode)]


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
    """The nodes that come back are the caller's own; their scores outside are untouched.

    Whatever gives nodes one by one is as good as a list.
    """
    nodes = nodes_of("green tea", "a red sports car")

    best, last = run(reranker, iter(nodes), native=native)

    assert best.node is nodes[1].node
    assert last.node is nodes[0].node
    assert [each.score for each in nodes] == [0.5, 0.5]
    assert reranker.estimate(iter(nodes), query_str="q").requests == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (None, "a query is needed"),
        (QueryBundle(None), "a query is needed"),
        (QUERY, "must be a QueryBundle, not str; pass query_str="),
        (QueryBundle(5), "query_str must be a str, not int"),
    ],
    ids=["none", "empty", "text", "number"],
)
def test_wrong_queries(reranker, emulator: Emulator, told, query, said):
    """A query that is missing, in the wrong place or no text is refused, and nothing is sent.

    A tracer that listens makes no other error of it.
    """
    with pytest.raises(RequestError, match=said):
        reranker.postprocess_nodes(nodes_of("a"), query)

    assert told.seen
    assert emulator.log == ()


def test_estimate_takes_one_query(reranker):
    """estimate() takes the query as `postprocess_nodes` does: in either form, but not in both."""
    nodes = nodes_of("a red sports car")

    assert reranker.estimate(nodes, QueryBundle(QUERY)) == reranker.estimate(nodes, query_str=QUERY)
    with pytest.raises(RequestError, match="not both"):
        reranker.estimate(nodes, QueryBundle(QUERY), QUERY)


_LIST, _NODE = "nodes must be a list of NodeWithScore, not", "node 1 must be a NodeWithScore, not"
_ONE = "Put a single node into a list; a query goes into query_str=."
_OF_LANGCHAIN = "A document of LangChain: write NodeWithScore(node=TextNode(text=it.page_content))."


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (None, f"{_LIST} None\nWhere nothing was found, pass an empty list."),
        (TEA, f"{_LIST} NodeWithScore\n{_ONE}"),
        (QUERY, f"{_LIST} str\n{_ONE}"),
        ([TEA, "b"], f"{_NODE} str\nWrite NodeWithScore(node=TextNode(text=text))."),
        ([TEA, TextNode(text="b")], f"{_NODE} TextNode\nWrite NodeWithScore(node=node)."),
        ([TEA, (TEA.node, 0.5)], f"{_NODE} tuple\nWrite NodeWithScore(node=node, score=score)."),
        ([TEA, SimpleNamespace(page_content="b")], f"{_NODE} SimpleNamespace\n{_OF_LANGCHAIN}"),
        ([TEA, None], f"{_NODE} None"),
    ],
    ids=["none", "one", "query", "text", "node", "pair", "document", "nothing"],
)
def test_no_nodes(reranker, emulator: Emulator, told, nodes, said):
    """What is no list of nodes is told so, and in a list its position, with what to write instead.

    Nothing is sent, and a tracer that listens makes no other error of it.
    """
    with pytest.raises(RequestError) as caught:
        run(reranker, nodes)

    assert str(caught.value) == said
    assert told.seen
    assert emulator.log == ()


def test_a_model_by_position(connection):
    """What comes first is top_n, so a text there is told where it belongs, and not shown."""
    with pytest.raises(ValueError, match=r"write QwenRerank\(model=\.\.\.\)") as caught:
        QwenRerank("qwen3-rerank", **connection)

    assert "qwen3" not in str(caught.value)


# keep_retrieval_score


@pytest.fixture(name="keeping")
def _keeping(connection):
    return QwenRerank(2, keep_retrieval_score=True, **connection)


def test_retrieval_score_is_kept(keeping):
    """The first stage's score stands in the metadata of a copy; the node itself has none.

    Nought is a score. A node that came without one comes back as it is.
    """
    nodes = nodes_of(*TEXTS)
    nodes[1].score, nodes[2].score = 0.0, None
    nodes[1].node.metadata["maker"] = "acme"

    best, second = run(keeping, nodes)

    assert best.node.metadata == {"maker": "acme", "retrieval_score": 0.0}
    assert best.score > 0.5
    assert second.node is nodes[2].node
    assert second.node.metadata == {}
    assert best.node is not nodes[1].node
    assert (best.node.node_id, best.node.text) == (nodes[1].node.node_id, TEXTS[1])
    assert nodes[1].node.metadata == {"maker": "acme"}
    assert nodes[1].node.excluded_llm_metadata_keys == []
    assert nodes[1].score == 0.0


def test_retrieval_score_is_out_of_sight(keeping):
    """Neither a language model nor an embedding sees it, beside what else they do not see."""
    [node] = nodes_of("a red sports car")
    node.node.metadata = {"maker": "acme", "shelf": "9"}
    node.node.excluded_llm_metadata_keys = ["shelf"]
    node.node.excluded_embed_metadata_keys = ["maker"]

    [ranked] = run(keeping, [node])

    for mode in (MetadataMode.LLM, MetadataMode.EMBED, MetadataMode.NONE):
        assert ranked.node.get_content(mode) == node.node.get_content(mode)
    assert "retrieval_score: 0.5" in ranked.node.get_content(MetadataMode.ALL)


def test_two_rerankers_in_a_row(connection, emulator):
    """The last one's retrieval score is the score of the one before, and it ranks the same text."""
    first = QwenRerank(2, keep_retrieval_score=True, **connection)
    second = QwenRerank(1, keep_retrieval_score=True, instruct="Match cars.", **connection)

    middle = run(first, nodes_of(*TEXTS))
    [best] = run(second, middle)

    assert best.node.metadata == {"retrieval_score": middle[0].score}
    assert best.node.excluded_llm_metadata_keys == ["retrieval_score"]
    assert best.node.excluded_embed_metadata_keys == ["retrieval_score"]
    assert middle[0].node.metadata == {"retrieval_score": 0.5}
    sent = [request.body["input"]["documents"] for request in emulator.log]
    assert sent == [list(TEXTS), [each.node.text for each in middle]]


# rate_limiter


class Recorder:
    """Permits everything, and keeps the tokens that it was asked for."""

    def __init__(self):
        self.asked = []

    def acquire(self, num_tokens=0):
        """Permit it."""
        self.asked.append(num_tokens)

    async def async_acquire(self, num_tokens=0):
        """Permit it."""
        self.asked.append(num_tokens)


@both_ways
def test_tokens_of_a_permission(reranker, emulator, native):
    """A request is permitted for no fewer tokens than are billed, and not for many more."""
    reranker.rate_limiter = limiter = Recorder()
    reranker.max_documents_per_request = 1

    run(reranker, nodes_of("car", "a red sports car " * 50, "tea"), native=native)

    billed = sorted(request.tokens for request in emulator.log)
    asked = sorted(limiter.asked)
    assert all(0 < least <= most <= 2 * least for least, most in zip(billed, asked, strict=True))


@has_limiters
@both_ways
def test_llama_indexs_own(reranker, native):
    """LlamaIndex's limiters permit what is within the limit."""
    reranker.rate_limiter = TokenBucketRateLimiter(requests_per_minute=9, tokens_per_minute=9_999)

    assert len(run(reranker, nodes_of(*TEXTS), native=native)) == 2


@has_limiters
def test_no_permission_is_taken_later(reranker, emulator):
    """When a call has failed, nothing of it waits for LlamaIndex's limiters any more."""
    reranker.rate_limiter = TokenBucketRateLimiter(tokens_per_minute=1_000)
    reranker.max_documents_per_request, before = 1, set(threading.enumerate())
    emulator.script(Reply.error(401, "InvalidApiKey", "no"))

    with pytest.raises(AuthenticationError):
        run(reranker, nodes_of("a red car", "a red sports car " * 500))

    assert "qwen-rerank-pace" not in {each.name for each in set(threading.enumerate()) - before}


# Stored and copied


def words_of(node):
    """The text of *node*, as a callable that a pickle can hold."""
    return node.get_content()


@pytest.fixture(name="full")
def _full(connection, tmp_path):
    """A reranker with options of its own, and those that cannot be stored."""
    return QwenRerank(
        7,
        instruct="Match cars.",
        metadata_mode="llm",
        local_files=tmp_path,
        keep_retrieval_score=True,
        score_threshold=0.125,
        timeout=5,
        rate_limiter=Recorder(),
        cache={},
        item=words_of,
        **connection,
    )


# By LlamaIndex's methods, or by pydantic's, which models that hold it use.
STORED = {
    "dict": lambda reranker: QwenRerank.from_dict(reranker.to_dict()),
    "json": lambda reranker: QwenRerank.from_json(reranker.to_json()),
    "model": lambda reranker: QwenRerank.model_validate(reranker.model_dump()),
    "model-json": lambda reranker: QwenRerank.model_validate_json(reranker.model_dump_json()),
    "cloudpickle": lambda reranker: pickle.loads(cloudpickle.dumps(reranker)),  # noqa: S301  ours
}


@pytest.mark.parametrize("how", STORED)
def test_round_trip(full, emulator, monkeypatch, how):
    """Every option comes back as it was but the key, which is found anew, and what is alive."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    again = STORED[how](full)

    assert full.to_dict()["class_name"] == "QwenRerank"
    assert again.to_dict() == full.to_dict()
    assert again.metadata_mode is MetadataMode.LLM
    assert again.local_files == full.local_files
    assert isinstance(again.local_files, Path)
    assert (again.top_n, again.timeout, again.score_threshold) == (7, 5.0, 0.125)
    assert again.keep_retrieval_score
    assert (again.rate_limiter, again.cache, again.usage.requests) == (None, None, 0)
    assert again.item == (words_of if "pickle" in how else None)
    assert again.api_key is None
    assert run(again, nodes_of(*TEXTS))[0].node.text == TEXTS[1]


def test_from_dict_with_more(reranker, emulator):
    """The key and other options can be given beside the dict, but no class of another's."""
    again = QwenRerank.from_dict(reranker.to_dict(), api_key=emulator.api_key, top_n=1)

    assert len(run(again, nodes_of(*TEXTS))) == 1
    with pytest.raises(ValueError, match="class_name"):
        QwenRerank(class_name="DashScopeRerank", api_key=emulator.api_key)


def test_copies(full):
    """A copy tells the same callbacks."""
    for copied in (copy.copy, copy.deepcopy, QwenRerank.model_copy):
        assert copied(full).callback_manager is full.callback_manager
