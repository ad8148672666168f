"""Follows every page, notebook and example as somebody new would, each from its own install line.

    python scripts/follow_pages.py
    python scripts/follow_pages.py docs/caching.md examples/langchain_agent.py

For each install line it makes a fresh environment in a temporary folder, with uv if that is there
and else with pip, from a wheel of this checkout that is built once. There it runs what the line is
for, in an empty folder with an empty home, with only the variables that the page sets, and
compares what is printed with what is shown. An example has to print what it prints here, where
everything is installed. Some ten minutes and, at any one time, a gigabyte.
"""

import ast
import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import nbformat
import sybil
from weigh import NAME, ROOT, install

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "docs")]

import page_blocks
import test_notebooks

RUNNER = Path(page_blocks.__file__)
SECONDS = 600  # for one page
NOT_HERE = {"ray_data.py"}  # half a gigabyte; `make ray` runs it
TEST_BLOCK = re.compile(r"^```python\n((?:(?!^```).)*?^def test_.*?)^```", re.MULTILINE | re.DOTALL)


class Place(NamedTuple):
    """An environment, and an empty folder to be in."""

    python: Path
    folder: Path
    sybil: Path

    def run(self, *command: str | Path, **variables: str) -> str:
        """What *command* prints; a problem with its output if it fails."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment() | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout)
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Nothing of this machine but where programs are."""
        path = os.pathsep.join([str(self.python.parent), os.defpath])
        return {"PATH": path, "HOME": str(self.folder)}


class Errand(NamedTuple):
    """Something to follow: what it says to install, and how it is followed then."""

    name: str
    requirements: tuple[str, ...]
    follow: Callable[[Place], None]


def requirements(line: str) -> tuple[str, ...]:
    """What the install *line* names, this project first and by its extras alone."""
    ours, *others = shlex.split(line)[2:]
    return (ours.removeprefix(NAME).removeprefix("."), *others)


def errands() -> Iterator[Errand]:
    """Everything that there is to follow."""
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))):
        page = path.relative_to(ROOT)
        for number, (line, typed, text) in enumerate(page_blocks.parts(page)):
            if re.search(r"^```(python|diff)|^qwen-rerank ", text, re.MULTILINE):
                yield Errand(str(page), requirements(line), _page(page, number, typed, text))
    notebooks = page_blocks.parts(Path("notebooks/README.md"))[0][0]
    for path in test_notebooks.NOTEBOOKS:
        name = str(path.relative_to(ROOT))
        yield Errand(name, requirements(notebooks), _notebook(path))
    for path in sorted(ROOT.glob("examples/*.py")):
        said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        line = re.search(r"^It takes: (pip install .+)$", said, re.MULTILINE)
        if line and path.name not in NOT_HERE:
            typed = re.search(r"^    python examples/\S+(.*)$", said, re.MULTILINE)
            arguments = shlex.split(typed[1] if typed else "")
            name = str(path.relative_to(ROOT))
            yield Errand(name, requirements(line[1]), _example(path, arguments))
    # What error messages say to a user of a clone: it adds an extra to what is installed.
    yield Errand(f'pip install "{NAME}[socks]"', ("",), _extra)


def _page(page: Path, number: int, typed: str, text: str) -> Callable[[Place], None]:
    def follow(place: Place) -> None:
        for command in sorted(set(re.findall(r"^qwen-rerank (\w+)", typed, re.MULTILINE))):
            # Not run, since some would ask the service: it is there, with what it needs.
            place.run(place.python, "-c", f"import qwen_rerank.cli.{command}.flow")
        with contextlib.ExitStack() as stack:
            port = "0"
            if page_blocks.EMULATOR_STARTED in typed:
                port = str(stack.enter_context(_served(place)))
            given = {"PYTHONPATH": str(place.sybil)}
            place.run(place.python, RUNNER, str(page), port, str(number), **given)
        if tests := TEST_BLOCK.findall(text):
            (place.folder / "test_page.py").write_text("".join(tests), encoding="utf-8")
            place.run(place.python, "-m", "pytest", "-q")

    return follow


@contextlib.contextmanager
def _served(place: Place) -> Iterator[int]:
    """The emulator as the page starts it, on another port: the page's may be taken here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command, *arguments = shlex.split(page_blocks.EMULATOR_STARTED.partition(" &\n")[0])
    arguments[-1] = str(port)
    server = subprocess.Popen(
        [place.python.parent / command, *arguments],
        cwd=place.folder,
        env=place.environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(SECONDS):
            if server.poll() is not None:
                raise RuntimeError(f"{command} {shlex.join(arguments)} ended by itself")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


def _notebook(path: Path) -> Callable[[Place], None]:
    def follow(place: Place) -> None:
        jupyter = place.python.with_name("jupyter")
        done = place.folder / "done"
        place.run(
            *(jupyter, "nbconvert", "--to", "notebook", "--execute", "--output-dir", done, path),
            PYTHONWARNINGS="ignore",
        )
        test_notebooks.compare(nbformat.read(done / path.name, as_version=4), path)

    return follow


def _example(path: Path, arguments: list[str]) -> Callable[[Place], None]:
    def follow(place: Place) -> None:
        same = {"PYTHONHASHSEED": "0"}  # equal scores stand in the order of a framework's sets
        there = place.run(place.python, path, *arguments, **same)
        with TemporaryDirectory() as folder:
            elsewhere = place._replace(folder=Path(folder))
            here = elsewhere.run(sys.executable, path, *arguments, **same)
        if there != here:
            raise RuntimeError(f"printed:\n{there}\nwhere everything is installed:\n{here}")

    return follow


def _extra(place: Place) -> None:
    install(place.python.parents[1], f"{NAME}[socks]")
    place.run(place.python, "-c", "import aiohttp_socks, qwen_rerank")


def main(*names: str) -> int:
    """Follows all, or those of *names*; 1 if one of them is not as it says."""
    groups: dict[tuple[str, ...], list[Errand]] = defaultdict(list)
    for errand in errands():
        if not names or errand.name in names:
            groups[errand.requirements].append(errand)
    wrong = []
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
        subprocess.run([*build, root, ROOT], check=True)
        (wheel,) = root.glob("*.whl")
        shutil.copytree(Path(sybil.__file__).parent, root / "sybil" / "sybil")
        for (ours, *others), group in groups.items():
            print(f"{NAME}{ours} {' '.join(others)}".strip(), flush=True)
            python = install(root / "env", f"{wheel}{ours}", *others)
            for errand in group:
                started = time.perf_counter()
                with TemporaryDirectory() as folder:
                    try:
                        errand.follow(Place(python, Path(folder), root / "sybil"))
                        says = "as it says"
                    except Exception as error:  # noqa: BLE001  whatever it is, the others are run
                        wrong.append(errand.name)
                        says = f"NOT as it says\n{error}"
                seconds = time.perf_counter() - started
                print(f"  {seconds:4.0f} s  {errand.name}: {says}", flush=True)
            shutil.rmtree(root / "env")
    print(f"Not as they say: {', '.join(wrong)}" if wrong else "All are as they say.")
    return 1 if wrong or not groups else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
