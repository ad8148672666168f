"""What errors say, with options called as on the command line; what they say is the library's.

An option that a command does not have is called as in Python, and said to be that.
"""

import ast

from qwen_rerank._advice import Advice, Option, counted, said

__all__ = ["OPTIONS", "complaint", "counted", "flag", "spelled"]

_CONNECTION = (
    *("model", "region", "workspace", "base_url", "protocol", "server", "max_model_len"),
    *("api_key", "headers", "allow_http"),
)
OPTIONS = {
    "demo": ("model", "region"),
    "doctor": _CONNECTION,
    "rerank": (*_CONNECTION, "instruct", "long_query", "top_n", "max_concurrency", "timeout"),
}
"""Which options of the library each command has."""

_RENAMED = {
    "api_key": "--api-key-env",
    "headers": "--header-env",
    "max_concurrency": "--concurrency",
}


def flag(name: str) -> str:
    """What the library's option *name* is called on the command line."""
    return _RENAMED.get(name, f"--{name.replace('_', '-')}")


def spelled(text: str, command: str) -> str:
    """*text* as *command* says it."""

    def spell(option: Option) -> str:
        if option.name not in OPTIONS.get(command, ()):
            return f"{Advice(option)} (in Python)"
        value = None if option.value is None else ast.literal_eval(option.value)
        return flag(option.name) + ("" if value in (None, True) else f" {value}")

    return text.spelled(spell) if isinstance(text, Advice) else text


def complaint(error: BaseException, command: str) -> tuple[str, str | None]:
    """What went wrong, and what to do about it, if that is known."""
    hint, message = getattr(error, "hint", None), said(error)
    facts = str(error).removesuffix(f"\n{hint}")
    if isinstance(message, Advice):
        facts = spelled(message, command) + facts.removeprefix(message)
    return facts, hint and spelled(hint, command)
