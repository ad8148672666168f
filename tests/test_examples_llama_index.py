"""The LlamaIndex examples, run as a user runs them, and the search tool on its own."""

import re

import pytest
from example_scripts import example, run
from llama_index.core.llms.mock import MockFunctionCallingLLM

from llama_index_qwen_rerank import QwenRerank

pytestmark = [
    pytest.mark.filterwarnings("ignore:.langchain-community. is being sunset"),
    # its workflows look at all that they are
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(3, max_retries=0, cache={}, **connection)


# As scripts


def test_agent(capsys):
    """The agent reads the two best facts, which are shown with their scores, and answers."""
    assert run("llama_index_agent") == 0

    printed = capsys.readouterr().out
    scores = re.findall(r"^ +(0\.\d{3})  (A \w+)", printed, re.MULTILINE)
    assert [fact for _, fact in scores] == ["A bat", "A bear"]
    assert scores == sorted(scores, reverse=True)
    assert "\nA bat.\n" in printed
    assert "Usage(requests=1," in printed


def test_tools(capsys):
    """At both turns the model is shown the same five of two hundred tools, paid for once."""
    assert run("llama_index_choose_tools") == 0

    printed = capsys.readouterr().out
    shown = re.findall(r"^Of 200 tools the model is shown 5: (.*)$", printed, re.MULTILINE)
    assert len(shown) == 2
    assert len(set(shown)) == 1
    assert {"book_flight", "book_hotel"} < set(shown[0].split())
    assert re.search(r"^It calls book_\w+: Done\.$", printed, re.MULTILINE)
    assert "\nIt is booked.\n" in printed
    assert re.search(r"Usage\(requests=2, .*cache_hits=200", printed)


# The search tool


def test_the_search_tool(reranker, emulator):
    """All that the index found is ranked, for what the model asked; it reads what was kept."""
    module = example("llama_index_agent")
    llm = MockFunctionCallingLLM(response_generator=module.scripted)
    reranker.top_n = 2

    output = module.search_tool(reranker, llm).call(input=f"{module.QUESTION}\n")

    found = [node.get_content() for node in output.raw_output.source_nodes]
    assert [fact.split()[1] for fact in found] == ["bat", "bear"]
    assert [fact for fact in module.FACTS if fact in output.content] == found
    [request] = emulator.log
    assert request.body["input"]["query"] == module.QUESTION
    assert request.documents == len(module.FACTS)
