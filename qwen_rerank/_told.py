"""What a server of one's own tells of itself: how long a pair may be, and which models it serves.

No document is sent to it, and what it does not tell is done without.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from qwen_rerank import _loop, _servers, _wire
from qwen_rerank.errors import RerankError

if TYPE_CHECKING:
    from qwen_rerank._drive import Line
    from qwen_rerank._loop import Caller
    from qwen_rerank._values import Answer

__all__ = ["Lengths", "alearn_length", "learn_length", "models"]

_ASK_SECONDS = 5.0  # for what can be done without


class _PutOff(NamedTuple):
    """A question that was not answered.

    Attributes:
        times: How often it was not.
        until: When to ask again.
        waited: Seconds that an answer was waited for; who has twice as many asks before that.
    """

    times: int = 0
    until: float = 0.0
    waited: float = 0.0


class Lengths:
    """How many tokens a pair may have, as servers of one's own told of themselves.

    Args:
        clock: A monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.told: dict[tuple[str, str], int | None] = {}
        """By URL and model; None where a server does not tell, which is not asked again."""
        self._put_off: dict[tuple[str, str], _PutOff] = {}
        self._clock = clock
        self.turn = asyncio.Lock()

    def is_to_be_asked(self, url: str, model: str, deadline: float) -> bool:
        """Whether who has time until *deadline* is to ask."""
        if (url, model) in self.told:
            return False
        _, until, waited = self._put_off.get((url, model), _PutOff())
        return self._clock() >= until or 2 * waited <= _patience(deadline)

    def tell(self, url: str, model: str, length: int | None) -> None:
        """Keeps what a server told."""
        self._put_off.pop((url, model), None)
        self.told[url, model] = length

    def put_off(self, url: str, model: str, waited: float = math.inf) -> None:
        """Keeps that a server did not tell for now, each time for longer.

        A refusal costs a round trip, so the next call asks again, and in the end one in a minute.
        An answer that was *waited* for in vain costs as many seconds: one in a minute, then fewer.
        Neither says how long the other will last.
        """
        last, is_refusal = self._put_off.get((url, model), _PutOff()), waited == math.inf
        times = last.times if is_refusal == (last.waited == math.inf) else 0
        doubled = 2.0 ** min(times, 10)
        pause = min(doubled - 1, 60.0) if is_refusal else min(60.0 * doubled, 3_600.0)
        self._put_off[url, model] = _PutOff(times + 1, self._clock() + pause, waited)

    def doubt(self, url: str, model: str) -> None:
        """Has the next call ask what was not told: this one failed.

        The server may have been starting, without that model, or refused the key. Whoever was
        silent is left alone.
        """
        if self.told.get((url, model), 0) is None:
            del self.told[url, model]
        if self._put_off.get((url, model), _PutOff()).waited == math.inf:
            del self._put_off[url, model]


def learn_length(line: Line, model: str, deadline: float) -> None:
    """Asks a server of one's own how long a pair may be, if `Lengths.is_to_be_asked`.

    No document is sent, and it is in nobody's way for longer than a few seconds.
    """
    _loop.run(partial(_learn_length, line, model, deadline))


async def alearn_length(line: Line, model: str, deadline: float) -> None:
    """`learn_length` for a running event loop."""
    await _loop.wait(partial(_learn_length, line, model, deadline))


async def _learn_length(line: Line, model: str, deadline: float, caller: Caller) -> None:
    dialect, key = _servers.spoken(line.protocol, line.server), (line.endpoint.url, model)
    if dialect.length is None:
        return
    path, name = dialect.length
    began = math.inf
    try:
        async with asyncio.timeout(_patience(deadline)), line.lengths.turn:
            if not line.lengths.is_to_be_asked(*key, deadline):
                return
            # Neither the wait for the turn nor that for imports is the server's doing.
            if line.client is not None or line.transport.is_open:
                began = time.monotonic()
            answer = await _of_model(line, path, model, deadline, caller)
            if _wire.is_lasting(answer):
                line.lengths.tell(*key, _wire.length_in(answer, name, model))
            else:
                line.lengths.put_off(*key)
    except TimeoutError:  # whoever swallows that question would do so in each call
        if began < math.inf:
            line.lengths.put_off(*key, waited=time.monotonic() - began)
    except RerankError:
        return  # the call itself will say so


async def _of_model(line: Line, path: str, model: str, deadline: float, caller: Caller) -> Answer:
    """What its server says of *model* at *path*, or what keeps it from that for now."""
    dialect = _servers.spoken(line.protocol, line.server)
    if dialect.registered is not None and dialect.models is not None:
        listed = await _told(line, dialect.models, deadline, caller)
        if not _wire.is_lasting(listed):
            return listed
        path += quote(_wire.name_in(listed, dialect.registered, model) or model, safe="")
    return await _told(line, path, deadline, caller)


async def models(line: Line, deadline: float, caller: Caller) -> tuple[str, ...]:
    """The models that a server of one's own says it serves."""
    if (path := _servers.spoken(line.protocol, line.server).models) is None:
        return ()
    with contextlib.suppress(RerankError, TimeoutError):
        async with asyncio.timeout(_patience(deadline)):
            names = _wire.models_in(await _told(line, path, deadline, caller))
            return tuple(filter(None, map(line.endpoint.masked, names)))
    return ()


def _patience(deadline: float) -> float:
    return max(0.0, min((deadline - time.monotonic()) / 2, _ASK_SECONDS))


async def _told(line: Line, path: str, deadline: float, caller: Caller) -> Answer:
    """What a server of one's own says at *path*, below its address."""
    address = re.sub(r"(/v\d)?/[^/]*$", "", line.endpoint.url)
    endpoint = replace(line.endpoint, url=address + path)
    return await line.transport.send(endpoint, None, deadline, caller, line.client)
