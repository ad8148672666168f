import hashlib

from qwen_rerank.emulator import LoggedRequest
from qwen_rerank.emulator._log import Log, without_bulk, without_credentials


def test_entries_stay_in_order_of_arrival():
    """An answer does not move its request in the log."""
    log = Log()
    for name in "12":
        log.add(LoggedRequest("POST", "/", {}, None, 0, name))
    log.answered("1", 200, 7)

    assert [(each.request_id, each.status, each.tokens) for each in log.snapshot()] == [
        ("1", 200, 7),
        ("2", None, None),
    ]


def test_a_log_of_a_certain_size(calling):
    """A long run need not fill the memory: the latest are kept, and all are counted."""
    caller = calling(log_size=2)
    for document in "abc":
        caller.native("q", [document])

    assert [each.body["input"]["documents"] for each in caller.emulator.log] == [["b"], ["c"]]
    assert caller.emulator.requests_seen == 3


def test_a_short_key_blots_out_no_word(calling):
    """A key that could be part of a word is masked nowhere, and hides no text from a fault."""
    caller = calling(api_key=" test ", faults=["503:holding=test"])

    def status(text):
        body = {"model": "qwen3-rerank", "query": "q", "documents": [text]}
        return caller.post(caller.compatible_url, key="test", json=body).status_code

    assert (status("this is a test"), status("this is none")) == (503, 200)
    assert caller.emulator.log[0].body["documents"] == ["this is a test"]


def test_a_forgotten_request_stays_forgotten():
    """An answer to a request from before `clear` does not come back into the log."""
    log = Log()
    log.add(LoggedRequest("POST", "/", {}, None, 0, "id"))
    log.clear()
    log.answered("id", 200, 7)

    assert log.snapshot() == ()


def test_base64_is_told_by_size_and_digest():
    """An image's base64 gives way to its size and digest at any depth; nothing else changes."""
    digest = hashlib.blake2b(b"\0\0\0", digest_size=8).hexdigest()
    body = {
        "input": {
            "query": {"image": "data:image/png;base64,AAAA"},
            "documents": [
                {"image": "data:image/x;base64,A A"},
                {"image": "https://x/y.png"},
                {"image": 7, "text": "data:image/png;base64,AAAA"},
                "data:image/png;base64,AAAA",
            ],
        }
    }

    assert without_bulk(body) == {
        "input": {
            "query": {"image": f"data:image/png;base64,<3 bytes, blake2b {digest}>"},
            "documents": [
                {"image": "data:image/x;base64,<3 characters, no base64>"},
                *body["input"]["documents"][1:],
            ],
        }
    }


def test_credentials_are_left_out():
    """Header names are lower-case, repeated ones joined, credentials absent, keys masked."""
    headers = [("Authorization", "Bearer k"), ("X-A", "1"), ("x-a", "sk-1"), ("B", "2")]

    assert without_credentials(headers, ["sk-1"]) == {"x-a": "1, ***", "b": "2"}


def test_a_long_body_does_not_flood_the_repr():
    """The repr of a request leaves its body out."""
    request = LoggedRequest("POST", "/", {}, {"documents": ["secret text"]}, 1, "id")

    assert "secret text" not in repr(request)
