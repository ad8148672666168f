"""What the demo shows, with rich. Nothing is measured or sent from here."""

import re
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.bar import Bar
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from qwen_rerank.cli._terminal import visible
from qwen_rerank.cli.demo.measure import Found, Judged, Result, Trial

__all__ = ["explanation", "intention", "next_steps", "samples", "summary"]

_SHOWN = 5  # topics of each order
_RULE = re.compile(r"[-=+|]{4,}")  # the lines that a table is drawn with
_GRADES = (" · ", "●○○", "●●○", "●●●")
_STYLES = ("dim", "", "bold", "bold")  # of the grades
# Green and red, always with these, are for better and worse alone.
_BETTER, _WORSE = ("▲", "green"), ("▼", "red")
_LEGEND = (
    "●●● answers it   ●●○ answers part of it   ●○○ is related   · is not relevant\n"
    "▲ better, ▼ worse: of what is relevant, whether it rose or fell"
)
_NOTES = (
    "nDCG@10: how well the first ten topics stand in the order of their grades. MRR: one over the "
    "rank of the first topic that helps at all. 1 is perfect. The last digits can differ between "
    "the frameworks: where few passages share a word with a question, each store fills up in its "
    "own way."
)


def explanation(
    *, passages: int, questions: int, retrieved: int, host: str | None, model: str
) -> Panel:
    """What is about to happen, and what the figures do not say; without *host* nothing is live."""
    text = Text(
        f"{passages} passages of the Python language reference, as it ships with this Python, and "
        f"{questions} questions with topics graded by hand. For each question LangChain's "
        "InMemoryVectorStore and LlamaIndex's VectorStoreIndex retrieve "
        f"{retrieved} passages with an embedding that is "
    )
    text.append("weak on purpose", "bold")
    text.append(
        ": it hashes words and knows nothing of meaning. Then langchain_qwen_rerank and "
        "llama_index_qwen_rerank rerank what was found, "
    )
    if host is not None:
        text.append(
            f"asking {visible(model)} at {visible(host)}. It is a look at one small collection "
            "with one reader's grades, not a benchmark."
        )
    else:
        text.append("over HTTP against the emulator on this machine. Its scores come from a ")
        text.append("lexical stand-in", "bold")
        text.append(", so that the figures are ")
        text.append("no measure of the Qwen models", "bold")
        text.append("; --live asks the real one.")
    return Panel(text, title=Text("qwen-rerank demo", "bold"), border_style="cyan", padding=(0, 1))


def intention(*, requests: int, retrieved: int, tokens: int, model: str, host: str) -> Text:
    """What is about to be sent."""
    return Text(
        f"This sends {requests} requests of {retrieved} passages each to {visible(model)} at "
        f"{visible(host)}, about {tokens:,} tokens in all. What that host bills goes to your key."
    )


def samples(results: Sequence[Result]) -> Iterator[RenderableType]:
    """Two questions before and after: the largest gain, and the other end, each by one framework.

    Showing the worst beside the best keeps the picture fair.
    """
    first, last = results[0], results[-1]
    best = max(first.trials, key=lambda trial: trial.gain)
    worst = min(last.trials, key=lambda trial: trial.gain)
    yield _sample(best, "Largest gain", first.framework)
    if worst.question != best.question:
        label = "Largest loss" if worst.gain < 0 else "Smallest gain"
        yield _sample(worst, label, last.framework)
    yield Padding(Text(_LEGEND, "dim"), (0, 1, 1, 1))


def summary(results: Sequence[Result], scored_by: str) -> Group:
    """The figures of each framework, after a note on how to read them."""
    table = Table(box=box.ROUNDED, border_style="cyan", header_style="bold")
    table.add_column(Text(f"{len(results[0].trials)} questions"), min_width=36)
    for result in results:
        table.add_column(Text(result.framework), justify="right", min_width=16)

    def row(label: str, cells: Iterable[str], style: str = "", end: bool = False) -> None:
        table.add_row(Text(label, style), *(Text(cell, style) for cell in cells), end_section=end)

    for name, measure in (("nDCG@10", "ndcg"), ("MRR", "rr")):
        before = [getattr(result.before, measure) for result in results]
        after = [getattr(result.after, measure) for result in results]
        row(f"{name} before", (f"{value:.3f}" for value in before))
        table.add_row(
            Text(f"{name} after", "bold"),
            *(
                Text.assemble(_sign(new - old, f"{new - old:+.3f}"), "  ", (f"{new:.3f}", "bold"))
                for old, new in zip(before, after, strict=True)
            ),
            end_section=True,
        )
    counts = (f"{result.rose} / {result.fell} / {result.stayed}" for result in results)
    row("questions that rose / fell / stayed", counts, end=True)
    row("requests", (f"{result.usage.requests:,}" for result in results))
    bills = (result.usage.tokens for result in results)
    row("tokens", ("unknown" if tokens is None else f"{tokens:,}" for tokens in bills))
    row("seconds of reranking", (f"{result.seconds:.1f}" for result in results))
    return Group(
        Rule(Text(f"Scored by {visible(scored_by)}", "bold cyan"), align="left", style="cyan"),
        Padding(Text(_NOTES, "dim"), (0, 1)),
        "",
        table,
    )


def next_steps(command: str, *, live: bool) -> Text:
    """What to do now; *command* is how this command line is called here."""
    steps = [
        ("Next, your own code:", "docs/tutorial-langchain.md, docs/tutorial-llama-index.md"),
        ("Your own questions:", f"{command} evaluate --help"),
        *(() if live else [("With a key:", f"{command} demo --live")]),
    ]
    return Text("\n").join(
        Text.assemble((f"{when:22}", "bold"), visible(what)) for when, what in steps
    )


def _sample(trial: Trial, label: str, framework: str) -> Group:
    before, after = trial.before, trial.after
    change = f"nDCG@10 {before.quality.ndcg:.2f} → {after.quality.ndcg:.2f}"
    title = Text.assemble(
        (f"{label}, with {framework}", "bold cyan"), "  ", _sign(trial.gain, change)
    )
    return Group(
        Rule(title, align="left", style="cyan"),
        Padding(Text(visible(trial.question.text), "bold italic"), (0, 1, 1, 1)),
        _order(trial, before, "before", "similarity"),
        "",
        _order(trial, after, "after", "score"),
        "",
    )


def _order(trial: Trial, order: Judged, name: str, score: str) -> Table:
    """One order of *trial*, topic by topic: its head, and where else what is relevant went."""
    other = trial.before if order is trial.after else trial.after
    came_from = {found.passage.topic: rank for rank, found in enumerate(trial.before.topics, 1)}
    heads = {found.passage.topic for found in (*order.topics[:_SHOWN], *other.topics[:_SHOWN])}
    table = Table(box=None, expand=True, padding=(0, 1), header_style="cyan")
    table.add_column(Text(name), width=6, justify="right", style="bold")
    table.add_column(Text("topic"), width=20, no_wrap=True, overflow="ellipsis")
    table.add_column(Text("its first passage"), ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(Text(score), width=12)
    table.add_column(Text("moved" if order is trial.after else ""), width=9, justify="right")
    for rank, found in enumerate(order.topics, 1):
        topic = found.passage.topic
        grade = trial.question.grades.get(topic, 0)
        if rank > _SHOWN and not (grade and topic in heads):
            continue
        table.add_row(
            str(rank),
            Text(f"{_GRADES[grade]} {visible(topic)}", _STYLES[grade]),
            Text(_snippet(found)),
            _bar(found.score),
            _move(came_from[topic], rank, grade) if order is trial.after else "",
        )
    return table


def _snippet(found: Found) -> str:
    """The passage without its heading, which every passage of a topic repeats."""
    heading, _, body = found.passage.text.partition("\n\n")
    return visible(_RULE.sub(" ", body or heading))[:200]


def _bar(score: float) -> Columns:
    bar = Bar(1.0, 0.0, min(max(score, 0.0), 1.0), width=7, color="cyan")
    return Columns([bar, Text(f"{score:.2f}")], padding=(0, 1))


def _move(before: int, after: int, grade: int) -> Text:
    move = f"{before} → {after}"
    return _sign(before - after, move) if grade else Text(move, "dim")


def _sign(gain: float, text: str) -> Text:
    """*text*, in colour and with an arrow if something got better or worse."""
    if not gain:
        return Text(text)
    arrow, style = _BETTER if gain > 0 else _WORSE
    return Text(f"{arrow} {text}", style)
