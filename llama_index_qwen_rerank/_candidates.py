"""What of a LlamaIndex node is ranked, and what of it an event shows; nothing is read or sent.

Fields are read one by one: ``get_content_blocks()`` would leave captions out and download URLs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
)

from qwen_rerank import Candidate, Image, RequestError, Unsendable, Video
from qwen_rerank.media import found_image, found_video

__all__ = ["candidate", "query", "slim"]


def candidate(
    node: BaseNode,
    metadata_mode: MetadataMode,
    local_files: str | os.PathLike[str] | None,
    *,
    takes_media: bool,
) -> Candidate:
    """The text of *node*, with its image and video if it has any.

    The metadata of an image without a caption describe a file, and are not its text.
    """
    media = tuple(_media(node, local_files))
    text = node.get_content(metadata_mode=metadata_mode)
    if takes_media and not node.get_content(metadata_mode=MetadataMode.NONE).strip():
        if not media:
            return text if text.strip() else Unsendable("it has no text, image or video")
        text = ""
    return (text, *media) if media else text


def query(bundle: QueryBundle | None, mixed: str) -> str | Image:
    """The text of *bundle*, or its image if it has no text or *mixed* prefers media."""
    if bundle is None:
        raise RequestError("a query is needed: pass query_bundle or query_str")
    path = bundle.image_path
    if not path or (bundle.query_str.strip() and mixed != "media"):
        return bundle.query_str
    is_url = path.lower().startswith(("http://", "https://", "data:"))
    try:
        return Image(url=path) if is_url else Image(path=path)
    except ValueError as error:
        raise RequestError(f"image_path of the query: {error}") from None


def slim(nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    """*nodes* as an event shows them: images' contents are left out, all else is shared."""
    return [
        each if (thin := _slim(each.node)) is each.node else each.model_copy(update={"node": thin})
        for each in nodes
    ]


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


def _slim(node: BaseNode) -> BaseNode:
    if isinstance(node, ImageNode):
        return node.model_copy(update={"image": None}) if node.image else node
    if not isinstance(node, Node):
        return node
    resources: dict[str, Any] = {}
    for name in ("image_resource", "video_resource", "audio_resource"):
        resource = getattr(node, name)
        if resource is not None and resource.data:
            resources[name] = resource.model_copy(update={"data": None})
    return node.model_copy(update=resources) if resources else node
