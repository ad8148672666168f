"""What `make pages` follows; it takes fresh environments, so it is not run here."""

import re

import pytest
from page_blocks import ROOT, parts

pytest.importorskip("nbformat")
follow_pages = pytest.importorskip("follow_pages")


def test_nothing_escapes_it():
    """Every page with Python blocks, every notebook and every script is followed."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    python = re.compile(r"^```(python|diff)", re.MULTILINE)
    wanted = [page for page in pages if python.search(page.read_text())]
    wanted += ROOT.glob("notebooks/*.ipynb")
    scripts = ROOT.glob("examples/*.py")
    wanted += [script for script in scripts if "\n    python examples/" in script.read_text()]
    names = {str(path.relative_to(ROOT)) for path in wanted} - {"examples/ray_data.py"}

    assert names <= {errand.name for errand in follow_pages.errands()}


def test_each_framework_of_the_readme_stands_alone():
    """Its blocks are followed apart, each from an install line that leaves the other one out."""
    lines = [errand.requirements for errand in follow_pages.errands() if errand.name == "README.md"]

    assert lines == [("[langchain,emulator]",), ("[llama-index,emulator]",)]
    for _, typed, text in parts(ROOT / "README.md"):
        assert typed.count("\n") == 1
        assert "from qwen_rerank.emulator import" in text


@pytest.mark.parametrize("name", [".", "qwen-rerank"])
def test_a_line_means_the_wheel(name):
    """From a clone or from the index, the line is followed with what was built here."""
    assert follow_pages.requirements(f'pip install "{name}[cli]" numpy') == ("[cli]", "numpy")
    assert follow_pages.requirements(f'pip install {name} "ray[data]"') == ("", "ray[data]")
