"""DashScope's rerank models as a LangChain document compressor, runnable and retriever.

LangChain's objects, runs and conventions are translated here; nothing about ranking is decided.
"""

from typing import TYPE_CHECKING, Any

try:
    import langchain_core  # noqa: F401  (only to say what is missing)
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        'langchain_qwen_rerank needs langchain-core: pip install "qwen-rerank[langchain]"',
        name=_missing.name,
    ) from None

from langchain_qwen_rerank.compressor import QwenRerank, Score
from langchain_qwen_rerank.with_metadata import WithMetadata
from qwen_rerank import __version__

if TYPE_CHECKING:
    from langchain_qwen_rerank.retriever import QwenRerankRetriever

__all__ = ["QwenRerank", "QwenRerankRetriever", "Score", "WithMetadata", "__version__"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name != "QwenRerankRetriever":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_qwen_rerank.retriever import QwenRerankRetriever  # noqa: PLC0415  takes long

    return QwenRerankRetriever
