"""Texts that name options: which sentences are said, how options are spelled, what is counted."""

import copy
import pickle

import pytest

from qwen_rerank._advice import Advice, Option, advise, counted, said

_CHOICE = ("Change {base_url=:now}.", "Set {region=} or {base_url=}.")


@pytest.mark.parametrize(
    ("sentence", "given", "text"),
    [
        (_CHOICE, {}, "Set region= or base_url=."),
        (_CHOICE, {"base_url": "x"}, "Change base_url=."),
        (_CHOICE, {"region": "x"}, ""),
        ("Set {protocol='dashscope'}", {"protocol": "compatible"}, "Set protocol='dashscope'"),
        ("Set {protocol='dashscope'}", {"protocol": "dashscope"}, ""),
    ],
)
def test_the_first_sentence_that_fits(sentence, given, text):
    """Nobody is told to set what is set so already, nor to change what is not."""
    assert advise(sentence, given=given) == text


def test_values_are_said_as_they_are():
    """What is filled in is no template, and a sentence about nothing is left out."""
    text = advise("{model} of {host}.", "By {key}.", model="a{region=}", host="h", key="")
    assert text == "a{region=} of h."
    assert text.parts == ("", "a{region=}", " of ", "h", ".")


def test_options_are_spelled_by_who_shows_them():
    """As a string in Python's words; copies, pickles and sums can still be spelled otherwise."""
    text = advise("Set {region='x'}, change {timeout=:change}.") + " Or " + Advice(Option("model"))
    assert text == "Set region='x', change timeout=. Or model="
    for same in (copy.deepcopy(text), pickle.loads(pickle.dumps(text)), said(ValueError(text))):  # noqa: S301  ours
        assert same.spelled(lambda option: option.name.upper()) == (
            "Set REGION, change TIMEOUT. Or MODEL"
        )


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 texts"), (1, "1 text"), (2_000, "2,000 texts"), (None, "texts unk")]
)
def test_counted(number, text):
    """One is one, and what nobody knows is no number."""
    assert counted(number, "text").startswith(text)
