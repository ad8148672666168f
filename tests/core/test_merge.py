import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank._merge import merge, passed_through
from qwen_rerank._values import Item, Job, Place, Prepared, Usage
from qwen_rerank.errors import RerankError

_PREPARED = Prepared(Item("q", 1), Item("", 0), ())
_SCORE = st.one_of(st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.floats(-2, 2))


@st.composite
def _calls(draw):
    """Documents that are scored, equal to another or never asked about; scores in any order."""
    asked = draw(st.lists(st.integers(-1, 5), max_size=12))  # -1: never
    items = [
        _item(f"t{name}", *(i for i, each in enumerate(asked) if each == name))
        for name in sorted({*asked} - {-1})
    ]
    scored = [(item, draw(_SCORE)) for item in items]
    return [f"t{name}" for name in asked], draw(st.permutations(scored))


def _job(documents, **options):
    return Job("m", "q", tuple(documents), **options)


def _item(text, *positions, window=None):
    return Item(text, 1, tuple(Place(position, window) for position in positions))


def _ranking(job, scored):
    """The ranking of *job* from scores of items; of the rest of a call nothing is told."""
    return merge(job, _PREPARED, scored, Usage(), ())


def _indices(ranking):
    return [hit.index for hit in ranking]


@given(_calls())
def test_sorted(call):
    """Scores never rise, equal ones keep the input's order, and the unscored come last.

    Without top_n and threshold every document comes back once, as it was given, with the score of
    its text, from whichever request, or from the cache, a score came first.
    """
    documents, scored = call

    ranking = _ranking(_job(documents), scored)

    assert list(range(len(documents))) == sorted(_indices(ranking))
    assert all(hit.document is documents[hit.index] for hit in ranking)
    keys = [(hit.score is None, -(hit.score or 0.0), hit.index) for hit in ranking]
    assert sorted(keys) == keys
    known = {item.text: score for item, score in scored}
    assert all(hit.score == known.get(hit.document) for hit in ranking)


@pytest.mark.parametrize(
    ("threshold", "kept"), [(None, [0, 1, 2]), (0.0, [0, 1]), (0.5, [0]), (0.50001, [])]
)
def test_threshold(threshold, kept):
    """0.0 is a real threshold, equality is enough, what has no score reaches none; top_n cuts."""
    scored = [(_item(str(at), at), score) for at, score in enumerate((0.5, 0.0, -0.5))]

    ranking = _ranking(_job("abcd", score_threshold=threshold, top_n=3), scored)

    assert _indices(ranking) == kept


def test_facts():
    """Usage, ids and what was cut are handed on, also of documents that are left out."""
    told = {"query_truncated": True, "unsendable": ((2, "it is a song"),)}
    prepared = Prepared(Item("q", 1), Item("", 0), (), (1,), **told)

    ranking = merge(
        _job("abc", top_n=1), prepared, [(_item("a", 0), 0.1)], Usage(3, 15, 2), ("r1", "r3")
    )

    assert ranking.model == "m"
    assert Usage(3, 15, 2) == ranking.usage
    assert ranking.request_ids == ("r1", "r3")
    assert ranking.truncated == (1,)
    assert ranking.query_truncated
    assert ranking.unsendable == ((2, "it is a song"),)
    assert ranking.degraded is None


@given(st.permutations([(0, 0.2), (10, 0.9), (20, 0.9), (30, 0.1)]))
def test_a_document_is_as_good_as_its_best_window(windows):
    """Of overlapping windows the best counts, of equal ones the first, whatever comes in first."""
    scored = [
        (_item(f"w{start}", 1, window=(start, start + 15)), score) for start, score in windows
    ]

    ranking = _ranking(_job("ab"), [*scored, (_item("a", 0), 0.5)])

    assert [(hit.index, hit.score, hit.window) for hit in ranking] == [
        (1, 0.9, (10, 25)),
        (0, 0.5, None),
    ]


def test_of_equal_parts_the_first_window_or_the_text():
    """A text is named before the image beside it that scores alike, whichever comes in first."""
    image = Item("https://h/a.png", 1, (Place(0),), kind="image")
    for text in (_item("a", 0), _item("a", 0, window=(0, 5))):
        for scored in ([(text, 0.5), (image, 0.5)], [(image, 0.5), (text, 0.5)]):
            [hit] = _ranking(_job("a"), scored)

            assert hit.kind == "text"


def test_passed_through():
    """Without a ranking there is the head of the list, unscored, with all that is known of it."""
    failure = RerankError("no")

    ranking = passed_through(_job("abc", top_n=2), failure, Usage(1), ("r1",), ((0, "a song"),))

    assert [(hit.index, hit.score, hit.document) for hit in ranking] == [
        (0, None, "a"),
        (1, None, "b"),
    ]
    assert (ranking.model, ranking.usage, ranking.request_ids) == ("m", Usage(1), ("r1",))
    assert (ranking.unsendable, ranking.degraded) == (((0, "a song"),), failure)
