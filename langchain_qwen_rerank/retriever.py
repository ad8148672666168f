"""A retriever and the reranker as one, with langchain-core alone; ranks nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, patch_config
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import ConfigDict, Field, SkipValidation, Strict, field_validator, model_validator
from typing_extensions import override

from langchain_qwen_rerank._base import afind, find, unknown
from langchain_qwen_rerank._candidates import listed
from langchain_qwen_rerank._step import checked
from langchain_qwen_rerank.compressor import QwenRerank
from qwen_rerank import CallOptions, Image, RequestError
from qwen_rerank.framework import Paired, Sealed, held

__all__ = ["QwenRerankRetriever"]

# What a call was given, of which LangChain's own hands on little, and a subclass without **options
# nothing.
_whole_config: ContextVar[RunnableConfig | None] = ContextVar("_whole_config", default=None)

# Where else an option is looked for, and what to write instead.
_SLIPS = {
    "top_n": "k=, or top_n= of the reranker",
    "base_compressor": "reranker=",
    "compressor": "reranker=",
    "retriever": "base_retriever=",
} | {
    name: f"QwenRerank({name}=...), the reranker"
    for name in QwenRerank.model_fields.keys() - {"top_n"}
}


class QwenRerankRetriever(Paired, Sealed, BaseRetriever):
    """Any retriever, reranked: what it finds comes back best first, cut to ``k``.

    Needs no ``langchain-classic``, and unlike its ``ContextualCompressionRetriever`` takes options
    for one call: ``retriever.invoke(query, k=5, instruct="...", score_threshold=0.2)``. ``k`` (or
    ``top_n``), ``model``, ``instruct`` and ``score_threshold`` are its own. Whatever else a call
    has is the base retriever's: the whole config, with the tenants and other values in its
    ``configurable``, and keyword arguments such as ``filter``.

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
        ValueError: An option is unknown or wrong, or a call's config.
        TypeError: From ``invoke`` and ``ainvoke``, before anything is looked for: a keyword
            argument that neither this retriever nor its base takes, or that a subclass cannot hand
            on, as its own ``_get_relevant_documents`` has no ``**options``.
        RerankError: From ``invoke`` and ``ainvoke``: there is no ranking; see `qwen_rerank.errors`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # which Serializable would undo

    _pairs: ClassVar[Mapping[str, str]] = {"_get_relevant_documents": "_aget_relevant_documents"}

    _example: ClassVar[str] = "base_retriever=..., reranker=..."

    base_retriever: SkipValidation[Runnable[str, list[Document]]]
    reranker: QwenRerank
    k: Annotated[int, Strict(), Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _knows_its_options(cls, options: Any) -> Any:
        if isinstance(options, Mapping):
            for name in sorted((options.keys() - cls.model_fields.keys()) & _SLIPS.keys()):
                raise ValueError(f"there is no option {name!r} here: write {_SLIPS[name]}")
        return options

    @field_validator("base_retriever")
    @classmethod
    def _is_runnable(cls, retriever: Any) -> Any:
        if isinstance(retriever, Runnable):
            return retriever
        if hasattr(retriever, "as_retriever"):
            raise ValueError("must be a retriever: write store.as_retriever()")
        raise ValueError(
            "must be a retriever or another Runnable, such as RunnableLambda(function)"
        )

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What of a call's ``configurable`` the base retriever listens to."""
        return self.base_retriever.config_specs

    @override
    def invoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        with self._handed_on(config, kwargs) as whole:
            return super().invoke(input, whole, **kwargs)

    @override
    async def ainvoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        with self._handed_on(config, kwargs) as whole:
            return await super().ainvoke(input, whole, **kwargs)

    @contextmanager
    def _handed_on(
        self, config: RunnableConfig | None, options: dict[str, Any]
    ) -> Iterator[RunnableConfig]:
        """Hands on what LangChain's own keeps to itself, or refuses what it would drop."""
        try:
            whole = checked(config)
            if not self._expects_other_args and (dropped := options.keys() - {"run_id"}):
                raise TypeError(
                    f"{self.get_name()} takes no {min(dropped)!r}: its own "
                    "_get_relevant_documents has no **options to hand on"
                )
            with held(_whole_config, whole):
                yield whole
        finally:
            options.clear()  # a key in the wrong place would show in the caller's frame

    @override
    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        **options: Any,
    ) -> list[Document]:
        callbacks = run_manager.get_child()
        config = patch_config(_whole_config.get(), callbacks=callbacks)  # not the run's name and id
        ours, theirs = self._divided(query, options, config, native=False)
        found = find(self.base_retriever, query, config, theirs)
        reranker = self.reranker._with(query, ours)  # as it is after the search
        return reranker.compress_documents(self._documents(found), query, callbacks)

    @override
    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun | None = None,
        **options: Any,
    ) -> list[Document]:
        # There is no run_manager where a subclass overrides the sync way without one.
        if self._overrides_alone(sync := "_get_relevant_documents"):
            if run_manager is not None:
                options["run_manager"] = run_manager.get_sync()
            return await self._by_thread(sync, self._get_relevant_documents, query, **options)
        callbacks = None if run_manager is None else run_manager.get_child()
        config = patch_config(_whole_config.get(), callbacks=callbacks)
        ours, theirs = self._divided(query, options, config, native=True)
        found = await afind(self.base_retriever, query, config, theirs)
        reranker = self.reranker._with(query, ours)
        return await reranker.acompress_documents(self._documents(found), query, callbacks)

    def _divided(
        self, query: str, options: dict[str, Any], config: RunnableConfig, *, native: bool
    ) -> tuple[CallOptions, dict[str, Any]]:
        """The reranker's and the base's *options* of one call; refused if the call is wrong."""
        own = ("k", *CallOptions.__annotations__)
        given, theirs = {name: options.pop(name) for name in own if name in options}, options
        if not isinstance(query, str | Image):
            raise RequestError(
                f"query must be a str, not {type(query).__name__}",
                hint='In a chain, take the text out before: itemgetter("question") | retriever.',
            )
        k = given.pop("k", None)
        if k is not None and "top_n" in given:
            raise RequestError("give k or top_n, not both: they are the same")
        kept = k if k is not None else self.k
        if kept is not None:
            given.setdefault("top_n", kept)
        ours = cast("CallOptions", given)
        self.reranker._job(query, (), ours)  # only checked before the search
        if strange := unknown(theirs, self.base_retriever, config, native=native):
            theirs.clear()  # it may be the key, which no frame shows
            raise TypeError(
                f"neither {self.get_name()} ({', '.join(own)}) nor its base retriever "
                f"{self.base_retriever.get_name()} takes {strange[0]!r}"
            )
        return ours, theirs

    def _documents(self, found: Any) -> list[Document]:
        try:
            return listed(found)
        except RequestError as error:
            problem = error.message
        name = self.base_retriever.get_name()
        raise RequestError(f"the base retriever {name} gave back no list of Document: {problem}")
