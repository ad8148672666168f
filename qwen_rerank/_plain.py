"""The plain form of a value, as JSON has it: for pydantic, FastAPI and LangGraph's checkpoints.

It is the same in Python and in JSON, and what is read from it equals what was written, but for what
JSON cannot hold: lone surrogates, and of a caller's dict whatever else. What values mean is not
known here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Never, NotRequired

from pydantic import GetCoreSchemaHandler, with_config
from pydantic_core import (
    CoreSchema,
    PydanticSerializationUnexpectedValue,
    core_schema,
    to_jsonable_python,
)
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "Fields",
    "Text",
    "cleaned",
    "frozen",
    "medium",
    "read_again",
    "schema",
    "without_surrogates",
    "written",
]

_SURROGATE = "[\ud800-\udfff]"
_KINDS = ("image", "video", "unsendable", "dict")


# Named as what they are the forms of, since JSON schemas show these names.
@with_config(extra="forbid")
class Image(TypedDict):
    """An image, by its URL, its content or a file: exactly one of them.

    With an encoding, ``data`` is the base64 text of bytes; without, it is what was given as text.
    """

    type: Literal["image"]
    url: NotRequired[str]
    data: NotRequired[str]
    encoding: NotRequired[Literal["base64"]]
    path: NotRequired[str]
    within: NotRequired[str]


@with_config(extra="forbid")
class Video(TypedDict):
    """A video, by its URL."""

    type: Literal["video"]
    url: str


@with_config(extra="forbid")
class Unsendable(TypedDict):
    """A document that could not be sent."""

    type: Literal["unsendable"]
    reason: str


class RerankError(TypedDict):
    """Why there is no ranking; the type is the name of the error's class."""

    type: str
    message: str
    code: NotRequired[str | None]
    status: NotRequired[int | None]
    request_id: NotRequired[str | None]
    hint: NotRequired[str | None]
    retry_after: NotRequired[float | None]
    documents: NotRequired[tuple[int, ...]]
    retryable: NotRequired[bool]
    passes_through: NotRequired[bool]


def schema(
    kind: type,
    form: Any,
    handler: GetCoreSchemaHandler,
    *,
    read: Callable[[dict[str, Any]], Any],
    write: Callable[[Any], Any],
) -> CoreSchema:
    """How pydantic takes a *kind*: as itself, or in its plain *form*, which it always writes."""
    plain = handler.generate_schema(form)
    made = core_schema.no_info_after_validator_function(read, plain)
    return core_schema.json_or_python_schema(
        json_schema=made,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(kind), made]),
        serialization=core_schema.plain_serializer_function_ser_schema(write, return_schema=plain),
    )


def medium(kind: type, form: type, handler: GetCoreSchemaHandler) -> CoreSchema:
    """`schema` of a frozen dataclass that stands for an image, a video or neither."""

    def read(plain: dict[str, Any]) -> Any:
        given = {name: value for name, value in plain.items() if name != "type"}
        if given.pop("encoding", None) and "data" in given:
            given["data"] = base64.b64decode(given["data"], validate=True)
        return kind(**given)

    def write(value: Any) -> dict[str, Any]:
        if not isinstance(value, kind):
            raise PydanticSerializationUnexpectedValue(f"it is no {kind.__name__}")
        plain = {"type": form.__name__.lower()}
        for each in fields(kind):
            content = getattr(value, each.name)
            if isinstance(content, bytes):
                plain[each.name] = base64.b64encode(content).decode()
                plain["encoding"] = "base64"
            elif content is not None:
                plain[each.name] = cleaned(content)
        return plain

    return schema(kind, form, handler, read=read, write=write)


class Fields:
    """Marks a caller's dict, which is a document: in its plain form it is itself.

    One whose ``type`` is that of another form is written as ``{"type": "dict", "fields": ...}``.
    """

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            _unwrapped,
            core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _wrapped, info_arg=True, return_schema=core_schema.dict_schema()
            ),
        )


def _unwrapped(plain: Any) -> Any:
    kind = _kind(plain)
    if kind == "dict" and plain.keys() == {"type", "fields"}:
        return plain["fields"]
    if kind in _KINDS:
        raise ValueError(f'a dict of the type {kind!r} goes into {{"type": "dict", "fields": ...}}')
    return plain


def _wrapped(document: Any, info: core_schema.SerializationInfo) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise PydanticSerializationUnexpectedValue("it is no dict")
    plain = dict(document)
    if _kind(document) in _KINDS:
        plain = {"type": "dict", "fields": plain}
    return to_jsonable_python(plain, bytes_mode="base64") if info.mode_is_json() else plain


def _kind(plain: Any) -> Any:
    return plain.get("type") if isinstance(plain, Mapping) else None


class Text:
    """Marks a field whose texts may hold what JSON cannot."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        made: Any = handler(source)
        made["serialization"] = core_schema.wrap_serializer_function_ser_schema(
            lambda value, write: write(cleaned(value))
        )
        marked: CoreSchema = made
        return marked


def without_surrogates(text: str) -> str:
    """*text* as UTF-8 can hold it; each character keeps its place."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub(_SURROGATE, "\ufffd", text)
    return text


def cleaned(value: Any) -> Any:
    """*value*, a text or what texts are in, without surrogates; anything else as it is.

    Of a namedtuple and the like a plain one, since not all of them can be made of their parts.
    """
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(map(cleaned, value))
    return without_surrogates(value) if isinstance(value, str) else value


def frozen(value: Any) -> Any:
    """*value*, of JSON, as it is but for that nothing in it can be changed: nobody would check it.

    Objects stay dicts and arrays lists, which every serializer knows.
    """
    if isinstance(value, dict):
        return _Object({name: frozen(each) for name, each in value.items()})
    return _Array(map(frozen, value)) if isinstance(value, list) else value


def _refuse(*_: Any, **__: Any) -> Never:
    raise TypeError("it cannot be changed in place: assign another one to the option")


class _Object(dict[str, Any]):
    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Object, (dict(self),)


class _Array(list[Any]):
    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return _Array, ([*self],)


@cache
def _adapter_of(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415  few need it

    return TypeAdapter(kind)


def _adapter(value: Any) -> TypeAdapter[Any]:
    kind: Any = type(value)
    return _adapter_of(kind)


def written(value: Any) -> dict[str, Any]:
    """The plain form of a frozen dataclass."""
    form: dict[str, Any] = _adapter(value).dump_python(value)
    return form


def read_again(value: Any) -> None:
    """Makes *value*, a frozen dataclass that was built from the parts of a plain form, whole."""
    parts = {each.name: getattr(value, each.name) for each in fields(value)}
    whole = _adapter(value).validate_python(parts)
    for name in parts:
        object.__setattr__(value, name, getattr(whole, name))
