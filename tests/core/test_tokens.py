import importlib.util
import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank import _bound, _tokens

_SAMPLES = [
    "",
    " ",
    "A fast red car.",
    "don't I'LL we've",
    "\u4e2d\u6587\u5206\u8bcd\uff0c\u4f60\u597d\u3002",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
    "e\u0301 \u00e9 \u0958 \ufb2c \u1100\u1161\u11a8",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "1234567890 3.14 0x1F",
    "a\n\n\n  b\t\tc   \r\n d   ",
    "x" * 1_000,
    "\x00\x01\x7f",
    "def f(x):\n    return x ** 2  # square\n",
]
_MARKERS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|extra_0|>"]

# Letters, marks that compose or grow under NFC, markers, white space, and anything else.
_TEXT = st.lists(
    st.one_of(
        st.text(),
        st.text(alphabet="\u0958\u095c\ufb2c\ufb1f\U0001d15e\u0344\u212b\u0301\u0316a\u1100\u1161"),
        st.sampled_from(_MARKERS),
        st.text(alphabet=" \n\t\r\u3000"),
    ),
    max_size=6,
).map("".join)


def _head(tokenizer, text, most):
    return text[: tokenizer.head(text, most)]


def _tail(tokenizer, text, most):
    return text[tokenizer.tail(text, most) :]


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer():
    return _tokens.tokenizer()


@given(_TEXT, st.integers(0, 40))
def test_a_cut_text_is_an_end_within_the_limit(tokenizer, text, limit):
    """What is kept has at most the wanted tokens and is the beginning of the text, or its end."""
    head, tail = _head(tokenizer, text, limit), _tail(tokenizer, text, limit)

    assert tokenizer.count(head) <= limit
    assert tokenizer.count(tail) <= limit
    assert text.startswith(head)
    assert text.endswith(tail)


def test_a_cut_keeps_as_much_as_it_can(tokenizer):
    """A cut text of plain words is full to the limit, far into a text too."""
    text = " ".join(f"word{number}" for number in range(9_000))

    assert _head(tokenizer, "one two three four five six", 4) == "one two three four"
    assert _tail(tokenizer, "one two three four five six", 3) == " four five six"
    assert tokenizer.count(_tail(tokenizer, text, 30_000)) == 30_000


def test_a_cut_is_counted_again(monkeypatch, tokenizer):
    """A head that turns out to have more tokens than it had within the text is cut further."""
    monkeypatch.setattr(tokenizer, "count", len)  # as if every letter of a head were a token

    assert _head(tokenizer, "one two three four five", 4) == "one"


def test_a_cut_never_halves_a_character(tokenizer):
    """A character of several tokens is kept whole or left out."""
    text = "\U0001f9ff" * 10

    for limit in range(1, tokenizer.count(text)):
        assert set(_head(tokenizer, text, limit)) <= {"\U0001f9ff"}


def test_markers_are_plain_text(tokenizer):
    """A document cannot smuggle in the control tokens of a chat model."""
    for marker in _MARKERS:
        assert tokenizer.count(marker) > 1
        assert marker == _head(tokenizer, marker, 100)


@pytest.mark.parametrize("characters", ["a", " ", "\U0001f600", "\u0301\u0316"])
def test_very_long_runs(tokenizer, characters):
    """300,001 characters end, whatever naive tokenizers make of them: their square takes minutes.

    Such as equal ones, or alternating accents, on which Unicode normalisation is quadratic.
    """
    text = (characters * 300_001)[:300_001]

    count = tokenizer.count(text)
    head = _head(tokenizer, text, 1_000)
    tail = _tail(tokenizer, text, 1_000)

    assert 0 < count <= min(_bound.far(text), _bound.near(text))
    assert text.startswith(head)
    assert text.endswith(tail)
    assert 900 < tokenizer.count(head) <= 1_000
    assert 900 < tokenizer.count(tail) <= 1_000


@given(_TEXT, st.integers(8, 40), st.integers(300, 1_000))
def test_windows(tokenizer, text, most, characters):
    """Windows cover the whole text in order, and each is within both limits."""
    windows = tokenizer.windows(text, most, characters)

    assert windows[0][0] == 0
    assert windows[-1][1] == len(text)
    for (start, end), (after, _) in pairwise(windows):
        assert start <= after <= end
    for start, end in windows:
        assert tokenizer.count(text[start:end]) <= most
        assert end - start <= characters


def test_windows_overlap_and_are_even(tokenizer):
    """A passage at a border is whole in one of the windows, and no window is a leftover."""
    text = " ".join(f"word{number}" for number in range(3_000))

    windows = tokenizer.windows(text, 1_000, 300_000)

    sizes = [tokenizer.count(text[start:end]) for start, end in windows]
    assert all(before[1] - after[0] > 100 for before, after in pairwise(windows))
    assert max(sizes) - min(sizes) < 50


@pytest.mark.parametrize(
    "spec",
    [
        None,
        SimpleNamespace(submodule_search_locations=None),
        SimpleNamespace(submodule_search_locations=["/none"]),
    ],
    ids=["no package", "no folder", "no file"],
)
def test_missing_vocabulary(monkeypatch, spec):
    """Without dashscope's vocabulary file the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)

    with pytest.raises(RuntimeError, match=r'pip install "dashscope>=1\.22,<3"'):
        _tokens.tokenizer.__wrapped__()


@pytest.mark.slow
def test_counts_like_the_sdk(tokenizer, fresh, tmp_path):
    """Counts equal those of the tokenizer that ships in dashscope."""
    script = """
import json, sys
from dashscope.tokenizers.tokenizer import get_tokenizer
theirs = get_tokenizer("qwen-turbo")
samples = json.load(open(sys.argv[1]))
print(json.dumps([len(theirs.encode(text, allowed_special=set(), disallowed_special=()))
                  for text in samples]))
"""
    samples = [*_SAMPLES, *_MARKERS]
    file = tmp_path / "samples.json"
    file.write_text(json.dumps(samples))

    theirs = json.loads(fresh(script, str(file), strict=False))

    assert theirs == [tokenizer.count(text) for text in samples]
