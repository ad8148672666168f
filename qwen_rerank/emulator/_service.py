"""What the service does with a well-formed question: limits, usage, ranking; no HTTP, no JSON."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from qwen_rerank.emulator._media import Look, Media, UnusableError, look_at
from qwen_rerank.emulator._models import (
    DOCUMENT_CHARACTERS,
    IMAGE_SIDE,
    IMAGE_STRETCH,
    IMAGE_TOKENS,
    IMAGE_URL_TOKENS,
    MODELS,
    TOKEN_SIDE,
    TOKENS_AROUND,
    VIDEO_TOKENS,
    Model,
)
from qwen_rerank.emulator._scorer import lexical_score
from qwen_rerank.emulator._tokenizer import Tokenizer

Score: TypeAlias = Callable[[str, str], float]
"""How relevant a document is to a query: ``(query, document) -> float``.

Of an image or video, both are the words that stand for it.
"""

_SAME = 1.0  # the stand-in's score of an image and itself; no words score as high

OverLong: TypeAlias = Literal["truncate", "refuse"]


class Parts(NamedTuple):
    """Texts and images that are scored together."""

    texts: tuple[str, ...]
    media: tuple[Media, ...]


@dataclass(frozen=True)
class Question:
    """One rerank request, whichever protocol it came by."""

    model: str
    query: str | Media | Parts
    documents: tuple[str | Media | Parts, ...]
    top_n: int | None = None
    instruct: str | None = None
    return_documents: bool = False
    return_tokens: bool = False


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


class Own(NamedTuple):
    """How a server of one's own reads a pair.

    Attributes:
        max_model_len: Tokens that query, instruction, document and template may have together.
        template: Tokens of the template.
        too_long: Makes the refusal of a longer pair, from what it may have and has; None for a
            server that cuts the document without a word.
    """

    max_model_len: int
    template: int
    too_long: Callable[[int, int], RefusedError] | None


class _Item(NamedTuple):
    """The query or a document, as it is charged and scored."""

    words: str
    tokens: int
    image: bytes | None = None
    """Equal where two images are the same."""


class Service:
    """Answers questions.

    Args:
        tokenizer: Counts for limits and usage. gte-rerank-v2 really uses another vocabulary,
            which is not public; its figures are approximate.
        score: Scores one pair; None for the stand-in: `lexical_score`, and the highest score for
            an image and itself.
        over_long: What happens to an item over the model's limit. The vendor's pages disagree:
            the older ones cut it, the newest one answers 400.
        shuffle: Answer in an order that is not by score.
    """

    def __init__(
        self, tokenizer: Tokenizer, score: Score | None, over_long: OverLong, shuffle: bool
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
        most = model.item_tokens.value
        query = self._item(question.query, most, "input.query")
        documents = [self._item(item, most, "input.documents") for item in question.documents]
        tokens = self._tokens(query, documents, question.instruct, model)
        return self._ranked(query, documents, question.top_n, tokens)

    def answer_freely(self, question: Question, own: Own) -> Answer:
        """Return the answer to *question* by a server without DashScope's limits.

        Each pair counts as many tokens as its texts, the instruction and the template have. An
        instruction changes every score, as if it stood before the query.

        Raises:
            RefusedError: A pair is too long, and *own* says what is then refused.
        """
        query, *documents = map(self._whole, (question.query, *question.documents))
        around = query.tokens + self._tokenizer.count(question.instruct or "") + own.template
        longest = max((item.tokens for item in documents), default=0) + around
        if longest > own.max_model_len:
            if own.too_long is not None:
                raise own.too_long(own.max_model_len, longest)
            room = max(own.max_model_len - around, 0)
            documents = [self._head(item, room) for item in documents]
        tokens = sum(item.tokens + around for item in documents)
        if question.instruct:
            query = query._replace(words=f"{question.instruct} {query.words}")
        return self._ranked(query, documents, question.top_n, tokens)

    def _whole(self, item: str | Media | Parts) -> _Item:
        """Return *item* as it is scored: the words of all its parts together."""
        parts = item if isinstance(item, Parts) else Parts((str(item),), ())
        try:
            looks = [look_at(each) for each in parts.media]
        except UnusableError as error:
            raise RefusedError(400, "BadRequestError", str(error)) from None
        tokens = sum(map(self._tokenizer.count, parts.texts))
        tokens += sum(_price("image", look) for look in looks)
        words = " ".join([*parts.texts, *(look.words for look in looks)])
        return _Item(words, tokens, looks[0].content if looks and not parts.texts else None)

    def _head(self, item: _Item, most: int) -> _Item:
        if item.tokens <= most:
            return item
        text = self._tokenizer.cut(item.words, most)
        return _Item(text, self._tokenizer.count(text))

    def _ranked(
        self, query: _Item, documents: Sequence[_Item], top_n: int | None, tokens: int
    ) -> Answer:
        scores = [self._scored(query, document) for document in documents]
        best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
        results = tuple((index, scores[index]) for index in best[:top_n])
        if self._shuffle:
            results = results[1::2] + results[::2]
        return Answer(results, tokens)

    def _item(self, item: str | Media | Parts, most: int, where: str) -> _Item:
        if isinstance(item, Media):
            try:
                look = look_at(item)
            except UnusableError as error:
                raise invalid(f"{error}: {where}") from None
            tokens = min(_price(item.kind, look), most)
            return _Item(look.words, tokens, look.content if item.kind == "image" else None)
        item = str(item)  # parts are for other servers
        tokens = self._tokenizer.count(item)
        if tokens <= most:
            return _Item(item, tokens)
        if self._over_long == "refuse":
            raise invalid(f"Range of input length should be [1, {most}]")
        return self._head(_Item(item, tokens), most)

    def _tokens(
        self, query: _Item, documents: Sequence[_Item], instruct: str | None, model: Model
    ) -> int:
        tokens = query.tokens * len(documents) + sum(item.tokens for item in documents)
        if tokens > model.request_tokens.value:
            # No capture of this refusal was found; this is the documented generic text.
            raise invalid(f"Range of input length should be [1, {model.request_tokens.value}]")
        if instruct and model.instruct:
            # Inferred, not documented: in a public record of a three-document call, changing only
            # the instruction moved the bill by a multiple of three. Whether it counts against
            # the request limit is unknown, so it does not here.
            tokens += self._tokenizer.count(instruct) * len(documents)
        return tokens

    def _scored(self, query: _Item, document: _Item) -> float:
        if self._score is not None:
            return float(self._score(query.words, document.words))
        if query.image is not None and query.image == document.image:
            return _SAME
        return lexical_score(query.words, document.words)


def _price(kind: str, look: Look) -> int:
    """Return the tokens of an image or video, or refuse an image of a shape that nobody takes."""
    if kind == "video":
        return VIDEO_TOKENS.value
    if look.size is None:
        return IMAGE_URL_TOKENS.value
    width, height = look.size
    short, long = sorted(look.size)
    wrong = None
    if short < IMAGE_SIDE.value:
        wrong = f"height:{height} or width:{width} must be larger than {IMAGE_SIDE.value}"
    elif long > IMAGE_STRETCH.value * short:
        wrong = f"absolute aspect ratio must be smaller than {IMAGE_STRETCH.value}"
    if wrong:  # the text that users of Qwen-VL chat models quoted for the sides
        raise invalid(
            f"The image length and width do not meet the model restrictions. [{wrong}]", inner=True
        )
    side = TOKEN_SIDE.value
    tokens = math.ceil(width / side) * math.ceil(height / side) + TOKENS_AROUND.value
    return max(tokens, IMAGE_TOKENS.value)


def _check(question: Question, model: Model) -> None:
    """Refuse what the gateway refuses, with the texts that were seen (WeKnora, ApeRAG, PAI-RAG)."""
    documents = question.documents
    kinds = Counter(item.kind for item in documents if isinstance(item, Media))
    counted = (
        (len(documents), model.documents),
        (kinds["image"], model.images),
        (kinds["video"], model.videos),
    )
    exceeded = [limit.value for count, limit in counted if limit and count > limit.value]
    if exceeded or not documents:
        # Nobody quoted this for images or videos; it is the text for documents.
        most = exceeded[0] if exceeded else model.documents.value
        raise invalid(
            "Value error, batch size of documents is invalid, "
            f"it should not be empty or larger than {most}.: input.documents",
            inner=True,
        )
    for index, item in enumerate(documents):
        if isinstance(item, str) and len(item) > DOCUMENT_CHARACTERS.value:
            raise invalid(
                f"Value error, document index:{index} is invalid, "
                f"it should not be larger than {DOCUMENT_CHARACTERS.value}: input.documents",
                inner=True,
            )
    # Refusing whitespace too is the strict reading: only the empty text was seen refused.
    if any(map(_is_blank, documents)):
        raise invalid("text input should not be empty.: input.documents")
    if _is_blank(question.query):
        raise invalid("text input should not be empty.: input.query")


def _is_blank(item: str | Media | Parts) -> bool:
    return isinstance(item, str) and not item.strip()
