"""`qwen-rerank serve`: the emulator in the foreground. What it answers lives in the emulator."""

import contextlib
import shlex
import signal
import threading
from collections.abc import Sequence
from typing import Literal

from qwen_rerank.cli._troubles import tell
from qwen_rerank.emulator import FAULTS, Emulator

__all__ = ["list_faults", "serve"]


def serve(
    *,
    host: str,
    port: int,
    api_key: str,
    over_long: Literal["truncate", "refuse"],
    faults: Sequence[str] = (),
) -> int:
    """Runs the emulator until SIGINT or SIGTERM.

    Args:
        host: A loopback address.
        port: Port, or 0 for any free one.
        api_key: The key that callers must present.
        over_long: What happens to items over the model's token limit.
        faults: What goes wrong, such as "503:first=2".

    Returns:
        The exit code.

    Raises:
        ValueError: One of the arguments is not allowed.
    """
    emulator = Emulator(
        host=host,
        port=port,
        api_key=api_key,
        over_long=over_long,
        faults=faults,
        log_size=0,  # nobody could read it
    )
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        try:
            emulator.start()
        except OSError as error:  # the port is taken, or not ours to take
            tell(f"qwen-rerank serve cannot listen on {host}:{port}: {error}")
            return 1
        with contextlib.ExitStack() as stack:
            stack.callback(emulator.stop)
            print(_greeting(emulator, faults), flush=True)
            while not stop.wait(0.5):  # without a timeout, Windows would not see Ctrl-C
                pass
        print(f"\nStopped. Requests seen: {emulator.requests_seen}")
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    return 0


def list_faults() -> int:
    """Prints every fault with its sentence.

    Returns:
        The exit code.
    """
    width = max(map(len, FAULTS))
    for name, sentence in FAULTS.items():
        print(f"{name:{width}}  {sentence}")
    return 0


def _greeting(emulator: Emulator, faults: Sequence[str]) -> str:
    wrong = "".join(f"  fault                {fault}\n" for fault in faults)
    return f"""\
A local DashScope rerank service is running. Its scores are a lexical stand-in, not the Qwen
models: they show that your code works, and nothing about the models' quality.

  native protocol      {emulator.base_url}
  compatible protocol  {emulator.compatible_base_url}
  key                  {emulator.api_key}
{wrong}
To send your rerank calls here:

  export DASHSCOPE_BASE_URL={emulator.base_url}
  export DASHSCOPE_API_KEY={shlex.quote(emulator.api_key)}

Ctrl-C stops it."""
