"""The faults by name, as data: what each puts on the wire. Nothing is sent or counted here."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from qwen_rerank.emulator import _onwire
from qwen_rerank.emulator._alter import (
    Altered,
    duplicated,
    first,
    first_without,
    gzip_bomb,
    gzipped,
    of_another_request,
    results,
    usage,
    with_broken_utf8,
    without,
)
from qwen_rerank.emulator._onwire import Manner
from qwen_rerank.emulator._script import ErrorBody, Reply
from qwen_rerank.emulator._wire import COMPATIBLE, NATIVE, Format

REFUSED = "refused"
"""The one fault that no request meets: there is nobody to connect to."""


class Asked(NamedTuple):
    """What some faults need to know of the request."""

    authorization: str
    """The header as it came, credentials included."""
    path: str
    port: int
    now: datetime


Fault: TypeAlias = Reply | Callable[[Asked], Reply] | Altered | Manner
"""A fixed answer, an honest one that was altered, or how an honest one is written."""


def _error(
    status: int,
    code: str,
    message: str | None = None,
    *,
    inner: bool = False,
    envelope: Format | None = None,
    **headers: str,
) -> Reply:
    body = ErrorBody(code, message, inner=inner, envelope=envelope)
    return Reply(status, body, {name.replace("_", "-"): text for name, text in headers.items()})


def _invalid(message: str, *, inner: bool = False) -> Reply:
    return _error(400, "InvalidParameter", message, inner=inner)


def _page(status: int, title: str, **headers: str) -> Reply:
    page = (
        f"<!doctype html><html><head><title>{title}</title></head>"
        f"<body><center><h1>{title}</h1></center><hr></body></html>\n"
    )
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, page, {"content-type": "text/html; charset=utf-8", **named})


def _throttled(retry_after: str) -> Reply:
    return _error(429, "Throttling.RateQuota", retry_after=retry_after)


def _throttled_until(asked: Asked) -> Reply:
    return _throttled(format_datetime(asked.now + timedelta(seconds=2), usegmt=True))


def _moved(asked: Asked) -> Reply:
    return Reply(307, "", {"location": f"http://127.0.0.2:{asked.port}{asked.path}"})


def _key_echoed(asked: Asked) -> Reply:
    message = f"Incorrect API key provided: {asked.authorization}."
    return _error(401, "InvalidApiKey", message, x_authorization=asked.authorization)


def _bomb(_: Asked) -> Reply:
    return Reply(200, gzip_bomb(), {"content-encoding": "gzip"})


def _score(value: Any, infinity: str = "Infinity") -> Altered:
    """Return the alteration of the first score to *value*, an infinite one spelt *infinity*."""

    def spell(raw: bytes) -> bytes:
        return raw.replace(b": Infinity", f": {infinity}".encode(), 1)

    return Altered(first(relevance_score=value), spell)


_TABLE: dict[str, tuple[Fault, str]] = {
    # Connection and framing
    "reset-before": (
        _onwire.RESET_BEFORE,
        "The connection is reset (RST) before any byte of the answer.",
    ),
    "reset-mid": (_onwire.RESET_MID, "The connection is reset (RST) in the middle of the body."),
    "close-before": (
        _onwire.CLOSE_BEFORE,
        "The connection is closed (FIN) before any byte of the answer.",
    ),
    "close-mid": (
        _onwire.CLOSE_MID,
        "The connection is closed (FIN) in the middle of a body announced in full.",
    ),
    "no-answer": (
        _onwire.NO_ANSWER,
        "The request is read and never answered, until the client leaves.",
    ),
    "slow-headers": (
        _onwire.SLOW_HEADERS,
        "The head comes one byte each 50 ms, for five minutes.",
    ),
    "trickle": (
        _onwire.TRICKLE,
        "The head comes at once, the body one byte each 50 ms, for five minutes.",
    ),
    "length-short": (
        _onwire.LENGTH_SHORT,
        "Content-Length announces half of the body that is sent.",
    ),
    "length-long": (
        _onwire.LENGTH_LONG,
        "Content-Length announces 100 bytes more than are sent before the connection is closed.",
    ),
    "length-garbage": (_onwire.LENGTH_GARBAGE, "Content-Length is abc."),
    "garbage": (_onwire.GARBAGE, "The answer is bytes that are no HTTP."),
    "header-huge": (_onwire.HEADER_HUGE, "One response header has 1 MiB; the rest is honest."),
    "chunk-broken": (
        _onwire.CHUNK_BROKEN,
        "The body is chunked; the size of its second chunk, 50 ms later, is no number.",
    ),
    "two-answers": (
        _onwire.TWO_ANSWERS,
        "Right behind the honest answer comes a whole second one, of another request.",
    ),
    "body-1gb-announced": (
        _onwire.GIGABYTE_ANNOUNCED,
        "Content-Length announces 1 GB; a bit of body follows, then silence.",
    ),
    "body-1gb-sent": (
        _onwire.GIGABYTE_SENT,
        "1 GB is really sent: the honest JSON with spaces before its last brace.",
    ),
    # Bodies with HTTP 200
    "truncated-json": (
        Altered(rewrite=lambda raw: raw[: len(raw) // 2]),
        "The honest JSON is cut in half, and Content-Length says so.",
    ),
    "not-json": (
        Reply(200, "upstream is busy, come back later", {"content-type": "text/plain"}),
        "The body is plain text.",
    ),
    "html-200": (_page(200, "Sign in to the network"), "The body is a proxy's login page."),
    "empty-body": (Reply(200, ""), "The body is empty: Content-Length is 0."),
    "content-type-wrong": (
        Altered(headers={"content-type": "text/plain"}),
        "The honest body is called text/plain.",
    ),
    "bom": (
        Altered(rewrite=lambda raw: b"\xef\xbb\xbf" + raw),
        "The honest body stands behind a UTF-8 byte order mark.",
    ),
    "gzip": (
        Altered(rewrite=gzipped, headers={"content-encoding": "gzip"}),
        "The honest body is packed with gzip, whatever was asked for.",
    ),
    "gzip-bomb": (_bomb, "1 MB of gzip unpacks to 1 GB of spaces."),
    "invalid-utf8": (
        Altered(rewrite=with_broken_utf8),
        "The honest JSON has one more string, with a byte that is no UTF-8.",
    ),
    "deep-json": (
        Reply(200, "[" * 100_000 + "]" * 100_000),
        "The body is arrays nested 100,000 deep.",
    ),
    "json-null": (Reply(200, "null"), "The body is null."),
    "json-list": (Reply(200, "[]"), "The body is an empty list."),
    "json-string": (Reply(200, '"ok"'), "The body is a string."),
    "no-content": (Reply(204, ""), "204, which has no body."),
    # Other statuses
    "redirect": (_moved, "307 to the same path and port of 127.0.0.2."),
    "html-502": (_page(502, "502 Bad Gateway"), "502 with a proxy's page."),
    "html-403": (_page(403, "403 Forbidden"), "403 with a proxy's page."),
    "proxy-407": (
        _page(407, "407 Proxy Authentication Required", proxy_authenticate="Basic"),
        "407 with a proxy's page.",
    ),
    "401-native": (
        _error(401, "InvalidApiKey", envelope=NATIVE),
        "401 InvalidApiKey in the native envelope, whichever protocol was called.",
    ),
    "401-compatible": (
        _error(401, "InvalidApiKey", envelope=COMPATIBLE),
        "401 invalid_api_key in the compatible envelope, whichever protocol was called.",
    ),
    "401-workspace": (_error(401, "NOT AUTHORIZED"), "401 NOT AUTHORIZED."),
    "403-denied": (_error(403, "AccessDenied"), "403 AccessDenied."),
    "403-unpurchased": (
        _error(403, "AccessDenied.Unpurchased"),
        "403 AccessDenied.Unpurchased.",
    ),
    "403-model": (_error(403, "Model.AccessDenied"), "403 Model.AccessDenied."),
    "403-workspace": (_error(403, "Workspace.AccessDenied"), "403 Workspace.AccessDenied."),
    "403-free-tier": (
        _error(403, "AllocationQuota.FreeTierOnly"),
        "403 AllocationQuota.FreeTierOnly: the free quota is used up.",
    ),
    "404-model": (_error(404, "ModelNotFound"), "404 ModelNotFound, or model_not_found."),
    "404-model-not-exist": (
        _error(404, "Model.NotExist"),
        '404 Model.NotExist: "Model not exist.", a code that the SDK knows.',
    ),
    "404-invalid-model": (
        _error(404, "InvalidModel"),
        '404 InvalidModel: "Model not exist.", a code that the SDK knows.',
    ),
    "404-unsupported": (_error(404, "model_not_supported"), "404 model_not_supported."),
    "404-workspace": (_error(404, "WorkSpaceNotFound"), "404 WorkSpaceNotFound."),
    "404-path": (_error(404, "NotFound", "Not found."), "404 NotFound."),
    "400-model": (_invalid("Model not exist."), '400 InvalidParameter: "Model not exist."'),
    "400-flat-body": (
        _invalid("Field required: input.query & Field required: input.documents", inner=True),
        "400 InvalidParameter behind the inner service's prefix: the body is not of this protocol.",
    ),
    "400-task": (
        _invalid("task can not be null"),
        "400 InvalidParameter: the path of the URL names no task.",
    ),
    "400-batch-size": (
        _invalid(
            "Value error, batch size of documents is invalid, "
            "it should not be empty or larger than 500.: input.documents",
            inner=True,
        ),
        "400 InvalidParameter behind the inner service's prefix: too many documents.",
    ),
    "400-batch-size-short": (
        _invalid(
            "Value error, batch size is invalid, it should not be larger than 10.: input.contents",
            inner=True,
        ),
        "400 InvalidParameter, likewise, in the words of the route for embeddings.",
    ),
    "400-document-long": (
        _invalid(
            "Value error, document index:0 is invalid, "
            "it should not be larger than 300000: input.documents",
            inner=True,
        ),
        "400 InvalidParameter behind the inner service's prefix: the first document is too long.",
    ),
    "400-blank": (
        _invalid("text input should not be empty.: input.documents"),
        "400 InvalidParameter: a document is blank.",
    ),
    "400-length": (
        _invalid("Range of input length should be [1, 4000]"),
        "400 InvalidParameter: the input is too long.",
    ),
    "400-empty-input": (_error(400, "BadRequest.EmptyInput"), "400 BadRequest.EmptyInput."),
    "400-content": (
        _error(400, "DataInspectionFailed"),
        "400 DataInspectionFailed, or data_inspection_failed.",
    ),
    "400-media-inspection": (
        _error(400, "InvalidParameter.DataInspection"),
        "400 InvalidParameter.DataInspection.",
    ),
    "400-media-url": (_error(400, "InvalidURL"), "400 InvalidURL."),
    "400-media-timeout": (_error(400, "InvalidURL.Timeout"), "400 InvalidURL.Timeout."),
    "400-media-download": (
        _error(400, "BadRequest.InputDownloadFailed"),
        "400 BadRequest.InputDownloadFailed.",
    ),
    "400-arrearage": (_error(400, "Arrearage"), "400 Arrearage: the account is in debt."),
    "408": (_error(408, "", "Request timeout."), "408 with an empty code."),
    "413": (
        _error(413, "", "The request body is too large."),
        "413 with an empty code: the request is too large.",
    ),
    "429-throttling": (_error(429, "Throttling"), "429 Throttling."),
    "429-rate": (
        _error(429, "Throttling.RateQuota"),
        "429 Throttling.RateQuota, or limit_requests.",
    ),
    "429-burst": (
        _error(429, "Throttling.BurstRate"),
        "429 Throttling.BurstRate, or limit_burst_rate.",
    ),
    "429-tokens": (
        _error(429, "Throttling.AllocationQuota"),
        "429 Throttling.AllocationQuota, or insufficient_quota: too many tokens in a minute.",
    ),
    "429-concurrency": (
        _error(429, "concurrency_limit_exceeded"),
        "429 concurrency_limit_exceeded: too many requests at a time.",
    ),
    "429-free-quota": (
        _error(429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
        '429 Throttling.AllocationQuota: "Free allocated quota exceeded."',
    ),
    "429-not-purchased": (_error(429, "CommodityNotPurchased"), "429 CommodityNotPurchased."),
    "429-prepaid": (_error(429, "PrepaidBillOverdue"), "429 PrepaidBillOverdue."),
    "429-postpaid": (_error(429, "PostpaidBillOverdue"), "429 PostpaidBillOverdue."),
    "429-after-seconds": (_throttled("1"), "429 with Retry-After: 1."),
    "429-after-date": (_throttled_until, "429 with Retry-After: a date one to two seconds ahead."),
    "429-after-10000": (_throttled("10000"), "429 with Retry-After: 10000."),
    "429-after-garbage": (_throttled("soon"), "429 with Retry-After: soon."),
    "500": (_error(500, "InternalError"), "500 InternalError."),
    "500-algo": (_error(500, "InternalError.Algo"), "500 InternalError.Algo."),
    "500-media-length": (
        _error(500, "InternalError.Algo", "Missing Content-Length of multimodal url."),
        '500 InternalError.Algo: "Missing Content-Length of multimodal url."',
    ),
    "500-timeout": (_error(500, "InternalError.Timeout"), "500 InternalError.Timeout."),
    "500-capacity": (_error(500, "ModelServingError"), "500 ModelServingError."),
    "503": (_error(503, "ModelUnavailable"), "503 ModelUnavailable."),
    "503-throttled": (
        _error(
            503,
            "ModelServingError",
            "[Too many requests. Your requests are being throttled due to system capacity limits. "
            "Please try again later.]",
        ),
        '503 ModelServingError: "[Too many requests. ...]", which is throttling.',
    ),
    "504": (_error(504, "GatewayTimeout"), "504 GatewayTimeout."),
    # Errors inside a 200
    "200-error": (
        _error(200, "InvalidParameter", "Model not exist."),
        "InvalidParameter with HTTP 200.",
    ),
    "200-throttling": (
        _error(200, "Throttling.RateQuota"),
        "Throttling.RateQuota, or limit_requests, with HTTP 200.",
    ),
    "200-error-compatible": (
        _error(200, "InvalidParameter", "Model not exist.", envelope=COMPATIBLE),
        "InvalidParameter with HTTP 200 in the compatible envelope, whichever protocol was called.",
    ),
    "200-unknown-code": (
        _error(200, "TeapotShortAndStout", "No page says what this means."),
        "A code that nobody documents, with HTTP 200.",
    ),
    # Results that are no ranking: an honest answer with one thing changed
    "no-output": (
        Altered(without("output", "results")),
        "The output (native) or the results (compatible) are missing.",
    ),
    "results-null": (Altered(results(lambda *_: None)), "The results are null."),
    "results-empty": (Altered(results(lambda *_: [])), "The results are an empty list."),
    "results-object": (
        Altered(results(lambda found, _: {str(at): one for at, one in enumerate(found)})),
        "The results are an object.",
    ),
    "result-missing": (
        Altered(results(lambda found, _: found[1:])),
        "The first result is missing.",
    ),
    "result-extra": (
        Altered(results(lambda found, count: [*found, {**found[-1], "index": count}])),
        "One result more than documents, with the next index.",
    ),
    "result-null": (
        Altered(results(lambda found, _: [None, *found[1:]])),
        "The first result is null.",
    ),
    "index-duplicate": (
        Altered(results(duplicated)),
        "The second result has the index of the first.",
    ),
    "index-negative": (Altered(first(index=-1)), "The first index is -1."),
    "index-n": (
        Altered(results(lambda found, count: [{**found[0], "index": count}, *found[1:]])),
        "The first index is the number of documents.",
    ),
    "index-string": (Altered(first(index="0")), 'The first index is "0".'),
    "index-float": (Altered(first(index=1.0)), "The first index is 1.0."),
    "index-true": (Altered(first(index=True)), "The first index is true."),
    "index-null": (Altered(first(index=None)), "The first index is null."),
    "index-missing": (Altered(first_without("index")), "The first result has no index."),
    "score-nan": (_score(math.nan), "The first score is NaN."),
    "score-infinity": (_score(math.inf, "1e400"), "The first score is 1e400."),
    "score-minus-infinity": (
        _score(math.inf, "-1e400"),
        "The first score is -1e400.",
    ),
    "score-huge-integer": (_score(10**400), "The first score is an integer of 401 digits."),
    "score-string": (_score("0.9"), 'The first score is "0.9".'),
    "score-true": (_score(True), "The first score is true."),
    "score-null": (_score(None), "The first score is null."),
    "score-missing": (Altered(first_without("relevance_score")), "The first result has no score."),
    "unsorted": (
        Altered(results(lambda found, _: [*found[1:], *found[:1]])),
        "The honest results come with the best one last.",
    ),
    "others-results": (
        Altered(results(of_another_request)),
        "The results are another request's, which had more than twice as many documents.",
    ),
    "usage-missing": (Altered(without("usage")), "The usage is missing."),
    "usage-garbage": (Altered(usage({"total_tokens": "many"})), 'The usage is "many" tokens.'),
    "request-id-missing": (
        Altered(without("request_id", "id"), headers={"x-request-id": None}),
        "The request id is missing, in the body and in the headers.",
    ),
    "key-echoed": (
        _key_echoed,
        "401 whose message and X-Authorization header repeat the request's Authorization header.",
    ),
}

FAULTS: Mapping[str, str] = MappingProxyType(
    {REFUSED: "Nobody listens, and open connections are dropped; the port stays reserved."}
    | {name: sentence for name, (_, sentence) in _TABLE.items()}
)
"""Every fault by name, with what happens on the wire in one sentence."""

BY_NAME: Mapping[str, Fault] = MappingProxyType({name: row[0] for name, row in _TABLE.items()})
"""What each fault but `REFUSED` answers."""
