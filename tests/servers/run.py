"""Asks every server its duties and writes down what was seen: `make servers`.

    python tests/servers/run.py [NAME ...]   installs, starts, asks; only those of these names
    python tests/servers/run.py --page       writes the page again from the last run

What was seen of real servers is kept in `seen.json`; the page sets it beside what the emulator's
imitations do now. It ends with an error if a duty no longer holds that held before.
"""

import json
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any

from duties import ANSWERS, DUTIES, REAL_DUTIES, Server, answered, see
from seen_page import PAGE, PICTURE, SEEN, known, page
from setups import SETUPS, Setup
from throughput import DOCUMENTS, compared, draw, measured


def main() -> None:
    """Runs what was asked for."""
    logging.getLogger("qwen_rerank").setLevel(logging.ERROR)  # what is cut is asked for here
    names = sys.argv[1:]
    lost = []
    if names != ["--page"]:
        for setup in SETUPS:
            if not names or setup.name in names:
                before = known().get(setup.name, {"duties": {}})["duties"]
                seen = _seen_of(setup)
                _keep(setup.name, seen)
                lost += [
                    f"{setup.name}: {words}: {said}"
                    for words, (held, said) in seen["duties"].items()
                    if not held and before.get(words, (False, ""))[0]
                ]
    PAGE.write_text(page(), encoding="utf-8")
    if lost:
        sys.exit("\n".join(["Held when it was last written down, and no longer:", *lost]))


def _seen_of(setup: Setup) -> dict[str, Any]:
    """Installs, starts and asks *setup*."""
    started = time.monotonic()
    setup.install()
    print(f"{setup.name}: {setup.version}, installed in {_since(started)}", flush=True)
    started = time.monotonic()
    with setup.running() as server:
        print(f"  ready after {_since(started)}", flush=True)
        duties = {}
        for words, duty in {**DUTIES, **REAL_DUTIES}.items():
            duties[words] = held, seen = see(duty, server)
            print(f"  {'held' if held else 'NOT HELD'}: {words}: {seen}", flush=True)
        answers = {name: answered(name, server) for name in ANSWERS}
        title = f"{DOCUMENTS} documents a request to {setup.name}, on {os.cpu_count()} cores"
        throughput = _throughput_of(server, title) if setup.measured else None
    print(f"  asked in {_since(started)}", flush=True)
    return {
        "kind": setup.kind,
        "version": setup.version,
        "date": datetime.now(UTC).date().isoformat(),
        "command": setup.shown_command,
        "imitated": setup.imitated,
        "duties": duties,
        "answers": answers,
        "throughput": throughput,
    }


def _keep(name: str, seen: dict[str, Any]) -> None:
    """Writes *seen* into the record, in place of what the last run saw."""
    kept = {**known(), name: seen}
    ordered = {setup.name: kept[setup.name] for setup in SETUPS if setup.name in kept}
    SEEN.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _throughput_of(server: Server, title: str) -> dict[str, list[float]]:
    """Ours over bare aiohttp, by requests in flight: requests per second, processor time."""
    found = measured(server)
    draw(found, title, PICTURE)
    for name, rounds in found.items():
        print(f"  {name}: {rounds}", flush=True)
    return {
        str(number): [round(each, 2) for each in compared(found, number)] for number in (16, 64)
    }


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not before the servers have ended
    main()
