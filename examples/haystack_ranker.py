"""A ranker for Haystack: how one class brings the core to one more framework.

    python examples/haystack_ranker.py

Nothing leaves this machine: an emulator of the rerank service answers, which compares words.
Without `base_url` the ranker asks DashScope, with DASHSCOPE_API_KEY; it was never run against the
live service.

It takes: pip install ".[emulator]" haystack-ai
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from haystack import Document, Pipeline, component, default_from_dict, default_to_dict
from haystack.components.retrievers import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from qwen_rerank import Ranking, Reranker
from qwen_rerank.emulator import Emulator


@component
class QwenRanker:
    """Puts the documents that fit the query best first, with their relevance scores.

    Args:
        top_k: How many documents to keep; None keeps all.
        api_key: Where the key is; without it it is looked for as everywhere in qwen-rerank.
        **options: Those of `qwen_rerank.RerankSettings`, such as ``model`` and ``score_threshold``.
    """

    def __init__(
        self, top_k: int | None = 10, api_key: Secret | None = None, **options: Any
    ) -> None:
        self.top_k, self.api_key, self.options = top_k, api_key, options
        key = {"api_key": api_key.resolve_value()} if api_key else {}
        self._reranker = Reranker(top_n=top_k, **key, **options)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Ranks *documents*; *top_k* for this call alone."""
        ranking = self._reranker.rerank(query, _texts(documents), top_n=top_k or self.top_k)
        return {"documents": _ranked(documents, ranking)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run` for a running event loop."""
        ranking = await self._reranker.arerank(query, _texts(documents), top_n=top_k or self.top_k)
        return {"documents": _ranked(documents, ranking)}

    def to_dict(self) -> dict[str, Any]:
        """What a pipeline's YAML holds: where the key is, and not the key."""
        key = self.api_key and self.api_key.to_dict()
        return default_to_dict(self, top_k=self.top_k, api_key=key, **self.options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "QwenRanker":
        """The ranker that `to_dict` told of."""
        return default_from_dict(cls, data)


def _texts(documents: Iterable[Document]) -> list[str]:
    return [document.content or "" for document in documents]


def _ranked(documents: list[Document], ranking: Ranking) -> list[Document]:
    return [replace(documents[hit.index], score=hit.score) for hit in ranking]


def main() -> None:
    """Finds with Haystack's own retriever, and ranks what it found."""
    store = InMemoryDocumentStore()
    store.write_documents(
        [
            Document(id="bear", content="A bear sleeps through the winter, sometimes in a cave."),
            Document(id="bat", content="A bat sleeps upside down, often in a cave."),
            Document(id="owl", content="An owl hunts at night and sleeps in a tree."),
        ]
    )
    with Emulator() as emulator:
        pipeline = Pipeline()
        pipeline.add_component("retriever", InMemoryBM25Retriever(store))
        key = Secret.from_token(emulator.api_key)
        pipeline.add_component("ranker", QwenRanker(2, key, base_url=emulator.base_url))
        pipeline.connect("retriever.documents", "ranker.documents")
        query = "Which animal sleeps upside down?"
        answer = pipeline.run({"retriever": {"query": query}, "ranker": {"query": query}})
    for document in answer["ranker"]["documents"]:
        print(f"{document.score:.2f}  {document.id}")


if __name__ == "__main__":
    main()
