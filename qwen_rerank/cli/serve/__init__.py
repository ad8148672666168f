"""`qwen-rerank serve`: its arguments. The flow is in `flow`."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["command"]


@click.command("serve")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="Loopback only.")
@click.option(
    "--port", type=click.IntRange(0, 2**16 - 1), metavar="PORT", default=8000, help="0 for any."
)
@click.option("--api-key", metavar="KEY", default="sk-emulator", help="What callers must present.")
@click.option(
    "--over-long",
    type=click.Choice(["truncate", "refuse"]),
    default="truncate",
    help="Items over the model's token limit.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[:WHEN]",
    help="What goes wrong, with all requests or with :first=N, :nth=N, :percent=P or "
    ":holding=TEXT; may be given several times.",
)
@click.option("--list-faults", "lists", is_flag=True, help="Print the names for --fault, and end.")
def command(*, lists: bool, **given: Any) -> int:
    """Run the local emulator until Ctrl-C.

    Answers DashScope's rerank protocols on this machine. The scores are a lexical stand-in's, not
    the Qwen models'.
    """
    from qwen_rerank.cli.serve.flow import list_faults, serve  # noqa: PLC0415  FastAPI

    return list_faults() if lists else serve(**given)
