"""Scripted replies: what a test wants answered instead; nothing here sends anything."""

import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from qwen_rerank.emulator._log import LoggedRequest
from qwen_rerank.emulator._wire import Format

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


@dataclass(frozen=True)
class ErrorBody:
    """A failure whose envelope is chosen when it is known which protocol was called."""

    code: str
    message: str | None
    inner: bool = False
    """Whether the native envelope has the inner service's prefix before the message."""
    envelope: Format | None = None
    """A protocol's envelope, whichever was called."""


@dataclass(frozen=True)
class Reply:
    """What to answer to one request, or to several.

    Args:
        status: HTTP status, 200 to 599.
        body: A dict or list is sent as JSON, a str as UTF-8, bytes as they are. None serves the
            request normally, which is how to delay or drop an honest answer.
        headers: Sent on top of the usual ones; they win.
        delay: Seconds to wait before the answer's head.
        drop: Close the connection "before" the head, or in the "mid"dle of the body, after a
            head that announces all of it.
        repeat: How many requests are answered this way; None for all until `Emulator.clear`.

    Raises:
        ValueError: A value is out of range, or a status was given without a body.
    """

    status: int = 200
    body: dict[str, Any] | list[Any] | str | bytes | ErrorBody | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: Literal["before", "mid"] | None = None
    repeat: int | None = 1

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be within 200 and 599, not {self.status!r}")
        if self.body is None and self.status != 200:
            raise ValueError(f"status {self.status} needs a body: without one, service is normal")
        if self.status in (204, 304) and self.body not in ("", b""):
            raise ValueError(f"a {self.status} answer carries no body: give an empty one")
        if not (math.isfinite(self.delay) and self.delay >= 0):
            raise ValueError(f"delay must be a number of seconds >= 0, not {self.delay!r}")
        if self.drop not in (None, "before", "mid"):
            raise ValueError(f'drop must be "before", "mid" or None, not {self.drop!r}')
        if self.repeat is not None and self.repeat < 1:
            raise ValueError(f"repeat must be at least 1, or None for ever, not {self.repeat!r}")
        for name, value in self.headers.items():
            if name.lower() in _FRAMING:
                raise ValueError(f"{name} belongs to the server; see drop for broken bodies")
            if not (name + value).isprintable() or not (name + value).isascii():
                raise ValueError(f"header {name!r} is not printable ASCII")

    @classmethod
    def error(
        cls,
        status: int,
        code: str,
        message: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        drop: Literal["before", "mid"] | None = None,
        repeat: int | None = 1,
    ) -> "Reply":
        """Return a failure in the envelope of whichever protocol is called.

        Args:
            status: HTTP status; DashScope can send a failure with 200.
            code: The code as the native protocol spells it, such as "Throttling.RateQuota".
            message: The text; by default the documented one of the code.
            headers: As for `Reply`, and so are *delay*, *drop* and *repeat*.
            delay: Seconds.
            drop: "before", "mid" or None.
            repeat: Requests answered this way.
        """
        return cls(status, ErrorBody(code, message), headers or {}, delay, drop, repeat)


Scripted: TypeAlias = Reply | Callable[[LoggedRequest], Reply]
"""A reply, or a function that is shown the request and returns one."""


@dataclass
class _Turn:
    scripted: Scripted
    left: float | None = None  # requests to go; None until the first one is answered


class Script:
    """The replies still to be given, in order. Any thread may add, one thread takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: deque[_Turn] = deque()

    def add(self, *replies: Scripted) -> None:
        """Append *replies*.

        Raises:
            TypeError: One of them is neither a `Reply` nor callable.
        """
        for reply in replies:
            if not (isinstance(reply, Reply) or callable(reply)):
                raise TypeError(f"a Reply or a function that returns one, not {reply!r}")
        with self._lock:
            self._turns.extend(_Turn(reply) for reply in replies)

    def take(self, request: LoggedRequest) -> Reply | None:
        """Return the reply to *request*, or None for normal service.

        The `repeat` of the first reply a function returns says how many requests it is asked for.

        Raises:
            TypeError: A function returned something else than a `Reply`.
        """
        with self._lock:
            if not self._turns:
                return None
            turn = self._turns[0]
        left = turn.left or 1
        try:  # outside the lock: the function may look at the emulator
            reply = turn.scripted if isinstance(turn.scripted, Reply) else turn.scripted(request)
            if not isinstance(reply, Reply):
                raise TypeError(f"a scripted function must return a Reply, not {reply!r}")
            if turn.left is None:
                left = math.inf if reply.repeat is None else reply.repeat
            return reply
        finally:
            turn.left = left - 1
            with self._lock:
                if not turn.left and self._turns and self._turns[0] is turn:
                    self._turns.popleft()

    def clear(self) -> None:
        """Forget what is left."""
        with self._lock:
            self._turns.clear()
