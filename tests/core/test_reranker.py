import asyncio
import json
import math
import os
import threading
import time
from dataclasses import replace
from importlib import metadata

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen_rerank import Reranker, Usage, _limits, errors
from qwen_rerank._prepare import is_blank
from qwen_rerank.emulator import Emulator, Reply

_SDK = metadata.version("dashscope")
# A folder with dashscope 1.22.2: pip install --no-deps --target FOLDER dashscope==1.22.2
_OLD_SDK = os.environ.get("QWEN_RERANK_OLD_SDK")  # read before the tests' environment is cleaned

_QUERY = "a fast red sports car"
_DOCUMENTS = [
    "green tea from the mountains",
    "the red car is fast",
    "",
    "sports in the city",
    "a fast red sports car",
    "   \n",
    "the red car is fast",
    "\u7ea2\u8272\u8dd1\u8f66\u5f88\u5feb",
]
_WORDS = ["red", "fast", "car", "sports", "tea", "green", "the", "\u7ea2\u8272", "caf\u00e9"]
_TEXT = st.one_of(
    st.lists(st.sampled_from(_WORDS), max_size=6).map(" ".join),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=20),
)
_LISTS = st.lists(_TEXT, max_size=12)
_SOME = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(name="reranker")
def _reranker(connection):
    with Reranker(**connection) as reranker:
        yield reranker


@pytest.fixture(name="rank")
def _rank(rank, reranker):
    """Ranks with the reranker of these tests unless another is given."""
    return lambda *arguments, using=reranker, **options: rank(using, *arguments, **options)


def _pairs(ranking):
    return [(hit.index, hit.score) for hit in ranking]


def _scores(ranking):
    return {hit.index: hit.score for hit in ranking}


def _small_requests(monkeypatch, documents):
    row = _limits.LIMITS["qwen3-rerank"]
    small = replace(row, documents=_limits.Limit(documents, "this test", "today"))
    monkeypatch.setitem(_limits.LIMITS, "qwen3-rerank", small)


# One call


def test_a_ranking(rank, emulator):
    """Documents come back best first, with their places, scores and the facts of the call."""
    ranking = rank(_QUERY, _DOCUMENTS)

    assert [hit.index for hit in ranking] == [4, 1, 6, 3, 0, 7, 2, 5]
    assert all(hit.document == _DOCUMENTS[hit.index] for hit in ranking)
    (seen,) = emulator.log
    assert ranking.usage == Usage(1, seen.tokens)
    assert ranking.request_ids == (seen.request_id,)
    assert ranking.model == "qwen3-rerank"
    assert (ranking.truncated, ranking.query_truncated, ranking.degraded) == ((), False, None)


def test_what_is_sent(rank, emulator):
    """Blanks and repetitions are not sent, and top_n is not left to the service."""
    rank(f"  {_QUERY}\n", _DOCUMENTS, top_n=2, instruct="Find cars.")

    (seen,) = emulator.log
    assert seen.path == "/api/v1/services/rerank/text-rerank/text-rerank"
    assert seen.body == {
        "model": "qwen3-rerank",
        "input": {"query": _QUERY, "documents": [_DOCUMENTS[i] for i in (0, 1, 3, 4, 7)]},
        "parameters": {"instruct": "Find cars."},
    }


def test_the_compatible_protocol(rank, emulator, connection):
    """The other protocol gives the same ranking by another path."""
    with Reranker(**connection, protocol="compatible") as flat:
        ranking = rank(_QUERY, _DOCUMENTS, using=flat)

    assert emulator.log[0].path == "/compatible-api/v1/reranks"
    assert _pairs(ranking) == _pairs(rank(_QUERY, _DOCUMENTS))
    assert ranking.request_ids == (emulator.log[0].request_id,)
    assert ranking.usage.tokens == emulator.log[0].tokens > 0


@pytest.mark.parametrize("documents", [[], (), iter([])])
def test_no_documents(rank, emulator, documents):
    """An empty list is an empty ranking, without a call."""
    ranking = rank(_QUERY, documents)

    assert (list(ranking), ranking.usage) == ([], Usage())
    assert emulator.log == ()


def test_only_blank_documents(rank, emulator):
    """Blank documents are never sent: they come back unscored and in order."""
    assert _pairs(rank(_QUERY, ["", " ", "\n"])) == [(0, None), (1, None), (2, None)]
    assert _pairs(rank(_QUERY, ["", " "], score_threshold=0.0)) == []
    assert _pairs(rank(_QUERY, ["", " "], top_n=1)) == [(0, None)]
    assert emulator.log == ()


def test_any_iterable(rank):
    """Documents may come from a generator, a tuple or the keys of a dict."""
    expected = _pairs(rank(_QUERY, _DOCUMENTS))

    assert _pairs(rank(_QUERY, (text for text in _DOCUMENTS))) == expected
    assert _pairs(rank(_QUERY, tuple(_DOCUMENTS))) == expected
    assert len(rank(_QUERY, dict.fromkeys(_DOCUMENTS).keys())) == len(set(_DOCUMENTS))


def test_a_kind_of_str(rank):
    """A subclass of str is a text, and comes back as the very object."""

    class Text(str):
        __slots__ = ()

    document = Text("a red car")

    assert rank(Text(_QUERY), [document])[0].document is document


def test_input_untouched(rank):
    """The list that was given is the same afterwards."""
    documents = list(_DOCUMENTS)

    rank(_QUERY, documents, top_n=1)

    assert documents == _DOCUMENTS


# Bad calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", ["a"]), "query is blank"),
        ((" \n\u3000", ["a"]), "query is blank"),
        (("", []), "query is blank"),
        ((None, ["a"]), "query must be a str or an Image, not NoneType"),
        ((7, ["a"]), "query must be a str or an Image, not int"),
        ((b"q", ["a"]), "query must be a str or an Image, not bytes"),
        ((["a"], "q"), r"query must .*, not list\n.*rerank\(query, documents\)"),
        (("q", "a"), r"not one str\n.*rerank\(query, documents\)"),
        (("q", b"a"), "not one bytes"),
        (("q", {"a": 1}), "not one dict$"),
        (("q", None), "not one NoneType$"),
        (("q", 7), "not one int"),
        (("q", ["a", None]), "document 1 must be a str, .*, not NoneType"),
        (("q", ["a", "b", 7]), "document 2 must be a str, .*, not int"),
        (("q", [{"body": "a"}]), "document 0 has no 'text'"),
        (("q", [["a"]]), "document 0 must be a str, .*, not list"),
        (("q", bytearray(b"ab")), "document 0 must be a str, .*, not int"),
    ],
)
def test_bad_calls(rank, emulator, arguments, said):
    """A call that cannot be right is refused before anything is sent."""
    with pytest.raises(errors.RequestError, match=said):
        rank(*arguments)

    assert emulator.log == ()


@pytest.mark.parametrize(
    "options",
    [
        {"top_n": 0},
        {"top_n": -1},
        {"top_n": 1.5},
        {"top_n": "2"},
        {"top_n": True},
        {"instruct": " "},
        {"instruct": "a\ud800"},
        {"score_threshold": math.nan},
        {"score_threshold": math.inf},
        {"score_threshold": "high"},
        {"model": None},
    ],
)
@pytest.mark.parametrize("documents", [["a"], []])
def test_bad_options_of_a_call(rank, emulator, options, documents):
    """A bad option of one call is a RequestError that names it, before anything is sent."""
    with pytest.raises(errors.RequestError, match=next(iter(options))) as caught:
        rank(_QUERY, documents, **options)

    assert emulator.log == ()
    assert caught.value.__context__ is None  # which would hold what was given


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("top_k", "; did you mean 'top_n'?"),
        ("api_key", "; with_options(api_key=...) takes it"),
        ("timeout", "; with_options(timeout=...) takes it"),
        ("return_documents", ": a hit has its document anyway, as hit.document"),
        ("verbose", ""),
    ],
)
def test_unknown_options_of_a_call(rank, emulator, name, said):
    """An option that a call does not have is a TypeError that says what to write instead."""
    with pytest.raises(TypeError) as caught:
        rank(_QUERY, ["a"], **{name: 1})

    assert str(caught.value) == f"unexpected option {name!r} for one call{said}"

    assert emulator.log == ()


def test_return_documents(rank, emulator, connection):
    """Who asks for documents, as peers' rerankers want it, is told where they are."""
    with pytest.raises(TypeError, match=r"'return_documents' for one call: .*hit\.document"):
        rank(_QUERY, ["a"], return_documents=True)
    with pytest.raises(ValueError, match=r"no option 'return_documents': .*hit\.document"):
        Reranker(**connection, return_documents=True)

    assert emulator.log == ()


def test_a_broken_iterable(rank, emulator):
    """An error of the caller's own generator comes out as it is."""

    def documents():
        yield "a"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        rank(_QUERY, documents())

    assert emulator.log == ()


# Options


def test_options_of_one_call(rank, reranker):
    """An option of one call holds for that call alone, and None switches the object's own off."""
    whole = _pairs(rank(_QUERY, _DOCUMENTS))
    reranker.top_n = 3

    assert _pairs(rank(_QUERY, _DOCUMENTS)) == whole[:3]
    assert _pairs(rank(_QUERY, _DOCUMENTS, top_n=1)) == whole[:1]
    assert _pairs(rank(_QUERY, _DOCUMENTS, top_n=None)) == whole
    assert _pairs(rank(_QUERY, _DOCUMENTS, top_n=99)) == whole
    assert _pairs(rank(_QUERY, _DOCUMENTS)) == whole[:3]


def test_assigned_options(rank, reranker, emulator):
    """Assigning an option takes effect on the next call."""
    rank(_QUERY, ["a"])
    reranker.model = "gte-rerank-v2"
    reranker.instruct = "Find cars."
    rank(_QUERY, ["a"])
    reranker.model = "qwen3-rerank"
    reranker.protocol = "compatible"
    reranker.instruct = None
    rank(_QUERY, ["a"])

    one, two, three = (seen.body for seen in emulator.log)
    assert (one["model"], one["parameters"]) == ("qwen3-rerank", {})
    assert (two["model"], two["parameters"]) == ("gte-rerank-v2", {"instruct": "Find cars."})
    assert three == {"model": "qwen3-rerank", "query": _QUERY, "documents": ["a"]}


def test_an_assigned_key(rank, reranker, emulator):
    """A wrong key is refused by the service, and the right one assigned afterwards works."""
    key = emulator.api_key
    reranker.api_key = "sk-wrong-0123456789"
    with pytest.raises(errors.AuthenticationError) as caught:
        rank(_QUERY, ["a"])
    reranker.api_key = key

    assert len(rank(_QUERY, ["a"])) == 1
    assert caught.value.code == "InvalidApiKey"
    assert caught.value.status == 401


def test_an_assigned_base_url(rank, reranker):
    """A new base URL is called from the next call on."""
    with Emulator(api_key="sk-second") as second:
        reranker.base_url, reranker.api_key = second.base_url, second.api_key

        rank(_QUERY, ["a"])

        assert len(second.log) == 1


def test_the_threshold(rank):
    """Only documents that reach the threshold come back, the unscored never."""
    whole = rank(_QUERY, _DOCUMENTS)
    middle = whole[2].score

    kept = rank(_QUERY, _DOCUMENTS, score_threshold=middle)

    assert _pairs(kept) == _pairs(whole)[:3]
    assert _pairs(rank(_QUERY, _DOCUMENTS, score_threshold=0.0)) == _pairs(whole)[:6]
    assert _pairs(rank(_QUERY, _DOCUMENTS, score_threshold=1.0)) == []


def test_a_key_from_the_environment(monkeypatch, rank, emulator):
    """A key in the environment is enough to call an emulator."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)

    with Reranker() as reranker:
        assert len(rank(_QUERY, ["a"], using=reranker)) == 1


def test_a_pickled_reranker_finds_its_key_again(monkeypatch, rank, reranker, emulator):
    """A pickle carries no key: the one of the place where it is loaded is used."""
    import pickle

    again = pickle.loads(pickle.dumps(reranker))  # noqa: S301  our own pickle
    with pytest.raises(errors.AuthenticationError):
        rank(_QUERY, ["a"], using=again)
    again = pickle.loads(pickle.dumps(reranker))  # noqa: S301  our own pickle
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    assert len(rank(_QUERY, ["a"], using=again)) == 1
    again.close()


# Difficult lists


@pytest.mark.parametrize("count", [500, 501, 1_001])
def test_more_documents_than_a_request_takes(rank, emulator, count):
    """A list over the limit is split evenly, and no one is any the wiser."""
    documents = [f"document {i} about {_WORDS[i % 7]} things" for i in range(count)]

    ranking = rank(_QUERY, documents)

    sizes = [seen.documents for seen in emulator.log]
    assert sum(sizes) == count
    assert len(sizes) == -(-count // 500)
    assert max(sizes) - min(sizes) <= 2 * len(sizes)  # evenly, and so that they differ
    assert sorted(hit.index for hit in ranking) == list(range(count))
    assert ranking.usage == Usage(len(sizes), sum(seen.tokens for seen in emulator.log))
    assert sorted(ranking.request_ids) == sorted(seen.request_id for seen in emulator.log)


def test_ten_thousand_documents(rank, emulator):
    """Ten thousand documents are ranked as a whole."""
    documents = [f"{_WORDS[i % 7]} {i}" for i in range(10_000)]

    ranking = rank("red", documents)

    assert len(emulator.log) == 20
    assert sorted(hit.index for hit in ranking) == list(range(10_000))
    assert ranking[0].document.startswith("red")


_OTHERS = ["a red car", "green tea"]
_POISON = {
    "blank": ("", None, "missing"),
    "white space": ("\u3000\n\t", None, "missing"),
    "lone surrogate": ("red \ud800 car", "red \ufffd car", "scored"),
    "halves of a pair": ("car \ud83d\ude00", "car \ufffd\ufffd", "scored"),
    "only a surrogate": ("\udfff", "\ufffd", "scored"),
    "NUL": ("red\x00car", "red\x00car", "scored"),
    "only NUL": ("\x00", None, "missing"),
    "control characters": ("\x1b[31m\x07\x7f\x85red", "\x1b[31m\x07\x7f\x85red", "scored"),
    "zero width": ("\u200b\ufeff", None, "missing"),
    "markers": ("<|im_end|> car", "<|im_end|> car", "scored"),
    "JSON": ('"}], "x": [{"', '"}], "x": [{"', "scored"),
    "300,001 letters": ("a" * 300_001, None, "cut"),
    "300,001 accents": ("\u0301" * 300_001, None, "cut"),
    "300,001 Chinese": ("\u4e2d" * 300_001, None, "cut"),
    "300,001 spaces, then a word": (" " * 300_001 + "car", None, "cut"),
    "4,000 newlines, then a word": ("\n\u3000" * 4_000 + "car", None, "cut"),
    "300,001 spaces": (" " * 300_001, None, "missing"),
    "5,000 words": ("red car " * 2_500, None, "cut"),
    "a word, then 300,001 spaces": ("car" + " " * 300_001, None, "cut"),
}


@pytest.mark.parametrize(("poison", "sent", "fate"), _POISON.values(), ids=_POISON)
def test_poison(rank, emulator, poison, sent, fate):
    """A difficult document is scored, cut or left out, and no other one is lost or changed."""
    alone = _scores(rank(_QUERY, _OTHERS))
    emulator.clear()

    ranking = rank(_QUERY, [_OTHERS[0], poison, _OTHERS[1]])

    scores = _scores(ranking)
    assert sorted(scores) == [0, 1, 2]
    assert {0: scores[0], 1: scores[2]} == alone
    assert (scores[1] is None) is (fate == "missing")
    assert ranking.truncated == ((1,) if fate == "cut" else ())
    assert next(hit.document for hit in ranking if hit.index == 1) is poison
    documents = emulator.log[0].body["input"]["documents"]
    assert len(documents) == (2 if fate == "missing" else 3)
    if sent:
        assert documents[1] == sent


@pytest.mark.parametrize(
    ("query", "cut"),
    [
        ("red \ud800 car", False),
        ("red\x00car", False),
        ("<|im_end|>", False),
        ("red car " * 2_500, True),
        ("a" * 300_001, True),
    ],
)
def test_difficult_queries(rank, query, cut):
    """A difficult query is sent as well as it can be, and a cut one is reported."""
    ranking = rank(query, ["a red car", "green tea"])

    assert len(ranking) == 2
    assert all(hit.score is not None for hit in ranking)
    assert ranking.query_truncated is cut
    assert ranking.truncated == ()


def test_duplicates_of_a_cut_document(rank):
    """Every place of a document that was cut is reported."""
    long = "red car " * 3_000

    ranking = rank(_QUERY, [long, "a car", long])

    assert ranking.truncated == (0, 2)


@pytest.mark.parametrize("model", ["qwen3-rerank", "gte-rerank-v2", "qwen3-vl-rerank"])
def test_long_lists_of_long_documents(rank, reranker, emulator, model):
    """A list that is too long in tokens is split, so that the service refuses none of it."""
    reranker.model = model
    documents = [f"{i} " + "word \u4e2d\u6587 " * 600 for i in range(80)]

    ranking = rank(_QUERY, documents)

    assert sorted(hit.index for hit in ranking) == list(range(80))
    assert all(seen.status == 200 for seen in emulator.log)
    assert len(emulator.log) > 1


def test_an_instruct_makes_no_request_more(rank, reranker, emulator):
    """An instruction of a sentence does not split a list that is far from any limit."""
    reranker.instruct = "Given a web search query, retrieve relevant passages. " * 5
    documents = [f"passage number {i} " + "of some length " * 4 for i in range(500)]

    rank(_QUERY, documents)

    assert len(emulator.log) == 1


# Relations on any list


@_SOME
@given(documents=_LISTS)
def test_conservation(reranker, documents):
    """Every document comes back once, as the object that was given."""
    ranking = reranker.rerank(_QUERY, documents)

    assert sorted(hit.index for hit in ranking) == list(range(len(documents)))
    assert all(hit.document is documents[hit.index] for hit in ranking)


@_SOME
@given(documents=_LISTS)
def test_finite_and_sorted(reranker, documents):
    """Scores are finite and never rise, ties keep input order, unscored ones come last."""
    ranking = reranker.rerank(_QUERY, documents)

    keys = [(hit.score is None, -(hit.score or 0.0), hit.index) for hit in ranking]
    assert keys == sorted(keys)
    assert all(hit.score is None or math.isfinite(hit.score) for hit in ranking)
    assert all((hit.score is None) is is_blank(hit.document) for hit in ranking)


@_SOME
@given(documents=_LISTS, data=st.data())
def test_permutation(reranker, documents, data):
    """The order of the input decides about ties only."""
    order = data.draw(st.permutations(range(len(documents))))

    one = _scores(reranker.rerank(_QUERY, documents))
    two = _scores(reranker.rerank(_QUERY, [documents[i] for i in order]))

    assert all(two[place] == one[i] for place, i in enumerate(order))


@_SOME
@given(documents=_LISTS, most=st.integers(1, 5))
def test_batch_split(reranker, emulator, documents, most):
    """A list that has to be split is ranked like one that fits."""
    whole = _pairs(reranker.rerank(_QUERY, documents))
    emulator.clear()

    with pytest.MonkeyPatch.context() as patch:
        _small_requests(patch, most)
        split = _pairs(reranker.rerank(_QUERY, documents))

    assert split == whole
    assert all(seen.documents <= most for seen in emulator.log)


@_SOME
@given(documents=_LISTS)
def test_duplicates(reranker, emulator, documents):
    """Repeating the list costs nothing and gives every repetition the same score."""
    once = _scores(reranker.rerank(_QUERY, documents))
    emulator.clear()

    twice = reranker.rerank(_QUERY, documents + documents)

    size = len(documents)
    assert _scores(twice) == {**once, **{i + size: score for i, score in once.items()}}
    assert sum(seen.documents for seen in emulator.log) <= len(set(documents))


@_SOME
@given(documents=_LISTS, top_n=st.integers(1, 15))
def test_prefix(reranker, documents, top_n):
    """top_n is the head of the whole ranking."""
    whole = reranker.rerank(_QUERY, documents)

    assert reranker.rerank(_QUERY, documents, top_n=top_n).hits == whole[:top_n]


@_SOME
@given(documents=_LISTS, data=st.data())
def test_subset(reranker, documents, data):
    """Leaving documents out does not change the order of the others."""
    kept = [i for i in range(len(documents)) if data.draw(st.booleans())]

    whole = [pair for pair in _pairs(reranker.rerank(_QUERY, documents)) if pair[0] in kept]
    part = _pairs(reranker.rerank(_QUERY, [documents[i] for i in kept]))

    assert [(kept[place], score) for place, score in part] == whole


@_SOME
@given(
    documents=_LISTS,
    query=_TEXT.filter(lambda text: not is_blank(text)),
    top_n=st.none() | st.integers(1, 5),
)
def test_sync_equals_async(reranker, emulator, documents, query, top_n):
    """Both colours give the same ranking and send the same."""
    emulator.clear()
    one = reranker.rerank(query, documents, top_n=top_n)
    two = asyncio.run(reranker.arerank(query, documents, top_n=top_n))

    assert one.hits == two.hits
    assert one.usage == two.usage
    bodies = [seen.body for seen in emulator.log]
    assert bodies[: len(bodies) // 2] == bodies[len(bodies) // 2 :]


# Failures


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply.error(400, "InvalidParameter"), errors.RequestError),
        (Reply.error(401, "InvalidApiKey"), errors.AuthenticationError),
        (Reply.error(400, "Arrearage"), errors.QuotaError),
        (Reply.error(400, "DataInspectionFailed"), errors.ContentError),
        (Reply.error(429, "Throttling.RateQuota"), errors.RateLimitError),
        (Reply.error(200, "Throttling.RateQuota"), errors.RateLimitError),
        (Reply.error(500, "InternalError"), errors.ServiceError),
        (Reply(200, {"output": {"results": []}}), errors.ReplyError),
        (Reply(200, "<html>"), errors.ReplyError),
        (Reply(drop="before"), errors.ServiceError),
        (Reply(drop="mid"), errors.ServiceError),
    ],
)
@pytest.mark.parametrize("protocol", ["dashscope", "compatible"])
def test_failures(rank, reranker, emulator, protocol, reply, kind):
    """Whatever goes wrong is one error of our tree, and the next call works."""
    reranker.protocol = protocol
    reranker.max_retries = 0
    emulator.script(reply)

    with pytest.raises(errors.RerankError) as caught:
        rank(_QUERY, ["a", "b"])

    assert type(caught.value) is kind
    assert len(rank(_QUERY, ["a", "b"])) == 2


def test_failures_show_no_key(rank, reranker, emulator, shown):
    """No failure of a call shows the key, in words, frames or causes."""
    reranker.max_retries = 0
    for reply in (
        Reply(401, {"code": "InvalidApiKey", "message": f"no: {emulator.api_key}"}),
        Reply(drop="mid"),
        Reply(200, "{"),
    ):
        emulator.script(reply)
        with pytest.raises(errors.RerankError) as caught:
            rank(_QUERY, ["a"])

        assert emulator.api_key not in shown(caught.value)


def test_one_failed_request_fails_the_call(rank, reranker, emulator):
    """Of a split list there is never half a ranking, and no request goes out after the failure."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 1
    emulator.script(Reply(), Reply.error(400, "InvalidParameter"))

    with pytest.raises(errors.RequestError):
        rank(_QUERY, ["a", "b", "c"])

    assert len(emulator.log) == 2


def test_a_passing_failure_is_repeated(rank, emulator):
    """A request that may succeed later is sent again, and the ranking is complete."""
    emulator.script(
        Reply.error(429, "Throttling.RateQuota", headers={"retry-after-ms": "10"}),
        Reply.error(503, "ServiceUnavailable"),
    )

    assert len(rank(_QUERY, ["a", "b"])) == 2
    assert len(emulator.log) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply.error(400, "InvalidParameter"),
        Reply.error(401, "InvalidApiKey"),
        Reply.error(400, "Arrearage"),
        Reply.error(429, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
        Reply.error(400, "DataInspectionFailed"),
    ],
)
def test_a_lasting_failure_is_not_repeated(rank, emulator, reply):
    """A caller's mistake and a used-up quota are not paid for twice."""
    emulator.script(reply)

    with pytest.raises(errors.RerankError):
        rank(_QUERY, ["a"])

    assert len(emulator.log) == 1


def test_a_pause_longer_than_the_deadline_ends_the_call(rank, emulator):
    """Retry-After beyond the deadline is not waited for."""
    emulator.script(
        Reply.error(429, "Throttling.RateQuota", headers={"retry-after": "10000"}, repeat=None)
    )

    with pytest.raises(errors.RateLimitError) as caught:
        rank(_QUERY, ["a"])

    assert caught.value.retry_after == 10_000
    assert len(emulator.log) == 1


def test_the_timeout_is_for_the_whole_call(rank, reranker, emulator):
    """The requests of one call, their queue and their repetitions share its time."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 2
    reranker.timeout = 0.6
    emulator.script(Reply(delay=0.25, repeat=None))
    start = time.monotonic()

    with pytest.raises(errors.DeadlineError):
        rank(_QUERY, [str(i) for i in range(20)])

    assert time.monotonic() - start < 3
    assert len(emulator.log) <= 6


# Lifetimes


def test_two_event_loops_in_a_row(reranker, emulator):
    """One object serves one asyncio.run after another."""
    for _ in range(2):
        assert len(asyncio.run(reranker.arerank(_QUERY, ["a"]))) == 1

    assert len(emulator.log) == 2


async def test_sync_inside_a_running_loop(reranker):
    """The sync call can be made where a loop is running."""
    assert len(reranker.rerank(_QUERY, ["a"])) == 1


async def test_many_at_once(reranker, emulator):
    """Concurrent calls on one fresh object do not disturb each other."""
    queries = [f"{word} things" for word in _WORDS]

    rankings = await asyncio.gather(*(reranker.arerank(query, _DOCUMENTS) for query in queries))
    await reranker.aclose()

    assert len(emulator.log) == len(queries)
    for query, ranking in zip(queries, rankings, strict=True):
        assert ranking.hits == reranker.rerank(query, _DOCUMENTS).hits


def test_eight_threads(reranker):
    """One object serves many threads, from its first call on."""
    rankings = []

    def work():
        rankings.extend(reranker.rerank(_QUERY, _DOCUMENTS) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(rankings) == 24
    assert len({ranking.hits for ranking in rankings}) == 1


def test_with(connection):
    """Leaving `with` closes the connections, and the object can be used again."""
    with Reranker(**connection) as reranker:
        one = reranker.rerank(_QUERY, _DOCUMENTS)
    two = reranker.rerank(_QUERY, _DOCUMENTS)
    reranker.close()

    assert one.hits == two.hits


async def test_async_with(connection):
    """So does leaving `async with`, for both colours."""
    async with Reranker(**connection) as reranker:
        one = await reranker.arerank(_QUERY, _DOCUMENTS)
        two = reranker.rerank(_QUERY, _DOCUMENTS)
    three = await reranker.arerank(_QUERY, _DOCUMENTS)
    await reranker.aclose()

    assert one.hits == two.hits == three.hits


async def test_closing_what_was_never_used(connection):
    """An object that made no call can be closed too."""
    async with Reranker(**connection) as reranker:
        reranker.close()


def test_an_error_goes_through_with(connection):
    """`with` swallows nothing."""
    with pytest.raises(errors.RequestError), Reranker(**connection) as reranker:
        reranker.rerank("", [])


# The caller's own clients


async def test_http_clients(connection, emulator):
    """Calls go through the given httpx clients, which stay open."""
    headers = {"x-mine": "1"}
    with httpx.Client(headers=headers) as sync:
        async with httpx.AsyncClient(headers=headers) as other:
            reranker = Reranker(**connection, http_client=sync, async_http_client=other)
            reranker.rerank(_QUERY, ["a"])
            await reranker.arerank(_QUERY, ["a"])
            await reranker.aclose()

            assert not sync.is_closed
            assert not other.is_closed
    assert [seen.headers["x-mine"] for seen in emulator.log] == ["1", "1"]


class SdkClient:
    """What is used of a dashscope 2.x client: its httpx client, with its base URL and key."""

    def __init__(self, http_client):
        self.transport = self
        self.http_client = http_client


def _sdk_client(kind, emulator):
    return SdkClient(
        kind(
            base_url=emulator.base_url,
            headers={"authorization": f"Bearer {emulator.api_key}", "x-mine": "1"},
        )
    )


async def test_sdk_clients(emulator):
    """Calls go through injected SDK clients, with their host and key, and leave them open."""
    sync = _sdk_client(httpx.Client, emulator)
    other = _sdk_client(httpx.AsyncClient, emulator)
    with sync.http_client:
        async with other.http_client:
            reranker = Reranker(client=sync, async_client=other)
            reranker.rerank(_QUERY, ["a"])
            await reranker.arerank(_QUERY, ["a"])
            await reranker.aclose()

            assert not sync.http_client.is_closed
            assert not other.http_client.is_closed
    assert [seen.headers["x-mine"] for seen in emulator.log] == ["1", "1"]


def test_sdk_client_without_a_host(emulator):
    """An injected client that knows no host is refused by the call."""
    with httpx.Client() as client:
        reranker = Reranker(client=SdkClient(client))

        with pytest.raises(ValueError, match="has no base URL"):
            reranker.rerank(_QUERY, ["a"])

    assert emulator.log == ()


def test_sdk_client_of_the_other_colour(connection, emulator):
    """A call for which no client was injected goes out by itself, if there is a key for it."""
    sdk = _sdk_client(httpx.AsyncClient, emulator)
    with Reranker(async_client=sdk, base_url=emulator.base_url) as reranker:
        with pytest.raises(errors.AuthenticationError):
            reranker.rerank(_QUERY, ["a"])
        reranker.api_key = connection["api_key"]

        assert len(reranker.rerank(_QUERY, ["a"])) == 1
    assert "x-mine" not in emulator.log[1].headers


_THROUGH_SDK = """
import asyncio, json, sys
import dashscope
from dashscope import AsyncClient, Client
from qwen_rerank import Reranker

base_url, key, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
def pairs(ranking):
    return [[hit.index, hit.score] for hit in ranking]
out = {}

client = Client(base_url=base_url, api_key=key)
reranker = Reranker(client=client)
out["sync"] = pairs(reranker.rerank(**asked))
reranker.close()
out["again"] = pairs(reranker.rerank(**asked))
try:
    asyncio.run(reranker.arerank(**asked))
except ValueError as error:
    out["other colour"] = str(error)

async def through_async():
    async with AsyncClient(base_url=base_url, api_key=key) as client:
        async with Reranker(async_client=client, protocol="compatible") as reranker:
            return pairs(await reranker.arerank(**asked))
out["async"] = asyncio.run(through_async())

wrong = Client(base_url=base_url, api_key="sk-wrong-key")
out["our key"] = pairs(Reranker(client=wrong, api_key=key).rerank(**asked))
try:
    Reranker(client=wrong).rerank(**asked)
except Exception as error:
    out["their key"] = type(error).__name__

dashscope.api_key, dashscope.base_http_api_url = key, base_url
out["module"] = pairs(Reranker().rerank(**asked))
print(json.dumps(out))
"""


@pytest.mark.slow
@pytest.mark.skipif(_SDK.startswith("1."), reason="dashscope 1.x has no clients")
def test_through_the_sdks_clients(reranker, emulator, fresh):
    """An injected dashscope client of either colour is sent through, with its key and host."""
    asked = {"query": _QUERY, "documents": _DOCUMENTS}
    expected = [list(pair) for pair in _pairs(reranker.rerank(**asked))]
    emulator.clear()

    out = json.loads(
        fresh(_THROUGH_SDK, emulator.base_url, emulator.api_key, json.dumps(asked), strict=False)
    )

    for way in ("sync", "again", "async", "our key", "module"):
        assert out[way] == expected, way
    assert "DASHSCOPE_API_KEY" in out["other colour"]
    assert out["their key"] == "AuthenticationError"
    assert [(seen.path.split("/")[1], seen.status) for seen in emulator.log] == [
        ("api", 200),
        ("api", 200),
        ("compatible-api", 200),
        ("api", 200),
        ("api", 401),
        ("api", 200),
    ]


# The SDK as a second opinion

_ASK_SDK = """
import json, sys
import dashscope
from dashscope import TextReRank
base_url, key, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
dashscope.base_http_api_url = base_url
out = []
for case in cases:
    answer = TextReRank.call(api_key=key, **case)
    assert answer.status_code == 200, answer
    out.append([[result.index, result.relevance_score] for result in answer.output.results])
from dashscope.version import __version__
print(json.dumps([__version__, out]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "version"),
    [
        pytest.param(None, _SDK, id="installed"),
        pytest.param(
            _OLD_SDK,
            "1.22.2",
            id="1.22.2",
            marks=pytest.mark.skipif(
                not _OLD_SDK,
                reason="QWEN_RERANK_OLD_SDK names no folder with dashscope 1.22.2",
            ),
        ),
    ],
)
def test_same_as_the_sdk(reranker, emulator, fresh, path, version):
    """Our ranking is what the SDK's own call returns for the same request."""
    documents = [text for text in _DOCUMENTS if text.strip()]
    cases = [
        {"query": _QUERY, "documents": documents, **options}
        for options in (
            {"model": "qwen3-rerank"},
            {"model": "qwen3-rerank", "top_n": 2},
            {"model": "qwen3-rerank", "instruct": "Find cars."},
            {"model": "gte-rerank-v2", "top_n": 99},
        )
    ]

    found, theirs = json.loads(
        fresh(
            _ASK_SDK,
            emulator.base_url,
            emulator.api_key,
            json.dumps(cases),
            path=path,
            strict=False,
        )
    )

    assert found.startswith(version)
    for case, answer in zip(cases, theirs, strict=True):
        model = case.pop("model")
        reranker.model = model
        assert [list(pair) for pair in _pairs(reranker.rerank(**case))] == answer


# Imports of a fresh interpreter

_LAZY = """
import sys
import qwen_rerank
assert not {"httpx", "aiohttp"} & set(sys.modules), "http at import"
base_url, key, colour = sys.argv[1:]
with qwen_rerank.Reranker(base_url=base_url, api_key=key) as reranker:
    if colour == "sync":
        ranking = reranker.rerank("a red car", ["green tea", "the red car", ""])
    else:
        import asyncio
        ranking = asyncio.run(reranker.arerank("a red car", ["green tea", "the red car", ""]))
assert [hit.index for hit in ranking] == [1, 0, 2]
assert "httpx" not in sys.modules, "httpx, which is for callers' own clients"
assert not qwen_rerank.reranker._tokens.tokenizer.cache_info().currsize, "the vocabulary"
foreign = {"dashscope", "langchain_core", "llama_index", "fastapi", "uvicorn"}
print(sorted(foreign & {name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_lazy_imports(emulator, fresh, colour):
    """A whole rerank of a short list imports neither dashscope nor a framework."""
    out = fresh(_LAZY, emulator.base_url, emulator.api_key, colour)

    assert out == "[]\n"
    assert len(emulator.log) == 1
