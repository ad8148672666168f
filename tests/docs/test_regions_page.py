"""docs/regions-and-keys.md has every source of keys and hosts, in our order and in the SDK's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qwen_rerank._endpoint import PLANS, REGIONS

PAGE = (Path(__file__).parents[2] / "docs" / "regions-and-keys.md").read_text()
OLD_SDK = os.environ.get("QWEN_RERANK_OLD_SDK")  # read before the tests' environment is cleaned

# Of each kind of setting, what names it, in the page's order.
ROWS = [
    [cell.strip() for cell in row.split("|")]
    for row in re.findall(r"^\| [1-6] \|(.+)\|$", PAGE, re.MULTILINE)
]
KINDS = ("key", "base URL", "region", "workspace")
FILES = {5: "config.toml: ", 6: "key file: "}
SOURCES = {
    kind: [
        FILES.get(number, "") + name
        for number, row in enumerate(ROWS, 1)
        for name in re.findall(r"`(.+?)`", row[column].partition(" (")[0])[
            : 1 if number > 4 else None
        ]
    ]
    for column, kind in enumerate(KINDS, 1)
}
# What the SDK reads, by its own names, as the page says below the table.
CLIENT = {
    name
    for names in SOURCES.values()
    for name in names
    if not re.match(r"dashscope\.[ab]|dashscope_|DASHSCOPE_(API_REGION|WORKSPACE_ID)", name)
}
TEXT_RERANK = {
    *("dashscope.api_key", "DASHSCOPE_API_KEY", "key file: ~/.dashscope/api_key"),
    *("dashscope.base_http_api_url", "DASHSCOPE_HTTP_BASE_URL"),
}
# Of a kind's n-th source. All are Alibaba Cloud's, so that a found key may go there.
VALUES = {
    "key": [f"sk-number-{number}-0123456789abcdef" for number in range(9)],
    "base URL": [f"https://h{number}.maas.aliyuncs.com/api/v1" for number in range(9)],
    "region": [*list(REGIONS)[1:], "cn-beijing"],
    "workspace": [f"ws-{number}" for number in range(9)],
}
# Sets what it is told to, in the SDK that it finds, and says where a call goes, and with which key.
ASK = """
import json, os, pathlib, sys, warnings
import httpx, requests
from qwen_rerank import Reranker

warnings.simplefilter("ignore")  # Client's, of calls without a workspace


class Sent(BaseException):
    pass


def send(self, request, **_):
    raise Sent(httpx.URL(str(request.url)).host, request.headers["authorization"][7:])


requests.Session.send = httpx.Client.send = send
home = pathlib.Path.home() / ".dashscope"
home.mkdir()


def ours(**options):
    found = Reranker(**options)._resolved.endpoint
    return found.host, found.api_key.get_secret_value()


def theirs(call, **options):
    asked = {"model": "m", "query": "q", "documents": ["a"]}
    try:
        call(**options)(**asked)
    except Sent as sent:
        return sent.args
    except Exception as error:
        return type(error).__name__


def answers(settings):
    for name in [name for name in sys.modules if name.partition(".")[0] == "dashscope"]:
        del sys.modules[name]
    for name in [name for name in os.environ if name.startswith("DASHSCOPE_")]:
        del os.environ[name]
    options, in_code, config = {}, {}, ""
    for file in home.iterdir():
        file.unlink()
    for name, value in settings.items():
        if name.endswith("="):
            options[name[:-1]] = value
        elif name.startswith("dashscope."):
            in_code[name] = value
        elif name.startswith("config.toml: "):
            config += f"{name.partition(': ')[2]} = {value!r}\\n"
        elif name.startswith("key file: "):
            (home / "api_key").write_text(value + "\\n")
        else:
            os.environ[name] = value
    (home / "config.toml").write_text(config)
    before = ours(**options)
    import dashscope

    assert ours(**options) == before, "the import has changed something"
    for name, value in in_code.items():
        owner, _, name = name.rpartition(".")
        if owner == "dashscope.settings":
            if not hasattr(dashscope, "settings"):  # 1.x
                continue
            setattr(dashscope.settings, name, value)
        else:
            setattr(dashscope, name, value)
    told = {"ours": ours(**options)}
    told["TextReRank"] = theirs(lambda: dashscope.TextReRank.call)
    if hasattr(dashscope, "Client"):
        told["Client"] = theirs(lambda **given: dashscope.Client(**given).rerank.create, **options)
    return told


print(json.dumps([answers(settings) for settings in json.loads(sys.argv[1])]))
"""


def _from(first, *kinds):
    """Of *kinds* the sources from the n-th on, each with a value of its own."""
    return {
        name: VALUES[kind][number]
        for kind in kinds
        for number, name in enumerate(SOURCES[kind])
        if number >= first
    }


# Every source, together with all that are looked at after it.
KEY = {"DASHSCOPE_API_KEY": "sk-any"}
ORDER = [
    *(_from(first, "key", "base URL") for first in range(6)),
    *(KEY | _from(first, "region", "workspace") for first in range(5)),
]
DIFFERENT = [
    KEY | {"region=": "us-east-1"},
    KEY | {"region=": "cn-hongkong", "DASHSCOPE_BASE_URL": "https://h.maas.aliyuncs.com/api/v1"},
    KEY | {"DASHSCOPE_API_REGION": "ap-southeast-1"},
    KEY | {"DASHSCOPE_API_REGION": "ap-southeast-1", "DASHSCOPE_WORKSPACE_ID": "ws"},
    KEY | {"DASHSCOPE_WORKSPACE_ID": "ws"},
]
MAJORS = [
    "2.x",
    pytest.param(
        "1.x",
        marks=pytest.mark.skipif(
            not OLD_SDK, reason="QWEN_RERANK_OLD_SDK names no folder with dashscope 1.22.2"
        ),
    ),
]


@pytest.fixture(name="told", scope="module", params=MAJORS)
def _told(request, tmp_path_factory):
    """Which major of the SDK was asked, and what it and this package say, in one process."""
    home = str(tmp_path_factory.mktemp("home"))
    done = subprocess.run(  # noqa: S603  our own script and interpreter
        [sys.executable, "-c", ASK, json.dumps([*ORDER, *DIFFERENT])],
        env={"HOME": home, "PYTHONPATH": OLD_SDK or "" if request.param == "1.x" else ""},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def _sent(settings, read):
    """Host and key of a call that follows the first of each kind of *settings* that is *read*."""
    key, base_url, region, workspace = (
        next((settings[name] for name in SOURCES[kind] if name in settings.keys() & read), None)
        for kind in KINDS
    )
    host = f"{workspace}.{region or 'cn-beijing'}.maas.aliyuncs.com" if workspace else None
    return [base_url.split("/")[2] if base_url else host or "dashscope.aliyuncs.com", key]


@pytest.mark.slow
def test_the_order_of_the_sources(told):
    """The page's order is ours, and the SDK's as far as it reads a source."""
    major, answers = told
    assert [len(names) for names in SOURCES.values()] == [6, 6, 5, 5]

    for settings, answer in zip(ORDER, answers, strict=False):
        lacking = {name for name in settings if "settings" in name and major == "1.x"}
        assert answer["ours"] == _sent(settings, settings.keys() - lacking)
        if major == "2.x":
            assert answer["Client"] == _sent(settings, CLIENT)
        if "key file: ~/.dashscope/api_key" in settings:
            assert answer["TextReRank"] == _sent(settings, TEXT_RERANK)


@pytest.mark.slow
def test_where_the_sdk_differs(told):
    """The differences that the page names are there."""
    major, answers = told
    answers = answers[len(ORDER) :]
    ours = [answer["ours"][0].removesuffix(".aliyuncs.com") for answer in answers]
    older = [answer["TextReRank"] for answer in answers]

    assert ours == [
        *("dashscope-us", "cn-hongkong.dashscope", "dashscope-intl"),
        *("ws.ap-southeast-1.maas", "ws.cn-beijing.maas"),
    ]
    beijing = ["dashscope.aliyuncs.com", "sk-any"]
    if major == "1.x":
        assert older == [beijing] * 5
    else:
        assert older[2:] == [
            "InputRequired",
            ["ws.ap-southeast-1.maas.aliyuncs.com", "sk-any"],
            beijing,
        ]
        newer = [answer["Client"][0].removesuffix(".aliyuncs.com") for answer in answers]
        assert newer[:2] == ["dashscope-intl", "h.maas"]


def test_the_regions():
    """The page has every region with its city, its host and the models listed for it."""
    rows = re.findall(
        r"^\| `(\S+)`(?: \(default\))? \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE
    )

    assert {
        name: (
            city,
            f"https://{host.strip('`')}" if "only" not in host else None,
            listed.strip("`") if listed != "none found" else None,
        )
        for name, city, host, listed in rows
    } == {name: tuple(region) for name, region in REGIONS.items()}


def test_the_plans():
    """The page names every host of a subscription for what it is, and claims no rerank for it."""
    rows = re.findall(r"^\| `(\S+)` \| (\w+ Plan), .+ \| no evidence \|$", PAGE, re.MULTILINE)

    assert dict(rows) == PLANS
