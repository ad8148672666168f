"""What the doctor asks with: one request exactly as given. What to ask, and why, lives elsewhere.

A reranker drops blanks, cuts what is too long and splits long lists; the doctor wants to see what
the service does with them. With `_surroundings` it is what enters the core's rooms of the command
line.
"""

import contextlib
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from qwen_rerank import RequestError, Reranker
from qwen_rerank._advice import Advice
from qwen_rerank._drive import deadline_in, drive, warm
from qwen_rerank._endpoint import QUOTES, REGIONS, Endpoint, Region, url_below
from qwen_rerank._loop import run
from qwen_rerank._models import LIMITS, UNKNOWN_MODEL, UNTOLD, ModelLimits, price_of
from qwen_rerank._refusal import meant
from qwen_rerank._route import certificates, proxy_for
from qwen_rerank._servers import Protocol as Spoken
from qwen_rerank._tokens import tokenizer
from qwen_rerank._told import learn_length
from qwen_rerank._values import Item, Place, Price, Reply, Request, Usage
from qwen_rerank._wire import PATHS
from qwen_rerank.cli._words import flag

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
    "key_doubt",
    "key_end",
]

_PORTS = {"http": 80, "https": 443}


class Ask(NamedTuple):
    """One request: its documents are sent as they are, blank or too long as they may be."""

    query: str
    documents: tuple[str, ...]
    instruct: str | None = None
    protocol: Spoken | None = None
    """None for the one that the reranker speaks."""


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
        answer: An answer, over an open connection, to a request that asks nothing.
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
        other: The protocol that can be asked besides the reranker's own; None where its URL says
            nothing of another.
    """

    limits: ModelLimits
    width: int
    takes_instruct: bool
    other: Spoken | None = None

    @property
    def documented_item_tokens(self) -> int | None:
        """The limit of a document, or None for a model that nothing is documented of."""
        limit = self.limits.item_tokens
        return None if limit in (UNKNOWN_MODEL.item_tokens, UNTOLD) else limit.value


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
        if reranker.max_model_len is None:  # nothing is asked of DashScope
            learn_length(self._line, reranker.model, deadline_in(reranker.timeout))
        limits = reranker._limits(reranker.model, self._line)
        self.terms: Terms = Terms(
            limits,
            reranker._width(limits),
            _takes_instruct(reranker),
            _other(self.endpoint.url, reranker),
        )
        self.usage: Usage = Usage()
        """What the requests that were answered with scores have cost."""
        self.models: set[str] = set()
        """Those that answers say they are of."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it asks."""
        return self._line.endpoint

    @property
    def length(self) -> tuple[str | None, str]:
        """How long a pair may be on a server of one's own, and who says so."""
        if self._reranker.server is None:
            return None, ""
        if (pair := self.terms.limits.pair_tokens) is None:
            return None, "not known"
        told = self._line.lengths.told.get((self.endpoint.url, self._reranker.model))
        whose = f"a guess: set {flag('max_model_len')}" if pair is UNTOLD else "the model's name"
        if self._reranker.max_model_len is not None:
            whose = "--max-model-len"
        elif told is not None:
            whose = "the server"
        return f"{pair.value:,} tokens for query and document", whose

    @property
    def price(self) -> Price | None:
        """The list price there, or None where none is known."""
        return price_of(self._reranker.model, self.endpoint.region)

    @property
    def region(self) -> Region | None:
        """The region that it asks, or None for a host of no region."""
        return None if (name := self.endpoint.region) is None else REGIONS[name]

    @property
    def has_default_instruct(self) -> bool:
        """Whether the service has an ``instruct`` of its own, which users saw billed."""
        return self._reranker.server is None and self._reranker.model.startswith("qwen")

    @property
    def doubts(self) -> tuple[str | Advice, ...]:
        """Why the vendor's pages do not promise that the model is served there."""
        model, region = self._reranker.model, self.region
        if self._reranker.server is not None:
            return ()
        doubts: list[str] = []
        if model not in LIMITS:
            known = f"{model} is none of the models that the vendor documents. "
            doubts.append(known + meant(model, LIMITS))
        if region is None or region.listed == "all":
            return tuple(doubts)
        where = f"{self.endpoint.region} ({region.city})"
        if region.listed is None:
            doubts.append(
                f"The vendor lists no rerank model for {where}: whether one is served there is not "
                "known, and the call below tells you."
            )
        elif model != region.listed:
            doubts.append(
                f"The vendor lists {region.listed} for {where}, and not {model}: expect that it is "
                "not found there."
            )
        return tuple(doubts)

    def reach(self) -> Reach:
        """Opens a connection and measures each step; no key is shown and nothing is billed.

        Raises:
            ServiceError: The host cannot be reached.
        """
        parts = urlsplit(self.endpoint.url)
        look_up, proxy = None, proxy_for(self.endpoint.url)
        if not self.endpoint.local and proxy is None:
            started = time.perf_counter()
            with contextlib.suppress(OSError):  # the connection below says it better
                socket.getaddrinfo(parts.hostname, parts.port or 443)
                look_up = time.perf_counter() - started
        self.hang_up()
        timeout = self._reranker.timeout
        warm(self._line, deadline_in(timeout))
        started = time.perf_counter()
        warm(self._line, deadline_in(timeout))  # over the connection that is open by now
        answer = time.perf_counter() - started
        host, port = (parts.hostname, parts.port) if proxy is None else (proxy.host, proxy.port)
        connect = tls = None
        started = time.perf_counter()
        with (
            contextlib.suppress(OSError),  # through a client of the caller's, it may not be needed
            socket.create_connection((host, port or _PORTS[parts.scheme]), timeout) as plain,
        ):
            connect = time.perf_counter() - started
            if parts.scheme == "https" and proxy is None:
                started = time.perf_counter()
                with certificates().wrap_socket(plain, server_hostname=host):
                    tls = time.perf_counter() - started
        return Reach(look_up, connect, tls, answer)

    def ask(self, ask: Ask, *, patient: bool = True) -> Told:
        """Sends *ask* as it is.

        Raises:
            RerankError: There is no ranking.
        """
        items = (Item(text, 0, (Place(at),)) for at, text in enumerate(ask.documents))
        request = Request(self._reranker.model, ask.query, ask.instruct, tuple(items))
        line = self._line if patient else self._line._replace(max_retries=0)
        if ask.protocol is not None:
            url = url_below(line.endpoint.url, ask.protocol)
            line = line._replace(protocol=ask.protocol, endpoint=replace(line.endpoint, url=url))
        started = time.perf_counter()
        deadline = deadline_in(self._reranker.timeout)
        outcome = run(partial(drive, (request,), line, deadline, self._pay))
        seconds = time.perf_counter() - started
        reply = outcome.replies[0]
        if reply is None:
            raise outcome.failure or AssertionError("neither a reply nor a failure")
        return Told(reply.scores, reply.tokens, seconds)

    def _pay(self, _: Request, reply: Reply) -> None:
        if reply.model is not None:
            self.models.add(reply.model)
        self.usage += Usage(1, reply.tokens)

    def hang_up(self) -> None:
        """Lets the next request open a connection."""
        self._reranker.close()


@dataclass
class Rehearsal:
    """Counts what would be asked, and asks nothing.

    Attributes:
        terms: As the service's.
        refuses: Whether it takes a document over the model's limit for refused, which is not billed
            and leads to other questions than one that is cut.
        requests: How many requests were asked for.
        tokens: What they would be billed, by the vendor's formula and our tokenizer.
        uninstructed: How many documents would be asked for without an ``instruct``.
    """

    terms: Terms
    refuses: bool
    requests: int = 0
    tokens: int = 0
    uninstructed: int = 0

    def ask(self, ask: Ask, *, patient: bool = True) -> Told:  # noqa: ARG002  the service's word
        """Counts *ask*."""
        limits, lengths = self.terms.limits, [count(text) for text in ask.documents]
        around = count(ask.query) + count(ask.instruct or "") + limits.template_tokens
        most = limits.item_tokens.value
        if limits.pair_tokens is not None:
            most = min(most, limits.pair_tokens.value - around)
        self.requests += 1
        if self.refuses and max(lengths) > most:
            raise RequestError("this would be refused")
        self.uninstructed += 0 if ask.instruct else len(lengths)
        self.tokens += around * len(lengths) + sum(min(length, most) for length in lengths)
        return Told((0.5,) * len(lengths), 1, 0.0)

    def hang_up(self) -> None:
        """Does nothing."""


def _other(url: str, reranker: Reranker) -> Spoken | None:
    """The protocol that *url* can be changed to: every host of DashScope serves both."""
    if reranker.server is not None or not url.endswith("".join(PATHS[reranker.protocol])):
        return None  # such as a gateway, which has paths of its own
    return next(each for each in PATHS if each != reranker.protocol)


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


def key_doubt(endpoint: Endpoint) -> str:
    """What is odd about the key that is sent, which is none of its characters; "" if nothing is."""
    key = "" if endpoint.api_key is None else endpoint.api_key.get_secret_value()
    return " (with a quote in it)" if any(quote in key for quote in QUOTES) else ""
