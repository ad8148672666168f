import importlib.util
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given, target
from hypothesis import strategies as st

from qwen_rerank import _bound, _tokens

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_token_table.py"
# Of the vocabulary and the table whose chains were walked last, which takes half a minute.
WALKED = "f44a30380dd983a6d59e2d4030bc9725bbfe8c464e6655cf378f0a101409d09d"
ONES = {
    chr(8 * at + bit)
    for at, byte in enumerate(_bound.TABLE.read_bytes())
    for bit in range(8)
    if byte >> bit & 1
}

# Where the bound is tightest: its exceptions, letters that join, characters that tokens straddle.
_PIECES = (
    *("gk", "wv", "yf", "yv", "'Ll", "'ll", "'Ve", "'re"),
    *(" ", "  ", "\n", "the", "a", "z", "X", "1"),
    *("\u00a4", "\ud000", "\u4e2d", "\u3042", "\u0e32", "\u0301", "\u0958", "\U0001f600", "\u00f4"),
)
_TEXT = st.lists(
    st.one_of(
        st.sampled_from(_PIECES),
        st.text(alphabet="abcdefghiklmnoprstuvwy ", max_size=8),
        st.text(alphabet=st.sampled_from(sorted(ONES)), max_size=4),
        st.text(
            alphabet=st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=4
        ),
    ),
    max_size=20,
).map("".join)


@pytest.fixture(name="script", scope="module")
def _script():
    spec = importlib.util.spec_from_file_location("write_token_table", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@given(_TEXT)
@example("\u00a4\ud000" * 3)
@example("gkwvyfyv'Llab" * 9)
@example("a\u0301" * 1_999 + "e\u0301" * 5)
@example("\u0958\ufb2c\U0001d160" * 50)
@example("the cat sat on the mat " * 2_000)
def test_no_text_has_more_tokens_than_either_bound(text):
    """However a text is made, it never has more tokens than the bounds say."""
    count = _tokens.tokenizer().count(text)
    target(count - _bound.near(text))

    assert count <= _bound.near(text)
    assert count <= _bound.far(text)


def test_the_table_holds_for_every_chain_of_the_vocabulary(script):
    """No chain of tokens that straddle characters has more of them than the table gives."""
    both = repr(sorted(script.vocabulary().items())).encode() + _bound.TABLE.read_bytes()

    assert sha256(both).hexdigest() == WALKED or list(script.chains_over_the_bound(ONES)) == []


def test_the_letters_join_as_the_bound_assumes(script):
    """All pairs of the letters are tokens, alone or behind a space, but for the exceptions."""
    letters = [bytes([letter]) for letter in _bound._LETTERS]
    pairs = {a + b for a in letters for b in letters}
    tokens = script.vocabulary().keys()

    assert pairs - tokens == {pair for pair in _bound._NO_TOKENS if len(pair) == 2}
    assert {b" " + letter for letter in letters} <= tokens


@pytest.mark.parametrize(
    ("text", "closer"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 20, 1.1),
        ("\u4e2d\u6587\u5206\u8bcd" * 50, 2),
    ],
)
def test_near_is_closer_than_far(text, closer):
    """The dearer bound is worth its price for English, and more for Chinese."""
    assert _bound.near(text) * closer < _bound.far(text)
