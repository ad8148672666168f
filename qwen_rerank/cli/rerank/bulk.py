"""The pump of `qwen-rerank rerank`: records in, rankings out. It neither parses nor shows anything.

A thread reads, because a pipe may be slow: as much as is in flight, and as much again.
A failure is one of three things: the line's own, which is noted; one that may pass, which is waited
for, and is the line's own only if others get through meanwhile; or one that all other lines would
share, which ends the run with what is done kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from qwen_rerank import (
    AuthenticationError,
    ContentError,
    QuotaError,
    Ranking,
    RateLimitError,
    Reranker,
    RerankError,
)
from qwen_rerank.cli._words import complaint
from qwen_rerank.cli.rerank.journal import Journal
from qwen_rerank.cli.rerank.records import BadLine, Record

__all__ = ["LINE", "Pump", "Stop", "Tally"]

# The line that a worker is at.
LINE: contextvars.ContextVar[int | None] = contextvars.ContextVar("line", default=None)

_TRIES = 4  # of a line, with others getting through before each
_TOLD_AT, _TELL_EVERY = 2, 60.0  # tries of a line; seconds
_LONGEST_PAUSE = 60.0
_HOPELESS = 20  # failures before any answer, or twice as many lines as are in flight
_AT_FIRST = 30.0  # seconds of patience before anything has ever succeeded
_SYNC_EVERY = 2.0
_THREAD_ENDS = 1.0

_Item: TypeAlias = Record | BadLine | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before its input did.

    Attributes:
        why: ``tokens``: as many were spent as may be; ``uncounted``: the server does not say how
            many were; ``asked``: by the user; ``refused``: key, permission or balance;
            ``missing``: a package; ``hopeless``: line after line failed; ``silent``: nothing got
            through for too long.
        said: The kind and the words of the failure behind it, if there is one.
    """

    why: Literal["tokens", "uncounted", "asked", "refused", "missing", "hopeless", "silent"]
    said: str = ""


@dataclass(slots=True)
class Tally:
    """What this run has done so far."""

    ranked: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started


@dataclass(slots=True)
class _Trouble:
    """What one line has met so far: how often it failed, and how often while others did not."""

    tries: int = 0
    of_its_own: int = 0
    first: float = 0.0
    last: float = 0.0

    def note(self, last_success: float) -> None:
        """One more try failed."""
        self.tries += 1
        self.of_its_own += last_success > self.last
        self.last = time.monotonic()
        self.first = self.first or self.last


class Pump:
    """One run.

    Args:
        reranker: Ranks; its ``max_concurrency`` is how many lines are in flight.
        journal: Takes what is finished.
        notice: Told, in a sentence, what the user should know while it runs.
        max_tokens: Start no line once these may be spent; None for no limit.
        patience: Seconds to wait while nothing gets through.
    """

    def __init__(
        self,
        reranker: Reranker,
        journal: Journal,
        notice: Callable[[str], None],
        *,
        max_tokens: int | None = None,
        patience: float = 600.0,
    ) -> None:
        self.tally: Tally = Tally()
        self._reranker = reranker
        self._journal = journal
        self._notice = notice
        self._max_tokens = max_tokens
        self._patience = patience
        # More lines would only queue, which costs time; but one must not hold up all the others.
        self._width = max(2, reranker.max_concurrency)
        self._window = threading.Semaphore(2 * self._width)
        self._queue: asyncio.Queue[_Item] = asyncio.Queue()
        self._stop: Stop | None = None
        self._stopped = asyncio.Event()
        self._running = 0
        self._ranked_tokens = 0
        self._last_success = 0.0
        self._is_jsonl = False
        self._refused = 0
        self._broken: BaseException | None = None
        self._quiet_until = 0.0
        self._told_again_at = 0.0

    @property
    def tokens(self) -> int | None:
        """Tokens billed in this run, those of failed lines included; None if that is unknown."""
        return self._reranker.usage.tokens

    @property
    def is_begun(self) -> bool:
        """Whether anything was paid for or finished: a line counts only when it is written."""
        return bool(self._reranker.usage.requests or self.tally.ranked or self.tally.failed)

    def stop(self, stop: Stop) -> None:
        """Starts no more lines; those in flight, which are paid for, are finished."""
        if self._stop is None:
            self._stop = stop
            self._wake()

    async def run(self, source: Iterator[Record | BadLine]) -> Stop | None:
        """Ranks all of *source*; why it ended early, or None.

        Raises:
            Exception: Whatever *source* raises, when what came before it is finished; and an
                OSError where a result cannot be written.
        """
        loop = asyncio.get_running_loop()
        reader = threading.Thread(target=self._read, args=(source, loop), daemon=True)
        reader.start()
        syncing = asyncio.create_task(self._sync())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._width):
                    group.create_task(self._work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._wake()
            syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await syncing
            reader.join(_THREAD_ENDS)  # not if it waits for a pipe
            self._journal.sync()
        if self._broken is not None and self._stop is None:
            raise self._broken
        return self._stop

    def _wake(self) -> None:
        """Whoever waits for a line, for room or for better times shall look up."""
        self._stopped.set()
        self._window.release()
        for _ in range(self._width):
            self._queue.put_nowait(None)

    def _read(self, source: Iterator[Record | BadLine], loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread."""

        def hand_over(item: _Item) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
                loop.call_soon_threadsafe(self._queue.put_nowait, item)

        try:
            while self._window.acquire() and not self._stopped.is_set():
                if (item := next(source, None)) is None:
                    break
                hand_over(item)
        except BaseException as error:  # noqa: BLE001  raised where it can be heard
            self._broken = error
        for _ in range(self._width):
            hand_over(None)

    async def _work(self) -> None:
        while (item := await self._queue.get()) is not None and self._may_start():
            self._running += 1
            try:
                await self._settle(item)
            finally:
                self._running -= 1
                self._window.release()

    def _may_start(self) -> bool:
        if self._stop is None and self._max_tokens is not None:
            billed = self.tokens
            # Lines in flight as if each cost what others did. Some of them are billed already, so
            # that is no sum to add to.
            expected = self._ranked_tokens * (1 + self._running / max(1, self.tally.ranked))
            if billed is None:
                self.stop(Stop("uncounted"))
            elif max(billed, expected) >= self._max_tokens:
                self.stop(Stop("tokens"))
        return self._stop is None

    async def _settle(self, item: Record | BadLine) -> None:
        LINE.set(item.line)
        if isinstance(item, BadLine):
            self._note(item)
            if not self._is_jsonl and not self._journal.settled.count:
                self._despair(self.tally.failed, f"{item.error}: {item.reason}")
            return
        self._is_jsonl = True
        try:
            ranking = await self._ranking(item)
        except RerankError as error:
            self._note(BadLine.of(item, error))
            # What was never asked, or is about this text or picture, says nothing of other lines.
            if not (error.status is None or error.retryable or isinstance(error, ContentError)):
                self._refused += 1
                if not self._last_success:
                    self._despair(self._refused, _said(error))
            return
        if ranking is not None:
            if not ranking.usage.requests:
                item = replace(item, fingerprint=item.unasked)
            await self._journal.ranked(item, ranking)
            self.tally.ranked += 1
            self._ranked_tokens += ranking.usage.tokens or 0

    async def _ranking(self, record: Record) -> Ranking | None:
        """The ranking of *record*, or None if the run has ended without one.

        Raises:
            RerankError: There will be none.
        """
        trouble = _Trouble()
        while not await self._pause(self._quiet_until - time.monotonic()):
            try:
                ranking = await self._reranker.arerank(record.query, record.documents)
            except (AuthenticationError, QuotaError) as error:
                self.stop(Stop("refused", _said(error)))
                break
            except ImportError as error:  # what an image needs is no fault of its line
                self.stop(Stop("missing", str(error)))
                break
            except RerankError as error:
                trouble.note(self._last_success)
                if not error.retryable or self._is_given_up(error, trouble):
                    raise
                if self._stop is not None:
                    break
                asked = min(error.retry_after or 0.0, self._patience)  # a wrong clock may say hours
                seconds = max(_growing(trouble.tries), asked)
                if isinstance(error, RateLimitError):  # it is everybody's
                    self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)
                self._tell_of_waiting(record, error, trouble)
            else:
                if ranking.usage.requests:
                    self._last_success = time.monotonic()
                return ranking
            await self._pause(seconds)
        return None

    def _tell_of_waiting(self, record: Record, error: RerankError, trouble: _Trouble) -> None:
        now = time.monotonic()
        if trouble.tries >= _TOLD_AT and now >= self._told_again_at:
            self._told_again_at = now + _TELL_EVERY
            self._notice(f"line {record.line} waits, and others may: {error.message}")

    def _is_given_up(self, error: RerankError, trouble: _Trouble) -> bool:
        """Whether to try a line no more; stops the run instead if no line gets through."""
        if self._stop is not None:
            return False
        throttled = isinstance(error, RateLimitError)
        patience = self._patience
        if not throttled and not self._last_success:
            patience = min(patience, _AT_FIRST)  # more likely a wrong address than an outage
        if trouble.last - max(trouble.first, self._last_success) >= patience:
            self.stop(Stop("silent", _said(error)))
            return False
        return not throttled and trouble.of_its_own >= _TRIES

    def _despair(self, failures: int, said: str) -> None:
        """Stops a run in which nothing but failures came."""
        if failures >= max(_HOPELESS, 2 * self._width):
            self.stop(Stop("hopeless", said))

    def _note(self, bad: BadLine) -> None:
        self._journal.failed(bad)
        self.tally.failed += 1
        if not self._journal.keeps_errors:
            self._notice(f"line {bad.line} failed: {bad.reason}")

    async def _pause(self, seconds: float) -> bool:
        """Waits; whether the run was stopped meanwhile."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._stopped.is_set()

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY)
            await asyncio.to_thread(self._journal.sync)


def _said(error: RerankError) -> str:
    return f"{type(error).__name__}: {' '.join(filter(None, complaint(error, 'rerank')))}"


def _growing(tries: int) -> float:
    return min(_LONGEST_PAUSE, 2.0 ** (tries - 1)) * (0.5 + random.random() / 2)  # noqa: S311  no secret
