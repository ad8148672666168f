"""The servers that people run themselves: how each is asked, answers and fails; no scoring here.

Written from the sources of the servers and their documents (read on 2026-11-24 in stored copies,
named in each class) and never compared with a running one. The real ones ignore a field that they
do not know. Here it is refused, in the server's own words for a bad body, so that a client's slip
shows. Lengths are limited where a class says so, and scores are the stand-in's, raw or not.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from qwen_rerank.emulator._limits import INFINITY_CHARACTERS, INFINITY_TEXTS, TEI_TEXTS
from qwen_rerank.emulator._service import Answer, Question, RefusedError
from qwen_rerank.emulator._tokenizer import replace_surrogates

MODEL = "Qwen/Qwen3-Reranker-0.6B"
"""The one model that all of them serve here."""

_TEXT, _TEXTS, _WHOLE, _FLAG = "a string", "a list of strings", "an integer", "a boolean"


class Slip(NamedTuple):
    """What is wrong with a field, in pydantic's words; the field is "" for the whole body."""

    field: str
    kind: str
    said: str


class OwnServer(ABC):
    """One kind of server. A format, as DashScope's protocols are."""

    name: ClassVar[str]
    tails: ClassVar[tuple[str, ...]] = ("/rerank",)
    """The paths it serves, below its address."""
    fields: ClassVar[Mapping[str, str]]
    """The documented fields and what each holds."""
    required: ClassVar[tuple[str, ...]] = ("query", "documents")
    texts: ClassVar[str] = "documents"
    instruct: ClassVar[str] = ""
    """The field with the instruction, or ""."""
    least_top_n: ClassVar[int] = 0
    """The least `top_n`; 0 stands for all."""

    def __init__(self) -> None:
        self.prefix = f"/{self.name}"
        self.path = self.prefix + self.tails[0]
        self.paths = tuple(self.prefix + tail for tail in self.tails)

    def parse(self, body: Any) -> Question:
        """Return the question in *body*, a parsed JSON value, or raise `RefusedError`."""
        slips = list(self._slips(body))
        if slips:
            raise self.bad_body(slips)
        question = Question(
            model=body.get("model") or MODEL,
            query=replace_surrogates(body["query"]),
            documents=tuple(replace_surrogates(text) for text in body[self.texts]),
            top_n=body.get("top_n") or None,
            instruct=body.get(self.instruct),
            return_documents=bool(body.get("return_documents") or body.get("return_text")),
        )
        self.check(question)
        return question

    def _slips(self, body: Any) -> Iterable[Slip]:
        if not isinstance(body, dict):
            yield Slip("", "model_attributes_type", "Input should be a valid dictionary")
            return
        for name in self.required:
            if name not in body:
                yield Slip(name, "missing", "Field required")
        for name, value in body.items():
            if name not in self.fields:
                yield Slip(name, "extra_forbidden", "Extra inputs are not permitted")
            elif not _holds(value, self.fields[name], optional=name not in self.required):
                yield Slip(name, "type", f"Input should be {self.fields[name]}")
            elif name == "top_n" and value is not None and value < self.least_top_n:
                said = f"Input should be greater than or equal to {self.least_top_n}"
                yield Slip(name, "greater_than_equal", said)

    @abstractmethod
    def check(self, question: Question) -> None:
        """Raise `RefusedError` where this server refuses a well-formed *question*."""

    @abstractmethod
    def bad_body(self, slips: list[Slip]) -> RefusedError:
        """Return the refusal of a body that is none."""

    @abstractmethod
    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        """Return the body of a success."""

    @abstractmethod
    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        """Return the body of a failure."""

    def nowhere(self, status: int) -> RefusedError:
        """Return the refusal of a path or method that is not served."""
        return RefusedError(status, "", "Not Found" if status == 404 else "Method Not Allowed")


def _holds(value: Any, kind: str, *, optional: bool) -> bool:
    if value is None:
        return optional
    if kind == _TEXTS:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return type(value) is {_TEXT: str, _WHOLE: int, _FLAG: bool}[kind]  # true is an int to Python


def _told(slips: list[Slip]) -> list[dict[str, Any]]:
    """Return the slips as FastAPI tells them."""
    return [{"type": slip.kind, "loc": ["body", slip.field], "msg": slip.said} for slip in slips]


class _BadBodyError(RefusedError):
    """A bad body, told field by field."""

    def __init__(self, slips: list[Slip]) -> None:
        super().__init__(422, "", str(_told(slips)))
        self.slips = slips


def _message(refused: RefusedError) -> str:
    return refused.message or refused.code


class VLLM(OwnServer):
    """vllm-project/vllm: scoring/protocol.py and api_router.py at 055e47c.

    The envelope is today's. Until 2025 its fields stood at top level, beside ``"object": "error"``.
    """

    name = "vllm"
    tails = ("/rerank", "/v1/rerank", "/v2/rerank")
    instruct = "instruction"
    fields = MappingProxyType(
        {
            "model": _TEXT,
            "query": _TEXT,
            "documents": _TEXTS,
            "top_n": _WHOLE,
            "instruction": _TEXT,
            "max_tokens_per_query": _WHOLE,
            "max_tokens_per_doc": _WHOLE,
            "truncate_prompt_tokens": _WHOLE,
            "use_activation": _FLAG,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        return RefusedError(400, "Bad Request", str(_told(slips)))

    def check(self, question: Question) -> None:
        if question.model != MODEL:
            said = f"The model `{question.model}` does not exist."
            raise RefusedError(404, "NotFoundError", said)
        if not question.documents:
            said = "At least one text_pair element must be given"
            raise RefusedError(400, "BadRequestError", said)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        return {
            "id": f"rerank-{request_id}",
            "model": question.model,
            "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
            "results": [
                {
                    "index": index,
                    "document": {"text": question.documents[index], "multi_modal": None},
                    "relevance_score": score,
                }
                for index, score in answer.results
            ],
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if not refused.code:
            return {"detail": refused.message}
        return {
            "error": {
                "message": _message(refused),
                "type": refused.code,
                "param": None,
                "code": refused.status,
            }
        }


class SGLang(OwnServer):
    """sgl-project/sglang: docs/supported_models/retrieval_ranking/rerank_models.md at 072690d.

    The refusals of blanks are those of openai/serving_rerank.py at 15bb7d4. It does not look at the
    model's name.
    """

    name = "sglang"
    tails = ("/v1/rerank",)
    instruct = "instruct"
    least_top_n = 1
    fields = MappingProxyType(
        {
            "model": _TEXT,
            "query": _TEXT,
            "documents": _TEXTS,
            "instruct": _TEXT,
            "top_n": _WHOLE,
            "return_documents": _FLAG,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        return RefusedError(400, "Bad Request", str(_told(slips)))

    def check(self, question: Question) -> None:
        said = None
        if not str(question.query).strip():
            said = "Query cannot be empty or whitespace only"
        elif not question.documents:
            said = "Documents cannot be empty"
        elif not all(str(text).strip() for text in question.documents):
            said = "Each document cannot be empty or whitespace only"
        if said:
            raise RefusedError(400, "BadRequestError", said)

    def parse(self, body: Any) -> Question:
        # Only here the documents are returned unless that is declined.
        if isinstance(body, dict):
            body = {"return_documents": True, **body}
        return super().parse(body)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:  # noqa: ARG002
        return [
            {
                "score": score,
                **({"document": question.documents[index]} if question.return_documents else {}),
                "index": index,
                "meta_info": None,
            }
            for index, score in answer.results
        ]

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if not refused.code:
            return {"detail": refused.message}
        return {
            "object": "error",
            "message": _message(refused),
            "type": refused.code,
            "param": None,
            "code": refused.status,
        }


class TEI(OwnServer):
    """huggingface/text-embeddings-inference: http/types.rs at 265deb2, openapi.json of 1.7.1."""

    name = "tei"
    texts = "texts"
    required = ("query", "texts")
    fields = MappingProxyType(
        {
            "query": _TEXT,
            "texts": _TEXTS,
            "truncate": _FLAG,
            "truncation_direction": _TEXT,
            "raw_scores": _FLAG,
            "return_text": _FLAG,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        slip = slips[0]
        said = f"missing field `{slip.field}`" if slip.kind == "missing" else slip.said
        what = "Failed to deserialize the JSON body into the target type"
        return RefusedError(422, "", f"{what}: {said}")

    def check(self, question: Question) -> None:
        if not question.documents:
            raise RefusedError(400, "Empty", "`texts` cannot be empty")
        if (count := len(question.documents)) > TEI_TEXTS.value:
            said = f"batch size {count} > maximum allowed batch size {TEI_TEXTS.value}"
            raise RefusedError(413, "Validation", said)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:  # noqa: ARG002
        return [
            {
                "index": index,
                **({"text": question.documents[index]} if question.return_documents else {}),
                "score": score,
            }
            for index, score in answer.results
        ]

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if not refused.code:
            return refused.message or ""
        return {"error": _message(refused), "error_type": refused.code}

    def nowhere(self, status: int) -> RefusedError:
        return RefusedError(status, "", "")


class Xinference(OwnServer):
    """xorbitsai/inference: api/schemas/requests.py at 114ac52, the handler in api/restful_api.py.

    That a bad body ends in a bare 500 is inferred: the handler reads it outside of its ``try``.
    """

    name = "xinference"
    tails = ("/v1/rerank",)
    required = ("model", "query", "documents")
    fields = MappingProxyType(
        {
            "model": _TEXT,
            "query": _TEXT,
            "documents": _TEXTS,
            "top_n": _WHOLE,
            "return_documents": _FLAG,
            "return_len": _FLAG,
            "max_chunks_per_doc": _WHOLE,
            "kwargs": _TEXT,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:  # noqa: ARG002
        return RefusedError(500, "", "Internal Server Error")

    def check(self, question: Question) -> None:
        if question.model != MODEL:
            said = f"Model not found in the model list, uid: {question.model}"
            raise RefusedError(400, "detail", said)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        shown = question.return_documents
        return {
            "id": request_id,
            "results": [
                {
                    "index": index,
                    "relevance_score": score,
                    "document": {"text": question.documents[index]} if shown else None,
                }
                for index, score in answer.results
            ],
            "meta": {"api_version": None, "billed_units": None, "tokens": None, "warnings": None},
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if refused.status == 500 and not refused.code:
            return refused.message or ""
        return {"detail": _message(refused)}


class Infinity(OwnServer):
    """michaelfeil/infinity: infinity_server.py, fastapi_schemas/pymodels.py and errors.py."""

    name = "infinity"
    least_top_n = 1
    fields = MappingProxyType(
        {
            "model": _TEXT,
            "query": _TEXT,
            "documents": _TEXTS,
            "top_n": _WHOLE,
            "return_documents": _FLAG,
            "raw_scores": _FLAG,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        return _BadBodyError(slips)

    def check(self, question: Question) -> None:
        count, most = len(question.documents), INFINITY_TEXTS.value
        if not 1 <= count <= most:
            said = f"List should have at least 1 and at most {most} items after validation"
            raise self.bad_body([Slip("documents", "too_long" if count else "too_short", said)])
        longest = INFINITY_CHARACTERS.value
        if any(len(str(text)) > longest for text in (question.query, *question.documents)):
            said = f"String should have at most {longest} characters"
            raise self.bad_body([Slip("documents", "string_too_long", said)])
        if question.model != MODEL:
            said = f"Invalid model: Engine for model name {question.model} not found."
            raise RefusedError(400, "error", said)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        shown = question.return_documents
        return {
            "object": "rerank",
            "results": [
                {
                    "relevance_score": score,
                    "index": index,
                    "document": question.documents[index] if shown else None,
                }
                for index, score in answer.results
            ],
            "model": question.model,
            "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
            "id": f"infinity-{request_id}",
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if refused.code:
            error = {"message": _message(refused), "type": None, "param": None}
            return {"error": {**error, "code": refused.status}}
        if isinstance(refused, _BadBodyError):
            return {"detail": _told(refused.slips)}
        return {"detail": refused.message}


class LiteLLM(OwnServer):
    """BerriAI/litellm: types/rerank.py at 1168d3d, proxy/rerank_endpoints/endpoints.py at 00fc80b.

    What it answers to a bad body is inferred from the handler, which passes it on as arguments.
    """

    name = "litellm"
    tails = ("/rerank", "/v1/rerank", "/v2/rerank")
    required = ("model", "query", "documents")
    instruct = "instruction"
    fields = MappingProxyType(
        {
            "model": _TEXT,
            "query": _TEXT,
            "documents": _TEXTS,
            "top_n": _WHOLE,
            "return_documents": _FLAG,
            "max_chunks_per_doc": _WHOLE,
            "max_tokens_per_doc": _WHOLE,
            "instruction": _TEXT,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        return RefusedError(500, "internal_server_error", str(_told(slips)))

    def check(self, question: Question) -> None:
        if question.model != MODEL:
            said = f"/rerank: Invalid model name passed in model={question.model}."
            raise RefusedError(400, "invalid_request_error", said)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        shown = question.return_documents
        return {
            "id": request_id,
            "results": [
                {
                    "index": index,
                    "relevance_score": score,
                    **({"document": {"text": question.documents[index]}} if shown else {}),
                }
                for index, score in answer.results
            ],
            "meta": {
                "billed_units": {"total_tokens": answer.tokens},
                "tokens": {"input_tokens": answer.tokens},
            },
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if not refused.code:
            return {"detail": refused.message}
        error = {"message": _message(refused), "type": refused.code, "param": None}
        return {"error": {**error, "code": str(refused.status)}}


SERVERS: Mapping[str, OwnServer] = MappingProxyType(
    {
        server.name: server
        for server in (VLLM(), SGLang(), TEI(), Xinference(), Infinity(), LiteLLM())
    }
)


def server_at(path: str) -> OwnServer | None:
    """Return the server whose address *path* begins with, or None."""
    return SERVERS.get(path.strip("/").partition("/")[0])
