"""`qwen-rerank evaluate` over thousands of queries, beside ir_measures alone on the same files.

``python -m benchmarks evaluate`` runs it alone.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import Comparison, Measure, at_most, ratios, spread
from benchmarks.server import Server

QUERIES, DOCUMENTS, RELEVANT = 5_000, 100, 3
_ROUNDS, _SEED = 7, 1

_ALONE = """
import sys
import ir_measures
from ir_measures import RR, R, nDCG

qrels, *runs = sys.argv[1:]
judged = list(ir_measures.read_trec_qrels(qrels))
evaluator = ir_measures.evaluator([nDCG @ 10, RR, R @ 100], judged)
for run in runs:
    print(evaluator.calc_aggregate(ir_measures.read_trec_run(run)))
"""


class Taken(NamedTuple):
    """What one process took, in seconds."""

    wall: float
    cpu: float


def evaluate(_server: Server, *, quick: bool = False) -> Comparison:
    """Two runs of 5,000 queries with 100 documents: figures, intervals and tests."""
    count = 100 if quick else QUERIES
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        qrels, *runs = _write(Path(folder), count)
        command = [sys.executable, "-m", "qwen_rerank.cli", "evaluate", "--qrels", qrels]
        for run in runs:
            command += ["--run", run]
        for _ in range(1 if quick else _ROUNDS):
            ours.append(_taken(command))
            theirs.append(_taken([sys.executable, "-c", _ALONE, qrels, *runs]))
    return Comparison(
        what=f"`qwen-rerank evaluate`, two runs of {count:,} queries with {DOCUMENTS} documents: "
        "against `ir_measures` alone",
        how="Two processes in turn, from start to end, imports included, on the same TREC files "
        "and with the same three measures; ours adds intervals, tests and tables.",
        measures=[
            Measure("wall time", ratios(*_each("wall", ours, theirs)), at_most(2)),
            Measure("CPU time", ratios(*_each("cpu", ours, theirs))),
            Measure("evaluate, alone", spread([each.wall for each in ours], " s")),
            Measure("ir_measures, alone", spread([each.wall for each in theirs], " s")),
        ],
        would_take="Fewer resamples, or an import of scipy.stats that takes less.",
    )


def _write(folder: Path, count: int) -> list[str]:
    """Judgements, and a run before and after which the relevant documents score higher."""
    chance = random.Random(_SEED)  # noqa: S311  of texts
    paths = [folder / name for name in ("qrels", "before.trec", "after.trec")]
    qrels, *runs = [path.open("w") for path in paths]
    for query in range(count):
        documents = [f"d{chance.randrange(10**6)}-{place}" for place in range(DOCUMENTS)]
        for document in documents[:RELEVANT]:
            qrels.write(f"q{query} 0 {document} {chance.randint(1, 3)}\n")
        for run, lift in zip(runs, (0.2, 0.4), strict=True):
            scores = [
                chance.random() + (lift if place < RELEVANT else 0) for place in range(DOCUMENTS)
            ]
            ranked = sorted(zip(scores, documents, strict=True), reverse=True)
            for rank, (score, document) in enumerate(ranked, 1):
                run.write(f"q{query} Q0 {document} {rank} {score:.6f} x\n")
    for file in (qrels, *runs):
        file.close()
    return list(map(str, paths))


def _taken(command: list[str]) -> Taken:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.perf_counter() - started, cpu)


def _each(name: str, ours: list[Taken], theirs: list[Taken]) -> tuple[list[float], list[float]]:
    return [getattr(each, name) for each in ours], [getattr(each, name) for each in theirs]
