"""What the vendor's refusals mean: through `_wire.decode`, which is how they arrive."""

import json

import pytest

from qwen_rerank import _wire, errors
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._refusal import listed
from qwen_rerank._values import Answer, Item, Place, Request
from qwen_rerank.emulator._faults import BY_NAME
from qwen_rerank.emulator._script import ErrorBody, Reply
from qwen_rerank.emulator._service import RefusedError
from qwen_rerank.emulator._wire import COMPATIBLE

_HOST = "dashscope.aliyuncs.com"
_ASKED = Endpoint(
    f"https://{_HOST}/rerank",
    _HOST,
    local=False,
    api_key=None,
    workspace=None,
    found_in={"key": "a file", "host": "", "workspace": "a file"},
    given={"protocol": "compatible"},
)
_AUTH, _QUOTA = errors.AuthenticationError, errors.QuotaError
_CALL, _CONTENT = errors.RequestError, errors.ContentError
_RATE, _SERVICE = errors.RateLimitError, errors.ServiceError


def _results(*scores):
    return [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]


def _request(*texts, model="qwen3-rerank", first=0):
    items = [Item(text, len(text), (Place(first + i),)) for i, text in enumerate(texts)]
    return Request(model, "q", None, tuple(items))


def _error(body, *, status=200, headers=None, protocol="dashscope", request=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = request or _request("one", "two")
    with pytest.raises(errors.RerankError) as caught:
        _wire.decode(Answer(status, headers or {}, raw), asked, protocol=protocol, asked=_ASKED)
    return caught.value


# Status, code, message, class and part of the hint, from the vendor's catalogue of errors and from
# calls that users of the service recorded: a row for each class, and for what only the text or its
# place in the catalogue decides. docs/failures.md has the rest, which a test compares.

_MEDIA = "documents 0 and 1 must be public"
_THROTTLED = "Too many requests. Your requests are being throttled due to system capacity limits."
_REFUSALS = [
    (401, "InvalidApiKey", "Invalid API-key provided.", _AUTH, "region="),
    (401, "NOT AUTHORIZED", "Access denied: Either you are not authorized", _AUTH, "workspace="),
    (404, "WorkSpaceNotFound", "Workspace can not be found.", _AUTH, "workspace="),
    (403, "AccessDenied", "Access denied.", _AUTH, "may use qwen3-rerank on"),
    (403, "AccessDenied", "Access to model denied. Please make sure", _AUTH, "enable it there"),
    (400, "Odd.AccessDenied", "No.", _AUTH, "may use qwen3-rerank on"),
    (400, "Arrearage", "Access denied, please make sure", _QUOTA, "top up"),
    (403, "AllocationQuota.FreeTierOnly", "It is exhausted.", _QUOTA, "'free quota only'"),
    (429, "Throttling.AllocationQuota", "Free allocated quota exceeded.", _QUOTA, "pay-as-you-go"),
    (404, "ModelNotFound", "Model can not be found.", _CALL, "is not offered on"),
    (400, "InvalidParameter", "Model not exist.", _CALL, "is not offered on"),
    (404, "NotSupported", "Unsupported model xxx for OpenAI", _CALL, "protocol='dashscope'"),
    (404, "NotFound", "Not found.", _CALL, f"It was asked at https://{_HOST}/rerank."),
    (413, None, "Request Entity Too Large", _CALL, "max_documents_per_request="),
    (400, "DataInspectionFailed", "Input data may contain", _CONTENT, "in halves"),
    (400, "InternalError.Algo.DataInspectionFailed", "Input", _CONTENT, "in halves"),
    (400, "InvalidURL.ConnectionRefused", "Connection refused.", _CONTENT, _MEDIA),
    (500, "InternalError.Algo", "Missing Content-Length of multimodal url.", _CONTENT, _MEDIA),
    (429, "Throttling", "Requests throttling triggered.", _RATE, "the whole account"),
    (503, "ServiceUnavailable", f"[{_THROTTLED}]", _RATE, "the whole account"),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded", _RATE, "tokens per minute"),
    (500, "InternalError.Algo", "inference internal error.", _SERVICE, "the service's side"),
    (503, "ModelServingError", _THROTTLED, _SERVICE, "the service's side"),
    (503, "ServiceUnavailable", "Service is unavailable.", _SERVICE, "the service's side"),
    (500, "InternalError.Timeout", "Request timed out", _SERVICE, "max_documents_per_request="),
]


def _refused(code, message, request=None, status=400):
    body = {"code": code, "message": message, "request_id": "r-1"}
    return _error(body, status=status, request=request)


@pytest.mark.parametrize(
    "row", _REFUSALS, ids=[f"{row[0]} {row[1]}: {row[2][:20]}" for row in _REFUSALS]
)
def test_refusals(row):
    """A refusal becomes the class that says whose move is next, and a hint."""
    status, code, message, kind, hint = row

    error = _refused(code, message, status=status)

    assert kind is type(error)
    assert (error.status, error.code, error.message) == (status, code, message)
    assert error.request_id == "r-1"
    assert hint in error.hint


def test_the_compatible_spelling():
    """The compatible protocol has codes of its own: the same errors, with the same hints."""
    replies = [each for each in BY_NAME.values() if isinstance(each, Reply)]
    for status, said in {(each.status, each.body) for each in replies}:
        if isinstance(said, ErrorBody):
            flat = COMPATIBLE.failure(RefusedError(status, said.code, said.message), "r-1")
            error = _error(flat, status=status, protocol="compatible")
            native = _refused(said.code, error.message, status=status)

            assert (type(error), error.hint) == (type(native), native.hint), said


@pytest.mark.parametrize("protocol", _wire.PATHS)
def test_refusals_inside_an_http_200(protocol):
    """DashScope can refuse with HTTP 200: the code decides, and no ranking is read beside it.

    Either protocol's way to say so is read with either.
    """
    ranking = {"output": {"results": _results(0.1, 0.2)}, "results": _results(0.1, 0.2)}
    refusal = {"code": "Throttling.RateQuota", "message": "No."}
    for body in (refusal, {"error": {**refusal, "type": "some_type", "param": None}}):
        error = _error({**body, **ranking}, protocol=protocol)

        assert type(error) is _RATE
        assert (error.status, error.code, error.message) == (200, "Throttling.RateQuota", "No.")
    assert type(_error({"code": "InvalidParameter"}, protocol=protocol)) is _CALL


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, _SERVICE), (308, _SERVICE), (400, _CALL), (401, _AUTH), (403, _AUTH), (404, _CALL),
        (405, _CALL), (407, _CALL), (408, _SERVICE), (413, _CALL), (429, _RATE), (500, _SERVICE),
    ],
)  # fmt: skip
def test_status_alone(status, kind):
    """Where no known code says more, the status decides, whatever the body."""
    for body in (b"", b"<html>nginx</html>", b"{}", b"[]", b'{"detail": "no"}', b'{"code": "Odd"}'):
        error = _error(body, status=status, headers={"x-request-id": "r-1"})

        assert kind is type(error)
        assert (status, "r-1") == (error.status, error.request_id)
        assert _HOST in error.message


_TOO_LARGE = "Value error, document index:%d is invalid, it should not be larger than 300000"


@pytest.mark.parametrize(
    ("code", "said", "texts", "documents", "hint"),
    [
        ("InvalidParameter", _TOO_LARGE % 1, ["a", "b", "c"], (101,), "document 101"),
        ("InvalidParameter", _TOO_LARGE % 7, ["a", "b"], (100, 101), "documents 100 and 101"),
        # Blank is what has no visible sign.
        (
            "InvalidParameter",
            "text input should not be empty.: input.documents",
            ["a", "\u0301", "b", "\ue000"],
            (101, 103),
            "documents 101 and 103",
        ),
        # It is most likely the longest one.
        (
            "InvalidParameter",
            "Range of input length should be [1, 9]",
            ["a", "b" * 10, "c"],
            (101,),
            "document 101.",
        ),
        ("DataInspectionFailed", "no", ["a", "b", "c"], (100, 101, 102), "documents 100 to 102"),
    ],
    ids=["named", "no such index", "blank", "longest", "all"],
)
def test_which_documents_are_named(code, said, texts, documents, hint):
    """Those of the request that it is about, by their places in the list that the caller gave."""
    error = _refused(code, said, _request(*texts, first=100))

    assert error.documents == documents
    assert hint in error.hint


def test_a_text_that_stands_several_times_is_named_everywhere():
    """Equal documents are one item of the request."""
    request = Request(
        "m", "q", None, (Item("a", 1, (Place(2), Place(5))), Item("b", 1, (Place(3),)))
    )

    assert _refused("DataInspectionFailed", "no", request).documents == (2, 3, 5)


@pytest.mark.parametrize(("status", "code"), [(404, "ModelNotFound"), (403, "Model.AccessDenied")])
def test_no_hint_about_other_models_for_a_retired_one(status, code):
    """gte-rerank is refused in several ways; the hint is always its successor."""
    error = _refused(code, "No.", _request("a", model="gte-rerank"), status)

    assert "retired" in error.hint
    assert "qwen3-rerank" in error.hint


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("Qwen-Rerank", "qwen3-rerank"),
        ("gte-rerank-v3", "gte-rerank-v2"),
        ("my-model", None),
        ("qwen3-rerank", None),
    ],
)
def test_a_mistyped_model(model, near):
    """What is not there is answered with the name that was meant, and with where it was asked."""
    hint = _refused(
        "ModelNotFound", "Model can not be found.", _request("a", model=model), 404
    ).hint

    assert ("Did you mean" in hint) is (near is not None)
    assert near is None or f"Did you mean model={near!r}?" in hint
    assert f"It was asked at https://{_HOST}/rerank." in hint


def test_a_web_page_is_recognised():
    """HTML instead of JSON comes from something in between."""
    page = b"\n<!DOCTYPE html><html><body>Sign in to the guest network</body></html>"

    assert "web page" in _error(page, status=403).hint


@pytest.mark.parametrize(
    ("positions", "shown"),
    [
        ((), "the documents"),
        ((3,), "document 3"),
        ((0, 1, 2, 7), "documents 0 to 2 and 7"),
        ((1, 3, 5), "documents 1, 3 and 5"),
        (range(0, 40, 2), "documents 0, 2, 4, 6, 8, 10, 12, 14, 16 and 11 more places"),
    ],
)
def test_listed(positions, shown):
    """Positions are shown as runs, and no more of them than a person reads."""
    assert listed(positions) == shown
