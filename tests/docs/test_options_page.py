"""docs/options.md has every option of the code, by its name, with its default."""

import json
import re
from pathlib import Path

import pytest

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


def test_names():
    """The table has every option, and no other."""
    assert ROWS.keys() == EVERY.keys()


@pytest.mark.parametrize("name", EVERY)
def test_defaults(name):
    """Each default is the one in the code; where they differ, each is named."""
    if name == "callback_manager":
        pytest.skip("LlamaIndex makes a new one")
    default, _ = ROWS[name]

    if name == "top_n":
        assert default == f"{shown(EVERY[name])}, in `Reranker` {shown(CORE[name])}"
        assert all(shown(door[name]) == shown(EVERY[name]) for door in DOORS.values())
    else:
        assert default == shown(EVERY[name])


@pytest.mark.parametrize("name", EVERY)
def test_whose_it_is(name):
    """An option that the core lacks says which door has it."""
    having = [door for door, fields in DOORS.items() if name in fields]
    said = re.match(r"(QwenRerank|LangChain|LlamaIndex): ", ROWS[name][1])

    if name in CORE:
        assert said is None
    else:
        assert said[1] == ("QwenRerank" if len(having) == 2 else having[0])


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
