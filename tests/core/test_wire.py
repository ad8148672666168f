import gzip
import json
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_rerank import _wire, errors
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._values import Answer, Item, Place, Request

_NATIVE, _FLAT = "dashscope", "compatible"
_HOST = "dashscope.aliyuncs.com"
_ASKED = Endpoint(
    f"https://{_HOST}/rerank",
    _HOST,
    local=False,
    api_key=None,
    workspace=None,
    found_in={"key": "a file", "host": "", "workspace": ""},
    given={"protocol": "compatible"},
)


def _request(*texts):
    items = tuple(Item(text, 1, (Place(i),)) for i, text in enumerate(texts))
    return Request("qwen3-rerank", "q", None, items)


def _results(*scores):
    return [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]


def _body(results, protocol=_NATIVE, **more):
    if protocol == _NATIVE:
        return {"output": {"results": results}, **more}
    return {"object": "list", "results": results, **more}


def _decode(
    body, expected=2, *, status=200, headers=None, protocol=_NATIVE, asked=_ASKED, server=None
):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(status, headers or {}, raw)
    request = _request(*["text"] * expected)
    return _wire.decode(answer, request, protocol=protocol, asked=asked, server=server)


def _error(*arguments, **options):
    with pytest.raises(errors.RerankError) as caught:
        _decode(*arguments, **options)
    return caught.value


# Bodies


@pytest.mark.parametrize("options", [{}, {"instruct": "rules", "fps": 0.5}])
def test_bodies(options):
    """The native protocol nests, the other is flat; what was not given is not sent, nor is top_n.

    Parameters are sent even if there are none, as the SDK does. Videos, and so their frames per
    second, are for the native protocol alone.
    """
    request = _request("a", "b")._replace(**options)
    asked = {"query": "q", "documents": ["a", "b"]}

    native, flat = (json.loads(_wire.encode(request, protocol)) for protocol in (_NATIVE, _FLAT))

    assert native == {"model": "qwen3-rerank", "input": asked, "parameters": options}
    of_texts = {name: value for name, value in options.items() if name != "fps"}
    assert flat == {"model": "qwen3-rerank", **asked, **of_texts}


def test_text_is_sent_as_utf8():
    """Text in any language takes its UTF-8 bytes, not six-character escapes."""
    body = _wire.encode(_request("\u4e2d\u6587 \U0001f600", 'NUL \x00 and "quotes"'), _NATIVE)

    assert "\u4e2d\u6587 \U0001f600".encode() in body
    assert b'NUL \\u0000 and \\"quotes\\"' in body


# Rankings


@pytest.mark.parametrize("protocol", _wire.PATHS)
def test_a_good_answer(protocol):
    """Scores, usage, id and model are read from the place where each protocol puts them."""
    name = "request_id" if protocol == _NATIVE else "id"
    more = {"usage": {"total_tokens": 79}, "model": "m-1", name: "r-1"}
    body = _body(_results(0.25, 0.5), protocol, **more)

    reply = _decode(body, protocol=protocol)

    assert (reply.scores, reply.tokens) == ((0.25, 0.5), 79)
    assert (reply.request_id, reply.model) == ("r-1", "m-1")


_SCORES = (0, 1, -3, 1e-300, sys.float_info.max, -sys.float_info.max)


@given(st.permutations(range(6)))
def test_any_order(order):
    """Results are mapped back by index, in whatever order; any finite number is a score."""
    results = [{"index": i, "relevance_score": _SCORES[i]} for i in order]

    reply = _decode(_body(results), 6)

    assert reply.scores == _SCORES
    assert {type(score) for score in reply.scores} == {float}


@pytest.mark.parametrize("code", ["", None])
def test_unknown_fields_do_no_harm(code):
    """A field that we do not read may appear anywhere, and a code that is empty refuses nothing."""
    results = [{**result, "document": {"text": "a"}} for result in _results(0.1, 0.2)]

    answer = {**_body(results), "new": [1], "code": code, "message": code}

    assert _decode(answer).scores == (0.1, 0.2)


@pytest.mark.parametrize(
    "usage", [{}, {"usage": []}, *({"usage": {"total_tokens": odd}} for odd in ("7", True, -1))]
)
def test_odd_usage_is_none(usage):
    """Usage that cannot be read counts as not reported, never as an error; 0 is 0."""
    assert _decode(_body(_results(0.1), **usage), 1).tokens is None
    assert _decode(_body(_results(0.1), usage={"total_tokens": 0}), 1).tokens == 0


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"request_id": "a", "id": "b"}, {"x-request-id": "c"}, "a"),
        ({"id": "b"}, {"x-request-id": "c"}, "b"),
        ({}, {"x-request-id": "c"}, "c"),
        ({"request_id": "  "}, {"x-request-id": "c"}, "c"),
        ({}, {}, None),
        ({"request_id": 17}, {}, "17"),
        ({"request_id": "a\x1b[2J\nb"}, {}, "a [2J b"),
    ],
)
def test_request_id(body, headers, expected):
    """The id comes from the body, either name, else from the header, and is printable."""
    assert expected == _decode(_body(_results(0.1), **body), 1, headers=headers).request_id


# Answers that are no ranking

_NOT_JSON = "it is not JSON"
_NO_LIST = "it has no list of results where protocol='dashscope' puts them"
_NO_SCORE = "document 1 has no finite score"
_MALFORMED = {
    "empty body": (b"", _NOT_JSON),
    "invalid UTF-8": (b'{"output": "\xff\xfe\xfa"}', _NOT_JSON),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, _NOT_JSON),
    "too many digits": (b'{"output": ' + b"9" * 10_000 + b"}", _NOT_JSON),
    "list": (_results(0.1, 0.2), _NO_LIST),
    "empty object": ({}, _NO_LIST),
    "results object": (_body({"0": 0.1, "1": 0.2}), _NO_LIST),
    "one short": (_body(_results(0.1)), "2 documents were sent and 1 result came back"),
    "one too many": (_body(_results(1, 0, 1)), "2 documents were sent and 3 results came back"),
    "result list": (_body([[0, 0.1], [1, 0.2]]), "index None is not one of 0 to 1"),
    "index twice": (_body(_results(0.1)[:1] * 2), "document 0 came back twice"),
    "score string": (_body(_results(0.1, "0.9")), _NO_SCORE),
    "score true": (_body(_results(0.1, True)), _NO_SCORE),
    "score NaN": (_body(_results(0.1, float("nan"))), _NO_SCORE),
    "score Infinity": (_body(_results(0.1, float("inf"))), _NO_SCORE),
    "score -Infinity": (_body(_results(0.1, float("-inf"))), _NO_SCORE),
    "score 10**400": (_body(_results(0.1, 10**400)), _NO_SCORE),
    "score missing": (_body([*_results(0.1), {"index": 1}]), _NO_SCORE),
    **{
        f"index {index!r}": (
            _body([*_results(0.1), {"index": index, "relevance_score": 0.2}]),
            f"index {index!r} is not one of 0 to 1",
        )
        for index in (-1, 2, 1.0, True, None)
    },
}


@pytest.mark.parametrize(("body", "said"), _MALFORMED.values(), ids=_MALFORMED)
def test_malformed(body, said):
    """An answer that does not score every document once is an error that says what it lacks.

    It never is half a ranking.
    """
    error = _error(body, headers={"x-request-id": "r-1"})

    assert errors.ReplyError is type(error)
    assert error.retryable
    assert (error.status, error.request_id, error.code) == (200, "r-1", None)
    assert f"The answer from {_HOST} is no ranking: {said}." in str(error)


def test_an_answer_for_a_single_document():
    """It is spoken of as one."""
    error = _error(_body(_results(0.1, 0.2)), 1)

    assert "1 document was sent and 2 results came back" in str(error)


def test_whose_answer_has_no_results():
    """The error names where they should be: by the protocol, or by the server that was named."""
    assert "where protocol='compatible' puts them" in str(_error({}, protocol=_FLAT))
    assert "where server='vllm' puts them" in str(_error({}, protocol=_FLAT, server="vllm"))


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("x-unknown", bytes)])
def test_packed_answers_are_not_unpacked(encoding, pack):
    """A body that is packed, or says so, is an error and not a way to fill the memory."""
    body = pack(json.dumps(_body(_results(0.1, 0.2))).encode())

    error = _error(body, headers={"content-encoding": encoding})

    assert isinstance(error, errors.ReplyError)


def test_unpacked_answers_may_say_so():
    """The identity coding is no coding."""
    headers = {"content-encoding": "Identity"}

    assert _decode(_body(_results(0.1)), 1, headers=headers).scores == (0.1,)


@pytest.mark.parametrize("field", ["request_id", "message", "code", "index", "error"])
def test_nesting_of_any_depth(field):
    """However deep a field is nested, reading it ends in one of our errors."""
    for depth in (100, *range(900, 1_010, 10), 2_000):
        nested = b"[" * depth + b"]" * depth
        body = {"code": "", "message": "0", "output": {"results": [{"index": "0"}]}}
        inner = body["output"]["results"][0] if field == "index" else body
        inner[field] = "HERE"

        error = _error(json.dumps(body).encode().replace(b'"HERE"', nested), 1)

        assert isinstance(error, errors.RerankError)


# Refusals, whose meanings are tested in test_refusal.py


@pytest.mark.parametrize("status", [204, 500])
def test_a_ranking_under_another_status_is_none(status):
    """Results are read from an HTTP 200 only."""
    assert _error(_body(_results(0.1, 0.2)), status=status).status == status


@pytest.mark.parametrize(
    ("envelope", "code", "message"),
    [
        ("just text", None, "just text"),
        ({"message": "m", "code": 7}, "7", "m"),
        ({"message": "m", "type": 7}, "7", "m"),
        ({"message": "m", "type": "invalid_api_key", "code": None}, "invalid_api_key", "m"),
    ],
)
def test_odd_error_envelopes(envelope, code, message):
    """Whatever an envelope lacks, its text is shown; a type stands in for a code of any kind."""
    error = _error({"error": envelope}, status=400)

    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("message", "sk-0123456789abcdef0123456789abcdef"),
        ("code", "sk-sp-0123456789abcdef"),
        ("request_id", "sk-abcdef_123-456"),
    ],
)
def test_keys_are_masked(field, key):
    """A key that the service quotes is not quoted by us."""
    body = {"code": "InvalidApiKey", "message": "m", field: f"Invalid key: {key}, see the console"}

    error = _error(body, status=401)

    shown = f"{error} {error!r}"
    assert "Invalid key: sk-***, see the console" in shown
    assert not any(part in shown for part in (key, key[-8:]))


def test_ordinary_words_are_not_masked():
    """Only keys look like keys."""
    said = "The task-specific desk-top sk- sk-1 is risk-averse."

    assert said == _error({"code": "X", "message": said}, status=400).message


def test_messages_are_short_and_printable():
    """What a server says can neither flood the log nor control the terminal."""
    error = _error({"code": "X", "message": "\x1b[31m\x00" + "a\n" * 100_000}, status=400)

    assert len(error.message) <= 2_000
    assert error.message.isprintable()
    assert _error({"code": "X", "message": "a" * 9_999}, status=400).message == "a" * 2_000


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("output", "results", "index", "relevance_score", "code", "message"),
                        *("error", "request_id", "id", "usage", "total_tokens", "type"),
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
    | st.binary(),
    st.sampled_from([200, 200, 400]),
    st.sampled_from(list(_wire.PATHS)),
)
def test_any_json(body, status, protocol):
    """Whatever comes back, it is a complete ranking or one of our errors."""
    try:
        reply = _decode(body, 1, status=status, protocol=protocol)
    except errors.RerankError as error:
        str(error).encode("utf-8", "surrogatepass")
    else:
        assert len(reply.scores) == 1


# Images, more fields, what a server tells of itself


@pytest.mark.parametrize(
    ("server", "text", "image", "both"),
    [
        (None, "a", {"image": "data:x"}, {"image": "data:x"}),
        (
            "vllm",
            "a",
            {"content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
            {"content": [
                {"type": "text", "text": "b"},
                {"type": "image_url", "image_url": {"url": "data:x"}},
            ]},
        ),
    ],
)  # fmt: skip
def test_images(server, text, image, both):
    """Images are sent as each dialect has them, with the text beside them where it has one."""
    data = Item("data:x", 1, kind="image")
    request = Request("m", "data:x", None, (Item("a", 1), data, data._replace(beside="b")), "image")

    body = json.loads(_wire.encode(request, _FLAT, server))

    assert body == {"model": "m", "query": image, "documents": [text, image, both]}


def test_more_fields():
    """A caller's fields are merged into the body, at any depth; what it has itself it keeps."""
    extra = {"model": "x", "input": {"query": "x", "more": {"a": 1}}, "parameters": 7, "own": [1]}

    body = json.loads(_wire.encode(_request("a")._replace(extra=extra), _NATIVE))

    assert body == {
        "model": "qwen3-rerank",
        "input": {"query": "q", "documents": ["a"], "more": {"a": 1}},
        "parameters": {},
        "own": [1],
    }


@pytest.mark.parametrize(
    ("extra", "protocol", "server", "found"),
    [
        ({"own": 1, "model": "x"}, _FLAT, None, "model"),
        ({"own": {"query": 1}, "input": {"own": 1, "query": "x"}}, _NATIVE, None, "input.query"),
        ({"parameters": {"top_n": 1}}, _NATIVE, None, "parameters.top_n"),
        ({"parameters": {"fps": 1}}, _NATIVE, None, "parameters.fps"),
        ({"input": 7}, _NATIVE, None, "input"),
        ({"input": {"query": "x"}}, _FLAT, None, None),
        ({"model": "x"}, _FLAT, "tei", None),
        ({"texts": []}, _FLAT, "tei", "texts"),
    ],
)
def test_fields_that_are_taken(extra, protocol, server, found):
    """The first field that a body has itself, as its path; top_n it must not have."""
    assert found == _wire.taken(extra, protocol, server)


def _tells(body, status=200):
    return Answer(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_tells({"n": 512}), 512),
        (_tells({"data": [{"id": "x", "n": 512}]}), 512),  # of a single one the name is no matter
        (_tells({"data": [{"id": "x", "n": 1}, {"id": "m", "n": 512}]}), 512),
        (_tells({"data": [{"id": "x", "n": 1}, {"id": "y", "n": 512}]}), None),
        (_tells({"data": [{"n": 1}, {"id": "m", "n": 1}]}), 1),
        (_tells({"data": "m"}), None),
        (_tells([7]), None),
        (_tells({"n": 512}, 404), None),
        *((_tells({"n": odd}), None) for odd in (0, True, "512")),
    ],
)
def test_the_length_that_a_server_tells(answer, told):
    """A whole positive number, of the model that is asked."""
    assert told == _wire.length_in(answer, "n", "m")


@pytest.mark.parametrize(
    ("answer", "lasting"),
    [
        (_tells({}), True),
        (Answer(200, {}, b"<html>"), False),
        *((_tells({}, status), True) for status in (404, 405, 501)),
        *((_tells({}, status), False) for status in (201, 401, 503)),
    ],
)
def test_what_a_server_will_say_again(answer, lasting):
    """An answer, or that there is no such question; one that starts or is busy may say another."""
    assert _wire.is_lasting(answer) is lasting


def test_the_names_that_a_server_tells():
    """Its models, and what its list calls one of them."""
    models = _tells({"data": [{"id": "m", "as": "other"}, {"id": 7}, {"id": None}, {}, 8]})

    assert _wire.models_in(models) == ("m", "7")
    assert _wire.name_in(models, "as", "m") == "other"
    assert _wire.name_in(models, "id", "7") is None
    assert _wire.name_in(_tells({"as": 7}), "as", "m") is None
    for nothing in (_tells({"data": [{"id": "m"}]}, 500), _tells({"data": "m"}), _tells([])):
        assert _wire.models_in(nothing) == ()


def test_a_redirection_is_shown():
    """Where to is said, and of no other status."""
    there = {"location": "https://h/x"}

    assert "https://h/x" in str(_error({}, status=300, headers=there))
    assert "https://h/x" in str(_error({}, status=399, headers=there))
    assert "https://h/x" not in str(_error({}, status=400, headers=there))


def test_who_else_may_have_answered():
    """Of a page, and of what is no ranking, the hint says what to check."""
    asked = replace(_ASKED, found_in={**_ASKED.found_in, "host": "a file"})
    page = (
        "That was a web page, so something in between answered: a proxy, a firewall or a login "
        "page. Check a file and the proxy settings."
    )

    assert _error(b"<html>", asked=asked).hint == page
    assert _error(b"<html>", asked=asked, status=413).hint.endswith(f"=. {page}")
    assert _error({}).hint is None
    assert _error({}, protocol=_FLAT).hint == "If it is a server of your own, say which: server=."


def _refused(body, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return _error(body, status=500, headers=headers, protocol=_FLAT, server="vllm").message


def test_what_a_server_of_ones_own_says():
    """A text is shown, and what FastAPI says of a body; anything else says nothing."""
    odd = [7, {"msg": "no place"}, {"loc": "no list"}]
    places = [{"loc": ["body", "query"], "msg": "Field required"}, {"loc": [0], "msg": "no"}]

    assert _refused({"detail": [*odd, *places]}) == ("body.query: Field required; 0: no")
    assert _refused(b"caf\xe9", content_type="Text/Plain") == "caf\ufffd"
    assert _refused(b"cafe", content_type="text/plain; charset=utf-8") == "cafe"
    assert "cafe" not in _refused(b"cafe", content_type="text/html")
    assert "cafe" not in _refused(b"cafe")
