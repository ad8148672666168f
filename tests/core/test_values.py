import copy
import dataclasses
import gc
import pickle

import pytest

from qwen_rerank import Hit, Ranking, Usage, errors
from qwen_rerank._values import whole

_HITS = (Hit(1, 0.9, "b"), Hit(0, 0.5, "a"), Hit(2, None, " "))


@pytest.fixture(name="ranking")
def _ranking():
    return Ranking(_HITS, "m", Usage(2, 30), ("r1", "r2"))


def test_ranking_is_a_sequence(ranking):
    """A ranking is used like a list of hits."""
    assert list(ranking) == [ranking[0], *ranking[1:]] == list(_HITS)
    assert ranking.index(_HITS[1]) == 1
    assert list(reversed(_HITS)) == list(reversed(ranking))
    assert len(ranking) == 3
    assert not Ranking((), "m")


@pytest.mark.parametrize("value", [_HITS[0], Usage(), Ranking(_HITS, "m")])
def test_frozen(value):
    """Results cannot be changed by accident, and can be compared and kept in a set."""
    name = dataclasses.fields(value)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert len({value, copy.deepcopy(value)}) == 1


def test_reprs_are_short(ranking):
    """Printing a ranking of long documents stays readable, and no document writes to a terminal."""
    long = Hit(0, 0.25, "\x1b[2J" + "x" * 10_000)

    assert len(repr(long)) <= 100
    assert repr(long).startswith(r"Hit(index=0, score=0.25, document='\x1b[2Jxxx")
    assert "\u2026" in repr(long)
    assert len(repr(Hit(0, 0.25, {"text": "x" * 10_000}))) < 100
    assert repr(_HITS[0]) == "Hit(index=1, score=0.9, document='b')"
    assert "], 1 hit, " in repr(Ranking(_HITS[:1], "m"))
    assert "3 hits, model='m', Usage(requests=2, tokens=30, cache_hits=0)" in repr(ranking)
    assert "...], 9 hits" in repr(Ranking(_HITS * 3, "m"))
    assert "...]" not in repr(ranking)
    degraded = Ranking(_HITS, "m", degraded=errors.ServiceError("down"))
    assert "degraded=ServiceError('down'" in repr(degraded)
    assert "degraded" not in repr(ranking)
    assert repr(Hit(0, 0.5, "a", None, "image")).endswith("kind='image')")


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own pickle


@pytest.mark.parametrize("twin", [copy.deepcopy, _pickled])
def test_rankings_travel(ranking, twin):
    """A ranking can be copied, pickled and compared, and an error in it goes along."""
    assert ranking == twin(ranking)
    degraded = Ranking((), "m", degraded=errors.ServiceError("down", status=503))

    assert twin(degraded).degraded.status == 503


def test_places_of_whole_documents():
    """Where documents stand is made once for all lists, and Python's collector lets go of it."""
    places = whole(2_000)

    assert places[1_234:1_236] == (((1_234, None),), ((1_235, None),))
    assert whole(1_500) is places
    assert len(whole(10_001)) == 10_001
    for _ in range(2):  # first what is inside, then what is around it
        gc.collect()
    assert not any(map(gc.is_tracked, places))
