"""What a server of one's own tells of itself: how long a pair may be, and which models it serves.

No document is sent to it, and what it does not tell is done without.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from qwen_rerank import _loop, _servers, _wire
from qwen_rerank.errors import RerankError

if TYPE_CHECKING:
    from qwen_rerank._drive import Line
    from qwen_rerank._loop import Caller
    from qwen_rerank._values import Answer

__all__ = ["Lengths", "alearn_length", "learn_length", "models"]

_ASK_SECONDS = 5.0  # for what can be done without


class Lengths:
    """How many tokens a pair may have, as servers of one's own told of themselves."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], int | None] = {}
        """By URL and model; None where a server did not tell, which is not asked again."""
        self.waited: dict[tuple[str, str], float] = {}
        """Seconds that one was waited for in vain; who has twice as many asks it again."""
        self.turn = asyncio.Lock()

    def is_to_be_asked(self, url: str, model: str, deadline: float) -> bool:
        """Whether who has time until *deadline* is to ask."""
        if (url, model) in self.told:
            return False
        return 2 * self.waited.get((url, model), 0.0) <= _patience(deadline)


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
            if dialect.registered is not None and dialect.models is not None:
                listed = await _told(line, dialect.models, deadline, caller)
                registered = _wire.name_in(listed, dialect.registered, model)
                path += quote(registered or model, safe="")
            answer = await _told(line, path, deadline, caller)
            line.lengths.told[key] = _wire.length_in(answer, name, model)
    except TimeoutError:  # whoever swallows that question would do so in each call
        waited = max(0.0, time.monotonic() - began)
        line.lengths.waited[key] = max(waited, line.lengths.waited.get(key, 0.0))
    except RerankError:
        return  # the call itself will say so


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
