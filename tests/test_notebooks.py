"""Every notebook runs, and what is stored in it is what it shows today.

``python tests/test_notebooks.py`` runs them all and stores what they show.
"""

import os
import platform
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 700_000

_KEY = re.compile(r"\bsk-\w")
_LOCAL = re.compile(r"(?<![\w.])/(home|opt|private|root|tmp|usr|var|Users)/|[A-Z]:\\|127\.0\.0\.1")
# What differs between machines, between releases of what draws the pictures, and request ids.
_VOLATILE = re.compile(
    r"<\d+ bytes, blake2b [0-9a-f]+>"
    r"|size=\d+x\d+( at 0x[0-9A-F]+)?"
    r"|request id [0-9a-f-]+"
)
# The figures of a notebook that says this are those of one release of Python.
_REFERENCE = re.compile(r"Python (\S+)'s reference")
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path, home: Path, fonts: Path) -> NotebookNode:
    """The notebook at *path*, run in a new kernel that knows nothing of this machine.

    Only its folder goes along, as with somebody who has no clone.

    Raises:
        CellExecutionError: A cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    environment = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    environment |= {"HOME": str(home), "IPYTHONDIR": str(home), "MPLCONFIGDIR": str(fonts)}
    folder = shutil.copytree(path.parent, home / path.parent.name)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)  # the whole environment of the kernel: no key, no proxy
    notebook.metadata = nbformat.from_dict(_METADATA)  # nbclient notes versions of this machine
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that were run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook: NotebookNode) -> list[dict[str, str]]:
    """For each code cell what it shows, by kind; of a picture only that there is one."""
    cells = []
    for cell in code_cells(notebook):
        shows: dict[str, str] = defaultdict(str)
        for output in cell.outputs:
            if output.output_type == "stream":
                shows[output.name] += output.text  # comes in pieces, as time will have it
            for kind, data in output.get("data", {}).items():
                shows[kind] += data if kind.startswith("text/") else "a picture"
        cells.append({kind: _VOLATILE.sub("...", data) for kind, data in shows.items()})
    return cells


def kinds(cells: list[dict[str, str]]) -> list[list[str]]:
    """For each cell only the kinds of what it shows."""
    return [sorted(cell) for cell in cells]


def compare(notebook: NotebookNode, stored: Path) -> None:
    """Fails unless *notebook*, run just now, shows what is *stored*."""
    then, now = shown(nbformat.read(stored, as_version=4)), shown(notebook)
    python = _REFERENCE.search(str(then))
    if python and python[1] != platform.python_version():
        then, now = kinds(then), kinds(now)
    assert now == then


@pytest.fixture(name="stored", params=NOTEBOOKS, ids=lambda path: path.name)
def _stored(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_one_switch():
    """All begin with the same words and lines, which lead to the real service."""
    begins = [nbformat.read(path, as_version=4).cells[1:3] for path in NOTEBOOKS]
    [(words, lines)] = {tuple(cell.source for cell in cells) for cells in begins}

    assert "LIVE = False" in lines
    assert "say nothing of how well the models rank" in words


def test_was_run_from_top_to_bottom(stored):
    """A stored notebook was run once, in order, without an error, and says nothing of when."""
    notebook = nbformat.read(stored, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert not any(cell.metadata for cell in cells)
    assert notebook.metadata == _METADATA


def test_tells_nothing_of_the_machine(stored):
    """A stored notebook holds no key and no path of the machine it was run on, and is small."""
    notebook = nbformat.read(stored, as_version=4)
    told = [cell.source for cell in notebook.cells]
    told += [text for cell in shown(notebook) for text in cell.values()]

    assert not any(_KEY.search(text) or _LOCAL.search(text) for text in told)
    assert not any(text in stored.read_text() for text in (str(ROOT), sys.prefix))
    assert stored.stat().st_size < MOST_BYTES


@pytest.mark.slow
def test_runs(stored, tmp_path, tmp_path_factory):
    """A notebook runs without a key, and shows today what is stored in it."""
    fonts = tmp_path_factory.getbasetemp() / "matplotlib"  # found once, in a second or two

    compare(executed(stored, tmp_path, fonts), stored)


if __name__ == "__main__":
    for path in NOTEBOOKS:
        with TemporaryDirectory() as home:
            nbformat.write(executed(path, Path(home), Path(home)), path)
