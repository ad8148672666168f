"""Real labelled collections. They are no part of the project: without them these tests skip."""

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import pytest
from ir_measures import nDCG

from qwen_rerank.emulator import Emulator

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


@pytest.fixture(scope="module")
def oracle(scifact):
    """What leads to a server that knows the judgements of scifact, and answers in no order."""
    grades = {
        (scifact.queries[query], scifact.documents[document]): float(grade)
        for query, judged in scifact.judgements.items()
        for document, grade in judged.items()
    }
    with Emulator(score=lambda query, text: grades.get((query, text), 0.0), shuffle=True) as server:
        yield {"base_url": server.base_url, "api_key": server.api_key}
