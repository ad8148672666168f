#!/usr/bin/env bash
# Seen with langchain-cohere 0.6.0, cohere 5.21.1, Python 3.11.
#
# CohereRerank.rerank() takes dicts, with rank_fields or whole, and turns each into YAML before it is
# sent. That YAML escapes everything outside ASCII, so a Chinese or French text is ranked, and billed,
# as its escapes; and a dict that has none of the rank_fields is ranked as the text "{}", without an
# error. The same texts given as str arrive as they are.
# Output (what was sent):
#
#     a str: 绿茶
#     a dict: text: "\u7EFF\u8336"
#     a dict without the field: {}
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langchain-cohere==0.6.0 cohere==5.21.1
cat >"$folder/run.py" <<'PYTHON'
import json
import sys

import cohere
import httpx
from langchain_cohere import CohereRerank

sys.stdout.reconfigure(encoding="utf-8")
sent = []


def answer(request):
    sent.extend(json.loads(request.content)["documents"])
    return httpx.Response(200, json={"results": [{"index": 0, "relevance_score": 0.5}]})


http = httpx.Client(transport=httpx.MockTransport(answer))
reranker = CohereRerank(client=cohere.ClientV2("none", httpx_client=http), model="rerank-v3.5")
reranker.rerank(["绿茶"], "茶")
reranker.rerank([{"text": "绿茶"}], "茶", rank_fields=["text"])
reranker.rerank([{"title": "绿茶"}], "茶", rank_fields=["text"])
for name, text in zip(("a str", "a dict", "a dict without the field"), sent, strict=True):
    print(f"{name}: {text.strip()}")
PYTHON
diff <(sed -n 's/^#     //p' "$0") <("$folder/venv/bin/python" "$folder/run.py")
