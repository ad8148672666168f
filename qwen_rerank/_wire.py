"""Request bodies and answers of each protocol, as pure functions; nothing is sent or timed here.

Where fields stand and what they are called is in `_servers`.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic_core import from_json, to_json

from qwen_rerank._advice import advise, counted
from qwen_rerank._refusal import Asked, Refusal, explain, own_server
from qwen_rerank._servers import DASHSCOPE, Protocol, Server, spoken
from qwen_rerank._values import Answer, Item, Reply, Request
from qwen_rerank.errors import ReplyError

__all__ = [
    "PATHS",
    "Protocol",
    "decode",
    "encode",
    "is_lasting",
    "length_in",
    "models_in",
    "name_in",
    "taken",
]

_LARGEST = sys.float_info.max
_NUMBERS = (float, int)

# The base path and the path below it; every DashScope host serves both.
PATHS: dict[Protocol, tuple[str, str]] = {
    protocol: dialect.path for protocol, dialect in DASHSCOPE.items()
}


def encode(request: Request, protocol: Protocol, server: Server | None = None) -> bytes:
    """The body of *request*. ``top_n`` is never sent: it is applied once, after merging.

    An instruct for a server that takes none is left out: it is refused before it comes here.
    """
    body = _body(request, protocol, server)
    if request.extra:
        body = _merged(request.extra, body)
    return to_json(body)  # a fifth of the time that json takes


def taken(extra: Mapping[str, Any], protocol: Protocol, server: Server | None = None) -> str | None:
    """The first field of *extra*, as a path, that bodies have themselves or must not have."""

    def first(extra: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
        for name, value in extra.items():
            if name == "top_n":
                yield name
            elif isinstance(inner := own.get(name), dict) and isinstance(value, Mapping):
                yield from (f"{name}.{each}" for each in first(value, inner))
            elif name in own:
                yield name

    return next(first(extra, _body(_SPECIMEN, protocol, server)), None)


def _merged(extra: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """*extra* and *own*, objects in both merged; what is in both otherwise is *own*'s."""
    merged = dict(own)
    for name, value in extra.items():
        if name not in own:
            merged[name] = value
        elif isinstance(value, Mapping) and isinstance(own[name], dict):
            merged[name] = _merged(value, own[name])
    return merged


# With everything that a body can have.
_SPECIMEN = Request("model", "query", "instruct", (), fps=1.0)


def _body(request: Request, protocol: Protocol, server: Server | None) -> dict[str, Any]:
    dialect = spoken(protocol, server)
    one = _parts if dialect.takes_parts else _one
    query = Item(request.query, 0, kind=request.query_kind)
    if request.is_text:
        documents = [item.text for item in request.items]
    else:
        documents = [one(item) for item in request.items]
    asked = {"query": one(query), dialect.documents: documents}
    options: dict[str, Any] = dict(dialect.constants)
    if request.instruct is not None and dialect.instruct is not None:
        told: str = request.instruct
        if dialect.instruct_within is not None:
            told = to_json({dialect.instruct_within: told}).decode()
        options[dialect.instruct] = told
    body: dict[str, Any] = {"model": request.model} if dialect.model else {}
    if protocol == "dashscope":
        if request.fps is not None:
            options["fps"] = request.fps  # only this protocol has videos
        body |= {"input": asked, "parameters": options}
    else:
        body |= {**asked, **options}
    return body


def _one(item: Item) -> Any:
    return item.text if item.kind == "text" else {item.kind: item.text}


def _parts(item: Item) -> Any:
    """*item* as chat models are sent it, unless it is a bare text."""
    if item.kind == "text":
        return item.text
    text = [{"type": "text", "text": item.beside}] if item.beside else []
    return {"content": [*text, {"type": "image_url", "image_url": {"url": item.text}}]}


def decode(
    answer: Answer,
    request: Request,
    *,
    protocol: Protocol,
    asked: Asked,
    server: Server | None = None,
) -> Reply:
    """Reads *answer* as the scores of the documents of *request*.

    Args:
        answer: What came back.
        request: What was asked, with at least one document.
        protocol: The protocol that was spoken.
        asked: Where, and with which options, for messages.
        server: Whose dialect of the protocol it was; None for DashScope's own.

    Returns:
        One finite score for each document, in the order in which they were sent.

    Raises:
        RerankError: The service refused, or the answer is not a ranking of all the documents.
    """
    body = _json(answer)
    fields = body if isinstance(body, dict) else {}
    ids = [fields.get("request_id"), fields.get("id"), answer.headers.get("x-request-id")]
    if server == "litellm":
        ids.insert(0, answer.headers.get("x-litellm-call-id"))
    request_id = next(filter(None, map(_text, ids)), None)
    page = advise(*_PAGE, places=asked.places) if body is None and _is_page(answer) else None
    if answer.status != 200 or fields.get("code") or fields.get("error"):
        error = explain(_refusal(answer, fields, request_id, server), request, asked, server)
        # Too much is too much, whoever says so.
        if page is not None and error.hint is not None and answer.status == 413:
            error.hint = error.hint + (" " + page)
        elif page is not None:
            error.hint = page
        raise error
    try:
        scores = _scores(body, request, protocol, server)
    except ValueError as problem:
        broken = ReplyError(
            f"The answer from {asked.host} is no ranking: {problem}.",
            status=answer.status,
            request_id=request_id,
            hint=page
            or own_server(asked, server)
            or (advise(_WHOSE) if protocol == "compatible" else None),
        )
    else:
        told = (_at(body, place) for place in spoken(protocol, server).usage)
        return Reply(
            scores=scores,
            tokens=next((each for each in told if type(each) is int and each >= 0), None),
            request_id=request_id,
            model=_text(fields.get("model")),
        )
    raise broken


def is_lasting(answer: Answer) -> bool:
    """Whether *answer*, to a question of what a server is, will be the same another time.

    A server that starts, is busy or wants another key says something else later.
    """
    return answer.status in (404, 405, 501) or (answer.status == 200 and _json(answer) is not None)


def length_in(answer: Answer, name: str, model: str) -> int | None:
    """How many tokens a pair may have, by what a server tells of itself; None if it does not.

    Args:
        answer: What it tells, of itself or as a list of its models.
        name: The name of the number.
        model: The model that is asked; of a single one the name does not matter.
    """
    length = _told_of(answer, name, model)
    return length if type(length) is int and length > 0 else None


def name_in(answer: Answer, name: str, model: str) -> str | None:
    """What a server's list of its models calls *model* under *name*, or None. See `length_in`."""
    said = _told_of(answer, name, model)
    return said if isinstance(said, str) else None


def _told_of(answer: Answer, name: str, model: str) -> Any:
    body = _json(answer) if answer.status == 200 else None
    told = _at(body, ("data",)) or [body]
    if not isinstance(told, list):
        return None
    of_model = [each for each in told if len(told) == 1 or _at(each, ("id",)) == model]
    return _at(of_model[0], (name,)) if of_model else None


def models_in(answer: Answer) -> tuple[str, ...]:
    """The names of the models that a server lists."""
    told = _at(_json(answer), ("data",)) if answer.status == 200 else None
    names = [_text(_at(each, ("id",))) for each in told] if isinstance(told, list) else []
    return tuple(name for name in names if name is not None)


def _scores(
    body: Any, request: Request, protocol: Protocol, server: Server | None
) -> tuple[float, ...]:
    """One score for each document of *request*; ValueError says why *body* is no ranking."""
    if body is None:
        raise ValueError("it is not JSON")
    dialect = spoken(protocol, server)
    results = _at(body, dialect.results)
    if results is None and dialect.results_else is not None:
        results = _at(body, dialect.results_else)
    expected = len(request.items)
    if not isinstance(results, list):
        setting = f"protocol={protocol!r}" if server is None else f"server={server!r}"
        raise ValueError(f"it has no list of results where {setting} puts them")  # noqa: TRY004
    if len(results) != expected:
        sent = counted(expected, "document was sent", "documents were sent")
        raise ValueError(f"{sent} and {counted(len(results), 'result')} came back")
    scores: list[float | None] = [None] * expected
    name, most = dialect.score, _LARGEST
    for entry in results:
        result: dict[str, Any] = entry if isinstance(entry, dict) else {}
        index: Any = result.get("index")
        score: Any = result.get(name)
        if type(index) is not int or not 0 <= index < expected:
            raise ValueError(f"index {_text(repr(index))} is not one of 0 to {expected - 1}")
        if scores[index] is not None:
            raise ValueError(f"document {_position(request, index)} came back twice")
        # A bool is an int to Python, but no score; the rest is false for NaN and for 10**400.
        if type(score) not in _NUMBERS or not -most <= score <= most:
            raise ValueError(f"document {_position(request, index)} has no finite score")
        scores[index] = float(score)
    return tuple(cast("list[float]", scores))  # as many as there are, and none twice


def _at(body: Any, names: tuple[str, ...]) -> Any:
    """What *names* lead to in *body*, or None."""
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _position(request: Request, index: int) -> int:
    """Where the caller's list first holds document *index* of the request."""
    position, _ = request.items[index].places[0]
    return position


def _json(answer: Answer) -> Any:
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        return None  # we asked for plain bytes, and unpacking on request is how bombs go off
    with contextlib.suppress(ValueError):  # stricter than json about escaped surrogates and depth
        return from_json(answer.body, cache_strings="keys")  # ids would stay in memory
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None


def _text(value: object) -> str | None:
    """*value* as short printable text, for messages; None for None."""
    if value is None:
        return None
    text = value if isinstance(value, str) else repr(value)
    text = text[:2_000]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    # Some 401 messages quote the key they were given.
    return re.sub(r"\bsk-[\w-]{6,}", "sk-***", text.strip()) or None


def _refusal(
    answer: Answer, fields: dict[str, Any], request_id: str | None, server: Server | None
) -> Refusal:
    """What a refusal says, in any envelope; the codes inside an HTTP 200 are the same."""
    error = fields.get("error")
    inner = error if isinstance(error, dict) else fields
    kinds = inner.get("code"), inner.get("type"), fields.get("error_type")
    # vLLM and SGLang repeat the status as the code, and name the error in its type.
    code = next((kind for kind in kinds if kind and isinstance(kind, str)), kinds[0] or kinds[1])
    said = inner.get("message") or error
    if server is not None:  # what is nothing of DashScope's says little of it
        said = said or _detail(fields.get("detail")) or _plain(answer)
    return Refusal(
        answer.status,
        code=_text(code),
        message=_text(said),
        request_id=request_id,
        location=_text(answer.headers.get("location")) if 300 <= answer.status < 400 else None,
    )


def _detail(detail: Any) -> Any:
    """What FastAPI says: a text, or for a body that it does not understand a list of places."""
    if not isinstance(detail, list):
        return detail
    return "; ".join(
        f"{'.'.join(map(str, where))}: {each.get('msg')}"
        for each in detail
        if isinstance(each, dict) and isinstance(where := each.get("loc"), list)
    )


def _plain(answer: Answer) -> str | None:
    """The body, if it says of itself that it is text."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return answer.body[:2_000].decode("utf-8", "replace") if kind == "text/plain" else None


_WHOSE = "If it is a server of your own, say which: {server=}."
_PAGE = (
    "That was a web page, so something in between answered: a proxy, a firewall or a login page.",
    ("Check {places} and the proxy settings.", "Check the proxy settings."),
)


def _is_page(answer: Answer) -> bool:
    return answer.body[:1_000].lstrip().lower().startswith((b"<!doctype html", b"<html"))
