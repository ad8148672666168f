"""Images and videos in LlamaIndex nodes: every way to hold one, and what is done with it."""

import base64
import inspect
import logging
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    LLMMetadata,
    TextBlock,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation.events.rerank import ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index_instrumentation import root_dispatcher
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from pictures import base64_in, drawn, logged

from llama_index_qwen_rerank import QwenRerank
from llama_index_qwen_rerank.events import QwenRerankEndEvent
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


def image_document(**options):
    """An image document whose URL is not downloaded when it is made."""
    url = options.pop("image_url", None)
    document = ImageDocument(**options)
    if url is not None:
        document.image_url = url
    return document


def image(**options):
    """A node with an image resource."""
    return Node(image_resource=MediaResource(**options))


def film(**options):
    """A node with a video resource."""
    return Node(video_resource=MediaResource(**options))


# What makes a node below the folder, what is sent of it, and what is sent after it was stored.
HOLDERS = {
    "ImageNode-image": (lambda _: ImageNode(image=CAR_BASE64), [PIXELS], [PIXELS]),
    "ImageNode-url": (lambda _: ImageNode(image_url=URL), [LINKED], [LINKED]),
    "ImageNode-url-uri": (lambda _: ImageNode(image_url=CAR_URI), [PIXELS], [PIXELS]),
    "ImageNode-path": (lambda at: ImageNode(image_path=str(at / "car.png")), [PIXELS], [PIXELS]),
    "ImageNode-path-relative": (lambda _: ImageNode(image_path="car.png"), [PIXELS], [PIXELS]),
    "ImageNode-resource-path": (
        lambda at: ImageNode(image_resource=MediaResource(path=at / "car.png")),
        [PIXELS],
        [PIXELS],
    ),
    "ImageNode-and-text": (
        lambda _: ImageNode(image=CAR_BASE64, text=SAID),
        [PIXELS, {"text": SAID}],
        [PIXELS, {"text": SAID}],
    ),
    "ImageDocument-image": (lambda _: image_document(image=CAR_BASE64), [PIXELS], []),
    "ImageDocument-url": (lambda _: image_document(image_url=URL), [LINKED], [LINKED]),
    "ImageDocument-and-text": (
        lambda _: image_document(image=CAR_BASE64, text=SAID),
        [PIXELS, {"text": SAID}],
        [{"text": SAID}],
    ),
    "Document-image": (
        lambda _: Document(image_resource=MediaResource(data=CAR), text=SAID),
        [PIXELS, {"text": SAID}],
        [{"text": SAID}],
    ),
    "Node-image-data": (lambda _: image(data=CAR), [PIXELS], []),
    "Node-image-base64": (lambda _: image(data=CAR_BASE64.encode()), [PIXELS], []),
    "Node-image-url": (lambda _: image(url=URL), [LINKED], [LINKED]),
    "Node-image-path": (lambda at: image(path=at / "car.png"), [PIXELS], [PIXELS]),
    "Node-image-data-and-url": (lambda _: image(data=CAR, url=URL), [PIXELS], [LINKED]),
    "Node-video-url": (lambda _: film(url=FILM), [FILMED], [FILMED]),
    "Node-all": (
        lambda _: Node(
            text_resource=MediaResource(text=SAID),
            image_resource=MediaResource(path=Path("car.png")),
            video_resource=MediaResource(url=FILM),
            audio_resource=MediaResource(url="https://x.example/a.mp3"),
        ),
        [PIXELS, FILMED, {"text": SAID}],
        [PIXELS, FILMED, {"text": SAID}],
    ),
    "IndexNode": (
        lambda _: IndexNode(text="a red sports car", index_id="x"),
        [{"text": "a red sports car"}],
        [{"text": "a red sports car"}],
    ),
}


def from_disk(node, tmp_path):
    """*node* from a document store that was written to disk."""
    store, path = SimpleDocumentStore(), str(tmp_path / "store.json")
    store.add_documents([node])
    store.persist(path)
    return SimpleDocumentStore.from_persist_path(path).get_document(node.node_id)


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_holder(options, emulator, folder, holder):
    """Whatever holds an image or video, it is sent as it is, and the same node comes back."""
    make, seen, _ = HOLDERS[holder]
    node = make(folder)
    before = node.model_copy(deep=True)

    ranked = rank(QwenRerank(local_files=folder, **options), [TEA, node])

    assert ids(ranked) == [node.node_id, "tea"]
    assert ranked[0].score > 0.5 > ranked[1].score
    assert ranked[0].node is node
    assert node == before
    assert sent(emulator) == sorted(seen, key=str)


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_holder_after_a_store(options, emulator, caplog, tmp_path, folder, holder):
    """What a store keeps of a node is sent; where it lost the image, a warning says so."""
    make, before, after = HOLDERS[holder]
    try:
        node = from_disk(make(folder), tmp_path)
    except TypeError as error:
        if "AnyUrl" not in str(error):
            raise
        pytest.skip(f"llama-index-core cannot write the URL of a resource: {error}")

    ranked = QwenRerank(local_files=folder, **options).postprocess_nodes(
        [TEA, NodeWithScore(node=node)], query_str=QUERY
    )

    assert sent(emulator) == sorted(after, key=str)
    assert {each.node.node_id for each in ranked} == {node.node_id, "tea"}
    if not after:
        assert ids(ranked) == ["tea", node.node_id]
        assert ranked[1].score is None
    if len(after) < len(before):
        [warning] = warnings_in(caplog)
        assert warning.startswith("Document 1 cannot be sent: its image is gone")


def test_data_of_an_image_node_is_lost_by_llama_index(options, caplog):
    """An ImageNode forgets the data of its resource: it is last, with a warning."""
    node = ImageNode(image_resource=MediaResource(data=CAR))

    ranked = rank(QwenRerank(**options), [node, TEA])

    assert ids(ranked) == ["tea", node.node_id]
    assert warnings_in(caplog) == ["Document 0 cannot be sent: it has no text, image or video"]


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
    "empty-resource": (lambda _: image(), "its image is gone"),
    "metadata-alone": (lambda _: Node(metadata={"image_url": URL}), "no text, image or video"),
    "sound": (lambda _: Node(audio_resource=MediaResource(data=b"\0s")), "sound"),
    "video-data": (lambda _: film(data=b"\0\0\0 ftypisom"), "by its http:// or https:// URL only"),
    "path-without-folder": (
        lambda folder: ImageNode(image_path=str(folder / "car.png")),
        "local_files",
    ),
    "resource-path-without-folder": (lambda folder: image(path=folder / "car.png"), "local_files"),
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


@pytest.mark.parametrize("form", ["path", "Path", "url", "uri"])
def test_image_as_query(options, emulator, folder, form):
    """A query of an image alone finds texts and pictures; its path is the caller's own."""
    secret = folder.parent / "secret.png"
    path = {"path": str(secret), "Path": secret, "url": URL, "uri": CAR_URI}[form]
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


@pytest.mark.parametrize("path", ["/nowhere/a.png", "data:text/plain;base64,AAAA"])
def test_query_that_cannot_be_sent(options, emulator, path):
    """An unusable image as query is an error; nothing is sent."""
    with pytest.raises(RequestError, match="query"):
        rank(QwenRerank(**options), [TEA], QueryBundle("", image_path=path))

    assert emulator.log == ()


def test_query_of_nothing(options):
    """Neither text nor image is no query."""
    with pytest.raises(RequestError, match="query is blank"):
        rank(QwenRerank(**options), [TEA], QueryBundle("", image_path=""))


# Models of texts


@pytest.fixture(name="texts_only")
def _texts_only(options):
    return options | {"model": "qwen3-rerank"}


def test_text_only_model_ranks_texts(texts_only, emulator, folder, caplog):
    """It ranks nodes by their text and neither reads nor sends an image, which is said once."""
    nodes = [
        TEA,
        ImageNode(text="a red sports car", image=CAR_BASE64, id_="car"),
        ImageNode(text=SAID, image_path="missing.png"),
        Node(text_resource=MediaResource(text="x"), video_resource=MediaResource(data=b"\0f")),
        Document(text="y", audio_resource=MediaResource(data=b"\0s")),
    ]

    reranker = QwenRerank(local_files=folder, mixed="media", **texts_only)
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
        film(url=FILM),
    ],
    ids=["ImageNode", "Node", "video"],
)
def test_text_only_model_and_nothing_but_media(texts_only, emulator, caplog, node):
    """A node with nothing but an image or video is last; a warning names the model to use.

    Metadata make no text of an image, for an ImageNode as for a Node.
    """
    reranker = QwenRerank(**texts_only)

    ranked = rank(reranker, [node, TEA])

    assert ids(ranked) == ["tea", node.node_id]
    assert ranked[1].node is node
    assert ranked[1].score is None
    assert emulator.log[0].body["input"]["documents"] == [TEA.text]
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 0 cannot be sent: it has no text, and qwen3-rerank ")
    assert warning.endswith("Use model='qwen3-vl-rerank'.")


def test_text_only_model_and_an_image_as_query(texts_only, emulator):
    """A query of an image alone is an error."""
    with pytest.raises(RequestError, match="qwen3-vl-rerank"):
        rank(QwenRerank(**texts_only), [TEA], QueryBundle("", image_path=URL))

    assert emulator.log == ()


@pytest.mark.parametrize("mixed", ["max", "text", "media"])
def test_text_only_model_and_a_query_of_both(texts_only, emulator, caplog, mixed):
    """A text-only model asks the text and does not look at the image, which is said once.

    Nothing is said where texts are preferred.
    """
    reranker = QwenRerank(mixed=mixed, **texts_only)
    for _ in range(2):
        rank(reranker, [TEA], QueryBundle("tea", image_path=URL))

    assert emulator.log[0].body["input"]["query"] == "tea"
    said = warnings_in(caplog)
    assert len(said) == (mixed != "text")
    assert all("its image is ignored, because qwen3-rerank takes texts only" in it for it in said)


# Events, spans, callbacks, log lines


class Spans(SimpleSpanHandler):
    """Keeps all that it is told of spans."""

    told: list = []  # noqa: RUF012  a pydantic field

    def span_enter(self, id_, bound_args, **options):
        """Keep everything."""
        self.told.append(("enter", id_, bound_args, options))
        super().span_enter(id_, bound_args, **options)

    def span_exit(self, id_, bound_args, **options):
        """Keep everything."""
        self.told.append(("exit", id_, bound_args, options))
        super().span_exit(id_, bound_args, **options)

    def span_drop(self, id_, bound_args, **options):
        """Keep everything."""
        self.told.append(("drop", id_, bound_args, options))
        super().span_drop(id_, bound_args, **options)


class Trace:
    """All that is told of a rerank, as texts."""

    def __init__(self, events, caplog):
        self.events, self.spans, self.caplog = events, Spans(), caplog
        self.spans.told = []
        self.debug = LlamaDebugHandler(print_trace_on_end=False)
        self.manager = CallbackManager([self.debug])

    def of_events(self):
        """What event handlers are told."""
        assert {type(each) for each in self.events.seen} >= {ReRankStartEvent, QwenRerankEndEvent}
        parts = [f"{each}{each!r}{each.model_dump()}" for each in self.events.seen]
        return "".join(parts + [self.as_json(each) for each in self.events.seen])

    @staticmethod
    def as_json(event):
        """An event as JSON, if it has a form in JSON."""
        if event.class_name() == "ExceptionEvent":
            return repr(event.exception)
        return event.model_dump_json()

    def of_callbacks(self):
        """What the older callbacks are told."""
        [(start, end)] = self.debug.get_event_pairs(CBEventType.RERANKING)
        nodes = [each for one in (start, end) for each in one.payload.get("nodes", [])]
        return f"{start}{end}" + "".join(each.model_dump_json() for each in nodes)

    def of_spans(self):
        """What span handlers are told."""
        assert self.spans.told
        return str(self.spans.told)

    def of_logs(self):
        """What the logs are told."""
        return "".join(f"{each.getMessage()}{each.args}" for each in self.caplog.records)


@pytest.fixture(name="trace")
def _trace(told, caplog):
    caplog.set_level(logging.DEBUG)
    trace = Trace(told, caplog)
    root_dispatcher.add_span_handler(trace.spans)
    yield trace
    root_dispatcher.span_handlers.remove(trace.spans)


WORDS = MediaResource(text="told")
TRACED = {
    "ImageNode": lambda: ImageNode(image=CAR_BASE64, text="told", metadata={"page": "seventeen"}),
    "ImageNode-url": lambda: ImageNode(image_url=CAR_URI, text="told"),
    "ImageNode-path": lambda: ImageNode(image_path=CAR_URI, text="told"),
    "ImageDocument": lambda: ImageDocument(image=CAR_BASE64, text="told"),
    "Node": lambda: Node(image_resource=MediaResource(data=CAR), text_resource=WORDS),
    "Node-url": lambda: Node(image_resource=MediaResource(url=CAR_URI), text_resource=WORDS),
    "video": lambda: Node(video_resource=MediaResource(data=CAR), text_resource=WORDS),
    "video-url": lambda: Node(
        video_resource=MediaResource(url=f"data:video/mp4;base64,{CAR_BASE64}"),
        text_resource=WORDS,
    ),
    "sound": lambda: Node(audio_resource=MediaResource(data=CAR), text_resource=WORDS),
    "small": lambda: ImageNode(image=base64.b64encode(drawn(size=(10, 10))).decode(), text="told"),
}


@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_events_without_base64(options, trace, make):
    """Events and callbacks show a node without the content of its image, and log lines nothing."""
    reranker = QwenRerank(callback_manager=trace.manager, **options)
    node = make()

    ranked = rank(reranker, [TEA, node])

    assert node.node_id in ids(ranked)
    for text in (trace.of_events(), trace.of_callbacks()):
        assert node.node_id in text
        assert "told" in text
        assert node.metadata.get("page", "told") in text
        assert base64_in(text) == []
    assert base64_in(trace.of_logs()) == []


@pytest.mark.parametrize("make", [TRACED["ImageNode"], TRACED["Node"]], ids=["ImageNode", "Node"])
def test_spans_without_base64(options, trace, make):
    """Nor do the arguments and results of spans."""
    rank(QwenRerank(**options), [TEA, make()])

    assert base64_in(trace.of_spans()) == []


def test_trace_of_a_query(options, trace):
    """An image as query is told by its size."""
    reranker = QwenRerank(callback_manager=trace.manager, **options)

    rank(reranker, [TEA], QueryBundle("", image_path=CAR_URI))

    [started] = [each for each in trace.events.seen if isinstance(each, ReRankStartEvent)]
    assert started.query.startswith("Image(<")
    for text in (trace.of_events(), trace.of_callbacks(), trace.of_logs()):
        assert base64_in(text) == []


@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_trace_of_a_failure(options, emulator, trace, on_error):
    """A failure is told without the image, and so is what was passed through."""
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    reranker = QwenRerank(callback_manager=trace.manager, on_error=on_error, **options)
    nodes, said = [TEA, TRACED["ImageNode"](), TRACED["Node"]()], ""

    try:
        assert [id(each.node) for each in rank(reranker, nodes)] == [
            id(TEA.node),
            *[id(each) for each in nodes[1:]],
        ]
    except ServiceError as error:
        said = f"{error}{error!r}"

    for text in (trace.of_events(), trace.of_callbacks(), trace.of_logs(), said):
        assert base64_in(text) == []


# Inside LlamaIndex


class Found(BaseRetriever):
    """Finds the nodes that it was given."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle):  # noqa: ARG002  their signature
        return [NodeWithScore(node=node, score=0.3) for node in self.nodes]


shows_images = pytest.mark.skipif(
    "is_chat_model" not in inspect.signature(MockLLM).parameters,
    reason="the engines of this llama-index-core show images to such a mock in another way",
)


class Model(MockLLM):
    """A model that keeps what it was shown."""

    shown: list = []  # noqa: RUF012  a pydantic field

    def __init__(self):
        super().__init__()
        self.shown = []

    @property
    def metadata(self):
        """A window for everything."""
        return LLMMetadata(context_window=1_000_000, is_chat_model=True)

    def chat(self, messages, **_):
        """Keep *messages*."""
        self.shown += [block for message in messages for block in message.blocks]
        return ChatResponse(message=ChatMessage("seen", role="assistant"))

    async def achat(self, messages, **_):
        """Keep *messages*."""
        return self.chat(messages)

    @property
    def pictures(self):
        """The data URIs of the images that it was shown."""
        return [str(block.url) for block in self.shown if isinstance(block, ImageBlock)]


@shows_images
async def test_multimodal_query_engine(options):
    """The engine shows its model the reranked images and texts, content included."""
    nodes = [
        TEA.node,
        ImageNode(image=CAR_BASE64, id_="car"),
        ImageNode(image=base64.b64encode(drawn("the blue sea")).decode(), id_="sea"),
        TextNode(text="A red sports car is fast.", id_="text"),
        Node(image_resource=MediaResource(data=drawn("red sports cars")), id_="node"),
        Node(audio_resource=MediaResource(data=b"\0sound"), id_="sound"),
    ]
    llm = Model()
    engine = RetrieverQueryEngine.from_args(
        Found(nodes),
        llm=llm,
        node_postprocessors=[QwenRerank(**options | {"top_n": 3})],
        multimodal=True,
    )

    answer = await engine.aquery(QUERY)

    assert {each.node_id for each in answer.source_nodes} == {"car", "text", "node"}
    assert all(each.score > 0.4 for each in answer.source_nodes)
    others = base64.b64encode(drawn("red sports cars")).decode()
    assert sorted(llm.pictures) == sorted([CAR_URI, f"data:image/png;base64,{others}"])
    texts = "".join(block.text for block in llm.shown if isinstance(block, TextBlock))
    assert "A red sports car is fast." in texts
    assert "green tea" not in texts


async def test_engine_asked_by_an_image(options, emulator, folder):
    """The image of a query bundle arrives through the engine."""
    engine = RetrieverQueryEngine.from_args(
        Found([TEA.node, ImageNode(image=CAR_BASE64, id_="car")]),
        llm=Model(),
        node_postprocessors=[QwenRerank(**options | {"top_n": 1})],
        multimodal=True,
    )

    answer = await engine.aquery(QueryBundle("", image_path=str(folder / "car.png")))

    assert [each.node_id for each in answer.source_nodes] == ["car"]
    assert emulator.log[0].body["input"]["query"] == PIXELS
