"""The ranker for Haystack, in Haystack's own pipelines."""

import asyncio
import os
import sys

import pytest
from example_scripts import example, run

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
pytest.importorskip("haystack")
from haystack import Document, Pipeline
from haystack.core.serialization import allow_deserialization_module
from haystack.utils import Secret

QUERY = "Which animal sleeps upside down?"
FACTS = ["A bear sleeps through the winter.", "A bat sleeps upside down.", None]


@pytest.fixture(name="ranker")
def _ranker(connection, monkeypatch):
    monkeypatch.setenv("RANKER_KEY", connection["api_key"])
    key = Secret.from_env_var("RANKER_KEY")
    return example("haystack_ranker").QwenRanker(
        api_key=key, base_url=connection["base_url"], model="gte-rerank-v2"
    )


@pytest.fixture(name="asked")
def _asked():
    documents = [Document(id=str(at), content=fact) for at, fact in enumerate(FACTS)]
    return {"ranker": {"query": QUERY, "documents": documents}}


def _pipeline(ranker):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    return pipeline


def _order(answer):
    return [document.id for document in answer["ranker"]["documents"]]


def test_script(capsys):
    """It finds two facts with Haystack's own retriever, and the one that answers is first."""
    assert run("haystack_ranker") == 0

    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines()] == ["bat", "bear"]


def test_awaited_and_not(ranker, asked):
    """A pipeline ranks alike, awaited or not; what has no text comes last, without a score.

    A call may want fewer documents than the ranker.
    """
    pipeline = _pipeline(ranker)
    answer = pipeline.run(asked)

    assert _order(answer) == _order(asyncio.run(pipeline.run_async(asked))) == ["1", "0", "2"]
    first, second, last = (document.score for document in answer["ranker"]["documents"])
    assert first > second > 0
    assert last is None
    assert [document.score for document in asked["ranker"]["documents"]] == [None] * 3
    asked["ranker"]["top_k"] = 1
    assert _order(pipeline.run(asked)) == ["1"]


def test_yaml(ranker, asked, connection, monkeypatch):
    """A pipeline survives its YAML with all options, and the key is not in there."""
    module = type(ranker).__module__
    allow_deserialization_module(module)
    monkeypatch.setitem(sys.modules, module, example("haystack_ranker"))
    text = _pipeline(ranker).dumps()

    assert connection["api_key"] not in text
    again = Pipeline.loads(text)
    assert again.get_component("ranker").options == ranker.options
    assert _order(again.run(asked)) == ["1", "0", "2"]
