"""The project's own rules: front doors, light imports, docstrings that run."""

import doctest
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import langchain_qwen_rerank
import llama_index_qwen_rerank
import qwen_rerank
import qwen_rerank.emulator

ROOT = Path(__file__).parents[1]
FRONT_DOORS = [qwen_rerank, qwen_rerank.emulator, langchain_qwen_rerank, llama_index_qwen_rerank]


def fresh(code: str, *arguments: str) -> str:
    """What *code* prints in a new interpreter."""
    done = subprocess.run(  # noqa: S603  our own interpreter, our own code
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", FRONT_DOORS, ids=lambda package: package.__name__)
def test_exports(package):
    """A package's __all__ is sorted, and every name in it is there."""
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def test_one_version():
    """The packages, the distribution and the changelog speak of the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert qwen_rerank.__version__ == project["version"] == newest[1]
    assert langchain_qwen_rerank.__version__ == llama_index_qwen_rerank.__version__ == newest[1]


@pytest.mark.parametrize("package", ["langchain_qwen_rerank", "llama_index_qwen_rerank"])
def test_opening_a_door_imports_no_sdk(package):
    """Neither the core nor a door imports dashscope."""
    code = "import sys, qwen_rerank, importlib; importlib.import_module(sys.argv[1]); "

    assert fresh(code + "print('dashscope' in sys.modules)", package) == "False"


def test_core_is_light():
    """`import qwen_rerank` brings neither an http library nor a framework."""
    heavy = ["httpx", "aiohttp", "dashscope", "langchain_core", "llama_index", "fastapi", "rich"]

    loaded = fresh("import sys, json, qwen_rerank; print(json.dumps(list(sys.modules)))")

    assert not set(heavy) & set(json.loads(loaded))


@pytest.mark.parametrize(
    ("package", "missing", "extra"),
    [
        ("langchain_qwen_rerank", "langchain_core", "langchain"),
        ("llama_index_qwen_rerank", "llama_index", "llama-index"),
        ("qwen_rerank.emulator", "fastapi", "emulator"),
    ],
)
def test_missing_framework(package, missing, extra):
    """Without its framework a door says in one sentence which extra to install."""
    code = (
        "import sys\n"
        "sys.modules[sys.argv[2]] = None\n"
        "try: __import__(sys.argv[1])\n"
        "except ImportError as error: print(error)\n"
    )

    said = fresh(code, package, missing)

    assert f'pip install "qwen-rerank[{extra}]"' in said
    assert "\n" not in said


@pytest.mark.parametrize("package", [qwen_rerank, langchain_qwen_rerank, llama_index_qwen_rerank])
def test_typed(package):
    """Every distributed package carries py.typed, so that type checkers believe it."""
    assert Path(package.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize(
    "module",
    [
        "qwen_rerank.reranker",
        "langchain_qwen_rerank.compressor",
        "langchain_qwen_rerank.retriever",
        "langchain_qwen_rerank.text",
        "llama_index_qwen_rerank.postprocessor",
    ],
)
def test_docstring_examples(module):
    """The examples in the docstrings run as shown."""
    outcome = doctest.testmod(importlib.import_module(module))

    assert (outcome.failed, outcome.attempted > 0) == (0, True)
