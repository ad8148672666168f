"""DashScope's rerank models behind one call: query and texts in, ranking out.

This package knows no framework; `langchain_qwen_rerank` and `llama_index_qwen_rerank` do. Importing
it imports nothing: what is public is imported when it is first asked for, since the command line's
help asks for none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from qwen_rerank.reranker import BaseReranker, CallOptions
    from qwen_rerank.settings import RerankSettings
    from qwen_rerank.standalone import Reranker

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

_HOMES = ("errors", "media", "_values", "settings", "reranker", "standalone")  # the lightest first


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # checkers would take it for leave to ask for any name

    def __getattr__(name: str) -> object:
        if name in __all__:
            for home in _HOMES:
                found = vars(import_module(f"{__name__}.{home}"))
                if name in found:
                    return globals().setdefault(name, found[name])
        elif name in _HOMES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
