"""Servers that people run themselves. Bodies are as seen, or of the sources in `_servers`."""

import json
import math
import pickle
import threading
from typing import get_args

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


def _at(emulator, server, kind=Reranker, *, told=None, **options):
    """A reranker for the *server* that the emulator plays, or *told* that it is another one."""
    options = {"model": MODEL, "max_retries": 0, **options}
    return kind(
        server=told or server,
        base_url=emulator.server_url(server),
        **options,
    )


def _serving(answer):
    """What makes a server of *answer*, of a request its status and body."""

    def behave(server, connection):
        while (request := server.read(connection)).strip():
            line, body = answer(request)
            raw = json.dumps(body).encode()
            connection.sendall(
                b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n" % (line, len(raw)) + raw
            )

    return behave


def _answering(answer, told=None, status=b"200 OK"):
    """Likewise; a GET gets *told*."""
    return _serving(
        lambda request: (status, told) if request.startswith(b"GET") else answer(request)
    )


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
        ("vllm", "http://h:8000/v1", "http://h:8000/v1/rerank"),
        ("vllm", "http://h:8000/v1/rerank", "http://h:8000/v1/rerank"),
        ("sglang", "https://gw/models/a", "https://gw/models/a/v1/rerank"),
        ("infinity", "http://h:7997/prefix", "http://h:7997/prefix/rerank"),
        ("litellm", "http://h:4000/v2", "http://h:4000/v2/rerank"),
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


def test_raw_scores_are_ranked_as_they_come(emulator):
    """A ranking by logits: highest first, and a threshold may be negative."""
    emulator.script(
        Reply(body=json.dumps([{"index": i, "score": s} for i, s in enumerate((-3.5, 6.0, -0.5))]))
    )

    ranking = _at(emulator, "tei").rerank("q", TEXTS, score_threshold=-1.0)

    assert [(hit.index, hit.score) for hit in ranking] == [(1, 6.0), (2, -0.5)]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", {"results": {}}, {"output": {"results": _RESULTS}},
        [{"index": 0}, {"index": 1}],
    ],
)  # fmt: skip
def test_answers_of_another_shape(server, body):
    """An answer that is no ranking in this dialect names the setting to look at."""
    error = _error(server, body)

    assert type(error) is errors.ReplyError
    assert f"server={server!r}" in error.hint


# Refusals: an envelope of each kind; docs/failures.md has every hint, which a test compares

_VLLM = {"message": "m", "type": "BadRequestError", "param": None, "code": 400}
_DETAIL = {"type": "missing", "loc": ["body", "documents"], "msg": "Field required", "input": {}}
_REFUSALS = {
    "vLLM, bad value": (400, {"error": _VLLM}, errors.RequestError, "BadRequestError", "m"),
    "vLLM before 2026": (400, {"object": "error", **_VLLM}, errors.RequestError, "BadReq", "m"),
    "vLLM, key": (401, {"error": "Unauthorized"}, errors.AuthenticationError, None, "api_key="),
    "FastAPI, path": (404, {"detail": "Not Found"}, errors.RequestError, None, "server="),
    "FastAPI, body": (
        422,
        {"detail": [_DETAIL]},
        errors.RequestError,
        None,
        "body.documents: Field required",
    ),
    "FastAPI, odd": (422, {"detail": [1, {"loc": 2}]}, errors.RequestError, None, "server="),
    "TEI, broken": (
        424,
        {"error": "Inference failed", "error_type": "Backend"},
        errors.ServiceError,
        "Backend",
        "Inference failed",
    ),
    "TEI, no key": (401, b"", errors.AuthenticationError, None, "api_key="),
    "a code of DashScope's": (
        400,
        {"error": {"code": "Arrearage", "message": "m"}},
        errors.RequestError,
        "Arrearage",
        "m",
    ),
    "proxy": (502, b"Bad Gateway", errors.ServiceError, None, HOST),
    "plain text": (422, b"missing field `texts`", errors.RequestError, None, "missing field `text"),
}


@pytest.mark.parametrize("server", ["vllm", "tei"])
@pytest.mark.parametrize("row", _REFUSALS.values(), ids=_REFUSALS)
def test_refusals(server, row):
    """Every envelope ends in the error whose move is next, with the server's words kept."""
    status, body, kind, code, said = row
    headers = {"location": "https://sso.example/", "content-type": "text/plain; charset=utf-8"}

    error = _error(server, body, status=status, headers=headers)

    assert type(error) is kind
    assert error.status == status
    assert (error.code or "").startswith(code or "")
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


def test_a_model_that_is_not_served_by_who_has_no_list(emulator, serve):
    """Without a list the error says what it can, and a key in a list is not shown."""
    models = {"data": [{"id": "my sk-of-a-tenant"}, {"id": "b"}]}
    refusal = b"404 Not Found", {"detail": "Model not found in the model list"}
    url = f"http://{serve(_answering(lambda _: refusal, models)).address}"
    reranker = Reranker(server="xinference", base_url=url, model="a", api_key="sk-of-a-tenant")
    with pytest.raises(errors.RequestError) as caught:
        reranker.rerank("car", TEXTS)
    with pytest.raises(errors.RequestError) as listless:
        _at(emulator, "xinference", told="tei", model="a").rerank("car", TEXTS)

    assert caught.value.hint.endswith("It serves my ***, b.")
    assert listless.value.hint


# Behind a gateway


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (400, "DataInspectionFailed", errors.ContentError, "Moderation refused"),
        (400, "Arrearage", errors.QuotaError, "top up the Alibaba Cloud account"),
        (401, "InvalidApiKey", errors.AuthenticationError, "gateway's own settings"),
        (429, "Throttling.RateQuota", errors.RateLimitError, "max_concurrency="),
        (404, "ModelNotFound", errors.RequestError, "my-gateway-model"),
        (500, "InternalError", errors.ServiceError, None),
    ],
)
def test_what_is_behind_a_gateway(emulator, status, code, kind, hint):
    """A refusal that LiteLLM wraps is what it was before, and its id is that of the gateway."""
    emulator.script(*[Reply.error(status, code, "said so")] * 2)
    reranker = _at(emulator, "litellm", model="my-gateway-model")

    with pytest.raises(errors.RerankError) as caught:
        reranker.rerank("car", TEXTS)

    error = caught.value
    assert type(error) is kind
    assert (error.code, error.status) == (code, status)
    assert error.request_id == emulator.log[0].request_id
    assert hint is None or hint in error.hint
    if kind.passes_through:
        passed = reranker.with_options(on_error="passthrough").rerank("car", TEXTS)
        assert type(passed.degraded) is kind


def _cooling(after):
    said = f"No deployments available for selected model, Try again in {after} seconds. Passed"
    return Reply(status=429, body=json.dumps({"error": {"message": said, "code": "429"}}))


def test_a_gateway_that_cools_down_does_not_hide_the_cause(emulator):
    """After a failure LiteLLM refuses everybody for a while; the failure is what is told."""
    emulator.script(Reply.error(503, "ModelUnavailable", "too busy"), *[_cooling(0)] * 2)

    with pytest.raises(errors.ServiceError, match="too busy"):
        _at(emulator, "litellm", max_retries=2).rerank("car", TEXTS)

    assert len(emulator.log) == 3


def test_a_gateway_that_cools_down_hides_no_outage(emulator):
    """That it asks nobody for a while is no sign that what is behind it is there."""
    emulator.script(Reply.error(503, "ModelUnavailable"), *[_cooling(0)] * 2)
    reranker = _at(emulator, "litellm", max_retries=2, on_error="passthrough")

    assert reranker.rerank("car", TEXTS).degraded.status == 503
    assert "was not asked" in reranker.rerank("car", TEXTS).degraded.message


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

# Where path, request and answer are the same, nothing can tell the two apart: what is told, and
# what answers.
_ALIKE = {
    *(("infinity", "vllm"), ("infinity", "litellm"), ("litellm", "vllm"), ("litellm", "infinity")),
    *(("vllm", "xinference"), ("vllm", "litellm")),
    *(("cohere", "vllm"), ("cohere", "xinference"), ("cohere", "litellm")),
    *(("vllm", "cohere"), ("infinity", "cohere"), ("litellm", "cohere")),
}


@pytest.mark.parametrize("actual", SERVERS)
@pytest.mark.parametrize("told", SERVERS)
def test_every_pair(emulator, told, actual):
    """The wrong dialect ends in an error that names server=, or, where both are alike, in order."""
    reranker = _at(emulator, actual, told=told)
    if told == actual or (told, actual) in _ALIKE:
        assert [hit.index for hit in reranker.rerank("fast red car", TEXTS)] == [1, 2, 0]
        return

    with pytest.raises(errors.RerankError) as caught:
        reranker.rerank("fast red car", TEXTS)

    # 500 is what LiteLLM and Xinference make of a body that they do not understand.
    mistake = errors.RequestError, errors.ReplyError, errors.ServiceError
    assert type(caught.value) in mistake
    assert f"server={told!r}" in caught.value.hint


@pytest.mark.parametrize("server", SERVERS)
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
_LONG = [f"{'green tea and old hills ' * 400}{end}" for end in _ENDS]


@pytest.mark.parametrize(
    ("server", "told"), [("vllm", {}), ("tei", {}), ("infinity", {"max_model_len": 512})]
)
def test_what_is_too_long_is_cut_and_said(short, server, told):
    """Documents that end alike after a cut are named; split, all windows are read to their end."""
    reranker = _at(short, server, **told)

    ranking = reranker.rerank("fast red car", [*_LONG, "a fast car"])

    assert ranking.truncated == (0, 1, 2)
    assert ranking[0].index == 3
    assert reranker.estimate("fast red car", _LONG).truncated == (0, 1, 2)

    ranking = reranker.with_options(long_documents="split").rerank("fast red car", _LONG)

    assert ranking[0].index == 2
    assert ranking[0].window[1] == len(_LONG[2])
    assert ranking.truncated == ()


def test_refused_before_anything_is_sent(short):
    """With "error" the documents are named with what they may have, and nothing is posted."""
    reranker = _at(short, "vllm", long_documents="error")

    with pytest.raises(errors.RequestError, match="of the 512 of query, document") as caught:
        reranker.rerank("fast red car", ["a fast car", *_LONG])

    assert caught.value.documents == (1, 2, 3)
    assert short.log == ()


def test_room_for_query_instruct_and_template(short):
    """A long query and instruct leave less to a document, and the server takes it all the same."""
    reranker = _at(short, "vllm", instruct="Find what is said of cars in any of these texts.")

    ranking = reranker.rerank("fast red car " * 60, [*_LONG, "a fast car"])

    assert ranking.truncated == (0, 1, 2)
    assert not ranking.query_truncated
    assert reranker.rerank("fast red car " * 600, [_LONG[2]]).query_truncated


def test_the_template_is_in_the_estimate(short):
    """What vLLM bills for Qwen3-Reranker's template, 74 tokens a pair, is counted beforehand."""
    reranker = _at(short, "vllm", instruct="Find cars.")

    expected = reranker.estimate("fast red car", TEXTS).tokens

    assert reranker.rerank("fast red car", TEXTS).usage.tokens == expected > 3 * 74


def test_a_name_that_says_too_much(short, rank):
    """Infinity tells no length: that a model reads less than its name says, only an option does."""
    known = _at(short, "infinity")

    assert rank(known, "fast red car", _LONG).truncated == ()
    assert rank(known.with_options(max_model_len=512), "car", _LONG).truncated == (0, 1, 2)


def test_nothing_tells(short, rank, caplog):
    """Where nobody tells, a pair may have 512 tokens; a warning says so, once, and what to set."""
    reranker = Reranker(
        server="infinity", base_url=short.server_url("infinity"), model="my-reranker"
    )

    for _ in range(2):
        assert rank(reranker, "fast red car", _LONG).truncated == (0, 1, 2)

    [warning] = [each for each in caplog.messages if "max_model_len=" in each]
    assert "512 tokens" in warning


def test_another_model_answers(emulator, caplog):
    """A server that answers to any name says which model it used: a warning, once."""
    reranker = _at(emulator, "infinity", model="my-reranker")

    for _ in range(2):
        reranker.rerank("car", TEXTS)
    _at(emulator, "infinity").rerank("car", TEXTS)

    [warning] = [each for each in caplog.messages if each.startswith("Asked for my-reranker")]
    assert f"it used {MODEL}" in warning


def test_a_number_of_ones_own(short):
    """With max_tokens_per_doc= a document has so many tokens by our count, and nobody is asked."""
    reranker = _at(short, "infinity", max_tokens_per_doc=50)
    text = "a fast red car " * 12

    assert reranker.rerank("car", [text]).truncated == ()
    assert reranker.rerank("car", [text * 2]).truncated == (0,)


@pytest.mark.parametrize("name", ["max_model_len", "max_tokens_per_doc"])
def test_lengths_are_for_servers_of_ones_own(name):
    """DashScope's limits are what they are."""
    with pytest.raises(ValueError, match=f"{name} is for a server of your own"):
        RerankSettings(api_key="k", **{name: 512})


def _one_score(_):
    return b"200 OK", {"results": [{"index": 0, "relevance_score": 0.5}]}


@pytest.mark.parametrize(
    ("kind", "tells", "paths"),
    [
        ("vllm", {"max_model_len": 4_096}, ["/v1/models"]),
        (
            "xinference",  # where models have a name besides the one that they are served under
            {"model_name": "my reranker", "max_tokens": 4_096},
            ["/v1/models", "/v1/model_registrations/rerank/my%20reranker"],
        ),
    ],
)
def test_a_server_is_asked_once(serve, rank, kind, tells, paths):
    """Its length is asked before the first text that could be too long, with the key, and kept."""
    server = serve(_answering(_one_score, {"data": [{"id": "m", **tells}]}))
    reranker = Reranker(
        server=kind, base_url=f"http://{server.address}", model="m", api_key="k" * 9
    )

    rank(reranker, "car", ["short"])
    for _ in range(2):
        assert rank(reranker, "car", ["red car " * 1_000]).truncated == ()
    rank(reranker.with_options(top_n=1), "car", ["red car " * 1_000])

    asked = [request for request in server.requests if request.startswith(b"GET")]
    assert [*map(_path, asked)] == paths
    assert all(b"authorization: Bearer kkkkkkkkk" in request for request in asked)
    assert server.requests.index(asked[0]) == 1


@pytest.mark.parametrize(
    ("models", "status"),
    [
        ({"detail": "Not Found"}, b"404 Not Found"),
        ({"data": [{"id": "m"}]}, b"200 OK"),
        ({"data": [{"id": "a", "max_model_len": 9}, {"id": "b", "max_model_len": 9}]}, b"200 OK"),
        ({"data": [{"id": "m", "max_model_len": "512"}]}, b"200 OK"),
        ([1], b"200 OK"),
    ],
)
def test_a_server_that_does_not_tell(serve, models, status):
    """What tells no length is asked no more either, and planned for as if there were 512."""
    server = serve(_answering(_one_score, models, status))
    reranker = Reranker(server="vllm", base_url=f"http://{server.address}", model="m")

    for _ in range(2):
        assert reranker.rerank("car", ["red car " * 1_000]).truncated == (0,)

    assert sum(request.startswith(b"GET") for request in server.requests) == 1


def _path(request):
    return request.split()[1].decode()


_TELL = {
    "/info": {"max_input_length": 4_096},
    "/v1/models": {"data": [{"id": "m", "model_name": "own", "max_model_len": 4_096}]},
    "/v1/model_registrations/rerank/own": {"max_tokens": 4_096},
}


@pytest.mark.parametrize(
    ("kind", "path", "status"),
    [
        *[("vllm", "/v1/models", status) for status in (401, 403, 408, 425, 429, 500, 502, 503)],
        ("tei", "/info", 429),
        ("xinference", "/v1/models", 503),
        ("xinference", "/v1/model_registrations/rerank/own", 503),
    ],
)
def test_a_refusal_that_may_pass(serve, rank, kind, path, status):
    """A server that starts or is busy when it is asked is asked again by the next call."""
    refused = {path}

    def answer(request):
        asked = _path(request)
        if asked in refused:
            refused.remove(asked)
            return b"%d Not Now" % status, {}
        if asked in _TELL:
            return b"200 OK", _TELL[asked]
        results = [{"index": 0, "relevance_score": 0.5, "score": 0.5}]
        return b"200 OK", results if kind == "tei" else {"results": results}

    server = serve(_serving(answer))
    reranker = Reranker(server=kind, base_url=f"http://{server.address}", model="m")

    cut = [rank(reranker, "car", ["red car " * 1_000]).truncated for _ in range(3)]

    assert cut == [(0,), (), ()]


def test_a_model_that_is_served_later(serve, rank):
    """Who cannot tell because the model is not there yet is asked again after that failure."""
    launched = False

    def answer(request):
        if launched:
            return b"200 OK", _TELL.get(_path(request)) or _one_score(request)[1]
        if _path(request) == "/v1/models":
            return b"200 OK", {"data": []}
        return b"404 Not Found", {"detail": "Model not found in the model list, uid: m"}

    server = serve(_serving(answer))
    reranker = Reranker(server="xinference", base_url=f"http://{server.address}", model="m")
    with pytest.raises(errors.RequestError, match="Model not found"):
        rank(reranker, "car", ["red car " * 1_000])

    launched = True

    assert rank(reranker, "car", ["red car " * 1_000]).truncated == ()


def test_a_service_that_starts(serve):
    """However often calls failed before it was there, the first one that succeeds cuts nothing."""
    starts = True

    def answer(request):
        if starts:
            return b"503 Service Unavailable", {}
        return b"200 OK", _TELL.get(_path(request)) or _one_score(request)[1]

    server = serve(_serving(answer))
    reranker = Reranker(
        server="vllm", base_url=f"http://{server.address}", model="m", max_retries=0
    )
    for _ in range(5):
        with pytest.raises(errors.ServiceError):
            reranker.rerank("car", ["red car " * 1_000])

    starts = False

    assert reranker.rerank("car", ["red car " * 1_000]).truncated == ()


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


def test_a_server_that_swallows_the_question(serve):
    """One that does not answer it leaves half of the time for the call, which has a text cut.

    It is asked again by a call that would wait twice as long, and before a minute by no other.
    """

    def behave(server, connection):
        while (request := server.read(connection)).strip():
            if request.startswith(b"GET") and not tells.is_set():
                server.over.wait()
                return
            said = told if request.startswith(b"GET") else _one_score(request)[1]
            raw = json.dumps(said).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)

    def asked():
        return sum(request.startswith(b"GET") for request in server.requests)

    server, tells = serve(behave), threading.Event()
    told = {"data": [{"id": "m", "max_model_len": 4_096}]}
    reranker = Reranker(server="vllm", base_url=f"http://{server.address}", model="m", timeout=3)
    reranker.rerank("car", ["short"])

    for _ in range(2):
        assert reranker.rerank("car", ["red car " * 1_000]).truncated == (0,)
    assert asked() == 1

    tells.set()
    patient = reranker.with_options(timeout=30)
    for same in (patient, reranker):
        assert same.rerank("car", ["red car " * 1_000]).truncated == ()
    assert asked() == 2


@pytest.mark.parametrize("behind", ["another question", "imports"])
def test_a_server_that_is_not_waited_for(serve, behind):
    """What a call waited for before it could ask says nothing of the server: the next one asks."""
    server = serve(_answering(_one_score, {"data": [{"id": "m", "max_model_len": 4_096}]}))
    reranker = Reranker(server="vllm", base_url=f"http://{server.address}", model="m")
    line = reranker._line()
    lock = line.transport._opening if behind == "imports" else line.lengths.turn
    if behind != "imports":
        reranker.rerank("car", ["short"])

    async def hold_up(_):
        await lock.acquire()

    async def go_on(_):
        lock.release()

    _loop.run(hold_up)
    hasty = reranker.with_options(timeout=1.0, on_error="passthrough", outage_pause=0)
    hasty.rerank("car", ["red car " * 1_000])
    _loop.run(go_on)

    # Not twice the time, so that it would not ask again.
    assert reranker.with_options(timeout=1.8).rerank("car", ["red car " * 1_000]).truncated == ()


_TOO_LONG = (
    "This model's maximum context length is 512 tokens. However, your prompt contains at least 513 "
    "input tokens. (parameter=input_tokens, value=513)"
)


@pytest.mark.parametrize("wrapped", [False, True])
def test_too_long_for_the_server(emulator, wrapped):
    """A 400 about length names the documents by our count, and the option; it may pass through."""
    said = f"litellm.BadRequestError: VllmException - {_TOO_LONG}" if wrapped else _TOO_LONG
    body = {"error": {"message": said, "type": "BadRequestError", "code": 400}}
    emulator.script(*[Reply(status=400, body=json.dumps(body))] * 2)
    server = "litellm" if wrapped else "vllm"
    reranker = _at(emulator, server, max_model_len=4_096)
    texts = ["a fast car", "red car " * 600, "green tea", "old car " * 700]

    with pytest.raises(errors.RequestError) as caught:
        reranker.rerank("car", texts)
    passed = reranker.with_options(on_error="passthrough").rerank("car", texts)

    assert caught.value.documents == (1, 3)
    assert "documents 1 and 3. Set max_model_len=512" in caught.value.hint
    assert [hit.index for hit in passed] == [0, 1, 2, 3]
    assert passed.degraded.documents == (1, 3)


# Keys


@pytest.fixture(name="guarded", scope="module")
def _guarded():
    with Emulator(server_key="sk-theirs") as emulator:
        yield emulator


@pytest.mark.parametrize("server", SERVERS)
def test_keys_are_checked_where_they_can_be(monkeypatch, guarded, server):
    """A wrong key and none are told as such, and none is sent that was found in the environment.

    By vLLM too, which guards its versioned paths only.
    """
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-theirs")
    monkeypatch.setenv("DASHSCOPE_WORKSPACE", "ws-1")
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
        {"server": "vllm", "protocol": "compatible"},
        {"server": "vllm", "protocol": "dashscope", "base_url": "http://127.0.0.1:8000"},
        {"server": "tei", "protocol": "compatible", "region": "cn-beijing"},
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
    copied = RerankSettings(base_url=at).model_copy(update={"server": "vllm"})
    loaded = pickle.loads(pickle.dumps(made))  # noqa: S301  our own pickle

    for settings in (made, later, copied, loaded):
        assert settings.protocol == "compatible"
        assert settings._resolve().url == f"{at}/v1/rerank"
    for dump in (made.model_dump(), made.model_dump(exclude_unset=True)):
        assert RerankSettings(**dump).protocol == "compatible"
    later.server = None
    assert later.protocol == "dashscope"
    chosen = RerankSettings(server="vllm", protocol="compatible", base_url=at)
    chosen.server = None
    assert chosen.protocol == "compatible"


# Instructions


@pytest.mark.parametrize("server", SERVERS)
def test_instruct(emulator, server):
    """An instruction reaches a server that takes one, and is refused before any other is asked."""
    reranker = _at(emulator, server, instruct="Find cars.")
    name = _REQUESTS[server][1]

    if name is None:
        with pytest.raises(errors.RequestError, match=f"{server}.* takes none"):
            reranker.rerank("fast red car", TEXTS)
        assert emulator.log == ()
        assert reranker.rerank("fast red car", TEXTS, instruct=None)[0].index == 1
    else:
        reranker.rerank("fast red car", TEXTS)
        assert "Find cars." in emulator.log[0].body[name]


# The same rooms


@pytest.mark.parametrize("server", SERVERS)
def test_splitting(emulator, server):
    """A long list goes in as few requests as a server takes, of 100 texts at most, none alike."""
    texts = [f"text {number}" for number in range(120)]

    ranking = _at(emulator, server).rerank("text 33", texts)

    sizes = [request.documents for request in emulator.log]
    assert len(set(sizes)) == {"tei": 4, "infinity": 1}.get(server, 2)
    assert max(sizes) <= {"tei": 32, "infinity": 120}.get(server, 100)
    assert sorted(hit.index for hit in ranking) == list(range(120))
    assert ranking[0].index == 33


@pytest.mark.parametrize(
    ("server", "given", "sizes"),
    [("tei", 20, [20] * 4 + [19]), ("vllm", 50, [50, 49]), ("vllm", 150, [150])],
)
def test_a_server_with_another_limit(emulator, server, given, sizes):
    """max_documents_per_request says how a server was started; less is always possible."""
    texts = [f"text {number}" for number in range(sum(sizes))]
    _at(emulator, server, max_documents_per_request=given).rerank("q", texts)

    assert sorted((request.documents for request in emulator.log), reverse=True) == sizes


def test_tokens_of_a_request(emulator):
    """A server of your own scores each pair by itself: long texts do not make more requests."""
    texts = [f"{number} " + "word " * 1_000 for number in range(60)]

    assert _at(emulator, "vllm").estimate("q", texts).requests == 1


def test_usage_that_no_server_reports(emulator):
    """Where a server tells no tokens they are unknown, in every sum with its answers."""
    reranker = _at(emulator, "tei")
    assert reranker.usage.tokens == 0

    ranking = reranker.rerank("fast red car", TEXTS)

    assert (ranking.usage.requests, ranking.usage.tokens) == (1, None)
    assert reranker.usage == ranking.usage
    assert reranker.estimate("fast red car", TEXTS).tokens > 0
    assert "tokens unknown" in ranking._repr_html_()
