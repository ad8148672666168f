"""Nobody pays twice: what a cache of the user's makes of real calls."""

import asyncio
import gc
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import diskcache
import pytest
from cachetools import LRUCache, TTLCache

from qwen_rerank import DeadlineError, Reranker
from qwen_rerank._endpoint import REGIONS
from qwen_rerank._turns import turn_at
from qwen_rerank.emulator import Emulator, Reply

_QUERY = "a fast red sports car"
_DOCUMENTS = ["green tea", "the red car is fast", "", "sports in the city", "the red car is fast"]
_DISTINCT = 3
_LONG = "A paragraph about tea and its many kinds. " * 600 + "A fast red sports car. "


class Minimal:
    """All that a cache has to be."""

    def __init__(self):
        self.scores = {}
        self.threads = set()
        self.lag = 0.0

    def __getitem__(self, key):
        self.threads.add(threading.current_thread())
        time.sleep(self.lag)
        return self.scores[key]

    def __setitem__(self, key, score):
        self.threads.add(threading.current_thread())
        time.sleep(self.lag)
        self.scores[key] = score


class Broken(Minimal):
    """A cache that raises when it is read, or written, or both."""

    def __init__(self, *, reading=None, writing=None):
        super().__init__()
        self._reading, self._writing = reading, writing

    def __getitem__(self, key):
        if self._reading:
            raise self._reading
        return super().__getitem__(key)

    def __setitem__(self, key, score):
        if self._writing:
            raise self._writing
        super().__setitem__(key, score)


class Answering(Minimal):
    """A cache that says the same to everything."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def __getitem__(self, key):
        return self.value


class AsRedis(Minimal):
    """Keeps numbers as redis-py's client does: as the bytes of their repr."""

    def __setitem__(self, key, score):
        super().__setitem__(key, repr(score).encode())


class Store:
    """All that a store has to be which is asked for many keys at once, and takes only bytes."""

    def __init__(self):
        self.scores = {}

    def mget(self, keys):
        return [self.scores.get(key) for key in keys]

    def mset(self, pairs):
        assert all(isinstance(score, bytes) for _, score in pairs)
        self.scores.update(pairs)


@pytest.fixture(name="kinds", params=["dict", "TTLCache", "diskcache", "minimal", "redis", "store"])
def _kinds(request, tmp_path):
    """An empty cache of each kind."""
    if request.param != "diskcache":
        kinds = {
            "dict": dict,
            "TTLCache": lambda: TTLCache(1_000, 600),
            "minimal": Minimal,
            "redis": AsRedis,
            "store": Store,
        }
        yield kinds[request.param]()
        return
    with diskcache.Cache(str(tmp_path)) as cache:
        yield cache
    gc.collect()  # threads that have ended leave its connections to the collector


@pytest.fixture(name="make")
def _make(connection):
    """Makes rerankers on the emulator, closed with the test."""
    made = []

    def make(**options):
        made.append(Reranker(**{**connection, **options}))
        return made[-1]

    yield make
    for reranker in made:
        reranker.close()


def _sent(emulator):
    return sum(seen.documents for seen in emulator.log)


# Any mapping


def test_known_scores_are_not_asked_for_again(rank, make, emulator, kinds):
    """The same call a second time sends nothing and gives the same ranking, at no cost."""
    reranker = make(cache=kinds)
    first = rank(reranker, _QUERY, _DOCUMENTS)
    emulator.clear()

    second = rank(reranker, _QUERY, _DOCUMENTS)

    assert emulator.log == ()
    assert second.hits == first.hits
    assert (first.usage.cache_hits, second.usage.cache_hits) == (0, _DISTINCT)
    assert (second.usage.requests, second.usage.tokens, second.request_ids) == (0, 0, ())


def test_only_the_unknown_is_sent(rank, make, emulator, kinds):
    """Of a list that is known for nine tenths, exactly the unknown tenth is sent."""
    documents = [f"document {i} about a red car" for i in range(50)]
    expected = make().rerank(_QUERY, documents).hits
    reranker = make(cache=kinds)
    rank(reranker, _QUERY, documents[:45])
    emulator.clear()

    ranking = rank(reranker, _QUERY, documents)

    assert [seen.body["input"]["documents"] for seen in emulator.log] == [documents[45:]]
    assert ranking.hits == expected
    assert (ranking.usage.requests, ranking.usage.cache_hits) == (1, 45)


def test_the_very_object_is_held(make, kinds):
    """The cache that was given is the one that is used, whether at the start or assigned."""
    at_start, later = make(cache=kinds), make()
    later.cache = kinds

    assert at_start.cache is kinds
    assert later.cache is kinds
    later.cache = None
    assert later.cache is None


def test_an_empty_cache_is_a_cache(make):
    """A cache that is empty, and so false to Python, is filled all the same."""
    cache = {}

    make(cache=cache).rerank(_QUERY, _DOCUMENTS)

    assert len(cache) == _DISTINCT
    assert all(isinstance(score, float) for score in cache.values())


def test_two_objects_share_a_cache(rank, make, emulator):
    """What one object has paid for, another one with the same options knows."""
    cache = {}
    rank(make(cache=cache), _QUERY, _DOCUMENTS)

    rank(make(cache=cache, top_n=1, max_documents_per_request=1), _QUERY, _DOCUMENTS)

    assert len(emulator.log) == 1


def test_a_disk_cache_survives_the_object(make, emulator, tmp_path):
    """Scores kept on disk are there for the next process."""
    with diskcache.Cache(str(tmp_path)) as cache:
        first = make(cache=cache).rerank(_QUERY, _DOCUMENTS)
    with diskcache.Cache(str(tmp_path)) as cache:
        second = make(cache=cache).rerank(_QUERY, _DOCUMENTS)

    assert first.hits == second.hits
    assert len(emulator.log) == 1


def test_without_a_cache_nothing_is_kept(rank, make, emulator):
    """An object without a cache asks again every time."""
    reranker = make()

    for _ in range(2):
        assert rank(reranker, _QUERY, _DOCUMENTS).usage.cache_hits == 0
    assert _sent(emulator) == 2 * _DISTINCT


def test_a_failed_call_keeps_nothing(rank, make):
    """A call that failed leaves no half of a ranking in the cache."""
    cache = {}
    with pytest.raises(ValueError, match="blank"):
        rank(make(cache=cache), " ", _DOCUMENTS)

    assert cache == {}


def test_threshold_and_top_n_apply_to_known_scores(rank, make):
    """Options of a call hold for known scores as for new ones."""
    reranker = make(cache={})
    whole = rank(reranker, _QUERY, _DOCUMENTS)

    assert rank(reranker, _QUERY, _DOCUMENTS, top_n=2).hits == whole[:2]
    limit = whole[1].score
    assert rank(reranker, _QUERY, _DOCUMENTS, score_threshold=limit).hits == tuple(
        hit for hit in whole if hit.score is not None and hit.score >= limit
    )


def test_a_small_cache_of_many_threads(make):
    """Threads that share an object with a cache from cachetools, which has no lock, do no harm."""
    cache = LRUCache(20)
    reranker = make(cache=cache, max_concurrency=16)
    documents = [f"document {i} about a red car" for i in range(60)]
    expected = make().rerank(_QUERY, documents).hits
    wrong = []

    def work(start):
        for turn in range(6):
            part = documents[start : start + 30 + turn]
            hits = {hit.document: hit.score for hit in reranker.rerank(_QUERY, part)}
            wrong.extend(hit for hit in expected if hits.get(hit.document, hit.score) != hit.score)

    threads = [threading.Thread(target=work, args=(3 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert wrong == []
    assert len(cache) <= 20
    assert len(list(cache)) == len(cache)


class Alone(Minimal):
    """A cache without a lock, as those of cachetools are, that notices two threads at once."""

    def __init__(self):
        super().__init__()
        self.inside = self.together = 0

    def _touch(self):
        self.inside += 1
        self.together = max(self.together, self.inside)
        time.sleep(0.002)
        self.inside -= 1

    def __getitem__(self, key):
        self._touch()
        return super().__getitem__(key)

    def __setitem__(self, key, score):
        self._touch()
        super().__setitem__(key, score)


@pytest.mark.parametrize("sharing", ["one object", "copies", "objects"])
async def test_a_cache_is_used_by_one_thread_at_a_time(make, sharing):
    """Concurrent calls take turns at a cache, whatever objects have it: cachetools' break else."""
    cache = Alone()
    one = make(cache=cache)
    rerankers = {
        "one object": [one] * 6,
        "copies": [one.model_copy() for _ in range(6)],
        "objects": [make(cache=cache) for _ in range(6)],
    }[sharing]

    await asyncio.gather(
        *(each.arerank(f"{_QUERY} {i}", _DOCUMENTS) for i, each in enumerate(rerankers))
    )
    for each in rerankers:
        await each.aclose()

    assert cache.together == 1
    assert len(cache.scores) == 6 * _DISTINCT


async def test_caches_do_not_wait_for_one_another(make):
    """A slow cache of one object does not hold up another object with a cache of its own."""
    slow, quick = make(cache=Held()), make(cache=Minimal())
    first = asyncio.create_task(slow.arerank(_QUERY, _DOCUMENTS))
    assert await asyncio.to_thread(slow.cache.entered.wait, 10)

    try:
        await quick.arerank(_QUERY, _DOCUMENTS)
        assert not first.done()
    finally:
        slow.cache.free.set()
    await first
    await slow.aclose()
    await quick.aclose()


class Held(Minimal):
    """A cache that lets nobody go before it is told to."""

    def __init__(self):
        super().__init__()
        self.entered, self.free = threading.Event(), threading.Event()

    def __getitem__(self, key):
        self.entered.set()
        assert self.free.wait(10)
        return super().__getitem__(key)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_while_a_cache_is_read(make):
    """A child that was forked while a thread had the cache does not wait for that thread."""
    reranker = make(cache=Held())
    thread = threading.Thread(target=reranker.rerank, args=(_QUERY, _DOCUMENTS))
    thread.start()
    assert reranker.cache.entered.wait(10)
    try:
        child = os.fork()
        if child == 0:
            try:
                with turn_at(reranker.cache, 0) as is_mine:
                    os._exit(0 if is_mine else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        reranker.cache.free.set()
        thread.join(30)


# Keys


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gte-rerank-v2"},
        {"instruct": "Find cars."},
        {"protocol": "compatible"},
        {"base_url": "another"},
        {"query": "another query"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_asked_anew(rank, make, emulator, change):
    """Another model, instruct, protocol, host or query shares no score with the first."""
    cache = {}
    rank(make(cache=cache), _QUERY, _DOCUMENTS)
    emulator.clear()
    options = {"query": _QUERY, **change}
    query = options.pop("query")

    with Emulator(api_key=emulator.api_key) as second:
        if "base_url" in options:
            options["base_url"] = second.base_url
        ranking = rank(make(cache=cache, **options), query, _DOCUMENTS)

        assert ranking.usage.cache_hits == 0
        assert _sent(emulator) + _sent(second) == _DISTINCT
    assert len(cache) == 2 * _DISTINCT


def test_two_regions_share_no_score(rank, make, emulator, monkeypatch):
    """One cache may serve two regions: each is asked for its own scores, which differ."""
    cache = {}
    with Emulator(api_key=emulator.api_key, score=lambda *_: 0.25) as second:
        for name, of in (("cn-beijing", emulator), ("ap-southeast-1", second)):
            host = of.base_url.removesuffix("/api/v1")
            monkeypatch.setitem(REGIONS, name, REGIONS[name]._replace(host=host))
        beijing = make(cache=cache, base_url=None, region="cn-beijing")
        singapore = make(cache=cache, base_url=None, region="ap-southeast-1")

        first, other = (rank(each, _QUERY, _DOCUMENTS) for each in (beijing, singapore))

        assert {hit.score for hit in other if hit.score is not None} == {0.25}
        assert (_sent(emulator), _sent(second)) == (_DISTINCT, _DISTINCT)
        assert rank(beijing, _QUERY, _DOCUMENTS).hits == first.hits
        assert _sent(emulator) == _DISTINCT


def test_no_two_hosts_of_the_vendors_are_one():
    """Every region, by its shared host and by a workspace's, has a URL of its own in the keys."""
    urls = [
        Reranker(api_key="sk-any", region=region, workspace=workspace)._resolved.url
        for region, row in REGIONS.items()
        for workspace in ("ws-1", "ws-2", *([None] if row.host else []))
    ]

    assert len(set(urls)) == len(urls) > 2 * len(REGIONS)


def test_the_query_as_it_is_sent(rank, make, emulator):
    """White space around a query, and how a call is split, ask nothing anew."""
    cache = {}
    rank(make(cache=cache), _QUERY, _DOCUMENTS)

    rank(make(cache=cache, max_documents_per_request=1), f" {_QUERY}\n", _DOCUMENTS[::-1])

    assert len(emulator.log) == 1


def test_head_windows_and_whole_have_scores_of_their_own(rank, make, emulator):
    """A text that was cut, its windows, and its whole under a roomier model never share a score."""
    cache = {}
    cut = rank(make(cache=cache), _QUERY, [_LONG])
    split = rank(make(cache=cache, long_documents="split"), _QUERY, [_LONG])
    whole = rank(make(cache=cache, model="qwen3.7-text-rerank"), _QUERY, [_LONG])

    assert cut.truncated == (0,)
    assert whole.truncated == split.truncated == ()
    assert cut[0].window is None
    assert split[0].window is not None
    assert split.usage.cache_hits == whole.usage.cache_hits == 0
    assert len(cache) == _sent(emulator)
    assert split[0].score > cut[0].score


def test_the_ends_of_a_query_have_scores_of_their_own(rank, make, emulator):
    """What is known of a query's head is not known of its tail, and both are known from then on."""
    cache, query = {}, "green tea " * 3_000 + "red car " * 3_000
    reranker = make(cache=cache)

    first = {}
    for end in ("head", "tail", "head", "tail"):
        reranker.long_query = end
        ranking = rank(reranker, query, ["a red car"])
        assert first.setdefault(end, ranking).hits == ranking.hits

    assert first["tail"][0].score > first["head"][0].score
    assert len(emulator.log) == len(cache) == 2


def test_a_window_survives_a_hit(rank, make, emulator):
    """The passage that matched is reported for known scores too."""
    reranker = make(cache={}, long_documents="split")
    first = rank(reranker, _QUERY, ["tea", _LONG])
    emulator.clear()

    second = rank(reranker, _QUERY, ["tea", _LONG])

    assert emulator.log == ()
    assert second.hits == first.hits
    (found,) = (hit for hit in second if hit.index == 1)
    assert "A fast red sports car" in found.document[slice(*found.window)]


def test_what_was_cut_is_reported_for_known_scores(rank, make, emulator):
    """So are the documents and the query that were cut."""
    reranker = make(cache={})
    query = "red car " * 3_000
    first = rank(reranker, query, ["tea", _LONG])

    second = rank(reranker, query, ["tea", _LONG])

    assert (first.truncated, first.query_truncated) == ((1,), True)
    assert (second.truncated, second.query_truncated) == ((1,), True)
    assert len(emulator.log) == 1


# A cache that fails


@pytest.mark.parametrize("failure", [OSError("disk gone"), RuntimeError("no"), ValueError("bad")])
@pytest.mark.parametrize("when", ["reading", "writing"])
def test_a_broken_cache_costs_the_score_only(rank, make, emulator, caplog, failure, when):
    """A cache that raises does not fail the call; one warning names the failure and no content."""
    reranker = make(cache=Broken(**{when: failure}))

    ranking = rank(reranker, _QUERY, _DOCUMENTS)

    assert ranking.hits == make().rerank(_QUERY, _DOCUMENTS).hits
    (warning,) = [record for record in caplog.records if record.name == "qwen_rerank"]
    assert warning.levelname == "WARNING"
    assert str(failure) in warning.getMessage()
    for secret in (emulator.api_key, _QUERY, *filter(None, _DOCUMENTS)):
        assert secret not in warning.getMessage()


def test_a_cache_that_breaks_half_way(rank, make, emulator):
    """What was read before the cache broke is used, and the rest is asked for."""

    class Tired(Minimal):
        def __getitem__(self, key):
            if len(self.asked) == 2:
                raise OSError("gone")
            self.asked.append(key)
            return super().__getitem__(key)

    cache = Tired()
    cache.asked = []
    reranker = make(cache=cache)
    documents = [f"document {i}" for i in range(6)]
    cache.asked = [None] * 2
    rank(reranker, _QUERY, documents)
    emulator.clear()
    cache.asked = []

    ranking = rank(reranker, _QUERY, documents)

    assert ranking.usage.cache_hits == 2
    assert _sent(emulator) == 4
    assert ranking.hits == make().rerank(_QUERY, documents).hits


def test_the_callers_interrupt_goes_through(rank, make):
    """Ctrl-C in a cache is not taken for a broken cache."""
    with pytest.raises(KeyboardInterrupt):
        rank(make(cache=Broken(reading=KeyboardInterrupt())), _QUERY, _DOCUMENTS)


@pytest.mark.parametrize(
    "garbage", [None, "high", b"\x80", math.nan, math.inf, -math.inf, [0.9], {"score": 0.9}]
)
def test_garbage_is_asked_again(rank, make, emulator, garbage):
    """Whatever a cache answers, only a finite number is taken for a score."""
    cache = Answering(garbage)

    ranking = rank(make(cache=cache), _QUERY, _DOCUMENTS)

    assert ranking.usage.cache_hits == 0
    assert _sent(emulator) == _DISTINCT
    assert ranking.hits == make().rerank(_QUERY, _DOCUMENTS).hits
    assert len(cache.scores) == _DISTINCT


# Event loops


async def test_a_slow_cache_does_not_hold_up_the_loop(make):
    """While a cache takes its time, other coroutines go on; it is asked in a thread."""
    cache = Minimal()
    cache.lag = 0.1
    reranker = make(cache=cache)
    await reranker.arerank(_QUERY, ["a"])
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    heart = asyncio.create_task(beat())
    await reranker.arerank(_QUERY, _DOCUMENTS)
    heart.cancel()
    await reranker.aclose()

    assert beats > 20
    assert threading.current_thread() not in cache.threads


async def test_a_cancelled_call_with_a_slow_cache(make, emulator):
    """A call that is cancelled while its cache is read sends nothing."""
    cache = Minimal()
    reranker = make(cache=cache)
    await reranker.arerank(_QUERY, ["a"])
    emulator.clear()
    cache.lag = 0.2

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reranker.arerank(_QUERY, ["b", "c"]), 0.1)
    cache.lag = 0.0
    await asyncio.sleep(0.5)
    await reranker.aclose()

    assert emulator.log == ()


async def test_scores_are_kept_after_the_deadline(make, emulator, caplog):
    """Scores that came before a deadline are kept, however busy the loop's threads are."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    reranker = make(cache=Minimal(), max_documents_per_request=5)
    await reranker.arerank(_QUERY, ["a"])
    reranker.timeout = 1.0
    over = threading.Event()

    def late_about_tea(request):
        if "tea" not in str(request.body):
            return Reply()
        return Reply(delay=2.0)

    emulator.script(*[late_about_tea] * 3)
    texts = [f"{what} {number}" for what in ("car", "red", "tea") for number in range(5)]
    busy = loop.run_in_executor(None, over.wait, 10)
    with pytest.raises(DeadlineError):
        await reranker.arerank(_QUERY, texts)
    for _ in range(200):
        if len(reranker.cache.scores) == 1 + 10:
            break
        await asyncio.sleep(0.02)
    over.set()
    await busy
    await reranker.aclose()

    assert reranker.usage.requests == 3
    assert len(reranker.cache.scores) == 1 + 10
    assert caplog.messages == []


async def test_a_cache_that_is_too_slow_to_write(make, caplog):
    """A ranking is not held back by its cache, which goes on in its thread; that is said."""
    cache = Minimal()
    reranker = make(cache=cache, timeout=0.5)
    await reranker.arerank(_QUERY, ["a"])

    class Slow(Minimal):
        def __setitem__(self, key, score):
            time.sleep(0.3)
            super().__setitem__(key, score)

    reranker.cache = Slow()
    ranking = await reranker.arerank(_QUERY, _DOCUMENTS)
    await reranker.aclose()

    assert ranking[0].score is not None
    assert caplog.messages == ["The cache was too slow to write before the deadline."]


# Estimates


def test_an_estimate_knows_what_is_known(make, emulator, kinds):
    """estimate() counts what the cache already knows, and sends nothing."""
    reranker = make(cache=kinds)
    before = reranker.estimate(_QUERY, _DOCUMENTS)
    assert emulator.log == ()
    reranker.rerank(_QUERY, _DOCUMENTS[:2])
    emulator.clear()

    half = reranker.estimate(_QUERY, _DOCUMENTS)
    reranker.rerank(_QUERY, _DOCUMENTS)
    after = reranker.estimate(_QUERY, _DOCUMENTS)

    assert (before.cache_hits, before.requests) == (0, 1)
    assert (half.cache_hits, half.requests) == (2, 1)
    assert (after.cache_hits, after.requests, after.tokens) == (_DISTINCT, 0, 0)
    assert 0 < half.tokens < before.tokens
    assert len(emulator.log) == 1
    assert half.tokens == emulator.log[0].tokens


def test_an_estimate_changes_nothing(make, emulator):
    """An estimate leaves no trace in the cache."""
    cache = {}

    make(cache=cache).estimate(_QUERY, _DOCUMENTS)

    assert (cache, emulator.log) == ({}, ())
