#!/usr/bin/env bash
# Seen with transformers 5.19.0, Python 3.11; torch is not needed.
#
# Whether a Qwen model ties its output to its input embeddings stands in tie_word_embeddings. Of a
# Qwen2-VL or Qwen3-VL it is known for the whole only: the configuration of its language model,
# get_text_config(), has no such attribute, unless the file that was read happens to have it there.
#
#     Qwen3Config: True
#     Qwen2VLConfig: True, its text: AttributeError
#     Qwen3VLConfig: True, its text: AttributeError
#     with it in text_config, written and read: True
#
# vLLM 0.32.0, which reads text_config.tie_word_embeddings where it makes a reranker of a Qwen3-VL
# (--hf-overrides with Qwen3VLForSequenceClassification and is_original_qwen3_reranker), ends with
# that AttributeError when it loads a model whose config.json transformers has written anew, as after
# fine-tuning. Putting "tie_word_embeddings" into its text_config helps.
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0
cat >"$folder/run.py" <<'PYTHON'
import sys

from transformers import AutoConfig, Qwen2VLConfig, Qwen3Config, Qwen3VLConfig


def tied(config):
    try:
        return config.tie_word_embeddings
    except AttributeError as error:
        return type(error).__name__


text_only = Qwen3Config(tie_word_embeddings=True)
print("Qwen3Config:", tied(text_only.get_text_config()))
assert tied(text_only.get_text_config()) is True
for kind in (Qwen2VLConfig, Qwen3VLConfig):
    made = kind(tie_word_embeddings=True)
    of_text = tied(made.get_text_config())
    print(f"{kind.__name__}: {tied(made)}, its text: {of_text}")
    assert of_text == "AttributeError"
made.text_config.tie_word_embeddings = True
made.save_pretrained(sys.argv[1])
again = tied(AutoConfig.from_pretrained(sys.argv[1]).get_text_config())
print("with it in text_config, written and read:", again)
assert again is True
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/run.py" "$folder" 2>/dev/null
