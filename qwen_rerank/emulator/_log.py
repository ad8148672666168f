"""What the emulator remembers of each request; nothing here decides an answer."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qwen_rerank.emulator._media import KINDS, shortened

_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_MASK = "***"


@dataclass(frozen=True)
class LoggedRequest:
    """One request that the emulator saw; its authorization header is kept nowhere.

    A key of at least 8 characters is masked wherever else it stands; a shorter one would be part of
    ordinary words.
    """

    method: str
    path: str
    """Path, with the query string if there was one."""
    headers: Mapping[str, str]
    """Lower-case names; the authorization header is left out."""
    body: Any = field(repr=False)
    """The parsed JSON; None where the body was no JSON, or too large.

    An image sent as base64 is told by its size and the BLAKE2b digest (8 bytes) of its content:
    ``data:image/png;base64,<1234 bytes, blake2b 0123456789abcdef>``.
    """
    documents: int
    """How many documents the request carried."""
    request_id: str
    status: int | None = None
    """None while unanswered, and for ever if the connection was closed before the head."""
    tokens: int | None = None
    """The usage of the honest answer, whether or not a fault kept it from the client; or None."""


class Log:
    """The requests since the last `clear`, in order of arrival; safe from any thread.

    Args:
        most: How many are kept, the latest; None for all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.seen = 0
        """How many there were."""
        self._most = most
        self._lock = threading.Lock()
        self._entries: dict[str, LoggedRequest] = {}

    def add(self, entry: LoggedRequest) -> None:
        """Remember *entry*."""
        with self._lock:
            self.seen += 1
            self._entries[entry.request_id] = entry
            if self._most is not None and len(self._entries) > self._most:
                del self._entries[next(iter(self._entries))]

    def answered(self, request_id: str, status: int, tokens: int | None) -> None:
        """Note the answer to a request, unless it has been forgotten meanwhile."""
        with self._lock:
            if request_id in self._entries:
                self._entries[request_id] = replace(
                    self._entries[request_id], status=status, tokens=tokens
                )

    def snapshot(self) -> tuple[LoggedRequest, ...]:
        """Return the entries so far."""
        with self._lock:
            return tuple(self._entries.values())

    def clear(self) -> None:
        """Forget all entries."""
        with self._lock:
            self._entries.clear()
            self.seen = 0


_MEDIA = (*KINDS, "url")  # the last is that of vLLM's content parts


def without_bulk(value: Any) -> Any:
    """Return *value*, parsed JSON, with every image sent as base64 shortened."""
    if isinstance(value, list):
        return [without_bulk(item) for item in value]
    if isinstance(value, dict):
        return {
            key: shortened(item) if key in _MEDIA and isinstance(item, str) else without_bulk(item)
            for key, item in value.items()
        }
    return value


def without_secrets(value: Any, secrets: Iterable[str]) -> Any:
    """Return *value*, a string or parsed JSON, with every secret masked."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _MASK)
        return value
    if isinstance(value, list):
        return [without_secrets(item, secrets) for item in value]
    if isinstance(value, dict):
        return {
            without_secrets(key, secrets): without_secrets(item, secrets)
            for key, item in value.items()
        }
    return value


def without_credentials(
    headers: Iterable[tuple[str, str]], secrets: Iterable[str]
) -> dict[str, str]:
    """Return *headers* by lower-case name, credentials left out, repeated ones joined."""
    kept: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in _CREDENTIALS:
            kept.setdefault(name.lower(), []).append(without_secrets(value, secrets))
    return {name: ", ".join(values) for name, values in kept.items()}
