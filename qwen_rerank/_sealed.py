"""Models and errors that show nothing of what was given: it might be the key. No option is here."""

from __future__ import annotations

import functools
import operator
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from inspect import Signature
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Never,
    Union,
    cast,
    get_args,
    get_origin,
)

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema
from typing_extensions import override

from qwen_rerank._advice import Advice, Option, said
from qwen_rerank.errors import RerankError

__all__ = ["KEY_NAMES", "Sealed", "linked", "without_frames"]

KEY_NAMES = ("api_key", "dashscope_api_key")
_HIDDEN = "**********"
_NOT_KEPT = "Frames are not kept, because some hold the API key. Raised at:"


def _quiet(name: str) -> Any:
    """Pydantic's *name*, whose errors and frames hold nothing of what it is given."""

    @functools.wraps(getattr(BaseModel, name))
    def quiet(owner: Any, *given: Any, **options: Any) -> Any:
        try:
            return getattr(super(Sealed, owner), name)(*given, **options)
        except Exception as error:  # noqa: BLE001  a subclass's rule may raise anything
            problem = _anew(error, owner if isinstance(owner, type) else type(owner))
        given, options = (), {}
        raise problem

    quiet.__doc__ = quiet.__doc__ or f"Pydantic's ``{name}``, which says nothing of its input."
    return quiet if name == "__replace__" else classmethod(quiet)


def _hiding(owner: str) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """A validator that raises the errors of others anew, without what was given."""

    def hiding(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        hidden: BaseException
        try:
            return handler(value)
        except ValidationError as error:
            hidden = ValidationError.from_exception_data(error.title, _hidden(error))
        except Exception as error:  # noqa: BLE001  a subclass's rule may raise anything
            hidden = without_frames(error)
        value = None
        raise hidden

    hiding.__name__ = owner  # which pydantic shows
    return hiding


class _Signature:
    """What `help` and notebooks show of a constructor: every option in plain types.

    *theirs*, which pydantic made, shows how each is validated too.
    """

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs

    def __get__(self, one: Sealed | None, owner: type[Sealed]) -> Signature:
        made = self._theirs.__get__(one, owner)  # which is asked for late: it takes its time
        fields = owner.model_fields
        return Signature(
            [
                parameter.replace(annotation=_plain(fields[name].annotation))
                if name in fields
                else parameter
                for name, parameter in made.parameters.items()
                if parameter.kind is not parameter.VAR_POSITIONAL  # it is there to be refused
            ]
        )


def _plain(kind: Any) -> Any:
    """*kind* without what is said of it; `get_type_hints` takes callables apart wrongly."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _plain(arguments[0])
    if origin in (Union, UnionType):
        return functools.reduce(operator.or_, map(_plain, arguments))
    if origin is Callable:
        takes, returns = arguments
        return Callable[[*map(_plain, takes)], _plain(returns)]
    return kind


class Sealed(BaseModel):
    """A model that may be given the API key, in the right place or by a slip in a wrong one.

    What is wrong is said without any value, whoever validates: the model itself, or the caller's
    own models, settings, type adapters and functions that have it as a field or an argument.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_assignment=True,
        hide_input_in_errors=True,
    )

    # Fields that `_settle` may change beside those that were assigned.
    _implied: ClassVar[tuple[str, ...]] = ()

    # How options are given.
    _example: ClassVar[str] = "model=..., api_key=..."

    # Options that others have: what to know instead of them.
    _slips: ClassVar[Mapping[str, str]] = {}

    # What others call ours.
    _of_peers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *positional: Never, **options: Any) -> None:
        """Takes options by name; what each does stands in the documentation of the class."""
        if positional:
            del positional, options  # perhaps the key, which no frame shows
            name = type(self).__name__
            raise TypeError(f"{name} takes its options by name: {name}({self._example})")
        options = self._sealed(options)
        try:
            super().__init__(**options)
            self._settle(type(self).model_fields)
        except Exception as error:  # noqa: BLE001  a subclass's rule may raise anything
            problem = _anew(error, type(self))
        else:
            return
        # A key may stand in the wrong place. Pydantic's errors hold the input, so this is raised
        # outside the handler, and a traceback that prints its frames finds nothing in this one.
        options.clear()
        self.__dict__.clear()
        raise problem

    @override
    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if (made := cls.__dict__.get("__signature__")) is not None:  # else it is to be rebuilt
            # An assignment would tell checkers another type of it than pydantic's.
            setattr(cls, "__signature__", _Signature(made))  # noqa: B010  see above

    # Everybody's validation of this class passes here, and validators of subclasses lie within.
    @override
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = dict(handler.resolve_ref_schema(handler(source)))
        # Its name moves to the outside, as with pydantic's own validators of whole models.
        name = schema.pop("ref", None)
        return core_schema.no_info_wrap_validator_function(_hiding(cls.__name__), schema, ref=name)

    if not TYPE_CHECKING:  # which shall see pydantic's own
        model_validate = _quiet("model_validate")
        model_validate_json = _quiet("model_validate_json")
        model_validate_strings = _quiet("model_validate_strings")
        parse_obj = _quiet("parse_obj")
        parse_raw = _quiet("parse_raw")
        validate = _quiet("validate")
        if hasattr(BaseModel, "__replace__"):  # from Python 3.13 on
            __replace__ = _quiet("__replace__")

        @classmethod
        def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Any:
            """Makes one without any check, as pydantic's does; a key among *values* is sealed."""
            return super().model_construct(_fields_set, **cls._sealed(values))

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        options = {name: value}
        del value
        self._assign(options)

    def _assign(self, options: dict[str, Any]) -> None:
        """Takes all *options*, checked together, or none, and then empties them.

        They may hold a key in the wrong place, and a traceback shows the caller's frame as well.
        """
        sealed = self._sealed(options)
        for alias in sealed.keys() & set(KEY_NAMES[1:]):  # which pydantic knows in a new model only
            sealed[KEY_NAMES[0]] = sealed.pop(alias)
        changing = sealed.keys() | set(self._implied)
        before = {name: kept for name, kept in self.__dict__.items() if name in changing}
        unset = sealed.keys() - self.model_fields_set
        waiting: dict[str, Any] = {}
        try:
            for name, value in sealed.items():
                try:
                    super().__setattr__(name, value)
                except ValidationError as error:
                    if any(each["loc"] for each in error.errors(include_input=False)):
                        raise
                    # A subclass's rule about the whole, which has the value by now: it is asked
                    # again when it has them all.
                    waiting[name] = value
            if len(sealed) > 1:
                self._forget()  # some of it was made when not all were taken
            for name, value in waiting.items():
                super().__setattr__(name, value)
            self._settle(sealed)
        except Exception as error:  # noqa: BLE001  a subclass's rule may raise anything
            problem = _anew(error, type(self))
        else:
            return
        self.__dict__.update(before)
        self.model_fields_set.difference_update(unset)
        options.clear()
        sealed.clear()
        waiting.clear()
        del value
        raise problem

    def _forget(self) -> None:
        """Drops what is no option, which a subclass's cached properties made of other options."""
        for name in self.__dict__.keys() - type(self).model_fields:
            del self.__dict__[name]

    def _settle(self, given: Collection[str]) -> None:
        """Follows what the options in *given* imply.

        Raises:
            ValueError: They do not go together.
        """

    @classmethod
    def _meant(cls, name: str, options: Iterable[str]) -> str:
        """What to write of *options* instead of *name*, to be said after what is wrong with it."""
        if name in cls._slips:
            return f": {cls._slips[name]}"
        options = list(options)
        if (ours := cls._of_peers.get(name)) not in options:
            import difflib  # noqa: PLC0415  only mistakes need it

            ours = next(iter(difflib.get_close_matches(name, options, n=1)), None)
        return f"; did you mean {ours!r}?" if ours else ""

    @staticmethod
    def _sealed(options: dict[str, Any]) -> dict[str, Any]:
        """*options* with all secrets out of sight of whoever prints a frame that holds them."""
        return {
            name: SecretStr(value) if name in KEY_NAMES and isinstance(value, str) else value
            for name, value in options.items()
        }


def _hidden(error: ValidationError) -> list[InitErrorDetails]:
    """What *error* consists of, without what was given."""
    known = get_args(core_schema.ErrorType)
    hidden = []
    for each in error.errors(include_input=False):
        kind: Any = each["type"]
        if kind not in known:
            kind = PydanticCustomError(kind, cast("Any", each["msg"]))
        context = {  # errors in it have frames
            name: ValueError(said(value)) if isinstance(value, Exception) else value
            for name, value in each.get("ctx", {}).items()
        }
        hidden.append(InitErrorDetails(type=kind, loc=each["loc"], input=_HIDDEN, ctx=context))
    return hidden


def _anew(error: Exception, owner: type[Sealed]) -> BaseException:
    """What to raise instead of *error*, which holds nothing that was given."""
    return (
        ValueError(_explained(error, owner))
        if isinstance(error, ValueError)
        else without_frames(error)
    )


def _explained(error: ValueError, owner: type[Sealed]) -> str:
    """What is wrong, without any value that was given."""
    if not isinstance(error, ValidationError):
        return said(error)
    problems: list[str | Option] = []
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(map(str, problem["loc"][:1]))
        problems.append("; " if problems else "")
        if problem["type"] in ("extra_forbidden", "no_such_attribute"):
            guess = owner._meant(name, owner.model_fields)
            problems.append(f"{owner.__name__} has no option {name!r}{guess}")
            continue
        if name:
            problems += [Option(name, use="name"), ": "]
        ours = problem.get("ctx", {}).get("error")
        what = said(ours) if isinstance(ours, ValueError) else problem["msg"]
        problems += what.parts if isinstance(what, Advice) else [f"{what[:1].lower()}{what[1:]}"]
    return Advice(*problems)


def linked(
    error: BaseException, links: Callable[[BaseException], Iterable[BaseException | None]]
) -> Iterator[BaseException]:
    """*error* and what hangs on it by *links*, each once: an error may be its own cause."""
    pending: list[BaseException | None] = [error]
    seen = set()
    while pending:
        if (one := pending.pop()) is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += links(one)


def without_frames(error: BaseException) -> BaseException:
    """*error*, with its places noted once instead of its frames if it is none of ours."""
    noted = any(note.startswith(_NOT_KEPT) for note in getattr(error, "__notes__", ()))
    if isinstance(error, Exception) and not (isinstance(error, RerankError) or noted):
        places = "".join(
            f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}\n"
            for frame, line in traceback.walk_tb(error.__traceback__)
        )
        error.add_note(f"{_NOT_KEPT}\n{places}")
    for one in linked(error, _all_links):
        one.__traceback__ = None
    return error


def _all_links(error: BaseException) -> list[BaseException | None]:
    return [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
