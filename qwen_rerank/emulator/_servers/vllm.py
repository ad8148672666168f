"""vLLM, as it was seen to answer."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from qwen_rerank.emulator._media import Media
from qwen_rerank.emulator._models import TEMPLATE_TOKENS
from qwen_rerank.emulator._servers.base import (
    FLAG,
    MODEL,
    TEXT,
    TEXTS,
    WHOLE,
    OwnServer,
    Slip,
    text_of,
)
from qwen_rerank.emulator._service import Answer, Parts, Question, RefusedError
from qwen_rerank.emulator._tokenizer import replace_surrogates

VL_MODEL = "Qwen/Qwen3-VL-Reranker-2B"
"""What it serves besides, for images."""


def _place(slip: Slip) -> str:
    return f"body.{slip.field}" if slip.field else "body"


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
            "model": TEXT,
            "query": TEXT,
            "documents": TEXTS,
            "top_n": WHOLE,
            "instruction": TEXT,
            "max_tokens_per_query": WHOLE,
            "max_tokens_per_doc": WHOLE,
            "truncate_prompt_tokens": WHOLE,
            "use_activation": FLAG,
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

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        if refused.status == 401 and not refused.code:
            return {"error": "Unauthorized"}
        if not refused.code:
            return {"detail": refused.message}
        return {
            "error": {
                "message": text_of(refused),
                "type": refused.code,
                "param": getattr(refused, "param", None),
                "code": refused.status,
            }
        }
