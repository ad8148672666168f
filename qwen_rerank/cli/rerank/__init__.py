"""`qwen-rerank rerank`: its arguments. The flow is in `flow`."""

from __future__ import annotations

from typing import Any, Literal

import click

from qwen_rerank.cli._options import FILE, POSITIVE, connected, seconds

__all__ = ["command"]


@click.command("rerank")
@click.argument("lists", type=FILE, metavar="[INPUT]", required=False)
@click.option("--run", type=FILE, help="A TREC run instead of INPUT; - is standard input.")
@click.option("--corpus", type=FILE, help="With --run: JSON lines with _id and text.")
@click.option(
    "--queries", type=FILE, help="With --run: the same, or an id, a tab and a text a line."
)
@click.option("--output", type=FILE, required=True, help="- is standard output.")
@click.option(
    "--format", "fmt", type=click.Choice(["jsonl", "trec"]), default="jsonl", help="Of the output."
)
@click.option(
    "--errors", type=FILE, show_default="told on standard error", help="Where failed lines go."
)
@click.option("--resume", is_flag=True, help="Go on with the output of an earlier run.")
@connected
@click.option("--instruct", metavar="TEXT", help="What counts as relevant, in English.")
@click.option(
    "--long-query",
    type=click.Choice(["head", "tail"]),
    show_default="head",
    help="Which end of a query over the model's limit is asked.",
)
@click.option("--top-n", type=POSITIVE, metavar="N", show_default="all", help="Hits to keep.")
@click.option(
    "--concurrency",
    "max_concurrency",
    type=POSITIVE,
    metavar="N",
    default=8,
    help="Requests in flight, and lines too.",
)
@click.option("--timeout", type=seconds, metavar="SECONDS", default=60.0, help="For a line.")
@click.option(
    "--patience",
    type=seconds,
    metavar="SECONDS",
    default=600.0,
    help="Stop when the service answers no line for so long.",
)
@click.option(
    "--max-tokens",
    type=POSITIVE,
    metavar="N",
    help="Start no more lines when this run has been billed about N tokens.",
)
def command(
    *,
    lists: str | None,
    run: str | None,
    corpus: str | None,
    queries: str | None,
    output: str,
    fmt: Literal["jsonl", "trec"],
    errors: str | None,
    resume: bool,
    patience: float,
    max_tokens: int | None,
    **options: Any,
) -> int:
    """Rerank a file of candidate lists, or a TREC run, of any size.

    Ranks every line of INPUT, a JSON object with query and documents (.gz too; - is standard
    input), or every query of --run, and writes each as soon as it is finished. Against
    `qwen-rerank serve` the scores are those of a lexical stand-in.

    Exit codes: 0 all ranked, 1 stopped before the end, 2 something is wrong beforehand, 3 stopped
    by --max-tokens, 4 all done but some lines failed, 130 or 143 ended by a signal.
    """
    if (lists is None) == (run is None):
        raise click.UsageError("rerank takes either INPUT or --run")
    if any((text is None) != (run is None) for text in (corpus, queries)):
        raise click.UsageError("--run, --corpus and --queries belong together")
    if (run, corpus, queries).count("-") > 1:
        raise click.UsageError("standard input can be only one of --run, --corpus and --queries")
    from qwen_rerank.cli.rerank.flow import Lists, Run, rerank  # noqa: PLC0415  rich

    return rerank(
        Run(run, corpus, queries) if run and corpus and queries else Lists(lists or "-"),
        output,
        options=options,
        fmt=fmt,
        errors=errors,
        resume=resume,
        max_tokens=max_tokens,
        patience=patience,
    )
