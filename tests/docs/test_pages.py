"""What the README and the pages show is what happens, and what they link to is there."""

import json
import posixpath
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from qwen_rerank.cli._app import app

ROOT = Path(__file__).parents[2]
MARKDOWN = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
# What these show besides the output of examples, other tests make anew.
RECORDED = {
    Path("docs", name)
    for name in ("faults.md", "own-servers-seen.md", "soak.md", "thresholds.md", "tracing.md")
}

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]*)(?:#([^)\s]*))?(?=\))")
_ID = re.compile(r'<a id="([^"]+)">')


def _run(example: Example) -> None:
    _nothing_unshown(example.namespace)
    printed: list[str] = []
    example.namespace["print"] = lambda *values: printed.append(" ".join(map(str, values)))
    exec(compile(example.parsed, example.path, "exec"), example.namespace)  # noqa: S102  our pages
    example.namespace["printed"] = "\n".join(printed)


def _nothing_unshown(namespace: dict[str, Any]) -> None:
    assert not namespace.pop("printed", ""), "the page does not show what this prints"


def _compare(example: Example) -> None:
    printed = example.namespace.pop("printed", None)
    if printed is None and Path(example.path).relative_to(ROOT) in RECORDED:
        return
    assert printed == example.parsed.strip()


def _run_after(example: Example) -> None:
    """What a change leads to runs; what it leaves behind needs packages that are not here."""
    after = "\n".join(line[1:] for line in example.parsed.splitlines() if line[:1] in " +")
    exec(compile(after, example.path, "exec"), example.namespace)  # noqa: S102  our pages


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
            _parse(words)
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file()
        elif words[:2] == ["pip", "install"]:
            for extras in re.findall(r"\[(.+?)\]", command):
                assert set(extras.split(",")) <= set(_PROJECT["project"]["optional-dependencies"])
        else:
            assert words[0] == "export"


_PARSERS: dict[str, Callable[[Example], None]] = {
    "python": _run,
    "text": _compare,
    "diff": _run_after,
    "json": _parse_json,
    "shell": _dry_run,
    "yaml": _parse_yaml,
}


def _examples(page: Path) -> Iterator[Example]:
    parsers = [CodeBlockParser(kind, evaluate) for kind, evaluate in _PARSERS.items()]
    return Sybil(parsers, path=str(ROOT)).parse(ROOT / page).examples()


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_examples(page, emulator, monkeypatch):
    """Every code block does what it shows; the service that it finds is the emulator."""
    imported = re.findall(r"^ *(?:from|import) (\w+)", (ROOT / page).read_text(), re.MULTILINE)
    if missing := sorted({name for name in imported if find_spec(name) is None}):
        pytest.skip(f"not installed: {', '.join(missing)}")
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    namespace: dict[str, Any] = {}
    for example in _examples(page):
        example.evaluate()
        namespace = example.namespace
    _nothing_unshown(namespace)
    for name in [name for name in namespace if name.startswith("test_")]:  # as a page shows them
        emulator.clear()
        namespace[name](emulator)


@pytest.mark.parametrize("page", MARKDOWN, ids=str)
def test_blocks_are_all_examples(page):
    """No code block of a page escapes the test above."""
    kinds = set(re.findall(r"^```(\S+)", (ROOT / page).read_text(), re.MULTILINE))

    assert kinds <= _PARSERS.keys()


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
