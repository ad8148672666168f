"""Writes docs/limits.md from the core's table of limits and prices: `make limits`."""

from pathlib import Path

from qwen_rerank._models import (
    LIMITS,
    LISTED_TOO,
    PRICES,
    RATES,
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
`qwen_rerank/_models.py` by `make limits`, and a test compares the two. The vendor's pages are
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

_PRICES = """\
## List prices

Of a million input tokens; output is free. A call's cost is computed from the rows that are used.
Your contract may say something else: `estimate(..., price_per_million=...)`.

- The vendor's Chinese site lists Beijing in yuan and its international one in dollars. A key does
  not tell whose account it is of, so the yuan are kept to; a tracer that takes every cost for
  dollars gets none in yuan.
- Images are listed, but not how their tokens are counted, and videos are not listed. The cost of a
  call with either is not computed; `usage.tokens` is what the service counted.
"""

_RATES = """\
## Rate limits

Per account and model, over all its keys, workspaces and users. They may be enforced per second, as
a sixtieth of these. A 429 is [waited for and repeated](speed.md#rate-limits).
"""

_RUN = "<https://github.com/samyung0/capy-notebook>, 1ab3bc07", "2026-09-25"
_CARD = "<https://help.aliyun.com/en/model-studio/qwen3-7-text-rerank>", "2026, after 09-01"
_PULL = "<https://github.com/BerriAI/litellm/pull/40199>", "2026-09-08"
_PAGE = "<https://www.alibabacloud.com/help/en/model-studio/text-rerank-api>", "2026-10-12"
_NOTICE = (
    (
        "<https://www.alibabacloud.com/en/notice/"
        "model_studio_notice_on_gtererank_model_deprecation_751>"
    ),
    "2026-04-29",
)
# Model, what is known, where it stands or who has seen it.
_KNOWN = (
    ("qwen3.7-text-rerank", "launched on 2026-09-01", _CARD),
    (
        "qwen3.7-text-rerank",
        "in Beijing a 403 until it is enabled in the console, in Singapore a 404",
        _RUN,
    ),
    (
        "qwen3.7-text-rerank",
        "answers on the compatible protocol too, for which the vendor names `qwen3-rerank` alone",
        _PULL,
    ),
    ("qwen3-rerank", "the one rerank model that is listed for Singapore", _PAGE),
    (
        "qwen3-rerank",
        (
            "a pair's score does not depend on the other documents: in 50 of 50 trials with "
            "another order or half of the list none moved by more than 0.00000067 (943 requests)"
        ),
        _RUN,
    ),
    ("qwen3-rerank", "Beijing and Singapore score a pair differently: 0.2448 and 0.2426", _RUN),
    (
        "qwen3-rerank",
        "40 documents took 0.59 s (median) and 2.18 s (95th percentile), two calls at a time",
        _RUN,
    ),
    ("gte-rerank-v2", "still answered", _RUN),
    ("gte-rerank", "retired on 2026-05-30; the notice names no other model", _NOTICE),
)

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
    return "\n".join([*parts, _prices(), _rates(), _known()])


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
        _PRICES,
        "| model | region | tokens of | price | source | read | used |",
        "|---|---|---|---:|---|---|---|",
    ]
    rows = [(model, region, "text", price, "yes") for (model, region), price in PRICES.items()]
    rows += [(*row, "no") for row in LISTED_TOO]
    for model, region, kind, price, used in sorted(rows, key=_by_model):
        cost = f"{price.per_million} {price.currency}"
        cells = (f"`{model}`", f"`{region}`", kind, cost, _source(price), price.date, used)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _by_model(row: tuple[str, ...]) -> int:
    return list(LIMITS).index(row[0])


def _rates() -> str:
    lines = [
        _RATES,
        "| model | where | requests a minute | tokens a minute | source | read |",
        "|---|---|---:|---:|---|---|",
    ]
    for (model, where), rates in sorted(RATES.items(), key=lambda row: _by_model(row[0])):
        shown = "other regions" if where == "international" else f"`{where}`"
        cells = (f"`{model}`", shown, f"{rates.requests.value:,}", f"{rates.tokens.value:,}")
        source = rates.tokens
        lines.append(f"| {' | '.join(cells)} | {_source(source)} | {source.date} |")
    return "\n".join([*lines, ""])


def _known() -> str:
    lines = [
        "## What is known of the models\n",
        "| model | what | source | read or seen |",
        "|---|---|---|---|",
        *(f"| `{model}` | {what} | {' | '.join(source)} |" for model, what, source in _KNOWN),
    ]
    return "\n".join([*lines, ""])


def _source(fact: Limit | Price) -> str:
    return f"<https://{fact.source}>" if "/" in fact.source else fact.source


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
