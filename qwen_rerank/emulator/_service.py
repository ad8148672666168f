"""What the service does with a well-formed question: limits, usage, ranking; no HTTP, no JSON."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from qwen_rerank.emulator._limits import DOCUMENT_CHARACTERS, MODELS, Model
from qwen_rerank.emulator._tokenizer import Tokenizer

Score: TypeAlias = Callable[[str, str], float]
"""How relevant a document is to a query: ``(query, document) -> float``."""

OverLong: TypeAlias = Literal["truncate", "refuse"]


@dataclass(frozen=True)
class Question:
    """One rerank request, whichever protocol it came by."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    instruct: str | None = None
    return_documents: bool = False


@dataclass(frozen=True)
class Answer:
    """Ranked positions with their scores, best first, and what they cost."""

    results: tuple[tuple[int, float], ...]
    tokens: int


class RefusedError(Exception):
    """The service will not answer; the wire format decides how that looks.

    Args:
        status: HTTP status.
        code: The code as the native protocol spells it.
        message: The text, without prefix; None for the documented one of the code.
        inner: Whether the native protocol was seen to put the inner service's code before the
            text.
    """

    def __init__(
        self, status: int, code: str, message: str | None = None, *, inner: bool = False
    ) -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner


def invalid(message: str, *, inner: bool = False) -> RefusedError:
    """Return the refusal of a bad value."""
    return RefusedError(400, "InvalidParameter", message, inner=inner)


class Service:
    """Answers questions.

    Args:
        tokenizer: Counts for limits and usage. gte-rerank-v2 really uses another vocabulary,
            which is not public; its figures are approximate.
        score: Scores one pair.
        over_long: What happens to an item over the model's limit. The vendor's pages disagree:
            the older ones cut it, the newest one answers 400.
        shuffle: Answer in an order that is not by score.
    """

    def __init__(
        self, tokenizer: Tokenizer, score: Score, over_long: OverLong, shuffle: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._score = score
        self._over_long = over_long
        self._shuffle = shuffle

    def answer(self, question: Question) -> Answer:
        """Return the answer to *question*.

        Raises:
            RefusedError: The question breaks a documented limit.
        """
        model = MODELS[question.model]
        _check(question, model)
        question = self._fitted(question, model.item_tokens.value)
        tokens = self._tokens(question, model)
        scores = [float(self._score(question.query, text)) for text in question.documents]
        best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
        results = tuple((index, scores[index]) for index in best[: question.top_n])
        if self._shuffle:
            results = results[1::2] + results[::2]
        return Answer(results, tokens)

    def _fitted(self, question: Question, limit: int) -> Question:
        return replace(
            question,
            query=self._fit(question.query, limit),
            documents=tuple(self._fit(text, limit) for text in question.documents),
        )

    def _fit(self, text: str, limit: int) -> str:
        if self._tokenizer.count(text) <= limit:
            return text
        if self._over_long == "refuse":
            raise invalid(f"Range of input length should be [1, {limit}]")
        return self._tokenizer.cut(text, limit)

    def _tokens(self, question: Question, model: Model) -> int:
        count, documents = self._tokenizer.count, len(question.documents)
        tokens = count(question.query) * documents + sum(map(count, question.documents))
        if tokens > model.request_tokens.value:
            # No capture of this refusal was found; this is the documented generic text.
            raise invalid(f"Range of input length should be [1, {model.request_tokens.value}]")
        if question.instruct and model.instruct:
            # Inferred, not documented: in a public record of a three-document call, changing only
            # the instruction moved the bill by a multiple of three. Whether it counts against
            # the request limit is unknown, so it does not here.
            tokens += count(question.instruct) * documents
        return tokens


def _check(question: Question, model: Model) -> None:
    """Refuse what the gateway refuses, with the texts that were seen (WeKnora, ApeRAG, PAI-RAG)."""
    most = model.documents.value
    if not 1 <= len(question.documents) <= most:
        raise invalid(
            "Value error, batch size of documents is invalid, "
            f"it should not be empty or larger than {most}.: input.documents",
            inner=True,
        )
    for index, text in enumerate(question.documents):
        if len(text) > DOCUMENT_CHARACTERS.value:
            raise invalid(
                f"Value error, document index:{index} is invalid, "
                f"it should not be larger than {DOCUMENT_CHARACTERS.value}: input.documents",
                inner=True,
            )
    # Refusing whitespace too is the strict reading: only the empty text was seen refused.
    if not all(map(str.strip, question.documents)):
        raise invalid("text input should not be empty.: input.documents")
    if not question.query.strip():
        raise invalid("text input should not be empty.: input.query")
