"""docs/ranking.svg shows where passages were and where they are."""

from xml.etree import ElementTree as ET

from draw_ranking import PICTURE, drawn

from qwen_rerank.cli.demo.corpus import Passage, Question
from qwen_rerank.cli.demo.measure import Found

SVG = "{http://www.w3.org/2000/svg}"


def found(name):
    """A passage on the topic *name*."""
    return Found(Passage(name, name, f"About {name}\n\nText."), 0.5)


def rows(picture):
    """The texts of a picture, with whether they are marked as good."""
    return [
        (text.text, text.get("class") == "good")
        for text in ET.fromstring(picture).iter(f"{SVG}text")  # noqa: S314  our own
    ]


def test_draws_where_passages_were():
    """Each place after names the place before, and what was judged relevant is marked."""
    before = tuple(map(found, ("tea", "cars", "<b>", "bees", "owls", "bats", "cats", "wine")))
    after = (before[7], *before[:7])

    shown = rows(drawn(Question("q", "Which drink?", {"wine": 3}), before, after))

    assert ("\u201cWhich drink?\u201d", False) in shown
    assert ("was 8", False) in shown
    assert [text for text, is_good in shown if is_good] == ["About wine"]
    assert ("About <b>", False) in shown


def test_stored_picture_is_whole():
    """The picture in the README is drawn by this script, with both halves of every row."""
    texts = [text for text, _ in rows(PICTURE.read_text(encoding="utf-8"))]

    assert {"as retrieved", "as reranked"} <= set(texts)
    assert sum(text.startswith("was ") for text in texts) == 6
