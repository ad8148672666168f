"""What this project owes whoever runs a server of their own, as one list; starts no server.

Every duty is asked of a real server by `make servers`, and of the emulator's imitation of it by
the tests. It returns what was seen, in words that do not change from run to run, or raises
`BrokenError` with them, and the lines of the two can be compared.
"""

import asyncio
import base64
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import PIL.Image
from langchain_core.documents import Document
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from served import QUERY, Group, Server, texts

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import (
    Candidate,
    DeadlineError,
    Image,
    Ranking,
    RateLimitError,
    RequestError,
    Reranker,
    RerankError,
    ServiceError,
)

__all__ = ["ANSWERS", "BrokenError", "Seen", "answered", "duties", "see"]

_CLOSE = 1e-4  # what a score may differ by when the same pair is asked in another batch


class BrokenError(AssertionError):
    """A duty did not hold; the message says what was seen instead."""


class Seen(NamedTuple):
    """What came of a duty.

    Attributes:
        held: Whether the duty was done.
        words: What was seen.
    """

    held: bool
    words: str


Duty = Callable[[Server], str]


class _Listed(NamedTuple):
    """A duty, whom it is asked of, and whether it takes a process that works and dies."""

    duty: Duty
    group: Group
    real: bool


_LISTED: dict[str, _Listed] = {}


def _duty(words: str, *, group: Group = "texts", real: bool = False) -> Callable[[Duty], Duty]:
    def listed(duty: Duty) -> Duty:
        _LISTED[words] = _Listed(duty, group, real)
        return duty

    return listed


def duties(group: Group, *, real: bool) -> dict[str, Duty]:
    """The duties of *group* by their words; only a *real* server is asked all of them."""
    return {
        words: each.duty
        for words, each in _LISTED.items()
        if each.group == group and (real or not each.real)
    }


def see(duty: Duty, server: Server) -> Seen:
    """What comes of *duty* at *server*; an error that nobody foresaw is one that did not hold."""
    try:
        return Seen(True, duty(server))
    except BrokenError as broken:
        return Seen(False, str(broken))
    except RerankError as error:
        return Seen(False, _told(error))
    except httpx.HTTPError as error:
        return Seen(False, f"no answer to a bare request: {type(error).__name__}")


# Rankings


@_duty("1, 2, 20 and 300 documents, sync and async: order and scores are the server's own")
def _right(server: Server) -> str:
    with contextlib.closing(server.reranker()) as reranker:
        for count in (1, 2, 20, 300):
            _same(reranker.rerank(QUERY, texts(count)), server)
            _same(asyncio.run(_closed(server, texts(count))), server)
    return "so it is"


@_duty("1,000 documents in one request, with `max_documents_per_request=1000`")
def _large(server: Server) -> str:
    ranking = _ranked(server, texts(1_000), max_documents_per_request=1_000)
    _same(ranking, server)
    _held(ranking.usage.requests == 1, f"{ranking.usage.requests} requests")
    return "one request, right"


@_duty("64 awaited calls at once, each with another query, get each its own ranking")
def _together(server: Server) -> str:
    queries = [f"{QUERY} {number}" for number in range(64)]

    async def all_of_them() -> list[Ranking]:
        async with server.reranker(max_concurrency=64) as reranker:
            return await asyncio.gather(*(reranker.arerank(each, texts(5)) for each in queries))

    for query, ranking in zip(queries, asyncio.run(all_of_them()), strict=True):
        _same(ranking, server, query)
    return "so it is"


@_duty("`QwenRerank` of LangChain and of LlamaIndex, sync and async, rank as the core does")
def _classes(server: Server) -> str:
    documents = texts(20)
    expected = [hit.document for hit in _ranked(server, documents, top_n=3)]
    compressor = langchain_qwen_rerank.QwenRerank(**server.options(top_n=3))
    pages = [Document(text) for text in documents]
    postprocessor = llama_index_qwen_rerank.QwenRerank(**server.options(top_n=3))
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in documents]
    with contextlib.closing(compressor), contextlib.closing(postprocessor):
        found = [
            [each.page_content for each in compressor.compress_documents(pages, QUERY)],
            [
                each.page_content
                for each in asyncio.run(compressor.acompress_documents(pages, QUERY))
            ],
            [each.text for each in postprocessor.postprocess_nodes(nodes, query_str=QUERY)],
            [
                each.text
                for each in asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=QUERY))
            ],
        ]
    _held(all(each == expected for each in found), "another order")
    return "all four"


@_duty("`top_n` is the head of the whole ranking; a blank document comes last without a score")
def _head(server: Server) -> str:
    documents = ["", *texts(10)]
    with contextlib.closing(server.reranker()) as reranker:
        whole = reranker.rerank(QUERY, documents)
        _held(reranker.rerank(QUERY, documents, top_n=3).hits == whole.hits[:3], "another head")
    _held(whole[-1].index == 0 and whole[-1].score is None, "the blank one has a score")
    return "so it is"


@_duty("Emoji, Arabic, control characters, half of a surrogate pair, a word of 5,000 letters")
def _odd(server: Server) -> str:
    documents = [
        "\U0001f697 \U0001f375",
        "سيارة حمراء",
        "car\x00tea\x1b[0m",
        "\ud83d car",
        "a" * 5_000,
    ]
    ranking = _ranked(server, documents)
    _held(sorted(hit.index for hit in ranking) == [0, 1, 2, 3, 4], "one is missing")
    _held(all(hit.score is not None for hit in ranking), "one has no score")
    return "all have scores"


@_duty("An empty list is an empty ranking, and the server is not asked")
def _nothing(server: Server) -> str:
    ranking = _ranked(server, [])
    _held(len(ranking) == 0 and ranking.usage.requests == 0, f"{ranking.usage.requests} requests")
    return "so it is"


@_duty("100 documents of 90 kB each in one call", real=True)
def _big(server: Server) -> str:
    # Blanks, which are few tokens, so that no model is too short for them.
    documents = [f"car {number}{' ' * 90_000}tea" for number in range(100)]
    ranking = _ranked(server, documents)
    _held(len(ranking) == 100 and all(hit.score is not None for hit in ranking), "some are missing")
    return "all have scores"


# What cannot be ranked as it is


@_duty("Three documents that differ only behind what the model reads are not equal without a word")
def _over_long(server: Server) -> str:
    body = "red car green tea " * server.tokens  # about four times too long
    documents = [body + end for end in ("moon", "stone", "house")]
    try:
        ranking = _ranked(server, [*documents, "car"])
    except RequestError as error:
        is_named = error.documents == (0, 1, 2)
        words = f"{_told(error)} that {'names' if is_named else 'does not name'} them"
        _held(is_named, words)
        return words
    if ranking.truncated == (0, 1, 2):
        return "cut, and `Ranking.truncated` says so"
    _held(len({hit.score for hit in ranking}) == 4, "equal scores, `Ranking.truncated` is empty")
    return "four scores"


@_duty('`long_documents="split"` finds what stands only at the end of an over-long document')
def _split(server: Server) -> str:
    body = "red car green tea " * server.tokens
    documents = [body + end for end in ("moon", "stone", "house")]
    options: dict[str, Any] = {"long_documents": "split"}
    if "max_model_len" in Reranker.model_fields:
        options["max_model_len"] = server.tokens
    ranking = _ranked(server, documents, query="moon", **options)
    for hit in ranking:
        _held(hit.window is not None, "not split, and cut by the server without a word")
        part = hit.document[slice(*hit.window)]
        score, longer = server.scores("moon", [part, f"{part} moon"])
        _held(score != longer, "split into windows whose end the model does not read")
    return "split into windows that the model reads"


@_duty("A wrong key is told as one")
def _key(server: Server) -> str:
    return _refused_as(server, "AuthenticationError", api_key="sk-wrong")


@_duty("No key, where the server wants one, is told as such")
def _no_key(server: Server) -> str:
    return _refused_as(server, "AuthenticationError", api_key=None)


@_duty("A model that is not served is told as such, unless the server answers to any name")
def _wrong_model(server: Server) -> str:
    if ANSWERS["another model"](server).is_success:
        return "it answers to any name"
    return _refused_as(server, "RequestError", model="not-served")


def _refused_as(server: Server, name: str, **options: Any) -> str:
    error = _refused(server, texts(2), **options)
    _held(type(error).__name__ == name, _told(error))
    return _told(error)


# What is told beside the scores


@_duty("`usage.tokens` are tokens, or None where the server tells none")
def _usage(server: Server) -> str:
    documents = ["car", "red car", "green tea green tea"]
    tokens = _ranked(server, documents).usage.tokens
    if tokens is None:
        return "None"
    characters = sum(len(QUERY) + len(each) for each in documents)
    _held(tokens != characters, "characters")
    return "tokens"


@_duty("`instruct=` changes scores, or is refused where it would not count")
def _instruct(server: Server) -> str:
    try:
        hits = _ranked(server, texts(10), instruct="Find green tea, and nothing red.").hits
    except ValueError:  # a RequestError is one
        return "refused before anything is sent"
    before = {hit.index: hit.score for hit in _ranked(server, texts(10))}
    changed = sum(abs(hit.score - before[hit.index]) > _CLOSE for hit in hits)
    if not server.instructs and changed == 0:
        return "sent, and no score changes: it was started without a chat template"
    _held(changed == len(hits), f"{changed} of {len(hits)} scores change")
    return "all scores change"


# Images


_COLOURS = {"red": (200, 20, 30), "green": (30, 160, 60), "blue": (20, 40, 200)}


def _picture(colour: str) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), _COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


def _parts(*parts: str | bytes) -> dict[str, Any]:
    """Texts and pictures, as a bare request has them."""
    shown = []
    for part in parts:
        if isinstance(part, str):
            shown.append({"type": "text", "text": part})
        else:
            url = f"data:image/png;base64,{base64.b64encode(part).decode()}"
            shown.append({"type": "image_url", "image_url": {"url": url}})
    return {"content": shown}


@_duty("Images among texts, as bytes and as files: every score is the server's own", group="images")
def _images(server: Server) -> str:
    red, blue = _picture("red"), _picture("blue")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "blue.png")
        path.write_bytes(blue)
        ranking = _ranked(server, ["red car", Image(data=red), Image(path=path)])
    expected = server.scores(QUERY, ["red car", _parts(red), _parts(blue)])
    _as_expected(ranking, expected)
    _held(expected[1] != expected[2], "two images score alike")
    return "so it is"


@_duty("An image as the query: likewise", group="images")
def _image_asks(server: Server) -> str:
    red, documents = _picture("red"), ["red car", "green tea"]
    ranking = _ranked(server, documents, query=Image(data=red))
    _as_expected(ranking, server.scores(_parts(red), documents))
    return "so it is"


@_duty('With `mixed="together"` a text and its image are one score', group="images")
def _together_scored(server: Server) -> str:
    red, green = _picture("red"), _picture("green")
    pairs = [("car", Image(data=red)), ("car", Image(data=green))]
    ranking = _ranked(server, pairs, mixed="together")
    expected = server.scores(QUERY, [_parts("car", red), _parts("car", green)])
    _as_expected(ranking, expected)
    apart = server.scores(QUERY, ["car", _parts(red)])
    _held(all(abs(expected[0] - each) > _CLOSE for each in apart), "the score of one of them")
    return "so it is"


@_duty("`QwenRerank` of LangChain and of LlamaIndex rank images as the core does", group="images")
def _images_of_classes(server: Server) -> str:
    pictures = {colour: _picture(colour) for colour in _COLOURS}
    ranking = _ranked(server, [Image(data=each) for each in pictures.values()])
    expected = [list(pictures)[hit.index] for hit in ranking]
    urls = {
        colour: _parts(each)["content"][0]["image_url"]["url"] for colour, each in pictures.items()
    }
    compressor = langchain_qwen_rerank.QwenRerank(**server.options(image_key="image"))
    pages = [Document("", metadata={"colour": name, "image": url}) for name, url in urls.items()]
    postprocessor = llama_index_qwen_rerank.QwenRerank(**server.options())
    nodes = [
        NodeWithScore(node=ImageNode(image=url.partition(",")[2], metadata={"colour": name}))
        for name, url in urls.items()
    ]
    with contextlib.closing(compressor), contextlib.closing(postprocessor):
        kept = compressor.compress_documents(pages, QUERY)
        _held([page.metadata["colour"] for page in kept] == expected, "LangChain: another order")
        found = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
        _held([each.metadata["colour"] for each in found] == expected, "LlamaIndex: another order")
    return "both"


@_duty("An image is refused in words where the model reads texts only")
def _no_images(server: Server) -> str:
    error = _refused(server, ["car", Image(data=_picture("red"))])
    _held(isinstance(error, RequestError) and error.status is None, _told(error))
    return "refused before anything is sent"


# What has too much to do, and what is no reranker


@_duty(
    "More at once than its queue holds is a `RateLimitError` that says what to set; with that set "
    "every call is ranked",
    group="short queue",
)
def _overloaded(server: Server) -> str:
    queries = [f"{QUERY} {number}" for number in range(16)]

    async def all_of_them(**options: Any) -> list[Any]:
        async with server.reranker(**options) as reranker:
            calls = [reranker.arerank(each, texts(50)) for each in queries]
            return await asyncio.gather(*calls, return_exceptions=True)

    refused = [
        each
        for each in asyncio.run(all_of_them(max_concurrency=16, max_retries=0))
        if not isinstance(each, Ranking)
    ]
    _held(bool(refused), "it took them all")
    for error in refused:
        is_told = isinstance(error, RateLimitError) and "max_concurrency=" in (error.hint or "")
        _held(is_told, repr(error))
    # What it took before it may still be in its queue: hence the many tries.
    for query, each in zip(
        queries, asyncio.run(all_of_them(max_concurrency=1, max_retries=9)), strict=True
    ):
        _held(isinstance(each, Ranking), repr(each))
        _same(each, server, query)
    return f"{_told(refused[0])}, then all are ranked"


@_duty(
    "A language model that was not started as a reranker: the error says how to start it",
    group="no reranker",
)
def _language_model(server: Server) -> str:
    error = _refused(server, texts(2))
    _held(isinstance(error, RequestError), _told(error))
    _held("--runner pooling" in (error.hint or ""), "it does not say how")
    return _told(error)


# What a server says to whoever asks it without the project


def _answer(**change: Any) -> Callable[[Server], httpx.Response]:
    def asked(server: Server) -> httpx.Response:
        body = {"model": server.model, "query": QUERY, "documents": ["car", "tea"], **change}
        return server.ask(json={name: value for name, value in body.items() if value is not ...})

    return asked


ANSWERS: dict[str, Callable[[Server], httpx.Response]] = {
    "two documents": _answer(),
    "`return_documents` true": _answer(return_documents=True),
    "`documents` empty": _answer(documents=[]),
    "a document empty": _answer(documents=["car", ""]),
    "a document that is a number": _answer(documents=["car", 1]),
    "`query` missing": _answer(query=...),
    "`top_n` 0": _answer(top_n=0),
    "`top_n` -1": _answer(top_n=-1),
    "`top_n` 99": _answer(top_n=99),
    "`top_n` null": _answer(top_n=None),
    '`top_n` "1"': _answer(top_n="1"),
    "an unknown field": _answer(unknown=1),
    "another model": _answer(model="not-served"),
    "no model": _answer(model=...),
    "no JSON": lambda server: server.ask(
        content=b"{", headers={"content-type": "application/json"}
    ),
    "text/plain": lambda server: server.ask(content=b"{}", headers={"content-type": "text/plain"}),
    "a wrong key": lambda server: server.ask(
        json={"model": server.model, "query": QUERY, "documents": ["car"]},
        headers={"authorization": "Bearer sk-wrong"},
    ),
    "GET": lambda server: server.ask("GET"),
    "another path": lambda server: server.ask(path="/no/such/path", json={}),
    "its models": lambda server: server.ask(
        "GET", "/models" if server.kind == "infinity" else "/v1/models"
    ),
}
"""Bare requests, by what is special about them."""


def answered(name: str, server: Server) -> str:
    """How *server* answers the request *name*: the status and the shape of the body."""
    answer = ANSWERS[name](server)
    try:
        shape = _shape(answer.json())
    except ValueError:
        shape = "text" if answer.content else "nothing"
    return f"{answer.status_code} {shape}"


def _shape(value: Any) -> str:
    """*value*, parsed JSON, with "" and 0 for every text and number."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shape(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return f"[{', '.join(sorted(set(map(_shape, value))))}]"
    if isinstance(value, str):
        return '""'
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else "0"


# What can be seen only where there is a process


@_duty("Two seconds after a call is cancelled the server is idle", real=True)
def _cancel(server: Server) -> str:
    async def cancelled() -> None:
        async with server.reranker() as reranker:
            task = asyncio.create_task(reranker.arerank(QUERY, _much(server)))
            await asyncio.sleep(1)
            _held(not task.done(), "it was done before it could be ended")
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    return _idle(server)


@_duty(
    "Two seconds after a sync call's `timeout` it is idle too, and the call ended in time",
    real=True,
)
def _deadline(server: Server) -> str:
    started = time.monotonic()
    with contextlib.closing(server.reranker(timeout=1.5)) as reranker:
        try:
            reranker.rerank(QUERY, _much(server))
        except DeadlineError:
            took = time.monotonic() - started
        else:
            raise BrokenError("it was done before its time")
    _held(took < 3, f"it ended after {took:.0f} s of 1.5 s")
    return _idle(server)


@_duty("A server that is killed in the middle of a call is a `ServiceError`", real=True)
def _kill(server: Server) -> str:
    async def killed() -> RerankError | None:
        async with server.reranker(timeout=20) as reranker:
            task = asyncio.create_task(reranker.arerank(QUERY, _much(server)))
            await asyncio.sleep(1)
            await asyncio.to_thread(server.running.kill)
            try:
                await task
            except RerankError as error:
                return error
        return None

    error = asyncio.run(killed())
    _held(error is not None, "ranked all the same")
    _held(isinstance(error, ServiceError), _told(error))
    return _told(error)


@_duty("Started again, it is asked by the same object, and ranks right", real=True)
def _again(server: Server) -> str:
    with contextlib.closing(server.reranker(timeout=60)) as reranker:
        with contextlib.suppress(ServiceError):
            reranker.rerank(QUERY, texts(2))  # it is still dead
        server.running.restart()
        _same(reranker.rerank(QUERY, texts(20)), server)
    return "so it is"


def _much(server: Server) -> list[str]:
    """What keeps the server busy for more than some seconds."""
    return [f"{number} " + "red car green tea " * (server.tokens // 8) for number in range(3_000)]


def _idle(server: Server) -> str:
    """What the server does two seconds after a call was given up."""
    if _is_idle(server):
        return "idle"
    end = time.monotonic() + 120
    while time.monotonic() < end and not _is_idle(server):
        pass
    with ThreadPoolExecutor() as threads:  # as much again, in two parts: one would be refused
        for start in (0, 1_500):
            documents = _much(server)[start : start + 1_500]
            body = {"model": server.model, "query": QUERY, "documents": documents}
            threads.submit(server.ask, json=body, timeout=1.5)  # its error is what is wanted
    _held(not _is_idle(server), "still at work, though it ends a bare request that is given up")
    return "still at work, as with any client: it ends what it was sent"


def _is_idle(server: Server) -> bool:
    """Whether the server does nothing, two seconds from now and for a second."""
    time.sleep(2)
    before = server.running.cpu_seconds()
    time.sleep(1)
    return server.running.cpu_seconds() - before < 0.3


def _same(ranking: Ranking, server: Server, query: str = QUERY) -> None:
    """Raise unless *ranking*, of all documents, is what the server says without the project."""
    documents = {hit.index: hit.document for hit in ranking}
    count = len(documents)
    _held(sorted(documents) == list(range(count)), "a document is missing")
    _as_expected(ranking, server.scores(query, [str(documents[index]) for index in range(count)]))


def _as_expected(ranking: Ranking, expected: Sequence[float]) -> None:
    """Raise unless *ranking* has the scores *expected* of its documents, best first."""
    _held(len(ranking) == len(expected), "a document is missing")
    scores = [hit.score for hit in ranking]
    _held(scores == sorted(scores, reverse=True), "not best first")
    apart = max(abs(hit.score - expected[hit.index]) for hit in ranking)
    _held(apart < _CLOSE, f"a score is off by {apart:.4f}")


def _ranked(
    server: Server, documents: Iterable[Candidate], *, query: str | Image = QUERY, **options: Any
) -> Ranking:
    with contextlib.closing(server.reranker(**options)) as reranker:
        return reranker.rerank(query, documents)


def _refused(server: Server, documents: Iterable[Candidate], **options: Any) -> RerankError:
    """The error that ranking *documents* ends in."""
    try:
        _ranked(server, documents, **options)
    except RerankError as error:
        return error
    raise BrokenError("ranked all the same")


async def _closed(server: Server, documents: Iterable[str]) -> Ranking:
    async with server.reranker() as reranker:
        return await reranker.arerank(QUERY, documents)


def _told(error: RerankError) -> str:
    status = f", HTTP {error.status}" if error.status else ""
    return f"`{type(error).__name__}`{status}"


def _held(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise BrokenError(otherwise)
