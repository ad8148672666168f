"""DashScope's rerank models as a LangChain document compressor."""

try:
    import langchain_core  # noqa: F401  (only to say what is missing)
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'langchain_qwen_rerank needs langchain-core: pip install "qwen-rerank[langchain]"',
        name=missing.name,
    ) from None

from langchain_qwen_rerank.compressor import QwenRerank
from qwen_rerank import __version__

__all__ = ["QwenRerank", "__version__"]
