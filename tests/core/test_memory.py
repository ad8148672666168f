"""How much memory one large call takes, as the system counts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# In a process of its own, so that only the client's memory is measured.
_SERVER = """
import asyncio, json
async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            length = int((head.partition(b"content-length:")[2].split() or [0])[0])
            asked = json.loads(await reader.readexactly(length)) if length else None
            texts = asked["input"]["documents"] if asked else []
            results = [{"index": i, "relevance_score": len(t) / 1e6} for i, t in enumerate(texts)]
            answer = json.dumps({"output": {"results": results}}).encode() if asked else b""
            head = b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(answer)
            writer.write(head + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

_ENGLISH = "Green tea grows on the hills. "
_CHINESE = "\u7eff\u8336\u751f\u957f\u5728\u5c71\u4e0a\uff0c"

# Peak growth of the whole process, tokenizer, imports and connections paid for before.
_CLIENT = """
import asyncio, json, sys
from qwen_rerank import Reranker
port, *sentences = sys.argv[1:]
base_url = f"http://127.0.0.1:{port}/api/v1"
def cut(text):
    return text.encode()[:4_096].decode(errors="ignore")
documents = [cut(f"{number} " + sentences[number % 2] * 400) for number in range(10_000)]
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
assert len(ranking) == 10_000
assert all(hit.score is not None for hit in ranking)
print(json.dumps([grown, payload, ranking.usage.requests]))
"""


@pytest.fixture(name="port")
def _port():
    """A server in a process of its own that scores documents by their length."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        yield server.stdout.readline().strip()
        server.kill()


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads the process's peak in /proc"
)
def test_ten_thousand_candidates(fresh, port):
    """Ranking 10,000 candidates of 4 KB takes less than twice their size on top of them."""
    grown, payload, requests = json.loads(fresh(_CLIENT, port, _ENGLISH, _CHINESE))

    assert 40_000_000 < payload <= 10_000 * 4_096
    assert requests >= 20
    assert grown < 2 * payload, f"{grown / payload:.2f} times the payload"
