"""Makes the models that the servers serve, of random weights; run by a server's own Python.

    python tiny_models.py bert FOLDER TOKENS
    python tiny_models.py qwen3 FOLDER TOKENS QWEN_TIKTOKEN

Their scores mean nothing. They differ from text to text and depend on the pair alone, which is all
that is needed to see whether a ranking is what the server said. Nothing is downloaded.
"""

import string
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

_SPREAD = 0.4  # of the weights: at the usual 0.02 all scores would be the same


def bert(folder: Path, tokens: int) -> None:
    """A cross-encoder as bge-reranker is one, with a vocabulary of letters and a few words."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = ["car", "red", "fast", "tea", "green", "the", "of", "number", "document"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text(
        "\n".join([*special, *words, *letters, *(f"##{each}" for each in letters)])
    )
    tokenizer = BertTokenizerFast(vocab_file=str(vocabulary), model_max_length=tokens)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=tokens,
        num_labels=1,
        initializer_range=_SPREAD,
    )
    _save(BertForSequenceClassification(config), tokenizer, folder)


def qwen3(folder: Path, tokens: int, tiktoken: str) -> None:
    """A language model as Qwen3-Reranker is one, which says yes or no, with Qwen's vocabulary."""
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from transformers.convert_slow_tokenizer import TikTokenConverter

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    converter = TikTokenConverter(tiktoken, pattern=pattern, extra_special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(),
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=tokens,
    )
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=tokens,
        tie_word_embeddings=True,
        initializer_range=_SPREAD,
    )
    _save(Qwen3ForCausalLM(config), tokenizer, folder)


def _save(model: torch.nn.Module, tokenizer: object, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    torch.manual_seed(0)
    kind, path, most, *more = sys.argv[1:]
    Path(path).mkdir(parents=True, exist_ok=True)
    {"bert": bert, "qwen3": qwen3}[kind](Path(path), int(most), *more)
