import pytest

from qwen_rerank.emulator import _models
from qwen_rerank.emulator._models import (
    BASE64_CHARACTERS,
    BODY_BYTES,
    DOCUMENT_CHARACTERS,
    MODELS,
    WIRE_BYTES,
    Documented,
)

NUMBERS = {name: value for name, value in vars(_models).items() if isinstance(value, Documented)}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_number_has_a_source_and_a_date(model):
    """No limit is without somebody who says so, and when."""
    numbers = [value for value in vars(model).values() if isinstance(value, tuple)]

    assert {model.documents, model.item_tokens, model.request_tokens} <= {*numbers}
    for number in numbers:
        check(number)


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_so_has_every_number_that_no_model_has_for_itself(number):
    """What holds for all models, and what an image costs, has its source and date too."""
    check(number)


def check(number):
    """Fail unless *number* says where it comes from; what was made up says that."""
    assert isinstance(number, Documented)
    assert number.value > 0
    assert number.source
    assert number.source in _models.__doc__
    assert number.date.startswith("202")


def test_the_gateway_limits_are_documented_too():
    """300,000 characters per document, 16 MiB per body, 64 MiB with base64, 20 MiB of it each."""
    assert DOCUMENT_CHARACTERS[0] == 300_000
    assert BODY_BYTES[0] == 16 * 2**20
    assert WIRE_BYTES[0] == 64 * 2**20
    assert BASE64_CHARACTERS[0] == 20 * 2**20


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


def test_pictures_and_films_are_for_one_model():
    """qwen3-vl-rerank takes 40 images and 4 videos, the others none."""
    taking = {name: (row.images[0], row.videos[0]) for name, row in MODELS.items() if row.images}

    assert taking == {"qwen3-vl-rerank": (40, 4)}
