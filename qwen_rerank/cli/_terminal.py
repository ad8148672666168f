"""How the commands speak on a terminal, with rich; what they say lives elsewhere.

What a file, the service or the network says is text of others: it is shown as `rich.text.Text`,
never as markup, and control characters in it are made visible.
"""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.prompt import Confirm
from rich.text import Text

from qwen_rerank._view import is_seen

__all__ = ["agreed", "open_console", "progress", "told", "visible", "waiting"]


def visible(text: str) -> str:
    """*text* in one line that says what it holds: no character moves the cursor or hides."""
    return "".join(
        character if is_seen(character) else character.encode("unicode_escape").decode()
        for character in " ".join(text.split())
    )


def open_console() -> Console:
    """A console on standard output that prints every character, if need be as a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False)


def told(error: Exception) -> str:
    """What is wrong with a file, and with which."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """A spinner beside *what* is done; nothing where there is no terminal."""
    if not console.is_terminal:
        yield
        return
    with console.status(Text(what, "dim")):
        yield


def progress(console: Console) -> Progress:
    """A progress bar that is gone when it is done; nothing where there is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(complete_style="cyan", finished_style="cyan"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console if console.is_terminal else Console(quiet=True),
        transient=True,
    )


def agreed(console: Console) -> bool:
    """Whether the user wants it sent; no answer is a no."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        return False  # Python's input takes all of them
    if not console.is_terminal and sys.stderr.isatty():  # nobody would see the question in a file
        console = Console(stderr=True, highlight=False)
    try:
        return Confirm.ask("Send them?", console=console, default=False)
    except EOFError:
        console.print()
        return False
