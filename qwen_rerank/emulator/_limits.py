"""What each model accepts, as data: numbers with their sources, no behaviour.

This is the emulator's own copy, kept apart from the client's on purpose: two readings of the same
pages that disagree show a mistake in one of them. Every number is documented or was seen by
others; none was measured against the live service. Sources:

- api: help.aliyun.com/zh/model-studio/text-rerank-api
- api-en: www.alibabacloud.com/help/en/model-studio/text-rerank-api
- guide: help.aliyun.com/zh/model-studio/rerank
- rate: help.aliyun.com/zh/model-studio/rate-limit
- apecloud/ApeRAG#1071, Tencent/WeKnora#3458: error texts that users quoted
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple


class Documented(NamedTuple):
    """One number, and who says so."""

    value: int
    source: str
    """A tag of the list above."""
    date: str
    """The date of the source, or when it was read if it carries none."""


@dataclass(frozen=True)
class Model:
    """The documented limits of one model."""

    documents: Documented
    """Most documents in one request."""
    item_tokens: Documented
    """Most tokens of the query, or of one document."""
    request_tokens: Documented
    """Most of ``tokens(query) * documents + sum(tokens(document))``."""
    compatible: bool
    """Whether the compatible protocol serves it as well."""
    instruct: bool
    """Whether `instruct` has an effect; the gte models ignore it."""
    text_objects: bool = False
    """Whether an item may be an object such as ``{"text": ...}``."""


MODELS = MappingProxyType(
    {
        "qwen3.7-text-rerank": Model(
            documents=Documented(500, "guide", "2026-06"),
            item_tokens=Documented(30_000, "guide", "2026-06"),
            request_tokens=Documented(120_000, "guide", "2026-06"),  # "recommended"
            # A public pull request reports that it works (BerriAI/litellm#40199, 2026-09-08);
            # the vendor's page names qwen3-rerank only.
            compatible=True,
            instruct=True,
        ),
        "qwen3-rerank": Model(
            documents=Documented(500, "api", "2026-05"),
            item_tokens=Documented(4_000, "api", "2026-05"),
            request_tokens=Documented(120_000, "guide", "2026-06"),
            compatible=True,
            instruct=True,
        ),
        "qwen3-vl-rerank": Model(
            documents=Documented(100, "api", "2026-05"),  # text; images and videos have their own
            item_tokens=Documented(8_000, "api", "2026-05"),
            request_tokens=Documented(120_000, "api-en", "2026-03-15"),
            compatible=False,
            instruct=True,
            text_objects=True,
        ),
        "gte-rerank-v2": Model(
            documents=Documented(500, "api", "2026-05"),
            item_tokens=Documented(4_000, "api", "2026-05"),
            request_tokens=Documented(30_000, "api", "2026-05"),
            compatible=False,
            instruct=False,
        ),
        # gte-rerank, the first version, was retired on 2026-05-30: an unknown model here.
    }
)

DOCUMENT_CHARACTERS = Documented(300_000, "apecloud/ApeRAG#1071", "2025-07-10")
"""Longest document the gateway lets through; the unit is inferred from the error text."""

BODY_BYTES = Documented(16 * 1024 * 1024, "rate", "2026-06-25")
"""Largest request body that carries no base64 media."""
