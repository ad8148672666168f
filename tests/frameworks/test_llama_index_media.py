"""Images and videos in LlamaIndex nodes: every way to hold one, and what is done with it."""

import base64
import pickle
from pathlib import Path

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation.events.rerank import ReRankStartEvent
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from pictures import base64_in, drawn, logged

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import RequestError
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"
URL = "https://x.example/red-sports-car.png"
FILM = "https://x.example/red-sports-car.mp4"
TEA = NodeWithScore(node=TextNode(text="green tea", id_="tea"), score=0.4)


CAR = drawn()
CAR_BASE64 = base64.b64encode(CAR).decode()
CAR_URI = f"data:image/png;base64,{CAR_BASE64}"


PIXELS, LINKED, FILMED = logged(CAR), {"image": URL}, {"video": FILM}


@pytest.fixture(name="options")
def _options(connection):
    return {"model": "qwen3-vl-rerank", "top_n": None, "max_retries": 0, **connection}


def rank(reranker, nodes, query=QUERY):
    """The ranked nodes; the async way differs in nothing that is asked here."""
    bundle = QueryBundle(query) if isinstance(query, str) else query
    found = [n if isinstance(n, NodeWithScore) else NodeWithScore(node=n) for n in nodes]
    return reranker.postprocess_nodes(found, bundle)


def ids(nodes):
    """The ids of *nodes*."""
    return [each.node.node_id for each in nodes]


def sent(emulator: Emulator):
    """What has been sent as documents, over all requests, sorted; without the tea."""
    documents = [each for seen in emulator.log for each in seen.body["input"]["documents"]]
    shown = [{"text": each} if isinstance(each, str) else each for each in documents]
    return sorted((each for each in shown if each != {"text": "green tea"}), key=str)


def warnings_in(caplog):
    """The log lines of this project."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("qwen_rerank")]


# Every way to hold an image or a video, and what is sent of it

SAID = "cold caves"
METADATA = {"file_path": "car.png", "file_type": "image/png", "image_url": URL, "b": CAR_BASE64}
HOLDERS = {
    "ImageNode-image": (ImageNode(image=CAR_BASE64), [PIXELS]),
    "ImageNode-url": (ImageNode(image_url=URL), [LINKED]),
    "ImageNode-path": (ImageNode(image_path="car.png"), [PIXELS]),
    "ImageNode-and-text": (ImageNode(image=CAR_BASE64, text=SAID), [PIXELS, {"text": SAID}]),
    "ImageDocument": (ImageDocument(image=CAR_BASE64), [PIXELS]),
    "Node-url": (Node(image_resource=MediaResource(url=URL)), [LINKED]),
    "Node-data-and-url": (Node(image_resource=MediaResource(data=CAR, url=URL)), [PIXELS]),
    "Node-all": (
        Node(
            text_resource=MediaResource(text=SAID),
            image_resource=MediaResource(path=Path("car.png")),
            video_resource=MediaResource(url=FILM),
            audio_resource=MediaResource(url="https://x.example/a.mp3"),
        ),
        [PIXELS, FILMED, {"text": SAID}],
    ),
    "metadata": (
        Document(
            text="a red sports car", metadata=METADATA, excluded_embed_metadata_keys=[*METADATA]
        ),
        [{"text": "a red sports car"}],
    ),
}


@pytest.mark.parametrize(("node", "seen"), HOLDERS.values(), ids=HOLDERS)
def test_every_holder(options, emulator, tmp_path, node, seen):
    """Whatever holds an image or video, it is sent as it is, and the same node comes back.

    Metadata that look like one are none.
    """
    (tmp_path / "car.png").write_bytes(CAR)
    before = node.model_copy(deep=True)

    ranked = rank(QwenRerank(local_files=tmp_path, **options), [TEA, node])

    assert ids(ranked) == [node.node_id, "tea"]
    assert ranked[0].score > 0.5 > ranked[1].score
    assert ranked[0].node is node
    assert node == before
    assert sent(emulator) == sorted(seen, key=str)


def test_metadata_of_a_caption(options, emulator):
    """Metadata count as part of a caption, as they do for the embedding, and never for media."""
    node = ImageNode(image=CAR_BASE64, metadata={"file_path": "/etc/passwd"})
    reranker = QwenRerank(**options)

    rank(reranker, [node])
    assert sent(emulator) == [PIXELS]

    node.set_content(SAID)
    rank(reranker, [node])
    caption = node.get_content(metadata_mode=MetadataMode.EMBED)
    assert caption != SAID
    assert sent(emulator) == sorted([PIXELS, PIXELS, {"text": caption}], key=str)


UNSENDABLE = {
    "empty": (ImageNode(), "no text, image or video"),
    "empty-resource": (Node(image_resource=MediaResource()), "its image is gone"),
    "sound": (Node(audio_resource=MediaResource(data=b"\0s")), "sound"),
    "video": (Node(video_resource=MediaResource(data=b"\0\0\0 ftyp")), "https:// URL only"),
}


@pytest.mark.parametrize(("node", "reason"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_unsendable(options, caplog, node, reason):
    """What has nothing that can be sent is last, without a score, and a warning says why."""
    ranked = rank(QwenRerank(**options), [node, TEA])

    assert ids(ranked) == ["tea", node.node_id]
    assert ranked[1].score is None
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 0 cannot be sent: ")
    assert reason in warning


# An image as query


def test_image_as_query(options, emulator, tmp_path):
    """A query of an image alone finds texts and pictures; its path is the caller's own."""
    (tmp_path / "mine.png").write_bytes(CAR)
    (folder := tmp_path / "pictures").mkdir()
    nodes = [TEA, ImageNode(image=CAR_BASE64, id_="car"), TextNode(text="red sports car", id_="t")]
    reranker = QwenRerank(local_files=folder, **options)

    for text, path in ((" \n", tmp_path / "mine.png"), (None, URL)):
        ranked = rank(reranker, nodes, QueryBundle(text, image_path=path))
        assert set(ids(ranked)[:2]) == {"car", "t"}

    assert [seen.body["input"]["query"] for seen in emulator.log] == [PIXELS, LINKED]


@pytest.mark.parametrize(
    ("model", "mixed", "asked", "said"),
    [
        ("qwen3-vl-rerank", "max", SAID, "its image is ignored; mixed='media' asks by the image"),
        ("qwen3-vl-rerank", "text", SAID, None),
        ("qwen3-vl-rerank", "media", LINKED, None),
        ("qwen3-rerank", "media", SAID, "ignored, because qwen3-rerank takes texts only"),
    ],
)
def test_text_and_image_as_query(options, emulator, caplog, model, mixed, asked, said):
    """Of a query with both, the text is asked, unless media are preferred and taken.

    Where nobody said which, a warning says so once, and what to say.
    """
    reranker = QwenRerank(mixed=mixed, **options | {"model": model})
    for _ in range(2):
        rank(reranker, [TEA], QueryBundle(SAID, image_path=URL))

    assert emulator.log[0].body["input"]["query"] == asked
    warnings = warnings_in(caplog)
    assert len(warnings) == (said is not None)
    assert all(said in warning for warning in warnings)


@pytest.mark.parametrize(
    ("model", "path", "said"),
    [
        ("qwen3-vl-rerank", "data:text/plain;base64,AAAA", "image_path of the query"),
        ("qwen3-vl-rerank", "", "query is blank"),
        ("qwen3-rerank", URL, "qwen3-vl-rerank"),
    ],
)
def test_query_that_cannot_be_sent(options, emulator, model, path, said):
    """An unusable image as query is an error; nothing is sent."""
    with pytest.raises(RequestError, match=said):
        rank(QwenRerank(**options | {"model": model}), [TEA], QueryBundle("", image_path=path))

    assert emulator.log == ()


# What tracers are shown


@pytest.fixture(name="trace")
def _trace(told):
    """Ranks, and gives what event handlers and older callbacks are told, as text and pickles."""
    debug = LlamaDebugHandler(print_trace_on_end=False)

    def trace(options, nodes, query=QUERY):
        reranker = QwenRerank(callback_manager=CallbackManager([debug]), **options)
        ranked = rank(reranker, nodes, query)
        [(start, end)] = debug.get_event_pairs(CBEventType.RERANKING)
        events = [f"{each!r}{each.model_dump()}{pickle.dumps(each)}" for each in told.seen]
        return ranked, ["".join(events), f"{start.payload}{end.payload}"]

    return trace


WORDS = MediaResource(text="told")
SOURCE = RelatedNodeInfo(node_id="whole", metadata={"thumbnail": CAR_BASE64})
TRACED = {
    "ImageNode": ImageNode(image=CAR_BASE64, text="told"),
    "places": ImageNode(image_url=CAR_URI, image_path=CAR_URI, text="told"),
    "metadata": TextNode(text="told", metadata={"thumbnail": CAR_URI}),
    "image": Node(image_resource=MediaResource(data=CAR), text_resource=WORDS),
    "image-url": Node(image_resource=MediaResource(url=CAR_URI), text_resource=WORDS),
    "video": Node(video_resource=MediaResource(data=CAR), text_resource=WORDS),
    "sound": Node(audio_resource=MediaResource(data=CAR), text_resource=WORDS),
    "relationships": TextNode(
        relationships={
            NodeRelationship.SOURCE: SOURCE,
            NodeRelationship.CHILD: [SOURCE],
            NodeRelationship.NEXT: RelatedNodeInfo(node_id="told"),
        },
    ),
    "IndexNode": IndexNode(text="", index_id="x", obj=ImageNode(image=CAR_BASE64, text="told")),
    "IndexNode-of-a-scored-node": IndexNode(
        text="", index_id="x", obj=NodeWithScore(node=ImageNode(image=CAR_BASE64, text="told"))
    ),
    "text": TextNode(text=CAR_URI, metadata={"said": "told"}),
    "Node-text": Node(text_resource=MediaResource(text=CAR_URI), metadata={"said": "told"}),
}


@pytest.mark.parametrize("node", TRACED.values(), ids=TRACED)
def test_traces_without_base64(options, trace, node):
    """A trace shows a node without the content of its image, and the rest as it is."""
    ranked, texts = trace(options, [TEA, node])

    assert node.node_id in ids(ranked)
    for text in texts:
        assert node.node_id in text
        assert "told" in text
        assert base64_in(text) == []


def test_traces_of_several_nodes(options, told):
    """What an `IndexNode` stands for may be a container of nodes, which LlamaIndex cannot dump."""
    nodes = [ImageNode(image=CAR_BASE64), NodeWithScore(node=ImageNode(image=CAR_URI))]
    node = IndexNode(text="a car", index_id="x", obj={"parts": nodes})

    [ranked] = rank(QwenRerank(**options), [node])

    assert ranked.node is node
    assert told.seen
    assert base64_in("".join(map(repr, told.seen))) == []


def test_what_is_shown_can_be_stored(options, told):
    """Tracers may pickle a node without its content, which is read as a node with its score."""
    node = NodeWithScore(node=ImageNode(image=CAR_BASE64, id_="car"), score=0.5)
    rank(QwenRerank(**options), [node])

    [start] = told.of(ReRankStartEvent)
    [again] = pickle.loads(pickle.dumps(start.nodes))  # noqa: S301  our own pickle

    assert (again.node.node_id, again.node.image, again.score) == ("car", None, 0.5)


def test_trace_of_a_query(options, trace, told):
    """An image as query is told by its size."""
    _, texts = trace(options, [TEA], QueryBundle("", image_path=CAR_URI))

    [started] = told.of(ReRankStartEvent)
    assert started.query.startswith("Image(<")
    assert base64_in("".join(texts)) == []
