"""Images and videos: what they are made of, and the words that stand for what they show.

Nothing is fetched. The words are a stand-in, like the scores: for an image sent as base64, its
own description (PNG texts, EXIF, JPEG comment) or else its main colours; for what is sent by URL,
the last part of the URL's path. Limits and prices live elsewhere.
"""

import base64
import binascii
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from qwen_rerank.emulator._models import IMAGE_FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

KINDS = ("image", "video")
"""The kinds of media, as the protocol spells them."""

_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?([?#]\S*)?", re.IGNORECASE)
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")

_DESCRIPTIONS = ("Title", "Description", "Comment")  # the keywords of PNG's standard
_EXIF_DESCRIPTION = 0x010E
_GRID = 8  # cells a side
_COLOURS_TOLD = 3
_COLOURS = {
    "black": (0, 0, 0),
    "dark grey": (75, 75, 75),
    "grey": (140, 140, 140),
    "light grey": (205, 205, 205),
    "white": (255, 255, 255),
    "dark red": (125, 0, 0),
    "red": (225, 20, 25),
    "pink": (255, 160, 190),
    "brown": (130, 75, 35),
    "orange": (255, 140, 0),
    "yellow": (250, 225, 0),
    "dark green": (0, 80, 0),
    "green": (0, 155, 20),
    "light green": (145, 235, 145),
    "turquoise": (0, 200, 200),
    "dark blue": (0, 0, 125),
    "blue": (25, 60, 225),
    "light blue": (135, 205, 240),
    "purple": (130, 0, 165),
}


class Media(NamedTuple):
    """An image or a video as it was sent."""

    kind: str
    """One of `KINDS`."""
    source: str
    """A URL, or of an image also a data URI."""


class Look(NamedTuple):
    """What a look at an image or video gave."""

    words: str
    """What stands for it; empty if its URL has no words."""
    content: bytes
    """What makes it the same as another: its bytes, or its URL."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; None of what was not sent along."""


class UnusableError(ValueError):
    """What was sent is no image."""


def is_url(source: str) -> bool:
    """Return whether *source* is an http or https URL."""
    return _URL.fullmatch(source) is not None


def base64_of(source: str) -> str | None:
    """Return the base64 in *source*, or None if that is no data URI of an image."""
    head = _DATA_URI.match(source)
    return source[head.end() :] if head else None


def decoded_size(text: str) -> int:
    """Return how many bytes the base64 *text* stands for."""
    return len(text) // 4 * 3 - text[-2:].count("=")


def shortened(source: str) -> str:
    """Return *source* with base64, if it holds any, replaced by its size and digest."""
    text = base64_of(source)
    if text is None:
        return source
    content = _decoded(text)
    told = f"{len(text)} characters, no base64"
    if content is not None:
        told = (
            f"{len(content)} bytes, blake2b {hashlib.blake2b(content, digest_size=8).hexdigest()}"
        )
    return f"{source[: len(source) - len(text)]}<{told}>"


def look_at(media: Media) -> Look:
    """Return what *media* is.

    Raises:
        UnusableError: It was sent as base64, and is no image that the service takes.
        ImportError: It was sent as base64, and Pillow is not installed.
    """
    text = base64_of(media.source)
    if text is None:
        return Look(_words_of_url(media.source), media.source.encode())
    content = _decoded(text)
    if content is None:
        raise UnusableError(f"{media.kind} input should be valid base64")
    try:
        from PIL import Image  # noqa: PLC0415 - optional, and only these images need it
    except ImportError:
        raise ImportError(
            'Images sent as base64 need Pillow: pip install "qwen-rerank[images]"'
        ) from None
    try:
        with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
            size = image.size
            image.draft("RGB", (_GRID, _GRID))  # a JPEG's colours take little decoding
            image.load()
            words = " ".join(_descriptions(image))
            if not words:
                grid = image.convert("RGBA").resize((_GRID, _GRID), Image.Resampling.BOX)
                words = " ".join(_colours(grid.tobytes()))
    except Exception:  # noqa: BLE001 - Pillow's readers raise anything on broken files
        formats = ", ".join(IMAGE_FORMATS)
        raise UnusableError(f"{media.kind} input should be one of {formats}") from None
    return Look(words, content, size)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _words_of_url(url: str) -> str:
    """Return the words of the last part of the path, without the file's ending."""
    parts = _URL.fullmatch(url)
    path = parts[1] if parts else None
    last = unquote(path or "").rstrip("/").rpartition("/")[2]
    stem, _, ending = last.rpartition(".")
    return " ".join(_WORD.findall(stem or ending))


def _descriptions(image: "Image") -> Iterator[str]:
    """Return what the image's own metadata say that it shows."""
    texts = getattr(image, "text", {})  # PNG alone has it
    found = [*map(texts.get, _DESCRIPTIONS), image.info.get("comment")]
    with suppress(Exception):  # broken metadata do not make an image unusable
        found.append(image.getexif().get(_EXIF_DESCRIPTION))
    for text in found:
        words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if isinstance(words, str) and words.strip():
            yield words.strip()


def _colours(cells: bytes) -> Iterator[str]:
    """Return the names of the most frequent colours among *cells*, each red, green, blue, alpha."""
    named = Counter(_name(cells[at : at + 4]) for at in range(0, len(cells), 4))
    for name, _ in named.most_common(_COLOURS_TOLD):
        yield name


def _name(cell: bytes) -> str:
    *colour, alpha = cell  # on white
    shown = [255 + (part - 255) * alpha / 255 for part in colour]
    return min(
        _COLOURS,
        key=lambda name: sum((a - b) ** 2 for a, b in zip(shown, _COLOURS[name], strict=True)),
    )
