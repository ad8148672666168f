"""What LangChain's users can rely on beyond the duties of every door."""

import asyncio
import threading
import time
from collections import OrderedDict

import pytest
from langchain_classic.storage import LocalFileStore
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.stores import InMemoryStore
from langgraph.store.memory import InMemoryStore as GraphStore

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import DeadlineError
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"
_ORDER = r"not one str\n.*rerank\(documents, query\)"
_PAIRS = r"document 0 is a \w+ with a Document in it; .*\[document for document, _ in pairs\]"


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(**connection)


def test_input_is_untouched(reranker):
    """The caller's documents, down to nested metadata, stay as they were."""
    document = Document("red car", metadata={"tags": ["a"]})

    [ranked] = reranker.compress_documents(iter([document]), QUERY)
    ranked.metadata["tags"].append("b")

    assert document.metadata == {"tags": ["a"]}


def test_metadata_of_another_kind(reranker):
    """A copy's metadata is what the caller's is, such as a dict that keeps an order."""
    document = Document("red car")
    document.metadata = OrderedDict(first=1, second=[1])

    [ranked] = reranker.compress_documents([document], QUERY)

    assert type(ranked.metadata) is OrderedDict
    assert [*ranked.metadata] == ["first", "second", "relevance_score"]
    assert document.metadata == OrderedDict(first=1, second=[1])


def test_metadata_that_cannot_be_copied(reranker):
    """A value that refuses to be copied is shared, and the call succeeds."""
    lock = threading.Lock()
    document = Document("red car", metadata={"lock": lock})

    [ranked] = reranker.compress_documents([document], QUERY)

    assert ranked.metadata["lock"] is lock
    assert "relevance_score" not in document.metadata


def test_rerank_gives_indices_and_scores(reranker):
    """`rerank` takes texts or documents out of any iterable, and answers as its peers do."""
    documents = ["green tea", Document("a red sports car"), ""]

    scores = reranker.rerank(iter(documents), QUERY, top_n=None)

    assert [score["index"] for score in scores] == [1, 0, 2]
    assert scores[0]["relevance_score"] > scores[1]["relevance_score"]
    assert scores[2]["relevance_score"] is None
    assert reranker.rerank(documents, QUERY, top_n=1) == scores[:1]


def test_estimate_takes_what_rerank_takes(reranker, emulator: Emulator):
    """estimate() takes texts among documents, and options of this call alone."""
    documents = ["green tea", Document("a red sports car"), ""]

    plain = reranker.estimate(documents, QUERY, price_per_million=2)
    told = reranker.estimate(documents, QUERY, instruct="Find cars.")

    assert emulator.log == ()
    assert (plain.requests, plain.cost) == (1, pytest.approx(plain.tokens * 2e-6))
    assert told.tokens > plain.tokens


def _compressed(reranker, documents, *, native):
    if native:
        return asyncio.run(reranker.acompress_documents(documents, QUERY))
    return reranker.compress_documents(documents, QUERY)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("awaited", [False, True], ids=["sync-alone", "both"])
def test_what_a_subclass_overrides(connection, native, awaited):
    """It holds for awaited calls too: what is overridden by the sync way alone runs in a thread."""

    class Ours(QwenRerank):
        def compress_documents(self, documents, query, callbacks=None):
            ours = [each for each in documents if each.metadata["tenant"] == "ours"]
            return super().compress_documents(ours, query, callbacks)

    class Both(Ours):
        async def acompress_documents(self, documents, query, callbacks=None):
            return await super().acompress_documents(documents[:1], query, callbacks)

    tenants = {"a red sports car": "theirs", "green tea": "ours"}
    documents = [Document(text, metadata={"tenant": its}) for text, its in tenants.items()]

    ranked = _compressed((Both if awaited else Ours)(**connection), documents, native=native)

    kept = documents[:1] if native and awaited else documents[1:]
    assert [each.page_content for each in ranked] == [each.page_content for each in kept]


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("options", [{}, {"top_n": 2}], ids=["itself", "with-options"])
def test_a_sync_way_that_awaits(connection, native, options):
    """A sync way that is overridden by the async one is gone once, however it is called."""

    class Awaiting(QwenRerank):
        def compress_documents(self, documents, query, callbacks=None):
            reranker = self.with_options(**options) if options else self
            return asyncio.run(reranker.acompress_documents(documents[1:], query, callbacks))

    documents = [Document(text) for text in ("a hill", "tea", "a car", "a red car")]

    ranked = _compressed(Awaiting(top_n=None, **connection), documents, native=native)

    assert len(ranked) == options.get("top_n", 3)


async def test_an_override_that_raises_stop_iteration(connection):
    """An awaited call ends with an error then, and waits for no thread for ever."""

    class Pinned(QwenRerank):
        def compress_documents(self, documents, query, callbacks=None):  # noqa: ARG002  theirs
            return [next(each for each in documents if "pinned" in each.metadata)]

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        async with asyncio.timeout(30):
            await Pinned(**connection).acompress_documents([Document("tea")], QUERY)


class _Shorter:
    """For several classes; it is none of ours itself."""

    def compress_documents(self, documents, query, callbacks=None):
        assert len(documents) > 1  # or it would go on for ever
        return asyncio.run(self.acompress_documents(documents[1:], query, callbacks))


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_a_mixin_that_awaits(connection, native):
    """What comes from a mixin holds for awaited calls as well, and comes to an end."""

    class Mixed(_Shorter, QwenRerank):
        pass

    documents = [Document(text) for text in ("a hill", "tea", "a car", "a red car")]

    ranked = _compressed(Mixed(top_n=None, **connection), documents, native=native)

    assert "a hill" not in [each.page_content for each in ranked]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.rerank("a query", ["a text"]), _ORDER),
        (lambda it: asyncio.run(it.arerank("a query", ["a text"])), _ORDER),
        (lambda it: it.estimate(QUERY, ["a text"]), _ORDER),
        (lambda it: it.compress_documents(QUERY, [Document("text")]), _ORDER),
        (lambda it: it.rerank([(Document("text"), 0.5)], QUERY), _PAIRS),
        (lambda it: asyncio.run(it.acompress_documents([[Document("text"), 0.5]], QUERY)), _PAIRS),
        (lambda it: it.rerank([1, 2], QUERY), "document 0 must be a str, .*, not int"),
        (lambda it: it.compress_documents(["text"], QUERY), "document 0 must be a Document"),
        (lambda it: it.compress_documents(Document("text"), QUERY), "must be a list, not one Doc"),
        (lambda it: it.rerank(["text"], QUERY, top_n=0), "top_n"),
    ],
)
def test_wrong_arguments(reranker, emulator: Emulator, call, message):
    """Arguments that make no sense are named before anything is sent."""
    with pytest.raises(ValueError, match=message):
        call(reranker)

    assert emulator.log == ()


def test_unexpected_call_option(reranker):
    """An option that no call takes is a TypeError, as for any function."""
    with pytest.raises(TypeError, match="timeout"):
        reranker.rerank(["text"], QUERY, timeout=1)


@pytest.mark.parametrize("kind", ["memory", "files"])
async def test_a_store_as_cache(connection, emulator: Emulator, tmp_path, caplog, kind):
    """A key-value store of LangChain's keeps scores, whether calls are awaited or not."""
    store = InMemoryStore() if kind == "memory" else LocalFileStore(tmp_path)
    reranker = QwenRerank(cache=store, **connection)
    documents = [Document(text) for text in ("green tea", "a red sports car")]

    first = reranker.compress_documents(documents, QUERY)
    again = await reranker.acompress_documents(documents, QUERY)
    more = await reranker.acompress_documents([*documents, Document("a hill")], QUERY)

    assert first == again
    assert len(more) == 3
    assert [seen.documents for seen in emulator.log] == [2, 1]
    assert reranker.estimate([*documents, "a hill"], QUERY).cache_hits == 3
    assert len(list(store.yield_keys())) == 3
    assert caplog.records == []


@pytest.mark.parametrize("other", [InMemoryCache(), GraphStore()], ids=["answers", "graphs"])
def test_no_cache_of_ours(connection, other):
    """What keeps something else, such as answers of models, is refused when it is given."""
    with pytest.raises(ValueError, match=r"cache: must be a cache with .* or a store with mget"):
        QwenRerank(cache=other, **connection)


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


@pytest.mark.parametrize(
    "call",
    [
        lambda it, documents: it.rerank(documents, QUERY),
        lambda it, documents: asyncio.run(it.arerank(documents, QUERY)),
    ],
    ids=["sync", "async"],
)
def test_item_takes_time_of_rerank(connection, emulator: Emulator, call):
    """That is the call's here too: nothing is sent once its timeout is over."""
    reranker = QwenRerank(item=lambda _: time.sleep(0.3) or "a text", timeout=0.2, **connection)

    with pytest.raises(DeadlineError):
        call(reranker, [Document("green tea")])

    assert emulator.log == ()


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_rerank_takes_dicts(connection, emulator: Emulator, native):
    """Dicts are ranked by their rank_fields, beside documents, which are ranked as always."""
    reranker = QwenRerank(**connection)
    documents = [{"name": "tea", "text": "green"}, {"name": "cars", "text": "red"}, Document("car")]
    fields = ["name", "text"]

    if native:
        scores = asyncio.run(reranker.arerank(documents, "a red car", rank_fields=fields))
    else:
        scores = reranker.rerank(documents, "a red car", rank_fields=fields)

    assert emulator.log[-1].body["input"]["documents"] == [
        "name: tea\ntext: green",
        "name: cars\ntext: red",
        "car",
    ]
    assert len(scores) == 3
    assert reranker.estimate(documents, "a red car", rank_fields=fields).requests == 1
