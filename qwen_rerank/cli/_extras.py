"""Which extra a command needs, as pyproject.toml has them. Nothing is imported or found out here.

A test compares it with what the commands import and what the extras install.
"""

__all__ = ["extra_for"]

_OF_COMMANDS = {
    "demo": "demo",
    "doctor": "cli",
    "evaluate": "evaluate",
    "rerank": "cli",
    "serve": "cli,emulator",
}
_ON_REQUEST = {"matplotlib": "plots"}  # what a command takes only for one of its options


def extra_for(command: str | None, package: str) -> str:
    """What to write between the brackets of ``qwen-rerank[...]``.

    Args:
        command: Such as ``"demo"``; None before it is known which is meant.
        package: What could not be imported.
    """
    return _ON_REQUEST.get(package) or _OF_COMMANDS.get(command or "", "cli")
