"""The list of examples, and the script that needs no framework, run as a user runs it."""

import ast
import re
from pathlib import Path

import pytest
from example_scripts import EXAMPLES, run
from PIL import Image, PngImagePlugin


@pytest.fixture(name="search")
def _search(monkeypatch, capsys):
    """Runs the script that searches pictures; gives its exit code, and what it put out."""
    monkeypatch.setenv("COLUMNS", "100")

    def search(*arguments: str) -> tuple[int, str, str]:
        return (run("search_pictures", *arguments), *capsys.readouterr())

    return search


@pytest.fixture(name="folder")
def _folder(tmp_path) -> Path:
    """Two pictures that say what they show, one that is none, and a text."""
    folder = tmp_path / "my [pictures]"
    folder.mkdir()
    for name, title in (
        ("a.png", "A red sports car"),
        ("b.png", "A green hill"),
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


def test_draws_something_to_search(search):
    """Without a folder the script draws pictures, and finds the one that was asked for."""
    code, out, err = search("--query", "a green star", "--top", "3")

    assert (code, err) == (0, "")
    assert "25 pictures" in out
    assert len(ranked(out)) == 3
    assert ranked(out)[0] == "green-star.png"


def test_finds_pictures_like_another(search, folder):
    """A picture of the folder is most like itself; what is no picture is left out, and said."""
    code, out, err = search("--image", str(folder / "a.png"), str(folder))

    assert (code, err) == (0, "")
    assert re.search(r"^d\[e\]\.jpg is left out: .*image", out, re.MULTILINE)
    assert ranked(out) == ["a.png", "b.png"]


def test_asks_the_service_when_told_to(search, folder, emulator, monkeypatch):
    """With --live the key and the host of the environment are used, and no emulator is started.

    Without a key it says so in one line.
    """
    asked = "--live", "--query", "a green hill", str(folder)
    code, out, err = search(*asked)

    assert (code, out) == (1, "")
    assert "DASHSCOPE_API_KEY" in err
    assert len(err.splitlines()) == 1

    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    code, out, err = search(*asked)

    assert (code, err) == (0, "")
    assert ranked(out)[0] == "b.png"
    assert [request.documents for request in emulator.log] == [2]
