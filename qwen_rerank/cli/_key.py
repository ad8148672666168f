"""The secrets that the command line names: looked up here, shown nowhere."""

import os
from collections.abc import Sequence

from pydantic import SecretStr

__all__ = ["headers_in", "key_in"]


def key_in(variable: str) -> SecretStr:
    """The key in the environment variable named *variable*.

    Raises:
        ValueError: *variable* holds no key.
    """
    if not (key := os.environ.get(variable, "").strip()):
        # It may be the key itself, so it is not shown.
        raise ValueError("--api-key-env takes the name of an environment variable that holds a key")
    return SecretStr(key)


def headers_in(pairs: Sequence[str]) -> dict[str, SecretStr]:
    """The request headers of *pairs*, each a name, ``=`` and the environment variable to look in.

    Raises:
        ValueError: One is no such pair, or its variable holds nothing.
    """
    headers: dict[str, SecretStr] = {}
    for pair in pairs:
        name, _, variable = pair.partition("=")
        if not name or not (value := os.environ.get(variable, "").strip()):
            raise ValueError(  # likewise
                "--header-env takes NAME=VARIABLE, an environment variable that holds the value"
            )
        headers[name] = SecretStr(value)
    return headers
