"""`qwen-rerank rerank`: the flow of a bulk job, its progress and its last words.

Nothing is parsed, sent or written here: reading lives in `_records` and `_runs`, sending in
`bulk`, what is finished in `journal`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text
from typing_extensions import override

from qwen_rerank import Candidate, Reranker
from qwen_rerank.cli._key import headers_in, key_in
from qwen_rerank.cli._records import BadLine, Record, crc, fit_for_trec, lines, parse
from qwen_rerank.cli._runs import Collection, Ranked, is_trec, opened, ranked_lists
from qwen_rerank.cli._surroundings import check_surroundings
from qwen_rerank.cli._terminal import told, visible
from qwen_rerank.cli._words import counted, spelled
from qwen_rerank.cli.rerank.bulk import LINE, Pump, Stop
from qwen_rerank.cli.rerank.journal import ChangedError, Format, Journal

__all__ = ["Lists", "Run", "rerank"]

_STOPPED, _WRONG, _TOKENS_SPENT, _LINES_FAILED = 1, 2, 3, 4  # exit codes
_SHOWN_EVERY = 0.25  # seconds
_LONGEST_SAID = 500
_WARNINGS = 5  # that are said; of the others only how many


@dataclass(frozen=True, slots=True)
class Lists:
    """Where lists come from: JSONL lines in a file, or ``-`` for standard input."""

    path: str


@dataclass(frozen=True, slots=True)
class Run:
    """Where lists come from: a TREC run, or ``-``, with the texts of what it names."""

    path: str
    corpus: str
    queries: str


def rerank(
    source: Lists | Run,
    output: str,
    *,
    options: dict[str, Any],
    key_variable: str | None = None,
    header_variables: Sequence[str] = (),
    fmt: Format = "jsonl",
    errors: str | None = None,
    resume: bool = False,
    max_tokens: int | None = None,
    patience: float = 600.0,
) -> int:
    """Ranks every list of *source*, and writes each as it is finished.

    Args:
        source: The lists.
        output: The file, or ``-`` for standard output.
        options: Of the `Reranker`; what is None is left to it.
        key_variable: The environment variable with the key to send, whatever the host; None looks
            in the usual places.
        header_variables: More headers, each as ``NAME=VARIABLE``.
        fmt: What is written: JSON lines, or a TREC run.
        errors: The file for lines that failed, or None to tell the terminal.
        resume: Go on where an earlier run with the same input and options was stopped or killed.
        max_tokens: Start no more lines when this run has spent so many.
        patience: Seconds to wait for a service that answers no line.

    Returns:
        The exit code: 0 all is ranked, 1 stopped before the end, 2 a file cannot be opened, 3
        stopped by *max_tokens*, 4 all is done but some lines failed, 128 and a signal's number
        after that signal.

    Raises:
        ValueError: A setting or a file is not what it has to be.
    """
    if output == "-" and resume:
        raise ValueError("standard output cannot be resumed: give --output a file")
    if errors == "-":
        raise ValueError("--errors takes a file; without it, standard error is told")
    if errors == output:
        raise ValueError("--output and --errors must be two files")
    options = {name: value for name, value in options.items() if value is not None}
    if key_variable is not None:
        options["api_key"] = key_in(key_variable)
    options["headers"] = headers_in(header_variables)
    reranker = Reranker(**options)
    options.clear()
    check_surroundings(reranker)
    settings = [
        *(reranker.model, reranker.instruct, reranker.long_query, reranker.top_n),
        *(reranker.protocol, reranker.server),
        *([] if reranker.max_model_len is None else [reranker.max_model_len]),
    ]
    begun = crc(str(setting).encode("utf-8", "replace") for setting in settings)
    try:
        with (
            opened(source.path) as file,
            Journal(output, errors, fmt=fmt, resume=resume) as journal,
            contextlib.ExitStack() as stack,
        ):
            reading = _Reading(file, journal, fmt)
            if isinstance(source, Run):
                collection = stack.enter_context(Collection())
                collection.add_corpus(source.corpus)
                collection.add_queries(source.queries)
                records = reading.run(source.path, collection, begun)
            else:
                records = reading.lists(source.path, begun)
            view = _View(reading)
            pump = Pump(reranker, journal, view.say, max_tokens=max_tokens, patience=patience)
            try:
                stop, number = asyncio.run(_pumped(pump, records, view, reranker))
            except BrokenPipeError:
                raise
            except (OSError, ValueError) as error:  # such as a .gz that is cut short
                return view.conclude_broken(pump, error)
            return view.conclude(pump, stop, number, errors)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(told(error)) from None


async def _pumped(
    pump: Pump, records: Iterator[Record | BadLine], view: _View, reranker: Reranker
) -> tuple[Stop | None, int]:
    """Why it ended early, or None, and the signal that made it, or 0."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(pump.run(records))
    got: list[int] = []

    def on_signal(number: int) -> None:
        if got:
            running.cancel()
            return
        got.append(number)
        pump.stop(Stop("asked"))
        view.say("finishing the lines in flight, which are paid for; once more drops them")

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, on_signal, number)
    try:
        with view.warning(), view.showing(pump):
            while not running.done():
                await asyncio.wait([running], timeout=_SHOWN_EVERY)
                view.show(pump)
        stop = Stop("asked") if running.cancelled() else running.result()
        return stop, got[0] if got and stop is not None else 0
    finally:
        await reranker.aclose()


class _Reading:
    """An input being read, by a thread; how far, and what was passed over."""

    def __init__(self, file: BinaryIO, journal: Journal, fmt: Format) -> None:
        self._file = file
        self._settled = journal.settled
        self._failed_before = journal.failed_before
        self._queries: set[str] | None = set() if fmt == "trec" else None
        self._is_begun = False
        self.skipped = 0
        self.failed = 0
        self.size: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            status = os.fstat(file.fileno())
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else None

    @property
    def position(self) -> int:
        """Bytes read of `size`; of a gzipped file, of what is on the disk."""
        return os.lseek(self._file.fileno(), 0, os.SEEK_CUR) if self.size else 0

    def lists(self, path: str, begun: int) -> Iterator[Record | BadLine]:
        """Every line that is not settled."""
        number = 0
        for number, line, whole in lines(self._file):
            if not self._is_begun and is_trec(line):
                raise ValueError(
                    f"{path} is a TREC run: name it with --run, and its texts with --corpus and "
                    "--queries"
                )
            self._is_begun = True
            fingerprint = crc([line], begun)
            is_new = self._is_new(number, fingerprint)
            if is_new or self._queries is not None:  # whose ids of settled lines are taken
                record = self._fit(parse(number, line, fingerprint, whole=whole))
                if is_new:
                    yield record
        self._settled.check_end(number)

    def run(self, path: str, texts: Collection, begun: int) -> Iterator[Record | BadLine]:
        """Every query of a run that is not settled, with its documents in the run's order."""
        number = 0
        for number, ranked in enumerate(ranked_lists(self._file, path), 1):
            query = texts.query(ranked.query)
            documents = [texts.document(name) for name in ranked.documents]
            parts = (ranked.query, query, *ranked.documents, *documents)
            fingerprint = crc((str(part).encode("utf-8", "replace") for part in parts), begun)
            if self._is_new(number, fingerprint):
                yield self._fit(_record(number, fingerprint, ranked, query, documents))
        self._settled.check_end(number)

    def _fit(self, record: Record | BadLine) -> Record | BadLine:
        if self._queries is None or isinstance(record, BadLine):
            return record
        return fit_for_trec(record, self._queries)

    def _is_new(self, number: int, fingerprint: int) -> bool:
        if self._settled.holds(number, fingerprint):
            self.skipped += 1
            return False
        if self._failed_before.was(number) == fingerprint:
            self.failed += 1
            return False
        return True


def _record(
    number: int, fingerprint: int, ranked: Ranked, query: str | None, found: list[str | None]
) -> Record | BadLine:
    reason = f"query {ranked.query!r} is not in --queries" if query is None else ""
    documents: list[Candidate] = []
    for name, text in zip(ranked.documents, found, strict=True):
        if text is None:
            reason = reason or f"document {name!r} is not in --corpus"
        else:
            documents.append(text)
    if query is None or reason:
        return BadLine(number, fingerprint, reason, id=ranked.query)
    return Record(
        number, fingerprint, ranked.query, query, tuple(documents), tuple(ranked.documents)
    )


class _Warnings(logging.Handler):
    """Says the first warnings, with the line they are about: there may be one at every line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self._left = _WARNINGS
        self.more = 0

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if self._left:
            self._left -= 1
            line = "" if LINE.get() is None else f"line {LINE.get()}: "
            if isinstance(record.args, tuple):
                record.args = tuple(
                    spelled(each, "rerank") if isinstance(each, str) else each
                    for each in record.args
                )
            self._say(line + record.getMessage())
        else:
            self.more += 1


class _View:
    """What is said on standard error: a bar while there is a terminal, and a last line."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._began: int | None = None  # where in the file the first new line stood
        self._warnings = _Warnings(self.say)

    def say(self, sentence: str) -> None:
        """Shows *sentence*, which may hold text of others."""
        said = Text(f"qwen-rerank rerank: {_short(sentence)}")
        self._console.print(said, soft_wrap=True)

    @contextlib.contextmanager
    def warning(self) -> Iterator[None]:
        """Says what is logged while the block lasts, for which the bar would be in the way."""
        log = logging.getLogger("qwen_rerank")
        log.addHandler(self._warnings)
        try:
            yield
        finally:
            log.removeHandler(self._warnings)

    @contextlib.contextmanager
    def showing(self, pump: Pump) -> Iterator[None]:
        """Shows a bar while the block lasts, if standard error is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        self._progress = Progress(
            BarColumn(complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.percentage:>3.0f}%" if self._reading.size else ""),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=1 / _SHOWN_EVERY,
        )
        with self._progress:
            self._task = self._progress.add_task("", total=self._reading.size)
            self.show(pump)
            yield
        self._progress = None

    def show(self, pump: Pump) -> None:
        """Brings the bar up to date."""
        if self._progress is None:
            return
        position, tally = self._reading.position, pump.tally
        done, seconds = tally.ranked + tally.failed, tally.seconds
        if self._began is None and done:
            self._began = position
        facts = [
            counted(done, "line"),
            f"{done / seconds:.1f}/s" if done else "",
            counted(pump.tokens, "token"),
            f"{tally.failed:,} failed" if tally.failed else "",
            self._left(position, seconds),
        ]
        description = " · ".join(filter(None, facts))
        self._progress.update(self._task, completed=position, description=description)

    def conclude(self, pump: Pump, stop: Stop | None, number: int, errors: str | None) -> int:
        """Says how it ended.

        Returns:
            The exit code.
        """
        if stop is not None:
            self.say(_reason(stop, passes_over=errors is not None))
        self._sum_up(pump)
        if stop is not None:
            if number:
                return 128 + number
            return _TOKENS_SPENT if stop.why == "tokens" else _STOPPED
        if pump.tally.failed or self._reading.failed:
            if errors is not None:
                self.say(f"what failed is in {errors}")
            return _LINES_FAILED
        return 0

    def conclude_broken(self, pump: Pump, error: Exception) -> int:
        """Says that a file ended it, and how far it came.

        Returns:
            The exit code.
        """
        is_begun = pump.tally.ranked or pump.tally.failed
        goes_on = is_begun and not isinstance(error, ChangedError)
        self.say(told(error) + ("; --resume goes on" if goes_on else ""))
        if is_begun:
            self._sum_up(pump)
        return _STOPPED if is_begun else _WRONG

    def _sum_up(self, pump: Pump) -> None:
        tally, reading = pump.tally, self._reading
        facts = [
            f"{counted(tally.ranked, 'line')} ranked",
            f"{tally.failed:,} failed" if tally.failed else "",
            f"{reading.skipped:,} done before" if reading.skipped else "",
            f"{reading.failed:,} failed before" if reading.failed else "",
            counted(self._warnings.more, "more warning") if self._warnings.more else "",
            counted(pump.tokens, "token"),
            f"{tally.seconds:.1f} s",
            f"{tally.ranked / tally.seconds:.1f} lines/s" if tally.ranked else "",
        ]
        self.say(", ".join(filter(None, facts)))

    def _left(self, position: int, seconds: float) -> str:
        size, began = self._reading.size, self._began
        if not size or began is None or position <= began:
            return ""
        left = int((size - position) / (position - began) * seconds)
        return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def _reason(stop: Stop, *, passes_over: bool) -> str:
    said = {
        "tokens": "stopped: --max-tokens is reached; --resume goes on",
        "uncounted": "stopped: --max-tokens cannot be kept, because the server does not report the "
        "tokens; without it, --resume goes on",
        "asked": "stopped; --resume goes on",
        "refused": f"stopped, because every line would fail so: {stop.said}",
        "hopeless": f"stopped, because line after line failed, the last so: {stop.said}",
        "silent": f"stopped, because no line got through any more: {stop.said}",
    }[stop.why]
    if stop.why == "hopeless" and not passes_over:
        said += " (with --errors FILE, --resume passes over such lines)"
    return said


def _short(sentence: str) -> str:
    shown = visible(sentence[: 2 * _LONGEST_SAID])
    return shown if len(shown) <= _LONGEST_SAID else f"{shown[:_LONGEST_SAID]}…"
