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
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from qwen_rerank._advice import Advice, Option, Sentence, advise
from qwen_rerank._models import LIMITS
from qwen_rerank._servers import Server
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
    "Asked",
    "Refusal",
    "among",
    "cools_down",
    "exhausted",
    "explain",
    "is_of_model",
    "listed",
    "meant",
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
    failure = ServiceError(
        f"Nothing could be sent, because this process may {what}: {error}.",
        hint=f"Find out what holds so many, or raise the limit ({limit}).",
    )
    failure._unsent = True
    return failure


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


class Asked(Protocol):
    """What was asked, and who said so: an `Endpoint`.

    Attributes:
        url: The URL.
        host: Its host.
        key_from: What gave the key, for a sentence; "" if none was sent.
        workspace_from: What gave the workspace, likewise.
        places: What the host is made of, likewise; "" for the default.
        is_of_plan: Whether it is the host, or the key, of a plan for chat models.
        given: The options that somebody has set, by name.
    """

    @property
    def url(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def key_from(self) -> str: ...
    @property
    def workspace_from(self) -> str: ...
    @property
    def places(self) -> Advice: ...
    @property
    def is_of_plan(self) -> bool: ...
    @property
    def given(self) -> Mapping[str, Any]: ...


class _Known(NamedTuple):
    """A row of the catalogue: it applies to codes that begin so, or to messages that hold this.

    Attributes:
        kind: Whose move is next.
        codes: Beginnings of the code, in any case.
        said: Parts of the lower-case message.
        hint: What to do; may name {model}, {host}, {url}, {documents}, {key} and {most}.
        names_model: Whether a mistyped name of the model may be why.
    """

    kind: type[RerankError]
    codes: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    hint: tuple[Sentence, ...] = ()
    names_model: bool = False


_SMALLER = ("Send smaller requests: lower {max_documents_per_request=:change}.",)
_SLOWER = (
    (
        "The limit is one for the whole account, over all its keys and programs: lower "
        "{max_concurrency=:change} here, or what else asks."
    ),
)
_MEDIA = (
    (
        "The service fetches media itself: the URLs in {documents} must be public, answer quickly "
        "and send Content-Type and Content-Length."
    ),
)
_PLAN = (
    "The key or the host is of a Token Plan or Coding Plan, which nobody has seen serve rerank: "
    "take a pay-as-you-go key of Model Studio, and the host of its region."
)
_ELSEWHERE = (
    "A key works only in its own region and billing plan.",
    (
        "This call went to {host}, by {places}: is that where the key was made?",
        "This call went to {host}: if the key was made elsewhere, set {region=} or {base_url=}.",
    ),
    (
        "The key is that of {api_key=:now}.",
        "The key was found in {key}; {api_key=} wins over it.",
        (
            "None was sent, because one that is only found goes to Alibaba Cloud and this machine "
            "alone: set {api_key=}."
        ),
    ),
)
_NOT_MINE = (
    "On {host} this key belongs to no such workspace.",
    (
        "Check the id in {workspace=:now}, and that key and workspace are of the same region.",
        (
            "Check the id in {workspace}, and that key and workspace are of the same region; "
            "{workspace=} wins over it."
        ),
        "Check that the key was made in the region of that host.",
    ),
)
_OTHER_BODY = (
    "The server expects another body than that of {spoken}.",
    (
        "Check that {places} belongs to it.",
        "Check what stands between here and {host}.",
    ),
)
_COMPATIBLE_BODY = (
    "{host} expects the other protocol's body at that URL.",
    (
        "Set {protocol='dashscope'}.",
        "Check whether something in between changes requests.",
    ),
)
_UNOFFERED = (
    "{model} is not offered on {host}, or not to this key.",
    (
        "On Alibaba Cloud Singapore lists only qwen3-rerank, qwen3.7-text-rerank is in Beijing "
        "alone, and of other regions no rerank model is known."
    ),
    "qwen3-vl-rerank and gte-rerank-v2 need {protocol='dashscope'}.",
)

_THEIRS = ("That is on the service's side: try again later, and ask its support if it goes on.",)

# The first row that applies wins, so what is particular stands before what is general, and a text
# that decides about a code stands before the code.
_CATALOGUE = (
    _Known(
        QuotaError,
        ("AllocationQuota.FreeTierOnly",),
        hint=(
            ("The free quota of {model} is used up and the console's 'free quota only' is on: turn "
            "it off to pay for calls; waiting does not help."),
        ),
    ),
    _Known(
        QuotaError,
        said=("free allocated quota exceeded",),
        hint=(
            ("The free quota is used up: enable pay-as-you-go in the Model Studio console; waiting "
            "does not help."),
        ),
    ),
    _Known(
        QuotaError,
        ("Arrearage", "PrepaidBillOverdue", "PostpaidBillOverdue"),
        hint=("A bill is overdue: top up the Alibaba Cloud account; waiting does not help.",),
    ),
    _Known(
        QuotaError,
        ("CommodityNotPurchased",),
        hint=(
            ("The account has not bought this service: enable pay-as-you-go in the Model Studio "
            "console; waiting does not help."),
        ),
    ),
    _Known(
        ContentError,
        ("InvalidParameter.DataInspection", "InvalidURL", "BadRequest.InputDownloadFailed"),
        ("missing content-length of multimodal url",),
        _MEDIA,
    ),
    _Known(
        ContentError,
        ("DataInspectionFailed", "data_inspection_failed"),
        hint=(
            ("Moderation refused the query or something in {documents}, without saying what: rank "
            "the documents in halves to find it."),
        ),
    ),
    _Known(AuthenticationError, ("InvalidApiKey", "invalid_api_key"), hint=_ELSEWHERE),
    _Known(
        AuthenticationError,
        ("NOT AUTHORIZED", "Workspace.AccessDenied", "WorkspaceNotFound"),
        hint=_NOT_MINE,
    ),
    # Seen with 403 for a model that is not enabled, and as the text of AccessDenied.Unpurchased.
    _Known(
        AuthenticationError,
        ("AccessDenied.Unpurchased",),
        ("access to model denied",),
        (
            ("Open {model} in the Model Studio console of the region of {host}, and enable it "
            "there; a new account has to activate Model Studio first."),
        ),
    ),
    _Known(
        AuthenticationError,
        ("Model.AccessDenied",),
        hint=(
            ("The key's workspace has no grant for {model}: grant it in the console, or use a key "
            "of the default workspace."),
        ),
    ),
    _Known(
        AuthenticationError,
        ("AccessDenied",),
        hint=(
            ("Check in the console that the key's workspace may use {model} on {host}; a used-up "
            "quota without pay-as-you-go is refused with this code too."),
        ),
    ),
    _Known(
        RequestError,
        ("model_not_supported",),
        ("unsupported model",),
        (
            (
                "{model} is not offered on this route: set {protocol='dashscope'}.",
                "{model} is not offered on this route of {host}: name another model.",
            ),
        ),
        names_model=True,
    ),
    _Known(
        RequestError,
        ("ModelNotFound", "model_not_found", "Model.NotExist", "InvalidModel"),
        ("model not exist",),
        _UNOFFERED,
        names_model=True,
    ),
    _Known(
        RateLimitError,
        ("Throttling.BurstRate", "limit_burst_rate"),
        hint=(
            ("The rate of requests rose too quickly: lower {max_concurrency=:change}, or begin "
            "with few."),
        ),
    ),
    _Known(
        RateLimitError,
        ("Throttling.AllocationQuota", "insufficient_quota"),
        hint=(
            ("The account's tokens per minute are used up, over all its keys: wait a minute, lower "
            "{max_concurrency=:change}, or raise the quota in the console."),
        ),
    ),
    # A 503 too says "[Too many requests...]" where nothing is broken.
    _Known(
        RateLimitError,
        ("Throttling", "limit_requests", "concurrency_limit_exceeded"),
        ("[too many requests",),
        _SLOWER,
    ),
    _Known(
        RequestError,
        said=("batch size of documents is invalid", "batch size is invalid"),
        hint=_SMALLER,
    ),
    _Known(
        RequestError,
        said=("it should not be larger than 300000",),
        hint=("Shorten {documents} or leave out what cannot be shorter.",),
    ),
    _Known(
        RequestError,
        said=("text input should not be empty",),
        hint=("The service takes a text of {documents} for blank: leave it out.",),
    ),
    _Known(
        RequestError,
        said=("range of input length",),
        hint=(
            ("Too long for the service, by its own count: the query, or most likely {documents}. "
            "Shorten it."),
        ),
    ),
    # A flat body on the native route; what the compatible route says of a nested one is not known.
    _Known(RequestError, said=("field required: input.",), hint=_COMPATIBLE_BODY),
    _Known(
        RequestError,
        said=("task can not be null",),
        hint=(
            "The URL is of another task than rerank: {url}.",
            ("Check {places}.", "Check what stands between here and {host}."),
        ),
    ),
    _Known(RequestError, ("BadRequest.",), hint=_OTHER_BODY),
    _Known(
        ServiceError,
        ("InternalError.Timeout", "RequestTimeOut"),
        hint=(
            ("The service gave up on {documents}. Smaller requests are answered sooner: lower "
            "{max_documents_per_request=:change}."),
        ),
    ),
    _Known(
        ServiceError,
        ("InternalError", "internal_error", "SystemError", "ModelServ", "ModelUnavailable",
         "ServiceUnavailable", "GatewayTimeout"),
        hint=_THEIRS,
    ),
)  # fmt: skip
_RETIRED = ("gte-rerank was retired on 2026-05-30: set {model='qwen3-rerank'}.",)

_REDIRECT = (
    "Redirects are not followed, because they could take the key elsewhere. This one leads to "
    "{location}: if that is right, set {base_url=:change} to it."
)

# Where no code says more.
_NOWHERE = (
    "Nothing is served there for rerank.",
    (
        (
            "Check {base_url=:now}, and that it belongs to {spoken}; if it is a server of your "
            "own, say which: {server=}."
        ),
        "Check {places}, and what stands between here and there.",
        "Check what stands between here and {host}.",
    ),
)
_LOGIN = ("The proxy wants a login: put it into the proxy's own setting.",)
_BY_STATUS: dict[int, tuple[type[RerankError], tuple[Sentence, ...]]] = {
    401: (AuthenticationError, _ELSEWHERE),
    403: (
        AuthenticationError,
        ("Check in the console that the key's workspace may use {model} on {host}.",),
    ),
    404: (RequestError, _NOWHERE),
    405: (RequestError, _NOWHERE),
    407: (RequestError, _LOGIN),
    408: (ServiceError, ()),
    413: (RequestError, _SMALLER),
    429: (RateLimitError, _SLOWER),
}


# Of servers that people run themselves: by what they say, and else by their statuses, which mean
# what they say. Seen with vLLM 0.32.0, Infinity 0.0.78, Xinference 4.1.0 and LiteLLM 1.108.7.
_BAD_KEY = (
    AuthenticationError,
    (
        (
            "{host} wants another key than {api_key=:now}.",
            (
                "{host} wants a key: pass {api_key=}. With {whose} none is taken from the "
                "environment."
            ),
        ),
    ),
)
_ITS_LOG = "The log of {host} says why."
_BUSY = "more to do than it takes: lower {max_concurrency=:change}, or start more of it."
_NO_RERANKER = (
    (
        "What {host} serves is no reranker, or was not started as one. vLLM needs --runner "
        "pooling, and for an original Qwen3-Reranker --hf-overrides and --chat-template too."
    ),
)
_TOO_LONG = _Known(
    RequestError,
    said=("context length", "maximum input length", "max_model_len"),
    hint=(
        "Too long for the server together with the query: {documents}.",
        (
            "Set {room}, and {long_documents=:change} says what becomes of such.",
            "Lower {max_model_len=:now}: it takes {most} at most, and counts more than we do.",
        ),
    ),
)
_OTHER_MODEL = _Known(
    RequestError,
    said=("` does not exist", "model not found", "invalid model", "engine for model name"),
    hint=("{model} is not served by {host}: set {model=:change} to one that is.",),
)
_COOLS = _Known(
    RateLimitError,
    said=("no deployments available",),
    hint=(
        (
            "The gateway lets what is behind it rest after a failure, for everybody; its log says "
            "which. num_retries: 0 in its settings leaves it to this client to ask again."
        ),
    ),
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
        hint=("{model} reads texts only: leave images out, or serve a Qwen3-VL-Reranker.",),
    ),
    _Known(AuthenticationError, said=("no_db_connection", "no connected db"), hint=_BAD_KEY[1]),
    _COOLS,
    _Known(RateLimitError, said=("overload",), hint=(f"It has {_BUSY}",)),
)  # fmt: skip
_BY_STATUS_OF_OWN: dict[int, tuple[type[RerankError], tuple[Sentence, ...]]] = {
    401: _BAD_KEY,
    403: _BAD_KEY,
    407: _BY_STATUS[407],
    408: (ServiceError, ()),
    413: _BY_STATUS[413],
    424: (ServiceError, (_ITS_LOG,)),  # what TEI answers where its model failed
    429: (RateLimitError, (f"It has {_BUSY}",)),
    501: (RequestError, _NO_RERANKER),
    503: (ServiceError, (f"It is starting, or has {_BUSY}",)),
}
# Of a key that the gateway itself has.
_UPSTREAM_KEY = (
    (
        "What is behind {host} refused the key that is in the gateway's own settings: mend it "
        "there. The one that this call carries is another."
    ),
)
_WHAT_ANSWERS = "Check {places} and {model=:change}, and whether {whose} is what answers there."


def own_server(asked: Asked, server: Server | None) -> Advice | None:
    """What to look at when another server than *server* may have answered; None for DashScope."""
    if server is None:
        return None
    return advise(_WHAT_ANSWERS, places=asked.places, whose=_whose(server))


def _whose(server: Server | None) -> Advice:
    return Advice(Option("server", repr(server), "change"))


def explain(
    refusal: Refusal, request: Request, asked: Asked, server: Server | None = None
) -> RerankError:
    """The error that *refusal* of *request* stands for.

    Args:
        refusal: What was said.
        request: What was asked.
        asked: Where, and with which options.
        server: What kind of server that is; None for DashScope.
    """
    wrapped = _wrapped(refusal.message) if server == "litellm" else None
    if wrapped is not None:
        refusal = refusal._replace(code=wrapped)
    known, said = _known(refusal, server), (refusal.message or "").lower()
    too_long = known == _TOO_LONG
    most = _most_tokens(said) if too_long else None
    documents = (
        _over(request, most) if too_long else _concerned(said, request, media=known.hint == _MEDIA)
    )
    error = known.kind(
        refusal.message or f"{asked.host} answered without saying why",
        code=refusal.code,
        status=refusal.status,
        request_id=refusal.request_id,
        hint=advise(
            *_hint(known, refusal, request, asked),
            given=asked.given,
            model=request.model,
            host=asked.host,
            url=asked.url,
            key=asked.key_from,
            workspace=asked.workspace_from,
            places=asked.places,
            spoken=Advice(Option("protocol", repr(asked.given.get("protocol")), "change")),
            documents=listed(documents) if documents else "the query",
            room=Advice(Option("max_model_len", None if most is None else str(most))),
            most=most or "less",
            near=meant(request.model, LIMITS),
            whose=_whose(server),
            location=refusal.location,
        )
        or None,
        retry_after=float(wait[1])
        if server and (wait := re.search(r"try again in (\d{1,4}) seconds", said))
        else None,
        documents=documents,
    )
    if too_long:
        error.passes_through = True  # by its tokenizer, of which the caller need not know
    if server == "litellm" and re.search(r"litellm retried: [1-9]", said):
        error.retryable = False  # by the gateway, as often as it was told to
    return error


def _known(refusal: Refusal, server: Server | None) -> _Known:
    """The row that *refusal* is one of."""
    # The inner service's codes arrive bare or behind the prefix of the layer that passes them on.
    code = re.sub(r"^internalerror\.algo\.(?=.)", "", (refusal.code or "").lower())
    said = (refusal.message or "").lower()
    if server is None:
        return _meaning(code, said, refusal.status)
    if server == "litellm" and (upstream := _upstream(code, said)) is not None:
        return upstream
    return _meaning_of_own(code, said, refusal.status, server)


def _hint(known: _Known, refusal: Refusal, request: Request, asked: Asked) -> tuple[Sentence, ...]:
    """What to do about *refusal*, which is one of *known*."""
    hint = known.hint
    if refusal.location is not None:
        return (_REDIRECT,)
    about_the_plan = known.kind is AuthenticationError or known.names_model
    if asked.is_of_plan and (about_the_plan or refusal.status in (404, 405)):
        hint = (_PLAN,)
    elif request.model == "gte-rerank" and any("{model}" in str(sentence) for sentence in hint):
        hint = _RETIRED
    elif known.names_model:
        hint = ("{near}", *hint)
    return (*hint, "It was asked at {url}.") if refusal.status in (404, 405) else hint


def meant(model: str, served: Iterable[str]) -> Advice:
    """What to write instead of *model*, if one that is *served* has a like name; else ""."""
    names = {name.lower(): name for name in served}
    import difflib  # noqa: PLC0415  `_shared` has done so before the first call

    near = difflib.get_close_matches(model.lower(), names, n=1, cutoff=0.75)
    if not near or names[near[0]] == model:
        return Advice()
    return Advice("Did you mean ", Option("model", repr(names[near[0]])), "?")


def among(hint: str | None, request: Request, served: tuple[str, ...]) -> str | None:
    """*hint* to a *request* for a model that is not among those *served*, and which those are."""
    if hint is None or not served:
        return hint
    more = f" and {len(served) - 5:,} more" if len(served) > 5 else ""
    near = meant(request.model, served)
    return hint + Advice(
        f" It serves {', '.join(served[:5])}{more}.", *([" ", *near.parts] if near else ())
    )


def cools_down(error: RerankError) -> bool:
    """Whether a gateway says only that it asks nobody after an earlier failure."""
    return isinstance(error, RateLimitError) and _says(_COOLS, "", error.message.lower())


def is_of_model(error: RerankError) -> bool:
    """Whether a server of one's own does not serve the model that was asked for."""
    return isinstance(error, RequestError) and _says(_OTHER_MODEL, "", error.message.lower())


def _says(known: _Known, code: str, said: str) -> bool:
    codes = tuple(map(str.lower, known.codes))
    return code.startswith(codes) or any(part in said for part in known.said)


def _wrapped(message: str | None) -> str | None:
    """The code of what is behind a gateway that quotes its refusal, or None."""
    found = re.search(r"""[{,]\s*["']code["']\s*:\s*["']([A-Za-z_][\w.]+)["']""", message or "")
    return None if found is None else found[1]


def _upstream(code: str, said: str) -> _Known | None:
    """What a refusal that a gateway passes on means, if it is one of DashScope's."""
    for known in _CATALOGUE:
        if _says(known, code, said):
            of_key = known.kind is AuthenticationError
            return known._replace(hint=_UPSTREAM_KEY) if of_key else known
    if "litellm.authenticationerror" in said or "litellm.permissiondeniederror" in said:
        return _Known(AuthenticationError, hint=_UPSTREAM_KEY)
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


def _meaning(code: str, said: str, status: int) -> _Known:
    for known in _CATALOGUE:
        if _says(known, code, said):
            return known
    kind: type[RerankError] = ServiceError
    hint: tuple[Sentence, ...] = ()
    if code.endswith(".accessdenied"):
        kind, hint = _BY_STATUS[403]
    elif status in _BY_STATUS:
        kind, hint = _BY_STATUS[status]
    # A redirect is never followed, and a 2xx with a code that nobody documents decides nothing.
    elif 400 <= status < 500 or (status < 400 and code.startswith(("invalid", "model"))):
        kind = RequestError
    elif status >= 500:
        hint = _THEIRS
    return _Known(kind, hint=hint)


def _meaning_of_own(code: str, said: str, status: int, server: Server) -> _Known:
    for known in _OWN:
        if _says(known, code, said):
            return known
    if status in (404, 405):  # a path that this server serves to rerankers only, or not at all
        more = _NO_RERANKER if server == "vllm" else ()
        return _Known(RequestError, hint=(_WHAT_ANSWERS, *more))
    if status in _BY_STATUS_OF_OWN:
        kind, hint = _BY_STATUS_OF_OWN[status]
        return _Known(kind, hint=hint)
    if status > 500:
        return _Known(ServiceError, hint=(_ITS_LOG,))
    # 500 is also what LiteLLM and Xinference make of a body that they do not understand.
    return _Known(RequestError if 400 <= status < 500 else ServiceError, hint=(_WHAT_ANSWERS,))


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
