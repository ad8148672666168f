"""What each model and server accepts and what it costs, as data. No logic but look-up.

Every number stands beside its source and date. The vendor's pages are undated unless a date is
given, and some disagree; the newest one wins here. None of DashScope's was measured against the
live service; what servers of one's own do was seen by running them, but for TEI and SGLang.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from qwen_rerank._values import Price

__all__ = [
    "ANY",
    "LIMITS",
    "LISTED_TOO",
    "OWN_MODEL",
    "PRICES",
    "RATES",
    "SERVERS",
    "UNKNOWN_MODEL",
    "UNKNOWN_VL_MODEL",
    "UNTOLD",
    "Limit",
    "ModelLimits",
    "Range",
    "Rates",
    "limits_for",
    "price_of",
]


class Limit(NamedTuple):
    """One documented number, where it stands and when it was read or seen."""

    value: int
    source: str
    date: str


_LEAST_HEAD = 16  # tokens; the head of a text that is cut to fewer says nothing of the whole

Range: TypeAlias = tuple[float, float]
ANY: Range = (-math.inf, math.inf)


class ModelLimits(NamedTuple):
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
        pair_tokens: On a server of one's own, tokens of query, instruct, document and template
            together; None where they have no such limit.
        template_tokens: Tokens that the server puts around each pair, and bills.
        document_tokens: Tokens of one document by our own count, where the user says so.
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
    pair_tokens: Limit | None = None
    template_tokens: int = 0
    document_tokens: int | None = None
    scores: Range = ANY

    def planned_query_tokens(self, instruct: int = 0) -> int:
        """Tokens that the query may have after our own cut, beside an *instruct* of so many."""
        half = (self._planned_pair - instruct) // 2
        return max(1, min(int(self.item_tokens.value * self.share), half))

    def leaves_room(self, instruct: int) -> bool:
        """Whether an *instruct* of so many tokens leaves enough for a query and a document."""
        least = min(_LEAST_HEAD, self.planned_query_tokens() // 2)
        return self.planned_query_tokens(instruct) >= least

    def planned_document_tokens(self, around: int) -> int:
        """Tokens that a document may have beside a query and an instruct of *around* tokens."""
        own = int(self.item_tokens.value * self.share)
        if self.document_tokens is not None:
            own = min(own, self.document_tokens)
        return max(1, min(own, self._planned_pair - around))

    @property
    def _planned_pair(self) -> int:
        pair = self.pair_tokens
        return sys.maxsize if pair is None else int(pair.value * self.share) - self.template_tokens

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

UNKNOWN_VL_MODEL = UNKNOWN_MODEL._replace(
    images=LIMITS["qwen3-vl-rerank"].images,
    videos=LIMITS["qwen3-vl-rerank"].videos,
)

# A server of one's own scores every pair by itself, so its requests may have any number of tokens.
OWN_MODEL = UNKNOWN_MODEL._replace(request_tokens=None)

_SEEN = "2026-11-29"
# What is left of a pair that cannot be asked for: what most encoders take.
UNTOLD = Limit(512, _OURS, _SEEN)
_XINFERENCE = "the table of xinference 4.1.0"
# How long a pair may be, by what the model's name holds; a server may be started with less.
_PAIRS = {
    "qwen3-reranker": Limit(
        32_768, "huggingface.co/Qwen/Qwen3-Reranker-0.6B, likewise -4B and -8B", "2026-11-24"
    ),
    "bge-reranker-v2-m3": Limit(8_192, _XINFERENCE, _SEEN),
    "jina-reranker-v2": Limit(1_024, _XINFERENCE, _SEEN),
}
_ENCODER_TEMPLATE = 4  # [CLS] query [SEP] document [SEP], and one more with other tokenizers
_QWEN3_TEMPLATE = (
    74  # billed for each pair by vLLM 0.32.0, 2026-11-29; an instruct of one's own adds
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


# They pass on what they are given, and most of what is behind them cuts or refuses by itself.
_GATEWAYS = ("litellm", "cohere")


def limits_for(
    model: str,
    server: str | None = None,
    *,
    max_model_len: int | None = None,
    max_tokens_per_doc: int | None = None,
) -> ModelLimits:
    """The limits of *model*, or a conservative row for a name that is not in the table.

    A name with "vl" as one of its words, as the vendor's naming has it, takes images and videos.
    On a *server* of one's own any name that holds "Qwen3-Reranker", as those of copies and paths
    do, is the open model.

    Args:
        model: The model's name.
        server: What kind of server it is; None for DashScope.
        max_model_len: Tokens of a pair on that server, by the user or by the server itself.
        max_tokens_per_doc: Tokens of a document there, by the user.
    """
    if server is not None:
        return _of_own(model, server, max_model_len, max_tokens_per_doc)
    is_vl = "vl" in model.lower().split("-")
    return LIMITS.get(model, UNKNOWN_VL_MODEL if is_vl else UNKNOWN_MODEL)


@lru_cache(maxsize=256)  # asked several times in each call
def _of_own(
    model: str, server: str, max_model_len: int | None, max_tokens_per_doc: int | None
) -> ModelLimits:
    name = model.lower()
    is_qwen3 = "qwen3-reranker" in name
    row = LIMITS.get(model, OWN_MODEL)._replace(**SERVERS.get(server, {}))
    pair = next((limit for part, limit in _PAIRS.items() if part in name), None)
    if max_model_len is not None:
        pair = Limit(max_model_len, "max_model_len", _SEEN)
    elif model in LIMITS or max_tokens_per_doc is not None:
        pair = None
    elif pair is None and server not in _GATEWAYS:
        pair = UNTOLD
    if pair is not None:
        row = row._replace(
            item_tokens=pair if model not in LIMITS else row.item_tokens,
            pair_tokens=pair,
            share=0.95 if is_qwen3 else row.share,  # ours is its tokenizer
        )
    if max_tokens_per_doc is not None:
        given = Limit(max(row.item_tokens.value, 2 * max_tokens_per_doc), "max_tokens_per_doc", "")
        row = row._replace(item_tokens=given, document_tokens=max_tokens_per_doc)
    if model not in LIMITS:
        row = row._replace(template_tokens=_QWEN3_TEMPLATE if is_qwen3 else _ENCODER_TEMPLATE)
    return row


# List prices of a million input text tokens; output is free. A call's cost is computed from these.
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


# What the vendor lists besides, as model, region, tokens of what, price: in dollars, on its
# international site, and for images. Nothing is computed from these: which of two currencies an
# account pays in is not ours to guess, and how an image's tokens are counted is not documented.
_INTERNATIONAL = "www.alibabacloud.com/help/en/model-studio/text-rerank-api"
LISTED_TOO: tuple[tuple[str, str, str, Price], ...] = (
    (
        "qwen3-rerank",
        "cn-beijing",
        "text",
        Price(0.069, "USD", "www.alibabacloud.com/help/en/model-studio/qwen3-rerank", "2026"),
    ),
    ("qwen3-vl-rerank", "cn-beijing", "text", Price(0.1, "USD", _INTERNATIONAL, "2026")),
    (
        "qwen3-vl-rerank",
        "cn-beijing",
        "images",
        Price(1.8, "CNY", "help.aliyun.com/zh/model-studio/qwen3-vl-rerank", "2026"),
    ),
    ("qwen3-vl-rerank", "cn-beijing", "images", Price(0.258, "USD", _INTERNATIONAL, "2026")),
    (
        "gte-rerank-v2",
        "cn-beijing",
        "text",
        Price(0.115, "USD", "help.aliyun.com/en/model-studio/gte-rerank-v2", "2026"),
    ),
)


class Rates(NamedTuple):
    """What an account may send to one model in a minute, over all its keys."""

    requests: Limit
    tokens: Limit


def _rates(requests: int, tokens: int, source: str, date: str) -> Rates:
    return Rates(Limit(requests, source, date), Limit(tokens, source, date))


_RATES = "help.aliyun.com/zh/model-studio/rate-limit"
# By model and where; "international" is the vendor's site for accounts outside of China.
RATES: dict[tuple[str, str], Rates] = {
    ("qwen3.7-text-rerank", "cn-beijing"): _rates(
        3_000, 9_000_000, "help.aliyun.com/en/model-studio/qwen3-7-text-rerank", "2026, after 09-01"
    ),
    ("qwen3-rerank", "cn-beijing"): _rates(
        5_400, 5_000_000_000, "www.alibabacloud.com/help/en/model-studio/qwen3-rerank", "2026"
    ),
    ("qwen3-rerank", "international"): _rates(5_400, 5_000_000_000, _RATES, "2026-02-24"),
    ("qwen3-vl-rerank", "cn-beijing"): _rates(
        600, 9_000_000, "help.aliyun.com/zh/model-studio/qwen3-vl-rerank", "2026"
    ),
    ("gte-rerank-v2", "cn-beijing"): _rates(
        5_040, 4_980_000_000, "help.aliyun.com/en/model-studio/gte-rerank-v2", "2026"
    ),
    ("gte-rerank-v2", "international"): _rates(5_040, 4_980_000_000, _RATES, "2026-02-24"),
}


def price_of(model: str, region: str | None) -> Price | None:
    """The list price of *model* in *region*, or None where none is known."""
    return PRICES.get((model, region or ""))
