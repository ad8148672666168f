"""`qwen-rerank evaluate`: its arguments. The flow is in `flow`."""

from __future__ import annotations

from typing import Any

import click

from qwen_rerank.cli._options import FILE, POSITIVE

__all__ = ["command"]


@click.command("evaluate")
@click.option("--qrels", type=FILE, required=True, help="Judgements, as TREC or BEIR have them.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    required=True,
    metavar="[NAME=]FILE",
    help="A TREC run, the JSON lines of `qwen-rerank rerank`, or lines of a query and its "
    "documents with tabs between; several times, the first is what the others are compared to.",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME",
    default=("nDCG@10", "RR", "R@100"),
    help="As ir_measures has them, several times. The mean of RR is the MRR; R is the recall.",
)
@click.option(
    "--changed",
    type=POSITIVE,
    metavar="N",
    default=5,
    help="How many of the most changed queries to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every query.")
def command(**given: Any) -> int:
    """Measure runs before and after reranking against judgements.

    Measures every --run, and compares each with the first: per query, with a paired test. What a
    lexical stand-in ranked says nothing about the Qwen models.
    """
    from qwen_rerank.cli.evaluate.flow import evaluate  # noqa: PLC0415  rich and ir_measures

    return evaluate(**given)
