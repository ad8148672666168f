import pytest

from qwen_rerank.emulator import _models
from qwen_rerank.emulator._models import MODELS, Documented


@pytest.mark.parametrize("holder", [_models, *MODELS.values()], ids=["all models", *MODELS])
def test_every_number_has_a_source_and_a_date(holder):
    """No limit and no price is without somebody who says so, and when; what was made up says so."""
    numbers = [value for value in vars(holder).values() if isinstance(value, Documented)]

    assert len(numbers) >= 3
    for number in numbers:
        assert number.value > 0
        assert number.source
        assert number.source in _models.__doc__
        assert number.date.startswith("202")


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

    assert model.documents.value == documents
    assert model.item_tokens.value == item
    assert model.request_tokens.value == request_


def test_the_limits_of_bodies():
    """64 MiB as they are sent, 16 MiB after decoding, and 20 MiB of base64 for one image."""
    assert _models.WIRE_BYTES.value == 64 * 2**20
    assert _models.BODY_BYTES.value == 16 * 2**20
    assert _models.BASE64_CHARACTERS.value == 20 * 2**20
