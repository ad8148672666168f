"""What gateways ask for: more headers, more fields in the body, a client of the caller's."""

import copy
import itertools
import json
import pickle
from types import SimpleNamespace

import httpx
import httpx2
import pytest
from langchain_core.load import dumps
from pydantic import SecretStr, field_validator

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import (
    AuthenticationError,
    RateLimitError,
    Reranker,
    RerankSettings,
    ServiceError,
)
from qwen_rerank._sealed import linked
from qwen_rerank.emulator import Emulator, Reply

_SECRET = "tok/en+of=a&gateway-51c0"
_QUERY = "a fast red sports car"
_TEXTS = ["green tea", "a red sports car"]
_NOWHERE = {"base_url": "https://gateway.example/v1", "api_key": "the-key-of-ours"}
_LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
_KINDS = [Reranker, langchain_qwen_rerank.QwenRerank, llama_index_qwen_rerank.QwenRerank]


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own pickle


def _flat(server, connection):
    """Answers a request of the flat protocol with one score."""
    server.answer(connection, b'{"results": [{"index": 0, "relevance_score": 0.5}]}')


# Headers


def test_headers_are_sent(connection, rank, emulator: Emulator):
    """Every request carries them, beside the key; theirs is the word on who asks."""
    headers = {"X-Tenant": "seven", "x-api-key": SecretStr(_SECRET), "User-Agent": "our-app/1"}
    reranker = Reranker(headers=headers, max_documents_per_request=1, **connection)

    rank(reranker, _QUERY, _TEXTS)

    assert len(emulator.log) == 2
    for seen in emulator.log:
        assert seen.headers["x-tenant"] == "seven"
        assert seen.headers["user-agent"] == "our-app/1"
        assert seen.headers["content-type"] == "application/json"
    assert headers.keys() == {"X-Tenant", "x-api-key", "User-Agent"}


def test_a_gateways_own_key(serve, rank):
    """A gateway that knows another header than Authorization gets that, and no key of ours."""
    server = serve(_flat)
    url = f"http://{server.address}/v1"
    reranker = Reranker(base_url=url, protocol="compatible", headers={"x-api-key": _SECRET})
    assert rank(reranker, _QUERY, ["a text"])[0].score == 0.5

    [request] = server.requests
    assert f"\r\nx-api-key: {_SECRET}\r\n".encode() in request
    assert b"\r\nauthorization:" not in request.lower()


def test_over_a_callers_client(connection, rank, clients, emulator: Emulator):
    """headers= wins over the client's own, and the key over both."""
    own = {"x-tenant": "three", "x-team": "search", "authorization": "Bearer none"}
    options = {"headers": {"X-Tenant": "seven"}, **connection}
    rank(Reranker(**clients(headers=own), **options), _QUERY, _TEXTS)

    [seen] = emulator.log
    assert (seen.headers["x-tenant"], seen.headers["x-team"]) == ("seven", "search")
    assert seen.status == 200


def test_over_a_client_of_the_sdk(emulator: Emulator):
    """A client of dashscope's carries them too."""
    login = {"authorization": f"Bearer {emulator.api_key}"}
    with httpx.Client(base_url=emulator.base_url, headers=login) as http:
        sdk = SimpleNamespace(transport=SimpleNamespace(http_client=http))
        Reranker(client=sdk, headers={"x-tenant": "seven"}).rerank(_QUERY, _TEXTS)

    assert emulator.log[-1].headers["x-tenant"] == "seven"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"x-tenant": "a\r\nx-admin: 1"}, "the value of 'x-tenant' must be of printable ASCII"),
        ({"x-tenant": " a"}, "the value of 'x-tenant' must be"),
        ({"\u212aey": "a"}, "a header's name must be of letters"),
        ({"sk-0123456789abcdef0123": "x-api-key"}, "a header's name must be"),
        ({"Authorization": "Basic x"}, "'authorization' is what api_key= is for"),
        ({"X-DashScope-WorkSpace": "ws"}, "'x-dashscope-workspace' is what workspace= is for"),
        ({"Host": "elsewhere"}, "'host' is set by every request itself"),
        ({"X-A": "1", "x-a": "2"}, "'x-a' is given twice"),
        ({"x-a": 7}, "headers: "),
    ],
    ids=repr,
)
def test_wrong_headers(shown, headers, said):
    """What cannot be sent, or is not the caller's to say, is refused without showing a value."""
    kept = RerankSettings(headers={"x-kept": "yes"}, **_NOWHERE)
    for change in (
        lambda: RerankSettings(headers=headers, **_NOWHERE),
        lambda: setattr(kept, "headers", headers),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            change()

        assert "x-admin" not in shown(caught.value)
        assert "sk-01" not in shown(caught.value)
    assert list(kept.headers) == ["x-kept"]


@pytest.mark.parametrize("kind", _KINDS)
def test_values_are_never_shown(kind):
    """Headers stand in no repr and no dump, nor do pickles keep them; copies do."""
    reranker = kind(headers={"x-api-key": _SECRET}, **_NOWHERE)
    views = [repr, str, vars, lambda each: each.model_dump(), lambda each: each.model_dump_json()]
    views += [pickle.dumps, lambda each: repr(each._resolved), lambda each: each.__getstate__()]
    if kind is langchain_qwen_rerank.QwenRerank:
        views.append(dumps)
    if kind is llama_index_qwen_rerank.QwenRerank:
        views += [lambda each: each.to_dict(), lambda each: each.to_json()]

    for view in views:
        assert _SECRET not in str(view(reranker))
    assert _pickled(reranker).headers is None
    for twin in (copy.copy(reranker), copy.deepcopy(reranker), reranker.model_copy()):
        assert twin.headers["x-api-key"].get_secret_value() == _SECRET


def test_frames_hold_no_value(shown):
    """Whatever else goes wrong while an object is made, no frame of ours shows a header's value."""

    class Broken(RerankSettings):
        @field_validator("instruct")
        @classmethod
        def _fails(cls, value):
            raise RuntimeError(value)

    with pytest.raises(RuntimeError) as caught:
        Broken(headers={"x-api-key": _SECRET}, instruct="x", **_NOWHERE)

    assert _SECRET not in shown(caught.value)


def test_headers_cannot_be_changed_in_place():
    """They are checked when they are assigned, so that is the way to change them."""
    settings = RerankSettings(headers={"x-a": "1"}, **_NOWHERE)

    with pytest.raises(TypeError):
        settings.headers["authorization"] = "another"


def test_a_server_that_quotes_them(connection, rank, emulator: Emulator, shown):
    """A gateway that quotes a header, in a 200 too, does not get its value into our errors."""
    refusal = {"code": "InvalidApiKey", "message": f"no {_SECRET}", "request_id": _SECRET}
    emulator.script(Reply(200, refusal))
    reranker = Reranker(headers={"x-api-key": _SECRET}, max_retries=0, **connection)

    with pytest.raises(AuthenticationError, match=r"no \*\*\*") as caught:
        rank(reranker, _QUERY, _TEXTS)

    assert _SECRET not in shown(caught.value)


def test_a_ranking_that_quotes_them(connection, rank, emulator: Emulator):
    """Nor into a ranking, as its request id."""
    results = [{"index": at, "relevance_score": 0.5} for at in range(len(_TEXTS))]
    emulator.script(Reply(200, {"output": {"results": results}, "request_id": _SECRET}))

    ranking = rank(Reranker(headers={"x-api-key": _SECRET}, **connection), _QUERY, _TEXTS)

    assert ranking.request_ids == ("***",)


# Fields of the body


def test_fields_are_sent(connection, rank, emulator: Emulator):
    """They stand in every body, among what is there already; `test_wire.py` has how."""
    extra = {"metadata": {"team": [1, None]}, "parameters": {"new_option": True}}
    reranker = Reranker(extra_body=extra, instruct="rules", **connection)

    rank(reranker, _QUERY, _TEXTS)

    assert emulator.log[-1].body["metadata"] == {"team": [1, None]}
    assert emulator.log[-1].body["parameters"] == {"instruct": "rules", "new_option": True}


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, _pickled], ids=["copy", "deep", "pickle"]
)
def test_a_body_cannot_be_changed_in_place(twin):
    """Nobody would check that, and what shares it would send it too: assign another instead."""
    given = {"metadata": {"team": ["a"]}, "parameters": {"x": 1}}
    settings = RerankSettings(extra_body=given, **_NOWHERE)
    given["metadata"]["team"].append("b")
    extra = {"metadata": {"team": ["a"]}, "parameters": {"x": 1}}

    for body in (settings.extra_body, twin(settings).extra_body, twin(settings.extra_body)):
        with pytest.raises(TypeError, match="cannot be changed in place: assign another"):
            body["parameters"]["top_n"] = 1
        with pytest.raises(TypeError, match="in place"):
            body |= {"model": "other"}
        with pytest.raises(TypeError, match="in place"):
            body["metadata"]["team"].append("b")
        assert body == json.loads(json.dumps(body)) == extra

    dumped = settings.model_dump()["extra_body"]
    dumped["metadata"]["team"].append("b")  # it is the caller's
    assert json.loads(settings.model_dump_json())["extra_body"] == extra


@pytest.mark.parametrize(
    ("options", "extra", "said"),
    [
        ({}, {"parameters": {"top_n": 1}}, r"'parameters\.top_n'"),
        ({"protocol": "compatible"}, {"query": "x"}, "'query'"),
        ({"server": "tei"}, {"texts": []}, "'texts'"),
    ],
    ids=repr,
)
def test_fields_of_ours(options, extra, said):
    """A field that requests have themselves is refused by name, and so is top_n."""
    with pytest.raises(ValueError, match=f"extra_body must not hold {said}, which"):
        RerankSettings(extra_body=extra, **options, **_NOWHERE)


def test_another_protocol_has_other_fields():
    """What is taken is looked at again when the protocol changes; a refusal changes nothing."""
    settings = RerankSettings(extra_body={"query": "x"}, **_NOWHERE)

    with pytest.raises(ValueError, match="'query'"):
        settings.protocol = "compatible"
    assert settings.protocol == "dashscope"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"a": float("nan")}, "extra_body: must be JSON"),
        ({"a": "\ud800"}, "extra_body: must be JSON"),
        ("a", "extra_body: "),
        ({"a": {"api_key": "sk-0123456789abcdef0123"}}, "looks like an API key"),
    ],
    ids=repr,
)
def test_what_is_no_body(shown, extra, said):
    """It has to be JSON, and no key, because dumps and reprs show it."""
    with pytest.raises(ValueError, match=said) as caught:
        RerankSettings(extra_body=extra, **_NOWHERE)

    assert "sk-01" not in shown(caught.value)


def test_scores_belong_to_the_fields(connection, rank, emulator: Emulator):
    """Other fields may lead to other scores, so the cache keeps them apart."""
    cache: dict[str, float] = {}
    for extra in (None, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2}, {}):
        rank(Reranker(cache=cache, extra_body=extra, **connection), _QUERY, _TEXTS)

    assert [seen.body.get("a") for seen in emulator.log] == [None, 1, 2]


# A client of the caller's


def _hook(clients, hook, *, on="response", reads=False):
    """Has both clients call *hook*, once they have read the answer if it *reads*."""

    def blocking(seen):
        if reads:
            seen.read()
        hook(seen)

    async def awaited(seen):
        if reads:
            await seen.aread()
        hook(seen)

    clients["http_client"].event_hooks = {on: [blocking]}
    clients["async_http_client"].event_hooks = {on: [awaited]}
    return clients


def test_what_a_client_sends(serve, rank, clients):
    """Query, cookies, headers, hooks and login of a client are its own business; no base URL is."""
    server = serve(_flat)
    own = {"params": {"api-version": "7"}, "cookies": {"s": "s-1"}, "auth": ("user", "word")}
    both = clients(base_url="http://elsewhere.example/v2", **own)
    hooked = []

    _hook(both, lambda request: hooked.append(request.method), on="request")
    url = f"http://{server.address}/v1"
    rank(Reranker(base_url=url, api_key="k" * 9, protocol="compatible", **both), _QUERY, ["a text"])

    [request] = server.requests
    assert b"/v1/reranks?api-version=7 HTTP/1.1\r\n" in request
    assert b"\r\ncookie: s=s-1\r\n" in request.lower()
    assert b"\r\nauthorization: basic " in request.lower()
    assert hooked == ["POST"]


@_LIBRARIES
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_a_hook_that_raises_refusals(connection, rank, clients, library, reads, emulator: Emulator):
    """A refusal is what it is without the hook; the service's words are lost to one that read none.

    So a wrong key is asked for once and raised, and a pause that the service asks for is known.
    """

    def refuse(answer):
        raise library.HTTPStatusError("Refused.", request=None, response=answer)

    given = {**_hook(clients(library), refuse, reads=reads), "base_url": emulator.base_url}
    lost = "answered without saying why"
    emulator.script(
        Reply.error(429, "Throttling.RateQuota", "Slow down.", headers={"retry-after": "7"})
    )

    with pytest.raises(RateLimitError, match="Slow down" if reads else lost) as limit:
        rank(Reranker(**given, api_key=connection["api_key"], max_retries=0), _QUERY, _TEXTS)
    wrong = Reranker(**given, api_key="sk-of-nobody-at-all", on_error="passthrough")
    with pytest.raises(AuthenticationError, match="Invalid API-key" if reads else lost) as refusal:
        rank(wrong, _QUERY, _TEXTS)

    assert limit.value.retry_after == 7
    assert refusal.value.status == 401
    assert [seen.status for seen in emulator.log] == [429, 401]


def _mistaken(answer):
    answer.json()  # which was not read


def _forbidding(answer):
    raise httpx.HTTPStatusError("No.", request=answer.request, response=answer)


def _forbidding_by_its_own(answer):
    raise httpx.HTTPStatusError("No.", request=answer.request, response=httpx.Response(403))


@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        (_mistaken, httpx.ResponseNotRead),
        (_forbidding, httpx.HTTPStatusError),
        (_forbidding_by_its_own, httpx.HTTPStatusError),
    ],
)
def test_a_hook_that_is_wrong_or_forbids(connection, rank, clients, hook, kind, emulator: Emulator):
    """A hook's own mistake is raised as it is, and costs no second request.

    Likewise its refusal of a good answer, whose scores nobody gets.
    """
    reranker = Reranker(on_error="passthrough", **_hook(clients(), hook), **connection)

    with pytest.raises(kind):
        rank(reranker, _QUERY, _TEXTS)

    assert len(emulator.log) == 1


def test_an_error_that_is_its_own_cause():
    """It is looked at once, where following its causes would never end."""
    error, other = OSError("mine"), LookupError("other")
    error.__cause__, other.__context__ = other, error

    seen = linked(error, lambda one: [one.__cause__, one.__context__])

    assert list(itertools.islice(seen, 3)) == [error, other]


class _Login(httpx.Auth):
    """Fetches a token from *url* before each request."""

    def __init__(self, url):
        self._url = url

    def auth_flow(self, request):
        token = yield httpx.Request("POST", self._url)
        token.raise_for_status()
        yield request


def test_a_login_that_is_refused(connection, rank, clients, emulator: Emulator):
    """That is not taken for an answer of the service: the login's own error names who refused."""
    login = _Login(f"{emulator.base_url}/token")

    with pytest.raises(httpx.HTTPStatusError, match=r"404 Not Found.*/token"):
        rank(Reranker(**clients(auth=login), **connection), _QUERY, _TEXTS)


def test_a_login_that_cannot_be_reached(connection, rank, clients):
    """The error names the host that was asked, not the service."""
    reranker = Reranker(**clients(auth=_Login("http://127.0.0.1:9")), max_retries=0, **connection)

    with pytest.raises(ServiceError, match=r"No answer from 127\.0\.0\.1:9: ") as caught:
        rank(reranker, _QUERY, _TEXTS)

    assert "Your HTTP client asked there" in caught.value.hint


@_LIBRARIES
def test_nobody_answers_a_client(rank, clients, library):
    """A host that a client cannot reach is a failure of the service, as without it."""
    nowhere = {"base_url": "http://127.0.0.1:9/api/v1", "api_key": "k" * 9, "max_retries": 0}

    with pytest.raises(ServiceError, match=r"No answer from 127\.0\.0\.1:9: ") as caught:
        rank(Reranker(**clients(library), **nowhere), _QUERY, _TEXTS)

    assert "base_url=" in caught.value.hint
