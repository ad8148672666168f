"""What each protocol and each kind of server hears and says, one row each. No logic but look-up.

DashScope's rows come from the vendor's page, those of servers that people run themselves from their
own source code and documents, as stored copies had them on the day beside the source. **None was
ever run against the real server.**
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["DASHSCOPE", "SERVERS", "Dialect", "Protocol", "Server", "spoken"]

Protocol: TypeAlias = Literal["dashscope", "compatible"]
Server: TypeAlias = Literal["vllm", "sglang", "tei", "xinference", "infinity", "litellm"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a rerank request and its answer look.

    Attributes:
        path: The base path and the path below it. A base URL may end in either.
        results: The names that lead from the answer to its list of results; none where the answer
            is that list.
        score: The name of a result's score. Its document's is ``index`` everywhere.
        usage: The names that lead to the number of tokens; none where the server tells none.
        source: Where the row comes from.
        date: When that was read.
        documents: The name of the list of texts.
        model: Whether the request names a model.
        instruct: The name of the instruction; None where the server takes none.
        constants: What every request says as well.
    """

    path: tuple[str, str]
    results: tuple[str, ...]
    score: str
    usage: tuple[str, ...]
    source: str
    date: str
    documents: str = "documents"
    model: bool = True
    instruct: str | None = "instruct"
    constants: Mapping[str, bool] = field(default_factory=dict)


_READ = "2026-11-24"
_API = "help.aliyun.com/zh/model-studio/text-rerank-api"

# Every DashScope host serves both. The native one nests what it is asked.
DASHSCOPE: Mapping[Protocol, Dialect] = MappingProxyType(
    {
        "dashscope": Dialect(
            path=("/api/v1", "/services/rerank/text-rerank/text-rerank"),
            results=("output", "results"),
            score="relevance_score",
            usage=("usage", "total_tokens"),
            source=_API,
            date="2026",
        ),
        "compatible": Dialect(
            path=("/compatible-api/v1", "/reranks"),
            results=("results",),
            score="relevance_score",
            usage=("usage", "total_tokens"),
            source=_API,
            date="2026",
        ),
    }
)

SERVERS: Mapping[Server, Dialect] = MappingProxyType(
    {
        # Serves /v1/rerank and /v2/rerank too. Older versions ignore the instruction, and without a
        # chat template the scores of Qwen3-Reranker are almost random (vllm-project/vllm#19260).
        "vllm": Dialect(
            path=("", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=("usage", "total_tokens"),
            instruct="instruction",
            source="github.com/vllm-project/vllm, scoring/protocol.py and api_router.py, 055e47c",
            date=_READ,
        ),
        # Versions before sgl-project/sglang#16403 (2026-01-04) know neither of the last two fields.
        "sglang": Dialect(
            path=("/v1", "/rerank"),
            results=(),
            score="score",
            usage=(),
            constants=MappingProxyType({"return_documents": False}),
            source="github.com/sgl-project/sglang, docs/supported_models/retrieval_ranking/"
            "rerank_models.md, 072690d",
            date=_READ,
        ),
        # It serves one model, unnamed. What is over that model's length is cut and not reported.
        # Qwen3-Reranker itself was not yet served in 2026-06 (issues 643 and 691).
        "tei": Dialect(
            path=("", "/rerank"),
            results=(),
            score="score",
            usage=(),
            documents="texts",
            model=False,
            instruct=None,
            constants=MappingProxyType({"truncate": True}),
            source="github.com/huggingface/text-embeddings-inference, router/src/http/types.rs, "
            "265deb2, and docs/openapi.json, 1.7.1",
            date=_READ,
        ),
        # Tokens are told to return_len only. The instruction of Qwen3-Reranker is fixed there.
        "xinference": Dialect(
            path=("/v1", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=(),
            instruct=None,
            source="github.com/xorbitsai/inference, xinference/api/schemas/requests.py, 114ac52, "
            "and inference.readthedocs.io/en/v2.10.0/models/model_abilities/rerank.html",
            date=_READ,
        ),
        # Below its --url-prefix, if it has one: that belongs into the base URL.
        "infinity": Dialect(
            path=("", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=("usage", "total_tokens"),
            instruct=None,
            source="github.com/michaelfeil/infinity, infinity_emb/infinity_server.py and "
            "fastapi_schemas/pymodels.py",
            date=_READ,
        ),
        # Whether the instruction counts is for what stands behind it (BerriAI/litellm#30757).
        "litellm": Dialect(
            path=("", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=("meta", "billed_units", "total_tokens"),
            instruct="instruction",
            source="github.com/BerriAI/litellm, litellm/types/rerank.py, 1168d3d, and "
            "proxy/rerank_endpoints/endpoints.py, 00fc80b",
            date=_READ,
        ),
    }
)


def spoken(protocol: Protocol, server: Server | None) -> Dialect:
    """The row of *server*, or of *protocol* where the server is DashScope."""
    return DASHSCOPE[protocol] if server is None else SERVERS[server]
