#!/usr/bin/env bash
# Seen with infinity-emb 0.0.78, torch 2.13.0, transformers 4.57.6, Python 3.11.
#
# POST /rerank answers with usage.prompt_tokens and usage.total_tokens. They are no tokens: unless
# the server was started with --lengths-via-tokenize, they are the characters of the query, once for
# each document, and of the documents. Whoever adds them up as tokens bills some four times too
# much for English. Output, of the server's engine with a tiny model of random weights:
#
#     3 documents, 56 characters in all pairs
#     as it starts by itself: 56
#     with --lengths-via-tokenize: 11
#
# The latter are the tokens of query and document put together without a blank between them
# ("fast red carred car"), and without the special tokens that the model reads.
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet "infinity-emb[server,torch]==0.0.78" transformers==4.57.6
cat >"$folder/run.py" <<'PYTHON'
import asyncio
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = os.environ["DO_NOT_TRACK"] = "1"

from infinity_emb import AsyncEmbeddingEngine, EngineArgs
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

folder = Path(sys.argv[1])
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "car", "tea", "fast"]
(folder / "vocab.txt").write_text("\n".join(words))
tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=512)
tokenizer.save_pretrained(folder)
size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
config = BertConfig(vocab_size=len(words), intermediate_size=32, num_labels=1, **size)
BertForSequenceClassification(config).save_pretrained(folder)

query, documents = "fast red car", ["red car", "green tea", "fast"]
characters = sum(len(query) + len(each) for each in documents)
print(f"{len(documents)} documents, {characters} characters in all pairs")


async def usage(**more):
    args = EngineArgs(model_name_or_path=str(folder), engine="torch", device="cpu", **more)
    engine = AsyncEmbeddingEngine.from_args(args)  # what the server asks
    async with engine:
        return (await engine.rerank(query=query, docs=documents))[1]


by_itself, tokenized = asyncio.run(usage()), asyncio.run(usage(lengths_via_tokenize=True))
print(f"as it starts by itself: {by_itself}")
print(f"with --lengths-via-tokenize: {tokenized}")
assert by_itself == characters
assert tokenized < characters
PYTHON
mkdir "$folder/model"
"$folder/venv/bin/python" -W ignore "$folder/run.py" "$folder/model" 2>/dev/null
