"""Cohere's own API, and whatever speaks as that does."""

from types import MappingProxyType
from typing import Any

from qwen_rerank.emulator._servers.base import FLAG, TEXT, TEXTS, WHOLE, OwnServer, Slip, text_of
from qwen_rerank.emulator._service import Answer, Question, RefusedError


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
            "model": TEXT,
            "query": TEXT,
            "documents": TEXTS,
            "top_n": WHOLE,
            "return_documents": FLAG,
            "max_chunks_per_doc": WHOLE,
            "max_tokens_per_doc": WHOLE,
            "rank_fields": TEXTS,
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

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        return {"message": text_of(refused)}
