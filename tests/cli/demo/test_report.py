"""What is shown: hostile text, narrow and dumb terminals, and the figures at the end."""

import io
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from qwen_rerank import Usage
from qwen_rerank.cli import _terminal
from qwen_rerank.cli.demo import report
from qwen_rerank.cli.demo.corpus import Passage, Question
from qwen_rerank.cli.demo.measure import Found, Judged, Quality, Result, Trial

HOSTILE = "[/oops] [bold]x[/bold] :smile: \x1b[31mred\x1b[0m \x07 \u202eevil \ud800 \x85 end"


def found(topic, text="Heading\n\nwords", score=0.5):
    """A passage in a ranking."""
    return Found(Passage(f"{topic}-0", topic, text), score)


def trial(name, before, after, text="why?", topics=("a", "b", "c")):
    """A question whose order was turned round."""
    order = tuple(found(topic) for topic in topics)
    return Trial(
        Question(name, text, {"a": 3, "b": 1}),
        Judged(order, Quality(before, before)),
        Judged(order[::-1], Quality(after, after)),
    )


def result(*trials, framework="LangChain"):
    """These questions through one framework."""
    return Result(framework, trials, Usage(requests=12, tokens=34_567), 8.91)


def shown(*renderables, width=80):
    """What a pipe would get of these."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for renderable in renderables:
        console.print(renderable)
    return console.file.getvalue()


def test_control_characters_are_visible():
    """What would move the cursor, hide, or fail to encode is spelled out; the rest stays."""
    text = "a  b\n\tc \x1b[31mred \u202egnp.exe \ud800 [/oops] é 变量 "
    assert _terminal.visible(text) == r"a b c \x1b[31mred \u202egnp.exe \ud800 [/oops] é 变量"


@pytest.mark.parametrize("width", [20, 80])
def test_hostile_text_is_shown_as_it_is(width):
    """Markup in passages, topics, questions and models is text, and no escape gets through."""
    order = (found(HOSTILE, f"Heading\n\n{HOSTILE}", 7.0), found("[b]", HOSTILE, -1.0))
    hostile = Trial(
        Question("q", HOSTILE, {HOSTILE: 2}),
        Judged(order, Quality(0.1, 0.1)),
        Judged(order, Quality(0.2, 0.2)),
    )
    results = [result(hostile)]
    names = {"host": HOSTILE, "model": HOSTILE}
    text = shown(
        *report.samples(results),
        report.summary(results, HOSTILE),
        report.explanation(passages=1, questions=1, retrieved=1, **names),
        report.intention(requests=1, retrieved=1, tokens=1, **names),
        width=width,
    )
    text.encode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    if width == 80:
        assert "[/oops] [bold]x[/bold] :smile: \\x1b[31mred" in text


def test_both_ends_are_shown():
    """The largest gain is shown with the first framework, the largest loss with the other."""
    trials = (trial("q1", 0.1, 0.2), trial("q2", 0.1, 0.9, "up?"), trial("q3", 0.9, 0.1, "down?"))
    text = shown(*report.samples([result(*trials), result(*trials, framework="LlamaIndex")]))
    assert re.search(r"Largest gain, with LangChain .*0\.10 → 0\.90.*\n up\?", text)
    assert re.search(r"Largest loss, with LlamaIndex .*0\.90 → 0\.10.*\n down\?", text)


def test_without_a_loss_there_is_none():
    """If every question gained, the other end is the smallest gain; of one there is no other."""
    trials = (trial("q1", 0.1, 0.2), trial("q2", 0.1, 0.9))
    assert "Smallest gain" in shown(*report.samples([result(*trials)]))
    assert shown(*report.samples([result(*trials[:1])])).count("nDCG@10") == 1


def test_a_sample_shows_grades_and_moves():
    """Each topic has its grade as a symbol, and where it came from.

    What is relevant has an arrow beside its colour, which says better or worse.
    """
    text = shown(*report.samples([result(trial("q1", 0.1, 0.2))]))
    before, after = text.split("after")[:2]
    assert re.search(r"1 +●●● a +words .*0\.50", before)
    assert re.search(r"2 +●○○ b", before)
    assert re.search(r"3 +· +c", before)
    assert re.search(r"1 +· +c .*  3 → 1", after)
    assert re.search(r"2 +●○○ b .*  2 → 2", after)
    assert re.search(r"3 +●●● a .*▼ 1 → 3", after)
    assert "→" not in before.split("topic")[1]


def test_what_was_lost_is_shown_where_it_went():
    """A relevant topic that left the places shown stands below them; an irrelevant one does not."""
    lost = trial("q1", 0.9, 0.1, topics=("a", "x", "c", "d", "e", "f", "b"))
    before, after = shown(*report.samples([result(lost)])).split("after")[:2]
    assert re.search(r"5 +· +e .*\n +7 +●○○ b ", before)
    assert re.search(r"5 +· +c .*\n +7 +●●● a .*▼ 1 → 7", after)
    assert len(re.findall(r"^ +\d ", before, re.MULTILINE)) == 6


def test_better_is_green_and_worse_is_red():
    """Nothing else is either, in the samples and in the figures."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    trials = (trial("q1", 0.1, 0.5), trial("q2", 0.9, 0.1))
    for part in (*report.samples([result(*trials)]), report.summary([result(*trials)], "x")):
        console.print(part, highlight=False)
    printed = console.file.getvalue()
    coloured = {
        colour: {text.strip() for text in re.findall(rf"\x1b\[{code}m([^\x1b]*)", printed)}
        for colour, code in (("green", 32), ("red", 31))
    }
    assert coloured == {
        "green": {"▲ nDCG@10 0.10 → 0.50"},
        "red": {"▼ nDCG@10 0.90 → 0.10", "▼ 1 → 3", "▼ -0.200"},
    }


@pytest.mark.parametrize("live", [False, True])
def test_the_next_steps(live):
    """Each is a line of 80 columns; with a key the model itself is one, unless it was asked."""
    lines = shown(report.next_steps(".venv/bin/qwen-rerank", live=live)).splitlines()
    assert lines[0].startswith("Next, your own code:  docs/tutorial-langchain.md, ")
    assert len(lines) == (2 if live else 3)
    assert any("demo --live" in line for line in lines) != live


def test_a_snippet_has_words():
    """The heading and the lines of a table are left out; a passage of one line is shown whole."""
    order = (found("a", "Heading\n\n+-----+=====+\n| cell |\n+-----+"), found("b", "only"))
    judged = Judged(order, Quality(0.0, 0.0))
    text = shown(*report.samples([result(Trial(Question("q", "?", {}), judged, judged))]))
    assert "Heading" not in text
    assert "-----" not in text
    assert "| cell |" in text
    assert "only" in text


def test_the_figures():
    """The four numbers of each framework with what changed, counts, requests, tokens, seconds."""
    trials = (trial("q1", 0.1, 0.2), trial("q2", 0.3, 0.1), trial("q3", 0.2, 0.2))
    results = [result(*trials), result(*trials, framework="LlamaIndex")]
    lines = shown(report.summary(results, "somebody")).splitlines()[-15:]
    text = " ".join(re.sub(r"[^\w@./, ▲▼+-]", " ", " ".join(lines)).split())
    assert text == (
        "3 questions LangChain LlamaIndex "
        "nDCG@10 before 0.200 0.200 nDCG@10 after ▼ -0.033 0.167 ▼ -0.033 0.167 "
        "MRR before 0.200 0.200 MRR after ▼ -0.033 0.167 ▼ -0.033 0.167 "
        "questions that rose / fell / stayed 1 / 1 / 1 1 / 1 / 1 "
        "requests 12 12 tokens 34,567 34,567 seconds of reranking 8.9 8.9"
    )


def test_tokens_that_were_not_reported():
    """They are unknown, not 0."""
    unknown = replace(result(trial("q1", 0.1, 0.2)), usage=Usage(1, None))
    assert re.search(r"tokens\W+unknown", shown(report.summary([unknown], "somebody")))


def test_progress_leaves_no_trace():
    """A terminal has its bar while it lasts; elsewhere nothing is written."""
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
        with _terminal.waiting(console, "[/it]"):
            pass
        with _terminal.progress(console) as bar:
            assert list(bar.track([1, 2], description="[/x] works")) == [1, 2]
        written = console.file.getvalue()
        assert ("[/x] works" in written) == terminal
        assert ("[/it]" in written) == terminal
        assert bool(written) == terminal


def test_a_poor_encoding_is_no_error(monkeypatch):
    """Where standard output cannot say a character, it prints a question mark."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console = _terminal.open_console()
    console.print(report.summary([result(trial("q1", 0.1, 0.2))], "变量"))
    sys.stdout.flush()
    assert b"Scored by ??" in raw.getvalue()
    assert b"0.200" in raw.getvalue()


def test_any_output_will_do(monkeypatch):
    """Standard output may be an object without an encoding, as in a notebook."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    _terminal.open_console().print("fine")
    assert sys.stdout.getvalue() == "fine\n"


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_who_cannot_be_asked_wants_nothing(monkeypatch, stream):
    """Without a standard stream the answer is no, as where nobody answers."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    monkeypatch.setattr(sys, stream, None)
    assert not _terminal.agreed(Console(file=io.StringIO()))
