"""docs/own-servers-seen.md, from what was seen of real servers and what the emulator does now."""

import json
from pathlib import Path
from typing import Any

from duties import ANSWERS, DUTIES, KEY, Seen, Server, answered, see

from qwen_rerank.emulator import Emulator

__all__ = ["PAGE", "PICTURE", "SEEN", "known", "page", "section"]

PAGE = Path(__file__).parents[2] / "docs" / "own-servers-seen.md"
PICTURE = PAGE.with_suffix(".png")
SEEN = Path(__file__).parent / "seen.json"
_MODEL = "Qwen/Qwen3-Reranker-0.6B"  # the one that the emulator serves
_TOKENS = 2_048

_INTRO = """\
# Own servers, as they were seen

What this project does with servers that people run themselves, seen by running them: `make servers`
installs each in an environment of its own, gives it a tiny model of random weights, starts it on
this machine's processor, asks it everything below, ends it and writes this page. [Use your own
servers](own-servers.md) says how to use them.

- The scores of such a model mean nothing; that a ranking is the server's own does. It is compared
  with what the server answers to bare requests, cut in another way.
- **Held** is a duty that was done; **not held** says what was seen instead, and is a fault of this
  project or a limit of that server.
- *Emulator* is what the [emulator's](offline.md) imitation does with the same duty, where it
  differs. Tests compare it with this page in every run. It has no processes to kill.
- The second table of each server is what it answers to bare requests: the status, and the body with
  `""` for every text and `0` for every number.
- Not run by it: Text Embeddings Inference, SGLang and the LiteLLM proxy.
"""


def known() -> dict[str, dict[str, Any]]:
    """What was seen of real servers, by the name of how they were set up."""
    seen: dict[str, dict[str, Any]] = json.loads(SEEN.read_text(encoding="utf-8"))
    return seen


def imitating() -> Emulator:
    """An emulator that takes as little as the tiny models do, and wants their servers' key."""
    return Emulator(max_model_len=_TOKENS, server_key=KEY)


def page() -> str:
    """The whole page; the imitations are asked now."""
    with imitating() as emulator:
        return "\n".join([_INTRO, *(section(name, emulator) for name in known())])


def section(name: str, emulator: Emulator) -> str:
    """What the page says of the server that was set up as *name*."""
    seen = known()[name]
    imitation = _imitation(seen["kind"], emulator) if seen["imitated"] else None

    def other(real: str, words: str) -> str:
        """What the imitation does, where that is something else than the *real* one's."""
        if imitation is None:
            return ""
        if words in ANSWERS:
            said = f"`{answered(words, imitation)}`"
        elif words in DUTIES:
            said = _judged(see(DUTIES[words], imitation))
        else:
            return "-"
        return "the same" if said == real else said

    def rows(of: dict[str, str]) -> str:
        return "".join(
            f"| {words} | {real} | {other(real, words)} |\n" for words, real in of.items()
        )

    duties = {words: _judged(Seen(*real)) for words, real in seen["duties"].items()}
    answers = {words: f"`{real}`" for words, real in seen["answers"].items()}
    return (
        f"## {name}\n\n"
        f"`{seen['version']}`, {seen['date']}, started so:\n\n"
        f"```text\n{seen['command']}\n```\n\n"
        f"| duty | seen | emulator |\n|---|---|---|\n{rows(duties)}\n"
        f"| asked | answered | emulator |\n|---|---|---|\n{rows(answers)}"
        f"{_measured(seen['throughput'])}"
    )


def _measured(throughput: dict[str, list[float]] | None) -> str:
    """What the page says of throughput, if it was measured."""
    if throughput is None:
        return ""
    lines = "".join(
        f"| {number} | {rate:.2f} | {cpu:.2f} |\n" for number, (rate, cpu) in throughput.items()
    )
    return (
        "\nBeside a bare aiohttp loop that posts the same and parses the answer, in turns, each in "
        "a process of its own (medians of five rounds; the targets are at least 0.97 and at most "
        f"1.5):\n\n![Requests per second over requests in flight]({PICTURE.name})\n\n"
        f"| in flight | requests per second | client's processor time |\n|---|---|---|\n{lines}"
    )


def _imitation(kind: str, emulator: Emulator) -> Server:
    return Server(
        kind,
        emulator.server_url(kind),
        _MODEL,
        _TOKENS,
        api_key=KEY,
        path="/rerank" if kind == "infinity" else "/v1/rerank",
        instructs=kind != "infinity",
    )


def _judged(seen: Seen) -> str:
    return f"{'held' if seen.held else '**not held**'}: {seen.words}"
