"""Writes the table of `qwen_rerank._bound` from the vocabulary; run it if that ever changes.

A character is in the table if the bound may take it for one token: its bytes are one, and in every
chain of tokens that begin or end inside characters the bound still holds. Each chain that can occur
is followed, so this is a proof and not a sample. It takes a minute or two.
"""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from qwen_rerank._bound import TABLE

_MANY = 10  # rounds; a chain this long has been round a circle, and is broken by what it holds


class Ragged(NamedTuple):
    """A token that begins or ends inside a character.

    Attributes:
        token: Its bytes.
        end: The last bytes of the character that it begins in; none if it begins with one.
        whole: The characters that it holds whole.
        start: The first bytes of the character that it ends in; none if it ends with one.
    """

    token: bytes
    end: bytes
    whole: str
    start: bytes


def vocabulary() -> dict[bytes, int]:
    """Each token and its rank, from the file that dashscope ships."""
    [folder] = importlib.util.find_spec("dashscope").submodule_search_locations
    lines = Path(folder, "resources", "qwen.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines if line}


def table() -> bytes:
    """A bit for each character below U+10000, lowest first: whether it is taken for one token."""
    bits = bytearray(0x10000 // 8)
    for character in _taken_for_one():
        bits[ord(character) >> 3] |= 1 << (ord(character) & 7)
    return bytes(bits)


_RANKS = vocabulary()


def _taken_for_one() -> set[str]:
    ones = {
        chr(code)
        for code in range(0x10000)
        if not 0xD800 <= code < 0xE000 and len(_encoded(chr(code).encode())) == 1
    }
    while chains := list(chains_over_the_bound(ones)):
        for chain in chains:  # of each the rarest, so that the common ones stay
            characters = [each for each in chain.decode() if not each.isascii()]
            ones.discard(max(characters, key=lambda each: _RANKS.get(each.encode(), -1)))
    return ones


def chains_over_the_bound(ones: set[str]) -> Iterator[bytes]:
    """Chains of ragged tokens with more tokens than the bound gives for their characters."""
    ragged = list(_ragged())
    # The best chain to each state, which is its last token and the character left open: by how much
    # it is over the bound so far, and its bytes.
    best = {
        (each.token, each.start): (1 - _given(each, ones, begins=True), each.token)
        for each in ragged
        if not each.end
    }
    going_on = [each for each in ragged if each.end]
    latest, found = list(best), False
    for _ in range(_MANY):
        grown = {}
        for last, start in latest:
            over, chain = best[last, start]
            for each, left, given in _steps(last, start, going_on, ones):
                now, longer = over + 1 - given, chain + each.token
                if not left:
                    if now > 0:
                        found = True
                        yield longer
                elif now > best.get((each.token, left), (-99, b""))[0]:
                    best[each.token, left] = now, longer
                    grown[each.token, left] = None
        latest = list(grown)
    if latest and not found:
        raise RuntimeError("the chains did not end, so nothing is proven")


def _steps(
    last: bytes, start: bytes, going_on: list[Ragged], ones: set[str]
) -> Iterator[tuple[Ragged, bytes, int]]:
    """What can follow *last*, the bytes it leaves open, and what the bound gives for its ends."""
    for each in going_on:
        character = start + each.end
        missing = _length(start) - len(character)
        if missing < 0 or (missing > 0 and (each.whole or each.start)):
            continue
        if not _may_begin(character) or _encoded(last + each.token) != (last, each.token):
            continue
        if missing:
            yield each, character, 0
        else:
            yield each, each.start, _price(character.decode(), ones) + _given(each, ones)


def _given(each: Ragged, ones: set[str], *, begins: bool = False) -> int:
    """What the bound gives for the whole characters of *each*: letters inside it are free."""
    characters = each.whole + ("\uffff" if each.start else "")
    return sum(
        (0 if "a" <= character <= "z" and not (begins and not at) else _price(character, ones))
        + (character == " " and not after.isascii())
        for at, (character, after) in enumerate(zip(each.whole, characters[1:] + " ", strict=False))
    )


def _price(character: str, ones: set[str]) -> int:
    return 1 if character in ones else len(character.encode())


def _ragged() -> Iterator[Ragged]:
    for token in _RANKS:
        at = 0
        while at < len(token) and 0x80 <= token[at] < 0xC0:
            at += 1
        open_at = len(token)
        for back in range(1, min(3, len(token) - at) + 1):
            if token[-back] >= 0xC0:
                open_at = len(token) - back if _length(token[-back:]) > back else open_at
                break
        if (at or open_at < len(token)) and _may_begin(token[open_at:] or b"a"):
            yield Ragged(token, token[:at], token[at:open_at].decode(), token[open_at:])


def _length(start: bytes) -> int:
    """Bytes of a character that begins with *start*."""
    return 1 if start[0] < 0x80 else 2 if start[0] < 0xE0 else 3 if start[0] < 0xF0 else 4


def _may_begin(start: bytes) -> bool:
    """Whether a character can begin with these bytes, or is them."""
    for fill in (b"\x80", b"\x90", b"\xa0"):
        try:
            (start + fill * (_length(start) - len(start))).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


@cache
def _encoded(text: bytes) -> tuple[bytes, ...]:
    """The tokens of *text* as one piece: the pair of the lowest rank is joined until none is."""
    parts = [text[at : at + 1] for at in range(len(text))]
    while len(parts) > 1:
        joined = [(_RANKS.get(a + b, len(_RANKS)), at) for at, (a, b) in enumerate(pairwise(parts))]
        rank, at = min(joined)
        if rank == len(_RANKS):
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return tuple(parts)


if __name__ == "__main__":
    TABLE.write_bytes(table())
    print(f"wrote {TABLE}")
