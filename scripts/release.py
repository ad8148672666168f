"""The release checklist: checks all that can be checked, and says what is left. It uploads nothing.

    python scripts/release.py
    python scripts/release.py --publish    # the pages install from the package index; commit that

First come the questions that take no time, then every command that has to pass, which takes hours
on two cores. It stops at the first answer that is no.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import install_lines

ROOT = Path(__file__).parents[1]
COMMANDS = (
    ("make", "check"),
    ("make", "test"),
    ("make", "faults-all"),
    ("make", "docs"),
    ("make", "pages"),
    ("make", "demo"),
    ("make", "nox"),
)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607  whichever git there is
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def version(root: Path) -> str:
    """The version in pyproject.toml."""
    found: str = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return found


def problems(root: Path) -> Iterator[str]:
    """What keeps the checkout at *root* from being released, before anything is run."""
    wanted = version(root)
    newest = re.search(
        r"^## (\S+) \((.*)\)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    if newest is None:
        yield 'CHANGELOG.md has no entry such as "## 1.2.0 (2026-12-31)"'
    else:
        if newest[1] != wanted:
            yield f"CHANGELOG.md begins with {newest[1]}, pyproject.toml says {wanted}"
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", newest[2]):
            yield f"CHANGELOG.md has ({newest[2]}) where the date of the release belongs"
    package = (root / "qwen_rerank" / "__init__.py").read_text("utf-8")
    if f'__version__ = "{wanted}"' not in package:
        yield f"qwen_rerank.__version__ is not {wanted}"
    if not install_lines.published(root):
        yield "the pages install from a clone: python scripts/release.py --publish turns them"
    if changed := _git(root, "status", "--porcelain"):
        yield f"the tree is not clean:\n{changed}"
    if (branch := _git(root, "branch", "--show-current")) != "main":
        yield f"this is the branch {branch or '(none)'}, not main"
    if _git(root, "tag", "--list", f"v{wanted}"):
        yield f"the tag v{wanted} is there already"


def main(*arguments: str) -> int:
    """Returns 0 if only what is printed at the end is left to be done."""
    if arguments == ("--publish",):
        install_lines.turn(ROOT, index=True)
        print("The pages install from the package index. Look at git diff, and commit it.")
        return 0
    if found := list(problems(ROOT)):
        print("Not yet:", *found, sep="\n- ")
        return 1
    for command in COMMANDS:
        print("$", *command, flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            print("Not yet:", *command, "failed")
            return 1
    wanted = version(ROOT)
    print(
        f"""All of it passes, and dist/ holds what was tested. Left to be done by hand:
- read CHANGELOG.md as a user would
- with a key, if there is one: make live, and its date and findings into README.md
- git tag --annotate v{wanted} --message "qwen-rerank {wanted}"
- git push origin main v{wanted}, which starts .github/workflows/release.yml
- in an empty environment: pip install "qwen-rerank[all]=={wanted}" and qwen-rerank demo
- the next version in pyproject.toml, qwen_rerank/__init__.py and CHANGELOG.md (unreleased)"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
