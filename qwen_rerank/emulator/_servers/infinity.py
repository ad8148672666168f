"""Infinity, as it was seen to answer."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from qwen_rerank.emulator._models import INFINITY_CHARACTERS, INFINITY_TEXTS
from qwen_rerank.emulator._servers.base import (
    FLAG,
    MODEL,
    TEXT,
    TEXTS,
    WHOLE,
    OwnServer,
    Slip,
    as_fastapi,
    text_of,
)
from qwen_rerank.emulator._service import Answer, Question, RefusedError


class _BadBodyError(RefusedError):
    """A bad body, told field by field."""

    def __init__(self, slips: list[Slip]) -> None:
        super().__init__(422, "", str(as_fastapi(slips)))
        self.slips = slips


class Infinity(OwnServer):
    """Infinity 0.0.78 with one model, which answers to any name; it cuts what is too long.

    What it calls tokens are characters, unless it is started with ``--lengths-via-tokenize``.
    """

    name = "infinity"
    least_top_n = 1
    tells = ("/health", "/models")
    fields = MappingProxyType(
        {
            "model": TEXT,
            "query": TEXT,
            "documents": TEXTS,
            "top_n": WHOLE,
            "return_documents": FLAG,
            "raw_scores": FLAG,
        }
    )

    def about(self, tail: str, max_model_len: int) -> Any:
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

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        if refused.code:
            error = {"message": text_of(refused), "type": None, "param": None}
            return {"error": {**error, "code": refused.status}}
        if isinstance(refused, _BadBodyError):  # with all that was sent
            return {
                "detail": [
                    {
                        **told,
                        "input": slip.input,
                        **({} if slip.context is None else {"ctx": dict(slip.context)}),
                    }
                    for told, slip in zip(as_fastapi(refused.slips), refused.slips, strict=True)
                ]
            }
        return {"detail": refused.message}
