import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen_rerank.emulator import Reply


def test_the_native_protocol(caller, emulator):
    """A native call is ranked, echoed, billed and identified as documented."""
    answer = caller.native("blue cat", ["a dog", "the blue cat"], return_documents=True, top_n=1)
    body = answer.json()
    (result,) = body["output"]["results"]

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (result["index"], result["document"]) == (1, {"text": "the blue cat"})
    assert 0 < result["relevance_score"] < 1
    assert body["usage"] == {"total_tokens": 2 * 2 + 2 + 3}
    assert body["request_id"] == answer.headers["x-request-id"]
    (seen,) = emulator.log
    assert (seen.method, seen.path, seen.status, seen.documents, seen.tokens) == (
        "POST",
        "/api/v1/services/rerank/text-rerank/text-rerank",
        200,
        2,
        9,
    )
    assert seen.request_id == body["request_id"]
    assert seen.body["input"]["documents"] == ["a dog", "the blue cat"]


def test_the_compatible_protocol(caller):
    """A compatible call is answered at top level, with the same scores."""
    answer = caller.compatible("blue cat", ["a dog", "the blue cat"])
    native = caller.native("blue cat", ["a dog", "the blue cat"])
    body = answer.json()

    assert answer.status_code == 200
    assert (body["object"], body["model"]) == ("list", "qwen3-rerank")
    assert body["id"] == answer.headers["x-request-id"]
    assert body["results"] == native.json()["output"]["results"]
    assert body["usage"] == native.json()["usage"]


def test_the_root_says_what_it_is(caller, emulator):
    """GET / says that the scores are no Qwen model's, needs no key and is not logged."""
    answer = caller.http.get(emulator.base_url.removesuffix("/api/v1"))

    assert "lexical stand-in, not a Qwen model" in answer.text
    assert emulator.log == ()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/compatible-mode/v1/reranks"),
        ("GET", "/api/v1/services/rerank/text-rerank"),
        ("ODD", "/"),
    ],
)
def test_anything_else_is_not_found(caller, emulator, method, path):
    """Other paths and methods are a documented 404, and logged."""
    url = emulator.base_url.removesuffix("/api/v1") + path
    answer = caller.http.request(method, url)

    assert answer.status_code == 404
    assert answer.json() == {
        "code": "NotFound",
        "message": "Not found.",
        "request_id": answer.headers["x-request-id"],
    }
    assert [(e.method, e.path, e.status) for e in emulator.log] == [(method, path, 404)]


def test_a_path_of_no_task(caller, emulator):
    """A native path that names no task is a 400 in the recorded words."""
    answer = caller.post(f"{emulator.base_url}/services/rerank/text-rerank", json={})

    assert (answer.status_code, answer.json()["message"]) == (400, "task can not be null")


@pytest.mark.parametrize("family", ["compatible-mode", "compatible-api"])
def test_models_are_listed(caller, emulator, family):
    """Both families of flat routes list the models to whom has the key, as OpenAI's clients ask."""
    url = f"{emulator.base_url.removesuffix('/api/v1')}/{family}/v1/models"
    refused = caller.http.get(url)
    listed = caller.http.get(url, headers={"authorization": "Bearer sk-emulator"}).json()

    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert {"qwen3-rerank", "gte-rerank-v2"} < {model["id"] for model in listed["data"]}
    assert listed["object"] == "list"
    assert emulator.log == ()


@pytest.mark.parametrize(
    "authorization", [None, "sk-emulator", "Basic sk-emulator", "Bearer sk-other"]
)
def test_a_wrong_key_is_refused(caller, authorization):
    """Without the right bearer key the answer is 401 in the protocol's own envelope."""
    headers = {} if authorization is None else {"authorization": authorization}
    native = caller.http.post(caller.native_url, headers=headers, json={})
    compatible = caller.http.post(caller.compatible_url, headers=headers, json={})

    assert native.status_code == compatible.status_code == 401
    assert native.json()["code"] == "InvalidApiKey"
    assert compatible.json()["error"]["code"] == "invalid_api_key"


def test_asynchronous_calls_are_refused(caller):
    """Rerank has no asynchronous calls: the header that asks for them is a 403."""
    answer = caller.post(caller.native_url, json={}, headers={"X-DashScope-Async": "enable"})

    assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")
    assert "does not support asynchronous calls" in answer.json()["message"]


def test_malformed_json(caller, emulator):
    """A body that is no JSON is a 400, and has no body in the log."""
    answer = caller.post(caller.native_url, content=b"{oops")

    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
    assert emulator.log[0].body is None


JUNK = st.sampled_from([None, True, 0, -1, 2, 1.5, float("nan"), "", "x", [], ["x"], {}, {"a": []}])
TEXT = st.text(st.characters(), max_size=8)
OPTIONS = {
    "top_n": st.integers(-1, 4) | JUNK,
    "instruct": TEXT | JUNK,
    "return_documents": st.booleans() | JUNK,
    "fps": st.floats(0, 1) | JUNK,
}
SOURCE = st.sampled_from(
    ["https://x/a.png", "data:image/png;base64,AAAA", "data:image/png;base64,"]
)
OBJECT = st.dictionaries(st.sampled_from(["text", "image", "video"]), SOURCE | JUNK, max_size=2)
ITEM = TEXT | JUNK | OBJECT
ASKED = {"query": ITEM, "documents": st.lists(ITEM, max_size=3) | JUNK}
MODEL = st.sampled_from(["qwen3-rerank", "qwen3-vl-rerank", "gte-rerank-v2"]) | TEXT | JUNK
NATIVE = {
    "model": MODEL,
    "input": st.fixed_dictionaries({}, optional=ASKED) | JUNK,
    "parameters": st.fixed_dictionaries({}, optional=OPTIONS) | JUNK,
}
BODIES = (
    st.fixed_dictionaries({}, optional=NATIVE)
    | st.fixed_dictionaries({"model": MODEL}, optional=ASKED | OPTIONS)
    | JUNK
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BODIES, st.booleans())
def test_any_json_is_answered(caller, body, compatible):
    """Whatever JSON is sent, the answer is a success or names a fault of the caller's."""
    url = caller.compatible_url if compatible else caller.native_url
    answer = caller.post(url, content=json.dumps(body).encode())

    assert answer.status_code in (200, 400, 404)
    assert answer.headers["x-request-id"]
    assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("content", [{"a": 1}, [{"a": 1}], '{"a": 1}', b'{"a": 1}'])
def test_a_scripted_body(caller, emulator, content):
    """A scripted body is sent as given, with its status and headers, whatever was asked."""
    emulator.script(Reply(418, content, {"Retry-After": "3", "X-Request-Id": "mine"}))
    answer = caller.post(caller.native_url, key="wrong key", content=b"{")

    assert answer.status_code == 418
    assert answer.json() == (content if isinstance(content, list) else {"a": 1})
    assert (answer.headers["retry-after"], answer.headers["x-request-id"]) == ("3", "mine")
    assert caller.native().status_code == 200


def test_a_scripted_error_fits_the_protocol(caller, emulator):
    """One scripted error is rendered for whichever protocol is called."""
    emulator.script(
        Reply.error(429, "Throttling.RateQuota", repeat=2), Reply.error(200, "Odd", "m")
    )
    native, compatible, odd = caller.native(), caller.compatible(), caller.native()

    assert (native.status_code, compatible.status_code) == (429, 429)
    assert native.json()["code"] == "Throttling.RateQuota"
    assert native.json()["request_id"] == native.headers["x-request-id"]
    assert compatible.json()["error"]["code"] == "limit_requests"
    assert (odd.status_code, odd.json()["code"], odd.json()["message"]) == (200, "Odd", "m")


def test_a_failing_function_is_shown(caller, emulator, calling):
    """What a scripted or a scoring function raises is told in a 500."""
    emulator.script(lambda seen: seen.nothing)
    scripted = caller.native()
    scored = calling(score=lambda *_: 1 / 0).native()

    assert (scripted.status_code, scored.status_code) == (500, 500)
    assert "AttributeError: 'LoggedRequest'" in scripted.json()["message"]
    assert scored.json()["message"] == "ZeroDivisionError: division by zero"


def test_dropped_answers(caller, emulator):
    """The connection is closed before the head, or after half of the body, scripted or honest."""
    emulator.script(Reply(drop="before"), Reply(drop="mid"), Reply(503, b"x" * 100, drop="mid"))

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        caller.native()
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        caller.native()
    with pytest.raises(httpx.RemoteProtocolError, match="received 50 bytes, expected 100"):
        caller.native()
    assert [seen.status for seen in emulator.log] == [None, 200, 503]


def test_a_delayed_answer_is_honest(caller, emulator):
    """A delay holds back the normal answer, and no other; the request is in the log meanwhile."""
    emulator.script(Reply(delay=0.05), Reply(delay=60.0))

    assert caller.native().status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        caller.post(caller.native_url, json={}, timeout=0.5)
    assert caller.native().status_code == 200
    assert [seen.status for seen in emulator.log] == [200, None, 200]


def test_the_key_is_nowhere_in_the_log(caller, emulator):
    """However a client sends the key, or another one, the log does not hold it."""
    for key in ("sk-emulator", "sk-somebody-elses"):
        url = f"{caller.native_url}?api_key={key}&a=b"
        body = {"api_key": key, key: [f"x{key}y"]}
        caller.post(url, key=key, json=body, headers={"x-key": key, "proxy-authorization": key})
    dumped = repr([vars(seen) for seen in emulator.log]) + repr(emulator)

    assert "sk-" not in dumped
    assert emulator.log[0].path.endswith("text-rerank?api_key=***&a=b")
    assert emulator.log[0].headers["x-key"] == "***"
    assert "authorization" not in emulator.log[0].headers


def test_a_client_that_leaves_while_sending_is_forgotten(caller, emulator):
    """A request whose body never arrives whole is not logged, and harms nobody."""

    def half():
        yield b'{"model":'
        raise RuntimeError("client gone")

    with pytest.raises(RuntimeError, match="client gone"):
        caller.post(caller.native_url, content=half())
    assert caller.native().status_code == 200
    assert len(emulator.log) == 1
