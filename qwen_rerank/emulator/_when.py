"""The faults that are set, and which requests each is for; what a fault does lives elsewhere."""

import difflib
import math
import threading
from dataclasses import dataclass
from typing import Any

from qwen_rerank.emulator._faults import BY_NAME, FAULTS, REFUSED, Fault
from qwen_rerank.emulator._media import is_url
from qwen_rerank.emulator._wire import media_in, texts_in


@dataclass(frozen=True)
class When:
    """Which requests, counted from the moment the fault is set; by default all of them.

    Raises:
        ValueError: More than one is given, or one is out of its range.
    """

    first: int | None = None
    nth: int | None = None
    percent: float | None = None
    holding: str | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"a fault takes one of first, nth, percent and holding, not {given}")
        for name in ("first", "nth"):
            count = getattr(self, name)
            if count is not None and (type(count) is not int or count < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, not {count!r}")
        if self.percent is not None and not 0 < self.percent <= 100:
            raise ValueError(f"percent must be over 0 and at most 100, not {self.percent!r}")
        if self.holding == "":
            raise ValueError("holding must not be empty")

    def applies(self, body: Any, number: int) -> bool:
        """Return whether the request with *body* is meant, its *number* since the fault was set."""
        if self.first is not None:
            return number <= self.first
        if self.nth is not None:
            return number == self.nth
        if self.percent is not None:  # evenly spread, and the same in every run
            before, so_far = (number - 1) * self.percent, number * self.percent
            return math.floor(so_far / 100) > math.floor(before / 100)
        if self.holding is not None:
            held = (*texts_in(body), *filter(is_url, media_in(body)))
            return any(self.holding in text for text in held)
        return True


ALWAYS = When()
_READERS = {"first": int, "nth": int, "percent": float, "holding": str}


def parsed(fault: str, when: When) -> tuple[str, When]:
    """Return the name in *fault*, such as ``score-nan`` or ``score-nan:percent=5``, and its when.

    Raises:
        ValueError: The name is unknown, what follows it cannot be read, or *when* says so already.
    """
    name, colon, said = fault.partition(":")
    if name not in FAULTS:
        nearest = difflib.get_close_matches(name, FAULTS, 1, cutoff=0.0)[0]
        raise ValueError(f"there is no fault {name!r}; the nearest name is {nearest!r}")
    if colon:
        if when != ALWAYS:
            raise ValueError(f"{fault!r} says already which requests it is for")
        kind, _, value = said.partition("=")
        try:
            said_value = _READERS[kind](value)
        except (KeyError, ValueError):
            raise ValueError(
                f"{fault!r} does not end in :first=N, :nth=N, :percent=P or :holding=TEXT"
            ) from None
        when = When(**{kind: said_value})
    if name == REFUSED and when != ALWAYS:
        raise ValueError("a refused connection is never seen, so that none can be counted")
    return name, when


@dataclass
class _Set:
    fault: Fault
    when: When
    seen: int = 0  # requests since it was set

    def applies(self, body: Any) -> bool:
        self.seen += 1
        return self.when.applies(body, self.seen)


class Faults:
    """The faults that are set. Any thread may add, one thread takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: list[_Set] = []

    def add(self, name: str, when: When) -> None:
        """Set the fault called *name*, which is not `REFUSED`."""
        with self._lock:
            self._set.append(_Set(BY_NAME[name], when))

    def take(self, body: Any) -> Fault | None:
        """Return the first fault that applies to the request with *body*, or None.

        A fault counts the requests that no fault before it took: several of 1 percent each take
        turns, instead of all meaning the same request.
        """
        if not self._set:
            return None
        with self._lock:
            return next((one.fault for one in self._set if one.applies(body)), None)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._set.clear()
