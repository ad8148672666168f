"""Answers that something in between mixes up: what is found, and what cannot be."""

import json
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from qwen_rerank import ReplyError, Reranker


def _swapping() -> Callable[[httpx.Request], httpx.Response]:
    """Scores a text by the number that it is, and gives two requests each other's answer."""
    both_came, turn = threading.Barrier(2), threading.Lock()
    answers: list[httpx.Response] = []

    def answer(request: httpx.Request) -> httpx.Response:
        numbers = map(int, json.loads(request.content)["input"]["documents"])
        scores = [{"index": at, "relevance_score": it / 100} for at, it in enumerate(numbers)]
        with turn:
            place = len(answers)
            answers.append(httpx.Response(200, json={"output": {"results": scores}}))
        both_came.wait(10)
        return answers[1 - place]

    return answer


@pytest.fixture(name="rank")
def _rank() -> Iterator[Callable[[int], list[int]]]:
    """Ranks so many numbers, the highest first, in two requests whose answers are swapped."""
    with httpx.Client(transport=httpx.MockTransport(_swapping())) as client:
        reranker = Reranker(
            base_url="http://127.0.0.1:1/api/v1",
            http_client=client,
            max_documents_per_request=5,
            max_retries=0,
        )
        yield lambda count: [hit.index for hit in reranker.rerank("q", map(str, range(count)))]


def test_swapped_answers_are_found(rank):
    """Two requests of one call have different sizes, so neither takes the other's answer."""
    with pytest.raises(ReplyError, match="documents were sent and"):
        rank(9)


def test_what_cannot_be_told(rank):
    """Ten documents just fill two requests of five, which nobody could tell apart."""
    assert rank(10) == [4, 3, 2, 1, 0, 9, 8, 7, 6, 5]
