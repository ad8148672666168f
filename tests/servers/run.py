"""Asks every server its duties and writes down what was seen: `make servers`.

    python tests/servers/run.py [NAME ...]   installs, starts, asks; only those of these names
    python tests/servers/run.py --page       writes the page again from the last run

What was seen of real servers is kept in `seen.json`; the page sets it beside what the emulator's
imitations do now.
"""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from duties import ANSWERS, DUTIES, REAL_DUTIES, answered, see
from seen_page import PAGE, SEEN, page
from setups import SETUPS, Setup


def main() -> None:
    """Runs what was asked for."""
    names = sys.argv[1:]
    if names != ["--page"]:
        for setup in SETUPS:
            if not names or setup.name in names:
                keep(setup.name, seen_of(setup))
    PAGE.write_text(page(), encoding="utf-8")


def seen_of(setup: Setup) -> dict[str, Any]:
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
    print(f"  asked in {_since(started)}", flush=True)
    return {
        "kind": setup.kind,
        "version": setup.version,
        "date": datetime.now(UTC).date().isoformat(),
        "command": setup.shown_command,
        "imitated": setup.imitated,
        "duties": duties,
        "answers": answers,
    }


def keep(name: str, seen: Any) -> None:
    """Writes *seen* into the record, in place of what the last run saw."""
    known = json.loads(SEEN.read_text(encoding="utf-8")) if SEEN.exists() else {}
    known[name] = seen
    SEEN.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"


if __name__ == "__main__":
    main()
