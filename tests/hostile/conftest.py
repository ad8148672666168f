"""The corpus, a strict service whose scores can be told beforehand, and every way to call it."""

import asyncio
import importlib.util
import re
import unicodedata
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import Reranker
from qwen_rerank.emulator import Emulator

Pairs = list[tuple[int, float | None]]


def _score(query: str, document: str) -> float:
    """A number that tells any two pairs apart, so that no mix-up goes unseen."""
    size = str(len(query))
    digest = blake2b(f"{size} {query}{document}".encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def _sendable(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _is_blank(text: str) -> bool:
    return all(unicodedata.category(each) in {"Zs", "Zl", "Zp", "Cc", "Cf"} for each in text)


def _expected(query: str, texts: list[str]) -> Pairs:
    query = _sendable(query.strip())
    scores = [None if _is_blank(text) else _score(query, _sendable(text)) for text in texts]
    order = sorted(range(len(texts)), key=lambda at: (scores[at] is None, -(scores[at] or 0.0), at))
    return [(at, scores[at]) for at in order]


@pytest.fixture(scope="session", name="corpus")
def _corpus() -> Any:
    """The module next to this file; tests are no package, so it cannot be imported by name."""
    file = Path(__file__).with_name("corpus.py")
    spec = importlib.util.spec_from_file_location("hostile_corpus", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def _strict():
    with Emulator(score=_score, over_long="refuse", shuffle=True) as emulator:
        yield emulator


@pytest.fixture(name="strict")
def _fresh_strict(_strict: Emulator) -> Emulator:
    """A service that refuses over-long items instead of cutting them; its log is empty."""
    _strict.clear()
    return _strict


@pytest.fixture(name="options")
def _options(strict: Emulator) -> dict[str, Any]:
    """What points a reranker at the strict service, and keeps all candidates."""
    return {"base_url": strict.base_url, "api_key": strict.api_key, "top_n": None}


@pytest.fixture(name="score")
def _score_fixture() -> Callable[[str, str], float]:
    """The score that the strict service gives to a query and a text as they are sent."""
    return _score


@pytest.fixture(name="expected")
def _expected_fixture() -> Callable[[str, list[str]], Pairs]:
    """The right answer for texts that are not too long: positions and scores, best first."""
    return _expected


@pytest.fixture(name="is_blank")
def _is_blank_fixture() -> Callable[[str], bool]:
    """Whether a text holds nothing but spaces, control and format characters."""
    return _is_blank


@pytest.fixture(name="sendable")
def _sendable_fixture() -> Callable[[str], str]:
    """A text as it can be sent: with lone surrogates replaced."""
    return _sendable


def _called(reranker: Any, method: str, *arguments: Any, native: bool) -> Any:
    """What *method* of *reranker*, or its async twin, gives back; it is closed after that."""

    async def awaited() -> Any:
        async with reranker:
            return await getattr(reranker, f"a{method}")(*arguments)

    if native:
        return asyncio.run(awaited())
    with reranker:
        return getattr(reranker, method)(*arguments)


def _core(options: dict[str, Any], query: str, texts: list[str], *, native: bool) -> Pairs:
    ranking = _called(Reranker(**options), "rerank", query, texts, native=native)
    assert all(hit.document is texts[hit.index] for hit in ranking)
    return [(hit.index, hit.score) for hit in ranking]


def _langchain(options: dict[str, Any], query: str, texts: list[str], *, native: bool) -> Pairs:
    documents = [Document(text, metadata={"at": at}) for at, text in enumerate(texts)]
    reranker = langchain_qwen_rerank.QwenRerank(**options)
    answer = _called(reranker, "compress_documents", documents, query, native=native)
    assert all(each.page_content is texts[each.metadata["at"]] for each in answer)
    return [(each.metadata["at"], each.metadata.get("relevance_score")) for each in answer]


def _llama_index(options: dict[str, Any], query: str, texts: list[str], *, native: bool) -> Pairs:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
    places = {id(each.node): at for at, each in enumerate(nodes)}
    reranker = llama_index_qwen_rerank.QwenRerank(**options, metadata_mode=MetadataMode.NONE)
    bundle = QueryBundle(query)
    answer = _called(reranker, "postprocess_nodes", nodes, bundle, native=native)
    assert all(each.score == 0.5 for each in nodes)
    return [(places[id(each.node)], each.score) for each in answer]


@pytest.fixture(name="entrances")
def _entrances() -> dict[str, Callable[[dict[str, Any], str, list[str]], Pairs]]:
    """Core and doors, sync and native async: options, query and texts in, pairs out."""
    calls = {"core": _core, "LangChain": _langchain, "LlamaIndex": _llama_index}

    def entrance(call: Callable[..., Pairs], native: bool) -> Callable[..., Pairs]:
        return lambda options, query, texts: call(options, query, texts, native=native)

    return {
        f"{name}, {'async' if native else 'sync'}": entrance(call, native)
        for name, call in calls.items()
        for native in (False, True)
    }
