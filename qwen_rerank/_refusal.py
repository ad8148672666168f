"""What a refusal of the service means: whose move is next, and what to do; pure, as one table.

Codes and texts are those of the vendor's catalogue (docs.qwencloud.com/api-reference/preparation/
error-messages and help.aliyun.com/zh/model-studio/error-code, read in 2026) and of refusals that
users of the service published. None of these was seen by this project; what servers of one's own
say was, but of TEI and SGLang.
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

__all__ = [
    "Refusal",
    "cools_down",
    "exhausted",
    "explain",
    "is_of_model",
    "listed",
    "own_server",
]


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
_NOWHERE = (
    RequestError,
    "Nothing is served there: check base_url=, protocol=, server=, workspace=.",
)
_BY_STATUS: dict[int, tuple[type[RerankError], str | None]] = {
    401: (AuthenticationError, "Check the key: {host} refused it."),
    403: (AuthenticationError, "Check that the key's workspace may use {model} on {host}."),
    404: _NOWHERE,
    405: _NOWHERE,
    407: (RequestError, "The proxy wants a login: put it into the proxy's own setting."),
    408: (ServiceError, None),
    413: (RequestError, _SMALLER),
    429: (RateLimitError, None),
}


# Of servers that people run themselves: by what they say, and else by their statuses, which mean
# what they say. Seen with vLLM 0.32.0, Infinity 0.0.78, Xinference 4.1.0 and LiteLLM 1.108.7.
_BAD_KEY = (
    AuthenticationError,
    "{host} wants another key: pass api_key=. With server= none is taken from the environment.",
)
_BUSY = "It has more to do than it takes: lower max_concurrency=, or start more of it."
_NO_RERANKER = (
    "What {host} serves is no reranker, or was not started as one. vLLM needs --runner pooling, "
    "and for an original Qwen3-Reranker --hf-overrides and --chat-template too."
)
_TOO_LONG = _Known(
    RequestError,
    said=("context length", "maximum input length", "max_model_len"),
    hint="Too long for the server together with the query: {documents}. Set max_model_len={most}, "
    "and long_documents= says what becomes of such.",
)
_OTHER_MODEL = _Known(
    RequestError,
    said=("` does not exist", "model not found", "invalid model", "engine for model name"),
    hint="{model} is not served by {host}.",
)
_COOLS = _Known(
    RateLimitError,
    said=("no deployments available",),
    hint="The gateway lets what is behind it rest after a failure, for everybody; its log says "
    "which. num_retries: 0 in its settings leaves it to this client to ask again.",
)
_OWN = (
    _TOO_LONG,
    _Known(
        RequestError,
        said=("is not a re-ranker", "does not support rerank", "does not support `rerank`",
              "is not for rerank", "does not support score"),
        hint=_NO_RERANKER,
    ),
    _OTHER_MODEL,
    _Known(
        RequestError,
        said=("multimodalparam is not supported",),
        hint="{model} reads texts only.",
    ),
    _Known(AuthenticationError, said=("no_db_connection", "no connected db"), hint=_BAD_KEY[1]),
    _COOLS,
    _Known(RateLimitError, said=("overload",), hint=_BUSY),
)  # fmt: skip
_BY_STATUS_OF_OWN: dict[int, tuple[type[RerankError], str | None]] = {
    401: _BAD_KEY,
    403: _BAD_KEY,
    407: _BY_STATUS[407],
    408: (ServiceError, None),
    413: _BY_STATUS[413],
    424: (ServiceError, None),  # what TEI answers where its model failed
    429: (RateLimitError, _BUSY),
    501: (RequestError, _NO_RERANKER),
    503: (ServiceError, f"It is starting, or: {_BUSY[0].lower()}{_BUSY[1:]}"),
}
# Of a key that the gateway itself has.
_UPSTREAM_KEY = (
    "What is behind {host} refused the key that is in the gateway's own settings; api_key= of this "
    "call is another one."
)


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
    wrapped = _wrapped(refusal.message) if server == "litellm" else None
    if wrapped is not None:
        refusal = refusal._replace(code=wrapped)
    # The inner service's codes arrive bare or behind the prefix of the layer that passes them on.
    code = re.sub(r"^internalerror\.algo\.(?=.)", "", (refusal.code or "").lower())
    said = (refusal.message or "").lower()
    if server is None:
        kind, hint = _meaning(code, said, refusal.status)
    elif server == "litellm" and (upstream := _upstream(code, said)) is not None:
        kind, hint = upstream
    else:
        kind, hint = _meaning_of_own(code, said, refusal.status, server)
    if request.model == "gte-rerank" and hint and "{model}" in hint:
        hint = _RETIRED
    too_long = server is not None and hint == _TOO_LONG.hint
    most = _most_tokens(said) if too_long else None
    documents = (
        _over(request, most) if too_long else _concerned(said, request, media=hint == _MEDIA)
    )
    if hint is not None:
        named = listed(documents) if documents else "the query"
        hint = hint.format(model=request.model, host=host, documents=named, most=most or "...")
    if refusal.location is not None:
        hint = (
            "Redirects are not followed, because they could take the key elsewhere. This one leads "
            f"to {refusal.location}: if that is right, set base_url= to it."
        )
    error = kind(
        refusal.message or f"{host} answered without saying why",
        code=refusal.code,
        status=refusal.status,
        request_id=refusal.request_id,
        hint=hint,
        retry_after=float(wait[1]) if server and (wait := _WAIT.search(said)) else None,
        documents=documents,
    )
    if too_long:
        error.passes_through = True  # by its tokenizer, of which the caller need not know
    if server == "litellm" and _REPEATED.search(said):
        error.retryable = False  # by the gateway, as often as it was told to
    return error


def cools_down(error: RerankError) -> bool:
    """Whether a gateway says only that it asks nobody after an earlier failure."""
    return isinstance(error, RateLimitError) and _says(_COOLS, "", error.message.lower())


def is_of_model(error: RerankError) -> bool:
    """Whether a server of one's own does not serve the model that was asked for."""
    return isinstance(error, RequestError) and _says(_OTHER_MODEL, "", error.message.lower())


def _says(known: _Known, code: str, said: str) -> bool:
    return code.startswith(known.codes) or any(part in said for part in known.said)


_REPEATED = re.compile(r"litellm retried: [1-9]")
_WAIT = re.compile(r"try again in (\d{1,4}) seconds")


def _wrapped(message: str | None) -> str | None:
    """The code of what is behind a gateway that quotes its refusal, or None."""
    found = re.search(r"""[{,]\s*["']code["']\s*:\s*["']([A-Za-z_][\w.]+)["']""", message or "")
    return None if found is None else found[1]


def _upstream(code: str, said: str) -> tuple[type[RerankError], str | None] | None:
    """What a refusal that a gateway passes on means, if it is one of DashScope's."""
    for known in _CATALOGUE:
        if _says(known, code, said):
            if known.kind is AuthenticationError:
                return known.kind, _UPSTREAM_KEY
            return known.kind, known.hint
    if "litellm.authenticationerror" in said or "litellm.permissiondeniederror" in said:
        return AuthenticationError, _UPSTREAM_KEY
    return None


def _most_tokens(said: str) -> int | None:
    """How many tokens a server says that a pair may have."""
    found = re.search(r"length (?:is|of)?\s*\(?(\d{1,9})", said)
    return None if found is None else int(found[1])


def _over(request: Request, most: int | None) -> tuple[int, ...]:
    """Positions of the documents of *request* that have more than *most* tokens with the query.

    Our counts are not the server's, so where none has by them it is the longest.
    """
    items = request.items
    around = (request.tokens - sum(item.tokens for item in items)) // max(len(items), 1)
    over = [item for item in items if most is not None and item.tokens + around > most]
    longest = max((item.tokens for item in items), default=0)
    return positions(over or [item for item in items if item.tokens == longest])


def _meaning(code: str, said: str, status: int) -> tuple[type[RerankError], str | None]:
    for known in _CATALOGUE:
        if _says(known, code, said):
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


def _meaning_of_own(
    code: str, said: str, status: int, server: Server
) -> tuple[type[RerankError], str | None]:
    for known in _OWN:
        if _says(known, code, said):
            return known.kind, known.hint
    if status in (404, 405):  # a path that this server serves to rerankers only, or not at all
        hint = own_server(server)
        return RequestError, f"{hint} {_NO_RERANKER}" if server == "vllm" else hint
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
