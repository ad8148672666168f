"""Shows the constructors of the API reference as `inspect.signature` has them; Griffe loads it.

Griffe reads the source, where a model's options are fields and no arguments.
"""

import inspect
import re
from enum import Enum
from importlib import import_module
from typing import Any

import griffe

from qwen_rerank.framework import Sealed

__all__ = ["Constructors"]

_KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
}
_MODULE = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])")


class Constructors(griffe.Extension):
    """Gives each class with options an ``__init__`` that takes them."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        made = getattr(import_module(cls.module.path), cls.name, None)
        if Sealed not in getattr(made, "__mro__", ())[1:]:
            return
        if not made.__pydantic_complete__:  # it is left unbuilt by an import, without a signature
            made.model_rebuild()
            made.__pydantic_init_subclass__()
        parameters = griffe.Parameters(
            *(
                griffe.Parameter(
                    name,
                    annotation=_MODULE.sub("", inspect.formatannotation(each.annotation)),
                    kind=_KINDS[each.kind],
                    default=_shown(each.default),
                )
                for name, each in inspect.signature(made).parameters.items()
            )
        )
        if cls.docstring and "Args:" in cls.docstring.value:  # which says of each what it does
            for each in parameters:
                if (field := cls.members.get(each.name)) is not None:
                    field.docstring = None
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters))


def _shown(default: Any) -> str | None:
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, Enum):
        return str(default)
    return "..." if repr(default) == "<factory>" else repr(default)
