"""Shows an agent's model the few tools that fit, out of hundreds: a script to run and to read.

    python examples/langchain_choose_tools.py

`RerankToolSelector` does what LangChain's LLMToolSelectorMiddleware does without asking a language
model: the descriptions of the tools are reranked for what the user said last. This script has two
hundred tools, and an emulator and a fake model to answer; to use the real ones, leave base_url and
api_key out (DASHSCOPE_API_KEY is then billed) and pass create_agent another model. It was never run
against the live service.

It takes: pip install ".[langchain,emulator]" langchain
"""

from collections.abc import Awaitable, Callable, Collection
from itertools import product

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool

from langchain_qwen_rerank import QwenRerank
from qwen_rerank.emulator import Emulator

VERBS = ("book", "cancel", "find", "change", "rate", "share", "print", "translate", "pay", "draw")
THINGS = (
    *("flight", "hotel", "table", "train", "taxi", "concert", "invoice", "recipe", "meeting"),
    *("parcel", "photo", "song", "museum", "doctor", "contract", "garden", "letter", "bicycle"),
    *("weather report", "language course"),
)


class RerankToolSelector(AgentMiddleware):
    """Keeps the *k* tools that fit best, those of *always_include*, and the provider's own."""

    def __init__(
        self, reranker: QwenRerank, k: int = 10, always_include: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.k, self.always_include = k, frozenset(always_include)
        self.step = reranker.as_runnable("rerank").with_config(configurable={"rerank_top_n": k})

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse:
        """Choose, then call the model."""
        if asked := self._asked(request):
            request = self._with(request, self.step.invoke(asked))
        return handler(request)

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        """`wrap_model_call` for a running event loop."""
        if asked := self._asked(request):
            request = self._with(request, await self.step.ainvoke(asked))
        return await handler(request)

    def _asked(self, request: ModelRequest) -> dict[str, object] | None:
        said = (each.text for each in reversed(request.messages) if isinstance(each, HumanMessage))
        query = str(next(said, "")).strip()
        rest = [tool for tool in request.tools if not self._stays(tool)]
        if not query or len(rest) <= self.k:
            return None
        documents = [Document(f"{it.name}: {it.description}", id=it.name) for it in rest]
        return {"query": query, "documents": documents}

    def _with(self, request: ModelRequest, ranked: list[Document]) -> ModelRequest:
        names = {document.id for document in ranked}
        kept = [it for it in request.tools if self._stays(it) or it.name in names]
        return request.override(tools=kept)

    def _stays(self, tool: BaseTool | dict) -> bool:
        return isinstance(tool, dict) or tool.name in self.always_include


def tools() -> list[BaseTool]:
    """Two hundred tools, which do nothing."""
    return [
        StructuredTool.from_function(
            lambda: "Done.",
            name=f"{verb}_{thing}".replace(" ", "_"),
            description=f"{verb.capitalize()} a {thing} for the user.",
        )
        for verb, thing in product(VERBS, THINGS)
    ]


class Onlooker(FakeMessagesListChatModel):
    """Says what it is told to say, and shows which tools it was given."""

    def bind_tools(self, given: list[BaseTool], **_: object) -> BaseChatModel:
        """Show them."""
        print(f"Of 200 tools the model is shown {len(given)}:", *(each.name for each in given))
        return self


def main() -> None:
    """Asks an agent that has two hundred tools."""
    with Emulator() as service:
        reranker = QwenRerank(base_url=service.base_url, api_key=service.api_key, cache={})
        chooser = RerankToolSelector(reranker, k=5, always_include=["pay_invoice"])
        model = Onlooker(responses=[AIMessage("It is booked.")])
        agent = create_agent(model, tools(), middleware=[chooser])
        print(asked := "Please book me a flight and a hotel in Lisbon.")
        print(agent.invoke({"messages": [("user", asked)]})["messages"][-1].text)
        print(reranker.usage)


if __name__ == "__main__":
    main()
