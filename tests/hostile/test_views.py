"""What a person sees of texts that break things: terminal, notebook, repr. Nothing is sent here."""

import io
import re
import unicodedata
from html.parser import HTMLParser

import corpus
import pytest
from rich.console import Console

from qwen_rerank import Hit, Ranking, ServiceError
from qwen_rerank.cli._terminal import visible


@pytest.fixture(scope="module", name="texts")
def _texts():
    """Short texts and the beginnings of long ones; of blanks and scripts, which are many, some."""
    families = corpus.families()
    blank, scripts = "".join(families.pop("blank").values()), families.pop("script").values()
    texts = [text for family in families.values() for text in family.values()]
    texts += ["", blank, *list(scripts)[::5], *corpus.LONG.values()]
    return [text[:300] for text in texts]


# The command line


def test_visible_is_one_printable_line(texts):
    """No character of any text moves the cursor, and what can be printed stays as it is."""
    for text in texts:
        shown = visible(text)
        assert shown.isprintable()
        if text.isprintable() and corpus.HIDDEN.isdisjoint(text):
            assert shown == " ".join(text.split())


def test_nothing_hides_on_the_command_line():
    """What shows nothing is spelled out, also where Python calls it printable."""
    hidden = [ascii(text) for text in corpus.HIDDEN if visible(f"a{text}b") == f"a{text}b"]

    assert hidden == []


# print and repr


def test_repr_and_rich_print_interpret_nothing(texts):
    """`print(ranking)` and `rich.print(ranking)` show the same: a repr without control bytes."""
    for text in texts:
        hit, written = Hit(0, 0.5, text), io.StringIO()
        ranking = Ranking((hit,), text)
        console = Console(file=written, force_terminal=True, color_system=None, width=9_000)
        console.print(hit, ranking, "[bold]end")

        assert repr(ranking).isprintable()
        assert written.getvalue() == f"{hit!r}\n{ranking!r}\nend\n"


# The notebook


class _Reader(HTMLParser):
    """Reads the table: every tag with its attributes, and each cell as plain and faint pieces."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags = set()
        self.cells = []
        self.outside = ""
        self._open = []
        page.encode()
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add((tag, re.sub(r";width:[0-9.]+%", "", str(attrs))))
        if tag == "br":
            return
        self._open.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append([])

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data):
        if any(tag == "td" for tag, _ in self._open):
            tag, attributes = self._open[-1]
            faint = tag == "span" and "opacity" in attributes.get("style", "")
            self.cells[-1].append((faint, data))
        else:
            self.outside += data

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def _read_back(pieces):
    """A cell's text, with what was spelled out put back."""
    return "".join(
        data.encode().decode("unicode_escape") if faint else data for faint, data in pieces
    )


_LAYOUT = "\t\r\n" + "".join(
    character
    for character in map(chr, range(0x3100))
    if unicodedata.category(character) in {"Zs", "Zl", "Zp"}
)


def _laid_out(text):
    """*text* as one line, at most 200 characters of it, and whether there are more."""
    text = text.strip(_LAYOUT)
    return re.sub(f"[{_LAYOUT}]+", " ", text[:200]) + "\u2026" * (len(text) > 200)


def _allowed_tags():
    """Every tag that a ranking of harmless texts has, with every kind of row there is."""
    hits = (Hit(2, 0.5, "\x00"), Hit(1, 0.4, ""), Hit(0, 0.3, "a", (0, 1)), Hit(3, None, "a"))
    ranking = Ranking(hits, "m", truncated=(1,), degraded=ServiceError("\x00"))
    return _Reader(ranking._repr_html_()).tags


def test_the_notebook_shows_texts_as_they_are(texts):
    """Only the table's own tags exist, and each cell's text can be read back to the last bit.

    A model's name and a service's message are text of others, too.
    """
    allowed = _allowed_tags()
    for text in texts:
        error = ServiceError(text, code=text, hint=text)
        reader = _Reader(Ranking((Hit(0, None, text),), text, degraded=error)._repr_html_())

        assert reader.tags <= allowed
        assert reader.outside.isprintable()
        assert "This is the original order, not a ranking." in reader.outside
        cell = reader.cells[4]
        for faint, data in cell:
            assert data.isprintable()
            assert faint or corpus.HIDDEN.isdisjoint(data)
        shown = _laid_out(text)
        assert cell == [(True, "blank")] if not shown else _read_back(cell) == shown
