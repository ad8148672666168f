"""A clean environment for every test, and one emulator for all of them."""

import asyncio
import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from qwen_rerank.emulator import Emulator

sys.path.insert(0, str(Path(__file__).parent))
# A busy machine is no bug: no example is timed.
settings.register_profile("untimed", deadline=None, max_examples=50)
# The same examples for each mutant, and none looked for that is smaller.
settings.register_profile(
    "mutants",
    settings.get_profile("untimed"),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("untimed")
pytest_plugins = ["secrets_watch"]  # fails any test that lets the key out

_OURS_ALONE = ("DASHSCOPE_", "QWEN_RERANK_", "LANGCHAIN_", "LANGSMITH_")
_NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "WS_PROXY", "WSS_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


# What costs money or takes a package of half a gigabyte is run when it is asked for by its mark.
_ASKED_FOR = {
    "live": "asks the real service: DASHSCOPE_API_KEY=sk-... make live (tests/live/ says the cost)",
    "ray": "needs Ray, 550 MB: make ray",
}


# Whose tests tell the coverage. The others ask many inputs, or other processes, of ways that these
# cover: measuring them would take long and show nothing.
_MEASURED = ("cli", "core", "emulator", "frameworks", "servers")

# What is tested only where it is installed, as pieces of an import statement. `nox` runs the tests
# with either framework, both and none.
_ABSENT = [
    name
    for name, package in {
        "langchain": "langchain_core",
        "langchain.agents": "langchain_classic",  # the agents of LangChain 1.0 came with it
        "langgraph": "langgraph",
        "llama_index": "llama_index",
        "nbformat": "nbformat",
    }.items()
    if find_spec(package) is None
]
if "langchain.agents" in _ABSENT:
    with suppress(ImportError):  # what langchain-classic is, LangChain itself was before 1.0
        sys.modules["langchain_classic"] = import_module("langchain")
_NEEDS_ABSENT = re.compile(rf"^(?:from|import) (?:{'|'.join(_ABSENT)})", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out a test file that imports what is not installed, and a folder whose helpers do."""
    files = [collection_path]
    if collection_path.is_dir():
        files = [each for each in collection_path.glob("*.py") if not each.match("test_*")]
    elif collection_path.suffix != ".py":
        return None
    if _ABSENT and any(_NEEDS_ABSENT.search(each.read_text(encoding="utf-8")) for each in files):
        return True
    return None  # other rules may have a say


def pytest_report_header() -> str:
    """Says what is left out."""
    return f"not installed, so not tested: {', '.join(_ABSENT) or 'nothing'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what nobody asked for, and measures what it says above.

    That comes first: threads that live on are measured only if they began so. Of a mutant's tests
    the cheap ones come first: most will do.
    """
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] not in _MEASURED:
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: item.get_closest_marker("no_cover") is not None)
    if config.getoption("--hypothesis-profile", None) == "mutants":
        items.sort(key=lambda item: getattr(item.obj, "is_hypothesis_test", False))
    for name, reason in _ASKED_FOR.items():
        if re.search(rf"\b{name}\b", config.option.markexpr):
            continue
        for item in items:
            if item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def _no_loop_is_left_open() -> None:
    """In a thread where no loop was ever set, LlamaIndex makes one, which nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test: no key, no proxy, no certificates, no home."""
    for name in os.environ:
        if name.startswith(_OURS_ALONE) or name.upper() in _NETWORK:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def _emulator(canary: str):
    with Emulator(api_key=canary) as emulator:
        yield emulator


@pytest.fixture(name="emulator")
def _fresh_emulator(_emulator: Emulator) -> Emulator:
    """The emulator with an empty log and nothing scripted; starting one takes half a second."""
    _emulator.clear()
    return _emulator


@pytest.fixture(name="connection")
def _connection(emulator: Emulator) -> dict[str, str]:
    """The options that point any reranker at the emulator."""
    return {"base_url": emulator.base_url, "api_key": emulator.api_key}
