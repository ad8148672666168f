"""Retrieve, rerank and answer as the nodes of a graph: a script to run and to read.

    python examples/langgraph_node.py
    python examples/langgraph_node.py openai:gpt-5-mini

Without a model's name nothing leaves this machine: the answers come from an emulator of the rerank
service, which compares words, and from a chat model with one line to say. With one, that model is
asked, and the passages are sent to DashScope and billed to DASHSCOPE_API_KEY. It was never run
against the live service.

It takes: pip install ".[langchain,emulator]" langchain
A model of your own takes its package too.
"""

import asyncio
import sys
from contextlib import ExitStack
from typing import TypedDict

from langchain.chat_models import init_chat_model
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from langchain_qwen_rerank import QwenRerank

QUESTION = "Which animal sleeps upside down in a cave?"
FACTS = [
    "The blue whale is the largest animal of the sea.",
    "A bat sleeps upside down, often in a cave.",
    "The cheetah runs faster than any other animal.",
    "Bees dance to tell where the flowers are.",
    "A bear sleeps through the winter, sometimes in a cave.",
]


class State(TypedDict, total=False):
    """What the nodes know."""

    query: str
    documents: list[Document]
    answer: str


def graph(model: BaseChatModel, reranker: QwenRerank) -> CompiledStateGraph:
    """The graph; a call's config may hold ``rerank_top_n``, ``rerank_instruct`` and so on."""
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))  # any store and embeddings
    store.add_texts(FACTS)
    retriever = store.as_retriever(search_kwargs={"k": 50})
    step = reranker.as_runnable("rerank")
    prompt = ChatPromptTemplate.from_template("Answer from these:\n{documents}\n\n{query}")

    async def retrieve(state: State, config: RunnableConfig) -> State:
        return {"documents": await retriever.ainvoke(state["query"], config)}

    async def rerank(state: State, config: RunnableConfig) -> State:
        return {"documents": await step.ainvoke(state, config)}

    async def answer(state: State, config: RunnableConfig) -> State:
        return {"answer": (await (prompt | model).ainvoke(state, config)).text}

    made = StateGraph(State).add_sequence([retrieve, rerank, answer])
    return made.add_edge(START, "retrieve").add_edge("answer", END).compile()


async def main(model_name: str | None = None) -> None:
    """Runs the graph, and shows what each of its nodes made."""
    with ExitStack() as stack:
        if model_name:
            model, reranker = init_chat_model(model_name), QwenRerank()
        else:
            from qwen_rerank.emulator import Emulator  # noqa: PLC0415  a real model does without

            service = stack.enter_context(Emulator())
            model = FakeListChatModel(responses=["A bat."])
            reranker = QwenRerank(base_url=service.base_url, api_key=service.api_key)
        two = {"configurable": {"rerank_top_n": 2}}
        async with reranker:
            async for update in graph(model, reranker).astream({"query": QUESTION}, two):
                [(node, made)] = update.items()
                print(f"{node}: {made.get('answer', '')}".rstrip(": "))
                for document in made.get("documents", ()):
                    score = document.metadata.get("relevance_score", "")
                    print(f"  {score!s:5.5}  {document.page_content}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
