"""A server as it is asked, and what it is asked with; imports no more than a client has to.

So the processes that measure throughput start soon, with nothing beside them on the heap.
"""

import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import httpx

from qwen_rerank import Reranker

__all__ = ["KEY", "QUERY", "Group", "Running", "Server", "texts"]

Group: TypeAlias = Literal["texts", "images", "short queue", "no reranker"]
"""What a server is set up to show, by which its duties are chosen."""

KEY = "sk-own-servers"
QUERY = "fast red car"
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading certificates takes longer than asking


class Running(NamedTuple):
    """What can be done to a server that really runs.

    Attributes:
        cpu_seconds: The processor time that it has used so far.
        kill: Ends it at once, as a crash would.
        restart: Starts it again on the same port; returns when it is ready.
    """

    cpu_seconds: Callable[[], float]
    kill: Callable[[], None]
    restart: Callable[[], None]


@dataclass(frozen=True)
class Server:
    """A server that answers: where, and what has to be known of it to ask it.

    Attributes:
        kind: What ``server=`` is called.
        address: Scheme, host and port, and for the emulator's the path of the imitation.
        model: The name it serves its model under.
        tokens: The most tokens of query and document together that its model was given.
        api_key: The key it was started with.
        path: Where it is asked to rerank.
        instructs: Whether the way it was started lets an instruction count.
        group: Which duties it is asked.
        running: Its processes; None for an imitation.
    """

    kind: str
    address: str
    model: str
    tokens: int
    api_key: str = KEY
    path: str = "/v1/rerank"
    instructs: bool = False
    group: Group = "texts"
    running: Running | None = field(default=None, repr=False)

    def reranker(self, **options: Any) -> Reranker:
        """One that asks this server."""
        return Reranker(**self.options(**options))

    def options(self, **options: Any) -> dict[str, Any]:
        """What every class of the project is given to ask this server."""
        known = {"server": self.kind, "base_url": self.address, "model": self.model}
        return {**known, "api_key": self.api_key, "timeout": 120, **options}

    def ask(self, method: str = "POST", path: str | None = None, **request: Any) -> httpx.Response:
        """Its answer to a bare request, without any code of the project."""
        headers = {"authorization": f"Bearer {self.api_key}", **request.pop("headers", {})}
        url = self.address + (path or self.path)
        return httpx.request(
            method,
            url,
            headers=headers,
            trust_env=False,
            verify=_NO_TLS,
            **{"timeout": 120, **request},
        )

    def scores(self, query: Any, documents: Sequence[Any]) -> list[float]:
        """What it scores *documents* when it is asked without the project."""
        scores: dict[int, float] = {}
        for start in range(0, len(documents), 25):  # cut otherwise than the project cuts
            part = list(documents[start : start + 25])
            body = {"model": self.model, "query": query, "documents": part}
            answer = self.ask(json=body).raise_for_status().json()
            for each in answer["results"]:
                scores[start + each["index"]] = each["relevance_score"]
        return [scores[index] for index in range(len(documents))]


def texts(count: int) -> list[str]:
    """So many different documents; the same at every call."""
    chance = random.Random(count)  # noqa: S311  not for secrets
    words = ["car", "red", "fast", "tea", "green", "old", "house", "hill", "moon", "stone"]
    return [f"{number} {' '.join(chance.choices(words, k=8))}" for number in range(count)]
