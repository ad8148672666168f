import httpx
import pytest

from qwen_rerank.emulator import Emulator


class Caller:
    """Asks one emulator over HTTP, in either format, with the key unless told otherwise."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.http = httpx.Client(trust_env=False, timeout=20.0)

    def post(self, url, *, key="sk-emulator", headers=None, **kwargs) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} | (headers or {})
        return self.http.post(url, headers=headers, **kwargs)

    @property
    def native_url(self):
        return f"{self.emulator.base_url}/services/rerank/text-rerank/text-rerank"

    @property
    def compatible_url(self):
        return f"{self.emulator.compatible_base_url}/reranks"

    def native(self, query="q", documents=("d",), *, model="qwen3-rerank", **parameters):
        given = {"query": query, "documents": list(documents)}
        body = {"model": model, "input": given, "parameters": parameters}
        return self.post(self.native_url, json=body)

    def compatible(self, query="q", documents=("d",), *, model="qwen3-rerank", **parameters):
        body = {"model": model, "query": query, "documents": list(documents), **parameters}
        return self.post(self.compatible_url, json=body)


@pytest.fixture(scope="session", name="session_caller")
def _session_caller():
    with Emulator() as emulator:
        caller = Caller(emulator)
        with caller.http:
            yield caller


@pytest.fixture(name="caller")
def _caller(session_caller):
    session_caller.emulator.clear()
    return session_caller


@pytest.fixture(name="emulator")
def _emulator(caller):
    return caller.emulator


@pytest.fixture(name="calling")
def _calling():
    """Start an emulator with options of the test's own, and return its caller."""
    started = []

    def calling(**options):
        caller = Caller(Emulator(**options).start())
        started.append(caller)
        return caller

    yield calling
    for caller in started:
        caller.http.close()
        caller.emulator.stop()
