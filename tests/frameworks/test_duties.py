"""What every door owes its users, sync and async alike."""

import base64
import contextlib
import copy
import pickle
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
from pictures import drawn

from qwen_rerank import (
    AuthenticationError,
    DeadlineError,
    Image,
    RequestError,
    Reranker,
    _loop,
)
from qwen_rerank.emulator import Emulator, Reply

ROOT = Path(__file__).parents[2]
TEXTS = [
    "Green tea is grown in the hills.",
    "A red sports car passed the house.",
    "",
    "The car was fast and red, a sports car.",
    "Green tea is grown in the hills.",
]
QUERY = "a fast red sports car"
SERVED = "Qwen/Qwen3-Reranker-0.6B"


def test_no_door_is_left_out(doors):
    """Every framework's package owes these duties."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set()
    for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        with contextlib.suppress(ModuleNotFoundError):  # its framework is not installed
            packages |= {import_module(name).__name__}

    packages.remove("qwen_rerank")
    assert {door.kind.__module__.partition(".")[0] for door in doors.values()} == packages


def test_no_class_is_left_unbuilt(doors):
    """Importing builds the classes that people use, not those below, which takes twice as long."""
    kinds = {Reranker, *(door.kind for door in doors.values())}

    assert {kind.__pydantic_complete__ for kind in kinds} == {True}
    assert {kind.__base__.__pydantic_complete__ for kind in kinds} == {False}


def test_ranks_as_the_core_does(door, connection):
    """A door adds nothing to the ranking: order and scores are the core's."""
    ranking = Reranker(**connection).rerank(QUERY, TEXTS)

    ranked = door(door.kind(top_n=None, **connection), QUERY, TEXTS)

    assert ranked == [(hit.document, hit.score) for hit in ranking]


def test_top_n_is_the_head(door, connection):
    """A smaller top_n is the head of the whole ranking; without one three are kept."""
    whole = door(door.kind(top_n=None, **connection), QUERY, TEXTS)

    assert door(door.kind(**connection), QUERY, TEXTS) == whole[:3]
    assert door(door.kind(top_n=2, **connection), QUERY, TEXTS) == whole[:2]
    assert door(door.kind(top_n=99, **connection), QUERY, TEXTS) == whole


def test_blank_comes_last_without_a_score(door, connection, emulator):
    """A blank candidate is not sent, keeps no number and is not lost."""
    ranked = door(door.kind(top_n=None, **connection), QUERY, TEXTS)

    assert ranked[-1] == ("", None)
    assert sorted(text for text, _ in ranked) == sorted(TEXTS)
    assert emulator.log[0].documents == 3


def test_nothing_to_rank(door, connection, emulator):
    """An empty list is an empty ranking, without a call."""
    assert door(door.kind(**connection), QUERY, []) == []
    assert emulator.log == ()


def test_threshold_keeps_what_reaches_it(door, connection):
    """A score equal to the threshold is kept, everything below it is dropped."""
    whole = door(door.kind(top_n=None, **connection), QUERY, TEXTS)
    second = whole[1][1]

    assert door(door.kind(score_threshold=second, **connection), QUERY, TEXTS) == whole[:2]


def test_options_for_one_call(door, connection, emulator):
    """with_options gives one that differs for a call; the object itself stays as it is."""
    reranker = door.kind(**connection)
    whole = door(reranker.with_options(top_n=None), QUERY, TEXTS)

    chosen = {"top_n": 1, "model": "qwen3.7-text-rerank", "instruct": "Match."}
    assert door(reranker.with_options(**chosen), QUERY, TEXTS) == whole[:1]
    assert (reranker.top_n, reranker.instruct) == (3, None)
    assert door(reranker, QUERY, TEXTS) == whole[:3]
    _, body, _ = (seen.body for seen in emulator.log)
    assert (body["model"], body["parameters"]) == ("qwen3.7-text-rerank", {"instruct": "Match."})
    instructs = [seen.body["parameters"].get("instruct") for seen in emulator.log]
    assert instructs == [None, "Match.", None]
    with pytest.raises(
        ValueError, match=r"QwenRerank has no option 'top_k'; did you mean 'top_n'\?"
    ):
        reranker.with_options(top_k=5)
    with pytest.raises(ValueError, match="top_n"):
        reranker.with_options(top_n=0)


@pytest.mark.parametrize("name", ["api_key", "dashscope_api_key"])
def test_another_key_for_one_call(door, connection, name):
    """Such as a tenant's, by its own name or the one of older classes; the object keeps its own."""
    reranker = door.kind(base_url=connection["base_url"], **{name: connection["api_key"]})

    with pytest.raises(AuthenticationError):
        door(reranker.with_options(**{name: "sk-of-a-tenant-0123456789"}), QUERY, TEXTS)

    assert len(door(reranker, QUERY, TEXTS)) == 3


@pytest.mark.parametrize("top_n", [0, True])
def test_wrong_top_n(door, connection, top_n, emulator):
    """A top_n that is no count is refused before anything is sent."""
    with pytest.raises(ValueError, match="top_n"):
        door.kind(top_n=top_n, **connection)

    assert emulator.log == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [("topn", r"'topn'; did you mean 'top_n'\?"), ("rank_fields", "'rank_fields': .*item=")],
)
def test_unknown_option(door, connection, name, said):
    """A misspelt option or one of peers is refused, with a guess at what was meant."""
    with pytest.raises(ValueError, match=f"QwenRerank has no option {said}"):
        door.kind(**{name: 3}, **connection)


def test_blank_query(door, connection, emulator):
    """A blank query is refused before anything is sent."""
    for texts in (TEXTS, []):  # a wrong query is wrong whatever was found
        with pytest.raises(RequestError, match="query is blank"):
            door(door.kind(**connection), " \n", texts)

    assert emulator.log == ()


def test_no_key(door):
    """Without a key for Alibaba Cloud there is no object, and the way out is named."""
    with pytest.raises(ValueError, match=r"DASHSCOPE_API_KEY.*emulator"):
        door.kind()


def test_copies_keep_the_key(door, connection):
    """A copy can be used like the original."""
    for twin in (copy.copy, copy.deepcopy):
        assert len(door(twin(door.kind(**connection)), QUERY, TEXTS)) == 3


def test_copies_keep_what_was_found(door, emulator: Emulator, monkeypatch):
    """Host and key that the environment named when it was made, whatever that names by now."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    made = door.kind()
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:9/api/v1")
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-of-another")

    for twin in (copy.copy, copy.deepcopy, door.kind.model_copy):
        assert len(door(twin(made), QUERY, TEXTS)) == 3


def test_unpickled_finds_its_key_again(door, emulator: Emulator, monkeypatch):
    """A pickle holds no key; the object finds one at its first call."""
    stored = pickle.dumps(door.kind(base_url=emulator.base_url, api_key=emulator.api_key))
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    assert len(door(pickle.loads(stored), QUERY, TEXTS)) == 3  # noqa: S301  our own pickle


# The objects that come back


def test_objects_come_back(door, connection):
    """An object keeps its class, id and metadata, and those that were given are left alone."""
    given = door.made(*TEXTS)
    before = copy.deepcopy(given)

    ranked = door.ranked(door.kind(top_n=None, **connection), QUERY, given)

    assert given == before
    known = {seen.text: seen._replace(score=None) for seen in map(door.see, given)}
    assert [seen._replace(score=None) for seen in ranked] == [known[seen.text] for seen in ranked]


def test_passed_through(door, connection, emulator: Emulator, caplog):
    """Without a ranking the first top_n come back as they were, with no score of ours.

    While the service is known to be gone it is not asked, and each call logs one warning.
    """
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    reranker = door.kind(on_error="passthrough", max_retries=0, top_n=2, **connection)
    given = door.made(*TEXTS)

    for _ in range(2):
        ranked = door.ranked(reranker, QUERY, given)

        assert ranked == [door.see(each)._replace(score=door.passed) for each in given[:2]]
    assert len(emulator.log) == 1
    assert {(each.name, each.levelname) for each in caplog.records} == {("qwen_rerank", "WARNING")}
    assert len(caplog.messages) == 2
    assert all("5 documents are passed through" in message for message in caplog.messages)


def test_no_object(door, connection, emulator: Emulator):
    """What is no object of the framework is named by its position; nothing is sent."""
    reranker = door.kind(**connection)
    objects = [*door.made("a"), 7]

    for call in (door.ranked, door.estimate):
        with pytest.raises(RequestError, match=r"1 must be a.*, not int"):
            call(reranker, QUERY, objects)

    assert emulator.log == ()


# Images and item


@pytest.fixture(name="seeing")
def _seeing(door, connection):
    """The options of a reranker that looks at images."""
    return {"model": "qwen3-vl-rerank", "top_n": None, **door.media, **connection}


def test_image_below_a_folder(door, seeing, emulator: Emulator, tmp_path):
    """A file is read below local_files and nowhere else; what cannot be read has no score."""
    path = tmp_path / "car.png"
    path.write_bytes(drawn("a red sports car"))
    objects = door.made("", image=path)

    [read] = door.ranked(door.kind(local_files=tmp_path, **seeing), QUERY, objects)
    emulator.clear()
    (tmp_path / "cars").mkdir()
    left = [
        *door.ranked(door.kind(**seeing), QUERY, objects),
        *door.ranked(door.kind(local_files=tmp_path / "cars", **seeing), QUERY, objects),
    ]

    assert read.score > 0.5
    assert [seen.score for seen in left] == [None, None]
    assert emulator.log == ()


def test_image_that_cannot_be_sent(door, seeing, tmp_path):
    """It fails no call: its object is ranked by its text, or comes last without a score."""
    gone = tmp_path / "gone.png"
    objects = door.made("", "a red sports car", image=gone) + door.made("green tea")

    ranked = door.ranked(door.kind(local_files=tmp_path, **seeing), QUERY, objects)

    assert [seen.text for seen in ranked] == ["a red sports car", "green tea", ""]
    assert ranked[-1].score is None


def _shouted(found):
    return "GREEN TEA" if "green tea" in repr(found) else "A RED CAR"


def _image_of(_found):
    return Image(path="/nowhere/gone.png")


def test_item(door, connection, emulator: Emulator):
    """item= is given the framework's object and says what is ranked, after a pickle too."""
    reranker = door.kind(item=_shouted, **connection)

    for each in (reranker, pickle.loads(pickle.dumps(reranker))):  # noqa: S301  our own pickle
        each.api_key = connection["api_key"]
        ranked = door(each, QUERY, ["green tea", "a red car"])

        assert {text for text, _ in ranked} == {"green tea", "a red car"}
        assert emulator.log[-1].body["input"]["documents"] == ["GREEN TEA", "A RED CAR"]


def test_item_sees_every_object_once(door, connection):
    """item= is given the caller's own objects, in their order."""
    seen, given = [], door.made("green tea", "a red car")

    def told(found):
        seen.append(found)
        return "a text"

    door.ranked(door.kind(item=told, **connection), QUERY, given)

    assert [id(each) for each in seen] == [id(getattr(each, "node", each)) for each in given]


def test_item_may_read_any_file(door, seeing, tmp_path):
    """An image by a path of the caller's own code is not bound to local_files."""
    (tmp_path / "car.png").write_bytes(drawn("a red sports car"))
    (tmp_path / "cars").mkdir()
    item = Image(path=tmp_path / "car.png")

    reranker = door.kind(local_files=tmp_path / "cars", item=lambda _: item, **seeing)

    [(_, score)] = door(reranker, QUERY, ["green tea"])
    assert score > 0.5


def test_given_to_the_core(door, connection, emulator: Emulator):
    """Who gives the framework's objects to the class without a framework is told of the other."""
    package = door.kind.__module__.partition(".")[0]

    with pytest.raises(RequestError, match="document 0 must be a str") as caught:
        Reranker(**connection).rerank(QUERY, door.made("a red car"))

    assert caught.value.hint == f"{package}.QwenRerank is for these."
    assert emulator.log == ()


def test_item_of_a_wrong_type(door, connection, emulator: Emulator):
    """That is the caller's mistake, named by its position whatever on_error says."""
    items = iter(["a text", None])
    reranker = door.kind(item=lambda _: next(items), on_error="passthrough", **connection)

    with pytest.raises(RequestError, match="document 1 must be a str") as caught:
        door(reranker, QUERY, ["green tea", "a red car"])

    assert caught.value.documents == (1,)
    assert emulator.log == ()


def test_item_that_raises(door, connection, emulator: Emulator):
    """The caller's own exception comes out as it is, whatever on_error says."""
    problem = LookupError("no title")

    def broken(_):
        raise problem

    with pytest.raises(LookupError) as caught:
        door(door.kind(item=broken, on_error="passthrough", **connection), QUERY, TEXTS)

    assert caught.value is problem
    assert emulator.log == ()


def test_item_that_raises_stop_iteration(door, connection, emulator: Emulator):
    """As next() does without a default: that is an error as well, and loses no object."""
    reranker = door.kind(item=lambda _: next(iter(())), on_error="passthrough", **connection)

    for call in (door.ranked, door.estimate):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            call(reranker, QUERY, door.made(*TEXTS))

    assert emulator.log == ()


def test_item_takes_time(door, connection, emulator: Emulator):
    """That is the call's: nothing is sent once its timeout is over."""

    def slow(_):
        time.sleep(0.3)
        return "a text"

    with pytest.raises(DeadlineError):
        door(door.kind(item=slow, timeout=0.2, **connection), QUERY, ["green tea"])

    assert emulator.log == ()


def test_item_that_never_ends(door, connection):
    """No other reranker waits for it, however many calls hang there."""
    begun, over = threading.Semaphore(0), threading.Event()

    def stuck(_):
        begun.release()
        over.wait(30)
        raise LookupError("over")

    many = _loop.engine().aside._max_workers
    with ThreadPoolExecutor(many) as callers:
        try:
            for _ in range(many):
                reranker = door.kind(item=stuck, **connection)
                callers.submit(door, reranker, QUERY, ["green tea"] * 501)
            assert all(begun.acquire(timeout=30) for _ in range(many))
            other = door.kind(top_n=1, timeout=5, **connection)
            assert len(door(other, QUERY, ["green tea", "a red car"])) == 1
        finally:
            over.set()


def test_a_long_list_where_a_cache_never_ends(door, connection):
    """What caches and files hold up of a reranker's calls holds up no others of it."""
    reranker, over = door.kind(timeout=5, **connection), threading.Event()
    threads = reranker._shared.open(reranker.max_concurrency).aside  # where these are waited for
    try:
        for _ in range(threads._max_workers):
            threads.submit(over.wait, 30)
        assert len(door(reranker, QUERY, ["green tea"] * 501)) == 3
    finally:
        over.set()


def test_item_that_cannot_be_sent(door, seeing):
    """What item= names is no mistake of the caller's either."""
    ranked = door(door.kind(item=_image_of, **seeing), QUERY, ["green tea"])

    assert ranked == [("green tea", None)]


def test_one_image_among_texts(door, connection, emulator: Emulator, caplog):
    """For a model of texts an image without text comes last with a warning; the texts are ranked.

    Both on the service and on a server of one's own, and whatever becomes of failures.
    """
    objects = door.made("a red sports car") + door.made("", image="car.png") + door.made("tea")
    vllm = {"server": "vllm", "base_url": emulator.server_url("vllm"), "model": SERVED}
    for options in (connection, connection | {"on_error": "passthrough"}, vllm):
        caplog.clear()
        reranker = door.kind(top_n=None, **door.media, **options)

        ranked = door.ranked(reranker, QUERY, objects)

        assert [seen.text for seen in ranked] == ["a red sports car", "tea", ""]
        assert [seen.score is None for seen in ranked] == [False, False, True]
        [warning] = [record.getMessage() for record in caplog.records]
        assert warning.startswith("Document 1 cannot be sent: it has no text, and ")
        assert door.estimate(reranker, QUERY, objects).requests == 1


def test_a_text_of_base64(door, connection, caplog):
    """A document whose text is an image in base64 is ranked as text, and a warning names it."""
    encoded = base64.b64encode(drawn("a red sports car") * 9).decode()
    texts = ["green tea", encoded, f"data:image/png;base64,{encoded}"]

    ranked = door(door.kind(**connection), QUERY, texts)

    assert all(score is not None for _, score in ranked)
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith("Documents 1 and 2: the text is mostly base64")
    assert encoded[:20] not in warning


# estimate


def test_estimate(door, connection, emulator: Emulator):
    """estimate() takes what a rerank takes, tells what the core would, and sends nothing."""
    expected = Reranker(**connection).estimate(QUERY, TEXTS)

    assert door.estimate(door.kind(**connection), QUERY, door.made(*TEXTS)) == expected
    assert expected.requests == 1
    assert emulator.log == ()


def test_estimate_of_what_cannot_be_sent(door, seeing, tmp_path):
    """It is refused nowhere where the call would not be."""
    objects = door.made("a red sports car", image=tmp_path / "gone.png")

    assert door.estimate(door.kind(**seeing), QUERY, objects).requests == 1


def test_a_long_list_does_not_hold_up_the_loop(doors, connection):
    """However many objects there are, little of what is done with each is done in the loop."""

    def steps(door, count):
        texts = [f"{number} is about a red car" for number in range(count)]
        reranker, objects = door.kind(top_n=None, **connection), door.made(*texts)
        seen = 0

        def see(*_):
            nonlocal seen
            seen += 1

        sys.setprofile(see)  # of this thread, where the loop runs
        try:
            ranked = door.rank(reranker, QUERY, objects, native=True)
        finally:
            sys.setprofile(None)
        assert len(ranked) == count
        return seen

    for door in filter(lambda each: each.native, doors.values()):
        steps(door, 1_000)  # imports what a call needs
        assert steps(door, 2_000) - steps(door, 1_000) < 500, door.kind
