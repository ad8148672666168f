"""Request bodies and answers of each protocol, as pure functions; nothing is sent or timed here.

Shapes and error codes are those of the vendor's pages (help.aliyun.com/zh/model-studio/
text-rerank-api and /error-code, read in 2026) and of answers that users of the service published.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from typing import Any, Literal, TypeAlias, TypeGuard

from pydantic_core import from_json, to_json

from qwen_rerank._values import Answer, Reply, Request
from qwen_rerank.errors import (
    AuthenticationError,
    ContentError,
    QuotaError,
    RateLimitError,
    ReplyError,
    RequestError,
    RerankError,
    ServiceError,
)

__all__ = ["PATHS", "Protocol", "decode", "encode"]

_LARGEST = sys.float_info.max

Protocol: TypeAlias = Literal["dashscope", "compatible"]

# The base path and the path below it; every DashScope host serves both.
PATHS: dict[Protocol, tuple[str, str]] = {
    "dashscope": ("/api/v1", "/services/rerank/text-rerank/text-rerank"),
    "compatible": ("/compatible-api/v1", "/reranks"),
}


def encode(request: Request, protocol: Protocol) -> bytes:
    """The body of *request*. ``top_n`` is never sent: it is applied once, after merging."""
    documents = [item.text for item in request.items]
    options = {} if request.instruct is None else {"instruct": request.instruct}
    body: dict[str, Any]
    if protocol == "dashscope":
        body = {
            "model": request.model,
            "input": {"query": request.query, "documents": documents},
            "parameters": options,
        }
    else:
        body = {"model": request.model, "query": request.query, "documents": documents, **options}
    return to_json(body)  # a fifth of the time that json takes


def decode(answer: Answer, expected: int, *, protocol: Protocol, model: str, host: str) -> Reply:
    """Reads *answer* as the scores of *expected* documents.

    Args:
        answer: What came back.
        expected: How many documents were asked about, at least one.
        protocol: The protocol that was spoken.
        model: The model that was asked, for hints.
        host: The host that was called, for hints.

    Returns:
        One finite score for each document, in the order in which they were sent.

    Raises:
        RerankError: The service refused, or the answer is not a ranking of all the documents.
    """
    body = _json(answer)
    fields = body if isinstance(body, dict) else {}
    ids = fields.get("request_id"), fields.get("id"), answer.headers.get("x-request-id")
    request_id = next(filter(None, map(_text, ids)), None)

    def broken(what: str) -> ReplyError:
        return ReplyError(
            f"The answer from {host} is no ranking: {what}.",
            status=answer.status,
            request_id=request_id,
        )

    if answer.status != 200 or fields.get("code") or fields.get("error"):
        raise _refusal(answer, fields, request_id, model=model, host=host)
    if body is None:
        raise broken("it is not JSON")
    output = fields.get("output") if protocol == "dashscope" else fields
    results = output.get("results") if isinstance(output, dict) else None
    if not isinstance(results, list):
        raise broken(f"it has no list of results where protocol={protocol!r} puts them")
    if len(results) != expected:
        raise broken(f"{expected} documents were sent and {len(results)} results came back")
    scores: dict[int, float] = {}
    for entry in results:
        result: dict[str, Any] = entry if isinstance(entry, dict) else {}
        index, score = result.get("index"), result.get("relevance_score")
        if type(index) is not int or not 0 <= index < expected:
            raise broken(f"index {_text(index)} is not one of 0 to {expected - 1}")
        if index in scores:
            raise broken(f"index {index} came back twice")
        if not _is_number(score):
            raise broken(f"document {index} has no finite score")
        scores[index] = float(score)
    usage = fields.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return Reply(
        scores=tuple(scores[index] for index in range(expected)),
        tokens=tokens if type(tokens) is int and tokens >= 0 else 0,
        request_id=request_id,
    )


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False  # bool is an int to Python, but it is no score
    return -_LARGEST <= value <= _LARGEST  # false for NaN and for 10**400


def _json(answer: Answer) -> Any:
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        return None  # we asked for plain bytes, and unpacking on request is how bombs go off
    with contextlib.suppress(ValueError):  # stricter than json about escaped surrogates and depth
        return from_json(answer.body)
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


# Codes in lower case. Each branch says whose move is next; the status only decides the rest.
_AUTHENTICATION = ("invalidapikey", "invalid_api_key", "not authorized", "accessdenied")
_QUOTA = (
    "arrearage",
    "allocationquota.freetieronly",
    "commoditynotpurchased",
    "prepaidbilloverdue",
    "postpaidbilloverdue",
)
_CONTENT = (
    "datainspectionfailed",
    "data_inspection_failed",
    "invalidparameter.datainspection",
    "invalidurl",
    "badrequest.inputdownloadfailed",
)
_RATE = ("throttling", "limit_requests", "limit_burst_rate", "insufficient_quota")
_SERVICE = ("internalerror", "internal_error", "systemerror", "modelserv", "modelunavailable",
            "serviceunavailable", "requesttimeout", "gatewaytimeout")  # fmt: skip


_NO_SUCH_MODEL = ("modelnotfound", "model_not_found", "model_not_supported", "model.notexist")


def _refusal(
    answer: Answer, fields: dict[str, Any], request_id: str | None, *, model: str, host: str
) -> RerankError:
    """The error that *answer* stands for; both envelopes, and codes inside an HTTP 200."""
    error = fields.get("error")
    inner = error if isinstance(error, dict) else fields
    code = _text(inner.get("code") or inner.get("type"))
    said = _text(inner.get("message") or error)
    # The inner service's codes arrive bare or behind the prefix of the layer that passes them on.
    known = re.sub(r"^internalerror\.algo\.(?=.)", "", (code or "").lower())
    kind = _kind(known, (said or "").lower(), answer.status)
    message = said or f"{host} answered without saying why"
    return kind(
        message,
        code=code,
        status=answer.status,
        request_id=request_id,
        hint=_hint(kind, known, message.lower(), model, host),
    )


def _kind(code: str, said: str, status: int) -> type[RerankError]:
    if code.startswith(_QUOTA) or "free allocated quota exceeded" in said:
        return QuotaError
    if code.startswith(_CONTENT) or "missing content-length of multimodal url" in said:
        return ContentError
    if code.startswith(_AUTHENTICATION) or code.endswith(".accessdenied") or status in (401, 403):
        return AuthenticationError
    if code.startswith(_RATE) or status == 429:
        return RateLimitError
    if code.startswith(_SERVICE) or status == 408 or status >= 500:
        return ServiceError
    if status >= 400:
        return RequestError
    # A redirect is never followed, and a 2xx with a code that nobody documents decides nothing.
    return RequestError if code.startswith(("invalid", "badrequest", "model")) else ServiceError


def _hint(kind: type[RerankError], code: str, said: str, model: str, host: str) -> str | None:
    if kind is AuthenticationError:
        if code.startswith(("invalidapikey", "invalid_api_key")):
            return (
                f"A key works only in its own region and billing plan. This call went to {host}: "
                "set region= or base_url= to where the key was made. (A key from the environment "
                "is sent to Alibaba Cloud and loopback only; any other host needs api_key=.)"
            )
        return f"Check that the key's workspace may use {model} on {host}."
    if kind is QuotaError:
        return "Top up or enable pay-as-you-go in the Model Studio console; waiting does not help."
    if kind is ContentError:
        return "The service names no document; rank the candidates in halves to find the one."
    if code in _NO_SUCH_MODEL or "model not exist" in said:
        if model == "gte-rerank":
            return "gte-rerank was retired on 2026-05-30: use model='qwen3-rerank'."
        return (
            f"Check the name: {model} may not be offered on {host} or by this protocol. On Alibaba "
            "Cloud qwen3-vl-rerank and gte-rerank-v2 need protocol='dashscope', and Singapore "
            "lists only qwen3-rerank."
        )
    if "text input should not be empty" in said:
        return "A document counts as blank for the service: remove it from the candidates."
    return None
