"""`qwen-rerank doctor`: what it asks with, how long the way takes, and what it will cost."""

import socket
import ssl
from urllib.parse import urlsplit

import pytest
from proxies import Proxy, relay
from pydantic import SecretStr
from self_signed import PAIR
from visits import posts

from qwen_rerank._endpoint import Endpoint
from qwen_rerank.cli.doctor.probe import key_end
from qwen_rerank.emulator import Emulator


@pytest.mark.parametrize(
    ("over", "arguments"),
    [
        ("refuse", ["--protocol", "compatible"]),
        ("truncate", ["--model", "gte-rerank-v2"]),
    ],
)
@pytest.mark.usefixtures("live")
def test_what_it_announces_is_what_is_billed(visit, canary, over, arguments):
    """What is named first is billed to a tenth, whatever becomes of over-long documents.

    Where they are refused, how long one may be is narrowed down.
    """
    with Emulator(api_key=canary, over_long=over) as emulator:
        code, report, out = visit("--base-url", emulator.base_url, *arguments)
        sent = posts(emulator)
    billed, planned = sum(request.tokens or 0 for request in sent), report["planned"]
    found = report["over_long"]
    assert code == 0
    assert report["spent"]["tokens"] == billed
    assert len(sent) <= planned["requests"] <= len(sent) + 8
    assert planned["least_tokens" if over == "refuse" else "tokens"] == pytest.approx(billed, 0.1)
    assert report["spent"]["requests"] == sum(request.status == 200 for request in sent)
    if over == "refuse":
        assert found["answer"] == "refused"
        assert 3_800 < found["most_accepted"] <= 4_000 < found["least_refused"] < 4_200
        assert "Range of input length should be [1, 4000]" in out
    else:  # a model that speaks one protocol only, which is no problem
        assert report["protocols"]["answer"] == "refused"


def test_a_quote_within_a_key(monkeypatch, look):
    """One that stands inside may be meant, so it is shown beside the key's end."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-01234'56789abcdef")
    setup, _ = look()
    assert setup["key"][0] == "...cdef (with a quote in it)"


@pytest.mark.parametrize(
    ("key", "end"),
    [("abc", ""), ("abcdefgh", "gh"), ("sk-0123456789abcdef", "cdef")],
)
def test_no_more_than_a_quarter_of_a_key(key, end):
    """Of a short key less is shown; never more than four characters."""
    shown = Endpoint("http://x/", "x", local=False, api_key=SecretStr(key), workspace=None)
    assert key_end(shown) == end


@pytest.mark.parametrize("length", [1_000, 100])  # the shorter has no room for some questions
def test_what_it_announces_covers_a_server_of_ones_own(visit, length):
    """The template, which is billed with every pair, and a length that the server tells count."""
    with Emulator(max_model_len=length) as emulator:
        there = ["--server", "vllm", "--base-url", emulator.server_url("vllm")]
        _, report, out = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert 0 < report["spent"]["tokens"] <= report["planned"]["tokens"]
    assert f"{length:,} tokens for query and document" in out


class Encrypted(Proxy):
    """The server at *port*, behind TLS with the certificate in the file *pair*."""

    def __init__(self, port, pair):
        super().__init__({"localhost": port})
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair)

    def serve(self, client):
        """Hands on what is sent until one side ends."""
        with (
            self.context.wrap_socket(client, server_side=True) as encrypted,
            self.reach("localhost", 0) as server,
        ):
            relay(encrypted, server)


def test_encryption_is_timed(visit, asking, emulator, tmp_path, monkeypatch):
    """TLS has its own time."""
    asking("blanks")
    pair = tmp_path / "pair.pem"
    pair.write_text(PAIR)
    monkeypatch.setenv("SSL_CERT_FILE", str(pair))
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    behind = urlsplit(emulator.base_url)
    with Encrypted(behind.port, pair) as server:
        address = server.address.replace("127.0.0.1", "localhost")
        code, report, _ = visit("--base-url", f"https://{address}{behind.path}")
    assert code == 0
    assert all(report["reach"][step] > 0 for step in ("connect", "tls", "answer"))


def test_the_name_is_timed_too(monkeypatch, visit):
    """Of a host that is not this machine the look-up is measured by itself."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more)
    )
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    with Emulator() as emulator:
        base_url = emulator.base_url.replace("127.0.0.1", "gateway.example")
        _, report, out = visit("--base-url", base_url, "--allow-http")
    assert report["reach"]["look_up"] > 0
    assert report["setup"]["key"]["value"] is None  # a found key is not for this host
    assert "this machine alone: set --api-key-env" in out
