"""Lexical relevance of one document to one query; no statistics of any collection, no state.

A stand-in for development and tests, not the Qwen models: BM25's term saturation and length
normalisation, with inverse frequencies read off the Qwen vocabulary. That vocabulary is ordered by
how early a tokenizer's training merged each entry, so that a word's rank tells roughly how common
it is, in any language. A score depends on its pair only: not on the neighbours, not on the past;
what libraries of BM25 give depends on a collection.
"""

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from qwen_rerank.emulator._tokenizer import qwen_tokenizer

# Saturation, weight of the length, length of an average document (terms), weight of an adjacent
# pair, and the rank at which a word begins to count; found on labelled public collections.
_K1, _B, _LENGTH, _PAIR, _COMMON_RANK = 1.5, 0.6, 150.0, 0.2, 500.0
# Shape of the result: no shared term gives the floor, half of the query's weight about 0.4, all of
# it about 0.75 in a document of average length and 0.85 in a sentence.
_FLOOR, _HALF_WAY = 0.005, 0.35

# Scripts written without spaces, and Hangul, whose words carry endings: pairs of characters.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_UNSPACED_RUN = re.compile(f"([{_UNSPACED}]+)")
# Elsewhere a word is letters and digits, with the marks that spell vowels in Indic scripts.
_WORD = re.compile(rf"[\w\u0900-\u0dff{_UNSPACED}]+")
# Accents on Latin and Greek letters and on Cyrillic ye, Hebrew points, Arabic vowel signs.
_OPTIONAL_MARKS = re.compile(
    "(?<=[a-z\u03b1-\u03c9\u0435])[\u0300-\u036f]+|[\u0591-\u05c7\u064b-\u0652\u0640]"
)


def lexical_score(query: str, document: str) -> float:
    """Return how well *document* matches *query*: a lexical stand-in, not a Qwen model's score.

    Args:
        query: Any text, in any language.
        document: Any text.

    Returns:
        A number between 0 and 1, both excluded. Equal arguments give equal scores in every process.
    """
    asked = _asked(query)
    found = _terms(document)
    counts = Counter(filter(asked.weights.__contains__, found))
    if not counts:
        return _squash(0.0)
    slack = _K1 * (1 - _B + _B * len(found) / _LENGTH)
    # Of exact sums, since Python 3.12 adds floats otherwise than 3.11.
    total = math.fsum(
        asked.weights[term] * count * (_K1 + 1) / (count + slack) for term, count in counts.items()
    )
    if asked.pairs:
        adjacent = set(pairwise(found))
        total += math.fsum(weight for pair, weight in asked.pairs.items() if pair in adjacent)
    return _squash(total / asked.full)


def _squash(share: float) -> float:
    return _FLOOR + (1 - 2 * _FLOOR) * share**2 / (share**2 + _HALF_WAY)


@dataclass(frozen=True)
class _Asked:
    weights: dict[str, float]
    pairs: dict[tuple[str, str], float]
    full: float


@lru_cache(maxsize=1024)
def _asked(query: str) -> _Asked:
    terms = _terms(query)
    weights = {term: _weight(term) for term in terms}
    pairs = {(one, two): _PAIR * min(weights[one], weights[two]) for one, two in pairwise(terms)}
    return _Asked(weights, pairs, math.fsum(weights.values()))


def _terms(text: str) -> list[str]:
    """Return the words of *text*, plural endings off, and pairs of characters where none are."""
    text = _folded(text)
    words = _WORD.findall(text)
    if text.isascii() or not _UNSPACED_RUN.search(text):
        return list(map(_singular, words))
    terms: list[str] = []
    for word in words:
        for place, run in enumerate(_UNSPACED_RUN.split(word)):
            if place % 2 and len(run) > 1:
                terms += map("".join, pairwise(run))
            elif run:
                terms.append(_singular(run))
    return terms


def _folded(text: str) -> str:
    """Return *text* without case, accents and width, and without underscores."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.casefold())
        text = unicodedata.normalize("NFC", _OPTIONAL_MARKS.sub("", text))
    return text.lower().replace("_", " ")


@lru_cache(maxsize=65_536)
def _singular(word: str) -> str:
    """Take a plural ending off, no more: a heavier stem is no word of the vocabulary."""
    if len(word) > 3 and word.isascii():
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        if word.endswith("es") and word[-3] in "sxz":
            return word[:-2]
        if word.endswith("s") and not word.endswith(("ss", "us")):
            return word[:-1]
    return word


@lru_cache(maxsize=65_536)
def _weight(term: str) -> float:
    """Return the inverse frequency of *term*, by the best rank among its spellings."""
    tokenizer = qwen_tokenizer()
    ranks = tokenizer.ranks
    spellings = [f" {term}", term, f" {term.capitalize()}", f" {term}s", f" {term}es"]
    if term.endswith("y"):
        spellings.append(f" {term[:-1]}ies")
    known = [ranks[spelling] for spelling in map(str.encode, spellings) if spelling in ranks]
    # A word in several pieces is rarer than any in one, and the rarer the more pieces.
    rank = min(known) if known else len(ranks) * (tokenizer.count(spellings[0]) - 1)
    return math.log1p(rank / _COMMON_RANK)
