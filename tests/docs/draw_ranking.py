"""Draws docs/ranking.svg, one question of the demo before and after reranking: `make picture`.

The passages are those of the running Python's reference; another version may draw another picture.
It is written as SVG, because a plotting library knows no style that follows a reader's dark mode.
"""

from html import escape
from pathlib import Path

from qwen_rerank.cli.demo.corpus import Question, load_passages, load_questions
from qwen_rerank.cli.demo.measure import Found
from qwen_rerank.emulator import Emulator

PICTURE = Path(__file__).parents[2] / "docs" / "ranking.svg"

_QUESTION = "q01"
_RETRIEVED, _SHOWN = 100, 6
_WIDTH, _ROW, _TOP = 860, 34, 92  # pixels
_LEFT, _FROM, _TO, _RIGHT = 40, 300, 490, 530  # x of texts and of the lines' ends

_NOTE = "Green: judged relevant. Scored by the emulator, which compares words, not by a Qwen model."

_STYLE = """\
    text { font: 15px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #57606a }
    .title { font-size: 17px; fill: #1f2328 }
    .head, .score { font-size: 13px }
    .good { font-weight: 600; fill: #0a6b4b }
    path { fill: none; stroke: #afb8c1; stroke-width: 1.5 }
    path.good { fill: none; stroke: #1a9c70; stroke-width: 3 }
    @media (prefers-color-scheme: dark) {
      text { fill: #9ea7b3 }
      .title { fill: #e6edf3 }
      .good { fill: #56d4a4 }
      path { stroke: #4d5661 }
      path.good { fill: none; stroke: #2fa77c }
    }
"""


def main() -> None:
    """Ranks and draws."""
    from qwen_rerank.cli.demo.frameworks import LangChain  # takes both frameworks

    [question] = [each for each in load_questions() if each.id == _QUESTION]
    with Emulator() as emulator:
        framework = LangChain(load_passages(), base_url=emulator.base_url, api_key=emulator.api_key)
        candidates = framework.retrieve(question.text, _RETRIEVED)
        before = framework.read(candidates)
        after = framework.read(framework.rerank(question.text, candidates))
        framework.close()
    PICTURE.write_text(drawn(question, before, after), encoding="utf-8")


def drawn(question: Question, before: tuple[Found, ...], after: tuple[Found, ...]) -> str:
    """The picture: the first places before on the left and after on the right."""
    ranks = {found.passage.id: rank for rank, found in enumerate(before, 1)}
    height = _TOP + _ROW * (_SHOWN + 1) + 24
    parts = [
        _text(_LEFT - 28, 26, f"\u201c{question.text}\u201d", "title"),
        _text(_LEFT - 28, 58, "as retrieved", "head"),
        _text(_RIGHT - 18, 58, "as reranked", "head"),
    ]
    for rank, found in enumerate(before[:_SHOWN], 1):
        parts.append(_row(_LEFT, rank, found, question))
    parts.append(_text(_LEFT, _y(_SHOWN + 1), "\u2026", "head"))
    for rank, found in enumerate(after[:_SHOWN], 1):
        was = ranks[found.passage.id]
        parts.append(_line(was, rank, _class(found, question)))
        parts.append(_row(_RIGHT, rank, found, question))
        parts.append(_text(_WIDTH - 84, _y(rank), f"was {was}", "score"))
    parts.append(_text(_LEFT - 28, height - 12, _NOTE, "head"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'width="{_WIDTH}" height="{height}">\n'
        "  <title>The first six places before and after reranking</title>\n"
        f"  <style>\n{_STYLE}  </style>\n" + "".join(f"  {part}\n" for part in parts) + "</svg>\n"
    )


def _class(found: Found, question: Question) -> str:
    return "good" if found.passage.topic in question.grades else ""


def _y(rank: int) -> int:
    return _TOP + _ROW * (rank - 1)


def _row(x: int, rank: int, found: Found, question: Question) -> str:
    heading = found.passage.text.partition("\n")[0].replace('"', "")
    number = _text(x - 28, _y(rank), f"{rank}", "head")
    return number + _text(x, _y(rank), heading, _class(found, question))


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'


def _line(before: int, after: int, kind: str) -> str:
    start, end = _y(min(before, _SHOWN + 1)) - 5, _y(after) - 5
    middle = (_FROM + _TO) // 2
    return (
        f'<path class="{kind}" d="M{_FROM} {start}C{middle} {start} {middle} {end} {_TO} {end}"/>'
    )


if __name__ == "__main__":
    main()
