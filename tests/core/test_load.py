"""Images as they are read and sent, what cannot be, and the files that data may name."""

import base64
import logging
import os
import sys
from io import BytesIO
from pathlib import Path

import PIL.Image
import pytest
from pictures import drawn

from qwen_rerank import Image, Reranker, Unsendable, Video, _load, errors
from qwen_rerank._load import load
from qwen_rerank._values import Item, Job
from qwen_rerank.media import found_image, found_video

_MODEL = "qwen3-vl-rerank"
_FORMATS = {
    "JPEG": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tiff",
    "ICO": "ico",
    "DIB": "bmp",
    "ICNS": "icns",
    "SGI": "sgi",
}


def half(content):
    """What arrives of a download that is broken off."""
    return content[: len(content) // 2]


def text_of(content):
    """Bytes as base64."""
    return base64.b64encode(content).decode()


def loaded(*documents, query="q", mixed="max", lenient=(), hint=None):
    """What `load` makes of a call."""
    return load(Job(_MODEL, query, documents, is_text=False), mixed, lenient, hint)


def sent(image):
    """An image as it will be sent."""
    ((item,),) = loaded(image).parts.values()
    return item


def refused(image):
    """Why an image cannot be sent."""
    with pytest.raises(errors.RequestError) as caught:
        loaded("a text", image)
    assert caught.value.documents == (1,)
    return str(caught.value)


@pytest.fixture(name="picture")
def _picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(drawn())
    return path


@pytest.fixture(name="reranker")
def _reranker(make):
    return make(model=_MODEL)


# What is sent


@pytest.mark.parametrize(("kind", "subtype"), _FORMATS.items())
def test_formats_are_recognised_by_content(tmp_path, kind, subtype):
    """However an image was given, it is sent as what it is, whatever file or data URI call it."""
    content = drawn(kind=kind)
    misnamed = tmp_path / "song.mp3"
    misnamed.write_bytes(content)

    item = sent(Image(data=content))

    assert item.text == f"data:image/{subtype};base64,{text_of(content)}"
    assert (item.kind, item.size) == ("image", len(content))
    assert sent(Image(data=text_of(content))) == item
    assert sent(Image(url=f"data:image/x-other;base64,{text_of(content)}")) == item
    assert sent(Image(path=misnamed)) == item


def test_other_formats_are_refused(tmp_path):
    """A format that the service does not take is refused, whatever the file is called."""
    path = tmp_path / "a.png"
    path.write_bytes(drawn(kind="GIF"))

    for image in (Image(data=drawn(kind="GIF")), Image(path=path)):
        assert "the service does not take GIF images" in refused(image)


def test_several_pictures_in_a_jpeg():
    """What phones make of two pictures is a JPEG to the service."""
    file = BytesIO()
    one, two = PIL.Image.new("RGB", (64, 64), "red"), PIL.Image.new("RGB", (64, 64), "blue")
    one.save(file, "MPO", save_all=True, append_images=[two])

    assert sent(Image(data=file.getvalue())).text.startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("text", [" {}\n", "\n DATA:application/octet-stream;BASE64,\r\n{}"])
def test_base64_as_it_is_found(text):
    """Base64 text may be a data URI in any letters, and have blanks around or within it."""
    content = drawn()
    folded = "\n".join(text_of(content)[at : at + 76] for at in range(0, 20_000, 76))

    assert sent(Image(data=text.format(folded))) == sent(Image(data=content))


def test_urls_are_passed_on():
    """Nothing is fetched of what a URL leads to; its tokens are guessed."""
    url = "HTTP://x.example/b"
    image, video = sent(Image(url=url)), sent(Video(url))

    assert image == Item(url, 2_560, kind="image", size=len(url))
    assert video == Item(url, 8_000, kind="video", size=len(url))


@pytest.mark.parametrize(
    ("size", "tokens"), [((10, 10), 4), ((64, 64), 6), ((65, 64), 8), ((2_000, 10), 65)]
)
def test_tokens_by_pixels(size, tokens):
    """A token for each started square of 32 pixels a side and two around, at least four."""
    assert sent(Image(data=drawn(size=size))).tokens == tokens


@pytest.mark.parametrize("most", [3_000, 1_000], ids=["a warning", "an error"])
def test_more_pixels_than_pillow_opens(monkeypatch, most):
    """Pillow's limit against bombs holds, also where its warnings are errors."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", most)

    assert "more pixels than Pillow opens" in refused(Image(data=drawn()))


def test_large_images_are_not_decoded(monkeypatch):
    """Of many pixels only the head is looked at, so that none takes memory or long."""
    monkeypatch.setattr(_load, "_MOST_DECODED", 1_000)

    assert sent(Image(data=drawn()[:-30])).tokens == 6


def test_a_home_of_ones_own(picture, monkeypatch):
    """A path of the caller's own may begin with a tilde, or where the program runs."""
    monkeypatch.chdir(picture.parent)

    assert sent(Image(path="~/picture.png")) == sent(Image(path=picture))
    assert sent(Image(path="picture.png")) == sent(Image(path=picture))


# What cannot be sent

_BAD = {
    "missing": (lambda at: Image(path=at / "none.png"), "cannot be read: No such file"),
    "folder": (lambda at: Image(path=at), "is not a file"),
    "no path": (lambda _: Image(path=""), "is not a file"),
    "NUL": (lambda _: Image(path="a\0b"), "cannot be read"),
    "empty file": (lambda at: Image(path=_file(at, b"")), "is empty"),
    "no bytes": (lambda _: Image(data=b""), "it is empty"),
    "odd base64": (lambda _: Image(data="QQ="), "it is not base64"),
    "accents": (lambda _: Image(data="\u00e9\u00e9\u00e9\u00e9"), "it is not base64"),
    "broken head": (lambda _: Image(data=drawn()[:20]), "no image that can be recognised"),
    "half a PNG": (lambda _: Image(data=half(drawn())), "cut short or broken"),
    "half a JPEG": (lambda _: Image(data=half(drawn(kind="JPEG"))), "cut short or broken"),
    "too low": (lambda _: Image(data=drawn(size=(64, 9))), "64 x 9 pixels are too few"),
    "too stretched": (lambda _: Image(data=drawn(size=(2_001, 10))), "2001 x 10 is stretched"),
    "30 MB": (lambda _: Image(data=bytes(30_000_000)), "29 MiB are more than the 14"),
    "30 MB as text": (lambda _: Image(data="A" * 40_000_000), "29 MiB are more than the 14"),
    "30 MB as a file": (
        lambda at: Image(path=_file(at, 30_000_000)),
        "29 MiB are more than the 14",
    ),
    "what a door found": (lambda _: Unsendable("it is a song"), "it is a song"),
}


def _file(folder: Path, content):
    path = folder / "a.png"
    with path.open("wb") as file:
        if isinstance(content, int):
            file.truncate(content)
        else:
            file.write(content)
    return path


@pytest.mark.parametrize(("make", "reason"), _BAD.values(), ids=_BAD)
def test_what_cannot_be_sent(caplog, tmp_path, make, reason):
    """An image of the caller's own is a mistake; one that was found is left out with a warning."""
    image = make(tmp_path)
    with pytest.raises(errors.RequestError, match=r"^document 1 cannot be sent: ") as caught:
        loaded("red", image, "blue")
    found = loaded("red", image, lenient=range(100))

    assert caught.value.documents == (1,)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 6_000
    assert found.parts[1] == ()
    ((position, said),) = found.unsendable
    assert (position, reason in said) == (1, True)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("qwen_rerank", logging.WARNING)
    assert record.getMessage() == f"Document 1 cannot be sent: {said}"


def test_what_cannot_be_sent_comes_last(reranker, emulator):
    """Nothing is sent of a list with a mistake; what was found costs no other its score."""
    bad = Image(data=b"a song")
    with pytest.raises(errors.RequestError):
        reranker.rerank("red", ["red", bad, "blue"])
    assert emulator.log == ()
    alone = reranker.rerank("red", ["red", "blue"])

    ranking = reranker._rank("red", ["red", bad, "blue"], {}, lenient=range(100))

    assert [hit.index for hit in ranking] == [0, 2, 1]
    assert [hit.score for hit in ranking] == [*(hit.score for hit in alone), None]
    assert ranking[2].kind is None
    assert [position for position, _ in ranking.unsendable] == [1]


def test_a_query_that_cannot_be_sent():
    """Without its query a call is nothing, whoever made the image."""
    with pytest.raises(errors.RequestError, match=r"^query cannot be sent: it is empty") as caught:
        loaded("a", query=Image(data=b""), lenient=range(100))

    assert caught.value.documents == ()


def test_an_image_beside_that_of_the_query(monkeypatch):
    """They share a request, so a document's image may have what the query's leaves."""
    content = drawn()
    monkeypatch.setattr(_load, "_MOST_BYTES", 2 * len(content) - 1)

    with pytest.raises(errors.RequestError, match=r"^document 0 .* too many beside the query"):
        loaded(Image(data=content), query=Image(data=content))


@pytest.mark.parametrize(("bad", "records"), [(5, 5), (6, 6)])
def test_at_most_five_warnings_and_a_count(caplog, bad, records):
    """A folder full of broken images does not fill a log; documents count, not their parts."""
    broken = [(Image(path=f"{at}.png"), Image(data="")) for at in range(bad)]
    loaded("a", *broken, lenient=range(100))

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == records
    assert [text.split()[1] for text in said[:5]] == [str(at + 1) for at in range(min(bad, 5))]
    if bad > 5:
        assert said[5].startswith(f"{bad - 5} more document")


@pytest.mark.parametrize("document", [None, (), ("a", ("b",))])
def test_what_is_no_document_at_all(reranker, emulator, document):
    """Another type, or nothing to send, is a mistake in any case, told with its place."""
    with pytest.raises(
        errors.RequestError, match=r"^document 1 (must be a str|is an empty tuple)"
    ) as caught:
        reranker._rank("red", ["a", document], {}, lenient=range(100))

    assert caught.value.documents == (1,)
    assert emulator.log == ()


def test_a_url_that_is_no_utf_8():
    """Half a character in a URL out of somebody's metadata does not take the list with it."""
    url = "https://x.example/\ud800"

    assert isinstance(found_image(url, None), Unsendable)
    assert isinstance(found_video(url), Unsendable)
    for kind in (Image, Video):
        with pytest.raises(ValueError, match="https://"):
            kind(url=url)


# Parts


@pytest.mark.parametrize(
    ("document", "mixed", "kinds"),
    [
        (("a", "image"), "max", ["text", "image"]),
        (("a", "image"), "text", ["text"]),
        (("a", "image"), "media", ["image"]),
        ((" ", "image"), "max", ["image"]),
        (("", "image"), "text", ["image"]),
        (("a",), "media", ["text"]),
        (("a", "bad"), "media", ["text"]),
    ],
)
def test_parts(picture, document, mixed, kinds):
    """Of a document with several parts those are taken that `mixed` says, or what there is."""
    stand_ins = {"image": Image(path=picture), "bad": Image(path="none.png")}
    parts = tuple(stand_ins.get(part, part) for part in document)

    taken = loaded(parts, mixed=mixed, lenient=range(100)).parts[0]

    assert [part.kind if isinstance(part, Item) else "text" for part in taken] == kinds


@pytest.mark.parametrize(("mixed", "hint"), [("text", None), ("media", "Use another.")])
def test_what_is_not_wanted_is_not_read(mixed, hint):
    """Where the text is what counts, no image is opened, so a broken one is no mistake."""
    result = loaded(("a", Image(path="none.png")), mixed=mixed, hint=hint)

    assert result.parts == {0: ("a",)}
    assert result.unsendable == ()
    assert result.ignored == ((0,) if hint else ())


# Where only texts can be sent

_NO_TEXT = "it has no text, and qwen3-rerank takes texts only here. Use model='qwen3-vl-rerank'."


def test_a_document_without_text(connection, emulator):
    """One that was found comes last, with what to change; the caller's own is always a mistake.

    What cannot be sent anywhere keeps its own reason.
    """
    image = Image(url="https://x.example/a.png")
    documents = [image, "green", "red", Unsendable("it is a sculpture")]
    with Reranker(on_error="passthrough", **connection) as using:
        ranking = using._rank("red", documents, {}, lenient=range(4))
        with pytest.raises(errors.RequestError) as caught:
            using.rerank("red", ["red", image])

    assert [hit.index for hit in ranking] == [2, 1, 0, 3]
    assert ranking.unsendable == ((0, _NO_TEXT), (3, "it is a sculpture"))
    assert [seen.body["input"]["documents"] for seen in emulator.log] == [["green", "red"]]
    assert f"{caught.value.message}. {caught.value.hint}" == (
        f"document 1 cannot be sent: {_NO_TEXT}"
    )
    assert caught.value.documents == (1,)


@pytest.mark.parametrize(
    ("options", "named", "unnamed"),
    [
        ({}, ["model='qwen3-vl-rerank'"], ["protocol="]),
        ({"protocol": "compatible"}, ["model='qwen3-vl-rerank'", "protocol='dashscope'"], []),
        ({"model": "qwen3-vl-rerank", "protocol": "compatible"}, ["'dashscope'"], ["model="]),
        (
            {"model": "Qwen/Qwen3-Reranker-0.6B", "server": "vllm"},
            ["Qwen3-VL-Reranker", '"vl"'],
            ["server=", "protocol="],
        ),
        (
            {"model": "Qwen/Qwen3-Reranker-0.6B", "server": "tei"},
            ["server='vllm'"],
            ["model=", "protocol="],
        ),
    ],
)
def test_the_hint_names_what_is_to_be_changed(connection, options, named, unnamed):
    """Nothing that the caller has already is asked for."""
    image = Image(url="https://x.example/a.png")

    for call in ((image, ["red"]), ("red", [image])):
        with pytest.raises(errors.RequestError, match="takes texts only") as caught:
            Reranker(**connection, **options).rerank(*call)

        assert all(text in caught.value.hint for text in named)
        assert not any(text in caught.value.hint for text in unnamed)


def test_what_is_ignored_is_said_once(connection, caplog):
    """A text beside an image is ranked; that the image is not is so at every call, and said once.

    Another model of the same object is another matter, and who prefers texts knows it.
    """
    pair = ("red", Image(path="none.png"))
    with Reranker(**connection) as using:
        for _ in range(2):
            ranking = using.rerank("red", ["a", pair, "b", pair])
            assert (ranking[0].score > 0.5, ranking[0].kind) == (True, "text")
        using.rerank("red", [pair], model="gte-rerank-v2")
        using.with_options(top_n=1).rerank("red", [pair])  # made for a single call
        using.with_options(mixed="text", model="qwen3.7-text-rerank").rerank("red", [pair])

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("Documents 1 and 3: ranked by the text alone, because qwen3-rerank ")
    assert "model='qwen3-vl-rerank'" in said[0]
    assert said[1].startswith("Document 0: ranked by the text alone, because gte-rerank-v2 ")


# Files out of data


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """A folder with images, and images next to it that are none of its business."""
    for name in ("in/a.png", "in/deep/b.png", "out/c.png", "in-private/d.png", "e.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(drawn())
    links = {
        "in/link-in.png": "in/a.png",
        "in/link-out.png": "out/c.png",
        "in/folder-in": "in/deep",
        "in/folder-out": "out",
        "in/twice.png": "in/link-out.png",
        "linked": "in",
        "out/link-in.png": "in/a.png",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    return tmp_path / "in"


@pytest.mark.parametrize(
    "path",
    [
        " a.png\n",
        "deep/../a.png",
        "{folder}/a.png",
        "folder-in/b.png",
        "../out/link-in.png",
        Path("deep/b.png"),
    ],
)
def test_files_within_the_folder(folder, path):
    """Whatever ends up in the folder after all links is read."""
    if isinstance(path, str):
        path = path.format(folder=folder)

    assert folder.parent == Path.home()
    for within in (folder, "~/in", folder.parent / "linked"):
        assert sent(found_image(path, within)).size > 0


@pytest.mark.parametrize(
    "path",
    [
        "deep/../../e.png",
        "../in-private/d.png",
        "folder-out/c.png",
        "twice.png",
        "~/e.png",
        "",
        "a.png\0",
    ],
)
def test_files_out_of_the_folder(folder, path, monkeypatch):
    """Nothing else is: not by dots, links, a home or a longer name of the folder."""
    monkeypatch.chdir(folder)

    for within in (folder, "."):
        result = loaded("a", found_image(path, within), lenient=range(100))

        assert result.parts[1] == ()
        assert [position for position, _ in result.unsendable] == [1]


@pytest.mark.skipif(not _load._BY_PARTS, reason="paths are opened as a whole")
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize(("name", "target"), [("deep", "out"), ("deep/b.png", "out/b.png")])
def test_a_folder_that_is_exchanged_for_a_link(folder, monkeypatch, name, target, at):
    """Just before any opening after the path was checked: what lies outside is not read."""
    inside = sent(Image(path=folder / "deep" / "b.png"))
    (folder.parent / "out" / "b.png").write_bytes(drawn(size=(640, 640)))
    openings, really = [], os.open

    def opening(path, *arguments, **options):
        openings.append(path)
        if len(openings) == at:
            (folder / name).rename(folder.parent / "away")
            (folder / name).symlink_to(folder.parent / target)
        return really(path, *arguments, **options)

    monkeypatch.setattr("qwen_rerank._load.os.open", opening)

    result = loaded("a", found_image("deep/b.png", folder), lenient=range(9))

    assert len(openings) >= at
    if (name, at) == ("deep", 3):  # it had been opened by then
        assert result.parts[1] == (inside,)
    else:
        assert "cannot be read" in result.unsendable[0][1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_opened(tmp_path, monkeypatch):
    """Nor is a device: whoever opens one may wait for ever."""
    os.mkfifo(tmp_path / "a.png")
    monkeypatch.setattr(os, "open", None)

    for path in (tmp_path / "a.png", "/dev/zero"):
        assert "is not a file" in refused(Image(path=path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("within", [False, True])
def test_a_file_that_is_exchanged_for_a_pipe(folder, monkeypatch, within):
    """It does not make the call wait."""
    path, is_file = folder / "a.png", Path.is_file

    def exchanged(checked):
        found = is_file(checked)
        path.unlink()
        os.mkfifo(path)
        return found

    monkeypatch.setattr(Path, "is_file", exchanged)

    assert "is not a file" in refused(Image(path=path, within=folder if within else None))


def test_no_descriptor_stays_open(folder):
    """However reading ends, all that was opened is closed."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("not to be counted here")
    before = len(list(descriptors.iterdir()))
    for path in ("deep/b.png", "deep/none.png", "link-out.png", "a.png/", "deep"):
        loaded("a", found_image(path, folder), lenient=range(9))

    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize("path", ["a.png/", "a.png/.", "a.png/x/.."])
def test_a_file_is_no_folder(folder, path):
    """A path that ends like a folder's names no file, as everywhere else."""
    for image in (found_image(path, folder), Image(path=f"{folder}/{path}")):
        said = refused(image)

        assert "is not a file" in said or "cannot be read: Not a directory" in said


@pytest.mark.skipif(not _load._BY_PARTS, reason="paths are opened as a whole")
def test_where_paths_cannot_be_opened_by_parts(folder, monkeypatch):
    """As on Windows, what is within the folder is read all the same, and nothing else.

    Of what is out of it nobody is told whether it is there.
    """
    monkeypatch.setattr(_load, "_BY_PARTS", False)

    assert sent(found_image("folder-in/b.png", folder)).size > 0
    for path in ("folder-out/c.png", "../in-private/d.png", "../none.png"):
        said = refused(found_image(path, folder))
        assert f"{path}' leads out of the folder that files may be read from" in said


def test_a_folder_that_is_missing(folder):
    """Without the folder there is nothing to read, and no file elsewhere is read instead."""
    assert "cannot be read" in refused(found_image("a.png", folder / "none"))
    assert "leads out" in refused(found_image(str(folder / "a.png"), folder / "none"))


# Traces


@pytest.mark.parametrize(
    "hidden",
    [
        lambda content: Image(data="A" * 30_000_000 + content),
        lambda content: Image(url=f"data:image/png;base64,{content}!"),
        lambda content: found_image(content.translate({43: 45, 47: 95}) + "_", "/"),
    ],
    ids=["too large", "data URI", "found and URL-safe"],
)
def test_no_content_is_shown(reranker, caplog, hidden):
    """Neither an error nor a warning nor a ranking repeats what an image holds."""
    caplog.set_level(logging.DEBUG)
    content = text_of(drawn(size=(100, 100)))
    image = hidden(content)

    with pytest.raises(errors.RequestError) as caught:
        reranker.rerank("red", ["red", image])
    ranking = reranker._rank("red", ["red", image], {}, lenient=range(100))

    shown = [str(caught.value), repr(caught.value), repr(vars(caught.value)), repr(ranking)]
    shown += [ranking._repr_html_(), repr(ranking.hits), repr(ranking.unsendable), caplog.text]
    for at in (0, 1_000, 20_000):
        piece = content[at : at + 40]
        assert not any(piece in text or piece.replace("/", "_") in text for text in shown)


# Pillow


@pytest.fixture(name="no_pillow")
def _no_pillow(monkeypatch, picture):
    assert picture.exists()  # made while there was one
    monkeypatch.setitem(sys.modules, "PIL", None)


@pytest.mark.usefixtures("no_pillow")
def test_pillow_is_missing(reranker, emulator, picture):
    """Images that have to be read need Pillow, and the error says how to get it."""
    for query, document in (("red", Image(data=b"a")), (Image(path=picture), "a")):
        with pytest.raises(ImportError, match=r"qwen-rerank\[images\]"):
            reranker._rank(query, [document], {}, lenient=range(100))

    assert emulator.log == ()


@pytest.mark.usefixtures("no_pillow")
def test_urls_and_texts_need_no_pillow(reranker):
    """What is passed on as it is needs no library to look at it."""
    documents = [Image(url="https://x/red.png"), Video("https://x/red-car.mp4"), "red", ("a", "b")]

    for query in ("red", Image(url="https://x/red.png")):
        assert None not in [hit.score for hit in reranker.rerank(query, documents)]
