"""What holds between the rankings of related lists, whatever the options, over HTTP."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen_rerank import Reranker, errors
from qwen_rerank._models import limits_for
from qwen_rerank._plan import Budget, plan
from qwen_rerank._prepare import bounded, is_blank, measure, prepare
from qwen_rerank._tokens import tokenizer
from qwen_rerank._values import Job
from qwen_rerank.emulator import Emulator

_QUERY = "a fast red sports car"
_WORDS = ["red", "fast", "car", "sports", "tea", "green", "the", "\u7ea2\u8272", "caf\u00e9"]
_LONG = [
    "green tea from the mountains " * 900 + "a fast car",
    "\u7ea2\u8272\u8dd1\u8f66\u5f88\u5feb\u3002" * 700 + "red",
]
_TEXT = st.one_of(
    st.lists(st.sampled_from(_WORDS), max_size=5).map(" ".join),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=12),
    st.sampled_from(_LONG),
)
_LISTS = st.lists(_TEXT, max_size=8)
_FEW = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Way:
    """One combination of the options that must not matter."""

    long_documents: str
    width: int | None
    concurrency: int
    cached: bool
    asynchronous: bool
    protocol: str


_WAYS = st.builds(
    Way,
    st.sampled_from(["truncate", "split"]),
    st.sampled_from([None, 1, 2, 3, 7]),
    st.sampled_from([1, 8]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["dashscope", "compatible"]),
)


@pytest.fixture(scope="module", name="shuffled")
def _shuffled():
    with Emulator(shuffle=True, over_long="refuse") as emulator:
        yield emulator


@pytest.fixture(scope="module", name="rank")
def _rank(shuffled):
    """Ranks in a given way, over connections that are kept; a cache lasts for the module."""
    made, caches = {}, {}

    def rank(way, documents, **options):
        if way not in made:
            made[way] = Reranker(
                base_url=shuffled.base_url,
                api_key=shuffled.api_key,
                max_documents_per_request=way.width,
                max_concurrency=way.concurrency,
                long_documents=way.long_documents,
                protocol=way.protocol,
                cache=caches.setdefault(way.cached, {}) if way.cached else None,
            )
        if way.asynchronous:
            return runner.run(made[way].arerank(_QUERY, documents, **options))
        return made[way].rerank(_QUERY, documents, **options)

    with asyncio.Runner() as runner:
        yield rank
        for reranker in made.values():
            runner.run(reranker.aclose())


def _plain(way):
    """The plainest way with the same meaning: one request, one at a time, nothing remembered."""
    return Way(way.long_documents, None, 1, cached=False, asynchronous=False, protocol="dashscope")


def _results(ranking):
    return [(hit.index, hit.score, hit.window) for hit in ranking]


def _scores(ranking):
    return {hit.index: (hit.score, hit.window) for hit in ranking}


# Over HTTP


@_FEW
@given(documents=_LISTS, way=_WAYS, top_n=st.none() | st.integers(1, 10))
def test_the_way_does_not_matter(rank, documents, way, top_n):
    """Split, concurrent, cached, async, shuffled, by either protocol: the ranking is the same.

    Of top_n it is the head.
    """
    expected = rank(_plain(way), documents)

    ranking = rank(way, documents, top_n=top_n)

    assert _results(ranking) == _results(expected)[:top_n]
    assert ranking.truncated == expected.truncated


@_FEW
@given(
    documents=st.lists(_TEXT, min_size=1, max_size=8),
    way=_WAYS,
    poison=st.sampled_from(
        ["", " \u3000\n", "\ud800", "\x00", "a" * 300_001, "\u0301" * 9_000, "<|im_end|>", '"}]']
    ),
    data=st.data(),
)
def test_other_documents_do_not_matter(rank, documents, way, poison, data):
    """In another order, left out, repeated or beside a difficult one, a text has the same score."""
    picked = data.draw(st.lists(st.sampled_from(range(len(documents))), max_size=12))
    at = data.draw(st.integers(0, len(picked)))
    texts = [documents[i] for i in picked]
    alone = _scores(rank(_plain(way), documents))

    found = _scores(rank(way, [*texts[:at], poison, *texts[at:]]))

    assert (found[at][0] is None) is is_blank(poison)
    assert [found[place + (place >= at)] for place in range(len(texts))] == [
        alone[i] for i in picked
    ]


@_FEW
@given(documents=_LISTS, way=_WAYS)
def test_error_refuses_what_the_others_cut_or_split(rank, shuffled, documents, way):
    """long_documents="error" refuses exactly the lists in which there is something to cut."""
    cut = rank(_plain(way), documents)
    split = [hit.index for hit in cut if hit.window]
    strict = Way("error", way.width, way.concurrency, way.cached, way.asynchronous, way.protocol)
    shuffled.clear()

    try:
        ranking = rank(strict, documents)
    except errors.RequestError:
        assert shuffled.log == ()
        assert cut.truncated or split
    else:
        assert _results(ranking) == _results(cut)
        assert not cut.truncated
        assert not split


# Across the planner


@settings(max_examples=60)
@given(texts=st.lists(_TEXT, max_size=12), room=st.integers(1, 20_000), width=st.integers(1, 15))
def test_counting_no_more_than_it_takes_changes_nothing(texts, room, width):
    """Texts that are not counted, because bounds prove enough, are asked in as many requests."""
    job = Job("qwen3-rerank", "query", tuple(texts))
    limits = limits_for(job.model)
    limits = limits._replace(request_tokens=limits.request_tokens._replace(value=room))
    bounds = bounded(prepare(job))
    all_counted = measure(bounds, limits, tokenizer(), "truncate")
    some_counted = measure(bounds, limits, tokenizer(), "truncate", budget=Budget(limits, width))

    assert [item.text for item in some_counted.items] == [item.text for item in all_counted.items]
    assert all(
        some.tokens >= each.tokens
        for some, each in zip(some_counted.items, all_counted.items, strict=True)
    )
    assert some_counted.truncated == all_counted.truncated
    assert len(plan(job, some_counted, limits, width)) == len(plan(job, all_counted, limits, width))
