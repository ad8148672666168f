"""An agent whose search tool reranks what it finds: a script to run and to read.

    python examples/llama_index_agent.py

Nothing leaves this machine: the answers come from an emulator of the rerank service, which compares
words, and from a language model that calls a tool and repeats what it said. For the real ones,
leave base_url and api_key out (DASHSCOPE_API_KEY is then billed) and pass another llm, such as
OpenAI("gpt-5-mini"). It was never run against the live service.

It takes: pip install ".[llama-index,emulator]"
"""

import asyncio
from collections.abc import Sequence

from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import LLM, ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.schema import TextNode
from llama_index.core.tools import QueryEngineTool

from llama_index_qwen_rerank import QwenRerank
from qwen_rerank.emulator import Emulator

QUESTION = "Which animal sleeps upside down in a cave?"
FACTS = (
    "The blue whale is the largest animal of the sea.",
    "A bat sleeps upside down, often in a cave.",
    "The cheetah runs faster than any other animal.",
    "Bees dance to tell where the flowers are.",
    "A bear sleeps through the winter, sometimes in a cave.",
    "An owl hunts at night and sleeps in a tree.",
)


def search_tool(reranker: QwenRerank, llm: LLM) -> QueryEngineTool:
    """Finds many facts, and answers from those that *reranker* keeps.

    A QueryEngineTool asks what the model asked it; a RetrieverTool would ask "input is ...".
    """
    nodes = [TextNode(text=fact) for fact in FACTS]
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=8))  # any index
    engine = index.as_query_engine(llm=llm, similarity_top_k=50, node_postprocessors=[reranker])
    return QueryEngineTool.from_defaults(
        engine, name="search_facts", description="Searches facts about animals."
    )


def scripted(messages: Sequence[ChatMessage], **_: object) -> ChatMessage:
    """A language model that searches once and then answers."""
    if messages[-1].role == "tool":
        return ChatMessage("A bat.", role="assistant")
    call = ToolCallBlock(tool_name="search_facts", tool_kwargs={"input": QUESTION})
    return ChatMessage(role="assistant", blocks=[call])


async def main() -> None:
    """Asks the agent and shows what it read and said."""
    with Emulator() as service:
        async with QwenRerank(2, base_url=service.base_url, api_key=service.api_key) as reranker:
            llm = MockFunctionCallingLLM(response_generator=scripted)
            running = FunctionAgent(llm=llm, tools=[search_tool(reranker, llm)]).run(QUESTION)
            print(QUESTION)
            async for event in running.stream_events():
                if isinstance(event, ToolCallResult):
                    for node in event.tool_output.raw_output.source_nodes:
                        print(f"  {node.score:.3f}  {node.get_content()}")
            print(await running)
    print(reranker.usage)


if __name__ == "__main__":
    asyncio.run(main())
