"""The weak embedding, and what the two frameworks' stores find with it."""

import asyncio
import math

import langchain_core  # noqa: F401  both frameworks are what is tested
import llama_index.core  # noqa: F401
import pytest

from qwen_rerank import Usage
from qwen_rerank.cli.demo.corpus import Passage, load_passages
from qwen_rerank.cli.demo.first_stage import LangChainEmbedding, LlamaIndexEmbedding, embed
from qwen_rerank.cli.demo.frameworks import FRAMEWORKS, LangChain, LlamaIndex

LOOP = "which loops are there?"
PASSAGES = tuple(
    Passage(f"{topic}-0", topic, text)
    for topic, text in {
        "for": "Loops\n\nThe loop over a list runs for each item.",
        "tea": "Tea\n\nGreen leaves in hot water.",
        "while": "While\n\nThis loop ends when its condition is false; a loop may have an else.",
    }.items()
)


def similarity(one, two):
    """The cosine of two texts."""
    return sum(a * b for a, b in zip(embed(one), embed(two), strict=True))


@pytest.fixture(params=FRAMEWORKS, ids=lambda framework: framework.name)
def framework(request, connection):
    """Either framework, connected to the emulator."""
    opened = request.param(PASSAGES, **connection)
    yield opened
    opened.close()


def test_a_vector_has_unit_length():
    """Whatever the text's length, its vector has 128 dimensions and length 1."""
    for text in ("loop", "loop " * 1_000, "Ünïcode 变量 loop"):
        assert len(embed(text)) == 128
        assert math.hypot(*embed(text)) == pytest.approx(1.0)


def test_a_text_without_words_is_all_zeros():
    """A text of stop words alone is near to nothing, and no division fails."""
    assert embed("") == embed("the of, and!") == [0.0] * 128


def test_words_that_count_as_the_same():
    """Case, plural and stop words make no difference; what merely ends in s is no plural."""
    assert embed("Loops and the queries") == embed("a loop query")
    for word in ("class", "status", "gas"):
        assert embed(word) != embed(word[:-1])


def test_vectors_are_the_same_in_every_process():
    """Python's own string hash has no part in them; a word's second mention counts for less."""
    vector = [(at, round(value, 3)) for at, value in enumerate(embed("stop a loop, loop")) if value]
    assert vector == [(29, -0.861), (89, 0.509)]


def test_both_wrappers_embed_alike():
    """LangChain and LlamaIndex get the same vectors, for texts and for questions."""
    chain, index = LangChainEmbedding(), LlamaIndexEmbedding()
    expected = embed(LOOP)
    assert chain.embed_query(LOOP) == index.get_query_embedding(LOOP) == expected
    assert chain.embed_documents([LOOP]) == index.get_text_embedding_batch([LOOP]) == [expected]
    assert asyncio.run(index.aget_query_embedding(LOOP)) == expected


def test_the_nearest_come_first(framework):
    """Retrieval finds the passages that share a word with the question, the nearest first."""
    found = framework.read(framework.retrieve(LOOP, 2))
    assert {one.passage.topic for one in found} == {"for", "while"}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert [one.score for one in found] == pytest.approx(
        [similarity(LOOP, one.passage.text) for one in found]
    )


def test_retrieving_again_finds_the_first_scores(framework):
    """A rerank leaves no score behind in the store."""
    candidates = framework.retrieve(LOOP, 3)
    before = framework.read(candidates)
    framework.rerank(LOOP, candidates)
    assert framework.read(candidates) == before
    assert framework.read(framework.retrieve(LOOP, 3)) == before


def test_the_cost_is_added_up(framework, emulator):
    """Usage is what the service counted, over all calls."""
    assert framework.usage == Usage()
    for _ in range(2):
        framework.rerank(LOOP, framework.retrieve(LOOP, 3))
    tokens = sum(request.tokens for request in emulator.log)
    assert framework.usage == Usage(requests=2, tokens=tokens)


def test_the_frameworks_send_the_same(connection, emulator):
    """For the same question both doors send the same texts: ids and topics are not among them."""
    for kind in FRAMEWORKS:
        opened = kind(PASSAGES, **connection)
        opened.rerank(LOOP, opened.retrieve(LOOP, 3))
        opened.close()
    one, other = (request.body["input"]["documents"] for request in emulator.log)
    assert one == other
    assert set(one) == {passage.text for passage in PASSAGES}


def test_the_frameworks_find_the_same(connection):
    """On the real corpus both stores find the same, but for passages that share no word at all."""
    chain, index = (kind(load_passages(), **connection) for kind in (LangChain, LlamaIndex))
    question = "how do I stop a loop early?"
    one, other = (
        {
            found.passage.id: pytest.approx(found.score)
            for found in opened.read(opened.retrieve(question, 100))
            if abs(found.score) > 1e-9
        }
        for opened in (chain, index)
    )
    assert len(one) > 20
    assert one == other
