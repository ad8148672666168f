"""The installed doors behind one face, so that one list of duties holds for all of them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qwen_rerank import Estimate, _models
from qwen_rerank.framework import FrameworkReranker as Kind

BEFORE = 0.5  # the score that every candidate comes with


class Seen(NamedTuple):
    """What can be seen of a framework's object."""

    text: str
    score: float | None
    kind: type
    id: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Door:
    """One door, entered by one of its two ways.

    Attributes:
        kind: The class.
        make: The framework's object around a text and, if there is one, the path of an image.
        rank: What the class gives back for a query and such objects.
        estimate: What it says that would take.
        see: Reads such an object.
        passed: The score that a list which was passed through comes back with.
        media: The options without which images are not looked at.
        limiter: A rate limiter of the framework that permits what a function says.
        native: Whether the async way is taken.
    """

    kind: type[Kind]
    make: Callable[[str, Path | None], Any]
    rank: Callable[..., list[Any]]
    estimate: Callable[[Any, str, list[Any]], Estimate]
    see: Callable[[Any], Seen]
    passed: float | None
    media: dict[str, Any]
    limiter: Callable[[Callable[[], bool]], Any]
    native: bool = False

    def made(self, *texts: str, image: Path | None = None) -> list[Any]:
        """The framework's objects around *texts*, each with *image*."""
        return [self.make(text, image) for text in texts]

    def ranked(self, reranker: Kind, query: str, objects: list[Any]) -> list[Seen]:
        """What is seen of *objects* when they come back."""
        return [self.see(each) for each in self.rank(reranker, query, objects, native=self.native)]

    def __call__(
        self, reranker: Kind, query: str, texts: list[str]
    ) -> list[tuple[str, float | None]]:
        """The texts and scores that this way gives back."""
        seen = self.ranked(reranker, query, self.made(*texts))
        return [(each.text, each.score) for each in seen]


DOORS: dict[str, Door] = {}

if find_spec("langchain_core"):
    from langchain_core.documents import Document
    from langchain_core.rate_limiters import BaseRateLimiter

    import langchain_qwen_rerank

    class Page(Document):
        """A document of a user's own kind."""

        number: int = 7

    def _document(text: str, image: Path | None) -> Document:
        metadata = {"relevance_score": BEFORE, "deep": {"list": [1]}}
        if image is not None:
            metadata["image"] = str(image)
        return Page(page_content=text, id=f"id of {text}", metadata=metadata)

    def _compress(reranker: Any, query: str, documents: list[Document], *, native: bool) -> Any:
        if native:
            return asyncio.run(reranker.acompress_documents(documents, query))
        return reranker.compress_documents(documents, query)

    def _seen_document(document: Document) -> Seen:
        metadata = dict(document.metadata)
        score = metadata.pop("relevance_score", None)
        return Seen(document.page_content, score, type(document), document.id, metadata)

    class Permitting(BaseRateLimiter):
        """Asks *permits*, and never waits."""

        def __init__(self, permits: Callable[[], bool]) -> None:
            self._permits = permits

        def acquire(self, *, blocking: bool = True) -> bool:  # noqa: ARG002  their signature
            """Whether it is permitted now."""
            return self._permits()

        async def aacquire(self, *, blocking: bool = True) -> bool:  # noqa: ARG002  likewise
            """Whether it is permitted now."""
            return self._permits()

    _LANGCHAIN = {
        "kind": langchain_qwen_rerank.QwenRerank,
        "make": _document,
        "rank": _compress,
        "estimate": lambda reranker, query, documents: reranker.estimate(documents, query),
        "see": _seen_document,
        "passed": None,
        "media": {"image_key": "image"},
        "limiter": Permitting,
    }
    DOORS["langchain-sync"] = Door(**_LANGCHAIN)
    DOORS["langchain-async"] = Door(**_LANGCHAIN, native=True)

if find_spec("llama_index"):
    from llama_index.core.instrumentation.events.rerank import ReRankStartEvent
    from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
    from llama_index_instrumentation import root_dispatcher
    from llama_index_instrumentation.event_handlers import BaseEventHandler

    import llama_index_qwen_rerank

    class Leaf(TextNode):
        """A node of a user's own kind."""

        number: int = 7

    def _node(text: str, image: Path | None) -> NodeWithScore:
        hidden = {"metadata": {"deep": {"list": [1]}}, "excluded_embed_metadata_keys": ["deep"]}
        known = {"id_": f"id of {text}", "text": text, **hidden}
        node = Leaf(**known) if image is None else ImageNode(image_path=str(image), **known)
        return NodeWithScore(node=node, score=BEFORE)

    def _postprocess(reranker: Any, query: str, nodes: list[NodeWithScore], *, native: bool) -> Any:
        if native:
            return asyncio.run(reranker.apostprocess_nodes(nodes, query_str=query))
        return reranker.postprocess_nodes(nodes, query_str=query)

    def _seen_node(found: NodeWithScore) -> Seen:
        node = found.node
        return Seen(node.text, found.score, type(node), node.node_id, node.metadata)

    class Waiting:
        """Waits until *permits* says so; of no class, as older releases have none."""

        def __init__(self, permits: Callable[[], bool]) -> None:
            self._permits = permits

        def acquire(self, num_tokens: int = 0) -> None:  # noqa: ARG002  their signature
            """Come back when it is permitted."""
            while not self._permits():
                time.sleep(0.01)

        async def async_acquire(self, num_tokens: int = 0) -> None:  # noqa: ARG002  likewise
            """Come back when it is permitted."""
            while not self._permits():  # noqa: ASYNC110  nothing tells of it
                await asyncio.sleep(0.01)

    _LLAMA_INDEX = {
        "kind": llama_index_qwen_rerank.QwenRerank,
        "make": _node,
        "rank": _postprocess,
        "estimate": lambda reranker, query, nodes: reranker.estimate(nodes, query_str=query),
        "see": _seen_node,
        "passed": BEFORE,
        "media": {},
        "limiter": Waiting,
    }
    DOORS["llama-index-sync"] = Door(**_LLAMA_INDEX)
    DOORS["llama-index-async"] = Door(**_LLAMA_INDEX, native=True)

    class Events(BaseEventHandler):
        """Keeps every event that reaches the root dispatcher."""

        seen: list = []  # noqa: RUF012  a pydantic field

        def handle(self, event: Any, **_: Any) -> None:
            """Keep *event*."""
            self.seen.append(event)

        def of(self, kind: type) -> list[Any]:
            """The events that are a *kind*."""
            return [event for event in self.seen if isinstance(event, kind)]

        def queries(self) -> list[str]:
            """The queries of the reranks that started."""
            return [event.query for event in self.of(ReRankStartEvent)]

    @pytest.fixture(name="told")
    def _told() -> Iterator[Events]:
        """The events that LlamaIndex's instrumentation is told."""
        handler = Events(seen=[])
        root_dispatcher.add_event_handler(handler)
        yield handler
        root_dispatcher.event_handlers.remove(handler)


@pytest.fixture(params=DOORS, name="door")
def _door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(name="invoke", params=["sync", "async"])
def _invoke(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Calls a runnable of LangChain's, sync or in the one event loop of the test."""
    with asyncio.Runner() as runner:

        def invoke(runnable: Any, *arguments: Any, **options: Any) -> Any:
            if request.param == "sync":
                return runnable.invoke(*arguments, **options)
            return runner.run(runnable.ainvoke(*arguments, **options))

        yield invoke


@pytest.fixture(name="doors")
def _doors() -> dict[str, Door]:
    return DOORS


@pytest.fixture(name="in_dollars")
def _in_dollars(monkeypatch: pytest.MonkeyPatch) -> float:
    """Gives the emulator, which has no price, the one of Singapore for a million tokens."""
    price = _models.PRICES["qwen3-rerank", "ap-southeast-1"]
    monkeypatch.setitem(_models.PRICES, ("qwen3-rerank", ""), price)
    return price.per_million
