"""Texts that name options, spelled by whoever shows them; what is said is decided elsewhere.

To a program an option is ``region=``, on the command line ``--region``. And whoever has set one
already is not told to set it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeAlias

__all__ = ["Advice", "Option", "Sentence", "advise", "counted", "said"]

Sentence: TypeAlias = str | tuple[str, ...]
"""A sentence as a template, or several of which the first that fits is said.

In one ``{region=}`` is an option to be set, ``{protocol='dashscope'}`` one to be set so,
``{base_url=:now}`` one that is set, and ``{timeout=:change}`` one to be changed from whatever it
is. Any other field is a value. A sentence fits if what is to be set is not so already, what is said
to be set is, and no value is empty.
"""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Option(NamedTuple):
    """An option in a text.

    Attributes:
        name: Its name in Python.
        value: What it is to be, as Python writes it; None if the text does not say.
        use: Whether it is to be ``set``, is set ``now``, is to be ``change``d, or is but a
            ``name``.
    """

    name: str
    value: str | None = None
    use: str = "set"


class Advice(str):  # noqa: SLOT000  a str has no room for slots
    """A text that names options, as a string in Python's words.

    Attributes:
        parts: What it is made of.
    """

    parts: tuple[str | Option, ...]

    def __new__(cls, *parts: str | Option) -> Self:
        made = super().__new__(cls, "".join(map(_in_python, parts)))
        made.parts = parts
        return made

    def __getnewargs__(self) -> Any:  # pickles and copies keep the parts
        return self.parts

    def spelled(self, spell: Callable[[Option], str]) -> str:
        """The text in other words for its options."""
        return "".join(spell(part) if isinstance(part, Option) else part for part in self.parts)

    def mapped(self, change: Callable[[str], str]) -> Advice:
        """The text with *change* made to all that is no option."""
        return Advice(*(part if isinstance(part, Option) else change(part) for part in self.parts))

    def __add__(self, more: str) -> Advice:
        return Advice(*self.parts, *(more.parts if isinstance(more, Advice) else (more,)))

    def __radd__(self, before: str) -> Advice:
        return Advice(before, *self.parts)


def advise(*sentences: Sentence, given: Mapping[str, Any] = _NOTHING, **values: Any) -> Advice:
    """The *sentences* that fit, one after another; "" if none does.

    Args:
        sentences: What to say.
        given: The options that are set.
        values: What the other fields stand for; a value may be advice too.
    """
    made: list[str | Option] = []
    for sentence in sentences:
        choices = (sentence,) if isinstance(sentence, str) else sentence
        fitting = (_filled(choice, given, values) for choice in choices)
        if (parts := next(filter(None, fitting), None)) is not None:
            made += [" ", *parts] if made else parts
    return Advice(*made)


def said(error: BaseException) -> str:
    """What *error* says; the options that it names can still be spelled otherwise."""
    return error.args[0] if error.args and isinstance(error.args[0], Advice) else str(error)


def counted(number: int | None, what: str, many: str | None = None) -> str:
    """*number* of *what*: ``1 document``, ``1,200 documents``; None is unknown."""
    many = many or f"{what}s"
    return f"{many} unknown" if number is None else f"{number:,} {what if number == 1 else many}"


def _in_python(part: str | Option) -> str:
    if not isinstance(part, Option):
        return part
    return part.name if part.use == "name" else f"{part.name}={part.value or ''}"


def _filled(
    template: str, given: Mapping[str, Any], values: Mapping[str, Any]
) -> list[str | Option] | None:
    """What *template* consists of, or None if it does not fit."""
    parts: list[str | Option] = []
    for text, field, form, _ in Formatter().parse(template):
        parts.append(text)
        if field is None:
            continue
        name, is_option, value = field.partition("=")
        told = Advice(Option(name, value or None, form or "set")) if is_option else values[name]
        if told in ("", None):
            return None
        found = told.parts if isinstance(told, Advice) else (format(told, form or ""),)
        if not all(_fits(part, given) for part in found if isinstance(part, Option)):
            return None
        parts += found
    return parts


def _fits(option: Option, given: Mapping[str, Any]) -> bool:
    is_set = option.name in given
    if option.use != "set":
        return is_set or option.use != "now"
    return not is_set or option.value not in (None, repr(given[option.name]))
