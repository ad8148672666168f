"""The options that only LlamaIndex's users have, and how a reranker is stored and copied."""

import asyncio
import copy
import json
import pickle
import threading
from pathlib import Path

import cloudpickle
import pytest
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import DeadlineError
from qwen_rerank.emulator import Reply

try:
    from llama_index.core.rate_limiter import (
        BaseRateLimiter,
        SlidingWindowRateLimiter,
        TokenBucketRateLimiter,
    )
except ImportError:  # an older release, whose users bring their own
    BaseRateLimiter, SlidingWindowRateLimiter, TokenBucketRateLimiter = object, None, None

has_limiters = pytest.mark.skipif(
    TokenBucketRateLimiter is None, reason="this llama-index-core has no rate limiters"
)

QUERY = "a fast red sports car"
TEXTS = ("green tea", "a red sports car", "a fast horse")
DOWN = Reply.error(503, "ModelUnavailable", "down", repeat=None)

both_ways = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])


def nodes_of(*texts, score=0.5):
    """Nodes around *texts*, with the score of a first stage."""
    return [NodeWithScore(node=TextNode(text=text), score=score) for text in texts]


def run(reranker, nodes, query=QUERY, *, native=False):
    """One rerank by the sync or the async way."""
    if native:
        return asyncio.run(reranker.apostprocess_nodes(nodes, query_str=query))
    return reranker.postprocess_nodes(nodes, query_str=query)


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(2, **connection)


# keep_retrieval_score


@pytest.fixture(name="keeping")
def _keeping(connection):
    return QwenRerank(2, keep_retrieval_score=True, max_retries=0, **connection)


@both_ways
def test_retrieval_score_is_kept(keeping, native):
    """The first stage's score stands in the metadata of a copy; the node itself has none."""
    nodes = nodes_of(*TEXTS)
    nodes[1].score = 0.25
    nodes[1].node.metadata["maker"] = "acme"

    best, second = run(keeping, nodes, native=native)

    assert best.node.metadata == {"maker": "acme", "retrieval_score": 0.25}
    assert best.score != 0.25
    assert second.node.metadata == {"retrieval_score": 0.5}
    assert best.node is not nodes[1].node
    assert (best.node.node_id, best.node.text) == (nodes[1].node.node_id, TEXTS[1])
    assert nodes[1].node.metadata == {"maker": "acme"}
    assert nodes[1].node.excluded_llm_metadata_keys == []
    assert nodes[1].node.excluded_embed_metadata_keys == []
    assert nodes[1].score == 0.25


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


def test_no_retrieval_score(keeping):
    """A node that came without a score has none to keep, and comes back as it is."""
    nodes = nodes_of(*TEXTS, score=None)

    best = run(keeping, nodes)[0]

    assert best.node is nodes[1].node
    assert best.node.metadata == {}


def test_a_retrieval_score_of_nothing(keeping):
    """Nought is a score."""
    [ranked] = run(keeping, nodes_of("a red sports car", score=0.0))

    assert ranked.node.metadata == {"retrieval_score": 0.0}


def test_retrieval_score_of_a_list_that_was_passed_through(keeping, emulator):
    """Both the score and the metadata are those of the first stage."""
    keeping.on_error = "passthrough"
    emulator.script(DOWN)

    ranked = run(keeping, nodes_of(*TEXTS))

    assert [each.node.text for each in ranked] == list(TEXTS[:2])
    assert [each.score for each in ranked] == [0.5, 0.5]
    assert [each.node.metadata["retrieval_score"] for each in ranked] == [0.5, 0.5]


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


class Recorder(BaseRateLimiter):
    """Permits everything, and keeps the tokens that it was asked for."""

    def __init__(self):
        self.sync, self.native = [], []

    def acquire(self, num_tokens=0):
        """Permit it."""
        self.sync.append(num_tokens)

    async def async_acquire(self, num_tokens=0):
        """Permit it."""
        self.native.append(num_tokens)

    def asked(self, *, native):
        """The tokens it was asked for by one way; the other way was not taken."""
        assert (self.sync if native else self.native) == []
        return self.native if native else self.sync


class Never(BaseRateLimiter):
    """Permits nothing within the time that anybody has."""

    def __init__(self):
        self.over = threading.Event()

    def acquire(self, num_tokens=0):  # noqa: ARG002  their signature
        """Wait for the end of the test."""
        self.over.wait(60)

    async def async_acquire(self, num_tokens=0):  # noqa: ARG002  likewise
        """Wait for as long as the call does."""
        await asyncio.Event().wait()


@pytest.fixture(name="never")
def _never():
    limiter = Never()
    yield limiter
    limiter.over.set()


class LimiterDownError(Exception):
    """The limiter's own."""


class Broken(BaseRateLimiter):
    """Fails with an error of its own."""

    def __init__(self, error):
        self.error = error

    def acquire(self, num_tokens=0):  # noqa: ARG002  their signature
        """Fail."""
        raise self.error

    async def async_acquire(self, num_tokens=0):  # noqa: ARG002  likewise
        """Fail."""
        raise self.error


@both_ways
def test_one_permission_for_one_request(reranker, emulator, native):
    """It is asked once, for no fewer tokens than are billed, and not for many more."""
    reranker.rate_limiter = limiter = Recorder()

    run(reranker, nodes_of(*TEXTS), native=native)

    [tokens] = limiter.asked(native=native)
    [request] = emulator.log
    assert isinstance(tokens, int)
    assert 0 < request.tokens <= tokens <= 2 * request.tokens


@both_ways
def test_a_permission_for_every_request(reranker, emulator, native):
    """Requests that run at once are permitted one by one; larger ones ask for more tokens."""
    reranker.rate_limiter = limiter = Recorder()
    reranker.max_documents_per_request = 1

    run(reranker, nodes_of("car", "a red sports car " * 50, "tea"), native=native)

    asked = sorted(limiter.asked(native=native))
    assert len(asked) == len(emulator.log) == 3
    assert 0 < asked[0] <= asked[1] < asked[2]


@has_limiters
@both_ways
@pytest.mark.parametrize("kind", [TokenBucketRateLimiter, SlidingWindowRateLimiter])
def test_llama_indexs_own(reranker, emulator, kind, native):
    """LlamaIndex's limiters permit what is within the limit."""
    reranker.rate_limiter = kind(requests_per_minute=600, tokens_per_minute=100_000)

    for _ in range(3):
        assert len(run(reranker, nodes_of(*TEXTS), native=native)) == 2

    assert len(emulator.log) == 3


@both_ways
def test_never_permitted(reranker, never, emulator, native):
    """Whoever is not permitted in time fails in time, sends nothing, and keeps no turn."""
    reranker.max_concurrency = 1
    reranker.rate_limiter, reranker.timeout = never, 0.2

    with pytest.raises(DeadlineError) as failure:
        run(reranker, nodes_of(*TEXTS), native=native)

    assert failure.value.documents == (0, 1, 2)
    assert emulator.log == ()
    reranker.rate_limiter, reranker.timeout = None, 30
    assert len(run(reranker, nodes_of(*TEXTS), native=native)) == 2


@both_ways
@pytest.mark.parametrize("kind", [LimiterDownError, TimeoutError])
def test_the_limiters_own_error(reranker, emulator, native, kind):
    """What the limiter raises reaches the caller as it is, whatever on_error says."""
    reranker.rate_limiter = Broken(error := kind("the limiter is down"))
    reranker.on_error = "passthrough"
    reranker.max_documents_per_request = 1

    with pytest.raises(kind) as failure:
        run(reranker, nodes_of(*TEXTS), native=native)

    assert failure.value is error  # a TimeoutError of the limiter is not that of the call
    assert emulator.log == ()


@pytest.mark.parametrize("limiter", ["120/min", object()])
def test_no_limiter(reranker, limiter):
    """What cannot be asked is refused, when assigned and when given."""
    with pytest.raises(ValueError, match="rate_limiter: must be a rate limiter"):
        reranker.rate_limiter = limiter
    with pytest.raises(ValueError, match="rate_limiter: must be a rate limiter"):
        QwenRerank(rate_limiter=limiter, base_url=reranker.base_url, api_key="sk-any")

    assert reranker.rate_limiter is None


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
        metadata_mode=MetadataMode.LLM,
        local_files=tmp_path,
        keep_retrieval_score=True,
        score_threshold=0.125,
        timeout=5,
        rate_limiter=Recorder(),
        cache={},
        item=words_of,
        **connection,
    )


def stored_and_found(reranker, how):
    """*reranker* after a round trip through a dict, a JSON text or a pickle."""
    return {
        "dict": lambda: QwenRerank.from_dict(reranker.to_dict()),
        "json": lambda: QwenRerank.from_json(reranker.to_json()),
        "pickle": lambda: pickle.loads(pickle.dumps(reranker)),  # noqa: S301  our own
        "cloudpickle": lambda: pickle.loads(cloudpickle.dumps(reranker)),  # noqa: S301  our own
    }[how]()


@pytest.mark.parametrize("how", ["dict", "json", "pickle", "cloudpickle"])
def test_round_trip(full, emulator, monkeypatch, how):
    """Every option comes back but the key, which is found anew, and what is alive."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    again = stored_and_found(full, how)

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


@pytest.mark.parametrize("mode", MetadataMode)
def test_every_metadata_mode(reranker, monkeypatch, emulator, mode):
    """Modes are stored by their names, and those are taken as options too."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    reranker.metadata_mode = mode.value

    assert reranker.metadata_mode is mode
    assert json.loads(reranker.to_json())["metadata_mode"] == mode.value
    assert QwenRerank.from_json(reranker.to_json()).metadata_mode is mode


def test_what_is_stored(full, canary, tmp_path):
    """A dict of plain values, with the name of the class and without what is secret or alive."""
    stored = full.to_dict()

    assert stored["class_name"] == "QwenRerank"
    assert stored["local_files"] == str(tmp_path)
    alive = {"api_key", "rate_limiter", "callback_manager", "item", "cache", "client"}
    assert alive.isdisjoint(stored)
    assert json.loads(full.to_json()) == json.loads(json.dumps(stored))
    assert canary not in full.to_json() + repr(full) + str(full)


def test_from_dict_with_more(reranker, emulator):
    """The key and other options can be given beside the dict."""
    again = QwenRerank.from_dict(reranker.to_dict(), api_key=emulator.api_key, top_n=1)

    assert len(run(again, nodes_of(*TEXTS))) == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, QwenRerank.model_copy])
def test_copies(full, copied):
    """A copy keeps the key and all that is alive, and changes on its own."""
    full.item = None
    made = copied(full)
    made.top_n = 1

    assert full.top_n == 7
    assert len(run(made, nodes_of(*TEXTS))) == 1
    assert made.rate_limiter is full.rate_limiter
    assert made.cache is full.cache
    assert made.callback_manager is full.callback_manager
    assert len(full.rate_limiter.sync) == 1


# The query


def test_blanks_around_a_query(reranker, emulator):
    """They are not sent; those inside are the caller's, and the bundle stays as it is."""
    bundle = QueryBundle("\na red\n\n car\n")

    reranker.postprocess_nodes(nodes_of(*TEXTS), bundle)

    assert emulator.log[0].body["input"]["query"] == "a red\n\n car"
    assert bundle.query_str == "\na red\n\n car\n"
