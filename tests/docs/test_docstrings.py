"""What a reranker is shown to take, by `help`, editors and notebooks, is what it takes."""

import ast
import inspect
import pydoc
from pathlib import Path

import pytest
from write_docstrings import KINDS, said_of, written

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank._sealed import _plain

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__module__)


def test_each_option_is_explained(kind):
    """The docstring of a class says what each option does, as it is said below the option."""
    assert all(said_of(kind).values())
    assert Path(inspect.getfile(kind)).read_text() == written(kind), "run make docstrings"


def test_signature_in_plain_types(kind):
    """Every option is in the signature, by its default, and no type says how it is validated."""
    signature, fields = inspect.signature(kind), kind.model_fields

    assert signature.parameters.keys() == fields.keys()
    for name, parameter in signature.parameters.items():
        assert fields[name].default_factory or parameter.default == fields[name].default
    assert "Annotated" not in str(signature)
    assert signature.parameters["timeout"].annotation is float


def test_help_names_only_what_users_know(kind):
    """Nothing that a user is shown of a class is named by how it was made."""
    shown = pydoc.plain(pydoc.render_doc(kind)) + str(kind.model_json_schema())

    assert "Door" not in shown
    assert not any("[" in base.__name__ for base in kind.__mro__)


def test_signature_for_editors(kind):
    """Where a class spells its constructor out for editors, that is the constructor."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(kind)))
    spelt = [
        each.args
        for each in ast.walk(tree)
        if isinstance(each, ast.FunctionDef) and each.name == "__init__" and not each.args.kwarg
    ]
    if kind is not QwenRerank:
        assert not spelt  # editors have it from the fields, and say it better
        return
    [arguments] = spelt
    [first], rest = arguments.args[1:], arguments.kwonlyargs
    names = inspect.getmodule(kind).__dict__
    said = {
        each.arg: tuple(eval(ast.unparse(part), names) for part in (each.annotation, default))  # noqa: S307
        for each, default in zip(
            [first, *rest], [*arguments.defaults, *arguments.kw_defaults], strict=True
        )
    }
    kept = inspect.signature(kind).parameters
    assert said.keys() - kept.keys() == {"dashscope_api_key", "return_documents"}
    for name in kept.keys() - {"callback_manager"}:  # None is a new one
        assert (_plain(said[name][0]), said[name][1]) == (kept[name].annotation, kept[name].default)
    assert [name for name, each in kept.items() if each.kind is each.POSITIONAL_OR_KEYWORD] == [
        first.arg
    ]
