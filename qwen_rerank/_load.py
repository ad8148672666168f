"""Reads images: what a caller named becomes what the service takes. No other room reads files.

Runs in a thread for async callers. Nothing is fetched: a URL is passed on as it is.
"""

from __future__ import annotations

import base64
import binascii
import functools
import logging
import math
import operator
import os
import re
import stat
from collections.abc import Callable, Container, Iterable
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

from qwen_rerank._advice import advise
from qwen_rerank._bound import far
from qwen_rerank._models import limits_for
from qwen_rerank._plain import without_surrogates
from qwen_rerank._prepare import is_blank
from qwen_rerank._servers import Protocol, Server, spoken
from qwen_rerank._values import Item, Job, Loaded
from qwen_rerank.errors import RequestError
from qwen_rerank.media import Image, Parts, Unsendable, Video, is_data_uri, shortened

__all__ = ["Mixed", "check", "load", "texts_only"]

# The formats of help.aliyun.com/zh/model-studio/text-rerank-api (2026), by the names that Pillow
# gives them; to Pillow a JPEG of several images is an MPO.
_FORMATS = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "DIB": "bmp",
    "TIFF": "tiff",
    "ICO": "ico",
    "ICNS": "icns",
    "SGI": "sgi",
}
# help.aliyun.com/zh/model-studio/rate-limit (2026): a base64 text has at most 20 MiB, and a body at
# most 16 MiB after decoding, which is less.
_MOST_BYTES = int(0.95 * 15 * 2**20)
_MOST_DECODED = 32_000_000  # pixels; of larger images only the head is looked at
# docs.qwencloud.com/api-reference/preparation/error-messages (2026), of Qwen-VL in general.
_LEAST_SIDE, _MOST_STRETCH = 10, 200

# A token for 32 x 32 pixels and two around, at least four, as Model Studio documents it for the
# Qwen3-VL models (2026). Nothing is documented for rerank, nor for videos.
_TOKEN_SIDE, _TOKENS_AROUND, _LEAST_TOKENS = 32, 2, 4
_UNSEEN_TOKENS = 2_560  # what those models scale an image down to by default
_VIDEO_TOKENS = 8_000  # the limit of one item


_WARNINGS = 5  # of one call; then only how many more there are

_log = logging.getLogger("qwen_rerank")


# What ranks the objects of a framework, by the name of its package.
_CLASSES = {
    "langchain_core": "langchain_qwen_rerank.QwenRerank",
    "llama_index": "llama_index_qwen_rerank.QwenRerank",
}


def check(document: object, position: int) -> None:
    """Refuses what is no candidate.

    Raises:
        RequestError: *document*, at *position* of the caller's list, is none.
    """
    parts = document if isinstance(document, tuple) else (document,)
    if not parts:
        raise RequestError(f"document {position} is an empty tuple", documents=(position,))
    for part in parts:
        if not isinstance(part, str | Image | Video | Unsendable):
            packages = [kind.__module__.partition(".")[0] for kind in type(part).__mro__]
            ours = next((_CLASSES[name] for name in packages if name in _CLASSES), None)
            raise RequestError(
                f"document {position} must be a str, an Image, a Video, a tuple of these or a "
                f"dict, not {type(part).__name__}",
                hint=ours and f"{ours} is for these.",
                documents=(position,),
            )


Mixed: TypeAlias = Literal["max", "text", "media", "together"]


@functools.lru_cache(maxsize=256)
def texts_only(model: str, protocol: Protocol, server: Server | None) -> str | None:
    """What to change so that images and videos can be sent; None if they can."""
    takes_media = limits_for(model).images is not None
    if server is not None:
        if not spoken(protocol, server).takes_parts:
            return advise(
                "Images are sent to DashScope itself, or with {server='vllm'} to a "
                "Qwen3-VL-Reranker."
            )
        return (
            None
            if takes_media
            else "vLLM takes images for a model such as Qwen3-VL-Reranker-2B: serve it under a "
            'name with "vl" in it.'
        )
    if takes_media and protocol == "dashscope":
        return None
    changes = [] if takes_media else ["{model='qwen3-vl-rerank'}"]
    changes += [] if protocol == "dashscope" else ["{protocol='dashscope'}"]
    return advise(f"Use {' with '.join(changes)}.")


def load(
    job: Job,
    mixed: Mixed,
    lenient: Container[int] = (),
    hint: str | None = None,
    *,
    videos: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Loaded:
    """The parts of *job* that are to be scored, images and videos as they will be sent.

    Args:
        job: The call.
        mixed: Which parts of a document that has several.
        lenient: Positions where a part that cannot be sent is only a warning: its document is then
            scored by its other parts, or not at all.
        hint: What `texts_only` says; unless it is None, nothing but texts is looked at.
        videos: Whether videos can be sent where images can.
        check: Called before each image or video; what it raises ends the reading.

    Raises:
        RequestError: The query cannot be sent, or a document elsewhere.
    """
    if hint is not None and isinstance(job.query, Image):
        raise RequestError(f"query has no text, and {_takes_texts(job)}", hint=hint)
    try:
        query = _item(job.query) if isinstance(job.query, Image) else None
    except _UnsendableError as error:
        raise RequestError(f"query cannot be sent: {error}") from None
    most = _MOST_BYTES - (0 if query is None else query.size)  # they share a body
    parts: dict[int, tuple[str | Item, ...]] = {}
    unsendable: list[tuple[int, str]] = []
    ignored: list[int] = []
    for position, document in enumerate(job.documents):
        if isinstance(document, str):
            continue
        texts, media = _split(document)
        remedy = None
        if hint is not None and media and not isinstance(document, Unsendable):
            media = []
            if texts:
                ignored.append(position)
            else:
                remedy = hint
        wanted = () if texts and mixed == "text" else media
        items, reasons = _items(wanted, most, videos=videos, check=check)
        if remedy is not None:
            reasons = [f"it has no text, and {_takes_texts(job)}"]
        if reasons:
            reason = "; ".join(dict.fromkeys(reasons))
            if position not in lenient:
                raise RequestError(
                    f"document {position} cannot be sent: {reason}",
                    hint=remedy,
                    documents=(position,),
                )
            unsendable.append((position, f"{reason}. {remedy}" if remedy else reason))
        parts[position] = _chosen(texts, items, mixed)
    _warn(unsendable)
    return Loaded(query, parts, tuple(unsendable), tuple(ignored))


def _chosen(texts: list[str], items: list[Item], mixed: Mixed) -> tuple[str | Item, ...]:
    """What is scored of a document of these."""
    if not items or not texts or mixed in ("max", "text"):
        return (*texts, *items)
    if mixed == "together":
        return tuple(_beside(item, "\n".join(texts)) for item in items)
    return tuple(items)


def _beside(item: Item, text: str) -> Item:
    """*item*, to be scored together with *text*."""
    text = without_surrogates(text)
    return item._replace(
        tokens=item.tokens + far(text), size=item.size + len(text.encode()), beside=text
    )


def _items(
    media: Iterable[Image | Video | Unsendable],
    most: int,
    *,
    videos: bool,
    check: Callable[[], None],
) -> tuple[list[Item], list[str]]:
    """Those of *media* that can be sent, and why the others cannot."""
    items: list[Item] = []
    reasons: list[str] = []
    for part in media:
        check()
        try:
            items.append(_item(part, most, videos=videos))
        except _UnsendableError as error:
            reasons.append(str(error))
    return items, reasons


def _takes_texts(job: Job) -> str:
    return f"{job.model} takes texts only here"


def _split(document: Parts) -> tuple[list[str], list[Image | Video | Unsendable]]:
    """The texts and the other parts of *document*."""
    parts = document if isinstance(document, tuple) else (document,)
    texts = [part for part in parts if isinstance(part, str) and not is_blank(part)]
    return texts, [part for part in parts if not isinstance(part, str)]


def _warn(unsendable: list[tuple[int, str]]) -> None:
    for position, reason in unsendable[:_WARNINGS]:
        _log.warning("Document %d cannot be sent: %s", position, reason)
    if (more := len(unsendable) - _WARNINGS) > 0:
        _log.warning("%d more documents cannot be sent.", more)


class _UnsendableError(ValueError):
    """A part that cannot be sent, and why; never with its content."""


def _item(
    part: Image | Video | Unsendable, most: int = _MOST_BYTES, *, videos: bool = True
) -> Item:
    """*part* as it will be sent, with its estimated tokens and its bytes after decoding."""
    if isinstance(part, Unsendable):
        raise _UnsendableError(part.reason)
    if isinstance(part, Video):
        if not videos:
            raise _UnsendableError("a server of your own takes no videos")
        return Item(part.url, _VIDEO_TOKENS, kind="video", size=len(part.url))
    if part.url is not None and not is_data_uri(part.url):
        return Item(part.url, _UNSEEN_TOKENS, kind="image", size=len(part.url))
    data = _bytes(part)
    if len(data) > most:
        raise _UnsendableError(
            f"{_mebibytes(len(data))} are too many beside the query: a request takes "
            f"{_mebibytes(_MOST_BYTES)}"
        )
    kind, width, height = _recognised(data)
    tokens = math.ceil(width / _TOKEN_SIDE) * math.ceil(height / _TOKEN_SIDE) + _TOKENS_AROUND
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Item(uri, max(tokens, _LEAST_TOKENS), kind="image", size=len(data))


def _bytes(image: Image) -> bytes:
    if image.path is not None:
        return _read(image.path, image.within)
    if isinstance(image.data, bytes):
        data = image.data
    else:
        text = (image.url if image.data is None else image.data) or ""
        text = text.lstrip()
        if is_data_uri(text):
            text = text.partition(",")[2]
        if len(text) > 2 * _MOST_BYTES:
            raise _too_large(len(text) * 3 // 4)
        try:
            data = base64.b64decode(re.sub(r"\s", "", text), validate=True)
        except (binascii.Error, ValueError):
            raise _UnsendableError("it is not base64") from None
    if not data:
        raise _UnsendableError("it is empty")
    if len(data) > _MOST_BYTES:
        raise _too_large(len(data))
    return data


def _read(path: str | os.PathLike[str], within: str | os.PathLike[str] | None) -> bytes:
    shown = repr(shortened(path))
    try:
        named = os.path.expanduser(path)  # noqa: PTH111  Path would change "./~"
        folder = None if within is None else Path(within).expanduser().resolve()
        for strict in (False, True):  # what is out of the folder may be there or not
            real = Path(os.path.realpath(named, strict=strict))
            if folder is not None and not real.is_relative_to(folder):
                raise _UnsendableError(
                    f"{shown} leads out of the folder that files may be read from"
                )
        # To the system as to us, what ends like a folder is none but a folder.
        is_file = os.path.basename(named) not in ("", os.curdir)  # noqa: PTH119  Path drops both
        if not (is_file and real.is_file()):  # devices are not even opened
            raise _UnsendableError(f"{shown} is not a file")
        with open(_opened(real, folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _UnsendableError(f"{shown} is not a file")
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, _UnsendableError):
            raise
        why = getattr(error, "strerror", None) or type(error).__name__
        raise _UnsendableError(f"{shown} cannot be read: {why}") from None
    if not data:
        raise _UnsendableError(f"{shown} is empty")
    if len(data) > _MOST_BYTES:
        raise _too_large(status.st_size)
    return data


def _flags(*names: str) -> int:
    return functools.reduce(operator.or_, (getattr(os, name, 0) for name in names), os.O_RDONLY)


# A pipe that was put there meanwhile is not waited for.
_FILE = _flags("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK")
_FOLDER = _flags("O_CLOEXEC", "O_DIRECTORY", "O_PATH")  # by its path alone, it need not be listed
_BY_PARTS = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")  # not on Windows


def _opened(real: Path, folder: Path | None) -> int:
    """A descriptor of *real*, which has no links in it, and lies in *folder*.

    The parts below *folder* are opened one by one, each in the one before: whatever is exchanged
    for a link since they were looked at is an error, and leads nowhere.
    """
    if folder is None or not _BY_PARTS:
        return os.open(real, _FILE)
    *folders, name = real.relative_to(folder).parts
    at = os.open(folder, _FOLDER)
    try:
        for part in folders:
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)


def _recognised(data: bytes) -> tuple[str, int, int]:
    """Format, width and height in pixels, by content.

    What can be decoded in a moment is, because half an image fails the service's whole request.
    """
    try:
        from PIL import Image as Pillow  # noqa: PLC0415  only images need it
    except ImportError:
        raise ImportError(
            'images as bytes or files need Pillow: pip install "qwen-rerank[images]"'
        ) from None
    try:  # Pillow's readers raise anything on broken files
        image = Pillow.open(BytesIO(data))
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise _UnsendableError("it has more pixels than Pillow opens") from None
    except Exception:  # noqa: BLE001  see above
        raise _UnsendableError("its content is no image that can be recognised") from None
    name, (width, height) = image.format or "", image.size
    if name not in _FORMATS:
        raise _UnsendableError(f"the service does not take {name} images")
    if width * height <= _MOST_DECODED:
        try:
            image.draft("L", (1, 1))  # the coarsest that a JPEG can be decoded to
            image.load()
        except Exception:  # noqa: BLE001  see above
            raise _UnsendableError("its content is cut short or broken") from None
    if min(width, height) < _LEAST_SIDE:
        raise _UnsendableError(
            f"{width} x {height} pixels are too few: at least {_LEAST_SIDE} each"
        )
    if max(width, height) > _MOST_STRETCH * min(width, height):
        raise _UnsendableError(f"{width} x {height} is stretched over {_MOST_STRETCH} to 1")
    return _FORMATS[name], width, height


def _too_large(size: int) -> _UnsendableError:
    return _UnsendableError(
        f"{_mebibytes(size)} are more than the {_mebibytes(_MOST_BYTES)} that an image may "
        "have; a URL may lead to more"
    )


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
