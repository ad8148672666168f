"""How long a text is in Qwen tokens; the only place with an opinion about tokens.

The vocabulary is the file that ships inside the dashscope package, read without importing that
package (its import takes seconds, this file 0.4 s). Whether the hosted models count exactly like
this tokenizer was never checked against the live service.
"""

from __future__ import annotations

import base64
import importlib.util
import unicodedata
from functools import cache
from pathlib import Path

import tiktoken

__all__ = ["Tokenizer", "bound", "tokenizer"]

# How Qwen's tokenizer cuts text before merging, as in dashscope/tokenizers/qwen_tokenizer.py.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tiktoken recurses in proportion to a text's length, and a cut needs only the text's head.
_CHUNK = 20_000


def bound(text: str) -> int:
    """A number of tokens that *text* cannot exceed, found without the vocabulary.

    The tokenizer works on the UTF-8 bytes of the NFC form and every token takes at least one byte.
    """
    if text.isascii():
        return len(text)
    return len(unicodedata.normalize("NFC", text).encode())


class Tokenizer:
    """Counts and cuts text in tokens of the Qwen vocabulary. Get it from `tokenizer`."""

    def __init__(self, vocabulary: Path) -> None:
        ranks = {
            base64.b64decode(token): int(rank)
            for token, rank in (
                line.split() for line in vocabulary.read_bytes().splitlines() if line
            )
        }
        self._encoding = tiktoken.Encoding(
            "qwen", pat_str=_SPLIT, mergeable_ranks=ranks, special_tokens={}
        )

    def count(self, text: str) -> int:
        """Tokens of *text*; markers such as ``<|im_end|>`` count as the plain text they are."""
        text = unicodedata.normalize("NFC", text)
        return sum(
            len(self._encoding.encode_ordinary(text[start : start + _CHUNK]))
            for start in range(0, len(text), _CHUNK)
        )

    def cut(self, text: str, limit: int) -> str:
        """The longest head of *text* found with at most *limit* tokens, on a character boundary."""
        text = unicodedata.normalize("NFC", text)
        tokens: list[int] = []
        for start in range(0, len(text), _CHUNK):
            tokens += self._encoding.encode_ordinary(text[start : start + _CHUNK])
            if len(tokens) > limit:
                break
        else:
            return text
        # A head can tokenise differently from the whole, so what is kept is what was counted.
        keep = limit
        while self.count(head := self._decode(tokens[:keep])) > limit:
            keep -= 1
        return head

    def _decode(self, tokens: list[int]) -> str:
        return self._encoding.decode_bytes(tokens).decode("utf-8", errors="ignore")


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer, loaded at the first call and shared from then on.

    Raises:
        RuntimeError: The installed dashscope package does not carry the vocabulary file.
    """
    spec = importlib.util.find_spec("dashscope")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder, "resources", "qwen.tiktoken")).is_file():
            return Tokenizer(file)
    raise RuntimeError(
        "The Qwen vocabulary (dashscope/resources/qwen.tiktoken) was not found: "
        'reinstall it with pip install "dashscope>=1.22,<3".'
    )
