"""Makes the calls of the fault matrix and says what came of each; it does not know what should."""

import asyncio
import contextlib
import copy
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self
from unittest import mock
from urllib.parse import urlsplit

from fault_table import Row
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import Reranker
from qwen_rerank.emulator import Emulator

__all__ = ["DOORS", "MODES", "WAYS", "Bench", "Case", "Seen"]

DOORS = ("core", "LangChain", "LlamaIndex")
WAYS = ("sync", "async")
MODES = ("raise", "passthrough")

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

    def __str__(self) -> str:
        return "-".join([self.row.name, *self[1:]])


@dataclass(frozen=True)
class Seen:
    """What one call was seen to do.

    Attributes:
        verdict: "right", "original", the class of what was raised, or a description of a third
            thing that should never be.
        error: What was raised, or the error of a list that was passed through (the core's only).
        levels: The levels of the log records, from WARNING on.
        requests: How many requests the emulator saw.
        untouched: Whether the caller's objects are as they were.
        after: The verdict on the next call of the same object, when the fault had passed.
    """

    verdict: str
    error: BaseException | None
    levels: tuple[str, ...]
    requests: int
    untouched: bool
    after: str


class _Door(NamedTuple):
    """One way in: how to make the object, its input, and what came out as positions and scores."""

    kind: Callable[..., Any]
    inputs: Callable[[], list[Any]]
    method: str
    arguments: Callable[[list[Any]], tuple[Any, ...]]
    read: Callable[[Any, list[Any]], list[tuple[int, Any]]]
    unscored: Callable[[int], Any] = lambda _: None
    """The score that a list which was passed through comes back with, by position."""


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
        "rerank",
        lambda given: (QUERY, given),
        _read_hits,
    ),
    "LangChain": _Door(
        langchain_qwen_rerank.QwenRerank,
        _documents,
        "compress_documents",
        lambda given: (given, QUERY),
        _read_documents,
    ),
    "LlamaIndex": _Door(
        llama_index_qwen_rerank.QwenRerank,
        _nodes,
        "postprocess_nodes",
        lambda given: (given, QueryBundle(QUERY)),
        _read_nodes,
        _retrieved,
    ),
}


class Bench:
    """An emulator, an event loop, and every kind of call against them.

    Args:
        key: The API key.
    """

    def __init__(self, key: str) -> None:
        self.emulator = Emulator(api_key=key, score=lambda _, text: SCORES[text])
        self._runner = asyncio.Runner()
        self._heard = _Heard(logging.WARNING)
        self._seen: dict[Case, Seen] = {}

    def __enter__(self) -> Self:
        self.emulator.start()
        logging.getLogger("qwen_rerank").addHandler(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("qwen_rerank").removeHandler(self._heard)
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

    def _run(self, case: Case) -> Seen:
        row, door = case.row, _DOORS[case.door]
        self.emulator.clear()
        given = door.inputs()
        before, identities = copy.deepcopy(given), [id(each) for each in given]
        with self._reranker(case.door, case.mode) as reranker:

            def verdict() -> tuple[str, BaseException | None]:
                return self._verdict(door, lambda: self._call(case, reranker, given), given)

            if row.used:
                assert verdict()[0] == "right"
            _set(reranker, row.options)
            self.emulator.clear()
            self._heard.levels.clear()
            with contextlib.ExitStack() as until_mended, _quick():
                self._break(row, reranker, until_mended)
                came, error = verdict()
                requests, levels = len(self.emulator.log), tuple(self._heard.levels)
            untouched = given == before and [id(each) for each in given] == identities
            _set(reranker, row.options | {"timeout": PATIENCE, "top_n": None})
            reranker.score_threshold = None
            after, failure = verdict()
        return Seen(
            verdict=came,
            error=error,
            levels=levels,
            requests=requests,
            untouched=untouched,
            after=after if failure is None else f"{after}: {failure!r}",
        )

    @contextlib.contextmanager
    def _reranker(self, door: str, mode: str) -> Iterator[Any]:
        # The next call asks at once, whatever the fault was.
        options = {} if mode == "raise" else {"on_error": mode, "outage_pause": 0}
        reranker = _DOORS[door].kind(
            base_url=self.emulator.base_url,
            api_key=self.emulator.api_key,
            timeout=PATIENCE,
            top_n=TOP_N,
            score_threshold=THRESHOLD,
            **options,
        )
        try:
            yield reranker
        finally:
            self._runner.run(reranker.aclose())

    def _call(self, case: Case, reranker: Any, given: list[Any]) -> Any:
        door = _DOORS[case.door]
        if case.way == "sync":
            return getattr(reranker, door.method)(*door.arguments(given))
        return self._runner.run(getattr(reranker, f"a{door.method}")(*door.arguments(given)))

    def _verdict(
        self, door: _Door, call: Callable[[], Any], given: Sequence[Any]
    ) -> tuple[str, BaseException | None]:
        """What came of *call*, in one word where it is one of those that may be."""
        try:
            result = call()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  that is the question
            return type(error).__name__, error
        degraded = getattr(result, "degraded", None)
        try:
            seen = door.read(result, given)
        except (AssertionError, LookupError) as error:
            return f"other documents: {error!r} in {result!r}", None
        if seen == [(place, door.unscored(place)) for place in ORIGINAL]:
            marked = door.kind is not Reranker or degraded is not None
            return ("original" if marked else "original, but not marked as such"), degraded
        if degraded is None and seen == [*RIGHT]:
            return "right", None
        if degraded is None and [each for each in seen if each[0] != 2] == [*WHOLE[:-1]]:
            return "whole" if seen[-1] == (2, None) else f"blank is not last: {seen}", None
        return f"a wrong order: {seen}, degraded={degraded!r}", None

    def _break(self, row: Row, reranker: Any, until_mended: contextlib.ExitStack) -> None:
        """Makes *row* happen until the stack is closed."""
        until_mended.callback(self.emulator.clear)
        if row.told:
            self.emulator.fault(row.told)
        if row.broken is None:
            return
        right = {"base_url": self.emulator.base_url, "api_key": self.emulator.api_key}
        until_mended.callback(_set, reranker, right)
        if row.broken == "name":
            unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            until_mended.enter_context(mock.patch("socket.getaddrinfo", side_effect=unknown))
            reranker.allow_http = True
            reranker.base_url = right["base_url"].replace("127.0.0.1", UNKNOWN_HOST)
        elif row.broken == "scheme":
            reranker.base_url = right["base_url"].replace("http:", "https:")
        elif row.broken == "key":
            reranker.api_key = f"{right['api_key']}-of-another"
        else:
            hours = itertools.count(-1, -1) if row.broken == "clock" else itertools.repeat(1)
            until_mended.enter_context(mock.patch("time.time", _clock(hours)))


class _Heard(logging.Handler):
    """The levels of what the project's logger has said."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.levels: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.levels.append(record.levelname)


def _set(reranker: Any, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        setattr(reranker, name, value)


def _quick() -> Any:
    """No wait between attempts but the one that was asked for."""
    return mock.patch("qwen_rerank._drive.random.random", return_value=0.0)


_true_time = time.time


def _clock(hours: Iterator[int]) -> Callable[[], float]:
    """A wall clock that is so many hours ahead, each time it is read; not the emulator's."""

    def read() -> float:
        of_emulator = threading.current_thread().name == "qwen-rerank-emulator"
        return _true_time() + (0 if of_emulator else 3600 * next(hours))

    return read
