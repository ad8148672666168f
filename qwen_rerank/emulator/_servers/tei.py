"""Text Embeddings Inference, from its sources: it was never run."""

from types import MappingProxyType
from typing import Any

from qwen_rerank.emulator._models import TEI_TEXTS
from qwen_rerank.emulator._servers.base import FLAG, MODEL, TEXT, TEXTS, OwnServer, Slip, text_of
from qwen_rerank.emulator._service import Answer, Question, RefusedError


class TEI(OwnServer):
    """huggingface/text-embeddings-inference: http/types.rs at 265deb2, openapi.json of 1.7.1."""

    name = "tei"
    tells = ("/health", "/info")
    texts = "texts"
    required = ("query", "texts")
    fields = MappingProxyType(
        {
            "query": TEXT,
            "texts": TEXTS,
            "truncate": FLAG,
            "truncation_direction": TEXT,
            "raw_scores": FLAG,
            "return_text": FLAG,
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

    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        return [
            {
                "index": index,
                **({"text": question.documents[index]} if question.return_documents else {}),
                "score": score,
            }
            for index, score in answer.results
        ]

    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        if not refused.code:
            return refused.message or ""
        return {"error": text_of(refused), "error_type": refused.code}

    def nowhere(self, status: int, method: str) -> RefusedError:
        return RefusedError(status, "", "")
