"""Texts, images and videos in one list, over HTTP; `test_load.py` has what each is sent as."""

import random
from collections import Counter
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pictures import drawn

from qwen_rerank import Image, Reranker, Usage, Video, errors
from qwen_rerank.emulator._scorer import lexical_score

_MODEL = "qwen3-vl-rerank"
_QUERY = "a fast red sports car"


@cache
def image(shows, side=16):
    """An image of *shows*."""
    return Image(data=drawn(shows, (side, side)))


def video(shows):
    """A video of *shows*, which has to be words of a URL."""
    return Video(f"https://x.example/{shows.replace(' ', '-')}.mp4")


def order(ranking):
    """Where the hits come from, best first."""
    return [hit.index for hit in ranking]


def scores(ranking):
    """The score of each position."""
    return {hit.index: hit.score for hit in ranking}


def kinds(entry):
    """How many documents of each kind a request had."""
    documents = entry.body["input"]["documents"]
    return Counter("text" if isinstance(one, str) else next(iter(one)) for one in documents)


@pytest.fixture(name="reranker")
def _reranker(make):
    return make(model=_MODEL)


@pytest.fixture(name="rank")
def _rank(reranker):
    """Ranks with the reranker of these tests unless another is given."""
    return lambda *arguments, using=reranker, **options: using.rerank(*arguments, **options)


# One call


def test_a_text_finds_whatever_fits(rank, emulator):
    """Texts, images and videos are ranked in one list."""
    documents = [image("green tea"), "a red car", video(_QUERY), "", image("a fast red car")]

    ranking = rank(_QUERY, documents)

    assert order(ranking) == [2, 4, 1, 0, 3]
    assert [hit.kind for hit in ranking] == ["video", "image", "text", "image", None]
    assert all(hit.document is documents[hit.index] for hit in ranking)
    assert (ranking.model, ranking.unsendable, len(emulator.log)) == (_MODEL, (), 1)


def test_what_is_sent(rank, emulator):
    """Images and videos are objects in the request, texts stay texts."""
    documents = ["tea", Image(url="https://x/a.png"), Video("https://x/a.mp4"), image("a")]

    rank(Image(url="https://x/q.png"), documents)

    (seen,) = emulator.log
    asked = seen.body["input"]
    assert asked["query"] == {"image": "https://x/q.png"}
    assert len(asked["documents"]) == 4
    for document in ("tea", {"image": "https://x/a.png"}, {"video": "https://x/a.mp4"}):
        assert document in asked["documents"]
    (told,) = [one["image"] for one in asked["documents"] if "data:" in str(one)]
    assert told.startswith(f"data:image/png;base64,<{len(documents[3].data)} bytes")


def test_equal_ones_are_sent_once(rank, emulator, tmp_path):
    """Equal images are, however they were given; a URL as a text, image and video is three."""
    (tmp_path / "a.png").write_bytes(image("a red car").data)
    copies = [Image(path=tmp_path / "a.png"), image("a red car"), ("tea", image("a red car"))]
    url = "https://x.example/tea"

    ranking = rank(_QUERY, [*copies, Video(url), Video(url), Image(url=url), url, "tea"])

    assert kinds(emulator.log[0]) == {"text": 2, "image": 2, "video": 1}
    found = scores(ranking)
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert order(ranking)[:3] == [0, 1, 2]


def test_fps_and_instruct(rank, reranker, emulator):
    """Both are passed on to every request of a call, where they are set; fps is a ratio."""
    for options in ({}, {"fps": 0.0}, {"fps": 1.0, "instruct": "Find cars."}):
        emulator.clear()
        using = reranker.with_options(max_documents_per_request=1, **options)
        rank(_QUERY, [video("red car"), image("tea")], using=using)

        assert [entry.body["parameters"] for entry in emulator.log] == [options] * 2
    for fps in (-0.1, 1.1):
        with pytest.raises(ValueError, match="fps"):
            reranker.fps = fps


def test_what_is_known_is_not_sent(rank, reranker, emulator):
    """An image, a video and a text that were scored are not asked for again."""
    reranker.cache = {}
    documents = [image("a red car"), video("tea"), "tea", ("a car", image("sports"))]
    first = rank(_QUERY, documents)

    again = rank(_QUERY, [*documents, image("fast")])

    assert [hit for hit in again if hit.index < 4] == list(first)
    assert again.usage.cache_hits == 5
    assert kinds(emulator.log[1]) == {"image": 1}


def test_an_estimate_of_images_is_the_bill(reranker):
    """Where the size is known, the estimate is what the emulator bills."""
    images = [image(str(side), side) for side in (16, 64, 100)]
    estimate = reranker.estimate(images[1], ["tea", *images])

    assert estimate.tokens == reranker.rerank(images[1], ["tea", *images]).usage.tokens


def test_a_url_that_the_service_cannot_fetch(rank, emulator):
    """The error tells what a URL has to be and the places of those that were to be fetched."""
    emulator.fault("400-media-inspection", holding="private.example")
    private = Image(url="https://private.example/a.png")

    with pytest.raises(errors.ContentError, match="in document 2 must be public") as caught:
        rank(_QUERY, ["a", image("tea"), private])
    with pytest.raises(errors.ContentError, match="in the query must be public"):
        rank(private, ["a"])

    assert caught.value.code == "InvalidParameter.DataInspection"
    assert caught.value.documents == (2,)


# Text with an image or video


@pytest.mark.parametrize(
    ("mixed", "chosen"),
    [
        ("max", ["text", "image", "video", "image", "video"]),
        ("text", ["text", "text", "text", "image", "video"]),
        ("media", ["image", "image", "video", "image", "video"]),
    ],
)
def test_mixed(rank, reranker, emulator, mixed, chosen):
    """One policy says what is scored; what it was stands on the hit, and a blank is never it."""
    documents = [
        ("a red car", image("green tea")),
        (image("a red car"), "green tea"),
        ("green tea", video("a red car")),
        ("", image("a red car")),
        (" \n", video("green tea")),
    ]

    ranking = rank("red car", documents, using=reranker.with_options(mixed=mixed))

    assert {hit.index: hit.kind for hit in ranking} == dict(enumerate(chosen))
    assert all(hit.document is documents[hit.index] for hit in ranking)
    assert all("" not in entry.body["input"]["documents"] for entry in emulator.log)


def test_a_hit_of_several_parts_is_shown_short(rank):
    """Of a long text beside an image its beginning is shown."""
    assert len(repr(rank("q", [("word " * 500, image("a"))])[0])) < 300


# Many


_WORDS = ["red", "fast", "car", "sports", "tea", "green", "the"]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(texts=57, images=40, videos=4, seed=1, by_image=False)  # 101 altogether
@example(texts=10, images=41, videos=0, seed=1, by_image=False)
@example(texts=0, images=1, videos=5, seed=1, by_image=True)
@given(
    texts=st.integers(0, 210),
    images=st.integers(0, 90),
    videos=st.integers(0, 9),
    seed=st.integers(0, 9),
    by_image=st.booleans(),
)
def test_any_mix(rank, emulator, texts, images, videos, seed, by_image):
    """For any counts in any order: limits held, nobody lost, true order, fewest requests."""
    emulator.clear()
    chance = random.Random(seed)  # noqa: S311  no secret
    makers = [str] * texts + [image] * images + [video] * videos
    chance.shuffle(makers)
    words = [
        f"{' '.join(chance.choices(_WORDS, k=1 + at % 5))} number{at}" for at in range(len(makers))
    ]
    documents = [make(text) for make, text in zip(makers, words, strict=True)]

    ranking = rank(image(_QUERY) if by_image else _QUERY, documents)

    alone = [lexical_score(_QUERY, text) for text in words]
    assert order(ranking) == sorted(range(len(words)), key=lambda at: -alone[at])
    assert all(hit.score is not None for hit in ranking)
    for entry in emulator.log:
        assert entry.documents <= 100
        assert kinds(entry)["image"] <= 40
        assert kinds(entry)["video"] <= 4
    least = max(-(-len(documents) // 100), -(-images // 40), -(-videos // 4))
    assert [entry.status for entry in emulator.log] == [200] * least
    assert ranking.usage == Usage(least, sum(entry.tokens for entry in emulator.log))


def test_sixteen_mebibytes_after_decoding(rank, emulator):
    """Four images of 3 MB and a query of as much take two requests, of which none is refused."""
    query, *documents = [Image(data=drawn(str(at), (1_060, 1_060), "BMP")) for at in range(5)]

    assert len(rank(query, documents)) == 4
    assert [entry.status for entry in emulator.log] == [200, 200]


# On a vLLM that serves a Qwen3-VL-Reranker


@pytest.fixture(name="own")
def _own(emulator):
    options = {"server": "vllm", "base_url": emulator.server_url("vllm")}
    return Reranker(model="Qwen/Qwen3-VL-Reranker-2B", **options)


def test_images_on_vllm(rank, own, emulator):
    """An image is sent as chat models are sent it, among bare texts, by its URL, as the query."""
    url = "https://x.example/old-car.png"

    assert order(rank(_QUERY, ["tea", image(_QUERY), Image(url=url)], using=own))[0] == 1
    assert order(rank(Image(url=url), ["green tea", "an old car"], using=own)) == [1, 0]

    documents, query = emulator.log[0].body["documents"], emulator.log[1].body["query"]
    assert "tea" in documents
    assert query["content"] == [{"type": "image_url", "image_url": {"url": url}}]
    assert query in documents


def test_text_and_image_together(rank, own, emulator):
    """With "together" they are one: what neither tells alone, both do; else the better counts."""
    documents = [("a fast red", image("sports car")), ("a fast red", image("tea")), "sports car"]

    together = rank(_QUERY, documents, using=own.with_options(mixed="together"))
    apart = rank(_QUERY, documents, using=own)

    assert order(together)[0] == 0
    assert scores(together)[0] > scores(apart)[0]
    assert {hit.index: hit.kind for hit in together} == {0: "image", 1: "image", 2: "text"}
    assert [len(entry.body["documents"]) for entry in emulator.log] == [3, 4]


def test_a_long_text_beside_an_image(rank, own, emulator):
    """It is cut to what the image leaves of the pair, and that is said."""
    document = ("green tea " * 2_000, image(_QUERY))
    using = own.with_options(mixed="together", max_model_len=512)

    ranking = rank(_QUERY, ["a car", document], using=using)

    assert ranking.truncated == (1,)
    [text] = [each["content"][0]["text"] for each in emulator.log[0].body["documents"][1:]]
    assert len(text) < len(document[0]) / 4


@pytest.mark.parametrize(
    "options",
    [{}, {"server": "infinity", "base_url": "http://127.0.0.1:1"}],
)
def test_together_takes_vllm(connection, options):
    """Elsewhere a candidate is a text or an image, and the choice is refused by its name."""
    with pytest.raises(ValueError, match="mixed='together' takes server='vllm'"):
        Reranker(mixed="together", **(connection | options))


def test_vllm_takes_no_videos(rank, own, emulator):
    """A video is refused before anything is sent, and names its place."""
    with pytest.raises(errors.RequestError, match="takes no videos") as caught:
        rank(_QUERY, ["tea", video("car")], using=own)

    assert caught.value.documents == (1,)
    assert emulator.log == ()
