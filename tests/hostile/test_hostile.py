"""What holds for texts that break things, over HTTP, through the core and both doors.

Nothing is shown here, see test_views.py, and no text is written here, see corpus.py.
"""

import unicodedata

import pytest

from qwen_rerank import RequestError, Reranker, RerankError
from qwen_rerank._models import limits_for
from qwen_rerank.emulator import Reply
from qwen_rerank.emulator._tokenizer import qwen_tokenizer

QUERY = "a fast red car"
ENTRANCES = [
    f"{name}, {colour}"
    for name in ("core", "LangChain", "LlamaIndex")
    for colour in ("sync", "async")
]
PLANNED = limits_for("qwen3-rerank").planned_query_tokens()


@pytest.fixture(params=ENTRANCES, name="entrance")
def _entrance(request, entrances):
    return entrances[request.param]


def _ranked(options, query, texts, **more):
    """The whole ranking of the core, over connections of its own."""
    with Reranker(**options | more) as reranker:
        return reranker.rerank(query, texts)


def _pairs(ranking):
    return [(hit.index, hit.score) for hit in ranking]


def _sent(emulator):
    """Every text that was sent as a document."""
    bodies = [seen.body for seen in emulator.log]
    return [text for body in bodies for text in body.get("input", body)["documents"]]


# The corpus


def test_the_corpus_holds_what_it_says(is_blank, corpus):
    """Every kind of blank and every general category is in it, and other families are no blanks."""
    texts = corpus.families()

    assert all(map(is_blank, texts["blank"].values()))
    assert all(
        chr(code) in texts["blank"].values() for code in range(0x110000) if chr(code).isspace()
    )
    assert len(texts["category"]) == 2 * 30
    assert len(texts["script"]) > 300
    for family, named in texts.items():
        assert family == "blank" or not any(map(is_blank, named.values())), family
    grows = [len(unicodedata.normalize("NFC", text)) for text in "\u0958\u2adc\ufb2c"]
    assert grows == [2, 2, 3]
    assert len(corpus.short()) > 500


# One mixed list


def test_everything_comes_back_as_it_was_scored(entrance, options, expected, corpus):
    """Each text comes back once, in the order of its own score; blank ones last, unscored."""
    texts = list(corpus.short())

    assert entrance(options, QUERY, texts) == expected(QUERY, texts)


def test_what_is_sent_is_what_was_given(options, strict, sendable, is_blank, corpus):
    """Texts arrive character by character, with nothing replaced but lone surrogates."""
    for protocol in ("dashscope", "compatible"):
        strict.clear()
        _ranked(options, QUERY, corpus.short(), protocol=protocol)

        texts = [sendable(text) for text in corpus.short() if not is_blank(text)]
        assert sorted(_sent(strict)) == sorted(set(texts))  # requests arrive in any order
        assert len(strict.log) == -(-len(set(texts)) // 500)


def test_an_estimate_counts_hostile_texts(options, strict, corpus):
    """What a call would take is known beforehand, to the request and the cut text."""
    texts = [*corpus.LONG.values(), *corpus.short()]
    with Reranker(**options) as reranker:
        estimate = reranker.estimate(QUERY, texts)
        assert strict.log == ()
        ranking = reranker.rerank(QUERY, texts)

    assert estimate.requests == ranking.usage.requests > 1
    assert estimate.truncated == ranking.truncated
    assert estimate.tokens == pytest.approx(ranking.usage.tokens, rel=0.01)


# Over-long texts


def _heads(emulator, ranking, score):
    """For each hit the head that was sent for it, told by its score."""
    sent = {score(QUERY, text): text for text in _sent(emulator)}
    return {hit.index: sent[hit.score] for hit in ranking}


def test_truncate(options, strict, score, sendable, is_blank, corpus):
    """An over-long text is scored by a head that fills the limit, from the first word on."""
    texts = [*corpus.LONG.values(), *corpus.HOLLOW.values(), "a short one"]

    ranking = _ranked(options, QUERY, texts)

    assert ranking.truncated == tuple(range(len(texts) - 1))
    assert not ranking.query_truncated
    for at, head in _heads(strict, ranking, score).items():
        before, found, _ = sendable(texts[at]).partition(head)
        assert found == head
        assert is_blank(before)
        assert not is_blank(head[0])
        tokens = qwen_tokenizer().count(head)
        assert tokens <= PLANNED
        if at < len(corpus.LONG):  # the others have hardly anything to read
            assert tokens > PLANNED * 0.98


def test_split(options, strict, score, sendable, corpus):
    """An over-long text is scored by the window that is named, which was sent as it stands."""
    texts = [*corpus.LONG.values(), *corpus.HOLLOW.values(), "a short one"]

    ranking = _ranked(options, QUERY, texts, long_documents="split")

    assert ranking.truncated == ()
    assert sorted(hit.index for hit in ranking) == list(range(len(texts)))
    sent = set(_sent(strict))
    for hit in ranking:
        whole = sendable(hit.document)
        if hit.window is None:
            assert whole == "a short one"
            continue
        start, end = hit.window
        assert whole[start:end] in sent
        assert hit.score == score(QUERY, whole[start:end])


def test_every_part_of_a_split_text_is_scored(options, strict, sendable, is_blank, corpus):
    """Windows overlap, nothing but blanks is left out, and the best of them makes the score."""
    whole = "".join(f"{text} {number}\n" for number, text in enumerate(corpus.short() * 2))

    ranking = _ranked(options, QUERY, [whole], long_documents="split", max_concurrency=1)

    reached, overlaps, windows = 0, [], _sent(strict)
    for window in windows:
        start = sendable(whole).find(window)
        assert start >= 0
        assert is_blank(sendable(whole)[reached:start])
        overlaps.append(reached - start)
        reached = start + len(window)
    assert reached == len(whole)
    assert min(overlaps[1:]) > 0
    assert len(windows) > 10
    best = max(_pairs(_ranked(options, QUERY, windows)), key=lambda pair: pair[1])
    assert ranking[0].score == best[1]


def test_error(options, strict, corpus):
    """With long_documents="error" the positions are named, and nothing is sent."""
    texts = ["a car", *list(corpus.LONG.values())[:3], "", "tea", corpus.LONG["NUL"]]
    with pytest.raises(RequestError, match="documents 1 to 3 and 6; it may have"):
        _ranked(options, QUERY, texts, long_documents="error")

    for text in corpus.LONG.values():
        with pytest.raises(RequestError, match="document 1; it may have"):
            _ranked(options, QUERY, ["a car", text], long_documents="error")
    assert strict.log == ()


def test_token_boundaries(options, strict, corpus):
    """One token below, at and above a limit, however the text grows: what does not fit is cut."""
    count, limit = qwen_tokenizer().count, PLANNED
    texts = [text for unit in corpus.UNITS.values() for text in corpus.around(unit, limit, count)]
    texts += [corpus.around(" a", limit + more, count)[0] for more in (-1, 0, 1)]
    counts = list(map(count, texts))
    assert {limit - 1, limit, limit + 1} < set(counts)

    ranking = _ranked(options, QUERY, texts)

    # Counting goes by parts, which can find a few tokens more than there are.
    assert {at for at, tokens in enumerate(counts) if tokens > PLANNED} <= set(ranking.truncated)
    assert all(counts[at] > PLANNED * 0.99 for at in ranking.truncated)
    assert max(map(count, _sent(strict))) <= PLANNED


def test_character_boundary(options, strict):
    """300,000 characters are sent whole, one more is cut, however few tokens they have."""
    texts = ["x" + " " * (size - 2) + "x" for size in (299_999, 300_000, 300_001)]

    ranking = _ranked(options, QUERY, texts)

    assert ranking.truncated == (2,)
    assert [len(text) for text in _sent(strict)] == [299_999, 300_000, 300_000]


# Ten thousand


@pytest.mark.slow
def test_ten_thousand_candidates(entrances, options, strict, expected, corpus):
    """Ten thousand texts, hostile ones among them, are split and merged without a loss."""
    texts = corpus.candidates(10_000)

    assert entrances["LangChain, async"](options, QUERY, texts) == expected(QUERY, texts)
    assert max(seen.documents for seen in strict.log) <= 500


# Queries and instructions


def test_hostile_queries(entrances, options, expected, corpus):
    """Any query that is not blank ranks, and arrives as it was given."""
    texts = list(corpus.short()[::9])
    for query in corpus.QUERIES.values():
        assert entrances["core, sync"](options, query, texts) == expected(query, texts)


def test_blank_queries(entrances, options, strict, corpus):
    """A query of white space alone, of whatever kind, is refused before anything is sent."""
    for query in list(corpus.BLANK.values())[::5]:
        with pytest.raises(RequestError, match="query is blank"):
            entrances["core, sync"](options, query, ["a car"])
    assert strict.log == ()


def test_long_queries(options, strict, sendable, corpus):
    """An over-long query is cut to a head that fits, said, and refused under "error"."""
    for query in corpus.LONG.values():
        strict.clear()
        ranking = _ranked(options, query, ["a car", "tea"])

        assert ranking.query_truncated
        assert len(ranking) == 2
        [asked] = {seen.body["input"]["query"] for seen in strict.log}
        assert asked in sendable(query)
    strict.clear()
    with pytest.raises(RequestError, match="the query; it may have"):
        _ranked(options, query, ["a car"], long_documents="error")
    assert strict.log == ()


@pytest.mark.parametrize("protocol", ["dashscope", "compatible"])
def test_hostile_instructions(options, strict, expected, corpus, protocol):
    """An instruction arrives as it was given; one that no body can carry is refused at once."""
    texts = list(corpus.short()[::50])
    with Reranker(**options, protocol=protocol) as reranker:
        for instruct in corpus.QUERIES.values():
            strict.clear()
            if any("\ud800" <= character <= "\udfff" for character in instruct):
                with pytest.raises(ValueError, match="instruct"):
                    reranker.rerank(QUERY, texts, instruct=instruct)
                continue
            assert _pairs(reranker.rerank(QUERY, texts, instruct=instruct)) == expected(
                QUERY, texts
            )
            bodies = [seen.body.get("parameters", seen.body) for seen in strict.log]
            assert {body["instruct"] for body in bodies} == {instruct.strip()}


# The service's side


def test_what_the_service_says_is_printable(options, strict, corpus, caplog):
    """Whatever stands in an error of the service, no control character gets into text or log."""
    names = ("terminal", "invisible", "surrogates", "controls", "HTML", "rich", "right to left")
    said = [text for name in names for text in corpus.families()[name].values()]
    options |= {"max_retries": 0, "on_error": "passthrough"}
    with Reranker(**options) as reranker:
        for status, text in zip([400, 403, 429, 500, 200] * len(said), said, strict=False):
            strict.script(Reply.error(status, text, text))
            try:
                error = reranker.rerank(QUERY, said).degraded
            except RerankError as raised:
                error = raised
            shown = f"{error!s}{error!r}{error.code}"
            assert shown.replace("\n", "").isprintable()
    assert len(caplog.messages) > len(said) / 3
    assert all(map(str.isprintable, caplog.messages))
