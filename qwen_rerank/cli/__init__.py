"""The `qwen-rerank` command, where its process begins. Which commands there are says `_app`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that *argv*, or the process's own arguments, ask for.

    Returns:
        The exit code: 0 done, 1 failed or declined, 2 something is missing or wrong beforehand,
        130 interrupted; `rerank` has more, which its help says.
    """
    try:
        from qwen_rerank.cli._app import run  # noqa: PLC0415  click, which an extra installs
    except ImportError as error:
        from qwen_rerank.cli._troubles import missing, said  # noqa: PLC0415  only then

        return said(missing(None, error))
    return run(argv)
