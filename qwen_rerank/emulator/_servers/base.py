"""What all own servers have in common: reading a body, and refusing it. None is named here."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from qwen_rerank.emulator._service import Answer, Parts, Question, RefusedError
from qwen_rerank.emulator._tokenizer import replace_surrogates

MODEL = "Qwen/Qwen3-Reranker-0.6B"
"""The one model that all of them serve here."""

TEXT, TEXTS, WHOLE, FLAG = "a string", "a list of strings", "an integer", "a boolean"
"""What a field may hold."""


class Slip(NamedTuple):
    """What is wrong with a field, in pydantic's words; the field is "" for the whole body.

    Where it is one of a list, or a character of the body, *places* is its position there.
    """

    field: str
    kind: str
    said: str
    input: Any = None
    context: Mapping[str, Any] | None = None
    places: tuple[int, ...] = ()


class OwnServer(ABC):
    """One kind of server. A format, as DashScope's protocols are."""

    name: ClassVar[str]
    tails: ClassVar[tuple[str, ...]] = ("/rerank",)
    """The paths it serves, below its address."""
    guarded: ClassVar[tuple[str, ...]] = ("/",)
    """Below which paths it wants a key, if it was started with one."""
    takes_json_only: ClassVar[bool] = False
    """Whether it looks at a body's type."""
    id_header: ClassVar[str] = "x-request-id"
    tells: ClassVar[tuple[str, ...]] = ()
    """The paths below its address at which it says what it is."""
    fields: ClassVar[Mapping[str, str]]
    """The documented fields and what each holds."""
    required: ClassVar[tuple[str, ...]] = ("query", "documents")
    texts: ClassVar[str] = "documents"
    instruct: ClassVar[str] = ""
    """The field with the instruction, or ""."""
    least_top_n: ClassVar[float] = 0
    """The least `top_n`; 0 stands for all."""
    template: ClassVar[int] = 0
    """Tokens around each pair, which are billed."""
    refuses_long: ClassVar[bool] = False
    """Whether a pair that is too long is refused; else its document is cut."""

    def __init__(self) -> None:
        self.prefix = f"/{self.name}"
        self.path = self.prefix + self.tails[0]
        self.paths = tuple(self.prefix + tail for tail in self.tails)

    def parse(self, body: Any) -> Question:
        """Return the question in *body*, a parsed JSON value, or raise `RefusedError`."""
        slips = list(self._slips(body))
        if slips:
            raise self.bad_body(slips)
        question = Question(
            model=body.get("model") or MODEL,
            query=self.read(body["query"]),
            documents=tuple(self.read(text) for text in body[self.texts]),
            top_n=self.kept(body),
            instruct=self.told_to(body),
            return_documents=bool(body.get("return_documents") or body.get("return_text")),
            return_tokens=bool(body.get("return_len")),
        )
        self.check(question)
        return question

    def read(self, item: Any) -> str | Parts:
        """Return what is to be scored of *item*, the query or a document."""
        return replace_surrogates(item)

    def kept(self, body: Mapping[str, Any]) -> int | None:
        """Return how many results *body* asks for; None for all."""
        return body.get("top_n") or None

    def told_to(self, body: Mapping[str, Any]) -> str | None:
        """Return the instruction in *body*."""
        return body.get(self.instruct)

    def _slips(self, body: Any) -> Iterable[Slip]:
        if not isinstance(body, dict):
            yield Slip("", "model_attributes_type", "Input should be a valid dictionary")
            return
        for name in self.required:
            if name not in body:
                yield Slip(name, "missing", "Field required", body)
        for name, value in body.items():
            if name not in self.fields:
                yield Slip(name, "extra_forbidden", "Extra inputs are not permitted", value)
            elif not self.holds(name, value):
                yield self._wrong(name, value)
            elif name == "top_n" and type(value) is int and value < self.least_top_n:
                bound = self.least_top_n - 1
                said = f"Input should be greater than {bound}"
                yield Slip(name, "greater_than", said, value, {"gt": bound})

    def _wrong(self, name: str, value: Any) -> Slip:
        if self.fields[name] == TEXTS and isinstance(value, list):
            for at, each in enumerate(value):
                if not isinstance(each, str):
                    return Slip(name, "string_type", f"Input should be {TEXT}", each, places=(at,))
        return Slip(name, "type", f"Input should be {self.fields[name]}", value)

    @abstractmethod
    def check(self, question: Question) -> None:
        """Raise `RefusedError` where this server refuses a well-formed *question*."""

    def holds(self, name: str, value: Any) -> bool:
        """Return whether *value* is one for the field *name*."""
        return _holds(value, self.fields[name], optional=name not in self.required)

    def too_long(self, most: int, found: int) -> RefusedError:
        """Return the refusal of a pair of *found* tokens where it may have *most*."""
        raise NotImplementedError

    def about(self, tail: str, max_model_len: int) -> Any:
        """Return what a GET of *tail*, one of `tells`, tells of it; None for an empty answer."""
        return None

    def bad_key(self) -> RefusedError:
        """Return the refusal of a key that is wrong or missing."""
        return RefusedError(401, "", "Unauthorized")

    @abstractmethod
    def bad_body(self, slips: list[Slip]) -> RefusedError:
        """Return the refusal of a body that is none."""

    @abstractmethod
    def render(self, question: Question, answer: Answer, request_id: str) -> Any:
        """Return the body of a success."""

    @abstractmethod
    def failure(self, refused: RefusedError, request_id: str) -> dict[str, Any] | str:
        """Return the body of a failure."""

    def nowhere(self, status: int, method: str) -> RefusedError:
        """Return the refusal of a path or method that is not served."""
        return RefusedError(status, "", "Not Found" if status == 404 else "Method Not Allowed")


def _holds(value: Any, kind: str, *, optional: bool) -> bool:
    if value is None:
        return optional
    if kind == TEXTS:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    return type(value) is {TEXT: str, WHOLE: int, FLAG: bool}[kind]  # true is an int to Python


def as_fastapi(slips: list[Slip]) -> list[dict[str, Any]]:
    """Return the slips as FastAPI tells them."""
    return [
        {
            "type": slip.kind,
            "loc": ["body", *([slip.field] if slip.field else []), *slip.places],
            "msg": slip.said,
        }
        for slip in slips
    ]


def text_of(refused: RefusedError) -> str:
    """Return what *refused* says; of a code alone, that."""
    return refused.message or refused.code
