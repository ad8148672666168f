"""Whatever a call is at when its time is over, it ends; `test_transport.py` has slow answers."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from cachetools import TTLCache

from qwen_rerank import Image, Reranker, _drive, _load, _loop, _tokens, _transport, errors
from qwen_rerank._prepare import prepare
from qwen_rerank.emulator import Reply

_QUERY, _TEXTS = "a fast red car", ["green tea", "the red car"]
_LONG = [f"tea {number}" for number in range(501)]  # threads prepare and conclude it
_LATE = 10.0  # seconds after the deadline that a busy machine may take; what hangs, hangs for 20


@pytest.fixture(name="is_late")
def _is_late(rank):
    """Whether a call ends in a DeadlineError, and at its deadline."""

    def is_late(reranker, texts=_TEXTS, said=None):
        started = time.monotonic()
        with pytest.raises(errors.DeadlineError, match=said):
            rank(reranker, _QUERY, texts)
        return time.monotonic() - started < reranker.timeout + _LATE

    return is_late


@pytest.fixture(name="over")
def _over():
    """Set when the test is over, so that what hangs does not hang for ever."""
    over = threading.Event()
    yield over
    over.set()


_IN_ONE_COLOUR = pytest.mark.parametrize("rank", ["sync"], indirect=True)


@_IN_ONE_COLOUR
def test_a_first_call(monkeypatch, is_late, over):
    """A disk that does not answer when certificates are read."""

    def hang():
        over.wait(20)

    monkeypatch.setattr(_transport, "certificates", hang)

    assert is_late(Reranker(base_url="https://slow.invalid", api_key="sk-x", timeout=0.3))


def test_a_warm_up(serve):
    """A server that takes the connection and says nothing."""
    silent = serve(lambda server, _: server.over.wait(20))

    with pytest.raises(errors.DeadlineError, match="had answered nothing"):
        Reranker(base_url=f"http://{silent.address}", api_key="sk-x", timeout=0.3).warm_up()


def test_counting(connection, monkeypatch, is_late):
    """Texts whose tokens have to be counted: no further piece is, once the time is over."""
    tokenizer, pieces = _tokens.tokenizer(), []

    class Slow:
        def encode_ordinary(self, text):
            pieces.append(text)
            time.sleep(0.05)
            return tokenizer._encoding.encode_ordinary(text)

        def __getattr__(self, name):
            return getattr(tokenizer._encoding, name)

    slow = tokenizer.watched(None)
    slow._encoding = Slow()
    monkeypatch.setattr(_tokens, "tokenizer", lambda: slow)
    texts = [f"{number} " + "tea " * 30_000 for number in range(99)]

    assert is_late(Reranker(**connection, timeout=0.3), texts)
    counted = len(pieces)
    time.sleep(0.2)
    assert len(pieces) <= counted + 1 < 99


@pytest.fixture(name="hanging")
def _hanging(over):
    """A cache whose look-ups hang; `entered` is set when the first one does."""

    class Hanging(dict):
        entered = threading.Event()

        def __getitem__(self, key):
            self.entered.set()
            over.wait(20)
            raise KeyError(key)

    return Hanging


def test_a_cache_that_is_in_use(connection, is_late, hanging):
    """A cache that another call holds."""
    reranker = Reranker(**connection, cache=hanging(), timeout=0.3)

    def hold():
        with contextlib.suppress(errors.DeadlineError):
            reranker.rerank(_QUERY, _TEXTS)

    threading.Thread(target=hold, daemon=True).start()
    assert hanging.entered.wait(10)

    assert is_late(reranker)


class _Slow:
    """A cache that takes long for each key, and knows none."""

    def __init__(self):
        self.read = 0

    def __getitem__(self, key):
        self.read += 1
        time.sleep(0.05)
        raise KeyError(key)

    def __setitem__(self, key, value):
        pass


def test_a_slow_cache(connection, emulator, is_late, caplog):
    """A cache that is slow to read: no further key is, once the time is over; it did not fail."""
    cache = _Slow()
    reranker = Reranker(**connection, cache=cache, timeout=0.3)

    assert is_late(reranker, _LONG[:99], "before anything could be sent")
    read = cache.read
    time.sleep(0.2)
    assert cache.read <= read + 1 < 99
    assert (emulator.log, caplog.messages) == ((), [])


@_IN_ONE_COLOUR
def test_large_images(connection, emulator, monkeypatch, is_late):
    """Images that take long to read: no further one is, once the time is over."""
    read = []

    def slowly(data):
        read.append(data)
        time.sleep(0.05)
        return "png", 16, 16

    monkeypatch.setattr(_load, "_recognised", slowly)
    images = [Image(data=text.encode()) for text in _LONG[:99]]

    assert is_late(Reranker(**connection, model="qwen3-vl-rerank", timeout=0.3), images)
    before = len(read)
    time.sleep(0.2)
    assert len(read) <= before + 1 < 99
    assert emulator.log == ()


def test_a_queue(connection, emulator, over):
    """A turn that does not come; the error says so, and whose documents waited."""
    sent = threading.Event()

    def hold(_):
        sent.set()
        over.wait(20)
        return Reply()

    emulator.script(hold)
    reranker = Reranker(**connection, max_concurrency=1, timeout=0.3)
    holds = reranker.with_options(timeout=60.0)
    first = threading.Thread(target=holds.rerank, args=(_QUERY, _TEXTS))
    first.start()
    assert sent.wait(10)

    with pytest.raises(errors.DeadlineError, match="before it was its turn") as caught:
        reranker.rerank(_QUERY, _TEXTS)
    assert "max_concurrency=1 " in caught.value.hint
    assert caught.value.documents == (0, 1)
    assert emulator.requests_seen == 1
    over.set()
    first.join(10)


async def test_a_busy_executor(connection):
    """Threads of the loop that are all taken hold up no call, not the first one either."""
    loop, over = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = [loop.run_in_executor(None, over.wait, 20) for _ in range(3)]

    rankings = [
        len(await Reranker(**connection, timeout=10, **options).arerank(_QUERY, texts))
        for options, texts in (
            ({}, _TEXTS),
            ({"cache": _Slow()}, _TEXTS),
            ({}, _LONG),
            ({}, ["tea " * 10_000] * 3),
        )
    ]
    over.set()
    await asyncio.gather(*busy)

    assert rankings == [2, 2, 501, 3]


@pytest.mark.parametrize("texts", [_TEXTS, _LONG], ids=["few", "many"])
async def test_threads_of_ours_that_are_busy(connection, over, texts):
    """Where our own threads are all taken a first call ends in time."""
    busy = [_loop.aside(over.wait, 20) for _ in range(100)]

    with pytest.raises(errors.DeadlineError, match="before anything could be sent"):
        await asyncio.wait_for(Reranker(**connection, timeout=0.3).arerank(_QUERY, texts), _LATE)
    over.set()
    await asyncio.gather(*busy)


async def test_threads_of_ours_that_get_busy(connection, emulator, monkeypatch, over):
    """A ranking that was paid for is not lost because they are all taken by then."""

    def fill(_):
        for _ in range(100):
            _loop.engine().aside.submit(over.wait, 20)
        monkeypatch.setattr(_drive, "left", lambda _: 0.1)
        return Reply()

    emulator.script(fill)

    reranker = Reranker(**connection, timeout=60)
    ranking = await asyncio.wait_for(reranker.arerank(_QUERY, ["tea"] * 501), _LATE)
    assert None not in {hit.score for hit in ranking}


@pytest.mark.parametrize("what", ["caches", "files"])
async def test_what_hangs_for_ever(connection, monkeypatch, over, hanging, what):
    """Caches and files that hang, however many, take the time of no other reranker's calls."""
    monkeypatch.setattr(_load, "_read", lambda *_: over.wait(20))
    options, documents = {
        "caches": (lambda: {"cache": hanging()}, ["tea"]),
        "files": (lambda: {"model": "qwen3-vl-rerank"}, [Image(path="tea.png")]),
    }[what]
    hung = [
        Reranker(**connection, timeout=0.3, **options()).arerank(_QUERY, documents)
        for _ in range(_loop.engine().aside._max_workers)
    ]

    ends = await asyncio.gather(*hung, return_exceptions=True)
    others = [
        await Reranker(**connection, timeout=_LATE, **options).arerank(_QUERY, texts)
        for options in ({}, {"cache": TTLCache(1_000, 600)})
        for texts in (_TEXTS, _LONG)
    ]

    assert {type(end) for end in ends} == {errors.DeadlineError}
    assert [len(ranking) for ranking in others] == [2, 501, 2, 501]


def test_the_callers_client(serve, is_late, clients):
    """A client of the caller's whose server trickles, in the head already."""

    def trickle(server, connection):
        server.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not server.over.wait(0.05):
            connection.sendall(b"x: y\r\n")

    url = f"http://{serve(trickle).address}"

    assert is_late(Reranker(base_url=url, api_key="sk-x", timeout=0.4, **clients()))


def test_nothing_is_sent_after_the_deadline(connection, emulator):
    """A call whose time is over when it comes to send sends nothing, which would be billed."""
    with Reranker(**connection) as reranker:
        reranker.rerank(_QUERY, _TEXTS)  # so that a connection is open
        emulator.clear()
        job, line = reranker._job(_QUERY, _TEXTS, {}), reranker._line()
        asked = reranker._asked(job, prepare(job), line, _drive.deadline_in(5))
        late = _drive.deadline_in(0), lambda *_: None
        outcome = _loop.run(partial(_drive.drive, asked.requests, line, *late))
        reranker.rerank(_QUERY, _TEXTS)

    assert type(outcome.failure) is errors.DeadlineError
    assert len(emulator.log) == 1
