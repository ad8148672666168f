"""Planning 10,000 documents: without counting tokens, and what counting adds to tokenising."""

import time
import unicodedata
from typing import Any

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, at_most, ratios, spread
from benchmarks.server import Server
from benchmarks.texts import texts
from benchmarks.worker import Worker

DOCUMENTS, CHARACTERS = 10_000, 2_000


def proved(server: Server, *, quick: bool = False) -> Comparison:  # noqa: ARG001  nothing is sent
    """10,000 documents of 2 KB at width 50, where the byte bound proves that they fit."""
    with Worker() as worker:
        milliseconds = [
            1000 * worker.call(run, width=50, counted=False) for _ in range(5 if quick else 25)
        ]
    return Comparison(
        what="planning 10,000 documents of 2 KB at width 50, where the byte bound proves that "
        "they fit",
        how="`prepare`, `fits` and `plan`, as a call runs them: blanks, duplicates, bounds and 200 "
        "requests; English text, new strings in every round; CPU time of the one thread.",
        measures=[Measure("planning", spread(milliseconds[1:], " ms"), at_most(50, " ms"))],
        would_take="Fewer Python objects for each document than an item and its place.",
    )


def counted(server: Server, *, quick: bool = False) -> Comparison:  # noqa: ARG001  nothing is sent
    """The same list where tokens must be counted, against tokenising it once and nothing else."""
    planned, tokenised = [], []
    share = 20 if quick else 1
    with Worker() as worker:
        for _ in range(2 if quick else 4):
            before = worker.call(tokenise, share=share)
            planned.append(worker.call(run, width=500, counted=True, share=share))
            tokenised.append((before + worker.call(tokenise, share=share)) / 2)
    return Comparison(
        what="the same list where tokens must be counted: against tokenising it once",
        how="Width 500, where bytes prove nothing, with the tokenizer loaded; against NFC and "
        "tiktoken over the same texts, before and after in the same process; CPU time.",
        measures=[Measure("planning", ratios(planned, tokenised), at_most(1.15))],
        would_take="Less work for each text beside counting it: hashing, and measuring in bytes.",
    )


def run(width: int, counted: bool, share: int = 1) -> float:
    """CPU seconds from a call's value to its requests; runs in a worker."""
    from qwen_rerank._plan import Budget, plan
    from qwen_rerank._prepare import measure, prepare
    from qwen_rerank._tokens import tokenizer

    job, limits = _job(share)
    if counted:
        tokenizer()
    started = time.process_time()
    prepared = prepare(job)
    if Budget(limits, width).holds(prepared) == counted:
        raise RuntimeError("this list is not what it should be")
    if counted:
        prepared = measure(prepared, limits, tokenizer(), "truncate")
    requests = plan(job, prepared, limits, width)
    elapsed = time.process_time() - started
    if sum(len(request.items) for request in requests) != len(job.documents):
        raise RuntimeError("documents were lost")
    return elapsed


def tokenise(share: int = 1) -> float:
    """CPU seconds for tokenising the documents and nothing else; runs in a worker."""
    from qwen_rerank._tokens import tokenizer

    encode = tokenizer()._encoding.encode_ordinary
    documents = _job(share)[0].documents
    started = time.process_time()
    for text in documents:
        encode(unicodedata.normalize("NFC", text))
    return time.process_time() - started


def _job(share: int) -> tuple[Any, Any]:
    from qwen_rerank._models import limits_for
    from qwen_rerank._values import Job

    documents = tuple(texts(DOCUMENTS // share, CHARACTERS))
    return Job(contenders.MODEL, contenders.QUERY, documents), limits_for(contenders.MODEL)
