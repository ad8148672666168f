"""Metadata fields in the text that is ranked."""

import copy
import pickle

import pytest
from langchain_core.documents import Document

from langchain_qwen_rerank import QwenRerank, WithMetadata
from qwen_rerank.emulator import Emulator

METADATA = {"title": "On Tea", "year": 1211, "tags": ["tea", "health"], "id": 7}
TEA = Document("Tea is good.", metadata=METADATA)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["year", "title"], "year: 1211\ntitle: On Tea\n\nTea is good."),
        (["author", "title", "editor"], "title: On Tea\n\nTea is good."),
        (["author"], "Tea is good."),
    ],
    ids=str,
)
def test_lines(keys, said):
    """One line for each named field that is there, in the order they were named."""
    assert WithMetadata(*keys)(TEA) == said


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("two\nlines\t and  more", "key: two lines and more\n\n"),
        (0, "key: 0\n\n"),
        (("a", "b"), "key: a, b\n\n"),
        pytest.param({"b", None, "a", 0, " c"}, "key: 0, a, b, c\n\n", id="set"),
        pytest.param(frozenset([None]), "", id="empty set"),
        (["a", None, " ", "b", ["c", 0]], "key: a, b, c, 0\n\n"),
        (None, ""),
        (" \n", ""),
        ([None, [" "]], ""),
    ],
    ids=repr,
)
def test_values(value, line):
    """A value takes one line, whatever it is; what says nothing is left out with its line."""
    document = Document("Text.", metadata={"key": value})

    assert WithMetadata("key")(document) == f"{line}Text."


@pytest.mark.parametrize("keys", [(), ("",), ("title", None), (["title", "year"],), (3,)], ids=repr)
def test_wrong_keys(keys):
    """Without a key it would do nothing, and a list of keys is a slip."""
    with pytest.raises(ValueError, match="names of metadata fields"):
        WithMetadata(*keys)


def test_value():
    """Two with the same keys in the same order are equal, hash alike, pickle and copy."""
    item = WithMetadata("title", "year")

    assert item == WithMetadata("title", "year") != WithMetadata("year", "title")
    assert hash(item) == hash(WithMetadata("title", "year"))
    assert pickle.loads(pickle.dumps(item)) == item  # noqa: S301  our own bytes
    assert copy.copy(item) == copy.deepcopy(item) == item
    assert (item.keys, repr(item)) == (("title", "year"), "WithMetadata(keys=('title', 'year'))")
    with pytest.raises(AttributeError):
        item.keys = ("id",)


def test_as_item(connection, emulator: Emulator):
    """It is what the service reads; the documents that come back are as they were, with a score."""
    reranker = QwenRerank(item=WithMetadata("title"), **connection)
    coffee = Document("It is good.", metadata={"title": "On Coffee"})

    ranked = reranker.compress_documents([TEA, coffee], "coffee")

    assert emulator.log[0].body["input"]["documents"] == [
        "title: On Tea\n\nTea is good.",
        "title: On Coffee\n\nIt is good.",
    ]
    assert [each.page_content for each in ranked] == ["It is good.", "Tea is good."]
    score = ranked[0].metadata["relevance_score"]
    assert ranked[0].metadata == {"title": "On Coffee", "relevance_score": score}


def test_a_title_alone(connection, emulator: Emulator):
    """A document whose content is blank is ranked by its fields, and without them comes last."""
    reranker = QwenRerank(item=WithMetadata("title"), **connection)
    blank = [Document(""), Document("", metadata={"title": "On Tea"})]

    ranked = reranker.compress_documents(blank, "tea")

    assert emulator.log[0].documents == 1
    assert [each.metadata.get("title") for each in ranked] == ["On Tea", None]
    assert "relevance_score" not in ranked[1].metadata
