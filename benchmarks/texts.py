"""Text to rank: English prose that comes with every Python, the language reference."""

from functools import cache

_PIECE = 7919  # a prime, so that cutting goes round the text many times before it repeats


@cache
def _reference() -> str:
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics.values()).split())
    return "".join(char for char in text if char.isascii())


def texts(count: int, characters: int) -> list[str]:
    """That many different passages of that many characters, always the same ones."""
    source = _reference()
    span = len(source) - characters
    return [
        f"{number} {source[(start := number * _PIECE % span) : start + characters]}"[:characters]
        for number in range(count)
    ]
