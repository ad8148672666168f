import base64
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank._bound import far, near
from qwen_rerank._models import LIMITS, Limit, limits_for
from qwen_rerank._prepare import bounded, is_blank, measure, prepare
from qwen_rerank._values import Item, Job, Loaded, Place, Prepared
from qwen_rerank.errors import RequestError

_LIMITS = LIMITS["qwen3-rerank"]

# Surrogates come often, alone and in pairs, and so do blanks and equal texts.
_DOCUMENT = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=())),
    st.text(alphabet="ab \n\ud83d\ude00\ud800\udfff\U0001f600\ufeff"),
    st.sampled_from(["", " ", "\t\r\n", "\u3000", "\u2028", "same", "same"]),
)
_DOCUMENTS = st.lists(_DOCUMENT, max_size=12)


class TokensPerCharacter:
    """A tokenizer whose arithmetic can be done in one's head: every character has so many."""

    def __init__(self, each=1):
        self._each = each

    def count(self, text):
        return self._each * len(text)

    def head(self, text, most):
        return min(most // self._each, len(text))

    def tail(self, text, most):
        return max(0, len(text) - most // self._each)

    def windows(self, text, most, characters):
        step = min(most // self._each, characters)
        return [(at, min(at + step, len(text))) for at in range(0, len(text), step)]


def _positions(item):
    return [position for position, _ in item.places]


def _job(*documents, query="q", **options):
    return Job("qwen3-rerank", query, documents, **options)


def _limits(tokens=10, characters=300_000):
    # Half of the token limit is planned for.
    return _LIMITS._replace(
        item_tokens=Limit(2 * tokens, "", ""),
        item_characters=Limit(characters, "", ""),
        share=0.5,
    )


def _measured(*documents, query="q", long_documents="truncate", long_query="head", **limits):
    prepared = prepare(_job(*documents, query=query))
    return measure(
        prepared, _limits(**limits), TokensPerCharacter(), long_documents, long_query=long_query
    )


@given(_DOCUMENTS)
def test_every_document_is_in_one_item(documents):
    """All but the blank ones, and no text twice; items stand in the order of their first place."""
    items = prepare(_job(*documents)).items

    places = [_positions(item) for item in items]
    of_all = sorted(place for each in places for place in each)
    assert of_all == [i for i, text in enumerate(documents) if not is_blank(text)]
    assert len({item.text for item in items}) == len(items)
    assert sorted(places) == places
    assert [sorted(each) for each in places] == places


@given(_DOCUMENT, _DOCUMENTS)
def test_texts_are_sent_as_they_are(query, documents):
    """Neither stripped nor normalised, but for what UTF-8 cannot carry: all of them can be sent."""
    prepared = prepare(_job(*documents, query=query))

    sent = {place: item.text for item in prepared.items for place in _positions(item)}
    for text in (prepared.query.text, *sent.values()):
        text.encode()
    for place, text in sent.items():
        assert text == documents[place] or re.search(r"[\ud800-\udfff]", documents[place])


@pytest.mark.parametrize(
    ("given_text", "sent"),
    [
        ("a\ud83d\ude00b", "a\ufffd\ufffdb"),
        ("\ufeff\x00\ud800\U0001f600", "\ufeff\x00\ufffd\U0001f600"),
    ],
)
def test_surrogates(given_text, sent):
    """They are replaced one by one, so that offsets stay true; what is equal then is sent once."""
    prepared = prepare(_job(given_text, sent, query=given_text))

    [item] = prepared.items
    assert (item.text, _positions(item)) == (sent, [0, 1])
    assert prepared.query.text == sent


def test_blank():
    """White space, control and format characters are blank, alone and together; no other is."""
    assigned = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) != "Cn"]
    blank = {"Zs", "Zl", "Zp", "Cc", "Cf"}
    invisible = [c for c in assigned if c.isspace() or unicodedata.category(c) in blank]

    assert [c for c in assigned if is_blank(f"\u200b {c}")] == invisible
    assert prepare(_job("", *invisible, "".join(invisible))).items == ()


def test_counts_take_the_place_of_bounds():
    """Of documents, query and instruct; the last one's surrogates are replaced too."""
    prepared = prepare(_job("\u4e2d\u6587", query="\u4e2d", instruct="\ud800"))

    measured = measure(prepared, _limits(), TokensPerCharacter(), "truncate")

    for each, tokens in ((prepared, [6, 3, 3]), (measured, [2, 1, 1])):
        assert [item.tokens for item in (*each.items, each.query, each.instruct)] == tokens
    assert prepare(_job("a")).instruct.tokens == 0


@pytest.mark.parametrize("limits", [{"tokens": 10}, {"tokens": 99, "characters": 10}])
def test_what_is_over_long_is_cut(caplog, limits):
    """To the planned tokens or the service's characters; what fits, if only by its count, is not.

    Cut documents are reported, and nothing is said of a query that fits.
    """
    measured = _measured("a" * 9, "\u00e9" * 10, "c" * 11, query="q" * 10, **limits)

    assert [(item.text, item.tokens) for item in measured.items] == [
        ("a" * 9, 9),
        ("\u00e9" * 10, 10),
        ("c" * 10, 10),
    ]
    assert measured.truncated == (2,)
    assert (measured.query.text, measured.query_truncated) == ("q" * 10, False)
    assert caplog.records == []


@pytest.mark.parametrize("limits", [{"tokens": 10}, {"tokens": 99, "characters": 10}])
@pytest.mark.parametrize(
    ("end", "kept", "other"),
    [("head", "0123456789", "tail"), ("tail", "12345678\u00e9?", "head")],
)
def test_measure_cuts_the_query(caplog, end, kept, other, limits):
    """Of an over-long query the chosen end is asked; one warning says how much, and what to do."""
    measured = _measured("a", query="0123456789012345678\u00e9?", long_query=end, **limits)

    assert (measured.query.text, measured.query.tokens) == (kept, 10)
    assert measured.query_truncated
    [said] = caplog.messages
    tokens, characters = limits["tokens"], limits.get("characters", 300_000)
    assert said == (
        f"The query is too long, and asked by its {end} alone: 10 of its 21 characters. "
        f"It may have {tokens} tokens (50% of the limit) and {characters:,} characters. "
        f"Ask a shorter one, or set long_query={other!r} to keep its other end."
    )


@pytest.mark.parametrize(
    ("query", "end", "asked"),
    [
        ("\u200b" * 30 + "why?" + "x" * 20, "head", "why?xxxxxx"),
        ("x" * 20 + "why?" + "\u200b" * 30, "tail", "xxxxxxwhy?"),
        ("\u200b" * 11, "head", "\u200b" * 10),  # there is no better end of it
        ("\u200b" * 11, "tail", "\u200b" * 10),
    ],
)
def test_a_cut_leaves_no_blank(query, end, asked):
    """What nobody sees at the end that is kept is no question; a blank document fails all."""
    measured = _measured(" " * 50 + "word", query=query, long_query=end, characters=10)

    assert [item.text for item in measured.items] == ["word"]
    assert measured.query.text == asked


def test_split():
    """An over-long text becomes windows that know where they stand; nothing counts as cut.

    A window of nothing but blanks, which would fail the whole request, is left out.
    """
    measured = _measured("short", "abcdefghij" + " " * 10 + "kl", long_documents="split")

    assert [(item.text, item.places) for item in measured.items] == [
        ("short", (Place(0),)),
        ("abcdefghij", (Place(1, (0, 10)),)),
        ("kl", (Place(1, (20, 22)),)),
    ]
    assert measured.truncated == ()


def test_equal_parts_of_several_documents_are_one_item():
    """Its places are in their order, wherever they come from: windows, documents, parts."""
    head, long = "a" * 10, "a" * 20
    prepared = prepare(_job(long, (head, long), long), Loaded(parts={1: (head, long)}))

    [item] = measure(prepared, _limits(), TokensPerCharacter(), "split").items

    assert _positions(item) == [0, 0, 1, 1, 1, 2, 2]
    assert {window for _, window in item.places} == {None, (0, 10), (10, 20)}


def test_refusing(caplog):
    """With long_documents="error" nothing is cut; it says what is too long, and what to do."""
    with pytest.raises(RequestError) as caught:
        _measured("a", "b" * 11, "b" * 11, query="q" * 11, long_documents="error")
    with pytest.raises(RequestError) as of_documents:
        _measured("a" * 11, long_documents="error")
    with pytest.raises(RequestError, match="item: the query;"):
        _measured("a", query="q" * 11, long_documents="error")

    assert caught.value.message == (
        "too long for one item: the query and documents 1 and 2; it may have "
        "10 tokens (50% of the limit) and 300,000 characters"
    )
    assert caught.value.documents == (1, 2)
    assert caught.value.hint == (
        "long_documents='truncate' scores the head, 'split' the best of overlapping windows; "
        "under both the query is cut, as long_query= says."
    )
    assert of_documents.value.hint == (
        "long_documents='truncate' scores the head, 'split' the best of overlapping windows."
    )
    assert caplog.records == []
    assert len(_measured("a", long_documents="error").items) == 1


@given(_DOCUMENTS, st.integers(1, 6), st.sampled_from(["truncate", "split"]))
def test_measure_keeps_every_position(documents, tokens, long_documents):
    """Measuring loses no document, and makes every text fit."""
    prepared = prepare(_job(*documents))

    measured = measure(prepared, _limits(tokens), TokensPerCharacter(), long_documents)

    before, after = (
        {position for item in each.items for position, _ in item.places}
        for each in (prepared, measured)
    )
    assert before == after
    assert all(item.tokens <= tokens for item in measured.items)
    assert len({item.text for item in measured.items}) == len(measured.items)
    for item in measured.items:
        for position, window in item.places:
            if window:
                assert prepared_text(prepared, position)[slice(*window)] == item.text


def prepared_text(prepared, position):
    """The text that was prepared for the document at *position*."""
    return next(item.text for item in prepared.items if Place(position) in item.places)


def test_parts():
    """A document of several parts is all of its texts and images; equal ones are one item."""
    image = Item("https://h/a.png", 5, kind="image")
    parts = {1: ("b", image), 2: (image, "a")}

    prepared = prepare(_job("a", ("b",), ("a",)), Loaded(parts=parts, unsendable=((2, "a song"),)))

    assert [(item.text, _positions(item)) for item in prepared.items] == [
        ("a", [0, 2]),
        ("b", [1]),
        ("https://h/a.png", [1, 2]),
    ]
    assert prepared.unsendable == ((2, "a song"),)
    measured = measure(prepared, _limits(), TokensPerCharacter(), "truncate")
    assert measured.unsendable == ((2, "a song"),)


def test_base64_in_a_text_is_said(caplog):
    """One warning says which documents hold it, and what to do."""
    encoded = base64.b64encode(bytes(range(256)) * 12).decode()

    prepare(_job("a", encoded, encoded))

    [said] = [record.getMessage() for record in caplog.records]
    assert said == (
        "Documents 1 and 2: the text is mostly base64, which is ranked and billed as any other "
        "text. Leave it out, or give an image as one."
    )


def test_bounds_come_closer():
    """Texts get the closer of two bounds; what is an image keeps its tokens."""
    image = Item("https://h/a.png", 500, kind="image")
    text, closer = Item("the quick brown fox", 19), near("the quick brown fox")
    assert closer < 19

    texts = bounded(Prepared(text, text, (text._replace(tokens=1), text, image)))
    images = bounded(Prepared(image, text, ()))

    assert (texts.query.tokens, texts.instruct.tokens) == (closer, closer)
    assert [item.tokens for item in texts.items] == [1, closer, 500]
    assert images.query == image


@pytest.mark.parametrize("long_documents", ["truncate", "split"])
def test_images_beside_texts(long_documents):
    """A text beside an image is cut to what the image leaves; an image is scaled down."""
    images = (
        Item(f"https://h/{at}.png", tokens + far(text), (Place(at),), kind="image", beside=text)
        for at, (tokens, text) in enumerate(
            [(11, ""), (10, ""), (10, "abc"), (4, "abcdefgh"), (4, "  \u00e9d")]
        )
    )
    prepared = Prepared(Item("q", 1), Item("", 0), (Item("a", 1, (Place(5),)), *images))

    measured = measure(prepared, _limits(), TokensPerCharacter(), long_documents)

    assert [(item.tokens, item.beside) for item in measured.items] == [
        (1, ""), (10, ""), (10, ""), (10, "a"), (10, "abcdef"), (8, "  \u00e9d"),
    ]  # fmt: skip
    assert measured.truncated == (2, 3)
    with pytest.raises(RequestError) as caught:
        measure(prepared, _limits(), TokensPerCharacter(), "error")
    assert caught.value.documents == (2, 3)


def test_an_image_beside_texts_that_are_cut_alike():
    """Texts that are equal up to the cut, beside one image, are one item, whatever their length."""
    job = _job(*(("", "") for _ in range(4)), query="q")
    image = Item("https://h/a.png", 4, kind="image")
    items = [
        image._replace(tokens=4 + far(text), size=100 + len(text), beside=text)
        for text in ("abcdefgh", "abcdefghijk", "abc", "abcdef")
    ]
    prepared = prepare(job, Loaded(parts={at: (item,) for at, item in enumerate(items)}))

    measured = measure(prepared, _limits(), TokensPerCharacter(), "truncate")

    assert [(item.beside, item.size, _positions(item)) for item in measured.items] == [
        ("abcdef", 106, [0, 1, 3]),
        ("abc", 103, [2]),
    ]
    assert measured.truncated == (0, 1)


class _Enough:
    """A budget that is over once enough was counted."""

    def __init__(self, surplus, holds):
        self._surplus, self._holds = surplus, holds
        self.seen = []

    def surplus(self, prepared):
        assert prepared.items
        return self._surplus

    def holds(self, prepared):
        self.seen.append([item.tokens for item in prepared.items])
        return self._holds


@pytest.mark.parametrize(
    ("surplus", "holds", "tokens", "seen"),
    [
        (0, True, [6, 9, 3], [[6, 9, 3]]),
        (3, True, [6, 3, 3], [[6, 3, 3]]),
        (7, True, [2, 3, 3], [[2, 3, 3]]),
        (6, False, [2, 3, 1], [[6, 3, 3]]),
    ],
)
def test_counted_until_it_is_enough(surplus, holds, tokens, seen):
    """The longest are counted first, until it is enough; what that proves not is counted all."""
    items = tuple(Item(text, 3 * len(text)) for text in ("ab", "abc", "a"))
    budget = _Enough(surplus, holds)

    measured = measure(
        Prepared(Item("q", 1), Item("", 0), items), _limits(), TokensPerCharacter(), "truncate",
        budget=budget,
    )  # fmt: skip

    assert [item.tokens for item in measured.items] == tokens
    assert budget.seen == seen


def test_what_was_not_cut_keeps_its_bound():
    """Beside a text that was cut, where nothing more is counted."""
    measured = measure(
        prepare(_job("abc", "b" * 11)), _limits(), TokensPerCharacter(), "truncate",
        budget=_Enough(0, True),
    )  # fmt: skip

    assert [(item.text, item.tokens) for item in measured.items] == [("abc", 3), ("b" * 10, 10)]


def _beside(instruct, *documents, query="q", long_documents="truncate", each=1, **told):
    """Measured on a server of one's own, where a pair may have 380 tokens unless it is told."""
    limits = limits_for("any", "vllm", **(told or {"max_model_len": 512}))
    prepared = prepare(_job(*documents, query=query, instruct="i" * instruct))
    return measure(prepared, limits, TokensPerCharacter(each), long_documents)


def test_documents_have_what_query_and_instruct_leave():
    """On servers that have one limit for all of them; each message says the limit that counts."""
    assert [len(item.text) for item in _beside(20, "a" * 400, query="q" * 10).items] == [350]
    with pytest.raises(RequestError, match=r"document 0; it may have 350 tokens \(of the 512 of"):
        _beside(20, "a" * 351, query="q" * 10, long_documents="error")
    with pytest.raises(RequestError, match="the query; it may have 180 tokens"):
        _beside(20, "a", query="q" * 181, long_documents="error")


@pytest.mark.parametrize(
    ("query", "document", "how"), [("q", "a" * 400, "error"), ("q" * 400, "a", "truncate")]
)
def test_an_instruct_that_leaves_too_little(query, document, how, caplog):
    """What was cut to a few tokens would be ranked all the same, so the call is refused."""
    with pytest.raises(RequestError) as caught:
        _beside(349, document, query=query, long_documents=how)

    assert caught.value.message == (
        "instruct leaves too little for query and documents: it has 349 of the 512 tokens for all "
        "together, and the server's template 4"
    )
    assert caught.value.hint == (
        "Shorten instruct=, or raise max_model_len= if the server takes more."
    )
    assert caplog.records == []


def test_an_instruct_that_leaves_enough():
    """A document has 16 tokens at least, beside a long query too; what fits is never refused."""
    measured = _beside(348, "a" * 400, query="q" * 16 + "u" * 400)

    assert [len(item.text) for item in measured.items] == [16]
    assert measured.query.text == "q" * 16
    assert [item.text for item in _beside(349, "a" * 30).items] == ["a" * 30]


def test_a_server_that_takes_very_little():
    """Where 16 tokens are more than half, a document has what there is, an instruct part of it."""
    little = {"query": "q" * 30, "max_model_len": 32}  # 20 beside the template

    assert [len(item.text) for item in _beside(0, "a" * 30, **little).items] == [10]
    assert [len(item.text) for item in _beside(10, "a" * 30, **little).items] == [5]
    with pytest.raises(RequestError, match="instruct leaves too little"):
        _beside(11, "a" * 30, **little)


def test_a_number_of_ones_own():
    """The message says whose it is; a text of which no character fits is left out like a blank."""
    with pytest.raises(RequestError, match=r" 2 tokens \(by max_tokens_per_doc=\)"):
        _beside(0, "b" * 9, long_documents="error", max_tokens_per_doc=2)
    with pytest.raises(RequestError, match=r"query; it may have 3,000 tokens \(75% of"):
        _beside(0, "b", query="q" * 3_001, long_documents="error", max_tokens_per_doc=2)

    measured = _beside(0, "\U00020000 car", "b" * 9, each=3, max_tokens_per_doc=2)
    assert measured.items == ()
    assert measured.truncated == (0, 1)
