import pytest

from qwen_rerank.emulator._limits import BODY_BYTES, DOCUMENT_CHARACTERS, MODELS, Documented


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_number_has_a_source_and_a_date(model):
    """No limit is without somebody who says so, and when."""
    for number in (model.documents, model.item_tokens, model.request_tokens):
        assert isinstance(number, Documented)
        assert number.value > 0
        assert number.source
        assert number.date.startswith("202")


def test_the_gateway_limits_are_documented_too():
    """300,000 characters per document and 16 MiB per body."""
    assert DOCUMENT_CHARACTERS[0] == 300_000
    assert BODY_BYTES[0] == 16 * 2**20


def test_the_retired_model_is_unknown():
    """gte-rerank was retired on 2026-05-30."""
    assert "gte-rerank" not in MODELS


@pytest.mark.parametrize(
    ("name", "documents", "item", "request_"),
    [
        ("qwen3.7-text-rerank", 500, 30_000, 120_000),
        ("qwen3-rerank", 500, 4_000, 120_000),
        ("qwen3-vl-rerank", 100, 8_000, 120_000),
        ("gte-rerank-v2", 500, 4_000, 30_000),
    ],
)
def test_the_table_of_models(name, documents, item, request_):
    """The numbers are the vendor's newest ones."""
    model = MODELS[name]

    assert (documents, item, request_) == (
        model.documents.value,
        model.item_tokens.value,
        model.request_tokens.value,
    )
