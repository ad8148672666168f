"""Writes what every error says into docs/failures.md, by raising each: `make failures`."""

import errno
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from pydantic import SecretStr

from qwen_rerank import Reranker, RerankError, _refusal
from qwen_rerank._drive import Line
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._gate import Gate
from qwen_rerank._refusal import Refusal, explain
from qwen_rerank._route import Proxy
from qwen_rerank._servers import Server
from qwen_rerank._told import Lengths
from qwen_rerank._transport import Transport, _failure
from qwen_rerank._values import Item, Place, Request

__all__ = ["PAGE", "SETTINGS", "Row", "page", "refused", "rows", "settings"]

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"
_HEAD = "## Every text\n"

_INTRO = """
Written by `make failures`, which raises each error; a test compares. What is in *italics* is said
where that option is set. On the command line options are called as there, `--region` for `region=`.
"""

_OF_PLAN = "a key of a Coding Plan"
_HOST = "dashscope.aliyuncs.com"
_DASHSCOPE = Endpoint(
    f"https://{_HOST}/api/v1/services/rerank/text-rerank/text-rerank",
    _HOST,
    local=False,
    api_key=None,
    workspace=None,
    found_in={"key": "the environment variable DASHSCOPE_API_KEY", "host": "", "workspace": ""},
    given={"protocol": "dashscope"},
)
_OWN = replace(
    _DASHSCOPE,
    url="http://gpu.example:8000/rerank",
    host="gpu.example:8000",
    given={"protocol": "compatible", "server": "vllm", "base_url": "http://gpu.example:8000"},
)
SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"base_url": f"https://{_HOST}/api/v1"},
    {"region": "cn-beijing"},
    {"workspace": "ws-1"},
    {"api_key": True},
    {"protocol": "compatible"},
    {"max_model_len": 512},
    {"server": "vllm", "base_url": "http://gpu.example:8000"},
    {"model": "qwen3-rerank"},
    {"long_documents": "error"},
)
"""Options that somebody may have set, which hints have to take into account."""


class Row(NamedTuple):
    """One kind of failure.

    Attributes:
        name: What comes, or is so.
        refusal: What was said.
        server: By which kind of server; None for DashScope.
        model: Which model was asked for.
    """

    name: str
    refusal: Refusal
    server: Server | None = None
    model: str = "qwen3-rerank"


def rows() -> Iterator[Row]:
    """A refusal for every row of every table, and for each way that a hint may take."""
    for known in _refusal._CATALOGUE:
        yield _row(known, 400)
    for status in _refusal._BY_STATUS:
        yield Row(f"HTTP {status}", Refusal(status, None, None, None))
    yield Row("a redirect", Refusal(307, None, None, None, "https://other.example/"))
    for known in _refusal._OWN:
        name, refusal, _, _ = _row(known, 400)
        said = refusal.message
        if known is _refusal._TOO_LONG:
            said = "This model's maximum context length is 512 tokens."
        yield Row(name, refusal._replace(message=said), "vllm")
    for status in (404, *_refusal._BY_STATUS_OF_OWN):
        yield Row(f"HTTP {status}", Refusal(status, None, None, None), "vllm")
    yield Row("a refused key behind LiteLLM", Refusal(401, "InvalidApiKey", "no", None), "litellm")
    not_there = Refusal(404, "ModelNotFound", "Model can not be found.", None)
    yield Row("a mistyped model", not_there, model="qwen-rerank")
    yield Row("a model that was retired", not_there, model="gte-rerank")
    yield Row(_OF_PLAN, Refusal(401, "InvalidApiKey", "no", None))


def _row(known: Any, status: int) -> Row:
    shown = [f"`{code}`" for code in known.codes] + [f'"{part}"' for part in known.said]
    code = known.codes[0] if known.codes else "InvalidParameter"
    said = "no" if known.codes else known.said[0]
    return Row(", ".join(shown), Refusal(status, code, said, None))


def refused(row: Row, given: Mapping[str, Any]) -> RerankError:
    """The error of *row* where the options *given* are set."""
    items = tuple(Item("a text", 2, (Place(place),)) for place in range(2))
    request = Request(row.model, "a query", None, items)
    asked = _DASHSCOPE if row.server is None else _OWN
    if row.name == _OF_PLAN:
        asked = replace(asked, api_key=SecretStr("sk-sp-0123456789abcdef"))
    options = {**asked.given, **given}
    places = {
        "key": "api_key" if "api_key" in options else _DASHSCOPE.found_in["key"],
        "host": next((name for name in ("base_url", "region") if name in options), ""),
        "workspace": "workspace" if "workspace" in options else "",
    }
    asked = replace(asked, given=options, found_in=places)
    return explain(row.refusal, request, asked, row.server)


def _reach() -> Iterator[tuple[str, RerankError]]:
    """What is said where no answer came."""
    proxy = Proxy("http", "proxy.example", 3128, "HTTPS_PROXY")
    of_workspace = replace(
        _DASHSCOPE,
        host="ws-1.cn-beijing.maas.aliyuncs.com",
        workspace="ws-1",
        found_in={"host": "region", "workspace": "workspace"},
    )
    named = replace(
        _DASHSCOPE, given={"base_url": "x"}, found_in={"host": "base_url", "workspace": ""}
    )
    unknown = socket.gaierror(-2, "Name or service not known")
    no_file = FileNotFoundError(errno.ENOENT, "No such file or directory", "/etc/ca.pem")
    refuses = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    token = httpx.Request("POST", "https://login.example/token")
    no_token = httpx.ConnectError("Connection refused", request=token)

    def fails(cause: BaseException, endpoint: Endpoint = _DASHSCOPE, by: Any = None) -> RerankError:
        return _failure(cause, endpoint, None, by)

    yield "the name is unknown", fails(unknown)
    yield "likewise, of `base_url=`", fails(unknown, named)
    yield "likewise, made of `workspace=` and `region=`", fails(unknown, of_workspace)
    yield "no connection", fails(refuses)
    yield "likewise, of `base_url=`", fails(refuses, named)
    yield "likewise, of the login of a client of yours", fails(no_token, by=object())
    yield "a certificate that is not trusted", fails(_distrusted(20))
    yield "likewise, by a client of yours", fails(_distrusted(20), by=object())
    yield "a certificate that has run out", fails(_distrusted(10))
    yield "a certificate for another name", fails(_distrusted(62))
    yield "a file that is missing", _failure(no_file, _DASHSCOPE, None, None)
    yield "the proxy refuses", proxy.refusal("HTTP 403 Forbidden")
    yield "the proxy is not there", proxy.absence("Connection refused")
    yield "the proxy cannot get on", proxy.dead_end("HTTP 502 Bad Gateway")
    line = Line(_DASHSCOPE, "dashscope", Transport(), None, Gate(8), 2, Lengths())
    yield "no time was left to send anything", line.crowded((0, 1))
    yield "no answer in time", _DASHSCOPE.late((0, 1), silent=True)
    yield "likewise, of `base_url=`", named.late((0, 1), silent=True)
    yield "some answers in time", _DASHSCOPE.late((1,))
    for error in (
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("can't start new thread"),
    ):
        if (limit := _refusal.exhausted(error)) is not None:
            yield "this process has reached a limit", limit


def _distrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


_KEY = {"api_key": "sk-0123456789abcdef0123"}
_WRONG: dict[str, dict[str, Any]] = {
    "no key": {},
    "quotes around the key": {"api_key": '"sk-0123456789abcdef0123"'},
    "a blank in the key": {"api_key": "sk-0123456789 abcdef0123"},
    "a key with its header": {"api_key": "Bearer sk-0123456789abcdef0123"},
    "a region that does not exist": {**_KEY, "region": "cn-peking"},
    "a region without a shared host": {**_KEY, "region": "eu-central-1"},
    "both": {**_KEY, "region": "cn-beijing", "base_url": f"https://{_HOST}"},
    "a workspace that is none": {**_KEY, "workspace": "a b"},
    "a base that is no URL": {**_KEY, "base_url": _HOST},
    "a base of chat models": {**_KEY, "base_url": f"https://{_HOST}/compatible-mode/v1"},
    "likewise, behind a gateway": {
        **_KEY,
        "base_url": "https://gw.example/llm/v1/chat/completions",
    },
    "half of the path": {**_KEY, "base_url": f"https://{_HOST}/api/v1/services/rerank"},
    "less than half": {**_KEY, "base_url": f"https://{_HOST}/api"},
    "half of the other path": {
        **_KEY,
        "base_url": f"https://{_HOST}/compatible-api",
        "protocol": "compatible",
    },
    "another path": {**_KEY, "base_url": f"https://{_HOST}/v1"},
    "the host of a plan": {**_KEY, "base_url": "https://coding.dashscope.aliyuncs.com/v1"},
    "plain http": {**_KEY, "base_url": "http://gw.example/api/v1"},
    "a key in the URL": {**_KEY, "base_url": "https://gw.example/sk-0123456789abcdef0123"},
    "a server without its address": {**_KEY, "server": "vllm"},
    "a length without a server": {**_KEY, "max_model_len": 512},
}


def settings() -> Iterator[tuple[str, ValueError]]:
    """What is said of options that cannot be right."""
    with _nothing_found():
        for name, options in _WRONG.items():
            try:
                Reranker(**options)
            except ValueError as error:
                yield name, error
            else:
                raise AssertionError(name)


@contextmanager
def _nothing_found() -> Iterator[None]:
    """An environment without settings of the SDK."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("DASHSCOPE_"):
            del os.environ[name]
    os.environ["HOME"] = os.devnull
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def page() -> str:
    """The whole page: what is written by hand, and every text."""
    hand = PAGE.read_text(encoding="utf-8").partition(_HEAD)[0]
    parts = [hand + _HEAD + _INTRO]
    refusals = list(rows())
    for title, own in (("DashScope refuses", False), ("A server of your own refuses", True)):
        part = (row for row in refusals if (row.server is not None) == own)
        parts += [f"### {title}\n", _table(_refused(row) for row in part)]
    parts += ["### No answer came\n", _table((n, e, [e.hint or ""]) for n, e in _reach())]
    lines = ["| what is wrong | what is said |", "|---|---|"]
    lines += [f"| {name} | {_cell(str(error))} |" for name, error in settings()]
    return "\n".join([*parts, "### Before anything is sent, a `ValueError`\n", *lines, ""])


def _refused(row: Row) -> tuple[str, RerankError, list[str]]:
    usual = refused(row, {})
    hints = [_cell(usual.hint or "")]
    for given in SETTINGS[:6]:
        hint = refused(row, given).hint
        if hint not in (usual.hint, None) and row.server is None:
            names = " and ".join(f"`{name}=`" for name in given)
            hints.append(f"*{names}: {_cell(hint or '')}*")
        elif hint != usual.hint and "max_model_len" in given:
            hints.append(f"*`max_model_len=`: {_cell(hint or '')}*")
    return row.name, usual, hints


def _table(found: Any) -> str:
    lines = ["| what comes | error | what to do |", "|---|---|---|"]
    for name, error, hints in found:
        told = "<br>".join(filter(None, hints)) or "nothing: it is tried again"
        lines.append(f"| {name} | `{type(error).__name__}` | {told} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
