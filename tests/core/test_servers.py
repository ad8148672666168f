"""Servers that people run themselves. Bodies are as seen, or of the sources in `_servers`.

What is made of long texts where a length is known is in `test_prepare.py`.
"""

import json
import math
import pickle
import threading
from typing import get_args

import httpx
import pytest

from qwen_rerank import Reranker, RerankSettings, _endpoint, _loop, _servers, _wire, errors
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._told import Lengths
from qwen_rerank._values import Answer, Item, Place, Request
from qwen_rerank.emulator import Emulator, Reply
from qwen_rerank.emulator import _servers as theirs

SERVERS = get_args(_servers.Server)
MODEL = theirs.MODEL
HOST = "gpu.example:8000"
ASKED = Endpoint(f"http://{HOST}/rerank", HOST, local=False, api_key=None, workspace=None)
TEXTS = ["green tea", "a fast red car", "a fast car"]
LONG = ["red car " * 1_000]  # more than a pair may have where no server tells


def _request(*texts, instruct=None):
    items = tuple(Item(text, 1, (Place(i),)) for i, text in enumerate(texts))
    return Request("my-model", "q", instruct, items)


def _decode(server, body, expected=2, *, status=200, headers=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, headers or {}, raw)
    request = _request(*["text"] * expected)
    return _wire.decode(answer, request, protocol="compatible", asked=ASKED, server=server)


def _error(*arguments, **options):
    with pytest.raises(errors.RerankError) as caught:
        _decode(*arguments, **options)
    return caught.value


def _at(emulator, played, **options):
    """A reranker for the server that the emulator plays."""
    options = {"server": played, "model": MODEL, "max_retries": 0, **options}
    return Reranker(base_url=emulator.server_url(played), **options)


@pytest.fixture(name="own")
def _own():
    """Makes a reranker whose server is a function of a request, and the requests it was sent."""

    def make(answer, **options):
        asked = []

        def answering(request):
            asked.append(request)
            return answer(request)

        transport = httpx.MockTransport(answering)
        reranker = Reranker(
            base_url="http://127.0.0.1:8000",
            http_client=httpx.Client(transport=transport),
            async_http_client=httpx.AsyncClient(transport=transport),
            **{"server": "vllm", "model": "m", "max_retries": 0, **options},
        )
        return reranker, asked

    return make


# The table


def test_every_server_has_a_row_with_its_source():
    """Each value of server= has one row, in the client and in the emulator, and says where from."""
    assert set(SERVERS) == set(_servers.SERVERS) == set(theirs.SERVERS)
    for row in (*_servers.SERVERS.values(), *_servers.DASHSCOPE.values()):
        assert row.source
        assert row.date


# Requests

_FLAT = {"model": "my-model", "query": "q", "documents": ["a", "b"]}
_REQUESTS = {
    "vllm": (_FLAT, "instruction"),
    "sglang": ({**_FLAT, "return_documents": False}, "instruct"),
    "tei": ({"query": "q", "texts": ["a", "b"], "truncate": True}, None),
    "xinference": ({**_FLAT, "return_len": True}, "kwargs"),
    "infinity": (_FLAT, None),
    "litellm": (_FLAT, "instruction"),
    "cohere": (_FLAT, None),
}


@pytest.mark.parametrize("server", SERVERS)
def test_requests(server):
    """Each server gets the fields that it documents, under the names that it documents."""
    body, instruct = _REQUESTS[server]

    plain = json.loads(_wire.encode(_request("a", "b"), "compatible", server))
    told = json.loads(_wire.encode(_request("a", "b", instruct="rules"), "compatible", server))
    if server == "xinference":  # as JSON within JSON, and anywhere else it is ignored
        told["kwargs"] = json.loads(told["kwargs"])["instruction"]

    assert plain == body
    assert told == ({**body, instruct: "rules"} if instruct else body)


@pytest.mark.parametrize(
    ("server", "base", "url"),
    [
        ("vllm", "http://h:8000/", "http://h:8000/v1/rerank"),
        ("vllm", "http://h:8000/rerank", "http://h:8000/rerank"),
        ("vllm", "http://gw/models/a/v1", "http://gw/models/a/v1/rerank"),
        ("infinity", "http://h:7997/prefix", "http://h:7997/prefix/rerank"),
    ],
)
def test_paths(server, base, url):
    """A base URL is the server's address, with or without any part of its path."""
    assert _endpoint.url_below(base, "compatible", server) == url


# Answers

_RESULTS = [
    {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
    {"index": 0, "relevance_score": 0.25},
]
_LIST = [
    {"score": 0.75, "document": "b", "index": 1, "meta_info": None},
    {"score": 0.25, "index": 0},
]
_NAMED = {"id": "1", "results": _RESULTS}
_REPLIES = [
    ("vllm", {**_NAMED, "usage": {"prompt_tokens": 9, "total_tokens": 9}}, 9),
    ("sglang", _LIST, None),
    ("tei", [{"index": 1, "score": 0.75}, {"index": 0, "text": "a", "score": 0.25}], None),
    ("xinference", {**_NAMED, "meta": {"tokens": {"input_tokens": 9}}}, 9),
    ("infinity", {**_NAMED, "usage": {"total_tokens": 9}}, None),  # those are characters
    ("litellm", {**_NAMED, "meta": {"billed_units": {"total_tokens": 9}}}, 9),
    ("cohere", {**_NAMED, "meta": {"billed_units": {"search_units": 1}}}, None),  # other units
    # What speaks as Cohere does: Jina, llama.cpp and LocalAI; SiliconFlow; Voyage; nobody.
    ("cohere", {**_NAMED, "usage": {"total_tokens": 9}, "object": "list"}, 9),
    ("cohere", {**_NAMED, "meta": {"tokens": {"input_tokens": 9, "output_tokens": 0}}}, 9),
    ("cohere", {"id": "1", "data": _RESULTS, "usage": {"total_tokens": 9}}, 9),
    ("cohere", {**_NAMED, "meta": None}, None),
]


@pytest.mark.parametrize(("server", "body", "tokens"), _REPLIES)
def test_replies(server, body, tokens):
    """Scores, tokens and id are read from where each server puts them."""
    reply = _decode(server, body)

    assert (reply.scores, reply.tokens) == ((0.25, 0.75), tokens)
    assert reply.request_id == (None if isinstance(body, list) else "1")


@pytest.mark.parametrize("server", ["vllm", "tei", "cohere"])
@pytest.mark.parametrize(
    "body", [b"", b"[]", {"output": {"results": _RESULTS}}, [{"index": 0}, {"index": 1}]]
)
def test_answers_of_another_shape(server, body):
    """An answer that is no ranking in this dialect names the setting to look at."""
    error = _error(server, body)

    assert type(error) is errors.ReplyError
    assert f"server={server!r}" in error.hint


# Refusals: an envelope of each kind; docs/failures.md has every hint, which a test compares

_VLLM = {"message": "m", "type": "BadRequestError", "param": None, "code": 400}
_TEI = {"error": "Inference failed", "error_type": "Backend"}
_OF_DASHSCOPE = {"code": "Arrearage", "message": "m"}
_REFUSALS = {
    "vLLM, bad value": (400, {"error": _VLLM}, errors.RequestError, "BadRequestError", "m"),
    "vLLM, key": (401, {"error": "Unauthorized"}, errors.AuthenticationError, None, "api_key="),
    "FastAPI, path": (404, {"detail": "Not Found"}, errors.RequestError, None, "server="),
    "TEI, broken": (424, _TEI, errors.ServiceError, "Backend", "Inference failed"),
    "a code of DashScope's": (400, {"error": _OF_DASHSCOPE}, errors.RequestError, "Arrearage", "m"),
    "proxy": (502, b"Bad Gateway", errors.ServiceError, None, HOST),
}


@pytest.mark.parametrize("row", _REFUSALS.values(), ids=_REFUSALS)
def test_refusals(row):
    """Every envelope ends in the error whose move is next, with the server's words kept."""
    status, body, kind, code, said = row

    error = _error("vllm", body, status=status)

    assert type(error) is kind
    assert (error.status, error.code) == (status, code)
    assert said in str(error)
    assert "Alibaba" not in str(error)


@pytest.mark.parametrize("server", ["vllm", "xinference", "litellm"])
def test_a_model_that_is_not_served(emulator, server):
    """The error says which are, by the server's own list."""
    with pytest.raises(errors.RequestError) as caught:
        _at(emulator, server, model="other").rerank("car", TEXTS)

    assert f"It serves {MODEL}" in caught.value.hint
    assert caught.value.hint.startswith("other is not served by 127.0.0.1:")


def test_a_vllm_that_generates():
    """What serves no reranker may know the path for another method; the hint says what to do."""
    error = _error("vllm", {"detail": "Method Not Allowed"}, status=405)

    assert type(error) is errors.RequestError
    assert "--runner pooling" in error.hint


def test_what_is_said_of_the_models_that_are_served(own):
    """A key that stands in the list is not shown; without a list the error says what it can."""

    def refuse(request):
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "my sk-of-a-tenant"}, {"id": "b"}]})
        return httpx.Response(404, json={"detail": "Model not found in the model list"})

    hints = []
    for server in ("xinference", "tei"):  # which serves one model, and lists none
        reranker, _ = own(refuse, server=server, api_key="sk-of-a-tenant")
        with pytest.raises(errors.RequestError) as caught:
            reranker.rerank("car", TEXTS)
        hints.append(caught.value.hint)

    assert hints[0].endswith("It serves my ***, b.")
    assert hints[1].startswith("m is not served by 127.0.0.1:8000")


# Behind a gateway


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (400, "Arrearage", errors.QuotaError, "top up the Alibaba Cloud account"),
        (401, "InvalidApiKey", errors.AuthenticationError, "gateway's own settings"),
        (404, "ModelNotFound", errors.RequestError, "my-gateway-model"),
    ],
)
def test_what_is_behind_a_gateway(emulator, status, code, kind, hint):
    """A refusal that LiteLLM wraps is what it was before, and its id is that of the gateway."""
    emulator.script(Reply.error(status, code, "said so"))
    reranker = _at(emulator, "litellm", model="my-gateway-model")

    with pytest.raises(errors.RerankError) as caught:
        reranker.rerank("car", TEXTS)

    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status) == (code, status)
    assert error.request_id == emulator.log[0].request_id
    assert hint in error.hint


def _cooling(after):
    said = f"No deployments available for selected model, Try again in {after} seconds. Passed"
    return Reply(status=429, body=json.dumps({"error": {"message": said, "code": "429"}}))


def test_a_gateway_that_cools_down_does_not_hide_the_cause(emulator):
    """After a failure LiteLLM refuses everybody for a while; the failure is what is told.

    That it asks nobody is no sign either that what is behind it is there: the outage is known.
    """
    soon = {"retry-after-ms": "20"}
    busy = Reply.error(503, "ModelUnavailable", "too busy", headers=soon)
    emulator.script(busy, *[_cooling(0)] * 2)
    reranker = _at(emulator, "litellm", max_retries=2, on_error="passthrough")

    failure = reranker.rerank("car", TEXTS).degraded

    assert failure.status == 503
    assert "too busy" in failure.message
    assert "was not asked" in reranker.rerank("car", TEXTS).degraded.message
    assert len(emulator.log) == 3


def test_a_gateway_that_cools_down(emulator):
    """Without a cause of this call's it is a rate limit, with the wait that the gateway names."""
    emulator.script(_cooling(5))

    with pytest.raises(errors.RateLimitError) as caught:
        _at(emulator, "litellm").rerank("car", TEXTS)

    assert caught.value.retry_after == 5.0
    assert "num_retries: 0" in caught.value.hint


def test_retries_are_not_multiplied(emulator):
    """What a gateway has tried again by itself is not tried again from here."""
    said = "litellm.InternalServerError: gone. LiteLLM Retried: 2 times, LiteLLM Max Retries: 2"
    emulator.script(Reply(status=500, body=json.dumps({"error": {"message": said}})))

    with pytest.raises(errors.ServiceError) as caught:
        _at(emulator, "litellm", max_retries=2).rerank("car", TEXTS)

    assert len(emulator.log) == 1
    assert not caught.value.retryable


def test_the_id_of_a_gateway():
    """What LiteLLM calls a call's id is the request's, and not what is in its answer."""
    headers = {"x-litellm-call-id": "call-1", "x-request-id": "other"}
    ids = {"request_id": "of-upstream", "id": "likewise"}
    body = {**ids, "results": _RESULTS, "meta": None}

    assert _decode("litellm", body, headers=headers).request_id == "call-1"
    refused = _error("litellm", {"error": {"message": "m"}}, status=400, headers=headers)
    assert refused.request_id == "call-1"


# One dialect told, another one spoken: over HTTP, against the emulator


@pytest.mark.parametrize("actual", SERVERS)
@pytest.mark.parametrize("told", SERVERS)
def test_every_pair(emulator, told, actual):
    """The wrong dialect ends in an error that names server=, or, where both are alike, in order."""
    order, hint = None, ""
    try:
        ranking = _at(emulator, actual, server=told).rerank("fast red car", TEXTS)
        order = [hit.index for hit in ranking]
    except errors.RerankError as error:
        hint = error.hint

    if told == actual or order is not None:
        assert order == [1, 2, 0]
    else:
        assert f"server={told!r}" in hint


@pytest.mark.parametrize("server", ["vllm", "tei"])
def test_a_server_that_nobody_named(emulator, server):
    """Whether server= is missing, or given where DashScope answers, the error says so."""
    at = {"protocol": "compatible", "api_key": "k"}
    missing = Reranker(base_url=emulator.server_url(server), **at)
    given = Reranker(server=server, base_url=emulator.compatible_base_url, **at)

    for reranker, said in ((missing, "server="), (given, f"server={server!r}")):
        with pytest.raises(errors.RequestError) as caught:
            reranker.rerank("q", TEXTS)
        assert said in caught.value.hint


def test_another_shape_where_no_server_was_named():
    """An answer in another shape on Alibaba Cloud's flat path asks whose server it is."""
    answer = Answer(200, {}, json.dumps(_LIST).encode())

    with pytest.raises(errors.ReplyError) as caught:
        _wire.decode(answer, _request("a", "b"), protocol="compatible", asked=ASKED)

    assert "server=" in caught.value.hint


# Lengths


@pytest.fixture(name="of_512", scope="module")
def _of_512():
    with Emulator(max_model_len=512) as emulator:
        yield emulator


@pytest.fixture(name="short")
def _short(of_512):
    """Servers that take 512 tokens for query, document and template together."""
    of_512.clear()
    return of_512


# Three texts that differ only behind what such a server reads.
_ENDS = ("moon", "stone", "fast red car")
_ALIKE = [f"{'green tea and old hills ' * 400}{end}" for end in _ENDS]


@pytest.mark.parametrize(("server", "told"), [("tei", {}), ("infinity", {"max_model_len": 512})])
def test_what_is_too_long_is_cut_and_said(short, server, told):
    """Documents that end alike after a cut are named; split, all windows are read to their end."""
    reranker = _at(short, server, **told)
    assert reranker.estimate("fast red car", _ALIKE).truncated == (0, 1, 2)

    ranking = reranker.rerank("fast red car", [*_ALIKE, "a fast car"])

    assert ranking.truncated == (0, 1, 2)
    assert ranking[0].index == 3

    ranking = reranker.with_options(long_documents="split").rerank("fast red car", _ALIKE)

    assert ranking[0].index == 2
    assert ranking[0].window[1] == len(_ALIKE[2])
    assert ranking.truncated == ()


def test_room_for_query_instruct_and_template(short):
    """A long query and instruct leave less to a document, and the server takes it all the same.

    What vLLM bills for Qwen3-Reranker's template, 74 tokens a pair, is counted beforehand.
    """
    reranker = _at(short, "vllm", instruct="Find what is said of cars in any of these texts.")

    ranking = reranker.rerank("fast red car " * 60, [*_ALIKE, "a fast car"])

    assert ranking.truncated == (0, 1, 2)
    assert not ranking.query_truncated
    assert reranker.rerank("fast red car " * 600, [_ALIKE[2]]).query_truncated
    expected = reranker.estimate("fast red car", TEXTS).tokens
    assert reranker.rerank("fast red car", TEXTS).usage.tokens == expected > 3 * 74


@pytest.mark.parametrize(
    ("options", "cut", "warnings"),
    [
        ({}, (), 0),  # its name promises 32,768 tokens
        ({"max_model_len": 512}, (0, 1, 2), 0),
        ({"max_tokens_per_doc": 50}, (0, 1, 2), 0),
        ({"model": "my-reranker"}, (0, 1, 2), 1),
    ],
)
def test_a_server_that_tells_no_length(short, caplog, options, cut, warnings):
    """What a model takes is what its name says, or what an option says.

    Of a name that nobody knows it is 512 tokens a pair: a warning says so, once, and what to set.
    """
    reranker = _at(short, "infinity", **options)

    for _ in range(2):
        assert reranker.rerank("fast red car", _ALIKE).truncated == cut

    said = [each for each in caplog.messages if "max_model_len=" in each]
    assert len(said) == warnings
    assert all("512 tokens" in each for each in said)


def test_another_model_answers(emulator, caplog):
    """A server that answers to any name says which model it used: a warning, once."""
    reranker = _at(emulator, "infinity", model="my-reranker")

    for _ in range(2):
        reranker.rerank("car", TEXTS)
    _at(emulator, "infinity").rerank("car", TEXTS)

    [warning] = [each for each in caplog.messages if each.startswith("Asked for my-reranker")]
    assert f"it used {MODEL}" in warning


@pytest.mark.parametrize("name", ["max_model_len", "max_tokens_per_doc"])
def test_lengths_are_for_servers_of_ones_own(name):
    """DashScope's limits are what they are."""
    with pytest.raises(ValueError, match=f"{name} is for a server of your own"):
        RerankSettings(api_key="k", **{name: 512})


# Asking for them

_TOLD = {
    "/info": {"max_input_length": 4_096},
    # Where models have a name besides the one that they are served under.
    "/v1/models": {"data": [{"id": "m", "model_name": "my own", "max_model_len": 4_096}]},
    "/v1/model_registrations/rerank/my%20own": {"max_tokens": 4_096},
}


def _telling(request):
    """Tells the length of its model, as each server does, and ranks one document."""
    path = request.url.raw_path.decode()
    if path in _TOLD:
        return httpx.Response(200, json=_TOLD[path])
    results = [{"index": 0, "relevance_score": 0.5, "score": 0.5}]
    is_tei = path == "/rerank"
    return httpx.Response(200, json=results if is_tei else {"results": results})


def _paths(asked):
    """Where a server was asked how long a pair may be."""
    return [each.url.raw_path.decode() for each in asked if each.method == "GET"]


@pytest.mark.parametrize(
    ("server", "paths"),
    [
        ("vllm", ["/v1/models"]),
        ("tei", ["/info"]),
        ("xinference", ["/v1/models", "/v1/model_registrations/rerank/my%20own"]),
    ],
)
def test_a_server_is_asked_once(own, rank, server, paths):
    """Its length is asked before the first text that could be too long, with the key, and kept."""
    reranker, asked = own(_telling, server=server, api_key="k" * 9)

    rank(reranker, "car", ["short"])
    assert _paths(asked) == []
    for options in ({}, {}, {"top_n": 1}):
        assert rank(reranker.with_options(**options), "car", LONG).truncated == ()

    assert _paths(asked) == paths
    assert {each.headers["authorization"] for each in asked} == {"Bearer kkkkkkkkk"}


@pytest.mark.parametrize(
    ("server", "path", "status", "lasts"),
    [
        ("vllm", "/v1/models", 404, True),
        ("vllm", "/v1/models", 200, True),
        ("vllm", "/v1/models", 401, False),
        ("xinference", "/v1/models", 503, False),
        ("xinference", "/v1/model_registrations/rerank/my%20own", 503, False),
    ],
)
def test_a_server_that_does_not_tell(own, server, path, status, lasts):
    """What has no length to tell is not asked again, and planned for as if there were 512 tokens.

    What wants a key, starts or is busy when it is asked is asked again by the next call.
    """
    untold = [httpx.Response(status, json={"data": [{"id": "m"}]})]

    def answer(request):
        if untold and request.url.raw_path.decode() == path:
            return untold.pop()
        return _telling(request)

    reranker, _ = own(answer, server=server)

    cut = [reranker.rerank("car", LONG).truncated for _ in range(3)]

    assert cut == ([(0,), (0,), (0,)] if lasts else [(0,), (), ()])


@pytest.mark.parametrize("status", [503, 404])
def test_a_server_that_starts(own, status):
    """However often calls failed before it or its model was there, the next one cuts nothing."""
    starts = True
    reranker, _ = own(lambda asked: httpx.Response(status) if starts else _telling(asked))
    for _ in range(5):
        with pytest.raises(errors.RerankError):
            reranker.rerank("car", LONG)

    starts = False

    assert reranker.rerank("car", LONG).truncated == ()


@pytest.mark.parametrize(
    ("waited", "asked"),
    [
        # A round trip each: at first at once, then after 1, 3, 7, 15 and 31 seconds, then minutes.
        ({}, 7 + 59),
        # Five seconds each: after 1, 2, 4, 8, 16 and 32 minutes.
        ({"waited": 5.0}, 6),
    ],
)
def test_how_often_a_question_without_an_answer_costs_time(waited, asked):
    """Of calls without end few are held up by it: in the end one a minute, by silence fewer."""
    now = 0
    lengths, key = Lengths(lambda: now), ("http://gpu.example/rerank", "m")
    times = []

    for now in range(3_600):
        while lengths.is_to_be_asked(*key, math.inf):
            times.append(now)
            lengths.put_off(*key, **waited)

    assert len(times) == asked
    assert not lengths.is_to_be_asked(*key, math.inf)
    lengths.tell(*key, None)
    now = 10**6
    assert not lengths.is_to_be_asked(*key, math.inf)


@pytest.mark.parametrize(
    ("before", "after", "pause"),
    [({}, {"waited": 5.0}, 60), ({"waited": 5.0}, {}, 0)],
    ids=["refusals", "silence"],
)
def test_how_long_a_question_is_put_off_after_another_kind_of_failure(before, after, pause):
    """A server that was refusing and falls silent, or the reverse, is asked as one that begins."""
    now = 0
    lengths, key = Lengths(lambda: now), ("http://gpu.example/rerank", "m")
    for _ in range(7):
        lengths.put_off(*key, **before)

    lengths.put_off(*key, **after)

    now = pause
    assert lengths.is_to_be_asked(*key, 0)
    now = pause - 1
    assert not lengths.is_to_be_asked(*key, 0)


def test_a_server_that_swallows_the_question(own):
    """One that does not answer it leaves half of the time for the call, which has a text cut.

    It is asked again by a call that would wait twice as long, and before a minute by no other.
    """
    tells = threading.Event()

    def answer(request):
        if request.method == "GET":
            tells.wait(30)
        return _telling(request)

    reranker, asked = own(answer, timeout=3)

    for _ in range(2):
        assert reranker.rerank("car", LONG).truncated == (0,)
    assert len(_paths(asked)) == 1

    tells.set()
    patient = reranker.with_options(timeout=30)
    for same in (patient, reranker):
        assert same.rerank("car", LONG).truncated == ()
    assert len(_paths(asked)) == 2


@pytest.mark.parametrize("behind", ["another question", "imports"])
def test_a_server_that_is_not_waited_for(emulator, behind):
    """What a call waited for before it could ask says nothing of the server: the next one asks."""
    reranker = _at(emulator, "vllm", timeout=0.4, on_error="passthrough")
    line = reranker._line()
    lock = line.transport._opening if behind == "imports" else line.lengths.turn
    if behind != "imports":
        reranker.with_options(timeout=30).rerank("car", ["short"])

    async def hold_up(_):
        await lock.acquire()

    async def go_on(_):
        lock.release()

    _loop.run(hold_up)
    reranker.rerank("car", LONG)
    _loop.run(go_on)

    assert line.lengths.is_to_be_asked(line.endpoint.url, MODEL, 0)


_TOO_LONG = (
    "This model's maximum context length is 512 tokens. However, your prompt contains at least 513 "
    "input tokens. (parameter=input_tokens, value=513)"
)


@pytest.mark.parametrize("wrapped", [False, True])
def test_too_long_for_the_server(emulator, wrapped):
    """A 400 about length names the documents by our count, and the option; it may pass through."""
    said = f"litellm.BadRequestError: VllmException - {_TOO_LONG}" if wrapped else _TOO_LONG
    body = {"error": {"message": said, "type": "BadRequestError", "code": 400}}
    emulator.script(Reply(status=400, body=json.dumps(body)))
    server = "litellm" if wrapped else "vllm"
    reranker = _at(emulator, server, max_model_len=4_096, on_error="passthrough")
    texts = ["a fast car", "red car " * 600, "green tea", "old car " * 700]

    passed = reranker.rerank("car", texts)

    assert type(passed.degraded) is errors.RequestError
    assert passed.degraded.documents == (1, 3)
    assert "documents 1 and 3. Set max_model_len=512" in passed.degraded.hint
    assert [hit.index for hit in passed] == [0, 1, 2, 3]


# Keys


@pytest.mark.parametrize("server", ["vllm", "litellm"])
def test_keys_are_checked_where_they_can_be(monkeypatch, server):
    """A wrong key and none are told as such, and none is sent that was found in the environment.

    By vLLM too, which guards its versioned paths only.
    """
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-theirs")
    monkeypatch.setenv("DASHSCOPE_WORKSPACE", "ws-1")

    with Emulator(server_key="sk-theirs") as guarded:
        good = _at(guarded, server, api_key="sk-theirs")
        assert len(good.rerank("car", TEXTS)) == 3
        for key in (None, "sk-of-somebody-else"):
            with pytest.raises(errors.AuthenticationError, match="api_key="):
                good.with_options(api_key=key).rerank("car", TEXTS)

    assert not any("workspace" in str(seen.headers).lower() for seen in guarded.log)


# The option


@pytest.mark.parametrize(
    "options",
    [
        {"server": "vllm"},
        {"server": "vllm", "protocol": "dashscope", "base_url": "http://127.0.0.1:8000"},
    ],
)
def test_server_needs_its_address(monkeypatch, options):
    """A server is named together with its address, and speaks no other protocol."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "http://127.0.0.1:9000")

    with pytest.raises(ValueError, match="server says what answers at base_url"):
        RerankSettings(api_key="k", **options)


def test_a_server_implies_its_protocol():
    """server= is enough: as long as it is there, it speaks the protocol that nobody chose."""
    at = "http://127.0.0.1:8000"
    made = RerankSettings(server="vllm", base_url=at)
    later = RerankSettings(base_url=at)
    later.server = "vllm"
    loaded = pickle.loads(pickle.dumps(made))  # noqa: S301  our own pickle
    dumped = RerankSettings(**made.model_dump())

    for settings in (made, later, loaded, dumped):
        assert settings.protocol == "compatible"
        assert settings._resolve().url == f"{at}/v1/rerank"
    later.server = None
    assert later.protocol == "dashscope"
    chosen = RerankSettings(server="vllm", protocol="compatible", base_url=at)
    chosen.server = None
    assert chosen.protocol == "compatible"


def test_an_instruct_for_a_server_that_takes_none(emulator):
    """It is refused before anything is sent, and may be taken back for one call."""
    reranker = _at(emulator, "tei", instruct="Find cars.")

    with pytest.raises(errors.RequestError, match=r"tei.* takes none"):
        reranker.rerank("fast red car", TEXTS)
    assert emulator.log == ()

    assert reranker.rerank("fast red car", TEXTS, instruct=None)[0].index == 1


# Requests and what they cost


@pytest.mark.parametrize(
    ("server", "options", "requests", "most"),
    [
        ("vllm", {}, 2, 100),
        ("tei", {}, 4, 32),
        ("infinity", {}, 1, 120),
        ("tei", {"max_documents_per_request": 20}, 6, 20),
        ("vllm", {"max_documents_per_request": 150}, 1, 120),
    ],
)
def test_splitting(emulator, server, options, requests, most):
    """A long list goes in as few requests as a server takes by default, or was started to take."""
    texts = [f"text {number}" for number in range(120)]

    ranking = _at(emulator, server, **options).rerank("text 33", texts)

    sizes = [request.documents for request in emulator.log]
    assert len(sizes) == requests
    assert max(sizes) <= most
    assert sorted(hit.index for hit in ranking) == list(range(120))
    assert ranking[0].index == 33


def test_usage_that_no_server_reports(emulator):
    """Where a server tells no tokens they are unknown, in every sum with its answers."""
    reranker = _at(emulator, "tei")
    assert reranker.usage.tokens == 0

    ranking = reranker.rerank("fast red car", TEXTS)

    assert (ranking.usage.requests, ranking.usage.tokens) == (1, None)
    assert reranker.usage == ranking.usage
    assert reranker.estimate("fast red car", TEXTS).tokens > 0
    assert "tokens unknown" in ranking._repr_html_()
