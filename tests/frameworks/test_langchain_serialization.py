"""LangChain's own serialisation, and LangChain's rate limiters."""

import asyncio
import inspect
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.load import dumps, loads
from langchain_core.rate_limiters import BaseRateLimiter, InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda

from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever, WithMetadata
from qwen_rerank import DeadlineError
from qwen_rerank.emulator import Emulator, Reply

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"
)

QUERY = "a fast red sports car"
DOCUMENTS = [Document("green tea"), Document("a red sports car"), Document("a hill")]
SECRET = {"lc": 1, "type": "secret", "id": ["DASHSCOPE_API_KEY"]}


# Releases before 1.2.5, and before 0.3.81, load every class of a namespace that is named.
_NAMES_CLASSES = "allowed_objects" in inspect.signature(loads).parameters
_TRUSTED = {"valid_namespaces": ["langchain_qwen_rerank"]} | (
    {"allowed_objects": [QwenRerank]} if _NAMES_CLASSES else {}
)


def loaded(text, **options):
    """What LangChain makes of *text*, if it is told to trust this package."""
    return loads(text, **_TRUSTED, **options)


def kept(reranker):
    """The options of *reranker* that a dump may hold, and their values."""
    return {
        name: getattr(reranker, name)
        for name, field in QwenRerank.model_fields.items()
        if not field.exclude
    }


# Serialisation


def test_the_key_is_a_reference(connection):
    """A dump names the key, as LangChain's secrets are named, and does not hold it."""
    text = dumps(QwenRerank(**connection))

    assert json.loads(text)["id"] == ["langchain_qwen_rerank", "compressor", "QwenRerank"]
    assert json.loads(text)["kwargs"]["api_key"] == SECRET
    assert connection["api_key"] not in text


def test_the_key_comes_back_from_the_environment(connection, monkeypatch):
    """LangChain finds it in the environment if it is told to; if not, we do."""
    text = dumps(QwenRerank(**connection))
    monkeypatch.setenv("DASHSCOPE_API_KEY", connection["api_key"])

    for again in (loaded(text, secrets_from_env=True), loaded(text)):
        assert len(again.compress_documents(DOCUMENTS, QUERY)) == 3


def test_without_a_key(emulator: Emulator, monkeypatch):
    """An object that found its key in the environment has none to refer to, and finds it again."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    text = dumps(QwenRerank(base_url=emulator.base_url))

    assert "api_key" not in json.loads(text)["kwargs"]
    assert emulator.api_key not in text
    assert len(loaded(text).compress_documents(DOCUMENTS, QUERY)) == 3


_OPTIONS = {
    "model": "gte-rerank-v2",
    "top_n": 1,
    "instruct": "\u627e\u8f66",
    "score_threshold": 0.125,
    "timeout": 90,
    "max_documents_per_request": 9,
    "long_documents": "split",
    "on_error": "passthrough",
    "mixed": "media",
    "image_key": "picture",
    "local_files": Path("/srv/\u56fe"),
}


def test_options_survive(connection):
    """Loaded with its secrets, it has the options that it was made with, and works as before."""
    reranker = QwenRerank(**connection, **_OPTIONS)

    again = loaded(dumps(reranker), secrets_map={"DASHSCOPE_API_KEY": connection["api_key"]})

    assert kept(again) == kept(reranker)
    assert kept(again).items() >= _OPTIONS.items()
    assert again.api_key == reranker.api_key
    assert len(again.compress_documents(DOCUMENTS, QUERY)) == 1
    assert dumps(again) == dumps(reranker)


def test_live_things_are_left_out(connection):
    """Caches, clients, functions and limiters are no values, and a loaded object has none."""
    with httpx.Client() as client:
        reranker = QwenRerank(
            cache={},
            http_client=client,
            async_http_client=httpx.AsyncClient(),
            item=WithMetadata("title"),
            rate_limiter=InMemoryRateLimiter(),
            **connection,
        )
        text = dumps(reranker)

    again = loaded(text, secrets_map={"DASHSCOPE_API_KEY": connection["api_key"]})

    names = ["cache", "http_client", "async_http_client", "item", "rate_limiter", "client"]
    assert not json.loads(text)["kwargs"].keys() & set(names)
    assert [getattr(again, name) for name in names] == [None] * len(names)


def test_inside_what_cannot_be_dumped(connection):
    """Retrievers are dumped as what they look like; the key is not in that either."""
    reranker = QwenRerank(**connection)
    base = RunnableLambda(lambda _: DOCUMENTS)

    for retriever in (
        QwenRerankRetriever(base_retriever=base, reranker=reranker),
        ContextualCompressionRetriever(base_retriever=base, base_compressor=reranker),
    ):
        text = dumps(retriever)
        assert json.loads(text)["type"] == "not_implemented"
        assert connection["api_key"] not in text


# Rate limiters


class Counter(BaseRateLimiter):
    """Counts who asks; permits at most *most*, and says no if it *gives_up* waiting for more."""

    def __init__(self, most=math.inf, gives_up=False):
        self.most, self.gives_up = most, gives_up
        self.given = 0
        self.threads = set()
        self.asked = asyncio.Event()
        self._lock = threading.Lock()

    def acquire(self, *, blocking=True):  # noqa: ARG002  the answer is always at once
        """Permission, if some is left."""
        with self._lock:
            self.threads.add(threading.get_ident())
            if self.given >= self.most:
                return False
            self.given += 1
            return True

    async def aacquire(self, *, blocking=True):
        """The same, for as long as it takes."""
        self.asked.set()
        while not self.acquire():
            if self.gives_up or not blocking:
                return False
            await asyncio.sleep(0.01)
        return True


def test_what_the_cache_knows_asks_nobody(compress):
    """It takes no permission."""
    limiter, cache = Counter(), {}
    for _ in range(2):
        compress(rate_limiter=limiter, cache=cache)

    assert limiter.given == 1


class Purse(Counter):
    """Fails when all is spent."""

    def acquire(self, *, blocking=True):
        """Permission, if some is left."""
        if not super().acquire(blocking=blocking):
            raise LookupError("all is spent")
        return True


def test_one_limit_for_several(connection, emulator: Emulator):
    """Shared, it is one limit for several objects, their copies, and threads."""
    purse = Purse(most=5)
    reranker = QwenRerank(rate_limiter=purse, **connection)
    rerankers = [reranker, reranker.model_copy(), QwenRerank(rate_limiter=purse, **connection)]

    with ThreadPoolExecutor(9) as pool:
        jobs = [pool.submit(it.compress_documents, DOCUMENTS, QUERY) for it in rerankers * 3]
        failures = [failure for job in jobs if (failure := job.exception())]

    assert [type(failure) for failure in failures] == [LookupError] * 4
    assert len(emulator.log) == 5


@pytest.fixture(name="compress", params=["sync", "async"])
def _compress(request, connection):
    """Both colours of a call of a reranker with these options."""

    def compress(**options):
        reranker = QwenRerank(**connection, **options)
        if request.param == "sync":
            return reranker.compress_documents(DOCUMENTS, QUERY)
        return asyncio.run(reranker.acompress_documents(DOCUMENTS, QUERY))

    return compress


def test_every_request_is_counted(compress, emulator: Emulator):
    """The requests of one call ask one by one, and so does every repetition."""
    limiter = Counter()
    emulator.script(Reply.error(503, "ServiceUnavailable"))

    ranked = compress(rate_limiter=limiter, max_documents_per_request=1)

    assert len(ranked) == 3
    assert limiter.given == len(emulator.log) == 4


@pytest.mark.parametrize("gives_up", [False, True])
def test_no_permission_in_time(compress, emulator: Emulator, gives_up):
    """Waiting is part of the call's time, and nothing is sent without; which passes through."""
    limiter = Counter(most=0, gives_up=gives_up)
    with pytest.raises(DeadlineError):
        compress(rate_limiter=limiter, timeout=0.2)

    ranked = compress(rate_limiter=limiter, timeout=0.2, on_error="passthrough")

    assert ranked == DOCUMENTS
    assert emulator.log == ()


class Broken(BaseRateLimiter):
    """Fails."""

    def acquire(self, *, blocking=True):
        """Fail."""
        raise LookupError(f"redis is gone, {blocking=}")

    async def aacquire(self, *, blocking=True):
        """Fail."""
        raise LookupError(f"redis is gone, {blocking=}")


def test_a_broken_limiter(compress, emulator: Emulator):
    """Its error comes out as it is."""
    with pytest.raises(LookupError, match="redis is gone"):
        compress(rate_limiter=Broken())

    assert emulator.log == ()


async def test_cancelled_while_waiting(connection, emulator: Emulator):
    """A call that waits for permission can be cancelled, and the reranker goes on working."""
    limiter = Counter(most=0)
    reranker = QwenRerank(rate_limiter=limiter, max_concurrency=1, **connection)
    call = asyncio.create_task(reranker.acompress_documents(DOCUMENTS, QUERY))
    await asyncio.wait_for(limiter.asked.wait(), 10)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert emulator.log == ()
    limiter.most = math.inf
    assert len(await reranker.acompress_documents(DOCUMENTS, QUERY)) == 3
    assert limiter.threads == {threading.get_ident()}  # the loop's, which it does not hold up


@pytest.mark.parametrize("limiter", ["10/s", InMemoryRateLimiter], ids=["text", "class"])
def test_what_is_no_limiter(connection, limiter):
    """Anything that is no limiter of LangChain's is refused when it is given."""
    with pytest.raises(ValueError, match="rate_limiter"):
        QwenRerank(rate_limiter=limiter, **connection)
