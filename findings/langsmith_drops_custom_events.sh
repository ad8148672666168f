#!/usr/bin/env bash
# langchain-core 1.8.3 with langsmith 0.15.1: what a step says with `dispatch_custom_event` never
# reaches LangSmith. `LangChainTracer` has no handler for custom events, so of the two facts that the
# step below tells, only the one that was added to its run's metadata is sent.
#
# Seen (Python 3.11):
#
#     requests to LangSmith: POST PATCH
#     the custom event was handled: True
#     the custom event was sent: False
#     the metadata was sent: True
#
# An integration that tells tokens or costs by a custom event alone is invisible there.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langchain-core==1.8.3 langsmith==0.15.1

cat >"$folder/tell.py" <<'PYTHON'
import requests
from langchain_core.callbacks import BaseCallbackHandler, dispatch_custom_event
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langsmith import Client


class Wire(requests.Session):
    """Answers in LangSmith's place, and keeps what it would have been sent."""

    def __init__(self):
        super().__init__()
        self.methods, self.sent = [], ""

    def request(self, method, url, **options):
        self.methods.append(method)
        self.sent += str(options["data"])
        answer = requests.Response()
        answer.status_code, answer._content = 202, b"{}"
        return answer


class Listener(BaseCallbackHandler):
    seen = ""

    def on_custom_event(self, name, data, **_):
        self.seen += str(data)


wire, listener = Wire(), Listener()
client = Client(
    api_url="http://127.0.0.1:1", api_key="none", session=wire, auto_batch_tracing=False, info={}
)
tracer = LangChainTracer(client=client, project_name="p")


def step(text, run_manager):
    dispatch_custom_event("usage", {"tokens": "told by the event"})
    tracer.run_map[str(run_manager.parent_run_id)].add_metadata({"tokens": "told by metadata"})
    return text


def run(text, config):
    return step(text, config["callbacks"])


RunnableLambda(run).invoke("hello", {"callbacks": [tracer, listener]})
print("requests to LangSmith:", *wire.methods)
print("the custom event was handled:", "told by the event" in listener.seen)
print("the custom event was sent:", "told by the event" in wire.sent)
print("the metadata was sent:", "told by metadata" in wire.sent)
PYTHON

diff - <("$folder/venv/bin/python" "$folder/tell.py") <<'SEEN'
requests to LangSmith: POST PATCH
the custom event was handled: True
the custom event was sent: False
the metadata was sent: True
SEEN
echo "as described"
