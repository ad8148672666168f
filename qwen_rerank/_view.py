"""How a ranking looks in a notebook: values in, HTML out; no ranking, no I/O and no script here.

Documents, model names and error texts are text of others. They stand between tags and never inside
one, escaped, cut, and with everything spelled out that would hide, act or reorder its neighbours.
No template engine does that last part, and the core would have to install it.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

__all__ = ["is_seen", "table"]

_ROWS = 50
_CHARACTERS = 200  # of a document
_ERROR_CHARACTERS = 1_000
_MARKS = 4  # combining marks on one letter; a hundred would paint over the rows above and below

# What lays out text rather than being part of it. Other white space is a control character.
_SPACES = (
    " \t\r\n\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SPACE = re.compile(f"[{_SPACES}]+")
# Printable by category and yet nothing to see: joiners, fillers, variation selectors, blanks.
_HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d159\U000e0100-\U000e01ef]"
)

# Every colour is half transparent or of middle brightness, for light and dark pages alike.
_BOX = "max-width:75em;line-height:1.4"
_NOTICE = (
    "margin:0 0 .8em;padding:.6em .9em;border-left:.3em solid #e08a00;"
    "background:rgba(224,138,0,.15);overflow-wrap:anywhere"
)
_TABLE = "width:100%;border-collapse:collapse;table-layout:auto"
_CELL = "padding:.3em .7em;vertical-align:top;border-bottom:1px solid rgba(128,128,128,.3)"
_NUMBER = f"{_CELL};text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums"
_TEXT = f"{_CELL};text-align:start;width:100%;white-space:normal;overflow-wrap:anywhere"
_TRACK = (
    "display:block;width:6em;height:.35em;margin:.2em 0 0 auto;border-radius:.2em;"
    "background:rgba(128,128,128,.25)"
)
_BAR = "display:block;height:100%;border-radius:.2em;background:#3b82f6"
_FAINT = "opacity:.6"
_UP, _DOWN = "color:#2da44e", "color:#e5534b"
_COLUMNS = (("rank", _NUMBER), ("score", _NUMBER), ("index", _NUMBER), ("moved", _NUMBER))


class _Hit(Protocol):
    @property
    def index(self) -> int: ...
    @property
    def score(self) -> float | None: ...
    @property
    def document(self) -> object: ...
    @property
    def window(self) -> tuple[int, int] | None: ...


class _Usage(Protocol):
    @property
    def requests(self) -> int: ...
    @property
    def tokens(self) -> int | None: ...
    @property
    def cache_hits(self) -> int: ...


class _Ranking(Protocol):
    @property
    def hits(self) -> Sequence[_Hit]: ...
    @property
    def model(self) -> str: ...
    @property
    def usage(self) -> _Usage: ...
    @property
    def truncated(self) -> Sequence[int]: ...
    @property
    def query_truncated(self) -> bool: ...
    @property
    def unsendable(self) -> Sequence[tuple[int, str]]: ...
    @property
    def degraded(self) -> Exception | None: ...


def table(ranking: _Ranking) -> str:
    """*ranking* as an HTML table of its first hits, with inline styles only."""
    low, high = _range(ranking.hits)
    head = "".join(f'<th style="{style}">{name}</th>' for name, style in _COLUMNS)
    cut, unsendable = frozenset(ranking.truncated), dict(ranking.unsendable)
    rows = "".join(
        _row(
            rank,
            hit,
            _share(hit.score, low, high),
            cut=hit.index in cut,
            reason=unsendable.get(hit.index),
        )
        for rank, hit in enumerate(ranking.hits[:_ROWS])
    )
    # Without these classes a notebook would typeset what stands between dollar signs.
    return (
        f'<div class="tex2jax_ignore mathjax_ignore" style="{_BOX}">'
        f"{_notice(ranking.degraded)}"
        f'<table style="{_TABLE}">'
        f'<thead><tr>{head}<th style="{_TEXT}">document</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        f"{_rest(len(ranking.hits) - _ROWS)}"
        f'<div style="padding:.5em .7em;{_FAINT}">{_caption(ranking)}</div></div>'
    )


def _notice(error: Exception | None) -> str:
    if error is None:
        return ""
    said = _shown(f"{type(error).__name__}: {error}", _ERROR_CHARACTERS)
    return (
        f'<div style="{_NOTICE}"><strong>This is the original order, not a ranking.</strong><br>'
        f"{said}</div>"
    )


def _row(rank: int, hit: _Hit, share: float | None, *, cut: bool, reason: str | None) -> str:
    scored = hit.score is not None
    cells = (
        f"{rank + 1:,}" if scored else "",
        _score(hit.score, share),
        f"{hit.index:,}",
        _move(hit.index - rank) if scored else "",
    )
    numbers = "".join(f'<td style="{_NUMBER}">{cell}</td>' for cell in cells)
    text = _shown(_named(hit.document), _CHARACTERS) or _faint("blank")
    notes = "".join(f"<br>{_faint(note)}" for note in _notes(hit.window, reason, cut=cut))
    return f'<tr>{numbers}<td dir="auto" style="{_TEXT}">{text}{notes}</td></tr>'


def _named(document: object) -> str:
    """A text as it is; an image or video as what it says of itself, which holds no content."""
    parts = document if isinstance(document, tuple) else (document,)
    return " + ".join(part if isinstance(part, str) else repr(part) for part in parts)


def _notes(window: tuple[int, int] | None, reason: str | None, *, cut: bool) -> Iterator[str]:
    if reason:
        yield f"cannot be sent: {_shown(reason, _CHARACTERS)}"
    if cut:
        yield "over the limit: scored by its head"
    if window:
        yield f"over the limit: scored by characters {window[0]:,} to {window[1]:,}"


def _score(score: float | None, share: float | None) -> str:
    if score is None:
        return _faint("not scored")
    usual = score == 0 or 1e-4 <= abs(score) < 1e4
    number = f"{score:.4f}" if usual else f"{score:.2e}"
    if share is None:
        return number
    bar = f'<span style="{_BAR};width:{share:.1%}"></span>'
    return f'{number}<span style="{_TRACK}">{bar}</span>'


def _range(hits: Sequence[_Hit]) -> tuple[float, float]:
    """The ends of the bars' scale: 0 and 1, or further apart if scores are."""
    scores = [hit.score for hit in hits if hit.score is not None and math.isfinite(hit.score)]
    return min([0.0, *scores]), max([1.0, *scores])


def _share(score: float | None, low: float, high: float) -> float | None:
    if score is None or not math.isfinite(score):
        return None
    return (score / 2 - low / 2) / (high / 2 - low / 2)  # halves, whose difference is finite


def _move(places: int) -> str:
    if places == 0:
        return _faint("same")
    arrow, style = ("&uarr;", _UP) if places > 0 else ("&darr;", _DOWN)
    return f'<span style="{style}">{arrow}</span> {abs(places):,}'


def _rest(more: int) -> str:
    if more <= 0:
        return ""
    return f'<div style="padding:.5em .7em">and {more:,} more, which are not shown</div>'


def _caption(ranking: _Ranking) -> str:
    usage = ranking.usage
    facts = [
        _shown(ranking.model, _CHARACTERS),
        _counted(len(ranking.hits), "hit"),
        _counted(usage.requests, "request"),
        _counted(usage.tokens, "token"),
        _counted(usage.cache_hits, "cache hit"),
        f"{len(ranking.truncated):,} truncated",
    ]
    if ranking.query_truncated:
        facts.append("the query was truncated")
    return " &middot; ".join(facts)


def _counted(number: int | None, what: str) -> str:
    if number is None:
        return f"{what}s unknown"
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _faint(text: str) -> str:
    return f'<span style="{_FAINT}">{text}</span>'


def _shown(text: str, most: int) -> str:
    """The head of *text* in one line, as HTML that shows all that it holds and does none of it."""
    text = text.strip(_SPACES)
    head = _SPACE.sub(" ", text[:most])
    more = "\u2026" if len(text) > most else ""
    return (
        "".join(
            html.escape("".join(spelled for _, spelled in run), quote=True)
            if plain
            else _faint("".join(spelled for _, spelled in run))
            for plain, run in groupby(_spelled(head), key=lambda one: one[0])
        )
        + more
    )


def is_seen(character: str) -> bool:
    """Whether *character* can be shown as it is: it neither hides nor acts."""
    return character.isprintable() and not _HIDDEN.match(character)


def _spelled(text: str) -> Iterator[tuple[bool, str]]:
    """Each character of *text*: True and itself, or False and its escape sequence."""
    marks = _MARKS  # a mark at the start has no letter to stand on
    for character in text:
        mark = unicodedata.category(character) in {"Mn", "Me"}
        marks = marks + 1 if mark else 0
        if is_seen(character) and marks <= _MARKS:
            yield True, character
        else:
            marks = _MARKS
            yield False, character.encode("unicode_escape").decode()
