"""The emulator as the servers that people run themselves: strict, in each one's own words."""

import pytest

from qwen_rerank.emulator import Emulator, Reply
from qwen_rerank.emulator._servers import MODEL, SERVERS, VL_MODEL

FLAT = {"model": MODEL, "query": "blue cat", "documents": ["a dog", "the blue cat"]}
BODIES = dict.fromkeys(SERVERS, FLAT) | {
    "tei": {"query": "blue cat", "texts": ["a dog", "the blue cat"]}
}


@pytest.fixture(name="ask")
def _ask(caller, emulator):
    """Post a good body with some fields changed (... leaves one out), without any key."""

    def ask(server, **changed):
        url = emulator.server_url(server) + SERVERS[server].tails[0]
        body = {**BODIES[server], **changed}
        body = {name: value for name, value in body.items() if value is not ...}
        return caller.http.post(url, json=body)

    return ask


def _results(server, answer):
    body = answer.json()
    rows = body if server in ("sglang", "tei") else body["results"]
    name = "score" if server in ("sglang", "tei") else "relevance_score"
    return [(row["index"], row[name]) for row in rows]


@pytest.mark.parametrize("server", SERVERS)
def test_all_answer_without_a_key(caller, ask, server):
    """Every server ranks as DashScope's protocols do, asks for no key, and is logged."""
    answer = ask(server)
    same = caller.compatible("blue cat", FLAT["documents"]).json()["results"]

    assert answer.status_code == 200
    assert _results(server, answer) == [(row["index"], row["relevance_score"]) for row in same]
    assert caller.emulator.log[0].documents == 2
    assert caller.emulator.log[0].path == SERVERS[server].path


def test_what_is_counted(ask):
    """What each bills, and where it says so: what surrounds it, tests/servers compares."""
    # vLLM bills its template as well, of 74 tokens a pair.
    assert ask("vllm").json()["usage"] == {"prompt_tokens": 157, "total_tokens": 157}
    # Infinity's tokens are characters: 8 of the query with 5 and 12 of the documents.
    assert ask("infinity").json()["usage"] == {"prompt_tokens": 33, "total_tokens": 33}
    assert ask("xinference", return_len=True).json()["meta"]["tokens"]["input_tokens"] == 9
    assert ask("litellm").json()["meta"]["billed_units"] == {"total_tokens": 9}


def test_documents_are_returned(ask):
    """Asked for, texts come back in each server's own form; SGLang returns them unless declined."""
    assert ask("sglang").json()[0]["document"] == "the blue cat"
    assert "document" not in ask("sglang", return_documents=False).json()[0]
    assert "text" not in ask("tei").json()[0]
    assert ask("tei", return_text=True).json()[0]["text"] == "the blue cat"
    [first, _] = ask("litellm", return_documents=True).json()["results"]
    assert first["document"] == {"text": "the blue cat"}


@pytest.mark.parametrize("server", [name for name in SERVERS if name != "tei"])
def test_top_n(ask, server):
    """Where there is a top_n, it cuts the list."""
    assert [index for index, _ in _results(server, ask(server, top_n=1))] == [1]


def test_instructions_are_counted(ask):
    """An instruction costs tokens for every document; Xinference reads it in `kwargs`, as JSON."""
    told = ask("vllm", instruction="Find cats.").json()["usage"]["total_tokens"]
    in_kwargs = ask("xinference", kwargs='{"instruction": "Find cats."}', return_len=True).json()

    assert told == 157 + 2 * 3
    assert in_kwargs["meta"]["tokens"]["input_tokens"] == 9 + 2 * 3
    assert ask("xinference", kwargs="{").status_code == 500


# Strictness

_BAD_BODY = {"vllm": 400, "sglang": 400, "tei": 422, "xinference": 500, "infinity": 422,
             "litellm": 500, "cohere": 422}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_bad_bodies(caller, ask, emulator, server):
    """A field that is missing, undocumented or of another type is a bad body, and so is no JSON."""
    url, texts = emulator.server_url(server) + SERVERS[server].tails[0], SERVERS[server].texts
    missing = 400 if server == "litellm" else _BAD_BODY[server]

    assert ask(server, query=...).status_code == missing
    for changed in (
        {"query": 7},
        {"query": {"text": "q"}},
        {texts: "a dog"},
        {texts: ["a dog", ["a cat"]]},
        {"undocumented": 1},
        {"top_n": 1.5},
        {"return_documents": "yes"},
    ):
        assert ask(server, **changed).status_code == _BAD_BODY[server], changed
    for raw in (b"{", b"[]"):
        assert caller.http.post(url, content=raw).status_code == _BAD_BODY[server], raw


@pytest.mark.parametrize(
    ("server", "top_n", "kept"),
    [
        ("vllm", 0, 2),
        ("vllm", True, 1),
        ("xinference", 0, 0),
        ("xinference", -1, 1),
        ("infinity", "1", 1),
    ],
)
def test_odd_top_n(ask, server, top_n, kept):
    """What is no number of documents means what it was seen to mean to each server."""
    assert len(_results(server, ask(server, top_n=top_n))) == kept


def test_a_top_n_that_is_none(ask):
    """SGLang takes neither 0 nor true for a number of documents."""
    assert ask("sglang", top_n=0).status_code == 400
    assert ask("sglang", top_n=True).status_code == 400


PICTURE = {"type": "image_url", "image_url": {"url": "https://x.example/cat.png"}}


def test_parts(ask):
    """The server vLLM takes lists of parts for its model of images, and echoes them."""
    item = {"content": [{"type": "text", "text": "a cat"}, PICTURE]}
    [first, *_] = ask("vllm", model=VL_MODEL, documents=[item]).json()["results"]

    assert first["document"] == {"text": None, "multi_modal": item["content"]}
    assert ask("vllm", model=VL_MODEL, query=item).status_code == 200
    assert "MultiModalParam is not supported" in ask("vllm", documents=[item]).text


@pytest.mark.parametrize(
    "item",
    [
        {"image": "https://x.example/cat.png"},
        {"content": []},
        {"content": [{"type": "text"}]},
        {"content": [PICTURE | {"type": "video_url"}]},
        {"content": [PICTURE | {"image_url": "https://x.example/cat.png"}]},
        {"content": [PICTURE | {"image_url": {"url": "data:image/png;base64,AA"}}]},
    ],
    ids=str,
)
def test_parts_that_are_none(ask, item):
    """Other objects, empty lists, other shapes of parts and what is no picture are refused."""
    assert ask("vllm", model=VL_MODEL, documents=[item]).status_code == 400


def test_half_of_a_pair(caller, emulator):
    """JSON can carry half of a surrogate pair: vLLM refuses it, others rank what stands for it."""
    raw = b'{"query": "\\ud800", "documents": ["a\\udfff"], "return_documents": true}'
    bare = b'{"query": "\\ud83d", "documents": ["a"]}'
    ranked = caller.http.post(f"{emulator.server_url('infinity')}/rerank", content=raw)
    refused = caller.http.post(f"{emulator.server_url('vllm')}/rerank", content=bare)

    assert ranked.json()["results"][0]["document"] == "a\ufffd"
    assert refused.status_code == 400


def test_what_clients_of_cohere_and_jina_read(ask):
    """Both find what they look for, whatever model they name; a document may be an object."""
    documents = ["a dog", {"text": "the blue cat"}]
    answer = ask("cohere", model="rerank-v3.5", documents=documents).json()

    assert [each["index"] for each in answer["results"]] == [1, 0]
    assert answer["meta"]["billed_units"] == {"search_units": 1}
    assert answer["usage"]["total_tokens"] == 9
    assert answer["model"] == "rerank-v3.5"


def test_paths_and_keys(caller):
    """Each listens where it should; started with a key it wants it, but vLLM not without /v1."""
    tails = {
        "vllm": ("/rerank", "/v1/rerank", "/v2/rerank"),
        "sglang": ("/v1/rerank",),
        "tei": ("/rerank",),
        "xinference": ("/v1/rerank",),
        "infinity": ("/rerank",),
        "litellm": ("/rerank", "/v1/rerank", "/v2/rerank"),
        "cohere": ("/rerank", "/v1/rerank", "/v2/rerank"),
    }
    with Emulator(server_key="sk-theirs") as emulator:
        good = {"authorization": "Bearer sk-theirs"}
        for name in SERVERS:
            for tail in tails[name]:
                url = emulator.server_url(name) + tail
                assert caller.http.post(url, json=BODIES[name], headers=good).status_code == 200
                status = caller.http.post(url, json=BODIES[name]).status_code
                assert status == (200 if (name, tail) == ("vllm", "/rerank") else 401)


def test_bad_bodies_are_told(ask):
    """In an envelope of SGLang's, and by TEI in plain text, the field named."""
    told = ask("sglang", documents=...).json()
    tei = ask("tei", texts=...)

    assert "documents" in told.pop("message")
    assert told == {"object": "error", "type": "Bad Request", "param": None, "code": 400}
    assert tei.headers["content-type"] == "text/plain; charset=utf-8"
    assert tei.text.endswith("missing field `texts`")


def test_names_of_models(ask):
    """LiteLLM wants the name of its model; SGLang and Cohere's look at none, and null is none."""
    other = ask("litellm", model="other")

    assert other.status_code == 400
    assert "Invalid model name passed in model=other" in other.text
    assert ask("litellm", model=...).status_code == 400
    assert ask("sglang", model="other").status_code == 200
    assert ask("sglang", model=...).status_code == 200
    assert ask("cohere", model=...).status_code == 200
    assert ask("vllm", model=None).status_code == 200


@pytest.mark.parametrize(
    ("server", "changed", "status", "said"),
    [
        ("sglang", {"documents": []}, 400, "Documents cannot be empty"),
        ("sglang", {"documents": ["a", " "]}, 400, "Each document cannot be empty"),
        ("sglang", {"query": " "}, 400, "Query cannot be empty"),
        ("tei", {"texts": []}, 400, "`texts` cannot be empty"),
        ("tei", {"texts": ["a"] * 32}, 200, '"index": 31'),
        ("tei", {"texts": ["a"] * 33}, 413, "batch size 33 > maximum allowed batch size 32"),
        ("infinity", {"documents": ["a"] * 2_049}, 422, "at most 2048 items"),
        ("infinity", {"documents": ["a" * 122_881]}, 422, "at most 122880 characters"),
    ],
)
def test_limits(ask, server, changed, status, said):
    """The documented limits are enforced, and no others."""
    answer = ask(server, **changed)

    assert answer.status_code == status
    assert said in answer.text


@pytest.mark.parametrize(
    ("server", "body"),
    [
        ("sglang", b'{"detail": "Not Found"}'),
        ("tei", b""),
        ("litellm", b'{"detail": "Not Found"}'),
        ("cohere", b'{"message": "Not Found"}'),
    ],
)
def test_paths_that_are_not_served(caller, emulator, server, body):
    """Other paths and methods below a server's address are answered as it would."""
    url = emulator.server_url(server)
    nowhere = caller.http.post(f"{url}/v9/rerank", json=BODIES[server])
    method = caller.http.get(url + SERVERS[server].tails[0])

    assert (nowhere.status_code, method.status_code) == (404, 405)
    assert nowhere.content == body


# Lengths


@pytest.fixture(name="short")
def _short(calling):
    """Servers that take 100 tokens for a pair, and cut or refuse what is longer."""
    return calling(max_model_len=100)


def test_a_pair_that_is_too_long(short):
    """The server vLLM refuses the whole request, in its own words; others cut without a word."""
    texts = [f"{'the blue cat ' * 60}{end}" for end in ("dog", "mouse", "blue cat")]
    vllm, tei = short.emulator.server_url("vllm"), short.emulator.server_url("tei")
    refused = short.http.post(f"{vllm}/rerank", json=FLAT | {"documents": ["a dog", *texts]})
    cut = short.http.post(f"{tei}/rerank", json=BODIES["tei"] | {"texts": texts})
    error = refused.json()["error"]

    assert "maximum context length is 100 tokens" in error.pop("message")
    assert error == {"type": "BadRequestError", "param": "input_tokens", "code": 400}
    assert short.http.post(f"{vllm}/rerank", json=FLAT).status_code == 200
    assert len({each["score"] for each in cut.json()}) == 1


def test_what_servers_tell_of_themselves(short):
    """Both vLLM and TEI tell how long a pair may be, unlogged and whatever is scripted."""
    emulator = short.emulator
    emulator.script(Reply.error(503, "Odd", "m"))
    models = short.http.get(emulator.server_url("vllm") + "/v1/models").json()
    info = short.http.get(emulator.server_url("tei") + "/info").json()

    assert models["data"][0] == models["data"][0] | {"id": MODEL, "max_model_len": 100}
    assert info["max_input_length"] == 100
    assert short.http.get(emulator.server_url("vllm") + "/health").content == b""
    assert emulator.log == ()


# What else an emulator does


def test_addresses(emulator):
    """Every server has an address of its own below the emulator's."""
    origin = emulator.base_url.removesuffix("/api/v1")

    assert [emulator.server_url(name) for name in SERVERS] == [f"{origin}/{n}" for n in SERVERS]
    with pytest.raises(ValueError, match=r"server must be one of vllm, sglang, tei, .*'ollama'"):
        emulator.server_url("ollama")


@pytest.mark.parametrize(
    ("server", "body"),
    [
        ("vllm", {"error": {"message": "m", "type": "Odd", "param": None, "code": 503}}),
        ("sglang", {"object": "error", "message": "m", "type": "Odd", "param": None, "code": 503}),
        ("tei", {"error": "m", "error_type": "Odd"}),
        ("xinference", {"detail": "m"}),
        ("infinity", {"error": {"message": "m", "type": None, "param": None, "code": 503}}),
    ],
)
def test_scripted_errors(ask, emulator, server, body):
    """A scripted error comes in the envelope of the server that was called."""
    emulator.script(Reply.error(503, "Odd", "m"))

    answer = ask(server)

    assert (answer.status_code, answer.json()) == (503, body)


def test_a_gateway_wraps_what_it_is_told(ask, emulator):
    """LiteLLM puts DashScope's refusal into the message of its own, and has an id of its own."""
    emulator.script(Reply.error(400, "Arrearage", "Access denied."))

    answer = ask("litellm")

    told = answer.json()["error"]
    assert (answer.status_code, told["code"]) == (400, "400")
    assert told["message"].startswith("litellm.BadRequestError: ")
    assert '"code": "Arrearage"' in told["message"]
    assert answer.headers["x-litellm-call-id"]
    assert "x-request-id" not in answer.headers


def test_faults(ask, emulator):
    """Faults meet these servers too, except those that alter an honest answer."""
    emulator.fault("503", first=1)
    emulator.fault("score-nan")

    assert ask("tei").status_code == 503
    assert ask("tei").json()[0]["index"] == 1
