"""`qwen-rerank demo`: its arguments. The flow is in `flow`."""

from __future__ import annotations

from typing import Any

import click

from qwen_rerank.cli._options import POSITIVE

__all__ = ["command"]


@click.command("demo")
@click.option("--live", is_flag=True, help="Ask DashScope itself, with your key.")
@click.option("--yes", "confirmed", is_flag=True, help="With --live: send without asking.")
@click.option("--model", metavar="NAME", default="qwen3-rerank", help="Rerank model.")
@click.option("--region", metavar="REGION", help="With --live: such as cn-beijing (Beijing).")
@click.option(
    "--questions",
    "count",
    type=POSITIVE,
    metavar="N",
    show_default="all, or 12 with --live",
    help="How many questions to use.",
)
def command(*, live: bool, confirmed: bool, region: str | None, **given: Any) -> int:
    """Rerank the Python reference in both frameworks, and measure it.

    Retrieves passages of the Python language reference with each framework's own in-memory vector
    store, reranks them, and measures the order before and after. Without --live everything stays on
    this machine and the scores are a lexical stand-in's.
    """
    if region and not live:
        raise click.UsageError("--region needs --live: the emulator is in no region")
    if confirmed and not live:
        raise click.UsageError("--yes needs --live: nothing is sent to the service without")
    from qwen_rerank.cli.demo.flow import demo  # noqa: PLC0415  rich and both frameworks

    return demo(live=live, confirmed=confirmed, region=region, **given)
