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


class OneTokenPerCharacter:
    """A tokenizer whose arithmetic can be done in one's head."""

    def count(self, text):
        return len(text)

    def head(self, text, most):
        return min(most, len(text))

    def tail(self, text, most):
        return max(0, len(text) - most)

    def windows(self, text, most, characters):
        step = min(most, characters)
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
        prepared, _limits(**limits), OneTokenPerCharacter(), long_documents, long_query=long_query
    )


@given(_DOCUMENTS)
def test_conservation(documents):
    """Every document that is not blank is asked about exactly once, and no blank one ever."""
    prepared = prepare(_job(*documents))

    places = [place for item in prepared.items for place in _positions(item)]
    assert [i for i, text in enumerate(documents) if not is_blank(text)] == sorted(places)


@given(_DOCUMENTS)
def test_equal_texts_are_one_item(documents):
    """No text is sent twice, and items stand in the order of their first document."""
    prepared = prepare(_job(*documents))

    texts = [item.text for item in prepared.items]
    firsts = [_positions(item)[0] for item in prepared.items]
    assert len(texts) == len(set(texts))
    assert sorted(firsts) == firsts
    for item in prepared.items:
        assert sorted(_positions(item)) == _positions(item)
    assert prepared.truncated == ()


@given(_DOCUMENT, _DOCUMENTS)
def test_everything_can_be_sent(query, documents):
    """What will be sent always encodes to UTF-8."""
    prepared = prepare(_job(*documents, query=query))

    for item in (prepared.query, *prepared.items):
        item.text.encode()


@given(_DOCUMENTS)
def test_clean_texts_are_sent_as_they_are(documents):
    """A text that UTF-8 can carry is not touched: neither stripped nor normalised."""
    prepared = prepare(_job(*documents))

    for item in prepared.items:
        for place in _positions(item):
            if not re.search(r"[\ud800-\udfff]", documents[place]):
                assert documents[place] == item.text


@pytest.mark.parametrize(
    ("given_text", "sent"),
    [
        ("a\ud83d\ude00b", "a\ufffd\ufffdb"),
        ("\ufeff\ud83da\ude00", "\ufeff\ufffda\ufffd"),
        ("\x00\ud800\U0001f600", "\x00\ufffd\U0001f600"),
    ],
)
def test_surrogates(given_text, sent):
    """Surrogates are replaced one by one, so that offsets stay true; the rest stays."""
    prepared = prepare(_job(given_text, query=given_text))

    assert sent == prepared.items[0].text
    assert sent == prepared.query.text


def test_texts_that_become_equal_share_an_item():
    """Two texts that differ only in what cannot be sent are sent once."""
    prepared = prepare(_job("\ud83d", "\ufffd"))

    assert [_positions(item) for item in prepared.items] == [[0, 1]]


def test_blank():
    """White space, control and format characters are blank, alone and together; no other is."""
    invisible = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if character.isspace() or unicodedata.category(character) in {"Zs", "Zl", "Zp", "Cc", "Cf"}
    ]

    assert prepare(_job("", *invisible, "".join(invisible))).items == ()


@pytest.mark.parametrize("kind", ["Lu", "Ll", "Lo", "Mn", "Nd", "Po", "Sc", "So", "Co"])
def test_no_other_category_is_blank(kind):
    """A character of any other category is something to read."""
    visible = [c for c in map(chr, range(0xFFFF)) if unicodedata.category(c) == kind]

    assert not any(is_blank(f"\u200b {character}") for character in visible)


def test_instruct_is_bounded():
    """The instruction's length is known too, also where it cannot be sent as it is; and counted."""
    assert prepare(_job("a")).instruct.tokens == 0
    prepared = prepare(_job("a", instruct="\ud800"))
    assert prepared.instruct.tokens == 3

    measured = measure(prepared, _limits(), OneTokenPerCharacter(), "truncate")

    assert measured.instruct.tokens == 1


def test_measure_counts():
    """Counts take the place of bounds."""
    measured = _measured("\u4e2d\u6587", query="\u4e2d")

    assert measured.items[0].tokens == 2
    assert measured.query.tokens == 1


def test_measure_cuts_by_tokens():
    """A text over the planned tokens is cut to them, and its position is reported."""
    measured = _measured("a" * 9, "b" * 10, "c" * 11)

    assert [(item.text, item.tokens) for item in measured.items] == [
        ("a" * 9, 9),
        ("b" * 10, 10),
        ("c" * 10, 10),
    ]
    assert measured.truncated == (2,)


def test_measure_cuts_by_characters():
    """A text over the service's length in characters is cut to it, and reported."""
    measured = _measured("a" * 5, "b" * 6, characters=5)

    assert [item.text for item in measured.items] == ["aaaaa", "bbbbb"]
    assert measured.truncated == (1,)


@pytest.mark.parametrize("limits", [{"tokens": 10}, {"characters": 10}])
@pytest.mark.parametrize(("end", "kept"), [("head", "0123456789"), ("tail", "12345678\u00e9?")])
def test_measure_cuts_the_query(caplog, end, kept, limits):
    """Of an over-long query the chosen end is asked; one warning says how much, and what to do."""
    measured = _measured("a", query="0123456789012345678\u00e9?", long_query=end, **limits)

    assert (measured.query.text, measured.query.tokens) == (kept, 10)
    assert measured.query_truncated
    [said] = [record.getMessage() for record in caplog.records]
    assert f"asked by its {end} alone: 10 of its 21 characters" in said
    assert f"{limits.get('tokens', 10)} tokens (50% of the limit)" in said
    assert f"long_query={'head' if end == 'tail' else 'tail'!r}" in said


@pytest.mark.parametrize("end", ["head", "tail"])
def test_a_query_that_fits_is_asked_whole(caplog, end):
    """Nothing is said of it, whichever end would be kept."""
    measured = _measured("a" * 11, query="q" * 10, long_query=end)

    assert (measured.query.text, measured.query_truncated) == ("q" * 10, False)
    assert caplog.records == []


@pytest.mark.parametrize("limits", [{"tokens": 10}, {"characters": 10}])
def test_the_end_of_a_query_is_no_blank(limits):
    """What nobody sees at its end is no question."""
    measured = _measured("a", query="x" * 20 + "why?" + "\u200b" * 30, long_query="tail", **limits)

    assert measured.query.text == "xxxxxxwhy?"


def test_texts_that_become_equal_by_cutting_share_an_item():
    """What is equal as sent is sent once."""
    measured = _measured("a" * 11, "a" * 12, "a" * 10)

    assert [_positions(item) for item in measured.items] == [[0, 1, 2]]
    assert measured.truncated == (0, 1)


def test_split():
    """An over-long text becomes windows that know where they stand; nothing counts as cut."""
    measured = _measured("short", "abcdefghijkl", long_documents="split")

    assert [(item.text, item.places) for item in measured.items] == [
        ("short", (Place(0),)),
        ("abcdefghij", (Place(1, (0, 10)),)),
        ("kl", (Place(1, (10, 12)),)),
    ]
    assert measured.truncated == ()


def test_equal_parts_of_several_documents_are_one_item():
    """Its places are in their order, wherever they come from: windows, documents, parts."""
    head, long = "a" * 10, "a" * 20
    prepared = prepare(_job(long, (head, long), long), Loaded(parts={1: (head, long)}))

    [item] = measure(prepared, _limits(), OneTokenPerCharacter(), "split").items

    assert _positions(item) == [0, 0, 1, 1, 1, 2, 2]
    assert {window for _, window in item.places} == {None, (0, 10), (10, 20)}


def test_split_drops_blank_windows():
    """A window of nothing but blanks would fail the whole request."""
    measured = _measured("a" * 10 + " " * 10 + "b", long_documents="split")

    assert [item.text for item in measured.items] == ["a" * 10, "b"]


def test_refusing_names_the_positions(caplog):
    """With long_documents="error" nothing is sent, and the message says which are too long."""
    with pytest.raises(RequestError, match="documents 1 and 2; it may have 10 tokens") as caught:
        _measured("a", "b" * 11, "b" * 11, long_documents="error")
    with pytest.raises(RequestError, match="too long for one item: the query;") as of_query:
        _measured("a", query="q" * 11, long_documents="error")

    assert "truncate" in caught.value.hint
    assert "long_query" not in caught.value.hint
    assert "long_query" in of_query.value.hint
    assert caplog.records == []  # nothing is asked, by its head or otherwise
    assert len(_measured("a", long_documents="error").items) == 1


@pytest.mark.parametrize("limits", [{"tokens": 10}, {"characters": 10}])
def test_a_cut_never_leaves_a_blank(limits):
    """A text with a long blank head is not cut to a blank one, which would fail the request."""
    measured = _measured(" " * 50 + "word", **limits)

    assert all(item.text.strip() for item in measured.items)


@given(_DOCUMENTS, st.integers(1, 6), st.sampled_from(["truncate", "split"]))
def test_measure_keeps_every_position(documents, tokens, long_documents):
    """Measuring loses no document, and makes every text fit."""
    prepared = prepare(_job(*documents))

    measured = measure(prepared, _limits(tokens), OneTokenPerCharacter(), long_documents)

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
    measured = measure(prepared, _limits(), OneTokenPerCharacter(), "truncate")
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

    measured = measure(prepared, _limits(), OneTokenPerCharacter(), long_documents)

    assert [(item.tokens, item.beside) for item in measured.items] == [
        (1, ""), (10, ""), (10, ""), (10, "a"), (10, "abcdef"), (8, "  \u00e9d"),
    ]  # fmt: skip
    assert measured.truncated == (2, 3)
    with pytest.raises(RequestError) as caught:
        measure(prepared, _limits(), OneTokenPerCharacter(), "error")
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

    measured = measure(prepared, _limits(), OneTokenPerCharacter(), "truncate")

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
        Prepared(Item("q", 1), Item("", 0), items), _limits(), OneTokenPerCharacter(), "truncate",
        budget=budget,
    )  # fmt: skip

    assert [item.tokens for item in measured.items] == tokens
    assert budget.seen == seen


def test_what_was_not_cut_keeps_its_bound():
    """Beside a text that was cut, where nothing more is counted."""
    measured = measure(
        prepare(_job("abc", "b" * 11)), _limits(), OneTokenPerCharacter(), "truncate",
        budget=_Enough(0, True),
    )  # fmt: skip

    assert [(item.text, item.tokens) for item in measured.items] == [("abc", 3), ("b" * 10, 10)]


def test_what_is_too_long_is_said():
    """The message and its hint, whole."""
    with pytest.raises(RequestError) as caught:
        _measured("a" * 11, query="q" * 11, long_documents="error")

    assert caught.value.message == (
        "too long for one item: the query and document 0; it may have "
        "10 tokens (50% of the limit) and 300,000 characters"
    )
    assert caught.value.documents == (0,)
    assert caught.value.hint == (
        "long_documents='truncate' scores the head, 'split' the best of overlapping windows; "
        "under both the query is cut, as long_query= says."
    )
    with pytest.raises(RequestError) as caught:
        _measured("a" * 11, long_documents="error")
    assert caught.value.hint == (
        "long_documents='truncate' scores the head, 'split' the best of overlapping windows."
    )


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            limits_for("any", "vllm", max_model_len=512),
            "of the 512 of query, document and template",
        ),
        (_limits()._replace(document_tokens=10), "10 tokens (by max_tokens_per_doc=)"),
    ],
)
def test_whose_limit_it_is(limits, said):
    """The message says where the number comes from."""
    prepared = prepare(_job("a" * 600))

    with pytest.raises(RequestError) as caught:
        measure(prepared, limits, OneTokenPerCharacter(), "error")

    assert said in caught.value.message


def test_a_cut_query_is_said(caplog):
    """The warning, whole; the head is what is kept where nothing else is said."""
    prepared = prepare(_job("a", query="q" * 11))

    measured = measure(prepared, _limits(), OneTokenPerCharacter(), "truncate")

    assert measured.query.text == "q" * 10
    [said] = [record.getMessage() for record in caplog.records]
    assert said == (
        "The query is too long, and asked by its head alone: 10 of its 11 characters. It may have "
        "10 tokens (50% of the limit) and 300,000 characters. Ask a shorter one, or set "
        "long_query='tail' to keep its other end."
    )


def test_what_fits_by_its_count_is_not_cut():
    """A bound over the limit is no reason to cut."""
    measured = _measured("\u00e9" * 10, "\u00e9" * 11)

    assert [item.text for item in measured.items] == ["\u00e9" * 10]
    assert measured.truncated == (1,)


def test_documents_have_what_query_and_instruct_leave():
    """On servers that have one limit for all of them; each message says the limit that counts."""
    limits = limits_for("any", "vllm", max_model_len=512)  # 384 to plan with, and 4 around them

    def measured(*documents, query="q" * 10, long_documents="truncate"):
        prepared = prepare(_job(*documents, query=query, instruct="i" * 20))
        return measure(prepared, limits, OneTokenPerCharacter(), long_documents)

    assert [len(item.text) for item in measured("a" * 400).items] == [350]
    with pytest.raises(RequestError, match="document 0; it may have 350 tokens"):
        measured("a" * 351, long_documents="error")
    with pytest.raises(RequestError, match="the query; it may have 180 tokens"):
        measured("a", query="q" * 181, long_documents="error")


def _beside(instruct, *documents, query="q", long_documents="truncate"):
    """Measured where query, instruct and document may have 380 tokens together."""
    limits = limits_for("any", "vllm", max_model_len=512)
    prepared = prepare(_job(*documents, query=query, instruct="i" * instruct))
    return measure(prepared, limits, OneTokenPerCharacter(), long_documents)


@pytest.mark.parametrize("how", ["truncate", "split", "error"])
@pytest.mark.parametrize("texts", [("q", "a" * 400), ("q" * 400, "a")])
def test_an_instruct_that_leaves_too_little(texts, how, caplog):
    """What was cut to a few tokens would be ranked all the same, so the call is refused."""
    query, document = texts

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
    assert [len(item.text) for item in _beside(348, "a" * 400, query="q" * 400).items] == [16]
    assert [item.text for item in _beside(349, "a" * 30).items] == ["a" * 30]


def test_a_server_that_takes_very_little():
    """Where 16 tokens are more than half, a document has what there is, an instruct part of it."""
    limits = limits_for("Qwen3-Reranker", "vllm", max_model_len=100)  # 21 beside the template

    def measured(instruct):
        prepared = prepare(_job("a" * 30, query="q" * 30, instruct="i" * instruct))
        return measure(prepared, limits, OneTokenPerCharacter(), "truncate")

    assert [len(item.text) for item in measured(0).items] == [11]
    assert [len(item.text) for item in measured(11).items] == [5]
    with pytest.raises(RequestError, match="instruct leaves too little"):
        measured(12)


class _ThreeTokensPerCharacter(OneTokenPerCharacter):
    def count(self, text):
        return 3 * len(text)

    def head(self, text, most):
        return min(most // 3, len(text))


@pytest.mark.parametrize("most", [1, 2])
def test_a_character_that_is_too_long(most):
    """A text of which not even that fits is left out, as a blank one is, and said to be cut."""
    limits = limits_for("any", "vllm", max_tokens_per_doc=most)
    prepared = prepare(_job("\U00020000 car", "b" * 9))

    measured = measure(prepared, limits, _ThreeTokensPerCharacter(), "truncate")

    assert measured.items == ()
    assert measured.truncated == (0, 1)


@pytest.mark.parametrize("end", ["head", "tail"])
def test_a_query_of_blanks_is_cut_too(end):
    """There is no better end of it."""
    assert _measured("a", query=" " * 11, long_query=end).query.text == " " * 10
