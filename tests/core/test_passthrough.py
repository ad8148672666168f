"""on_error="passthrough" in the core: what it returns, when it does not apply, what it says."""

import logging

import pytest

from qwen_rerank import Reranker, Usage, errors
from qwen_rerank.emulator import Emulator, Reply

_TEXTS = ["green tea", "", "a red sports car", "a car", "green tea"]
_QUERY = "a fast red sports car"
_FAILURES = {
    "moderation": (Reply.error(400, "DataInspectionFailed"), errors.ContentError),
    "media": (Reply.error(400, "InvalidURL", "Not reachable."), errors.ContentError),
    "balance": (Reply.error(400, "Arrearage"), errors.QuotaError),
    "rate limit": (Reply.error(429, "Throttling.RateQuota"), errors.RateLimitError),
    "outage": (Reply.error(503, "ModelUnavailable"), errors.ServiceError),
    "too slow": (Reply(delay=5.0), errors.DeadlineError),
    "no ranking": (Reply(200, {"output": {"results": []}}), errors.ReplyError),
}
_MISTAKES = {
    "bad call": (Reply.error(400, "InvalidParameter", "no"), errors.RequestError),
    "bad key": (Reply.error(401, "InvalidApiKey"), errors.AuthenticationError),
}


@pytest.fixture(name="reranker")
def _reranker(connection):
    return Reranker(on_error="passthrough", max_retries=0, **connection)


@pytest.mark.parametrize(("reply", "kind"), _FAILURES.values(), ids=_FAILURES)
def test_original_order(reranker, rank, emulator: Emulator, reply, kind):
    """What came in goes out: the same objects in the same order, unscored, and the reason."""
    emulator.script(reply)
    if reply.delay:
        reranker.timeout = 0.5

    ranking = rank(reranker, _QUERY, _TEXTS)

    assert [(hit.index, hit.score) for hit in ranking] == [(i, None) for i in range(5)]
    assert all(hit.document is text for hit, text in zip(ranking, _TEXTS, strict=True))
    assert type(ranking.degraded) is kind
    assert ranking.usage == Usage()


@pytest.mark.parametrize(("reply", "kind"), _MISTAKES.values(), ids=_MISTAKES)
def test_mistakes_raise(reranker, rank, emulator: Emulator, reply, kind):
    """A wrong call or key is never covered up: nobody would notice and no wait would help."""
    emulator.script(reply)

    with pytest.raises(kind):
        rank(reranker, _QUERY, _TEXTS)


def test_top_n_cuts_and_the_threshold_does_not(reranker, rank, emulator: Emulator):
    """As many come back as were wanted; a threshold cannot judge what has no score."""
    emulator.script(Reply.error(503, "ModelUnavailable"))

    ranking = rank(reranker, _QUERY, _TEXTS, top_n=2, score_threshold=0.9)

    assert [hit.index for hit in ranking] == [0, 1]


def test_raise_is_the_default(connection, rank, emulator: Emulator):
    """Nobody gets an unranked list without having asked for it."""
    emulator.script(Reply.error(503, "ModelUnavailable"))

    with pytest.raises(errors.ServiceError):
        rank(Reranker(max_retries=0, **connection), _QUERY, _TEXTS)


def test_retries_come_first(connection, rank, emulator: Emulator):
    """Passing through is the last resort, not the first."""
    emulator.script(Reply.error(503, "ModelUnavailable"))

    ranking = rank(Reranker(on_error="passthrough", **connection), _QUERY, _TEXTS)

    assert ranking.degraded is None
    assert len(emulator.log) == 2


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


def test_what_was_paid_for_is_counted_and_kept(connection, rank, emulator: Emulator):
    """One of several requests fails: the others' cost is reported and their scores are cached."""
    cache: dict[str, float] = {}
    reranker = Reranker(
        on_error="passthrough",
        max_retries=0,
        max_concurrency=1,
        max_documents_per_request=1,
        cache=cache,
        **connection,
    )
    emulator.script(Reply(), Reply(), Reply.error(503, "ModelUnavailable"))

    ranking = rank(reranker, _QUERY, _TEXTS)

    assert ranking.usage.requests == 2
    assert ranking.usage.tokens > 0
    assert len(ranking.request_ids) == 2
    assert len(cache) == 2
    assert all(hit.score is None for hit in ranking)
    assert rank(reranker, _QUERY, _TEXTS).usage.cache_hits == 2


def test_raising_keeps_what_was_paid_for(connection, rank, emulator: Emulator):
    """A failed call need not be paid for twice."""
    cache: dict[str, float] = {}
    reranker = Reranker(
        max_retries=0, max_concurrency=1, max_documents_per_request=1, cache=cache, **connection
    )
    emulator.script(Reply(), Reply.error(503, "ModelUnavailable"))

    with pytest.raises(errors.ServiceError) as caught:
        rank(reranker, _QUERY, _TEXTS)

    assert len(cache) == 1
    assert caught.value.documents == (2,)
