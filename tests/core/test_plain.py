"""Values as pydantic, FastAPI and JSON have them, and what is read from that again."""

import json
from dataclasses import fields, replace
from datetime import date
from inspect import getmembers
from types import MappingProxyType
from typing import NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from qwen_rerank import (
    Candidate,
    Estimate,
    Hit,
    Image,
    Price,
    Ranking,
    Reranker,
    RerankError,
    ServiceError,
    Unsendable,
    Usage,
    Video,
    errors,
)

_RANKING = TypeAdapter(Ranking)
_ERRORS = [kind for _, kind in getmembers(errors) if isinstance(kind, type)]
_ERRORS = [kind for kind in _ERRORS if issubclass(kind, RerankError)]

_COUNTS = st.integers(0, 10**9)
_POSITIONS = st.lists(_COUNTS, max_size=3).map(tuple)
_WORDS = st.none() | st.text(max_size=9)
_URLS = st.sampled_from(["https://pictures.example/1.png", "http://x.example/y?z=\u00e9"])
_IMAGES = st.one_of(
    st.builds(Image, url=_URLS),
    st.builds(Image, data=st.binary(min_size=1) | st.text(min_size=1)),
    st.builds(Image, path=st.text(min_size=1), within=_WORDS),
)
_PARTS = st.text() | _IMAGES | st.builds(Video, _URLS) | st.builds(Unsendable, st.text())
_DICTS = st.dictionaries(st.text(), st.text() | st.lists(_COUNTS)) | st.fixed_dictionaries(
    {"type": st.sampled_from(["image", "video", "unsendable", "dict", "page"])},
    optional={"url": _URLS, "fields": st.just({"text": "a"}), "text": st.text()},
)
_DOCUMENTS = _PARTS | st.lists(_PARTS, max_size=3).map(tuple) | _DICTS
_HITS = st.builds(
    Hit,
    _COUNTS,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    _DOCUMENTS,
    st.none() | st.tuples(_COUNTS, _COUNTS),
    st.sampled_from([None, "text", "image", "video"]),
)
_USAGES = st.builds(
    Usage,
    requests=_COUNTS,
    tokens=st.none() | _COUNTS,
    cost=st.none() | st.floats(0, 1e6),
    currency=st.sampled_from([None, "CNY"]),
)


def _failed(kind, *, retryable, passes_through, **facts):
    error = kind(**facts)
    if retryable is not kind.retryable:  # as an answer that was thrown away for its size
        error.retryable = retryable
    if passes_through is not kind.passes_through:
        error.passes_through = passes_through
    return error


_FAILURES = st.sampled_from(_ERRORS).flatmap(
    lambda kind: st.builds(
        _failed,
        st.just(kind),
        retryable=st.booleans(),
        passes_through=st.booleans(),
        message=st.text(),
        code=_WORDS,
        status=st.none() | st.integers(100, 599),
        request_id=_WORDS,
        hint=_WORDS,
        retry_after=st.none() | st.floats(0, 1e6),
        documents=_POSITIONS,
    )
)
_RANKINGS = st.builds(
    Ranking,
    st.lists(_HITS, max_size=4).map(tuple),
    st.text(),
    _USAGES,
    st.lists(st.text(), max_size=2).map(tuple),
    _POSITIONS,
    st.booleans(),
    st.lists(st.tuples(_COUNTS, st.text()), max_size=2).map(tuple),
    st.none() | _FAILURES,
)


def _same(one, two):
    """Whether two rankings are equal, though errors never are."""
    facts = [
        None if each is None else (type(each), vars(each)) for each in (one.degraded, two.degraded)
    ]
    return replace(one, degraded=None) == replace(two, degraded=None) and facts[0] == facts[1]


@given(_RANKINGS)
def test_what_comes_back_is_what_went(ranking):
    """A ranking is the same after JSON, after its plain form, and after that form in JSON.

    The parts of the plain form make it again, as a checkpoint hands them back.
    """
    written, plain = _RANKING.dump_json(ranking), _RANKING.dump_python(ranking)

    assert _same(_RANKING.validate_json(written), ranking)
    assert _same(_RANKING.validate_python(plain), ranking)
    assert _same(_RANKING.validate_python(json.loads(json.dumps(plain))), ranking)
    assert json.loads(written) == json.loads(json.dumps(plain))
    assert _same(Ranking(**json.loads(json.dumps(ranking._asdict()))), ranking)


@pytest.mark.parametrize(
    "value",
    [
        Estimate(1, 20, (3,), True, 2, 0.1, Price(0.5, "CNY", "a page", "2026-11-24")),
        Hit(3, 0.5, ("a text", Image(data=b"\xff\x00")), (0, 5), "image"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_value(value):
    """Every value is a field of a pydantic model, as itself and read from JSON."""
    adapter = TypeAdapter(type(value))

    assert adapter.validate_json(adapter.dump_json(value)) == value
    assert adapter.validate_python(value) is value


def test_a_hit_with_lists_for_tuples():
    """As MessagePack gives them back."""
    document = ("a text", Video("https://pictures.example/1.mp4"))

    assert Hit(3, 0.5, list(document), [0, 5]) == Hit(3, 0.5, document, (0, 5))
    assert Hit(3, 0.5, {"type": "image"}, [0, 5]).document == {"type": "image"}


def test_a_field_of_a_model():
    """A model has rankings and errors as fields, and takes the latter of the kind it names."""

    class Answer(BaseModel):
        ranking: Ranking
        problem: ServiceError | None = None

    ranking = Ranking((Hit(0, 0.5, "a"),), "m", Usage(1, 20))
    answer = Answer(ranking=ranking, problem=ServiceError("down", status=503))

    again = Answer.model_validate_json(answer.model_dump_json())

    assert again.ranking == ranking
    assert str(again.problem) == str(answer.problem)
    wrong = {"type": "RequestError", "message": "no"}
    with pytest.raises(ValidationError, match=r"'RequestError' is none of ServiceError, Deadline"):
        Answer(ranking=ranking, problem=wrong)


def test_lone_surrogates_are_replaced():
    """JSON cannot hold them, and no document makes an answer fail."""
    documents = ["\ud800", Image(path="\udcff.png"), {"\ud800": ["\udfff", {"text": "a \ud800"}]}]

    again = _RANKING.validate_json(_RANKING.dump_json(_of(*documents)))

    documents = ["\ufffd", Image(path="\ufffd.png"), {"\ufffd": ["\ufffd", {"text": "a \ufffd"}]}]
    assert [hit.document for hit in again] == documents


def test_what_a_dict_holds_besides():
    """Other values stay what they are in Python, and are in JSON as pydantic writes them.

    Of a namedtuple and the like that is a list, whatever its own class takes.
    """
    document = {"read": date(2026, 11, 29), "raw": b"\xff", "span": _Span(3), "tags": _Tags("b")}
    ranking = _of(MappingProxyType(document))

    plain = _RANKING.dump_python(ranking)["hits"][0]["document"]
    written = json.loads(_RANKING.dump_json(ranking))["hits"][0]["document"]

    assert plain == {**document, "span": (3,), "tags": ["b"]}
    assert written == {"read": "2026-11-29", "raw": "_w==", "span": [3], "tags": ["b"]}


def _of(*documents):
    """A ranking of *documents*."""
    return Ranking(tuple(Hit(0, 0.5, each) for each in documents), "m")


class _Span(NamedTuple):
    start: int


class _Tags(list[str]):
    def __init__(self, *tags: str) -> None:
        super().__init__(tags)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"type": "image", "data": "!", "encoding": "base64"}, "base64"),
        ({"type": "image"}, "exactly one of url, data and path"),
        ({"type": "video", "url": "file:///etc"}, "a Video takes an https"),
        ({"type": "image", "url": "https://pictures.example/1.png", "text": "a"}, '"type": "dict"'),
    ],
)
def test_what_is_no_document(plain, said):
    """What cannot be a document is a validation error, as pydantic's own are."""
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(list[Candidate]).validate_python([plain])


def test_what_is_left_out():
    """Pydantic's own means leave documents out of an answer."""
    ranking = Ranking((Hit(0, 0.5, Image(data=b"x" * 1000)),), "m")

    written = _RANKING.dump_json(ranking, exclude={"hits": {"__all__": {"document"}}})

    assert json.loads(written)["hits"] == [{"index": 0, "score": 0.5, "window": None, "kind": None}]


@pytest.fixture(name="app")
def _app(connection):
    app, reranker = FastAPI(), Reranker(**connection, on_error="passthrough", max_retries=0)

    class Question(BaseModel):
        query: str
        documents: list[Candidate]

    @app.post("/rerank")
    async def _(question: Question) -> Ranking:
        return await reranker.arerank(question.query, question.documents)

    return app


async def _asked(app, method, path, sent=None):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.request(method, path, json=sent)


async def test_an_answer_of_fastapi(app, emulator):
    """A ranking is a response model, with an error in it as well, and its client reads it again."""
    car = {"type": "dict", "fields": {"type": "image", "text": "a red sports car"}}
    sent = {"query": "a fast red car", "documents": [{"text": "green tea", "id": 7}, car, ""]}

    answer = await _asked(app, "POST", "/rerank", sent)

    assert [hit["document"] for hit in answer.json()["hits"]] == [car, sent["documents"][0], ""]
    ranking = _RANKING.validate_json(answer.content)
    assert [hit.index for hit in ranking] == [1, 0, 2]
    assert ranking[0].document == car["fields"]

    emulator.fault("503", first=1)
    failed = _RANKING.validate_json((await _asked(app, "POST", "/rerank", sent)).content)

    assert (type(failed.degraded), failed.degraded.status) == (ServiceError, 503)
    assert [hit.score for hit in failed] == [None] * 3


async def test_what_fastapi_says_of_it(app):
    """The OpenAPI page of such a service names each value and what it holds."""
    said = (await _asked(app, "GET", "/openapi.json")).json()
    schemas = said["components"]["schemas"]

    answer = said["paths"]["/rerank"]["post"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/Ranking"}
    for kind in (Ranking, Hit, Usage):
        assert list(schemas[kind.__name__]["properties"]) == [each.name for each in fields(kind)]
    assert {"RerankError", "Unsendable"} < set(schemas)
    kinds = {name: schemas[name]["properties"]["type"].get("const") for name in ("Image", "Video")}
    assert kinds == {"Image": "image", "Video": "video"}
