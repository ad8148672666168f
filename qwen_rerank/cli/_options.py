"""Options that commands share, declared once. What one alone takes is declared in its folder.

Light: every command imports it, and `--help` all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["FILE", "POSITIVE", "connected", "seconds"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, allow_dash=True)
POSITIVE = click.IntRange(min=1)


def seconds(text: str) -> float:
    """A type of option: so many seconds, and an end to them."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise click.BadParameter(f"{text!r} is not a number of seconds")
    return number


def connected(command: _Command) -> _Command:
    """Adds what is asked, where, and with which key: never the key itself, which others would see.

    The names are those of the `Reranker`'s options; *key_variable* and *header_variables* are
    what `_key` looks up.
    """
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


def _refuse_key(_context: click.Context, _option: click.Parameter, key: str | None) -> None:
    if key is not None:
        raise click.UsageError(
            "a key is no argument, because others see those: use --api-key-env NAME"
        )


_CONNECTION = (
    click.option("--model", metavar="NAME", show_default="qwen3-rerank", help="Rerank model."),
    click.option("--region", metavar="REGION", help="Such as ap-southeast-1 (Singapore)."),
    click.option("--workspace", metavar="ID", help="Model Studio workspace."),
    click.option("--base-url", metavar="URL", help="Such as https://host/api/v1."),
    click.option(
        "--protocol",
        type=click.Choice(["dashscope", "compatible"]),
        show_default="dashscope, or compatible with --server",
        help="What is spoken.",
    ),
    click.option(
        "--server",
        metavar="KIND",
        help="What answers at --base-url, if it is a server of your own, such as vllm.",
    ),
    click.option(
        "--max-model-len",
        type=POSITIVE,
        metavar="TOKENS",
        show_default="asked of the server, if it tells",
        help="With --server: what query, document and template may have together.",
    ),
    click.option(
        "--api-key",
        is_flag=False,
        flag_value="",
        hidden=True,
        is_eager=True,
        expose_value=False,
        callback=_refuse_key,
    ),
    click.option(
        "--api-key-env",
        "key_variable",
        metavar="NAME",
        help="Environment variable with the key to send, whatever the host; without it, the key "
        "that is found is sent to Alibaba Cloud and this machine only.",
    ),
    click.option(
        "--header-env",
        "header_variables",
        multiple=True,
        metavar="NAME=VARIABLE",
        help="One more header for every request, such as a gateway asks for, and the environment "
        "variable with its value; may be repeated.",
    ),
    click.option("--allow-http", is_flag=True, help="Send over plain http to another machine."),
)
