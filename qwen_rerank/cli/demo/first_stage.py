"""The demo's first stage: a weak embedding, made for LangChain and for LlamaIndex. No ranking.

It hashes words into 128 dimensions and knows nothing of meaning. That is on purpose: it is small,
needs no model and no network, and leaves a reranker something to do.
"""

import math
import re
from collections import Counter
from functools import lru_cache
from hashlib import blake2b

from langchain_core.embeddings import Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from typing_extensions import override

__all__ = ["LangChainEmbedding", "LlamaIndexEmbedding", "embed"]

_DIMENSIONS = 128
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        """
        a about after all also am an and any are as at be because been before being but by can
        cannot could did do does doing done for from get had has have how i if in into is it its
        just like me more most my no not of on one only or other our out over s so some such t than
        that the their them then there these they this those to too up use used using was we were
        what when where which while who why will with would you your
        """
    )
)


def embed(text: str) -> list[float]:
    """The unit vector of *text*: its words, hashed; all zeros if it has none worth counting.

    Equal texts have equal vectors in every process and on every machine.
    """
    words = Counter(
        _singular(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS
    )
    vector = [0.0] * _DIMENSIONS
    for word, count in words.items():
        dimension, sign = _place(word)
        vector[dimension] += sign * (1 + math.log(count))
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else vector


class LangChainEmbedding(Embeddings):
    """`embed` for LangChain's vector stores."""

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return list(map(embed, texts))

    @override
    def embed_query(self, text: str) -> list[float]:
        return embed(text)


class LlamaIndexEmbedding(BaseEmbedding):
    """`embed` for LlamaIndex's indexes."""

    model_name: str = "words hashed to 128 dimensions"

    @override
    def _get_text_embedding(self, text: str) -> list[float]:
        return embed(text)

    @override
    def _get_query_embedding(self, query: str) -> list[float]:
        return embed(query)

    @override
    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embed(query)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


@lru_cache(maxsize=65_536)
def _place(word: str) -> tuple[int, int]:
    """The dimension and the sign of *word*; Python's own hash differs between processes."""
    digest = int.from_bytes(blake2b(word.encode(errors="replace"), digest_size=8).digest())
    return digest % _DIMENSIONS, 1 if digest >> 63 else -1
