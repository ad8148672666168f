"""Asks every server its duties and writes down what was seen: `make servers`.

    python tests/servers/run.py [NAME ...]   installs, starts, asks; only those of these names
    python tests/servers/run.py --page       writes the page again from the last run

What was seen of real servers is kept in `seen.json`; the page sets it beside what the emulator's
imitations do now.
"""

import json
import os
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
    names = sys.argv[1:]
    if names != ["--page"]:
        for setup in SETUPS:
            if not names or setup.name in names:
                _keep(**{setup.name: _seen_of(setup)})
    PAGE.write_text(page(), encoding="utf-8")


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


def _keep(**seen: Any) -> None:
    """Writes *seen* into the record, in place of what the last run saw."""
    kept = known() if SEEN.exists() else {}
    order = [setup.name for setup in SETUPS]
    kept = dict(sorted({**kept, **seen}.items(), key=lambda item: order.index(item[0])))
    SEEN.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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
    main()
