"""Writes the table in docs/thresholds.md and draws docs/thresholds.svg: `make picture`.

The passages are those of the running Python's reference; another version has other figures.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from qwen_rerank import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "thresholds.md"

_BLOCKS = re.compile(
    r"```shell\n(python .+)\n(qwen-rerank .+)\n```\n\n```text\n(.*?)```", re.DOTALL
)


def shown(folder: Path) -> tuple[str, bytes]:
    """What the page's commands print in *folder* now, and what they draw."""
    [(script, command, _)] = _BLOCKS.findall(PAGE.read_text(encoding="utf-8"))
    _, path, to = shlex.split(script)
    printed = io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"COLUMNS": "80"}),
        contextlib.redirect_stdout(printed),
    ):
        runpy.run_path(str(ROOT / path))["main"](Path(to))
        assert cli.main(shlex.split(command)[1:]) == 0  # else there is nothing to show
    return _trimmed(printed.getvalue()), (folder / "thresholds.svg").read_bytes()


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
