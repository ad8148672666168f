"""What models accept: each number has its source, and is planned for with a margin."""

import math
import re

import pytest

from qwen_rerank._models import LIMITS, RATES, UNKNOWN_MODEL, UNTOLD, limits_for
from qwen_rerank._servers import SERVERS
from qwen_rerank.emulator import _models as theirs

_ROWS = {**LIMITS, "any other name": UNKNOWN_MODEL}
_OWN = {server: limits_for("any name", server) for server in SERVERS}
_OPEN = ("Qwen/Qwen3-Reranker-4B", "BAAI/bge-reranker-v2-m3", "jina-reranker-v2-base")
_NUMBERS = ("documents", "item_tokens", "request_tokens", "item_characters")


def test_every_number_has_a_source_and_a_date():
    """Each limit and each rate says where it was read or seen, and when."""
    limits = [limit for row in RATES.values() for limit in (row.requests, row.tokens)]
    for row in (*_ROWS.values(), *_OWN.values(), *(limits_for(name, "vllm") for name in _OPEN)):
        limits += [getattr(row, number) for number in _NUMBERS]

    for limit in filter(None, limits):  # a server of one's own has no limit of a request
        assert limit.value > 0
        assert limit.source.strip()
        assert re.search(r"202\d", limit.date)
    assert {model for model, _ in RATES} <= set(LIMITS)


@pytest.mark.parametrize("row", LIMITS.values(), ids=LIMITS)
def test_unknown_models_are_planned_for_as_the_strictest(row):
    """Nothing that fits the row for unknown names is refused by a known model."""
    assert UNKNOWN_MODEL is limits_for("QWEN3-RERANK")
    for number in _NUMBERS:
        assert getattr(UNKNOWN_MODEL, number).value <= getattr(row, number).value
    assert UNKNOWN_MODEL.share <= row.share


@pytest.mark.parametrize("row", _ROWS.values(), ids=_ROWS)
def test_nothing_is_planned_to_the_brim(row):
    """Our own count may be a little too small without a refusal."""
    assert 0.5 < row.share < 1
    assert row.planned_query_tokens() < row.item_tokens.value
    assert row.planned_request_tokens < row.request_tokens.value
    assert row.planned_query_tokens() < row.planned_request_tokens


@pytest.mark.parametrize("name", ["/models/qwen3-reranker-8b", "x/Qwen3-Reranker-0.6B-seq-cls"])
def test_open_models_on_servers_of_your_own(name):
    """The open Qwen3 rerankers are known by their name, and their template costs tokens."""
    row = limits_for(name, "vllm")

    assert (row.pair_tokens.value, row.template_tokens, row.request_tokens) == (32_768, 74, None)
    assert row.planned_document_tokens(1_000) == int(32_768 * 0.95) - 74 - 1_000


def test_other_models_on_servers_of_your_own():
    """Of any other name a pair may have as little as most encoders take."""
    row = limits_for("my-reranker", "infinity")

    assert UNTOLD is row.pair_tokens
    assert row.planned_document_tokens(20) == int(512 * 0.75) - 4 - 20
    assert row.planned_request_tokens == math.inf


@pytest.mark.parametrize("model", ["my-reranker", "Qwen/Qwen3-Reranker-0.6B", "qwen3-rerank"])
def test_what_a_pair_may_have(model):
    """Query, document and template are planned for together, and each gets something."""
    row = limits_for(model, "vllm", max_model_len=512)
    query = row.planned_query_tokens()

    assert row.pair_tokens.value == 512
    assert query + row.planned_document_tokens(query) + row.template_tokens < 512
    assert row.planned_document_tokens(10_000) == 1


def test_what_a_document_may_have():
    """A number of the user's own is taken as it is, and of nothing but documents."""
    row = limits_for("my-reranker", "tei", max_tokens_per_doc=300)

    assert row.planned_document_tokens(10_000) == 300
    assert row.planned_query_tokens() == 3_000
    both = limits_for("my-reranker", "tei", max_tokens_per_doc=300, max_model_len=256)
    assert both.planned_document_tokens(10) == 192 - 4 - 10


def test_a_gateway_to_dashscope():
    """A model of DashScope's has its limits behind a gateway as well."""
    assert limits_for("qwen3-rerank", "litellm") == LIMITS["qwen3-rerank"]


def test_another_tokenizer_gets_a_wider_margin():
    """gte-rerank-v2 counts with another vocabulary and is planned at three quarters."""
    assert limits_for("gte-rerank-v2").planned_query_tokens() == 3_000


def test_the_servers_own_limits():
    """What a server refuses by default is not sent to it; the emulator's numbers are the same."""
    most = {server: row.documents.value for server, row in _OWN.items()}

    assert most == dict.fromkeys(SERVERS, 100) | {
        "tei": theirs.TEI_TEXTS.value,
        "infinity": theirs.INFINITY_TEXTS.value,
    }
    assert _OWN["infinity"].item_characters.value == theirs.INFINITY_CHARACTERS.value
    assert _OWN["tei"].body_bytes.value == 2_000_000


@pytest.mark.parametrize("name", LIMITS)
def test_two_readings_of_the_same_pages_agree(name):
    """The client's table and the emulator's own say the same, of the same models."""
    ours, read = LIMITS[name], theirs.MODELS[name]

    assert set(theirs.MODELS) == set(LIMITS)
    for number in ("documents", "item_tokens", "request_tokens"):
        assert getattr(ours, number).value == getattr(read, number).value
    assert ours.item_characters.value == theirs.DOCUMENT_CHARACTERS.value
