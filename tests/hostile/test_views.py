"""What a person sees of texts that break things: terminal, notebook, repr. Nothing is sent here."""

import io
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from rich.console import Console

from qwen_rerank import Hit, Ranking, ServiceError
from qwen_rerank.cli.demo import report

_STYLING = re.compile(r"\x1b\[[0-9;]*m")  # colours and weights, as rich writes them


@pytest.fixture(scope="session", name="texts")
def _texts(corpus):
    """Short texts and the beginnings of long ones; of blanks and scripts, which are many, some."""
    families = corpus.families()
    blanks = "".join(text for text in families.pop("blank").values() if len(text) == 1)
    scripts = list(families.pop("script").values())
    texts = [text for family in families.values() for text in family.values()]
    texts += ["", *_by(40, blanks), *scripts[::5], *corpus.LONG.values()]
    return [text[:300] for text in texts]


def _by(count, texts):
    return [texts[at : at + count] for at in range(0, len(texts), count)]


def _drawn(*renderables, width=2_000):
    """What a colourful terminal would get of these, without rich's own styling."""
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        width=width,
        highlight=False,
    )
    for renderable in renderables:
        console.print(renderable)
    written = console.file.getvalue()
    assert "\x1b[" in written
    return _STYLING.sub("", written)


# The command line


def test_visible_is_one_printable_line(texts, corpus):
    """No character of any text moves the cursor, and what can be printed stays as it is."""
    for text in texts:
        shown = report.visible(text)
        assert shown.isprintable()
        if text.isprintable() and not any(hidden in text for hidden in corpus.HIDDEN):
            assert shown == " ".join(text.split())


def test_nothing_hides_on_the_command_line(corpus):
    """What shows nothing is spelled out, also where Python calls it printable."""
    hidden = {text for text in corpus.HIDDEN if report.visible(f"a{text}b") == f"a{text}b"}

    assert sorted(map(ascii, hidden)) == []


# print and repr


def test_repr_and_rich_print_interpret_nothing(texts):
    """`print(ranking)` and `rich.print(ranking)` show the same: a repr without control bytes."""
    for three in _by(3, texts):
        hits = tuple(Hit(at, 0.5, text) for at, text in enumerate(three))
        ranking = Ranking(hits, three[0])

        assert repr(ranking).isprintable()
        assert _drawn(ranking, "[bold]end", width=9_000) == f"{ranking!r}\nend\n"
        assert _drawn(hits[0], "[bold]end", width=9_000) == f"{hits[0]!r}\nend\n"


# The notebook


class _Reader(HTMLParser):
    """Reads the table: every tag with its attributes, and each cell as plain and faint pieces."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.cells = []
        self.outside = []
        self._open = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, re.sub(r";width:[0-9.]+%", "", str(attrs))))
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
            self.outside.append(data)

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
    return re.sub(f"[{_LAYOUT}]+", " ", text[:200]), len(text) > 200


def _harmless_tags():
    """Every tag that a ranking of harmless texts has, with every kind of row there is."""
    hits = (Hit(2, 0.5, "\x00"), Hit(1, 0.4, ""), Hit(0, 0.3, "a", (0, 1)), Hit(3, None, "a"))
    ranking = Ranking(hits, "m", truncated=(1,), degraded=ServiceError("\x00"))
    many = Ranking(hits * 20, "m")
    tags = {tag for one in (ranking, many) for tag in _Reader(one._repr_html_()).tags}
    assert {tag for tag, _ in tags} == {
        *("div", "strong", "br", "span", "table", "thead", "tbody", "tr", "th", "td")
    }
    assert not any(re.search(r"'(?!style|class|dir)\w+', '", attributes) for _, attributes in tags)
    return tags


def test_the_notebook_shows_texts_as_they_are(texts, corpus):
    """Only the table's own tags exist, and each cell's text can be read back to the last bit."""
    allowed = _harmless_tags()
    for at in range(0, len(texts), 50):
        some = texts[at : at + 50]
        page = Ranking(
            tuple(Hit(place, None, text) for place, text in enumerate(some)), some[0]
        )._repr_html_()

        page.encode()
        reader = _Reader(page)
        assert set(reader.tags) <= allowed
        cells = reader.cells[4::5]
        assert len(cells) == len(some)
        for text, cell in zip(some, cells, strict=True):
            for faint, data in cell:
                assert data.isprintable()
                assert faint or not set(data) & corpus.HIDDEN
            head, more = _laid_out(text)
            if not head:
                assert cell == [(True, "blank")]
                continue
            assert _read_back(cell) == head + "\u2026" * more


def test_the_notebook_shows_errors_and_names_as_they_are(texts):
    """A model's name and a service's message are text of others, too."""
    allowed = _harmless_tags()
    for text in texts[::2]:
        page = Ranking((), text, degraded=ServiceError(text, code=text, hint=text))._repr_html_()

        page.encode()
        reader = _Reader(page)
        assert set(reader.tags) <= allowed
        assert "".join(reader.outside).isprintable()
        assert "This is the original order, not a ranking." in reader.outside
