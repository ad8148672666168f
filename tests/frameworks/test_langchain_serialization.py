"""LangChain's own serialisation."""

import inspect
import json
from pathlib import Path

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps, loads
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableLambda

from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever, WithMetadata
from qwen_rerank.emulator import Emulator

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"
)

QUERY = "a fast red sports car"
DOCUMENTS = [Document("green tea"), Document("a red sports car"), Document("a hill")]
SECRET = {"lc": 1, "type": "secret", "id": ["DASHSCOPE_API_KEY"]}


# Releases before 1.2.5, and before 0.3.81, load every class of a namespace that is named.
_NAMES_CLASSES = "allowed_objects" in inspect.signature(loads).parameters
_TRUSTED = {"valid_namespaces": ["langchain_qwen_rerank"]} | (
    {"allowed_objects": [QwenRerank]} if _NAMES_CLASSES else {}
)


def loaded(text, **options):
    """What LangChain makes of *text*, if it is told to trust this package."""
    return loads(text, **_TRUSTED, **options)


def test_the_key_is_a_reference(connection, monkeypatch):
    """A dump names the key, as LangChain's secrets are named, and does not hold it.

    LangChain finds it in the environment if it is told to; if not, we do.
    """
    text = dumps(QwenRerank(**connection))

    assert json.loads(text)["id"] == ["langchain_qwen_rerank", "compressor", "QwenRerank"]
    assert json.loads(text)["kwargs"]["api_key"] == SECRET
    assert connection["api_key"] not in text
    assert "local_files" not in json.loads(text)["kwargs"]  # none was given
    monkeypatch.setenv("DASHSCOPE_API_KEY", connection["api_key"])
    for again in (loaded(text, secrets_from_env=True), loaded(text)):
        assert len(again.compress_documents(DOCUMENTS, QUERY)) == 3


def test_without_a_key(emulator: Emulator, monkeypatch):
    """An object that found its key in the environment has none to refer to, and finds it again."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)

    text = dumps(QwenRerank(base_url=emulator.base_url))

    assert "api_key" not in json.loads(text)["kwargs"]
    assert emulator.api_key not in text
    assert len(loaded(text).compress_documents(DOCUMENTS, QUERY)) == 3


_OPTIONS = {
    "model": "gte-rerank-v2",
    "top_n": 1,
    "instruct": "\u627e\u8f66",
    "score_threshold": 0.125,
    "timeout": 90,
    "long_documents": "split",
    "image_key": "picture",
    "local_files": Path("/srv/\u56fe"),
}


def test_options_survive(connection):
    """Loaded with its secrets, it has the options that it was made with, and works as before.

    Caches, clients, functions and limiters are no values, and a loaded object has none.
    """
    with httpx.Client() as client:
        alive = {
            "cache": {},
            "http_client": client,
            "item": WithMetadata("title"),
            "rate_limiter": InMemoryRateLimiter(),
        }
        text = dumps(QwenRerank(**connection, **_OPTIONS, **alive))

    again = loaded(text, secrets_map={"DASHSCOPE_API_KEY": connection["api_key"]})

    assert {name: getattr(again, name) for name in _OPTIONS} == _OPTIONS
    assert not json.loads(text)["kwargs"].keys() & alive.keys()
    assert [getattr(again, name) for name in alive] == [None] * len(alive)
    assert len(again.compress_documents(DOCUMENTS, QUERY)) == 1


def test_inside_what_cannot_be_dumped(connection):
    """A retriever is dumped as what it looks like; the key is not in that either."""
    base = RunnableLambda(lambda _: DOCUMENTS)

    text = dumps(QwenRerankRetriever(base_retriever=base, reranker=QwenRerank(**connection)))

    assert json.loads(text)["type"] == "not_implemented"
    assert connection["api_key"] not in text
