"""What the command line says when something is missing or wrong. Nothing is found out here.

It needs no package but this one: it is what is left when the others are not installed.
"""

import sys

from qwen_rerank.cli._extras import extra_for

__all__ = ["missing", "said"]

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
    package = (getattr(cause, "name", None) or "a package").partition(".")[0]
    typed = " ".join(filter(None, ("qwen-rerank", command)))
    extra = extra_for(command, package)
    return f'{typed} needs {package}, which is not installed: pip install "qwen-rerank[{extra}]"'


def said(sentence: str) -> int:
    """Tells standard error, with control characters spelled out; the exit code for it."""
    tame = (each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in sentence)
    print("".join(tame), file=sys.stderr)
    return _WRONG_BEFOREHAND
