"""The reranker as a step of a chain: input and config of a call in; nothing is ranked here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, get_type_hints

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig, RunnableLambda, ensure_config
from langchain_core.runnables.utils import ConfigurableFieldSpec
from typing_extensions import TypedDict, override  # pydantic takes no other before Python 3.12

from qwen_rerank import CallOptions, RequestError

if TYPE_CHECKING:
    from langchain_qwen_rerank.compressor import QwenRerank

__all__ = ["Step", "checked"]

_DESCRIPTIONS = {
    "model": "Name of the rerank model.",
    "top_n": "How many documents to keep, at least 1; null keeps all.",
    "instruct": "What counts as relevant, an English sentence; null is the model's default.",
    "score_threshold": "Keep only documents with at least this score; null keeps all.",
}
_KINDS = {"configurable": dict, "metadata": dict, "tags": list}


class Asked(TypedDict):
    """A query, and the documents to be ranked."""

    query: str
    documents: Sequence[Document]


class Step(RunnableLambda[Asked, list[Document]]):
    """``{"query": ..., "documents": ...}`` in, documents out; see `QwenRerank.as_runnable`.

    Args:
        reranker: Ranks, with its own options where the call's config has none.
        prefix: What the names of options in a config begin with.
    """

    def __init__(self, reranker: QwenRerank, prefix: str) -> None:
        super().__init__(self._rerank, self._arerank, name="rerank")
        self._reranker = reranker
        self._prefix = prefix and prefix.rstrip("_") + "_"

    @property
    @override
    def InputType(self) -> Any:
        return Asked

    @property
    @override
    def OutputType(self) -> Any:
        return list[Document]

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The options of one call. Servers fill in defaults, so these are the reranker's own."""
        return [
            ConfigurableFieldSpec(
                id=self._prefix + name,
                annotation=annotation,
                description=_DESCRIPTIONS[name],
                default=getattr(self._reranker, name),
            )
            for name, annotation in get_type_hints(CallOptions).items()
        ]

    @override
    def invoke(
        self, input: Asked, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        return super().invoke(input, _alone(config, kwargs))

    @override
    async def ainvoke(
        self, input: Asked, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        return await super().ainvoke(input, _alone(config, kwargs))

    @override
    def transform(
        self, input: Iterator[Asked], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[list[Document]]:
        return super().transform(input, _alone(config, kwargs))

    @override
    def atransform(
        self, input: AsyncIterator[Asked], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[list[Document]]:
        return super().atransform(input, _alone(config, kwargs))

    def _rerank(self, asked: Asked, config: RunnableConfig) -> list[Document]:
        documents, query = _asked(asked)
        reranker = self._reranker._with(query, self._options(config))
        return reranker.compress_documents(documents, query, config.get("callbacks"))

    async def _arerank(self, asked: Asked, config: RunnableConfig) -> list[Document]:
        documents, query = _asked(asked)
        reranker = self._reranker._with(query, self._options(config))
        return await reranker.acompress_documents(documents, query, config.get("callbacks"))

    def _options(self, config: RunnableConfig) -> CallOptions:
        """The options for one call that *config* holds."""
        given = config.get("configurable") or {}
        named = {name: self._prefix + name for name in CallOptions.__annotations__}
        return cast(
            "CallOptions", {name: given[known] for name, known in named.items() if known in given}
        )


def checked(config: RunnableConfig | None) -> RunnableConfig:
    """*config* and what the surrounding runnable hands on, as one.

    Raises:
        RequestError: *config* is none.
    """
    if config is not None and not isinstance(config, Mapping):
        raise RequestError(
            f"config must be a dict, not {type(config).__name__}",
            hint='Write config={"configurable": {...}}.',
        )
    for name, kind in _KINDS.items():
        value = (config or {}).get(name)
        if value is not None and not isinstance(value, kind):
            raise RequestError(
                f"{name} of the config must be a {kind.__name__}, not {type(value).__name__}"
            )
    return ensure_config(config)


def _alone(config: RunnableConfig | None, more: dict[str, Any]) -> RunnableConfig:
    """*config*, checked, which alone brings options of one call."""
    if names := list(more):
        more.clear()  # it may be the key, which no frame shows
        raise TypeError(
            f"unexpected argument {names[0]!r}: options of one call are given by its config, such "
            'as config={"configurable": {"top_n": 1}}'
        )
    return checked(config)


def _asked(asked: Asked) -> tuple[Sequence[Document], str]:
    if not isinstance(asked, Mapping):
        kind = type(asked).__name__
        raise RequestError(f'a dict with "query" and "documents" is needed, not {kind}')
    if missing := [key for key in ("query", "documents") if key not in asked]:
        raise RequestError(f"the dict that is to be reranked has no {missing[0]!r}")
    return asked["documents"], asked["query"]
