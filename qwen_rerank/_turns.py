"""One user at a time of what cannot be shared, and no trace of it afterwards. No option is known.

Few caches may be used by several threads at once: a ``TTLCache``, for one, may not. Whatever
objects share a cache, there is one lock for it, as long as somebody uses it or waits. A dict takes
neither a weak reference nor an attribute, so the users are counted here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

__all__ = ["turn_at"]


@dataclass(slots=True)
class _Turn:
    # An RLock knows whose it is, and so whether there is anything to give back when an interrupt
    # came between taking it and being told that it was taken.
    lock: threading.RLock = field(default_factory=threading.RLock)
    users: int = 0


class _Register:
    """The turns that are taken or waited for, by the address of what they are at."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody has a turn."""
        self.lock = threading.Lock()
        self.turns: dict[int, _Turn] = {}


_register = _Register()

if hasattr(os, "register_at_fork"):  # not on Windows
    # Threads that had a turn are not in the child, which would wait for them for ever.
    os.register_at_fork(after_in_child=_register.clear)


@contextmanager
def turn_at(thing: object, seconds: float) -> Iterator[bool]:
    """Whether it is the caller's turn at *thing*; not if others hold it for *seconds*."""
    with _register.lock:
        turn = _register.turns.setdefault(id(thing), _Turn())
        turn.users += 1
    try:
        yield turn.lock.acquire(timeout=seconds)
    finally:
        with suppress(RuntimeError):  # it is not ours
            turn.lock.release()
        with _register.lock:
            turn.users -= 1
            if not turn.users and _register.turns.get(id(thing)) is turn:  # in a child it is not
                del _register.turns[id(thing)]
