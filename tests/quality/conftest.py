"""Real labelled collections. They are no part of the project: without them these tests skip."""

import asyncio
import gzip
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import pytest
from ir_measures import nDCG

# Read now, because the environment is scrubbed before a test runs.
_PLACE = os.environ.get("QWEN_RERANK_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")


@dataclass(frozen=True)
class Collection:
    """Texts, questions, judgements, and what a first stage found where that is given."""

    documents: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    found: dict[str, list[str]]

    def ndcg(self, rankings: dict[str, list[str]]) -> float:
        """nDCG@10 over all of *rankings*, lists of document ids, best first."""
        run = {
            # Ties are broken by id, so that ranks have to become strictly falling scores.
            query: {document: -float(rank) for rank, document in enumerate(ranking)}
            for query, ranking in rankings.items()
        }
        judged = {query: self.judgements[query] for query in rankings}
        return ir_measures.calc_aggregate([nDCG @ 10], judged, run)[nDCG @ 10]


def _unzipped(file: Path) -> list[str]:
    return gzip.decompress(file.read_bytes()).decode().splitlines()


def _jsonl(lines) -> dict[str, str]:
    return {entry["_id"]: entry["text"] for entry in map(json.loads, lines)}


def _collection(name: str) -> Collection:
    folder = Path(_PLACE, name)
    if not folder.is_dir():
        pytest.skip(f"the collection {name} is not on this machine (QWEN_RERANK_SHARED_DATA)")
    judgements: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judgements.setdefault(query, {})[document] = int(grade)
    found = {}
    if (runs := folder / "bm25-top100.tsv.gz").is_file():
        for line in _unzipped(runs):
            query, *documents = line.split("\t")
            found[query] = documents
    return Collection(
        documents=_jsonl(_unzipped(folder / "corpus.jsonl.gz")),
        queries=_jsonl((folder / "queries.jsonl").read_text().splitlines()),
        judgements=judgements,
        found=found,
    )


@pytest.fixture(scope="session")
def scifact() -> Collection:
    """Scientific claims against abstracts, with BM25's best hundred of each."""
    return _collection("scifact")


@pytest.fixture(scope="session")
def qmsum() -> Collection:
    """Questions about meetings, nearly all of them longer than a model takes."""
    return _collection("qmsum-val")


@pytest.fixture(scope="session")
def xquad() -> Collection:
    """Chinese questions, each against all paragraphs."""
    return _collection("xquad-zh")


class Oracle:
    """A bare server that scores by a function and answers in an order that is not by score.

    The emulator is too careful a server for tens of thousands of requests.
    """

    def __init__(self, score: Callable[[str, str], float]) -> None:
        self._score = score
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        port = self._server.sockets[0].getsockname()[1]
        self.options = {"base_url": f"http://127.0.0.1:{port}/api/v1", "api_key": "sk-oracle"}

    def close(self) -> None:
        """Drops all connections and ends the thread."""

        async def end() -> None:
            self._server.close()
            mine = asyncio.current_task()
            handlers = [task for task in asyncio.all_tasks() if task is not mine]
            for handler in handlers:
                handler.cancel()
            await asyncio.gather(*handlers, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                asked = json.loads(await reader.readexactly(length))["input"]
                scores = [self._score(asked["query"], text) for text in asked["documents"]]
                results = [
                    {"index": index, "relevance_score": score} for index, score in enumerate(scores)
                ]
                shuffled = results[1::2] + results[::2][::-1]
                body = json.dumps({"output": {"results": shuffled}, "request_id": "r"}).encode()
                size = b"content-length: %d\r\n\r\n" % len(body)
                writer.write(b"HTTP/1.1 200 OK\r\n" + size + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()


@pytest.fixture(scope="module")
def oracle(scifact):
    """A server that knows the judgements of scifact."""
    grades = {
        (scifact.queries[query], scifact.documents[document]): float(grade)
        for query, judged in scifact.judgements.items()
        for document, grade in judged.items()
    }
    server = Oracle(lambda query, text: grades.get((query, text), 0.0))
    yield server
    server.close()
