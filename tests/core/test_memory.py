"""How much memory one large call takes, as the system counts it."""

import json
from pathlib import Path

import pytest

_ENGLISH = "Green tea grows on the hills. "
_CHINESE = "\u7eff\u8336\u751f\u957f\u5728\u5c71\u4e0a\uff0c"

# Peak growth of the whole process, tokenizer, imports and connections paid for before.
_CLIENT = """
import asyncio, json, sys
from qwen_rerank import Reranker
base_url, *sentences = sys.argv[1:]
def cut(text):
    return text.encode()[:4_096].decode(errors="ignore")
documents = [cut(f"{number} " + sentences[number % 2] * 400) for number in range(5_000)]
payload = sum(len(document.encode()) for document in documents)

def reset():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
def resident(field):
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024

reranker = Reranker(base_url=base_url, api_key="sk-x", timeout=500.0)
with asyncio.Runner() as runner:
    runner.run(reranker.awarm_up())
    runner.run(reranker.arerank("red", documents[:50]))
    reset()
    before = resident("VmRSS")
    ranking = runner.run(reranker.arerank("red", documents))
    grown = resident("VmHWM") - before
assert len(ranking) == 5_000
assert all(hit.score is not None for hit in ranking)
print(json.dumps([grown, payload, ranking.usage.requests]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads the process's peak in /proc"
)
def test_five_thousand_candidates(fresh, scorer):
    """Ranking 5,000 candidates of 4 KB takes less than twice their size on top of them."""
    grown, payload, requests = json.loads(fresh(_CLIENT, scorer.url, _ENGLISH, _CHINESE))

    assert 20_000_000 < payload <= 5_000 * 4_096
    assert requests >= 10
    assert grown < 2 * payload, f"{grown / payload:.2f} times the payload"
