"""Writes the table in docs/thresholds.md and draws docs/thresholds.svg: `make picture`.

The passages are those of the running Python's reference; another version has other figures.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "thresholds.md"

_BLOCKS = re.compile(
    r"```shell\n(python .+)\n(qwen-rerank .+)\n```\n\n```text\n(.*?)```", re.DOTALL
)


def shown(folder: Path) -> tuple[str, bytes]:
    """What the page's commands print in *folder* now, and what they draw."""
    [(script, command, _)] = _BLOCKS.findall(PAGE.read_text(encoding="utf-8"))
    _, path, *to = shlex.split(script)
    _run(folder, str(ROOT / path), *to)
    printed = _run(folder, "-m", "qwen_rerank.cli", *shlex.split(command)[1:])
    return _trimmed(printed), (folder / "thresholds.svg").read_bytes()


def _run(folder: Path, *words: str) -> str:
    return subprocess.run(  # noqa: S603  what our page says to type
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout


def stored() -> str:
    """What the page says that they print."""
    [(_, _, printed)] = _BLOCKS.findall(PAGE.read_text(encoding="utf-8"))
    return printed


def _trimmed(printed: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def main() -> None:
    """Runs, writes and draws."""
    with TemporaryDirectory() as folder:
        printed, picture = shown(Path(folder))
    page = PAGE.read_text(encoding="utf-8")
    [at] = [found.span(3) for found in _BLOCKS.finditer(page)]
    PAGE.write_text(page[: at[0]] + printed + page[at[1] :], encoding="utf-8")
    PAGE.with_suffix(".svg").write_bytes(picture)


if __name__ == "__main__":
    main()
