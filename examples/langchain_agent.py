"""An agent whose search tool reranks what it finds: a script to run and to read.

    python examples/langchain_agent.py
    python examples/langchain_agent.py openai:gpt-5-mini

Without a model's name nothing leaves this machine: the answers come from an emulator of the rerank
service, which compares words, and from a chat model with two lines to say. With one, that model is
asked, and the passages are sent to DashScope and billed to DASHSCOPE_API_KEY. It was never run
against the live service.

It takes: pip install ".[langchain,emulator]" langchain
A model of your own takes its package too.
"""

import sys
from contextlib import ExitStack

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool, create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_qwen_rerank import QwenRerank, QwenRerankRetriever

QUESTION = "Which animal sleeps upside down in a cave?"
FACTS = {
    "whale": "The blue whale is the largest animal of the sea.",
    "bat": "A bat sleeps upside down, often in a cave.",
    "cheetah": "The cheetah runs faster than any other animal.",
    "bee": "Bees dance to tell where the flowers are.",
    "bear": "A bear sleeps through the winter, sometimes in a cave.",
    "owl": "An owl hunts at night and sleeps in a tree.",
}


def search_tool(reranker: QwenRerank) -> BaseTool:
    """Finds many facts, of which the model is shown the best two; the artifact has their scores."""
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))  # any store and embeddings
    store.add_documents([Document(fact, metadata={"of": name}) for name, fact in FACTS.items()])
    found = store.as_retriever(search_kwargs={"k": 50})
    return create_retriever_tool(
        QwenRerankRetriever(base_retriever=found, reranker=reranker, k=2),
        "search_facts",
        "Searches facts about animals.",
        response_format="content_and_artifact",
    )


class ScriptedModel(FakeMessagesListChatModel):
    """Says its lines in order, whatever it is given."""

    def bind_tools(self, *_: object, **__: object) -> BaseChatModel:
        """Take note of the tools, and need none of them."""
        return self


def scripted() -> BaseChatModel:
    """A model that searches once and then answers."""
    call = ToolCall(name="search_facts", args={"query": QUESTION}, id="1")
    return ScriptedModel(responses=[AIMessage("", tool_calls=[call]), AIMessage("A bat.")])


def main(model_name: str | None = None) -> None:
    """Asks the agent and shows what it read and said."""
    with ExitStack() as stack:
        if model_name:
            model, reranker = init_chat_model(model_name), QwenRerank()
        else:
            from qwen_rerank.emulator import Emulator  # noqa: PLC0415  a real model does without

            service = stack.enter_context(Emulator())
            model = scripted()
            reranker = QwenRerank(base_url=service.base_url, api_key=service.api_key)
        agent = create_agent(model, [search_tool(reranker)])
        messages = agent.invoke({"messages": [("user", QUESTION)]})["messages"]
    print(QUESTION)
    for message in messages:
        if isinstance(message, ToolMessage):
            for document in message.artifact:
                print(f"  {document.metadata['relevance_score']:.3f}  {document.page_content}")
    print(messages[-1].text)
    print(reranker.usage)


if __name__ == "__main__":
    main(*sys.argv[1:2])
