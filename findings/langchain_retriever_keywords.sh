#!/usr/bin/env bash
# Seen with langchain-core 1.8.3, Python 3.11.
#
# BaseRetriever hands the keyword arguments of a call on to the retriever's own method. Of one that
# defines only the sync method, which is enough by the documentation, invoke() hands them on and
# ainvoke() raises: the default for awaited calls, which runs the sync method in a thread, takes
# none. Of one whose sync method takes none, ainvoke() drops what its async method would take,
# without a word, because only the sync signature is looked at. Output:
#
#     only a sync method: invoke 7, ainvoke TypeError
#     a sync method without the argument: invoke None, ainvoke None
#     both methods with it: invoke 7, ainvoke 7
#
# Exits with an error if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet langchain-core==1.8.3
cat >"$folder/run.py" <<'PYTHON'
import asyncio

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever


class Sync(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager, year=None):
        return [Document(str(year))]


class Mixed(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return [Document("None")]

    async def _aget_relevant_documents(self, query, *, run_manager, year=None):
        return [Document(str(year))]


class Both(Sync):
    async def _aget_relevant_documents(self, query, *, run_manager, year=None):
        return [Document(str(year))]


def awaited(retriever):
    try:
        return asyncio.run(retriever.ainvoke("question", year=7))[0].page_content
    except TypeError:
        return "TypeError"


for name, retriever in {
    "only a sync method": Sync(),
    "a sync method without the argument": Mixed(),
    "both methods with it": Both(),
}.items():
    found = retriever.invoke("question", year=7)[0].page_content
    print(f"{name}: invoke {found}, ainvoke {awaited(retriever)}")
PYTHON
diff <(sed -n 's/^#     //p' "$0") <("$folder/venv/bin/python" "$folder/run.py")
