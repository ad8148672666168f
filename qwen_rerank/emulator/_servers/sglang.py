"""SGLang, from its sources: it was never run."""

from types import MappingProxyType
from typing import Any

from qwen_rerank.emulator._servers.base import (
    FLAG,
    TEXT,
    TEXTS,
    WHOLE,
    OwnServer,
    Slip,
    as_fastapi,
    text_of,
)
from qwen_rerank.emulator._service import Answer, Question, RefusedError


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
            "model": TEXT,
            "query": TEXT,
            "documents": TEXTS,
            "instruct": TEXT,
            "top_n": WHOLE,
            "return_documents": FLAG,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        return RefusedError(400, "Bad Request", str(as_fastapi(slips)))

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

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        return [
            {
                "score": score,
                **({"document": question.documents[index]} if question.return_documents else {}),
                "index": index,
                "meta_info": None,
            }
            for index, score in answer.results
        ]

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        if not refused.code:
            return {"detail": refused.message}
        return {
            "object": "error",
            "message": text_of(refused),
            "type": refused.code,
            "param": None,
            "code": refused.status,
        }
