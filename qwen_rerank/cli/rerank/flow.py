"""`qwen-rerank rerank`: the flow of a bulk job.

Nothing is parsed, sent, written or said here: that lives in `reading`, `bulk`, `journal` and
`view`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from qwen_rerank import Reranker
from qwen_rerank.cli._key import reranker_options
from qwen_rerank.cli._runs import Collection, opened
from qwen_rerank.cli._surroundings import check_surroundings
from qwen_rerank.cli._terminal import told
from qwen_rerank.cli.rerank.bulk import Pump, Stop
from qwen_rerank.cli.rerank.journal import Format, Journal
from qwen_rerank.cli.rerank.reading import Begun, Reading
from qwen_rerank.cli.rerank.records import BadLine, Record, crc
from qwen_rerank.cli.rerank.view import SHOWN_EVERY, View

__all__ = ["Lists", "Run", "rerank"]


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
        options: Of `reranker_options`.
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
    _check_paths(output, errors, resume=resume)
    reranker = Reranker(**reranker_options(**options))
    options.clear()
    endpoint = check_surroundings(reranker)
    reranker._wanted({})  # refuses an option with which no line can be sent
    settings = [
        endpoint.url,  # the same model scores otherwise in another region
        *(reranker.model, reranker.instruct, reranker.long_query, reranker.top_n),
        *(reranker.protocol, reranker.server),
        *([] if reranker.max_model_len is None else [reranker.max_model_len]),
    ]
    begun = Begun(_checksum(settings), _checksum([reranker.top_n]))
    try:
        with (
            opened(source.path) as file,
            Journal(output, errors, fmt=fmt, resume=resume) as journal,
            contextlib.ExitStack() as stack,
        ):
            reading = Reading(file, journal, fmt)
            if isinstance(source, Run):
                collection = stack.enter_context(Collection())
                collection.add_corpus(source.corpus)
                collection.add_queries(source.queries)
                records = reading.run(source.path, collection, begun)
            else:
                records = reading.lists(source.path, begun)
            view = View(reading, resumable=journal.is_resumable)
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


def _check_paths(output: str, errors: str | None, *, resume: bool) -> None:
    if output == "-" and resume:
        raise ValueError("standard output cannot be resumed: give --output a file")
    if errors == "-":
        raise ValueError("--errors takes a file; without it, standard error is told")
    if errors == output:
        raise ValueError("--output and --errors must be two files")
    for path in (output, errors or ""):
        if path.endswith(".gz"):  # which our own commands would take at its word
            raise ValueError(
                f"{path} would not be zipped, so that it can be resumed: gzip it afterwards"
            )


def _checksum(settings: Iterable[object]) -> int:
    return crc(str(setting).encode("utf-8", "replace") for setting in settings)


async def _pumped(
    pump: Pump, records: Iterator[Record | BadLine], view: View, reranker: Reranker
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
                await asyncio.wait([running], timeout=SHOWN_EVERY)
                view.show(pump)
        stop = Stop("asked") if running.cancelled() else running.result()
        return stop, got[0] if got and stop is not None else 0
    finally:
        await reranker.aclose()
