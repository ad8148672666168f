"""What a rerank has cost, as tracers' spans say it."""

import sys
from types import ModuleType

import pytest

from qwen_rerank import Ranking, Usage, traces
from qwen_rerank.traces import current_spans, dollars, facts, named, tell_spans, tokens

STEP = "QwenRerank"


def ranking(**usage):
    """A ranking that has cost *usage*."""
    return Ranking((), "qwen3-rerank", Usage(requests=1, **usage), request_ids=("an id",))


class Span:
    """A span of a tracer that takes everything."""

    def __init__(self, name=STEP):
        self.name, self.attributes = name, {}

    def set_attributes(self, attributes):
        """Keep *attributes*."""
        self.attributes |= attributes


# Their modules, which need not be installed, and how they tell the current span.
_TRACERS = (("opentelemetry.trace", "get_current_span"), ("mlflow", "get_current_active_span"))


def _opens(monkeypatch, library, getter):
    def opened(span):
        module = ModuleType(library)
        setattr(module, getter, lambda: span)
        monkeypatch.setitem(sys.modules, library, module)
        return span

    return opened


@pytest.fixture(name="in_otel")
def _in_otel(monkeypatch):
    """Makes a span the current one of OpenTelemetry."""
    return _opens(monkeypatch, *_TRACERS[0])


@pytest.fixture(name="in_mlflow")
def _in_mlflow(monkeypatch):
    """Makes a span the current one of MLflow."""
    return _opens(monkeypatch, *_TRACERS[1])


def test_unknown_is_left_out(in_otel, in_mlflow):
    """Tokens that a server did not report, and a cost without a price, are no 0 in any trace."""
    spans = [in_otel(Span()), in_mlflow(Span())]
    unknown = ranking(tokens=None)

    tell_spans(unknown, STEP)

    assert tokens(unknown) == dollars(unknown) == {}
    assert facts(unknown).keys() == {
        *("model", "requests", "cache_hits", "request_ids", "truncated", "query_truncated")
    }
    for span in spans:
        assert "token" not in str(span.attributes)
        assert "cost" not in str(span.attributes)
        assert None not in span.attributes.values()


@pytest.mark.parametrize("currency", ["USD", "CNY"])
def test_a_cost(in_otel, in_mlflow, currency):
    """Tokens and a cost in dollars are told in the words of each tracer.

    Where those mean dollars, a cost in yuan is not told; by our own name it is.
    """
    otel, mlflow = in_otel(Span()).attributes, in_mlflow(Span()).attributes

    tell_spans(ranking(tokens=40, cost=0.5, currency=currency), STEP)

    for told in (otel, mlflow):
        assert (told["qwen_rerank.cost"], told["qwen_rerank.currency"]) == (0.5, currency)
    used = {"input_tokens": 40, "output_tokens": 0, "total_tokens": 40}
    assert mlflow["mlflow.chat.tokenUsage"] == used
    assert otel["langfuse.observation.usage_details"] == '{"input": 40, "total": 40}'
    in_dollars = (
        otel.get("llm.cost.total"),
        otel.get("langfuse.observation.cost_details"),
        mlflow.get("mlflow.llm.cost", {}).get("total_cost"),
    )
    if currency == "USD":
        assert in_dollars == (0.5, '{"input": 0.5, "total": 0.5}', 0.5)
    else:
        assert in_dollars == (None, None, None)


def test_spans_of_others(in_otel, in_mlflow):
    """What is current and has another name, or none, is somebody else's."""
    others = [in_otel(Span("POST /ask")), in_mlflow(Span(f"{STEP}Retriever"))]
    mine = Span("any name")

    tell_spans(ranking(tokens=1), STEP, [None, mine])

    assert [span.attributes for span in others] == [{}, {}]
    assert mine.attributes.items() >= named(ranking(tokens=1)).items()

    in_otel(object())
    in_mlflow(None)
    tell_spans(ranking(tokens=1), STEP)


def test_spans_from_before(in_otel, in_mlflow):
    """Nor is one the rerank's that was current before it, whatever its name."""
    spans = in_otel(Span()), in_mlflow(Span())
    before = current_spans()

    tell_spans(ranking(tokens=1), STEP, before=before)
    assert [span.attributes for span in spans] == [{}, {}]

    inner = in_otel(Span())
    tell_spans(ranking(tokens=1), STEP, before=before)
    assert inner.attributes["qwen_rerank.tokens"] == 1


@pytest.mark.parametrize("name", [STEP, f"vector_db_retrieve {STEP}", f"{STEP}._postprocess_nodes"])
def test_names_of_spans(in_otel, name):
    """Tracers put words of their own around the step's."""
    span = in_otel(Span(name))

    tell_spans(ranking(tokens=1), STEP)

    assert span.attributes["qwen_rerank.tokens"] == 1


def test_no_tracer_is_imported(monkeypatch):
    """A tracer that nobody has loaded stays so."""
    for name in ("opentelemetry.trace", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    tell_spans(ranking(tokens=1), STEP)

    assert not {"opentelemetry.trace", "mlflow"} & sys.modules.keys()


@pytest.mark.parametrize("broken", [0, 1])
def test_a_tracer_that_fails(in_otel, in_mlflow, caplog, broken):
    """A tracer's fault is logged, and costs neither the ranking nor what another one is told."""
    spans = [in_otel(Span()), in_mlflow(Span())]
    spans.pop(broken).set_attributes = None

    tell_spans(ranking(tokens=1), STEP)

    assert spans[0].attributes["qwen_rerank.tokens"] == 1
    assert caplog.text.count("could not be told") == 1


@pytest.mark.parametrize("broken", [0, 1])
def test_a_tracer_that_knows_no_span(in_otel, in_mlflow, monkeypatch, caplog, broken):
    """Nor does one that cannot say which span is current, of which the log says so once."""
    spans = [in_otel(Span()), in_mlflow(Span())]
    spans.pop(broken)
    monkeypatch.setattr(sys.modules[_TRACERS[broken][0]], _TRACERS[broken][1], _no_store)
    traces._warn_of.cache_clear()

    for _ in range(2):
        assert spans[0] in current_spans()
        tell_spans(ranking(tokens=1), STEP)

    assert spans[0].attributes["qwen_rerank.tokens"] == 1
    assert caplog.text.count("could not be told") == 1
    assert "RuntimeError: no store" in caplog.text


def _no_store():
    raise RuntimeError("no store")
