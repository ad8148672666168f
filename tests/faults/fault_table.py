"""The fault matrix as data: what the user gets for each fault; nothing is called from here.

A row is written from what the service documents and from what `qwen_rerank.errors` promises, not
from what a call was seen to do. A row that fails is a bug or a wrong promise, never a wrong test.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qwen_rerank import (
    AuthenticationError,
    ContentError,
    DeadlineError,
    QuotaError,
    RateLimitError,
    ReplyError,
    RequestError,
    RerankError,
    ServiceError,
)

__all__ = ["KINDS", "ROWS", "SENT_AGAIN", "Row"]

SENT_AGAIN = 2  # the default of max_retries


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One fault and what comes of it, through every door, sync and async.

    Attributes:
        name: The fault's name, in the emulator where it has one there.
        kind: The group it is shown in.
        gives: The exact error, or None for the right ranking.
        status: The error's HTTP status.
        code: The error's code.
        documents: The positions that the error names; None where that is not the point.
        repeated: Whether the client sends the request again.
        requests: How many requests the service sees of one call: the fewest and the most.
        told: What the emulator is told: the name, or the fault with its condition; None if it is
            told nothing.
        broken: What is wrong on our side of the wire; None if nothing is.
        used: Whether it meets a connection that was in use before, which is the harder case.
        options: Options of the reranker that the row needs.
        wire: What happens, where that is not the emulator's own sentence.
    """

    name: str
    kind: str = ""
    gives: type[RerankError] | None = None
    status: int | None = None
    code: str | None = None
    documents: tuple[int, ...] | None = None
    repeated: bool = False
    requests: tuple[int, int] = (1, 1)
    told: str | None = None
    broken: str | None = None
    used: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    wire: str | None = None

    @property
    def passes(self) -> bool:
        """Whether on_error="passthrough" turns it into the original order."""
        return self.gives not in (None, RequestError, AuthenticationError)


def _fine(name: str, **more: Any) -> Row:
    """The right ranking all the same."""
    return Row(**{"name": name, "told": name} | more)


def _once(
    name: str,
    gives: type[RerankError],
    status: int | None = None,
    code: str | None = None,
    **more: Any,
) -> Row:
    """Not repeated."""
    facts = {"gives": gives, "status": status, "code": code}
    return Row(**{"name": name, "told": name} | facts | more)


def _again(*facts: Any, **more: Any) -> Row:
    """Repeated, and given up when it stays; what of it is given as for `_once`."""
    every = SENT_AGAIN + 1
    return _once(*facts, **{"repeated": True, "requests": (every, every), **more})


def _limited(name: str, **more: Any) -> Row:
    """Repeated, since it is a limit of requests in a time."""
    return _again(name, RateLimitError, 429, "Throttling.RateQuota", **more)


# For what never ends. On a busy machine it may run out before anything is sent.
_SHORT = {"timeout": 0.2}
# Shorter than any wait that is asked for, so that obeying it is no use.
_IMPATIENT = {"timeout": 0.9}
_FIVE = {"max_documents_per_request": 1}
_LEMON = "lemon"  # in the document at position 4

_BROKEN_CONNECTIONS = (
    _again("refused", ServiceError, requests=(0, 0)),
    _again("reset-before", ServiceError),
    _again("reset-mid", ServiceError),
    _again("close-before", ServiceError),
    _again("close-mid", ServiceError),
    _once("no-answer", DeadlineError, requests=(0, 1), options=_SHORT),
    _once("slow-headers", DeadlineError, requests=(0, 1), options=_SHORT),
    _once("trickle", DeadlineError, requests=(0, 1), options=_SHORT),
    _again(
        "host-unknown",
        ServiceError,
        told=None,
        broken="name",
        requests=(0, 0),
        wire="The name of the host does not resolve.",
    ),
    _again(
        "https-to-http",
        ServiceError,
        told=None,
        broken="scheme",
        requests=(0, 0),
        wire="The base_url says https, and the port speaks plain http.",
    ),
)
_BROKEN_FRAMES = (
    _again("length-short", ServiceError),
    _again("length-long", ServiceError),
    _again("length-garbage", ServiceError),
    _again("garbage", ServiceError),
    _again("header-huge", ServiceError),
    _again("chunk-broken", ServiceError),
    _fine("two-answers"),
    _once("body-1gb-announced", DeadlineError, requests=(0, 1), options=_SHORT),
    _once("body-1gb-sent", ReplyError),
)
_BODIES = (
    _again("truncated-json", ReplyError, 200),
    _again("not-json", ReplyError, 200),
    _again("html-200", ReplyError, 200),
    _again("empty-body", ReplyError, 200),
    _fine("content-type-wrong"),
    _fine("bom"),
    _again("gzip", ReplyError, 200),
    _again("gzip-bomb", ReplyError, 200),
    _again("invalid-utf8", ReplyError, 200),
    _again("deep-json", ReplyError, 200),
    _again("json-null", ReplyError, 200),
    _again("json-list", ReplyError, 200),
    _again("json-string", ReplyError, 200),
    _again("no-content", ServiceError, 204),
)
_REFUSED = (
    _again("redirect", ServiceError, 307),
    _again("html-502", ServiceError, 502),
    _once("html-403", AuthenticationError, 403),
    _once("proxy-407", RequestError, 407),
    _once("401-native", AuthenticationError, 401, "InvalidApiKey"),
    _once("401-compatible", AuthenticationError, 401, "invalid_api_key"),
    _once("401-workspace", AuthenticationError, 401, "NOT AUTHORIZED"),
    _once(
        "key-refused",
        AuthenticationError,
        401,
        "InvalidApiKey",
        told=None,
        broken="key",
        wire="The key is a wrong one, and the honest service refuses it.",
    ),
    _once("key-echoed", AuthenticationError, 401, "InvalidApiKey"),
    _once("403-denied", AuthenticationError, 403, "AccessDenied"),
    _once("403-unpurchased", AuthenticationError, 403, "AccessDenied.Unpurchased"),
    _once("403-model", AuthenticationError, 403, "Model.AccessDenied"),
    _once("403-workspace", AuthenticationError, 403, "Workspace.AccessDenied"),
    _once("403-free-tier", QuotaError, 403, "AllocationQuota.FreeTierOnly"),
    _once("404-model", RequestError, 404, "ModelNotFound"),
    _once("404-model-not-exist", RequestError, 404, "Model.NotExist"),
    _once("404-invalid-model", RequestError, 404, "InvalidModel"),
    _once("404-unsupported", RequestError, 404, "model_not_supported"),
    _once("404-workspace", AuthenticationError, 404, "WorkSpaceNotFound"),
    _once("404-path", RequestError, 404, "NotFound"),
    _once("400-model", RequestError, 400, "InvalidParameter"),
    _once("400-flat-body", RequestError, 400, "InvalidParameter"),
    _once("400-task", RequestError, 400, "InvalidParameter"),
    _once("400-batch-size", RequestError, 400, "InvalidParameter"),
    _once("400-batch-size-short", RequestError, 400, "InvalidParameter"),
    _once("400-document-long", RequestError, 400, "InvalidParameter"),
    _once("400-blank", RequestError, 400, "InvalidParameter"),
    _once("400-length", RequestError, 400, "InvalidParameter"),
    _once("400-empty-input", RequestError, 400, "BadRequest.EmptyInput"),
    _once("400-content", ContentError, 400, "DataInspectionFailed"),
    _once("400-media-inspection", ContentError, 400, "InvalidParameter.DataInspection"),
    _once("400-media-url", ContentError, 400, "InvalidURL"),
    _once("400-media-timeout", ContentError, 400, "InvalidURL.Timeout"),
    _once("400-media-download", ContentError, 400, "BadRequest.InputDownloadFailed"),
    _once("400-arrearage", QuotaError, 400, "Arrearage"),
    _again("408", ServiceError, 408),
    _once("413", RequestError, 413),
    _again("429-throttling", RateLimitError, 429, "Throttling"),
    _limited("429-rate"),
    _again("429-burst", RateLimitError, 429, "Throttling.BurstRate"),
    _again("429-tokens", RateLimitError, 429, "Throttling.AllocationQuota"),
    _again("429-concurrency", RateLimitError, 429, "concurrency_limit_exceeded"),
    _once("429-free-quota", QuotaError, 429, "Throttling.AllocationQuota"),
    _once("429-not-purchased", QuotaError, 429, "CommodityNotPurchased"),
    _once("429-prepaid", QuotaError, 429, "PrepaidBillOverdue"),
    _once("429-postpaid", QuotaError, 429, "PostpaidBillOverdue"),
    _limited("429-after-seconds", requests=(1, 1), options=_IMPATIENT),
    _limited("429-after-date", requests=(1, 1), options=_IMPATIENT),
    _limited("429-after-10000", requests=(1, 1)),
    _limited("429-after-garbage"),
    _again("500", ServiceError, 500, "InternalError"),
    _again("500-algo", ServiceError, 500, "InternalError.Algo"),
    _once("500-media-length", ContentError, 500, "InternalError.Algo"),
    _again("500-timeout", ServiceError, 500, "InternalError.Timeout"),
    _again("500-capacity", ServiceError, 500, "ModelServingError"),
    _again("503", ServiceError, 503, "ModelUnavailable"),
    _again("503-throttled", RateLimitError, 503, "ModelServingError"),
    _again("504", ServiceError, 504, "GatewayTimeout"),
)
_INSIDE_200 = (
    _once("200-error", RequestError, 200, "InvalidParameter"),
    _again("200-throttling", RateLimitError, 200, "Throttling.RateQuota"),
    _once("200-error-compatible", RequestError, 200, "InvalidParameter"),
    _again("200-unknown-code", ServiceError, 200, "TeapotShortAndStout"),
)
_NO_RANKING = (
    "no-output",
    "results-null",
    "results-empty",
    "results-object",
    "result-missing",
    "result-extra",
    "result-null",
    "index-duplicate",
    "index-negative",
    "index-n",
    "index-string",
    "index-float",
    "index-true",
    "index-null",
    "index-missing",
    "score-nan",
    "score-infinity",
    "score-minus-infinity",
    "score-huge-integer",
    "score-string",
    "score-true",
    "score-null",
    "score-missing",
    "others-results",
)
_RESULTS = (
    *(_again(name, ReplyError, 200) for name in _NO_RANKING),
    _fine("unsorted"),
    _fine("usage-missing"),
    _fine("usage-garbage"),
    _fine("request-id-missing"),
)
_SEVERAL = (
    _again(
        "one-of-five",
        ServiceError,
        500,
        "InternalError",
        told=f"500:holding={_LEMON}",
        options=_FIVE,
        documents=(4,),
        requests=(SENT_AGAIN + 1, SENT_AGAIN + 5),
        wire="Of a call's five requests one gets a 500, each time it is sent.",
    ),
    _once(
        "one-of-five-refused",
        ContentError,
        400,
        "DataInspectionFailed",
        told=f"400-content:holding={_LEMON}",
        options=_FIVE,
        documents=(4,),
        requests=(1, 5),
        wire="Of a call's five requests one is refused for what a document holds.",
    ),
    _once(
        "one-of-five-silent",
        DeadlineError,
        told=f"no-answer:holding={_LEMON}",
        options=_FIVE | _SHORT,
        documents=(4,),
        requests=(0, 5),
        wire="Of a call's five requests one is never answered.",
    ),
    _fine(
        "one-of-five-once",
        told="503:first=1",
        options=_FIVE,
        repeated=True,
        requests=(6, 6),
        wire="Of a call's five requests one gets a 503, and an honest answer when sent again.",
    ),
)
_CLOCK = (
    _fine(
        "clock-back",
        told=None,
        broken="clock",
        wire="The wall clock jumps back an hour each time it is read.",
    ),
    _limited(
        "clock-ahead-date",
        told="429-after-date",
        broken="clock ahead",
        requests=(1, 1),
        options=_IMPATIENT,
        wire="429 with a Retry-After date, and the wall clock is an hour ahead, by which that "
        "were long past; it is read against the Date of the answer.",
    ),
)


def _of(kind: str, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    wire = rows in (_BROKEN_CONNECTIONS, _BROKEN_FRAMES)
    return tuple(
        replace(row, kind=kind, used=(wire and row.requests != (0, 0)) or bool(row.options))
        for row in rows
    )


ROWS = (
    *_of("The connection", _BROKEN_CONNECTIONS),
    *_of("The framing of the answer", _BROKEN_FRAMES),
    *_of("The body of the answer", _BODIES),
    *_of("Refused by status", _REFUSED),
    *_of("Refused inside a 200", _INSIDE_200),
    *_of("Results that are no ranking", _RESULTS),
    *_of("One request of several", _SEVERAL),
    *_of("The clock", _CLOCK),
)
KINDS = tuple(dict.fromkeys(row.kind for row in ROWS))
