"""How long a text is in Qwen tokens; the only place with an opinion about tokens.

The vocabulary is the file that ships inside the dashscope package, read without importing that
package (its import takes seconds, this file 0.4 s). Whether the hosted models count exactly like
this tokenizer was never checked against the live service.
"""

from __future__ import annotations

import binascii
import copy
import importlib.util
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path

from qwen_rerank._bound import PIECE, normal
from qwen_rerank._fork import no_fork

__all__ = ["Tokenizer", "tokenizer"]

# How Qwen's tokenizer cuts text before merging, as in dashscope/tokenizers/qwen_tokenizer.py.
# The group changes nothing but the time: tiktoken's engine takes a faster way with it.
_SPLIT = (
    r"(?:(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+)|\s+(?!\S)|\s+"
)
# Bytes that continue a UTF-8 character.
_INSIDE = bytes(range(0x80, 0xC0))


class Tokenizer:
    """Counts and cuts text in tokens of the Qwen vocabulary. Get it from `tokenizer`."""

    _check: Callable[[], None] | None = None

    def __init__(self, vocabulary: Path) -> None:
        import tiktoken  # noqa: PLC0415  most calls never count

        words = vocabulary.read_bytes().split()  # a token and its rank in turn
        tokens, ranks = map(binascii.a2b_base64, words[::2]), map(int, words[1::2])
        self._encoding = tiktoken.Encoding(
            "qwen",
            pat_str=_SPLIT,
            mergeable_ranks=dict(zip(tokens, ranks, strict=True)),
            special_tokens={},
        )

    def watched(self, check: Callable[[], None]) -> Tokenizer:
        """The same, which calls *check* between two pieces of text; what that raises ends it."""
        watched = copy.copy(self)
        watched._check = check
        return watched

    def count(self, text: str) -> int:
        """Tokens of *text*; markers such as ``<|im_end|>`` count as the plain text they are."""
        if not text.isascii():
            text = "".join(normal(text))
        return sum(len(tokens) for tokens in self._encoded(text))

    def head(self, text: str, most: int) -> int:
        """Where the longest head of *text* found with at most *most* tokens ends.

        The offset is in characters of *text* as it is, and never inside a character.
        """
        if not unicodedata.is_normalized("NFC", text[:PIECE]):
            return self._composed_head(text, most)
        starts = [0]
        for tokens in self._encoded(text):
            starts += self._starts(tokens, first=starts.pop())
            if len(starts) - 1 > most:
                break
        # A head can have other tokens than the whole had there, so it is counted itself.
        keep = min(most, len(starts) - 1)
        if self.count(text[: starts[keep]]) <= most:
            return starts[keep]
        fits = 0
        while fits < keep - 1:  # a head of that many tokens fits, one of keep does not
            middle = (fits + keep) // 2
            if self.count(text[: starts[middle]]) <= most:
                fits = middle
            else:
                keep = middle
        return starts[fits]

    def _composed_head(self, text: str, most: int) -> int:
        """`head` of a text whose NFC form, which is what counts, has other characters."""
        return _longest(len(text), most, lambda length: self.count(text[:length]) <= most)

    def tail(self, text: str, most: int) -> int:
        """Where the longest tail of *text* found with at most *most* tokens begins, likewise."""
        end = len(text)
        return end - _longest(end, most, lambda length: self.count(text[end - length :]) <= most)

    def windows(self, text: str, most: int, characters: int) -> list[tuple[int, int]]:
        """Even parts of *text*, each overlapping the next by an eighth.

        Args:
            text: The text.
            most: Tokens that a window may have.
            characters: Characters that a window may have.

        Returns:
            Where each window starts and ends, in characters of *text* as it is.
        """
        starts = [0]
        for tokens in self._encoded(text):
            starts += self._starts(tokens, first=starts.pop())
        budget = most
        while True:
            windows = _even_windows(starts, budget)
            if budget == 1 or all(
                end - start <= characters and self.count(text[start:end]) <= most
                for start, end in windows
            ):
                return windows
            budget = max(
                1, budget * 9 // 10
            )  # a part can have other tokens than the whole had there

    def _encoded(self, text: str) -> Iterator[list[int]]:
        for start in range(0, len(text), PIECE):
            if self._check is not None:
                self._check()
            yield self._encoding.encode_ordinary(text[start : start + PIECE])

    def _starts(self, tokens: list[int], first: int) -> list[int]:
        """Where each of *tokens* starts in characters, if the first starts at *first*; and the end.

        One that starts inside a character is said to start with it.
        """
        pieces = self._encoding.decode_tokens_bytes(tokens)
        begun = accumulate((len(piece.translate(None, _INSIDE)) for piece in pieces), initial=first)
        return [
            at - (piece[0] in _INSIDE) for at, piece in zip(begun, [*pieces, b" "], strict=True)
        ]


def _longest(length: int, most: int, fits: Callable[[int], bool]) -> int:
    """How much of *length* characters is found to fit, which is about twice *most* or more."""
    fitting, over = 0, max(1, 2 * most)
    while over < length and fits(over):
        fitting, over = over, 2 * over
    over = min(over, length + 1)
    while over - fitting > 1:
        middle = (fitting + over) // 2
        if fits(middle):
            fitting = middle
        else:
            over = middle
    return fitting


def _even_windows(starts: list[int], most: int) -> list[tuple[int, int]]:
    total, overlap = len(starts) - 1, most // 8
    count = max(1, -(-(total - overlap) // (most - overlap)))
    size = -(-(total + (count - 1) * overlap) // count)
    firsts = (number * (size - overlap) for number in range(count))
    return [(starts[first], starts[min(first + size, total)]) for first in firsts]


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer, loaded at the first call and shared from then on.

    Raises:
        RuntimeError: The installed dashscope package does not carry the vocabulary file.
    """
    spec = importlib.util.find_spec("dashscope")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder, "resources", "qwen.tiktoken")).is_file():
            with no_fork:
                return Tokenizer(file)
    raise RuntimeError(
        "The Qwen vocabulary (dashscope/resources/qwen.tiktoken) was not found: "
        'reinstall it with pip install "dashscope>=1.22,<3".'
    )
