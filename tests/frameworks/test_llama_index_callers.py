"""What in LlamaIndex calls a node postprocessor, over HTTP against the emulator."""

import asyncio

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.llms import LLMMetadata, MockLLM
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.tools import RetrieverTool
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank.emulator import Emulator

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{warning}")
    for warning in (
        ".langchain-community. is being sunset",  # LlamaIndex imports it where it is installed
        # its workflows look at all that they are
        ":pydantic.warnings.PydanticDeprecationWarning",
        "ServiceManager is deprecated",
        "is_running called from within a step",
    )
]

QUESTION = "Which animal sleeps upside down in a cave?"
FACTS = [
    "The blue whale lives in the sea.",
    "The cheetah runs faster than any other animal.",
    "Bees dance to tell where the flowers are.",
    "A bat sleeps upside down, often in a cave.",
]
RANKED = [FACTS[3], FACTS[1]]  # neither the first two nor in the order of the index

embedding = MockEmbedding(embed_dim=4)  # every text is like every other


class Echo(MockLLM):
    """Answers with all that it was shown, at once when it streams."""

    def __init__(self):
        super().__init__()

    @property
    def metadata(self):
        """A window for every prompt."""
        return LLMMetadata(context_window=100_000)

    def stream_complete(self, prompt, formatted=False, **options):
        """Stream the prompt in one piece."""
        yield self.complete(prompt, formatted, **options).model_copy(update={"delta": prompt})


@pytest.fixture(name="index")
def _index():
    """A first stage that knows nothing, and finds the facts in the order of the list."""
    nodes = [TextNode(text=fact, id_=str(at)) for at, fact in enumerate(FACTS)]
    return VectorStoreIndex(nodes, embed_model=embedding)


@pytest.fixture(name="retriever")
def _retriever(index):
    return index.as_retriever(similarity_top_k=4)


@pytest.fixture(name="reranker")
def _reranker(connection):
    return QwenRerank(top_n=2, **connection)


def sent(emulator: Emulator) -> list[str]:
    """The queries of the requests that the emulator saw, each of which carried all facts."""
    assert {request.documents for request in emulator.log} <= {len(FACTS)}
    return [request.body["input"]["query"] for request in emulator.log]


def facts_in(text: str) -> list[str]:
    """The facts that are found in *text*, in the order in which they stand there."""
    return sorted((fact for fact in FACTS if fact in text), key=text.index)


def texts(nodes) -> list[str]:
    """The texts of *nodes*."""
    return [each.node.get_content() for each in nodes]


def asked(owner, way: str, question=QUESTION, **options):
    """What *owner* answers by the method *way*, and its words; a stream is read to its end."""

    async def native():
        answer = await getattr(owner, way)(question, **options)
        stream = getattr(answer, "async_response_gen", None)
        words = "".join([piece async for piece in stream()]) if "stream" in way else str(answer)
        return answer, words

    if way.startswith("a"):
        return asyncio.run(native())
    answer = getattr(owner, way)(question, **options)
    return answer, "".join(answer.response_gen) if "stream" in way else str(answer)


@pytest.fixture(name="ours")
def _ours(index):
    """A retriever of one tenant's facts, in an index where another's would be ranked first."""
    nodes = [*index.docstore.docs.values()]
    nodes += [TextNode(text=f"{QUESTION} ({number})", id_=f"theirs {number}") for number in (1, 2)]
    for at, node in enumerate(nodes):
        node.metadata = {"tenant": "ours" if node.text in FACTS else "theirs", "page": {"at": at}}
        node.excluded_embed_metadata_keys = ["tenant", "page"]
    filters = MetadataFilters(filters=[MetadataFilter(key="tenant", value="ours")])
    shared = VectorStoreIndex(nodes, embed_model=embedding)
    return shared.as_retriever(similarity_top_k=9, filters=filters)


ENGINES = {
    "query engine": RetrieverQueryEngine.from_args,
    "citation": lambda found, **options: CitationQueryEngine.from_args(
        found.__dict__["_index"], retriever=found, **options
    ),
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_filters_hold(ours, reranker, emulator, engine):
    """What a retriever filtered is all that is sent and comes back, with its own metadata."""
    answer, words = asked(engine(ours, llm=Echo(), node_postprocessors=[reranker]), "query")

    [request] = emulator.log
    assert request.body["input"]["query"] == QUESTION
    assert sorted(request.body["input"]["documents"]) == sorted(FACTS)
    assert facts_in(words) == RANKED
    assert "theirs" not in words
    metadata = [each.metadata for each in answer.source_nodes]
    assert metadata == [{"tenant": "ours", "page": {"at": FACTS.index(fact)}} for fact in RANKED]


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        ("context", "chat"),
        ("condense_plus_context", "astream_chat"),
        ("condense_question", "astream_chat"),
        ("best", "chat"),
    ],
)
def test_chat_engine_of_an_index(index, reranker, emulator, mode, way):
    """Every mode of ``index.as_chat_engine`` shows its model the reranked nodes."""
    chat = index.as_chat_engine(
        mode, llm=Echo(), similarity_top_k=4, node_postprocessors=[reranker]
    )

    answer, words = asked(chat, way, f"{QUESTION}\n")

    # One of them, condense_question streamed by the async way, forgets to set source_nodes.
    sources = answer.source_nodes or answer.sources[0].raw_output.source_nodes
    assert sent(emulator) == [QUESTION]
    assert texts(sources) == facts_in(words) == RANKED


@pytest.mark.parametrize("way", ["call", "acall"])
def test_retriever_tool(retriever, reranker, emulator, told, way):
    """The line ends that a retriever tool puts behind its query are neither sent nor told.

    Called as an agent calls it, the tool makes "input is ..." of the query: a QueryEngineTool does
    not.
    """
    lookup = RetrieverTool.from_defaults(
        retriever, node_postprocessors=[reranker], name="lookup", description="Looks up facts."
    )

    answer, words = asked(lookup, way)
    assert texts(answer.raw_output) == facts_in(words) == RANKED
    if way == "call":
        lookup.call(input=QUESTION)
    else:
        asyncio.run(lookup.acall(input=QUESTION))

    assert sent(emulator) == told.queries() == [QUESTION, f"input is {QUESTION}"]


def test_evaluator(retriever, reranker, emulator):
    """The metrics of a retriever are those of its reranked nodes."""
    evaluator = RetrieverEvaluator.from_metric_names(
        ["mrr", "hit_rate"], retriever=retriever, node_postprocessors=[reranker]
    )

    result, _ = asked(evaluator, "aevaluate", f"{QUESTION}\n", expected_ids=["3"])

    assert result.retrieved_ids == ["3", "1"]
    assert result.retrieved_texts == RANKED
    assert result.metric_vals_dict == {"mrr": 1.0, "hit_rate": 1.0}
    assert sent(emulator) == [QUESTION]
