"""Calls through proxies that answer: HTTP and SOCKS, with a login and without.

`test_route.py` has which proxy is taken. The proxies of `proxies.py` lead the name
``service.example``, which nobody else knows, to a server of the test.
"""

import socket
from contextlib import ExitStack
from urllib.parse import quote, urlsplit

import pytest
from proxies import HttpProxy, SocksProxy, relay
from self_signed import PAIR, SERVICE

from qwen_rerank import Reranker, errors

_KEY = "sk-given-to-us-9b2e47a0c6d15f38"
_LOGIN = ("me", "p@ss:word")
_HOST = "service.example"
_SCORES = b'{"output":{"results":[{"index":0,"relevance_score":0.5}]},"request_id":"r"}'
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(_SCORES)
_KINDS = {
    "http": HttpProxy,
    "socks5": SocksProxy,
    "socks5h": SocksProxy,
    "socks4": SocksProxy,
    "socks4a": SocksProxy,
}
# What each of them is asked for: those whose scheme ends in a letter look up names themselves.
_ASKED = {"socks5": "127.0.0.1:443", "socks4": "127.0.0.1:443", "http": f"CONNECT {_HOST}:443"}


@pytest.fixture(name="service")
def _service(monkeypatch, serve, tmp_path):
    """A server that speaks TLS as service.example, and keeps its connections open."""
    (tmp_path / "service.pem").write_text(SERVICE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "service.pem"))

    def behave(server, connection):
        while (request := server.read(connection)).strip():
            connection.sendall(_HEAD if request.startswith(b"HEAD") else _HEAD + _SCORES)

    return serve(behave, tmp_path / "service.pem")


@pytest.fixture(name="through")
def _through(monkeypatch, service):
    """Starts a proxy and names it in the environment; *told* is the login that the client has."""
    with ExitStack() as stack:

        def start(scheme, login=None, told=None, variable="HTTPS_PROXY", port=service.port):
            hosts = {_HOST: port, "127.0.0.1": port}
            proxy = stack.enter_context(_KINDS[scheme](hosts, login))
            user = f"{':'.join(map(quote, told))}@" if told else ""
            monkeypatch.setenv(variable, f"{scheme}://{user}{proxy.address}")
            return proxy

        yield start


def _reranker(base_url=f"https://{_HOST}", **options):
    return Reranker(base_url=base_url, api_key=_KEY, max_retries=0, **options)


# Answers


@pytest.mark.parametrize("scheme", _KINDS)
def test_a_ranking_through_a_proxy(monkeypatch, through, service, scheme):
    """Each kind of proxy is gone through, with its login, and keeps one line for many calls.

    A warm-up opens it. Who looks up the host's name, the proxy or we, is said by the scheme.
    """
    look_up = socket.getaddrinfo

    def known_here(host, *arguments, **options):
        return look_up("127.0.0.1" if host == _HOST else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", known_here)
    proxy = through(scheme, _LOGIN, told=_LOGIN)

    with _reranker() as reranker:
        reranker.warm_up()
        scores = [hit.score for _ in range(3) for hit in reranker.rerank("a query", ["a text"])]

    assert scores == [0.5] * 3
    assert proxy.asked == [_ASKED.get(scheme, f"{_HOST}:443")]
    requests = [request for request in service.requests if request.strip()]
    assert [request.split(b" ")[0] for request in requests] == [b"HEAD", b"POST", b"POST", b"POST"]
    assert all(b"proxy-" not in request.lower() for request in requests)
    assert not any(_KEY in head for head in proxy.heads)


def test_plain_http_through_a_proxy(through, emulator):
    """What goes over plain http is handed to the proxy, which alone sees its own login."""
    port = urlsplit(emulator.base_url).port
    proxy = through("http", _LOGIN, told=_LOGIN, variable="HTTP_PROXY", port=port)
    reranker = Reranker(base_url=f"http://{_HOST}", api_key=emulator.api_key, allow_http=True)

    assert len(reranker.rerank("a query", ["a text", "another"])) == 2
    [asked] = proxy.asked
    assert asked.startswith(f"POST http://{_HOST}/api/v1/")
    assert "proxy-authorization" not in emulator.log[-1].headers


# Wrong settings, which are no outage


@pytest.mark.parametrize(
    ("scheme", "url"),
    [("http", f"https://{_HOST}"), ("http", f"http://{_HOST}"), ("socks5h", f"https://{_HOST}")],
)
def test_a_login_that_the_proxy_does_not_take(through, shown, scheme, url):
    """That is no refusal of the service's: the variable is named, and nothing is passed through.

    No password is shown.
    """
    proxy = through(scheme, _LOGIN, told=("me", "hunter2"), variable="all_proxy")

    with pytest.raises(errors.AuthenticationError) as caught:
        _reranker(url, allow_http=True, on_error="passthrough").rerank("a query", ["a text"])

    assert f"The proxy {scheme}://{proxy.address} refuses" in str(caught.value)
    assert "variable all_proxy: check user, password" in caught.value.hint
    assert "hunter2" not in shown(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("all_proxy", "ftp://me:hunter2@proxy.example", "has a scheme that is not known"),
        ("SSL_CERT_FILE", "/hunter2-is-not-there.pem", "cannot be read"),
    ],
)
def test_settings_that_cannot_be_followed(monkeypatch, service, variable, value, said):
    """A wrong variable is named before anything is sent, also under passthrough."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(errors.RequestError, match=f"^{variable} .*{said}"):
        _reranker(on_error="passthrough").rerank("a query", ["a text"])

    assert service.requests == []


# Outages, which are the proxy's


def _closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("scheme", "address"),
    [("http", "127.0.0.1:{}"), ("https", "proxy.invalid:{}"), ("socks5", "proxy.invalid:{}")],
)
def test_a_proxy_that_is_not_there(monkeypatch, scheme, address):
    """A proxy that is down or not known is named with its variable, and the host is not."""
    address = address.format(_closed_port())
    monkeypatch.setenv("https_proxy", f"{scheme}://me:hunter2@{address}")

    with pytest.raises(errors.ServiceError) as caught:
        _reranker().rerank("a query", ["a text"])

    assert f"The proxy {scheme}://{address} cannot be reached: " in str(caught.value)
    assert caught.value.hint.startswith("It is named by the environment variable https_proxy")
    assert _HOST not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    degraded = _reranker(on_error="passthrough").rerank("a query", ["a text"]).degraded
    assert str(degraded) == str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_a_host_that_the_proxy_cannot_reach(through, scheme):
    """Where the proxy gets no further, both are named."""
    proxy = through(scheme)

    with pytest.raises(errors.ServiceError) as caught:
        _reranker("https://elsewhere.example").rerank("a query", ["a text"])

    assert f"The proxy {scheme}://{proxy.address} cannot reach the host: " in str(caught.value)
    assert "variable HTTPS_PROXY" in caught.value.hint


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_hangs_up(serve, monkeypatch, scheme):
    """A proxy that breaks off is an outage."""
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{serve(lambda *_: None).address}")

    with pytest.raises(errors.ServiceError) as caught:
        _reranker().rerank("a query", ["a text"])

    assert "HTTPS_PROXY" in caught.value.hint


def test_a_proxy_that_is_called_over_https(through, monkeypatch, tmp_path, serve):
    """A proxy's own certificate is looked at as a server's is."""
    (tmp_path / "pair.pem").write_text(PAIR)
    behind = through("http")

    def behave(_, connection):
        with socket.create_connection(behind.server_address, 10) as inner:
            relay(connection, inner)

    port = serve(behave, tmp_path / "pair.pem").port
    monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{port}")

    with pytest.raises(errors.ServiceError, match="cannot be reached: ") as caught:
        _reranker().rerank("a query", ["a text"])

    assert caught.value.hint.startswith("The certificate is not trusted here: set SSL_CERT_FILE")
    assert not caught.value.retryable
    assert behind.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
    (tmp_path / "both.pem").write_text(SERVICE + PAIR)
    assert len(_reranker().rerank("a query", ["a text"])) == 1
    assert behind.asked == [f"CONNECT {_HOST}:443"]


def test_a_host_that_this_machine_does_not_know(through):
    """With socks5, whose client looks names up, an unknown name is not the proxy's fault."""
    through("socks5")

    with pytest.raises(errors.ServiceError, match=f"No answer from {_HOST}") as caught:
        _reranker().rerank("a query", ["a text"])

    assert f"The name {_HOST}, which comes from base_url=, is not known here" in caught.value.hint
