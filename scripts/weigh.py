"""Writes docs/weight.md: what each extra brings, in packages and megabytes, measured here and now.

    python scripts/weigh.py

It makes an environment for the core and for each extra from pyproject.toml, in a temporary folder
and from nothing, with uv if that is there and else with pip, and counts what lies in it. A few
minutes, and a gigabyte on the way.
"""

import json
import platform
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from install_lines import NAME, published, written

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "weight.md"
OLD = "dashscope==1.22.2"  # as llama-index-llms-dashscope pins it
MEGABYTE = 1_000_000
# What an environment itself may have.
TOOLS = {"pip", "setuptools", "wheel"}

Weights = dict[str, tuple[set[str], int]]

USES = {
    "": "calls from your own code",
    "langchain": "`langchain_qwen_rerank`",
    "llama-index": "`llama_index_qwen_rerank`",
    "images": "images given as bytes or files",
    "socks": "proxies that speak SOCKS",
    "emulator": "the emulator, from Python or as a pytest fixture",
    "cli": "`qwen-rerank doctor` and `rerank`; with `emulator`, `serve`",
    "evaluate": "`qwen-rerank evaluate`",
    "plots": "pictures of it",
    "demo": "`qwen-rerank demo`",
    "all": "all of these",
}


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def install(folder: Path, *requirements: str) -> Path:
    """A fresh environment in *folder* with *requirements*; its interpreter."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = next(each for each in folder.glob("*/python*") if each.stem == "python")
    if uv := shutil.which("uv"):
        _run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
    else:
        _run(
            *(sys.executable, "-m", "pip", "--python", python),
            *("install", "--quiet", "--no-compile", *requirements),
        )
    return python


def weigh(python: Path) -> tuple[set[str], int]:
    """The packages beside *python* that were installed, and the bytes of all their files."""
    code = (
        "import json, sysconfig; from importlib.metadata import distributions as all; "
        "print(json.dumps([sysconfig.get_path('purelib'), [d.metadata['Name'] for d in all()]]))"
    )
    site, names = json.loads(_run(python, "-c", code))
    files = (each for each in Path(site).rglob("*") if each.is_file() and not each.is_symlink())
    size = sum(each.stat().st_size for each in files if each.suffix != ".pyc")
    return {name.lower() for name in names} - TOOLS, size


def measure(*requirements: str) -> tuple[set[str], int]:
    """`weigh` of a fresh environment with *requirements*."""
    with TemporaryDirectory() as folder:
        weight = weigh(install(Path(folder) / "env", *requirements))
    print(f"{' '.join(requirements)}: {len(weight[0])} packages, {weight[1] / MEGABYTE:.0f} MB")
    return weight


def cells(extra: str, weights: Weights) -> str:
    """What the core weighs, or what *extra* adds to that."""
    packages, size = weights[extra]
    if not extra:
        return f"{len(packages)} | {size / MEGABYTE:.0f} MB"
    core, core_size = weights[""]
    return f"+ {len(packages - core)} | + {(size - core_size) / MEGABYTE:.0f} MB"


def page(newest: Weights, oldest: Weights) -> str:
    """The page around what was measured with the newest dashscope, and with the oldest."""
    made = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.system()}"
    lines = (
        "# What an installation weighs",
        "",
        "Each use has an extra of its own, so that nobody installs what they do not use. A command",
        "that misses a package names the extra that installs all it needs.",
        "",
        f"| install | for | packages | size | with {OLD} | |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{NAME}{extra and f'[{extra}]'}` | {use} | {cells(extra, newest)} | "
            f"{cells(extra, oldest)} |"
            for extra, use in USES.items()
        ),
        "",
        "Each was measured in a fresh environment, with the newest releases of all else. The",
        "first line is the core with all it needs, the others say what they add to that. What",
        "extras share counts in each of them. Compiled files do not count.",
        "",
        "Most of the core is what `dashscope` 2 needs, among it a web server, click and rich, so",
        "that some extras add nothing to it. Tokens are counted with its vocabulary file; it is",
        "never imported, and every release from 1.22 on will do. Where size matters, install an",
        "old one beside the rest:",
        "",
        "```shell",
        f'pip install {NAME} "{OLD}"',
        "```",
        "",
        f"Measured by `python scripts/weigh.py` on {made}.",
        "",
    )
    return written("\n".join(lines), index=published(ROOT))


def main() -> None:
    """Measures, and writes the page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    if USES.keys() != {"", *project["optional-dependencies"]}:
        sys.exit("USES and the extras of pyproject.toml differ")
    wanted = {each: f"{ROOT}{each and f'[{each}]'}" for each in USES}
    newest = {extra: measure(what) for extra, what in wanted.items()}
    oldest = {extra: measure(what, OLD) for extra, what in wanted.items()}
    PAGE.write_text(page(newest, oldest), encoding="utf-8")
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()
