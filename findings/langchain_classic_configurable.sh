#!/usr/bin/env bash
# Seen with langchain-classic 1.0.8 on langchain-core 1.8.3, Python 3.11.
#
# A configurable field of a retriever is set by the config of a call:
# retriever.invoke(question, {"configurable": {"language": "de"}}). Around such a retriever,
# EnsembleRetriever hands the config on, while ContextualCompressionRetriever and
# MultiQueryRetriever call it with the callbacks alone: the field silently keeps its default. As a
# step of a chain the same retrievers see the value, because LangChain then keeps the config of the
# chain in a context variable. Output:
#
#     the retriever itself: de
#     EnsembleRetriever: de, as a step: de
#     ContextualCompressionRetriever: en, as a step: de
#     MultiQueryRetriever over a retriever that calls it: en, as a step: de
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langchain-classic==1.0.8 langchain-core==1.8.3
cat >"$folder/run.py" <<'PYTHON'
from langchain_classic.retrievers import (
    ContextualCompressionRetriever,
    EnsembleRetriever,
    MultiQueryRetriever,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda


class Store(BaseRetriever):
    language: str = "en"

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(self.language)]


class Same(BaseDocumentCompressor):
    def compress_documents(self, documents, query, callbacks=None):
        return documents


class Wrapped(BaseRetriever):  # MultiQueryRetriever takes no configurable retriever itself
    def _get_relevant_documents(self, query, *, run_manager):
        return store.invoke(query)


store = Store().configurable_fields(language=ConfigurableField(id="language"))
config = {"configurable": {"language": "de"}}
step = RunnableLambda(str)


def found(retriever):
    return retriever.invoke("question", config)[0].page_content


print(f"the retriever itself: {found(store)}")
model = FakeListChatModel(responses=["another question"])
for name, retriever in {
    "EnsembleRetriever": EnsembleRetriever(retrievers=[store]),
    "ContextualCompressionRetriever": ContextualCompressionRetriever(
        base_compressor=Same(), base_retriever=store
    ),
    "MultiQueryRetriever over a retriever that calls it": MultiQueryRetriever.from_llm(
        retriever=Wrapped(), llm=model
    ),
}.items():
    print(f"{name}: {found(retriever)}, as a step: {found(step | retriever)}")
PYTHON
diff <(sed -n 's/^#     //p' "$0") <("$folder/venv/bin/python" "$folder/run.py")
