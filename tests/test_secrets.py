"""The API key appears nowhere: not in what is shown or stored, and in no failure of any kind.

What tests print, log, warn of, pickle and dump is looked at everywhere, by secrets_watch.py. Here
is what it does not see: every local of every frame of a whole chain of errors, into containers and
into the headers of requests that hang on them, as a careful debugger would look.
"""

import asyncio
import contextlib
import copy
import dataclasses
import gc
import json
import pickle
import signal
import socketserver
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import cloudpickle
import httpx
import pydantic_core
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps
from langchain_core.runnables import RunnableLambda
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    validate_call,
)
from secrets_watch import CANARY

import langchain_qwen_rerank
import llama_index_qwen_rerank
import qwen_rerank
from langchain_qwen_rerank import QwenRerankRetriever
from qwen_rerank import BaseReranker, Reranker, RerankError, errors
from qwen_rerank._clients import Client
from qwen_rerank.emulator import Emulator, Reply

_KEY = CANARY
_OTHER = "sk-another-key-0011223344"  # where the watch would see what a test writes itself
_GATEWAY_KEY = "gw/Zm9v+k=ey&<7>9f3a"  # another form, which JSON writers like to escape
_QUERY = "a fast red car"
_TEXTS = ["a red car", "green tea", "a slow blue car"]
_SEVERAL = {"max_documents_per_request": 1}

# How a call is made

_LANGCHAIN, _LLAMA_INDEX = langchain_qwen_rerank.QwenRerank, llama_index_qwen_rerank.QwenRerank
_CALLS: dict[type[BaseReranker], tuple[str, tuple[Any, ...]]] = {
    Reranker: ("rerank", (_QUERY, _TEXTS)),
    _LANGCHAIN: ("compress_documents", ([Document(text) for text in _TEXTS], _QUERY)),
    _LLAMA_INDEX: (
        "postprocess_nodes",
        ([NodeWithScore(node=TextNode(text=text)) for text in _TEXTS], QueryBundle(_QUERY)),
    ),
}


@dataclass(frozen=True)
class Face:
    """One way to call a reranker, as a plain function."""

    kind: type[BaseReranker]
    native: bool = False

    def ranked(self, reranker: BaseReranker) -> Any:
        """The ranking, to be awaited if this is a native way."""
        method, given = _CALLS[self.kind]
        return getattr(reranker, f"a{method}" if self.native else method)(*given)

    def __call__(self, reranker: BaseReranker) -> Any:
        """The ranking; an async one in a loop of its own."""
        ranked = self.ranked(reranker)
        return asyncio.run(ranked) if self.native else ranked


_KINDS = {"core": Reranker, "langchain": _LANGCHAIN, "llama-index": _LLAMA_INDEX}
_SEALED = {**_KINDS, "retriever": QwenRerankRetriever}
_every_kind = pytest.mark.parametrize("kind", _KINDS.values(), ids=_KINDS)
_every_sealed_kind = pytest.mark.parametrize("kind", _SEALED.values(), ids=_SEALED)
_both_colours = pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])


def _made(kind: type[BaseReranker], base_url: str, **options: Any) -> Any:
    return kind(**{"base_url": base_url, "api_key": _KEY, "max_retries": 0, **options})


def _clients(**options: Any) -> dict[str, Any]:
    """Clients of the caller's for both colours, which keep nothing open."""
    options |= {"limits": httpx.Limits(max_keepalive_connections=0)}
    return {
        "http_client": httpx.Client(**options),
        "async_http_client": httpx.AsyncClient(**options),
    }


# How a failure is looked at


def _raised(call: Callable[[], Any]) -> BaseException:
    """What *call* raises; the frames begin with those of *call*, so that none is a test's."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001  whatever it is
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    pytest.fail("nothing was raised")


def _chain(error: BaseException) -> list[BaseException]:
    """*error* and all that hangs on it: causes, contexts, members of groups, attributes."""
    chain: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and not any(one is seen for seen in chain):
            chain.append(one)
            todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
            todo += [*vars(one).values(), *one.args]
    return chain


_HTTP = ("aiohttp", "httpcore", "httpx", "multidict")
_BELOW = (
    *("headers", "raw", "request", "_request", "request_info", "_request_info", "_response"),
    *("stream", "_stream", "_httpcore_stream"),
)


def _inside(value: Any, seen: dict[int, Any]) -> Iterator[str]:
    """Everything that looking into *value* shows."""
    if id(value) in seen or isinstance(value, SecretStr | type):
        return
    seen[id(value)] = value
    yield value.decode("latin-1") if isinstance(value, bytes | bytearray) else repr(value)
    below: list[Any] = []
    if isinstance(value, Mapping):
        below += [each for pair in list(value.items()) for each in pair]
    elif isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        below += list(value)
    elif dataclasses.is_dataclass(value):
        below += [getattr(value, each.name, None) for each in dataclasses.fields(value)]
    elif type(value).__module__.partition(".")[0] in _HTTP:
        for name in _BELOW:
            with contextlib.suppress(Exception):  # some are not to be had at every moment
                below.append(getattr(value, name))
    for each in below:
        yield from _inside(each, seen)


def _places(error: BaseException, key: str = _KEY) -> list[str]:
    """Where looking at *error* shows *key*."""
    places: list[str] = []
    seen: dict[int, Any] = {}
    for one in _chain(error):
        name = type(one).__name__
        said = [str(one), repr(one), repr(one.args), repr(vars(one))]
        with contextlib.suppress(Exception):  # not every error can be stored
            said.append(pickle.dumps(one, 0).decode("latin-1"))
        places += [f"what {name} says"] * any(key in text for text in said)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            for local, value in list(frame.f_locals.items()):
                if any(key in text for text in _inside(value, seen)):
                    places.append(f"{name}: {local} of {frame.f_code.co_qualname}")
    return places


def _fails_quietly(call: Callable[[], Any], *kinds: type[BaseException], why: str = "") -> None:
    """Sees that *call* raises one of *kinds*, and that nothing of it shows the key."""
    error = _raised(call)

    assert isinstance(error, kinds), why
    assert _places(error) == [], why


# The looks themselves can fail


def _in_a_deep_container():
    headers = [({"a": (b"x", [bytearray(_OTHER.encode())])},)]
    raise ValueError(len(headers))


def _in_the_headers_of_a_request():
    request = httpx.Request("GET", "http://h/", headers={"authorization": f"Bearer {_OTHER}"})
    raise ValueError(len(request.headers))  # httpx's repr hides it


def _in_a_hidden_context():
    try:
        _in_a_deep_container()
    except ValueError:
        raise LookupError from None


def _in_a_group():
    raise ExceptionGroup("two", [ValueError(1), _raised(_in_a_deep_container)])


def _in_an_attribute():
    error = LookupError("mine")
    error.failure = _raised(_in_a_deep_container)
    raise error


def _in_a_note():
    error = LookupError("mine")
    error.add_note(f"sent {_OTHER}")
    raise error


_PLANTED = [
    *(_in_a_deep_container, _in_the_headers_of_a_request, _in_a_hidden_context),
    *(_in_a_group, _in_an_attribute, _in_a_note),
]


@pytest.mark.parametrize("planted", _PLANTED)
def test_the_looks_find_what_is_planted(planted):
    """A key that is left in a frame, a request, a context, a group or a note is found."""
    assert _places(_raised(planted), _OTHER)


# What is shown and stored

_LOOKS: dict[str, Callable[[Any], Any]] = {
    "as text": lambda made: [made, str(made), *made.__repr_args__(), *made.__rich_repr__()],
    "state": lambda made: [vars(made), made.__pydantic_private__, made.__reduce_ex__(4)],
    "attributes": lambda made: [  # as debuggers show them
        getattr(made, name, None) for name in {*dir(type(made))} - {*dir(BaseModel)}
    ],
    "copies": lambda made: [vars(copy.copy(made)), vars(copy.deepcopy(made)), made.model_copy()],
    "dump of the key alone": lambda made: [
        made.model_dump(include={"api_key"}),
        made.model_dump_json(include={"api_key"}),
    ],
    "dump of everything": lambda made: [
        made.model_dump(by_alias=True, round_trip=True, context={"secrets": True}),
        TypeAdapter(type(made)).dump_json(made, round_trip=True),
    ],
    "any JSON": lambda made: pydantic_core.to_json([made, vars(made)], fallback=repr),
    "pickles": lambda made: [pickle.dumps(made, 0), cloudpickle.dumps(lambda: made)],
    "LangChain's dumps": lambda made: [dumps(made), dumpd(made), dumps({"kwargs": made})],
    "LlamaIndex's dumps": lambda made: (
        [made.to_dict(), made.to_json()] if hasattr(made, "to_dict") else ""
    ),
    "the cache": lambda made: made.cache,
}


@_every_kind
def test_no_look_shows_the_key(emulator, kind):
    """No way of printing, dumping, copying or pickling a reranker holds its key, nor its cache."""
    reranker = _made(kind, emulator.base_url, cache={})
    Face(kind)(reranker)  # with open connections

    assert len(reranker.cache) == 3
    assert [name for name, look in _LOOKS.items() if _KEY in repr(look(reranker))] == []


def _assigned(made: Any, name: str) -> Any:
    setattr(made, name, _KEY)
    return made


_WAYS_IN: dict[str, Callable[[Any], Any]] = {
    "by its alias": lambda kind: kind(dashscope_api_key=_KEY),
    "with blanks": lambda kind: kind(api_key=f" {_KEY}\n"),
    "validated": lambda kind: kind.model_validate({"api_key": _KEY}),
    "never checked": lambda kind: kind.model_construct(api_key=_KEY, model="m"),
    "assigned": lambda kind: _assigned(kind(api_key=_OTHER), "api_key"),
    "assigned by its alias": lambda kind: _assigned(kind(api_key=_OTHER), "dashscope_api_key"),
    "in a copy": lambda kind: kind(api_key=_OTHER).model_copy(update={"api_key": _KEY}),
}


@_every_kind
def test_what_is_taken_for_a_key_is_sealed(kind):
    """However the key is given, the object has it, and its state does not show it."""
    for how, given in _WAYS_IN.items():
        made = given(kind)

        assert _KEY in made.api_key.get_secret_value(), how
        assert _KEY not in repr([made, vars(made), made._resolved.endpoint]), how


# Calls that fail

_FAILURES: dict[str, tuple[str, dict[str, Any], type[RerankError]]] = {
    "one of several is refused": ("key-echoed", _SEVERAL, errors.AuthenticationError),
    "sent again": ("503", {"max_retries": 1}, errors.ServiceError),
    "nonsense": ("index-string", {}, errors.ReplyError),
    "broken off": ("reset-mid", {}, errors.ServiceError),
    "late": ("no-answer", {"timeout": 0.1}, errors.DeadlineError),
    "late of several": ("no-answer", {"timeout": 0.1} | _SEVERAL, errors.DeadlineError),
    "late in the queue": (
        "no-answer",
        {"timeout": 0.1, "max_concurrency": 1} | _SEVERAL,
        errors.DeadlineError,
    ),
}


@_every_kind
@_both_colours
def test_failures_show_no_key(monkeypatch, kind, native):
    """However a call fails, no error shows the key, whatever has been sent by then."""
    monkeypatch.setattr("qwen_rerank._drive.random.random", lambda: 0.0)  # nobody waits
    face = Face(kind, native)
    for why, (fault, options, error) in _FAILURES.items():
        with Emulator(api_key=_KEY, faults=[fault]) as service:
            reranker = _made(kind, service.base_url, **options)
            _fails_quietly(partial(face, reranker), error, why=why)


@_both_colours
def test_passed_through(emulator, native):
    """Nor does the failure that a passed-through ranking carries, however that is shown."""
    emulator.script(Reply.error(500, _KEY, f"bad {_KEY}", headers={"x-request-id": _KEY}))
    reranker = _made(Reranker, emulator.base_url, on_error="passthrough")

    ranking = Face(Reranker, native)(reranker)

    assert _places(ranking.degraded) == []
    assert _KEY not in repr([ranking, ranking._repr_html_(), pickle.dumps(ranking, 0)])


# Servers that repeat the key at the level of HTTP


def _answer(body: bytes, *headers: str, status: str = "401 No") -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def _bodies(key: str) -> dict[str, bytes]:
    """Answers whose bodies quote *key*."""
    told = json.dumps({"code": key, "message": f"bad {key}", "request_id": key})
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    results = f'{{"output":{{"results":[{{"index":"{escaped}"}}]}}}}'
    return {
        "body": _answer(told.encode()),
        "escaped": _answer(told.replace(key, escaped).encode()),
        "escaped slash": _answer(told.replace("/", "\\/").encode()),
        "UTF-16": _answer(told.encode("utf-16")),
        "in a list": _answer(json.dumps([key, {key: key}]).encode()),
        "results": _answer(results.encode(), status="200 OK"),
        "error in a 200": _answer(told.encode(), status="200 OK"),
        "page": _answer(f"<html>{key}</html>".encode()),
    }


def _heads(key: str) -> dict[str, bytes]:
    """Answers that quote *key* in what libraries of HTTP read, and complain of."""
    return {
        "packed": _answer(b"{}", f"content-encoding: {key}"),
        "header": _answer(b"{}", f"x-request-id: {key}", f"retry-after: {key}"),
        "name of a header": _answer(b"{}", f"x-{key}: 1"),
        "reason": _answer(b"{}", status=f"401 {key}"),
        "redirect": _answer(b"", f"location: http://{key}/{key}", status="302 Found"),
        "no HTTP": key.encode() + b"\r\n\r\n",
        "status": f"HTTP/1.1 {key} No\r\n\r\n".encode(),
        "broken header": _answer(b"{}", key),
        "length": f"HTTP/1.1 200 OK\r\ncontent-length: {key}\r\n\r\n{{}}".encode(),
        "encoding": f"HTTP/1.1 200 OK\r\ntransfer-encoding: {key}\r\n\r\n{{}}".encode(),
        "chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + key.encode() + b"\r\n",
        "long head": b"HTTP/1.1 200 OK\r\nx: " + key.encode() * 5_000 + b"\r\n\r\n",
    }


@contextlib.contextmanager
def _saying(answers: list[bytes]) -> Iterator[str]:
    """The base URL of a server that says the last of *answers*, whatever it is asked."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.recv(65_536)
                self.request.sendall(answers[-1])

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api/v1"
        finally:
            server.shutdown()
            serving.join()


@_both_colours
@pytest.mark.parametrize("through", ["our own client", "the caller's client"])
def test_servers_that_quote_the_key(native, through):
    """Wherever an answer repeats the key, in whatever spelling, what is raised does not."""
    options = {} if through == "our own client" else _clients()  # which log what they hear
    quoting = [(_OTHER, where, said) for where, said in (_bodies(_OTHER) | _heads(_OTHER)).items()]
    quoting += [(_GATEWAY_KEY, where, said) for where, said in _bodies(_GATEWAY_KEY).items()]
    said: list[bytes] = []
    with _saying(said) as base_url:
        for key, where, answer in quoting:
            said.append(answer)
            reranker = _made(Reranker, base_url, api_key=key, **options)

            error = _raised(partial(Face(Reranker, native), reranker))

            assert isinstance(error, RerankError), where
            assert _places(error, key) == [], where


@pytest.mark.parametrize("key", ["0", "score"])
def test_short_keys_spoil_no_answer(key):
    """A gateway may want any short word for a key: an answer that happens to hold it is read."""
    with Emulator(api_key=key, score=lambda *_: 0.5) as service:
        ranking = _made(Reranker, service.base_url, api_key=key).rerank(_QUERY, _TEXTS)

    assert [hit.score for hit in ranking] == [0.5] * 3


# Calls that are broken off


@_every_kind
@pytest.mark.parametrize(
    "options",
    [{}, _SEVERAL, {"max_concurrency": 1} | _SEVERAL, None],
    ids=["one request", "several", "in the queue", "the caller's client"],
)
def test_cancelled(kind, options):
    """The traceback of a call that is cancelled while it waits for an answer shows no key."""
    options = _clients() if options is None else options
    face = Face(kind, native=True)

    async def cancelled():
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def keep_waiting(_):
            loop.call_soon_threadsafe(asked.set)
            return Reply(delay=60)

        service.script(keep_waiting)
        waiting = asyncio.ensure_future(face.ranked(_made(kind, service.base_url, **options)))
        async with asyncio.timeout(30):
            await asked.wait()
        waiting.cancel()
        await waiting

    with Emulator(api_key=_KEY) as service:
        _fails_quietly(lambda: asyncio.run(cancelled()), asyncio.CancelledError)


@_both_colours
@pytest.mark.parametrize("options", [{}, _SEVERAL], ids=["one request", "several"])
def test_interrupted_from_the_keyboard(native, options, request):
    """Ctrl-C in the middle of a call leaves a traceback without the key."""
    # A run in the background may have been started with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    main = threading.main_thread().ident

    def interrupt(_):
        signal.pthread_kill(main, signal.SIGINT)
        return Reply(delay=60)

    with Emulator(api_key=_KEY) as service:
        service.script(interrupt)
        reranker = _made(Reranker, service.base_url, **options)
        _fails_quietly(partial(Face(Reranker, native), reranker), KeyboardInterrupt)


def _refuse(request: httpx.Request) -> None:
    raise ValueError(len(request.headers))


def _raised_amid(first: BaseException) -> BaseException:
    error = LookupError("mine")
    error.__context__ = first
    return error


_FOREIGN: dict[str, Callable[[BaseException], BaseException]] = {
    "raised amid another": _raised_amid,
    "a group": lambda first: ExceptionGroup("mine", [first]),
    "a cancellation": lambda _: asyncio.CancelledError("mine"),
    "an interrupt": lambda _: KeyboardInterrupt("mine"),
    "of the network": lambda _: httpx.ReadError("mine"),
}


@_both_colours
def test_a_callers_transport_fails(emulator, native):
    """An error out of the caller's own client comes out without frames that hold the key."""
    for what, made_of in _FOREIGN.items():

        def fail(request, made_of=made_of):
            raise made_of(_raised(partial(_refuse, request)))

        clients = _clients(transport=httpx.MockTransport(fail))
        reranker = _made(Reranker, emulator.base_url, **clients)

        assert _places(_raised(partial(Face(Reranker, native), reranker))) == [], what


class _Here:
    """A caller whose errands are run where they are wanted."""

    async def do(self, errand):
        return await errand()


def test_a_callers_transport_fails_where_nobody_is_told():
    """An awaited request that was given up tells nobody, so its frames go where it is sent."""
    client = Client(httpx.AsyncClient(transport=httpx.MockTransport(_refuse)))
    what = ("POST", "http://h/", lambda: {"authorization": f"Bearer {_KEY}"}, b"")

    error = _raised(lambda: asyncio.run(client.send(_Here(), 0.0, 1, *what)))

    assert isinstance(error, ValueError)
    assert _places(error) == []


# Calls that are looked at while they wait

_OURS = tuple(
    str(Path(package.__file__).parent)
    for package in (qwen_rerank, langchain_qwen_rerank, llama_index_qwen_rerank)
)


def _is_ours(frame: types.FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_OURS) and "emulator" not in Path(file).parts


def _alive() -> Iterator[types.FrameType]:
    """Every frame in which a thread is, or a coroutine or generator waits."""
    for top in sys._current_frames().values():
        yield from (frame for frame, _ in traceback.walk_stack(top))
    for each in gc.get_objects():
        if isinstance(each, types.CoroutineType | types.AsyncGeneratorType | types.GeneratorType):
            kept = [getattr(each, name, None) for name in ("cr_frame", "ag_frame", "gi_frame")]
            yield from (frame for frame in kept if frame is not None)


def _holding() -> set[str]:
    """The names of those of our own frames that hold the key at this moment."""
    ours = [(each.f_code.co_qualname, repr(each.f_locals)) for each in _alive() if _is_ours(each)]
    assert {"BaseReranker._rank", "BaseReranker._arank"} & dict(ours).keys()
    return {name for name, held in ours if _KEY in held}


@_both_colours
@pytest.mark.parametrize("through", ["our own client", "the caller's client"])
def test_frames_of_a_call_in_flight_show_no_key(emulator, native, through):
    """Who prints all that runs while a call waits, as monitors do, sees no key in our frames."""
    options = {} if through == "our own client" else _clients()
    held: list[set[str]] = []

    def look(_):
        holding = _holding()
        for _ in range(1_000):  # what is just being written has to be somewhere
            if holding:
                threading.Event().wait(0.01)
                holding &= _holding()
        held.append(holding)
        return Reply()

    emulator.script(look)
    Face(Reranker, native)(_made(Reranker, emulator.base_url, **options))

    assert held == [set()]


# Wrong construction

_WRONG: dict[str, Callable[[Any], Any]] = {
    "misspelt": lambda kind: kind(apikey=_KEY),
    "by position": lambda kind: kind(_KEY, api_key=_KEY),
    "under both names": lambda kind: kind(api_key=_KEY, dashscope_api_key=_KEY, top_n=0),
    "beside a wrong option": lambda kind: kind(api_key=_KEY, top_n=0, timeout="never"),
    "in a list": lambda kind: kind(api_key=[_KEY]),
    "in a dict": lambda kind: kind(api_key={"api_key": _KEY}),
    "as broken bytes": lambda kind: kind(api_key=_KEY.encode() + b"\xff"),
    "with a newline": lambda kind: kind(api_key=f"{_KEY}\nx: y"),
    "sealed with a newline": lambda kind: kind(api_key=SecretStr(f"{_KEY}\r\nx: y")),
    "as model": lambda kind: kind(api_key=_KEY, model=_KEY),
    "as base_url": lambda kind: kind(api_key=_KEY, base_url=_KEY),
    "as password": lambda kind: kind(api_key=_KEY, base_url=f"https://user:{_KEY}@h.example"),
    "as path": lambda kind: kind(api_key=_KEY, base_url=f"https://h.example/{_KEY}/v1"),
    "as host": lambda kind: kind(api_key=_KEY, base_url=f"http://{_KEY}.example/"),
    "as port": lambda kind: kind(api_key=_KEY, base_url=f"https://h.example:{_KEY}/"),
    "as region": lambda kind: kind(region=_KEY),
    "as protocol": lambda kind: kind(api_key=_KEY, protocol=_KEY),
    "as top_n": lambda kind: kind(api_key=_KEY, top_n=_KEY),
    "as client": lambda kind: kind(api_key=_KEY, client=_KEY),
    "as http_client": lambda kind: kind(api_key=_KEY, http_client={"headers": {"a": _KEY}}),
    "as metadata_mode": lambda kind: kind(api_key=_KEY, metadata_mode=_KEY),
    "in headers": lambda kind: kind(api_key=_KEY, headers={"Authorization": f"Bearer {_KEY}"}),
    "as reranker": lambda kind: kind(reranker=_KEY, base_retriever=_KEY, k=_KEY),
    "in options of a reranker": lambda kind: kind(reranker={"api_key": _KEY, "top_n": 0}),
}
_GIVEN: dict[str, Any] = {
    "beside a wrong option": {"api_key": _KEY, "top_n": 0},
    "under another name": {"apikey": _KEY},
    "as base_url": {"api_key": _OTHER, "base_url": f"https://{_KEY}@h.example"},
    "instead of all": _KEY,
    "instead of all, in a list": [_KEY],
}


@_every_sealed_kind
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_wrong_construction_shows_no_key(kind):
    """However the key is given wrongly, by whatever constructor, what is raised has no key."""
    for why, wrong in _WRONG.items():
        _fails_quietly(partial(wrong, kind), ValueError, TypeError, why=why)
    for how in ("model_validate", "model_validate_strings", "parse_obj", "validate"):
        for why in ("beside a wrong option", "instead of all"):
            _fails_quietly(partial(getattr(kind, how), _GIVEN[why]), ValueError, why=how)
    for how in ("model_validate_json", "parse_raw"):
        for text in (f'{{"api_key": "{_KEY}", "top_n": 0}}', f'{{"api_key": "{_KEY}", '):
            _fails_quietly(partial(getattr(kind, how), text), ValueError, why=how)


def _failing(kind: type[BaseReranker], error: type[BaseException]) -> Any:
    """A subclass of *kind* whose rule for instructions raises *error*."""

    class Failing(kind):
        @field_validator("instruct")
        @classmethod
        def _fails(cls, value):
            if value is not None:
                raise error
            return value

    return Failing


@_every_kind
def test_what_a_subclass_raises_shows_no_key(kind):
    """Nor has an error that is none of a value, such as one in a validator of a subclass."""
    failing, given = _failing(kind, RuntimeError), {"api_key": _KEY, "instruct": "x"}
    made = _with_other(failing)
    before = dict(vars(made))
    for how, way in {
        "made": partial(failing, **given),
        "validated": partial(failing.model_validate, given),
        "other options": partial(made.with_options, **given),
        "a copy": partial(made.model_copy, update=given),
        "assigned": partial(setattr, made, "instruct", "x"),
    }.items():
        _fails_quietly(way, RuntimeError, why=how)
    assert vars(made) == before
    _fails_quietly(partial(_failing(kind, KeyboardInterrupt), **given), KeyboardInterrupt)


@_every_kind
def test_what_a_subclass_raises_in_models_of_others(kind):
    """Likewise, whoever validates: no frame of ours holds what was given by then."""
    theirs = create_model("Theirs", reranker=(_failing(kind, RuntimeError), ...))

    error = _raised(partial(theirs, reranker={"api_key": _KEY, "instruct": "x"}))

    assert type(error) is RuntimeError
    assert _frames(error)
    assert _KEY not in repr(_frames(error))


_ASSIGNED: list[tuple[str, Any]] = [
    ("api_key", [_KEY]),
    ("api_key", f"{_KEY}\nx: y"),
    ("apikey", _KEY),
    ("dashscope_api_key", [_KEY]),
    ("model", _KEY),
    ("base_url", f"https://{_KEY}@h.example"),
    ("region", _KEY),
    ("top_n", _KEY),
    ("http_client", [_KEY]),
    ("reranker", _KEY),
    ("base_retriever", _KEY),
]


def _with_other(kind: type[BaseModel]) -> Any:
    """A *kind* that has another key."""
    if kind is not QwenRerankRetriever:
        return kind(api_key=_OTHER)
    nothing = RunnableLambda(lambda _: [Document("a")])
    return QwenRerankRetriever(base_retriever=nothing, reranker=_LANGCHAIN(api_key=_OTHER))


@_every_sealed_kind
def test_wrong_assignment_shows_no_key(kind):
    """Nor is it shown where it is assigned wrongly; and what was there before stays."""
    made = _with_other(kind)
    before = dict(vars(made))
    for name, value in _ASSIGNED:
        error = _raised(partial(setattr, made, name, value))

        assert isinstance(error, ValueError), name
        assert _places(error) == _places(error, _OTHER) == [], name
        assert vars(made) == before, name


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_wrong_copies_show_no_key():
    """Nor is it where a copy is given it wrongly, by pydantic's former name either."""
    made = Reranker(api_key=_OTHER)
    for way in (made.model_copy, made.copy):
        _fails_quietly(partial(way, update={"region": _KEY}), ValueError)


# In the models, settings and functions of others


def _said_by(error: ValidationError) -> str:
    """All that pydantic's error says of what it was given, in any way."""
    assert error.__cause__ is error.__context__ is None
    pickle.dumps(error)  # which is watched
    return "\n".join([str(error), repr(error), repr(error.errors()), error.json(), *_frames(error)])


def _frames(error: BaseException) -> list[str]:
    """What those of our own frames hold that *error* passed."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if _is_ours(frame)]
    return [repr(frame.f_locals) for frame in frames]


def _field(kind):
    theirs = create_model("Theirs", reranker=(kind, ...))
    return lambda given: theirs(reranker=given)


def _json_field(kind):
    theirs, encoded = create_model("Theirs", reranker=(kind | None, None)), json.JSONEncoder()
    return lambda given: theirs.model_validate_json(encoded.encode({"reranker": given}))


def _argument(kind):
    def search(reranker, *, others):
        pytest.fail(f"called with {reranker} and {others}")

    search.__annotations__ = {"reranker": kind, "others": list[kind]}
    theirs = validate_call(search)
    return lambda given: theirs(given, others=[given])


def _one_of_two(kind):
    kinds = [create_model(f"Of{it}", __base__=kind, kind=(Literal[it], it)) for it in "ab"]
    theirs = TypeAdapter(list[Annotated[Union[*kinds], Field(discriminator="kind")]])
    # Without a tag pydantic shows what it was given before it is handed to anybody.
    return lambda given: theirs.validate_python(
        [{"kind": "b"} | (given if isinstance(given, dict) else {"top_n": given})]
    )


_THEIRS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "a field": _field,
    "a field, from JSON": _json_field,
    "an argument": _argument,
    "one of two": _one_of_two,
    "one or another": lambda kind: TypeAdapter(kind | Reranker).validate_python,
}


@_every_sealed_kind
def test_in_models_of_others_no_key_is_shown(kind):
    """Whoever validates a reranker, and whatever is wrong with it, the error holds no key."""
    for whose, theirs in _THEIRS.items():
        for given in _GIVEN.values():
            error = _raised(partial(theirs(kind), given))

            assert type(error) is ValidationError, whose
            assert _KEY not in _said_by(error), whose
            assert {each["input"] for each in error.errors()} == {"**********"}, whose


@_every_kind
def test_models_of_others_hold_rerankers(kind):
    """What is right is taken, from options or as an object; of what is wrong it is said where."""
    theirs = create_model("Theirs", reranker=(kind, ...), others=(dict[str, kind], {}))
    made = kind(api_key=_KEY, region="cn-hongkong")

    configured = theirs(reranker={"api_key": _KEY, "top_n": 7}, others={"mine": made})

    assert configured.others == {"mine": made}
    assert configured.reranker.top_n == 7
    assert configured.reranker.api_key.get_secret_value() == _KEY
    assert _KEY not in repr([configured, configured.model_dump(), configured.model_dump_json()])
    assert len(theirs.model_json_schema()["$defs"]) >= 1  # named, and described once
    with pytest.raises(ValidationError, match="top_n: input should be greater than") as caught:
        theirs(reranker=made, others={"mine": {"top_n": 0}})
    assert [each["loc"] for each in caught.value.errors()] == [("others", "mine")]


# Wrong calls

_REFUSED: dict[str, Callable[[], Any]] = {
    "core": lambda: Reranker(api_key=_KEY).rerank("", _TEXTS),
    "core, key as an option": lambda: Reranker(api_key=_KEY).rerank(_QUERY, [], api_key=_KEY),
    "core, async": lambda: asyncio.run(Reranker(api_key=_KEY).arerank(_QUERY, [], model=_KEY)),
    "core, estimate": lambda: Reranker(api_key=_KEY).estimate(_QUERY, [], model=_KEY),
    "langchain": lambda: _LANGCHAIN(api_key=_KEY).rerank([], _QUERY, model=_KEY),
    "langchain, async": lambda: asyncio.run(
        _LANGCHAIN(api_key=_KEY).arerank([], _QUERY, model=_KEY)
    ),
    "langchain, estimate": lambda: _LANGCHAIN(api_key=_KEY).estimate([], _QUERY, model=_KEY),
    "with_options": lambda: Reranker(api_key=_KEY).with_options(max_concurrency=1, model=_KEY),
    "a step": lambda: _LANGCHAIN(api_key=_KEY).as_runnable().invoke({}, model=_KEY),
}


def test_wrong_calls_show_no_key():
    """A call that is refused before anything is sent has no key in its frames."""
    for name, call in _REFUSED.items():
        _fails_quietly(call, ValueError, TypeError, why=name)


class _TakesNoOptions(QwenRerankRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return super()._get_relevant_documents(query, run_manager=run_manager)


@_both_colours
@pytest.mark.parametrize("kind", [QwenRerankRetriever, _TakesNoOptions])
def test_wrong_calls_of_a_retriever_show_no_key(native, kind):
    """What LangChain's own frames hold is LangChain's; ours hold nothing by then."""
    parts = _with_other(QwenRerankRetriever)
    retriever = kind(base_retriever=parts.base_retriever, reranker=parts.reranker)
    for options in ({"model": _KEY}, {"k": 2, "api_key": _KEY}):
        call = partial(retriever.ainvoke if native else retriever.invoke, _QUERY, **options)

        error = _raised(lambda call=call: asyncio.run(call()) if native else call())

        assert _KEY not in str(error)
        assert len(_frames(error)) >= 2
        assert _KEY not in repr(_frames(error))


# Keys that are found


def _found(key: str, place: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Puts *key* where it is looked for."""
    if place == "environment":
        monkeypatch.setenv("DASHSCOPE_API_KEY", key)
    elif place == "key file":
        (home / ".dashscope" / "api_key").write_text(key)
    elif place == "config file":
        (home / ".dashscope" / "config.toml").write_text(f'api_key = "{key}"')
    else:
        module = types.ModuleType("dashscope")
        module.api_key = key
        monkeypatch.setitem(sys.modules, "dashscope", module)


@pytest.fixture(name="home")
def _home(tmp_path_factory, monkeypatch) -> Path:
    """A home outside of the folder in which the watch looks for keys that were written."""
    home = tmp_path_factory.mktemp("home")
    (home / ".dashscope").mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize("place", ["environment", "key file", "config file", "module"])
def test_found_keys_are_silent(monkeypatch, emulator, home, place):
    """A key that was found works, is shown as little as one that was given, and so if broken."""
    _found(_KEY, place, monkeypatch, home)
    reranker = Reranker(base_url=emulator.base_url, max_retries=0)

    assert len(reranker.rerank(_QUERY, _TEXTS)) == 3
    assert _KEY not in repr([look(reranker) for look in _LOOKS.values()])
    _found(f"{_KEY}\u00e9", place, monkeypatch, home)
    _fails_quietly(Reranker, ValueError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DASHSCOPE_REGION", _KEY),
        ("DASHSCOPE_WORKSPACE", f"{_KEY}."),
        ("DASHSCOPE_BASE_URL", _KEY),
        ("DASHSCOPE_HTTP_BASE_URL", f"https://u:{_KEY}@h.example"),
    ],
)
def test_a_key_that_is_found_in_a_wrong_place(monkeypatch, name, value):
    """What another variable holds is not shown either: it might be the key."""
    monkeypatch.setenv(name, value)

    _fails_quietly(partial(Reranker, api_key=_OTHER), ValueError)


def test_a_broken_config_file_is_silent(home):
    """A file that cannot be read may hold the key, and is not shown."""
    (home / ".dashscope" / "config.toml").write_text(f'api_key = "{_KEY}')

    _fails_quietly(Reranker, ValueError)


def _for_the_other_colour(native: bool) -> Reranker:
    client = (httpx.Client if native else httpx.AsyncClient)(base_url="https://h.example")
    sdk = types.SimpleNamespace(transport=types.SimpleNamespace(http_client=client))
    return Reranker(**{"client" if native else "async_client": sdk})


@_both_colours
def test_a_broken_key_that_is_found_at_a_call(monkeypatch, native):
    """Nor is it shown if the settings are looked up, or have changed, only at the call."""
    unpickled = pickle.loads(pickle.dumps(Reranker(api_key=_OTHER)))  # noqa: S301  our own
    other = _for_the_other_colour(native)
    monkeypatch.setenv("DASHSCOPE_API_KEY", f"{_KEY}\u00e9")

    for reranker in (unpickled, other):
        _fails_quietly(partial(Face(Reranker, native), reranker), ValueError)
