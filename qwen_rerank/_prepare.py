"""Room 1: what will be asked. Blanks, surrogates, duplicates, over-long items; no I/O, no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from qwen_rerank import _tokens
from qwen_rerank._limits import ModelLimits
from qwen_rerank._values import Item, Job, Prepared

__all__ = ["Counter", "measure", "prepare"]


class Counter(Protocol):
    """What `measure` needs of a tokenizer."""

    def count(self, text: str) -> int:
        """Tokens of *text*."""

    def cut(self, text: str, limit: int) -> str:
        """The head of *text* that has at most *limit* tokens."""


def prepare(job: Job) -> Prepared:
    """The distinct texts of *job* that can be sent, with bounds on their tokens instead of counts.

    Blank documents are left out: one of them fails the service's whole request. Equal documents
    become one item. A lone surrogate, which no UTF-8 body can carry, is replaced.
    """
    positions: dict[str, list[int]] = {}
    for position, document in enumerate(job.documents):
        if document and not document.isspace():
            positions.setdefault(_sendable(document), []).append(position)
    query = _sendable(job.query)
    return Prepared(
        query=Item(query, _tokens.bound(query), ()),
        instruct_tokens=_tokens.bound(_sendable(job.instruct or "")),
        items=tuple(
            Item(text, _tokens.bound(text), tuple(where)) for text, where in positions.items()
        ),
    )


def measure(prepared: Prepared, limits: ModelLimits, counter: Counter) -> Prepared:
    """*prepared* with its tokens counted, and what is over-long cut to the model's limit."""

    def measured(item: Item) -> Item:
        text = item.text[: limits.item_characters.value]
        tokens = counter.count(text)
        too_long = tokens > limits.planned_item_tokens
        if too_long:
            text = counter.cut(text, limits.planned_item_tokens)
            tokens = counter.count(text)
        return replace(
            item, text=text, tokens=tokens, truncated=too_long or len(text) < len(item.text)
        )

    return replace(
        prepared, query=measured(prepared.query), items=tuple(map(measured, prepared.items))
    )


def _sendable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # UTF-16 joins the halves of a pair that arrived apart and replaces those left alone.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
