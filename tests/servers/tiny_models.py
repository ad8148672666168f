"""Makes the models that the servers serve, of random weights; run by a server's own Python.

    python tiny_models.py bert FOLDER TOKENS
    python tiny_models.py qwen3 FOLDER TOKENS QWEN_TIKTOKEN
    python tiny_models.py qwen3_vl FOLDER TOKENS QWEN_TIKTOKEN

Their scores mean nothing. They differ from text to text and depend on the pair alone, which is all
that is needed to see whether a ranking is what the server said. Nothing is downloaded.
"""

import json
import string
import sys
from pathlib import Path
from typing import Any

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
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _qwen_tokenizer(tokens, tiktoken)
    config = Qwen3Config(**_decoder(tokenizer, tokens), tie_word_embeddings=True)
    _save(Qwen3ForCausalLM(config), tokenizer, folder)


def qwen3_vl(folder: Path, tokens: int, tiktoken: str) -> None:
    """Likewise one that sees, as Qwen3-VL-Reranker does."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _qwen_tokenizer(tokens, tiktoken, *marks)
    start, end, image, video = tokenizer.convert_tokens_to_ids(marks)
    places = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    eye = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "out_hidden_size": 64,
        "deepstack_visual_indexes": [0, 1],
        "num_position_embeddings": 256,
        "initializer_range": _SPREAD,
    }
    config = Qwen3VLConfig(
        text_config={**_decoder(tokenizer, tokens), "rope_parameters": places},
        vision_config=eye,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        tie_word_embeddings=True,
    )
    looks = {
        "patch_size": 16,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 32 * 32, "longest_edge": 256 * 256},  # pixels of the whole
    }
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**looks),
        video_processor=Qwen3VLVideoProcessor(**looks),
        tokenizer=tokenizer,
    )
    _save(Qwen3VLForConditionalGeneration(config), processor, folder)
    # vLLM reads it here, where the published models have it and transformers writes it no more.
    written = folder / "config.json"
    told = json.loads(written.read_text())
    told["text_config"]["tie_word_embeddings"] = True
    written.write_text(json.dumps(told))


def _decoder(tokenizer: Any, tokens: int) -> dict[str, Any]:
    """The configuration of a tiny language model."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 128,
        "max_position_embeddings": tokens,
        "initializer_range": _SPREAD,
    }


def _qwen_tokenizer(tokens: int, tiktoken: str, *marks: str) -> Any:
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks]
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    converter = TikTokenConverter(tiktoken, pattern=pattern, extra_special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(),
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=tokens,
    )


def _save(model: torch.nn.Module, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    torch.manual_seed(0)
    kind, path, most, *more = sys.argv[1:]
    Path(path).mkdir(parents=True, exist_ok=True)
    {"bert": bert, "qwen3": qwen3, "qwen3_vl": qwen3_vl}[kind](Path(path), int(most), *more)
