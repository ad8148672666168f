"""LangChain's rate limiters as the core asks for permission to send; nothing is sent from here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from langchain_core.rate_limiters import BaseRateLimiter

__all__ = ["Pace"]

_PAUSE = 0.02  # seconds between two questions; a blocking one could outlast the deadline


class Pace:
    """Permission by a `BaseRateLimiter`, which counts requests and knows nothing of tokens."""

    counts_tokens: ClassVar[bool] = False
    on_any_loop: ClassVar[bool] = False

    def __init__(self, limiter: BaseRateLimiter) -> None:
        self.limiter = limiter

    def take(self, _tokens: int, deadline: float, doze: Callable[[float], None]) -> bool:
        while not self.limiter.acquire(blocking=False):
            if (left := deadline - time.monotonic()) <= 0:
                return False
            doze(min(_PAUSE, left))
        return True

    async def atake(self, _tokens: int) -> None:
        while not await self.limiter.aacquire(blocking=True):  # noqa: ASYNC110  it may give up
            await asyncio.sleep(_PAUSE)
