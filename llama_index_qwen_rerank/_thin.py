"""Nodes and queries as spans and events show them: without images' contents. Ranks nothing.

LlamaIndex hands the arguments and the result of a postprocessor to every tracer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from pydantic import BaseModel, PrivateAttr
from typing_extensions import override

from qwen_rerank.media import without_content

__all__ = [
    "ThinNode",
    "all_thin",
    "full",
    "full_query",
    "is_list",
    "thin_as",
    "thin_query",
    "whole",
]


class ThinNode(NodeWithScore):
    """A node without its content, beside the one that has it; of this a pickle knows nothing."""

    _full: NodeWithScore = PrivateAttr()

    @classmethod
    def of(cls, node: BaseNode, full: NodeWithScore) -> ThinNode:
        made = cls(node=node, score=full.score)
        made._full = full
        return made

    @override
    def __reduce__(self) -> tuple[Callable[[], NodeWithScore], tuple[()]]:
        return partial(NodeWithScore, node=self.node, score=self.score), ()


class _AllThin(list[NodeWithScore]):
    """Nodes that need no second look."""


class _ThinQuery(QueryBundle):
    full: QueryBundle

    @override
    def __reduce__(self) -> tuple[type[QueryBundle], tuple[str, str | None]]:
        return QueryBundle, (self.query_str, self.image_path)


def _thin(node: NodeWithScore) -> NodeWithScore:
    if not isinstance(node, NodeWithScore) or isinstance(node, ThinNode):
        return node
    return node if (slim := _slim(node.node)) is node.node else ThinNode.of(slim, node)


def is_list(nodes: object) -> bool:
    """Whether *nodes* can be a list of nodes; one node, a model, is iterable as its fields."""
    return isinstance(nodes, Iterable) and not isinstance(nodes, str | bytes | Mapping | BaseModel)


def all_thin(nodes: Iterable[NodeWithScore]) -> list[NodeWithScore]:
    """*nodes*, with a `ThinNode` for each that holds the content of an image."""
    if not is_list(nodes):
        return nodes  # type: ignore[return-value]  # a mistake, which is told inside the span
    return nodes if isinstance(nodes, _AllThin) else _AllThin(map(_thin, nodes))


def thin_as(given: Sequence[NodeWithScore], nodes: list[NodeWithScore]) -> list[NodeWithScore]:
    """*nodes*, made one by one of *given* ones, without another look if those were `all_thin`."""
    return _AllThin(nodes) if isinstance(given, _AllThin) else nodes


def whole(node: NodeWithScore) -> NodeWithScore:
    """*node* with all that was left out."""
    return node._full if type(node) is ThinNode else node


def full(nodes: Iterable[NodeWithScore]) -> list[NodeWithScore]:
    """*nodes* with all that was left out."""
    # As in `whole`, but there may be ten thousand, each with a call of its own.
    return [node._full if type(node) is ThinNode else node for node in nodes]


def thin_query(bundle: QueryBundle | None) -> QueryBundle | None:
    """*bundle* itself, or a stand-in if its image is not a path but a whole image."""
    if not isinstance(bundle, QueryBundle):
        return bundle  # none, or a mistake
    if (shown := without_content(bundle.image_path)) is bundle.image_path:
        return bundle
    made = _ThinQuery(bundle.query_str, image_path=shown)
    made.full = bundle
    return made


def full_query(bundle: QueryBundle | None) -> QueryBundle | None:
    """*bundle* with all that was left out."""
    return bundle.full if isinstance(bundle, _ThinQuery) else bundle


def _slim(node: BaseNode) -> BaseNode:
    """*node* itself, or a copy without contents if it has any."""
    changed: dict[str, Any] = {}
    if node.metadata and (shown := without_content(node.metadata)) is not node.metadata:
        changed["metadata"] = shown
    related = {kind: _related(found) for kind, found in node.relationships.items()}
    if any(related[kind] is not found for kind, found in node.relationships.items()):
        changed["relationships"] = related
    if isinstance(node, TextNode):
        if (text := without_content(node.text)) is not node.text:
            changed["text"] = text
        if isinstance(node, ImageNode):
            changed |= _places(node)
        elif isinstance(node, IndexNode):
            shown = without_content(node.obj, other=_any_node)
            if shown is not node.obj:
                changed["obj"] = shown
    elif isinstance(node, Node):
        changed |= _resources(node)
    return node.model_copy(update=changed) if changed else node


def _related(found: Any) -> Any:
    """A `RelatedNodeInfo` or several, which parsers give a copy of their document's metadata."""
    if isinstance(found, list):
        shown = [_related(each) for each in found]
        return shown if any(a is not b for a, b in zip(shown, found, strict=True)) else found
    if (metadata := without_content(found.metadata)) is found.metadata:
        return found
    return found.model_copy(update={"metadata": metadata})


def _any_node(referred: Any) -> Any:
    """What an `IndexNode` stands for, or one of these."""
    return _slim(referred) if isinstance(referred, BaseNode) else _thin(referred)


def _places(node: ImageNode) -> Iterator[tuple[str, Any]]:
    if node.image:
        yield "image", None
    for name in ("image_path", "image_url"):
        if (shown := without_content(value := getattr(node, name))) is not value:
            yield name, shown


def _resources(node: Node) -> Iterator[tuple[str, Any]]:
    words = node.text_resource
    if words is not None and (text := without_content(words.text)) is not words.text:
        yield "text_resource", words.model_copy(update={"text": text})
    for name in ("image_resource", "video_resource", "audio_resource"):
        resource = getattr(node, name)
        if resource is not None and (
            resource.data or without_content(url := str(resource.url)) is not url
        ):
            yield name, resource.model_copy(update={"data": None, "url": None})
