"""Dicts as documents: what of them is ranked, and what comes back."""

import threading
from types import MappingProxyType

import pytest

import qwen_rerank
from qwen_rerank import RequestError
from qwen_rerank.emulator import Emulator

_QUERY = "a fast red sports car"
_DICTS = [
    {"title": "Tea", "text": "green tea", "id": 7},
    {"title": "Cars", "text": "a red sports car", "id": 8},
]


def _sent(emulator: Emulator) -> list[str]:
    return emulator.log[-1].body["input"]["documents"]


def test_a_dict_is_ranked_by_its_text(reranker, rank, emulator: Emulator):
    """Without rank_fields that is "text", with the score that the bare text has."""
    given = [*_DICTS, MappingProxyType({"text": "a slow car"}), "a plain text"]

    ranking = rank(reranker, _QUERY, given)

    assert _sent(emulator) == ["green tea", "a red sports car", "a slow car", "a plain text"]
    assert all(hit.document is given[hit.index] for hit in ranking)
    bare = rank(reranker, _QUERY, _sent(emulator))
    assert [(hit.index, hit.score) for hit in ranking] == [(hit.index, hit.score) for hit in bare]
    assert ranking.usage == bare.usage


def test_several_fields(reranker, emulator: Emulator):
    """They become lines with their names, in the order of rank_fields; a blank one is left out.

    A single one is ranked by its bare value. An estimate counts what would be ranked.
    """
    dicts = [*_DICTS, {"text": "a car", "title": " "}]

    reranker.rerank(_QUERY, dicts, rank_fields=["text", "title"])

    assert _sent(emulator) == [
        "text: green tea\ntitle: Tea",
        "text: a red sports car\ntitle: Cars",
        "text: a car",
    ]
    ranking = reranker.rerank(_QUERY, _DICTS, rank_fields=["title"])
    assert _sent(emulator) == ["Tea", "Cars"]
    estimate = reranker.estimate(_QUERY, _DICTS, rank_fields=["title"])
    assert estimate.tokens == ranking.usage.tokens


def test_dicts_are_texts(reranker, emulator: Emulator):
    """Blanks come last unsent, equal texts are sent once, long ones are cut, a cache knows them."""
    reranker.cache = {}
    dicts = [{"text": " "}, {"text": "a car"}, {"text": "a car", "id": 3}, {"text": "a " * 40_000}]

    ranking = reranker.rerank(_QUERY, dicts)

    assert len(_sent(emulator)) == 2
    assert ranking[-1].index == 0
    assert ranking.truncated == (3,)
    assert reranker.rerank(_QUERY, ["a car"]).usage.cache_hits == 1


@pytest.mark.parametrize(
    ("document", "options", "said"),
    [
        ({"body": "a car"}, {}, r"document 1 has no 'text': .*\n.* Images are given as Image"),
        ({"text": ["a", "b"]}, {}, "document 1 has list as its 'text'"),
        ({"text": "a"}, {"rank_fields": ["title"]}, "has no 'title': a dict is ranked by texts$"),
    ],
    ids=str,
)
def test_dicts_without_a_text(reranker, emulator: Emulator, document, options, said):
    """A field that is missing or no text is refused with its place before anything is sent.

    Who has named the fields is not told how to name them.
    """
    with pytest.raises(RequestError, match=said) as caught:
        reranker.rerank(_QUERY, [_DICTS[0], document], **options)

    assert caught.value.documents == (1,)
    assert len(emulator.log) == 0


@pytest.mark.parametrize("fields", ["text", {"text": 1}, 7, [], [7]], ids=repr)
def test_wrong_rank_fields(reranker, fields):
    """Keys come as a list of texts, and there is at least one."""
    with pytest.raises(RequestError, match=r"rank_fields must be a list of keys"):
        reranker.rerank(_QUERY, _DICTS, rank_fields=fields)


async def test_long_dicts_hold_up_no_loop(reranker, monkeypatch):
    """What takes long with their texts is done in a thread, as it is with texts."""
    prepare, threads = qwen_rerank.reranker.prepare, set()

    def noted(*arguments):
        threads.add(threading.current_thread())
        return prepare(*arguments)

    monkeypatch.setattr(qwen_rerank.reranker, "prepare", noted)
    monkeypatch.setattr(qwen_rerank.reranker, "_MUCH", 10)

    assert len(await reranker.arerank(_QUERY, [{"text": "a long text"}])) == 1
    assert threads
    assert threading.current_thread() not in threads
