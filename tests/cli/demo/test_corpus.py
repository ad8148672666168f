"""The demo's corpus and judgements, on whichever Python runs the tests."""

import json
from collections import Counter
from pydoc_data.topics import topics as reference

import pytest

from qwen_rerank.cli.demo.corpus import cut, load_passages, load_questions, parse_questions

_TITLE = "The Title\n*********\n\n"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _heading(topic: str) -> str:
    return reference[topic].split("\n")[0]


def test_passages_have_the_size_a_reranker_likes() -> None:
    """Nearly all passages are a few hundred to 1,400 characters, most of them about 1,100."""
    sizes = [len(passage.text) for passage in load_passages()]
    assert len(sizes) > 300
    assert sum(300 <= size <= 1_400 for size in sizes) > 0.95 * len(sizes)
    assert sum(900 <= size <= 1_250 for size in sizes) > 0.55 * len(sizes)


def test_no_paragraph_is_there_twice() -> None:
    """However many topics repeat a paragraph, one passage has it."""
    seen: Counter[str] = Counter()
    for passage in load_passages():
        seen.update(_paragraphs(passage.text)[1:])
    # short lines such as "For example:" belong to the block after them
    twice = [text for text, count in seen.items() if count > 1 and len(text) > 60]
    assert twice == []


def test_every_passage_carries_its_heading() -> None:
    """A passage taken from the middle of a topic still says what it is about."""
    for passage in load_passages():
        assert passage.text.startswith(_heading(passage.topic) + "\n")


def test_passages_are_the_same_every_time() -> None:
    """The order of the topics does not matter, and ids are unique."""
    passages = load_passages()
    assert cut(dict(reversed(reference.items()))) == passages
    assert len({passage.id for passage in passages}) == len(passages)
    assert passages == tuple(sorted(passages, key=lambda passage: passage.topic))


def test_the_shortest_topic_keeps_a_shared_paragraph() -> None:
    """A long topic keeps only what no shorter one says, and vanishes when that is nothing."""
    shared = f"Shared text, {'word ' * 30}."
    own = f"Text of its own, {'other ' * 30}."
    passages = cut(
        {
            "long": f"Long\n====\n\n{own}\n\nShort\n-----\n\n{shared.replace(' ', chr(10), 3)}\n",
            "short": f"Short\n*****\n\n{shared}\n",
            "copy": f"Short\n*****\n\n{shared}\n",
        }
    )
    assert [(passage.id, passage.text) for passage in passages] == [
        ("copy-0", f"Short\n\n{shared}"),
        ("long-0", f"Long\n\n{own}"),
    ]


def test_an_over_long_paragraph_is_cut_at_line_ends() -> None:
    """A table of 6,000 characters makes several passages and loses no line."""
    lines = [f"| row {number:03} | {'x' * 45} |" for number in range(100)]
    passages = cut({"table": _TITLE + "\n".join(lines) + "\n"})
    assert len(passages) > 4
    assert all(len(passage.text) <= 1_400 for passage in passages)
    kept = [line for passage in passages for line in passage.text.split("\n")[2:]]
    assert kept == lines


def test_headings_and_signatures_stay_with_their_text() -> None:
    """No passage ends on a section heading or a signature without its explanation."""
    filler = "\n\n".join(f"Paragraph {number} {'text ' * 40}" for number in range(12))
    passages = cut(
        {"topic": f"{_TITLE}{filler}\n\nSection\n=======\n\nf(x)\n\n   Does {'it ' * 300}\n"}
    )
    (passage,) = [passage for passage in passages if "f(x)" in passage.text]
    assert "Section\n\nf(x)\n\n   Does it" in passage.text


def test_questions_are_judged_by_topics_this_python_has() -> None:
    """Every question has a topic with passages that answers it fully."""
    topics = {passage.topic for passage in load_passages()}
    questions = load_questions()
    assert len(questions) >= 40
    assert len({question.id for question in questions}) == len(questions)
    assert len({question.text for question in questions}) == len(questions)
    for question in questions:
        assert set(question.grades) <= topics
        assert set(question.grades.values()) <= {1, 2, 3}
        assert 3 in question.grades.values(), question.id


def test_a_topic_this_python_lacks_is_ignored() -> None:
    """Judgements outlive a topic that was renamed, but a question without any is an error."""
    entry = {"id": "q1", "text": "how?", "grades": {"while": 3, "gone": 2}}
    questions = json.dumps({"questions": [entry]})
    (question,) = parse_questions(questions, {"while", "for"})
    assert dict(question.grades) == {"while": 3}
    with pytest.raises(ValueError, match=r"q1 cannot be judged.*gone"):
        parse_questions(questions, {"for"})
