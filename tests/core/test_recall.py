import json
import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank._models import limits_for
from qwen_rerank._recall import recall, remember
from qwen_rerank._values import Item, Job, Place, Prepared

_JOB = Job("model", "query", ("a", "b", "c"))


def _prepared(*texts, query="query", instruct=""):
    items = (Item(text, 1, (Place(at),)) for at, text in enumerate(texts))
    return Prepared(Item(query, 1), Item(instruct, 0), tuple(items))


def _with(item):
    return replace(_prepared(), items=(item,))


def _scored(prepared, *scores):
    return list(zip(prepared.items, scores, strict=True))


@given(st.lists(st.text(), unique=True, max_size=5), st.data())
def test_known_and_unknown_are_all(texts, data):
    """A known score is not asked for again; the rest is, and nothing is lost, in order."""
    prepared, cache = _prepared(*texts), {}
    kept = data.draw(st.lists(st.sampled_from(prepared.items), unique=True)) if texts else []
    remember(_JOB, prepared, [(item, 0.25) for item in kept], "here", cache)

    known, unknown = recall(_JOB, prepared, "here", cache)

    assert known == tuple((item, 0.25) for item in prepared.items if item in kept)
    assert unknown.items == tuple(item for item in prepared.items if item not in kept)


_URL = "https://x.example/red.png"
_IMAGE, _VIDEO = Item(_URL, 1, kind="image"), Item(_URL, 1, kind="video")
_QUESTIONS = {
    "a query and a text": (_JOB, _prepared("a"), "here"),
    "another model": (_JOB._replace(model="other"), _prepared("a"), "here"),
    "another place": (_JOB, _prepared("a"), "there"),
    "another query": (_JOB, _prepared("a", query="squery"), "here"),
    "an instruct": (_JOB, _prepared("a", instruct="rules"), "here"),
    "a letter of it in the query": (_JOB, _prepared("a", query="squery", instruct="rule"), "here"),
    "more fields in the body": (_JOB._replace(extra={"a": 1}), _prepared("a"), "here"),
    "an address": (_JOB, _prepared(_URL), "here"),
    "the image there": (_JOB, _with(_IMAGE), "here"),
    "it beside a text": (_JOB, _with(_IMAGE._replace(beside="red")), "here"),
    "it beside another text": (_JOB, _with(_IMAGE._replace(beside="blue")), "here"),
    "the video there": (_JOB, _with(_VIDEO), "here"),
    "fewer of its frames": (_JOB._replace(fps=0.5), _with(_VIDEO), "here"),
    "the address as the query": (_JOB, _prepared("a", query=_URL), "here"),
    "the image as the query": (_JOB, replace(_prepared("a"), query=_IMAGE), "here"),
}


def test_a_score_is_for_its_own_question():
    """Whatever is asked in another way is asked anew, and nothing else is."""
    cache = {}

    for said, (job, prepared, place) in _QUESTIONS.items():
        assert recall(job, prepared, place, cache)[0] == (), said
        scored = tuple(_scored(prepared, 0.5))
        remember(job, prepared, scored, place, cache)
        assert recall(job, prepared, place, cache)[0] == scored
    fewer_of_an_image = _JOB._replace(fps=0.5), _with(_IMAGE), "here"
    assert recall(*fewer_of_an_image, cache)[1].items == ()


def test_keys_hold_no_text():
    """A cache that others can read tells them nothing of what was asked."""
    cache = {}
    remember(_JOB, _prepared("secret"), _scored(_prepared("secret"), 0.5), "here", cache)

    (key,) = cache
    assert len(key) == 40
    assert "secret" not in key


class _Odd(float):
    """A number that is none when it is asked."""

    def __float__(self):
        raise RecursionError


_ODD = {
    "none": None,
    "true": True,
    "of several lines": "0.5\n",
    "grouped": "1_0e-2",
    "of other digits": "\u0660",
    "too large, in digits": "1e999",
    "broken bytes": b"\xff",
    "no number": math.nan,
    "a number that fails": _Odd(0.5),
}


@pytest.mark.parametrize("odd", _ODD.values(), ids=_ODD)
def test_what_is_no_score_is_asked_again(odd, caplog):
    """What is no finite number, whatever it does instead, costs money; that is said once a call."""
    prepared = _prepared("a", "b")
    cache = _Answers(odd)

    assert recall(_JOB, prepared, "here", cache) == ((), prepared)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"({type(odd).__name__})" in record.getMessage()


@pytest.mark.parametrize("kept", [-0.001, "1.5"])
def test_what_the_model_never_gives_is_asked_again(kept, caplog):
    """DashScope's scores are 0.0 to 1.0, so another number is not one of them."""
    prepared = _prepared("a")
    between = limits_for("qwen3-rerank").scores

    assert recall(_JOB, prepared, "here", _Answers(kept), between) == ((), prepared)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert recall(_JOB, prepared, "here", _Answers(kept))[1].items == ()  # of any other model


@pytest.mark.parametrize("model", ["qwen3-rerank", "any"])
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3))
def test_what_is_kept_is_known(model, scores):
    """A score that would not be taken again is not kept; what is kept comes back as it was."""
    prepared, cache = _prepared(*map(str, range(len(scores)))), {}
    between = limits_for(model).scores
    remember(_JOB, prepared, _scored(prepared, *scores), "here", cache, between)

    known, unknown = recall(_JOB, prepared, "here", cache, between)

    fit = [score for score in scores if model == "any" or 0.0 <= score <= 1.0]
    assert [score for _, score in known] == fit
    assert len(cache) == len(fit) == len(scores) - len(unknown.items)


@pytest.mark.parametrize("form", [repr, lambda it: repr(it).encode(), json.dumps, Decimal])
@given(st.floats(0, 1))
def test_a_score_may_come_back_as_text(form, score):
    """Redis gives back bytes, other stores text or decimals: the score is known all the same."""
    ((_, again),), _ = recall(_JOB, _prepared("a"), "here", _Answers(form(score)))

    assert again == score


@pytest.mark.parametrize("kept", [1, bytearray(b"1.0"), "1.00000000000000000e+00"])
def test_other_forms_of_a_score(kept, caplog):
    """JSON may have made 1 of 1.0, or more digits; the score is a float again."""
    ((_, score),), _ = recall(_JOB, _prepared("a"), "here", _Answers(kept))

    assert (type(score), score) == (float, 1.0)
    assert caplog.records == []


class _Answers(dict):
    """A cache that gives back one thing for every key."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def __getitem__(self, key):
        return self.value


def test_a_cache_that_breaks_half_way():
    """What was read before the cache broke is used, and the rest is asked for."""

    class Tired(dict):
        asked = 0

        def __getitem__(self, key):
            self.asked += 1
            if self.asked > 1:
                raise OSError("disk on fire")
            return super().__getitem__(key)

    prepared, cache = _prepared("a", "b"), Tired()
    remember(_JOB, prepared, _scored(prepared, 0.1, 0.2), "here", cache)

    known, unknown = recall(_JOB, prepared, "here", cache)

    assert known == ((prepared.items[0], 0.1),)
    assert unknown.items == prepared.items[1:]


class Shelf(dict):
    """A cache with ``[]`` and an ``mget`` of another kind, as redis-py's client."""

    def mget(self, *keys):
        raise AssertionError(keys)

    def mset(self, mapping):
        raise AssertionError(mapping)


def test_brackets_come_first():
    """A client that has both is used by ``[]``, whatever its ``mget`` takes."""
    prepared, cache = _prepared("a"), Shelf()
    remember(_JOB, prepared, _scored(prepared, 0.5), "here", cache)

    assert recall(_JOB, prepared, "here", cache)[0] == ((prepared.items[0], 0.5),)


class Odd:
    """A store whose ``mget`` answers with *found*."""

    def __init__(self, found):
        self.found = found
        self.calls = 0

    def mget(self, _keys):
        self.calls += 1
        return self.found

    def mset(self, _pairs):
        raise OSError("disk full")


def test_a_store_that_leaves_keys_out_knows_nothing(caplog):
    """Nobody could tell which keys the rest belongs to, so all scores are asked for."""
    prepared = _prepared("a", "b")

    assert recall(_JOB, prepared, "here", Odd([b"0.5"])) == ((), prepared)
    assert "failed to read" in caplog.text


def test_a_store_is_asked_once(caplog):
    """One ``mget`` for all keys and none for no keys; a failed ``mset`` costs a warning."""
    prepared, store = _prepared("a", "b"), Odd([None, b"0.5"])

    known, unknown = recall(_JOB, prepared, "here", store)
    recall(_JOB, _prepared(), "here", store)
    remember(_JOB, prepared, (), "here", store)

    assert (known, unknown.items) == (((prepared.items[1], 0.5),), prepared.items[:1])
    assert (store.calls, caplog.records) == (1, [])
    remember(_JOB, prepared, _scored(prepared, 0.1, 0.2), "here", store)
    assert "failed to write" in caplog.text
