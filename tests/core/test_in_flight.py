"""With a cache, what one call asks for is not asked by another meanwhile, whoever makes it.

That a child waits for no call of its parent is in `test_lifetimes.py`, beside other forks.
"""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from qwen_rerank import DeadlineError, ServiceError, Usage, _loop
from qwen_rerank._in_flight import InFlight
from qwen_rerank.emulator import Reply

_QUERY = "a fast red sports car"
_TEXTS = ["green tea", "the red car is fast", "sports in the city"]


async def _at_once(calls):
    """All *calls* at once: of three one in a thread, one in a thread's own loop, one in this."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(calls)))
    ways = (
        lambda one, *asked: asyncio.to_thread(one.rerank, *asked),
        lambda one, *asked: asyncio.to_thread(asyncio.run, one.arerank(*asked)),
        lambda one, *asked: one.arerank(*asked),
    )
    return await asyncio.gather(*(ways[at % 3](*call) for at, call in enumerate(calls)))


@pytest.fixture(name="make")
def _make(make):
    yield partial(make, max_concurrency=64)
    assert not _loop.engine().in_flight._by_key


async def test_fifty_identical_calls(make, emulator):
    """Fifty identical calls at once with one cache are one request, and each has the ranking."""
    emulator.script(Reply(delay=0.1))
    cache = {}
    rerankers = [make(cache=cache, top_n=2), make(cache=cache, top_n=2)]  # two objects, one cache

    rankings = await _at_once([(rerankers[at % 2], _QUERY, _TEXTS) for at in range(50)])

    assert emulator.requests_seen == 1
    assert len({ranking.hits for ranking in rankings}) == 1
    assert [hit.index for hit in rankings[0]] == [1, 2]
    paid = [ranking.usage for ranking in rankings if ranking.usage.requests]
    [free] = {ranking.usage for ranking in rankings if not ranking.usage.requests}
    assert [usage.requests for usage in paid] == [1]
    assert free == Usage(cache_hits=3, cost=free.cost, currency=free.currency)
    assert sum((each.usage for each in rerankers), Usage()).tokens == paid[0].tokens


async def test_lists_that_overlap(make, emulator):
    """Calls whose lists overlap ask for each document once, and never wait for each other."""
    texts = [f"document {number} about a red car" for number in range(30)]
    reranker = make(cache={}, max_documents_per_request=4, timeout=60.0)
    plain = {hit.document: hit.score for hit in make().rerank(_QUERY, texts)}
    emulator.clear()
    chance = random.Random(1)  # noqa: S311  the same lists in every run
    lists = [chance.sample(texts, 15) for _ in range(40)]

    rankings = await _at_once([(reranker, _QUERY, each) for each in lists])

    assert sum(request.documents for request in emulator.log) == len(
        {text for each in lists for text in each}
    )
    for ranking, given in zip(rankings, lists, strict=True):
        assert {hit.document for hit in ranking} == set(given)
        assert all(hit.score == plain[hit.document] for hit in ranking)


async def test_other_questions_are_asked(make, emulator):
    """Nobody waits for another's query, model, instruct or cache, nor without a cache."""
    cache = {}
    reranker = make(cache=cache)
    calls = [
        (reranker, _QUERY, _TEXTS),
        (reranker, "green tea", _TEXTS),
        (make(cache=cache, model="gte-rerank-v2"), _QUERY, _TEXTS),
        (make(cache=cache, instruct="find cars"), _QUERY, _TEXTS),
        (make(cache={}), _QUERY, _TEXTS),
    ]

    await _at_once(calls * 4)
    assert emulator.requests_seen == len(calls)

    emulator.clear()
    await _at_once([(make(), _QUERY, _TEXTS)] * 6)
    assert emulator.requests_seen == 6


async def test_when_the_first_fails_the_next_asks(make, emulator):
    """A failure is that of the call that asked; the others get a ranking, for one more request."""
    emulator.script(Reply.error(500, "InternalError", delay=0.1))
    reranker = make(cache={}, max_retries=0, on_error="passthrough", outage_pause=0)

    rankings = await _at_once([(reranker, _QUERY, _TEXTS)] * 9)

    assert [type(each.degraded) for each in rankings if each.degraded] == [ServiceError]
    assert emulator.requests_seen == 2


async def test_when_the_first_is_cancelled_the_next_asks(make, emulator, until):
    """A cancelled call takes nobody with it: one of those that waited asks."""
    emulator.fault("no-answer", first=1)
    reranker = make(cache={})
    first = asyncio.create_task(reranker.arerank(_QUERY, _TEXTS))
    await until(lambda: emulator.requests_seen)
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


async def test_each_waits_until_its_own_deadline(make, emulator, until):
    """A call with less time ends in its own DeadlineError, and the one it waited for goes on.

    It has kept the scores of its own requests.
    """
    emulator.fault("no-answer", first=1)
    cache = {}
    first = asyncio.create_task(make(cache=cache).arerank(_QUERY, _TEXTS[:1]))
    await until(lambda: emulator.requests_seen)

    with pytest.raises(DeadlineError) as caught:
        await make(cache=cache, timeout=1.5).arerank(_QUERY, _TEXTS)

    assert caught.value.documents == (0,)
    assert len(cache) == 2
    assert (emulator.requests_seen, first.done()) == (2, False)
    first.cancel()
    await asyncio.wait([first])


async def test_a_sync_call_that_holds_up_its_loop(make, emulator, until):
    """A sync call inside a loop asks for itself what a task of that loop is asking for.

    Nor does it queue for a turn that this task has.
    """
    emulator.script(Reply(delay=0.2))
    async with httpx.AsyncClient() as client:  # whose answers come only while this loop runs
        reranker = make(cache={}, async_http_client=client, max_concurrency=1, timeout=10.0)
        first = asyncio.create_task(reranker.arerank(_QUERY, _TEXTS))
        await until(lambda: emulator.requests_seen)

        assert len(reranker.rerank(_QUERY, _TEXTS)) == 3
        assert (emulator.requests_seen, first.done()) == (2, False)
        assert len(await first) == 3


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
