"""What belongs to a base retriever reaches it, whoever calls: LangChain's retrievers, LangGraph."""

import asyncio
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

import pytest
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    EnsembleRetriever,
    MultiQueryRetriever,
)
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    ConfigurableField,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tools import create_retriever_tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.graph import START, StateGraph
from langgraph.runtime import get_runtime
from pydantic import PrivateAttr

from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever
from qwen_rerank.emulator import Emulator

QUERY = "a document"
ACME: RunnableConfig = {"configurable": {"tenant": "acme", "thread_id": "1"}}


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(max_retries=0, **connection)


def texts(documents):
    """What *documents* say."""
    return [document.page_content for document in documents]


# What belongs to the base retriever


class _Finds(BaseRetriever):
    """Finds what was asked for, as a document."""

    tenant: str = "nobody"

    def _get_relevant_documents(self, query, *, run_manager, year=None):  # noqa: ARG002
        return [Document(f"{query} of {self.tenant}, {year}")]


class _FindsNatively(_Finds):
    """The same with a coroutine."""

    async def _aget_relevant_documents(self, query, *, run_manager, year=None):
        return self._get_relevant_documents(query, run_manager=run_manager, year=year)


def _tenant(name):
    return {"configurable": {"tenant": name}}


@pytest.fixture(name="tenants", params=[_Finds, _FindsNatively], ids=["in a thread", "native"])
def _tenants(request, reranker):
    base = request.param().configurable_fields(tenant=ConfigurableField(id="tenant"))
    return QwenRerankRetriever(base_retriever=base, reranker=reranker)


def test_the_whole_config(invoke, reranker):
    """All of a call's config arrives; the run's name and id are the retriever's own.

    Its run holds the base retriever's and then the rerank's, in that order.
    """
    collector, own = RunCollectorCallbackHandler(), uuid4()
    given = {
        "configurable": {"tenant": "acme"},
        "tags": ["mine"],
        "metadata": {"user": "u1"},
        "max_concurrency": 3,
        "recursion_limit": 7,
        "run_name": "search",
        "run_id": own,
        "callbacks": [collector],
        "context": {"language": "en"},  # no key that LangChain knows, so it makes it configurable
    }

    def find(_query, config: RunnableConfig):
        got.update(config)
        return [Document("green tea")]

    retriever = QwenRerankRetriever(base_retriever=RunnableLambda(find), reranker=reranker)
    got = {}
    found = invoke(retriever, QUERY, given)

    assert got["configurable"] == {"tenant": "acme", "context": {"language": "en"}}
    assert (got["tags"], got["metadata"]["user"]) == (["mine"], "u1")
    assert (got["max_concurrency"], got["recursion_limit"]) == (3, 7)
    [root] = collector.traced_runs
    assert (root.name, [run.name for run in root.child_runs]) == ("search", ["find", "QwenRerank"])
    assert own not in [run.id for run in root.child_runs]
    assert root.child_runs[1].outputs["documents"] == root.outputs["documents"] == found
    assert given["configurable"] == {"tenant": "acme"}


def test_tenants(invoke, tenants):
    """A tenant in ``configurable`` reaches the base, whatever stands around the retriever."""
    chain, made = RunnableLambda(str) | tenants, RunnableLambda(lambda _: tenants)
    tool = create_retriever_tool(tenants, "search", "Searches.")  # as an agent has it

    for using in (tenants, chain, made):
        assert texts(invoke(using, QUERY, _tenant("acme"))) == [f"{QUERY} of acme, None"]
    assert invoke(tool, {"query": QUERY}, _tenant("acme")) == f"{QUERY} of acme, None"


def test_tenants_below_what_hands_on_nothing(invoke, reranker):
    """A base that calls another retriever without its config asks for the same tenant."""
    inner = _Finds().configurable_fields(tenant=ConfigurableField(id="tenant"))

    class Forgetful(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):  # noqa: ARG002
            return inner.invoke(query)

        async def _aget_relevant_documents(self, query, *, run_manager):  # noqa: ARG002
            return await inner.ainvoke(query)

    retriever = QwenRerankRetriever(base_retriever=Forgetful(), reranker=reranker)

    assert texts(invoke(retriever, QUERY, _tenant("acme"))) == [f"{QUERY} of acme, None"]


def test_alternatives(invoke, reranker):
    """A base with alternatives is the one that the call's config names."""
    base = _Finds().configurable_alternatives(
        ConfigurableField(id="store"), default_key="own", other=RunnableLambda(lambda _: [])
    )
    retriever = QwenRerankRetriever(base_retriever=base, reranker=reranker)
    other = {"configurable": {"store": "other"}}

    assert texts(invoke(retriever, QUERY, year=7)) == [f"{QUERY} of nobody, 7"]
    assert invoke(retriever, QUERY, other) == []
    with pytest.raises(TypeError, match=r"neither .* takes 'year'"):
        invoke(retriever, QUERY, other, year=7)
    bound = QwenRerankRetriever(base_retriever=base.bind().with_config(other), reranker=reranker)
    with pytest.raises(TypeError, match=r"neither .* takes 'year'"):
        invoke(bound, QUERY, year=7)


def _find(query, year=None):
    return [Document(f"{query} of nobody, {year}")]


@pytest.mark.parametrize(
    "base",
    [
        _Finds(),
        _FindsNatively(),
        RunnableLambda(_find),
        RunnableLambda(lambda query, **options: _find(query, options["year"])),
        _Finds().bind(year=3).with_config(tags=["mine"]),
        _Finds().configurable_fields(tenant=ConfigurableField(id="tenant")),
        _Finds() | RunnableLambda(list),
        _Finds().with_fallbacks([_FindsNatively()]),
        RunnableBranch((lambda query: not query, _Finds()), RunnableLambda(_find)),
    ],
    ids=[
        *("in a thread", "native", "function", "any", "bound", "configurable"),
        *("chain", "fallbacks", "branch"),
    ],
)
def test_keyword_arguments(invoke, reranker, emulator: Emulator, base):
    """What is none of ours goes to the base, and ours stays ours."""
    retriever = QwenRerankRetriever(base_retriever=base, reranker=reranker)

    found = invoke(retriever, QUERY, k=1, instruct="Find cars.", year=7)

    assert texts(found) == [f"{QUERY} of nobody, 7"]
    assert emulator.log[0].body["parameters"]["instruct"] == "Find cars."


async def _later(documents):
    return documents


_AWAITED = _Finds() | RunnableLambda(_later)


@pytest.mark.parametrize(
    "base",
    [
        _AWAITED,
        _AWAITED.with_fallbacks([_Finds(tenant="another")]),
        RunnableBranch((bool, _AWAITED), _Finds(tenant="another")),
        RunnableBranch((lambda query: not query, _Finds(tenant="another")), _AWAITED),
        _AWAITED.configurable_alternatives(ConfigurableField(id="base"), other=_Finds()),
    ],
    ids=["chain", "fallbacks", "branch", "default", "configurable"],
)
async def test_keyword_arguments_before_what_is_awaited(reranker, base):
    """Awaited, they reach a retriever without a coroutine also if only coroutines follow it."""
    bound = base.with_config(tags=["mine"])
    retriever = QwenRerankRetriever(base_retriever=bound, reranker=reranker)
    collector = RunCollectorCallbackHandler()

    found = await retriever.ainvoke(QUERY, {"callbacks": [collector]}, year=7)

    assert texts(found) == [f"{QUERY} of nobody, 7"]
    seen = collector.traced_runs[0].child_runs
    seen += [run for each in seen for run in each.child_runs]
    chain = next(run for run in seen if run.name == "RunnableSequence")
    assert [run.name for run in chain.child_runs] == ["_Finds", "_later"]
    assert "mine" in chain.tags


class _TakesNone(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        raise NotImplementedError


class _OnlyAsync(_TakesNone):
    """Its sync half takes nothing, and so LangChain drops what its other half would take."""

    async def _aget_relevant_documents(self, query, *, run_manager, year=None):
        raise NotImplementedError


@pytest.mark.parametrize(
    "base",
    [
        _TakesNone(),
        _OnlyAsync(),
        RunnableLambda(lambda _: []),
        RunnableLambda(dir),  # whose parameters Python does not know
        RunnableParallel(query=RunnablePassthrough()) | (lambda _: []),
        _Finds().with_fallbacks([_TakesNone()]),
    ],
    ids=["retriever", "async", "function", "builtin", "parallel", "fallbacks"],
)
def test_a_name_that_nobody_knows(invoke, reranker, emulator: Emulator, base):
    """A name that would be dropped somewhere is refused, and nothing is looked for."""
    retriever = QwenRerankRetriever(base_retriever=base, reranker=reranker)
    collector = RunCollectorCallbackHandler()
    theirs = re.escape(base.get_name())

    with pytest.raises(TypeError, match=rf"neither QwenRerank.*\(k, .* {theirs} takes 'year'"):
        invoke(retriever, QUERY, {"callbacks": [collector]}, year=7)

    assert emulator.log == ()
    assert collector.traced_runs[0].child_runs == []


class _Lower(QwenRerankRetriever):
    """One's own, with the signature that LangChain asks for."""

    def _get_relevant_documents(self, query, *, run_manager):
        return super()._get_relevant_documents(query.lower(), run_manager=run_manager)


class _LowerNatively(_Lower):
    """The same with a coroutine."""

    async def _aget_relevant_documents(self, query, *, run_manager):
        return await super()._aget_relevant_documents(query.lower(), run_manager=run_manager)


@pytest.fixture(name="lower", params=[_Lower, _LowerNatively], ids=["sync", "native"])
def _lower(request, reranker):
    base = _Finds().configurable_fields(tenant=ConfigurableField(id="tenant"))
    return request.param(base_retriever=base, reranker=reranker)


def test_a_subclass_keeps_tenants_apart(invoke, lower, reranker):
    """A subclass that takes a query alone hands on the config all the same; so does one around it.

    Each call of a batch keeps its own.
    """
    around = QwenRerankRetriever(base_retriever=lower, reranker=reranker)

    for using in (lower, around):
        assert texts(invoke(using, "TEA", ACME)) == ["tea of acme, None"]
        assert texts(invoke(using, "TEA")) == ["tea of nobody, None"]
        found = using.batch(["TEA", "CAR"], [_tenant("acme"), _tenant("umbrella")])
        assert [texts(each) for each in found] == [
            ["tea of acme, None"],
            ["car of umbrella, None"],
        ]


class _Plain(QwenRerankRetriever):
    """One's own, of a query alone, which LangChain takes as well."""

    def _get_relevant_documents(self, query):
        return self.base_retriever.invoke(query.lower())


class _Awaiting(QwenRerankRetriever):
    """One's own, whose sync way goes by the async one."""

    def _get_relevant_documents(self, query):
        return asyncio.run(self._aget_relevant_documents(f"{query.lower()}!"))


@pytest.mark.parametrize(("kind", "asked"), [(_Plain, "tea"), (_Awaiting, "tea!")])
def test_a_subclass_without_a_run_manager(invoke, reranker, kind, asked):
    """What it overrides holds for awaited calls too, once."""
    retriever = kind(base_retriever=_Finds(), reranker=reranker)

    assert texts(invoke(retriever, "TEA")) == [f"{asked} of nobody, None"]


def test_a_subclass_that_takes_no_options(invoke, lower, emulator: Emulator):
    """An option that LangChain would drop on its way through a subclass is refused by name."""
    collector = RunCollectorCallbackHandler()

    with pytest.raises(TypeError, match=rf"{type(lower).__name__} takes no 'k'"):
        invoke(lower, QUERY, {"callbacks": [collector]}, k=1)
    assert collector.traced_runs == []
    assert emulator.log == ()

    own = uuid4()
    invoke(lower, QUERY, {"callbacks": [collector]}, run_id=own)
    assert collector.traced_runs[0].id == own


class _Noting(QwenRerank, frozen=True):
    """One's own, which notes the top_n of its calls, and how often it was made and called."""

    _made: int = PrivateAttr(0)
    _called: int = PrivateAttr(0)
    _ranked_with: list = PrivateAttr(default_factory=list)

    def model_post_init(self, context):
        super().model_post_init(context)
        self._made += 1

    @cached_property
    def most(self):
        return self.top_n

    def compress_documents(self, documents, query, callbacks=None):
        self._called += 1
        self._ranked_with.append(self.most)
        return super().compress_documents(documents, query, callbacks)


@pytest.mark.parametrize("options", [{}, {"top_n": 1}], ids=["its own", "of the call"])
def test_a_subclass_of_the_reranker(invoke, connection, options):
    """Its own ``compress_documents`` is what ranks, in a retriever and in a chain.

    It sees the options of the call as its own, and what it caches is made of these. They make no
    other reranker: it counts on, and may be frozen.
    """
    reranker, found = _Noting(**connection), [Document("a car"), Document("tea")]
    retriever = QwenRerankRetriever(
        base_retriever=RunnableLambda(lambda _: found), reranker=reranker
    )
    asked = {"query": "a car", "documents": found}

    for ranked in (
        invoke(retriever, "a car", **options),
        invoke(reranker.as_runnable(), asked, {"configurable": options}),
    ):
        assert texts(ranked) == ["a car", "tea"][: options.get("top_n")]

    assert reranker._ranked_with == [options.get("top_n", 3)] * 2
    assert (reranker._made, reranker._called, reranker.most) == (1, 2, 3)
    assert reranker.usage.requests == 2


def test_declared_options(reranker, tenants):
    """What the base listens to is declared, also by a chain; a field of ours can be as well."""
    (spec,) = (tenants | texts).config_specs
    retriever = tenants.configurable_fields(k=ConfigurableField(id="rerank_k"))

    assert (spec.id, spec.annotation) == ("tenant", str)
    assert {spec.id for spec in retriever.config_specs} == {"tenant", "rerank_k"}
    config = {"configurable": {"tenant": "acme", "rerank_k": 1}}
    assert texts(retriever.invoke("tea", config)) == ["tea of acme, None"]
    assert QwenRerankRetriever(base_retriever=_TakesNone(), reranker=reranker).config_specs == []


# langchain-classic


_PAGE = Path(__file__).parents[2] / "docs" / "filters-and-tenants.md"


def test_what_the_page_says(invoke, reranker, tenants):
    """The page's table of what reaches a retriever below each of LangChain's own is true."""
    model = FakeListChatModel(responses=["one question"])
    around = {
        "QwenRerankRetriever": QwenRerankRetriever(base_retriever=tenants, reranker=reranker),
        "ContextualCompressionRetriever": ContextualCompressionRetriever(
            base_compressor=reranker, base_retriever=tenants
        ),
        "MultiQueryRetriever": MultiQueryRetriever.from_llm(retriever=tenants, llm=model),
        "EnsembleRetriever": EnsembleRetriever(retrievers=[tenants]),
    }
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", _PAGE.read_text(), re.MULTILINE)

    assert {name for name, *_ in rows} == around.keys()
    for name, keyword, direct, in_chain in rows:
        each = around[name]
        for said, found in (
            (keyword, invoke(each, QUERY, year=7)),
            (direct, invoke(each, QUERY, ACME)),
            (in_chain, invoke(RunnableLambda(str) | each, QUERY, ACME)),
        ):
            arrived = re.search("acme|7", *texts(found)) is not None
            assert arrived == (said != "**lost**"), (name, said)


# LangGraph


class _State(TypedDict, total=False):
    query: str
    documents: list[Document]


@dataclass
class _Context:
    language: str


def test_a_node_of_a_graph(reranker):
    """In a node the base sees tenant, thread and run-time context, though it is handed none."""

    def find(query, config: RunnableConfig):
        asked, language = config["configurable"], get_runtime(_Context).context.language
        return [Document(f"{query} {asked['tenant']} {asked['thread_id']} {language}")]

    retriever = QwenRerankRetriever(base_retriever=RunnableLambda(find), reranker=reranker)

    def search(state: _State) -> _State:
        return {"documents": retriever.invoke(state["query"])}

    graph = StateGraph(_State, context_schema=_Context)
    graph.add_node("search", search)
    graph.add_edge(START, "search")

    state = graph.compile().invoke({"query": "tea"}, ACME, context=_Context("en"))

    assert texts(state["documents"]) == ["tea acme 1 en"]
