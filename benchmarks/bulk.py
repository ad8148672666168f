"""The bulk command over many lines: how busy it keeps the limit, and whether its memory stays flat.

``python -m benchmarks bulk`` runs it alone; Linux only, because it looks into /proc.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import Comparison, Measure, Spread, at_least, at_most
from benchmarks.server import Server
from benchmarks.texts import texts

LINES, DOCUMENTS, CHARACTERS, DELAY, IN_FLIGHT = 20_000, 20, 500, 50, 16
_SAMPLE = 0.25  # seconds
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Finished(NamedTuple):
    """One run: its seconds from start to end of the process, and its memory meanwhile, in MB."""

    seconds: float
    memory: list[float]
    said: str


def bulk(server: Server, *, quick: bool = False) -> Comparison:
    """20,000 lines of 20 documents through ``qwen-rerank rerank``, answers after 50 ms."""
    count = 1_000 if quick else LINES
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "lists.jsonl"), Path(folder, "ranked.jsonl")
        _write(source, count)
        size = source.stat().st_size / 1e6
        finished = _run(source, output, server.base_url(DELAY))
        with output.open("rb") as file:
            written = {json.loads(line)["line"] for line in file}
    if written != set(range(1, count + 1)):
        raise RuntimeError(f"{len(written)} lines of {count} were ranked: {finished.said}")
    ideal = count * DELAY / 1000 / IN_FLIGHT
    tenth = max(1, len(finished.memory) // 10)
    early = statistics.median(finished.memory[tenth : 2 * tenth] or finished.memory)
    late = statistics.median(finished.memory[-tenth:])
    return Comparison(
        what=f"`qwen-rerank rerank`, {count:,} lines of {DOCUMENTS} documents ({size:.0f} MB), "
        f"{DELAY} ms server, {IN_FLIGHT} in flight",
        how="The process from its start to its end, imports included, against as many requests in "
        "flight without a break. Memory is resident memory: the median of the second tenth of the "
        "run, and of the last.",
        measures=[
            Measure("share of the limit kept busy", _one(ideal / finished.seconds), at_least(0.8)),
            Measure("lines per second", _one(count / finished.seconds)),
            Measure("memory at the end over early", _one(late / early), at_most(1.05)),
            Measure("memory early", _one(early, " MB")),
            Measure("memory at the end", _one(late, " MB")),
            Measure("memory at most", _one(max(finished.memory), " MB")),
        ],
        would_take="Fewer microseconds of Python for each line.",
    )


def _write(path: Path, count: int) -> None:
    """Lists that differ in their query and share their texts."""
    documents = [
        {"id": f"d{number}", "text": text}
        for number, text in enumerate(texts(DOCUMENTS, CHARACTERS))
    ]
    rest = json.dumps(documents)
    with path.open("w") as file:
        for number in range(count):
            file.write(f'{{"id": "q{number}", "query": "query {number}", "documents": {rest}}}\n')


def _run(source: Path, output: Path, base_url: str) -> Finished:
    arguments = ["rerank", str(source), "--output", str(output), "--concurrency", str(IN_FLIGHT)]
    environment = os.environ | {"DASHSCOPE_API_KEY": "sk-bench", "DASHSCOPE_BASE_URL": base_url}
    memory: list[float] = []
    ended = threading.Event()
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "qwen_rerank.cli", *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:

        def watch() -> None:
            while not ended.wait(_SAMPLE):
                memory.append(_resident(process.pid))

        watching = threading.Thread(target=watch)
        watching.start()
        said = process.stderr.read()
        ended.set()
        watching.join()
        process.wait()
    return Finished(time.perf_counter() - started, list(filter(None, memory)), said)


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
    except (OSError, IndexError):
        return 0.0


def _one(value: float, unit: str = "") -> Spread:
    return Spread(value, value, value, unit)
