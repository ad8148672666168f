"""How the pages say to install this project: from a clone, until a release is published.

`published` in pyproject.toml says which; scripts/release.py turns it, with every line that follows
from it, and a test compares them.
"""

import re
import tomllib
from pathlib import Path

NAME = "qwen-rerank"
# What is said of a clone, and of the package index.
_SAID = (
    ("From a clone of the project:", "From the package index:"),
    (
        "It is not on the package index yet, so pages install it from a clone;",
        "Pages install it from the package index;",
    ),
)
_CLONE = " @ file:///path/of/a/clone"  # behind its name in a requirements.txt

_LINE = re.compile(
    rf'(?<=pip install )(?:"(?:\.|{NAME})(\[[\w,-]+\])"|(?:\.|{NAME})(?=[\s`]|$))', re.MULTILINE
)
_REQUIREMENT = re.compile(rf"(?<=\bas\s`)({NAME}\[[\w,-]+\])(?:{_CLONE})?(?=`)")
_SWITCH = re.compile(r"^published = (?:true|false)$", re.MULTILINE)


def published(root: Path) -> bool:
    """Whether the checkout at *root* belongs to a release that the package index has."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    answer: bool = project["tool"][NAME]["published"]
    return answer


def files(root: Path) -> list[Path]:
    """Where install lines stand."""
    patterns = ("README.md", "docs/**/*.md", "notebooks/README.md", "examples/*.py")
    return sorted(file for pattern in patterns for file in root.glob(pattern))


def written(text: str, *, index: bool) -> str:
    """*text* with each install line as it is from the package *index*, or else from a clone."""
    name, place = (NAME, "") if index else (".", _CLONE)

    def line(found: re.Match[str]) -> str:
        return f'"{name}{found[1]}"' if found[1] else name

    for of_clone, of_index in _SAID:
        text = text.replace(*((of_clone, of_index) if index else (of_index, of_clone)))
    return _REQUIREMENT.sub(rf"\1{place}", _LINE.sub(line, text))


def turn(root: Path, *, index: bool) -> None:
    """Writes the switch in pyproject.toml, and all lines that follow from it."""
    switch = root / "pyproject.toml"
    text = _SWITCH.sub(f"published = {str(index).lower()}", switch.read_text("utf-8"))
    switch.write_text(text, encoding="utf-8")
    for file in files(root):
        text = file.read_text("utf-8")
        if (turned := written(text, index=index)) != text:
            file.write_text(turned, encoding="utf-8")
