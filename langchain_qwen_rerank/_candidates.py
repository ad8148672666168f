"""What of a LangChain document is ranked, and what of it a trace shows; nothing is read or sent."""

from __future__ import annotations

import hashlib
import os

from langchain_core.documents import Document

from qwen_rerank import Candidate, Unsendable
from qwen_rerank.media import found_image, found_video

__all__ = ["candidate", "slim"]

_SHOWN = 2_000  # characters of a metadata value that may be an image's content


def candidate(
    document: Document,
    image_key: str | None,
    video_key: str | None,
    local_files: str | os.PathLike[str] | None,
) -> Candidate:
    """The text of *document* and what its metadata holds under the keys that the caller named."""
    metadata = document.metadata
    image = metadata.get(image_key) if image_key is not None else None
    video = metadata.get(video_key) if video_key is not None else None
    if not image and not video:
        text = document.page_content
        return text if text.strip() else Unsendable("it has no text, image or video")
    return (
        document.page_content,
        *([found_image(image, local_files)] if image else ()),
        *([found_video(video)] if video else ()),
    )


def slim(document: Document, image_key: str | None) -> Document:
    """*document* as a trace shows it: a digest instead of an image's content."""
    value = document.metadata.get(image_key) if image_key is not None else None
    if not isinstance(value, str | bytes) or len(value) <= _SHOWN:
        return document
    digest = hashlib.blake2b(
        value if isinstance(value, bytes) else value.encode("utf-8", "replace"), digest_size=8
    ).hexdigest()
    shown = f"<{len(value):,} {'bytes' if isinstance(value, bytes) else 'characters'}, {digest}>"
    return document.model_copy(update={"metadata": {**document.metadata, image_key: shown}})
