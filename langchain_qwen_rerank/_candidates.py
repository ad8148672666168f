"""What of a LangChain document is ranked; nothing is read or sent."""

from __future__ import annotations

import os

from langchain_core.documents import Document

from qwen_rerank import Candidate, Unsendable
from qwen_rerank.media import found_image, found_video

__all__ = ["candidate"]


def candidate(
    document: Document,
    image_key: str | None,
    video_key: str | None,
    local_files: str | os.PathLike[str] | None,
) -> Candidate:
    """The text of *document* and what its metadata holds under the keys that the caller named."""
    metadata = document.metadata
    image = _given(metadata.get(image_key)) if image_key is not None else None
    video = _given(metadata.get(video_key)) if video_key is not None else None
    if image is None and video is None:
        text = document.page_content
        return text if text.strip() else Unsendable("it has no text, image or video")
    return (
        document.page_content,
        *([found_image(image, local_files)] if image is not None else ()),
        *([found_video(video)] if video is not None else ()),
    )


def _given(value: object) -> object | None:
    """*value*, or None if it is an empty one; arrays have no truth value."""
    is_empty = isinstance(value, str | bytes | list | tuple | dict) and not value
    return None if is_empty else value
