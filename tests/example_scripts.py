"""The scripts of examples/, loaded by their path and run, as tests need them. No test is here."""

import importlib.util
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """The module of the example *name*, which is no part of any package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    """Runs the example as a program, in this process: a new one takes seconds to import it.

    Returns:
        Its exit code.
    """
    path = str(EXAMPLES / f"{name}.py")
    with patch.object(sys, "argv", [path, *arguments]):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            return end.code
    return 0
