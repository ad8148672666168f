"""What `QwenRerank` can be given by name, for editors and type checkers; checked elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import BaseNode, MetadataMode
    from pydantic import SecretStr

    from qwen_rerank import Candidate
    from qwen_rerank.settings import Folder, LongDocuments, LongQuery, Protocol, Server

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """The fields of `QwenRerank`, without ``top_n``, and what it takes besides."""

    model: str
    api_key: SecretStr | str | None
    dashscope_api_key: SecretStr | str | None
    base_url: str | None
    region: str | None
    workspace: str | None
    protocol: Protocol
    server: Server | None
    instruct: str | None
    score_threshold: float | None
    timeout: float
    max_retries: int
    max_concurrency: int
    max_documents_per_request: int | None
    max_model_len: int | None
    max_tokens_per_doc: int | None
    long_documents: LongDocuments
    long_query: LongQuery
    on_error: Literal["raise", "passthrough"]
    outage_pause: float
    mixed: Literal["max", "text", "media", "together"]
    fps: float | None
    cache: Any
    client: Any
    async_client: Any
    headers: Mapping[str, SecretStr | str] | None
    extra_body: Mapping[str, Any] | None
    http_client: Any
    async_http_client: Any
    allow_http: bool
    metadata_mode: MetadataMode
    local_files: Folder | None
    item: Callable[[BaseNode], Candidate] | None
    keep_retrieval_score: bool
    rate_limiter: Any
    callback_manager: CallbackManager | None
    return_documents: bool | None
