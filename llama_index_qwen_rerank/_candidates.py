"""What of a LlamaIndex node is ranked; nothing is read or sent.

Fields are read one by one: ``get_content_blocks()`` would leave captions out and download URLs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeAlias

from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    QueryBundle,
    TextNode,
)

from qwen_rerank import Candidate, Image, RequestError, Unsendable, Video
from qwen_rerank.media import found_image, found_video

__all__ = ["candidate", "query", "with_retrieval_score"]

_RETRIEVAL_SCORE = "retrieval_score"


def candidate(
    node: BaseNode,
    metadata_mode: MetadataMode,
    local_files: str | os.PathLike[str] | None,
    takes_media: Callable[[], bool],
) -> Candidate:
    """The text of *node*, with its image and video if it has any.

    The metadata of an image without a caption describe a file, and are not its text.
    """
    media: tuple[_Media, ...] = ()
    if type(node) is TextNode and not node.metadata:
        text = node.text  # which is then its content, and that takes LlamaIndex longer to say
    else:
        media = () if type(node) is TextNode else tuple(_media(node, local_files))
        text = node.get_content(metadata_mode=metadata_mode)
    if media:
        has_words = node.get_content(metadata_mode=MetadataMode.NONE).strip()
        return (text if has_words else "", *media)
    if not text.strip() and takes_media():
        return Unsendable("it has no text, image or video")
    return text


def query(bundle: QueryBundle | None, mixed: str, *, takes_media: bool) -> str | Image:
    """The text of *bundle*, or its image if it has no text or *mixed* prefers media."""
    if not isinstance(bundle, QueryBundle | None):
        kind = type(bundle).__name__
        raise RequestError(f"query_bundle must be a QueryBundle, not {kind}; pass query_str=")
    if bundle is None or (bundle.query_str is None and not bundle.image_path):
        raise RequestError("a query is needed: pass query_bundle or query_str")
    text = bundle.query_str or ""
    if not isinstance(text, str):
        raise RequestError(f"query_str must be a str, not {type(text).__name__}")
    text = text.strip()  # tools put line ends around it
    if not bundle.image_path or (text and not (takes_media and mixed == "media")):
        return text
    path = os.fspath(bundle.image_path)
    is_url = path.lower().startswith(("http://", "https://", "data:"))
    try:
        return Image(url=path) if is_url else Image(path=path)
    except ValueError as error:
        raise RequestError(f"image_path of the query: {error}") from None


def with_retrieval_score(node: BaseNode, score: float) -> BaseNode:
    """A copy of *node* that remembers *score*, out of sight of language models and embeddings."""
    return node.model_copy(
        update={
            "metadata": {**node.metadata, _RETRIEVAL_SCORE: score},
            "excluded_llm_metadata_keys": _and_score(node.excluded_llm_metadata_keys),
            "excluded_embed_metadata_keys": _and_score(node.excluded_embed_metadata_keys),
        }
    )


def _and_score(keys: list[str]) -> list[str]:
    return keys if _RETRIEVAL_SCORE in keys else [*keys, _RETRIEVAL_SCORE]


_Media: TypeAlias = Image | Video | Unsendable
_Folder: TypeAlias = str | os.PathLike[str] | None


def _media(node: BaseNode, local_files: _Folder) -> Iterator[_Media]:
    if isinstance(node, ImageNode):
        if node.image:
            yield Image(data=node.image)
        elif where := node.image_url or node.image_path:
            yield found_image(where, local_files)
    elif isinstance(node, Node):
        if node.image_resource is not None:
            yield _image(node.image_resource, local_files)
        if (video := node.video_resource) is not None:
            yield found_video(None if video.url is None else str(video.url))
        if node.audio_resource is not None:
            yield Unsendable("sound cannot be ranked")


def _image(resource: MediaResource, local_files: _Folder) -> _Media:
    if resource.data:
        return Image(data=resource.data.decode("ascii", "replace"))  # base64, whatever its type
    if resource.url is not None:
        return found_image(str(resource.url), local_files)
    if resource.path is not None:
        return found_image(resource.path, local_files)
    return Unsendable("its image is gone: what is stored of a node is only a path or URL")
