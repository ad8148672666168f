"""Documents in, documents out: LangChain's conventions; nothing about ranking is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Unpack, cast

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.load.serializable import Serializable
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict, override  # pydantic takes no other before Python 3.12

from langchain_qwen_rerank import _tracing
from langchain_qwen_rerank._candidates import candidate, listed, several
from langchain_qwen_rerank._pace import Pace
from qwen_rerank import CallOptions, Candidate, Estimate, Hit, Image, Ranking
from qwen_rerank.door import Door

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks
    from langchain_core.runnables import Runnable

__all__ = ["QwenRerank", "Score"]

_SCORE = "relevance_score"
_PLAIN = {str, int, float, bool, type(None)}


class Score(TypedDict):
    """Where a document stands in the list that was given, and its score if it has one."""

    index: int
    relevance_score: float | None


class QwenRerank(Door[Document], BaseDocumentCompressor, Serializable):
    """Reranks LangChain documents with a DashScope rerank model.

    Works wherever a document compressor does, such as ``ContextualCompressionRetriever``. What
    comes back are copies of the documents, best first, with ``metadata["relevance_score"]`` set; a
    document that was never scored, such as a blank one, comes last and carries no score.

    Examples:
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
        top_n (int | None): How many documents to keep, at least 1; None keeps all. 3 by default.
        image_key: The metadata key that holds a document's image, for a model that takes them:
            a URL, a data URI, bytes, base64 text of at least 100 characters or, below
            *local_files*, a path. None: metadata is not looked at.
        video_key: The metadata key that holds the URL of a document's video; likewise.
        local_files (Path | str | None): The folder below which paths in metadata are read; None
            reads none.
        item (Callable | None): What is ranked of a document, instead of its text and the keys
            above: called with the document, it returns a text, an `Image`, a `Video`, or a tuple of
            a text and one of these. `WithMetadata` is one that adds metadata fields to the text.
            Pickles keep it, so it has to be picklable; ``dumps`` cannot.
        rate_limiter (BaseRateLimiter | None): A ``BaseRateLimiter`` of langchain-core, asked before
            every request; share one to stay within an account's limit. A pickle has none.

    A document whose image cannot be sent is ranked by its text if it has one, and comes last
    without a score if not; a warning says why.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # which Serializable would undo

    _slips: ClassVar[Mapping[str, str]] = {
        "rank_fields": "give it to rerank(), with dicts; of documents item=WithMetadata(...)",
        "return_documents": "documents come back anyway, from rerank() their positions",
    }

    image_key: str | None = None
    video_key: str | None = None
    rate_limiter: Annotated[BaseRateLimiter | None, WithJsonSchema({})] = Field(
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
                the ranked documents; its metadata and a custom event ``qwen_rerank`` have model,
                usage, request ids, what was cut, and the reason if the list was passed through.
                None takes those of the surrounding runnable or tool.

        Returns:
            Copies of the best ``top_n`` documents, best first. With ``on_error="passthrough"``,
            after a failure that is not the caller's mistake: copies of the first ``top_n`` in
            their original order, without a score.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        return self._compress(documents, query, callbacks, {})

    @override
    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """`compress_documents` for a running event loop, without a thread."""
        return await self._acompress(documents, query, callbacks, {})

    def rerank(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        *,
        rank_fields: Sequence[str] | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """Scores *documents* without touching them.

        Args:
            documents: Texts, documents, dicts, and for a model that takes them `Image` and `Video`.
            query: What to look for; a text that is not blank, or an `Image`.
            rank_fields: Keys of the dicts: of one its value is ranked, several become lines
                ``key: value`` in this order. ``["text"]`` by default.
            **options: ``model``, ``top_n``, ``instruct`` and ``score_threshold`` for this call
                alone.

        Returns:
            ``{"index": ..., "relevance_score": ...}`` for each kept document, best first.

        Raises:
            RequestError: The call is wrong.
            RerankError: There is no ranking; see `qwen_rerank.errors`.
        """
        candidates, found = self._explicit(documents)
        return _scores(
            self._rank(query, candidates, options, lenient=found, rank_fields=rank_fields)
        )

    async def arerank(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        *,
        rank_fields: Sequence[str] | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Score]:
        """`rerank` for a running event loop."""
        candidates, found = await self._apart(documents, self._explicit, documents)
        ranking = await self._arank(
            query, candidates, options, lenient=found, rank_fields=rank_fields
        )
        return await self._apart(ranking.hits, _scores, ranking)

    def estimate(
        self,
        documents: Sequence[Candidate | Document],
        query: str | Image,
        *,
        rank_fields: Sequence[str] | None = None,
        price_per_million: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Estimate:
        """What ranking *documents* would take. Nothing is sent; what the cache knows is free.

        Args:
            documents: As for `rerank`.
            query: Likewise.
            rank_fields: Likewise.
            price_per_million: Your price of a million input tokens, instead of the list price.
            **options: As for `rerank`; only ``model`` and ``instruct`` matter here.

        Raises:
            RequestError: The call would be refused.
        """
        candidates, found = self._explicit(documents)
        return self._estimate(
            query,
            candidates,
            options,
            lenient=found,
            rank_fields=rank_fields,
            price_per_million=price_per_million,
        )

    def as_runnable(self, config_prefix: str = "") -> Runnable[Mapping[str, Any], list[Document]]:
        """A step of a chain: ``{"query": ..., "documents": ...}`` in, documents out.

        It shares this object's options, connections, usage and limits. One call can differ by its
        config: ``chain.invoke(question, {"configurable": {"top_n": 5}})``, and likewise ``model``,
        ``instruct`` and ``score_threshold``. They are declared, in ``config_specs`` and
        ``config_schema()`` of the step and of every chain that holds it.

        Examples:
            >>> from langchain_core.runnables import RunnableParallel, RunnablePassthrough
            >>> from langchain_qwen_rerank import QwenRerank
            >>> def chain(retriever, reranker: QwenRerank):
            ...     found = RunnableParallel(query=RunnablePassthrough(), documents=retriever)
            ...     return found | reranker.as_runnable()

        Args:
            config_prefix: Where a chain's model is configurable by the same names, what these
                begin with here: with ``"rerank"``, ``rerank_top_n`` and so on.
        """
        from langchain_qwen_rerank._step import Step  # noqa: PLC0415  slow to import

        # Typed as what other steps make, which type checkers know as a dict of anything.
        return cast("Runnable[Mapping[str, Any], list[Document]]", Step(self, config_prefix))

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "DASHSCOPE_API_KEY"}

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        return {} if self.local_files is None else {"local_files": str(self.local_files)}

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    @override
    def _pace(self) -> Pace | None:
        return None if self.rate_limiter is None else Pace(self.rate_limiter)

    def _compress(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None,
        options: CallOptions,
    ) -> list[Document]:
        documents = listed(documents)
        if not documents:
            self._rank(query, [], options)  # a wrong call is wrong whatever was found
            return []
        with _tracing.run(callbacks, query, self._about(options)) as outcome:
            outcome.ranking = self._rank_found(query, documents, options)
            outcome.documents = _reranked(documents, outcome.ranking)
        return outcome.documents

    async def _acompress(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None,
        options: CallOptions,
    ) -> list[Document]:
        documents = await self._apart(documents, listed, documents)
        if not documents:
            await self._arank(query, [], options)  # likewise
            return []
        async with _tracing.arun(callbacks, query, self._about(options)) as outcome:
            outcome.ranking = ranking = await self._arank_found(query, documents, options)
            outcome.documents = await self._apart(ranking.hits, _reranked, documents, ranking)
        return outcome.documents

    def _about(self, options: CallOptions) -> dict[str, Any]:
        """What a run is told of who ranks, by LangSmith's names."""
        return {
            "ls_provider": self.server or "dashscope",
            "ls_model_name": options.get("model", self.model),
        }

    @override
    def _candidate(self, found: Document) -> Candidate:
        if self.image_key is None and self.video_key is None:
            return found.page_content
        return candidate(found, self.image_key, self.video_key, self.local_files)

    def _explicit(
        self, documents: Sequence[Candidate | Document]
    ) -> tuple[Sequence[Candidate], frozenset[int]]:
        """The candidates in *documents*, and the positions of those that stand in a document."""
        documents, chosen = several(documents), self.item or self._candidate
        return (
            [chosen(each) if isinstance(each, Document) else each for each in documents],
            frozenset(at for at, each in enumerate(documents) if isinstance(each, Document)),
        )


def _scores(ranking: Ranking) -> list[Score]:
    return [Score(index=hit.index, relevance_score=hit.score) for hit in ranking]


def _reranked(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    return [_copy(documents[hit.index], hit) for hit in ranking]


def _copy(document: Document, hit: Hit) -> Document:
    """A copy that keeps id, subclass and metadata; a score from an earlier stage never survives."""
    metadata = _copied(document.metadata)
    metadata.pop(_SCORE, None)
    if hit.score is not None:
        metadata[_SCORE] = hit.score
    return document.model_copy(update={"metadata": metadata})


def _copied(metadata: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares nothing which can change, if there is one."""
    if type(metadata) is not dict or not _PLAIN.issuperset(map(type, metadata.values())):
        with suppress(Exception):  # some values (locks, clients) refuse; they are then shared
            return deepcopy(metadata)
    return dict(metadata)
