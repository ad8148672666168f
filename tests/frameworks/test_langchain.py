"""What LangChain's users can rely on beyond the duties of every door."""

import asyncio
import threading
from collections import OrderedDict

import pytest
from langchain_classic.storage import LocalFileStore
from langchain_core.documents import Document
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.stores import InMemoryStore

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import RequestError
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"
_ORDER = r"not one str\n.*rerank\(documents, query\)"
_PAIRS = r"document 0 is a \w+ with a Document in it; .*\[document for document, _ in pairs\]"


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(**connection)


def test_input_is_untouched(reranker):
    """The caller's documents, down to nested metadata, stay as they were.

    A copy's metadata is what the caller's is, such as a dict that keeps an order.
    """
    plain, ordered = Document("a red car", metadata={"tags": ["a"]}), Document("tea")
    ordered.metadata = OrderedDict(first=1, second=[1])

    best, last = reranker.compress_documents(iter([plain, ordered]), QUERY)
    best.metadata["tags"].append("b")
    last.metadata["second"].append(2)

    assert plain.metadata == {"tags": ["a"]}
    assert ordered.metadata == OrderedDict(first=1, second=[1])
    assert type(last.metadata) is OrderedDict
    assert [*last.metadata] == ["first", "second", "relevance_score"]


def test_metadata_that_cannot_be_copied(reranker):
    """A value that refuses to be copied is shared, and the call succeeds."""
    lock = threading.Lock()
    document = Document("red car", metadata={"lock": lock})

    [ranked] = reranker.compress_documents([document], QUERY)

    assert ranked.metadata["lock"] is lock
    assert "relevance_score" not in document.metadata


@pytest.fixture(name="rerank", params=["sync", "async"])
def _rerank(request, reranker):
    """`rerank` or `arerank`."""

    def rerank(*arguments, **options):
        if request.param == "sync":
            return reranker.rerank(*arguments, **options)
        return asyncio.run(reranker.arerank(*arguments, **options))

    return rerank


def test_rerank_gives_indices_and_scores(rerank):
    """`rerank` takes texts or documents out of any iterable, and answers as its peers do."""
    documents = ["green tea", Document("a red sports car"), ""]

    scores = rerank(iter(documents), QUERY, top_n=None)

    assert [score["index"] for score in scores] == [1, 0, 2]
    assert scores[0]["relevance_score"] > scores[1]["relevance_score"]
    assert scores[2]["relevance_score"] is None
    assert rerank(documents, QUERY, top_n=1) == scores[:1]


def test_rerank_takes_dicts(rerank, reranker, emulator: Emulator):
    """Dicts are ranked by their rank_fields, beside documents, which are ranked as always."""
    documents = [{"name": "tea", "text": "green"}, Document("car")]
    fields = ["name", "text"]

    assert len(rerank(documents, "a red car", rank_fields=fields)) == 2

    assert emulator.log[-1].body["input"]["documents"] == ["name: tea\ntext: green", "car"]
    assert reranker.estimate(documents, "a red car", rank_fields=fields).requests == 1


def test_estimate_takes_what_rerank_takes(reranker, emulator: Emulator):
    """estimate() takes texts among documents, and options of this call alone."""
    documents = ["green tea", Document("a red sports car"), ""]

    plain = reranker.estimate(documents, QUERY, price_per_million=2)
    told = reranker.estimate(documents, QUERY, instruct="Find cars.")

    assert emulator.log == ()
    assert (plain.requests, plain.cost) == (1, pytest.approx(plain.tokens * 2e-6))
    assert told.tokens > plain.tokens


async def test_an_override_that_raises_stop_iteration(connection):
    """An awaited call ends with an error then, and waits for no thread for ever."""

    class Pinned(QwenRerank):
        def compress_documents(self, documents, query, callbacks=None):  # noqa: ARG002  theirs
            return [next(each for each in documents if "pinned" in each.metadata)]

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        async with asyncio.timeout(30):
            await Pinned(**connection).acompress_documents([Document("tea")], QUERY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.rerank("a query", ["a text"]), _ORDER),
        (lambda it: it.rerank([(Document("text"), 0.5)], QUERY), _PAIRS),
        (lambda it: it.compress_documents(Document("text"), QUERY), "must be a list, not one Doc"),
        (lambda it: it.compress_documents(["text"], QUERY), "document 0 must be a Document"),
    ],
    ids=["query first", "pairs", "one document", "texts"],
)
def test_wrong_arguments(reranker, emulator: Emulator, call, message):
    """Arguments that make no sense are named before anything is sent."""
    with pytest.raises(RequestError, match=message):
        call(reranker)

    assert emulator.log == ()


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_store_as_cache(connection, emulator: Emulator, tmp_path, kind):
    """A key-value store of LangChain's keeps scores."""
    store = InMemoryStore() if kind == "memory" else LocalFileStore(tmp_path)
    reranker = QwenRerank(cache=store, **connection)
    documents = [Document(text) for text in ("green tea", "a red sports car")]

    first = reranker.compress_documents(documents, QUERY)

    assert reranker.compress_documents(documents, QUERY) == first
    assert reranker.estimate([*documents, "a hill"], QUERY).cache_hits == 2
    assert len(emulator.log) == 1


def test_a_limiter_of_langchains(connection):
    """LangChain's own limiter permits what is within its rate."""
    reranker = QwenRerank(rate_limiter=InMemoryRateLimiter(requests_per_second=1e6), **connection)

    assert len(reranker.compress_documents([Document("tea")], QUERY)) == 1


def test_options_by_position():
    """A model's name by position is a TypeError that says how options are given."""
    with pytest.raises(TypeError, match=r"by name: QwenRerank\(model=\.\.\., "):
        QwenRerank("qwen3-rerank")


def test_return_documents(reranker, connection):
    """Who asks for documents, as other rerankers want it, is told that they come anyway."""
    with pytest.raises(ValueError, match=r"'return_documents': .* come back"):
        QwenRerank(return_documents=True, **connection)
    with pytest.raises(TypeError, match=r"'return_documents' for one call: .* their positions"):
        reranker.rerank(["text"], QUERY, return_documents=True)
