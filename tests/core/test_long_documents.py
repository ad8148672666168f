"""Documents over the model's limit, through whole calls, against a service that refuses them.

Where heads and windows end is looked at in tests/hostile, with every kind of text.
"""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qwen_rerank import Reranker, _tokens
from qwen_rerank._prepare import is_blank
from qwen_rerank._tokens import Tokenizer, tokenizer
from qwen_rerank.emulator import Emulator

_QUERY = "a fast red sports car"

_TEXTS = {
    "English": "Green tea grows on the hills, and people drink it. ",
    "Chinese": "\u7eff\u8336\u751f\u957f\u5728\u5c71\u4e0a\uff0c\u4eba\u4eec\u559d\u5b83\u3002",
    "decomposing": "\u0958\u0959\u0344\U0001d160 ",
    "CRLF": "green tea\r\n\r\nblack\ttea\r\n",
    "surrogates": "tea \ud83c and \udf75 leaves ",
    "digits": "1234567890",
}


@pytest.fixture(scope="module", name="strict")
def _strict():
    with Emulator(over_long="refuse") as emulator:
        yield emulator


@pytest.fixture(name="service")
def _service(strict):
    """An emulator that answers 400 to every item over the documented limit."""
    strict.clear()
    return strict


@pytest.fixture(name="reranker")
def _reranker(make, service):
    return make(base_url=service.base_url, api_key=service.api_key)


def _long(piece, tokens=9_000):
    return piece * (tokens // tokenizer().count(piece) + 1)


def _sent(service):
    return [text for seen in service.log for text in seen.body["input"]["documents"]]


def _hit(ranking, index):
    (hit,) = (hit for hit in ranking if hit.index == index)
    return hit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "how"),
    [("qwen3-rerank", "split"), ("gte-rerank-v2", "truncate"), ("qwen3-vl-rerank", "split")],
)
def test_long_lists_of_long_documents(reranker, service, model, how):
    """A list that is over every limit of its model at once is taken as it is sent."""
    documents = [f"{number} {_long(piece, 12_000)}" for number, piece in enumerate(_TEXTS.values())]
    query = _long(_TEXTS["English"], 3_000)

    ranking = reranker.with_options(long_documents=how).rerank(query, documents * 2, model=model)

    assert {seen.status for seen in service.log} == {200}
    assert all(hit.score is not None for hit in ranking)


_SCRIPTS = st.sampled_from(
    [*_TEXTS.values(), "\u0301", "\u1100", " ", "\n", "\r\n", "'s", "\u00a0"]
)
_PIECES = st.lists(
    st.tuples(_SCRIPTS | st.text(max_size=8), st.integers(1, 2_500)), min_size=1, max_size=4
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(pieces=[("\x1b", 1)], how="truncate")
@given(pieces=_PIECES, how=st.sampled_from(["truncate", "split"]))
def test_no_text_is_refused(reranker, service, pieces, how):
    """Whatever a document consists of, what is sent of it is taken."""
    document = "".join(piece * times for piece, times in pieces)[:60_000]
    service.clear()

    ranking = reranker.with_options(long_documents=how).rerank(_QUERY, [document, "a car"])

    assert {seen.status for seen in service.log} == {200}
    assert (_hit(ranking, 0).score is None) is is_blank(document)
    if window := _hit(ranking, 0).window:
        assert _sendable(document[slice(*window)]) in _sent(service)


def _sendable(text):
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


_ENGLISH = "The archive keeps letters, ledgers and maps of the harbour, most of them from 1850 on. "
_CHINESE = (
    "\u6863\u6848\u9986\u4fdd\u5b58\u7740\u6e2f\u53e3\u7684\u4fe1\u4ef6\u3001\u8d26\u672c"
    "\u548c\u5730\u56fe\uff0c\u5927\u591a\u51fa\u81ea\u4e0a\u4e2a\u4e16\u7eaa\u3002"
)


@pytest.mark.parametrize(("sentence", "count"), [(_ENGLISH, 100), (_CHINESE, 50)])
def test_what_surely_fits_is_not_counted(rank, emulator, connection, monkeypatch, sentence, count):
    """A usual list is sent without a tokenizer, whose loading would take longer than the call."""
    monkeypatch.setattr(_tokens, "tokenizer", None)
    documents = [f"{number} {sentence * 30}"[:1_200] for number in range(count)]

    assert len(rank(Reranker(**connection), "letters", documents)) == count
    assert len(emulator.log) == 1


def test_the_longest_texts_are_counted_until_it_is_enough(connection, monkeypatch):
    """Of a list that only just fits, most texts are never counted."""
    counted = []
    count = Tokenizer.count
    monkeypatch.setattr(
        Tokenizer, "count", lambda self, text: counted.append(text) or count(self, text)
    )
    documents = [f"{number} {_CHINESE * 50}"[:1_200] for number in range(100)]

    assert len(Reranker(**connection).rerank("letters", documents)) == 100
    assert 0 < len(counted) < 40
