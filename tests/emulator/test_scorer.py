import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank.emulator._scorer import lexical_score

ANY_TEXT = st.text(st.characters(), max_size=60)


@given(ANY_TEXT, ANY_TEXT)
def test_scores_lie_between_zero_and_one(query, document):
    """Whatever the texts, a score is a number between 0 and 1, both excluded."""
    assert 0 < lexical_score(query, document) < 1


@pytest.mark.parametrize(
    ("query", "better", "worse"),
    [
        ("refund for annual plans", "An annual plan is refunded in 30 days", "We ship to Peru"),
        ("blue cats", "one blue cat", "one blue dog"),
        ("a city", "many cities", "many villages"),
        ("boxes", "a box", "a crate"),
        ("glass", "made of glass", "made of wood"),
        ("zymurgy of beer", "a book on zymurgy", "a book of and for the beer"),
        ("machine learning", "machine learning is fun", "learning how a machine is built"),
        ("cafe", "le café est ouvert", "le thé est servi"),
        ("CAFÉ", "un cafe", "un the"),
        ("российский флаг", "Над домом поднят российский флаг", "Над домом летит птица"),
        ("елка", "ёлка стоит", "дом стоит"),
        ("كتاب جديد", "هذا كِتَابٌ جديد", "هذا بيت قديم"),
        ("北京天气", "今天北京的天气很好", "上海的股票市场"),
        ("東京タワー", "東京タワーに行く", "大阪城を見る"),
        ("한국어 공부", "한국어를 공부합니다", "영화를 봅니다"),
        ("สวัสดี", "สวัสดีครับ", "ขอบคุณครับ"),
        ("हिन्दी भाषा", "हिन्दी एक भाषा है", "यह एक घर है"),
        ("straße", "DIE STRASSE", "DAS HAUS"),
        ("file abc", "ﬁle ＡＢＣ", "page xyz"),  # noqa: RUF001  meant
        ("snake_case names", "the case of a snake", "the house of a dog"),
    ],
)
def test_the_better_match_scores_higher(query, better, worse):
    """Shared words raise a score, rare ones more, in any script, whatever case and accents."""
    assert lexical_score(query, better) > lexical_score(query, worse)


def test_no_shared_term_scores_lowest():
    """A document without any of the query's words gets the one lowest score, near 0."""
    lowest = lexical_score("pilot licence", "Bo collects stamps")

    assert lowest == lexical_score("quite other words", "Ana") == lexical_score("???", "???")
    assert lowest < 0.01


def test_a_full_match_scores_high():
    """A sentence that holds all of the query scores over 0.7."""
    assert lexical_score("who holds a pilot licence", "Ana holds a pilot licence, who?") > 0.7


def test_repetition_saturates():
    """A word said many times counts more than once, but not in proportion."""
    text = "filler " * 30
    once, twice, often = (lexical_score("beer", text + "beer " * n) for n in (1, 2, 8))

    assert once < twice < often < 4 * once


def test_scores_are_the_same_in_every_process():
    """A score does not depend on the process that computes it, to the last bit."""
    pair = ("blue cat on a warm roof", "the warm roof of a blue cat, a blue cat on a roof")
    code = f"from qwen_rerank.emulator._scorer import lexical_score as s; print(repr(s(*{pair!r})))"
    elsewhere = subprocess.run(  # noqa: S603  our own interpreter, our own code
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert elsewhere.stdout.strip() == repr(lexical_score(*pair))
