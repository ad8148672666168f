"""The LiteLLM proxy, as it was seen to answer."""

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
    as_fastapi,
    text_of,
)
from qwen_rerank.emulator._service import Answer, Question, RefusedError
from qwen_rerank.emulator._wire import write_json

_KINDS = {
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
            "model": TEXT,
            "query": TEXT,
            "documents": TEXTS,
            "top_n": WHOLE,
            "return_documents": FLAG,
            "max_chunks_per_doc": WHOLE,
            "max_tokens_per_doc": WHOLE,
            "instruction": TEXT,
        }
    )

    def bad_body(self, slips: list[Slip]) -> RefusedError:
        status = 400 if slips[0].kind == "missing" else 500
        return _ProxyError(status, "None", str(as_fastapi(slips)))

    def check(self, question: Question) -> None:
        if question.model != MODEL:
            said = f"/rerank: Invalid model name passed in model={question.model}."
            raise _ProxyError(400, "None", said)
        if not question.documents:
            raise RefusedError(400, "InvalidParameter", "batch size of documents is invalid")

    def about(self, tail: str, max_model_len: int) -> Any:
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
            said, kind = text_of(refused), refused.code
        else:
            kind = _KINDS.get(refused.status, "APIError")
            inner = {"code": refused.code, "message": text_of(refused), "request_id": request_id}
            quoted = write_json(inner).decode()
            said = (
                f"litellm.{kind}: {kind}: DashscopeException - {quoted}. Received Model Group="
                f"{MODEL}\nAvailable Model Group Fallbacks=None"
            )
            kind = "None"
        return {
            "error": {"message": said, "type": kind, "param": "None", "code": str(refused.status)}
        }
