"""The list of examples, and the script that needs no framework, run as a user runs it."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT = EXAMPLES / "search_pictures.py"


@pytest.fixture(name="run")
def _run(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script in an empty folder and returns what it put out."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  our own interpreter, our own script
            [sys.executable, str(SCRIPT), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "100"} | variables,
        )

    return run


@pytest.fixture(name="folder")
def _folder(tmp_path) -> Path:
    """Three pictures that say what they show, one that is none, and a text."""
    folder = tmp_path / "my [pictures]"
    folder.mkdir()
    for name, title in (
        ("a.png", "A red sports car"),
        ("b.png", "A green hill"),
        ("c.png", "A red fire engine"),
    ):
        words = PngImagePlugin.PngInfo()
        words.add_text("Title", title)
        Image.new("RGB", (32, 32)).save(folder / name, pnginfo=words)
    (folder / "d[e].jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("A red sports car")
    return folder


def ranked(printed: str) -> list[str]:
    """The names of the files in the table, best first."""
    return re.findall(r"^ *\d+ +(\S+) +\d\.\d+", printed, re.MULTILINE)


@pytest.mark.parametrize("kind", ["examples/*.py", "notebooks/*.ipynb"])
def test_lists_have_all(kind):
    """Every example and every notebook is in the list of its folder, by what it shows."""
    found = sorted(path.name for path in EXAMPLES.parent.glob(kind))
    text = (EXAMPLES.parent / kind).with_name("README.md").read_text()

    assert sorted(re.findall(r"^\|.*\[(\w+\.\w+)\]\(\1\)", text, re.MULTILINE)) == found


def test_stand_alone():
    """An example imports nothing that lies beside it, so that it can be copied."""
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    imported = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)

    assert not any(
        names & set(imported.findall(path.read_text())) for path in EXAMPLES.glob("*.py")
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("[hl]*.py")), ids=lambda path: path.name)
def test_say_that_they_were_never_run_live(path):
    """Who reads an example of a framework is told what it has not been tried with."""
    said = " ".join(ast.get_docstring(ast.parse(path.read_text())).split())

    assert "never run against the live service" in said
    assert f"python examples/{path.name}" in said


@pytest.mark.slow
def test_draws_something_to_search(run):
    """Without a folder the script draws pictures, and finds the one that was asked for."""
    done = run("--query", "a green star", "--top", "3")

    assert (done.returncode, done.stderr) == (0, "")
    assert "25 pictures" in done.stdout
    assert len(ranked(done.stdout)) == 3
    assert ranked(done.stdout)[0] == "green-star.png"


@pytest.mark.slow
def test_finds_pictures_like_another(run, folder):
    """A picture of the folder is most like itself; what is no picture is left out, and said."""
    done = run("--image", str(folder / "a.png"), str(folder))

    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^d\[e\]\.jpg is left out: .*image", done.stdout, re.MULTILINE)
    assert ranked(done.stdout) == ["a.png", "c.png", "b.png"]


@pytest.mark.slow
def test_asks_the_service_when_told_to(run, folder, emulator):
    """With --live the key and the host of the environment are used, and no emulator is started."""
    done = run(
        *("--live", "--query", "a green hill", str(folder)),
        DASHSCOPE_API_KEY=emulator.api_key,
        DASHSCOPE_BASE_URL=emulator.base_url,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert ranked(done.stdout)[0] == "b.png"
    assert [request.documents for request in emulator.log] == [3]


def test_says_what_is_wrong(run, folder):
    """Without a key, --live says so in one line, and sends nothing."""
    done = run("--live", "--query", "a green hill", str(folder))

    assert (done.returncode, done.stdout) == (1, "")
    assert "DASHSCOPE_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1
