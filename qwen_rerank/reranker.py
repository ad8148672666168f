"""One call through the rooms: check, prepare, plan, drive, merge. Decides nothing itself.

`Reranker` is the core for users of no framework; `BaseReranker` is what a door is built on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from pydantic import PrivateAttr

from qwen_rerank import _drive, _endpoint, _tokens
from qwen_rerank._limits import limits_for
from qwen_rerank._merge import merge
from qwen_rerank._plan import fits, plan
from qwen_rerank._prepare import measure, prepare
from qwen_rerank._values import Job, Prepared, Ranking
from qwen_rerank.errors import RequestError
from qwen_rerank.settings import RerankSettings

if TYPE_CHECKING:
    from qwen_rerank._transport import Transport

__all__ = ["BaseReranker", "CallOptions", "Reranker"]


class CallOptions(TypedDict, total=False):
    """Options that can be given to one call; one that is absent is the object's own."""

    top_n: int | None
    instruct: str | None
    score_threshold: float | None


class BaseReranker(RerankSettings):
    """The options, calls and lifetimes that `Reranker` and every framework's class share.

    A subclass translates its framework's objects and calls `_rank` and `_arank`.
    """

    _transport: Transport | None = PrivateAttr(default=None)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def _rank(
        self, query: str, documents: Iterable[str], **options: Unpack[CallOptions]
    ) -> Ranking:
        """The ranking of *documents* for *query*. See `Reranker.rerank`."""
        deadline = _drive.deadline_in(self.timeout)
        job = self._job(query, documents, options)
        limits = limits_for(job.model)
        prepared = prepare(job)
        if not fits(prepared, limits):
            prepared = _counted(prepared, job.model)
        asked = plan(job, prepared, limits)
        replies = _drive.drive(asked, self._line(), deadline) if asked.requests else []
        return merge(job, asked, replies)

    async def _arank(
        self, query: str, documents: Iterable[str], **options: Unpack[CallOptions]
    ) -> Ranking:
        """`_rank` for a running event loop, which it never blocks."""
        deadline = _drive.deadline_in(self.timeout)
        job = self._job(query, documents, options)
        limits = limits_for(job.model)
        prepared = prepare(job)
        if not fits(prepared, limits):
            prepared = await asyncio.to_thread(_counted, prepared, job.model)
        asked = plan(job, prepared, limits)
        replies = (
            await _drive.adrive(asked, await self._aline(), deadline) if asked.requests else []
        )
        return merge(job, asked, replies)

    def close(self) -> None:
        """Closes the sync connections. The object stays usable: the next call opens new ones."""
        if self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """Closes the sync connections and those of the running event loop; stays usable."""
        if self._transport is not None:
            await self._transport.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _job(self, query: str, documents: Iterable[str], options: Mapping[str, Any]) -> Job:
        """The call as a frozen value, or the reason why it cannot be made."""
        if not isinstance(query, str):
            raise RequestError(f"query must be a str, not {type(query).__name__}")
        if not (query := query.strip()):
            raise RequestError("query is blank")
        if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
            raise RequestError(
                f"documents must be a list of texts, not one {type(documents).__name__}; "
                "are query and documents swapped?"
            )
        documents = tuple(documents)
        for position, document in enumerate(documents):
            if not isinstance(document, str):
                raise RequestError(
                    f"document {position} must be a str, not {type(document).__name__}"
                )
        wanted = {name: getattr(self, name) for name in CallOptions.__annotations__}
        for name, value in options.items():
            if name not in wanted:
                raise TypeError(f"unexpected option {name!r} for one call")
            wanted[name] = self._for_this_call(name, value)
        return Job(self.model, query, documents, **wanted)

    def _line(self) -> _drive.Line:
        return self._open(self.client, self.http_client)

    async def _aline(self) -> _drive.Line:
        if self._transport is None or self._resolved is None:  # imports and reads files
            return await asyncio.to_thread(self._open, self.async_client, self.async_http_client)
        return self._open(self.async_client, self.async_http_client)

    def _open(self, sdk_client: Any, http_client: Any) -> _drive.Line:
        with self._opening:
            if self._transport is None:
                from qwen_rerank._transport import Transport  # noqa: PLC0415  httpx is slow to import

                self._transport = Transport()
            if sdk_client is not None:
                http_client = sdk_client.transport.http_client
                endpoint = _endpoint.borrowed(
                    str(http_client.base_url),
                    api_key=self.api_key,
                    workspace=self.workspace,
                    protocol=self.protocol,
                )
            elif self.client is not None or self.async_client is not None:
                # A client was injected for the other colour of call, with a key that is not ours.
                endpoint = self._resolve(key_required=True)
            else:
                endpoint = self._resolved = self._resolved or self._resolve()
        return _drive.Line(endpoint, self.protocol, self._transport, http_client)


def _counted(prepared: Prepared, model: str) -> Prepared:
    return measure(prepared, limits_for(model), _tokens.tokenizer())


class Reranker(BaseReranker):
    """Ranks texts by relevance to a query with a DashScope rerank model.

    Example:
        >>> from qwen_rerank import Reranker
        >>> from qwen_rerank.emulator import Emulator
        >>> with Emulator() as emulator:
        ...     reranker = Reranker(base_url=emulator.base_url, api_key=emulator.api_key)
        ...     ranking = reranker.rerank("a fast red car", ["green tea", "a red sports car"])
        >>> [hit.index for hit in ranking]
        [1, 0]

    See `RerankSettings` for the options.
    """

    def rerank(
        self, query: str, documents: Iterable[str], **options: Unpack[CallOptions]
    ) -> Ranking:
        """Ranks *documents* by their relevance to *query*.

        A list of any length can be given: it is split over as many requests as the model's limits
        ask for. Blank documents are not sent and come last without a score; equal documents are
        sent once; a document longer than the model's limit is scored by its head and reported in
        ``Ranking.truncated``.

        Args:
            query: What to look for; not blank.
            documents: The candidate texts; may be empty.
            **options: ``top_n``, ``instruct`` and ``score_threshold`` for this call alone.

        Returns:
            All documents, or the best ``top_n`` of those that reach ``score_threshold``.

        Raises:
            RequestError: The call is wrong; nothing was sent unless the service says so.
            RerankError: There is no ranking; see `qwen_rerank.errors` for the branches.
        """
        return self._rank(query, documents, **options)

    async def arerank(
        self, query: str, documents: Iterable[str], **options: Unpack[CallOptions]
    ) -> Ranking:
        """`rerank` for a running event loop, over connections of that loop."""
        return await self._arank(query, documents, **options)
