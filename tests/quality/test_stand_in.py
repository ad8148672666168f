"""How well the emulator's stand-in ranks: near BM25, without any statistics of the collection."""

import pytest

from qwen_rerank.emulator._scorer import lexical_score


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("scifact", 0.68), ("xquad", 0.96)])
def test_near_bm25(request, name, least):
    """nDCG@10 of 100 questions, in English and in Chinese."""
    collection = request.getfixturevalue(name)
    texts = collection.documents

    def ranked(query):
        question = collection.queries[query]
        candidates = collection.found.get(query, texts)
        return sorted(candidates, key=lambda each: -lexical_score(question, texts[each]))

    assert collection.ndcg({query: ranked(query) for query in [*collection.queries][:100]}) >= least
