"""One rerank as a run of LangChain's callbacks: its start and its end; nothing is ranked here.

The run is of type retriever, which tracers show with its documents; there is no type for rerankers.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import Document

    from qwen_rerank import Ranking

__all__ = ["Outcome", "arun", "run"]

_NAME = "QwenRerank"
_EVENT = "qwen_rerank"


class Outcome:
    """What a run ended in; filled by whoever ranks."""

    documents: Sequence[Document] = ()
    ranking: Ranking | None = None

    def event(self) -> dict[str, Any]:
        """What the documents do not say, as plain values."""
        assert self.ranking is not None  # noqa: S101  only asked for after a rerank
        usage = self.ranking.usage
        return {
            "model": self.ranking.model,
            "requests": usage.requests,
            "tokens": usage.tokens,
            "cache_hits": usage.cache_hits,
            "request_ids": list(self.ranking.request_ids),
            "truncated": list(self.ranking.truncated),
            "degraded": None if self.ranking.degraded is None else str(self.ranking.degraded),
        }


@contextmanager
def run(callbacks: Callbacks, query: str, model: str) -> Iterator[Outcome]:
    """A run below whatever run *callbacks* belong to; its end is what the yielded outcome says.

    A passed-through list ends the run as a failure, because the reranking was one; a custom event
    named ``qwen_rerank`` carries usage, request ids and the reason.
    """
    manager = CallbackManager.configure(_inherited(callbacks), local_metadata=_metadata(model))
    started = manager.on_retriever_start(None, query, name=_NAME)
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        started.on_retriever_error(error)
        raise
    if outcome.ranking is not None and manager.handlers:
        manager.on_custom_event(_EVENT, outcome.event(), run_id=started.run_id)
        if outcome.ranking.degraded is not None:
            started.on_retriever_error(outcome.ranking.degraded)
            return
    started.on_retriever_end(outcome.documents)


@asynccontextmanager
async def arun(callbacks: Callbacks, query: str, model: str) -> AsyncIterator[Outcome]:
    """`run` for a running event loop."""
    manager = AsyncCallbackManager.configure(_inherited(callbacks), local_metadata=_metadata(model))
    started = await manager.on_retriever_start(None, query, name=_NAME)
    outcome = Outcome()
    try:
        yield outcome
    except BaseException as error:
        await started.on_retriever_error(error)
        raise
    if outcome.ranking is not None and manager.handlers:
        await manager.on_custom_event(_EVENT, outcome.event(), run_id=started.run_id)
        if outcome.ranking.degraded is not None:
            await started.on_retriever_error(outcome.ranking.degraded)
            return
    await started.on_retriever_end(outcome.documents)


def _metadata(model: str) -> dict[str, Any]:
    return {"ls_provider": "dashscope", "ls_model_name": model}


def _inherited(callbacks: Callbacks) -> Callbacks:
    """*callbacks*, or those of the runnable or tool that this call stands in."""
    if callbacks is not None:
        return callbacks
    # Where nobody has loaded runnables, none can be running; they take long to import.
    config = sys.modules.get("langchain_core.runnables.config")
    return None if config is None else config.ensure_config().get("callbacks")
