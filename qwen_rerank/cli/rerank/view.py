"""What `qwen-rerank rerank` says on standard error: a bar, warnings, and how it ended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text
from typing_extensions import override

from qwen_rerank.cli._terminal import told, visible
from qwen_rerank.cli._troubles import dropping
from qwen_rerank.cli._words import counted, spelled
from qwen_rerank.cli.rerank.bulk import LINE, Pump, Stop
from qwen_rerank.cli.rerank.journal import ChangedError
from qwen_rerank.cli.rerank.reading import Reading

__all__ = ["SHOWN_EVERY", "View"]

SHOWN_EVERY = 0.25  # seconds
_STOPPED, _WRONG, _TOKENS_SPENT, _LINES_FAILED = 1, 2, 3, 4  # exit codes
_LONGEST_SAID = 500
_WARNINGS = 5  # that are said; of the others only how many


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


class View:
    """What is said on standard error: a bar while there is a terminal, and a last line."""

    def __init__(self, reading: Reading, *, resumable: bool) -> None:
        self._reading = reading
        self._goes_on = "; --resume goes on" if resumable else ""
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._began: int | None = None  # where in the file the first new line stood
        self._warnings = _Warnings(self.say)

    def say(self, sentence: str) -> None:
        """Shows *sentence*, which may hold text of others."""
        said = Text(f"qwen-rerank rerank: {_short(sentence)}")
        with contextlib.suppress(OSError), dropping("stderr"):  # the job goes on
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
            refresh_per_second=1 / SHOWN_EVERY,
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
            self.say(self._reason(stop, passes_over=errors is not None))
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
        goes_on = pump.is_begun and not isinstance(error, ChangedError)
        self.say(told(error) + (self._goes_on if goes_on else ""))
        if not pump.is_begun:
            return _WRONG
        self._sum_up(pump)
        return _STOPPED

    def _reason(self, stop: Stop, *, passes_over: bool) -> str:
        # Before what was said last, which may be long and is cut.
        over = "" if passes_over else " (with --errors FILE, --resume passes over such lines)"
        return {
            "tokens": f"stopped: --max-tokens is reached{self._goes_on}",
            "uncounted": "stopped: --max-tokens cannot be kept, because the server does not report "
            f"the tokens{self._goes_on and '; without it, --resume goes on'}",
            "asked": f"stopped{self._goes_on}",
            "refused": f"stopped, because every line would fail so: {stop.said}",
            "missing": f"stopped: {stop.said}{self._goes_on}",
            "hopeless": f"stopped, because line after line failed{over}, the last so: {stop.said}",
            "silent": f"stopped, because no line got through any more: {stop.said}",
        }[stop.why]

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


def _short(sentence: str) -> str:
    shown = visible(sentence[: 2 * _LONGEST_SAID])
    return shown if len(shown) <= _LONGEST_SAID else f"{shown[:_LONGEST_SAID]}…"
