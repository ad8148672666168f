"""The live tests themselves: that they run, against what they run, and what they would cost."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(name="live")
def _live() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the live tests with these variables."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  our own interpreter, our own tests
            [
                *(sys.executable, "-m", "pytest", "tests/live", "-q", "-rs"),
                *("-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", *arguments),
            ],
            cwd=ROOT,
            # Half of the time would go into plugins that nobody asked for.
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_they_pass_against_the_emulator(live, emulator):
    """All of them run, none is skipped, and they cost what their docstring says."""
    pytest.importorskip("langchain_core")
    pytest.importorskip("llama_index")
    done = live(
        *("-m", "live"),
        QWEN_RERANK_LIVE_URL=emulator.base_url,
        DASHSCOPE_API_KEY=emulator.api_key,
        DASHSCOPE_BASE_URL="https://dashscope.aliyuncs.com/api/v1",  # not this one
    )

    assert done.returncode == 0, done.stdout
    assert re.search(r"\n\d\d passed in", done.stdout)
    said = (ROOT / "tests/live/test_live.py").read_text()
    fewest, most = map(int, re.search(r"sends (\d+) to (\d+) requests", said).groups())
    tokens = int(re.search(r"about ([\d,]+) tokens", said)[1].replace(",", ""))
    asked = [request for request in emulator.log if request.method == "POST"]
    assert fewest <= len(asked) <= most
    assert 0.8 * tokens < sum(request.tokens or 0 for request in asked) < tokens


@pytest.mark.slow
def test_they_are_skipped_unless_asked_for(live, emulator):
    """With a key in the environment alone nothing is sent; the reason says how to run them."""
    done = live(QWEN_RERANK_LIVE_URL=emulator.base_url, DASHSCOPE_API_KEY=emulator.api_key)

    assert done.returncode == 0
    assert re.search(r"\n\d\d skipped in", done.stdout)
    assert "DASHSCOPE_API_KEY=sk-... make live" in done.stdout
    assert emulator.log == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "no DASHSCOPE_API_KEY: DASHSCOPE_API_KEY=sk-... make live"),
        (
            {
                "DASHSCOPE_API_KEY": "sk-0123456789abcdef",
                "QWEN_RERANK_LIVE_URL": "https://dashscope.aliyuncs.com/api/v1",
            },
            "QWEN_RERANK_LIVE_URL is for an emulator on this machine",
        ),
        (
            {
                "DASHSCOPE_API_KEY": "sk-0123456789abcdef",
                "DASHSCOPE_BASE_URL": "http://127.0.0.1:9/api/v1",
            },
            "127.0.0.1:9 is no live service",
        ),
    ],
    ids=["no key", "a live URL that is none of ours", "an emulator that is left over"],
)
def test_they_refuse_what_is_no_live_service(live, variables, said):
    """Without a key, or pointed elsewhere than the environment says, no test calls anything."""
    done = live("-m", "live", "-k", "test_the_core", **variables)

    assert said in done.stdout
    assert "passed" not in done.stdout
