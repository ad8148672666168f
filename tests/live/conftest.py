"""The one place where the machine's settings reach a test: the key, and where it may be used.

The rest of the suite never sees them, because the fixture that cleans the environment runs before
each test. Here they are read when tests are collected, and put back after it.
"""

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from secrets_watch import Watch

from qwen_rerank import Reranker, _endpoint

_PLACE = (
    *("DASHSCOPE_BASE_URL", "DASHSCOPE_HTTP_BASE_URL", "DASHSCOPE_REGION", "DASHSCOPE_API_REGION"),
    *("DASHSCOPE_WORKSPACE", "DASHSCOPE_WORKSPACE_ID"),
)
_WAY = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_FOUND = {
    name: value
    for name, value in os.environ.items()
    if name.upper() in (*_WAY, *_PLACE, "DASHSCOPE_API_KEY")
}
_EMULATOR = os.environ.get("QWEN_RERANK_LIVE_URL")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what cannot be run without a key."""
    if "DASHSCOPE_API_KEY" not in _FOUND:
        reason = "no DASHSCOPE_API_KEY: DASHSCOPE_API_KEY=sk-... make live"
        for item in items:
            if item.get_closest_marker("live") is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _settings() -> dict[str, str]:
    """The environment of a live test; a UsageError says why there can be none."""
    if _EMULATOR is None:
        return _FOUND
    if not _is_loopback(urlsplit(_EMULATOR).hostname or ""):
        raise pytest.UsageError(
            "QWEN_RERANK_LIVE_URL is for an emulator on this machine; another host is named by "
            "DASHSCOPE_BASE_URL, DASHSCOPE_REGION and DASHSCOPE_WORKSPACE"
        )
    kept = {name: value for name, value in _FOUND.items() if name not in _PLACE}
    return kept | {"DASHSCOPE_BASE_URL": _EMULATOR}


@pytest.fixture(autouse=True)
def live_environment(
    clean_environment: None,  # noqa: ARG001  it runs before
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[None]:
    """Puts the settings back, fails what would be sent elsewhere, and watches the real key."""
    for name, value in _settings().items():
        monkeypatch.setenv(name, value)
    with Reranker() as reranker:
        host = reranker._resolve().host
    if _EMULATOR is None and _is_loopback(urlsplit(f"//{host}").hostname or ""):
        pytest.fail(
            f"{host} is no live service: unset DASHSCOPE_BASE_URL, or name an emulator with "
            "QWEN_RERANK_LIVE_URL"
        )
    resolve = _endpoint.resolve

    def only_there(**options: Any) -> _endpoint.Endpoint:
        endpoint = resolve(**options)
        assert endpoint.host == host, f"a live test would send to {endpoint.host}"
        return endpoint

    monkeypatch.setattr(_endpoint, "resolve", only_there)
    with Watch(_FOUND["DASHSCOPE_API_KEY"]) as watch:
        yield
        watch.look_below(tmp_path)
        assert watch.taken() == []


@pytest.fixture
def beijing() -> None:
    """Skips what only the region Beijing, or the emulator, offers."""
    with Reranker() as reranker:
        region = reranker._resolve().region
    if _EMULATOR is None and region != "cn-beijing":
        pytest.skip(f"the vendor lists this model for cn-beijing, not for {region}")
