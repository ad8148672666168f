"""With a cache, what one call asks for is not asked by another meanwhile, whoever makes it."""

import asyncio
import os
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from qwen_rerank import DeadlineError, Reranker, ServiceError, Usage, _loop
from qwen_rerank._in_flight import InFlight
from qwen_rerank.emulator import Reply

_QUERY = "a fast red sports car"
_TEXTS = ["green tea", "the red car is fast", "sports in the city"]


def _threads(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(*call) for call in calls]]


def _tasks(calls):
    async def main():
        return await asyncio.gather(*(_awaited(*call) for call in calls))

    return asyncio.run(main())


def _loops(calls):
    return _threads([(asyncio.run, _awaited(*call)) for call in calls])


def _at_once(calls):
    """A third each from threads, from tasks of one loop and from loops in threads."""
    third = len(calls) // 3
    with ThreadPoolExecutor(3) as pool:
        parts = [calls[:third], calls[third : 2 * third], calls[2 * third :]]
        made = [
            pool.submit(way, part)
            for way, part in zip([_threads, _tasks, _loops], parts, strict=True)
        ]
    return [ranking for each in made for ranking in each.result()]


async def _awaited(rerank, *arguments):
    return await rerank.__self__.arerank(*arguments)


@pytest.fixture(name="make")
def _make(connection):
    made = []

    def make(**options):
        made.append(Reranker(**{**connection, "max_concurrency": 64, **options}))
        return made[-1]

    yield make
    for reranker in made:
        reranker.close()
    assert not _loop.engine().in_flight._by_key


async def _seen(emulator, requests):
    async with asyncio.timeout(20):
        while emulator.requests_seen < requests:  # noqa: ASYNC110  it has no event for that
            await asyncio.sleep(0.001)


def test_fifty_identical_calls(make, emulator):
    """Fifty identical calls at once with one cache are one request, and each has the ranking."""
    emulator.script(Reply(delay=0.1))
    cache = {}
    rerankers = [make(cache=cache, top_n=2), make(cache=cache, top_n=2)]  # two objects, one cache

    rankings = _at_once([(rerankers[at % 2].rerank, _QUERY, _TEXTS) for at in range(50)])

    assert emulator.requests_seen == 1
    assert len({ranking.hits for ranking in rankings}) == 1
    assert [hit.index for hit in rankings[0]] == [1, 2]
    paid = [ranking.usage for ranking in rankings if ranking.usage.requests]
    [free] = {ranking.usage for ranking in rankings if not ranking.usage.requests}
    assert [usage.requests for usage in paid] == [1]
    assert free == Usage(cache_hits=3, cost=free.cost, currency=free.currency)
    assert sum((each.usage for each in rerankers), Usage()).tokens == paid[0].tokens


def test_lists_that_overlap(make, emulator):
    """Calls whose lists overlap ask for each document once, and never wait for each other."""
    texts = [f"document {number} about a red car" for number in range(30)]
    reranker = make(cache={}, max_documents_per_request=4, timeout=60.0)
    plain = {hit.document: hit.score for hit in make().rerank(_QUERY, texts)}
    emulator.clear()
    chance = random.Random(1)  # noqa: S311  the same lists in every run
    lists = [chance.sample(texts, 15) for _ in range(40)]

    rankings = _at_once([(reranker.rerank, _QUERY, each) for each in lists])

    assert sum(request.documents for request in emulator.log) == len(
        {text for each in lists for text in each}
    )
    for ranking, given in zip(rankings, lists, strict=True):
        assert {hit.document for hit in ranking} == set(given)
        assert all(hit.score == plain[hit.document] for hit in ranking)


def test_other_questions_are_asked(make, emulator):
    """Nobody waits for another's query, model, instruct or cache."""
    cache = {}
    reranker = make(cache=cache)
    calls = [
        (reranker.rerank, _QUERY, _TEXTS),
        (reranker.rerank, "green tea", _TEXTS),
        (make(cache=cache, model="gte-rerank-v2").rerank, _QUERY, _TEXTS),
        (make(cache=cache, instruct="find cars").rerank, _QUERY, _TEXTS),
        (make(cache={}).rerank, _QUERY, _TEXTS),
    ]

    _threads(calls * 4)

    assert emulator.requests_seen == len(calls)


def test_without_a_cache_each_asks(make, emulator):
    """With the cache off, every call asks for itself."""
    reranker = make()

    _at_once([(reranker.rerank, _QUERY, _TEXTS)] * 9)

    assert emulator.requests_seen == 9


def test_when_the_first_fails_the_next_asks(make, emulator):
    """A failure is that of the call that asked; the others get a ranking, for one more request."""
    emulator.script(Reply.error(500, "InternalError", delay=0.1))
    reranker = make(cache={}, max_retries=0, on_error="passthrough", outage_pause=0)

    rankings = _at_once([(reranker.rerank, _QUERY, _TEXTS)] * 9)

    assert [type(each.degraded) for each in rankings if each.degraded] == [ServiceError]
    assert emulator.requests_seen == 2


async def test_when_the_first_is_cancelled_the_next_asks(make, emulator):
    """A cancelled call takes nobody with it: one of those that waited asks."""
    emulator.fault("no-answer", first=1)
    reranker = make(cache={})
    first = asyncio.create_task(reranker.arerank(_QUERY, _TEXTS))
    await _seen(emulator, 1)
    others = [asyncio.create_task(reranker.arerank(_QUERY, _TEXTS)) for _ in range(5)]
    others.append(asyncio.create_task(asyncio.to_thread(reranker.rerank, _QUERY, _TEXTS)))
    await asyncio.sleep(0.05)
    cancelled = others.pop(0)

    cancelled.cancel()
    first.cancel()

    assert [len(await each) for each in others] == [3] * 5
    assert emulator.requests_seen == 2
    assert (await asyncio.wait([first, cancelled]))[1] == set()
    assert first.cancelled()
    assert cancelled.cancelled()


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_each_waits_until_its_own_deadline(make, emulator, colour):
    """A call with less time ends in its own DeadlineError, and the one it waited for goes on."""
    emulator.fault("no-answer", first=1)
    cache = {}
    first = asyncio.create_task(make(cache=cache).arerank(_QUERY, _TEXTS))
    await _seen(emulator, 1)
    hasty = make(cache=cache, timeout=0.2)
    rerank = hasty.arerank if colour == "async" else partial(asyncio.to_thread, hasty.rerank)

    with pytest.raises(DeadlineError) as caught:
        await rerank(_QUERY, _TEXTS)

    assert caught.value.documents == (0, 1, 2)
    assert (emulator.requests_seen, first.done()) == (1, False)
    first.cancel()
    await asyncio.wait([first])


async def test_what_was_paid_for_is_kept_when_a_wait_ends(make, emulator):
    """A call that runs out of time waiting for others has kept the scores of its own requests."""
    emulator.fault("no-answer", first=1)
    cache = {}
    first = asyncio.create_task(make(cache=cache).arerank(_QUERY, _TEXTS[:1]))
    await _seen(emulator, 1)

    with pytest.raises(DeadlineError) as caught:
        await make(cache=cache, timeout=1.5).arerank(_QUERY, _TEXTS)

    assert caught.value.documents == (0,)
    assert len(cache) == 2
    first.cancel()
    await asyncio.wait([first])


async def test_a_sync_call_that_holds_up_its_loop(make, emulator):
    """A sync call inside a loop asks for itself what a task of that loop is asking for."""
    emulator.script(Reply(delay=0.2))
    async with httpx.AsyncClient() as client:  # whose answers come only while this loop runs
        reranker = make(cache={}, async_http_client=client, timeout=10.0)
        first = asyncio.create_task(reranker.arerank(_QUERY, _TEXTS))
        await _seen(emulator, 1)

        assert len(reranker.rerank(_QUERY, _TEXTS)) == 3
        assert (emulator.requests_seen, first.done()) == (2, False)
        assert len(await first) == 3


_FORK = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
from qwen_rerank import Reranker, _loop
reranker = Reranker(base_url=sys.argv[1], api_key=sys.argv[2], cache={}, timeout=20)
call = threading.Thread(target=reranker.rerank, args=("query", ["a", "b"]))
call.start()
while not _loop.engine().in_flight._by_key:
    time.sleep(0.001)
child = os.fork()
if not child:
    try:
        assert len(reranker.rerank("query", ["a", "b"])) == 2
        sys.stderr.flush()
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 1)
assert os.waitpid(child, 0)[1] == 0
call.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_waits_for_no_call_of_its_parent(fresh, emulator):
    """What is in flight in a parent is asked anew in a child, which shares nothing with it."""
    emulator.script(Reply(delay=1.0))

    fresh(_FORK, emulator.base_url, emulator.api_key)

    assert emulator.requests_seen == 2


def _on_the_engine(serve):
    return _loop.run(lambda _: serve())


def test_a_late_comer_looks_again():
    """Who looked before an answer was kept, and asks when that is over, is told to look again."""

    async def serve():
        flying, told = InFlight(), []

        async def ask(keys, tell):
            told.append(flying.settled)
            tell(dict.fromkeys(keys, 0.5))
            return True

        async def keep():
            told.append("kept")

        for _ in range(2):
            options = {"share": True, "left": lambda: 1.0}
            assert await flying.once(["a"], ask, keep, **options) == {}
        return told

    assert _on_the_engine(serve) == [0, "kept", 1, "kept"]


def test_an_answer_is_shared_before_its_call_has_ended():
    """What has come is told at once, also to who comes between the answer and its being kept."""

    async def serve():
        flying, going_on = InFlight(), asyncio.Event()
        options = {"share": True, "left": lambda: 5.0}

        async def ask(_keys, tell):
            tell({"a": 0.25})
            await going_on.wait()
            tell({"b": 0.75})
            return True

        async def never(*_):
            raise AssertionError

        async def keep():
            pass

        first = asyncio.create_task(flying.once(["a", "b"], ask, keep, **options))
        await asyncio.sleep(0)
        early = await flying.once(["a"], never, keep, **options)
        late = asyncio.create_task(flying.once(["b", "a"], never, keep, **options))
        await asyncio.sleep(0)
        going_on.set()
        return early, await late, await first

    assert _on_the_engine(serve) == ({"a": 0.25}, {"a": 0.25, "b": 0.75}, {})
