"""Documents in, documents out: LangChain's conventions; nothing about ranking is decided here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, Unpack

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field, SkipValidation, Strict
from typing_extensions import override

from langchain_qwen_rerank import _tracing
from langchain_qwen_rerank._candidates import candidate, slim
from qwen_rerank import BaseReranker, CallOptions, Candidate, Hit, Image, Ranking, RequestError

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
        image_key: The metadata key that holds a document's image, for a model that takes them:
            a URL, a data URI, bytes, base64 text or, below *local_files*, a path. None: metadata
            is not looked at.
        video_key: The metadata key that holds the URL of a document's video; likewise.
        local_files: The folder below which paths in metadata are read; None reads none.
        item: What is ranked of a document, instead of its text and the keys above: called with
            the document, it returns a text, an `Image`, a `Video`, or a tuple of a text and one of
            these.

    A document whose image cannot be sent is ranked by its text if it has one, and comes last
    without a score if not; a warning says why.
    """

    top_n: Annotated[int, Strict(), Field(ge=1)] | None = 3
    image_key: str | None = None
    video_key: str | None = None
    local_files: Path | None = None
    item: SkipValidation[Callable[[Document], Candidate] | None] = Field(
        default=None, exclude=True, repr=False
    )

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
        candidates = self._candidates(documents)
        if not candidates:
            return []
        with _tracing.run(callbacks, query, self.model) as outcome:
            outcome.ranking = self._rank(query, candidates, strict=False)
            reranked = _reranked(documents, outcome.ranking)
            outcome.documents = [slim(document, self.image_key) for document in reranked]
        return reranked

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents` for a running event loop, without a thread."""
        candidates = self._candidates(documents)
        if not candidates:
            return []
        async with _tracing.arun(callbacks, query, self.model) as outcome:
            outcome.ranking = await self._arank(query, candidates, strict=False)
            reranked = _reranked(documents, outcome.ranking)
            outcome.documents = [slim(document, self.image_key) for document in reranked]
        return reranked

    def rerank(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """Scores *documents* without touching them.

        Args:
            documents: Texts, documents, and for a model that takes them `Image` and `Video`.
            query: What to look for; a text that is not blank, or an `Image`.
            **options: ``top_n``, ``instruct`` and ``score_threshold`` for this call alone.

        Returns:
            ``{"index": ..., "relevance_score": ...}`` for each kept document, best first.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        candidates, strict = self._explicit(documents)
        return _scores(self._rank(query, candidates, strict=strict, **options))

    async def arerank(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """`rerank` for a running event loop."""
        candidates, strict = self._explicit(documents)
        return _scores(await self._arank(query, candidates, strict=strict, **options))

    def _candidates(self, documents: Sequence[Document]) -> list[Candidate]:
        if isinstance(documents, str | Document):
            raise RequestError(f"documents must be a list of Document, not one {_name(documents)}")
        for position, document in enumerate(documents):
            if not isinstance(document, Document):
                raise RequestError(f"document {position} must be a Document, not {_name(document)}")
        return [self._candidate(document) for document in documents]

    def _candidate(self, document: Document) -> Candidate:
        if self.item is not None:
            return self.item(document)
        if self.image_key is None and self.video_key is None:
            return document.page_content
        return candidate(document, self.image_key, self.video_key, self.local_files)

    def _explicit(
        self, documents: Sequence[Candidate | Document]
    ) -> tuple[Sequence[Candidate], bool]:
        """The candidates in *documents*, and whether all of them are the caller's own values."""
        if isinstance(documents, str):
            return documents, True  # refused by the core, which asks about swapped arguments
        return (
            [self._candidate(each) if isinstance(each, Document) else each for each in documents],
            not any(isinstance(each, Document) for each in documents),
        )


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
