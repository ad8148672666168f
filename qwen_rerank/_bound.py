"""The most tokens a text can have, found without the vocabulary; nothing is counted here.

Two bounds, both proven for Qwen's tokenizer: `far` costs next to nothing, `near` takes a little
longer and lies closer. Where one of them proves that a list fits, nothing has to be counted.

Why `near` holds. Byte pair encoding has this property: neighbouring tokens of an encoding are what
their own bytes encode to, so two neighbours whose joint bytes are a token cannot occur.

1. *Characters.* Were every token made of whole characters, one token a character would be a bound.
   But some tokens begin or end inside a character, and beside them a character that is one token by
   itself can take part in several. ``scripts/write_token_table.py`` follows every chain of such
   tokens that can occur, and takes each character of a chain with more tokens than characters out
   of the table. One that is not in the table is taken for its UTF-8 bytes, which no token can
   undercut, and a space before a character outside ASCII for 2, because a token may hold the space
   and a part of the character.
2. *Letters.* Of three lower-case letters in a row, not all three can begin a token if the first two
   are a token: they would be one. All pairs of the letters in `_LETTERS` are, and so is a space
   with any of them, except `_NO_TOKENS`. So a run of m letters has at least (m - 2) / 3 that begin
   no token, and a run that a space begins or ends is better off by 1 / 3 for each. A character that
   is none of these ends one run and begins another at most. In sum that is (letters - 2 * others -
   2) / 3, less one for each exception. Pieces that are encoded apart, as the tokenizer's pattern
   cuts them, always cut at a run's end, ``'ll`` and its kin excepted: of those only ``'Ll`` is no
   token and so an exception too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

__all__ = ["PIECE", "TABLE", "far", "near", "normal"]

TABLE = Path(__file__).with_name("single_tokens.bitmap")
"""A bit for each character below U+10000, lowest first: whether it is taken for one token."""

_LETTERS = b"abcdefghiklmnoprstuvwy"  # without j, q, x and z
_NO_TOKENS = (b"gk", b"wv", b"yf", b"yv", b"'Ll")
_NO_LETTERS = bytes(set(range(256)) - set(_LETTERS))
_ASCII = bytes(range(128))
_BEFORE_FOREIGN = re.compile(rb" [\x80-\xff]").findall
_NO_LEAD_OF_FOUR = bytes(set(range(256)) - set(range(0xF0, 0xF8)))
PIECE = 20_000
"""Characters that are encoded by themselves: tiktoken recurses in proportion to a text's length."""


def far(text: str) -> int:
    """A number of tokens that *text* cannot exceed, at the cost of its encoding.

    The tokenizer works on the UTF-8 bytes of the NFC form and every token takes at least one byte.
    """
    if text.isascii():
        return len(text)
    return sum(len(part.encode()) for part in normal(text, 200))  # runs on event loops: be quick


def near(text: str) -> int:
    """A number of tokens that *text* cannot exceed, much closer to its count."""
    if not text.isascii():
        text = "".join(normal(text))
    return sum(_of_piece(text[at : at + PIECE]) for at in range(0, len(text), PIECE))


def normal(text: str, size: int = 2_000) -> Iterator[str]:
    """*text* in NFC, by parts: normalising marks in disorder takes the square of their number."""
    for start in range(0, len(text), size):
        yield unicodedata.normalize("NFC", text[start : start + size])


def _of_piece(text: str) -> int:
    raw, characters = text.encode(), len(text)
    most = characters
    if len(raw) > characters:
        foreign = raw.translate(None, _ASCII)
        most += sum(len(part.encode()) - len(part) for part in _parts()(foreign.decode()))
        most += 3 * len(foreign.translate(None, _NO_LEAD_OF_FOUR))
        most += len(_BEFORE_FOREIGN(raw))
    letters = len(raw.translate(None, _NO_LETTERS))
    others = characters - letters - raw.count(b" ")
    spared = -((2 * others + 2 - letters) // 3) - sum(map(raw.count, _NO_TOKENS))
    return most - max(0, spared)


@cache
def _parts() -> Callable[[str], list[str]]:
    """Finds the parts of a text, ASCII apart, whose characters below U+10000 are not one token."""
    flags = "".join(f"{byte:08b}"[::-1] for byte in TABLE.read_bytes())
    ranges = (f"\\u{at.start():04x}-\\u{at.end() - 1:04x}" for at in re.finditer("0+", flags))
    return re.compile(f"[{''.join(ranges)}]+").findall
