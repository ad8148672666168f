#!/usr/bin/env bash
# opentelemetry-instrumentation-langchain 0.62.4 (Traceloop) with langchain-core 1.8.3:
# `LangchainInstrumentor().uninstrument()` does not take back what `instrument()` did. Runs are traced
# as before, into the provider that was given first.
#
# The callback manager's `__init__` is wrapped, and `unwrap("langchain_core.callbacks",
# "BaseCallbackManager.__init__")` looks for one attribute of that dotted name, which no module has;
# nothing is unwrapped and nothing is said.
#
# Seen (Python 3.11):
#
#     spans while instrumented: 1
#     spans after uninstrument: 1
#
# A process that switches tracing off, or a test suite that does so after each test, goes on sending.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langchain-core==1.8.3 opentelemetry-sdk==1.45.2 \
	opentelemetry-instrumentation-langchain==0.62.4

cat >"$folder/trace.py" <<'PYTHON'
from langchain_core.runnables import RunnableLambda
from opentelemetry.instrumentation.langchain import LangchainInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
step = RunnableLambda(str.upper, name="step")

LangchainInstrumentor().instrument(tracer_provider=provider)
step.invoke("hello")
print("spans while instrumented:", len(exporter.get_finished_spans()))

exporter.clear()
LangchainInstrumentor().uninstrument()
step.invoke("hello")
print("spans after uninstrument:", len(exporter.get_finished_spans()))
PYTHON

diff - <("$folder/venv/bin/python" "$folder/trace.py") <<'SEEN'
spans while instrumented: 1
spans after uninstrument: 1
SEEN
echo "as described"
