"""What the doctor asks with: one request exactly as given. What to ask, and why, lives elsewhere.

A reranker drops blanks, cuts what is too long and splits long lists; the doctor wants to see what
the service does with them. This is the one module of the command line that enters the core's rooms.
"""

import contextlib
import socket
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from qwen_rerank import RequestError, Reranker
from qwen_rerank._drive import deadline_in, drive
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._limits import UNKNOWN_MODEL, ModelLimits, limits_for, price_of
from qwen_rerank._tokens import tokenizer
from qwen_rerank._values import Item, Place, Price, Reply, Request, Usage

__all__ = [
    "Ask",
    "Asker",
    "Probe",
    "Reach",
    "Rehearsal",
    "Terms",
    "Told",
    "count",
    "filled",
    "key_end",
    "proxy_for",
]


class Ask(NamedTuple):
    """One request: its documents are sent as they are, blank or too long as they may be."""

    query: str
    documents: tuple[str, ...]
    instruct: str | None = None


class Told(NamedTuple):
    """The answer to it.

    Attributes:
        scores: One score for each document, in the order in which they were sent.
        tokens: Tokens billed; None where the service reports none.
        seconds: How long it took, connecting included where there was no connection.
    """

    scores: tuple[float, ...]
    tokens: int | None
    seconds: float


class Reach(NamedTuple):
    """How long the way to the host takes, in seconds; None for a step that was not needed.

    Attributes:
        look_up: Its name; with a proxy that is the proxy's business.
        connect: A TCP connection, to the proxy if there is one.
        tls: Encryption.
        answer: The first answer, to a request that asks nothing.
    """

    look_up: float | None
    connect: float | None
    tls: float | None
    answer: float | None


class Terms(NamedTuple):
    """What can be asked at all.

    Attributes:
        limits: The limits of the model, documented or our own guess.
        width: Documents per request.
        takes_instruct: Whether the server takes an ``instruct``.
    """

    limits: ModelLimits
    width: int
    takes_instruct: bool

    @property
    def documented_item_tokens(self) -> int | None:
        """The limit of a document, or None for a model that nothing is documented of."""
        limit = self.limits.item_tokens
        return None if limit is UNKNOWN_MODEL.item_tokens else limit.value


class Asker(Protocol):
    """What an examination needs: the service, or a rehearsal of it."""

    terms: Terms

    def ask(self, ask: Ask, *, patient: bool = True) -> Told:
        """The answer to *ask*; without *patient* nothing is sent a second time."""

    def hang_up(self) -> None:
        """Lets the next request open a connection."""


class Probe:
    """Asks the service that a reranker would ask, over the same connections.

    Args:
        reranker: Says where, with which key, and which model.
    """

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self._line = reranker._line()
        limits = limits_for(reranker.model, reranker.server)
        self.terms = Terms(limits, reranker._width(limits), _takes_instruct(reranker))
        self.usage = Usage()
        """What the requests that were answered with scores have cost."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it asks."""
        return self._line.endpoint

    @property
    def price(self) -> Price | None:
        """The list price there, or None where none is known."""
        return price_of(self._reranker.model, self.endpoint.region)

    def reach(self) -> Reach:
        """Opens a connection and measures each step; no key is shown and nothing is billed.

        Raises:
            ServiceError: The host cannot be reached.
        """
        parts = urlsplit(self.endpoint.url)
        look_up = None
        if not self.endpoint.local and proxy_for(self.endpoint) is None:
            started = time.perf_counter()
            with contextlib.suppress(OSError):  # the connection below says it better
                socket.getaddrinfo(parts.hostname, parts.port or 443)
                look_up = time.perf_counter() - started
        self.hang_up()
        begun: dict[str, float] = {}
        ended: dict[str, float] = {}

        def trace(name: str, _: Any) -> None:
            step, _, what = name.rpartition(".")
            step = step.rpartition(".")[2]
            if what == "started":
                begun.setdefault(step, time.perf_counter())
            else:
                ended[step] = time.perf_counter()

        deadline = deadline_in(self._reranker.timeout)
        self._line.transport.touch(self.endpoint, deadline, self._line.client, trace)

        def took(first: str, last: str) -> float | None:
            return ended[last] - begun[first] if first in begun and last in ended else None

        return Reach(
            look_up,
            took("connect_tcp", "connect_tcp"),
            took("start_tls", "start_tls"),
            took("send_request_headers", "receive_response_headers"),
        )

    def ask(self, ask: Ask, *, patient: bool = True) -> Told:
        """Sends *ask* as it is.

        Raises:
            RerankError: There is no ranking.
        """
        items = (Item(text, 0, (Place(at),)) for at, text in enumerate(ask.documents))
        request = Request(self._reranker.model, ask.query, ask.instruct, tuple(items))
        line = self._line if patient else replace(self._line, max_retries=0)
        started = time.perf_counter()
        outcome = drive((request,), line, deadline_in(self._reranker.timeout), self._pay)
        seconds = time.perf_counter() - started
        reply = outcome.replies[0]
        if reply is None:
            raise outcome.failure or AssertionError("neither a reply nor a failure")
        return Told(reply.scores, reply.tokens, seconds)

    def _pay(self, reply: Reply) -> None:
        self.usage += Usage(1, reply.tokens)

    def hang_up(self) -> None:
        """Lets the next request open a connection."""
        self._reranker.close()


@dataclass
class Rehearsal:
    """Counts what would be asked, and asks nothing.

    Attributes:
        terms: As the service's.
        refuses: Whether it takes a document over the model's limit for refused, which leads to
            other questions than one that is cut.
        requests: How many requests were asked for.
        tokens: What they would be billed, by the vendor's formula and our tokenizer.
    """

    terms: Terms
    refuses: bool
    requests: int = 0
    tokens: int = 0

    def ask(self, ask: Ask, *, patient: bool = True) -> Told:  # noqa: ARG002  the service's word
        """Counts *ask*."""
        lengths = [count(text) for text in ask.documents]
        each = count(ask.query) + count(ask.instruct or "")
        self.requests += 1
        self.tokens += each * len(lengths) + sum(lengths)
        if self.refuses and max(lengths) > self.terms.limits.item_tokens.value:
            raise RequestError("this would be refused")
        return Told((0.5,) * len(lengths), 1, 0.0)

    def hang_up(self) -> None:
        """Does nothing."""


def _takes_instruct(reranker: Reranker) -> bool:
    try:
        reranker.estimate("a query", ["a text"], instruct="an instruct")
    except RequestError:
        return False
    return True


@lru_cache(maxsize=2_000)
def count(text: str) -> int:
    """Tokens of *text* in the Qwen vocabulary."""
    return tokenizer().count(text)


def filled(sentences: Iterable[str], tokens: int) -> str:
    """A text of *tokens* tokens made of *sentences*, which must hold as many."""
    text = " ".join(sentences)
    return text[: tokenizer().head(text, tokens)]


def key_end(endpoint: Endpoint) -> str | None:
    """The last characters of the key that is sent, four at most; None if none is sent."""
    if endpoint.api_key is None:
        return None
    key = endpoint.api_key.get_secret_value()
    return key[-min(4, len(key) // 4) :] if len(key) >= 4 else ""


def proxy_for(endpoint: Endpoint) -> str | None:
    """Host and port of the proxy that the environment names for *endpoint*, or None."""
    parts = urlsplit(endpoint.url)
    named = {} if endpoint.local else urllib.request.getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]
