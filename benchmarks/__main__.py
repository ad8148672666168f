"""Runs the benchmarks, prints their table, and writes README.md and the pictures beside it."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

# Before anything is imported: contenders read these when they are, and workers inherit them.
_SCRUBBED = ("DASHSCOPE_", "LANGCHAIN_", "LANGSMITH_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_")
for _name in list(os.environ):
    if _name.startswith(_SCRUBBED) or _name.lower().endswith("_proxy"):
        del os.environ[_name]
os.environ.update(
    DASHSCOPE_CONFIG=os.devnull,
    DASHSCOPE_API_KEY_FILE_PATH=os.devnull,
    DO_NOT_TRACK="1",
    LANGSMITH_TRACING="false",
    MPLCONFIGDIR=tempfile.gettempdir(),
    PYTHONWARNINGS="ignore",  # of the peers, some of which announce their end at import
)

from rich.console import Console
from rich.table import Table

from benchmarks.async_throughput import async_throughput
from benchmarks.big_list import longest, stalls
from benchmarks.bulk import bulk
from benchmarks.cache import cache
from benchmarks.evaluate import evaluate
from benchmarks.one_call import cut_finer, near_ideal
from benchmarks.planning import counted, proved
from benchmarks.results import Comparison
from benchmarks.server import serving
from benchmarks.startup import command_line, first_call, import_ours
from benchmarks.sync_cpu import sync_cpu
from benchmarks.sync_throughput import sync_throughput

ALL = {
    "sync-cpu": sync_cpu,
    "throughput": async_throughput,
    "threads": sync_throughput,
    "near-ideal": near_ideal,
    "cut-finer": cut_finer,
    "planning": proved,
    "counting": counted,
    "cache": cache,
    "stalls": stalls,
    "longest": longest,
    "bulk": bulk,
    "evaluate": evaluate,
    "first-call": first_call,
    "import": import_ours,
    "command-line": command_line,
}


def main() -> int:
    """The exit code: 0 whether or not targets are met, because a miss is a finding."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; or all")
    parser.add_argument("--quick", action="store_true", help="too few rounds to mean anything")
    parser.add_argument("--output", type=Path, help="where to write; a full run: beside the code")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; use {', '.join(ALL)}")
    if options.names and options.output:
        parser.error("README.md needs all of them: give names or --output, not both")
    console = Console()
    comparisons: list[Comparison] = []
    with serving() as server, console.status("") as status:
        for name in options.names or ALL:
            status.update(f"{name} ...")
            found = ALL[name](server, quick=options.quick)
            found = found if isinstance(found, list) else [found]
            for comparison in found:
                console.print(_shown(comparison))
            comparisons += found
    if not options.names and (options.output or not options.quick):
        from benchmarks import report

        folder = options.output or Path(__file__).parent
        report.write(comparisons, folder)
        console.print(f"Written: {os.path.relpath(folder)}/README.md and its pictures.")
    return 0


def _shown(comparison: Comparison) -> Table:
    table = Table("", "target", "measured", "met", title=comparison.what, title_justify="left")
    for measure in comparison.measures:
        met = "" if measure.target is None else "no" if measure.missed else "yes"
        table.add_row(measure.name, str(measure.target or ""), str(measure.value), met)
    return table


if __name__ == "__main__":
    sys.exit(main())
