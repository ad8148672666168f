"""What every door owes its users, sync and async alike."""

import asyncio
import contextlib
import copy
import pickle
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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


def test_ranks_as_the_core_does(door, connection, caplog):
    """A door adds nothing to the ranking: order and scores are the core's, a blank's too.

    Nobody is warned of that one. Without top_n three are kept.
    """
    ranking = Reranker(**connection).rerank(QUERY, TEXTS)
    whole = [(hit.document, hit.score) for hit in ranking]

    assert door(door.kind(top_n=None, **connection), QUERY, TEXTS) == whole
    assert door(door.kind(**connection), QUERY, TEXTS) == whole[:3]
    assert door(door.kind(score_threshold=whole[1][1], **connection), QUERY, TEXTS) == whole[:2]
    assert whole[-1] == ("", None)
    assert caplog.messages == []


def test_nothing_to_rank(door, connection, emulator):
    """An empty list is an empty ranking, without a call; a blank query is wrong even then."""
    reranker = door.kind(**connection)

    assert door(reranker, QUERY, []) == []
    for texts in (TEXTS, []):
        with pytest.raises(RequestError, match="query is blank"):
            door(reranker, " \n", texts)

    assert emulator.log == ()


def test_options_for_one_call(door, connection, emulator):
    """with_options gives one that differs for a call; the object itself stays as it is."""
    reranker = door.kind(**connection)
    whole = door(reranker.with_options(top_n=None), QUERY, TEXTS)

    chosen = {"top_n": 1, "model": "qwen3.7-text-rerank", "instruct": "Match."}
    assert door(reranker.with_options(**chosen), QUERY, TEXTS) == whole[:1]
    with pytest.raises(AuthenticationError):
        door(reranker.with_options(dashscope_api_key="sk-of-a-tenant-0123456789"), QUERY, TEXTS)
    assert door(reranker, QUERY, TEXTS) == whole[:3]

    asked = [(seen.body["model"], seen.body["parameters"]) for seen in emulator.log]
    own = ("qwen3-rerank", {})
    assert asked == [own, ("qwen3.7-text-rerank", {"instruct": "Match."}), own, own]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_n": 0}, r"^top_n"),
        ({"top_n": True}, r"^top_n"),
        ({"topn": 3}, r"QwenRerank has no option 'topn'; did you mean 'top_n'\?"),
    ],
    ids=str,
)
def test_wrong_options(door, connection, options, said):
    """A wrong option is refused, for one call too, and a misspelt one with a guess at it."""
    for refuses in (partial(door.kind, **connection), door.kind(**connection).with_options):
        with pytest.raises(ValueError, match=said):
            refuses(**options)


def test_no_key(door):
    """Without a key for Alibaba Cloud there is no object, and the way out is named."""
    with pytest.raises(ValueError, match=r"DASHSCOPE_API_KEY.*emulator"):
        door.kind()


def _shouted(found):
    return "GREEN TEA" if "green tea" in repr(found) else "A RED CAR"


def test_copies_and_pickles(door, emulator: Emulator, monkeypatch):
    """A copy has the host and key that were found when it was made, whatever is named by now.

    A pickle holds no key, finds one when it is called, and keeps ``item``, but no rate limiter.
    """
    limiter = door.limiter(lambda: True)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    made = door.kind(item=_shouted, rate_limiter=limiter)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:9/api/v1")
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-of-another")
    copies = [twin(made) for twin in (copy.copy, copy.deepcopy, door.kind.model_copy)]
    stored = pickle.dumps(made.model_copy(update={"base_url": emulator.base_url}))

    for each in copies:
        assert len(door(each, QUERY, TEXTS)) == 3
        assert each.rate_limiter is limiter
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    again = pickle.loads(stored)  # noqa: S301  our own pickle
    assert again.rate_limiter is None
    assert len(door(again, QUERY, ["green tea", "a red car"])) == 2
    assert emulator.log[-1].body["input"]["documents"] == ["GREEN TEA", "A RED CAR"]


# The objects that come back


def test_objects_come_back(door, connection):
    """An object keeps its class, id and metadata, and those that were given are left alone."""
    given = door.made(*TEXTS)
    before = copy.deepcopy(given)

    ranked = door.ranked(door.kind(top_n=None, **connection), QUERY, given)

    assert given == before
    known = {seen.text: seen._replace(score=None) for seen in map(door.see, given)}
    assert [seen._replace(score=None) for seen in ranked] == [known[seen.text] for seen in ranked]


def test_passed_through(door, connection, emulator: Emulator):
    """Without a ranking the first top_n come back as they were, with no score of ours."""
    emulator.script(Reply.error(503, "ModelUnavailable"))
    reranker = door.kind(on_error="passthrough", max_retries=0, top_n=2, **connection)
    given = door.made(*TEXTS)

    ranked = door.ranked(reranker, QUERY, given)

    assert ranked == [door.see(each)._replace(score=door.passed) for each in given[:2]]


def test_no_object(door, connection, emulator: Emulator):
    """What is no object of the framework is named by its position; nothing is sent."""
    reranker = door.kind(**connection)
    objects = [*door.made("a"), 7]

    for call in (door.ranked, door.estimate):
        with pytest.raises(RequestError, match=r"1 must be a.*, not int"):
            call(reranker, QUERY, objects)

    assert emulator.log == ()


def test_given_to_the_core(door, connection, emulator: Emulator):
    """Who gives the framework's objects to the class without a framework is told of the other."""
    package = door.kind.__module__.partition(".")[0]

    with pytest.raises(RequestError, match="document 0 must be a str") as caught:
        Reranker(**connection).rerank(QUERY, door.made("a red car"))

    assert caught.value.hint == f"{package}.QwenRerank is for these."
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
    reranker = door.kind(local_files=tmp_path, **seeing)
    gone = tmp_path / "gone.png"
    objects = door.made("", "a red sports car", image=gone) + door.made("green tea")

    ranked = door.ranked(reranker, QUERY, objects)

    assert [seen.text for seen in ranked] == ["a red sports car", "green tea", ""]
    assert ranked[-1].score is None
    assert door.estimate(reranker, QUERY, objects).requests == 1


def test_item(door, connection, emulator: Emulator):
    """item= is given the caller's own objects, each once, and says what is ranked."""
    seen, given = [], door.made("green tea", "a red car")

    def told(found):
        seen.append(found)
        return _shouted(found)

    ranked = door.ranked(door.kind(item=told, **connection), QUERY, given)

    assert [id(each) for each in seen] == [id(getattr(each, "node", each)) for each in given]
    assert [each.text for each in ranked] == ["a red car", "green tea"]
    assert emulator.log[0].body["input"]["documents"] == ["GREEN TEA", "A RED CAR"]


def test_no_thread_for_a_short_list(door, connection):
    """It is made ready where the call is, also of an awaited call, which blocks nobody."""
    threads = set()

    def told(_):
        threads.add(threading.get_ident())
        return "a text"

    door(door.kind(item=told, **connection), QUERY, ["green tea"])

    assert threads == {threading.get_ident()}


def test_item_may_read_any_file(door, seeing, tmp_path):
    """An image by a path of the caller's own code is not bound to local_files.

    One that cannot be sent is no mistake, as the object was found.
    """
    (tmp_path / "car.png").write_bytes(drawn("a red sports car"))
    (tmp_path / "cars").mkdir()
    images = iter([Image(path=tmp_path / "car.png"), Image(path=tmp_path / "gone.png")])

    reranker = door.kind(local_files=tmp_path / "cars", item=lambda _: next(images), **seeing)

    [(_, score), last] = door(reranker, QUERY, ["green tea", "a cup"])
    assert score > 0.5
    assert last == ("a cup", None)


@pytest.mark.parametrize(
    ("item", "error", "said"),
    [
        (lambda found: None if "car" in repr(found) else "", RequestError, "document 1 must be"),
        (lambda _: {}["title"], KeyError, "title"),
        (lambda _: next(iter(())), RuntimeError, "raised StopIteration"),
    ],
    ids=["no text", "raises", "raises StopIteration"],
)
def test_item_that_fails(door, connection, emulator: Emulator, item, error, said):
    """That is the caller's mistake, which comes out whatever on_error says; nothing is sent."""
    reranker = door.kind(item=item, on_error="passthrough", **connection)

    for call in (door.ranked, door.estimate):
        with pytest.raises(error, match=said):
            call(reranker, QUERY, door.made("green tea", "a red car"))

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


def test_one_image_among_texts(door, connection, caplog):
    """For a model of texts an image without text comes last, with a warning; texts are ranked."""
    objects = door.made("a red sports car") + door.made("", image="car.png") + door.made("tea")
    reranker = door.kind(top_n=None, **door.media, **connection)

    ranked = door.ranked(reranker, QUERY, objects)

    assert [seen.text for seen in ranked] == ["a red sports car", "tea", ""]
    assert [seen.score is None for seen in ranked] == [False, False, True]
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith("Document 1 cannot be sent: it has no text, and ")
    assert door.estimate(reranker, QUERY, objects).requests == 1


# estimate


def test_estimate(door, connection, emulator: Emulator):
    """estimate() takes what a rerank takes, tells what the core would, and sends nothing."""
    expected = Reranker(**connection).estimate(QUERY, TEXTS)

    assert door.estimate(door.kind(**connection), QUERY, door.made(*TEXTS)) == expected
    assert expected.requests == 1
    assert emulator.log == ()


# Long lists


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


# Rate limiters


def test_a_permission_for_every_request(door, connection, emulator: Emulator):
    """Each request of a call asks for one, and each repetition; what the cache knows asks for none.

    The limiter is asked no more often than that.
    """
    asked = []
    limiter = door.limiter(lambda: asked.append(1) or True)
    reranker = door.kind(rate_limiter=limiter, max_documents_per_request=1, cache={}, **connection)
    emulator.script(Reply.error(503, "ServiceUnavailable", headers={"retry-after-ms": "1"}))

    for _ in range(2):
        assert len(door(reranker, QUERY, ["tea", "a car", "a hill"])) == 3

    assert len(asked) == len(emulator.log) == 4


def test_never_permitted(door, connection, emulator: Emulator):
    """Whoever is not permitted in time fails in time, sends nothing, and keeps no turn."""
    permitted, texts = threading.Event(), ["green tea", "a red car"]
    limiter = door.limiter(permitted.is_set)
    reranker = door.kind(rate_limiter=limiter, max_concurrency=1, **connection)
    permitted.set()
    door(reranker, QUERY, texts)  # the first count of tokens takes longer than the time below

    permitted.clear()
    reranker.timeout = 0.5
    with pytest.raises(DeadlineError) as failure:
        door(reranker, QUERY, texts)

    permitted.set()
    assert failure.value.documents == (0, 1)
    reranker.timeout = 30
    assert len(door(reranker, QUERY, texts)) == len(emulator.log) == 2


@pytest.mark.parametrize("error", [LookupError("it is down"), TimeoutError("it is slow")], ids=repr)
def test_the_limiters_own_error(door, connection, emulator: Emulator, error):
    """What the limiter raises reaches the caller as it is, whatever on_error says."""

    def fail():
        raise error

    limiter = door.limiter(fail)
    reranker = door.kind(rate_limiter=limiter, on_error="passthrough", **connection)

    with pytest.raises(type(error)) as failure:
        door(reranker, QUERY, TEXTS)

    assert failure.value is error  # a TimeoutError of the limiter is not that of the call
    assert emulator.log == ()


@pytest.mark.parametrize("limiter", ["120/min", object()], ids=["text", "object"])
def test_no_limiter(door, connection, limiter):
    """What cannot be asked is refused when it is given."""
    with pytest.raises(ValueError, match=r"^rate_limiter: "):
        door.kind(rate_limiter=limiter, **connection)


# Subclasses


def _shorter(kind, sync):
    """A method like *sync* of *kind* that leaves the first object out."""

    def method(self, objects, *given, **named):
        return getattr(kind, sync)(self, objects[1:], *given, **named)

    return method


def _awaiting(kind, options):
    """The same by the way that is awaited, with options or of the object itself."""
    awaited = next(iter(kind._pairs.values()))

    def method(self, objects, *given, **named):
        assert objects  # or it would go on for ever
        reranker = self.with_options(**options) if options else self
        return asyncio.run(getattr(reranker, awaited)(objects[1:], *given, **named))

    return method


def test_what_a_subclass_overrides(door, connection):
    """It holds for awaited calls too, and once: a sync method of its own, of a mixin's too.

    Also if that goes by the way that is awaited, of itself or with options of one call.
    """
    for sync in door.kind._pairs:
        shorter = {sync: _shorter(door.kind, sync)}
        mixin = type("Mixin", (), shorter)
        for kind in (
            type("Own", (door.kind,), shorter),
            type("Mixed", (mixin, door.kind), {}),
            type("Awaiting", (door.kind,), {sync: _awaiting(door.kind, {})}),
            type("Optional", (door.kind,), {sync: _awaiting(door.kind, {"top_n": 99})}),
        ):
            ranked = door(kind(top_n=None, **connection), QUERY, ["a hill", "tea", "a car"])

            assert {text for text, _ in ranked} == {"tea", "a car"}, (kind, sync)


def test_a_subclass_that_overrides_both_ways(door, connection):
    """Each way is its own then; what a class below overrides by the sync one alone is in both."""
    for sync, awaited in door.kind._pairs.items():

        async def most(self, objects, *given, _name=awaited, **named):
            return await getattr(door.kind, _name)(self, objects[:3], *given, **named)

        both = type("Both", (door.kind,), {sync: _shorter(door.kind, sync), awaited: most})
        later = type("Later", (both,), {sync: _shorter(both, sync)})
        texts = ["a hill", "tea", "a car", "a red car"]

        ranked = {text for text, _ in door(both(**connection), QUERY, texts)}
        assert ranked == (set(texts[:3]) if door.native else set(texts[1:])), sync
        twice = {text for text, _ in door(later(**connection), QUERY, texts)}
        assert {"a car"} <= twice <= set(texts[2:]), sync
