"""What a reranker keeps from call to call, for itself and for what `with_options` made of it.

Its connections, limits and usage, and what is known of outages. It sends nothing.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from qwen_rerank._fork import no_fork
from qwen_rerank._gate import Gate
from qwen_rerank._outage import Outages
from qwen_rerank._told import Lengths
from qwen_rerank._transport import Transport
from qwen_rerank._values import Usage

__all__ = ["Live", "Shared"]


class Live(NamedTuple):
    """What a reranker keeps open, and what it has heard over it.

    Attributes:
        transport: Its connections.
        gate: Its limit of requests.
        lengths: What servers told.
        aside: Threads for what a cache, a file or code of the caller's may hold up for ever, which
            no other reranker is to feel. The end of the process waits for them: scores to be kept
            are paid for.
    """

    transport: Transport
    gate: Gate
    lengths: Lengths
    aside: ThreadPoolExecutor


class Shared:
    """What is shared; one object, because pydantic takes long to find a private attribute.

    Attributes:
        width: Requests in flight at once, since that was assigned; before, what the options say.
        spent: What all calls have cost.
        told: What was said that is said once.
        live: What is open, or None before the first call; after a fork it is the parent's.
        outages: What is known of them.
    """

    def __init__(self) -> None:
        self.width: int | None = None
        self.spent = Usage()
        self.told: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self.live: Live | None = None
        self.outages = Outages()
        self._counting = threading.Lock()
        self._process = os.getpid()  # last, for who looks at it meanwhile

    def open(self, width: int) -> Live:
        """What is open, opened where it is not; *width* is what the options say."""
        if self._process != os.getpid():
            self._begin()  # connections are the parent's, and so may the lock be
        width = self.width or width
        if (live := self.live) is not None:
            live.gate.width = width
            return live
        with no_fork:
            if (live := self.live) is None:
                # Now, since a failure may leave no file to open, and a fork none that is whole.
                import difflib  # noqa: F401, PLC0415  for hints

                import tenacity  # noqa: F401, PLC0415  for retries

                aside = ThreadPoolExecutor(thread_name_prefix="qwen-rerank-aside")
                live = self.live = Live(Transport(), Gate(width), Lengths(), aside)
            return live

    def transport(self) -> Transport | None:
        """What there is to close; after a fork that is the parent's business."""
        if (live := self.live) is None or self._process != os.getpid():
            return None
        return live.transport if live.transport.is_open else None

    def count(self, usage: Usage) -> None:
        """Adds *usage* to what was spent."""
        with self._counting:
            self.spent += usage
