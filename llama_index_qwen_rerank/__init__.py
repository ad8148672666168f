"""DashScope's rerank models as a LlamaIndex node postprocessor.

LlamaIndex's objects, events and conventions are translated here; nothing about ranking is decided.
"""

try:
    import llama_index.core  # noqa: F401  (only to say what is missing)
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        'llama_index_qwen_rerank needs llama-index-core: pip install "qwen-rerank[llama-index]"',
        name=_missing.name,
    ) from None

from llama_index_qwen_rerank.events import QwenRerankEndEvent
from llama_index_qwen_rerank.postprocessor import QwenRerank
from qwen_rerank import __version__

__all__ = ["QwenRerank", "QwenRerankEndEvent", "__version__"]
