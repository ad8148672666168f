"""The scripts of examples/, loaded by their path and run, as tests need them. No test is here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """The module of the example *name*, which is no part of any package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments, warnings=("-W", "error")):
    """What the example put out, with every warning an error unless *warnings* say otherwise."""
    return subprocess.run(  # noqa: S603  our own interpreter, our own script
        [sys.executable, *warnings, str(EXAMPLES / f"{name}.py"), *arguments],
        env={key: value for key, value in os.environ.items() if not key.startswith("COV_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
