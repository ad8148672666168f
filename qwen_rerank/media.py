"""Images and videos as a caller names them: frozen values. Nothing is read or sent from here."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

from qwen_rerank import _plain
from qwen_rerank._advice import advise

__all__ = [
    "Candidate",
    "Image",
    "Parts",
    "Unsendable",
    "Video",
    "found_image",
    "found_video",
    "is_data_uri",
    "is_mostly_base64",
    "shortened",
    "without_content",
]

# Not compiled: few have images, and `re` keeps what it was asked.
_DATA_URI = r"(?i)data:image/[\w.+-]+(;[\w-]+=[\w.-]+)*;base64,"
_BASE64 = r"[A-Za-z0-9+/\r\n]+={0,2}"
_LEAST_BASE64 = 100  # characters; paths of that length have dots, and images are longer
_DEEP = 6  # how far containers are looked into
_ENCODED = r"[A-Za-z0-9+/=_\r\n-]+"  # in any alphabet, whole or not
# One place of a long text, with one line end at most: lines of base64 are longer, words shorter.
_PLACES, _PLACE, _HALF = 8, 48, 24
_PLACE_ENCODED = r"[A-Za-z0-9+/=_-]*(?:\r?\n[ \t]*[A-Za-z0-9+/=_-]*|\r)?"
# Without lone surrogates, which no request can carry.
_URL = r"(?i)https?://[^\s/\ud800-\udfff][^\s\ud800-\udfff]*"
_SHOWN = 80  # characters of a path or URL


@dataclass(frozen=True, slots=True)
class Image:
    """An image, from exactly one of a URL, bytes and a file.

    Formats: JPEG, PNG, WEBP, BMP, TIFF, ICO, DIB, ICNS, SGI, recognised by content. A URL is passed
    on and fetched by the service, never by us. Bytes and files are read when a call is made, which
    takes Pillow (``pip install "qwen-rerank[images]"``), and are sent as data URIs.

    Attributes:
        url: ``https://...``, ``http://...`` or ``data:image/...;base64,...``.
        data: The bytes, or their base64 text.
        path: A file.
        within: With *path*, a folder that the file has to be in after all links are followed.

    Raises:
        ValueError: Not exactly one of the three is given, or the URL is none.
    """

    url: str | None = None
    data: bytes | str | None = None
    path: str | os.PathLike[str] | None = None
    within: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.url, self.data, self.path)) != 1:
            raise ValueError("an Image takes exactly one of url, data and path")
        if self.url is not None and not (
            isinstance(self.url, str)
            and (re.fullmatch(_URL, self.url) or re.match(_DATA_URI, self.url))
        ):
            raise ValueError(
                advise(
                    "url must begin with https://, http:// or data:image/...;base64, and a file "
                    "is given as {path=}"
                )
            )
        if self.data is not None and not isinstance(self.data, bytes | str):
            raise ValueError(f"data must be bytes or base64 text, not {type(self.data).__name__}")
        for name in ("path", "within"):
            if (value := getattr(self, name)) is not None:
                if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
                    raise ValueError(f"{name} must be a path, not {type(value).__name__}")
                object.__setattr__(self, name, os.fspath(value))  # so that equal paths are equal

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain.medium(cls, _plain.Image, handler)

    def __repr__(self) -> str:
        if self.path is not None:
            return f"Image(path={shortened(self.path)!r})"
        if self.url is not None and not re.match(_DATA_URI, self.url):
            return f"Image(url={shortened(self.url)!r})"
        content = self.url if self.data is None else self.data
        assert content is not None  # noqa: S101  one of the three is given
        unit = "bytes" if isinstance(content, bytes) else "characters of base64"
        return f"Image(<{len(content):,} {unit}>)"


@dataclass(frozen=True, slots=True)
class Video:
    """A video, by a public URL of an MP4, AVI or MOV file, which the service fetches itself.

    Attributes:
        url: ``https://...`` or ``http://...``.

    Raises:
        ValueError: The URL is none; the service takes no videos as bytes or files.
    """

    url: str

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not re.fullmatch(_URL, self.url):
            raise ValueError(
                "a Video takes an https:// or http:// URL: the service takes no videos as bytes"
            )

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain.medium(cls, _plain.Video, handler)


def is_data_uri(text: str) -> bool:
    """Whether *text* is content rather than an address."""
    return text[:5].lower() == "data:"


def is_mostly_base64(text: str) -> bool:
    """Whether *text* is the data URI of an image, or about half of it and more is base64.

    A look at eight places tells, and nearly always two of them in the middle, so a text of any
    length costs the same. One of less than 400 characters costs too little to be looked at.
    """
    middle = len(text) // 2
    place = text[middle - _HALF : middle + _HALF]
    has_words = " " in place and "\n" not in place  # as nearly all texts have there
    if has_words and text[0] not in "dD":
        return False
    if re.match(_DATA_URI, text):
        return True
    step = len(text) // _PLACES
    if has_words or step <= _PLACE:
        return False
    places = range((step - _PLACE) // 2, _PLACES * step, step)
    encoded = [_looks_encoded(text[at : at + _PLACE]) for at in places]
    return sum(encoded) >= _PLACES // 2


def _looks_encoded(place: str) -> bool:
    """Whether *place* has base64's characters, mixed as they are in what is compressed.

    Digests, sequences of genes and names in code lack one kind of them.
    """
    return (
        re.fullmatch(_PLACE_ENCODED, place) is not None
        and sum(map(str.isdigit, place)) >= 2
        and sum(map(str.isupper, place)) >= 6
        and sum(map(str.islower, place)) >= 6
    )


def shortened(place: str | os.PathLike[str]) -> str:
    """A path or URL as it may be shown; one that is very long may be something else by mistake."""
    text = os.fspath(place)
    return text if len(text) <= _SHOWN else f"{text[:20]}\u2026{text[-20:]}"


@dataclass(frozen=True, slots=True)
class Unsendable:
    """A candidate that cannot be sent. It comes last in the ranking, without a score.

    Attributes:
        reason: Why, for the warning; without the content.
    """

    reason: str

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain.medium(cls, _plain.Unsendable, handler)


def found_image(value: object, local_files: str | os.PathLike[str] | None) -> Image | Unsendable:
    """The image in a value that came with data, such as a document's metadata.

    Args:
        value: A URL, a data URI, bytes, base64 text or a path. Text of at least 100 characters
            that could be base64 counts as that.
        local_files: The folder below which paths are read, and which relative ones begin at; None
            reads none.

    Returns:
        The image, or why there is none; its content is looked at when it is sent.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, bytes):
        return Image(data=value)
    if not isinstance(value, str | os.PathLike):
        return Unsendable(f"an image cannot be a {type(value).__name__}")
    text = str(os.fspath(value)).strip()
    if re.match(_URL, text) or is_data_uri(text):
        if re.fullmatch(_URL, text) or re.match(_DATA_URI, text):
            return Image(url=text)
        return Unsendable("it is no URL of an image")
    if len(text) >= _LEAST_BASE64 and re.fullmatch(_BASE64, text):
        return Image(data=text)
    if local_files is None:
        return Unsendable("files are read only below the folder that local_files= names")
    return Image(path=os.path.join(local_files, text), within=local_files)  # noqa: PTH118  joins as open() does


def found_video(value: object) -> Video | Unsendable:
    """The video in a value that came with data: a URL, as the service takes nothing else."""
    if isinstance(value, Video):
        return value
    if isinstance(value, str) and re.fullmatch(_URL, value.strip()):
        return Video(value.strip())
    return Unsendable("a video can be sent by its http:// or https:// URL only")


def without_content(
    value: Any, deep: int = _DEEP, *, other: Callable[[Any], Any] = lambda value: value
) -> Any:
    """*value* as a trace may show it: contents of images become their size and a digest.

    Args:
        value: Anything, such as a document's metadata.
        deep: How far containers are looked into; what is deeper is left out.
        other: Likewise for a framework's own objects, in containers too; itself by default.

    Returns:
        *value* itself if there is nothing to leave out, else a copy.
    """
    if isinstance(value, str):
        if len(value) < _LEAST_BASE64:
            return value
        text = value.strip()
        if len(text) >= _LEAST_BASE64 and (is_data_uri(text) or re.fullmatch(_ENCODED, text)):
            return f"<{len(value):,} characters, {_digest(value.encode('utf-8', 'replace'))}>"
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value):,} bytes, {_digest(bytes(value))}>"
    if isinstance(value, Image | Video):
        return repr(value)
    if not isinstance(value, Mapping | list | tuple):
        return other(value)
    if deep == 0:
        return "..."
    inner = partial(without_content, deep=deep - 1, other=other)
    if isinstance(value, Mapping):
        shown: Any = {key: inner(each) for key, each in value.items()}
        return shown if any(shown[key] is not each for key, each in value.items()) else value
    shown = list(map(inner, value))
    return shown if any(a is not b for a, b in zip(shown, value, strict=True)) else value


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


Part: TypeAlias = str | Image | Video | Unsendable
Parts: TypeAlias = Part | tuple[Part, ...]
# What is ranked: one thing, a text together with the image or video that it belongs to, or a dict
# that holds texts.
Candidate: TypeAlias = Parts | Annotated[Mapping[str, object], _plain.Fields]
