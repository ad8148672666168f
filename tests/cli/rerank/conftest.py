"""Every bulk job asks the emulator, and pauses are short."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bulk_files import Job


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses between tries are short."""
    monkeypatch.setattr("qwen_rerank._retry._FIRST", 0.001)
    monkeypatch.setattr("qwen_rerank.cli.rerank.bulk._growing", lambda _: 0.01)


@pytest.fixture(autouse=True)
def at_the_emulator(monkeypatch, emulator):
    """Key and host come from the environment, as they do for a user."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)


@pytest.fixture
def job(tmp_path):
    """A bulk job."""
    return Job(tmp_path)
