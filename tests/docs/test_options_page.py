"""docs/options.md has every option of the code, by its name, with its default."""

import json
import re
from pathlib import Path

import langchain_qwen_rerank
import llama_index_qwen_rerank
from qwen_rerank import CallOptions, RerankSettings

PAGE = (Path(__file__).parents[2] / "docs" / "options.md").read_text()
# Of each row with an anchor: the name, the default, and the unit or the values.
ROWS = {
    name: (default, values)
    for name, default, values in re.findall(
        r"^\| <a id=\"(\w+)\"></a>`\1` \| (.+?) \| (.+?) \| .+? \|.*\|$", PAGE, re.MULTILINE
    )
}
CORE = RerankSettings.model_fields
DOORS = {
    "LangChain": langchain_qwen_rerank.QwenRerank.model_fields,
    "LlamaIndex": llama_index_qwen_rerank.QwenRerank.model_fields,
}
EVERY = CORE | DOORS["LangChain"] | DOORS["LlamaIndex"]


def shown(field):
    """The default of *field* as the page writes it."""
    default = field.get_default()
    return f"`{json.dumps(default) if type(default) is str else default}`"


def test_names_and_defaults():
    """The table has every option, and no other, with its default; where they differ, each."""
    defaults = {name: shown(field) for name, field in EVERY.items()}
    defaults["top_n"] += f", in `Reranker` {shown(CORE['top_n'])}"
    defaults["callback_manager"] = "a new one"

    assert {name: default for name, (default, _) in ROWS.items()} == defaults
    assert {shown(door["top_n"]) for door in DOORS.values()} == {shown(EVERY["top_n"])}


def test_whose_it_is():
    """An option that the core lacks says which door has it."""
    for name, (_, values) in ROWS.items():
        having = [door for door, fields in DOORS.items() if name in fields]
        said = re.match(r"(QwenRerank|LangChain|LlamaIndex): ", values)

        if name in CORE:
            assert said is None, name
        else:
            assert said[1] == ("QwenRerank" if len(having) == 2 else having[0]), name


def test_options_of_one_call():
    """The table of what one call can change has the options that it can change."""
    [header] = re.findall(r"^\| where \| (.+) \|$", PAGE, re.MULTILINE)

    assert header.replace("`", "").split(" | ") == list(CallOptions.__annotations__)


def test_options_of_the_retriever():
    """The retriever's own options are named."""
    own = vars(langchain_qwen_rerank.QwenRerankRetriever)["__annotations__"]
    own = {name for name in own if not name.startswith("_")} - {"model_config"}

    assert own == {"base_retriever", "reranker", "k"}
    assert all(f"`{name}`" in PAGE for name in own)
