"""Documents in, documents out: LangChain's conventions; nothing about ranking is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field, Strict
from typing_extensions import override

from langchain_qwen_rerank import _tracing
from qwen_rerank import BaseReranker, CallOptions, Hit, Ranking, RequestError

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

__all__ = ["QwenRerank", "Score"]

_SCORE = "relevance_score"


class Score(TypedDict):
    """Where a document stands in the list that was given, and its score if it has one."""

    index: int
    relevance_score: float | None


class QwenRerank(BaseReranker, BaseDocumentCompressor):
    """Reranks LangChain documents with a DashScope rerank model.

    Works wherever a document compressor does, such as ``ContextualCompressionRetriever``. What
    comes back are copies of the documents, best first, with ``metadata["relevance_score"]`` set; a
    document that was never scored, such as a blank one, comes last and carries no score.

    Example:
        >>> from langchain_core.documents import Document
        >>> from langchain_qwen_rerank import QwenRerank
        >>> from qwen_rerank.emulator import Emulator
        >>> documents = [Document("green tea"), Document("a red sports car")]
        >>> with Emulator() as emulator:
        ...     reranker = QwenRerank(base_url=emulator.base_url, api_key=emulator.api_key, top_n=1)
        ...     [best] = reranker.compress_documents(documents, "a fast red car")
        >>> best.page_content
        'a red sports car'

    The options are those of `qwen_rerank.RerankSettings`, except that:

    Attributes:
        top_n: How many documents to keep, at least 1; None keeps all. 3 by default.
    """

    top_n: Annotated[int, Strict(), Field(ge=1)] | None = 3

    @override
    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Reranks *documents*.

        Args:
            documents: The candidates; they are left as they are.
            query: What to look for; not blank.
            callbacks: LangChain's callbacks. They see a retriever run named ``QwenRerank`` with
                the ranked documents, and a custom event ``qwen_rerank`` with model, usage, request
                ids and the reason if the list was passed through. None takes those of the
                surrounding runnable or tool.

        Returns:
            Copies of the best ``top_n`` documents, best first. With ``on_error="passthrough"``,
            after a failure that is not the caller's mistake: copies of the first ``top_n`` in
            their original order, without a score.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        contents = _contents(documents)
        if not contents:
            return []
        with _tracing.run(callbacks, query, self.model) as outcome:
            outcome.ranking = self._rank(query, contents)
            outcome.documents = reranked = _reranked(documents, outcome.ranking)
        return reranked

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents` for a running event loop, without a thread."""
        contents = _contents(documents)
        if not contents:
            return []
        async with _tracing.arun(callbacks, query, self.model) as outcome:
            outcome.ranking = await self._arank(query, contents)
            outcome.documents = reranked = _reranked(documents, outcome.ranking)
        return reranked

    def rerank(
        self,
        documents: Sequence[str | Document],
        query: str,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """Scores *documents* without touching them.

        Args:
            documents: Texts or documents.
            query: What to look for; not blank.
            **options: ``top_n``, ``instruct`` and ``score_threshold`` for this call alone.

        Returns:
            ``{"index": ..., "relevance_score": ...}`` for each kept document, best first.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        return _scores(self._rank(query, _texts(documents), **options))

    async def arerank(
        self, documents: Sequence[str | Document], query: str, **options: Unpack[CallOptions]
    ) -> list[Score]:
        """`rerank` for a running event loop."""
        return _scores(await self._arank(query, _texts(documents), **options))


def _contents(documents: Sequence[Document]) -> list[str]:
    if isinstance(documents, str | Document):
        raise RequestError(f"documents must be a list of Document, not one {_name(documents)}")
    for position, document in enumerate(documents):
        if not isinstance(document, Document):
            raise RequestError(f"document {position} must be a Document, not {_name(document)}")
    return [document.page_content for document in documents]


def _texts(documents: Sequence[str | Document]) -> Sequence[str]:
    if isinstance(documents, str):
        return documents  # refused by the core, which asks whether the arguments are swapped
    return [item.page_content if isinstance(item, Document) else item for item in documents]


def _name(value: object) -> str:
    return type(value).__name__


def _scores(ranking: Ranking) -> list[Score]:
    return [Score(index=hit.index, relevance_score=hit.score) for hit in ranking]


def _reranked(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    return [_copy(documents[hit.index], hit) for hit in ranking]


def _copy(document: Document, hit: Hit) -> Document:
    """A copy that keeps id, subclass and metadata; a score from an earlier stage never survives."""
    try:
        metadata = deepcopy(document.metadata)
    except Exception:  # noqa: BLE001  some values (locks, clients) refuse; they are then shared
        metadata = dict(document.metadata)
    metadata.pop(_SCORE, None)
    if hit.score is not None:
        metadata[_SCORE] = hit.score
    return document.model_copy(update={"metadata": metadata})
