"""What can be ranked, and what of a LangChain document is; nothing is read or sent."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.documents import Document

from qwen_rerank import Candidate, RequestError, Unsendable
from qwen_rerank.media import found_image, found_video

__all__ = ["candidate", "listed", "several"]

_ORDER = "Documents come first, and then the query, as in rerank(documents, query)."
_ONE = (str, bytes, Mapping, Document)  # which can be iterated over, and are no list


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


def listed(documents: Iterable[Document]) -> list[Document]:
    """*documents*, which may be any iterable, as a list of nothing else."""
    documents = several(documents)
    for position, document in enumerate(documents):
        if not isinstance(document, Document):
            raise RequestError(f"document {position} must be a Document, not {_name(document)}")
    return documents


def several(documents: Iterable[Any]) -> list[Any]:
    """*documents* as a list, refused if they are only one or what searches with scores find."""
    if isinstance(documents, _ONE) or not isinstance(documents, Iterable):
        raise RequestError(
            f"documents must be a list, not one {_name(documents)}",
            hint=_ORDER if isinstance(documents, str) else None,
        )
    documents = list(documents)
    if {Document, str}.issuperset(map(type, documents)):
        return documents  # as nearly always
    for position, found in enumerate(documents):
        if isinstance(found, tuple | list) and any(isinstance(part, Document) for part in found):
            raise RequestError(
                f"document {position} is a {_name(found)} with a Document in it; of "
                "(document, score) pairs, give [document for document, _ in pairs]"
            )
    return documents


def _name(value: object) -> str:
    return type(value).__name__


def _given(value: object) -> object | None:
    """*value*, or None if it is an empty one; arrays have no truth value."""
    is_empty = isinstance(value, str | bytes | list | tuple | dict) and not value
    return None if is_empty else value
