import pytest

from qwen_rerank.emulator import _models
from qwen_rerank.emulator._models import (
    MODELS,
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
