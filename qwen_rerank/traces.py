"""What a rerank has cost, as tracers' spans say it, in plain values. No tracer is imported here."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from qwen_rerank._values import Ranking

__all__ = ["current_spans", "dollars", "facts", "harmless", "named", "tell_spans", "tokens"]

_log = logging.getLogger("qwen_rerank")

_FAULT = "A tracer could not be told what a rerank has cost."


def facts(ranking: Ranking) -> dict[str, Any]:
    """What the documents of *ranking* do not say; whatever is unknown is left out."""
    usage, failure = ranking.usage, ranking.degraded
    return _known(
        model=ranking.model,
        requests=usage.requests,
        tokens=usage.tokens,
        cache_hits=usage.cache_hits,
        cost=usage.cost,
        currency=usage.currency,
        request_ids=list(ranking.request_ids),
        truncated=list(ranking.truncated),
        query_truncated=ranking.query_truncated,
        degraded=None if failure is None else str(failure),
    )


def named(ranking: Ranking) -> dict[str, Any]:
    """`facts` with ``qwen_rerank.`` before each name, beside names that are others'."""
    return {f"qwen_rerank.{name}": value for name, value in facts(ranking).items()}


def tokens(ranking: Ranking) -> dict[str, int]:
    """The billed tokens, by the names of LangSmith and MLflow; nothing if they are unknown."""
    used = ranking.usage.tokens  # of the input, as a reranker writes nothing
    return {} if used is None else {"input_tokens": used, "output_tokens": 0, "total_tokens": used}


def dollars(ranking: Ranking) -> dict[str, float]:
    """The cost, likewise. They know no other currency, so one in another is left out."""
    cost = ranking.usage.cost if ranking.usage.currency == "USD" else None
    return {} if cost is None else {"input_cost": cost, "output_cost": 0.0, "total_cost": cost}


def current_spans() -> tuple[Any | None, Any | None]:
    """The span that is current here for OpenTelemetry, and the one for MLflow."""
    return (
        _current("opentelemetry.trace", "get_current_span"),
        _current("mlflow", "get_current_active_span"),
    )


def tell_spans(
    ranking: Ranking, step: str, known: Iterable[Any] = (), *, before: Collection[Any] = ()
) -> None:
    """Writes on the spans that are open for a rerank what it has cost.

    Args:
        ranking: What came of it.
        step: What the framework calls the rerank. A span that is current here and has no such word
            in its name is somebody else's.
        known: More spans of OpenTelemetry's that are the rerank's, whatever their names; a None is
            skipped.
        before: `current_spans` of before the rerank, which are somebody else's even by that name.
    """
    for span in known:
        with harmless():
            if span is not None:
                span.set_attributes(_attributes(ranking))
    for span, attributes in zip(current_spans(), (_attributes, _attributes_of_mlflow), strict=True):
        with harmless():
            if span is None or any(span is each for each in before):
                continue
            if _is_named(span, step):
                span.set_attributes(attributes(ranking))


@contextlib.contextmanager
def harmless() -> Iterator[None]:
    """Keeps the fault of one tracer from the ranking, and from what another one is told."""
    try:
        yield
    except Exception:  # noqa: BLE001  a tracer's
        _log.warning(_FAULT, exc_info=True)


def _current(library: str, getter: str) -> Any | None:
    get = getattr(sys.modules.get(library), getter, None)  # not loaded: nobody traces with it
    try:
        return None if get is None else get()
    except Exception:  # noqa: BLE001  a tracer's
        _warn_of(library)
        return None


@functools.cache  # it is asked twice in each call
def _warn_of(library: str) -> None:
    _log.warning("%s does not say which span is current. %s", library, _FAULT, exc_info=True)


def _is_named(span: Any, step: str) -> bool:
    return re.search(rf"\b{re.escape(step)}\b", getattr(span, "name", "")) is not None


def _attributes(ranking: Ranking) -> dict[str, Any]:
    """What OpenTelemetry's own conventions, OpenInference's and Langfuse's call it."""
    used, cost = tokens(ranking).get("total_tokens"), dollars(ranking).get("total_cost")
    return named(ranking) | _known(
        **{
            "gen_ai.request.model": ranking.model,
            "gen_ai.usage.input_tokens": used,
            "gen_ai.usage.total_tokens": used,
            "llm.token_count.prompt": used,
            "llm.token_count.total": used,
            "llm.cost.prompt": cost,
            "llm.cost.total": cost,
            "langfuse.observation.usage_details": _json(input=used, total=used),
            "langfuse.observation.cost_details": _json(input=cost, total=cost),
            "langfuse.observation.metadata.qwen_rerank": _json(**facts(ranking)),
        }
    )


def _attributes_of_mlflow(ranking: Ranking) -> dict[str, Any]:
    told = {
        "mlflow.llm.model": ranking.model,
        "mlflow.chat.tokenUsage": tokens(ranking),
        "mlflow.llm.cost": dollars(ranking),
    }
    return named(ranking) | {name: value for name, value in told.items() if value}


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _json(**values: Any) -> str | None:
    known = _known(**values)
    return json.dumps(known) if known else None
