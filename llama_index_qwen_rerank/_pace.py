"""LlamaIndex's rate limiters as the core asks for permission to send; nothing is sent from here."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from llama_index.core.rate_limiter import BaseRateLimiter

__all__ = ["Pace"]

_NAME = "qwen-rerank-pace"
_THEIRS = "llama_index.core.rate_limiter"
_PAUSE = 0.05  # seconds between two looks at whether the call goes on


class Pace:
    """Permission by a `BaseRateLimiter`, which counts requests and tokens."""

    counts_tokens: ClassVar[bool] = True

    def __init__(self, limiter: BaseRateLimiter) -> None:
        self.limiter = limiter
        # LlamaIndex's own, which hold a lock for a moment at most. To block they can only be asked
        # for ever, as for a request of more tokens than their limit.
        self.on_any_loop = type(limiter).__module__ == _THEIRS

    def take(self, tokens: int, deadline: float, doze: Callable[[float], None]) -> bool:
        # It can only be asked to block, for longer perhaps than the call may take; what it then
        # permits too late is lost.
        permission: futures.Future[None] = futures.Future()

        def wait() -> None:
            try:
                permission.set_result(self.limiter.acquire(tokens))
            except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
                permission.set_exception(error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(wait,), name=_NAME, daemon=True).start()
        while not permission.done():
            if (left := deadline - time.monotonic()) <= 0:
                return False
            futures.wait([permission], min(_PAUSE, left))
            doze(0)  # ends it if the call has failed meanwhile
        permission.result()
        return True

    async def atake(self, tokens: int) -> None:
        await self.limiter.async_acquire(tokens)
