import html
import math
import re

import pytest

from qwen_rerank import Hit, Ranking, ServiceError, Usage, Video

_HITS = (
    Hit(2, 0.9, "a fast car"),
    Hit(1, 0.5, "a car"),
    Hit(0, 0.25, "green tea"),
    Hit(3, None, " "),
)


def _cells(ranking):
    """What stands in the table, row by row, as plain text."""
    rows = re.findall("<tr>(.*?)</tr>", ranking._repr_html_())
    return [[_plain(cell) for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def _plain(page):
    return html.unescape(re.sub("<.*?>", "", page.replace("<br>", "\n").replace("</div>", "\n")))


def _bars(ranking):
    return [float(width) for width in re.findall(r"width:(-?\d+\.\d)%", ranking._repr_html_())]


def _document(text):
    """The cell of one document."""
    return _cells(Ranking((Hit(0, 0.5, text),), "m"))[1][4]


def test_a_row_for_each_hit():
    """Each hit shows rank, score, position, movement and document, and what of it was scored."""
    hits = (
        Hit(2, 0.9, {"text": "a fast car"}),
        Hit(1, 0.5, "a car", (1_000, 2_500)),
        Hit(0, 0.25, ("green tea", Video("https://x.example/tea.mp4"))),
        Hit(3, None, " "),
    )

    cells = _cells(Ranking(hits, "m", truncated=(2,), unsendable=((3, "it is a song"),)))

    assert [row[:4] for row in cells] == [
        ["rank", "score", "index", "moved"],
        ["1", "0.9000", "2", "\u2191 2"],
        ["2", "0.5000", "1", "same"],
        ["3", "0.2500", "0", "\u2193 2"],
        ["", "not scored", "3", ""],
    ]
    assert [row[4] for row in cells] == [
        "document",
        "{'text': 'a fast car'}\nover the limit: scored by its head",
        "a car\nover the limit: scored by characters 1,000 to 2,500",
        "green tea + Video(url='https://x.example/tea.mp4')",
        "blank\ncannot be sent: it is a song",
    ]


def test_the_caption_counts():
    """Model, hits, requests, tokens, cache hits and cut documents are below the table."""
    ranking = Ranking(_HITS, "qwen3-rerank", Usage(2, 34_567, 1), truncated=(0, 2))
    caption = _plain(ranking._repr_html_()).strip().rpartition("\n")[2]

    assert caption.endswith(
        "qwen3-rerank \u00b7 4 hits \u00b7 2 requests \u00b7 34,567 tokens \u00b7 1 cache hit"
        " \u00b7 2 truncated"
    )
    assert "the query was truncated" not in caption
    cut = Ranking(_HITS[:1], "m", Usage(1, 1, 0), query_truncated=True)
    assert "1 hit \u00b7 1 request \u00b7 1 token \u00b7 0 cache hits" in _plain(cut._repr_html_())
    assert "the query was truncated" in cut._repr_html_()
    assert "tokens unknown" in Ranking((), "m", Usage(1, None))._repr_html_()


def test_a_degraded_list_says_so_first():
    """What is no ranking says so above the table, with the reason."""
    error = ServiceError("<b>busy</b>", status=503, hint="Try again.")
    ranking = Ranking((Hit(0, None, "a"), Hit(1, None, "b")), "m", degraded=error)

    head, _, table = ranking._repr_html_().partition("<table")
    assert "<strong>This is the original order, not a ranking.</strong>" in head
    assert "ServiceError: <b>busy</b> (HTTP 503) Try again." in _plain(head)
    assert "not a ranking" not in table
    assert [row[:4] for row in _cells(ranking)[1:]] == [
        ["", "not scored", "0", ""],
        ["", "not scored", "1", ""],
    ]
    assert "not a ranking" not in Ranking(_HITS, "m")._repr_html_()


@pytest.mark.parametrize(
    ("scores", "bars"),
    [
        ((0.5, 0.25), (50, 25)),
        ((-1.0, -3.0), (50, 0)),
        ((1e308, -1e308), (100, 0)),
        ((math.inf, 0.5, math.nan), (50,)),
        ((), ()),
    ],
)
def test_bars(scores, bars):
    """Bars go from 0 to 1, or as far as scores do; what is no number has none."""
    hits = tuple(Hit(at, score, "a") for at, score in enumerate(scores))

    assert _bars(Ranking(hits, "m")) == list(bars)


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (0.0, "0.0000"),
        (-0.00001234, "-1.23e-05"),
        (123_456.0, "1.23e+05"),
        (math.nan, "nan"),
    ],
)
def test_numbers(score, shown):
    """Scores have four decimals, or as many digits as tell them from nothing."""
    assert _cells(Ranking((Hit(0, score, "a"),), "m"))[1][1] == shown


def test_many_hits():
    """Fifty rows are shown, and how many there are more."""
    hits = tuple(Hit(at, 0.5, "a") for at in range(10_000))
    ranking = Ranking(hits, "m")

    assert len(_cells(ranking)) == 1 + 50
    assert "and 9,950 more, which are not shown" in ranking._repr_html_()
    assert "more" not in Ranking(hits[:50], "m")._repr_html_()
    assert len(Ranking(hits[:51], "m")._repr_html_()) < 60_000


def test_a_long_document():
    """Its head is shown, and that there is more."""
    assert _document("a" * 10_000).strip("a") == "\u2026"
    assert len(_document("a" * 10_000)) < 1_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\ud800", r"\x1b[2J\ud800"),
        ("\u202egnp.exe\u2066\ufeff", r"\u202egnp.exe\u2066\ufeff"),
        ("a\u3164\u2800\ufe0f\U000e0100", r"a\u3164\u2800\ufe0f\U000e0100"),
        ("\u0301a\u0301\u0301\u0301\u0301\u0301b", r"\u0301aXXXX\u0301b".replace("X", "\u0301")),
        ("\\x1b", r"\x1b"),
        ("\u00e9 \u53d8\u91cf \U0001f600", "\u00e9 \u53d8\u91cf \U0001f600"),
    ],
)
def test_what_would_hide_is_spelled_out(text, shown):
    """Characters that act, hide or pile up are shown as escapes; the rest stays as it is."""
    assert _document(text) == shown
    assert ("opacity" in _row(text)) == (shown != text)


def _row(text):
    return (
        Ranking((Hit(0, 0.5, text),), "m")._repr_html_().partition("dir=")[2].partition("</td>")[0]
    )


def test_pages_of_notebooks():
    """Nothing is loaded, nor typeset as a formula; only arrows have a colour: pages may be dark."""
    page = Ranking(_HITS, "m", degraded=ServiceError("down"))._repr_html_()

    assert page.startswith('<div class="tex2jax_ignore mathjax_ignore"')
    assert "url(" not in page
    assert len(re.findall('[";]color:', page)) == 2
