"""Images and videos of LangChain documents: where they are found, and what never happens."""

import asyncio
import base64
import builtins
import hashlib
import io
import json
import logging
import os
import re
from dataclasses import asdict, is_dataclass
from pathlib import Path

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer
from pictures import base64_in, drawn, logged

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import Image, RequestError, ServiceError, Unsendable, Video
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
    """A folder of pictures with things around it that are none of its business."""
    folder = tmp_path / "pictures"
    (folder / "cars").mkdir(parents=True)
    (folder / "car.png").write_bytes(CAR)
    (folder / "cars" / "car.png").write_bytes(CAR)
    (folder / "notes.txt").write_text("root:x:0:0")
    (folder / "empty.png").touch()
    (folder / "inside.png").symlink_to(folder / "cars" / "car.png")
    (tmp_path / "secret.png").write_bytes(CAR)
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "pictures-private").mkdir()
    (tmp_path / "pictures-private" / "car.png").write_bytes(CAR)
    (folder / "elsewhere").symlink_to(tmp_path / "pictures-private")
    (folder / "loop.png").symlink_to(folder / "loop.png")
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


@pytest.fixture(name="compress", params=["sync", "async"])
def _compress(request):
    """Both ways of reranking."""

    def compress(reranker, documents, query=QUERY, callbacks=None):
        if request.param == "sync":
            return reranker.compress_documents(documents, query, callbacks)
        return asyncio.run(reranker.acompress_documents(documents, query, callbacks))

    return compress


@pytest.fixture(name="rerank", params=["sync", "async"])
def _rerank(request):
    """Both ways of asking for scores alone."""

    def rerank(reranker, documents, query, **options):
        if request.param == "sync":
            return reranker.rerank(documents, query, **options)
        return asyncio.run(reranker.arerank(documents, query, **options))

    return rerank


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
    [
        (URL, {"image": URL}),
        (f" {URL}\n", {"image": URL}),
        (CAR_URI, logged(CAR)),
        (CAR, logged(CAR)),
        (CAR_BASE64, logged(CAR)),
        (base64.encodebytes(CAR).decode(), logged(CAR)),
        (Image(data=CAR), logged(CAR)),
        ("car.png", logged(CAR)),
        ("cars/car.png", logged(CAR)),
        ("cars/../car.png", logged(CAR)),
        ("inside.png", logged(CAR)),
        (Path("car.png"), logged(CAR)),
    ],
    ids=[
        *("url", "url-with-blanks", "data-uri", "bytes", "base64", "base64-lines", "Image"),
        *("path", "path-below", "path-with-dots", "link-inside", "Path"),
    ],
)
def test_image_of_a_document(compress, options, emulator, caplog, pictures, value, seen):
    """An image is taken in every form in which metadata can hold one, and sent as it is."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)
    documents = [TEA, Document("", id="car", metadata={"picture": value})]

    ranked = compress(reranker, documents)

    assert ids(ranked) == ["car", "tea"]
    assert score(ranked[0]) > 0.5 > score(ranked[1])
    assert sent(emulator) == [{"text": "green tea"}, seen]
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("folder", ["absolute", "by-link", "with-dots"])
def test_absolute_path_below_the_folder(options, emulator, pictures, folder):
    """An absolute path that lies in the folder is read, however the folder is named."""
    (pictures.parent / "link").symlink_to(pictures)
    named = {
        "absolute": pictures,
        "by-link": pictures.parent / "link",
        "with-dots": pictures / "cars" / "..",
    }
    reranker = QwenRerank(image_key="picture", local_files=named[folder], **options)

    [ranked] = reranker.compress_documents(
        [Document("", metadata={"picture": str(pictures / "car.png")})], QUERY
    )

    assert score(ranked) > 0.5
    assert sent(emulator) == [logged(CAR)]


def test_folder_below_home(options, pictures):
    """The folder may be named from the home directory."""
    assert pictures.is_relative_to(Path.home())
    reranker = QwenRerank(image_key="picture", local_files="~/pictures", **options)

    [ranked] = reranker.compress_documents([Document("", metadata={"picture": "car.png"})], QUERY)

    assert score(ranked) is not None


@pytest.mark.parametrize("value", [FILM, f" {FILM} ", Video(FILM)], ids=["url", "blanks", "Video"])
def test_video_of_a_document(compress, options, emulator, value):
    """A video is taken by its URL, and passed on."""
    reranker = QwenRerank(video_key="film", fps=0.5, **options)

    ranked = compress(reranker, [TEA, Document("", id="car", metadata={"film": value})])

    assert ids(ranked) == ["car", "tea"]
    assert sent(emulator) == [{"text": "green tea"}, {"video": FILM}]
    assert emulator.log[0].body["parameters"]["fps"] == 0.5


def test_text_image_and_video_of_one_document(compress, options, emulator):
    """All that a document has is scored, and the best counts."""
    reranker = QwenRerank(image_key="picture", video_key="film", **options)
    document = Document(
        "cold caves", id="car", metadata={"picture": "https://x.example/tea.png", "film": FILM}
    )

    ranked = compress(reranker, [TEA, document])

    assert ids(ranked) == ["car", "tea"]
    assert score(ranked[0]) > 0.5
    assert kinds_sent(emulator) == ["image", "text", "text", "video"]


@pytest.mark.parametrize("value", [None, "", ...], ids=["None", "empty", "missing"])
def test_no_image_under_the_key(compress, options, emulator, caplog, value):
    """A document without an image is ranked by its text, and nobody is warned."""
    reranker = QwenRerank(image_key="picture", video_key="film", **options)
    metadata = {} if value is ... else {"picture": value, "film": value}

    ranked = compress(reranker, [TEA, Document("a red sports car", id="car", metadata=metadata)])

    assert ids(ranked) == ["car", "tea"]
    assert sent(emulator) == [{"text": "green tea"}, {"text": "a red sports car"}]
    assert warnings_in(caplog) == []


# What cannot be sent

UNSENDABLE_IMAGES = {
    "list": [URL],
    "dict": {"url": URL},
    "int": 7,
    "float": 0.5,
    "object": object(),
    "path": "car.png",
    "path-of-the-system": "/etc/passwd",
    "file-url": "file:///etc/passwd",
    "ftp": "ftp://x.example/a.png",
    "bare-scheme": "https://",
    "data-uri-of-a-text": "data:text/plain;base64,AAAA",
    "data-uri-broken": "data:image/png;base64,!!!",
    "bytes-of-a-text": b"a red sports car",
    "base64-of-a-text": base64.b64encode(b"a red sports car " * 30).decode(),
    "gif": drawn(kind="GIF"),
    "head-alone": CAR[:60],
    "half": CAR[: len(CAR) // 2],
    "small": drawn(size=(9, 64)),
    "stretched": drawn(size=(10, 2_001)),
    "huge": CAR + bytes(15 * 2**20),
}


@pytest.mark.parametrize("text", ["a red sports car", ""], ids=["text", "blank"])
@pytest.mark.parametrize("value", UNSENDABLE_IMAGES.values(), ids=UNSENDABLE_IMAGES)
def test_unsendable_image(compress, options, emulator, caplog, value, text):
    """A document is then ranked by its text, or is last without a score; a warning says it."""
    reranker = QwenRerank(image_key="picture", **options)
    documents = [TEA, Document(text, id="bad", metadata={"picture": value}), Document("x", id="x")]

    ranked = compress(reranker, documents)

    if text:
        assert ids(ranked)[0] == "bad"
        assert score(ranked[0]) > 0.5
    else:
        assert ids(ranked) == ["tea", "x", "bad"]
        assert "relevance_score" not in ranked[2].metadata
    assert all("text" in each for each in sent(emulator))
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 1 cannot be sent: ")
    assert base64_in(warning) == []


@pytest.mark.parametrize("text", ["a red sports car", ""], ids=["text", "blank"])
@pytest.mark.parametrize(
    "value",
    [b"\0\0\0 ftypisom", "data:video/mp4;base64,AAAA", "film.mp4", {"url": FILM}, [FILM], 7],
    ids=["bytes", "data-uri", "path", "dict", "list", "int"],
)
def test_unsendable_video(compress, options, pictures, caplog, value, text):
    """The service takes a video by URL only; the document is ranked by its text, or is last."""
    reranker = QwenRerank(video_key="film", local_files=pictures, **options)

    ranked = compress(reranker, [TEA, Document(text, id="bad", metadata={"film": value})])

    assert ids(ranked) == (["bad", "tea"] if text else ["tea", "bad"])
    assert score(ranked[1 - bool(text)]) is (score(ranked[0]) if text else None)
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 1 cannot be sent: ")


def test_nothing_else_is_lost(compress, options, caplog):
    """Of many bad images the log tells the first few and how many more there are."""
    reranker = QwenRerank(image_key="picture", **options)
    bad = [Document("", id=f"bad{at}", metadata={"picture": at + 1}) for at in range(8)]

    ranked = compress(reranker, [*bad, TEA])

    assert ids(ranked) == ["tea", *ids(bad)]
    assert len(warnings_in(caplog)) == 6
    assert warnings_in(caplog)[-1].startswith("3 more")


def test_nothing_to_send_is_said(compress, options, caplog):
    """A document with nothing to send is named in a warning."""
    reranker = QwenRerank(image_key="picture", **options)

    ranked = compress(reranker, [Document("", id="empty"), TEA])

    assert ids(ranked) == ["tea", "empty"]
    [warning] = warnings_in(caplog)
    assert "ocument 0" in warning


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


@pytest.mark.parametrize("model", ["qwen3-rerank", "qwen3-vl-rerank"])
def test_metadata_are_not_looked_at(compress, options, emulator, opened, pictures, caplog, model):
    """Without a key nothing in metadata changes anything, whatever they look like."""
    options |= {"model": model, "local_files": pictures}
    documents = [Document("green tea", metadata=UNTRUSTED), Document("red car", metadata=UNTRUSTED)]
    plain = [Document(each.page_content) for each in documents]

    ranked = compress(QwenRerank(**options), documents)

    first = sent(emulator)
    emulator.clear()
    unlike = compress(QwenRerank(**options), plain)
    assert first == sent(emulator)
    assert [(d.page_content, score(d)) for d in ranked] == [
        (d.page_content, score(d)) for d in unlike
    ]
    assert not {path for path in opened if "passwd" in path or path.endswith(".png")}
    assert warnings_in(caplog) == []


def test_only_the_named_key_is_looked_at(compress, options, emulator, opened, pictures):
    """With a key the others stay what they are."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)

    compress(reranker, [Document("green tea", metadata=UNTRUSTED | {"picture": "car.png"})])

    assert sent(emulator) == [{"text": "green tea"}, logged(CAR)]
    assert not [path for path in opened if "passwd" in path]


REFUSED = {
    "dots": ("../secret.png", "leads out of the folder"),
    "dots-below": ("cars/../../secret.png", "leads out of the folder"),
    "link": ("outside.png", "leads out of the folder"),
    "folder-link": ("elsewhere/car.png", "leads out of the folder"),
    "same-prefix": ("../pictures-private/car.png", "leads out of the folder"),
    "system": ("/etc/passwd", "leads out of the folder"),
    "home": ("~/secret.png", "cannot be read"),
    "missing": ("missing.png", "cannot be read"),
    "loop": ("loop.png", "cannot be read"),
    "nul": ("car.png\0.txt", "cannot be read"),
    "long": ("a" * 150 + "." + "b" * 5_000, "cannot be read"),
    "folder": ("cars", "is not a file"),
    "itself": (".", "is not a file"),
    "empty": ("empty.png", "is empty"),
    "no-image": ("notes.txt", "can be recognised"),
}


@pytest.mark.parametrize(("path", "reason"), REFUSED.values(), ids=REFUSED)
def test_files_are_read_below_the_folder_only(
    compress, options, emulator, caplog, opened, pictures, path, reason
):
    """What lies elsewhere is not opened, by whatever way the path gets there."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)

    ranked = compress(reranker, [Document("", id="bad", metadata={"picture": path}), TEA])

    assert ids(ranked) == ["tea", "bad"]
    assert sent(emulator) == [{"text": "green tea"}]
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 0 cannot be sent: ")
    assert reason in warning
    assert not [each for each in opened if re.search("passwd|secret|private|outside", each)]


def test_absolute_path_outside_the_folder(compress, options, opened, caplog, pictures):
    """An absolute path does not replace the folder."""
    reranker = QwenRerank(image_key="picture", local_files=pictures / "cars", **options)
    outside = str(pictures / "car.png")

    ranked = compress(reranker, [Document("", id="bad", metadata={"picture": outside}), TEA])

    assert ids(ranked) == ["tea", "bad"]
    assert outside not in opened
    assert "leads out of the folder" in warnings_in(caplog)[0]


def test_picture_of_thirty_mebibytes(compress, options, caplog, pictures):
    """What is too large for a request is said so, and is not read to its end."""
    with (pictures / "huge.png").open("wb") as file:
        file.truncate(30 * 2**20)
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)

    ranked = compress(reranker, [Document("", id="bad", metadata={"picture": "huge.png"}), TEA])

    assert ids(ranked) == ["tea", "bad"]
    assert "30 MiB" in warnings_in(caplog)[0]


# Text and image


@pytest.mark.parametrize(
    ("mixed", "text", "image", "kinds", "is_relevant"),
    [
        ("max", "a red sports car", "tea", ["text", "image"], True),
        ("max", "tea", "a red sports car", ["text", "image"], True),
        ("text", "a red sports car", "tea", ["text"], True),
        ("text", "tea", "a red sports car", ["text"], False),
        ("media", "a red sports car", "tea", ["image"], False),
        ("media", "tea", "a red sports car", ["image"], True),
        ("text", "", "a red sports car", ["image"], True),
        ("media", "a red sports car", None, ["text"], True),
    ],
)
def test_text_and_image(compress, options, emulator, mixed, text, image, kinds, is_relevant):
    """What is scored of a document that has both is the caller's choice."""
    reranker = QwenRerank(image_key="picture", mixed=mixed, **options)
    metadata = {"picture": drawn(image)} if image else {}

    [ranked] = compress(reranker, [Document(text, metadata=metadata)])

    assert kinds_sent(emulator) == sorted(kinds)
    assert (score(ranked) > 0.5) is is_relevant


@pytest.mark.parametrize("mixed", ["max", "text", "media"])
def test_text_with_a_bad_image(compress, options, mixed):
    """Every policy falls back to the text."""
    reranker = QwenRerank(image_key="picture", mixed=mixed, **options)

    [ranked] = compress(reranker, [Document("a red sports car", metadata={"picture": b"no"})])

    assert score(ranked) > 0.5


# item=


@pytest.mark.parametrize(
    ("item", "seen"),
    [
        ("a red sports car", [{"text": "a red sports car"}]),
        (Image(url=URL), [{"image": URL}]),
        (Image(data=CAR), [logged(CAR)]),
        (Video(FILM), [{"video": FILM}]),
        (("tea", Image(url=URL)), [{"text": "tea"}, {"image": URL}]),
        ((Image(url=URL),), [{"image": URL}]),
        (("tea", Image(url=URL), Video(FILM)), [{"text": "tea"}, {"image": URL}, {"video": FILM}]),
    ],
    ids=["text", "url", "bytes", "video", "text-and-image", "image-alone", "all-three"],
)
def test_item(compress, options, emulator, item, seen):
    """item= decides alone what is ranked of a document."""
    reranker = QwenRerank(
        item=lambda document: item if document.id == "car" else "cold caves",
        image_key="picture",
        **options,
    )
    documents = [TEA, Document("green tea", id="car", metadata={"picture": CAR})]

    ranked = compress(reranker, documents)

    assert ids(ranked) == ["car", "tea"]
    assert score(ranked[0]) > 0.5
    others = [each for each in sent(emulator) if each != {"text": "cold caves"}]
    assert sorted(others, key=str) == sorted(seen, key=str)
    assert ranked[0].page_content == "green tea"


def test_item_is_given_every_document_once(compress, options, emulator):
    """item= sees the caller's own documents, in their order."""
    seen = []
    documents = [Document("a", metadata={"title": "red"}), Document("b", metadata={"title": "tea"})]

    def titled(document):
        seen.append(document)
        return f"{document.metadata['title']}: {document.page_content}"

    compress(QwenRerank(item=titled, **options), documents)

    assert [id(each) for each in seen] == [id(each) for each in documents]
    assert sent(emulator) == [{"text": "red: a"}, {"text": "tea: b"}]


def test_item_may_read_any_file(compress, options, pictures):
    """An Image(path=...) of the caller's own code is not bound to local_files."""
    outside = pictures.parent / "secret.png"

    for folder in (None, pictures):
        reranker = QwenRerank(
            item=lambda _: Image(path=outside), local_files=folder, image_key="picture", **options
        )
        [ranked] = compress(reranker, [TEA])
        assert score(ranked) > 0.5


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Unsendable("it is a sculpture"), "it is a sculpture"),
        (Image(path="/nowhere/a.png"), "'/nowhere/a.png' cannot be read"),
        (Image(data=b"no"), "can be recognised"),
        ((" ", Unsendable("it is a sculpture")), "it is a sculpture"),
    ],
    ids=["Unsendable", "path", "bytes", "tuple"],
)
def test_unsendable_item(compress, options, caplog, item, reason):
    """What cannot be sent is last without a score, with a warning that says why."""
    reranker = QwenRerank(
        item=lambda document: item if document.id == "bad" else document.page_content, **options
    )

    ranked = compress(reranker, [Document("red sports car", id="bad"), TEA])

    assert ids(ranked) == ["tea", "bad"]
    assert score(ranked[1]) is None
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 0 cannot be sent: ")
    assert reason in warning


@pytest.mark.parametrize(
    "item",
    [None, 7, b"bytes", [Image(url=URL)], Document("x"), {URL}, ("a", 7), ("a", ())],
)
@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_item_of_a_wrong_type(compress, options, emulator, item, on_error):
    """That is the caller's mistake, named by its position; nothing is sent."""
    reranker = QwenRerank(
        item=lambda document: item if document.id == "bad" else document.page_content,
        on_error=on_error,
        **options,
    )

    with pytest.raises(RequestError, match="document 1 must be a str") as caught:
        compress(reranker, [TEA, Document("x", id="bad")])

    assert caught.value.documents == (1,)
    assert emulator.log == ()


@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_item_that_raises(compress, options, emulator, on_error):
    """The caller's own exception comes out as it is."""
    problem = LookupError("no title")

    def broken(_):
        raise problem

    with pytest.raises(LookupError) as caught:
        compress(QwenRerank(item=broken, on_error=on_error, **options), [TEA])

    assert caught.value is problem
    assert emulator.log == ()


def test_item_of_rerank(rerank, options, emulator):
    """Scoring alone applies item= and the keys to documents, and to nothing else."""
    reranker = QwenRerank(item=lambda _: Image(url=URL), **options)

    scores = rerank(reranker, ["cold caves", TEA, Video("https://x.example/tea.mp4")], QUERY)

    assert scores[0]["index"] == 1
    assert kinds_sent(emulator) == ["image", "text", "video"]


# An image as query


@pytest.mark.parametrize("form", ["url", "uri", "bytes", "base64", "path"])
def test_image_as_query(rerank, options, emulator, pictures, form):
    """A picture finds texts, pictures and videos."""
    query = {
        "url": Image(url=URL),
        "uri": Image(url=CAR_URI),
        "bytes": Image(data=CAR),
        "base64": Image(data=CAR_BASE64),
        "path": Image(path=pictures / "car.png"),
    }[form]
    documents = [
        "green tea",
        Image(url="https://x.example/cold-caves.png"),
        Document("", metadata={"picture": drawn("a red sports car of ours")}),
        Video("https://x.example/blue-sea.mp4"),
        "a red sports car",
    ]

    scores = rerank(QwenRerank(image_key="picture", **options), documents, query, top_n=2)

    assert {each["index"] for each in scores} == {2, 4}
    assert all(each["relevance_score"] > 0.5 for each in scores)
    seen = {"image": URL} if form == "url" else logged(CAR)
    assert emulator.log[0].body["input"]["query"] == seen


@pytest.mark.parametrize(
    "query", [Image(path="/nowhere/a.png"), Image(data=b"can be recognised")], ids=["path", "bytes"]
)
def test_query_that_cannot_be_sent(rerank, options, emulator, query):
    """An unusable query is an error; nothing is sent."""
    with pytest.raises(RequestError, match="query cannot be sent"):
        rerank(QwenRerank(**options), ["green tea"], query)

    assert emulator.log == ()


@pytest.mark.parametrize("bad", [Image(path="/nowhere/a.png"), Image(data=b"can be recognised")])
def test_explicit_image_that_cannot_be_sent(rerank, options, emulator, bad):
    """An image of the caller's own code is the caller's mistake, named by its position."""
    with pytest.raises(RequestError, match="document 1 cannot be sent") as caught:
        rerank(QwenRerank(**options), ["green tea", bad], QUERY)

    assert caught.value.documents == (1,)
    assert emulator.log == ()


def test_explicit_image_among_documents(rerank, options):
    """It is a mistake whatever else is in the list."""
    with pytest.raises(RequestError, match="document 1 cannot be sent"):
        rerank(QwenRerank(**options), [TEA, Image(path="/nowhere/a.png")], QUERY)


# What comes back


def test_documents_are_copies(compress, options):
    """Documents come back with their images, and those given are left as they are."""

    class Page(Document):
        number: int = 7

    metadata = {"picture": CAR, "other": CAR_BASE64, "deep": {"list": [1]}, "relevance_score": 0.3}
    given = [TEA, Page(page_content="", id="car", metadata=metadata)]
    before = [each.model_copy(deep=True) for each in given]

    ranked = compress(QwenRerank(image_key="picture", **options), given)

    assert given == before
    car = ranked[0]
    assert (type(car), car.id, car.number, car.page_content) == (Page, "car", 7, "")
    assert car.metadata == metadata | {"relevance_score": score(car)}
    assert score(car) != 0.3
    car.metadata["deep"]["list"].append(2)
    assert given == before


def test_passthrough(compress, options, emulator):
    """Passed-through documents keep their images too."""
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    document = Document("", metadata={"picture": CAR})

    [kept] = compress(
        QwenRerank(image_key="picture", on_error="passthrough", **options), [document]
    )

    assert kept == document
    assert kept is not document


# Models of texts


@pytest.fixture(name="texts_only")
def _texts_only(options):
    return options | {"model": "qwen3-rerank"}


def test_text_only_model_ranks_texts(compress, texts_only, emulator, opened, pictures, caplog):
    """It ranks documents by their text and neither reads nor sends an image, which is said once."""
    reranker = QwenRerank(
        image_key="picture", video_key="film", local_files=pictures, mixed="media", **texts_only
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


@pytest.mark.parametrize(
    "metadata", [{"picture": CAR}, {"picture": URL}, {"picture": "car.png"}, {"film": FILM}]
)
def test_text_only_model_and_nothing_but_media(compress, texts_only, emulator, caplog, metadata):
    """A document with nothing but an image or video is last; a warning names the model to use."""
    reranker = QwenRerank(image_key="picture", video_key="film", **texts_only)
    odd = Document(" ", id="odd", metadata=metadata)

    ranked = compress(reranker, [odd, TEA])

    assert ids(ranked) == ["tea", "odd"]
    assert "relevance_score" not in ranked[1].metadata
    assert emulator.log[0].body["input"]["documents"] == [TEA.page_content]
    [warning] = warnings_in(caplog)
    assert warning.startswith("Document 0 cannot be sent: it has no text, and qwen3-rerank ")
    assert warning.endswith("Use model='qwen3-vl-rerank'.")


def test_text_only_model_and_scores_alone(rerank, texts_only):
    """A document without text is last among the scores too, and estimate() counts the others."""
    reranker = QwenRerank(image_key="picture", **texts_only)
    documents = [Document("", metadata={"picture": CAR}), TEA]

    scores = rerank(reranker, documents, QUERY)

    assert [(each["index"], each["relevance_score"] is None) for each in scores] == [
        (1, False),
        (0, True),
    ]
    assert reranker.estimate(documents, QUERY).requests == 1


@pytest.mark.parametrize(
    ("query", "document"),
    [(Image(data=CAR), "tea"), (QUERY, Image(url=URL)), (QUERY, Video(FILM))],
    ids=["query", "image", "video"],
)
def test_text_only_model_and_explicit_media(rerank, texts_only, emulator, query, document):
    """So is an image or video of the caller's own code."""
    with pytest.raises(RequestError, match="qwen3-vl-rerank"):
        rerank(QwenRerank(**texts_only), [document], query)

    assert emulator.log == ()


def test_flat_protocol_takes_texts_only(compress, options, caplog):
    """By the flat protocol every model takes texts only, and the warning says what to change."""
    reranker = QwenRerank(image_key="picture", protocol="compatible", **options)

    [ranked] = compress(reranker, [Document("", metadata={"picture": CAR})])

    assert "relevance_score" not in ranked.metadata
    [warning] = warnings_in(caplog)
    assert warning.endswith("takes texts only here. Use protocol='dashscope'.")


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


class Listener(BaseCallbackHandler):
    """Keeps the arguments of all callbacks."""

    def __init__(self):
        self.seen = []

    def on_retriever_start(self, serialized, query, **options):
        """Keep everything."""
        self.seen.append(("start", serialized, query, options))

    def on_retriever_end(self, documents, **options):
        """Keep everything."""
        self.seen.append(("end", documents, options))

    def on_retriever_error(self, error, **options):
        """Keep everything."""
        self.seen.append(("error", str(error), options))

    def on_custom_event(self, name, data, **options):
        """Keep everything."""
        self.seen.append((name, data, options))


def opened_up(value):
    """What a tracer that writes JSON makes of *value*."""
    if isinstance(value, Document):
        return value.model_dump()
    return asdict(value) if is_dataclass(value) else repr(value)


def told(tracer, listener, caplog):
    """All that a trace and the log have been told, as one text."""
    runs = [
        [run.name, run.inputs, run.outputs, run.serialized, run.extra, run.events, run.error]
        for run in tracer.roots
    ]
    lines = [(each.getMessage(), repr(each.args)) for each in caplog.records]
    return json.dumps([runs, tracer.events, listener.seen, lines], default=opened_up)


@pytest.fixture(name="trace")
def _trace(compress, caplog):
    """What is told of one rerank."""

    def trace(reranker, documents):
        caplog.set_level(logging.DEBUG)
        tracer, listener = Tracer(), Listener()
        compress(reranker, documents, callbacks=[tracer, listener])
        text = told(tracer, listener, caplog)
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
    assert len(text) < 5_000
    assert "a red car" in text
    assert "seventeen" in text
    assert "relevance_score" in text
    assert (
        hashlib.blake2b(
            value if isinstance(value, bytes) else value.encode(), digest_size=8
        ).hexdigest()
        in text
    )


def test_trace_shows_urls_and_paths(trace, options, pictures):
    """What is short and no base64 stays readable."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)

    text = trace(
        reranker,
        [Document("", metadata={"picture": "car.png"}), Document("", metadata={"picture": URL})],
    )

    assert "car.png" in text
    assert URL in text


@pytest.mark.parametrize("text", ["a red car", ""], ids=["text", "blank"])
def test_trace_of_bad_images(trace, options, text):
    """Nor does a warning about a bad image hold it."""
    content = base64.b64encode(b"no picture " * 500).decode()
    reranker = QwenRerank(image_key="picture", **options)

    assert base64_in(trace(reranker, [TEA, Document(text, metadata={"picture": content})])) == []


@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_trace_of_a_failure(compress, options, emulator, caplog, on_error):
    """Nor does the account of a failure."""
    caplog.set_level(logging.DEBUG)
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    reranker = QwenRerank(image_key="picture", on_error=on_error, **options)
    tracer, listener, said = Tracer(), Listener(), ""

    try:
        compress(reranker, [Document("", metadata={"picture": CAR_URI})], QUERY, [tracer, listener])
    except ServiceError as error:
        said = f"{error}{error!r}"

    text = told(tracer, listener, caplog) + said
    assert "ModelUnavailable" in text
    assert base64_in(text) == []


@pytest.mark.parametrize("form", ["bytes", "base64"])
def test_trace_of_a_small_picture(trace, options, form):
    """However small it is, an image does not enter a trace."""
    content = drawn(size=(16, 16))
    value = content if form == "bytes" else base64.b64encode(content).decode()
    reranker = QwenRerank(image_key="picture", **options)

    assert base64_in(trace(reranker, [Document("", metadata={"picture": value})])) == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"picture": [CAR_BASE64]},
        {"picture": {"data": CAR_BASE64}},
        {"picture": bytearray(CAR)},
        {"picture": Image(data=CAR)},
        {"film": f"data:video/mp4;base64,{CAR_BASE64}"},
        {"film": CAR},
    ],
    ids=["list", "dict", "bytearray", "Image", "video-uri", "video-bytes"],
)
def test_trace_of_other_containers(trace, options, metadata):
    """An image or video under the caller's keys does not enter a trace in any container."""
    reranker = QwenRerank(image_key="picture", video_key="film", **options)

    assert base64_in(trace(reranker, [Document("a red car", metadata=metadata)])) == []


def test_trace_of_item(trace, options):
    """An image that item= takes out of metadata does not enter a trace."""
    reranker = QwenRerank(item=lambda document: Image(data=document.metadata["b64"]), **options)

    assert base64_in(trace(reranker, [Document("", metadata={"b64": CAR_BASE64})])) == []


@pytest.mark.parametrize(
    "value",
    [
        base64.urlsafe_b64encode(CAR).decode(),
        f"{CAR_BASE64}!",
        f"image/png;base64,{CAR_BASE64}",
        f"{CAR_BASE64},{CAR_BASE64}",
    ],
    ids=["urlsafe", "with-garbage", "half-a-uri", "two"],
)
def test_log_of_nearly_base64(compress, options, pictures, caplog, value):
    """A warning about what looks like a path to nowhere is short."""
    reranker = QwenRerank(image_key="picture", local_files=pictures, **options)

    compress(reranker, [TEA, Document("", metadata={"picture": value})])

    [warning] = warnings_in(caplog)
    assert base64_in(warning) == []
    assert len(warning) < 1_000


# Inside LangChain

LIBRARY = [
    Document("Green tea is grown in the hills.", id="tea"),
    Document("", id="car", metadata={"picture": CAR}),
    Document("", id="sea", metadata={"picture": drawn("the blue sea")}),
    Document("A chapter about speed", id="film", metadata={"film": FILM}),
    Document("", id="broken", metadata={"picture": b"no"}),
]


class Library(BaseRetriever):
    """Finds everything."""

    def _get_relevant_documents(self, query, *, run_manager):  # noqa: ARG002  their signature
        return LIBRARY


@pytest.fixture(name="reranker")
def _reranker(options):
    return QwenRerank(image_key="picture", video_key="film", **options | {"top_n": 2})


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_contextual_compression_retriever(reranker, native, caplog):
    """Pictures and videos are found by a compression retriever; our run shows no base64."""
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=Library())
    tracer = Tracer()
    config = {"callbacks": [tracer]}

    found = (
        asyncio.run(retriever.ainvoke(QUERY, config)) if native else retriever.invoke(QUERY, config)
    )

    assert set(ids(found)) == {"car", "film"}
    assert next(each for each in found if each.id == "car").metadata["picture"] == CAR
    ours = Tracer()
    ours.roots = [run for run in tracer.roots[0].child_runs if run.name == "QwenRerank"]
    assert len(ours.roots) == 1
    assert base64_in(told(ours, Listener(), caplog)) == []


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_chain(reranker, native):
    """So are they in a chain, whose next step is given the images."""
    rerank = RunnableLambda(
        lambda found: reranker.compress_documents(found["documents"], found["query"]),
        afunc=lambda found: reranker.acompress_documents(found["documents"], found["query"]),
    )

    def shown(documents):
        return [
            bool(each.metadata.get("picture") or each.metadata.get("film")) for each in documents
        ]

    chain = (
        RunnableParallel(documents=Library(), query=RunnablePassthrough())
        | rerank
        | RunnableLambda(shown)
    )

    assert (asyncio.run(chain.ainvoke(QUERY)) if native else chain.invoke(QUERY)) == [True, True]


def test_more_than_a_request_takes(compress, options, emulator):
    """41 images, 5 videos and 101 texts are ranked in one call."""
    documents = [
        *[Document("", metadata={"picture": f"https://x.example/{at}.png"}) for at in range(41)],
        *[Document("", metadata={"film": f"https://x.example/{at}.mp4"}) for at in range(5)],
        *[Document(f"text {at}") for at in range(101)],
    ]
    reranker = QwenRerank(image_key="picture", video_key="film", **options)

    ranked = compress(reranker, documents)

    assert len(ranked) == 147
    assert all(score(each) is not None for each in ranked)
    assert {seen.status for seen in emulator.log} == {200}
    assert len(emulator.log) > 1
