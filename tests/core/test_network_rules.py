"""Where nothing goes: the rules of the network, seen from outside by servers that count.

`test_endpoint.py` has the hosts that a key is for.
"""

import asyncio
from typing import Any

import pytest
from self_signed import EXPIRED, PAIR

from qwen_rerank import Reranker, errors

_KEY = "sk-given-to-us-9b2e47a0c6d15f38"
_FOUND = "sk-found-somewhere-77c1e05a2b9d"
_ASKED = ("a query", ["a text"])
_SCORES = b'{"output":{"results":[{"index":0,"relevance_score":0.5}]},"request_id":"r"}'


def _scoring(server: Any, connection: Any) -> None:
    server.answer(connection, _SCORES)


def test_allow_http_cannot_be_taken_back_under_way():
    """It is needed for as long as the URL is a plain one."""
    reranker = Reranker(api_key=_KEY, base_url="http://gateway.example", allow_http=True)

    with pytest.raises(ValueError, match="plain http"):
        reranker.allow_http = False
    assert reranker.allow_http


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
    """No client takes key or documents to where an answer points, not even one told to follow.

    A warm-up ends where it began, too.
    """
    elsewhere = serve(_scoring)
    there = f"location: http://{elsewhere.address}/api/v1"
    server = serve(lambda server, each: server.answer(each, b"", "308 Elsewhere", there))
    given = {} if own else clients(follow_redirects=True)
    reranker = Reranker(base_url=f"http://{server.address}", api_key=_KEY, max_retries=0, **given)

    reranker.warm_up()
    with pytest.raises(errors.RerankError, match="Redirects are not followed") as caught:
        rank(reranker, *_ASKED)

    assert caught.value.status == 308
    assert elsewhere.address in str(caught.value)
    assert len(server.requests) == 2
    assert elsewhere.requests == []


@pytest.mark.parametrize("own", [True, False], ids=["our own client", "the caller's"])
def test_a_warm_up_shows_no_key(serve, clients, own):
    """A warm-up opens a connection and asks nothing: no key goes out, whoever holds one."""
    server = serve(lambda server, connection: server.answer(connection))
    given = {"api_key": _KEY, "workspace": "ws-1", "headers": {"x-api-key": _KEY}}
    if not own:
        login = {"authorization": f"Bearer {_KEY}"}
        given |= clients(headers=login, params={"key": _KEY}, cookies={"key": _KEY})

    reranker = Reranker(base_url=f"http://{server.address}", **given)
    reranker.warm_up()
    asyncio.run(reranker.awarm_up())

    assert len(server.requests) == 2
    for request in server.requests:
        assert request.startswith(b"HEAD / HTTP/1.1")
        assert _KEY.encode() not in request
        assert b"authorization" not in request.lower()
        assert b"ws-1" not in request


@pytest.mark.parametrize(
    ("certificate", "host", "hint"),
    [
        (PAIR, "127.0.0.1", "The certificate is for another name"),
        (EXPIRED, "localhost", "renew its certificate"),
    ],
    ids=["another name", "expired"],
)
def test_a_certificate_that_is_known_and_wrong(
    monkeypatch, tmp_path, serve, certificate, host, hint
):
    """One for another host, or of former times, opens nothing; who vouches is not blamed for it."""
    (tmp_path / "pair.pem").write_text(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pair.pem"))
    server = serve(_scoring, tmp_path / "pair.pem")

    with pytest.raises(errors.ServiceError) as caught:
        Reranker(base_url=f"https://{host}:{server.port}", api_key=_KEY).rerank(*_ASKED)

    assert hint in caught.value.hint
    assert "SSL_CERT_FILE" not in str(caught.value)
    assert not caught.value.retryable
    assert server.requests == []
    assert len(server._connections) == 1
