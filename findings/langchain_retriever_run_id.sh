#!/usr/bin/env bash
# Seen with langchain-core 1.8.3, Python 3.11.
#
# RunnableConfig has run_id, the id of the call's own run in tracers. Other runnables take it from
# the config, a retriever only from a keyword argument of invoke(): given in the config, as
# documented, it is dropped, and what is later written to that run (feedback, for one) finds none.
# Output:
#
#     RunnableLambda, in the config: kept
#     retriever, in the config: dropped
#     retriever, as a keyword argument: kept
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langchain-core==1.8.3
cat >"$folder/run.py" <<'PYTHON'
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler


class Store(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return [Document("text")]


def shown(name, runnable, in_config, by_keyword):
    collector = RunCollectorCallbackHandler()
    runnable.invoke("question", {"callbacks": [collector], **in_config}, **by_keyword)
    kept = collector.traced_runs[0].id == own
    print(f"{name}: {'kept' if kept else 'dropped'}")


own = uuid4()
shown("RunnableLambda, in the config", RunnableLambda(str), {"run_id": own}, {})
shown("retriever, in the config", Store(), {"run_id": own}, {})
shown("retriever, as a keyword argument", Store(), {}, {"run_id": own})
PYTHON
diff <(sed -n 's/^#     //p' "$0") <("$folder/venv/bin/python" "$folder/run.py")
