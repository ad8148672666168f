"""The commands that there are, and how each ends. What one takes and does lives in its folder.

Importing this imports nothing heavy; each command imports what it needs when it is run.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from qwen_rerank import __version__
from qwen_rerank.cli import demo, doctor, evaluate, rerank, serve
from qwen_rerank.cli._troubles import dropping, masked, missing, said

__all__ = ["app", "run"]

_FAILED = 1
_INTERRUPTED = 130  # the shells' exit code for Ctrl-C
_NOT_WRITTEN = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}  # a full disk
_NARROWEST, _WIDEST = 50, 100  # characters of a line of help


class _Commands(click.Group):
    """Commands that return their exit code, and whose troubles are a sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.commands)  # in this order, not the alphabet's

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # in here, as click knows what to do where nobody reads any more
        except ImportError as error:
            code = said(missing(ctx.invoked_subcommand, error))
        except ValueError as error:  # a setting refused before anything was sent
            from qwen_rerank.cli._words import complaint  # noqa: PLC0415  few have anything wrong

            told = filter(None, complaint(error, ctx.invoked_subcommand or ""))
            code = said(f"qwen-rerank {ctx.invoked_subcommand}: " + "\n".join(told))
        except KeyboardInterrupt:
            code = _INTERRUPTED
        ctx.exit(code)


app = _Commands(
    commands=[each.command for each in (demo, doctor, rerank, evaluate, serve)],
    help="DashScope's rerank models (qwen3-rerank and relatives): is the key good, rerank a file, "
    "measure it, and without a key a demo and a local stand-in.",
    epilog="\b\nTo complete commands and options in bash (or zsh_source, fish_source):\n"
    '  eval "$(_QWEN_RERANK_COMPLETE=bash_source qwen-rerank)"',
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
)
click.version_option(__version__, message="%(prog)s %(version)s")(app)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command that *argv*, or the process's own arguments, ask for; the exit code."""
    try:
        code: int = app.main(
            argv, "qwen-rerank", standalone_mode=False, terminal_width=_terminal_width()
        )
    except click.ClickException as error:  # wrong arguments
        told = io.StringIO()
        error.show(told)
        click.echo(masked(told.getvalue()), err=True, nl=False)
        return error.exit_code
    except click.Abort:  # Ctrl-C outside of a command
        return _INTERRUPTED
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        with contextlib.suppress(OSError), dropping("stdout"):
            sys.stdout.flush()
        said(f"qwen-rerank: {error}")
        return _FAILED
    return code


def _terminal_width() -> int:
    """How wide help is, by click's own rule; click asks `shutil`, whose import takes longest."""
    columns = 0
    with contextlib.suppress(ValueError):
        columns = int(os.environ.get("COLUMNS", ""))
    if columns <= 0:
        columns = 80
        with contextlib.suppress(OSError):  # it is no terminal
            columns = os.get_terminal_size().columns or columns
    return max(min(columns, _WIDEST) - 2, _NARROWEST)
