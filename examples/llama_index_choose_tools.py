"""Shows an agent's model the few tools that fit, out of hundreds: a script to run and to read.

    python examples/llama_index_choose_tools.py

An ObjectIndex finds all of two hundred tools, and the reranker keeps those whose names and
descriptions fit what the user said. LlamaIndex chooses anew at every turn of the agent, and once
more, by its name, for each tool that is called; with a cache the later turns cost nothing. An
emulator and a fake language model answer; for the real ones, leave base_url and api_key out
(DASHSCOPE_API_KEY is then billed) and pass another llm and embed_model. It was never run against
the live service.

It takes: pip install ".[llama-index,emulator]"
"""

import asyncio
from collections.abc import Sequence
from itertools import product

from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.objects import ObjectIndex, ObjectRetriever
from llama_index.core.tools import BaseTool, FunctionTool

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank.emulator import Emulator

VERBS = ("book", "cancel", "find", "change", "rate", "share", "print", "translate", "pay", "draw")
THINGS = (
    *("flight", "hotel", "table", "train", "taxi", "concert", "invoice", "recipe", "meeting"),
    *("parcel", "photo", "song", "museum", "doctor", "contract", "garden", "letter", "bicycle"),
    *("weather report", "language course"),
)


def tools() -> list[BaseTool]:
    """Two hundred tools, which do nothing."""
    return [
        FunctionTool.from_defaults(
            lambda: "Done.",
            name=f"{verb}_{thing}".replace(" ", "_"),
            description=f"{verb.capitalize()} a {thing} for the user.",
        )
        for verb, thing in product(VERBS, THINGS)
    ]


def chooser(reranker: QwenRerank) -> ObjectRetriever:
    """Keeps the ``top_n`` of *reranker*, whatever the embedding thinks of the two hundred."""
    index = ObjectIndex.from_objects(tools(), embed_model=MockEmbedding(embed_dim=8))
    return index.as_retriever(similarity_top_k=200, node_postprocessors=[reranker])


def onlooker(
    messages: Sequence[ChatMessage], tools: Sequence[BaseTool], **_: object
) -> ChatMessage:
    """A language model that shows which tools it was given, and calls the first of them."""
    print(f"Of 200 tools the model is shown {len(tools)}:", *(each.metadata.name for each in tools))
    if messages[-1].role == "tool":
        return ChatMessage("It is booked.", role="assistant")
    return ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name=tools[0].metadata.name)])


async def main() -> None:
    """Asks an agent that has two hundred tools."""
    with (
        Emulator() as service,
        QwenRerank(5, base_url=service.base_url, api_key=service.api_key, cache={}) as reranker,
    ):
        llm = MockFunctionCallingLLM(response_generator=onlooker)
        agent = FunctionAgent(llm=llm, tool_retriever=chooser(reranker))
        running = agent.run(asked := "Please book me a flight and a hotel in Lisbon.")
        print(asked)
        async for event in running.stream_events():
            if isinstance(event, ToolCallResult):
                print(f"It calls {event.tool_name}: {event.tool_output.content}")
        print(await running)
    print(reranker.usage)


if __name__ == "__main__":
    asyncio.run(main())
