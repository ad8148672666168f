import importlib.util
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank.emulator import _tokenizer
from qwen_rerank.emulator._tokenizer import qwen_tokenizer


def test_known_counts():
    """Words, digits and Chinese count as the Qwen vocabulary says."""
    counts = [qwen_tokenizer().count(text) for text in ("", "hello world", "2024", "你好世界")]

    assert counts == [0, 2, 4, 2]


def test_markup_of_chat_models_is_plain_text():
    """A special token's spelling in a document is not a special token."""
    assert qwen_tokenizer().count("<|endoftext|>") > 1


def test_composed_and_decomposed_letters_count_the_same():
    """Text is normalised to NFC first."""
    tokenizer = qwen_tokenizer()

    assert tokenizer.encode("e\u0301te\u0301") == tokenizer.encode("\u00e9t\u00e9")


@given(st.text(), st.integers(0, 20))
def test_a_cut_text_fits(text, tokens):
    """What is left of a text after a cut is no longer than asked, but for a split character."""
    cut = qwen_tokenizer().cut(text, tokens)

    assert qwen_tokenizer().count(cut) <= tokens


def test_a_cut_leaves_out_a_split_character():
    """The head is kept; of it a character spelt by several tokens whole or not at all."""
    tokenizer = qwen_tokenizer()
    text = "ab \U0001f9ec"

    assert tokenizer.count(text) > 3
    assert tokenizer.cut(text, tokenizer.count(text) - 1) == "ab "
    assert tokenizer.cut("one two three four", 2) == "one two"


@pytest.mark.parametrize("text", ["a" * 300_000, " " * 300_000, "\n" * 300_000, "word " * 60_000])
def test_long_texts_are_counted(text):
    """Neither a very long word nor a very long run of spaces overflows the tokenizer."""
    assert 0 < qwen_tokenizer().count(text) <= len(text)


def test_chunks_do_not_change_the_count():
    """A long text of words has the tokens of its words, wherever it is cut for encoding."""
    tokenizer = qwen_tokenizer()
    text = " ".join(f"word{'  ' * (place % 3)} {place}" for place in range(20_000))
    lines = text.replace("  ", " \n ")

    assert tokenizer.encode(text) == tokenizer._encoding.encode_ordinary(text)
    assert "".join(_tokenizer._chunks(lines)) == lines


def test_the_vocabulary_is_loaded_once():
    """Emulators that start together share one vocabulary."""
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(qwen_tokenizer())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, seen))) == 1


def test_a_missing_vocabulary_is_explained(monkeypatch):
    """Without the dashscope package the error names the file that is missing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(FileNotFoundError, match=r"qwen\.tiktoken of the dashscope package"):
        _tokenizer._vocabulary_file()
