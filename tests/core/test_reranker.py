import json
import os
import pickle
import re
from importlib import metadata

import httpx
import pytest

from qwen_rerank import Reranker, Usage, Video, errors
from qwen_rerank.emulator import Reply
from qwen_rerank.errors import ServiceError

_SDK = metadata.version("dashscope")
# A folder with dashscope 1.22.2: pip install --no-deps --target FOLDER dashscope==1.22.2
_OLD_SDK = os.environ.get("QWEN_RERANK_OLD_SDK")  # read before the tests' environment is cleaned

_QUERY = "a fast red sports car"
_DOCUMENTS = [
    "green tea from the mountains",
    "the red car is fast",
    "",
    "sports in the city",
    "a fast red sports car",
    "   \n",
    "the red car is fast",
    "\u7ea2\u8272\u8dd1\u8f66\u5f88\u5feb",
]


@pytest.fixture(name="reranker")
def _reranker(connection):
    with Reranker(**connection) as reranker:
        yield reranker


@pytest.fixture(name="rank")
def _rank(rank, reranker):
    """Ranks with the reranker of these tests unless another is given."""
    return lambda *arguments, using=reranker, **options: rank(using, *arguments, **options)


def _pairs(ranking):
    return [(hit.index, hit.score) for hit in ranking]


# One call


def test_a_ranking(rank, emulator):
    """Documents come back best first, with their places, scores and the facts of the call."""
    ranking = rank(_QUERY, _DOCUMENTS)

    assert [hit.index for hit in ranking] == [4, 1, 6, 3, 0, 7, 2, 5]
    assert all(hit.document == _DOCUMENTS[hit.index] for hit in ranking)
    (seen,) = emulator.log
    assert ranking.usage == Usage(1, seen.tokens)
    assert ranking.request_ids == (seen.request_id,)
    assert ranking.model == "qwen3-rerank"
    assert (ranking.truncated, ranking.query_truncated, ranking.degraded) == ((), False, None)


def test_what_is_sent(rank, emulator):
    """Blanks and repetitions are not sent, and top_n is not left to the service."""
    rank(f"  {_QUERY}\n", _DOCUMENTS, top_n=2, instruct="Find cars.")

    (seen,) = emulator.log
    assert seen.path == "/api/v1/services/rerank/text-rerank/text-rerank"
    assert seen.body == {
        "model": "qwen3-rerank",
        "input": {"query": _QUERY, "documents": [_DOCUMENTS[i] for i in (0, 1, 3, 4, 7)]},
        "parameters": {"instruct": "Find cars."},
    }


@pytest.mark.parametrize("documents", [[], ["", " \n"]])
def test_nothing_to_ask_about(rank, emulator, documents):
    """An empty list is an empty ranking, and blanks come back unscored: nothing is sent."""
    ranking = rank(_QUERY, documents)

    assert _pairs(ranking) == [(index, None) for index in range(len(documents))]
    assert ranking.usage == Usage()
    assert emulator.log == ()


def test_any_iterable(reranker):
    """Documents may come from a generator or be the keys of a dict, and be a kind of str."""

    class Text(str):
        __slots__ = ()

    document = Text("a red car")

    assert reranker.rerank(Text(_QUERY), {document: 1}.keys())[0].document is document
    assert len(reranker.rerank(_QUERY, (text for text in _DOCUMENTS))) == len(_DOCUMENTS)


# Bad calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((" \n\u3000", []), "query is blank"),
        ((Video("https://x/a.mp4"), ["a"]), "query must be a str or an Image, not Video"),
        ((["a"], "q"), r"query must .*, not list\n.*rerank\(query, documents\)"),
        (("q", "a"), r"not one str\n.*rerank\(query, documents\)"),
        (("q", {"a": 1}), "not one dict$"),
        (("q", 7), "not one int"),
        (("q", ["a", None]), "document 1 must be a str, .*, not NoneType"),
    ],
)
def test_bad_calls(rank, emulator, arguments, said):
    """A call that cannot be right is refused before anything is sent."""
    with pytest.raises(errors.RequestError, match=said):
        rank(*arguments)

    assert emulator.log == ()


def test_a_bad_option_of_a_call(rank):
    """It is a RequestError that names it, whether there is something to send or not."""
    with pytest.raises(errors.RequestError, match="top_n: ") as caught:
        rank(_QUERY, [], top_n=0)

    assert caught.value.__context__ is None  # which would hold what was given


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("top_k", "; did you mean 'top_n'?"),
        ("timeout", "; with_options(timeout=...) takes it"),
        ("return_documents", ": a hit has its document anyway, as hit.document"),
        ("verbose", ""),
    ],
)
def test_unknown_options_of_a_call(reranker, name, said):
    """An option that a call does not have is a TypeError that says what to write instead."""
    with pytest.raises(TypeError) as caught:
        reranker.rerank(_QUERY, ["a"], **{name: 1})

    assert str(caught.value) == f"unexpected option {name!r} for one call{said}"


def test_a_broken_iterable(rank):
    """An error of the caller's own generator comes out as it is."""

    def documents():
        yield "a"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        rank(_QUERY, documents())


# Options


def test_options_of_one_call(rank, reranker):
    """An option of one call holds for that call alone, and None switches the object's own off."""
    whole = _pairs(rank(_QUERY, _DOCUMENTS))
    reranker.top_n = 3

    assert _pairs(rank(_QUERY, _DOCUMENTS)) == whole[:3]
    assert _pairs(rank(_QUERY, _DOCUMENTS, top_n=1)) == whole[:1]
    assert _pairs(rank(_QUERY, _DOCUMENTS, top_n=None)) == whole
    assert _pairs(rank(_QUERY, _DOCUMENTS)) == whole[:3]


def test_assigned_during_a_call(rank, reranker, emulator):
    """Not on the call that is under way, whose failure is told and whose scores are kept as before.

    What it finds out is the object's all the same.
    """

    def assign(_):
        reranker.on_error, reranker.cache = "raise", None
        return Reply.error(500, "InternalError")

    reranker.on_error, reranker.outage_pause = "passthrough", 0
    reranker.cache = cache = {}
    reranker.max_retries, reranker.max_documents_per_request = 0, 1
    reranker.max_concurrency = 1
    emulator.script(Reply(), assign, Reply.error(500, "InternalError"))

    assert isinstance(rank(_QUERY, ["a", "b"]).degraded, ServiceError)
    assert len(cache) == 1
    with pytest.raises(ServiceError):
        rank(_QUERY, ["a", "b"])
    assert len(cache) == reranker.usage.requests == 1


def test_connected_elsewhere_during_a_call(rank, connection, emulator):
    """What says where a call goes, and how it asks there, takes effect on the next one as well."""

    def documents():
        yield "a"
        reranker.base_url, reranker.protocol = "http://127.0.0.1:9/api/v1", "compatible"
        reranker.model, reranker.extra_body = "qwen3-rerank", {"more": 1}
        yield "b"

    reranker = Reranker(**connection, model="gte-rerank-v2", max_retries=0)

    assert len(rank(_QUERY, documents(), using=reranker)) == 2
    (seen,) = emulator.log
    assert seen.body == {
        "model": "gte-rerank-v2",
        "input": {"query": _QUERY, "documents": ["a", "b"]},
        "parameters": {},
    }
    with pytest.raises(ServiceError):
        rank(_QUERY, ["a"], using=reranker)


# Long lists


def test_more_documents_than_a_request_takes(rank, emulator):
    """A list over the limit is split evenly, and no one is any the wiser."""
    documents = [f"document {i} about red things" for i in range(501)]

    ranking = rank(_QUERY, documents)

    assert sorted(seen.documents for seen in emulator.log) == [250, 251]
    assert sorted(hit.index for hit in ranking) == list(range(501))
    assert ranking.usage == Usage(2, sum(seen.tokens for seen in emulator.log))
    assert sorted(ranking.request_ids) == sorted(seen.request_id for seen in emulator.log)


# The caller's own clients


class SdkClient:
    """What is used of a dashscope 2.x client: its httpx client, with its base URL and key."""

    def __init__(self, http_client):
        self.transport = self
        self.http_client = http_client


def _sdk_client(kind, emulator):
    return SdkClient(
        kind(
            base_url=emulator.base_url,
            headers={"authorization": f"Bearer {emulator.api_key}", "x-mine": "1"},
        )
    )


@pytest.mark.parametrize("kind", ["httpx", "SDK"])
async def test_given_clients(emulator, kind):
    """Calls go through given clients, an SDK's with its host and key, and leave them open."""
    sync, other = (_sdk_client(each, emulator) for each in (httpx.Client, httpx.AsyncClient))
    given = {"client": sync, "async_client": other}
    if kind == "httpx":
        given = {
            "http_client": sync.http_client,
            "async_http_client": other.http_client,
            "base_url": emulator.base_url,
            "api_key": emulator.api_key,
        }
    with sync.http_client:
        async with other.http_client, Reranker(**given) as reranker:
            for _ in range(2):
                reranker.rerank(_QUERY, ["a"])
                await reranker.arerank(_QUERY, ["a"])
                await reranker.aclose()

    assert [seen.headers["x-mine"] for seen in emulator.log] == ["1"] * 4


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("client", r"client= is for sync calls alone: give async_client= too\."),
        ("async_client", r"async_client= is for awaited .* give client= too\."),
    ],
)
async def test_a_client_of_the_other_colour(emulator, given, hint):
    """A call for which no client was given goes out by itself, if there is a key for it."""
    kind = httpx.Client if given == "client" else httpx.AsyncClient
    made = Reranker(**{given: _sdk_client(kind, emulator)})

    async def call():
        if given == "async_client":
            return made.rerank(_QUERY, ["a"])
        return await made.arerank(_QUERY, ["a"])

    with pytest.raises(errors.RequestError, match=r"no API key: .*DASHSCOPE_API_KEY") as caught:
        await call()
    made.base_url, made.api_key = emulator.base_url, emulator.api_key

    assert re.search(hint, caught.value.hint)
    assert len(await call()) == 1
    [seen] = emulator.log
    assert "x-mine" not in seen.headers


async def test_no_key_when_a_call_is_made():
    """What comes out of a pickle has no key: a call that finds none is refused as a wrong one."""
    made = pickle.loads(pickle.dumps(Reranker(api_key="sk-of-another-process")))  # noqa: S301  ours

    with pytest.raises(errors.RequestError, match=r"no API key: .*DASHSCOPE_API_KEY") as caught:
        await made.arerank(_QUERY, ["a"])

    assert caught.value.__context__ is None  # which might hold what was found
    assert caught.value.hint is None


_THROUGH_SDK = """
import asyncio, json, sys
import dashscope
from dashscope import AsyncClient, Client
from qwen_rerank import Reranker

base_url, key, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
def pairs(ranking):
    return [[hit.index, hit.score] for hit in ranking]
out = []

reranker = Reranker(client=Client(base_url=base_url, api_key=key))
for _ in range(2):
    out.append(pairs(reranker.rerank(**asked)))
    reranker.close()

async def through_async():
    async with AsyncClient(base_url=base_url, api_key=key) as client:
        async with Reranker(async_client=client, protocol="compatible") as reranker:
            return pairs(await reranker.arerank(**asked))
out.append(asyncio.run(through_async()))

wrong = Client(base_url=base_url, api_key="sk-wrong-key")
out.append(pairs(Reranker(client=wrong, api_key=key).rerank(**asked)))
dashscope.api_key, dashscope.base_http_api_url = key, base_url
out.append(pairs(Reranker().rerank(**asked)))
print(json.dumps(out))
"""


@pytest.mark.slow
@pytest.mark.skipif(_SDK.startswith("1."), reason="dashscope 1.x has no clients")
def test_through_the_sdks_clients(reranker, emulator, fresh):
    """A dashscope client of either colour is sent through, with its host and its key or ours.

    What was set in the module is found where there is no client.
    """
    asked = {"query": _QUERY, "documents": _DOCUMENTS}
    expected = [list(pair) for pair in _pairs(reranker.rerank(**asked))]
    emulator.clear()

    out = json.loads(
        fresh(_THROUGH_SDK, emulator.base_url, emulator.api_key, json.dumps(asked), strict=False)
    )

    assert out == [expected] * 5
    paths = [seen.path.split("/")[1] for seen in emulator.log]
    assert paths == ["api", "api", "compatible-api", "api", "api"]


# The SDK as a second opinion

_ASK_SDK = """
import json, sys
import dashscope
from dashscope import TextReRank
base_url, key, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
dashscope.base_http_api_url = base_url
out = []
for case in cases:
    answer = TextReRank.call(api_key=key, **case)
    assert answer.status_code == 200, answer
    out.append([[result.index, result.relevance_score] for result in answer.output.results])
from dashscope.version import __version__
print(json.dumps([__version__, out]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "version"),
    [
        pytest.param(None, _SDK, id="installed"),
        pytest.param(
            _OLD_SDK,
            "1.22.2",
            id="1.22.2",
            marks=pytest.mark.skipif(
                not _OLD_SDK,
                reason="QWEN_RERANK_OLD_SDK names no folder with dashscope 1.22.2",
            ),
        ),
    ],
)
def test_same_as_the_sdk(reranker, emulator, fresh, path, version):
    """Our ranking is what the SDK's own call returns for the same request."""
    documents = [text for text in _DOCUMENTS if text.strip()]
    cases = [
        {"query": _QUERY, "documents": documents, **options}
        for options in (
            {"model": "qwen3-rerank"},
            {"model": "qwen3-rerank", "top_n": 2},
            {"model": "qwen3-rerank", "instruct": "Find cars."},
            {"model": "gte-rerank-v2", "top_n": 99},
        )
    ]

    found, theirs = json.loads(
        fresh(
            _ASK_SDK,
            emulator.base_url,
            emulator.api_key,
            json.dumps(cases),
            path=path,
            strict=False,
        )
    )

    assert found.startswith(version)
    for case, answer in zip(cases, theirs, strict=True):
        model = case.pop("model")
        reranker.model = model
        assert [list(pair) for pair in _pairs(reranker.rerank(**case))] == answer


# Imports of a fresh interpreter

_LAZY = """
import sys
import qwen_rerank
import qwen_rerank.framework
late = {"httpx", "aiohttp", "tenacity", "tiktoken", "difflib", "qwen_rerank.standalone"}
late |= {"pydantic.type_adapter", "pydantic.functional_serializers"}
assert not late & set(sys.modules), "what the class of a framework has no use for yet"
base_url, key = sys.argv[1:]
with qwen_rerank.Reranker(base_url=base_url, api_key=key) as reranker:
    ranking = reranker.rerank("a red car", ["green tea", "the red car", ""])
    import asyncio
    again = asyncio.run(reranker.arerank("a red car", ["green tea", "the red car", ""]))
assert [hit.index for hit in ranking] == [hit.index for hit in again] == [1, 0, 2]
assert "httpx" not in sys.modules, "httpx, which is for callers' own clients"
assert not qwen_rerank.reranker._tokens.tokenizer.cache_info().currsize, "the vocabulary"
foreign = {"dashscope", "langchain_core", "llama_index", "fastapi", "uvicorn"}
print(sorted(foreign & {name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.slow
def test_lazy_imports(emulator, fresh):
    """A whole rerank of a short list imports neither dashscope nor a framework."""
    assert fresh(_LAZY, emulator.base_url, emulator.api_key) == "[]\n"
