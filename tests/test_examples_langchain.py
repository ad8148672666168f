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


@pytest.mark.slow
def test_agent():
    """The agent's tool hands on the two best facts, and the scores stand beside them."""
    done = run("langchain_agent")

    assert (done.returncode, done.stderr) == (0, "")
    scores = re.findall(r"^ +(0\.\d{3})  (A \w+)", done.stdout, re.MULTILINE)
    assert [fact for _, fact in scores] == ["A bat", "A bear"]
    assert scores == sorted(scores, reverse=True)
    assert "\nA bat.\n" in done.stdout
    assert "Usage(requests=1," in done.stdout


@pytest.mark.slow
def test_graph():
    """Each node says what it made: all facts, the best two of them, the answer."""
    done = run("langgraph_node")

    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    nodes = [at for at, line in enumerate(lines) if line[0] in {"retrieve", "rerank", "answer:"}]
    assert nodes == [0, 6, 9]
    assert lines[7][1:3] == ["A", "bat"]
    assert lines[9] == ["answer:", "A", "bat."]


@pytest.mark.slow
def test_tools():
    """Of two hundred tools the model is shown the five that fit, and the one it always has."""
    done = run("langchain_choose_tools")

    assert (done.returncode, done.stderr) == (0, "")
    [shown] = re.findall(r"^Of 200 tools the model is shown 6: (.*)$", done.stdout, re.MULTILINE)
    assert {"book_flight", "book_hotel", "pay_invoice"} < set(shown.split())
    assert "Usage(requests=1," in done.stdout


# The agent's tool


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_the_tool(reranker, native):
    """The model reads plain facts; the artifact holds the documents, with their scores.

    In the trace the rerank stands below the retriever, and that below the tool.
    """
    module = example("langchain_agent")
    collector = RunCollectorCallbackHandler()
    agent = create_agent(module.scripted(), [module.search_tool(reranker)])
    asked, config = {"messages": [("user", module.QUESTION)]}, {"callbacks": [collector]}

    state = asyncio.run(agent.ainvoke(asked, config)) if native else agent.invoke(asked, config)

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


@pytest.fixture(name="chosen", params=["sync", "async"])
def _chosen(request, module, reranker):
    """The tools that the model is shown, with these messages and these tools."""

    def chosen(*messages, tools=None, **options):
        middleware = module.RerankToolSelector(reranker, **options)
        asked = ModelRequest(
            model=module.Onlooker(responses=[AIMessage("")]),
            messages=list(messages),
            tools=module.tools() if tools is None else tools,
        )
        seen = []

        async def handler(given):
            seen.append(given)

        if request.param == "sync":
            middleware.wrap_model_call(asked, seen.append)
        else:
            asyncio.run(middleware.awrap_model_call(asked, handler))
        [given] = seen
        return given.tools

    chosen.tools = module.tools
    return chosen


def names(tools):
    """What *tools* are called."""
    return [tool.name for tool in tools]


def test_keeps_the_best(chosen, emulator):
    """The k tools that fit what the user said, in the order in which the agent has them."""
    kept = names(chosen(HumanMessage(PLEASE), k=3))

    assert kept[0] == "book_flight"
    assert len(kept) == 3
    assert kept == [name for name in names(chosen.tools()) if name in kept]
    assert [seen.documents for seen in emulator.log] == [200]


def test_the_last_thing_said_counts(chosen, emulator):
    """Earlier wishes, answers and what tools said are not asked about."""
    call = ToolCall(name="book_flight", args={}, id="1")
    kept = chosen(
        HumanMessage(PLEASE),
        AIMessage("It is booked."),
        HumanMessage([{"type": "text", "text": "Translate a letter"}]),
        AIMessage("", tool_calls=[call]),
        ToolMessage("Done.", tool_call_id="1"),
        k=1,
    )

    assert names(kept) == ["translate_letter"]
    assert emulator.log[0].body["input"]["query"] == "Translate a letter"


def test_always_included(chosen, emulator):
    """What is always included is not ranked, and takes no place of the k."""
    kept = names(chosen(HumanMessage(PLEASE), k=2, always_include=["draw_song", "pay_taxi"]))

    assert {"draw_song", "pay_taxi", "book_flight"} < set(kept)
    assert len(kept) == 4
    assert emulator.log[0].documents == 198


def test_the_providers_tools_stay(chosen):
    """A tool of the provider's own is a dict without a description, and is left alone."""
    search = {"type": "web_search"}

    kept = chosen(HumanMessage(PLEASE), tools=[search, *chosen.tools()], k=1)

    assert kept[0] is search
    assert names(kept[1:]) == ["book_flight"]


@pytest.mark.parametrize(
    "messages", [[], [AIMessage("Hello.")], [HumanMessage(" ")]], ids=["none", "no user", "blank"]
)
def test_nothing_was_said(chosen, emulator, messages):
    """Where the user has said nothing all tools are kept, and nothing is asked."""
    assert len(chosen(*messages, k=3)) == 200
    assert emulator.log == ()


def test_few_tools(chosen, emulator):
    """No more tools than k need no choosing."""
    assert len(chosen(HumanMessage(PLEASE), tools=chosen.tools()[:3], k=3)) == 3
    assert len(chosen(HumanMessage(PLEASE), tools=[], k=3)) == 0
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
