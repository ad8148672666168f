"""Everything that can go wrong in a call, as one tree; nothing is decided here.

The branches say whose move is next, not which HTTP status came back::

    RerankError
    |- RequestError          your side: fix the call         always raised; also a ValueError
    |- ContentError          the service refused what a document holds, or could not fetch its media
    |- AuthenticationError   key, region or permission       always raised
    |- QuotaError            balance or quota used up        never retryable, whatever its status
    |- RateLimitError        slow down                       retryable; may carry retry_after
    |- ServiceError          their side is down or too slow  retryable
    |  `- DeadlineError      our timeout ran out             also a TimeoutError
    `- ReplyError            their answer is no ranking      retryable

What is not always raised becomes the original order under ``on_error="passthrough"``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

from qwen_rerank import _plain

__all__ = [
    "AuthenticationError",
    "ContentError",
    "DeadlineError",
    "QuotaError",
    "RateLimitError",
    "ReplyError",
    "RequestError",
    "RerankError",
    "ServiceError",
]


class RerankError(Exception):
    """A rerank call that did not end in a ranking.

    Attributes:
        message: What happened; the service's own words where it sent any.
        code: The service's error code, such as ``"InvalidApiKey"``; None if it sent none.
        status: HTTP status of the answer; None if there was no answer.
        request_id: The service's id for the request; quote it to Alibaba Cloud's support.
        hint: What to do next, in one sentence; None if there is nothing to add.
        retry_after: Seconds the service asked us to wait, or for which it is not asked because it
            was found gone; None if neither is so.
        documents: Positions, in the list that was given, of the one document that the service
            named, or else of all documents of the request that failed; empty if it was none.
        retryable: Whether the same call may succeed later without any change: by the class, except
            that an answer which was thrown away for its size, or what a gateway has repeated, is
            not asked for again.
        passes_through: Whether ``on_error="passthrough"`` returns the original order instead: true
            unless the mistake is the caller's, whom silence would not help; and true where a
            server of one's own found a document too long.
    """

    retryable: bool = False
    passes_through: bool = True
    # Whether this machine kept it from being sent, so that it says nothing of the service.
    _unsent: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
        documents: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.request_id = request_id
        self.hint = hint
        self.retry_after = retry_after
        self.documents = documents

    def __str__(self) -> str:
        facts = [
            f"HTTP {self.status}" if self.status is not None else "",
            f"code {self.code}" if self.code else "",
            f"request id {self.request_id}" if self.request_id else "",
        ]
        shown = ", ".join(fact for fact in facts if fact)
        text = f"{self.message} ({shown})" if shown else self.message
        return f"{text}\n{self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling knows only positional arguments and would drop the facts.
        return (type(self), (self.message,), vars(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain.schema(
            cls, _plain.RerankError, handler, read=cls._read, write=RerankError._written
        )

    @classmethod
    def _read(cls, form: dict[str, Any]) -> RerankError:
        facts = dict(form)
        name = facts.pop("type")
        kinds = {kind.__name__: kind for kind in _and_below(cls)}
        if name not in kinds:
            raise ValueError(f"{name!r} is none of {', '.join(kinds)}")
        verdicts = {verdict: facts.pop(verdict) for verdict in _VERDICTS if verdict in facts}
        error = kinds[name](**facts)
        for verdict, value in verdicts.items():
            if value != getattr(error, verdict):
                setattr(error, verdict, value)
        return error

    def _written(self) -> dict[str, Any]:
        facts = {name: _plain.cleaned(getattr(self, name)) for name in (*_FACTS, *_VERDICTS)}
        return {"type": type(self).__name__, **facts}


_FACTS = ("message", "code", "status", "request_id", "hint", "retry_after", "documents")
_VERDICTS = ("retryable", "passes_through")  # by the class, and some errors know better


def _and_below(kind: type[RerankError]) -> Iterator[type[RerankError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _and_below(below)


class RequestError(RerankError, ValueError):
    """The call itself is wrong; nothing will change until it is changed."""

    passes_through = False


class ContentError(RerankError):
    """The service refused what a document holds, or could not fetch its media."""


class AuthenticationError(RerankError):
    """The key, its region, its workspace or its permissions do not allow this call, or a proxy."""

    passes_through = False


class QuotaError(RerankError):
    """The account's balance, subscription or free quota is used up."""


class RateLimitError(RerankError):
    """Too many requests or tokens at once; the same call succeeds later."""

    retryable = True


class ServiceError(RerankError):
    """The service is down, broken or too slow, or could not be reached."""

    retryable = True


class DeadlineError(ServiceError, TimeoutError):
    """The call's own ``timeout`` ran out before a ranking was complete."""


class ReplyError(RerankError):
    """The answer cannot be read as a ranking of what was asked."""

    retryable = True
