"""The trees of docs/tracing.md, recorded anew."""

import asyncio
import re
import uuid
from pathlib import Path

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableParallel, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

import langchain_qwen_rerank
import llama_index_qwen_rerank
from langchain_qwen_rerank import QwenRerankRetriever
from qwen_rerank.emulator import Reply

PAGE = Path(__file__).parents[2] / "docs" / "tracing.md"
QUESTION = "a fast red car"
TEXTS = ("green tea", "a red sports car", "the blue sea")


def documented(name):
    """The tree of the page under the heading *name*."""
    block = re.search(
        rf"^#+ {re.escape(name)}\n.*?^```text\n(.*?)^```",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    return block[1].rstrip()


def drawn(label, children, indent=""):
    """A tree as lines; *children* gives those of a node, *label* the line of one."""
    return [
        line
        for each in children
        for line in (f"{indent}{label(each[0])}", *drawn(label, each[1], indent + "  "))
    ]


class _Store(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):  # noqa: ARG002  their signature
        return [Document(text) for text in TEXTS]


class _Tracer(BaseTracer):
    def __init__(self):
        super().__init__()
        self.root, self.events = None, {}

    def _persist_run(self, run):
        self.root = run

    def on_custom_event(self, name, data, *, run_id, **_):
        """Keep *data*."""
        self.events[run_id] = f"event {name}: " + ", ".join(
            f"{key}={data[key]}" for key in ("model", "requests", "tokens", "cache_hits")
        )

    def tree(self):
        """The runs as text."""

        def nested(run):
            event = [(self.events[run.id], [])] if run.id in self.events else []
            return (run, [*event, *map(nested, run.child_runs)])

        def label(run):
            if isinstance(run, str):
                return run
            failed = f"  failed: {run.error.splitlines()[0][:48]}..." if run.error else ""
            return f"{run.name} ({run.run_type}){failed}"

        return "\n".join(drawn(label, [nested(self.root)]))


def _invoked(runnable, given):
    # Steps that stand side by side run in threads: here one after the other, as on the page.
    tracer = _Tracer()
    runnable.invoke(given, {"callbacks": [tracer], "max_concurrency": 1})
    return tracer.tree()


def _answering(step):
    prompt = ChatPromptTemplate.from_template("{documents} {query}")
    model = FakeListChatModel(responses=["a red sports car"])
    return RunnableParallel(query=RunnablePassthrough(), documents=step) | prompt | model


def test_a_retriever_in_a_chain(connection):
    """What a tracer of LangChain shows of a chain with `QwenRerankRetriever`."""
    reranker = langchain_qwen_rerank.QwenRerank(**connection)
    retriever = QwenRerankRetriever(base_retriever=_Store(), reranker=reranker)

    tree = _invoked(_answering(retriever), QUESTION)

    assert tree == documented("A chain with `QwenRerankRetriever`")


def test_a_step_of_a_chain(connection):
    """What it shows of `as_runnable`."""
    reranker = langchain_qwen_rerank.QwenRerank(**connection)
    chain = RunnableParallel(query=RunnablePassthrough(), documents=_Store())

    tree = _invoked(chain | reranker.as_runnable(), QUESTION)

    assert tree == documented("A chain with `as_runnable()`")


def test_a_list_that_was_passed_through(emulator, connection):
    """What it shows of a `ContextualCompressionRetriever` while the service is down."""
    emulator.script(Reply.error(503, "ModelUnavailable", repeat=None))
    reranker = langchain_qwen_rerank.QwenRerank(on_error="passthrough", max_retries=0, **connection)
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=_Store())

    tree = _invoked(retriever, QUESTION)

    assert tree == documented("`ContextualCompressionRetriever` while the service is down")


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_a_query_engine(connection, told, native):
    """What LlamaIndex's instrumentation shows of a query engine with the reranker."""
    nodes = [TextNode(text=text, id_=text) for text in TEXTS]
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=4))
    reranker = llama_index_qwen_rerank.QwenRerank(2, **connection)
    engine = index.as_query_engine(
        llm=MockLLM(), node_postprocessors=[reranker], similarity_top_k=3
    )
    root, spans = get_dispatcher(), SimpleSpanHandler()
    root.add_span_handler(spans)
    try:
        if native:
            asyncio.run(engine.aquery(QUESTION))
        else:
            engine.query(QUESTION)
    finally:
        root.span_handlers.remove(spans)

    assert _spans(spans.completed_spans, told.seen) == documented(
        "A query engine, awaited" if native else "A query engine"
    )


def _spans(completed, events):
    ours = {"ReRankStartEvent", "QwenRerankEndEvent"}

    def nested(span):
        told = [
            (_told(event), [])
            for event in events
            if event.span_id == span.id_ and event.class_name() in ours
        ]
        below = [nested(each) for each in ordered if each.parent_id == span.id_]
        if not span.id_.startswith(("RetrieverQueryEngine", "VectorIndexRetriever", "QwenRerank")):
            below = []  # what is in an embedding or a language model changes with every release
        return (span.id_[: -len("-" + str(uuid.UUID(int=0)))], [*told, *below])

    ordered = sorted(completed, key=lambda span: span.start_time)
    known = {span.id_ for span in completed}
    roots = [nested(span) for span in ordered if span.parent_id not in known]
    return "\n".join(drawn(str, roots))


def _told(event):
    if event.class_name() == "ReRankStartEvent":
        return f"event ReRankStartEvent: {len(event.nodes)} nodes, top_n={event.top_n}"
    return (
        f"event QwenRerankEndEvent: {len(event.nodes)} nodes, requests={event.requests}, "
        f"total_tokens={event.total_tokens}"
    )
