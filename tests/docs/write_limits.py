"""Writes docs/limits.md from the core's table of limits and prices: `make limits`."""

from pathlib import Path

from qwen_rerank._limits import (
    LIMITS,
    PRICES,
    UNKNOWN_MODEL,
    UNKNOWN_VL_MODEL,
    Limit,
    ModelLimits,
    Price,
)

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"

_INTRO = """\
# Limits and prices

What each model accepts, as this library plans for it. This page is written from
`qwen_rerank/_limits.py` by `make limits`, and a test compares the two. The vendor's pages are
undated unless a date is given, and some disagree; the newest one was taken. **None of these numbers
was measured against the live service**; with your key, [`qwen-rerank doctor`](doctor.md) does some.

You need not do anything about them: a list of any length is split over as many requests as they ask
for, and a document that is too long is [cut, split or refused](long-documents.md), as you say.

- **Documents**, **images** and **videos** are per request; the latter two count as documents too.
- **Tokens per document** are also the limit of the query.
- **Tokens per request** are tokens of the query times documents, plus the tokens of all documents.
- **Planned** is the part of a token limit that is used. Tokens are counted by our own tokenizer,
  and what the service puts around each pair is not documented, so nothing is planned to the brim.
- Of the bytes of a request's body 95 percent are planned for.
"""

_NAMES = {
    "documents": "documents per request",
    "images": "images per request",
    "videos": "videos per request",
    "item_tokens": "tokens per document",
    "request_tokens": "tokens per request",
    "item_characters": "characters per document",
    "body_bytes": "bytes per request",
}


def page() -> str:
    """The whole page."""
    rows = {f"`{name}`": limits for name, limits in LIMITS.items()}
    rows |= {"any other name": UNKNOWN_MODEL, 'any other name with "vl" in it': UNKNOWN_VL_MODEL}
    parts = [_INTRO, "## At a glance\n", _glance(rows), "## Where each number comes from\n"]
    for model, limits in rows.items():
        parts += [f"### {model}\n", _sources(limits)]
    return "\n".join([*parts, _prices()])


def _glance(rows: dict[str, ModelLimits]) -> str:
    lines = [
        "| model | documents | images | videos | tokens, document | tokens, request | planned |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for model, limits in rows.items():
        numbers = (limits.documents, limits.images, limits.videos)
        numbers += (limits.item_tokens, limits.request_tokens)
        cells = " | ".join(f"{each.value:,}" if each else "none" for each in numbers)
        lines.append(f"| {model} | {cells} | {limits.share:.0%} |")
    return "\n".join([*lines, ""])


def _sources(limits: ModelLimits) -> str:
    lines = ["| limit | value | source | read or seen |", "|---|---:|---|---|"]
    for name, shown in _NAMES.items():
        if (limit := getattr(limits, name)) is not None:
            lines.append(f"| {shown} | {limit.value:,} | {_source(limit)} | {limit.date} |")
    return "\n".join([*lines, ""])


def _prices() -> str:
    lines = [
        "## List prices\n",
        "Of a million input tokens of text; output is free. Images and videos have prices of their",
        "own and are not priced by this library. Your contract may say something else:",
        "`estimate(..., price_per_million=...)`.\n",
        "| model | region | price | source | read |",
        "|---|---|---:|---|---|",
    ]
    for (model, region), price in PRICES.items():
        cost = f"{price.per_million} {price.currency}"
        lines.append(f"| `{model}` | `{region}` | {cost} | {_source(price)} | {price.date} |")
    return "\n".join([*lines, ""])


def _source(fact: Limit | Price) -> str:
    return f"<https://{fact.source}>" if "/" in fact.source else fact.source


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
