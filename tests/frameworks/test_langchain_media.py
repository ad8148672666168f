"""Images and videos of LangChain documents: where they are looked for, and what traces show."""

import base64
import hashlib
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from pictures import base64_in, drawn, logged

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import Image, RequestError, Video
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"
TEA = Document("green tea", id="tea")
URL = "https://x.example/red-sports-car.png"
FILM = "https://x.example/red-sports-car.mp4"

CAR = drawn()
CAR_BASE64 = base64.b64encode(CAR).decode()
CAR_URI = f"data:image/png;base64,{CAR_BASE64}"


@pytest.fixture(name="options")
def _options(connection):
    return {"model": "qwen3-vl-rerank", "top_n": None, **connection}


def ids(documents):
    """The ids of *documents*."""
    return [document.id for document in documents]


def sent(emulator: Emulator):
    """What has been sent as documents, over all requests."""
    documents = [each for seen in emulator.log for each in seen.body["input"]["documents"]]
    return [{"text": each} if isinstance(each, str) else each for each in documents]


# Where an image or a video is found


def test_text_image_and_video_of_one_document(options, emulator):
    """All that a document has is scored, and the best counts."""
    reranker = QwenRerank(image_key="picture", video_key="film", **options)
    tea = "https://x.example/tea.png"
    document = Document("cold caves", id="car", metadata={"picture": tea, "film": FILM})

    ranked = reranker.compress_documents([TEA, document], QUERY)

    assert ids(ranked) == ["car", "tea"]
    assert ranked[0].metadata["relevance_score"] > 0.5
    parts = [{"text": "green tea"}, {"text": "cold caves"}, {"image": tea}, {"video": FILM}]
    assert sorted(sent(emulator), key=str) == sorted(parts, key=str)


@pytest.mark.parametrize("metadata", [{}, {"picture": None, "film": ""}], ids=["no key", "empty"])
def test_no_image_under_the_key(options, emulator, caplog, metadata):
    """Without an image a document is ranked by its text; one without that too is warned of."""
    reranker = QwenRerank(image_key="picture", video_key="film", **options)
    documents = [Document(text, id=text, metadata=metadata) for text in ("tea", "a red car", "")]

    ranked = reranker.compress_documents(documents, QUERY)

    assert ids(ranked) == ["a red car", "tea", ""]
    assert sent(emulator) == [{"text": "tea"}, {"text": "a red car"}]
    [warning] = caplog.messages
    assert warning.startswith("Document 2 ")


UNTRUSTED = {
    "image": CAR_URI,
    "image_url": URL,
    "image_path": "car.png",
    "path": "car.png",
    "file_path": "car.png",
    "source": "car.png",
    "file_type": "image/png",
    "video": FILM,
    "data": CAR,
}


@pytest.mark.parametrize(
    ("keys", "seen"),
    [
        ({}, []),
        ({"image_key": "picture"}, [logged(CAR)]),
        ({"video_key": "film"}, [{"video": FILM}]),
    ],
    ids=["none", "image", "video"],
)
def test_only_the_named_key_is_looked_at(options, emulator, caplog, tmp_path: Path, keys, seen):
    """Without a key nothing in metadata is looked at, and with one nothing else."""
    (tmp_path / "car.png").write_bytes(CAR)
    reranker = QwenRerank(local_files=tmp_path, **keys, **options)
    metadata = UNTRUSTED | {"picture": "car.png", "film": FILM}

    reranker.compress_documents([Document("green tea", metadata=metadata)], QUERY)

    assert sent(emulator) == [{"text": "green tea"}, *seen]
    assert caplog.messages == []


# Scoring alone


def test_rerank_takes_images(options, emulator):
    """As the query and among documents; item= and the keys are applied to documents alone."""
    reranker = QwenRerank(item=lambda _: Image(url=URL), **options)
    documents = ["cold caves", TEA, Video("https://x.example/tea.mp4"), Image(data=CAR)]

    scores = reranker.rerank(documents, Image(data=CAR))

    assert [each["index"] for each in scores][:2] == [3, 1]
    assert emulator.log[0].body["input"]["query"] == logged(CAR)
    kinds = sorted(next(iter(each)) for each in sent(emulator))
    assert kinds == ["image", "image", "text", "video"]
    assert reranker.estimate(documents, QUERY).requests == len(emulator.log)


def test_explicit_image_that_cannot_be_sent(options, emulator):
    """An image of the caller's own code is the caller's mistake, whatever else is in the list."""
    with pytest.raises(RequestError, match="document 1 cannot be sent") as caught:
        QwenRerank(**options).rerank([TEA, Image(path="/nowhere/a.png")], QUERY)

    assert caught.value.documents == (1,)
    assert emulator.log == ()


def test_a_document_that_cannot_be_sent(options):
    """It fails no scoring either, nor an estimate: it was found, and comes last without a score."""
    reranker = QwenRerank(image_key="picture", **options)
    documents = [Document("", metadata={"picture": "gone.png"}), TEA]

    best, last = reranker.rerank(documents, QUERY)

    assert (best["index"], last) == (1, {"index": 0, "relevance_score": None})
    assert reranker.estimate(documents, QUERY).requests == 1


# Traces


def test_trace_without_base64(options):
    """A trace shows documents with a digest for an image, wherever it is, and the rest as it is."""
    reranker = QwenRerank(image_key="picture", **options)
    collector = RunCollectorCallbackHandler()
    metadata = {"picture": CAR, "film": [CAR_URI], "page": "seventeen"}
    documents = [Document("a red car", metadata=metadata), Document(CAR_BASE64), TEA]

    ranked = reranker.compress_documents(documents, QUERY, [collector])

    [run] = collector.traced_runs
    text = f"{run.inputs}{run.outputs}{run.extra}"
    assert base64_in(text) == []
    assert "a red car" in text
    assert "seventeen" in text
    assert "relevance_score" in text
    assert hashlib.blake2b(CAR, digest_size=8).hexdigest() in text
    assert {each.page_content for each in ranked} == {"a red car", CAR_BASE64, "green tea"}
