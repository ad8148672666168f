"""The LlamaIndex examples, run as a user runs them, and their parts on their own."""

import re

import example_scripts
import pytest
from example_scripts import example
from llama_index.core.llms.mock import MockFunctionCallingLLM

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank import RateLimitError
from qwen_rerank.emulator import Reply

NAMES = ("llama_index_agent", "llama_index_choose_tools")
PLEASE = "Please book a flight to Lisbon"

pytestmark = pytest.mark.filterwarnings("ignore:.langchain-community. is being sunset")


def run(name):
    """What the example put out; LlamaIndex's workflows look at deprecated attributes."""
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning")
    return example_scripts.run(name, warnings=warnings)


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(3, max_retries=0, cache={}, **connection)


# As scripts


@pytest.mark.slow
def test_agent():
    """The agent reads the two best facts, which are shown with their scores, and answers."""
    done = run("llama_index_agent")

    assert (done.returncode, done.stderr) == (0, "")
    scores = re.findall(r"^ +(0\.\d{3})  (A \w+)", done.stdout, re.MULTILINE)
    assert [fact for _, fact in scores] == ["A bat", "A bear"]
    assert scores == sorted(scores, reverse=True)
    assert "\nA bat.\n" in done.stdout
    assert "Usage(requests=1," in done.stdout


@pytest.mark.slow
def test_tools():
    """At both turns the model is shown the same five of two hundred tools, paid for once."""
    done = run("llama_index_choose_tools")

    assert (done.returncode, done.stderr) == (0, "")
    shown = re.findall(r"^Of 200 tools the model is shown 5: (.*)$", done.stdout, re.MULTILINE)
    assert len(shown) == 2
    assert len(set(shown)) == 1
    assert {"book_flight", "book_hotel"} < set(shown[0].split())
    assert re.search(r"^It calls book_\w+: Done\.$", done.stdout, re.MULTILINE)
    assert "\nIt is booked.\n" in done.stdout
    assert re.search(r"Usage\(requests=2, .*cache_hits=200", done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_says_that_it_was_never_run_live(name):
    """Who reads an example is told what it has not been tried with."""
    said = " ".join(example(name).__doc__.split())

    assert "never run against the live service" in said
    assert f"python examples/{name}.py" in said


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


# The choice of tools


def test_two_hundred_tools_with_different_names():
    """No two tools are the same to a reranker or to a model."""
    tools = example("llama_index_choose_tools").tools()

    assert len({tool.metadata.name for tool in tools}) == 200
    assert len({tool.metadata.description for tool in tools}) == 200


@pytest.mark.parametrize("k", [1, 4])
def test_the_k_that_fit(reranker, emulator, k):
    """What comes back is the tools themselves, the best first, all of them ranked at once."""
    reranker.top_n = k

    found = example("llama_index_choose_tools").chooser(reranker).retrieve(PLEASE)

    assert found[0].metadata.name == "book_flight"
    assert found[0]().content == "Done."
    assert len(found) == k
    assert [request.documents for request in emulator.log] == [200]


async def test_chosen_once_and_paid_for_once(reranker, emulator):
    """The same wish costs nothing the second time."""
    chooser = example("llama_index_choose_tools").chooser(reranker)

    first, second = [await chooser.aretrieve(PLEASE) for _ in range(2)]

    assert first == second
    assert len(emulator.log) == reranker.usage.requests == 1
    assert reranker.usage.cache_hits == 200


def test_a_failure_is_raised(reranker, emulator):
    """By default an agent that cannot choose stops."""
    chooser = example("llama_index_choose_tools").chooser(reranker)
    emulator.script(Reply.error(429, "Throttling.RateQuota"))

    with pytest.raises(RateLimitError):
        chooser.retrieve(PLEASE)


def test_a_failure_passed_through(reranker, emulator):
    """With passthrough it goes on with as many tools, in the order of the index."""
    reranker.on_error = "passthrough"
    chooser = example("llama_index_choose_tools").chooser(reranker)
    emulator.script(Reply.error(429, "Throttling.RateQuota"))

    assert len(chooser.retrieve(PLEASE)) == 3
