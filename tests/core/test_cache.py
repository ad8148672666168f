"""Nobody pays twice: what a cache of the user's makes of real calls.

What a score is kept under, and what of a cache is believed, is in `test_recall.py`; that calls at
the same time ask once is in `test_in_flight.py`, and when a slow cache ends a call in
`test_clock.py`.
"""

import asyncio
import gc
import threading
import time
from types import SimpleNamespace

import diskcache
import pytest
from cachetools import TTLCache

from qwen_rerank import DeadlineError, Reranker

_QUERY = "a fast red sports car"
_DOCUMENTS = ["green tea", "the red car is fast", "", "sports in the city", "the red car is fast"]
_DISTINCT = 3


class Minimal:
    """All that a cache has to be; *touched* is told before it is read and before it is written."""

    def __init__(self, touched=lambda _doing: None):
        self.scores = {}
        self._touched = touched

    def __getitem__(self, key):
        self._touched("read")
        return self.scores[key]

    def __setitem__(self, key, score):
        self._touched("write")
        self.scores[key] = score


class OwnDict(Minimal, dict):
    """Likewise one that is a dict, of the user's own kind."""


class Held:
    """Lets nobody who does *what* with a cache go before it is told to."""

    def __init__(self, what="read"):
        self._what = what
        self.entered, self.free = threading.Event(), threading.Event()

    def __call__(self, doing):
        if doing == self._what:
            self.entered.set()
            assert self.free.wait(30)


def fails(what, error):
    """A cache of which *what* raises *error*."""

    def touched(doing):
        if doing == what:
            raise error

    return Minimal(touched)


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


async def test_a_cache_is_used_by_one_thread_at_a_time(make):
    """Concurrent calls take turns at a cache, whatever objects have it: cachetools' break else."""
    inside, seen = [], []

    def touched(doing):
        inside.append(doing)
        seen.append(len(inside))
        time.sleep(0.002)
        inside.pop()

    cache = Minimal(touched)
    one = make(cache=cache)
    rerankers = [one, one, one.model_copy(), one.model_copy(), make(cache=cache), make(cache=cache)]

    await asyncio.gather(
        *(each.arerank(f"{_QUERY} {i}", _DOCUMENTS) for i, each in enumerate(rerankers))
    )
    for each in rerankers:
        await each.aclose()

    assert set(seen) == {1}
    assert len(cache.scores) == 6 * _DISTINCT


async def test_caches_do_not_wait_for_one_another(make):
    """A slow cache of one object holds up neither the loop nor another object with its own."""
    slow, quick, held = make(), make(cache=Minimal()), Held()
    await slow.awarm_up()
    slow.cache = OwnDict(held)  # a plain dict is used in the loop, and this one is not
    first = asyncio.create_task(slow.arerank(_QUERY, _DOCUMENTS))
    assert await asyncio.to_thread(held.entered.wait, 10)

    try:
        await quick.arerank(_QUERY, _DOCUMENTS)
        assert not first.done()
    finally:
        held.free.set()
    await first
    await slow.aclose()
    await quick.aclose()


async def test_a_cancelled_call_with_a_slow_cache(make, emulator):
    """A call that is cancelled while its cache is read sends nothing."""
    held = Held()
    reranker = make(cache=Minimal(held))
    call = asyncio.create_task(reranker.arerank(_QUERY, ["b", "c"]))
    assert await asyncio.to_thread(held.entered.wait, 10)

    call.cancel()
    held.free.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    await reranker.arerank(_QUERY, ["a"])
    await reranker.aclose()

    assert [seen.body["input"]["documents"] for seen in emulator.log] == [["a"]]


def test_two_hosts_share_no_score(make, emulator):
    """One cache may serve two regions, which score differently: each is asked for its own."""
    cache = {}
    one = make(cache=cache)
    other = make(cache=cache, base_url=emulator.base_url.replace("127.0.0.1", "localhost"))

    for reranker in (one, other, one, other):
        reranker.rerank(_QUERY, _DOCUMENTS)

    assert len(cache) == _sent(emulator) == 2 * _DISTINCT


# A cache that fails


@pytest.mark.parametrize("what", ["read", "write"])
def test_a_broken_cache_costs_the_score_only(rank, make, emulator, caplog, what):
    """A cache that raises does not fail the call; one warning names the failure and no content."""
    failure = OSError("disk gone")

    ranking = rank(make(cache=fails(what, failure)), _QUERY, _DOCUMENTS)

    assert ranking.hits == make().rerank(_QUERY, _DOCUMENTS).hits
    (warning,) = [record for record in caplog.records if record.name == "qwen_rerank"]
    assert warning.levelname == "WARNING"
    assert str(failure) in warning.getMessage()
    for secret in (emulator.api_key, _QUERY, *filter(None, _DOCUMENTS)):
        assert secret not in warning.getMessage()


def test_the_callers_interrupt_goes_through(rank, make):
    """Ctrl-C in a cache is not taken for a broken cache."""
    with pytest.raises(KeyboardInterrupt):
        rank(make(cache=fails("read", KeyboardInterrupt())), _QUERY, _DOCUMENTS)


# What came before a call ended is kept, however it ended


async def test_scores_are_kept_after_the_deadline(make, emulator, caplog, until):
    """Scores that came before a deadline are kept, and that takes no part of the time."""
    reranker = make(cache=Minimal(), max_documents_per_request=1)
    await reranker.arerank(_QUERY, ["a"])
    emulator.fault("no-answer", holding="tea")
    reranker.timeout = 3  # of which the other request has to need less

    with pytest.raises(DeadlineError):
        await reranker.arerank(_QUERY, ["a red car", "green tea"])
    await until(lambda: len(reranker.cache.scores) == 2)

    assert reranker.usage.requests == 2
    assert caplog.messages == []


def test_scores_are_kept_at_the_end_of_the_process(connection, monkeypatch, until):
    """So are those before a Ctrl-C that ends the process, where no thread begins any more."""

    class Struck(Reranker):
        @property
        def _pace(self):
            def take(*_):
                if self.usage.requests:
                    raise KeyboardInterrupt
                return True

            return SimpleNamespace(counts_tokens=False, on_any_loop=False, take=take)

    def submit(*_):
        raise RuntimeError("cannot schedule new futures after shutdown")

    options = {"max_documents_per_request": 1, "max_concurrency": 1}
    reranker = Struck(**connection, **options, cache=Minimal())
    monkeypatch.setattr(reranker._shared.open(1).aside, "submit", submit)

    with pytest.raises(KeyboardInterrupt):
        reranker.rerank(_QUERY, ["a red car", "green tea"])

    asyncio.run(until(lambda: len(reranker.cache.scores) == 1))


_LAST = """
import asyncio, sys, time
from qwen_rerank import Reranker

class Slow:
    def __getitem__(self, key):
        raise KeyError(key)

    def __setitem__(self, key, score):
        time.sleep(0.1)
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
    """What a slow cache is still to be told when a call was cancelled at the very end is told."""
    assert fresh(_LAST, emulator.base_url, emulator.api_key) == "kept\n" * 2


async def test_scores_are_kept_after_a_cancellation(make, emulator, until):
    """Scores that came before a call was cancelled are in its dict when that is raised."""
    reranker = make(cache={}, max_documents_per_request=1)
    emulator.fault("no-answer", holding="tea")

    call = asyncio.create_task(reranker.arerank(_QUERY, ["a red car", "green tea"]))
    await until(lambda: reranker.usage.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert len(reranker.cache) == 1


async def test_a_cache_that_is_too_slow_to_write(make, caplog):
    """A ranking is not held back by its cache, which goes on in its thread; that is said."""
    reranker, held = make(timeout=1.0), Held("write")
    await reranker.arerank(_QUERY, ["a"])

    reranker.cache = Minimal(held)
    ranking = await reranker.arerank(_QUERY, _DOCUMENTS)
    held.free.set()
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
