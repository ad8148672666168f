"""What users may rely on, as the source declares it: the names and signatures of public_api.txt.

    python tests/test_public_api.py

writes that file anew, which accepts a change.
"""

import ast
import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import langchain_qwen_rerank
import llama_index_qwen_rerank
import qwen_rerank
import qwen_rerank.emulator
import qwen_rerank.framework

DOORS = [
    *(qwen_rerank, qwen_rerank.framework, qwen_rerank.emulator),
    *(langchain_qwen_rerank, llama_index_qwen_rerank),
]
WRITTEN = Path(__file__).with_name("public_api.txt")


def _declared(kind: type) -> Iterator[str]:
    """The public fields and methods that *kind* itself declares."""
    module = ast.parse(Path(inspect.getfile(kind)).read_text(encoding="utf-8"))
    (found,) = (each for each in module.body if getattr(each, "name", "") == kind.__name__)
    yield f"class {kind.__name__}({', '.join(map(ast.unparse, found.bases))})"
    for each in found.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            if each.name.startswith("_") and each.name not in ("__init__", "__call__"):
                continue
            each.body = []
            yield f"    {' '.join(ast.unparse(each).splitlines()).removesuffix(':')}"
        elif isinstance(each, ast.AnnAssign | ast.Assign):
            line = ast.unparse(each)
            if not line.startswith("_"):
                yield f"    {line}"


def api() -> str:
    """All of it."""
    lines = []
    for door in DOORS:
        lines += ["", f"# {door.__name__}"]
        for name in door.__all__:
            value = getattr(door, name)
            lines += _declared(value) if isinstance(value, type) else [name]
    return "\n".join([*lines[1:], ""])


def test_nothing_changed_by_accident():
    """Names, fields, defaults and signatures are those that are written down."""
    old, new = WRITTEN.read_text(encoding="utf-8").splitlines(), api().splitlines()
    changes = "\n".join(difflib.unified_diff(old, new, "written", "found", n=0, lineterm=""))

    assert not changes, (
        f"{changes}\nThe public API changed. If that is meant: python tests/test_public_api.py, "
        "and a line in CHANGELOG.md."
    )


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_what_is_exported_is_documented(door):
    """Exported classes have a docstring, and so has what they declare; no name is private."""
    assert [name for name in door.__all__ if name.startswith("_")] in ([], ["__version__"])
    for name in door.__all__:
        value = getattr(door, name)
        if isinstance(value, type):
            assert value.__doc__, name
            for method, _ in inspect.getmembers_static(value, inspect.isroutine):
                if method in vars(value) and not method.startswith("_"):
                    assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


if __name__ == "__main__":
    WRITTEN.write_text(api(), encoding="utf-8")
