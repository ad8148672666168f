"""The two wire formats and their failure envelopes, as pure functions of parsed JSON."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from qwen_rerank.emulator._media import KINDS, Media, base64_of, is_url
from qwen_rerank.emulator._models import MODELS, Model
from qwen_rerank.emulator._service import Answer, Question, RefusedError, invalid
from qwen_rerank.emulator._tokenizer import replace_surrogates

_MOST_NESTED = 64  # levels; more than any question needs, few enough to walk recursively


class Failure(NamedTuple):
    """How the vendor's catalogue spells one failure, native and compatible."""

    message: str
    compatible_code: str | None = None
    compatible_message: str | None = None


# docs.qwencloud.com/api-reference/preparation/error-messages, 2026, and
# www.alibabacloud.com/help/en/model-studio/error-code, 2024-08 to 2026-06. A code without a
# documented lower-case twin is sent as it is by both protocols. `InvalidModel` and
# `Model.NotExist` are names that the SDK knows (dashscope 2.0.2), `concurrency_limit_exceeded` was
# published without its text, and the backticks were seen (volcengine/OpenViking#1677, 2026-04-24).
CATALOGUE = {
    "AccessDenied": Failure("Access denied."),
    "AccessDenied.Unpurchased": Failure(
        "Access to model denied. Please make sure you are eligible for using the model."
    ),
    "AllocationQuota.FreeTierOnly": Failure(
        "The free tier of the model has been exhausted. If you want to continue access the model "
        'on a paid basis, please disable the "use free tier only" mode in the management console.'
    ),
    "Arrearage": Failure("Access denied, please make sure your account is in good standing."),
    "BadRequest.EmptyInput": Failure("Required input parameter missing from request."),
    "BadRequest.InputDownloadFailed": Failure("Failed to download the input file."),
    "CommodityNotPurchased": Failure("Commodity has not purchased yet."),
    "concurrency_limit_exceeded": Failure("Too many requests at a time."),
    "DataInspectionFailed": Failure(
        "Input data may contain inappropriate content.", "data_inspection_failed"
    ),
    "GatewayTimeout": Failure("Gateway timeout."),  # the SDK knows the code, no page the text
    "InternalError": Failure("An internal error has occured.", "internal_error"),
    "InternalError.Algo": Failure("inference internal error."),
    "InternalError.Timeout": Failure("Request timed out, try again later."),
    "InvalidApiKey": Failure(
        "Invalid API-key provided.", "invalid_api_key", "Incorrect API key provided."
    ),
    "InvalidModel": Failure("Model not exist."),
    "InvalidParameter.DataInspection": Failure(
        "Unable to download the media resource during the data inspection process."
    ),
    "InvalidURL": Failure("Invalid URL provided in your request."),
    "InvalidURL.Timeout": Failure(
        "Download https://example.com/a.png timeout, please check network connection."
    ),
    "Model.AccessDenied": Failure("Model access denied."),
    "Model.NotExist": Failure("Model not exist."),
    "model_not_supported": Failure("Unsupported model `xxx` for OpenAI compatibility mode."),
    "ModelNotFound": Failure("Model can not be found.", "model_not_found"),
    "ModelServingError": Failure(
        "Too many requests. Your requests are being throttled due to system capacity limits."
    ),
    "ModelUnavailable": Failure("Model is unavailable, try again later."),
    "NOT AUTHORIZED": Failure(
        "Access denied: Either you are not authorized to access this workspace, or the workspace "
        "does not exist."
    ),
    "PostpaidBillOverdue": Failure("The postpaid bill is overdue."),
    "PrepaidBillOverdue": Failure("The prepaid bill is overdue."),
    "RequestTimeOut": Failure("Response timeout!"),
    "ServiceUnavailable": Failure("Model is unavailable, try again later."),
    "Throttling": Failure("Requests throttling triggered."),
    "Throttling.AllocationQuota": Failure(
        "Allocated quota exceeded, please increase your quota limit.",
        "insufficient_quota",
        "You exceeded your current quota.",
    ),
    "Throttling.BurstRate": Failure("Request rate increased too quickly.", "limit_burst_rate"),
    "Throttling.RateQuota": Failure(
        "Requests rate limit exceeded, try again later.",
        "limit_requests",
        "You exceeded your current requests list.",
    ),
    "WorkSpaceNotFound": Failure("WorkSpace can not be found."),
    "Workspace.AccessDenied": Failure("Workspace access denied."),
}


class Format(Protocol):
    """One protocol: where it listens, how it asks, how it answers and how it fails."""

    path: str

    def parse(self, body: Any) -> Question:
        """Return the question in *body*, a parsed JSON value, or raise `RefusedError`."""

    def render(
        self, question: Question, answer: Answer, request_id: str
    ) -> dict[str, Any] | list[Any]:
        """Return the body of a success."""

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        """Return the body of a failure; a text is sent as it is."""


class Native:
    """`input` and `parameters` in, `output` out.

    It refuses as was recorded. What is missing of `input`, all of it where a flat body is sent, is
    named by the service behind the gateway (volcengine/OpenViking#3459, 2026-07-22); the catalogue
    has BadRequest.EmptyInput for that. A model that is unknown or not offered is a 404 with the
    text that was seen in Singapore on 2026-09-25, and the code that the catalogue has for this
    status; other recordings have 400 InvalidParameter, and the SDK knows 404 Model.NotExist and
    InvalidModel. A path of no task is a 400 as well. The others are faults: 400-empty-input,
    400-model, 404-model-not-exist and 404-invalid-model.
    """

    path = "/api/v1/services/rerank/text-rerank/text-rerank"
    tasks = "/api/v1/services/"
    """What all paths of the native protocol begin with."""

    def parse(self, body: Any) -> Question:
        body = _object(body)
        name = _model_name(body)
        if name not in MODELS:
            raise RefusedError(404, "ModelNotFound", "Model not exist.")
        asked, parameters = body.get("input"), body.get("parameters")
        if not isinstance(asked, dict | None):
            raise invalid("input should be an object: input")
        asked = asked or {}
        missing = [field for field in ("query", "documents") if asked.get(field) is None]
        if missing:
            raise invalid(
                " & ".join(f"Field required: input.{field}" for field in missing), inner=True
            )
        if not isinstance(parameters, dict | None):
            raise invalid("parameters should be an object: parameters")
        return _question(name, asked, parameters or {}, where="input.")

    def render(self, question: Question, answer: Answer, request_id: str) -> dict[str, Any]:
        return {
            "output": {"results": _results(question, answer)},
            "usage": {"total_tokens": answer.tokens},
            "request_id": request_id,
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any]:
        known = CATALOGUE.get(refused.code, Failure(""))
        message = _told(refused, known.message)
        return {"code": refused.code, "message": message, "request_id": request_id}


class Compatible:
    """Everything at top level, in and out.

    Of its refusals one was published (volcengine/OpenViking#1677, 2026-04-24), that of a model
    which it does not serve: an `error` of the type invalid_request_error and a `request_id`. That
    is what the gateway refuses itself. What the service behind it refuses was published of the
    sibling routes: on that for embeddings the text has the prefix of the native protocol, the type
    is the code and there is an `id`, and on that for chats the type is the code too
    (limit_requests, Arrearage).
    """

    path = "/compatible-api/v1/reranks"
    models_paths = ("/compatible-mode/v1/models", "/compatible-api/v1/models")
    """Where the models are listed: for chats, as many clients ask it, and beside the route of this
    protocol, of which no recording was found."""

    def parse(self, body: Any) -> Question:
        body = _object(body)
        name = _model_name(body)
        if name not in MODELS:
            raise RefusedError(
                404,
                "ModelNotFound",
                f"The model `{name}` does not exist or you do not have access to it.",
            )
        if not MODELS[name].compatible:
            raise RefusedError(
                404,
                "model_not_supported",
                f"Unsupported model `{name}` for OpenAI compatibility mode.",
            )
        return _question(name, body, body, where="")

    def render(self, question: Question, answer: Answer, request_id: str) -> dict[str, Any]:
        return {
            "object": "list",
            "results": _results(question, answer),
            "model": question.model,
            "id": request_id,
            "usage": {"total_tokens": answer.tokens},
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any]:
        known = CATALOGUE.get(refused.code, Failure(""))
        code = known.compatible_code or refused.code
        of_gateway = not code or code in _OF_GATEWAY
        error = {
            "message": _told(refused, known.compatible_message or known.message),
            "type": "invalid_request_error" if of_gateway else code,
            "param": None,
            "code": code,
        }
        return {
            "error": error,
            **({} if of_gateway else {"id": request_id}),
            "request_id": request_id,
        }

    def models(self) -> dict[str, Any]:
        """Return the list of models: those of rerank that are served."""
        about = {"object": "model", "created": 0, "owned_by": "system"}
        return {"object": "list", "data": [{"id": name, **about} for name in MODELS]}


NATIVE = Native()
COMPATIBLE = Compatible()

_OF_GATEWAY = frozenset({"invalid_api_key", "model_not_found", "model_not_supported"})


def _told(refused: RefusedError, known: str) -> str:
    """Return what *refused* says; of a code alone, what is *known* of it."""
    message = known if refused.message is None else refused.message
    if refused.inner:
        return f"<{refused.status}> InternalError.Algo.{refused.code}: {message}"
    return message


def read_json(raw: bytes) -> Any:
    """Return the JSON value in *raw*.

    Raises:
        ValueError: It is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _depth_exceeds(value, _MOST_NESTED):
        raise ValueError("nested too deeply")
    return value


def _depth_exceeds(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def write_json(body: Any) -> bytes:
    """Return *body* as UTF-8 JSON; a lone surrogate in it becomes a question mark."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def documents_in(body: Any) -> int:
    """Return how many documents *body* carries, in any format."""
    return len(_documents(body))


def texts_in(body: Any) -> Iterator[str]:
    """Return the texts of the documents that *body* carries, in any format."""
    for item in _documents(body):
        text = item.get("text") if isinstance(item, dict) else item
        if isinstance(text, str):
            yield text


def media_in(body: Any) -> Iterator[str]:
    """Return the URLs and data URIs that *body* carries as documents or query."""
    asked = body.get("input") if isinstance(body, dict) else None
    query = asked.get("query") if isinstance(asked, dict) else None
    for item in (query, *_documents(body)):
        if isinstance(item, dict):
            yield from (item[kind] for kind in KINDS if isinstance(item.get(kind), str))


def _documents(body: Any) -> list[Any]:
    for holder in (body, body.get("input") if isinstance(body, dict) else None):
        for name in ("documents", "texts"):
            if isinstance(holder, dict) and isinstance(holder.get(name), list):
                return list(holder[name])
    return []


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise invalid("The request body should be a JSON object.")
    return body


def _model_name(body: dict[str, Any]) -> str:
    name = body.get("model")
    if name is None or name == "":
        raise RefusedError(
            400, "BadRequest.EmptyModel", "Required model parameter missing from request."
        )
    if not isinstance(name, str):
        raise invalid("model should be a string: model")
    return name


def _question(
    name: str, asked: dict[str, Any], parameters: dict[str, Any], *, where: str
) -> Question:
    # An option that is null counts as absent. Unknown options are ignored.
    options = where and "parameters."  # the compatible body is flat
    documents = asked.get("documents")
    if not isinstance(documents, list):
        raise invalid(f"documents should be a list: {where}documents")
    model = MODELS[name]
    top_n, instruct = parameters.get("top_n"), parameters.get("instruct")
    return_documents = parameters.get("return_documents")
    # JSON's true is an int to Python.
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise invalid(f"top_n should be an integer of at least 1: {options}top_n")
    if not isinstance(instruct, str | None):
        raise invalid(f"instruct should be a string: {options}instruct")
    if not isinstance(return_documents, bool | None):
        raise invalid(f"return_documents should be a boolean: {options}return_documents")
    fps = parameters.get("fps")
    # Only checked: nothing is fetched, so that there are no frames to choose from.
    if model.videos and fps is not None and not (type(fps) in (int, float) and 0 <= fps <= 1):
        raise invalid(f"fps should be a number between 0 and 1: {options}fps")
    return Question(
        model=name,
        query=_item(asked.get("query"), model, f"{where}query", ("text", "image")),
        documents=tuple(
            _item(item, model, f"{where}documents", ("text", *KINDS)) for item in documents
        ),
        top_n=top_n,
        instruct=replace_surrogates(instruct) if instruct else None,
        return_documents=bool(return_documents),
    )


def _item(item: Any, model: Model, where: str, kinds: tuple[str, ...]) -> str | Media:
    kind = "text"
    if isinstance(item, dict) and model.images:
        if len(item) != 1 or not item.keys() <= set(kinds):
            *others, last = kinds
            raise invalid(
                f"input object should have exactly one of {', '.join(others)} and {last}: {where}"
            )
        ((kind, item),) = item.items()
    if not isinstance(item, str):
        raise invalid(f"{kind} input should be a string: {where}")
    content = replace_surrogates(item)
    if kind == "text":
        return content
    if kind == "video" and not is_url(content):
        raise invalid(f"video input should be an http or https URL: {where}")
    if kind == "image" and not is_url(content) and base64_of(content) is None:
        raise invalid(
            "image input should be an http or https URL, or data:image/<format>;base64,<data>: "
            f"{where}"
        )
    return Media(kind, content)


def _results(question: Question, answer: Answer) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": score} for index, score in answer.results
    ]
    if question.return_documents:
        for result in results:
            document = question.documents[result["index"]]
            # For images and videos the page shows a text as well, which cannot be meant.
            kind, content = document if isinstance(document, Media) else ("text", document)
            result["document"] = {kind: content}
    return results
