"""Options in errors are called as on the command line."""

import click
import pytest

from qwen_rerank import RequestError, Reranker
from qwen_rerank._advice import advise
from qwen_rerank.cli._app import app
from qwen_rerank.cli._words import OPTIONS, complaint, flag
from qwen_rerank.settings import RerankSettings


@pytest.mark.parametrize("name", app.commands)
def test_the_options_of_a_command(name):
    """What errors call an option is what the command takes, and every option is called so."""
    flags = {
        text
        for parameter in app.commands[name].params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for text in parameter.opts
    }
    ours = {option: flag(option) for option in RerankSettings.model_fields}
    known = {option for option, text in ours.items() if text in flags}
    assert known == set(OPTIONS.get(name, ()))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("rerank", "set --server vllm, --allow-http and --api-key-env; --concurrency"),
        ("demo", "set server='vllm' (in Python), allow_http=True (in Python) and api_key= (in P"),
    ],
)
def test_a_hint_on_the_command_line(command, said):
    """Options and values are spelled as they are typed; what a command lacks is Python's."""
    hint = advise(
        "set {server='vllm'}, {allow_http=True} and {api_key=}; {max_concurrency=:change}"
    )
    facts, told = complaint(RequestError("no", status=400, hint=hint), command)
    assert facts == "no (HTTP 400)"
    assert told.startswith(said)


def test_a_wrong_option_on_the_command_line():
    """What construction refuses is said in the same words."""
    with pytest.raises(ValueError, match="region") as caught:
        Reranker(api_key="sk-0123456789abcdef0123", region="eu-central-1")
    assert "set --workspace or --base-url, otherwise" in complaint(caught.value, "doctor")[0]
