"""The two doors and the core behind one face, so that one list of duties holds for all of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import BaseReranker

Ranked = list[tuple[str, float | None]]


def _with_documents(reranker: Any, query: str, texts: list[str], *, native: bool) -> Ranked:
    documents = [Document(text) for text in texts]
    ranked = (
        asyncio.run(reranker.acompress_documents(documents, query))
        if native
        else reranker.compress_documents(documents, query)
    )
    return [(each.page_content, each.metadata.get("relevance_score")) for each in ranked]


def _with_nodes(reranker: Any, query: str, texts: list[str], *, native: bool) -> Ranked:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
    ranked = (
        asyncio.run(reranker.apostprocess_nodes(nodes, query_str=query))
        if native
        else reranker.postprocess_nodes(nodes, query_str=query)
    )
    return [(each.node.get_content(), each.score) for each in ranked]


@dataclass(frozen=True)
class Door:
    """One door, entered by one of its two ways."""

    kind: type[BaseReranker]
    ranked: Callable[..., Ranked]
    native: bool

    def __call__(self, reranker: BaseReranker, query: str, texts: list[str]) -> Ranked:
        """The texts and scores that this way gives back."""
        return self.ranked(reranker, query, texts, native=self.native)


DOORS = {
    "langchain-sync": Door(langchain_qwen_rerank.QwenRerank, _with_documents, native=False),
    "langchain-async": Door(langchain_qwen_rerank.QwenRerank, _with_documents, native=True),
    "llama-index-sync": Door(llama_index_qwen_rerank.QwenRerank, _with_nodes, native=False),
    "llama-index-async": Door(llama_index_qwen_rerank.QwenRerank, _with_nodes, native=True),
}


@pytest.fixture(params=DOORS, name="door")
def _door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(name="doors")
def _doors() -> dict[str, Door]:
    return DOORS
