"""Makes the calls of the fault matrix and says what came of each; it does not know what should."""

import asyncio
import contextlib
import copy
import itertools
import logging
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from unittest import mock
from urllib.parse import urlsplit

from fault_table import Row
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import Reranker
from qwen_rerank.emulator import Emulator

__all__ = [
    "DOORS",
    "MODES",
    "SECRET",
    "WAYS",
    "Bench",
    "Case",
    "Seen",
    "clean_environment",
]

DOORS = ("core", "LangChain", "LlamaIndex")
WAYS = ("sync", "async")
MODES = ("raise", "passthrough")

SECRET = "matrix-secret"
KEY, WRONG_KEY = f"sk-{SECRET}-0123456789", f"sk-{SECRET}-9876543210"
PATIENCE = 10.0
UNKNOWN_HOST = "no-such-host.invalid"
TOP_N, THRESHOLD = 4, 0.3

QUERY = "a fast red sports car"
SCORES = {
    "Green tea is grown in the hills.": 0.2,
    "A red sports car passed the house.": 0.7,
    "": None,  # never sent
    "The car was fast and red, a sports car.": 0.9,
    "Tea is good with a lemon.": 0.1,
    "Red is a colour.": 0.5,
}
TEXTS = tuple(SCORES)
RIGHT = ((3, 0.9), (1, 0.7), (5, 0.5))
WHOLE = (*RIGHT, (0, 0.2), (4, 0.1), (2, None))
ORIGINAL = (0, 1, 2, 3)


class Case(NamedTuple):
    """One cell of the matrix."""

    row: Row
    door: str
    way: str
    mode: str
    protocol: str = "dashscope"

    def __str__(self) -> str:
        return "-".join([self.row.name, *self[1:4]])


@dataclass(frozen=True)
class Seen:
    """What one call was seen to do.

    Attributes:
        verdict: "right", "original", the class of what was raised, or a description of a third
            thing that should never be.
        error: What was raised, or the error of a list that was passed through (the core's only).
        shown: All that printing the error and the log shows.
        levels: The levels of the log records, from WARNING on.
        requests: How many requests the emulator saw.
        seconds: How long it took.
        limit: The timeout it had.
        untouched: Whether the caller's objects are as they were.
        after: The verdict on the next call of the same object, when the fault had passed.
    """

    verdict: str
    error: BaseException | None
    shown: str
    levels: tuple[str, ...]
    requests: int
    seconds: float
    limit: float
    untouched: bool
    after: str


class _Door(NamedTuple):
    """One way in: how to make the object, its input, and what came out as positions and scores."""

    kind: Callable[..., Any]
    inputs: Callable[[], list[Any]]
    call: Callable[[Any, list[Any]], Any]
    acall: Callable[[Any, list[Any]], Any]
    read: Callable[[Any, list[Any]], list[tuple[int, Any]]]
    unscored: Callable[[int], Any]


def _read_hits(ranking: Any, texts: list[str]) -> list[tuple[int, Any]]:
    assert all(hit.document is texts[hit.index] for hit in ranking)
    return [(hit.index, hit.score) for hit in ranking]


def _documents() -> list[Document]:
    return [
        Document(text, id=f"id-{place}", metadata={"place": place, "relevance_score": 0.123})
        for place, text in enumerate(TEXTS)
    ]


def _read_documents(ranked: list[Document], given: list[Document]) -> list[tuple[int, Any]]:
    for each in ranked:
        was = given[each.metadata["place"]]
        assert (each.id, each.page_content) == (was.id, was.page_content)
        assert each.metadata.keys() <= was.metadata.keys()
    return [(each.metadata["place"], each.metadata.get("relevance_score")) for each in ranked]


def _retrieved(place: int) -> float:
    return 0.5 + place / 100


def _nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text), score=_retrieved(place))
        for place, text in enumerate(TEXTS)
    ]


def _read_nodes(ranked: list[NodeWithScore], given: list[NodeWithScore]) -> list[tuple[int, Any]]:
    places = {id(each.node): place for place, each in enumerate(given)}
    return [(places[id(each.node)], each.score) for each in ranked]


_DOORS = {
    "core": _Door(
        Reranker,
        lambda: list(TEXTS),
        lambda reranker, given: reranker.rerank(QUERY, given),
        lambda reranker, given: reranker.arerank(QUERY, given),
        _read_hits,
        lambda _: None,
    ),
    "LangChain": _Door(
        langchain_qwen_rerank.QwenRerank,
        _documents,
        lambda reranker, given: reranker.compress_documents(given, QUERY),
        lambda reranker, given: reranker.acompress_documents(given, QUERY),
        _read_documents,
        lambda _: None,
    ),
    "LlamaIndex": _Door(
        llama_index_qwen_rerank.QwenRerank,
        _nodes,
        lambda reranker, given: reranker.postprocess_nodes(given, query_str=QUERY),
        lambda reranker, given: reranker.apostprocess_nodes(given, query_str=QUERY),
        _read_nodes,
        _retrieved,
    ),
}


@contextlib.contextmanager
def clean_environment(home: str) -> Iterator[None]:
    """No key, proxy, certificate or file of this machine gets into a call."""
    unwanted = re.compile(r"DASHSCOPE_.*|.*_PROXY|SSL_CERT_.*", re.IGNORECASE)
    with mock.patch.dict("os.environ", {"HOME": home}):
        for name in list(filter(unwanted.fullmatch, os.environ)):
            del os.environ[name]
        yield


class Bench:
    """An emulator, an event loop, and every kind of call against them."""

    def __init__(self) -> None:
        self.emulator = Emulator(api_key=KEY, score=lambda _, text: SCORES[text])
        self._runner = asyncio.Runner()
        self._seen: dict[Case, Seen] = {}
        self._named = True

    def __enter__(self) -> Self:
        self.emulator.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.emulator.stop()
        self._runner.close()

    def seen(self, case: Case) -> Seen:
        """What *case* was seen to do; each is run once."""
        if case not in self._seen:
            self._seen[case] = self._run(case)
        return self._seen[case]

    def message(self, case: Case) -> str:
        """What the error of *case* says, but for what differs from one call to the next."""
        error = self.seen(case).error
        text, host = str(error), urlsplit(self.emulator.base_url).netloc
        name, _, port = host.partition(":")
        for shown in (host, f"('{name}', {port})", f"{UNKNOWN_HOST}:{port}", f"127.0.0.2:{port}"):
            text = text.replace(shown, "HOST")
        if request_id := getattr(error, "request_id", None):
            text = text.replace(request_id, "ID")
        return text

    def healed(self, row: Row) -> tuple[str, int]:
        """The verdict on a call whose fault has passed by its second attempt, and its requests."""
        self.emulator.clear()
        given = _DOORS["core"].inputs()
        with self._reranker("core", "raise", "dashscope") as reranker, self._names():
            self._prepare(reranker, row, timeout=PATIENCE)
            with contextlib.ExitStack() as until_mended, _quick(), _Listening() as listening:
                if row.told == "refused" or row.broken:  # nothing that the emulator could count
                    listening.on_repeat = until_mended.close
                    self._break(row, reranker, until_mended)
                else:
                    self.emulator.fault(row.told, first=1)
                verdict, _ = self._verdict("core", lambda: reranker.rerank(QUERY, given), given)
            requests = len(self.emulator.log)
        self.emulator.clear()
        return verdict, requests

    def _run(self, case: Case) -> Seen:
        row, door = case.row, _DOORS[case.door]
        self.emulator.clear()
        given = door.inputs()
        before, identities = copy.deepcopy(given), [id(each) for each in given]
        with self._reranker(case.door, case.mode, case.protocol) as reranker, self._names():

            def verdict() -> tuple[str, BaseException | None]:
                return self._verdict(case.door, lambda: way(reranker, given), given)

            way = self._way(door, case.way)
            if row.used:
                assert verdict()[0] == "right"
            self._prepare(reranker, row)
            self.emulator.clear()
            with contextlib.ExitStack() as until_mended, _quick(), _Listening() as listening:
                self._break(row, reranker, until_mended)
                start = time.monotonic()
                came, error = verdict()
                seconds = time.monotonic() - start
                requests = len(self.emulator.log)
            untouched = given == before and [id(each) for each in given] == identities
            limit = reranker.timeout
            self._prepare(reranker, row, timeout=PATIENCE, top_n=None, score_threshold=None)
            after, failure = verdict()
        return Seen(
            verdict=came,
            error=error,
            shown=_shown(error) + listening.text,
            levels=tuple(listening.levels),
            requests=requests,
            seconds=seconds,
            limit=limit,
            untouched=untouched,
            after=after if failure is None else f"{after}: {failure!r}",
        )

    @contextlib.contextmanager
    def _reranker(self, door: str, mode: str, protocol: str) -> Iterator[Any]:
        # The next call asks at once, whatever the fault was.
        options = {} if mode == "raise" else {"on_error": mode, "outage_pause": 0}
        reranker = _DOORS[door].kind(
            base_url=self.emulator.base_url,
            api_key=KEY,
            protocol=protocol,
            timeout=PATIENCE,
            top_n=TOP_N,
            score_threshold=THRESHOLD,
            **options,
        )
        try:
            yield reranker
        finally:
            self._runner.run(reranker.aclose())

    def _way(self, door: _Door, way: str) -> Callable[[Any, list[Any]], Any]:
        if way == "sync":
            return door.call
        return lambda reranker, given: self._runner.run(door.acall(reranker, given))

    def _verdict(
        self, door: str, call: Callable[[], Any], given: Sequence[Any]
    ) -> tuple[str, BaseException | None]:
        """What came of *call*, in one word where it is one of those that may be."""
        try:
            result = call()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  that is the question
            return type(error).__name__, error
        degraded = getattr(result, "degraded", None)
        try:
            seen = _DOORS[door].read(result, given)
        except (AssertionError, LookupError) as error:
            return f"other documents: {error!r} in {result!r}", None
        unscored = _DOORS[door].unscored
        if seen == [(place, unscored(place)) for place in ORIGINAL]:
            marked = door != "core" or degraded is not None
            return ("original" if marked else "original, but not marked as such"), degraded
        if degraded is None and seen == [*RIGHT]:
            return "right", None
        if degraded is None and [each for each in seen if each[0] != 2] == [*WHOLE[:-1]]:
            return "whole" if seen[-1] == (2, None) else f"blank is not last: {seen}", None
        return f"a wrong order: {seen}, degraded={degraded!r}", None

    def _prepare(self, reranker: Any, row: Row, **more: Any) -> None:
        for name, value in (dict(row.options) | more).items():
            setattr(reranker, name, value)

    def _break(self, row: Row, reranker: Any, until_mended: contextlib.ExitStack) -> None:
        """Makes *row* happen until the stack is closed."""
        until_mended.callback(self.emulator.clear)
        if row.told:
            self.emulator.fault(row.told)
        if row.broken == "name":
            self._named = False
            until_mended.callback(setattr, self, "_named", True)
            reranker.allow_http = True
            reranker.base_url = self.emulator.base_url.replace("127.0.0.1", UNKNOWN_HOST)
        elif row.broken == "scheme":
            until_mended.callback(setattr, reranker, "base_url", self.emulator.base_url)
            reranker.base_url = self.emulator.base_url.replace("http:", "https:")
        elif row.broken == "key":
            until_mended.callback(setattr, reranker, "api_key", KEY)
            reranker.api_key = WRONG_KEY
        elif row.broken == "clock":
            until_mended.enter_context(mock.patch("time.time", _falling_clock()))
        elif row.broken == "clock ahead":
            until_mended.enter_context(mock.patch("time.time", _early_clock()))

    def _names(self) -> Any:
        """A resolver that takes the unknown host for this machine, unless that is broken."""
        really = socket.getaddrinfo

        def look_up(host: Any, *rest: Any, **more: Any) -> Any:
            if host in (UNKNOWN_HOST, UNKNOWN_HOST.encode()):
                if not self._named:
                    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
                host = "127.0.0.1"
            return really(host, *rest, **more)

        return mock.patch("socket.getaddrinfo", look_up)


class _Listening(logging.Handler):
    """What the project's logger says, for as long as it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""
        self.levels: list[str] = []
        self.on_repeat: Callable[[], Any] | None = None
        self._logger = logging.getLogger("qwen_rerank")

    def __enter__(self) -> Self:
        self._before = self._logger.level
        self._logger.setLevel(logging.DEBUG)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()} {vars(record)!r}\n"
        if record.levelno >= logging.WARNING:
            self.levels.append(record.levelname)
        if self.on_repeat and record.getMessage().startswith("Trying again"):
            self.on_repeat()


def _quick() -> Any:
    """No wait between attempts but the one that was asked for."""
    return mock.patch("qwen_rerank._drive.random.random", return_value=0.0)


_true_time = time.time


def _is_ours() -> bool:
    return threading.current_thread().name != "qwen-rerank-emulator"


def _falling_clock() -> Callable[[], float]:
    hours = itertools.count(1)
    return lambda: _true_time() - (3600 * next(hours) if _is_ours() else 0)


def _early_clock() -> Callable[[], float]:
    return lambda: _true_time() + (3600 if _is_ours() else 0)


def _shown(error: BaseException | None) -> str:
    """All that printing *error* and what it came from shows."""
    pieces = []
    while error is not None:
        printed = "".join(traceback.format_exception(error))
        pieces += [printed, str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(pieces)
