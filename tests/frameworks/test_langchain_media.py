"""Images and videos of LangChain documents: where they are found, and what never happens."""

import asyncio
import base64
import builtins
import hashlib
import io
import json
import logging
import os
from dataclasses import asdict, is_dataclass
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.tracers.base import BaseTracer
from pictures import base64_in, drawn, logged

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import Image, RequestError, ServiceError, Video
from qwen_rerank.emulator import Emulator, Reply

QUERY = "a fast red sports car"
TEA = Document("green tea", id="tea")
URL = "https://x.example/red-sports-car.png"
FILM = "https://x.example/red-sports-car.mp4"


CAR = drawn()
CAR_BASE64 = base64.b64encode(CAR).decode()
CAR_URI = f"data:image/png;base64,{CAR_BASE64}"


@pytest.fixture(name="pictures")
def _pictures(tmp_path: Path) -> Path:
    """A folder with a picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "car.png").write_bytes(CAR)
    return folder


@pytest.fixture(name="opened")
def _opened(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> list[str]:
    """The paths of all files that are opened, once there are pictures."""
    assert pictures.is_dir()
    paths: list[str] = []

    def watched(original):
        def opening(path, *arguments, **options):
            paths.append(str(path))
            return original(path, *arguments, **options)

        return opening

    for owner, name in ((builtins, "open"), (io, "open"), (os, "open")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return paths


@pytest.fixture(name="options")
def _options(connection):
    return {"model": "qwen3-vl-rerank", "top_n": None, "max_retries": 0, **connection}


def compress(reranker, documents, callbacks=None):
    """The ranked documents; the async way differs in nothing that is asked here."""
    return reranker.compress_documents(documents, QUERY, callbacks)


def ids(documents):
    """The ids of *documents*."""
    return [document.id for document in documents]


def score(document):
    """The score of *document*, if it has one."""
    return document.metadata.get("relevance_score")


def sent(emulator: Emulator):
    """What has been sent as documents, over all requests."""
    documents = [each for seen in emulator.log for each in seen.body["input"]["documents"]]
    return [{"text": each} if isinstance(each, str) else each for each in documents]


def kinds_sent(emulator: Emulator):
    """How often each kind of document has been sent."""
    return sorted(next(iter(each)) for each in sent(emulator))


def warnings_in(caplog):
    """The log lines of this project."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("qwen_rerank")]


# Where an image or a video is found


@pytest.mark.parametrize(
    ("value", "seen"),
    [(URL, {"image": URL}), (CAR, logged(CAR)), (CAR_URI, logged(CAR)), ("car.png", logged(CAR))],
    ids=["url", "bytes", "data-uri", "path"],
)
def test_image_of_a_document(options, emulator, caplog, pictures, value, seen):
    """An image is taken in every form in which metadata can hold one, and sent as it is."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)
    documents = [TEA, Document("", id="car", metadata={"picture": value})]

    ranked = compress(reranker, documents)

    assert ids(ranked) == ["car", "tea"]
    assert score(ranked[0]) > 0.5 > score(ranked[1])
    assert sent(emulator) == [{"text": "green tea"}, seen]
    assert warnings_in(caplog) == []


def test_text_image_and_video_of_one_document(options, emulator):
    """All that a document has is scored, and the best counts; a video is passed on by its URL."""
    reranker = QwenRerank(image_key="picture", video_key="film", fps=0.5, **options)
    document = Document(
        "cold caves", id="car", metadata={"picture": "https://x.example/tea.png", "film": FILM}
    )

    ranked = compress(reranker, [TEA, document])

    assert ids(ranked) == ["car", "tea"]
    assert score(ranked[0]) > 0.5
    assert kinds_sent(emulator) == ["image", "text", "text", "video"]
    assert {"video": FILM} in sent(emulator)
    assert emulator.log[0].body["parameters"]["fps"] == 0.5


@pytest.mark.parametrize("metadata", [{}, {"picture": None, "film": ""}], ids=["no key", "empty"])
def test_no_image_under_the_key(options, emulator, caplog, metadata):
    """Without an image a document is ranked by its text; one without that too is warned of."""
    reranker = QwenRerank(image_key="picture", video_key="film", **options)
    documents = [TEA, Document("a red sports car", id="car", metadata=metadata)]

    ranked = compress(reranker, [*documents, Document("", id="empty", metadata=metadata)])

    assert ids(ranked) == ["car", "tea", "empty"]
    assert sent(emulator) == [{"text": "green tea"}, {"text": "a red sports car"}]
    [warning] = warnings_in(caplog)
    assert "ocument 2" in warning


# What metadata cannot make us do

UNTRUSTED = {
    "image": CAR_URI,
    "image_url": URL,
    "image_path": "/etc/passwd",
    "path": "/etc/passwd",
    "file_path": "car.png",
    "source": "/etc/passwd",
    "file_type": "image/png",
    "video": FILM,
    "data": CAR,
}


@pytest.mark.parametrize("image_key", [None, "picture"])
def test_only_the_named_key_is_looked_at(options, emulator, opened, pictures, caplog, image_key):
    """Without a key nothing in metadata is looked at, and with one nothing else."""
    reranker = QwenRerank(image_key=image_key, local_files=pictures, **options)

    compress(reranker, [Document("green tea", metadata=UNTRUSTED | {"picture": "car.png"})])

    assert sent(emulator) == [{"text": "green tea"}, *([logged(CAR)] if image_key else [])]
    pictures_read = {Path(path).name for path in opened} & {"passwd", "car.png"}
    assert pictures_read == ({"car.png"} if image_key else set())
    assert warnings_in(caplog) == []


# Scoring alone


def test_item_of_rerank(options, emulator):
    """Scoring alone applies item= and the keys to documents, and to nothing else."""
    reranker = QwenRerank(item=lambda _: Image(url=URL), **options)

    documents = ["cold caves", TEA, Video("https://x.example/tea.mp4")]

    scores = reranker.rerank(documents, QUERY)

    assert scores[0]["index"] == 1
    assert kinds_sent(emulator) == ["image", "text", "video"]
    assert reranker.estimate(documents, QUERY).requests == len(emulator.log)


def test_image_as_query(options, emulator):
    """A picture finds texts, pictures and videos."""
    reranker = QwenRerank(image_key="picture", **options)
    documents = [
        "green tea",
        Image(url="https://x.example/cold-caves.png"),
        Document("", metadata={"picture": drawn("a red sports car of ours")}),
        Video("https://x.example/blue-sea.mp4"),
        "a red sports car",
    ]

    scores = reranker.rerank(documents, Image(data=CAR), top_n=2)

    assert {each["index"] for each in scores} == {2, 4}
    assert all(each["relevance_score"] > 0.5 for each in scores)
    assert emulator.log[0].body["input"]["query"] == logged(CAR)


def test_explicit_image_that_cannot_be_sent(options, emulator):
    """An image of the caller's own code is the caller's mistake, whatever else is in the list."""
    with pytest.raises(RequestError, match="document 1 cannot be sent") as caught:
        QwenRerank(**options).rerank([TEA, Image(path="/nowhere/a.png")], QUERY)

    assert caught.value.documents == (1,)
    assert emulator.log == ()


# Models of texts

TEXTS_ONLY = {"model": "qwen3-rerank"}


def test_text_only_model_ranks_texts(options, emulator, opened, pictures, caplog):
    """It ranks documents by their text and neither reads nor sends an image, which is said once."""
    reranker = QwenRerank(
        image_key="picture",
        video_key="film",
        local_files=pictures,
        mixed="media",
        **options | TEXTS_ONLY,
    )
    metadata = {"picture": "car.png", "film": FILM}
    documents = [
        Document("green tea", id="tea", metadata=metadata),
        Document("a red sports car", id="car", metadata=metadata),
        Document("cold caves", id="caves", metadata={"picture": 7}),
    ]

    ranked = compress(reranker, documents)

    assert ids(ranked) == ["car", "tea", "caves"]
    assert {each["text"] for each in sent(emulator)} == {d.page_content for d in documents}
    assert not [path for path in opened if path.endswith("car.png")]
    assert compress(reranker, documents) == ranked
    [warning] = warnings_in(caplog)
    assert warning.startswith("Documents 0 to 2: ranked by the text alone, because qwen3-rerank ")
    scores = reranker.rerank([Document("", metadata=metadata), TEA], QUERY)
    assert [(each["index"], each["relevance_score"] is None) for each in scores] == [
        (1, False),
        (0, True),
    ]


# Traces


class Tracer(BaseTracer):
    """Keeps the roots of runs, and custom events."""

    def __init__(self):
        super().__init__()
        self.roots, self.events = [], []

    def _persist_run(self, run):
        self.roots.append(run)

    def on_custom_event(self, name, data, **_):
        """Keep *data*."""
        self.events.append((name, data))


def opened_up(value):
    """What a tracer that writes JSON makes of *value*."""
    if isinstance(value, Document):
        return value.model_dump()
    return asdict(value) if is_dataclass(value) else repr(value)


def told(tracer, caplog):
    """All that a trace and the log have been told, as one text."""
    runs = [
        [run.name, run.inputs, run.outputs, run.serialized, run.extra, run.events, run.error]
        for run in tracer.roots
    ]
    lines = [(each.getMessage(), repr(each.args)) for each in caplog.records]
    return json.dumps([runs, tracer.events, lines], default=opened_up)


@pytest.fixture(name="trace")
def _trace(caplog):
    """What is told of one rerank, by the async way too."""

    def trace(reranker, documents):
        caplog.set_level(logging.DEBUG)
        tracer = Tracer()
        compress(reranker, documents, [tracer])
        asyncio.run(reranker.acompress_documents(documents, QUERY, [tracer]))
        text = told(tracer, caplog)
        assert "QwenRerank" in text
        return text

    return trace


@pytest.mark.parametrize("value", [CAR_URI, CAR, CAR_BASE64], ids=["uri", "bytes", "base64"])
def test_trace_without_base64(trace, options, value):
    """A trace shows documents with a digest for their image, and the rest as it is."""
    reranker = QwenRerank(image_key="picture", **options)
    metadata = {"picture": value, "page": "seventeen"}

    text = trace(reranker, [TEA, Document("a red car", metadata=metadata)])

    assert base64_in(text) == []
    assert len(text) < 10_000
    assert "a red car" in text
    assert "seventeen" in text
    assert "relevance_score" in text
    content = value if isinstance(value, bytes) else value.encode()
    assert hashlib.blake2b(content, digest_size=8).hexdigest() in text


@pytest.mark.parametrize(
    "metadata",
    [
        {"picture": base64.b64encode(drawn(size=(16, 16))).decode()},
        {"picture": [CAR_BASE64]},
        {"picture": {"data": CAR_BASE64}},
        {"picture": bytearray(CAR)},
        {"picture": Image(data=CAR)},
        {"film": f"data:video/mp4;base64,{CAR_BASE64}"},
        {"film": CAR},
        {"b64": CAR_BASE64},
    ],
    ids=["small", "list", "dict", "bytearray", "Image", "video-uri", "video-bytes", "item"],
)
def test_trace_of_other_containers(trace, options, metadata):
    """No image or video enters a trace, however small, in any container, or taken by item=."""
    if "b64" in metadata:
        options["item"] = lambda document: Image(data=document.metadata["b64"])
    reranker = QwenRerank(image_key="picture", video_key="film", **options)

    assert base64_in(trace(reranker, [Document("a red car", metadata=metadata)])) == []


def test_trace_shows_urls_and_paths(trace, options, pictures):
    """What is short and no base64 stays readable."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)

    text = trace(
        reranker,
        [Document("", metadata={"picture": "car.png"}), Document("", metadata={"picture": URL})],
    )

    assert "car.png" in text
    assert URL in text


@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_trace_of_a_failure(options, emulator, caplog, on_error):
    """Nor does the account of a failure."""
    caplog.set_level(logging.DEBUG)
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    reranker = QwenRerank(image_key="picture", on_error=on_error, **options)
    tracer, said = Tracer(), ""

    try:
        compress(reranker, [Document("", metadata={"picture": CAR_URI})], [tracer])
    except ServiceError as error:
        said = f"{error}{error!r}"

    text = told(tracer, caplog) + said
    assert "ModelUnavailable" in text
    assert base64_in(text) == []
