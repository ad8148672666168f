"""What the README and the pages show is what happens, and what they link to is there."""

import inspect
import json
import posixpath
import re
import shlex
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import install_lines
import pytest
import yaml
from page_blocks import EMULATOR_STARTED, PYTHON, ROOT, Evaluator, exports, run, shell
from sybil import Example

from qwen_rerank.cli._app import app

MARKDOWN = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)

_CONTINUES = r".*in the environment of \[[^]]+\]\([a-z-]+\.md\)"
_LEAVE_OUT = (
    "The last three lines put [the emulator](offline.md) in the service's place; with a key of "
    "your own, set `DASHSCOPE_API_KEY` to it instead."
)
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]*)(?:#([^)\s]*))?(?=\))")
_IMPORTS = r"^ *(?:import|from(?=.* import )) (\w+)"  # and no sentence that begins so
_ID = re.compile(r'<a id="([^"]+)">')


def _parse_json(example: Example) -> None:
    for line in example.parsed.strip().splitlines():
        json.loads(line)


def _parse_yaml(example: Example) -> None:
    assert yaml.safe_load(example.parsed)


def _parse(words: list[str]) -> None:
    with app.make_context(words[0], words[1:]) as context:
        name, command, arguments = app.resolve_command(context, words[1:])
        command.make_context(name, arguments, parent=context)


def _dry_run(example: Example) -> None:
    for command in example.parsed.strip().splitlines():
        words = [word for word in shlex.split(command) if not re.match("[A-Z_]+=", word)]
        if words[0] == "make":
            subprocess.run(  # noqa: S603  what our page says to type
                [*words, "--dry-run", "--quiet"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
        elif words[0] == "qwen-rerank":
            _parse(words[:-1] if words[-1] == "&" else words)
        elif words[:2] == [".venv/bin/nox", "--session"]:
            [session] = re.findall(r"^\w+", words[2])
            assert f"def {session}(" in (ROOT / "noxfile.py").read_text()
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file()
        elif words[:2] == ["pip", "install"]:
            for extras in re.findall(r"\[(.+?)\]", command):
                assert set(extras.split(",")) <= set(_PROJECT["project"]["optional-dependencies"])
        else:
            assert words[0] == "export"


_EVALUATORS: dict[str, Evaluator] = {
    **PYTHON,
    "json": _parse_json,
    "shell": _dry_run,
    "yaml": _parse_yaml,
}


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_examples(page, emulator, monkeypatch):
    """Every code block does what it shows, with a service only where the page says what to set."""
    imported = re.findall(_IMPORTS, (ROOT / page).read_text(), re.MULTILINE)
    if missing := sorted({name for name in imported if find_spec(name) is None}):
        pytest.skip(f"not installed: {', '.join(missing)}")

    def obey(example: Example) -> None:
        _dry_run(example)
        for name, value in exports(example.parsed, urlsplit(emulator.base_url).port).items():
            monkeypatch.setenv(name, emulator.api_key if value == "sk-emulator" else value)

    namespace = run(page, _EVALUATORS | {"shell": obey})
    for name in [name for name in namespace if name.startswith("test_")]:  # as a page shows them
        emulator.clear()
        monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)  # as its fixture does
        monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
        fixtures = {"qwen_rerank_emulator": emulator, "monkeypatch": monkeypatch}
        namespace[name](*map(fixtures.get, inspect.signature(namespace[name]).parameters))


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_blocks_are_all_examples(page):
    """No code block of a page escapes the test above."""
    kinds = set(re.findall(r"^```(\S+)", (ROOT / page).read_text(), re.MULTILINE))

    assert kinds <= _EVALUATORS.keys()


def test_the_first_screen_of_the_readme():
    """It has the command that shows the main job, and the one that tests."""
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])

    assert {"make demo", "make test"} <= set(shell(screen).splitlines())


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_it_says_what_to_install(page):
    """A page with something to run names its install line, or the page that it continues.

    Where its blocks ask a service, it says in the same words everywhere how to start the emulator.
    """
    text = (ROOT / page).read_text()
    typed = shell(text)
    if not re.search(r"^```(python|diff)|^(qwen-rerank|python examples)", text, re.MULTILINE):
        return
    installed = re.search(rf"^```shell\npip install |^{_CONTINUES}", text, re.MULTILINE)
    assert installed
    runs = re.search(r"^```(python|diff)", text, re.MULTILINE)
    assert runs is None or installed.start() < runs.start()
    if "export DASHSCOPE_BASE_URL" in typed:
        assert EMULATOR_STARTED in typed
        assert page == Path("docs/offline.md") or _LEAVE_OUT in " ".join(text.split())


@pytest.mark.parametrize("file", install_lines.files(ROOT), ids=lambda file: file.name)
def test_it_installs_from_where_there_is_something(file):
    """Every install line is as ``published`` in pyproject.toml has it."""
    text = file.read_text()

    assert install_lines.written(text, index=install_lines.published(ROOT)) == text


def _anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return {*slugs, *_ID.findall(text)}


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_links(page):
    """What a page links to in this project is there, down to the heading."""
    for target, anchor in _LINK.findall((ROOT / page).read_text()):
        path = posixpath.normpath(posixpath.join(page.parent.as_posix(), target or page.name))
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in _anchors(ROOT / path), f"{target}#{anchor}"


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_plain_words(page):
    """Pages for users call the parts of this project by the frameworks' words."""
    if page.name in ("CONTRIBUTING.md", "architecture.md"):
        pytest.skip("for whoever changes it")
    said = re.sub(r"`[^`]*`", "", (ROOT / page).read_text())

    assert not re.search(r"\b(door|room)s?\b", said, re.IGNORECASE)
