"""How the blocks of a page are run and compared. No test is here.

With nothing but sybil beside it, it runs what an install line of a page is for, the first say, with
an emulator that listens on a port:

    python tests/docs/page_blocks.py docs/caching.md 8000 0
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[2]
# What these show besides the output of examples, other tests make anew.
RECORDED = {
    Path("docs", name)
    for name in ("faults.md", "own-servers-seen.md", "soak.md", "thresholds.md", "tracing.md")
}
# What a page says to type where its blocks ask a service: the emulator, with its default key.
EMULATOR_STARTED = """\
qwen-rerank serve --port 8000 &
export DASHSCOPE_BASE_URL=http://127.0.0.1:8000/api/v1
export DASHSCOPE_API_KEY=sk-emulator
"""

Evaluator = Callable[[Example], None]


def _run(example: Example) -> None:
    _nothing_unshown(example.namespace)
    printed: list[str] = []
    example.namespace["print"] = lambda *values: printed.append(" ".join(map(str, values)))
    exec(compile(example.parsed, example.path, "exec"), example.namespace)  # noqa: S102  our pages
    example.namespace["printed"] = "\n".join(printed)


def _nothing_unshown(namespace: dict[str, Any]) -> None:
    assert not namespace.pop("printed", ""), "the page does not show what this prints"


def _compare(example: Example) -> None:
    printed = example.namespace.pop("printed", None)
    if printed is None and Path(example.path).relative_to(ROOT) in RECORDED:
        return
    assert printed == example.parsed.strip(), f"printed:\n{printed}"


def _run_after(example: Example) -> None:
    """What a change leads to runs; what it leaves behind needs packages that are not here."""
    after = "\n".join(line[1:] for line in example.parsed.splitlines() if line[:1] in " +")
    exec(compile(after, example.path, "exec"), example.namespace)  # noqa: S102  our pages


PYTHON: dict[str, Evaluator] = {"python": _run, "text": _compare, "diff": _run_after}


def exports(shell: str, port: int) -> dict[str, str]:
    """The variables that *shell* sets; the emulator of the page listens on *port*."""
    found = re.findall(r"^export (\w+)='?(\S+?)'?$", shell, re.MULTILINE)
    return {name: value.replace(":8000/", f":{port}/") for name, value in found}


def examples(page: Path, evaluators: dict[str, Evaluator]) -> Iterator[Example]:
    """The blocks of *page* that *evaluators* name, in order."""
    parsers = [CodeBlockParser(kind, evaluate) for kind, evaluate in evaluators.items()]
    return Sybil(parsers, path=str(ROOT)).parse(ROOT / page).examples()


def shell(text: str) -> str:
    """What the page with *text* says to type."""
    return "".join(re.findall(r"^```shell\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def parts(page: Path) -> list[tuple[str, str, str]]:
    """What each install line of *page* is for, up to the next one.

    Returns:
        The line, all that this part says to type, and its text from the line on.
    """
    text = (ROOT / page).read_text("utf-8")
    _, *texts = re.split(r"^(?=```shell\npip install )", text, flags=re.MULTILINE)
    return [(shell(part).splitlines()[0], shell(part), part) for part in texts]


def run(page: Path, evaluators: dict[str, Evaluator], part: int | None = None) -> dict[str, Any]:
    """Runs the blocks of *page*; the names that they leave behind.

    After an install line everything begins anew.

    Args:
        page: Its path from the root of the project.
        evaluators: What is done with the blocks of each kind.
        part: Run only what this install line is for, from 0 on; None for everything.

    Raises:
        AssertionError: A block prints something else than the page shows.
    """
    namespace: dict[str, Any] = {}
    at = -1
    for example in examples(page, evaluators):
        namespace = example.namespace
        if str(example.parsed).startswith("pip install "):
            _nothing_unshown(namespace)
            namespace.clear()
            at += 1
        if part in {None, at}:
            example.evaluate()
    _nothing_unshown(namespace)
    return namespace


def _main(page: str, port: str, part: str) -> None:
    def obey(example: Example) -> None:
        os.environ |= exports(example.parsed, int(port))

    run(Path(page), PYTHON | {"shell": obey}, int(part))


if __name__ == "__main__":
    _main(*sys.argv[1:])
