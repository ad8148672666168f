"""Xinference, as it was seen to answer."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

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
from qwen_rerank.emulator._wire import read_json


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
            "model": TEXT,
            "query": TEXT,
            "documents": TEXTS,
            "top_n": WHOLE,
            "return_documents": FLAG,
            "return_len": FLAG,
            "max_chunks_per_doc": WHOLE,
            "kwargs": TEXT,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
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

    def nowhere(self, status: int, method: str) -> RefusedError:
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

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        if refused.status == 500 and not refused.code:
            return refused.message or ""
        return {"detail": text_of(refused)}
