#!/usr/bin/env bash
# Seen with langgraph-checkpoint 4.3.2 and langchain-core 1.8.3, Python 3.11.
#
# A checkpoint of LangGraph changes what a frozen dataclass holds: a tuple comes back as a list, and
# an exception as its repr, a str. The class is allowed by name, what comes back is of that class,
# and nothing is logged. Output:
#
#     before: Answer(order=(1, 0), failed=TimeoutError('late'))
#     after: Answer(order=[1, 0], failed="TimeoutError('late')")
#     logged: []
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langgraph-checkpoint==4.3.2 langchain-core==1.8.3
cat >"$folder/run.py" <<'PYTHON'
import logging
import sys
from dataclasses import dataclass

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer


@dataclass(frozen=True)
class Answer:
    order: tuple[int, ...]
    failed: Exception | None


class Kept(logging.Handler):
    lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


logging.getLogger().addHandler(Kept())
sys.modules["answers"] = sys.modules["__main__"]
Answer.__module__ = "answers"  # where the checkpoint finds it again
serializer = JsonPlusSerializer(allowed_msgpack_modules=[Answer])
before = Answer((1, 0), TimeoutError("late"))
after = serializer.loads_typed(serializer.dumps_typed(before))
print("before:", before)
print("after:", after)
print("logged:", Kept.lines)
assert type(after) is Answer
PYTHON
diff <(sed -n 's/^#     //p' "$0") <("$folder/venv/bin/python" "$folder/run.py")
