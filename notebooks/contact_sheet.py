"""A sheet of thumbnails: pictures and texts side by side, in order, with rank and score."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import NamedTuple, TypeAlias

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image as Pillow

from qwen_rerank import Image, Ranking

__all__ = ["contact_sheet"]

INK, FAINT, LINE = "#333840", "#767c86", "#d5d8dd"
QUERY, BEST = "#2f6fbd", "#2b8a3e"
CARD, NOTHING = "#f6f3ea", "#eceef1"
WIDTH, GAP, CAPTION = 900, 10, 24  # pixels
COLOURS = 160  # enough for charts, in half the bytes

Thing: TypeAlias = str | Path | Image


class Cell(NamedTuple):
    """A text or a picture, and what stands below it."""

    thing: Thing
    caption: str
    colour: str = INK
    line: str = LINE


def contact_sheet(
    things: Ranking | Sequence[Thing],
    scores: Sequence[float | None] | None = None,
    query: Thing | None = None,
    columns: int = 6,
) -> Pillow.Image:
    """Draws *things* in rows of *columns*.

    Args:
        things: What to show, in order: texts, and pictures in files; or a ranking of these.
        scores: The score of each, None for one without. With scores, or for a ranking, rank and
            score stand below each; otherwise its name does.
        query: What was looked for, which is shown first.
        columns: How many to a row.

    Returns:
        The sheet, which shows itself at the end of a notebook's cell.
    """
    if isinstance(things, Ranking):
        things, scores = [hit.document for hit in things], [hit.score for hit in things]
    cells = [] if query is None else [Cell(query, "looked for", QUERY, QUERY)]
    cells += _named(things) if scores is None else _ranked(things, scores)
    rows = -(-len(cells) // columns)
    width = (WIDTH + GAP) / columns - GAP
    row = width * 3 / 4 + CAPTION + GAP
    height = rows * row - GAP + 1
    with rc_context({"font.family": "DejaVu Sans", "font.size": 42 / columns}):
        figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100)
        for place, cell in enumerate(cells):
            left = place % columns * (width + GAP)
            bottom = height - place // columns * row - width * 3 / 4 - 1
            corner = (left + 1) / WIDTH, bottom / height
            axes = figure.add_axes((*corner, (width - 2) / WIDTH, (width * 3 / 4 - 1) / height))
            axes.set(xticks=[], yticks=[], xlim=(0, 4), ylim=(3, 0))
            axes.spines[:].set(color=cell.line, linewidth=0.8 if cell.line == LINE else 1.6)
            axes.set_xlabel(cell.caption, color=cell.colour, fontsize=9)
            _draw(axes, cell.thing)
        drawn = BytesIO()
        figure.savefig(drawn)
    with Pillow.open(drawn) as sheet:
        return sheet.convert("RGB").quantize(COLOURS, dither=Pillow.Dither.NONE)


def _named(things: Sequence[Thing]) -> Iterator[Cell]:
    for thing in things:
        yield Cell(thing, "a text" if isinstance(thing, str) else _path(thing).stem, FAINT)


def _ranked(things: Sequence[Thing], scores: Sequence[float | None]) -> Iterator[Cell]:
    for rank, (thing, score) in enumerate(zip(things, scores, strict=True), 1):
        if score is None:
            yield Cell(thing, "not scored", FAINT)
        else:
            yield Cell(thing, f"{rank}.  {score:.2f}", BEST if rank == 1 else INK)


def _path(picture: Path | Image) -> Path:
    return Path(picture.path) if isinstance(picture, Image) else picture


def _draw(axes: Axes, thing: Thing) -> None:
    middle = {"ha": "center", "va": "center"}
    if isinstance(thing, str):
        axes.set_facecolor(CARD)
        axes.text(2, 1.5, fill(thing, 22), color=INK, linespacing=1.3, **middle)
        return
    try:
        axes.imshow(imread(_path(thing)), extent=(0, 4, 3, 0), interpolation="antialiased")
    except (OSError, SyntaxError):  # the latter is Pillow's, for a broken PNG
        axes.set_facecolor(NOTHING)
        axes.text(2, 1.5, "no picture", color=FAINT, **middle)
