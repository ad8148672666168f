"""Where a key may go and where nothing goes: the rules of the network, seen from outside.

`test_endpoint.py` has the sources of keys and hosts and the ordinary refusals. Here are the tricks:
hosts that look like others, answers and proxies that would lead a request elsewhere, and settings
that would smuggle something into one. What must see nothing is a real server that counts.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yarl
from pydantic import SecretStr
from self_signed import EXPIRED, PAIR

from qwen_rerank import Reranker, _endpoint, errors

_KEY = "sk-given-to-us-9b2e47a0c6d15f38"
_FOUND = "sk-found-somewhere-77c1e05a2b9d"
_ASKED = ("a query", ["a text"])
_SCORES = b'{"output":{"results":[{"index":0,"relevance_score":0.5}]},"request_id":"r"}'


@pytest.fixture(name="warm_up", params=["sync", "async"])
def _warm_up(request: pytest.FixtureRequest) -> Callable[[Reranker], None]:
    """Both colours of warming up, as one plain function."""
    if request.param == "sync":
        return Reranker.warm_up
    return lambda reranker: asyncio.run(reranker.awarm_up())


@pytest.fixture(name="found")
def _found(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that lies in the environment."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", _FOUND)
    return _FOUND


def _resolve(base_url: str | None = None, **options: Any) -> _endpoint.Endpoint:
    return _endpoint.resolve(
        **{
            "api_key": None,
            "base_url": base_url,
            "region": None,
            "workspace": None,
            "protocol": "dashscope",
            "allow_http": False,
            **options,
        }
    )


def _scoring(server: Any, connection: Any) -> None:
    server.answer(connection, _SCORES)


# Hosts that look like others

# Accepted, because a key may be passed for any host; but a found one is not for them.
_FOREIGN = [
    "dashscope.aliyuncs.com.evil.com",
    "evil-dashscope.aliyuncs.com",
    "bucket.oss-cn-beijing.aliyuncs.com",
    "maas.aliyuncs.com",
    "x.evilmaas.aliyuncs.com",
    "dashscope.aliyuncs.com.",
    "xn--dshscope-2fg.aliyuncs.com",  # a Cyrillic letter, as DNS spells it
    "localhost.evil.com",
    "localhost.",
    "127.1",
    "0.0.0.0",  # noqa: S104  not to be listened on
    "[::127.0.0.1]",
    "10.0.0.1",
    "gateway.example",
]


@pytest.mark.parametrize("host", _FOREIGN)
def test_look_alikes(found, host):
    """A host that merely looks like Alibaba Cloud or loopback gets no found key, nor plain http."""
    try:
        endpoint = _resolve(f"https://{host}/api/v1")
    except ValueError as error:
        assert "base_url" in str(error)  # noqa: PT017  refused is as safe
    else:
        assert found not in repr(endpoint.headers())
        assert not endpoint.local
    with pytest.raises(ValueError, match=r"base_url (is plain http.*allow_http=True|must look)"):
        _resolve(f"http://{host}/api/v1", api_key=SecretStr(_KEY))


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("https://evil.com\\@dashscope.aliyuncs.com/", "user name or password"),
        ("https://dashscope.aliyuncs.com%40evil.com/", "must look like"),
        ("https://evil.com\\.dashscope.aliyuncs.com/", "must look like"),
        ("https://dashscope\u3002aliyuncs\u3002com", "must look like"),  # ideographic full stops
        ("https://dashscope.aliyuncs.com\uff0fevil.com", "is not a URL"),  # a full-width slash
        ("https://evil.com\n.dashscope.aliyuncs.com", "must (look like|end with its path)"),
        ("https://[::1].evil.com/", "must look like|is not a URL"),
        ("https://evil.com#@dashscope.aliyuncs.com", "no query, fragment"),
    ],
)
def test_urls_that_mean_two_things(base_url, said):
    """A URL that two programs might read differently is refused."""
    with pytest.raises(ValueError, match=f"^base_url .*({said})") as caught:
        _resolve(base_url)

    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://DASHSCOPE.AliyunCS.com:443/api/v1",
        "https://dashscope-us.aliyuncs.com",
        "https://cn-hongkong.dashscope.aliyuncs.com",
        "https://llm_x.eu-central-1.maas.aliyuncs.com",
        "https://ws-1.cn-beijing.maas.aliyuncs.com/../../x/services/rerank/text-rerank/text-rerank",
        "https://dashscope.aliyuncs.com//evil.com/services/rerank/text-rerank/text-rerank/",
        "https://dashscope.aliyuncs.com/@evil.com/services/rerank/text-rerank/text-rerank/",
        "http://LOCALHOST:8000",
        "http://127.255.255.254",
        "http://[0:0:0:0:0:0:0:1]:8000",
    ],
)
def test_what_was_checked_is_what_is_called(found, base_url):
    """Wherever a found key goes, both http libraries read the same host as the check did."""
    endpoint = _resolve(base_url)

    host = urlsplit(base_url).hostname
    assert endpoint.headers()["authorization"] == f"Bearer {found}"
    assert httpx.URL(endpoint.url).host in {host, "::1"}
    assert yarl.URL(endpoint.url).host in {host, "::1"}
    assert httpx.URL(endpoint.origin).host in {host, "::1"}
    assert endpoint.local == base_url.startswith("http:")


def test_allow_http_cannot_be_taken_back_under_way():
    """As long as the URL is a plain one, it stays."""
    reranker = Reranker(api_key=_KEY, base_url="http://gateway.example", allow_http=True)

    with pytest.raises(ValueError, match="plain http"):
        reranker.allow_http = False
    assert reranker.allow_http


# What else is sent


def test_a_found_workspace_stays_at_home(monkeypatch):
    """A workspace that was found is named to Alibaba Cloud and this machine only."""
    monkeypatch.setenv("DASHSCOPE_WORKSPACE", "ws-found")
    header = "x-dashscope-workspace"

    assert _resolve("https://dashscope.aliyuncs.com", key_required=False).headers()[header]
    assert _resolve("http://127.0.0.1:1").headers()[header] == "ws-found"
    assert header not in _resolve("https://gateway.example").headers()
    assert _resolve("https://gateway.example", workspace="ws-1").headers()[header] == "ws-1"


def test_what_a_server_sees(serve, rank, monkeypatch):
    """A request carries the headers it needs, once each, and nothing of the environment."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", _FOUND)
    monkeypatch.setenv("LANGCHAIN_API_KEY", "lc-secret")
    server = serve(_scoring)

    rank(Reranker(base_url=f"http://{server.address}", api_key=f" {_KEY}\r\n"), *_ASKED)

    head, _, _ = server.requests[0].decode().partition("\r\n\r\n")
    headers = [line.partition(": ")[::2] for line in head.split("\r\n")[1:]]
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names))
    assert set(names) - {"connection"} == {
        *("host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"),
        "authorization",
    }
    assert f"Bearer {_KEY}" in dict(headers).values()
    assert _FOUND not in head
    assert "lc-secret" not in head


@pytest.mark.parametrize("own", [True, False], ids=["our own client", "the caller's"])
def test_redirects_lead_nowhere(serve, rank, clients, own):
    """No client takes key or documents to where an answer points, not even one told to follow."""
    elsewhere = serve(_scoring)
    there = f"location: http://{elsewhere.address}/api/v1"
    server = serve(lambda server, each: server.answer(each, b"", "308 Elsewhere", there))
    given = {} if own else clients(follow_redirects=True)
    reranker = Reranker(base_url=f"http://{server.address}", api_key=_KEY, max_retries=0, **given)

    with pytest.raises(errors.RerankError, match="Redirects are not followed") as caught:
        rank(reranker, *_ASKED)

    assert caught.value.status == 308
    assert elsewhere.address in str(caught.value)
    assert len(server.requests) == 1
    assert elsewhere.requests == []


@pytest.mark.parametrize("own", [True, False], ids=["our own client", "the caller's"])
def test_a_warm_up_shows_no_key(serve, warm_up, clients, own):
    """A warm-up opens a connection and asks nothing: no key goes out, whoever holds one."""
    server = serve(lambda server, connection: server.answer(connection))
    url = f"http://{server.address}"
    given = (
        {}
        if own
        else clients(
            headers={"authorization": f"Bearer {_KEY}"}, params={"key": _KEY}, cookies={"key": _KEY}
        )
    )

    warm_up(
        Reranker(base_url=url, api_key=_KEY, workspace="ws-1", headers={"x-api-key": _KEY}, **given)
    )

    assert len(server.requests) == 1
    assert server.requests[0].startswith(b"HEAD / HTTP/1.1")
    assert _KEY.encode() not in server.requests[0]
    assert b"authorization" not in server.requests[0].lower()
    assert b"ws-1" not in server.requests[0]


# Certificates


@pytest.fixture(name="secure")
def _secure(serve, tmp_path, request):
    """A server that speaks TLS as localhost."""
    (tmp_path / "pair.pem").write_text(getattr(request, "param", PAIR))
    return serve(_scoring, tmp_path / "pair.pem")


def _at(server: Any, host: str = "localhost", max_retries: int = 0) -> Reranker:
    return Reranker(base_url=f"https://{host}:{server.port}", api_key=_KEY, max_retries=max_retries)


def test_certificates_are_those_of_the_moment(monkeypatch, tmp_path, secure):
    """SSL_CERT_FILE says who may vouch; a server that nobody vouches for gets nothing."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pair.pem"))
    assert [hit.score for hit in _at(secure).rerank(*_ASKED)] == [0.5]
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(errors.ServiceError, match=r"SSL_CERT_FILE"):
        _at(secure).rerank(*_ASKED)

    assert len(secure.requests) == 1


@pytest.mark.parametrize(
    ("secure", "host", "hint"),
    [
        (PAIR, "127.0.0.1", "The certificate is for another name"),
        (EXPIRED, "localhost", "renew its certificate"),
    ],
    ids=["another name", "expired"],
    indirect=["secure"],
)
def test_a_certificate_that_is_known_and_wrong(monkeypatch, tmp_path, secure, host, hint):
    """One for another host, or of former times, opens nothing; who vouches is not blamed for it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pair.pem"))

    with pytest.raises(errors.ServiceError) as caught:
        _at(secure, host, max_retries=2).rerank(*_ASKED)

    assert hint in caught.value.hint
    assert "SSL_CERT_FILE" not in str(caught.value)
    assert not caught.value.retryable
    assert secure.requests == []
    assert len(secure._connections) == 1
