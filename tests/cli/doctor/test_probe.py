"""`qwen-rerank doctor`: what it asks with, how long the way takes, and what it will cost."""

import io
import json
import socket
import socketserver
import ssl
import sys
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from proxies import relay
from pydantic import SecretStr
from self_signed import PAIR
from visits import flat, posts, settle, setup_of

from qwen_rerank._endpoint import Endpoint
from qwen_rerank.cli import main
from qwen_rerank.cli.doctor.probe import key_end
from qwen_rerank.emulator import Emulator, Reply


@pytest.mark.parametrize(
    ("model", "protocol", "over"),
    [
        ("qwen3-rerank", "dashscope", "truncate"),
        ("qwen3-rerank", "compatible", "refuse"),
        ("gte-rerank-v2", "dashscope", "truncate"),
    ],
)
def test_what_it_announces_is_what_is_billed(monkeypatch, visit, protocol, over, model, canary):
    """What is named first is billed to a tenth, whatever becomes of over-long documents."""
    with Emulator(api_key=canary, over_long=over) as emulator:
        settle(monkeypatch, emulator)
        _, report, _ = visit("--model", model, "--protocol", protocol)
        sent = posts(emulator)
    billed, planned = sum(request.tokens or 0 for request in sent), report["planned"]
    assert report["spent"]["tokens"] == billed
    assert len(sent) <= planned["requests"] <= len(sent) + 8
    assert planned["least_tokens" if over == "refuse" else "tokens"] == pytest.approx(billed, 0.1)
    assert report["spent"]["requests"] == sum(request.status == 200 for request in sent)


@pytest.mark.parametrize(
    ("region", "model", "said"),
    [
        ("ap-southeast-1", "qwen3.7-text-rerank", "lists qwen3-rerank for ap-southeast-1"),
        ("ap-southeast-1", "qwen3-rerank", None),
        ("cn-beijing", "qwen3.7-text-rerank", None),
        ("cn-beijing", "qwen3-reranker", "Did you mean --model qwen3-rerank?"),
    ],
)
def test_a_model_that_is_not_listed(capsys, monkeypatch, region, model, said):
    """Before anything is paid for it warns of a model that the vendor does not list there."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", "--region", region, "--model", model]) == 1
    out = flat(capsys.readouterr().out)
    assert (said or "url") in out
    assert ("The vendor lists" in out or "documents. Did you" in out) is (said is not None)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("'sk-0123456789abcdef'", "has quotes around it, '***': leave"),
        ("sk-01234 56789abcdef", "holds a blank that no HTTP header can carry: *** ***"),
        ("sk-01234\u00a056789abcdef", "can carry: ***\\xa0***"),
    ],
)
def test_a_key_that_was_pasted_with_more(capsys, monkeypatch, key, shape):
    """Quotes and blanks of a key are shown where they stand, and nothing else of it."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", key)
    assert main(["doctor", "--yes"]) == 1
    out = flat(capsys.readouterr().out)
    assert shape in out
    assert "the environment variable DASHSCOPE_API_KEY" in out
    assert "56789" not in out


def test_a_quote_within_a_key(capsys, monkeypatch, tmp_path):
    """One that stands inside may be meant, so it is shown beside the key's end."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-01234'56789abcdef")
    assert setup_of(capsys, monkeypatch, tmp_path)["key"][0] == "...cdef (with a quote in it)"


@pytest.mark.parametrize(
    ("protocol", "model", "answer"),
    [
        ("dashscope", "qwen3-rerank", "same"),
        ("dashscope", "gte-rerank-v2", "refused"),
    ],
)
def test_the_other_protocol(live, visit, protocol, model, answer):
    """The same list is asked by the other protocol too, and what it says is no problem."""
    code, report, _ = visit("--protocol", protocol, "--model", model)
    found = report["protocols"]
    assert (code, found["answer"]) == (0, answer)
    assert found["difference"] == (0 if answer == "same" else None)
    asked = {"compatible" in request.path for request in posts(live)}
    assert asked == {True, False}


@pytest.mark.parametrize(
    ("key", "end"),
    [(None, None), ("abc", ""), ("abcdefgh", "gh"), ("sk-0123456789abcdef", "cdef")],
)
def test_no_more_than_a_quarter_of_a_key(key, end):
    """Of a short key less is shown; never more than four characters."""
    secret = None if key is None else SecretStr(key)
    shown = Endpoint("http://x/", "x", local=False, api_key=secret, workspace=None)
    assert key_end(shown) == end


@pytest.mark.parametrize("length", [1_000, 100])  # the shorter has no room for some questions
def test_what_it_announces_covers_a_server_of_ones_own(visit, length):
    """The template, which is billed with every pair, and a length that the server tells count."""
    with Emulator(max_model_len=length) as emulator:
        there = ["--server", "vllm", "--base-url", emulator.server_url("vllm")]
        _, report, out = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert 0 < report["spent"]["tokens"] <= report["planned"]["tokens"]
    assert f"{length:,} tokens for query and document" in out


class Encrypting(socketserver.ThreadingTCPServer):
    """The emulator as localhost, behind TLS with the certificate in the file *pair*."""

    daemon_threads = True

    def __init__(self, emulator, pair):
        super().__init__(("127.0.0.1", 0), None)
        pair.write_text(PAIR)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair)
        self.behind = urlsplit(emulator.base_url)
        self.base_url = f"https://localhost:{self.server_address[1]}{self.behind.path}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def finish_request(self, request, _):
        """Hands on what is sent until one side ends."""
        address = (self.behind.hostname, self.behind.port)
        with (
            suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as client,
            socket.create_connection(address) as server,
        ):
            relay(client, server)


@pytest.fixture
def encrypted(monkeypatch, emulator, tmp_path):
    """The base URL of one, which the key found is for."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    with Encrypting(emulator, tmp_path / "pair.pem") as server:
        server.thread.start()
        yield server.base_url
        server.shutdown()
        server.thread.join()


def test_a_certificate_that_is_not_trusted(visit, encrypted):
    """A certificate of nobody ends in the setting that would vouch for it."""
    code, report, out = visit("--base-url", encrypted)
    assert code == 1
    assert report["problems"][0]["during"] == "reachability"
    assert "The certificate is not trusted here: set SSL_CERT_FILE" in out


def test_encryption_is_timed_and_words_are_tamed(visit, encrypted, emulator, tmp_path, monkeypatch):
    """TLS has its own time, and what a server says can neither draw nor hide."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pair.pem"))
    said = "\x1b[2J\u202e[/bold] who?"
    emulator.script(Reply(), Reply.error(401, "InvalidApiKey", said, repeat=None))
    code, report, out = visit("--base-url", encrypted)
    assert code == 1
    assert all(report["reach"][step] > 0 for step in ("connect", "tls", "answer"))
    assert "[/bold] who?" in out
    assert out.isprintable()
    assert report["problems"][0]["status"] == 401


def test_the_name_is_timed_too(monkeypatch, tmp_path, capsys):
    """Of a host that is not this machine the look-up is measured by itself."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more)
    )
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    file = tmp_path / "report.json"
    with Emulator() as emulator:
        base_url = emulator.base_url.replace("127.0.0.1", "gateway.example")
        arguments = ["--base-url", base_url, "--allow-http", "--json", str(file), "--yes"]
        assert main(["doctor", *arguments]) == 1
    report = json.loads(file.read_text())
    assert report["reach"]["look_up"] > 0
    assert report["setup"]["key"]["value"] is None  # a found key is not for this host
    assert "this machine alone: set --api-key-env" in flat(capsys.readouterr().out)
