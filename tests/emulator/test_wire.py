import json
import math
import re

import pytest

from qwen_rerank.emulator._media import Media
from qwen_rerank.emulator._service import Answer, Question, RefusedError
from qwen_rerank.emulator._wire import (
    COMPATIBLE,
    NATIVE,
    media_in,
    read_json,
    write_json,
)

QUESTION = Question("qwen3-rerank", "q", ("a", "b"), 1, "i", return_documents=True)
ANSWER = Answer(((1, 0.9), (0, 0.1)), 7)


def native(**parameters):
    """Return a native body."""
    given = {"query": "q", "documents": ["a", "b"]}
    return {"model": "qwen3-rerank", "input": given, "parameters": parameters}


def compatible(**parameters):
    """Return a compatible body."""
    return {"model": "qwen3-rerank", "query": "q", "documents": ["a", "b"], **parameters}


@pytest.mark.parametrize(("wire", "body"), [(NATIVE, native), (COMPATIBLE, compatible)])
def test_both_formats_ask_the_same_question(wire, body):
    """Every option is read from where the format puts it; null counts as absent."""
    every = body(top_n=1, instruct="i", return_documents=True)
    nulls = body(top_n=None, instruct=None, return_documents=None, unknown=1)

    assert wire.parse(every) == QUESTION
    assert wire.parse(body()) == wire.parse(nulls) == Question("qwen3-rerank", "q", ("a", "b"))


def test_failure_bodies():
    """A known code has its documented texts and its lower-case twin in the compatible envelope.

    Its type there is the one that was recorded of what the gateway refuses by itself.
    """
    refused = RefusedError(401, "InvalidApiKey")

    assert NATIVE.failure(refused, "id") == {
        "code": "InvalidApiKey",
        "message": "Invalid API-key provided.",
        "request_id": "id",
    }
    assert COMPATIBLE.failure(refused, "id") == {
        "error": {
            "message": "Incorrect API key provided.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        },
        "request_id": "id",
    }


def test_an_unknown_code_is_sent_as_it_is():
    """A scripted code that is in no catalogue keeps its spelling, and has no invented text.

    In the compatible envelope it is the type as well; where there is none, that is OpenAI's.
    """
    refused = RefusedError(503, "Odd")
    error = COMPATIBLE.failure(refused, "id")["error"]

    assert NATIVE.failure(refused, "id") == {"code": "Odd", "message": "", "request_id": "id"}
    assert error == {"message": "", "type": "Odd", "param": None, "code": "Odd"}
    assert COMPATIBLE.failure(RefusedError(408, ""), "id")["error"] == error | {
        "type": "invalid_request_error",
        "code": "",
    }


def test_what_is_refused_behind_the_gateway():
    """Texts of the inner service carry its prefix, and the compatible envelope has an id more."""
    refused = RefusedError(400, "InvalidParameter", "bad", inner=True)
    native, compatible_ = NATIVE.failure(refused, "id"), COMPATIBLE.failure(refused, "id")

    assert native["message"] == "<400> InternalError.Algo.InvalidParameter: bad"
    assert compatible_["error"]["message"] == native["message"]
    assert compatible_["id"] == compatible_["request_id"] == "id"


@pytest.mark.parametrize(
    ("wire", "body", "where"), [(NATIVE, native, "parameters."), (COMPATIBLE, compatible, "")]
)
@pytest.mark.parametrize(
    ("name", "value"), [("top_n", 0), ("top_n", True), ("instruct", 1), ("return_documents", "yes")]
)
def test_options_of_a_wrong_type_are_refused_by_name(wire, body, where, name, value):
    """top_n is an integer of at least 1, instruct a string, return_documents a boolean."""
    with pytest.raises(RefusedError, match=f": {where}{name}$") as caught:
        wire.parse(body(**{name: value}))

    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")


BEHIND = "Field required: input.query & Field required: input.documents"


@pytest.mark.parametrize(
    ("wire", "body", "expected"),
    [
        (NATIVE, [], (400, "InvalidParameter", "The request body should be a JSON object.")),
        (NATIVE, {}, (400, "BadRequest.EmptyModel", "Required model parameter missing from")),
        (NATIVE, native() | {"model": 7}, (400, "InvalidParameter", "model should be a string")),
        (NATIVE, native() | {"model": "gte-rerank"}, (404, "ModelNotFound", "Model not exist.")),
        (NATIVE, native() | {"input": "q"}, (400, "InvalidParameter", "input should be an object")),
        (NATIVE, compatible(), (400, "InvalidParameter", BEHIND)),
        (NATIVE, native() | {"parameters": []}, (400, "InvalidParameter", "parameters should be")),
        (COMPATIBLE, compatible() | {"model": "gte-rerank"}, (404, "ModelNotFound", "The model `")),
        (
            COMPATIBLE,
            compatible() | {"model": "gte-rerank-v2"},
            (404, "model_not_supported", "Unsupported model `gte-rerank-v2` for OpenAI"),
        ),
        (COMPATIBLE, compatible() | {"documents": {}}, (400, "InvalidParameter", "documents sho")),
    ],
)
def test_bodies_that_ask_nothing_are_refused(wire, body, expected):
    """Each kind of malformed question has the status, the code and the text that were recorded.

    What a flat body on the native route lacks is told by the service behind the gateway.
    """
    status, code, said = expected
    with pytest.raises(RefusedError, match=f"^{re.escape(said)}") as caught:
        wire.parse(body)

    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.inner == (said == BEHIND)


def multimodal(query, *documents, **parameters):
    """Return a native body for the multimodal model."""
    given = {"query": query, "documents": list(documents)}
    return {"model": "qwen3-vl-rerank", "input": given, "parameters": parameters}


URL, DATA = "https://x/y.png", "data:image/png;base64,AAAA"


def test_the_multimodal_model_takes_objects():
    """qwen3-vl-rerank takes texts as strings or objects, images by URL or data, videos by URL."""
    body = multimodal(
        {"text": "q"}, "a", {"text": "b"}, {"image": URL}, {"image": DATA}, {"video": URL}
    )
    documents = ("a", "b", Media("image", URL), Media("image", DATA), Media("video", URL))

    assert NATIVE.parse(body) == Question("qwen3-vl-rerank", "q", documents)
    assert NATIVE.parse(multimodal({"image": DATA}, "a")).query == Media("image", DATA)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({}, "exactly one of text, image and video"),
        ({"text": "a", "image": URL}, "exactly one of text, image and video"),
        ({"odd": URL}, "exactly one of text, image and video"),
        ({"text": 1}, "text input should be a string"),
        ({"image": None}, "image input should be a string"),
        ({"image": "https://"}, "image input should be an http or https URL, or data:image/"),
        ({"image": f"http://{'a' * 50_000} "}, "image input should be an http"),
        ({"image": "AAAA"}, "image input should be an http"),
        ({"image": "data:text/plain;base64,AAAA"}, "image input should be an http"),
        ({"image": "data:image/png,AAAA"}, "image input should be an http"),
        ({"video": DATA}, "video input should be an http or https URL"),
        (["a"], "text input should be a string"),
    ],
)
def test_other_objects_are_refused(item, said):
    """An object has exactly one kind of content, and that is a string of the right form."""
    with pytest.raises(RefusedError, match=rf"{said}.*: input\.documents$") as caught:
        NATIVE.parse(multimodal("q", item))

    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")


def test_what_is_no_query_and_no_text():
    """The query is a text or an image, and of models for texts an item is a string."""
    with pytest.raises(RefusedError, match=r"exactly one of text and image: input\.query"):
        NATIVE.parse(multimodal({"video": URL}, "a"))
    with pytest.raises(RefusedError, match=r"text input should be a string: input\.documents"):
        NATIVE.parse(multimodal("q", {"text": "a"}) | {"model": "qwen3-rerank"})


@pytest.mark.parametrize("fps", [-0.1, 1.1, True, "1", math.nan])
def test_fps_is_a_share(fps):
    """It is a number from 0 to 1; anything else is refused by name, by the model with videos."""
    body = multimodal("q", "a", fps=fps)

    with pytest.raises(RefusedError, match=r"parameters\.fps"):
        NATIVE.parse(body)
    assert NATIVE.parse(body | {"model": "qwen3-rerank"})
    assert all(NATIVE.parse(multimodal("q", "a", fps=fine)) for fine in (None, 0, 0.5, 1))


def test_media_are_echoed_as_they_were_sent():
    """Asked for, an image or video comes back under its kind."""
    question = Question(
        "qwen3-vl-rerank", "q", (Media("image", DATA), Media("video", URL)), return_documents=True
    )
    results = NATIVE.render(question, ANSWER, "id")["output"]["results"]

    assert [result["document"] for result in results] == [{"video": URL}, {"image": DATA}]


def test_media_of_a_body_are_found():
    """URLs and data URIs of the query and of the documents are found, in any body."""
    body = multimodal({"image": DATA}, "a", {"text": URL}, {"image": URL}, {"video": 1})

    assert list(media_in(body)) == [DATA, URL]
    assert [*media_in(None), *media_in({"input": []}), *media_in(native())] == []


def test_lone_surrogates_are_replaced_on_the_way_in_and_out():
    """JSON can carry lone surrogates; what is answered is valid UTF-8 all the same."""
    body = read_json(b'{"model": "qwen3-rerank", "query": "\\ud800", "documents": ["a\\udfff"]}')

    assert COMPATIBLE.parse(body).documents == ("a\ufffd",)
    assert json.loads(write_json({"é": "\ud800"})) == {"é": "?"}


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000])
def test_what_is_no_json_is_a_value_error(raw):
    """Malformed, undecodable, bottomless and absurd bodies are all the same error."""
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are the json module's
        read_json(raw)


def test_json_is_read_to_64_levels():
    """Nesting beyond any question's need counts as malformed."""
    assert read_json(b"[" * 63 + b"1" + b"]" * 63)
    assert read_json(b"[" * 64 + b"]" * 64)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(b'{"a":' * 65 + b"1" + b"}" * 65)
