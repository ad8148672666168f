"""Reranks a data set with Ray Data, on as many workers as there are: a script to run and to read.

    python examples/ray_data.py
    python examples/ray_data.py --live --workers 4 --rate 90 candidates.jsonl reranked/

Each line of the input is an object with a query and its documents, a list of texts; the output has
their order, best first, and their scores. Without an input it makes some. The answers come from an
emulator on this machine; with --live they come from DashScope and are billed.

- The reranker is made here, once, and goes to the workers by pickle. A pickle of it holds no key:
  each worker finds its own, in DASHSCOPE_API_KEY of its environment. Set that on every node; what
  is given to Ray as runtime_env is stored and shown by the cluster.
- DashScope counts requests per account, whoever sends them, so each worker gets its part of --rate.
  Repeated attempts come on top: leave some room below the account's limit.
- A list without an answer keeps its order and says why, so that one of a million does not end the
  job. A refused key does end it.
- This scales the client. The hosted model has its rate limit; for more than that, serve the open
  model yourself, on Ray Serve say, and point base_url at its load balancer.

It takes: pip install ".[emulator]" "ray[data]"
Ray is told not to report usage.
"""

import argparse
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reads it when it is imported

import ray
import ray.data

from qwen_rerank import RequestError, Reranker, Usage

_PER_REQUEST = 500  # documents; a longer list takes several requests


class Pace:
    """Lets one request pass after another, evenly, however many threads wait."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._free = 0.0
        self._lock = threading.Lock()

    def wait(self, requests: int) -> None:
        """Waits for the turn of so many requests."""
        with self._lock:
            mine = max(self._free, time.monotonic())
            self._free = mine + requests * self._gap
        time.sleep(max(0.0, mine - time.monotonic()))


class Rerank:
    """What an actor does: holds one reranker with its connections, and ranks batches of lists."""

    def __init__(self, reranker: Reranker, per_second: float) -> None:
        self._reranker = reranker
        self._pace = Pace(per_second)
        self._threads = ThreadPoolExecutor(reranker.max_concurrency)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Ranks the lists of *batch* at the same time; a column for each part of the answer."""
        rows = list(self._threads.map(self._ranked, batch["query"], batch["documents"]))
        return {
            "query": list(batch["query"]),
            **{name: [row[name] for row in rows] for name in rows[0]},
        }

    def _ranked(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        self._pace.wait(-(-len(documents) // _PER_REQUEST))
        try:
            ranking = self._reranker.rerank(query, list(documents))
        except RequestError as error:  # of this list alone, such as a blank query
            order, scores, tokens = list(range(len(documents))), [None] * len(documents), 0
            problem = error
        else:
            order, scores = [hit.index for hit in ranking], [hit.score for hit in ranking]
            tokens, problem = ranking.usage.tokens, ranking.degraded
        return {
            "order": order,
            "scores": [float("nan") if score is None else score for score in scores],
            "tokens": tokens,
            "problem": "" if problem is None else f"{type(problem).__name__}: {problem.message}",
            "worker": os.getpid(),
        }


def reranked(
    candidates: ray.data.Dataset, reranker: Reranker, *, workers: int, per_second: float
) -> ray.data.Dataset:
    """*candidates* with the order of each list.

    Args:
        candidates: Rows with ``query`` and ``documents``.
        reranker: Is copied to every worker, without its key.
        workers: How many actors.
        per_second: Requests per second, of all of them together.
    """
    return candidates.map_batches(
        Rerank,
        fn_constructor_args=(reranker, per_second / workers),
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        batch_size=4 * reranker.max_concurrency,
    )


def main() -> int:
    """Does what the command line asks for, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Rerank a data set with Ray Data.")
    parser.add_argument("candidates", nargs="?", help="JSONL; default: some that are made up")
    parser.add_argument("output", nargs="?", help="a folder for JSONL; default: a summary only")
    parser.add_argument("--workers", type=int, default=2, help="actors (%(default)s)")
    parser.add_argument(
        "--rate", type=float, default=80, help="requests per second, all together (%(default)s)"
    )
    parser.add_argument("--live", action="store_true", help="send to DashScope")
    asked = parser.parse_args()
    with ExitStack() as stack:
        try:
            service = {} if asked.live else emulated(stack)
            reranker = Reranker(**service, on_error="passthrough")
        except ValueError as error:  # there is no key
            print(error, file=sys.stderr)
            return 1
        # One more than actors, for reading; workers on this machine inherit the environment.
        ray.init(num_cpus=asked.workers + 1, include_dashboard=False, logging_level="ERROR")
        stack.callback(ray.shutdown)
        ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
        blocks = 8 * asked.workers  # so that a small input occupies all of them
        candidates = (
            ray.data.from_items(made_up(64), override_num_blocks=blocks)
            if asked.candidates is None
            else ray.data.read_json(
                str(Path(asked.candidates).resolve()), lines=True, override_num_blocks=blocks
            )
        )
        started = time.monotonic()
        try:
            ranked = reranked(
                candidates,
                reranker,
                workers=asked.workers,
                per_second=asked.rate,
            ).materialize()  # what does not fit into memory goes to disk
        except ray.exceptions.RayError as error:
            print(cause(str(error)), file=sys.stderr)
            return 1
        if asked.output is not None:
            ranked.write_json(str(Path(asked.output).resolve()))
        print(summary(ranked.iter_rows(), time.monotonic() - started))
    return 0


def cause(said: str) -> str:
    """What ended a worker, out of all that Ray says about it: our error and its hint."""
    ours = re.search(r"^qwen_rerank\.errors\.(.+(?:\n.+)?)$", said, re.MULTILINE)
    return ours[1] if ours else said


def summary(rows: Iterable[dict[str, Any]], seconds: float) -> str:
    """What was done, in a line."""
    lists, problems, workers, usage = 0, 0, set(), Usage()
    for row in rows:
        lists += 1
        usage += Usage(tokens=row["tokens"])
        problems += bool(row["problem"])
        workers.add(row["worker"])
    tokens = "unknown" if usage.tokens is None else f"{usage.tokens:,}"
    return (
        f"{lists} lists, {tokens} tokens, {problems} without an answer, {len(workers)} workers, "
        f"{seconds:.1f} s with their start"
    )


def made_up(lists: int) -> list[dict[str, Any]]:
    """As many lists of ten documents, of which the one with the query's number is the answer."""
    return [
        {
            "query": f"Which train leaves from platform {number}?",
            "documents": [
                f"Train {10 * other} leaves from platform {other}."
                for other in range(number, number + 10)
            ],
        }
        for number in range(lists)
    ]


def emulated(stack: ExitStack) -> dict[str, str]:
    """An emulator to ask, until *stack* closes; its key goes to the workers by the environment."""
    from qwen_rerank.emulator import Emulator  # noqa: PLC0415  --live does without

    emulator = stack.enter_context(Emulator())
    os.environ["DASHSCOPE_API_KEY"] = emulator.api_key
    return {"base_url": emulator.base_url}


if __name__ == "__main__":
    sys.exit(main())
