"""Answers that something in between mixes up: what is found, and what cannot be."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest

from qwen_rerank import ReplyError, Reranker


class _Swapping(http.server.BaseHTTPRequestHandler):
    """Scores a text by the number that it is, and gives two requests each other's answer."""

    protocol_version = "HTTP/1.1"
    both_came: threading.Barrier
    turn: threading.Lock
    answers: list[bytes]

    def do_POST(self) -> None:
        """Answers when both are there."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        numbers = map(int, asked["input"]["documents"])
        scores = [{"index": at, "relevance_score": it / 100} for at, it in enumerate(numbers)]
        with self.turn:
            place = len(self.answers)
            self.answers.append(json.dumps({"output": {"results": scores}}).encode())
        self.both_came.wait(10)
        others = self.answers[1 - place]
        self.send_response(200)
        self.send_header("content-length", str(len(others)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the call has failed, and left
            self.wfile.write(others)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(name="rank")
def _rank() -> Iterator[Callable[[int], list[int]]]:
    """Ranks so many numbers, the highest first, in two requests whose answers are swapped."""
    own = {"both_came": threading.Barrier(2), "turn": threading.Lock(), "answers": []}
    handler = type("Handler", (_Swapping,), own)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        serving.start()
        reranker = Reranker(
            base_url=f"http://127.0.0.1:{server.server_port}/api/v1",
            api_key="sk-swapped",
            max_documents_per_request=5,
            max_retries=0,
        )

        def rank(count):
            texts = [str(number) for number in range(count)]
            return [hit.index for hit in reranker.rerank("q", texts)]

        with reranker:
            yield rank
        server.shutdown()
        serving.join(10)


def test_swapped_answers_are_found(rank):
    """Two requests of one call have different sizes, so neither takes the other's answer."""
    with pytest.raises(ReplyError, match="documents were sent and"):
        rank(9)


def test_what_cannot_be_told(rank):
    """Ten documents just fill two requests of five, which nobody could tell apart."""
    assert rank(10) == [4, 3, 2, 1, 0, 9, 8, 7, 6, 5]
