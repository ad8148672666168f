"""Metadata fields in the text that is ranked."""

import asyncio
import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_qwen_rerank import QwenRerank, WithMetadata
from qwen_rerank.emulator import Emulator

METADATA = {"title": "On Tea", "year": 1211, "tags": ["tea", "health"], "id": 7}
TEA = Document("Tea is good.", metadata=METADATA)
VALUES = st.recursive(
    st.none() | st.text(max_size=8) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["title"], "title: On Tea\n\nTea is good."),
        (["year", "title"], "year: 1211\ntitle: On Tea\n\nTea is good."),
        (["tags", "title"], "tags: tea, health\ntitle: On Tea\n\nTea is good."),
        (["author"], "Tea is good."),
        (["author", "title", "editor"], "title: On Tea\n\nTea is good."),
    ],
    ids=str,
)
def test_lines(keys, said):
    """One line for each named field that is there, in the order they were named."""
    assert WithMetadata(*keys)(TEA) == said


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("two\nlines\t and  more", "two lines and more"),
        (0, "0"),
        (("a", "b"), "a, b"),
        ({"b", "a"}, "a, b"),
        (["a", None, " ", "", "b", 0], "a, b, 0"),
        ([["a", "b"], "c"], "a, b, c"),
        ("\u8336", "\u8336"),
    ],
)
def test_values(value, line):
    """A value takes one line, whatever it is; of a list what says nothing is left out."""
    document = Document("Text.", metadata={"key": value})

    assert WithMetadata("key")(document) == f"key: {line}\n\nText."


@pytest.mark.parametrize("value", [None, "", "  \n", [], (), set(), [None, " "], [[]]], ids=repr)
def test_values_that_say_nothing(value):
    """A value that says nothing leaves its line out, and the last of them the empty line too."""
    assert WithMetadata("key")(Document("Text.", metadata={"key": value})) == "Text."


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), VALUES), st.text(max_size=20))
def test_format(metadata, content):
    """The content ends the text unchanged, below at most one line for each key, in their order."""
    document = Document(content, metadata=metadata)
    before = document.model_copy(deep=True)

    said = WithMetadata("c", "a", "b")(document)

    assert document == before
    assert said.endswith(content)
    head = said.removesuffix(content)
    lines = head.removesuffix("\n\n").split("\n") if head else []
    assert head == "" or head.endswith("\n\n")
    names = [line.partition(": ")[0] for line in lines]
    assert names == [name for name in "cab" if name in names]
    assert set(names) <= metadata.keys()
    assert all(line.partition(": ")[2].strip() for line in lines)


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


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_as_item(connection, emulator: Emulator, native):
    """It is what the service reads; the documents that come back are as they were, with a score."""
    reranker = QwenRerank(item=WithMetadata("title"), **connection)
    coffee = Document("It is good.", metadata={"title": "On Coffee"})

    ranked = (
        asyncio.run(reranker.acompress_documents([TEA, coffee], "coffee"))
        if native
        else reranker.compress_documents([TEA, coffee], "coffee")
    )

    assert emulator.log[0].body["input"]["documents"] == [
        "title: On Tea\n\nTea is good.",
        "title: On Coffee\n\nIt is good.",
    ]
    assert [each.page_content for each in ranked] == ["It is good.", "Tea is good."]
    score = ranked[0].metadata["relevance_score"]
    assert ranked[0].metadata == {"title": "On Coffee", "relevance_score": score}
    assert METADATA.keys() == TEA.metadata.keys()


def test_a_title_alone(connection, emulator: Emulator):
    """A document whose content is blank is ranked by its fields, and without them comes last."""
    reranker = QwenRerank(item=WithMetadata("title"), **connection)
    blank = [Document(""), Document("", metadata={"title": "On Tea"})]

    ranked = reranker.compress_documents(blank, "tea")

    assert emulator.log[0].documents == 1
    assert [each.metadata.get("title") for each in ranked] == ["On Tea", None]
    assert "relevance_score" not in ranked[1].metadata
