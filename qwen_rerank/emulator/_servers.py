"""The servers that people run themselves: how each is asked, answers and fails; no scoring here.

vLLM, Infinity, Xinference and LiteLLM are played as they were seen to answer on 2026-11-29 (the
versions are in each class); SGLang and TEI are written from their sources and documents, read on
2026-11-24, and were never run. The real ones ignore a field that they do not know. Here it is
refused, in the server's own words for a bad body, so that a client's slip shows. Scores are the
stand-in's, raw or not.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from qwen_rerank.emulator._media import Media
from qwen_rerank.emulator._models import (
    INFINITY_CHARACTERS,
    INFINITY_TEXTS,
    TEI_TEXTS,
    TEMPLATE_TOKENS,
)
from qwen_rerank.emulator._service import Answer, Parts, Question, RefusedError
from qwen_rerank.emulator._tokenizer import replace_surrogates
from qwen_rerank.emulator._wire import read_json, write_json

MODEL = "Qwen/Qwen3-Reranker-0.6B"
"""The one model that all of them serve here."""

VL_MODEL = "Qwen/Qwen3-VL-Reranker-2B"
"""What vLLM serves besides, for images."""

_TEXT, _TEXTS, _WHOLE, _FLAG = "a string", "a list of strings", "an integer", "a boolean"


class Slip(NamedTuple):
    """What is wrong with a field, in pydantic's words; the field is "" for the whole body.

    Where it is one of a list, or a character of the body, *places* is its position there.
    """

    field: str
    kind: str
    said: str
    input: Any = None
    context: Mapping[str, Any] | None = None
    places: tuple[int, ...] = ()


class OwnServer(ABC):
    """One kind of server. A format, as DashScope's protocols are."""

    name: ClassVar[str]
    tails: ClassVar[tuple[str, ...]] = ("/rerank",)
    """The paths it serves, below its address."""
    guarded: ClassVar[tuple[str, ...]] = ("/",)
    """Below which paths it wants a key, if it was started with one."""
    takes_json_only: ClassVar[bool] = False
    """Whether it looks at a body's type."""
    id_header: ClassVar[str] = "x-request-id"
    tells: ClassVar[tuple[str, ...]] = ()
    """The paths below its address at which it says what it is."""
    fields: ClassVar[Mapping[str, str]]
    """The documented fields and what each holds."""
    required: ClassVar[tuple[str, ...]] = ("query", "documents")
    texts: ClassVar[str] = "documents"
    instruct: ClassVar[str] = ""
    """The field with the instruction, or ""."""
    least_top_n: ClassVar[float] = 0
    """The least `top_n`; 0 stands for all."""
    template: ClassVar[int] = 0
    """Tokens around each pair, which are billed."""
    refuses_long: ClassVar[bool] = False
    """Whether a pair that is too long is refused; else its document is cut."""

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
            query=self.read(body["query"]),
            documents=tuple(self.read(text) for text in body[self.texts]),
            top_n=self.kept(body),
            instruct=self.told_to(body),
            return_documents=bool(body.get("return_documents") or body.get("return_text")),
            return_tokens=bool(body.get("return_len")),
        )
        self.check(question)
        return question

    def read(self, item: Any) -> str | Parts:
        """Return what is to be scored of *item*, the query or a document."""
        return replace_surrogates(item)

    def kept(self, body: Mapping[str, Any]) -> int | None:
        """Return how many results *body* asks for; None for all."""
        return body.get("top_n") or None

    def told_to(self, body: Mapping[str, Any]) -> str | None:
        """Return the instruction in *body*."""
        return body.get(self.instruct)

    def _slips(self, body: Any) -> Iterable[Slip]:
        if not isinstance(body, dict):
            yield Slip("", "model_attributes_type", "Input should be a valid dictionary")
            return
        for name in self.required:
            if name not in body:
                yield Slip(name, "missing", "Field required", body)
        for name, value in body.items():
            if name not in self.fields:
                yield Slip(name, "extra_forbidden", "Extra inputs are not permitted", value)
            elif not self.holds(name, value):
                yield self._wrong(name, value)
            elif name == "top_n" and type(value) is int and value < self.least_top_n:
                bound = self.least_top_n - 1
                said = f"Input should be greater than {bound}"
                yield Slip(name, "greater_than", said, value, {"gt": bound})

    def _wrong(self, name: str, value: Any) -> Slip:
        if self.fields[name] == _TEXTS and isinstance(value, list):
            for at, each in enumerate(value):
                if not isinstance(each, str):
                    return Slip(name, "string_type", f"Input should be {_TEXT}", each, places=(at,))
        return Slip(name, "type", f"Input should be {self.fields[name]}", value)

    @abstractmethod
    def check(self, question: Question) -> None:
        """Raise `RefusedError` where this server refuses a well-formed *question*."""

    def holds(self, name: str, value: Any) -> bool:
        """Return whether *value* is one for the field *name*."""
        return _holds(value, self.fields[name], optional=name not in self.required)

    def too_long(self, most: int, found: int) -> RefusedError:
        """Return the refusal of a pair of *found* tokens where it may have *most*."""
        raise NotImplementedError

    def about(self, tail: str, max_model_len: int) -> Any:  # noqa: ARG002  few tell as much
        """Return what a GET of *tail*, one of `tells`, tells of it; None for an empty answer."""
        return None

    def bad_key(self) -> RefusedError:
        """Return the refusal of a key that is wrong or missing."""
        return RefusedError(401, "", "Unauthorized")

    @abstractmethod
    def bad_body(self, slips: list[Slip]) -> RefusedError:
        """Return the refusal of a body that is none."""

    @abstractmethod
    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        """Return the body of a success."""

    @abstractmethod
    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        """Return the body of a failure."""

    def nowhere(self, status: int, method: str) -> RefusedError:  # noqa: ARG002  some care
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
    return [
        {
            "type": slip.kind,
            "loc": ["body", *([slip.field] if slip.field else []), *slip.places],
            "msg": slip.said,
        }
        for slip in slips
    ]


def _place(slip: Slip) -> str:
    return f"body.{slip.field}" if slip.field else "body"


class _BadBodyError(RefusedError):
    """A bad body, told field by field."""

    def __init__(self, slips: list[Slip]) -> None:
        super().__init__(422, "", str(_told(slips)))
        self.slips = slips


def _message(refused: RefusedError) -> str:
    return refused.message or refused.code


def _is_parts(item: Any) -> bool:
    """Return whether *item* is an object of content parts, as chat models are sent them."""
    content = item.get("content") if isinstance(item, dict) and len(item) == 1 else None
    return isinstance(content, list) and all(map(_is_part, content)) and bool(content)


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or len(part) != 2:
        return False
    if part.get("type") == "text":
        return isinstance(part.get("text"), str)
    image = part.get("image_url")
    return (
        part.get("type") == "image_url"
        and isinstance(image, dict)
        and isinstance(image.get("url"), str)
    )


def _echoed(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item, "multi_modal": None}
    parts = [{"type": "text", "text": text} for text in item.texts]
    parts += [{"type": "image_url", "image_url": {"url": each.source}} for each in item.media]
    return {"text": None, "multi_modal": parts}


class _VLLMError(RefusedError):
    """A refusal that names what it is about."""

    def __init__(self, status: int, code: str, message: str, param: str | None) -> None:
        super().__init__(status, code, message)
        self.param = param


_PERMISSION = {
    "id": "modelperm-1",
    "object": "model_permission",
    "created": 0,
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


class VLLM(OwnServer):
    """vLLM 0.32.0, serving Qwen3-Reranker with its template; started with a key or without.

    Until 2025 the fields of its errors stood at top level, beside ``"object": "error"``.
    """

    name = "vllm"
    tails = ("/rerank", "/v1/rerank", "/v2/rerank")
    template = TEMPLATE_TOKENS.value
    guarded = ("/v1/", "/v2/")
    takes_json_only = True
    tells = ("/health", "/v1/models")
    refuses_long = True
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

    def holds(self, name: str, value: Any) -> bool:
        if name == "top_n":  # may be a text, true counts as 1, and null is none
            is_text = isinstance(value, str) and value.isdecimal()
            return value is True or is_text or type(value) is int
        if name == "query" and _is_parts(value):
            return True
        if name == "documents" and isinstance(value, list):
            value = ["" if _is_parts(each) else each for each in value]
        is_whole = not isinstance(value, str) or replace_surrogates(value) == value
        return super().holds(name, value) and is_whole

    def read(self, item: Any) -> str | Parts:
        if isinstance(item, str):
            return super().read(item)
        texts = [part["text"] for part in item["content"] if part["type"] == "text"]
        urls = [part["image_url"]["url"] for part in item["content"] if part["type"] != "text"]
        return Parts(tuple(texts), tuple(Media("image", url) for url in urls))

    def kept(self, body: Mapping[str, Any]) -> int | None:
        return int(body.get("top_n") or 0) or None

    def about(self, tail: str, max_model_len: int) -> Any:
        if tail == "/health":
            return None
        about = {"object": "model", "created": 0, "owned_by": "vllm", "parent": None}
        models = [
            {
                "id": name,
                "root": name,
                **about,
                "max_model_len": max_model_len,
                "permission": [dict(_PERMISSION)],
            }
            for name in (MODEL, VL_MODEL)
        ]
        return {"object": "list", "data": models}

    def too_long(self, most: int, found: int) -> RefusedError:
        said = (
            f"This model's maximum context length is {most} tokens. However, your prompt contains "
            f"at least {min(found, most + 1)} input tokens. Please reduce the length of the input "
            f"prompt. (parameter=input_tokens, value={min(found, most + 1)})"
        )
        return _VLLMError(400, "BadRequestError", said, "input_tokens")

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        told = "\n".join(
            f"  {{'type': {slip.kind!r}, 'loc': {_place(slip)!r}, 'msg': {slip.said!r}}}"
            for slip in slips
        )
        many = "s" if len(slips) > 1 else ""
        said = f"{len(slips)} validation error{many}:\n{told}"
        param = None if slips[0].kind == "content_type" else _place(slips[0])
        return _VLLMError(400, "Bad Request", said, param)

    def check(self, question: Question) -> None:
        given = (question.query, *question.documents)
        if question.model == MODEL and any(isinstance(each, Parts) for each in given):
            said = f"MultiModalParam is not supported for {MODEL}"
            raise RefusedError(400, "BadRequestError", said)
        if question.model not in (MODEL, VL_MODEL):
            said = f"The model `{question.model}` does not exist."
            raise RefusedError(404, "NotFoundError", said)
        if not question.documents:
            said = "At least one text_pair element must be given"
            raise RefusedError(400, "BadRequestError", said)

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        return {
            "id": f"score-{request_id.replace('-', '')[:16]}",
            "model": question.model,
            "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
            "results": [
                {
                    "index": index,
                    "document": _echoed(question.documents[index]),
                    "relevance_score": score,
                }
                for index, score in answer.results
            ],
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if refused.status == 401 and not refused.code:
            return {"error": "Unauthorized"}
        if not refused.code:
            return {"detail": refused.message}
        return {
            "error": {
                "message": _message(refused),
                "type": refused.code,
                "param": getattr(refused, "param", None),
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
    tells = ("/health", "/info")
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

    def about(self, tail: str, max_model_len: int) -> Any:
        if tail == "/health":
            return None
        return {
            "model_id": MODEL,
            "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
            "max_input_length": max_model_len,
            "max_client_batch_size": TEI_TEXTS.value,
        }

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

    def nowhere(self, status: int, method: str) -> RefusedError:  # noqa: ARG002
        return RefusedError(status, "", "")


class Xinference(OwnServer):
    """Xinference 4.1.0 with its sentence-transformers engine; it cuts what is too long."""

    name = "xinference"
    least_top_n = -math.inf
    registered = MODEL.rpartition("/")[2]
    tells = ("/v1/models", f"/v1/model_registrations/rerank/{registered}")
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

    def about(self, tail: str, max_model_len: int) -> Any:
        if tail != "/v1/models":
            where = {"model_format": "pytorch", "model_id": MODEL, "quantization": "none"}
            return {
                "version": 2,
                "model_name": self.registered,
                "model_specs": [where],
                "language": ["en", "zh"],
                "max_tokens": max_model_len,
            }
        model = {
            "id": MODEL,
            "object": "model",
            "created": 0,
            "owned_by": "xinference",
            "model_type": "rerank",
            "address": "127.0.0.1:1",
            "accelerators": [],
            "type": "normal",
            "model_name": self.registered,
            "model_engine": "sentence_transformers",
            "model_format": "pytorch",
            "language": ["en", "zh"],
            "model_ability": ["rerank"],
            "model_revision": None,
            "quantization": "none",
            "replica": 1,
        }
        return {"object": "list", "data": [model]}

    def holds(self, name: str, value: Any) -> bool:
        if name == "top_n" and isinstance(value, str):
            return value.isdecimal()
        if name == "documents" and isinstance(value, list):
            value = [str(each) if type(each) in (int, float) else each for each in value]
        return super().holds(name, value)

    def read(self, item: Any) -> str | Parts:
        return super().read(str(item))  # numbers are texts to it

    def kept(self, body: Mapping[str, Any]) -> int | None:
        # As a slice in Python: 0 keeps none, and -1 all but the last.
        return None if (most := body.get("top_n")) is None else int(most)

    def told_to(self, body: Mapping[str, Any]) -> str | None:
        try:
            told = read_json((body.get("kwargs") or "{}").encode())
        except ValueError:
            raise self.bad_body([]) from None
        return told.get("instruction") if isinstance(told, dict) else None

    def check(self, question: Question) -> None:
        if question.model != MODEL:
            said = f"Model not found in the model list, uid: {question.model}"
            raise RefusedError(404, "detail", said)

    def nowhere(self, status: int, method: str) -> RefusedError:  # noqa: ARG002
        if method == "GET":
            return RefusedError(404, "", "Not Found")
        return RefusedError(405, "", "Method Not Allowed")

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
            "meta": {
                "api_version": None,
                "billed_units": None,
                "tokens": {"input_tokens": answer.tokens, "output_tokens": answer.tokens}
                if question.return_tokens
                else None,
                "warnings": None,
            },
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if refused.status == 500 and not refused.code:
            return refused.message or ""
        return {"detail": _message(refused)}


class Infinity(OwnServer):
    """Infinity 0.0.78 with one model, which answers to any name; it cuts what is too long.

    What it calls tokens are characters, unless it is started with ``--lengths-via-tokenize``.
    """

    name = "infinity"
    least_top_n = 1
    tells = ("/health", "/models")
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

    def about(self, tail: str, max_model_len: int) -> Any:  # noqa: ARG002  it does not tell this
        if tail == "/health":
            return {"unix": 0.0}
        idle = ("queue_fraction", "queue_absolute", "results_pending")
        model = {
            "id": MODEL,
            "stats": {**dict.fromkeys(idle, 0), "batch_size": 32},
            "object": "model",
            "owned_by": "infinity",
            "created": 0,
            "backend": "torch",
            "capabilities": ["rerank"],
        }
        return {"object": "list", "data": [model]}

    def holds(self, name: str, value: Any) -> bool:
        is_number = name == "top_n" and isinstance(value, str) and value.isdecimal()
        return is_number or super().holds(name, value)

    def kept(self, body: Mapping[str, Any]) -> int | None:
        return int(body.get("top_n") or 0) or None

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        return _BadBodyError(slips)

    def check(self, question: Question) -> None:
        count, most = len(question.documents), INFINITY_TEXTS.value
        if not 1 <= count <= most:
            said = f"List should have at least 1 and at most {most} items after validation"
            kind, bound = ("too_long", "max_length") if count else ("too_short", "min_length")
            context = {"field_type": "List", bound: most if count else 1, "actual_length": count}
            raise self.bad_body([Slip("documents", kind, said, question.documents, context)])
        longest = INFINITY_CHARACTERS.value
        if any(len(str(text)) > longest for text in (question.query, *question.documents)):
            said = f"String should have at most {longest} characters"
            context = {"max_length": longest}
            raise self.bad_body(
                [Slip("documents", "string_too_long", said, question.documents, context)]
            )

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        shown = question.return_documents
        characters = sum(len(str(question.query)) + len(str(text)) for text in question.documents)
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
            "model": MODEL,
            "usage": {"prompt_tokens": characters, "total_tokens": characters},
            "id": f"infinity-{request_id}",
            "created": int(time.time()),
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        if refused.code:
            error = {"message": _message(refused), "type": None, "param": None}
            return {"error": {**error, "code": refused.status}}
        if isinstance(refused, _BadBodyError):  # with all that was sent
            return {
                "detail": [
                    {
                        **told,
                        "input": slip.input,
                        **({} if slip.context is None else {"ctx": dict(slip.context)}),
                    }
                    for told, slip in zip(_told(refused.slips), refused.slips, strict=True)
                ]
            }
        return {"detail": refused.message}


class Cohere(OwnServer):
    """Anything that speaks as Cohere's API does: what its clients and those of Jina's ask and read.

    It answers to any model's name. Its answers have what both makers' clients look for. Written
    from their clients (cohere 5.21.1 and LlamaIndex's JinaRerank), and never compared with a
    service.
    """

    name = "cohere"
    tails = ("/v1/rerank", "/v2/rerank", "/rerank")
    least_top_n = 1
    fields = MappingProxyType(
        {
            "model": _TEXT,
            "query": _TEXT,
            "documents": _TEXTS,
            "top_n": _WHOLE,
            "return_documents": _FLAG,
            "max_chunks_per_doc": _WHOLE,
            "max_tokens_per_doc": _WHOLE,
            "rank_fields": _TEXTS,
        }
    )

    def parse(self, body: Any) -> Question:
        # A document may be an object around its text.
        if isinstance(body, dict) and isinstance(texts := body.get("documents"), list):
            texts = [each.get("text") if isinstance(each, dict) else each for each in texts]
            body = {**body, "documents": texts}
        return super().parse(body)

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        slip = slips[0]
        return RefusedError(422, "", f"{slip.field}: {slip.said}")

    def check(self, question: Question) -> None:
        if not question.documents:
            raise RefusedError(400, "", "list of documents must not be empty")

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        shown = question.return_documents
        return {
            "id": request_id,
            "object": "list",
            "model": question.model,
            "results": [
                {
                    "index": index,
                    "relevance_score": score,
                    **({"document": {"text": question.documents[index]}} if shown else {}),
                }
                for index, score in answer.results
            ],
            "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        }

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        return {"message": _message(refused)}


_LITELLM_KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "Timeout",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


class _ProxyError(RefusedError):
    """What the proxy says by itself."""


class LiteLLM(OwnServer):
    """LiteLLM's proxy 1.108.7 in front of DashScope: an error of the latter stands inside its own.

    Scripted errors and faults are DashScope's. What a proxy says by itself is not wrapped.
    """

    name = "litellm"
    tails = ("/rerank", "/v1/rerank", "/v2/rerank")
    required = ("model", "query", "documents")
    instruct = "instruction"
    id_header = "x-litellm-call-id"
    tells = ("/v1/models",)
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
        status = 400 if slips[0].kind == "missing" else 500
        return _ProxyError(status, "None", str(_told(slips)))

    def check(self, question: Question) -> None:
        if question.model != MODEL:
            said = f"/rerank: Invalid model name passed in model={question.model}."
            raise _ProxyError(400, "None", said)
        if not question.documents:
            raise RefusedError(400, "InvalidParameter", "batch size of documents is invalid")

    def about(self, tail: str, max_model_len: int) -> Any:  # noqa: ARG002  it does not tell this
        model = {"id": MODEL, "object": "model", "owned_by": "openai"}
        return {"object": "list", "data": [model]}

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

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        if not refused.code:
            return {"detail": refused.message}
        if isinstance(refused, _ProxyError):
            said, kind = _message(refused), refused.code
        else:
            kind = _LITELLM_KINDS.get(refused.status, "APIError")
            inner = {"code": refused.code, "message": _message(refused), "request_id": request_id}
            quoted = write_json(inner).decode()
            said = (
                f"litellm.{kind}: {kind}: DashscopeException - {quoted}. Received Model Group="
                f"{MODEL}\nAvailable Model Group Fallbacks=None"
            )
            kind = "None"
        return {
            "error": {"message": said, "type": kind, "param": "None", "code": str(refused.status)}
        }


SERVERS: Mapping[str, OwnServer] = MappingProxyType(
    {
        server.name: server
        for server in (VLLM(), SGLang(), TEI(), Xinference(), Infinity(), LiteLLM(), Cohere())
    }
)


def server_at(path: str) -> OwnServer | None:
    """Return the server whose address *path* begins with, or None."""
    return SERVERS.get(path.strip("/").partition("/")[0])
