"""Both frameworks side by side: store, retrieve, rerank, in their own terms. Nothing is measured.

One class for each framework, and `Framework` for what the demo wants of either.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode
from typing_extensions import override

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import BaseReranker, Usage
from qwen_rerank.cli.demo.corpus import Passage
from qwen_rerank.cli.demo.first_stage import LangChainEmbedding, LlamaIndexEmbedding
from qwen_rerank.cli.demo.measure import Found

__all__ = ["FRAMEWORKS", "Framework", "LangChain", "LlamaIndex"]

T = TypeVar("T")


class Framework(ABC, Generic[T]):
    """A framework with the passages in its vector store and a reranker behind it.

    Args:
        passages: What there is to be found.
        door: The framework's reranker.
    """

    name: ClassVar[str]

    def __init__(self, passages: Sequence[Passage], door: BaseReranker) -> None:
        self._door = door
        self._passages = {passage.id: passage for passage in passages}

    @abstractmethod
    def retrieve(self, question: str, count: int) -> list[T]:
        """The *count* passages nearest to *question*, as the framework's objects."""

    @abstractmethod
    def rerank(self, question: str, candidates: list[T]) -> list[T]:
        """All *candidates*, in the reranker's order."""

    @abstractmethod
    def read(self, candidates: Iterable[T]) -> tuple[Found, ...]:
        """What the framework's objects stand for."""

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self._door.model

    @property
    def usage(self) -> Usage:
        """What reranking has cost so far."""
        return self._door.usage

    def close(self) -> None:
        """Closes the reranker's connections."""
        self._door.close()


class LangChain(Framework[Document]):
    """`InMemoryVectorStore` and `langchain_qwen_rerank.QwenRerank`."""

    name = "LangChain"

    def __init__(self, passages: Sequence[Passage], **options: Any) -> None:
        self._compressor = langchain_qwen_rerank.QwenRerank(top_n=None, **options)
        super().__init__(passages, self._compressor)
        self._store = InMemoryVectorStore(LangChainEmbedding())
        self._store.add_documents(
            [
                Document(passage.text, id=passage.id, metadata={"topic": passage.topic})
                for passage in passages
            ]
        )

    @override
    def retrieve(self, question: str, count: int) -> list[Document]:
        return [
            document.model_copy(update={"metadata": document.metadata | {"relevance_score": score}})
            for document, score in self._store.similarity_search_with_score(question, k=count)
        ]

    @override
    def rerank(self, question: str, candidates: list[Document]) -> list[Document]:
        return self._compressor.compress_documents(candidates, question)

    @override
    def read(self, candidates: Iterable[Document]) -> tuple[Found, ...]:
        return tuple(
            Found(self._passages[document.id or ""], document.metadata["relevance_score"])
            for document in candidates
        )


class LlamaIndex(Framework[NodeWithScore]):
    """`VectorStoreIndex` and `llama_index_qwen_rerank.QwenRerank`."""

    name = "LlamaIndex"

    def __init__(self, passages: Sequence[Passage], **options: Any) -> None:
        self._postprocessor = llama_index_qwen_rerank.QwenRerank(top_n=None, **options)
        super().__init__(passages, self._postprocessor)
        embedding = LlamaIndexEmbedding()
        # Without both of these LlamaIndex makes its defaults: OpenAI's embedding, a tokenizer.
        self._index = VectorStoreIndex(
            [
                TextNode(
                    id_=passage.id,
                    text=passage.text,
                    metadata={"id": passage.id, "topic": passage.topic},
                    # by default metadata becomes part of the text, and LangChain's has none
                    excluded_embed_metadata_keys=["id", "topic"],
                    excluded_llm_metadata_keys=["id", "topic"],
                )
                for passage in passages
            ],
            embed_model=embedding,
            transformations=[embedding],
        )

    @override
    def retrieve(self, question: str, count: int) -> list[NodeWithScore]:
        return self._index.as_retriever(similarity_top_k=count).retrieve(question)

    @override
    def rerank(self, question: str, candidates: list[NodeWithScore]) -> list[NodeWithScore]:
        return self._postprocessor.postprocess_nodes(candidates, query_str=question)

    @override
    def read(self, candidates: Iterable[NodeWithScore]) -> tuple[Found, ...]:
        return tuple(
            Found(self._passages[candidate.node_id], candidate.get_score())
            for candidate in candidates
        )


FRAMEWORKS: tuple[Callable[..., Framework[Any]], ...] = (LangChain, LlamaIndex)
