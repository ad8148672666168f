"""What the doctor shows, with rich. Nothing is asked, measured or judged here."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from qwen_rerank.cli._terminal import visible
from qwen_rerank.cli._words import counted
from qwen_rerank.cli.doctor.exams import (
    Blanks,
    Independence,
    Instruct,
    Latencies,
    OverLong,
    Protocols,
)
from qwen_rerank.cli.doctor.probe import Reach

__all__ = [
    "answers",
    "doubt",
    "heading",
    "intention",
    "latencies",
    "problem",
    "reached",
    "rows",
    "spent",
]

_ALIKE = 0.9  # of two numbers of which one is told
_GOOD, _MIND, _PLAIN = "green", "yellow", "cyan"

_INDEPENDENCE = {
    "same": ("independent", _GOOD, "Scores of different requests, and of a cache, can be compared"),
    "nearly": (
        "nearly independent",
        _GOOD,
        "Scores of different requests can be compared, but for their last digits",
    ),
    "depends": (
        "depends on the others",
        _MIND,
        "Lists over the limit and a cache compare what is not comparable: keep to one request",
    ),
    "unsteady": (
        "unsteady",
        _MIND,
        "The same request gets other scores each time, so that nothing can be said about its parts",
    ),
}
_OVER_LONG = {
    "cut": ("cut", _PLAIN, "The end of a document of {sent:,} tokens made no difference"),
    "refused": ("refused", _PLAIN, "A document of {sent:,} tokens fails its whole request"),
    "read": ("read to the end", _GOOD, "All of a document of {sent:,} tokens was read"),
    "unclear": (
        "accepted",
        _MIND,
        "A document of {sent:,} tokens is accepted; whether its end is read cannot be told",
    ),
}


def heading(title: str) -> Rule:
    """The line above a section."""
    return Rule(Text(title, "bold cyan"), align="left", style="cyan")


def rows(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Names, values and where each came from."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for name, value, place in rows:
        table.add_row(Text(name), Text(visible(value)), Text(visible(place)))
    return table


def doubt(text: str) -> Padding:
    """What may go wrong."""
    return _said(text, _MIND)


def intention(
    *,
    requests: int,
    tokens: int,
    least_tokens: int,
    instruct_tokens: int,
    cost: str | None,
    where: str,
) -> Padding:
    """What is about to be sent."""
    price = "no list price is known there" if cost is None else f"{cost} by the list price"
    if least_tokens < _ALIKE * tokens:
        total = f"{least_tokens:,} to {tokens:,} tokens in all, by what becomes of over-long texts"
    else:
        total = f"{tokens:,} tokens in all"
    more = (
        f" Others saw the service bill its default instruct too: that would be {instruct_tokens:,} "
        "more."
        if instruct_tokens
        else ""
    )
    return _said(
        f"The examination sends up to {counted(requests, 'request')} to {visible(where)}, one "
        f"after another, with about {total}: {price}.{more}"
    )


def reached(reach: Reach) -> Table:
    """How long each step of the way took."""
    return rows(
        (name, "not needed" if seconds is None else _milliseconds(seconds), "")
        for name, seconds in zip(
            ("name look-up", "connection", "TLS", "first answer"), reach, strict=True
        )
    )


def answers(findings: dict[str, Any]) -> Table:
    """One row for each question that has an answer."""
    table = Table(box=box.ROUNDED, border_style="cyan", header_style="bold", show_lines=True)
    table.add_column("question", ratio=3)
    table.add_column("answer", ratio=2)
    table.add_column("what was seen", ratio=6)
    for finding in findings.values():
        row = _row(finding)
        if row is not None:
            question, (answer, style), seen = row
            table.add_row(Text(question), Text(answer, f"bold {style}"), Text(visible(seen)))
    return table


def latencies(found: Latencies) -> Group:
    """Time by length of list."""
    table = Table(box=box.ROUNDED, border_style="cyan", header_style="bold")
    for name in ("documents", "cold", "warm"):
        table.add_column(name, justify="right", min_width=9)
    for one in found.lists:
        if one.cold is None or one.warm is None:
            table.add_row(str(one.documents), Text(visible(one.failed or ""), "red"), "")
        else:
            table.add_row(f"{one.documents:,}", _milliseconds(one.cold), _milliseconds(one.warm))
    note = (
        f"One request each, with documents of about {found.tokens} tokens. Cold: over a new "
        "connection."
    )
    return Group(_said(note, "dim"), table)


def problem(error: str, facts: str, fix: str | None) -> Panel:
    """What went wrong, and the sentence that mends it."""
    said: list[RenderableType] = [Text(visible(facts))]
    if fix:
        said += ["", Text.assemble(("What to do: ", "bold"), visible(fix))]
    return Panel(Group(*said), title=Text(error, "bold red"), border_style="red", padding=(0, 1))


def _row(finding: object) -> tuple[str, tuple[str, str], str] | None:
    match finding:
        case Independence():
            return _independence(finding)
        case OverLong():
            return _over_long(finding)
        case Instruct():
            return _instruct(finding)
        case Protocols():
            return _protocols(finding)
        case Blanks():
            return _blanks(finding)
    return None


def _independence(found: Independence) -> tuple[str, tuple[str, str], str]:
    answer, style, meaning = _INDEPENDENCE[found.answer]
    seen = (
        f"Largest difference: {found.alone:.2g} alone, {found.order:.2g} in reverse order, "
        f"{found.again:.2g} when sent again; the scores span {found.spread:.2g}."
    )
    return (
        f"Is a pair's score the same alone, among {found.others} others, and in another order?",
        (answer, style),
        f"{seen} {meaning}.",
    )


def _over_long(found: OverLong) -> tuple[str, tuple[str, str], str]:
    answer, style, meaning = _OVER_LONG[found.answer]
    seen = meaning.format(sent=found.sent) + "."
    if found.counted is not None:
        seen += f" Billed: {found.counted:,} tokens."
    if found.least_refused is not None:
        taken = "" if found.most_accepted is None else f"{found.most_accepted:,} are taken, "
        seen += f" {taken}{found.least_refused:,} are refused."
    seen += (
        " No limit is documented."
        if found.documented is None
        else f" Documented: {found.documented:,}."
    )
    if found.said:
        seen += f" It says: {found.said}"
    return "Is a document over the token limit cut or refused?", (answer, style), seen


def _instruct(found: Instruct) -> tuple[str, tuple[str, str], str]:
    question = "Does instruct count in usage?"
    if found.answer == "not taken":
        return question, (found.answer, _MIND), "This server knows no instruct."
    style = _MIND if found.answer in ("unclear", "unreported") else _PLAIN
    if found.answer == "unclear":
        seen = f"An instruct that is {found.ours} tokens longer costs less."
    elif found.billed is None:
        seen = "The service reports no usage."
    else:
        seen = (
            f"An instruct that is {found.ours} tokens longer added {found.billed} to the bill of "
            f"{found.documents} documents."
        )
    effect = (
        "It counts here: the contrary instruct changes the scores."
        if found.changes_scores
        else "It does not count here: with the contrary instruct the scores are the same. vLLM "
        "needs --chat-template for it; a gateway or the model may ignore it."
    )
    return question, (found.answer, style), f"{seen} {effect}"


def _protocols(found: Protocols) -> tuple[str, tuple[str, str], str]:
    question = "Does the other protocol give the same scores?"
    if found.other is None:
        return question, (found.answer, _PLAIN), "There is no other one at that URL."
    style = _MIND if found.answer == "differ" else _PLAIN
    seen = (
        f"By '{found.other}' it says: {found.said}"
        if found.difference is None
        else f"Largest difference by '{found.other}': {found.difference:.2g}."
    )
    return question, (found.answer, style), seen


def _blanks(found: Blanks) -> tuple[str, tuple[str, str], str]:
    same = found.empty == found.spaces
    answer = found.empty if same else f"empty {found.empty}, spaces {found.spaces}"
    seen = f"Empty: {found.empty}. Spaces: {found.spaces}."
    if found.said:
        seen += f" It says: {found.said}"
    return "Are blank documents refused?", (answer, _PLAIN), seen


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.{1 if seconds < 0.01 else 0}f} ms"


def spent(
    *, requests: int, tokens: int | None, cost: str | None, problems: Sequence[str]
) -> Padding:
    """What it came to."""
    billed = "no tokens reported" if tokens is None else counted(tokens, "token")
    price = "" if cost is None else f", {cost} by the list price"
    end = f" Not answered: {', '.join(problems)}." if problems else ""
    return _said(f"Spent: {counted(requests, 'request')}, {billed}{price}.{end}", "dim")


def _said(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style), (0, 1))
