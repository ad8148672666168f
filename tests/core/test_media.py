"""Images and videos as values, and what is recognised as one in data; nothing is read or sent."""

import base64
import pickle
import random
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen_rerank import Image, Unsendable, Video
from qwen_rerank.media import found_image, found_video, is_mostly_base64, without_content

_BASE64 = base64.b64encode(bytes(range(256))).decode()
_URI = f"data:image/png;base64,{_BASE64}"
_URLS = [
    "https://x.example/a.png",
    "HTTP://X.EXAMPLE/A.PNG",
    "https://x.example:8443/\u7ea2%20b.png?size=1/2#top",
]
_NO_URLS = [
    "x.example/a.png",
    "https:///a.png",
    "https://x.example/a b.png",
    "see https://x.example/a.png",
    "data:text/plain;base64,QQ==",
    "data:image/png,QQ==",
    b"https://x.example/a.png",
]


# Image


@pytest.mark.parametrize(
    "sources", [{"within": "folder"}, {"data": b"a", "path": "a.png"}, {"url": "", "data": b""}]
)
def test_an_image_has_exactly_one_source(sources):
    """None, two or three sources are a mistake, even where one of them is empty."""
    with pytest.raises(ValueError, match="exactly one of url, data and path"):
        Image(**sources)


@pytest.mark.parametrize("url", _URLS)
def test_urls(url):
    """Web addresses are taken as they are, in any case of letters."""
    assert Image(url).url == Video(url).url == url


@pytest.mark.parametrize("url", [_URI, _URI.upper(), "data:image/svg+xml;base64,QQ=="])
def test_data_uris_of_images(url):
    """So are data URIs of images."""
    assert Image(url=url).url == url


@pytest.mark.parametrize("url", _NO_URLS)
def test_what_is_no_url_of_an_image(url):
    """Anything else is refused at once, with what a file is given as, and not shown in full."""
    with pytest.raises(ValueError, match=r"https://, http:// or data:image/.* file is .* path="):
        Image(url=url)


@pytest.mark.parametrize("sources", [{"data": bytearray(b"a")}, {"path": 7}, {"path": b"a.png"}])
def test_sources_of_another_type(sources):
    """What is no text, bytes or path is refused at once, by the name of its type."""
    [(name, value)] = sources.items()
    with pytest.raises(ValueError, match=f"{name} must be .* not {type(value).__name__}"):
        Image(**sources)


def test_paths_of_images():
    """A path may be text or path-like, which is the same, and is not touched before a call."""
    assert Image(path=Path("b/a.png"), within=Path("b")) == Image(path="b/a.png", within="b")


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (Image(url="https://x/a.png"), "Image(url='https://x/a.png')"),
        (Image(url=_URI), f"Image(<{len(_URI)} characters of base64>)"),
        (Image(path=Path("b") / "a.png", within="b"), "Image(path='b/a.png')"),
        (Image(data=b"\0" * 2_000), "Image(<2,000 bytes>)"),
        (Image(data=_BASE64), f"Image(<{len(_BASE64)} characters of base64>)"),
        (Image(data=_URI), f"Image(<{len(_URI)} characters of base64>)"),
    ],
)
def test_what_is_shown_of_an_image(image, shown):
    """An image says where it comes from, or how large it is, and never what is in it."""
    assert (repr(image), str(image), f"{[image]}") == (shown, shown, f"[{shown}]")


@pytest.mark.parametrize(
    "value",
    [
        Image(path=Path("a.png"), within="."),
        Video("https://x/a.mp4"),
        Unsendable("it is a song"),
    ],
)
def test_values(value):
    """Images, videos and what cannot be sent are frozen, hashable, and equal by what they hold."""
    again = pickle.loads(pickle.dumps(value))  # noqa: S301  our own pickle

    assert again == value == deepcopy(value)
    assert hash(again) == hash(value)
    assert len({value, again}) == 1
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, "https://x/b.png")
    assert not hasattr(value, "__dict__")


# Video


@pytest.mark.parametrize("url", [_NO_URLS[0], _URI, None])
def test_a_video_is_taken_by_url_alone(url):
    """Bytes, files and data URIs are refused with the reason."""
    with pytest.raises(ValueError, match="takes no videos as bytes") as caught:
        Video(url)

    assert _BASE64 not in str(caught.value)


# What came with data


@pytest.mark.parametrize(
    ("value", "image"),
    [
        (" https://x/a.png\n", Image(url="https://x/a.png")),
        (f"\n {_URI} ", Image(url=_URI)),
        (b"", Image(data=b"")),
        (f"{_BASE64[:76]}\r\n{_BASE64[76:]}", Image(data=f"{_BASE64[:76]}\r\n{_BASE64[76:]}")),
        (Image(path="a.png"), Image(path="a.png")),
    ],
)
def test_images_in_data(value, image):
    """URLs, data URIs, bytes and base64 text are recognised, blanks around them or not."""
    assert found_image(value, None) == found_image(value, "folder") == image


@pytest.mark.parametrize("value", ["a.png", "file:///a.png"])
def test_no_file_is_looked_for_unless_the_caller_says_where(value):
    """Without a folder a path in data is nothing but a text."""
    found = found_image(value, None)

    assert isinstance(found, Unsendable)
    assert "local_files=" in found.reason


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (" b/a.png ", "folder/b/a.png"),
        (Path("../a.png"), "folder/../a.png"),
        ("/b/a.png", "/b/a.png"),
        ("~/a.png", "folder/~/a.png"),
    ],
)
def test_files_in_data_are_kept_within_the_folder(value, path):
    """A path is meant from the folder on, and never read from outside of it."""
    assert found_image(value, Path("folder")) == Image(path=path, within="folder")


@pytest.mark.parametrize("value", [None, bytearray(b"a")])
@pytest.mark.parametrize("find", [lambda value: found_image(value, "folder"), found_video])
def test_data_of_wrong_types(find, value):
    """Whatever stands in metadata, there is a reason and no exception."""
    assert isinstance(find(value), Unsendable)


@pytest.mark.parametrize("value", ["data:image/svg+xml,<svg/>", "https://x/a b.png"])
def test_urls_of_something_else(value):
    """What begins like a URL is not taken for a path, and is not repeated in the reason."""
    found = found_image(value, "folder")

    assert isinstance(found, Unsendable)
    assert value not in found.reason


def test_short_texts_are_paths():
    """Text under 100 characters is a path, even if it could be base64."""
    assert found_image("A" * 99, "folder").path == f"folder/{'A' * 99}"
    assert found_image("A" * 100, "folder").data == "A" * 100


def test_hostile_text_is_no_work():
    """Metadata are untrusted: no text takes more time than its length, whose square is hours."""
    assert isinstance(found_image(f"A{' ' * 2_000_000}!", None), Unsendable)


@pytest.mark.parametrize(
    "value", ["https://x/a.mp4", " https://x/a.mp4\n", Video("https://x/a.mp4")]
)
def test_videos_in_data(value):
    """A URL is a video where the caller says that it is one."""
    assert found_video(value) == Video("https://x/a.mp4")


@pytest.mark.parametrize("value", [b"\0\0\0\x18ftypmp42", "ftp://x/a.mp4"])
def test_a_video_that_is_no_url(value):
    """A video as a file or bytes is unsendable, and the reason says what could be sent."""
    assert found_video(value) == Unsendable(
        "a video can be sent by its http:// or https:// URL only"
    )


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"content"),
        _BASE64 * 9,
        {"url": "data:image/png;base64," + _BASE64 * 9},
        [{"deep": (_BASE64 * 9, "caption")}],
        Image(data=_BASE64 * 9),
    ],
)
def test_contents_are_left_out_of_traces(value):
    """What holds an image shows its size and a digest instead, the same for the same content."""
    shown = without_content(value)

    assert _BASE64 * 3 not in repr(shown)
    assert "content" not in repr(shown)
    assert shown == without_content(value)


@pytest.mark.parametrize(
    "value",
    [
        "https://x.example/" + "a" * 300,
        {"a": ["b", 1.0, None, {}]},
        "word " * 90,
    ],
)
def test_all_else_is_shown_as_it_is(value):
    """What holds no image is the very same object."""
    assert without_content(value) is value


# Texts that are none

_PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom. "


def _compressed(seed, size):
    """What compressed bytes look like."""
    return random.Random(seed).randbytes(size)  # noqa: S311  no secret


def _encoded(content, *, width=None, url_safe=False):
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(content).decode()
    if width is None:
        return text
    return "\r\n".join(text[at : at + width] for at in range(0, len(text), width))


@given(
    st.integers(0, 2**32),
    st.integers(600, 6_000),
    st.sampled_from([None, 64, 76]),
    st.booleans(),
    st.floats(0, 1),
)
@example(0, 2_224, 76, False, 0.005859375)  # several places end within a line end
def test_base64_in_a_text(seed, size, width, url_safe, before):
    """Three quarters of base64 are recognised, wherever they stand and however they are broken."""
    encoded = _encoded(_compressed(seed, size), width=width, url_safe=url_safe)
    words = (_PROSE * 200)[: len(encoded) // 3]
    cut = int(before * len(words))

    assert is_mostly_base64(encoded)
    assert is_mostly_base64(words[:cut] + encoded + words[cut:])


@given(st.integers(0, 2**32), st.integers(600, 6_000), st.floats(0, 1))
def test_some_base64_is_no_matter(seed, size, before):
    """A text with a quarter of it is a text."""
    encoded = _encoded(_compressed(seed, size))
    words = (_PROSE * 2_000)[: 3 * len(encoded)]
    cut = int(before * len(words))

    assert not is_mostly_base64(words[:cut] + encoded + words[cut:])


@pytest.mark.parametrize("text", [_URI, f"{_URI[:22].upper()}{_BASE64}", _URI[:60]])
def test_data_uris_of_any_length(text):
    """An image in the place of a text is recognised however small it is."""
    assert is_mostly_base64(text)


@given(st.text(max_size=60), st.integers(1, 200))
def test_texts_of_people(text, times):
    """What is written again and again is a text in whatever script."""
    assert not is_mostly_base64(f"{text} " * times)


@pytest.mark.parametrize(
    "text",
    [
        "data:text/plain,hello",
        "\n".join(f"https://x.example/2024/05/Article{number}.html" for number in range(100)),
        "GetUserByIdAndName" * 100,
        "deadbeef01234567" * 100,
        "DEADBEEF01234567" * 100,
        "function(a,b){return a.X1[b]||c(Y2)};" * 100,
    ],
)
def test_texts_of_machines(text):
    """Neither are addresses, names, digests and code base64."""
    assert not is_mostly_base64(text)
