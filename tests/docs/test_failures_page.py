"""docs/failures.md shows what every error says, and none says what is of no use."""

import itertools
import re

from write_failures import PAGE, SETTINGS, page, refused, rows, settings

from qwen_rerank import RequestError
from qwen_rerank._advice import Advice, Option

_ROWS = list(rows())


def test_page_is_true():
    """The list of texts is written from the code as it is."""
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/failures.md is old: run make failures"


def test_no_hint_names_an_option_that_is_set_already():
    """Whoever has set an option is not told to set it so; who has not, not to look at it."""
    for row, given in itertools.product(_ROWS, SETTINGS):
        hint = refused(row, given).hint
        assert hint is None or isinstance(hint, Advice)
        for option in hint.parts if hint else ():
            if isinstance(option, Option) and option.use == "set" and option.name in given:
                assert option.value not in (None, repr(given[option.name])), (row, hint)


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
