"""What the doctor wants to know: the texts it asks with, and how an answer is read. Shows nothing.

Every examination takes an `Asker`, so that a rehearsal can say what it would cost, and returns
numbers and one word; none of them decides what to do about a failure that is no answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Literal, TypeAlias

from qwen_rerank import AuthenticationError, ReplyError, RequestError
from qwen_rerank.cli.doctor.probe import Ask, Asker, Told, count, filled

__all__ = [
    "CANDIDATES",
    "DEFAULT_INSTRUCT",
    "EXAMS",
    "QUERY",
    "Blanks",
    "Exam",
    "Independence",
    "Instruct",
    "Latencies",
    "Latency",
    "OverLong",
    "Protocols",
    "blanks",
    "independence",
    "instruct",
    "judged_first",
    "latency",
    "over_long",
    "protocols",
]

QUERY = "Who mends the harbour clock?"
_ANSWER = "Old Ines mends the harbour clock, as her mother did before her."
_RELATED = "The harbour clock was a gift of a ship owner whose name is lost."
_UNRELATED = "Green tea is harvested in spring, before the first rain."
CANDIDATES = (_UNRELATED, _ANSWER, _RELATED)
"""What the first call ranks; the second is the answer."""

_PEOPLE = (
    *("the baker", "a retired sailor", "the night porter", "a travelling tuner", "my neighbour"),
    *("the school band", "a young surveyor", "the choir master", "a pilot", "the postman"),
)
_DEEDS = (
    *("paints", "photographs", "sells", "draws", "cleans"),
    *("borrows", "measures", "guards", "describes", "repairs"),
)
_THINGS = (
    *("the harbour lights", "wooden boats", "stone bridges", "old accordions", "garden gates"),
    *("church bells", "bicycles", "fishing nets", "paper kites", "tram tickets"),
)
_DISTINCT = 1_000

DEFAULT_INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query."
_CONTRARY_INSTRUCT = "Retrieve text about anything else."

_OTHERS = 50
_SAME = 1e-6  # of two scores that were written with fewer digits
_NOISE = 0.01  # of the spread of the scores: what rounding on a graphics card may do
_SIZES = (1, 10, 50, 100, 500)
_WARM_CALLS = 2
_OVER = 1.25  # how far over the documented limit
_HALVINGS = 4


@dataclass(frozen=True)
class Independence:
    """Whether a pair's score depends on what else is in the request.

    Attributes:
        answer: "same" within a millionth; "nearly" within one percent of the spread of the scores;
            "depends" if it is more; "unsteady" if the same request, sent again, differs as much.
        alone: Largest difference of a score alone and among the others.
        order: Largest difference of a score in one order and in the reverse one.
        again: Largest difference of a score when the same request is sent again.
        spread: Highest minus lowest score among the others.
        others: How many others there were.
    """

    answer: Literal["same", "nearly", "depends", "unsteady"]
    alone: float
    order: float
    again: float
    spread: float
    others: int


@dataclass(frozen=True)
class OverLong:
    """What happens to a document over the model's token limit.

    Attributes:
        answer: "cut" if its end is not read; "refused"; "read" if all of it is; "unclear" if what
            the end says makes no difference to the model.
        sent: Tokens of the document, by our count.
        documented: The documented limit, or None where there is only our own guess.
        counted: Tokens billed for each such document, or None if it was refused or nothing said.
        most_accepted: The longest document that was accepted, by our count, or None.
        least_refused: The shortest that was refused, or None.
        said: The service's words when it refused.
    """

    answer: Literal["cut", "refused", "read", "unclear"]
    sent: int
    documented: int | None
    counted: int | None = None
    most_accepted: int | None = None
    least_refused: int | None = None
    said: str | None = None


@dataclass(frozen=True)
class Instruct:
    """Whether ``instruct`` counts, and whether its tokens are billed.

    Attributes:
        answer: "per document", "per request", "not counted", "unclear" where the longer one costs
            less, "unreported" without any usage, or "not taken" by a server that knows no
            ``instruct``, which is then not asked.
        ours: Tokens by which the longer of two texts is longer, by our count.
        billed: Tokens by which its bill was higher, over all documents; None if it was not, or is
            unreported.
        documents: How many documents there were.
        changes_scores: Whether the two texts, which say the contrary, gave different scores.
    """

    answer: Literal[
        "per document", "per request", "not counted", "unclear", "unreported", "not taken"
    ]
    ours: int
    billed: int | None
    documents: int
    changes_scores: bool


@dataclass(frozen=True)
class Protocols:
    """Whether the other protocol gives the same scores on the same host.

    Attributes:
        answer: "same" within a millionth; "differ"; "refused"; "not asked" where there is none.
        other: The other protocol, or None.
        difference: Largest difference of a score, or None without any.
        said: The service's words when it refused.
    """

    answer: Literal["same", "differ", "refused", "not asked"]
    other: Literal["dashscope", "compatible"] | None
    difference: float | None = None
    said: str | None = None


@dataclass(frozen=True)
class Blanks:
    """What happens to a request with a blank document.

    Attributes:
        empty: With an empty one.
        spaces: With one of spaces alone.
        said: The service's words when it refused, or None.
    """

    empty: Literal["refused", "accepted"]
    spaces: Literal["refused", "accepted"]
    said: str | None


@dataclass(frozen=True)
class Latency:
    """How long a list takes, in seconds.

    Attributes:
        documents: Its length; all of it is one request.
        cold: With a connection that had to be opened.
        warm: With an open one; the median of a few.
        failed: Why there is no time, or None.
    """

    documents: int
    cold: float | None
    warm: float | None
    failed: str | None = None


@dataclass(frozen=True)
class Latencies:
    """How long lists of several lengths take.

    Attributes:
        tokens: Tokens of each document, about.
        lists: One entry for each length.
    """

    tokens: int
    lists: tuple[Latency, ...]


Exam: TypeAlias = Callable[
    [Asker], Independence | OverLong | Instruct | Protocols | Blanks | Latencies
]


def passage(number: int) -> str:
    """One of a thousand different passages of about 30 tokens."""
    mixed = number * 377 % _DISTINCT  # neighbours in the list have little in common
    person, deed, thing = (
        words[mixed // power % 10] for words, power in ((_PEOPLE, 1), (_DEEDS, 10), (_THINGS, 100))
    )
    return (
        f"On market days {person} {deed} {thing}, and whoever walks past the town hall before "
        f"noon can see page {mixed} of the book about it."
    )


def judged_first(
    scores: Sequence[float | None],
) -> tuple[Literal["best", "tied", "worse", "equal"], int]:
    """How the answer among `CANDIDATES` came off, and the other with the highest score."""
    _, answer, _ = known = [score or 0.0 for score in scores]
    rival = max((0, 2), key=lambda place: known[place])
    if max(known) - min(known) <= _SAME:
        return "equal", rival
    if abs(answer - known[rival]) <= _SAME:
        return "tied", rival
    return ("best" if answer > known[rival] else "worse"), rival


def independence(asker: Asker) -> Independence:
    """Scores three pairs alone and among others, and those again and in reverse."""
    size = min(_OTHERS + 1, asker.terms.width)
    among = [passage(number) for number in range(size - len(CANDIDATES))]
    places = (0, size // 2, size - 1)
    for place, text in zip(places, CANDIDATES, strict=True):
        among.insert(place, text)
    alone = [asker.ask(Ask(QUERY, (text,))).scores[0] for text in CANDIDATES]
    first, again = (asker.ask(Ask(QUERY, tuple(among))).scores for _ in range(2))
    turned = asker.ask(Ask(QUERY, tuple(reversed(among)))).scores[::-1]
    return judged_independence(
        alone=_largest(alone, [first[place] for place in places]),
        order=_largest(first, turned),
        again=_largest(first, again),
        spread=max(first) - min(first),
        others=size - 1,
    )


def judged_independence(
    *, alone: float, order: float, again: float, spread: float, others: int
) -> Independence:
    """The word for these differences."""
    most, noise = max(alone, order), max(_SAME, _NOISE * spread)
    answer: Literal["same", "nearly", "depends", "unsteady"]
    if again > noise and most <= 2 * again:
        answer = "unsteady"
    elif most > noise:
        answer = "depends"
    else:
        answer = "same" if max(most, again) <= _SAME else "nearly"
    return Independence(answer, alone, order, again, spread, others)


def _largest(some: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(one - other) for one, other in zip(some, others, strict=True))


def over_long(asker: Asker) -> OverLong:
    """Sends documents over the limit whose answer stands first, last, or nowhere."""
    documented = asker.terms.documented_item_tokens
    sent = int(asker.terms.limits.item_tokens.value * _OVER)
    body = filled(map(passage, range(sent // 20)), sent - count(_ANSWER) - 1)
    texts = f"{_ANSWER} {body}", f"{body} {_ANSWER}", f"{body} {_UNRELATED}"
    try:
        told = asker.ask(Ask(QUERY, texts))
    except RequestError as refused:
        accepted, least = _between(asker, body, sent)
        return OverLong(
            "refused",
            sent,
            documented,
            most_accepted=accepted,
            least_refused=least,
            said=refused.message,
        )
    return judged_length(told, sent, documented, count(QUERY))


def judged_length(told: Told, sent: int, documented: int | None, query: int) -> OverLong:
    """What became of documents with the answer first, last, and nowhere, which were accepted."""
    first, last, nowhere = told.scores
    answer: Literal["cut", "read", "unclear"] = "unclear"
    if abs(first - nowhere) > _SAME:  # the answer matters at all
        answer = "cut" if abs(last - nowhere) < abs(first - nowhere) / 10 else "read"
    counted = round((told.tokens or 0) / len(told.scores)) - query
    return OverLong(
        answer, sent, documented, counted=counted if counted > 0 else None, most_accepted=sent
    )


def _between(asker: Asker, body: str, refused: int) -> tuple[int | None, int]:
    """The longest head of *body* found to be accepted, and the shortest to be refused, in tokens.

    Found to about a thirtieth of the documented limit.
    """
    accepted: int | None = None
    length = int(refused * 0.6)
    for _ in range(_HALVINGS + 1):
        try:
            asker.ask(Ask(QUERY, (filled([body], length),)))
        except RequestError:
            refused = length
            if accepted is None:
                break
        else:
            accepted = length
        length = (refused + (accepted or 0)) // 2
    return accepted, refused


def instruct(asker: Asker) -> Instruct:
    """Sends the same list with the usual instruct and with a shorter one that says the contrary."""
    ours, documents = count(DEFAULT_INSTRUCT) - count(_CONTRARY_INSTRUCT), len(CANDIDATES)
    if not asker.terms.takes_instruct:
        return Instruct("not taken", ours, None, documents, changes_scores=False)
    long, short = (
        asker.ask(Ask(QUERY, CANDIDATES, text)) for text in (DEFAULT_INSTRUCT, _CONTRARY_INSTRUCT)
    )
    changed = _largest(long.scores, short.scores) > _SAME
    if not (long.tokens and short.tokens):
        return Instruct("unreported", ours, None, documents, changed)
    billed = long.tokens - short.tokens
    if billed < 0:  # what is reported is no tokens of these texts
        return Instruct("unclear", ours, None, documents, changed)
    answer: Literal["per document", "per request", "not counted"] = "per document"
    if billed < ours / 2:
        answer = "not counted"
    elif billed < ours * (documents + 1) / 2:
        answer = "per request"
    return Instruct(answer, ours, billed, documents, changed)


def protocols(asker: Asker) -> Protocols:
    """Sends the same list by both protocols."""
    if (other := asker.terms.other) is None:
        return Protocols("not asked", None)
    mine = asker.ask(Ask(QUERY, CANDIDATES)).scores
    try:
        theirs = asker.ask(Ask(QUERY, CANDIDATES, protocol=other)).scores
    except (AuthenticationError, RequestError, ReplyError) as refused:
        return Protocols("refused", other, said=refused.message)
    difference = _largest(mine, theirs)
    return Protocols("same" if difference <= _SAME else "differ", other, difference)


def blanks(asker: Asker) -> Blanks:
    """Sends a blank document beside a good one."""
    empty, spaces = (_refusal(asker, (_ANSWER, blank)) for blank in ("", "   "))
    return Blanks(
        "accepted" if empty is None else "refused",
        "accepted" if spaces is None else "refused",
        empty or spaces,
    )


def _refusal(asker: Asker, documents: tuple[str, ...]) -> str | None:
    try:
        asker.ask(Ask(QUERY, documents))
    except RequestError as refused:
        return refused.message
    return None


def latency(asker: Asker) -> Latencies:
    """Sends lists of several lengths, each over a new connection first."""
    texts = [passage(number) for number in range(_SIZES[-1])]
    lengths = [count(QUERY) + count(text) for text in texts]
    lists = [
        _timed(asker, tuple(texts[:size]))
        for size in _SIZES
        if size <= asker.terms.width
        and sum(lengths[:size]) <= asker.terms.limits.planned_request_tokens
    ]
    return Latencies(round(median(lengths)) - count(QUERY), tuple(lists))


def _timed(asker: Asker, texts: tuple[str, ...]) -> Latency:
    asker.hang_up()
    try:
        # Sending again would be timed too.
        cold, *warm = (
            asker.ask(Ask(QUERY, texts), patient=False).seconds for _ in range(1 + _WARM_CALLS)
        )
    except RequestError as error:  # it takes no list of this length; all else is no answer
        return Latency(len(texts), None, None, error.message)
    return Latency(len(texts), cold, median(warm))


EXAMS: Mapping[str, Exam] = MappingProxyType(
    {
        "score_independence": independence,
        "over_long": over_long,
        "instruct": instruct,
        "protocols": protocols,
        "blanks": blanks,
        "latency": latency,
    }
)
"""All of them, by their names in the report, in the order in which they are made."""
