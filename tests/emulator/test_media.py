"""Pictures and films: what stands for them, what they cost, and what the service says of them."""

import base64
import json
import sys
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qwen_rerank.emulator import _app
from qwen_rerank.emulator._media import Media, UnusableError, decoded_size, look_at
from qwen_rerank.emulator._models import IMAGE_FORMATS
from qwen_rerank.emulator._scorer import lexical_score
from qwen_rerank.emulator._service import Question, RefusedError, Service
from qwen_rerank.emulator._tokenizer import qwen_tokenizer


def uri(content):
    """Return *content* as a data URI of a picture."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def drawn(colour="red", size=(64, 64), kind="PNG", **options):
    """Return a picture in one colour as bytes."""
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


def picture(*args, **options):
    """Return a picture as the service gets it; its source is what stands in a request."""
    return Media("image", uri(drawn(*args, **options)))


def look(content):
    """Return what a look at a picture of these bytes gives."""
    return look_at(Media("image", uri(content)))


# What stands for them


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_formats_are_recognised_by_content(kind):
    """Each documented format is read, whatever the data URI calls it."""
    side = 1024 if kind == "ICNS" else 64  # it holds the picture at several sizes
    content = drawn(kind=kind)

    assert look(content) == ("red", content, (side, side))


@pytest.mark.parametrize(
    "content",
    [drawn(kind="GIF"), drawn()[:100], b"no picture", b""],
    ids=["GIF", "half", "text", "nothing"],
)
def test_what_is_no_such_picture_is_told(content):
    """Another format, half a file, nothing or anything else is no picture to the service."""
    with pytest.raises(UnusableError, match="image input should be one of JPEG, PNG, WEBP"):
        look(content)


@pytest.mark.parametrize("text", ["AAA", "AA AA", "A*==", "caf\xe9"])
def test_what_is_no_base64_is_told(text):
    """Base64 is read strictly."""
    with pytest.raises(UnusableError, match="image input should be valid base64"):
        look_at(Media("image", f"data:image/png;base64,{text}"))


def test_colours_are_told_by_the_area_they_cover():
    """The largest three colours are named, the largest first; what is transparent is white."""
    picture = Image.new("RGBA", (80, 80), "red")
    picture.paste("navy", (0, 0, 80, 30))
    picture.paste((0, 0, 0, 0), (0, 0, 80, 10))
    picture.paste("yellow", (0, 70, 20, 80))
    file = BytesIO()
    picture.save(file, "PNG")

    assert look(file.getvalue()).words == "red dark blue white"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK", "F"])
def test_any_mode_has_colours(mode):
    """Palettes, greys, inks and deep pixels are all described."""
    file = BytesIO()
    Image.new(mode, (20, 20)).save(file, "TIFF")

    assert look(file.getvalue()).words in {"black", "white"}


def described(**texts):
    """Return PNG texts."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text)
    return info


def exif(text):
    """Return EXIF data with a description."""
    data = Image.Exif()
    data[0x010E] = text
    return data


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pnginfo": described(Title="a sports car")}, "a sports car"),
        ({"pnginfo": described(Comment="c", Description="中文", Title=" t ")}, "t 中文 c"),
        ({"pnginfo": described(Software="GIMP", Title="  ")}, "red"),
        ({"exif": exif("a cat on a roof")}, "a cat on a roof"),
        ({"kind": "JPEG", "comment": "une école"}, "une école"),
        ({"kind": "JPEG", "comment": b"\xff"}, "\ufffd"),
        ({"kind": "JPEG", "exif": b"Exif\0\0broken"}, "red"),
    ],
)
def test_a_description_goes_before_colours(options, words):
    """A picture's own title, description or comment are its words, if they say anything."""
    assert look(drawn(**options)).words == words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://x.example/red-sports-car.png", "red sports car"),
        ("HTTP://x/a/b_c/%E7%BA%A2%20car.JPG?size=1/2#top", "红 car"),
        ("https://x/a/blue.cat.webp/", "blue cat"),
        ("https://x/", ""),
        ("https://[x/red.mp4", "red"),
    ],
)
def test_a_url_is_described_by_the_last_part_of_its_path(url, words):
    """Nothing is fetched: the words of a URL are those of the file it names."""
    assert look_at(Media("video", url)) == (words, url.encode(), None)


@given(st.binary(max_size=20))
def test_the_decoded_size_is_known_without_decoding(content):
    """The size of what base64 stands for can be told from its length and ending."""
    assert decoded_size(base64.b64encode(content).decode()) == len(content)


# What the service says of them


def service(score=None):
    """Return a service that scores by the stand-in."""
    return Service(qwen_tokenizer(), score, "truncate", shuffle=False)


def question(query="q", documents=("d",), **options):
    """Return a question to the multimodal model."""
    return Question("qwen3-vl-rerank", query, tuple(documents), **options)


def linked(name="a.png"):
    """Return a picture by URL."""
    return Media("image", f"https://x.example/{name}")


FILM = Media("video", "https://x.example/a.mp4")


@pytest.mark.parametrize(
    ("item", "tokens"),
    [
        (picture(size=(32, 32)), 4),
        (picture(size=(65, 32)), 5),
        (picture(size=(640, 480)), 20 * 15 + 2),
        (picture(size=(2_880, 2_880), kind="JPEG", comment="large"), 8_000),
        (linked(), 1_280),
        (FILM, 8_000),
    ],
)
def test_the_price_of_a_picture_or_film(item, tokens):
    """A token for each 32 x 32 pixels begun and two around, 4 to 8,000; 1,280 by URL; 8,000."""
    assert service().answer(question(documents=[item])).tokens == tokens + 1


def test_a_picture_as_query_is_charged_once_per_document():
    """A query costs its tokens for every document, whatever it is; so does the instruction."""
    asked = question(picture(size=(640, 480)), ["one", linked()], instruct="find it")

    assert service().answer(asked).tokens == 2 * 302 + 1 + 1_280 + 2 * 2


@pytest.mark.parametrize(
    ("documents", "most"),
    [
        ([linked()] * 41, 40),
        ([FILM] * 5, 4),
        (["d"] * 57 + [linked()] * 40 + [FILM] * 4, 100),
    ],
)
def test_each_kind_has_its_limit(documents, most):
    """At most 40 pictures, 4 films, and 100 documents in all, in mixed requests too."""
    with pytest.raises(RefusedError, match=rf"empty or larger than {most}\.: input\.documents"):
        service().answer(question(documents=documents))


def test_all_limits_at_once_are_served():
    """40 pictures, 4 films and 56 texts are ranked together."""
    asked = question(documents=["d"] * 56 + [linked()] * 40 + [FILM] * 4)

    assert len(service().answer(asked).results) == 100


@pytest.mark.parametrize(
    ("least", "less", "said"),
    [
        ((10, 10), (64, 9), r"\[height:9 or width:64 must be larger than 10\]"),
        ((10, 2_000), (10, 2_001), r"\[absolute aspect ratio must be smaller than 200\]"),
    ],
)
def test_a_picture_of_an_odd_shape_is_refused(least, less, said):
    """A side under 10 pixels, or over 200 times shorter than the other, fails the request."""
    assert service().answer(question(documents=[picture(size=least)])).results
    with pytest.raises(RefusedError, match=f"do not meet the model restrictions. {said}") as caught:
        service().answer(question(documents=["d", picture(size=less)]))
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    assert caught.value.inner


def test_one_unusable_picture_fails_the_request():
    """A picture that is none fails all, wherever it stands."""
    bad = Media("image", "data:image/png;base64,AAAA")

    with pytest.raises(RefusedError, match=r"image input should be .*: input\.documents$"):
        service().answer(question(documents=["d", bad]))
    with pytest.raises(RefusedError, match=r"image input should be .*: input\.query$"):
        service().answer(question(bad))


def test_words_stand_for_what_is_shown():
    """Texts, pictures and films are scored by their words, either way round."""
    car = Media("video", "https://x.example/red_sports-car.mp4")
    documents = ["a red car", picture("red"), picture("blue"), car, linked("green-house.png")]
    by_text = dict(service().answer(question("red car", documents)).results)
    by_picture = dict(service().answer(question(linked("red-car.png"), documents)).results)

    assert by_text == by_picture
    assert [by_text[index] for index in range(5)] == [
        lexical_score("red car", words)
        for words in ("a red car", "red", "blue", "red sports car", "green house")
    ]


def test_a_picture_and_itself_score_highest():
    """Of pictures with the same words, the query itself comes first; a film is never a picture."""
    same = linked("red-car.png")
    documents = ["red car", Media("video", same.source), linked("b/red-car.png"), same]
    (first, score), (_, second), *_ = service().answer(question(same, documents)).results
    red = [picture(size=(64, 65)), picture(), picture(kind="BMP")]
    other = Media("image", picture().source.replace("image/png", "image/x"))

    assert (first, score) == (3, 1.0)
    assert second < 1.0
    assert service().answer(question(other, red)).results[0] == (1, 1.0)


def test_a_function_of_the_callers_decides_alone():
    """A scoring function is given words for everything, and asked about identical pictures too."""
    seen = []

    def score(*pair):
        seen.append(pair)
        return 0.5

    asked = question(linked("red-car.png"), [linked("red-car.png"), "text", FILM, picture("blue")])

    assert {score for _, score in service(score).answer(asked).results} == {0.5}
    assert seen == [("red car", words) for words in ("red car", "text", "a", "blue")]


ANY = st.sampled_from(
    ["red", "a red car", linked("red-car.png"), linked("b.png"), picture(), picture("blue"), FILM]
)


@settings(max_examples=25)
@given(ANY.filter(lambda item: item != FILM), st.lists(ANY, min_size=1, max_size=4))
def test_a_score_depends_on_its_pair_alone(query, documents):
    """A picture or film scores the same alone as in any list."""
    together = dict(service().answer(question(query, documents)).results)

    for index, document in enumerate(documents):
        assert dict(service().answer(question(query, [document])).results) == {0: together[index]}
        assert 0 < together[index] <= 1


# Over HTTP


def ask(caller, query, *documents, **parameters):
    """Send a question to the multimodal model."""
    return caller.native(query, documents, model="qwen3-vl-rerank", **parameters)


def test_pictures_and_films_are_ranked_over_http(caller, emulator):
    """A mixed request is ranked, billed, echoed and logged like any other."""
    film = {"video": "https://x.example/blue-sea.mp4"}
    red, blue = {"image": picture("red").source}, {"image": picture("blue").source}
    body = ask(caller, "blue", red, "grey", film, blue, return_documents=True).json()

    assert [result["index"] for result in body["output"]["results"]] == [3, 2, 0, 1]
    assert body["output"]["results"][0]["document"] == blue
    assert body["usage"] == {"total_tokens": 4 + 2 * 6 + 1 + 8_000}
    assert [(seen.status, seen.documents) for seen in emulator.log] == [(200, 4)]


def test_the_limits_of_a_body_with_base64(caller, emulator, monkeypatch):
    """There is one to each base64 text, one to the body after decoding, and one to what is read."""
    image = {"image": f"data:image/png;base64,{'A' * 1_000}"}
    given = {"query": "q", "documents": [image, image]}
    content = json.dumps({"model": "qwen3-vl-rerank", "input": given}).encode()
    decoded = len(content) - 2 * 250
    limits = {"BASE64_CHARACTERS": 1_000, "BODY_BYTES": decoded, "WIRE_BYTES": len(content)}

    def status(name, most):
        with monkeypatch.context() as patched:
            patched.setattr(_app, name, getattr(_app, name)._replace(value=most))
            return caller.post(caller.native_url, content=content).status_code

    for name, most in limits.items():
        assert status(name, most) == 400, name  # it was read, and is no picture
        assert status(name, most - 1) == 413, name
        assert emulator.log[-1].body is None


def test_pillow_is_needed_for_base64_alone(caller, monkeypatch):
    """Without Pillow URLs are served, and base64 names the extra that it needs."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    answer = ask(caller, "q", {"image": uri(b"any")})

    assert answer.status_code == 500
    assert answer.json()["message"].endswith('pip install "qwen-rerank[images]"')
    assert ask(caller, "q", {"image": "https://x.example/a.png"}).status_code == 200
