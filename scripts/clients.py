"""Asks the emulator through other makers' clients and writes what came of it: make clients.

Each is installed as pinned into a temporary folder, away from this project, and asked three times:
with the key, with a wrong one, and while the service throttles. Needs pip, npm and node, and some
minutes.
"""

import json
import os
import re
import subprocess
import tempfile
import venv
from itertools import groupby
from pathlib import Path

from qwen_rerank.emulator import Emulator

PAGE = Path(__file__).parents[1] / "docs" / "offline.md"
KEY = "sk-emulator"
QUERY, DOCUMENTS, ORDER = "blue cat", ["a dog", "the blue cat", "a blue sky"], [1, 2, 0]
SECONDS = 120  # for one question: some wait before they ask again

# Around a client's own lines, which put the positions, the best first, into `order`. Key and host
# are in the environment.
PYTHON = """\
import json, os
url, key, query, documents = {asked}
try:
{code}
except BaseException as error:
    order = type(error).__name__
print(json.dumps(order))
"""
NODE = """\
import {{ rerank }} from "ai";
import {{ createQwen }} from "qwen-ai-provider-v5";
const [url, apiKey, query, documents] = {asked};
const baseURL = url.replace(/\\/api\\/v1.*/, "/compatible-mode/v1");
let order;
try {{
{code}
}} catch (error) {{ order = error.name; }}
console.log(JSON.stringify(order));
"""
TEXT_RERANK = """\
from dashscope import TextReRank
answer = TextReRank.call("qwen3-rerank", query, documents)
order = answer.output and [result.index for result in answer.output.results]
order = order or f"returns {answer.code}"
"""
CLIENT = """\
from dashscope import Client
answer = Client().rerank.create(model="qwen3-rerank", query=query, documents=documents)
order = [result.index for result in answer.results]
"""
LLAMA_INDEX = """\
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.dashscope_rerank import DashScopeRerank
nodes = [NodeWithScore(node=TextNode(text=text)) for text in documents]
found = DashScopeRerank(model="qwen3-rerank").postprocess_nodes(nodes, query_str=query)
order = [documents.index(each.node.text) for each in found]
"""
COMMUNITY = """\
from langchain_community.document_compressors.dashscope_rerank import DashScopeRerank
order = [found["index"] for found in DashScopeRerank().rerank(documents, query)]
"""
LITELLM = """\
import litellm
litellm.suppress_debug_info = True
order = [f["index"] for f in litellm.rerank("dashscope/qwen3-rerank", query, documents).results]
"""
LIGHTRAG = """\
import asyncio
from lightrag.rerank import ali_rerank
asked = ali_rerank(query, documents, model="qwen3-rerank", base_url=url)
order = [found["index"] for found in asyncio.run(asked)]
"""
LEXILUX = """\
from lexilux import Rerank
client = Rerank(base_url=url, api_key=key, model="qwen3-rerank", mode="dashscope")
order = [found[0] for found in client(query, documents).results]
"""
VERCEL = """\
const model = createQwen({ apiKey, baseURL }).rerankingModel("%s");
order = (await rerank({ model, query, documents })).ranking.map((each) => each.originalIndex);
"""
TOLD = COMMUNITY.replace("()", "().model_copy(update={'model': 'qwen3-rerank'})", 1)
SDK = "dashscope==1.27.8"  # the last of 1.x
COMMUNITYS = ("langchain-community==0.4.2", SDK)
LLAMAS = ("llama-index-postprocessor-dashscope-rerank==0.6.0", SDK)
VERCELS = ("npm:qwen-ai-provider-v5@2.1.3", "npm:ai@6.0.326", "npm:zod@4.6.7")
CLIENTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("the SDK's `TextReRank`", ("dashscope==1.22.2",), TEXT_RERANK),
    ("the SDK's `TextReRank`", (SDK,), TEXT_RERANK),
    ("the SDK's `TextReRank`", ("dashscope==2.0.2",), TEXT_RERANK),
    ("the SDK's `Client`", ("dashscope==2.0.2",), CLIENT),
    ("LlamaIndex's `DashScopeRerank`", LLAMAS, LLAMA_INDEX),
    ("langchain-community's `DashScopeRerank`", COMMUNITYS, COMMUNITY),
    ("the same, set to `qwen3-rerank`", COMMUNITYS, TOLD),
    ("LiteLLM's SDK", ("litellm==1.108.7",), LITELLM),
    ("LightRAG's `ali_rerank`", ("lightrag-hku==1.5.7",), LIGHTRAG),
    ("lexilux", ("lexilux==2.8.0",), LEXILUX),
    ("Vercel's AI SDK, `qwen3-rerank`", VERCELS, VERCEL % "qwen3-rerank"),
    ("Vercel's AI SDK, `gte-rerank-v2`", VERCELS, VERCEL % "gte-rerank-v2"),
)


def install(packages: tuple[str, ...], folder: Path) -> str:
    """Installs *packages* into *folder*; returns the program that runs scripts beside them."""
    names = [package.removeprefix("npm:") for package in packages]
    if names != list(packages):
        command, program = ["npm", "install", "--silent", "--legacy-peer-deps", *names], "node"
    else:
        venv.create(folder / "venv", with_pip=True)
        program = str(folder / "venv" / "bin" / "python")
        command = [program, "-m", "pip", "install", "--quiet", *names]
    subprocess.run(command, cwd=folder, check=True)
    return program


def ask(program: str, code: str, emulator: Emulator, key: str, folder: Path) -> str:
    """Says what a client makes of one question: the ranking, or the name of what it raises."""
    url = f"{emulator.base_url}/services/rerank/text-rerank/text-rerank"
    template, script = (NODE, "ask.mjs") if program == "node" else (PYTHON, "ask.py")
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    asked = json.dumps([url, key, QUERY, DOCUMENTS])
    (folder / script).write_text(template.format(asked=asked, code=lines), encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DASHSCOPE_API_KEY": key,
        "DASHSCOPE_HTTP_BASE_URL": emulator.base_url,
        "DASHSCOPE_API_BASE_RERANK": f"{emulator.compatible_base_url}/reranks",
    }
    done = subprocess.run(
        [program, script], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=SECONDS, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    again = f", asked {emulator.requests_seen} times" if emulator.requests_seen > 1 else ""
    return ("yes" if told == ORDER else f"`{told}`") + again


def main() -> None:
    """Asks all of them and writes the table into the page."""
    rows = ["| client | version | asks | ranks | a wrong key | a 429 |", "|---" * 6 + "|"]
    with Emulator(api_key=KEY) as emulator:
        for packages, clients in groupby(CLIENTS, key=lambda client: client[1]):
            with tempfile.TemporaryDirectory() as folder:
                program = install(packages, Path(folder))
                for name, _, code in clients:
                    said = []
                    for key, faults in ((KEY, ()), ("sk-wrong", ()), (KEY, ("429-rate",))):
                        emulator.clear()
                        for fault in faults:
                            emulator.fault(fault)
                        said.append(ask(program, code, emulator, key, Path(folder)))
                    route = "native" if emulator.log[0].path.startswith("/api") else "compatible"
                    cells = name, packages[0].removeprefix("npm:"), route, *said
                    rows.append(f"| {' | '.join(cells)} |")
                    print(rows[-1], flush=True)
    table = "\n".join(["", *rows, "", ""])
    between = re.compile(r"(?<=<!-- clients -->\n).*?(?=<!-- end -->)", re.DOTALL)
    text = between.sub(lambda _: table, PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
