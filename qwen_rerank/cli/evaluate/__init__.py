"""`qwen-rerank evaluate`: its arguments. The flow is in `flow`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import click
from click.core import ParameterSource

from qwen_rerank.cli._options import FILE, POSITIVE

__all__ = ["command"]

# Whether --threshold is needed for an option, or must not be there.
_NEEDED = {"measures": False, "changed": False, "recall": True, "min_grade": True}


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
    help="How many of the most improved queries to show, and of the most worsened.",
)
@click.option(
    "--threshold",
    is_flag=True,
    help="Show what each score_threshold keeps and loses of one reranked run, and propose one.",
)
@click.option(
    "--recall",
    type=click.FloatRange(min=0, max=1, min_open=True),
    metavar="SHARE",
    default=0.95,
    help="With --threshold: the share of the relevant documents to keep.",
)
@click.option(
    "--min-grade",
    type=POSITIVE,
    metavar="N",
    default=1,
    help="With --threshold: the lowest grade that counts as relevant.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every query.")
@click.option(
    "--picture",
    type=FILE,
    metavar="FILE",
    help="Draw each query before and after, or what the thresholds keep, to a .png or .svg.",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    qrels: str,
    runs: Sequence[str],
    measures: Sequence[str],
    changed: int,
    threshold: bool,
    recall: float,
    min_grade: int,
    as_json: bool,
    picture: str | None,
) -> int:
    """Measure runs before and after reranking against judgements, or find a score threshold.

    Measures every --run, and compares each with the first: per query, with a paired test. With
    --threshold it is about the scores of one run instead. What a lexical stand-in ranked says
    nothing about the Qwen models.
    """
    for name, needed in _NEEDED.items():
        is_given = context.get_parameter_source(name) is not ParameterSource.DEFAULT
        if is_given and threshold is not needed:
            option = next(each.opts[0] for each in context.command.params if each.name == name)
            raise click.UsageError(f"{option} is {'only' if needed else 'not'} for --threshold")
    if math.isnan(recall):  # which the range lets pass
        raise click.BadParameter("nan is no share.", param_hint="'--recall'")
    from pathlib import Path  # noqa: PLC0415  which the help does without

    from qwen_rerank.cli.evaluate import flow  # noqa: PLC0415  rich, ir_measures and scipy

    drawn = None if picture is None else Path(picture)

    if threshold:
        return flow.evaluate_threshold(
            qrels, runs, recall=recall, min_grade=min_grade, as_json=as_json, picture=drawn
        )
    return flow.evaluate(
        qrels, runs, measures=measures, changed=changed, as_json=as_json, picture=drawn
    )
