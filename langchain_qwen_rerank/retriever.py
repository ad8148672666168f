"""A retriever and the reranker as one, with langchain-core alone; ranks nothing itself."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Unpack

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, Field, SkipValidation, Strict, field_validator
from typing_extensions import override

from langchain_qwen_rerank.compressor import QwenRerank
from qwen_rerank import CallOptions, RequestError

__all__ = ["QwenRerankRetriever"]


class QwenRerankRetriever(BaseRetriever):
    """Any retriever, reranked: what it finds comes back best first, cut to ``k``.

    Needs no ``langchain-classic``, and unlike its ``ContextualCompressionRetriever`` takes options
    for one call: ``retriever.invoke(query, k=5, instruct="...", score_threshold=0.2)``.

    Examples:
        >>> from langchain_core.documents import Document
        >>> from langchain_core.runnables import RunnableLambda
        >>> from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever
        >>> from qwen_rerank.emulator import Emulator
        >>> found = RunnableLambda(lambda _: [Document("green tea"), Document("a red sports car")])
        >>> with Emulator() as emulator:
        ...     reranker = QwenRerank(base_url=emulator.base_url, api_key=emulator.api_key)
        ...     retriever = QwenRerankRetriever(base_retriever=found, reranker=reranker, k=1)
        ...     [best] = retriever.invoke("a fast red car")
        >>> best.page_content
        'a red sports car'

    Attributes:
        base_retriever (Runnable[str, list[Document]]): Finds the candidates: a retriever, or any
            runnable from a text to documents. Have it find more than ``k``, 20 to 100.
        reranker: Ranks them.
        k (int | None): How many documents to keep, at least 1; None (the default) keeps what the
            reranker's ``top_n`` says.

    Raises:
        ValueError: An option is unknown or wrong.
        RerankError: From ``invoke`` and ``ainvoke``: there is no ranking; see `qwen_rerank.errors`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    base_retriever: SkipValidation[Runnable[str, list[Document]]]
    reranker: QwenRerank
    k: Annotated[int, Strict(), Field(ge=1)] | None = None

    @field_validator("base_retriever")
    @classmethod
    def _is_runnable(cls, retriever: Any) -> Any:
        if not isinstance(retriever, Runnable):
            raise ValueError("must be a retriever or another Runnable")  # noqa: TRY004  pydantic's own kind
        return retriever

    @override
    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Document]:
        callbacks, options = run_manager.get_child(), self._options(k, options)
        found = self.base_retriever.invoke(query, RunnableConfig(callbacks=callbacks))
        return self.reranker._compress(found, query, callbacks, options)

    @override
    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Document]:
        callbacks, options = run_manager.get_child(), self._options(k, options)
        found = await self.base_retriever.ainvoke(query, RunnableConfig(callbacks=callbacks))
        return await self.reranker._acompress(found, query, callbacks, options)

    def _options(self, k: int | None, options: CallOptions) -> CallOptions:
        """All options of one call, refused before anything is looked for if one is wrong."""
        if k is not None and "top_n" in options:
            raise RequestError("give k or top_n, not both: they are the same")
        kept: Any = k if k is not None else self.k
        if kept is not None:
            options = CallOptions(**{"top_n": kept, **options})
        self.reranker._wanted(options)
        return options
