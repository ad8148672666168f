"""The fixture for tests of programs that rerank, which pytest finds by itself. No test is here.

Pytest imports this at the start of every run in an environment that has this package, so nothing
else may be imported before a test asks for the fixture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qwen_rerank.emulator import Emulator

__all__ = ["qwen_rerank_emulator"]


@pytest.fixture(scope="session")
def _qwen_rerank_emulator() -> Iterator[Emulator]:
    from qwen_rerank.emulator import Emulator  # noqa: PLC0415  FastAPI, in half a second

    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def qwen_rerank_emulator(
    _qwen_rerank_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """The emulator, which every reranker made in this test asks unless it is told otherwise.

    A reranker made before, such as when a module was imported, asks what it found then.

    One runs for the whole session, in each worker of pytest-xdist; each test finds it running,
    even if one before stopped it, its log empty and nothing scripted or faulty.
    ``DASHSCOPE_BASE_URL`` and ``DASHSCOPE_API_KEY`` name it while the test runs, and so does the
    module ``dashscope`` if it was imported before: what a program has set there does not count. A
    reranker that is given a ``region`` or ``base_url`` asks that. It takes the extra ``emulator``.
    """
    if _qwen_rerank_emulator._running is None:  # a test stopped it
        _qwen_rerank_emulator.start()
    url, key = _qwen_rerank_emulator.base_url, _qwen_rerank_emulator.api_key
    monkeypatch.setenv("DASHSCOPE_BASE_URL", url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", key)
    if (sdk := sys.modules.get("dashscope")) is not None:  # its settings win over the environment
        monkeypatch.setattr(sdk, "base_http_api_url", url, raising=False)
        monkeypatch.setattr(sdk, "api_key", key, raising=False)
        if hasattr(sdk, "settings"):  # since 2.0; a new one, in which nothing is set
            monkeypatch.setattr(sdk, "settings", type(sdk.settings)())
    _qwen_rerank_emulator.clear()
    yield _qwen_rerank_emulator
    _qwen_rerank_emulator.clear()
