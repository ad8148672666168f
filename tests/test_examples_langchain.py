"""The LangChain examples, run as a user runs them, and their parts on their own."""

import asyncio
import re

import pytest
from example_scripts import example, run
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_qwen_rerank import QwenRerank

PLEASE = "Please book a flight to Lisbon"


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(max_retries=0, cache={}, **connection)


# As scripts


def test_agent(capsys):
    """The agent's tool hands on the two best facts, and the scores stand beside them."""
    assert run("langchain_agent") == 0

    printed = capsys.readouterr().out
    scores = re.findall(r"^ +(0\.\d{3})  (A \w+)", printed, re.MULTILINE)
    assert [fact for _, fact in scores] == ["A bat", "A bear"]
    assert scores == sorted(scores, reverse=True)
    assert "\nA bat.\n" in printed
    assert "Usage(requests=1," in printed


def test_graph(capsys):
    """Each node says what it made: all facts, the best two of them, the answer."""
    assert run("langgraph_node") == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    nodes = [at for at, line in enumerate(lines) if line[0] in {"retrieve", "rerank", "answer:"}]
    assert nodes == [0, 6, 9]
    assert lines[7][1:3] == ["A", "bat"]
    assert lines[9] == ["answer:", "A", "bat."]


def test_tools(capsys):
    """Of two hundred tools the model is shown the five that fit, and the one it always has."""
    assert run("langchain_choose_tools") == 0

    printed = capsys.readouterr().out
    [shown] = re.findall(r"^Of 200 tools the model is shown 6: (.*)$", printed, re.MULTILINE)
    assert {"book_flight", "book_hotel", "pay_invoice"} < set(shown.split())
    assert "Usage(requests=1," in printed


# The agent's tool


async def test_the_tool(reranker):
    """The model reads plain facts; the artifact holds the documents, with their scores.

    In the trace the rerank stands below the retriever, and that below the tool.
    """
    module = example("langchain_agent")
    collector = RunCollectorCallbackHandler()
    agent = create_agent(module.scripted(), [module.search_tool(reranker)])
    asked = {"messages": [("user", module.QUESTION)]}

    state = await agent.ainvoke(asked, {"callbacks": [collector]})

    [told] = [each for each in state["messages"] if isinstance(each, ToolMessage)]
    assert told.content.split("\n\n") == [each.page_content for each in told.artifact]
    assert [each.metadata["of"] for each in told.artifact] == ["bat", "bear"]
    first, second = (each.metadata["relevance_score"] for each in told.artifact)
    assert 1 >= first > second >= 0
    path = path_to("QwenRerank", collector.traced_runs[0])
    assert path[-3:] == ["search_facts", "QwenRerankRetriever", "QwenRerank"]


def path_to(name, run):
    """The names of the runs from *run* down to the first called *name*, or None."""
    if run.name == name:
        return [name]
    for child in run.child_runs:
        if (rest := path_to(name, child)) is not None:
            return [run.name, *rest]
    return None


# Choosing tools


@pytest.fixture(scope="module", name="module")
def _module():
    """The example, whose two hundred tools are made once: that takes half a second."""
    module = example("langchain_choose_tools")
    made = module.tools()
    module.tools = lambda: list(made)
    return module


@pytest.fixture(name="chosen")
def _chosen(module, reranker):
    """The tools that the model is shown, with these messages and these tools."""

    def chosen(messages, tools, **options):
        asked = ModelRequest(
            model=module.Onlooker(responses=[AIMessage("")]), messages=messages, tools=tools
        )
        seen = []
        module.RerankToolSelector(reranker, **options).wrap_model_call(asked, seen.append)
        return seen[0].tools

    return chosen


def test_keeps_the_best(chosen, module, emulator):
    """The k tools that fit what the user said last, in the order in which the agent has them.

    What is always included takes no place of the k, nor does a tool of the provider's own, which is
    a dict without a description; neither is ranked.
    """
    search = {"type": "web_search"}
    messages = [HumanMessage("Translate a letter"), AIMessage("Done."), HumanMessage(PLEASE)]

    kept = chosen(messages, [search, *module.tools()], k=3, always_include=["draw_song"])

    assert kept[0] is search
    names = [tool.name for tool in kept[1:]]
    assert names[0] == "book_flight"
    assert names == [tool.name for tool in module.tools() if tool.name in names]
    assert (len(names), names[-1]) == (4, "draw_song")
    assert (emulator.log[0].body["input"]["query"], emulator.log[0].documents) == (PLEASE, 199)


@pytest.mark.parametrize(
    ("messages", "tools"),
    [([AIMessage("Hello.")], 200), ([HumanMessage(" ")], 200), ([HumanMessage(PLEASE)], 3)],
    ids=["no user", "blank", "few tools"],
)
def test_nothing_to_choose(chosen, module, emulator, messages, tools):
    """Where the user has said nothing, or no more tools are there than k, all tools are kept."""
    assert len(chosen(messages, module.tools()[:tools], k=3)) == tools
    assert emulator.log == ()


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_in_an_agent(module, reranker, emulator, capsys, native):
    """The model is shown the same tools at every turn, the choice is traced, and paid for once."""
    call = ToolCall(name="book_flight", args={}, id="1")
    model = module.Onlooker(
        responses=[AIMessage("", tool_calls=[call]), AIMessage("It is booked.")]
    )
    chooser = module.RerankToolSelector(reranker, k=3)
    agent = create_agent(model, module.tools(), middleware=[chooser])
    collector = RunCollectorCallbackHandler()
    asked, config = {"messages": [("user", PLEASE)]}, {"callbacks": [collector]}

    state = asyncio.run(agent.ainvoke(asked, config)) if native else agent.invoke(asked, config)

    assert [each.text for each in state["messages"][2:]] == ["Done.", "It is booked."]
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert len(emulator.log) == reranker.usage.requests == 1
    assert reranker.usage.cache_hits == 200
    assert path_to("QwenRerank", collector.traced_runs[0])[1:] == ["model", "rerank", "QwenRerank"]
