"""Images and videos in LlamaIndex nodes: every way to hold one, and what is done with it."""

import base64
import logging
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
from llama_index.core.storage.docstore import SimpleDocumentStore
from pictures import base64_in, drawn, logged

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import RequestError, ServiceError
from qwen_rerank.emulator import Emulator, Reply

QUERY = "a fast red sports car"
URL = "https://x.example/red-sports-car.png"
FILM = "https://x.example/red-sports-car.mp4"
TEA = NodeWithScore(node=TextNode(text="green tea", id_="tea"), score=0.4)


CAR = drawn()
CAR_BASE64 = base64.b64encode(CAR).decode()
CAR_URI = f"data:image/png;base64,{CAR_BASE64}"


PIXELS, LINKED, FILMED = logged(CAR), {"image": URL}, {"video": FILM}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A folder with a picture, beside one that is none of its business."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "car.png").write_bytes(CAR)
    (tmp_path / "secret.png").write_bytes(CAR)
    return folder


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


# Every way to hold an image or a video

SAID = "cold caves"


def image(**options):
    """A node with an image resource."""
    return Node(image_resource=MediaResource(**options))


def film(**options):
    """A node with a video resource."""
    return Node(video_resource=MediaResource(**options))


# What makes a node below the folder, and what is sent of it.
HOLDERS = {
    "ImageNode-image": (lambda _: ImageNode(image=CAR_BASE64), [PIXELS]),
    "ImageNode-url": (lambda _: ImageNode(image_url=URL), [LINKED]),
    "ImageNode-url-uri": (lambda _: ImageNode(image_url=CAR_URI), [PIXELS]),
    "ImageNode-path": (lambda at: ImageNode(image_path=str(at / "car.png")), [PIXELS]),
    "ImageNode-and-text": (
        lambda _: ImageNode(image=CAR_BASE64, text=SAID),
        [PIXELS, {"text": SAID}],
    ),
    "ImageDocument": (lambda _: ImageDocument(image=CAR_BASE64), [PIXELS]),
    "Document-image": (
        lambda _: Document(image_resource=MediaResource(data=CAR), text=SAID),
        [PIXELS, {"text": SAID}],
    ),
    "Node-image-url": (lambda _: image(url=URL), [LINKED]),
    "Node-image-path": (lambda at: image(path=at / "car.png"), [PIXELS]),
    "Node-image-data-and-url": (lambda _: image(data=CAR, url=URL), [PIXELS]),
    "Node-all": (
        lambda _: Node(
            text_resource=MediaResource(text=SAID),
            image_resource=MediaResource(path=Path("car.png")),
            video_resource=MediaResource(url=FILM),
            audio_resource=MediaResource(url="https://x.example/a.mp3"),
        ),
        [PIXELS, FILMED, {"text": SAID}],
    ),
    "IndexNode": (
        lambda _: IndexNode(text="a red sports car", index_id="x"),
        [{"text": "a red sports car"}],
    ),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_holder(options, emulator, folder, holder):
    """Whatever holds an image or video, it is sent as it is, and the same node comes back."""
    make, seen = HOLDERS[holder]
    node = make(folder)
    before = node.model_copy(deep=True)

    ranked = rank(QwenRerank(local_files=folder, **options), [TEA, node])

    assert ids(ranked) == [node.node_id, "tea"]
    assert ranked[0].score > 0.5 > ranked[1].score
    assert ranked[0].node is node
    assert node == before
    assert sent(emulator) == sorted(seen, key=str)


@pytest.mark.parametrize(
    "make",
    [
        lambda meta: ImageNode(image=CAR_BASE64, metadata=meta),
        lambda meta: Node(image_resource=MediaResource(data=CAR), metadata=meta),
    ],
    ids=["ImageNode", "Node"],
)
def test_metadata_of_a_caption(options, emulator, make):
    """Metadata count as part of a caption, as they do for the embedding, and never for media."""
    node = make({"file_path": "/etc/passwd", "image_url": URL})
    reranker = QwenRerank(**options)

    reranker.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert sent(emulator) == [PIXELS]

    node.set_content(SAID)
    reranker.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    caption = node.get_content(metadata_mode=MetadataMode.EMBED)
    assert caption != SAID
    assert sent(emulator) == sorted([PIXELS, PIXELS, {"text": caption}], key=str)


@pytest.mark.parametrize("kind", [TextNode, Document])
def test_metadata_hold_no_images(options, emulator, folder, kind):
    """A node of text is ranked by its text, whatever its metadata look like."""
    metadata = {"file_path": "car.png", "file_type": "image/png", "image_url": URL, "b": CAR_BASE64}
    node = kind(text="red car", metadata=metadata, excluded_embed_metadata_keys=["b"])

    rank(QwenRerank(local_files=folder, metadata_mode=MetadataMode.NONE, **options), [node])

    assert sent(emulator) == [{"text": "red car"}]


# What cannot be sent

UNSENDABLE = {
    "empty-Node": (lambda _: Node(), "no text, image or video"),
    "empty-ImageNode": (lambda _: ImageNode(), "no text, image or video"),
    "empty-resource": (lambda _: image(), "its image is gone"),
    "sound": (lambda _: Node(audio_resource=MediaResource(data=b"\0s")), "sound"),
    "video-data": (lambda _: film(data=b"\0\0\0 ftypisom"), "by its http:// or https:// URL only"),
    "path-without-folder": (
        lambda folder: ImageNode(image_path=str(folder / "car.png")),
        "local_files",
    ),
}


@pytest.mark.parametrize("text", ["", "a red sports car"], ids=["bare", "with-text"])
@pytest.mark.parametrize("case", UNSENDABLE)
def test_unsendable(options, emulator, caplog, folder, case, text):
    """Such a node is last without a score unless it has a text; a warning names its position."""
    make, reason = UNSENDABLE[case]
    node = make(folder)
    if text:
        node.set_content(text)
        node.excluded_embed_metadata_keys = list(node.metadata)

    ranked = rank(QwenRerank(**options), [TEA, node, TextNode(text="x", id_="x")])

    if text:
        assert ranked[0].node is node
        assert ranked[0].score > 0.5
        assert sent(emulator) == [{"text": text}, {"text": "x"}]
    else:
        assert ids(ranked) == ["tea", "x", node.node_id]
        assert ranked[2].score is None
        assert sent(emulator) == [{"text": "x"}]
    if text and reason == "no text, image or video":
        assert warnings_in(caplog) == []
    else:
        [warning] = warnings_in(caplog)
        assert warning.startswith("Document 1 cannot be sent: ")
        assert reason in warning


# An image as query


@pytest.mark.parametrize("form", ["Path", "url", "uri"])
def test_image_as_query(options, emulator, folder, form):
    """A query of an image alone finds texts and pictures; its path is the caller's own."""
    secret = folder.parent / "secret.png"
    path = {"Path": secret, "url": URL, "uri": CAR_URI}[form]
    nodes = [TEA, ImageNode(image=CAR_BASE64, id_="car"), TextNode(text="red sports car", id_="t")]
    reranker = QwenRerank(local_files=folder, **options)

    ranked = rank(reranker, nodes, QueryBundle(" \n", image_path=path))

    assert set(ids(ranked)[:2]) == {"car", "t"}
    assert ranked[1].score > 0.5
    assert emulator.log[0].body["input"]["query"] == (LINKED if form == "url" else PIXELS)


@pytest.mark.parametrize(
    ("mixed", "asked"), [("max", "cold caves"), ("text", "cold caves"), ("media", LINKED)]
)
def test_text_and_image_as_query(options, emulator, caplog, mixed, asked):
    """Of a query with both, the text is asked, unless media are preferred.

    Where nobody said which, a warning tells what to say.
    """
    rank(QwenRerank(mixed=mixed, **options), [TEA], QueryBundle("cold caves", image_path=URL))

    assert emulator.log[0].body["input"]["query"] == asked
    said = warnings_in(caplog)
    assert len(said) == (mixed == "max")
    assert all("its image is ignored; mixed='media' asks by the image" in it for it in said)


@pytest.mark.parametrize(
    ("model", "path", "said"),
    [
        ("qwen3-vl-rerank", "/nowhere/a.png", "query"),
        ("qwen3-vl-rerank", "data:text/plain;base64,AAAA", "query"),
        ("qwen3-vl-rerank", "", "query is blank"),
        ("qwen3-rerank", URL, "qwen3-vl-rerank"),
    ],
)
def test_query_that_cannot_be_sent(options, emulator, model, path, said):
    """An unusable image as query is an error; nothing is sent."""
    with pytest.raises(RequestError, match=said):
        rank(QwenRerank(**options | {"model": model}), [TEA], QueryBundle("", image_path=path))

    assert emulator.log == ()


# Models of texts

TEXTS_ONLY = {"model": "qwen3-rerank"}


def test_text_only_model_ranks_texts(options, emulator, folder, caplog):
    """It ranks nodes by their text and neither reads nor sends an image, which is said once."""
    nodes = [
        TEA,
        ImageNode(text="a red sports car", image=CAR_BASE64, id_="car"),
        ImageNode(text=SAID, image_path="missing.png"),
        Node(text_resource=MediaResource(text="x"), video_resource=MediaResource(data=b"\0f")),
        Document(text="y", audio_resource=MediaResource(data=b"\0s")),
    ]

    reranker = QwenRerank(local_files=folder, mixed="media", **options | TEXTS_ONLY)
    ranked = rank(reranker, nodes)
    emulator.clear()

    assert ids(rank(reranker, nodes)) == ids(ranked)
    assert len(ranked) == 5
    assert ids(ranked)[0] == "car"
    assert all(each.score is not None for each in ranked)
    assert sent(emulator) == [{"text": text} for text in ("a red sports car", SAID, "x", "y")]
    [warning] = warnings_in(caplog)
    assert warning.startswith("Documents 1 to 4: ranked by the text alone, because qwen3-rerank ")


@pytest.mark.parametrize(
    "node",
    [
        ImageNode(image=CAR_BASE64, metadata={"page": "7"}),
        Node(image_resource=MediaResource(data=CAR), metadata={"page": "7"}),
    ],
    ids=["ImageNode", "Node"],
)
def test_text_only_model_and_nothing_but_media(options, emulator, caplog, node):
    """A node with nothing but an image or video is last; a warning names the model to use.

    Metadata make no text of an image, for an ImageNode as for a Node.
    """
    reranker = QwenRerank(**options | TEXTS_ONLY)

    ranked = rank(reranker, [node, TEA])

    assert ids(ranked) == ["tea", node.node_id]
    assert ranked[1].node is node
    assert ranked[1].score is None
    assert emulator.log[0].body["input"]["documents"] == [TEA.text]
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 0 cannot be sent: it has no text, and qwen3-rerank ")
    assert warning.endswith("Use model='qwen3-vl-rerank'.")


@pytest.mark.parametrize("mixed", ["max", "text"])
def test_text_only_model_and_a_query_of_both(options, emulator, caplog, mixed):
    """A text-only model asks the text and does not look at the image, which is said once.

    Nothing is said where texts are preferred.
    """
    reranker = QwenRerank(mixed=mixed, **options | TEXTS_ONLY)
    for _ in range(2):
        rank(reranker, [TEA], QueryBundle("tea", image_path=URL))

    assert emulator.log[0].body["input"]["query"] == "tea"
    said = warnings_in(caplog)
    assert len(said) == (mixed != "text")
    assert all("its image is ignored, because qwen3-rerank takes texts only" in it for it in said)


# Events, callbacks, log lines


@pytest.fixture(name="trace")
def _trace(told, caplog):
    """What event handlers, older callbacks and logs are told of one rerank."""
    caplog.set_level(logging.DEBUG)
    debug = LlamaDebugHandler(print_trace_on_end=False)

    def trace(options, nodes, query=QUERY):
        reranker = QwenRerank(callback_manager=CallbackManager([debug]), **options)
        ranked, error = [], None
        try:
            ranked = rank(reranker, nodes, query)
        except ServiceError as failure:
            error = failure
        [(start, end)] = debug.get_event_pairs(CBEventType.RERANKING)
        shown = [each for one in (start, end) for each in one.payload.get("nodes", [])]
        lines = [f"{each.getMessage()}{each.args}" for each in caplog.records]
        events = [f"{each!r}{each.model_dump()}{pickle.dumps(each)}" for each in told.seen]
        callbacks = [f"{start}{end}", *(each.model_dump_json() for each in shown)]
        return ranked, ["".join(events), "".join(callbacks), f"{lines}{error!r}"]

    return trace


class Rewrapping(QwenRerank):
    """One's own, which hands on the nodes in wrappers of its own."""

    def _postprocess_nodes(self, nodes, query_bundle=None):
        wrapped = [NodeWithScore(node=each.node) for each in nodes]
        return super()._postprocess_nodes(wrapped, query_bundle)


def test_a_subclass_gets_whole_nodes(options, told):
    """That somebody traces changes nothing for who overrides a method."""
    node = ImageNode(image=CAR_BASE64, text="told")

    ranked = Rewrapping(**options).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)

    assert told.seen
    assert ranked[0].node is node


WORDS = MediaResource(text="told")
SOURCE = RelatedNodeInfo(node_id="whole", metadata={"thumbnail": CAR_BASE64})
TRACED = {
    "ImageNode": lambda: ImageNode(image=CAR_BASE64, text="told", metadata={"page": "seventeen"}),
    "ImageNode-url": lambda: ImageNode(image_url=CAR_URI, text="told"),
    "ImageNode-path": lambda: ImageNode(image_path=CAR_URI, text="told"),
    "Node": lambda: Node(image_resource=MediaResource(data=CAR), text_resource=WORDS),
    "Node-url": lambda: Node(image_resource=MediaResource(url=CAR_URI), text_resource=WORDS),
    "video": lambda: Node(video_resource=MediaResource(data=CAR), text_resource=WORDS),
    "sound": lambda: Node(audio_resource=MediaResource(data=CAR), text_resource=WORDS),
    "relationships": lambda: TextNode(
        text="told",
        relationships={NodeRelationship.SOURCE: SOURCE, NodeRelationship.CHILD: [SOURCE]},
    ),
    "IndexNode-of-a-node": lambda: IndexNode(
        text="told", index_id="x", obj=ImageNode(image=CAR_BASE64)
    ),
    "IndexNode-of-a-scored-node": lambda: IndexNode(
        text="told", index_id="x", obj=NodeWithScore(node=ImageNode(image=CAR_BASE64))
    ),
    "IndexNode-of-a-text": lambda: IndexNode(text="told", index_id="x", obj=CAR_BASE64),
    "small": lambda: ImageNode(image=base64.b64encode(drawn(size=(10, 10))).decode(), text="told"),
}


@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_traces_without_base64(options, trace, make):
    """A trace shows a node without the content of its image, and the logs show nothing of it."""
    node = make()

    ranked, texts = trace(options, [TEA, node])

    assert node.node_id in ids(ranked)
    for text in texts[:2]:
        assert node.node_id in text
        assert "told" in text
        assert node.metadata.get("page", "told") in text
    assert base64_in("".join(texts)) == []


def test_traces_of_several_nodes(options, told):
    """What an `IndexNode` stands for may be a container of nodes, which LlamaIndex cannot dump."""
    nodes = [ImageNode(image=CAR_BASE64), NodeWithScore(node=ImageNode(image=CAR_URI))]
    node = IndexNode(text="told", index_id="x", obj={"parts": nodes})

    [ranked] = rank(QwenRerank(**options), [node])

    assert ranked.node is node
    assert told.seen
    assert base64_in("".join(map(repr, told.seen))) == []


def test_trace_of_a_query(options, trace, told):
    """An image as query is told by its size."""
    _, texts = trace(options, [TEA], QueryBundle("", image_path=CAR_URI))

    [started] = told.of(ReRankStartEvent)
    assert started.query.startswith("Image(<")
    assert base64_in("".join(texts)) == []


@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_trace_of_a_failure(options, emulator, trace, on_error):
    """A failure is told without the image, and so is what was passed through, which is whole."""
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    nodes = [TEA, TRACED["ImageNode"](), TRACED["Node"]()]

    ranked, texts = trace(options | {"on_error": on_error}, nodes)

    if on_error == "passthrough":
        assert [id(each.node) for each in ranked] == [id(TEA.node), *map(id, nodes[1:])]
    assert base64_in("".join(texts)) == []


def test_an_image_document_out_of_a_store(options, caplog):
    """A docstore gives an `ImageDocument` back without its image, which a warning says."""
    store, document = SimpleDocumentStore(), ImageDocument(image=CAR_BASE64)
    store.add_documents([document])

    ranked = rank(QwenRerank(**options), [TEA, store.get_document(document.node_id)])

    assert ids(ranked) == ["tea", document.node_id]
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 1 cannot be sent: its image is gone")
