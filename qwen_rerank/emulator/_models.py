"""What each model accepts, as data: numbers with their sources, no behaviour.

This is the emulator's own copy, kept apart from the client's on purpose: two readings of the same
pages that disagree show a mistake in one of them. Every number is documented or was seen by
others; none was measured against the live service. Sources:

- api: help.aliyun.com/zh/model-studio/text-rerank-api
- api-en: www.alibabacloud.com/help/en/model-studio/text-rerank-api
- guide: help.aliyun.com/zh/model-studio/rerank
- rate: help.aliyun.com/zh/model-studio/rate-limit
- errors: docs.qwencloud.com/api-reference/preparation/error-messages
- vision: help.aliyun.com/zh/model-studio/vision; of the Qwen3-VL models, not of rerank
- apecloud/ApeRAG#1071, Tencent/WeKnora#3458: error texts that users quoted
- infinity: michaelfeil/infinity, infinity_emb/fastapi_schemas/pymodels.py
- tei: huggingface/text-embeddings-inference, docs/source/en/cli_arguments.md
- seen: vLLM 0.32.0 with a tiny model and a template as Qwen3-Reranker's
- made up: nobody says so; a number was needed where the vendor documents none
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
    images: Documented | None = None
    """Most images among the documents; None where an item is a text, and never an object."""
    videos: Documented | None = None
    """Most videos among the documents; None likewise."""


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
            # Of texts. For mixed requests the page says only that the limit differs by kind: here
            # each is held, and their sum stays within this one.
            documents=Documented(100, "api", "2026-05"),
            images=Documented(40, "api", "2026-05"),
            videos=Documented(4, "api", "2026-05"),
            item_tokens=Documented(8_000, "api", "2026-05"),
            request_tokens=Documented(120_000, "api-en", "2026-03-15"),
            compatible=False,
            instruct=True,
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
"""Largest request body, after the base64 of its media has been decoded."""

WIRE_BYTES = Documented(64 * 1024 * 1024, "rate", "2026-06-25")
"""Largest request body as it is sent. `BODY_BYTES` leaves room for a third of it."""

BASE64_CHARACTERS = Documented(20 * 1024 * 1024, "rate", "2026-06-25")
"""Longest base64 of one image."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "ICO", "DIB", "ICNS", "SGI")
"""The formats of images; source: api, 2026-05."""

IMAGE_SIDE = Documented(10, "errors", "2026-06")
"""Least pixels of an image's width and of its height; of Qwen-VL models in general."""

IMAGE_STRETCH = Documented(200, "errors", "2026-06")
"""Most times that one side may be as long as the other; of Qwen-VL models in general."""

TOKEN_SIDE = Documented(32, "vision", "2026-06")
"""A token is a square of so many pixels a side, rounded up. Rerank documents no price of its own;
an image that would cost more than the item limit is taken to be scaled down to it."""

TOKENS_AROUND = Documented(2, "vision", "2026-06")
"""What the marks around an image cost."""

IMAGE_TOKENS = Documented(4, "vision", "2026-06")
"""The least that an image costs."""

IMAGE_URL_TOKENS = Documented(1_280, "made up", "2026-11-23")
"""What an image by URL costs here: it is never fetched, so its size is unknown."""

VIDEO_TOKENS = Documented(8_000, "made up", "2026-11-23")
"""What a video costs here, whatever `fps` is: the item limit."""

TEI_TEXTS = Documented(32, "tei", "2026-11-24")
"""Most texts in one request to Text Embeddings Inference, by its default."""

INFINITY_TEXTS = Documented(2_048, "infinity", "2026-11-24")
"""Most documents in one request to Infinity."""

INFINITY_CHARACTERS = Documented(8_192 * 15, "infinity", "2026-11-24")
"""Longest text that Infinity takes."""

TEMPLATE_TOKENS = Documented(74, "seen", "2026-11-29")
"""What vLLM bills for the template of Qwen3-Reranker around each pair."""
