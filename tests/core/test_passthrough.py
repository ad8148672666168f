"""on_error="passthrough" in the core: what it returns and says; tests/faults has when."""

import logging

import pytest

from qwen_rerank import Reranker, Usage, errors
from qwen_rerank.emulator import Emulator, Reply

_TEXTS = ["green tea", "", "a red sports car", "a car", "green tea"]
_QUERY = "a fast red sports car"


@pytest.fixture(name="reranker")
def _reranker(connection):
    return Reranker(on_error="passthrough", max_retries=0, **connection)


def test_original_order(reranker, rank, emulator: Emulator):
    """As much as was wanted of what came in goes out: in the same order, unscored, and the reason.

    A threshold cannot judge what has no score.
    """
    emulator.script(Reply.error(400, "DataInspectionFailed"))

    ranking = rank(reranker, _QUERY, _TEXTS, top_n=4, score_threshold=0.9)

    assert [(hit.index, hit.score) for hit in ranking] == [(i, None) for i in range(4)]
    assert all(hit.document is _TEXTS[hit.index] for hit in ranking)
    assert type(ranking.degraded) is errors.ContentError
    assert ranking.usage == Usage()


@pytest.mark.parametrize(
    ("code", "level"), [("ModelUnavailable", logging.WARNING), ("Arrearage", logging.ERROR)]
)
def test_logged_once(reranker, rank, emulator: Emulator, caplog, code, level):
    """One record for the call, an error where somebody has to pay; texts are not in it."""
    reranker.max_documents_per_request = 1
    emulator.script(Reply.error(503 if level == logging.WARNING else 400, code, repeat=None))
    caplog.set_level(logging.WARNING, "qwen_rerank")

    rank(reranker, _QUERY, _TEXTS)

    [record] = caplog.records
    assert record.levelno == level
    assert "5 documents are passed through in their original order" in record.getMessage()
    rank(reranker, "q", ["one"])
    assert "1 document is passed through in its original order" in caplog.messages[-1]
    assert not any(text in record.getMessage() for text in [_QUERY, *filter(None, _TEXTS)])


def test_what_was_paid_for_is_kept(reranker, rank, emulator: Emulator):
    """One of several requests fails: the others' scores are cached, and asked for no more."""
    reranker.cache = {}
    reranker.max_concurrency = reranker.max_documents_per_request = 1
    emulator.script(Reply(), Reply(), Reply.error(503, "ModelUnavailable"))

    ranking = rank(reranker, _QUERY, _TEXTS)

    assert ranking.degraded.documents == (3,)
    assert len(ranking.request_ids) == 2
    assert all(hit.score is None for hit in ranking)
    assert len(reranker.cache) == 2
    assert rank(reranker, _QUERY, _TEXTS).usage.cache_hits == 2
