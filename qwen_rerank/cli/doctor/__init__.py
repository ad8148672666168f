"""`qwen-rerank doctor`: its arguments. The flow is in `flow`."""

from __future__ import annotations

from typing import Any

import click

from qwen_rerank.cli._options import FILE, connected

__all__ = ["command"]


@click.command("doctor")
@connected
@click.option("--json", "report", type=FILE, help="Write the findings there too.")
@click.option("--yes", "confirmed", is_flag=True, help="Send without asking.")
def command(**given: Any) -> int:
    """Find out whether your key, region and model work.

    Shows which key, region, host and model are used and where each was found, makes one call, and
    measures what the vendor's pages leave open. It says what that costs and asks before anything is
    sent. Against `qwen-rerank serve` the answers are those of a lexical stand-in.
    """
    from qwen_rerank.cli.doctor.flow import doctor  # noqa: PLC0415  rich

    return doctor(**given)
