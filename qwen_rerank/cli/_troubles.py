"""What the command line says when something is missing or wrong. Nothing is found out here.

It needs no package but this one: it is what is left when the others are not installed.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Literal

from qwen_rerank.cli._extras import extra_for

__all__ = ["dropping", "masked", "missing", "said", "tell"]

_WRONG_BEFOREHAND = 2  # the exit code


def missing(command: str | None, error: ImportError) -> str:
    """Which package *command* lacks, and what installs all that it needs.

    Args:
        command: Such as ``"demo"``; None if none can be read.
        error: Why it could not be imported: the first cause knows, the last one only reports it.
    """
    causes: list[BaseException] = [error]
    while (inner := causes[-1].__cause__) is not None and inner not in causes:
        causes.append(inner)
    cause = causes[-1]
    typed = " ".join(filter(None, ("qwen-rerank", command)))
    if not isinstance(cause, ModuleNotFoundError):  # it is there, and another release than wanted
        return f"{typed} cannot be run with what is installed: {cause}"
    package = (getattr(cause, "name", None) or "a package").partition(".")[0]
    extra = extra_for(command, package)
    return f'{typed} needs {package}, which is not installed: pip install "qwen-rerank[{extra}]"'


def masked(text: str) -> str:
    """*text* without what looks like a key, which somebody may have typed in another's place."""
    return re.sub(r"sk-[\w-]{8,}", "sk-***", text)


def tell(sentence: str) -> None:
    """Tells standard error, with control characters spelled out."""
    shown = masked(sentence)
    tame = (each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in shown)
    if sys.stderr is not None:  # else it would be printed among the results
        with contextlib.suppress(OSError), dropping("stderr"):  # there is nobody else to tell
            print("".join(tame), file=sys.stderr, flush=True)


def said(sentence: str) -> int:
    """Tells standard error; the exit code for what is wrong beforehand."""
    tell(sentence)
    return _WRONG_BEFOREHAND


@contextlib.contextmanager
def dropping(output: Literal["stdout", "stderr"]) -> Iterator[None]:
    """Lets go of *output* if the block cannot write to it: Python tries again at its end."""
    try:
        yield
    except BrokenPipeError:
        raise  # click knows what to do where nobody reads any more
    except OSError:
        setattr(sys, output, None)
        raise
