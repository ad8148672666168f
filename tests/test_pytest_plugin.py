"""The fixture that pytest finds in every environment that has this package."""

import subprocess
import sys

import pytest

pytest.importorskip("fastapi")

THEIRS = """
import pytest
from qwen_rerank import RateLimitError, Reranker

def test_first(qwen_rerank_emulator):
    qwen_rerank_emulator.fault("429-rate")
    with pytest.raises(RateLimitError):
        Reranker(max_retries=0).rerank("a car", ["a fast car"])

def test_second(qwen_rerank_emulator):
    assert len(qwen_rerank_emulator.log) == 0
    assert [hit.index for hit in Reranker().rerank("a car", ["tea", "a fast car"])] == [1, 0]
    assert len(qwen_rerank_emulator.log) == 1

    qwen_rerank_emulator.stop()

def test_after_it_was_stopped(qwen_rerank_emulator):
    assert len(qwen_rerank_emulator.log) == 0
    assert Reranker().rerank("a car", ["a fast car"])

def test_third(monkeypatch):
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    with pytest.raises(ValueError, match="no API key"):
        Reranker().rerank("a car", ["a fast car"])

@pytest.fixture
def their_settings():
    import dashscope
    settings = getattr(dashscope, "settings", dashscope)  # since 2.0
    dashscope.api_key = settings.api_key = "sk-of-the-program"
    dashscope.base_http_api_url = settings.base_url = "http://127.0.0.1:9/api/v1"

def test_fourth(their_settings, qwen_rerank_emulator):
    Reranker().rerank("a car", ["a fast car"])
    assert len(qwen_rerank_emulator.log) == 1

def test_fifth():
    import dashscope
    settings = getattr(dashscope, "settings", dashscope)
    assert dashscope.api_key == settings.api_key == "sk-of-the-program"
    assert dashscope.base_http_api_url == settings.base_url == "http://127.0.0.1:9/api/v1"
"""


@pytest.mark.slow
def test_their_tests(tmp_path):
    """A test asks for the emulator by its name; the next finds it clean, others nothing.

    It is asked even where a program has set another host in ``dashscope``, which has it back then.
    """
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "6 passed" in done.stdout, done.stdout


def test_costs_nothing_unused():
    """Until then nothing of this package is imported but its bare front door."""
    code = """if True:
        import sys, pytest
        before = set(sys.modules)
        import qwen_rerank.pytest_plugin
        print(sorted(set(sys.modules) - before))
    """
    done = subprocess.run(  # noqa: S603  likewise
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "['qwen_rerank', 'qwen_rerank.pytest_plugin']"
