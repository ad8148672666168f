"""What the command line says when something is missing or wrong. Nothing is found out here.

It needs no package but this one: it is what is left when the others are not installed.
"""

import re
import sys

from qwen_rerank.cli._extras import extra_for

__all__ = ["masked", "missing", "said"]

_WRONG_BEFOREHAND = 2  # the exit code


def missing(command: str | None, error: ImportError) -> str:
    """Which package *command* lacks, and what installs all that it needs.

    Args:
        command: Such as ``"demo"``; None if none can be read.
        error: Why it could not be imported: the first cause knows, the last one only reports it.
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    typed = " ".join(filter(None, ("qwen-rerank", command)))
    if not isinstance(cause, ModuleNotFoundError):  # it is there, and another release than wanted
        return f"{typed} cannot be run with what is installed: {cause}"
    package = (getattr(cause, "name", None) or "a package").partition(".")[0]
    extra = extra_for(command, package)
    return f'{typed} needs {package}, which is not installed: pip install "qwen-rerank[{extra}]"'


def masked(text: str) -> str:
    """*text* without what looks like a key, which somebody may have typed in another's place."""
    return re.sub(r"sk-[\w-]{8,}", "sk-***", text)


def said(sentence: str) -> int:
    """Tells standard error, with control characters spelled out; the exit code for it."""
    shown = masked(sentence)
    tame = (each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in shown)
    if sys.stderr is not None:  # else it would be printed among the results
        print("".join(tame), file=sys.stderr)
    return _WRONG_BEFOREHAND
