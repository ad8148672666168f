"""The secrets that the command line names: looked up here, shown nowhere."""

import os
from collections.abc import Sequence
from typing import Any

from pydantic import SecretStr

__all__ = ["reranker_options"]


def reranker_options(
    *, key_variable: str | None, header_variables: Sequence[str], **given: Any
) -> dict[str, Any]:
    """What `_options.connected` took, as options of a `Reranker`, to which the rest is left.

    Args:
        key_variable: The environment variable with the key to send, whatever the host; None for
            the key that the library finds, which goes to Alibaba Cloud and this machine only.
        header_variables: More headers for every request, each as ``NAME=VARIABLE``.
        given: Options by their names; None for one that was not given.

    Raises:
        ValueError: A variable that is named holds nothing, or a header is named twice.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if key_variable is not None:
        options["api_key"] = _key_in(key_variable)
    return options | {"headers": _headers_in(header_variables)}


def _key_in(variable: str) -> SecretStr:
    """The key in the environment variable named *variable*.

    Raises:
        ValueError: *variable* holds no key.
    """
    if not (key := os.environ.get(variable, "").strip()):
        # It may be the key itself, so it is not shown.
        raise ValueError("--api-key-env takes the name of an environment variable that holds a key")
    return SecretStr(key)


def _headers_in(pairs: Sequence[str]) -> dict[str, SecretStr]:
    """The request headers of *pairs*, each a name, ``=`` and the environment variable to look in.

    Raises:
        ValueError: One is no such pair, its variable holds nothing, or its name was there before.
    """
    headers: dict[str, SecretStr] = {}
    for pair in pairs:
        name, _, variable = pair.partition("=")
        if not name or not (value := os.environ.get(variable, "").strip()):
            raise ValueError(  # likewise
                "--header-env takes NAME=VARIABLE, an environment variable that holds the value"
            )
        if name in headers:
            raise ValueError("--header-env: a header is given twice")
        headers[name] = SecretStr(value)
    return headers
