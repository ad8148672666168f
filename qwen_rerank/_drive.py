"""Room 4: sends the requests of one plan and waits; the only clock. Sync and async side by side.

The requests of a call go one after another.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen_rerank import _wire
from qwen_rerank._values import Answer, Plan, Reply, Request

if TYPE_CHECKING:
    from qwen_rerank._endpoint import Endpoint
    from qwen_rerank._transport import Transport

__all__ = ["Line", "adrive", "deadline_in", "drive"]


@dataclass(frozen=True, slots=True)
class Line:
    """An open line to the service: where to, in which protocol, through which client.

    Attributes:
        endpoint: Where requests go and what they carry.
        protocol: The protocol spoken there.
        transport: Our own http clients.
        client: An httpx client of the caller's to be used instead, sync or async as the call is.
    """

    endpoint: Endpoint
    protocol: _wire.Protocol
    transport: Transport
    client: Any = None


def deadline_in(seconds: float) -> float:
    """The moment *seconds* from now, in the clock of every deadline here."""
    return time.monotonic() + seconds


def drive(plan: Plan, line: Line, deadline: float) -> list[Reply]:
    """The replies to the requests of *plan*, in its order."""
    replies = []
    for request in plan.requests:
        body = _wire.encode(request, line.protocol)
        answer = line.transport.send(line.endpoint, body, deadline, line.client)
        replies.append(_read(answer, request, line))
    return replies


async def adrive(plan: Plan, line: Line, deadline: float) -> list[Reply]:
    """`drive` for a running event loop."""
    replies = []
    for request in plan.requests:
        body = _wire.encode(request, line.protocol)
        answer = await line.transport.asend(line.endpoint, body, deadline, line.client)
        replies.append(_read(answer, request, line))
    return replies


def _read(answer: Answer, request: Request, line: Line) -> Reply:
    return _wire.decode(
        answer,
        len(request.items),
        protocol=line.protocol,
        model=request.model,
        host=line.endpoint.host,
    )
