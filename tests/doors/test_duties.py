"""What both doors owe their users, sync and async alike."""

import copy
import json
import pickle

import pytest

from qwen_rerank import AuthenticationError, RateLimitError, Reranker, RerankError
from qwen_rerank.emulator import Emulator, Reply

TEXTS = [
    "Green tea is grown in the hills.",
    "A red sports car passed the house.",
    "",
    "The car was fast and red, a sports car.",
    "Green tea is grown in the hills.",
]
QUERY = "a fast red sports car"


def test_ranks_as_the_core_does(door, connection):
    """A door adds nothing to the ranking: order and scores are the core's."""
    ranking = Reranker(**connection).rerank(QUERY, TEXTS)

    ranked = door(door.kind(top_n=None, **connection), QUERY, TEXTS)

    assert ranked == [(hit.document, hit.score) for hit in ranking]


def test_doors_agree(doors, connection):
    """LangChain equals LlamaIndex equals sync equals async."""
    answers = [door(door.kind(**connection), QUERY, TEXTS) for door in doors.values()]

    assert all(answer == answers[0] for answer in answers)


def test_three_by_default(door, connection):
    """A door keeps three candidates unless told otherwise."""
    assert len(door(door.kind(**connection), QUERY, TEXTS)) == 3


def test_top_n_is_the_head(door, connection):
    """A smaller top_n is the head of the whole ranking."""
    whole = door(door.kind(top_n=None, **connection), QUERY, TEXTS)

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


def test_threshold_of_zero(door, connection):
    """A threshold of 0.0 is a threshold: it drops what has no score."""
    ranked = door(door.kind(top_n=None, score_threshold=0.0, **connection), QUERY, TEXTS)

    assert len(ranked) == 4
    assert all(score >= 0.0 for _, score in ranked)


def test_threshold_keeps_what_reaches_it(door, connection):
    """A score equal to the threshold is kept, everything below it is dropped."""
    whole = door(door.kind(top_n=None, **connection), QUERY, TEXTS)
    second = whole[1][1]

    assert door(door.kind(score_threshold=second, **connection), QUERY, TEXTS) == whole[:2]


def test_model_and_instruct_are_sent(door, connection, emulator):
    """The model and the instruct that were chosen are the ones that are asked."""
    door(door.kind(model="qwen3.7-text-rerank", instruct="Match.", **connection), QUERY, TEXTS)

    body = emulator.log[0].body
    assert body["model"] == "qwen3.7-text-rerank"
    assert body["parameters"] == {"instruct": "Match."}


def test_assignment_takes_effect(door, connection):
    """An option that is assigned holds from the next call on."""
    reranker = door.kind(**connection)
    reranker.top_n = 1

    assert len(door(reranker, QUERY, TEXTS)) == 1


@pytest.mark.parametrize("top_n", [0, -1, True, "3", 2.5])
def test_wrong_top_n(door, connection, top_n, emulator):
    """A top_n that is no count is refused before anything is sent."""
    with pytest.raises(ValueError, match="top_n"):
        door.kind(top_n=top_n, **connection)

    assert emulator.log == ()


def test_unknown_option(door, connection):
    """A misspelt option is refused, with a guess at what was meant."""
    with pytest.raises(ValueError, match=r"'topn'; did you mean 'top_n'\?"):
        door.kind(topn=3, **connection)


def test_blank_query(door, connection, emulator):
    """A blank query is refused before anything is sent."""
    with pytest.raises(ValueError, match="query is blank"):
        door(door.kind(**connection), " \n", TEXTS)

    assert emulator.log == ()


def test_no_key(door):
    """Without a key for Alibaba Cloud there is no object, and the way out is named."""
    with pytest.raises(ValueError, match=r"DASHSCOPE_API_KEY.*emulator"):
        door.kind()


@pytest.mark.parametrize("name", ["api_key", "dashscope_api_key"])
def test_both_names_of_the_key(door, emulator: Emulator, name):
    """The key can be given by its own name and by the one that older classes used."""
    reranker = door.kind(base_url=emulator.base_url, **{name: emulator.api_key})

    assert len(door(reranker, QUERY, TEXTS)) == 3


def test_refused_key_is_an_error(door, emulator: Emulator):
    """A wrong key raises an AuthenticationError that names the host and not the key."""
    reranker = door.kind(base_url=emulator.base_url, api_key="sk-not-the-right-one")

    with pytest.raises(AuthenticationError) as caught:
        door(reranker, QUERY, TEXTS)

    assert "127.0.0.1" in str(caught.value)
    assert "not-the-right-one" not in f"{caught.value!s}{caught.value!r}"


def test_service_errors_are_typed(door, connection, emulator: Emulator):
    """An error of the service arrives with code, status and request id, never as a wrong order."""
    refusal = Reply.error(429, "Throttling.RateQuota", "Requests rate limit exceeded.", repeat=None)
    emulator.script(refusal)

    with pytest.raises(RateLimitError) as caught:
        door(door.kind(**connection), QUERY, TEXTS)

    assert isinstance(caught.value, RerankError)
    assert (caught.value.status, caught.value.code) == (429, "Throttling.RateQuota")
    assert caught.value.request_id


def test_key_is_nowhere(door, emulator: Emulator):
    """No way of showing or storing a reranker shows or stores its key."""
    reranker = door.kind(base_url=emulator.base_url, api_key="sk-very-secret")
    door.kind.__repr__(reranker)

    shown = f"{reranker!r} {reranker!s} {reranker.model_dump()} {reranker.model_dump_json()}"
    assert "very-secret" not in shown
    assert "api_key" not in json.loads(reranker.model_dump_json())
    assert b"very-secret" not in pickle.dumps(reranker)


def test_copies_keep_the_key(door, connection):
    """A copy can be used like the original."""
    for twin in (copy.copy, copy.deepcopy):
        assert len(door(twin(door.kind(**connection)), QUERY, TEXTS)) == 3


def test_unpickled_finds_its_key_again(door, emulator: Emulator, monkeypatch):
    """A pickle holds no key; the object finds one at its first call."""
    stored = pickle.dumps(door.kind(base_url=emulator.base_url, api_key=emulator.api_key))
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    assert len(door(pickle.loads(stored), QUERY, TEXTS)) == 3  # noqa: S301  our own pickle


def test_works_again_after_close(door, connection):
    """Closing gives connections back; the next call opens new ones."""
    reranker = door.kind(**connection)
    for _ in range(2):
        assert len(door(reranker, QUERY, TEXTS)) == 3
        reranker.close()


def test_501_candidates(door, connection, emulator: Emulator):
    """More candidates than one request may hold are split, and none is lost."""
    texts = [f"car number {number}" for number in range(501)]

    ranked = door(door.kind(top_n=None, **connection), "car number 500", texts)

    assert sorted(text for text, _ in ranked) == sorted(texts)
    assert sorted(request.documents for request in emulator.log) == [250, 251]
