"""What holds for texts that break things, over HTTP, through the core and both frameworks.

Nothing is shown here, see test_views.py, and no text is written here, see corpus.py.
"""

import asyncio
import re
import unicodedata
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import corpus
import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import Reranker, RerankError
from qwen_rerank._models import limits_for
from qwen_rerank.emulator import Emulator, Reply
from qwen_rerank.emulator._tokenizer import qwen_tokenizer

QUERY = "a fast red car"
PLANNED = limits_for("qwen3-rerank").planned_query_tokens()

Pairs = list[tuple[int, float | None]]


def _score(query: str, document: str) -> float:
    """A number that tells any two pairs apart, so that no mix-up goes unseen."""
    size = str(len(query))
    digest = blake2b(f"{size} {query}{document}".encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


@pytest.fixture(scope="module", name="_strict")
def _started():
    with Emulator(score=_score, over_long="refuse", shuffle=True) as emulator:
        yield emulator


@pytest.fixture(name="strict")
def _fresh_strict(_strict: Emulator) -> Emulator:
    """A service that refuses over-long items instead of cutting them; its log is empty."""
    _strict.clear()
    return _strict


@pytest.fixture(name="options")
def _options(strict: Emulator) -> dict[str, Any]:
    """What points a reranker at the strict service, and keeps all candidates."""
    return {"base_url": strict.base_url, "api_key": strict.api_key, "top_n": None}


def _sent(emulator: Emulator) -> list[str]:
    """Every text that was sent as a document."""
    bodies = [seen.body for seen in emulator.log]
    return [text for body in bodies for text in body.get("input", body)["documents"]]


def _sendable(text: str) -> str:
    """*text* as it can be sent: with lone surrogates replaced."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _is_blank(text: str) -> bool:
    """Whether *text* holds nothing but spaces, control and format characters."""
    return all(unicodedata.category(each) in {"Zs", "Zl", "Zp", "Cc", "Cf"} for each in text)


def _expected(query: str, texts: list[str]) -> Pairs:
    """The right answer for texts that are not too long: positions and scores, best first."""
    query = _sendable(query.strip())
    scores = [None if _is_blank(text) else _score(query, _sendable(text)) for text in texts]
    order = sorted(range(len(texts)), key=lambda at: (scores[at] is None, -(scores[at] or 0.0), at))
    return [(at, scores[at]) for at in order]


# Ways in: options, query and texts in; positions and scores out


def _ranked(options: dict[str, Any], query: str, texts: list[str], **more: Any) -> Any:
    """The whole ranking of the core, over connections of its own."""
    with Reranker(**options | more) as reranker:
        return reranker.rerank(query, texts)


def _core(options: dict[str, Any], query: str, texts: list[str], **more: Any) -> Pairs:
    ranking = _ranked(options, query, texts, **more)
    assert all(hit.document is texts[hit.index] for hit in ranking)
    return [(hit.index, hit.score) for hit in ranking]


def _langchain(options: dict[str, Any], query: str, texts: list[str]) -> Pairs:
    documents = [Document(text, metadata={"at": at}) for at, text in enumerate(texts)]
    with langchain_qwen_rerank.QwenRerank(**options) as reranker:
        answer = reranker.compress_documents(documents, query)
    assert all(each.page_content is texts[each.metadata["at"]] for each in answer)
    return [(each.metadata["at"], each.metadata.get("relevance_score")) for each in answer]


def _llama_index_async(options: dict[str, Any], query: str, texts: list[str]) -> Pairs:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
    places = {id(each.node): at for at, each in enumerate(nodes)}

    async def answered() -> list[NodeWithScore]:
        async with llama_index_qwen_rerank.QwenRerank(**options) as reranker:
            return await reranker.apostprocess_nodes(nodes, QueryBundle(query))

    answer = asyncio.run(answered())
    assert all(each.score == 0.5 for each in nodes)
    return [(places[id(each.node)], each.score) for each in answer]


# The corpus


def test_the_corpus_holds_what_it_says():
    """Every kind of blank and every general category is in it, and other families are no blanks."""
    texts = corpus.families()
    blanks = set(texts.pop("blank").values())

    assert all(map(_is_blank, blanks))
    assert blanks.issuperset(each for each in map(chr, range(0x110000)) if each.isspace())
    assert len(texts["category"]) == 2 * 30
    assert len(texts["script"]) > 300
    assert not any(_is_blank(text) for family in texts.values() for text in family.values())
    assert len(corpus.short()) > 500


# Short texts


@pytest.mark.parametrize("ranked", [_core, _langchain, _llama_index_async])
def test_everything_comes_back_as_it_was_scored(options, ranked: Callable[..., Pairs]):
    """Each text comes back once, in the order of its own score; blank ones last, unscored."""
    texts = list(corpus.short())

    assert ranked(options, QUERY, texts) == _expected(QUERY, texts)


@pytest.mark.parametrize("protocol", ["dashscope", "compatible"])
def test_what_is_sent_is_what_was_given(options, strict, protocol):
    """Texts arrive character by character, with nothing replaced but lone surrogates."""
    _ranked(options, QUERY, corpus.short(), protocol=protocol)

    texts = {_sendable(text) for text in corpus.short() if not _is_blank(text)}
    assert sorted(_sent(strict)) == sorted(texts)  # requests arrive in any order
    assert len(strict.log) == -(-len(texts) // 500)


# Over-long texts


def test_truncate(options, strict):
    """An over-long text is scored by a head that fills the limit, from the first word on.

    That it would be cut, and what is billed for it, is known before the call.
    """
    texts = [*corpus.LONG.values(), *corpus.HOLLOW.values(), "a short one"]
    with Reranker(**options) as reranker:
        estimate = reranker.estimate(QUERY, texts)
        ranking = reranker.rerank(QUERY, texts)

    assert ranking.truncated == estimate.truncated == tuple(range(len(texts) - 1))
    assert estimate.tokens == pytest.approx(ranking.usage.tokens, rel=0.01)
    heads = {_score(QUERY, text): text for text in _sent(strict)}
    for hit in ranking:
        head = heads[hit.score]
        before, found, _ = _sendable(texts[hit.index]).partition(head)
        assert found == head
        assert _is_blank(before)
        assert not _is_blank(head[0])
        tokens = qwen_tokenizer().count(head)
        assert tokens <= PLANNED
        if hit.index < len(corpus.LONG):  # the others have hardly anything to read
            assert tokens > PLANNED * 0.98


def test_split(options, strict):
    """An over-long text is scored by the window that is named, which was sent as it stands."""
    texts = [*corpus.LONG.values(), *corpus.HOLLOW.values(), "a short one"]

    ranking = _ranked(options, QUERY, texts, long_documents="split")

    assert ranking.truncated == ()
    assert sorted(hit.index for hit in ranking) == list(range(len(texts)))
    sent = set(_sent(strict))
    for hit in ranking:
        whole = _sendable(hit.document)
        if hit.window is None:
            assert whole == "a short one"
            continue
        start, end = hit.window
        assert whole[start:end] in sent
        assert hit.score == _score(QUERY, whole[start:end])


# Queries and instructions


def test_hostile_queries(options):
    """Any query that is not blank ranks, and arrives as it was given."""
    texts = list(corpus.short()[::9])
    for query in corpus.QUERIES.values():
        assert _core(options, query, texts) == _expected(query, texts)


@pytest.mark.parametrize("protocol", ["dashscope", "compatible"])
def test_hostile_instructions(options, strict, protocol):
    """An instruction arrives as it was given; one that no body can carry is refused at once."""
    sendable = {name: text for name, text in corpus.QUERIES.items() if name != "surrogate"}
    for instruct in sendable.values():
        strict.clear()
        _ranked(options, QUERY, ["a car"], protocol=protocol, instruct=instruct)

        [body] = [seen.body.get("parameters", seen.body) for seen in strict.log]
        assert body["instruct"] == instruct.strip()
    with pytest.raises(ValueError, match="instruct"):
        _ranked(options, QUERY, ["a car"], protocol=protocol, instruct=corpus.QUERIES["surrogate"])


# The service's side


def test_what_the_service_says_is_printable(options, strict, caplog):
    """Whatever stands in an error of the service, no control character gets into text or log."""
    names = ("terminal", "invisible", "surrogates", "controls", "HTML", "rich", "right to left")
    said = [text for name in names for text in corpus.families()[name].values()]
    options |= {"max_retries": 0, "on_error": "passthrough"}
    with Reranker(**options) as reranker:
        for status, text in zip([400, 403, 429, 500, 200] * len(said), said, strict=False):
            strict.script(Reply.error(status, text, text))
            try:
                error = reranker.rerank(QUERY, ["a car"]).degraded
            except RerankError as raised:
                error = raised
            shown = f"{error!s}{error!r}{error.code}"
            assert shown.replace("\n", "").isprintable()
    assert len(caplog.messages) > len(said) / 3
    assert all(map(str.isprintable, caplog.messages))
