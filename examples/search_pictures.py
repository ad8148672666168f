"""Ranks the pictures of a folder by a text or a picture, best first: a script to run and to read.

    python examples/search_pictures.py --query "a green star"
    python examples/search_pictures.py --image one/like/this.png ~/Pictures

Without a folder it draws some and searches those. The answers come from an emulator on this
machine, which does not see: it compares what the metadata of pictures say, or else the names of
their colours. With --live the pictures are sent to DashScope, and billed to DASHSCOPE_API_KEY.

It takes: pip install ".[images,emulator]" rich
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from math import cos, pi, sin
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image as Picture
from PIL import ImageDraw
from PIL.PngImagePlugin import PngInfo
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qwen_rerank import Image, Ranking, RequestError, Reranker, RerankError

COLOURS = ("red", "orange", "green", "blue", "purple")
SHAPES = {
    "square": [(40, 20), (120, 20), (120, 100), (40, 100)],
    "triangle": [(80, 15), (130, 105), (30, 105)],
    "kite": [(80, 10), (115, 45), (80, 110), (45, 45)],
    "arrow": [(20, 45), (85, 45), (85, 20), (140, 60), (85, 100), (85, 75), (20, 75)],
    "star": [
        (80 + far * sin(turn * pi / 5), 60 + far * cos(turn * pi / 5))
        for turn, far in enumerate([20, 50] * 5)
    ],
}
ENDINGS = {".bmp", ".ico", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
console = Console()


def main() -> int:
    """Does what the command line asks for, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Rank the pictures of a folder.")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--query", help="what to look for, in words")
    query.add_argument("--image", type=Path, help="a picture to look for others like it")
    parser.add_argument("folder", type=Path, nargs="?", help="default: some drawings")
    parser.add_argument("--top", type=int, default=10, help="how many to show (%(default)s)")
    parser.add_argument("--live", action="store_true", help="send the pictures to DashScope")
    asked = parser.parse_args()
    with ExitStack() as stack:
        try:
            service = {} if asked.live else emulated(stack)
            reranker = Reranker(model="qwen3-vl-rerank", top_n=asked.top, **service)
            pictures = list(sendable(reranker, asked.folder or drawn(stack)))
            wanted = asked.query if asked.image is None else Image(path=asked.image)
            tokens = reranker.estimate(wanted, pictures).tokens
            console.print(f"{len(pictures)} pictures, about {tokens:,} tokens")
            console.print(table(reranker.rerank(wanted, pictures)))
        except (OSError, ValueError, RerankError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    return 0


def emulated(stack: ExitStack) -> dict[str, str]:
    """An emulator to ask, until *stack* closes."""
    from qwen_rerank.emulator import Emulator  # noqa: PLC0415  --live does without

    emulator = stack.enter_context(Emulator())
    return {"base_url": emulator.base_url, "api_key": emulator.api_key}


def drawn(stack: ExitStack) -> Path:
    """A folder full of drawings that say in their metadata what they show, until *stack* closes."""
    folder = Path(stack.enter_context(TemporaryDirectory()))
    for colour, (shape, corners) in product(COLOURS, SHAPES.items()):
        picture, words = Picture.new("RGB", (160, 120), "white"), PngInfo()
        ImageDraw.Draw(picture).polygon(corners, colour)
        words.add_text("Title", f"A {colour} {shape}")
        picture.save(folder / f"{colour}-{shape}.png", pnginfo=words)
    return folder


def sendable(reranker: Reranker, folder: Path) -> Iterator[Image]:
    """The pictures in *folder*; of those that cannot be sent it says why."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS:
            try:
                reranker.estimate("any", [Image(path=path)])  # looks at it, and sends nothing
            except RequestError as error:
                reason = str(error).partition(": ")[2]
                console.print(shown(f"{path.name} is left out: {reason}"), style="yellow")
            else:
                yield Image(path=path)


def table(ranking: Ranking) -> Table:
    """*ranking* for a terminal."""
    made = Table("", "picture", "score", "", box=None)
    for rank, hit in enumerate(ranking, 1):
        bar = Bar(1.0, 0.0, hit.score, width=20, color="cyan")
        made.add_row(str(rank), shown(Path(hit.document.path).name), f"{hit.score:.3f}", bar)
    return made


def shown(name: str) -> Text:
    """*name* with what a terminal would obey made visible."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name))


if __name__ == "__main__":
    sys.exit(main())
