"""What each model and server accepts and what it costs, as data. No logic but look-up.

Every number stands beside its source and date. The vendor's pages are undated unless a date is
given, and some disagree; the newest one wins here. None of these numbers was measured against the
live service or a running server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from qwen_rerank._values import Price

__all__ = [
    "ANY",
    "LIMITS",
    "OPEN_QWEN3",
    "OWN_MODEL",
    "PRICES",
    "SERVERS",
    "UNKNOWN_MODEL",
    "UNKNOWN_VL_MODEL",
    "Limit",
    "ModelLimits",
    "Range",
    "limits_for",
    "price_of",
]


@dataclass(frozen=True, slots=True)
class Limit:
    """One documented number, where it stands and when it was read or seen."""

    value: int
    source: str
    date: str


Range: TypeAlias = tuple[float, float]
ANY: Range = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The limits of one model.

    Attributes:
        documents: Documents per request.
        item_tokens: Tokens of one document, and of the query.
        request_tokens: Tokens per request: query tokens x documents + tokens of all documents;
            None where there is no limit.
        item_characters: Characters of one document.
        body_bytes: Bytes of a request's body.
        share: The part of each token limit that is planned for, between 0 and 1. Counting is ours
            and the template around each pair is not documented, so nothing is planned to the brim.
        images: Images per request, which count as documents too; None if it takes none.
        videos: Videos per request, likewise.
        scores: The least and the most that a score can be.
    """

    documents: Limit
    item_tokens: Limit
    request_tokens: Limit | None
    item_characters: Limit
    body_bytes: Limit
    share: float = 0.95
    images: Limit | None = None
    videos: Limit | None = None
    scores: Range = ANY

    @property
    def planned_item_tokens(self) -> int:
        """Tokens that an item may have after our own cut."""
        return int(self.item_tokens.value * self.share)

    @property
    def planned_request_tokens(self) -> float:
        """Tokens that a request may have by our own count."""
        most = self.request_tokens
        return math.inf if most is None else int(most.value * self.share)

    @property
    def planned_body_bytes(self) -> int:
        """Bytes that the documents of a request may take in its body."""
        return int(self.body_bytes.value * 0.95)


_API = "help.aliyun.com/zh/model-studio/text-rerank-api"
_API_READ = "2026, before 05-30"
_GUIDE = "help.aliyun.com/zh/model-studio/rerank"
_GUIDE_READ = "2026, after 06"
_OURS = "a conservative choice of this project"
_OURS_DATE = "2026-11-23"

# "document index:0 is invalid, it should not be larger than 300000", seen with gte-rerank-v2. The
# unit is inferred, and no other model is known to differ.
_CHARACTERS = Limit(300_000, "github.com/apecloud/ApeRAG/issues/1071", "2025-07-10")

# The gateway's, for bodies without base64: 413 above it.
_BODY = Limit(16 * 2**20, "help.aliyun.com/zh/model-studio/rate-limit", "2026")

# A hard 400 above 500: "batch size of documents is invalid, it should not be empty or larger than
# 500", also seen in github.com/Tencent/WeKnora/issues/3458 on 2026-09-20.
_FIVE_HUNDRED = Limit(500, _API, _API_READ)

# "relevance_score": 0.0 to 1.0, on the same page of the API.
_SCORES: Range = (0.0, 1.0)

LIMITS: dict[str, ModelLimits] = {
    "qwen3-rerank": ModelLimits(
        documents=_FIVE_HUNDRED,
        item_tokens=Limit(4_000, _API, _API_READ),
        request_tokens=Limit(120_000, _GUIDE, _GUIDE_READ),  # its model card still says 30,000
        item_characters=_CHARACTERS,
        body_bytes=_BODY,
        scores=_SCORES,
    ),
    "qwen3.7-text-rerank": ModelLimits(
        documents=Limit(500, _GUIDE, _GUIDE_READ),
        item_tokens=Limit(30_000, _GUIDE, _GUIDE_READ),
        request_tokens=Limit(120_000, _GUIDE, _GUIDE_READ),  # "recommended"
        item_characters=_CHARACTERS,
        body_bytes=_BODY,
        scores=_SCORES,
    ),
    # For mixed requests the page says only that the limit differs by type: each is held, and their
    # sum stays within the one for texts.
    "qwen3-vl-rerank": ModelLimits(
        documents=Limit(100, _API, _API_READ),  # texts
        images=Limit(40, _API, _API_READ),
        videos=Limit(4, _API, _API_READ),
        item_tokens=Limit(8_000, _API, _API_READ),
        request_tokens=Limit(
            120_000, "alibabacloud.com/help/en/model-studio/text-rerank-api", "2026-03-15"
        ),
        item_characters=_CHARACTERS,
        body_bytes=_BODY,
        scores=_SCORES,
    ),
    "gte-rerank-v2": ModelLimits(
        documents=_FIVE_HUNDRED,
        item_tokens=Limit(4_000, _API, _API_READ),
        request_tokens=Limit(30_000, _API, _API_READ),
        item_characters=_CHARACTERS,
        body_bytes=_BODY,
        scores=_SCORES,
        share=0.75,  # another tokenizer than the one we count with
    ),
}

# For any other name: nothing here is larger than what the strictest known model accepts.
UNKNOWN_MODEL = ModelLimits(
    documents=Limit(100, _OURS, _OURS_DATE),
    item_tokens=Limit(4_000, _OURS, _OURS_DATE),
    request_tokens=Limit(30_000, _OURS, _OURS_DATE),
    item_characters=_CHARACTERS,
    body_bytes=_BODY,
    share=0.75,
)

UNKNOWN_VL_MODEL = replace(
    UNKNOWN_MODEL,
    images=LIMITS["qwen3-vl-rerank"].images,
    videos=LIMITS["qwen3-vl-rerank"].videos,
)

# A server of one's own scores every pair by itself, so its requests may have any number of tokens.
OWN_MODEL = replace(UNKNOWN_MODEL, request_tokens=None)

# "Context Length: 32k" is for query, text, instruct and template together: an eighth is left to the
# other three. With a longer query, or a server that was started with less, the server decides.
OPEN_QWEN3 = replace(
    OWN_MODEL,
    item_tokens=Limit(
        32_768, "huggingface.co/Qwen/Qwen3-Reranker-0.6B, likewise -4B and -8B", "2026-11-24"
    ),
    share=0.875,
)

_TEI = "github.com/huggingface/text-embeddings-inference, docs/source/en/cli_arguments.md"
_INFINITY = "github.com/michaelfeil/infinity, infinity_emb/fastapi_schemas/pymodels.py"

# The limits of servers, unless they were started with others. Those that are not here have none.
SERVERS: dict[str, dict[str, Any]] = {
    "tei": {
        "documents": Limit(32, f"{_TEI}: --max-client-batch-size", "2026-11-24"),
        "body_bytes": Limit(2_000_000, f"{_TEI}: --payload-limit", "2026-11-24"),
    },
    "infinity": {
        "documents": Limit(2_048, _INFINITY, "2026-11-24"),
        "item_characters": Limit(8_192 * 15, _INFINITY, "2026-11-24"),
    },
}


def limits_for(model: str, server: str | None = None) -> ModelLimits:
    """The limits of *model*, or a conservative row for a name that is not in the table.

    A name with "vl" as one of its words, as the vendor's naming has it, takes images and videos.
    On a *server* of one's own any name that holds "Qwen3-Reranker", as those of copies and paths
    do, is the open model.
    """
    name = model.lower()
    if server is None:
        return LIMITS.get(model, UNKNOWN_VL_MODEL if "vl" in name.split("-") else UNKNOWN_MODEL)
    own = OPEN_QWEN3 if "qwen3-reranker" in name else OWN_MODEL
    return replace(LIMITS.get(model, own), **SERVERS.get(server, {}))


# List prices of a million input text tokens; output is free.
PRICES: dict[tuple[str, str], Price] = {
    ("qwen3.7-text-rerank", "cn-beijing"): Price(
        0.5, "CNY", "help.aliyun.com/en/model-studio/qwen3-7-text-rerank", "2026"
    ),
    ("qwen3-rerank", "cn-beijing"): Price(
        0.5, "CNY", "www.alibabacloud.com/help/en/model-studio/qwen3-rerank", "2026"
    ),
    ("qwen3-rerank", "ap-southeast-1"): Price(
        0.1, "USD", "www.alibabacloud.com/help/en/model-studio/qwen3-rerank", "2026"
    ),
    ("qwen3-vl-rerank", "cn-beijing"): Price(
        0.7, "CNY", "help.aliyun.com/zh/model-studio/qwen3-vl-rerank", "2026"
    ),
    ("gte-rerank-v2", "cn-beijing"): Price(
        0.8, "CNY", "help.aliyun.com/en/model-studio/gte-rerank-v2", "2026"
    ),
}


def price_of(model: str, region: str | None) -> Price | None:
    """The list price of *model* in *region*, or None where none is known."""
    return PRICES.get((model, region or ""))
