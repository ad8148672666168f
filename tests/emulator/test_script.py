import pytest

from qwen_rerank.emulator import LoggedRequest, Reply
from qwen_rerank.emulator._script import Script

REQUEST = LoggedRequest("POST", "/", {}, None, 0, "id")


def taken(script, count):
    """Return what the next requests are answered."""
    return [script.take(REQUEST) for _ in range(count)]


def test_replies_are_given_in_order():
    """Each answers one request, or as many as it says; then service is normal."""
    script, first, second = Script(), Reply(body="1", repeat=2), Reply(body="2")
    script.add(first, second)

    assert taken(script, 4) == [first, first, second, None]
    script.add(for_ever := Reply(body="3", repeat=None))
    assert taken(script, 3) == [for_ever] * 3


def test_a_function_sees_the_request():
    """A function is given the request and answers one, or as many as its first reply says."""
    script, seen = Script(), []

    def twice(request):
        seen.append(request)
        return Reply(body=str(len(seen)), repeat=2)

    script.add(lambda request: Reply(body=request.path), twice)

    assert [reply and reply.body for reply in taken(script, 4)] == ["/", "1", "2", None]
    assert seen == [REQUEST, REQUEST]


def test_a_function_may_clear_the_script():
    """A scripted function can use the emulator it serves."""
    script = Script()

    def last(_):
        script.clear()
        return Reply(body="last", repeat=None)

    script.add(last, Reply())

    assert [reply and reply.body for reply in taken(script, 2)] == ["last", None]


def test_a_function_must_return_a_reply():
    """A function that returns something else is an error, once."""
    script = Script()
    script.add(lambda _: None)

    with pytest.raises(TypeError, match="must return a Reply, not None"):
        script.take(REQUEST)
    assert script.take(REQUEST) is None


def test_only_replies_and_functions_are_taken():
    """Scripting anything else is an error at once, and scripts nothing."""
    script = Script()

    with pytest.raises(TypeError, match="a Reply or a function that returns one, not 429"):
        script.add(Reply(), 429)
    assert script.take(REQUEST) is None


@pytest.mark.parametrize(
    "options",
    [
        {"status": 199, "body": ""},
        {"status": 500},
        {"status": 204, "body": "text"},
        {"delay": -1},
        {"delay": float("inf")},
        {"drop": "after"},
        {"repeat": 0},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"x": "a\r\nb: c"}},
        {"headers": {"x": "ü"}},
    ],
)
def test_impossible_replies_are_refused(options):
    """A reply that cannot be sent is refused where it is written, not where it is sent."""
    with pytest.raises(ValueError, match=r"status|delay|drop|repeat|header|belongs|answer"):
        Reply(**options)


def test_error_takes_every_option():
    """Reply.error carries the options of Reply."""
    reply = Reply.error(429, "Throttling", "slow", headers={"a": "b"}, delay=1, repeat=None)

    assert (reply.status, reply.body.code, reply.body.message) == (429, "Throttling", "slow")
    assert (reply.headers, reply.delay, reply.drop, reply.repeat) == ({"a": "b"}, 1, None, None)
