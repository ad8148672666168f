"""What calls cost: the sum that a reranker keeps, and how usages add up."""

import asyncio
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank import Image, Reranker, Usage, _models, errors
from qwen_rerank.emulator import Reply

_QUERY = "a fast red sports car"
_DOCUMENTS = ["green tea", "a red sports car", "the car is fast"]
_PICTURE = Image(url="https://pictures.example/red-sports-car.png")


@pytest.fixture(name="reranker")
def _reranker(connection):
    with Reranker(max_retries=0, **connection) as reranker:
        yield reranker


def billed(emulator):
    """What the emulator has answered with scores, as a usage."""
    paid = [seen.tokens for seen in emulator.log if seen.status == 200 and seen.tokens]
    return Usage(len(paid), sum(paid))


# The sum of an object's calls


def test_begins_at_nothing(reranker):
    """Before the first call, and for calls that send nothing, there is no usage."""
    assert reranker.usage == Usage()

    reranker.rerank(_QUERY, [])
    reranker.rerank(_QUERY, ["", " "])
    reranker.estimate(_QUERY, _DOCUMENTS)
    with pytest.raises(errors.RequestError):
        reranker.rerank(" ", _DOCUMENTS)

    assert reranker.usage == Usage()


def test_sums_over_calls(rank, reranker, emulator):
    """It is the sum of what the rankings say, and what the service counted; refusals are free."""
    reranker.max_documents_per_request, reranker.max_retries = 1, 1
    emulator.script(Reply.error(503, "ServiceUnavailable"))

    rankings = [rank(reranker, _QUERY, _DOCUMENTS[:many], top_n=1) for many in (1, 2, 3)]

    assert len(emulator.log) == 7
    assert reranker.usage == sum((ranking.usage for ranking in rankings), Usage())
    assert reranker.usage == billed(emulator)
    assert reranker.usage.requests == 6


def test_read_only(reranker):
    """Nobody sets it, neither later nor at the start."""
    with pytest.raises((AttributeError, ValueError)):
        reranker.usage = Usage(1, 1)
    with pytest.raises(ValueError, match="usage"):
        Reranker(usage=Usage(1, 1), base_url=reranker.base_url)
    assert reranker.usage == Usage()


def test_survives_changes(reranker, emulator):
    """Assigned options and closed connections forget nothing."""
    reranker.rerank(_QUERY, _DOCUMENTS)
    reranker.model = "gte-rerank-v2"
    reranker.max_concurrency = 1
    reranker.base_url = emulator.base_url.replace("/api/v1", "")
    reranker.close()
    reranker.rerank(_QUERY, _DOCUMENTS)

    assert reranker.usage == billed(emulator)
    assert reranker.usage.requests == 2


async def test_threads_and_tasks(reranker, emulator):
    """No call of any thread or task is lost."""
    threads = (asyncio.to_thread(reranker.rerank, _QUERY, _DOCUMENTS) for _ in range(30))

    await asyncio.gather(*threads, *(reranker.arerank(_QUERY, _DOCUMENTS) for _ in range(30)))

    assert reranker.usage == billed(emulator)
    assert reranker.usage.requests == 60


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda reranker: reranker.model_copy(update={"top_n": 1}),
        lambda reranker: pickle.loads(pickle.dumps(reranker)),  # noqa: S301  our own bytes
    ],
    ids=["copy", "deepcopy", "model_copy", "pickle"],
)
def test_copies_begin_at_nothing(reranker, emulator, monkeypatch, copied):
    """A copy counts its own calls alone, and the original does not count them."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    reranker.rerank(_QUERY, _DOCUMENTS)

    made = copied(reranker)

    assert (made.usage, reranker.usage.requests) == (Usage(), 1)
    made.rerank(_QUERY, _DOCUMENTS)
    assert made.usage == reranker.usage
    assert (made.usage + reranker.usage) == billed(emulator)


def test_one_sum_with_other_options(reranker, emulator):
    """What with_options gives counts together with what it was called on."""
    early = reranker.with_options(top_n=1)
    reranker.rerank(_QUERY, _DOCUMENTS)
    early.rerank(_QUERY, _DOCUMENTS)
    late = early.with_options(instruct="Find cars.")

    late.rerank(_QUERY, _DOCUMENTS)

    assert reranker.usage == early.usage == late.usage == billed(emulator)
    assert reranker.usage.requests == 3
    assert copy.copy(late).usage == Usage()


# Failures


@pytest.mark.parametrize("on_error", ["raise", "passthrough"])
def test_what_a_failed_call_had_paid_for(rank, reranker, emulator, on_error):
    """Requests that were answered before one failed were billed, and are counted."""
    reranker.max_documents_per_request, reranker.max_concurrency = 1, 1
    reranker.on_error = on_error
    emulator.script(Reply(), Reply.error(400, "DataInspectionFailed"))

    if on_error == "raise":
        with pytest.raises(errors.ContentError):
            rank(reranker, _QUERY, _DOCUMENTS)
    else:
        assert rank(reranker, _QUERY, _DOCUMENTS).usage == billed(emulator)

    assert reranker.usage == billed(emulator)
    assert reranker.usage.requests == 1


# Cost


@pytest.fixture(name="priced")
def _priced(reranker, monkeypatch):
    """A reranker whose emulator has the prices of Beijing."""
    for (model, region), price in [*_models.PRICES.items()]:
        if region == "cn-beijing":
            monkeypatch.setitem(_models.PRICES, (model, ""), price)
    return reranker


def listed(model, tokens):
    """What *tokens* cost in Beijing."""
    return pytest.approx(tokens * _models.PRICES[model, "cn-beijing"].per_million / 1e6)


@pytest.mark.parametrize(("model", "region"), _models.PRICES)
def test_the_price_of_a_region(model, region):
    """Where the list price is known, a text call's cost is that price of its tokens."""
    price = _models.PRICES[model, region]

    estimate = Reranker(api_key="sk-x", region=region, model=model).estimate(_QUERY, _DOCUMENTS)

    assert estimate.list_price is price
    assert estimate.cost == pytest.approx(estimate.tokens * price.per_million / 1e6)


def test_cost(rank, priced, emulator):
    """A call of several requests costs what all of its billed tokens do."""
    priced.max_documents_per_request = 2

    usage = rank(priced, _QUERY, _DOCUMENTS).usage

    assert (usage.requests, usage.tokens) == (2, billed(emulator).tokens)
    assert (usage.cost, usage.currency) == (listed("qwen3-rerank", usage.tokens), "CNY")
    assert priced.usage == usage


def test_no_cost_without_a_price(priced, monkeypatch):
    """Costs of models of one currency are summed; one without a price leaves the sum without."""
    first = priced.rerank(_QUERY, _DOCUMENTS).usage
    second = priced.rerank(_QUERY, _DOCUMENTS, model="gte-rerank-v2").usage
    assert (priced.usage.cost, priced.usage.currency) == (first.cost + second.cost, "CNY")

    monkeypatch.delitem(_models.PRICES, ("gte-rerank-v2", ""))  # as everywhere but in a region
    unknown = priced.rerank(_QUERY, _DOCUMENTS, model="gte-rerank-v2").usage

    assert unknown.tokens > 0
    for usage in (unknown, priced.usage):
        assert (usage.cost, usage.currency) == (None, None)


@pytest.mark.parametrize(
    ("query", "documents"),
    [(_QUERY, ["green tea", ("a red sports car", _PICTURE)]), (_PICTURE, ["green tea"])],
    ids=["document", "query"],
)
def test_no_cost_of_images(priced, query, documents):
    """Images have a price of their own, so that a call with one has no known cost."""
    usage = priced.rerank(query, documents, model="qwen3-vl-rerank").usage

    assert usage.tokens > 0
    assert (usage.cost, usage.currency) == (None, None)


@pytest.mark.parametrize("model", ["qwen3-rerank", "qwen3-vl-rerank"])
def test_cost_where_only_texts_are_sent(priced, model):
    """Images beside them that were not asked about have no part in it, nor in an estimate."""
    reranker = priced.with_options(model=model, mixed="text")
    documents = ["green tea", ("a red sports car", _PICTURE), ("tea", "old hills")]

    expected = reranker.estimate(_QUERY, documents)
    usage = reranker.rerank(_QUERY, documents).usage

    assert usage.cost == listed(model, usage.tokens)
    assert expected.cost == listed(model, expected.tokens)


@pytest.mark.parametrize("query", [_QUERY, _PICTURE])
def test_what_the_cache_knew_costs_nothing(priced, query):
    """Nobody is asked about it: the sum stays as it was, and an estimate says so.

    What it costs to ask about images is not known, nor estimated.
    """
    reranker = priced.with_options(model="qwen3-vl-rerank", cache={})
    documents = [_PICTURE, "green tea"]
    assert reranker.estimate(query, documents).cost is None

    first = reranker.rerank(query, documents).usage
    again = reranker.rerank(query, documents).usage

    assert (first.cost, again.cost, again.currency) == (None, 0.0, "CNY")
    assert (again.requests, again.cache_hits) == (0, 2)
    assert reranker.usage == first + again
    assert reranker.estimate(query, documents).cost == 0.0


def test_no_cost_of_what_was_not_reported(priced, emulator):
    """Where the service reported no tokens, neither they nor their cost are known; 0 is 0."""
    scores = [{"index": at, "relevance_score": 0.5} for at in range(2)]
    body = {"request_id": "1", "output": {"results": scores}}
    emulator.script(Reply(body=body | {"usage": {"total_tokens": 0}}), Reply(body=body))

    free = priced.rerank(_QUERY, _DOCUMENTS[:2]).usage
    usage = priced.rerank(_QUERY, _DOCUMENTS[:2]).usage

    assert (free.tokens, free.cost, free.currency) == (0, 0.0, "CNY")
    assert (usage.requests, usage.tokens, usage.cost) == (1, None, None)
    assert priced.usage == free + usage


# Sums

_COUNTS = st.integers(0, 10**9)
_PAID = st.builds(
    Usage,
    requests=st.integers(1, 10**6),
    tokens=st.integers(1, 10**9),
    cache_hits=_COUNTS,
    cost=st.floats(0, 1e6),
    currency=st.sampled_from(["CNY", "USD"]),
)
_UNPRICED = st.builds(Usage, st.integers(1, 10**6), st.integers(1, 10**9), _COUNTS)
_FREE = st.builds(Usage, cache_hits=_COUNTS)
_UNREPORTED = st.builds(Usage, st.integers(1, 10**6), st.none(), _COUNTS)
_USAGES = _PAID | _UNPRICED | _FREE | _UNREPORTED


@given(st.lists(_USAGES, max_size=6), st.integers(0, 6))
def test_a_sum(usages, first):
    """A sum has a cost if all that was billed has one, in one currency; counts always add up.

    Tokens are known of a sum if they are known of every part: none is left out silently. It does
    not matter in which groups usages are added.
    """
    total = sum(usages[:first], Usage()) + sum(usages[first:], Usage())

    for name in ("requests", "cache_hits"):
        assert getattr(total, name) == sum(getattr(usage, name) for usage in usages)
    bills = [usage.tokens for usage in usages]
    assert total.tokens == (None if None in bills else sum(bills))
    costs = [(usage.cost, usage.currency) for usage in usages if usage.tokens != 0]
    if len({currency for _, currency in costs}) == 1 and None not in dict(costs):
        assert total.cost == pytest.approx(sum(cost for cost, _ in costs))
        assert total.currency == costs[0][1]
    else:
        assert (total.cost, total.currency) == (None, None)


def test_repr():
    """Shown in one line, with a cost where there is one."""
    usage = Usage(1, 20, 3, 0.00001, "CNY")

    assert repr(usage) == "Usage(requests=1, tokens=20, cache_hits=3, cost=0.000010 CNY)"


def test_nothing_is_neutral():
    """Nothing added to a free call changes nothing."""
    free = Usage(cache_hits=3, cost=0.0, currency="CNY")

    assert free + Usage() == Usage() + free == free


def test_adds_usages_only():
    """What is no usage cannot be added to one."""
    with pytest.raises(TypeError):
        _ = Usage(1, 20) + 3


def test_prices_and_their_sources():
    """Every price says its currency, where it stands, and when it was read."""
    for price in (*_models.PRICES.values(), *(row[-1] for row in _models.LISTED_TOO)):
        assert price.per_million > 0
        assert price.currency in {"CNY", "USD"}
        assert price.source
        assert price.date
