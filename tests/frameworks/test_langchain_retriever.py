"""Any retriever and the reranker as one retriever, over HTTP against the emulator."""

import asyncio
import contextvars
import os
import pickle
import subprocess
import sys
from importlib.metadata import version

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

import langchain_qwen_rerank
from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever
from qwen_rerank import RequestError
from qwen_rerank.emulator import Emulator

QUERY = "a fast red sports car"
_VECTORS = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
TEXTS = ["green tea", "a red sports car", "the car is fast", "a fast red sports car", "a hill"]


class _Store(BaseRetriever):
    """Finds everything; pickles, as a lambda would not."""

    def _get_relevant_documents(self, query, *, run_manager):  # noqa: ARG002  their signature
        return [Document(text, id=str(at)) for at, text in enumerate(TEXTS)]


class TestStandard(RetrieversIntegrationTests):
    """The tests that LangChain has for every retriever."""

    @pytest.fixture(autouse=True)
    def _connected(self, connection):
        self.reranker = QwenRerank(**connection)

    @property
    def retriever_constructor(self):
        """The class under test."""
        return QwenRerankRetriever

    @property
    def retriever_constructor_params(self):
        """Something to find in, and the emulator."""
        return {"base_retriever": _Store(), "reranker": self.reranker}

    @property
    def retriever_query_example(self):
        """Any question."""
        return QUERY


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(max_retries=0, **connection)


@pytest.fixture(name="retriever")
def _retriever(reranker):
    return QwenRerankRetriever(base_retriever=_Store(), reranker=reranker, k=2)


def texts(documents):
    """What *documents* say, in their order."""
    return [document.page_content for document in documents]


# What comes back


def test_k_wins_over_the_rerankers_own(invoke, retriever):
    """A call's k, or top_n, wins over the retriever's, and that over the reranker's top_n."""
    assert (retriever.k, retriever.reranker.top_n) == (2, 3)
    assert len(invoke(retriever, QUERY)) == 2
    assert len(invoke(retriever, QUERY, k=5)) == 5
    assert len(invoke(retriever, QUERY, top_n=1)) == 1
    retriever.k = None
    assert len(invoke(retriever, QUERY)) == 3


@pytest.mark.parametrize("options", [{}, {"k": 1}], ids=["its own", "of the call"])
def test_assigned_while_it_searches(invoke, emulator: Emulator, options):
    """What ranks is the reranker that was given, as it is then, whose usage counts.

    No host is sent what was meant for another.
    """
    elsewhere = {"base_url": "http://127.0.0.1:9/api/v1", "api_key": "sk-of-another-host"}
    reranker = QwenRerank(extra_body={"asked": "before"}, model="gte-rerank-v2", **elsewhere)

    def find(_):
        reranker.base_url, reranker.api_key = emulator.base_url, emulator.api_key
        reranker.extra_body, reranker.model = {"asked": "after"}, "qwen3-rerank"
        return [Document(text) for text in TEXTS]

    retriever = QwenRerankRetriever(base_retriever=RunnableLambda(find), reranker=reranker)

    assert len(invoke(retriever, QUERY, **options)) == options.get("k", 3)

    [asked] = emulator.log
    assert (asked.body["asked"], asked.body["model"]) == ("after", "qwen3-rerank")
    assert reranker.usage.requests == 1


# What is refused


def test_no_documents(invoke, reranker, emulator: Emulator):
    """A base that gives back something else is named, and nothing is sent."""
    base = RunnableLambda(lambda _: [Document("tea"), None], name="mine")
    retriever = QwenRerankRetriever(base_retriever=base, reranker=reranker)

    with pytest.raises(RequestError, match=r"retriever mine gave back no list.*1 must be a Doc"):
        invoke(retriever, QUERY)

    assert emulator.log == ()


@pytest.mark.parametrize(
    ("query", "given", "error", "said"),
    [
        (QUERY, {"k": 0}, ValueError, "top_n"),
        (QUERY, {"k": 1, "top_n": 2}, RequestError, "k or top_n, not both"),
        (QUERY, {"top_k": 3}, TypeError, "takes 'top_k'"),
        (QUERY, {"config": {"tags": "mine"}}, RequestError, "tags .* must be a list, not str"),
        (" ", {}, RequestError, "query is blank"),
        ({"a": 1}, {}, RequestError, r'not dict\n.*itemgetter\("question"\) \| retriever'),
    ],
    ids=str,
)
def test_wrong_calls(invoke, reranker, query, given, error, said):
    """A call that cannot be right is refused before anything is looked for."""
    seen = []
    retriever = QwenRerankRetriever(base_retriever=RunnableLambda(seen.append), reranker=reranker)

    with pytest.raises(error, match=said):
        invoke(retriever, query, **given)

    assert seen == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k: "),
        ({"top_k": 3}, "top_k"),
        ({"top_n": 3}, "no option 'top_n' here: write k="),
        ({"retriever": 5}, "no option 'retriever' here: write base_retriever="),
        ({"instruct": "Find."}, r"'instruct' here: write QwenRerank\(instruct=\.\.\.\)"),
        ({"base_retriever": _VECTORS}, r"base_retriever: .*write store\.as_retriever\(\)"),
        ({"base_retriever": texts}, r"base_retriever: .*such as RunnableLambda\(function\)"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, dict) else str(each),
)
def test_wrong_options_of_a_retriever(reranker, options, said):
    """What cannot work is refused; who has another class in mind is told what to write instead."""
    right = {"base_retriever": _Store(), "reranker": reranker}

    with pytest.raises(ValueError, match=said):
        QwenRerankRetriever(**right | options)


# A value like any other


def test_pickle(retriever, emulator: Emulator, monkeypatch):
    """A pickled retriever works after it has found a key, which neither it nor a repr holds.

    Its counting begins anew.
    """
    retriever.invoke(QUERY)
    stored = pickle.dumps(retriever)
    loaded = pickle.loads(stored)  # noqa: S301  our own bytes

    assert emulator.api_key.encode() not in stored
    assert emulator.api_key not in f"{retriever!r} {retriever}"
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)
    assert loaded.reranker.usage.requests == 0
    assert texts(loaded.invoke(QUERY)) == texts(retriever.invoke(QUERY))


# The door


@pytest.mark.skipif(
    tuple(map(int, version("langchain-core").split(".")[:2])) < (1, 3),
    reason="before 1.3 langchain-core imports its tracers with its callbacks",
)
def test_loaded_when_asked_for():
    """The door opens without LangChain's runnables and retrievers, which take long to import.

    ``dir()`` and completion show the retriever all the same, and ``import *`` brings it.
    """
    script = (
        "import sys, langchain_qwen_rerank as door\n"
        "core = 'langchain_core'\n"
        "slow = f'{core}.retrievers', f'{core}.runnables.base', f'{core}.tracers', 'httpx'\n"
        "print(*(name for name in slow if name in sys.modules))\n"
        "print(*(name for name in door.__all__ if name not in dir(door)))\n"
        "from langchain_qwen_rerank import *\n"
        "print(QwenRerankRetriever.__name__, door.QwenRerankRetriever is QwenRerankRetriever)\n"
        "print('langchain_core.retrievers' in sys.modules)\n"
    )
    done = subprocess.run(  # noqa: S603  our own script and interpreter
        [sys.executable, "-W", "error", "-c", script],
        env={name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["", "", "QwenRerankRetriever True", "True"]


def test_other_names():
    """Any other name is what it would be without us: an AttributeError that says which."""
    with pytest.raises(AttributeError, match=r"langchain_qwen_rerank.*no attribute 'QwenReranker'"):
        _ = langchain_qwen_rerank.QwenReranker


def test_a_call_that_ends_elsewhere(reranker):
    """A pending call can be closed where it was not begun, as by the end of a program."""

    async def never(_query):
        await asyncio.Event().wait()

    retriever = QwenRerankRetriever(base_retriever=RunnableLambda(never), reranker=reranker)

    async def begun():
        pending = retriever.ainvoke("a query")
        contextvars.copy_context().run(pending.send, None)
        return pending

    asyncio.run(begun()).close()
