"""Asks every server its duties and writes down what was seen: `make servers`.

    python tests/servers/run.py [NAME ...]   installs, starts, asks; only those of these names
    python tests/servers/run.py --speed      measures throughput again, and nothing else
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

from duties import ANSWERS, Seen, answered, duties, see
from seen_page import PAGE, PICTURE, SEEN, known, page
from served import Server
from setups import SETUPS, Setup
from throughput import DOCUMENTS, compared, draw, measured


def main() -> None:
    """Runs what was asked for."""
    logging.getLogger("qwen_rerank").setLevel(logging.ERROR)  # what is cut is asked for here
    names = sys.argv[1:]
    lost = []
    if names == ["--speed"]:
        for setup in SETUPS:
            if setup.measured:
                setup.install()
                with setup.running() as server:
                    _keep(setup.name, throughput=_speed(server, setup))
    elif names != ["--page"]:
        for setup in SETUPS:
            if not names or setup.name in names:
                before = known().get(setup.name, {"duties": {}})["duties"]
                lost += [
                    f"{setup.name}: {words}: {said}"
                    for words, (held, said) in _asked(setup).items()
                    if not held and before.get(words, (False, ""))[0]
                ]
    PAGE.write_text(page(), encoding="utf-8")
    if lost:
        sys.exit("\n".join(["Held when it was last written down, and no longer:", *lost]))


def _asked(setup: Setup) -> dict[str, Seen]:
    """Installs, starts and asks *setup*; keeps what was seen, and returns what came of duties."""
    started = time.monotonic()
    setup.install()
    print(f"{setup.name}: {setup.version}, installed in {_since(started)}", flush=True)
    started = time.monotonic()
    with setup.running() as server:
        print(f"  ready after {_since(started)}", flush=True)
        done = {}
        for words, duty in duties(setup.group, real=True).items():
            done[words] = held, seen = see(duty, server)
            print(f"  {'held' if held else 'NOT HELD'}: {words}: {seen}", flush=True)
        asked = ANSWERS if setup.group == "texts" else ()
        _keep(
            setup.name,
            kind=setup.kind,
            version=setup.version,
            date=datetime.now(UTC).date().isoformat(),
            command=setup.shown_command,
            group=setup.group,
            imitated=setup.imitated,
            duties=done,
            answers={name: answered(name, server) for name in asked},
        )
        if setup.measured:
            _keep(setup.name, throughput=_speed(server, setup))
    print(f"  asked in {_since(started)}", flush=True)
    return done


def _keep(name: str, **seen: Any) -> None:
    """Writes *seen* into the record, in place of what the last run saw."""
    kept = known()
    kept[name] = {"throughput": None, **kept.get(name, {}), **seen}
    ordered = {setup.name: kept[setup.name] for setup in SETUPS if setup.name in kept}
    SEEN.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _speed(server: Server, setup: Setup) -> dict[str, Any]:
    """Ours and bare aiohttp by requests in flight, see `compared`; draws the picture."""
    found = measured(server)
    title = f"{DOCUMENTS} documents a request to {setup.name}, on {os.cpu_count()} cores"
    draw(found, title, PICTURE)
    for name, rounds in found.items():
        print(f"  {name}: {rounds}", flush=True)
    return {str(number): compared(found, number) for number in (16, 64)}


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not before the servers have ended
    main()
