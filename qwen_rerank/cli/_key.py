"""The key that `--api-key-env` names. It is looked up here and shown nowhere."""

import os

from pydantic import SecretStr

__all__ = ["key_in"]


def key_in(variable: str) -> SecretStr:
    """The key in the environment variable named *variable*.

    Raises:
        ValueError: *variable* holds no key.
    """
    if not (key := os.environ.get(variable, "").strip()):
        # It may be the key itself, so it is not shown.
        raise ValueError("--api-key-env takes the name of an environment variable that holds a key")
    return SecretStr(key)
