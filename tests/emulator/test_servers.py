"""The emulator as the servers that people run themselves: strict, in each one's own words."""

import json

import pytest

from qwen_rerank.emulator import Emulator, Reply
from qwen_rerank.emulator._servers import MODEL, SERVERS, VL_MODEL

FLAT = {"model": MODEL, "query": "blue cat", "documents": ["a dog", "the blue cat"]}
BODIES = {
    "vllm": FLAT,
    "sglang": FLAT,
    "tei": {"query": "blue cat", "texts": ["a dog", "the blue cat"]},
    "xinference": FLAT,
    "infinity": FLAT,
    "litellm": FLAT,
    "cohere": FLAT,
}


@pytest.fixture(name="ask")
def _ask(caller, emulator):
    """Post a good body with some fields changed (None leaves one out), without any key."""

    def ask(server, *, tail=None, **changed):
        path = tail or SERVERS[server].tails[0]
        body = {**BODIES[server], **changed}
        body = {name: value for name, value in body.items() if value is not None}
        return caller.http.post(emulator.server_url(server) + path, json=body)

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


@pytest.mark.parametrize(
    ("server", "tail"), [(name, tail) for name, server in SERVERS.items() for tail in server.tails]
)
def test_every_path(ask, server, tail):
    """Of vLLM and LiteLLM there are three paths, of the others one."""
    assert ask(server, tail=tail).status_code == 200


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
    """An instruction costs tokens for every document, as the models read it."""
    plain = ask("vllm").json()["usage"]["total_tokens"]
    told = ask("vllm", instruction="Find cats.").json()["usage"]["total_tokens"]

    assert told > plain
    assert (told - plain) % 2 == 0


# Strictness

_BAD_BODY = {"vllm": 400, "sglang": 400, "tei": 422, "xinference": 500, "infinity": 422,
             "litellm": 500, "cohere": 422}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_bad_fields(ask, server):
    """A field that is missing, undocumented or of another type is a bad body."""
    missing = 400 if server == "litellm" else _BAD_BODY[server]

    assert ask(server, query=None).status_code == missing
    for changed in (
        {"query": 7},
        {"query": ["blue cat"]},
        {"query": {"text": "q"}},
        {"documents": "a dog", "texts": "a dog"},
        {"documents": [{"text": "a dog"}], "texts": [{"text": "a dog"}]},
        {"documents": [1], "texts": [1]},
        {"input": {}},
        {"instruct_": "x"},
        {"top_n": 1.5},
        {"return_documents": "yes", "return_text": "yes"},
    ):
        assert ask(server, **changed).status_code == _BAD_BODY[server], changed


@pytest.mark.parametrize(
    ("server", "top_n", "status", "kept"),
    [
        ("vllm", 0, 200, 2),
        ("vllm", True, 200, 1),
        ("sglang", 0, 400, None),
        ("xinference", 0, 200, 0),
        ("xinference", -1, 200, 1),
        ("xinference", True, 500, None),
        ("infinity", "1", 200, 1),
    ],
)
def test_odd_top_n(ask, server, top_n, status, kept):
    """What is no number of documents means what it was seen to mean to each server."""
    answer = ask(server, top_n=top_n)

    assert answer.status_code == status
    assert kept is None or len(_results(server, answer)) == kept


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (
            {"content": [{"type": "image_url", "image_url": {"url": "https://x.example/c.png"}}]},
            200,
        ),
        ({"content": [{"type": "text", "text": "a cat"}]}, 200),
        ({"image": "https://x.example/cat.png"}, 400),
        ({"content": []}, 400),
        ({"content": [{"type": "image_url", "image_url": "https://x.example/cat.png"}]}, 400),
        (
            {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
            400,
        ),
        ({"content": [{"type": "text"}]}, 400),
    ],
    ids=str,
)
def test_parts(ask, item, status):
    """The server vLLM takes lists of parts for its model of images, and echoes them."""
    answer = ask("vllm", model=VL_MODEL, documents=["a dog", item])

    assert answer.status_code == status
    if status == 200:
        assert {"text": None, "multi_modal": item["content"]} in [
            each["document"] for each in answer.json()["results"]
        ]
        assert ask("vllm", model=VL_MODEL, query=item).status_code == 200
        assert "MultiModalParam is not supported" in ask("vllm", documents=[item]).text


def test_half_of_a_pair(caller, emulator):
    """Of the texts that JSON can carry vLLM refuses those with half of a surrogate pair."""
    url = emulator.server_url("vllm") + "/v1/rerank"
    content = json.dumps({**FLAT, "query": "\ud83d"})

    assert caller.http.post(url, content=content).status_code == 400


@pytest.mark.parametrize("tail", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_what_clients_of_cohere_and_jina_read(ask, tail):
    """Both find what they look for, at the paths that they ask, whatever model they name."""
    answer = ask(
        "cohere", tail=tail, model="rerank-v3.5", documents=["a dog", {"text": "the blue cat"}]
    ).json()

    assert [each["index"] for each in answer["results"]] == [1, 0]
    assert answer["meta"]["billed_units"] == {"search_units": 1}
    assert answer["usage"]["total_tokens"] == 9
    assert answer["model"] == "rerank-v3.5"


def test_an_instruction_for_xinference(ask):
    """It counts as JSON text in `kwargs`; what is no JSON there is a bad body."""
    told = ask("xinference", kwargs='{"instruction": "Find dogs."}', return_len=True)

    assert told.json()["meta"]["tokens"]["input_tokens"] > 9
    assert ask("xinference", kwargs="{").status_code == 500


def test_keys(caller):
    """Started with a key, a server wants it; vLLM lets anybody in who leaves out the version."""
    with Emulator(server_key="sk-theirs") as emulator:
        for name, server in SERVERS.items():
            for tail in server.tails:
                url = emulator.server_url(name) + tail
                good = {"authorization": "Bearer sk-theirs"}
                assert caller.http.post(url, json=BODIES[name], headers=good).status_code == 200
                status = caller.http.post(url, json=BODIES[name]).status_code
                assert status == (200 if (name, tail) == ("vllm", "/rerank") else 401)


def test_bad_bodies_are_told(ask):
    """In an envelope of SGLang's, and by TEI in plain text, the field named."""
    told = ask("sglang", documents=None).json()
    tei = ask("tei", texts=None)

    assert "documents" in told.pop("message")
    assert told == {"object": "error", "type": "Bad Request", "param": None, "code": 400}
    assert tei.headers["content-type"] == "text/plain; charset=utf-8"
    assert tei.text.endswith("missing field `texts`")


@pytest.mark.parametrize("server", SERVERS)
def test_bodies_that_are_none(caller, emulator, server):
    """What is no JSON, or no object, is a bad body too."""
    url = emulator.server_url(server) + SERVERS[server].tails[0]
    for raw in (b"", b"{", b"[]", b'"q"'):
        assert caller.http.post(url, content=raw).status_code == _BAD_BODY[server], raw


@pytest.mark.parametrize(
    ("server", "status", "said"),
    [
        ("sglang", 200, ""),
        ("litellm", 400, "Invalid model name passed in model=other"),
    ],
)
def test_other_models(ask, server, status, said):
    """LiteLLM looks at the name, and SGLang does not."""
    answer = ask(server, model="other")

    assert answer.status_code == status
    assert said in answer.text


def test_models_may_be_left_out(ask, caller, emulator):
    """vLLM, SGLang and Infinity take the one model that they have."""
    served = {name: ask(name, model=None).status_code for name in SERVERS}

    assert served == {"vllm": 200, "sglang": 200, "tei": 200, "xinference": 500, "infinity": 200,
                      "litellm": 400, "cohere": 200}  # fmt: skip
    null = {**BODIES["vllm"], "model": None}
    url = emulator.server_url("vllm") + "/rerank"
    assert caller.http.post(url, json=null).status_code == 200


@pytest.mark.parametrize(
    ("server", "changed", "status", "said"),
    [
        ("sglang", {"documents": []}, 400, "Documents cannot be empty"),
        ("sglang", {"documents": ["a", " "]}, 400, "Each document cannot be empty"),
        ("sglang", {"query": " "}, 400, "Query cannot be empty"),
        ("tei", {"texts": []}, 400, "`texts` cannot be empty"),
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


def test_up_to_the_limit(ask):
    """As many as are documented are ranked."""
    assert len(_results("tei", ask("tei", texts=["a"] * 32))) == 32


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


def _posted(caller, server, **changed):
    url = caller.emulator.server_url(server) + SERVERS[server].tails[0]
    return caller.http.post(url, json=BODIES[server] | changed)


def test_a_pair_that_is_too_long_for_vllm(short):
    """The whole request is refused, in the words of vLLM, and no document is named."""
    answer = _posted(short, "vllm", documents=["a dog", "the blue cat " * 20])

    assert answer.status_code == 400
    assert answer.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "BadRequestError",
        "param": "input_tokens",
        "code": 400,
    }
    assert "maximum context length is 100 tokens" in answer.json()["error"]["message"]
    assert _posted(short, "vllm").status_code == 200


@pytest.mark.parametrize("server", ["tei", "xinference", "infinity"])
def test_pairs_that_are_cut_silently(short, server):
    """What differs behind the model's length scores alike, and nothing says so."""
    texts = [f"{'the blue cat ' * 60}{end}" for end in ("dog", "mouse", "blue cat")]
    answer = _posted(short, server, **{SERVERS[server].texts: texts})

    assert len({score for _, score in _results(server, answer)}) == 1


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


def test_no_length_at_all():
    """A pair has at least one token."""
    with pytest.raises(ValueError, match="max_model_len must be at least 1"):
        Emulator(max_model_len=0)


# What else an emulator does


def test_addresses(emulator):
    """Every server has an address of its own below the emulator's."""
    origin = emulator.base_url.removesuffix("/api/v1")

    assert [emulator.server_url(name) for name in SERVERS] == [f"{origin}/{n}" for n in SERVERS]
    with pytest.raises(ValueError, match=r"server must be one of vllm, sglang, tei, .*'ollama'"):
        emulator.server_url("ollama")
    with pytest.raises(RuntimeError, match="no address"):
        Emulator().server_url("vllm")


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


@pytest.mark.parametrize("server", SERVERS)
def test_faults(ask, emulator, server):
    """Faults meet these servers too, except those that alter an honest answer."""
    emulator.fault("503", first=1)
    emulator.fault("score-nan")

    assert ask(server).status_code == 503
    assert _results(server, ask(server))[0][0] == 1


def test_lone_surrogates_are_replaced(caller, emulator):
    """JSON can carry lone surrogates; they are ranked as what stands for them."""
    raw = b'{"query": "\\ud800", "documents": ["a\\udfff"], "return_documents": true}'
    answer = caller.http.post(f"{emulator.server_url('infinity')}/rerank", content=raw)

    assert answer.json()["results"][0]["document"] == "a\ufffd"
