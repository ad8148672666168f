"""Writes docs/faults.md from the table and from what the core's errors say: `make faults`.

That every call, through every door, ends and speaks like that is for the tests.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from fault_calls import DOORS, MODES, WAYS, Bench, Case
from fault_table import KINDS, ROWS, SENT_AGAIN, Row

from qwen_rerank.emulator import FAULTS

__all__ = ["PAGE", "comparable", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

_INTRO = f"""\
# What each fault ends in

What you get when the network, the service or its answer fails: for every fault either the right
ranking or one typed error, or, with `on_error="passthrough"`, your candidates in their original
order. None of them ends in a wrong order, an invented score, a lost candidate or an exception of
another kind. What nobody can tell from an answer is [said below](#what-cannot-be-told).

This page is written by `make faults`, and a test compares it with what each fault is seen to end
in. Each fault is set in the emulator that ships with this project, which serves real HTTP on this
machine. Then the same candidates are ranked. In every run of the tests each fault meets the core,
and some meet every way in; `make faults-all` ranks {{cells}} times under each: through the core,
LangChain and LlamaIndex, sync and async, raising and passing through. After each call the fault is
taken away and the same object has to give the right ranking at once. **None of this has been seen
to happen at the live service**: the refusals are written from the vendor's pages and from answers
that users published, the rest from what networks, proxies and servers do.

To see one yourself, in the environment of [Develop offline](offline.md):

```shell
qwen-rerank serve --list-faults
qwen-rerank serve --fault reset-mid
qwen-rerank serve --fault 503:first=1 --fault score-nan:percent=5
```

or, in a test of your own, `emulator.fault("reset-mid")` and `emulator.clear()`.

## How to read it

- What is said holds for the core, LangChain and LlamaIndex alike, each sync and async.
- **right ranking**: the fault does no harm.
- **original order**: the candidates as they were given, cut to `top_n`, without an invented score.
  In the core `Ranking.degraded` is the error; a LangChain document has no `relevance_score`; a
  LlamaIndex node has the score it came with. One warning is logged, an error for `QuotaError`.
- **sent again**: whether the client repeats the request by itself, up to {SENT_AGAIN} more times by
  default; what has passed by then is never seen. Where it says no, a request is sent once.
- In messages, `HOST` stands for host and port, and `ID` for the service's request id. What follows
  `No answer from HOST:` are the words of the operating system or of the HTTP library, and change
  with them.
- Codes are those of the native protocol; `protocol="compatible"` gives the same errors, with its
  own spelling of some codes.
"""

_OUTRO = """\
## What cannot be told

An answer does not say which request it is of: it has a position and a score for each document, and
no more is there to be checked. An answer of another request, given out by a proxy or a server that
mixes them up, is found if it has another number of results, and ends in `ReplyError`. **If it has
as many results as were asked for, nobody can tell it from the right one, and the order is wrong.**

- The requests of one call have sizes that all differ, so that answers swapped among them are found,
  where that takes no more requests. It does where a list just fills them: 1,000 short documents are
  two requests of 500, and with `max_documents_per_request=1` all requests are alike.
- Requests of different calls may well be of one size.
- So may the next request on a connection be on which, after the answer to the one before, a second
  one comes that nobody asked for. One that comes together with the first is dropped (`two-answers`
  above); one that comes later may be taken for the answer to the next request.
"""


def page(bench: Bench) -> str:
    """The whole page; those of the core's calls that have not been made yet are made now."""
    parts = [_INTRO.format(cells=len(DOORS) * len(WAYS) * len(MODES))]
    for kind in KINDS:
        rows = [row for row in ROWS if row.kind == kind]
        parts.append(f"## {kind}\n")
        parts.append(
            '| fault | what happens | `on_error="raise"` | `on_error="passthrough"` '
            "| sent again |\n|---|---|---|---|---|\n" + "".join(map(_line, rows))
        )
        if messages := _messages(bench, rows):
            parts.append("What the errors say:\n")
        for text, names in messages.items():
            parts.append(f"{', '.join(names)}\n\n```text\n{text}\n```\n")
    return "\n".join([*parts, _OUTRO])


def comparable(text: str) -> str:
    """*text* without the messages that hold words of an operating system or of a library."""
    return re.sub(r"(?m)^`.*\n\n```text\nNo answer from HOST:(.*\n)+?```\n\n?", "", text)


def _line(row: Row) -> str:
    wire = row.wire or FAULTS[row.name]
    raised, passed = (_verdict(row, mode) for mode in MODES)
    cells = (f"`{row.name}`", _sentence(wire), raised, passed, _sent_again(row))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _sentence(text: str) -> str:
    return text if text.endswith((".", '."')) else f"{text}."


def _sent_again(row: Row) -> str:
    if row.repeated and row.requests == (1, 1):
        return "only if the wait fits in `timeout`"
    return "yes" if row.repeated else "no"


def _verdict(row: Row, mode: str) -> str:
    if row.gives is None:
        return "right ranking"
    return "original order" if row.passes and mode == "passthrough" else f"`{row.gives.__name__}`"


def _messages(bench: Bench, rows: Iterable[Row]) -> dict[str, list[str]]:
    """Each message of *rows* with the names of those that say it."""
    messages: dict[str, list[str]] = {}
    for row in rows:
        if row.gives is None:
            continue
        text = bench.message(Case(row, "core", "sync", "raise"))
        messages.setdefault(text, []).append(f"`{row.name}`")
    return messages


def main() -> None:
    """Writes the page."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it hears a TLS greeting
    # No key, proxy, certificate or home of this machine gets into a call.
    with mock.patch.dict("os.environ", clear=True), Bench("sk-of-the-matrix") as bench:
        text = page(bench)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
