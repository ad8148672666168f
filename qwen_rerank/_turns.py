"""One user at a time of what cannot be shared, and no trace of it afterwards. No option is known.

Few caches may be used by several threads at once: a ``TTLCache``, for one, may not. Whatever
objects share a cache, there is one lock for it, as long as somebody uses it or waits. A dict takes
neither a weak reference nor an attribute, so it is found by the address, for as long as it is held.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["turn_at"]


class _Turn:
    # An RLock knows whose it is, and so whether there is anything to give back when an interrupt
    # came between taking it and being told that it was taken.
    def __init__(self) -> None:
        self.lock = threading.RLock()


class _Register:
    """The turns that are taken or waited for, by the address of what they are at."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nobody has a turn."""
        self.lock = threading.RLock()
        # Weakly, so that no interrupt can come between using a turn and counting who does.
        self.turns: weakref.WeakValueDictionary[int, _Turn] = weakref.WeakValueDictionary()


_register = _Register()

if hasattr(os, "register_at_fork"):  # not on Windows
    # Threads that had a turn are not in the child, which would wait for them for ever.
    os.register_at_fork(after_in_child=_register.clear)


@contextmanager
def turn_at(thing: object, seconds: float) -> Iterator[bool]:
    """Whether it is the caller's turn at *thing*; not if others hold it for *seconds*."""
    with _register.lock:
        turn = _register.turns.setdefault(id(thing), _Turn())
    try:
        yield turn.lock.acquire(timeout=seconds)
    finally:
        # At once, with no call before it in which an interrupt may come.
        try:  # noqa: SIM105  that would be one
            turn.lock.release()
        except RuntimeError:
            pass  # it is not ours
