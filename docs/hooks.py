"""Shows files of the repository that lie outside docs/ as pages of the site; MkDocs runs it.

README, changelog, notebooks and examples stay where people look for them, and every page links to
them by their place in the repository, so that the links work there as well as here.
"""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]

_COPIED = (
    *(path.name for path in ROOT.glob("*.md")),
    *("examples/README.md", "notebooks/README.md"),
    *("benchmarks/README.md", "benchmarks/one-call.png", "benchmarks/throughput.png", "LICENSE"),
)
_NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
_EXAMPLES = sorted(ROOT.glob("examples/*.py"))
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)((?:#[^)\s]*)?)(?=\))")


def _shown(path: str) -> str | None:
    """Where in the site the file *path* of the repository is; None if it is not in it."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if not (ROOT / path).is_file():
        return None
    if path.startswith("notebooks/") or (path.startswith("examples/") and path.endswith(".py")):
        return str(Path(path).with_suffix(".md"))
    return path if path in _COPIED else None


def _of_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown with its stored output, and its pictures by name."""
    naming = {"unique_key": path.stem, "output_files_dir": ""}
    body, resources = MarkdownExporter().from_filename(str(path), resources=naming)
    return body, resources["outputs"]


def _of_example(path: Path) -> str:
    code = path.read_text(encoding="utf-8")
    says = ast.get_docstring(ast.parse(code)).partition(":")[0]
    return f"# {path.stem}\n\n{says}.\n\n```python\n{code}```\n"


def _generated(path: str) -> dict[str, str | bytes]:
    """The pages and pictures that the file *path* of the repository becomes."""
    source = ROOT / path
    if source in _NOTEBOOKS:
        body, pictures = _of_notebook(source)
        return {_shown(path): body, **{f"notebooks/{name}": it for name, it in pictures.items()}}
    if source in _EXAMPLES:
        return {_shown(path): _of_example(source)}
    return {path: source.read_bytes() if source.suffix == ".png" else source.read_text("utf-8")}


_OUTSIDE = (*_COPIED, *(str(path.relative_to(ROOT)) for path in (*_NOTEBOOKS, *_EXAMPLES)))
_SOURCES: dict[str, str] = {}  # of pages that are not in docs/, where they come from


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the notebooks and the examples in the navigation."""
    for section in config.nav:
        if isinstance(section, dict) and "Notebooks" in section:
            pages = [f"notebooks/{path.stem}.md" for path in _NOTEBOOKS]
            section["Notebooks"] = ["notebooks/README.md", *pages]
        if isinstance(section, dict) and "Examples" in section:
            pages = [f"examples/{path.stem}.md" for path in _EXAMPLES]
            section["Examples"] = ["examples/README.md", *pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files that lie outside docs/."""
    for path in _OUTSIDE:
        for uri, content in _generated(path).items():
            _SOURCES[uri] = path
            files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(_SOURCES.get(here, f"docs/{here}"))

    def turned(link: re.Match[str]) -> str:
        target = _shown(posixpath.normpath(posixpath.join(folder, link[1])))
        if target is None:
            return link[0]  # which --strict complains of
        return posixpath.relpath(target, posixpath.dirname(here) or ".") + link[2]

    return _LINK.sub(turned, markdown)
