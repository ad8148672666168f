"""The project's own rules: front doors, light imports, docstrings that run."""

import doctest
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*qwen_rerank/__init__.py"))
DOORS = [name for name in PACKAGES if name != "qwen_rerank"]


def fresh(code: str, *arguments: str) -> str:
    """What *code* prints in a new interpreter."""
    done = subprocess.run(  # noqa: S603  our own interpreter, our own code
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_one_version():
    """The packages, the distribution and the changelog speak of the same version."""
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    versions = {importlib.import_module(name).__version__ for name in PACKAGES or ["qwen_rerank"]}
    assert versions == {PYPROJECT["project"]["version"]} == {newest[1]}


def _places(value, name: str, where: str = ""):
    """Where in *value*, a part of pyproject.toml, the package *name* stands."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):  # perhaps of contracts, which have names
        parts = ((each.get("name", "") if isinstance(each, dict) else "", each) for each in value)
    else:
        return {where} if re.search(rf"\b{name}\b", str(value)) else set()
    return {place for key, each in parts for place in _places(each, name, f"{where} {key}".strip())}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_is_checked(door):
    """Whatever builds, types, measures or checks one door in pyproject.toml does it for all."""
    assert _places(PYPROJECT, door) == set.union(*(_places(PYPROJECT, name) for name in DOORS))
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert _extra(door) in extras.keys() & set(re.findall(r"[\w-]+", extras["all"][0]))


def _extra(package: str) -> str:
    return package.removesuffix("_qwen_rerank").removeprefix("qwen_rerank.").replace("_", "-")


def test_core_is_light():
    """What the core exports brings neither an http library nor a framework, and nothing unasked."""
    heavy = {"httpx", "aiohttp", "dashscope", "langchain_core", "llama_index", "fastapi", "rich"}
    code = "import sys, json; {}; print(json.dumps(list(sys.modules)))"

    assert not heavy & set(json.loads(fresh(code.format("from qwen_rerank import *"))))
    assert "pydantic" not in json.loads(fresh(code.format("import qwen_rerank")))


def test_a_name_that_is_not_there():
    """`dir` shows what is imported when it is asked for; what is not there is an error."""
    shown = fresh(
        "import qwen_rerank as ours; "
        "print('Reranker' in dir(ours), hasattr(ours, 'Rerankr'), ours.errors.__name__)"
    )

    assert shown == "True False qwen_rerank.errors"


@pytest.mark.parametrize("package", [*DOORS, "qwen_rerank.emulator"])
def test_missing_framework(package):
    """Without its framework a door says in one sentence which extra to install."""
    missing = {
        "langchain_qwen_rerank": "langchain_core",
        "llama_index_qwen_rerank": "llama_index",
        "qwen_rerank.emulator": "fastapi",
    }[package]
    code = (
        "import sys\n"
        "sys.modules[sys.argv[2]] = None\n"
        "try: __import__(sys.argv[1])\n"
        "except ImportError as error: print(error)\n"
    )

    said = fresh(code, package, missing)

    assert f'pip install "qwen-rerank[{_extra(package)}]"' in said
    assert "\n" not in said


@pytest.mark.parametrize("package", PACKAGES)
def test_typed(package):
    """Every distributed package carries py.typed, so that type checkers believe it."""
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_docstring_examples(package):
    """Every package has examples in its docstrings, and they run as shown."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / package).rglob("*.py")
        if ">>>" in path.read_text()
    ]

    outcomes = [doctest.testmod(importlib.import_module(module)) for module in modules]

    assert sum(outcome.attempted for outcome in outcomes) > 0
    assert sum(outcome.failed for outcome in outcomes) == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize(
    ("outcome", "code", "then"),
    [("true", 0, "Passed. Next is make check"), ("false", 2, "make again")],
)
def test_make_test_says_what_next(outcome, code, then):
    """Its last line says whether the tests passed, and what to run next."""
    makefile = ["--no-print-directory", "--old-file=.venv/installed", "test"]  # make runs this too
    command = ["make", *makefile, f"PYTEST={outcome}"]
    done = subprocess.run(  # noqa: S603  our own Makefile
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert then in done.stdout.splitlines()[-1]
    assert done.returncode == code
