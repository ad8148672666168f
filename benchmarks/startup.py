"""What a fresh process pays: its first call, the import of our class, and the command's help."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks import contenders
from benchmarks.results import Comparison, Measure, Spread, at_most, ratios, spread
from benchmarks.server import Server

# The clock starts with the first statement: the interpreter's own start is the same for all.
_TIMED = (
    "from time import perf_counter; started = perf_counter(); {}; print(perf_counter() - started)"
)
_OURS = """\
from qwen_rerank import Reranker
reranker = Reranker(model={model!r}, base_url={url!r}, api_key={key!r})
ranking = reranker.rerank({query!r}, {texts!r})"""
_SDK = """\
import dashscope
client = dashscope.Client(base_url={url!r}, api_key={key!r})
ranking = client.rerank.create(model={model!r}, query={query!r}, documents={texts!r})"""
_DOOR = "import langchain_qwen_rerank"
_BASE = "from langchain_core.documents import BaseDocumentCompressor"


def first_call(server: Server, *, quick: bool = False) -> Comparison:
    """The first call in a fresh process, import included, against the SDK's Client."""
    words = {
        "url": server.base_url(),
        "key": contenders.KEY,
        "model": contenders.MODEL,
        "query": contenders.QUERY,
        "texts": ["one text", "another text"],
    }
    ours, theirs = _in_turn(_OURS.format(**words), _SDK.format(**words), 1 if quick else 9)
    return Comparison(
        what="first call in a fresh process, import included: against the SDK's `Client`",
        how="A process for each sample, in turn, a server without delay; from the first statement "
        "to the answer, with compiled files in place.",
        measures=[
            Measure("core", ratios(ours, theirs), at_most(0.5)),
            Measure("core, alone", _seconds(ours)),
            Measure("dashscope Client, alone", _seconds(theirs)),
        ],
        would_take="Nearly all of it is importing aiohttp and pydantic, which a call needs.",
    )


def import_ours(server: Server, *, quick: bool = False) -> Comparison:  # noqa: ARG001  nothing is sent
    """Importing our LangChain class, against importing what it must inherit from."""
    ours, theirs = _in_turn(_DOOR, _BASE, 1 if quick else 11)
    return Comparison(
        what="`import langchain_qwen_rerank` against "
        "`from langchain_core.documents import BaseDocumentCompressor`",
        how="A process for each sample, in turn, with compiled files in place.",
        measures=[
            Measure("import", ratios(ours, theirs), at_most(1.15)),
            Measure("langchain_qwen_rerank, alone", _seconds(ours)),
            Measure("BaseDocumentCompressor, alone", _seconds(theirs)),
        ],
        would_take="Importing later what only a call needs.",
    )


def command_line(server: Server, *, quick: bool = False) -> Comparison:  # noqa: ARG001  nothing is sent
    """Help and version of the command, against importing the library that reads its arguments."""
    command = str(Path(sys.executable).with_name("qwen-rerank"))
    asked = [[sys.executable, "-c", "import click"], [command, "--version"], [command, "--help"]]
    rounds = (1 if quick else 25) + 1
    samples = [[_whole(words) for words in asked] for _ in range(rounds)][1:]
    alone, version, shown = map(list, zip(*samples, strict=True))
    return Comparison(
        what="`qwen-rerank --help` and `--version` against `python -c 'import click'`",
        how="A whole process for each sample, in turn, with compiled files in place.",
        measures=[
            Measure("--version", ratios(version, alone), at_most(1.3)),
            Measure("--help", ratios(shown, alone), at_most(1.2)),
            Measure("--help, alone", _seconds(shown)),
            Measure("import click, alone", _seconds(alone)),
        ],
    )


def _whole(command: Sequence[str]) -> float:
    started = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - started


def _in_turn(ours: str, theirs: str, rounds: int) -> tuple[list[float], list[float]]:
    samples = [(_fresh(ours), _fresh(theirs)) for _ in range(rounds + 1)][1:]
    return [our for our, _ in samples], [their for _, their in samples]


def _fresh(statements: str) -> float:
    timed = _TIMED.format("; ".join(statements.splitlines()))
    done = subprocess.run([sys.executable, "-c", timed], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _seconds(values: list[float]) -> Spread:
    return spread(values, " s")
