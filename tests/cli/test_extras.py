"""The extra that a command names is one that installs all it imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from qwen_rerank.cli._app import app
from qwen_rerank.cli._extras import _OF_COMMANDS, _ON_REQUEST, extra_for

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CLI = Path(sys.modules["qwen_rerank.cli"].__file__).parent
DISTRIBUTIONS = packages_distributions()
_UNINSTALLED = {"llama_index": "llama-index-core"}  # where the environment does not tell
_BRING_THEIR_OWN = {
    "langchain_qwen_rerank": {"langchain_core"},
    "llama_index_qwen_rerank": {"llama_index"},
    "qwen_rerank.emulator": {"fastapi", "uvicorn"},
}


def _named(requirements):
    """The packages of *requirements*, and those of the extras of ours among them."""
    for each in requirements:
        name, extras = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", each).groups()
        if name == PROJECT["name"]:
            for extra in extras.split(","):
                yield from _named(EXTRAS[extra])
        else:
            yield name


def _imported(*folders):
    """What the modules in *folders* import of others, wherever in them that stands."""
    for file in (each for folder in folders for each in folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module


def _packages(command):
    """What a command takes that is neither Python's own nor asked for by one of its options."""
    modules = set(_imported(CLI, CLI / command))
    roots = {each.partition(".")[0] for each in modules}
    for ours, theirs in _BRING_THEIR_OWN.items():
        if any(f"{each}.".startswith(f"{ours}.") for each in modules):
            roots |= theirs
    return {
        each
        for each in roots - sys.stdlib_module_names - _ON_REQUEST.keys()
        if not each.endswith("qwen_rerank")
    }


def test_every_command_has_one():
    """No command is forgotten, and no extra is named that does not exist."""
    assert _OF_COMMANDS.keys() == app.commands.keys()
    named = [*_OF_COMMANDS.values(), *_ON_REQUEST.values(), extra_for(None, "click")]
    assert {each for extras in named for each in extras.split(",")} <= EXTRAS.keys()


@pytest.mark.parametrize("command", app.commands)
def test_it_installs_what_the_command_imports(command):
    """Whoever installs the extra that is named is never told of a second one."""
    extra = extra_for(command, "any")
    brought = set(_named([*PROJECT["dependencies"], f"{PROJECT['name']}[{extra}]"]))

    for package in _packages(command):
        names = {
            each.lower().replace("_", "-")
            for each in DISTRIBUTIONS.get(package, [_UNINSTALLED.get(package, package)])
        }
        assert names & brought, f"{command} imports {package}"


@pytest.mark.parametrize(("package", "extra"), _ON_REQUEST.items())
def test_what_an_option_takes(package, extra):
    """A package that one option takes is in an extra of its own, whatever the command."""
    assert package in set(_named(EXTRAS[extra]))
    assert extra_for("evaluate", package) == extra


def test_all_is_all():
    """``qwen-rerank[all]`` installs what any of the others does."""
    others = {name for extra in EXTRAS.keys() - {"all"} for name in _named(EXTRAS[extra])}
    assert set(_named(EXTRAS["all"])) == others
