"""`qwen-rerank doctor`: which values it uses, and where it says that each came from."""

import pytest
from self_signed import PAIR

_OPEN = "Qwen/Qwen3-Reranker-0.6B"


def test_defaults_and_the_environment(monkeypatch, look):
    """A key's last four characters are shown with its variable; defaults are called so."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    setup, _ = look()
    assert setup == {
        "key": ("...cdef", "the environment variable DASHSCOPE_API_KEY"),
        "region": ("cn-beijing", "default"),
        "host": ("dashscope.aliyuncs.com", "default"),
        "url": (
            "https://dashscope.aliyuncs.com/api/v1/services/rerank/text-rerank/text-rerank",
            None,
        ),
        "proxy": (None, None),
        "certificates": ("those of certifi", "default"),
        "workspace": (None, None),
        "headers": (None, None),
        "protocol": ("dashscope", "default"),
        "server": (None, None),
        "model": ("qwen3-rerank", "default"),
        "length": (None, None),
    }


def test_options(monkeypatch, look):
    """What an option says is shown as coming from it; of a header's value nothing is."""
    monkeypatch.setenv("MY_KEY", "sk-fedcba9876543210")
    monkeypatch.setenv("GATEWAY", "token-of-the-gateway")
    setup, said = look(
        *("--api-key-env", "MY_KEY", "--header-env", "X-Gateway=GATEWAY"),
        *("--region", "ap-southeast-1", "--workspace", "ws-1"),
        *("--model", "qwen3-vl-rerank", "--protocol", "compatible"),
    )
    assert setup["key"] == ("...3210", "the environment variable MY_KEY")
    assert setup["headers"] == ("x-gateway", "--header-env")
    assert "token-of-the-gateway" not in said
    assert setup["region"] == ("ap-southeast-1", "--region")
    assert setup["host"] == ("ws-1.ap-southeast-1.maas.aliyuncs.com", "--region")
    assert setup["workspace"] == ("ws-1", "--workspace")
    assert setup["protocol"] == ("compatible", "--protocol")
    assert setup["model"] == ("qwen3-vl-rerank", "--model")


def test_files(look, tmp_path):
    """The SDK's files are named."""
    folder = tmp_path / ".dashscope"
    folder.mkdir()
    (folder / "api_key").write_text("sk-0123456789abcdef\n")
    (folder / "config.toml").write_text('region = "cn-hongkong"\nworkspace = "ws-2"\n')
    setup, _ = look()
    assert setup["key"] == ("...cdef", "the key file ~/.dashscope/api_key")
    assert setup["region"] == ("cn-hongkong", "region in the dashscope config file")
    assert setup["workspace"] == ("ws-2", "workspace in the dashscope config file")


def test_proxies_and_certificates(monkeypatch, look, tmp_path):
    """Each is shown with the variable that names it; of a proxy no password."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("all_proxy", "socks5h://me:hunter2@proxy.example")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(PAIR)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    setup, _ = look()
    assert setup["proxy"] == (
        "socks5h://proxy.example:1080",
        "the environment variable all_proxy",
    )
    assert setup["certificates"] == (
        str(bundle),
        "the environment variable REQUESTS_CA_BUNDLE",
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "length", "found_in"),
    [
        ("vllm", ["--model", _OPEN], "32,768", "the server"),
        ("sglang", ["--model", _OPEN], "32,768", "the model's name"),
        ("sglang", ["--model", "mine"], "512", "a guess: set --max-model-len"),
        ("sglang", ["--model", "mine", "--max-model-len", "400"], "400", "--max-model-len"),
    ],
)
def test_lengths(look, emulator, kind, arguments, length, found_in):
    """Of a server of one's own it says how long a pair may be, and who says so."""
    there = ["--server", kind, "--base-url", emulator.server_url(kind)]
    setup, _ = look(*there, *arguments)
    assert setup["length"] == (f"{length} tokens for query and document", found_in)


@pytest.mark.parametrize(
    ("region", "model", "said"),
    [
        ("cn-beijing", "qwen3.7-text-rerank", None),
        ("cn-beijing", "qwen3-reranker", "Did you mean --model qwen3-rerank?"),
        ("us-east-1", "qwen3-rerank", "for us-east-1 (Virginia): whether one is served"),
        ("ap-southeast-1", "qwen3-rerank", None),
        ("ap-southeast-1", "qwen3.7-text-rerank", "lists qwen3-rerank for ap-southeast-1"),
    ],
)
def test_a_model_that_is_not_listed(monkeypatch, look, region, model, said):
    """Before anything is paid for it warns of a model that the vendor does not list there."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    _, out = look("--region", region, "--model", model)
    assert f"region {region} (" in out
    assert ("The vendor lists" in out or "the vendor documents" in out) is (said is not None)
    assert (said or "") in out
