"""The demo's corpus: passages cut from the running Python's reference, and judged questions.

Pure text handling over the standard library only: no ranking, no network, no printing, and no
copy of the reference itself (it is read from ``pydoc_data`` of whichever Python is running).
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pydoc_data.topics import topics as _reference
from types import MappingProxyType

_FULL = 1_200  # a passage is closed once the next paragraph would take it past this
_STRETCH = 1_400  # ... unless it would be left short, when it may grow to this
_SHORT = 500  # a passage under this is left short
_TINY = 80  # leftovers of a topic under this say nothing by themselves
_TERM = 200  # a signature, or a term with a definition indented under it, is at most this long
_LEAD_IN = 45  # "For example:" and the like: part of the block they introduce

_RULE = re.compile(r"([*=\-~^\"])\1{2,}")  # the line under a heading
_BLANK = re.compile(r"\n[ \t]*\n+")
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class Passage:
    """A piece of one topic of the reference, small enough to be ranked.

    Attributes:
        id: The topic and the passage's place in it, such as ``while-0``.
        topic: The topic's name in ``pydoc_data``, the unit that is judged.
        text: The topic's heading, then the passage.
    """

    id: str
    topic: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question with the topics that answer it.

    Attributes:
        id: A short name such as ``q01``.
        text: The question as a programmer would type it.
        grades: Topic name to grade, 1 to 3; every other topic is worth nothing.
    """

    id: str
    text: str
    grades: Mapping[str, int]


@dataclass(frozen=True)
class _Block:
    """A paragraph with the short line that leads up to it, or a section heading."""

    text: str
    is_heading: bool

    @property
    def key(self) -> str:
        """What two copies of the paragraph share, however they were wrapped."""
        return " ".join(self.text.split())

    @property
    def indent(self) -> int:
        """How far in the paragraph starts."""
        return len(self.text) - len(self.text.lstrip())

    def is_term_of(self, after: "_Block") -> bool:
        """Tell whether this is a signature or term that the next paragraph explains."""
        return len(self.text) <= _TERM and not after.is_heading and self.indent < after.indent


def cut(reference: Mapping[str, str]) -> tuple[Passage, ...]:
    """Cut topics into passages in which no paragraph occurs twice.

    Long topics repeat the text of short ones, so a paragraph goes to the shortest topic that
    has it and a long topic keeps only what nothing shorter says.

    Args:
        reference: Topic name to text, each text starting with its heading.

    Returns:
        The passages, by topic name and then in reading order.
    """
    taken: set[str] = set()
    passages: list[Passage] = []
    for topic in sorted(reference, key=lambda name: (len(reference[name]), name)):
        title, *rest = _blocks(reference[topic])
        kept = []
        for block in rest:
            if block.key not in taken:
                taken.add(block.key)
                kept.append(block)
        # the title is spent too: in a longer topic it would be a section heading without a section
        taken.add(title.key)
        bodies = _pack(_with_introductions(kept), _FULL - len(title.text) - 2)
        if len("\n\n".join(bodies)) < _TINY:
            continue
        passages += (
            Passage(f"{topic}-{number}", topic, f"{title.text}\n\n{body}")
            for number, body in enumerate(bodies)
        )
    return tuple(sorted(passages, key=lambda passage: passage.topic))


@cache
def load_passages() -> tuple[Passage, ...]:
    """Cut the language reference of the running Python."""
    return cut(_reference)


def parse_questions(text: str, topics: Collection[str]) -> tuple[Question, ...]:
    """Read judged questions, keeping the grades of the topics that exist.

    Args:
        text: The judgements as JSON.
        topics: The topics that have passages.

    Returns:
        The questions in the order they were written.

    Raises:
        ValueError: None of a question's topics exists.
    """
    questions = []
    for entry in json.loads(text)["questions"]:
        grades = {topic: grade for topic, grade in entry["grades"].items() if topic in topics}
        if not grades:
            wanted = ", ".join(sorted(entry["grades"])) or "none"
            raise ValueError(
                f"question {entry['id']} cannot be judged: this Python's reference has none of "
                f"its topics ({wanted})"
            )
        questions.append(Question(entry["id"], entry["text"], MappingProxyType(grades)))
    return tuple(questions)


@cache
def load_questions() -> tuple[Question, ...]:
    """Read the demo's questions, judged for the topics the running Python has.

    Raises:
        ValueError: None of a question's topics exists in this Python.
    """
    text = files(__package__).joinpath("judgements.json").read_text(encoding="utf-8")
    return parse_questions(text, {passage.topic for passage in load_passages()})


def _blocks(text: str) -> list[_Block]:
    """Take a topic apart at its blank lines, without the rules that underline headings."""
    blocks: list[_Block] = []
    lead_in = ""
    for part in _BLANK.split(text.strip("\n")):
        if not _WORD.search(part):
            continue  # a bare rule across the page
        *lines, last = part.rstrip().split("\n")
        if lines and _RULE.fullmatch(last):
            blocks.append(_Block("\n".join(lines), is_heading=True))
            lead_in = ""
            continue
        paragraph = lead_in + part.rstrip()
        if paragraph.endswith(":") and len(paragraph) <= _LEAD_IN:
            lead_in = f"{paragraph}\n\n"
        else:
            blocks.append(_Block(paragraph, is_heading=False))
            lead_in = ""
    return blocks


def _with_introductions(blocks: Sequence[_Block]) -> list[str]:
    """Join what only introduces a paragraph to it: section headings, and terms being defined.

    An introduction with nothing after it goes.
    """
    paragraphs = []
    introduction = ""
    for block, after in pairwise([*blocks, None]):
        if block is None:
            continue
        if block.is_heading or (after is not None and block.is_term_of(after)):
            introduction += f"{block.text}\n\n"
        else:
            paragraphs.append(introduction + block.text)
            introduction = ""
    return paragraphs


def _pack(paragraphs: Iterable[str], full: int) -> list[str]:
    """Fill passages with whole paragraphs, cutting only those too long for one."""
    stretch = full + _STRETCH - _FULL
    passages: list[str] = []
    current = ""
    for paragraph in paragraphs:
        for piece in _pieces(paragraph, full - len(current), full):
            joined = f"{current}\n\n{piece}" if current else piece
            if len(joined) <= (stretch if len(current) < _SHORT else full):
                current = joined
            else:
                passages.append(current)
                current = piece
    if not current:
        return passages
    if passages and len(current) < _SHORT and len(passages[-1]) + len(current) + 2 <= stretch:
        passages[-1] += f"\n\n{current}"  # a short end reads better with what came before it
    else:
        passages.append(current)
    return passages


def _pieces(paragraph: str, first: int, full: int) -> list[str]:
    """Cut an over-long paragraph at line ends, the first piece to fit the room that is left."""
    if len(paragraph) <= full:
        return [paragraph]
    pieces: list[str] = []
    current = ""
    room = first
    for line in paragraph.split("\n"):
        joined = f"{current}\n{line}" if current else line
        if current and len(joined) > room:
            pieces.append(current)
            current, room = line, full
        else:
            current = joined
    # a signature and its text may have been cut at the blank line between them
    return [piece.strip("\n") for piece in (*pieces, current)]
