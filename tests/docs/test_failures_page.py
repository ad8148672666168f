"""docs/failures.md shows what every error says, and none says what is of no use."""

import re

import pytest
from write_failures import PAGE, SETTINGS, page, refused, rows, settings

from qwen_rerank import RequestError
from qwen_rerank._advice import Advice, Option

_ROWS = list(rows())


def test_page_is_true():
    """The list of texts is written from the code as it is."""
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/failures.md is old: run make failures"


@pytest.mark.parametrize("row", _ROWS, ids=[f"{row.server} {row.name}"[:60] for row in _ROWS])
def test_no_hint_names_an_option_that_is_set_already(row):
    """Whoever has set an option is not told to set it so; who has not, not to look at it."""
    for given in SETTINGS:
        hint = refused(row, given).hint
        assert hint is None or isinstance(hint, Advice)
        for option in hint.parts if hint else ():
            if not isinstance(option, Option):
                continue
            set_so = option.value in (None, repr(given.get(option.name)))
            assert not (option.use == "set" and option.name in given and set_so), hint


def test_every_refusal_that_lasts_says_what_to_do():
    """Only what passes by itself may have no hint."""
    assert all(refused(row, {}).hint or refused(row, {}).retryable for row in _ROWS)
    assert not any(
        isinstance(error := refused(row, given), RequestError) and not error.hint
        for row in _ROWS
        for given in SETTINGS
    )


def test_no_text_counts_wrong():
    """Nothing is said of "1 documents", and no field of a template is left open."""
    texts = [refused(row, given).hint or "" for row in _ROWS for given in ({}, *SETTINGS)]
    texts += [str(error) for _, error in settings()]
    assert not [text for text in texts if re.search(r"\b1 \w+s\b|[{}]", text)]
