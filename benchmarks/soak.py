"""A soak: many calls from threads and tasks against a server that fails now and then.

Some calls are cancelled, some interrupted, and the process is forked in the middle of them. It ends
with an error if a single ranking is wrong, a failure is none of ours, a file stays open, the memory
grows, or an object has not all of its turns in the end. It is no benchmark: its rate depends on the
emulator, which is the slower half.
"""

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
from cachetools import TTLCache
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import Ranking, Reranker, RerankError, _loop
from qwen_rerank.emulator._scorer import lexical_score

CALLS = 50_000
THREADS, TASKS = 4, 24
QUESTIONS = 500
TIMEOUT = 4.0  # seconds, of every call
# One in so many calls is cancelled or interrupted, at any moment of it; forks are so many.
CANCELLED = INTERRUPTED = 25
FORKS = 20
# 5 percent of the requests: broken connections and bodies, refusals, answers that look well.
FAULTS = {
    "reset-before": 0.4,
    "reset-mid": 0.4,
    "close-before": 0.4,
    "length-short": 0.3,
    "garbage": 0.3,
    "two-answers": 0.3,
    "truncated-json": 0.3,
    "html-502": 0.3,
    "503": 0.3,
    "200-throttling": 0.1,
    "400-content": 0.3,
    "400-arrearage": 0.2,
    "result-missing": 0.3,
    "index-duplicate": 0.3,
    "others-results": 0.3,
    "score-nan": 0.3,
    "unsorted": 0.18,
    "no-answer": 0.02,
}
_WORDS = "red green car tea fast slow cave bat rain snow book road blue bird stone".split()  # noqa: SIM905  shorter than a list
SAMPLES = 200  # measurements of memory and files over the run
_SERVE = "from qwen_rerank.cli import main; raise SystemExit(main())"
WARM_UP = 0.3  # of the run, before which growth is expected
MORE_MEMORY = 1.03  # the end of the run over the part after the warm-up
MORE_FILES = 16


@dataclass
class Tally:
    """What happened so far; every thread adds to it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    started: int = 0
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, calls: int) -> int | None:
        """The number of another call to make, or None if there are enough."""
        with self.lock:
            if self.started >= calls:
                return None
            self.started += 1
            return self.started - 1

    def add(self, outcome: str, finding: str | None, calls: int = 1) -> None:
        """Count one call that has ended, or a child's eight, which are counted as none."""
        with self.lock:
            self.done += calls
            self.outcomes[outcome] += 1
            if finding is not None:
                self.findings.append(finding)


class Question:
    """One call's candidates and what has to come back, by the scorer that the server uses."""

    def __init__(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311  the same texts in every run
        self.query = " ".join(chance.choices(_WORDS, k=4))
        count = 45 if number % 10 == 0 else 12  # every tenth call is more than one request
        self.texts = [" ".join(chance.choices(_WORDS, k=8)) for _ in range(count)]
        self.texts[chance.randrange(count)] = ""  # never sent, never lost
        scores = [lexical_score(self.query, text) if text else None for text in self.texts]
        order = sorted(
            range(count), key=lambda place: (scores[place] is None, -(scores[place] or 0.0), place)
        )
        self.expected = [(self.texts[place], scores[place]) for place in order]
        self.untouched = [(text, None) for text in self.texts]


Pairs = list[tuple[str, float | None]]


class Ways:
    """Every way in, sync and async, with one object of each for all threads and tasks."""

    def __init__(self, address: str) -> None:
        options = {
            "base_url": address,
            "api_key": "sk-emulator",
            "top_n": None,
            "timeout": TIMEOUT,
            "max_documents_per_request": 20,
            "max_concurrency": THREADS + TASKS,
        }
        self._core = Reranker(**options)
        # Of calls that are made at once some ask the same, and all forget soon.
        self._lenient = Reranker(on_error="passthrough", cache=TTLCache(200, 1.0), **options)
        self._langchain = langchain_qwen_rerank.QwenRerank(**options)
        self._llama_index = llama_index_qwen_rerank.QwenRerank(**options)

    def lost(self) -> list[str]:
        """Whether anything is still taken when no call is under way any more."""
        found = []
        for each in (self._core, self._lenient, self._langchain, self._llama_index):
            deadline = time.monotonic() + TIMEOUT
            while (free := each._shared.live.gate.free) != each.max_concurrency:
                if time.monotonic() > deadline:
                    found.append(f"{free} of {each.max_concurrency} turns are left")
                    break
                time.sleep(0.01)
        if asked := len(_loop.engine().in_flight._by_key):
            found.append(f"{asked} scores are still asked for")
        return found

    def call(self, way: int, query: str, texts: list[str]) -> tuple[Pairs, bool]:
        """What way *way* gives back, and whether that is the list as it was."""
        match way:
            case 0:
                return _of_ranking(self._core.rerank(query, texts))
            case 1:
                return _of_ranking(self._lenient.rerank(query, texts))
            case 2:
                documents = [Document(text) for text in texts]
                return _of_documents(self._langchain.compress_documents(documents, query)), False
            case _:
                nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
                ranked = self._llama_index.postprocess_nodes(nodes, query_str=query)
                return _of_nodes(ranked), False

    async def acall(self, way: int, query: str, texts: list[str]) -> tuple[Pairs, bool]:
        """`call` for a running event loop."""
        match way:
            case 0:
                return _of_ranking(await self._core.arerank(query, texts))
            case 1:
                return _of_ranking(await self._lenient.arerank(query, texts))
            case 2:
                documents = [Document(text) for text in texts]
                ranked = await self._langchain.acompress_documents(documents, query)
                return _of_documents(ranked), False
            case _:
                nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
                ranked = await self._llama_index.apostprocess_nodes(nodes, query_str=query)
                return _of_nodes(ranked), False


def _of_ranking(ranking: Ranking) -> tuple[Pairs, bool]:
    return [(hit.document, hit.score) for hit in ranking], ranking.degraded is not None


def _of_documents(ranked: list[Document]) -> Pairs:
    return [(each.page_content, each.metadata.get("relevance_score")) for each in ranked]


def _of_nodes(ranked: list[NodeWithScore]) -> Pairs:
    return [(each.node.get_content(), each.score) for each in ranked]


@contextlib.contextmanager
def _judging(number: int, question: Question, tally: Tally) -> Iterator[Callable]:
    """Counts one call: a right ranking, a typed error, a passed-through list, or a finding."""
    began = time.monotonic()
    outcome, finding = "nothing", f"call {number} gave nothing"

    def judge(got: tuple[Pairs, bool]) -> None:
        nonlocal outcome, finding
        pairs, passed = got
        outcome = "passed through" if passed else "right ranking"
        expected = question.untouched if passed else question.expected
        finding = None if pairs == expected else f"call {number}: {pairs} is not {expected}"

    try:
        yield judge
    except RerankError as error:
        outcome, finding = type(error).__name__, None
    except (_Interrupt, asyncio.CancelledError) as error:
        outcome, finding = type(error).__name__.strip("_"), None
    except Exception as error:  # noqa: BLE001  a third thing, which must not happen
        outcome, finding = "third thing", f"call {number}: {error!r}"
    if (took := time.monotonic() - began) > TIMEOUT + 2:
        finding = finding or f"call {number} took {took:.1f} s"
    tally.add(outcome, finding)


class _Interrupt(BaseException):
    """What is raised in a thread in the middle of a call, as a signal's handler would."""


class _Struck:
    """Interrupts some calls of a thread: between two of its steps, whichever these are."""

    def __init__(self) -> None:
        self._thread = ctypes.c_ulong(threading.get_ident())
        self._lock = threading.Lock()
        self._under_way = 0

    @contextlib.contextmanager
    def sometimes(self, number: int) -> Iterator[None]:
        """Interrupts what is done meanwhile, if *number* is one of those."""
        if number % INTERRUPTED:
            yield
            return
        self._under_way += 1
        delay = random.Random(number).expovariate(50)  # noqa: S311  the same in every run
        timer = threading.Timer(delay, self._strike, [self._under_way])
        timer.start()
        try:
            yield
        finally:
            with self._lock:  # no strike after this
                self._under_way += 1
            timer.cancel()

    def _strike(self, number: int) -> None:
        with self._lock:
            if number == self._under_way:
                raising = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raising(self._thread, ctypes.py_object(_Interrupt))


def _from_threads(ways: Ways, questions: list[Question], tally: Tally, calls: int) -> None:
    struck = _Struck()
    while (number := tally.next(calls)) is not None:
        question = questions[number % len(questions)]
        with _judging(number, question, tally) as judge, struck.sometimes(number):
            judge(ways.call(number // 2 % 4, question.query, question.texts))


async def _from_tasks(ways: Ways, questions: list[Question], tally: Tally, calls: int) -> None:
    async def one() -> None:
        while (number := tally.next(calls)) is not None:
            question = questions[number % len(questions)]
            with _judging(number, question, tally) as judge:
                call = asyncio.ensure_future(
                    ways.acall(number // 2 % 4, question.query, question.texts)
                )
                if number % CANCELLED == 0:
                    delay = random.Random(number).expovariate(50)  # noqa: S311  as above
                    asyncio.get_running_loop().call_later(delay, call.cancel)
                judge(await call)

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(one())


@dataclass(frozen=True)
class Sample:
    """The process at one moment: calls made, memory in MiB, open files."""

    calls: int
    memory: float
    files: int


def _sample(calls: int) -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return Sample(calls, pages * resource.getpagesize() / 2**20, files)


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """The emulator in a process of its own, so that what is measured is the client alone."""
    command = [sys.executable, "-c", _SERVE, "serve", "--port", "0"]
    for name, percent in FAULTS.items():
        command += ["--fault", f"{name}:percent={percent}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stdout or ():
                if found := re.search(r"native protocol +(\S+)", line):
                    yield found[1]
                    return
            raise RuntimeError("the emulator did not start")
        finally:
            server.terminate()


def _fork(ways: Ways, question: Question, tally: Tally) -> None:
    """A child in the middle of calls, which makes some of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of any such fork
        child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tally.add("children", f"a child ended with {code}" if code else None, calls=0)
        return
    code = 1
    try:
        mine = Tally()
        for number in range(8):
            with _judging(number, question, mine) as judge:
                judge(ways.call(number % 4, question.query, question.texts))
        code = 2 if mine.findings else 3 if ways.lost() else 0
    finally:
        os._exit(code)


def _run(calls: int, console: Console) -> tuple[Tally, list[Sample], float]:
    questions = [Question(number) for number in range(QUESTIONS)]
    tally, samples = Tally(), []
    with _server() as address:
        ways = Ways(address)
        workers = [
            threading.Thread(target=_from_threads, args=(ways, questions, tally, calls))
            for _ in range(THREADS)
        ]
        workers.append(
            threading.Thread(target=lambda: asyncio.run(_from_tasks(ways, questions, tally, calls)))
        )
        began, forks = time.monotonic(), 0
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress:
            bar = progress.add_task("calls", total=calls)
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                time.sleep(0.05)
                progress.update(bar, completed=tally.done)
                if tally.done >= len(samples) * calls / SAMPLES:
                    samples.append(_sample(tally.done))
                if forks < FORKS and tally.done >= (forks + 1) * calls / (FORKS + 1):
                    forks += 1
                    _fork(ways, questions[forks], tally)
            for worker in workers:
                worker.join()
        tally.findings += ways.lost()
    return tally, samples, time.monotonic() - began


def _findings(tally: Tally, samples: list[Sample], calls: int) -> list[str]:
    """Everything that must not be, in words."""
    findings = [f"{len(tally.findings)} calls went wrong: {each}" for each in tally.findings[:3]]
    if tally.done != calls:
        findings.append(f"{calls} calls were made and {tally.done} ended")
    first, last = _ends(samples, calls)
    grown = _median(last, "memory") / _median(first, "memory")
    if grown > MORE_MEMORY:
        findings.append(f"memory grew by {grown - 1:.1%} after the warm-up")
    if (more := _most_files(last) - _most_files(first)) > MORE_FILES:
        findings.append(f"{more} more files are open at the end than after the warm-up")
    return findings


def _ends(samples: list[Sample], calls: int) -> tuple[list[Sample], list[Sample]]:
    """The first and the last quarter of what was measured after the warm-up."""
    after = [sample for sample in samples if sample.calls > WARM_UP * calls]
    if len(after) < 4:
        raise RuntimeError(f"{len(after)} samples after the warm-up are too few to judge")
    quarter = len(after) // 4
    return after[:quarter], after[-quarter:]


def _median(samples: list[Sample], what: str) -> float:
    return statistics.median(getattr(sample, what) for sample in samples)


def _most_files(samples: list[Sample]) -> int:
    return max(sample.files for sample in samples)


def _draw(samples: list[Sample], path: Path) -> None:
    with mpl.rc_context({"font.size": 11, "axes.spines.top": False, "axes.grid": True}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        memory, files = figure.subplots(2, 1, sharex=True)
        calls = [sample.calls for sample in samples]
        memory.plot(calls, [sample.memory for sample in samples], color="#0a5fb4")
        files.plot(calls, [sample.files for sample in samples], color="#b4530a")
        memory.set_ylabel("memory, MiB")
        files.set_ylabel("open files")
        files.set_xlabel("calls")
        for axes in (memory, files):
            axes.set_ylim(bottom=0)
            axes.axvspan(0, WARM_UP * calls[-1], color="#e3e6e8", alpha=0.6, linewidth=0)
            axes.grid(color="#e3e6e8")
        memory.set_title("Memory and open files; the warm-up is grey", loc="left")
        figure.savefig(path, dpi=120)


def _page(tally: Tally, samples: list[Sample], seconds: float, calls: int) -> str:
    first, last = _ends(samples, calls)
    rows = "".join(
        f"| {name} | {count:,} |\n" for name, count in sorted(tally.outcomes.most_common())
    )
    faults = ", ".join(f"`{name}` {percent} %" for name, percent in FAULTS.items())
    return f"""\
# Soak

{calls:,} calls from {THREADS} threads and {TASKS} tasks of one event loop, through the core (once
raising, once passing through) and both frameworks, against the emulator in a process of its own.
{sum(FAULTS.values()):.0f} percent of the requests meet a fault: {faults}. One in
{CANCELLED} calls of a task is cancelled, one in {INTERRUPTED} of a thread interrupted, at any
moment of it, and the process is forked {FORKS} times meanwhile; each child makes eight calls.
Every list that comes back is compared with the ranking that the emulator's scorer gives.
`make soak` runs it again and
writes this page; it was never run against the live service.

| outcome | calls |
|---|---:|
{rows}| **wrong, lost, late, or another exception** | **{len(tally.findings)}** |

| | after the warm-up | at the end |
|---|---:|---:|
| memory, MiB (median) | {_median(first, "memory"):.1f} | {_median(last, "memory"):.1f} |
| open files (most) | {_most_files(first)} | {_most_files(last)} |

Nothing was taken in the end: each object had all of its turns. The soak fails if that is not so, or
if memory grows by more than {MORE_MEMORY - 1:.0%} after the warm-up. It took
{seconds / 60:.1f} minutes, most of them the emulator's.

![Memory and open files over the calls](soak.png)
"""


def main() -> int:
    """The exit code: 1 if there is any finding."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS, help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="folder for the page; default: none is written")
    options = parser.parse_args()
    console = Console()
    logging.getLogger("qwen_rerank").setLevel(logging.CRITICAL)  # thousands of expected failures
    tally, samples, seconds = _run(options.calls, console)
    page = _page(tally, samples, seconds, options.calls)
    if options.output:
        _draw(samples, options.output / "soak.png")
        (options.output / "soak.md").write_text(page)
    console.print(page, markup=False, highlight=False)
    findings = _findings(tally, samples, options.calls)
    for finding in findings:
        console.print(finding, style="red", markup=False)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
