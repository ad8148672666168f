"""A process in which one contender runs with its own imports only, and does what it is told.

Contenders are interleaved by telling one worker after another to run; between runs they wait.
"""

import importlib
import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self


class Worker:
    """A python process that calls functions of this package, in a ``with`` block."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, function: Any, **arguments: Any) -> Any:
        """What *function*, which its module must have at top level, returns over there."""
        told = {"module": function.__module__, "name": function.__name__, "arguments": arguments}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the worker died in {function.__module__}.{function.__name__}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.stdin.close()  # it ends when this does, however we end
        self._process.wait(timeout=10)
        self._process.stdout.close()


def _work() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # a contender that prints must not garble them
    for line in sys.stdin:
        told = json.loads(line)
        function = getattr(importlib.import_module(told["module"]), told["name"])
        print(json.dumps(function(**told["arguments"])), file=answers, flush=True)


if __name__ == "__main__":
    _work()
