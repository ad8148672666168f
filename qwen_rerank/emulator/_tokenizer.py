"""How many Qwen tokens a text has; nothing here knows about requests or scores.

The vocabulary is a file inside the dashscope package. It is read without importing that package,
which would take seconds, and loaded once per process.
"""

import base64
import importlib.util
import re
import threading
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import tiktoken

# As in dashscope/tokenizers/qwen_tokenizer.py (2.0.2).
_SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CHUNK = 20_000  # characters; tiktoken can overflow its stack on very long inputs
_CACHED_LENGTH = 32_768  # characters; longer texts are counted anew, to bound the memory held


class Tokenizer:
    """The Qwen tokenizer, for counting and cutting."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        self.ranks = ranks
        """Each token's bytes and its place in the vocabulary, frequent ones first."""
        self._encoding = tiktoken.Encoding(
            "qwen", pat_str=_SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={}
        )
        self._cached_count = lru_cache(maxsize=4096)(lambda text: len(self.encode(text)))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of *text*, whatever it holds; markup such as <|im_start|> is text."""
        tokens: list[int] = []
        for chunk in _chunks(unicodedata.normalize("NFC", replace_surrogates(text))):
            tokens += self._encoding.encode_ordinary(chunk)
        return tokens

    def count(self, text: str) -> int:
        """Return the number of tokens of *text*."""
        if len(text) <= _CACHED_LENGTH:
            return self._cached_count(text)
        return len(self.encode(text))

    def cut(self, text: str, tokens: int) -> str:
        """Return the head of *text* that its first *tokens* tokens spell.

        A character that the cut would split is left out.
        """
        return self._encoding.decode(self.encode(text)[:tokens], errors="ignore")


_loading = threading.Lock()


def qwen_tokenizer() -> Tokenizer:
    """Return the process's tokenizer; the first call reads the vocabulary (about 0.4 s).

    Raises:
        FileNotFoundError: The dashscope package, which carries the vocabulary, is not installed.
    """
    with _loading:
        return _load()


@cache
def _load() -> Tokenizer:
    fields = (line.split() for line in _vocabulary_file().read_bytes().splitlines() if line)
    return Tokenizer({base64.b64decode(token): int(rank) for token, rank in fields})


def replace_surrogates(text: str) -> str:
    """Return *text* with each lone surrogate replaced: JSON can carry them, UTF-8 cannot."""
    return _SURROGATE.sub("\ufffd", text)


def _vocabulary_file() -> Path:
    spec = importlib.util.find_spec("dashscope")  # finds the package, does not run it
    for location in (spec and spec.submodule_search_locations) or ():
        file = Path(location, "resources", "qwen.tiktoken")
        if file.is_file():
            return file
    raise FileNotFoundError("No Qwen vocabulary: resources/qwen.tiktoken of the dashscope package")


def _chunks(text: str) -> Iterator[str]:
    """Cut before whitespace, where no token crosses, and anywhere if there is none."""
    start = 0
    while len(text) - start > _CHUNK:
        end = text.rfind(" ", start, start + _CHUNK)
        while end > start and text[end - 1].isspace():
            end -= 1
        if end <= start:
            end = start + _CHUNK
        yield text[start:end]
        start = end
    yield text[start:]
