"""What a refusal of the service means: whose move is next, and what to do; pure, as one table.

Codes and texts are those of the vendor's catalogue (docs.qwencloud.com/api-reference/preparation/
error-messages and help.aliyun.com/zh/model-studio/error-code, read in 2026) and of refusals that
users of the service published. None was seen by this project.
"""

from __future__ import annotations

import errno
import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from qwen_rerank._dialects import Server
from qwen_rerank._values import Request, positions
from qwen_rerank.errors import (
    AuthenticationError,
    ContentError,
    QuotaError,
    RateLimitError,
    RequestError,
    RerankError,
    ServiceError,
)
from qwen_rerank.media import is_data_uri

__all__ = ["Refusal", "exhausted", "explain", "listed", "own_server"]


def exhausted(error: BaseException) -> ServiceError | None:
    """*error* in words of ours, if it says that this process may open or start no more."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        what, limit = "open no more files", "ulimit -n"
    elif isinstance(error, RuntimeError) and "start new thread" in str(error):
        what, limit = "start no more threads", "ulimit -u, or a container's limit of processes"
    else:
        return None
    return ServiceError(
        f"Nothing could be sent, because this process may {what}: {error}.",
        hint=f"Find out what keeps them, or raise the limit ({limit}).",
    )


class Refusal(NamedTuple):
    """What the service said, as it said it.

    Attributes:
        status: HTTP status; DashScope can refuse with a 200.
        code: Its code, or None.
        message: Its words, or None.
        request_id: Its id, or None.
        location: Where a redirect leads, or None.
    """

    status: int
    code: str | None
    message: str | None
    request_id: str | None
    location: str | None = None


class _Known(NamedTuple):
    """A row of the catalogue: it applies to codes that begin so, or to messages that hold this.

    Attributes:
        kind: Whose move is next.
        codes: Beginnings of the lower-case code.
        said: Parts of the lower-case message.
        hint: What to do; may name {model}, {host} and {documents}.
    """

    kind: type[RerankError]
    codes: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    hint: str | None = None


_SMALLER = "Send smaller requests: lower max_documents_per_request=."
_MEDIA = (
    "The service fetches media itself: the URLs in {documents} must be public, answer quickly and "
    "send Content-Type and Content-Length."
)
_OTHER_BODY = "The server expects another body: check that base_url= and protocol= belong together."

# The first row that applies wins, so what is particular stands before what is general, and a text
# that decides about a code stands before the code.
_CATALOGUE = (
    _Known(
        QuotaError,
        ("allocationquota.freetieronly",),
        hint="The free quota of {model} is used up and the console's 'free quota only' is on: turn "
        "it off to pay for calls; waiting does not help.",
    ),
    _Known(
        QuotaError,
        said=("free allocated quota exceeded",),
        hint="The free quota is used up: enable pay-as-you-go in the Model Studio console; waiting "
        "does not help.",
    ),
    _Known(
        QuotaError,
        ("arrearage", "prepaidbilloverdue", "postpaidbilloverdue"),
        hint="A bill is overdue: top up the Alibaba Cloud account; waiting does not help.",
    ),
    _Known(
        QuotaError,
        ("commoditynotpurchased",),
        hint="The account has not bought this service: enable pay-as-you-go in the Model Studio "
        "console; waiting does not help.",
    ),
    _Known(
        ContentError,
        ("invalidparameter.datainspection", "invalidurl", "badrequest.inputdownloadfailed"),
        ("missing content-length of multimodal url",),
        _MEDIA,
    ),
    _Known(
        ContentError,
        ("datainspectionfailed", "data_inspection_failed"),
        hint="Moderation refused the query or something in {documents}, without saying what: rank "
        "the documents in halves to find it.",
    ),
    _Known(
        AuthenticationError,
        ("invalidapikey", "invalid_api_key"),
        hint="A key works only in its own region and billing plan. This call went to {host}: set "
        "region= or base_url= to where the key was made. (A key from the environment is sent to "
        "Alibaba Cloud and loopback only; any other host needs api_key=.)",
    ),
    _Known(
        AuthenticationError,
        ("not authorized", "workspace.accessdenied", "workspacenotfound"),
        hint="Check workspace= and the region: on {host} this key belongs to no such workspace.",
    ),
    _Known(
        AuthenticationError,
        ("accessdenied.unpurchased",),
        hint="Activate Model Studio for this account, in the region of {host}.",
    ),
    _Known(
        AuthenticationError,
        ("model.accessdenied",),
        hint="The key's workspace has no grant for {model}: grant it in the console, or use a key "
        "of the default workspace.",
    ),
    _Known(
        AuthenticationError,
        ("accessdenied",),
        hint="Check that the key's workspace may use {model} on {host}; a used-up quota without "
        "pay-as-you-go is refused with this code too.",
    ),
    _Known(
        RequestError,
        ("model_not_supported",),
        ("unsupported model",),
        "{model} is not offered on this route: use protocol='dashscope'.",
    ),
    _Known(
        RequestError,
        ("modelnotfound", "model_not_found", "model.notexist"),
        ("model not exist",),
        "Check the name: {model} may not be offered on {host} or by this protocol. On Alibaba "
        "Cloud qwen3-vl-rerank and gte-rerank-v2 need protocol='dashscope', Singapore lists only "
        "qwen3-rerank, and whether regions other than it and Beijing serve any is not known.",
    ),
    _Known(
        RateLimitError,
        ("throttling.burstrate", "limit_burst_rate"),
        hint="The rate of requests rose too quickly: lower max_concurrency=.",
    ),
    _Known(
        RateLimitError,
        ("throttling.allocationquota", "insufficient_quota"),
        hint="The account's tokens per minute are used up; they count over all its keys.",
    ),
    _Known(
        RateLimitError,
        ("throttling", "limit_requests"),
        hint="Requests are limited per account, over all its keys: lower max_concurrency=.",
    ),
    _Known(RequestError, said=("batch size of documents",), hint=_SMALLER),
    _Known(
        RequestError,
        said=("it should not be larger than 300000",),
        hint="Shorten {documents}, or leave it out.",
    ),
    _Known(
        RequestError,
        said=("text input should not be empty",),
        hint="A text counts as blank for the service: leave it out, among {documents}.",
    ),
    _Known(
        RequestError,
        said=("range of input length",),
        hint="Too long for the service, by its own count: the query, or most likely {documents}. "
        "Shorten it.",
    ),
    _Known(RequestError, ("badrequest.",), hint=_OTHER_BODY),
    _Known(
        ServiceError,
        ("internalerror.timeout", "requesttimeout"),
        hint="Smaller requests are answered sooner: lower max_documents_per_request=.",
    ),
    _Known(
        ServiceError,
        ("internalerror", "internal_error", "systemerror", "modelserv", "modelunavailable",
         "serviceunavailable", "gatewaytimeout"),
    ),
)  # fmt: skip
_RETIRED = "gte-rerank was retired on 2026-05-30: use model='qwen3-rerank'."

# Where no code says more.
_BY_STATUS: dict[int, tuple[type[RerankError], str | None]] = {
    401: (AuthenticationError, "Check the key: {host} refused it."),
    403: (AuthenticationError, "Check that the key's workspace may use {model} on {host}."),
    404: (
        RequestError,
        "Nothing is served there: check base_url=, protocol=, server=, workspace=.",
    ),
    407: (RequestError, "The proxy wants a login: put it into the proxy's own setting."),
    408: (ServiceError, None),
    413: (RequestError, _SMALLER),
    429: (RateLimitError, None),
}


# Of servers that people run themselves, whose codes are many and whose statuses mean what they say.
_BAD_KEY = (
    AuthenticationError,
    "{host} wants another key: pass api_key=. With server= none is taken from the environment.",
)
_BY_STATUS_OF_OWN: dict[int, tuple[type[RerankError], str | None]] = {
    401: _BAD_KEY,
    403: _BAD_KEY,
    407: _BY_STATUS[407],
    408: (ServiceError, None),
    413: _BY_STATUS[413],
    424: (ServiceError, None),  # what TEI answers where its model failed
    429: (RateLimitError, None),
    501: (RequestError, "What {host} serves is no reranker, or was not started as one."),
}
_NO_RERANKER = ("is not a re-ranker", "does not support rerank")  # TEI and vLLM, with any status


def own_server(server: Server | None) -> str | None:
    """What to look at when another server than *server* may have answered; None for DashScope."""
    if server is None:
        return None
    return f"Check base_url= and model=, and whether server={server!r} is what answers there."


def explain(
    refusal: Refusal, request: Request, host: str, server: Server | None = None
) -> RerankError:
    """The error that *refusal* of *request* stands for.

    Args:
        refusal: What was said.
        request: What was asked.
        host: Who said it, for hints.
        server: What kind of server that is; None for DashScope.
    """
    # The inner service's codes arrive bare or behind the prefix of the layer that passes them on.
    code = re.sub(r"^internalerror\.algo\.(?=.)", "", (refusal.code or "").lower())
    said = (refusal.message or "").lower()
    kind, hint = (
        _meaning(code, said, refusal.status)
        if server is None
        else _meaning_of_own(said, refusal.status, server)
    )
    if request.model == "gte-rerank" and hint and "{model}" in hint:
        hint = _RETIRED
    documents = _concerned(said, request, media=hint == _MEDIA)
    if hint is not None:
        named = listed(documents) if documents else "the query"
        hint = hint.format(model=request.model, host=host, documents=named)
    if refusal.location is not None:
        hint = (
            "Redirects are not followed, because they could take the key elsewhere. This one leads "
            f"to {refusal.location}: if that is right, set base_url= to it."
        )
    return kind(
        refusal.message or f"{host} answered without saying why",
        code=refusal.code,
        status=refusal.status,
        request_id=refusal.request_id,
        hint=hint,
        documents=documents,
    )


def _meaning(code: str, said: str, status: int) -> tuple[type[RerankError], str | None]:
    for known in _CATALOGUE:
        if code.startswith(known.codes) or any(part in said for part in known.said):
            return known.kind, known.hint
    if code.endswith(".accessdenied"):
        return _BY_STATUS[403]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return ServiceError, None
    if status >= 400:
        return RequestError, None
    # A redirect is never followed, and a 2xx with a code that nobody documents decides nothing.
    return (RequestError if code.startswith(("invalid", "model")) else ServiceError), None


def _meaning_of_own(said: str, status: int, server: Server) -> tuple[type[RerankError], str | None]:
    if any(part in said for part in _NO_RERANKER):
        return _BY_STATUS_OF_OWN[501]
    if status in _BY_STATUS_OF_OWN:
        return _BY_STATUS_OF_OWN[status]
    if status > 500:
        return ServiceError, None
    # 500 is also what LiteLLM and Xinference make of a body that they do not understand.
    return RequestError if 400 <= status < 500 else ServiceError, own_server(server)


def _concerned(said: str, request: Request, *, media: bool) -> tuple[int, ...]:
    """Positions of the documents that *said* is about: one that it names, or else all."""
    items = request.items
    if (named := re.search(r"document index:(\d{1,9})", said)) and int(named[1]) < len(items):
        return positions([items[int(named[1])]])
    if media and (fetched := [item for item in items if item.is_fetched]):
        return positions(fetched)
    if media and request.query_kind != "text" and not is_data_uri(request.query):
        return ()
    if "text input should not be empty" in said:
        items = tuple(item for item in items if _looks_blank(item.text)) or items
    elif "range of input length" in said:
        items = (max(items, key=lambda item: item.tokens),) if items else ()
    return positions(items)


def _looks_blank(text: str) -> bool:
    return not any(unicodedata.category(character)[0] in "LNPS" for character in text)


def listed(places: Iterable[int]) -> str:
    """The positions *places* for a sentence: ``document 3``, ``documents 0 to 4 and 7``."""
    runs = [
        [place for _, place in run]
        for _, run in groupby(enumerate(places), lambda pair: pair[1] - pair[0])
    ]
    shown = [
        part
        for run in runs
        for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))
    ]
    if not shown:
        return "the documents"
    if len(shown) > 10:
        shown = [*shown[:9], f"{len(shown) - 9} more places"]
    *head, last = shown
    many = "s" if len(runs) > 1 or len(runs[0]) > 1 else ""
    return f"document{many} {', '.join(head)}{' and ' if head else ''}{last}"
