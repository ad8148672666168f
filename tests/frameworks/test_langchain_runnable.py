"""The reranker as a step of LCEL chains."""

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_qwen_rerank import QwenRerank
from qwen_rerank import RequestError
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"
TEXTS = ["green tea", "a red sports car", "the car is fast", "a fast red sports car", "a hill"]
DOCUMENTS = [Document(text, id=str(at)) for at, text in enumerate(TEXTS)]
ASKED = {"query": QUERY, "documents": DOCUMENTS}


@pytest.fixture(name="reranker")
def _reranker(connection):
    with QwenRerank(top_n=3, max_retries=0, **connection) as reranker:
        yield reranker


@pytest.fixture(name="step")
def _step(reranker):
    return reranker.as_runnable()


def configured(**options) -> RunnableConfig:
    """The config of a call with these options."""
    return {"configurable": options}


def texts(documents):
    """What *documents* say, in their order."""
    return [document.page_content for document in documents]


# What it does


def test_ranks(invoke, reranker, step):
    """It gives what `compress_documents` gives: ids and scores are there."""
    ranked = invoke(step, ASKED)

    assert isinstance(step, Runnable)
    assert ranked == reranker.compress_documents(DOCUMENTS, QUERY)
    assert ranked[0].id == "3"
    assert [each.metadata for each in DOCUMENTS] == [{}] * len(DOCUMENTS)


def test_schemas(step):
    """Its schemas say what it takes and gives, as a LangServe route or a form needs them."""
    asked, answered = step.get_input_jsonschema(), step.get_output_jsonschema()

    assert asked["$defs"]["Asked"]["required"] == ["query", "documents"]
    assert "page_content" in asked["$defs"]["Document"]["properties"]
    assert answered["items"]["$ref"].endswith("/Document")


def test_declared_options(reranker):
    """The options of one call are declared with types, descriptions and the reranker's values."""
    reranker.instruct = "Find cars."
    step = reranker.as_runnable("rerank")

    declared = step.get_config_jsonschema()["$defs"]["Configurable"]["properties"]

    kinds = {
        name: field.get("type") or {kind["type"] for kind in field["anyOf"]}
        for name, field in declared.items()
    }
    assert kinds == {
        "rerank_model": "string",
        "rerank_top_n": {"integer", "null"},
        "rerank_instruct": {"string", "null"},
        "rerank_score_threshold": {"number", "null"},
    }
    assert all(len(field["description"]) > 20 for field in declared.values())
    assert {field["default"] for field in declared.values()} == {
        *("qwen3-rerank", 3, "Find cars.", None)
    }


def test_declared_in_a_chain(invoke, reranker, emulator: Emulator):
    """A chain declares the options of its steps, once for each prefix.

    The bare names are left to others, such as the chat model of the chain.
    """
    coarse, fine = reranker.as_runnable("coarse"), reranker.as_runnable("fine_")
    chain = RunnablePassthrough.assign(documents=coarse) | RunnableLambda(dict) | fine | texts
    names = {spec.id for spec in chain.with_config(tags=["mine"]).config_specs}

    assert {name.partition("_")[0] for name in names} == {"coarse", "fine"}
    assert len(names) == 8
    assert {spec.id for spec in reranker.as_runnable().config_specs} == {
        *("model", "top_n", "instruct", "score_threshold")
    }
    config = configured(coarse_top_n=2, fine_top_n=1, top_n=3, model="qwen-max")
    assert invoke(chain, ASKED, config) == [QUERY]
    assert {seen.body["model"] for seen in emulator.log} == {"qwen3-rerank"}


# Options of one call


def test_options_of_one_call(invoke, step, reranker, emulator: Emulator):
    """The config of a call holds for that call alone, and for what a trace says of it."""
    collector = RunCollectorCallbackHandler()
    config = configured(model="gte-rerank-v2", instruct="Find cars.", top_n=1, thread_id="7")

    assert len(invoke(step, ASKED, {**config, "callbacks": [collector]})) == 1
    assert len(invoke(step, ASKED)) == 3
    assert len(invoke(step, ASKED, configured(top_n=None))) == len(DOCUMENTS)

    first, second, _ = (seen.body for seen in emulator.log)
    assert (first["model"], first["parameters"]["instruct"]) == ("gte-rerank-v2", "Find cars.")
    assert (second["model"], second["parameters"].get("instruct")) == ("qwen3-rerank", None)
    assert (reranker.model, reranker.instruct, reranker.top_n) == ("qwen3-rerank", None, 3)
    [rerank] = collector.traced_runs[0].child_runs
    assert rerank.extra["metadata"]["ls_model_name"] == "gte-rerank-v2"


async def test_streams(step):
    """It streams one piece, by either way, and lets a chain's later steps stream."""
    config = configured(top_n=2)

    assert [len(piece) for piece in step.stream(ASKED, config)] == [2]
    assert [len(piece) async for piece in step.astream(ASKED, config)] == [2]
    assert list((step | RunnableLambda(len)).stream(ASKED)) == [3]


# Wrong calls


@pytest.mark.parametrize(
    ("asked", "top_n", "said"),
    [
        (ASKED, 0, "^top_n: "),
        ({"query": QUERY, "documents": []}, 0, "^top_n: "),
        (QUERY, 3, 'a dict with "query" and "documents" is needed, not str'),
        ({"query": QUERY}, 3, "has no 'documents'"),
        ({"documents": DOCUMENTS}, 3, "has no 'query'"),
    ],
    ids=["option", "option though empty", "text", "no documents", "no query"],
)
def test_wrong_input(invoke, step, emulator: Emulator, asked, top_n, said):
    """A wrong value in the config is refused by its name, and so is what is no question.

    Nothing is sent.
    """
    with pytest.raises(RequestError, match=said):
        invoke(step, asked, configured(top_n=top_n))

    assert emulator.log == ()


@pytest.mark.parametrize(
    ("config", "options", "error", "said"),
    [
        ("acme", {}, RequestError, "config must be a dict, not str"),
        ({"tags": "mine"}, {}, RequestError, "tags of the config must be a list, not str"),
        (
            None,
            {"top_n": 1},
            TypeError,
            r"'top_n': .* config=\{\"configurable\": \{\"top_n\": 1\}\}",
        ),
    ],
    ids=["no config", "no tags", "beside the config"],
)
async def test_wrong_calls(step, emulator: Emulator, config, options, error, said):
    """What is no config is refused, however the step is called, and nothing is sent.

    So is an option beside the config, with the words that give it.
    """
    with pytest.raises(error, match=said):
        step.invoke(ASKED, config, **options)
    with pytest.raises(error, match=said):
        await step.ainvoke(ASKED, config, **options)
    with pytest.raises(error, match=said):
        next(step.stream(ASKED, config, **options))
    with pytest.raises(error, match=said):
        await anext(step.astream(ASKED, config, **options))

    assert emulator.log == ()
