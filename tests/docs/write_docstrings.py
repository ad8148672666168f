"""Writes what each option does into the docstrings of the rerankers: `make docstrings`.

It stands once in the code, below the option, where editors find it for an argument. In the
docstring of the class `help` finds it, and notebooks, and editors that show a call's signature.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import Reranker

__all__ = ["KINDS", "said_of", "written"]

KINDS = (Reranker, langchain_qwen_rerank.QwenRerank, llama_index_qwen_rerank.QwenRerank)
_WIDTH = 100
_SECTION = r"(?s)(class {}\(.*?\n    Args:\n).*?(?=\n\n)"


def said_of(kind: type) -> dict[str, str]:
    """What stands below each option of *kind*, in the order of its signature."""
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if "qwen_rerank" in each.__module__:
            said.update(_below(each))
    return {name: said[name] for name in inspect.signature(kind).parameters}


def _below(kind: type) -> Iterator[tuple[str, str]]:
    [body] = ast.parse(inspect.getsource(kind)).body
    for declared, after in zip(body.body, body.body[1:], strict=False):
        match declared, after:
            case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                yield name, " ".join(text.split())


def written(kind: type) -> str:
    """The file of *kind*, with all that its docstring has to say of its options."""
    lines = [
        textwrap.fill(
            f"{name}: {text}",
            _WIDTH,
            initial_indent=8 * " ",
            subsequent_indent=12 * " ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for name, text in said_of(kind).items()
    ]
    source = Path(inspect.getfile(kind)).read_text(encoding="utf-8")
    return re.sub(_SECTION.format(kind.__name__), lambda match: match[1] + "\n".join(lines), source)


if __name__ == "__main__":
    for kind in KINDS:
        Path(inspect.getfile(kind)).write_text(written(kind), encoding="utf-8")
