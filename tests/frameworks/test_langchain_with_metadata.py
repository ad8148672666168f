"""Metadata fields in the text that is ranked."""

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
        (["b", None, " ", "a", ("c", 0)], "key: b, a, c, 0\n\n"),
        pytest.param({"b", None, "a", 0, " c"}, "key: 0, a, b, c\n\n", id="set"),
        (None, ""),
        ([None, [" "]], ""),
    ],
    ids=repr,
)
def test_values(value, line):
    """A value takes one line, whatever it is; what says nothing is left out with its line."""
    document = Document("Text.", metadata={"key": value})

    assert WithMetadata("key")(document) == f"{line}Text."


@pytest.mark.parametrize("keys", [(), ("",), (["title", "year"],)], ids=repr)
def test_wrong_keys(keys):
    """Without a key it would do nothing, and a list of keys is a slip."""
    with pytest.raises(ValueError, match="names of metadata fields"):
        WithMetadata(*keys)


def test_value():
    """Two with the same keys in the same order are equal, hash alike, and pickle; it is frozen."""
    item = WithMetadata("title", "year")

    assert pickle.loads(pickle.dumps(item)) == item != WithMetadata("year", "title")  # noqa: S301
    assert hash(item) == hash(WithMetadata("title", "year"))
    with pytest.raises(AttributeError):
        item.keys = ("id",)


def test_as_item(connection, emulator: Emulator):
    """It is what the service reads; the documents that come back are as they were, with a score.

    Without a field and a text of its own a document comes last.
    """
    reranker = QwenRerank(item=WithMetadata("title"), **connection)
    coffee = Document("", metadata={"title": "On Coffee"})

    ranked = reranker.compress_documents([Document(""), TEA, coffee], "coffee")

    assert emulator.log[0].body["input"]["documents"] == [
        "title: On Tea\n\nTea is good.",
        "title: On Coffee\n\n",
    ]
    assert [each.page_content for each in ranked] == ["", "Tea is good.", ""]
    score = ranked[0].metadata["relevance_score"]
    assert ranked[0].metadata == {"title": "On Coffee", "relevance_score": score}
    assert ranked[2].metadata == {}
