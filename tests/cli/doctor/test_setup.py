"""`qwen-rerank doctor`: which values it uses, and where it says that each came from."""

import io
import sys

import pytest
from self_signed import PAIR
from visits import flat, setup_of

from qwen_rerank.cli import main


def test_defaults_and_the_environment(capsys, monkeypatch, tmp_path):
    """A key's last four characters are shown with its variable; defaults are called so."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    setup = setup_of(capsys, monkeypatch, tmp_path)
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


def test_options(capsys, monkeypatch, tmp_path):
    """What an option says is shown as coming from it."""
    monkeypatch.setenv("MY_KEY", "sk-fedcba9876543210")
    arguments = ["--api-key-env", "MY_KEY", "--region", "ap-southeast-1", "--workspace", "ws-1"]
    setup = setup_of(
        capsys,
        monkeypatch,
        tmp_path,
        *arguments,
        *("--model", "qwen3-vl-rerank", "--protocol", "compatible"),
    )
    assert setup["key"] == ("...3210", "the environment variable MY_KEY")
    assert setup["region"] == ("ap-southeast-1", "--region")
    assert setup["host"] == ("ws-1.ap-southeast-1.maas.aliyuncs.com", "--region")
    assert setup["workspace"] == ("ws-1", "--workspace")
    assert setup["protocol"] == ("compatible", "--protocol")
    assert setup["model"] == ("qwen3-vl-rerank", "--model")


def test_files(capsys, monkeypatch, tmp_path):
    """The SDK's files are named."""
    folder = tmp_path / ".dashscope"
    folder.mkdir()
    (folder / "api_key").write_text("sk-0123456789abcdef\n")
    (folder / "config.toml").write_text('region = "cn-hongkong"\nworkspace = "ws-2"\n')
    setup = setup_of(capsys, monkeypatch, tmp_path)
    assert setup["key"] == ("...cdef", "the key file ~/.dashscope/api_key")
    assert setup["region"] == ("cn-hongkong", "region in the dashscope config file")
    assert setup["workspace"] == ("ws-2", "workspace in the dashscope config file")


def test_proxies_and_certificates(capsys, monkeypatch, tmp_path):
    """Each is shown with the variable that names it; of a proxy no password."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("all_proxy", "socks5h://me:hunter2@proxy.example")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(PAIR)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    setup = setup_of(capsys, monkeypatch, tmp_path)
    assert setup["proxy"] == (
        "socks5h://proxy.example:1080",
        "the environment variable all_proxy",
    )
    assert setup["certificates"] == (
        str(bundle),
        "the environment variable REQUESTS_CA_BUNDLE",
    )


@pytest.mark.parametrize(
    ("arguments", "where", "known"),
    [
        ([], "cn-beijing (Beijing)", True),
        (["--region", "us-east-1"], "us-east-1 (Virginia)", False),
    ],
)
def test_regions(capsys, monkeypatch, arguments, where, known):
    """A region is shown with its city, and that nobody knows whether one serves rerank."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", *arguments]) == 1
    out = flat(capsys.readouterr().out)
    assert f"region {where}" in out
    assert (f"lists no rerank model for {where}: whether one is served" in out) != known


def test_headers_of_a_gateway(visit, emulator, monkeypatch):
    """--header-env names a header and the variable with its value, as --api-key-env does a key."""
    monkeypatch.setenv("MY_KEY", emulator.api_key)
    monkeypatch.setenv("GATEWAY", "token-of-the-gateway")
    named = ["--header-env", "X-Gateway=GATEWAY", "--header-env", "x-team=MY_KEY"]
    code, report, out = visit("--base-url", emulator.base_url, "--api-key-env", "MY_KEY", *named)
    assert code == 0
    assert report["setup"]["key"]["found_in"] == "the environment variable MY_KEY"
    assert report["setup"]["host"]["found_in"] == "--base-url"
    assert report["setup"]["headers"] == {
        "value": "x-gateway, x-team",
        "found_in": "--header-env",
    }
    assert "x-gateway, x-team" in out
    assert "token-of-the-gateway" not in f"{out}{report}"
    assert emulator.log[-1].headers["x-gateway"] == "token-of-the-gateway"
