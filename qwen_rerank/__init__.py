"""DashScope's rerank models behind one call: query and texts in, ranking out.

This package knows no framework; `langchain_qwen_rerank` and `llama_index_qwen_rerank` do. Importing
it imports neither them nor dashscope nor an http library.
"""

from qwen_rerank._values import Estimate, Hit, Price, Ranking, Usage
from qwen_rerank.errors import (
    AuthenticationError,
    ContentError,
    DeadlineError,
    QuotaError,
    RateLimitError,
    ReplyError,
    RequestError,
    RerankError,
    ServiceError,
)
from qwen_rerank.media import Candidate, Image, Unsendable, Video
from qwen_rerank.reranker import BaseReranker, CallOptions, Reranker
from qwen_rerank.settings import RerankSettings

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "BaseReranker",
    "CallOptions",
    "Candidate",
    "ContentError",
    "DeadlineError",
    "Estimate",
    "Hit",
    "Image",
    "Price",
    "QuotaError",
    "Ranking",
    "RateLimitError",
    "ReplyError",
    "RequestError",
    "RerankError",
    "RerankSettings",
    "Reranker",
    "ServiceError",
    "Unsendable",
    "Usage",
    "Video",
    "__version__",
]
