"""A perfect service through our splitting and merging stays perfect."""

import asyncio

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank


async def _with_documents(reranker, query, texts, *, native):
    documents = [Document(text, id=document) for document, text in texts.items()]
    if native:
        return [each.id for each in await reranker.acompress_documents(documents, query)]
    return [each.id for each in reranker.compress_documents(documents, query)]


async def _with_nodes(reranker, query, texts, *, native):
    nodes = [NodeWithScore(node=TextNode(id_=key, text=text)) for key, text in texts.items()]
    if native:
        return [each.node_id for each in await reranker.apostprocess_nodes(nodes, query_str=query)]
    return [each.node_id for each in reranker.postprocess_nodes(nodes, query_str=query)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "ranked", "native", "width"),
    [
        (langchain_qwen_rerank.QwenRerank, _with_documents, False, 20),
        (langchain_qwen_rerank.QwenRerank, _with_documents, True, 1),
        (llama_index_qwen_rerank.QwenRerank, _with_nodes, False, 7),
        (llama_index_qwen_rerank.QwenRerank, _with_nodes, True, 100),
    ],
    ids=["langchain-sync", "langchain-async", "llama-index-sync", "llama-index-async"],
)
def test_perfect_scores_give_the_perfect_ranking(scifact, oracle, door, ranked, native, width):
    """However a list is cut, its ranking is what the scores say: the perfect bound, exactly."""
    reranker = door(top_n=None, max_documents_per_request=width, **oracle)
    asked = list(scifact.found)[:20]

    async def rankings():
        return {
            query: await ranked(
                reranker,
                scifact.queries[query],
                {document: scifact.documents[document] for document in scifact.found[query]},
                native=native,
            )
            for query in asked
        }

    measured = scifact.ndcg(asyncio.run(rankings()))

    ideal = {
        query: sorted(
            scifact.found[query], key=lambda document: -scifact.judgements[query].get(document, 0)
        )
        for query in asked
    }
    assert measured == scifact.ndcg(ideal)
