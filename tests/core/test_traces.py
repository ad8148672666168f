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


@pytest.fixture(name="opened")
def _opened(monkeypatch):
    """Makes *span* the current one of *library*, which need not be installed."""

    def opened(library, getter, span):
        module = ModuleType(library)
        setattr(module, getter, lambda: span)
        monkeypatch.setitem(sys.modules, library, module)
        return span

    return opened


@pytest.fixture(name="in_otel")
def _in_otel(opened):
    return lambda span: opened("opentelemetry.trace", "get_current_span", span)


@pytest.fixture(name="in_mlflow")
def _in_mlflow(opened):
    return lambda span: opened("mlflow", "get_current_active_span", span)


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


def test_dollars(in_otel, in_mlflow):
    """A cost in dollars is told in the words of each tracer."""
    otel, mlflow = in_otel(Span()), in_mlflow(Span())

    tell_spans(ranking(tokens=40, cost=0.5, currency="USD"), STEP)

    assert otel.attributes["llm.cost.total"] == otel.attributes["qwen_rerank.cost"] == 0.5
    assert otel.attributes["langfuse.observation.cost_details"] == '{"input": 0.5, "total": 0.5}'
    assert otel.attributes["langfuse.observation.usage_details"] == '{"input": 40, "total": 40}'
    assert mlflow.attributes["mlflow.llm.cost"]["total_cost"] == 0.5
    assert mlflow.attributes["mlflow.chat.tokenUsage"] == {
        "input_tokens": 40,
        "output_tokens": 0,
        "total_tokens": 40,
    }


def test_another_currency(in_otel, in_mlflow):
    """Where a tracer means dollars, a cost in yuan is not told; by our own name it is."""
    otel, mlflow = in_otel(Span()), in_mlflow(Span())
    yuan = ranking(tokens=40, cost=0.5, currency="CNY")

    tell_spans(yuan, STEP)

    assert dollars(yuan) == {}
    assert "mlflow.llm.cost" not in mlflow.attributes
    assert not {"llm.cost.total", "langfuse.observation.cost_details"} & otel.attributes.keys()
    for span in (otel, mlflow):
        assert span.attributes["qwen_rerank.cost"] == 0.5
        assert span.attributes["qwen_rerank.currency"] == "CNY"


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


def _unknown():
    raise RuntimeError("no store")


@pytest.mark.parametrize("broken", ["otel", "mlflow"])
def test_a_tracer_that_fails(in_otel, in_mlflow, caplog, broken):
    """A tracer's fault is logged, and costs neither the ranking nor what another one is told."""
    spans = {"otel": in_otel(Span()), "mlflow": in_mlflow(Span())}
    spans.pop(broken).set_attributes = None
    (whole,) = spans.values()

    tell_spans(ranking(tokens=1), STEP)

    assert whole.attributes["qwen_rerank.tokens"] == 1
    assert caplog.text.count("could not be told") == 1


@pytest.mark.parametrize(
    ("broken", "getter"),
    [
        ("opentelemetry.trace", "get_current_span"),
        ("mlflow", "get_current_active_span"),
    ],
)
def test_a_tracer_that_knows_no_span(in_otel, in_mlflow, monkeypatch, caplog, broken, getter):
    """Nor does one that cannot say which span is current, of which the log says so once."""
    spans = {"opentelemetry.trace": in_otel(Span()), "mlflow": in_mlflow(Span())}
    spans.pop(broken)
    (whole,) = spans.values()
    monkeypatch.setattr(sys.modules[broken], getter, _unknown)
    traces._warn_of.cache_clear()

    for _ in range(2):
        assert whole in current_spans()
        tell_spans(ranking(tokens=1), STEP)

    assert whole.attributes["qwen_rerank.tokens"] == 1
    assert caplog.text.count("could not be told") == 1
    assert "RuntimeError: no store" in caplog.text
