"""Nobody pays twice: what a cache of the user's makes of real calls."""

import asyncio
import gc
import threading
import time
from types import SimpleNamespace

import diskcache
import pytest
from cachetools import TTLCache

from qwen_rerank import DeadlineError, Reranker
from qwen_rerank._endpoint import REGIONS
from qwen_rerank.emulator import Emulator

_QUERY = "a fast red sports car"
_DOCUMENTS = ["green tea", "the red car is fast", "", "sports in the city", "the red car is fast"]
_DISTINCT = 3
_LONG = "A paragraph about tea and its many kinds. " * 600 + "A fast red sports car. "


class Minimal:
    """All that a cache has to be."""

    def __init__(self):
        self.scores = {}

    def __getitem__(self, key):
        return self.scores[key]

    def __setitem__(self, key, score):
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


class Held(Minimal):
    """A cache that lets nobody who reads it, or writes it, go before it is told to."""

    def __init__(self, when="reading"):
        super().__init__()
        self._when = when
        self.entered, self.free = threading.Event(), threading.Event()

    def _hold(self, when):
        if when == self._when:
            self.entered.set()
            assert self.free.wait(30)

    def __getitem__(self, key):
        self._hold("reading")
        return super().__getitem__(key)

    def __setitem__(self, key, score):
        self._hold("writing")
        super().__setitem__(key, score)


class HeldDict(Held, dict):
    """Likewise one that is a dict, of the user's own kind."""


class Store:
    """All that a store has to be which is asked for many keys at once, and takes only bytes."""

    def __init__(self):
        self.scores = {}

    def mget(self, keys):
        return [self.scores.get(key) for key in keys]

    def mset(self, pairs):
        assert all(isinstance(score, bytes) for _, score in pairs)
        self.scores.update(pairs)


@pytest.fixture(name="kinds", params=["dict", "TTLCache", "diskcache", "store"])
def _kinds(request, tmp_path):
    """An empty cache of each kind."""
    kinds = {"dict": dict, "TTLCache": lambda: TTLCache(1_000, 600), "store": Store}
    if request.param in kinds:
        yield kinds[request.param]()
        return
    with diskcache.Cache(str(tmp_path)) as cache:
        yield cache
    gc.collect()  # threads that have ended leave its connections to the collector


def _sent(emulator):
    return sum(seen.documents for seen in emulator.log)


# Any mapping


def test_known_scores_are_not_asked_for_again(rank, make, emulator, kinds):
    """What one object has paid for another one knows: the same ranking at no cost.

    White space around a query, and how a call is split, ask nothing anew; new documents are asked.
    """
    first = rank(make(cache=kinds), _QUERY, _DOCUMENTS)
    emulator.clear()
    reranker = make(cache=kinds, max_documents_per_request=1)

    second = rank(reranker, f" {_QUERY}\n", _DOCUMENTS)

    assert emulator.log == ()
    assert second.hits == first.hits
    assert (first.usage.cache_hits, second.usage.cache_hits) == (0, _DISTINCT)
    assert (second.usage.requests, second.usage.tokens, second.request_ids) == (0, 0, ())
    third = rank(reranker, _QUERY, [*_DOCUMENTS, "a new one"])
    assert [seen.body["input"]["documents"] for seen in emulator.log] == [["a new one"]]
    assert (third.usage.requests, third.usage.cache_hits) == (1, _DISTINCT)


def test_the_very_object_is_held(make, emulator):
    """The cache that was given is the one that is used, at the start or assigned, until it is not.

    An empty one, which is false to Python, is a cache all the same.
    """
    cache = {}
    at_start, later = make(cache=cache), make()
    later.cache = cache

    assert at_start.cache is later.cache is cache
    later.rerank(_QUERY, _DOCUMENTS)
    assert at_start.rerank(_QUERY, _DOCUMENTS).usage.cache_hits == _DISTINCT
    later.cache = None
    assert later.rerank(_QUERY, _DOCUMENTS).usage.cache_hits == 0
    assert _sent(emulator) == 2 * _DISTINCT


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


async def test_a_cache_is_used_by_one_thread_at_a_time(make):
    """Concurrent calls take turns at a cache, whatever objects have it: cachetools' break else."""
    cache = Alone()
    one = make(cache=cache)
    rerankers = [one, one, one.model_copy(), one.model_copy(), make(cache=cache), make(cache=cache)]

    await asyncio.gather(
        *(each.arerank(f"{_QUERY} {i}", _DOCUMENTS) for i, each in enumerate(rerankers))
    )
    for each in rerankers:
        await each.aclose()

    assert cache.together == 1
    assert len(cache.scores) == 6 * _DISTINCT


@pytest.mark.parametrize("kind", [Held, HeldDict])
async def test_caches_do_not_wait_for_one_another(make, kind):
    """A slow cache of one object holds up neither the loop nor another object with its own."""
    slow, quick = make(), make(cache=Minimal())
    await slow.awarm_up()
    slow.cache = kind()
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


async def test_a_cancelled_call_with_a_slow_cache(make, emulator):
    """A call that is cancelled while its cache is read sends nothing."""
    reranker = make(cache=Held())
    call = asyncio.create_task(reranker.arerank(_QUERY, ["b", "c"]))
    assert await asyncio.to_thread(reranker.cache.entered.wait, 10)

    call.cancel()
    reranker.cache.free.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    await reranker.arerank(_QUERY, ["a"])
    await reranker.aclose()

    assert [seen.body["input"]["documents"] for seen in emulator.log] == [["a"]]


# Keys


def test_two_regions_share_no_score(make, emulator, monkeypatch):
    """One cache may serve two regions: each is asked for its own scores, which differ."""
    cache = {}
    with Emulator(api_key=emulator.api_key, score=lambda *_: 0.25) as second:
        for name, of in (("cn-beijing", emulator), ("ap-southeast-1", second)):
            host = of.base_url.removesuffix("/api/v1")
            monkeypatch.setitem(REGIONS, name, REGIONS[name]._replace(host=host))
        beijing = make(cache=cache, base_url=None, region="cn-beijing")
        singapore = make(cache=cache, base_url=None, region="ap-southeast-1")

        first, other = (each.rerank(_QUERY, _DOCUMENTS) for each in (beijing, singapore))

        assert {hit.score for hit in other if hit.score is not None} == {0.25}
        assert (_sent(emulator), _sent(second)) == (_DISTINCT, _DISTINCT)
        assert beijing.rerank(_QUERY, _DOCUMENTS).hits == first.hits
        assert _sent(emulator) == _DISTINCT


def test_head_windows_and_whole_have_scores_of_their_own(make, emulator):
    """A text that was cut, its windows, and its whole under a roomier model never share a score."""
    cache = {}
    cut = make(cache=cache).rerank(_QUERY, [_LONG])
    split = make(cache=cache, long_documents="split").rerank(_QUERY, [_LONG])
    whole = make(cache=cache, model="qwen3.7-text-rerank").rerank(_QUERY, [_LONG])

    assert cut.truncated == (0,)
    assert whole.truncated == split.truncated == ()
    assert cut[0].window is None
    assert split[0].window is not None
    assert split.usage.cache_hits == whole.usage.cache_hits == 0
    assert len(cache) == _sent(emulator)
    assert split[0].score > cut[0].score


def test_the_ends_of_a_query_have_scores_of_their_own(make, emulator):
    """What is known of a query's head is not known of its tail, and both are known from then on."""
    cache, query = {}, "green tea " * 3_000 + "red car " * 3_000
    reranker = make(cache=cache)

    first = {}
    for end in ("head", "tail", "head", "tail"):
        reranker.long_query = end
        ranking = reranker.rerank(query, ["a red car"])
        assert ranking.query_truncated
        assert first.setdefault(end, ranking).hits == ranking.hits

    assert first["tail"][0].score > first["head"][0].score
    assert len(emulator.log) == len(cache) == 2


# A cache that fails


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_a_broken_cache_costs_the_score_only(rank, make, emulator, caplog, when):
    """A cache that raises does not fail the call; one warning names the failure and no content."""
    failure = OSError("disk gone")
    reranker = make(cache=Broken(**{when: failure}))

    ranking = rank(reranker, _QUERY, _DOCUMENTS)

    assert ranking.hits == make().rerank(_QUERY, _DOCUMENTS).hits
    (warning,) = [record for record in caplog.records if record.name == "qwen_rerank"]
    assert warning.levelname == "WARNING"
    assert str(failure) in warning.getMessage()
    for secret in (emulator.api_key, _QUERY, *filter(None, _DOCUMENTS)):
        assert secret not in warning.getMessage()


def test_the_callers_interrupt_goes_through(rank, make):
    """Ctrl-C in a cache is not taken for a broken cache."""
    with pytest.raises(KeyboardInterrupt):
        rank(make(cache=Broken(reading=KeyboardInterrupt())), _QUERY, _DOCUMENTS)


# Deadlines


async def test_scores_are_kept_after_the_deadline(make, emulator, caplog):
    """Scores that came before a deadline are kept."""
    reranker = make(cache=Minimal(), max_documents_per_request=1)
    await reranker.arerank(_QUERY, ["a"])
    emulator.fault("no-answer", holding="tea")
    reranker.timeout = 3.0  # of which the other request has to need less

    with pytest.raises(DeadlineError):
        await reranker.arerank(_QUERY, ["a red car", "green tea"])
    assert await _holds(reranker.cache, 2)

    assert reranker.usage.requests == 2
    assert caplog.messages == []


class Struck(Reranker):
    """One whose caller presses Ctrl-C before the second request."""

    @property
    def _pace(self):
        def take(*_):
            if self.usage.requests:
                raise KeyboardInterrupt
            return True

        async def atake(_):
            return take()

        return SimpleNamespace(counts_tokens=False, on_any_loop=False, take=take, atake=atake)


@pytest.mark.parametrize("cache", [dict, Minimal])
def test_scores_are_kept_after_an_interrupt(rank, connection, cache):
    """Scores that came before Ctrl-C are kept."""
    options = {"max_documents_per_request": 1, "max_concurrency": 1}
    reranker = Struck(**connection, **options, cache=cache())

    with pytest.raises(KeyboardInterrupt):
        rank(reranker, _QUERY, ["a red car", "green tea"])

    assert asyncio.run(_holds(reranker.cache, 1))


def test_scores_are_kept_at_the_end_of_the_process(connection, monkeypatch):
    """So they are when that was the last of the process, which lets no thread begin any more."""

    def submit(*_):
        raise RuntimeError("cannot schedule new futures after shutdown")

    options = {"max_documents_per_request": 1, "max_concurrency": 1}
    reranker = Struck(**connection, **options, cache=Minimal())
    monkeypatch.setattr(reranker._shared.open(1).aside, "submit", submit)

    with pytest.raises(KeyboardInterrupt):
        reranker.rerank(_QUERY, ["a red car", "green tea"])

    assert asyncio.run(_holds(reranker.cache, 1))


_LAST = """
import asyncio, sys, time
from qwen_rerank import Reranker

class Slow:
    def __getitem__(self, key):
        raise KeyError(key)

    def __setitem__(self, key, score):
        time.sleep(0.3)
        print("kept", flush=True)

reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2], cache=Slow())
async def main():
    call = asyncio.create_task(reranker.arerank("query", ["a", "b"]))
    while not reranker.usage.requests:
        await asyncio.sleep(0.001)
    call.cancel()
asyncio.run(main())
del reranker
"""


@pytest.mark.slow
def test_the_end_of_the_process_waits_for_a_slow_cache(fresh, emulator):
    """What a slow cache is still to be told when the process ends is told."""
    assert fresh(_LAST, emulator.base_url, emulator.api_key) == "kept\n" * 2


@pytest.mark.parametrize("cache", [dict, Minimal])
async def test_scores_are_kept_after_a_cancellation(make, emulator, cache):
    """Scores that came before a call was cancelled are kept, in a dict when that is raised."""
    reranker = make(cache=cache(), max_documents_per_request=1)
    emulator.fault("no-answer", holding="tea")

    call = asyncio.create_task(reranker.arerank(_QUERY, ["a red car", "green tea"]))
    async with asyncio.timeout(20):
        while not reranker.usage.requests:  # noqa: ASYNC110  it has no event for that
            await asyncio.sleep(0.001)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert len(reranker.cache) == 1 if cache is dict else await _holds(reranker.cache, 1)


async def _holds(cache, scores):
    """Whether *cache* holds as many *scores*, at last."""
    for _ in range(5_000):
        if len(getattr(cache, "scores", cache)) == scores:
            return True
        await asyncio.sleep(0.001)
    return False


async def test_a_cache_that_is_too_slow_to_write(make, caplog):
    """A ranking is not held back by its cache, which goes on in its thread; that is said."""
    reranker = make(timeout=1.0)
    await reranker.arerank(_QUERY, ["a"])

    reranker.cache = Held("writing")
    ranking = await reranker.arerank(_QUERY, _DOCUMENTS)
    reranker.cache.free.set()
    await reranker.aclose()

    assert ranking[0].score is not None
    assert caplog.messages == ["The cache was too slow to write before the deadline."]


# Estimates


def test_an_estimate_knows_what_is_known(make, emulator):
    """estimate() counts what the cache already knows, sends nothing, and leaves no trace in it."""
    reranker = make(cache={})
    before = reranker.estimate(_QUERY, _DOCUMENTS)
    assert (reranker.cache, emulator.log) == ({}, ())
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
