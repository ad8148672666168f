"""docs/own-servers-seen.md, from what was seen of real servers and what the emulator does now."""

import json
from pathlib import Path
from typing import Any

from duties import ANSWERS, Seen, answered, duties, see
from served import KEY, Group, Server

from qwen_rerank.emulator import Emulator, Reply

__all__ = ["PAGE", "PICTURE", "SEEN", "known", "page", "section"]

PAGE = Path(__file__).parents[2] / "docs" / "own-servers-seen.md"
PICTURE = PAGE.with_suffix(".png")
SEEN = Path(__file__).parent / "seen.json"
_MODEL = "Qwen/Qwen3-Reranker-0.6B"  # the one that the emulator serves
_VL_MODEL = "Qwen/Qwen3-VL-Reranker-2B"  # and for images
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
- The processor of images imports torchvision, whose wheel wants CUDA; `tests/servers/vision` lets
  it be imported on a machine without.
- Not run by it: Text Embeddings Inference, SGLang and the LiteLLM proxy.
"""

_COMPARED = """
![Requests per second over requests in flight]({picture})

`await reranker.arerank(...)` beside a bare aiohttp loop that posts the same and parses the answer:
in turns, each in a process of its own, over as many connections. The figures are medians of five
rounds, and of ours over theirs also the least and the most of the rounds, as the bands of the
picture have them. Processor time is that of the client's process, all its threads, in milliseconds
a request. Other work on the machine shows in both, most of all in the rates: wide bands are its
mark. The targets are at least 0.97 times the requests per second and at most 1.5 times the
processor time.

| in flight | requests/s | bare | ours over bare | ms | bare | ours over bare |
|---|---|---|---|---|---|---|
{lines}"""


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
    imitation = _imitation(seen["kind"], seen["group"], emulator) if seen["imitated"] else None
    imitated = duties(seen["group"], real=False)

    def other(real: str, words: str) -> str:
        """What the imitation does, where that is something else than the *real* one's."""
        if imitation is None:
            return ""
        if words in ANSWERS:
            said = f"`{answered(words, imitation)}`"
        elif words in imitated:
            said = _judged(see(imitated[words], imitation))
        else:
            return "-"
        return "the same" if said == real else said

    def rows(of: dict[str, str]) -> str:
        return "".join(
            f"| {words} | {real} | {other(real, words)} |\n" for words, real in of.items()
        )

    done = {words: _judged(Seen(*real)) for words, real in seen["duties"].items()}
    answers = {words: f"`{real}`" for words, real in seen["answers"].items()}
    told = f"\n| asked | answered | emulator |\n|---|---|---|\n{rows(answers)}" if answers else ""
    return (
        f"## {name}\n\n"
        f"`{seen['version']}`, {seen['date']}, started so:\n\n"
        f"```text\n{seen['command']}\n```\n\n"
        f"| duty | seen | emulator |\n|---|---|---|\n{rows(done)}"
        f"{told}"
        f"{_measured(seen['throughput'])}"
    )


def _measured(throughput: dict[str, Any] | None) -> str:
    """What the page says of throughput, if it was measured."""
    if throughput is None:
        return ""
    lines = ""
    for number, told in throughput.items():
        (our_rate, our_cpu), (rate, cpu) = told["qwen-rerank"], told["bare aiohttp"]
        rates, cpus = (
            f"{median:.2f} ({least:.2f} to {most:.2f})"
            for median, least, most in (told["rate"], told["cpu"])
        )
        lines += f"| {number} | {our_rate:.0f} | {rate:.0f} | {rates} "
        lines += f"| {our_cpu:.2f} | {cpu:.2f} | {cpus} |\n"
    return _COMPARED.format(picture=PICTURE.name, lines=lines)


def _imitation(kind: str, group: Group, emulator: Emulator) -> Server:
    """The emulator, set up as a server of *kind* was to show what *group* is about."""
    address, model = emulator.server_url(kind), _MODEL
    if group == "images":
        model = _VL_MODEL
    elif group == "no reranker":
        address += "/chat"  # below which nothing ranks
    elif group == "short queue":
        said = f"model {model} is currently overloaded"
        emulator.script(*[Reply.error(429, "overloaded", said)] * 3)
    elif kind == "infinity":
        model = "tiny"  # it answers to any name, and of this one nothing is known
    return Server(
        kind,
        address,
        model,
        _TOKENS,
        api_key=KEY,
        path="/rerank" if kind == "infinity" else "/v1/rerank",
        instructs=kind != "infinity",
        group=group,
    )


def _judged(seen: Seen) -> str:
    return f"{'held' if seen.held else '**not held**'}: {seen.words}"
