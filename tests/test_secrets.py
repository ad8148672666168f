"""The API key appears nowhere: not in what is shown or stored, and in no failure of any kind.

A failure is looked at as a careful debugger would: what rich and the standard library print of it
with all local variables, and then every local of every frame of the whole chain of errors, into
containers and into the headers of requests that hang on them.
"""

import asyncio
import contextlib
import copy
import dataclasses
import gc
import io
import itertools
import json
import logging
import pickle
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

import cloudpickle
import httpx
import pydantic_core
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import BaseTracer
from llama_index.core import MockEmbedding, SummaryIndex
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index_instrumentation import root_dispatcher
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span_handlers import SimpleSpanHandler
from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    create_model,
    validate_call,
)
from rich.pretty import pretty_repr
from rich.traceback import Traceback
from secrets_watch import Watch

import langchain_qwen_rerank
import llama_index_qwen_rerank
import qwen_rerank
from qwen_rerank import BaseReranker, Reranker, RerankError, errors
from qwen_rerank.emulator import Emulator, Reply

_KEY = "sk-given-to-us-9b2e47a0c6d15f38"
_GATEWAY_KEY = "gw/Zm9v+k=ey&<7>9f3a"  # another form, which JSON writers like to escape
_OTHER = "sk-another-key-0011223344"
_QUERY = "a fast red car"
_TEXTS = ["a red car", "green tea", "a slow blue car"]
# How a call is made


@dataclass(frozen=True)
class Face:
    """One way to call a reranker, as a plain function."""

    kind: type[BaseReranker]
    ranked: Callable[[Any], Any]
    native: bool = False

    def __call__(self, reranker: BaseReranker) -> Any:
        """The ranking; an async one in a loop of its own."""
        return asyncio.run(self.ranked(reranker)) if self.native else self.ranked(reranker)


def _core(reranker):
    return reranker.rerank(_QUERY, _TEXTS)


def _acore(reranker):
    return reranker.arerank(_QUERY, _TEXTS)


def _documents(reranker):
    return reranker.compress_documents([Document(text) for text in _TEXTS], _QUERY)


def _adocuments(reranker):
    return reranker.acompress_documents([Document(text) for text in _TEXTS], _QUERY)


def _nodes(reranker):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in _TEXTS]
    return reranker.postprocess_nodes(nodes, query_str=_QUERY)


def _anodes(reranker):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in _TEXTS]
    return reranker.apostprocess_nodes(nodes, query_str=_QUERY)


_CORE, _ACORE = Face(Reranker, _core), Face(Reranker, _acore, native=True)
_FACES = {
    "core-sync": _CORE,
    "core-async": _ACORE,
    "langchain-sync": Face(langchain_qwen_rerank.QwenRerank, _documents),
    "langchain-async": Face(langchain_qwen_rerank.QwenRerank, _adocuments, native=True),
    "llama-index-sync": Face(llama_index_qwen_rerank.QwenRerank, _nodes),
    "llama-index-async": Face(llama_index_qwen_rerank.QwenRerank, _anodes, native=True),
}
_KINDS = {
    "core": Reranker,
    "langchain": langchain_qwen_rerank.QwenRerank,
    "llama-index": llama_index_qwen_rerank.QwenRerank,
}
_BOTH = {"core-sync": _CORE, "core-async": _ACORE}


def _face_of(kind: type[BaseReranker]) -> Face:
    """The sync way to call a reranker of that kind."""
    return next(face for face in _FACES.values() if face.kind is kind)


_every_face = pytest.mark.parametrize("face", _FACES.values(), ids=_FACES)
_both_colours = pytest.mark.parametrize("face", _BOTH.values(), ids=_BOTH)
_every_kind = pytest.mark.parametrize("kind", _KINDS.values(), ids=_KINDS)


# How a failure is looked at


def _raised(call: Callable[[], Any]) -> BaseException:
    """What *call* raises; the frames begin here, so that none of them is a test's."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001  whatever it is
        return error
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


def _rich(error: BaseException) -> Iterator[str]:
    """What rich's traceback shows with local variables, uncut; drawing it takes much longer."""
    shown = Traceback.extract(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        locals_max_length=None,
        locals_max_string=None,
    )
    todo = list(shown.stacks)
    while todo:
        stack = todo.pop()
        todo += [one for group in stack.exceptions for one in group.stacks]
        yield f"{stack.exc_type} {stack.exc_value} {stack.notes} {stack.syntax_error}"
        for frame in stack.frames:
            yield f"{frame.name} {frame.line}"
            yield from (str(node) for node in (frame.locals or {}).values())


def _places(error: BaseException, key: str = _KEY) -> list[str]:
    """Where looking at *error* shows *key*."""
    places = ["rich"] * any(key in text for text in _rich(error))
    printed = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    places += ["traceback"] * any(key in text for text in printed)
    seen: dict[int, Any] = {}
    for one in _chain(error):
        name = type(one).__name__
        said = [str(one), repr(one), repr(one.args), repr(vars(one))]
        with contextlib.suppress(Exception):  # not every error can be stored
            said += [pickle.dumps(one, 0).decode("latin-1"), repr(copy.copy(one))]
        places += [f"what {name} says"] * any(key in text for text in said)
        for frame, _ in traceback.walk_tb(one.__traceback__):
            for local, value in list(frame.f_locals.items()):
                if any(key in text for text in _inside(value, seen)):
                    places.append(f"{name}: {local} of {frame.f_code.co_qualname}")
    return places


def _fails_quietly(call: Callable[[], Any], *kinds: type[BaseException]) -> None:
    """Sees that *call* raises one of *kinds*, and that nothing of it shows the key."""
    error = _raised(call)

    assert isinstance(error, kinds)
    assert _places(error) == []


@pytest.fixture(autouse=True, name="watch")
def _watch(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Watch]:
    """Looks for the key in all that a test prints, logs, warns of, pickles, dumps and stores."""
    with Watch(_KEY) as watch:
        yield watch
        capfd.readouterr()
        watch.look_below(tmp_path)
        assert _but_of_others(watch.taken()) == []


def _but_of_others(leaks: list[str]) -> list[str]:
    """*leaks* but for the debug logs of httpx and httpcore, which print what a server sent."""
    theirs = ("the log of httpx:", "the log of httpcore.")
    return [leak for leak in leaks if not leak.startswith(theirs)]


@pytest.fixture(scope="module", name="_service")
def _service_fixture() -> Iterator[Emulator]:
    with Emulator(api_key=_KEY) as service:
        yield service


@pytest.fixture(name="service")
def _fresh_service(_service: Emulator) -> Emulator:
    _service.clear()
    return _service


# Requests that were given up may still come in later: not where another test counts them.


@pytest.fixture(scope="module", name="deaf")
def _deaf() -> Iterator[str]:
    """The base URL of a service that never answers."""
    with Emulator(api_key=_KEY, faults=["no-answer"]) as service:
        yield service.base_url


@pytest.fixture(scope="module", name="refusing")
def _refusing() -> Iterator[str]:
    """The base URL of a service that refuses every key, and repeats it."""
    with Emulator(api_key=_KEY, faults=["key-echoed"]) as service:
        yield service.base_url


@pytest.fixture(scope="module", name="closed")
def _closed() -> str:
    """The base URL of a service that is not there."""
    return "http://127.0.0.1:1"


@pytest.fixture(name="made")
def _made(service: Emulator) -> Callable[..., Any]:
    """Makes rerankers that call the emulator."""
    base_url = service.base_url

    def made(kind: type[BaseReranker], **options: Any) -> Any:
        return kind(**{"base_url": base_url, "api_key": _KEY, "max_retries": 0, **options})

    return made


@contextlib.contextmanager
def _served(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """The base URL of a server that hands each connection to *behave*, after reading once."""
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            connection.recv(65_536)
            behave(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        acceptor.join(10)
    for thread in threads:
        thread.join(10)


def _through(face: Face, make: Callable[..., Any], **client: Any) -> Any:
    """The ranking of what *make* makes, sent through a client of the caller's."""

    async def native() -> Any:
        async with httpx.AsyncClient(**client) as opened:
            return await face.ranked(make(async_http_client=opened))

    if face.native:
        return asyncio.run(native())
    with httpx.Client(**client) as opened:
        return face.ranked(make(http_client=opened))


# The looks themselves can fail


class _Plan:
    """Ways to leave the key where only a careful look finds it."""

    @staticmethod
    def in_a_local():
        headers = {"authorization": f"Bearer {_KEY}"}
        raise ValueError(len(headers))

    @staticmethod
    def in_the_headers_of_a_request():
        request = httpx.Request("GET", "http://h/", headers={"authorization": f"Bearer {_KEY}"})
        raise ValueError(len(request.headers))  # httpx's repr hides it

    @staticmethod
    def in_a_cause():
        try:
            _Plan.in_a_local()
        except ValueError as error:
            raise LookupError from error

    @staticmethod
    def in_a_hidden_context():
        try:
            _Plan.in_a_local()
        except ValueError:
            raise LookupError from None

    @staticmethod
    def in_a_group():
        raise ExceptionGroup("two", [ValueError(1), _raised(_Plan.in_a_local)])

    @staticmethod
    def in_an_attribute():
        error = LookupError("mine")
        error.failure = _raised(_Plan.in_a_local)
        raise error

    @staticmethod
    def in_a_note():
        error = LookupError("mine")
        error.add_note(f"sent {_KEY}")
        raise error

    @staticmethod
    def in_a_deep_container():
        line = [({"a": (b"x", [bytearray(_KEY.encode())])},)]
        raise ValueError(len(line))


@pytest.mark.parametrize("how", [name for name in vars(_Plan) if name.startswith("in_")])
def test_the_looks_find_what_is_planted(how, watch):
    """A key that is left in a frame, a request, a cause, a group or a note is found."""
    assert _places(_raised(getattr(_Plan, how)))
    watch.taken()  # some of it was pickled


def test_what_is_printed_is_looked_at():
    """Locals are found in what rich and the standard library print of them, too."""
    assert {"rich", "traceback"} <= set(_places(_raised(_Plan.in_a_local)))


# What is shown and stored

_LOOKS: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "str": str,
    "pretty_repr": lambda made: pretty_repr([made, vars(made), made.__pydantic_private__]),
    "repr_args": lambda made: [*made.__repr_args__(), *made.__rich_repr__()],
    "vars": vars,
    "attributes": lambda made: [  # as debuggers show them
        getattr(made, name, None) for name in {*dir(type(made))} - {*dir(BaseModel)}
    ],
    "dict": dict,
    "state": lambda made: [made.__getstate__(), made.__reduce_ex__(4)],
    "copies": lambda made: [vars(copy.copy(made)), vars(copy.deepcopy(made)), made.model_copy()],
    "schema": lambda made: json.dumps(type(made).model_json_schema(), default=repr),
    "dump of the key alone": lambda made: [
        made.model_dump(include={"api_key"}),
        made.model_dump(mode="json", include={"api_key"}),
        made.model_dump_json(include={"api_key"}),
    ],
    "dump of everything": lambda made: made.model_dump(
        by_alias=True, round_trip=True, serialize_as_any=True, context={"secrets": True}
    ),
    "dump to JSON": lambda made: made.model_dump_json(round_trip=True, context={"secrets": True}),
    "type adapter": lambda made: TypeAdapter(type(made)).dump_json(made),
    "pydantic core": lambda made: pydantic_core.to_json([made, vars(made)], fallback=repr),
    "to_dict": lambda made: [made.to_dict(), made.to_json()] if hasattr(made, "to_dict") else "",
    "pickles": lambda made: [pickle.dumps(made, number) for number in range(6)],
    "cloudpickle": lambda made: [cloudpickle.dumps(made), cloudpickle.dumps(lambda: made)],
    "LangChain": lambda made: [dumps(made), dumpd(made), dumps({"kwargs": made})],
    "hash": lambda made: _places(_raised(partial(hash, made))),
}


@_every_kind
def test_no_look_shows_the_key(made, kind):
    """No way of printing, comparing, dumping, copying or pickling a reranker holds its key."""
    reranker = made(kind)
    _face_of(kind)(reranker)  # with open connections

    assert [name for name, look in _LOOKS.items() if _KEY in repr(look(reranker))] == []


@_every_kind
@pytest.mark.parametrize("name", ["api_key", "dashscope_api_key"])
def test_a_copy_with_another_key(made, service, kind, name):
    """A copy that is given another key makes its calls with it, and shows neither."""
    reranker = made(kind, api_key=_OTHER)
    face = _face_of(kind)

    with contextlib.suppress(ValueError):  # an alias may be refused, as long as that is silent
        again = reranker.model_copy(update={name: _KEY})
        face(again)

        assert [request.status for request in service.log] == [200]
        assert _KEY not in repr([again, vars(again), again.model_dump()])


# What is logged, warned of and told to observers


@_every_face
def test_calls_are_silent(face, made, watch):
    """A call that works prints nothing and logs no key, whatever the level of any logger."""
    reranker = made(face.kind)

    face(reranker)
    _through(face, partial(made, face.kind))

    assert watch.taken() == []


def test_what_an_event_loop_reports(made, service, deaf, caplog):
    """Forgotten and cancelled calls are reported by asyncio, in debug mode too, without the key."""
    caplog.set_level(logging.DEBUG)
    reported: list[str] = []

    async def forget():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(repr(context)))
        service.script(Reply.error(401, "InvalidApiKey", f"bad key {_KEY}"))
        failing = loop.create_task(made(Reranker).arerank(_QUERY, _TEXTS))
        await asyncio.wait([failing])
        del failing
        gc.collect()
        waiting = loop.create_task(made(Reranker, base_url=deaf).arerank(_QUERY, _TEXTS))
        await asyncio.sleep(0.1)
        reported.append(repr(asyncio.all_tasks()))
        out = io.StringIO()
        waiting.print_stack(file=out)
        reported.append(out.getvalue())
        waiting.cancel()

    asyncio.run(forget(), debug=True)

    assert any("never retrieved" in text for text in reported)
    assert _KEY not in "".join(reported) + caplog.text


class _Stored(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):  # noqa: ARG002  LangChain's names
        return [Document(text) for text in _TEXTS]


class _Tracer(BaseTracer):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.seen.append(run)

    def on_retriever_error(self, error: BaseException, **more: Any) -> Any:
        self.seen.append(error)
        return super().on_retriever_error(error, **more)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_langchain_traces(made, service, colour, fails):
    """What LangChain's tracers are told of a call, and would send away, holds no key."""
    if fails:
        service.script(Reply.error(401, "InvalidApiKey", f"bad key {_KEY}"))
    retriever = ContextualCompressionRetriever(
        base_compressor=made(langchain_qwen_rerank.QwenRerank), base_retriever=_Stored()
    )
    tracer = _Tracer()
    told: dict[str, Any] = {"callbacks": [tracer], "metadata": {"compressor": repr(retriever)}}

    with pytest.raises(RerankError) if fails else contextlib.nullcontext():
        if colour == "sync":
            retriever.invoke(_QUERY, config=told)
        else:
            asyncio.run(retriever.ainvoke(_QUERY, config=told))

    assert tracer.seen
    for seen in tracer.seen:
        if isinstance(seen, BaseException):
            assert _places(seen) == []
        else:
            assert _KEY not in repr(seen) + seen.model_dump_json(fallback=repr)


class _Events(BaseEventHandler):
    seen: ClassVar[list[str]] = []

    def handle(self, event: Any, **more: Any) -> None:
        self.seen.append(f"{event!r} {event.model_dump()} {event.model_dump_json(fallback=repr)}")
        self.seen.append(f"{more} {_places(getattr(event, 'exception', ValueError()))}")


class _Spans(SimpleSpanHandler):
    def new_span(self, id_, bound_args, instance=None, *rest: Any, **more: Any) -> Any:
        _Events.seen.append(f"{id_} {bound_args} {bound_args.arguments} {pretty_repr(instance)}")
        return super().new_span(id_, bound_args, instance, *rest, **more)

    def prepare_to_drop_span(self, *given: Any, err: Any = None, **more: Any) -> Any:
        _Events.seen.append(f"{err!r} {_places(err)}" if err else "")
        return super().prepare_to_drop_span(*given, err=err, **more)


@pytest.fixture(name="told")
def _told() -> Iterator[list[str]]:
    """All that LlamaIndex's instrumentation is told."""
    events, spans = _Events(), _Spans()
    _Events.seen.clear()
    root_dispatcher.add_event_handler(events)
    root_dispatcher.add_span_handler(spans)
    yield _Events.seen
    root_dispatcher.event_handlers.remove(events)
    root_dispatcher.span_handlers.remove(spans)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("outcome", ["works", "fails", "passes through"])
def test_llama_index_traces(made, service, told, colour, outcome):
    """Events, spans and callbacks of a query engine that holds a reranker hold no key."""
    if outcome != "works":
        service.script(Reply.error(500, "InternalError", f"bad key {_KEY}"))
    debug = LlamaDebugHandler(print_trace_on_end=True)
    reranker = made(
        llama_index_qwen_rerank.QwenRerank,
        callback_manager=CallbackManager([debug]),
        on_error="passthrough" if outcome == "passes through" else "raise",
    )
    index = SummaryIndex([TextNode(text=text) for text in _TEXTS], embed_model=MockEmbedding(4))
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(), llm=MockLLM(), node_postprocessors=[reranker]
    )

    with pytest.raises(RerankError) if outcome == "fails" else contextlib.nullcontext():
        if colour == "sync":
            engine.query(_QUERY)
        else:
            asyncio.run(engine.aquery(_QUERY))

    assert any("ReRankStartEvent" in text for text in told)
    assert _KEY not in "".join(told)
    for event in debug.get_events():
        assert _KEY not in repr((event, event.payload))
        for value in (event.payload or {}).values():
            assert not isinstance(value, BaseException) or _places(value) == []
    assert _KEY not in repr((vars(engine), engine.get_prompts()))


# Calls that fail


def _echoed(status: int, code: str, repeat: int | None = 1) -> Reply:
    return Reply.error(
        status,
        code,
        f"your key {_KEY} is {_KEY}",
        headers={"x-request-id": _KEY, "x-key": f"Bearer {_KEY}", "retry-after": "0"},
        repeat=repeat,
    )


_REPLIES: dict[str, tuple[Reply, dict[str, Any], type[RerankError]]] = {
    "request": (_echoed(400, "InvalidParameter"), {}, errors.RequestError),
    "content": (_echoed(400, "DataInspectionFailed"), {}, errors.ContentError),
    "authentication": (_echoed(401, "InvalidApiKey"), {}, errors.AuthenticationError),
    "quota": (_echoed(400, "Arrearage"), {}, errors.QuotaError),
    "rate limit": (_echoed(429, "Throttling.RateQuota"), {}, errors.RateLimitError),
    "service": (_echoed(503, "ModelUnavailable"), {}, errors.ServiceError),
    "error in a 200": (_echoed(200, _KEY), {}, errors.ServiceError),
    "sent again": (_echoed(500, "InternalError", 2), {"max_retries": 1}, errors.ServiceError),
    "reply": (
        Reply(200, {"output": {"results": [{"index": _KEY, "relevance_score": _KEY}] * 3}}),
        {},
        errors.ReplyError,
    ),
    "no JSON": (Reply(200, f"<html>{_KEY}</html>"), {}, errors.ReplyError),
    "dropped before": (Reply(drop="before"), {}, errors.ServiceError),
    "dropped mid": (Reply(drop="mid"), {}, errors.ServiceError),
}


@_both_colours
@pytest.mark.parametrize(("reply", "options", "kind"), _REPLIES.values(), ids=_REPLIES)
def test_failures_show_no_key(made, service, face, reply, options, kind):
    """However a call fails, and even if the service repeats the key, no error shows it."""
    service.script(reply)
    reranker = made(face.kind, **options)

    _fails_quietly(partial(face, reranker), kind)


_UNANSWERED: dict[str, tuple[str, dict[str, Any], type[RerankError]]] = {
    "one of several is refused": (
        "refusing",
        {"max_documents_per_request": 1},
        errors.AuthenticationError,
    ),
    "late": ("deaf", {"timeout": 0.1}, errors.DeadlineError),
    "late of several": (
        "deaf",
        {"timeout": 0.1, "max_documents_per_request": 1},
        errors.DeadlineError,
    ),
    "late in the queue": (
        "deaf",
        {"timeout": 0.1, "max_documents_per_request": 1, "max_concurrency": 1},
        errors.DeadlineError,
    ),
    "nobody there": ("closed", {}, errors.ServiceError),
}


@_every_face
@pytest.mark.parametrize(("where", "options", "kind"), _UNANSWERED.values(), ids=_UNANSWERED)
def test_calls_without_an_answer_show_no_key(face, made, request, where, options, kind):
    """Nor is there a key in what is given up, whatever of a call has been sent by then."""
    reranker = made(face.kind, base_url=request.getfixturevalue(where), **options)

    _fails_quietly(partial(face, reranker), kind)


@pytest.mark.parametrize("how", ["warm_up", "awarm_up"])
def test_a_warm_up_that_fails(made, closed, how):
    """Nor does a failed warm-up show it."""
    reranker = made(Reranker, base_url=closed)
    call = reranker.warm_up if how == "warm_up" else lambda: asyncio.run(reranker.awarm_up())

    _fails_quietly(call, errors.ServiceError)


@_every_face
def test_passed_through(face, made, service):
    """Nor does the failure that a passed-through list carries, or what is logged of it."""
    service.script(_echoed(500, "InternalError"))

    ranking = face(made(face.kind, on_error="passthrough"))

    assert len(ranking) == 3
    assert _KEY not in repr(ranking)
    if face.kind is Reranker:
        assert _places(ranking.degraded) == []
        assert _KEY not in ranking._repr_html_()
        assert _KEY not in pickle.dumps(ranking, 0).decode()


# Servers that repeat the key at the level of HTTP


def _quoting(key: str) -> dict[str, bytes]:
    def answer(body: bytes, *headers: str, status: str = "401 No") -> bytes:
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
        return "\r\n".join([*head, "", ""]).encode() + body

    told = json.dumps({"code": "InvalidApiKey", "message": f"bad {key}", "request_id": key})
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    gson = "".join(f"\\u{ord(letter):04x}" if letter in "=&<>+/-" else letter for letter in key)
    names = f"x-{key}: 1" if key.replace("-", "").isalnum() else "x-names: 1"
    return {
        "body": answer(told.encode()),
        "escaped": answer(f'{{"code":"{escaped}","message":"bad {escaped}"}}'.encode()),
        "escaped in part": answer(f'{{"code":"InvalidApiKey","message":"bad {gson}"}}'.encode()),
        "escaped slash": answer(told.replace("/", "\\/").encode()),
        "UTF-16": answer(told.encode("utf-16")),
        "byte order mark": answer(told.encode("utf-8-sig")),
        "in a list": answer(json.dumps([key, {key: key}]).encode()),
        "results": answer(
            f'{{"output":{{"results":[{{"index":"{escaped}"}}]}}}}'.encode(), status="200 OK"
        ),
        "page": answer(f"<html>{key}</html>".encode()),
        "packed": answer(b"{}", f"content-encoding: {key}"),
        "header": answer(b"{}", f"x-request-id: {key}", f"retry-after: {key}"),
        "name of a header": answer(b"{}", names),
        "reason": answer(b"{}", status=f"401 {key}"),
        "redirect": answer(b"", f"location: http://{key}/{key}", status="302 Found"),
        "no HTTP": key.encode() + b"\r\n\r\n",
        "status": f"HTTP/1.1 {key} No\r\n\r\n".encode(),
        "broken header": answer(b"{}", key),
        "length": f"HTTP/1.1 200 OK\r\ncontent-length: {key}\r\n\r\n{{}}".encode(),
        "encoding": f"HTTP/1.1 200 OK\r\ntransfer-encoding: {key}\r\n\r\n{{}}".encode(),
        "chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + key.encode() + b"\r\n",
        "long head": b"HTTP/1.1 200 OK\r\nx: " + key.encode() * 5_000 + b"\r\n\r\n",
    }


_QUOTING = {
    **{where: (_KEY, raw) for where, raw in _quoting(_KEY).items()},
    **{
        f"a gateway's key, {where}": (_GATEWAY_KEY, raw)
        for where, raw in list(_quoting(_GATEWAY_KEY).items())[:5]  # the bodies
    },
}


@_both_colours
@pytest.mark.parametrize("through", ["our own client", "the caller's client"])
def test_servers_that_quote_the_key(face, through):
    """Wherever an answer repeats the key, in whatever spelling, what is raised does not."""
    answers: list[bytes] = []
    with _served(lambda connection: connection.sendall(answers[-1])) as base_url:
        for where, (key, raw) in _QUOTING.items():
            answers.append(raw)

            def make(key=key, **client):
                return Reranker(base_url=base_url, api_key=key, max_retries=0, **client)

            if through == "our own client":
                error = _raised(partial(face, make()))
            else:
                error = _raised(partial(_through, face, make))

            assert isinstance(error, RerankError), where
            assert _places(error, key) == [], where


@_both_colours
@pytest.mark.parametrize("key", ["x", "0", "in", "score"])
def test_short_keys_spoil_no_answer(face, key):
    """A gateway may want any short word for a key: an answer that happens to hold it is read."""
    results = [{"index": index, "relevance_score": 0.5} for index in range(3)]
    body = json.dumps({"output": {"results": results}}).encode()
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)

    with _served(lambda connection: connection.sendall(raw + body)) as base_url:
        ranking = face(Reranker(base_url=base_url, api_key=key, max_retries=0))

    assert [hit.score for hit in ranking] == [0.5] * 3


# Calls that are broken off


async def _cancelled(call: Callable[[], Any], seconds: float) -> None:
    task = asyncio.ensure_future(call())
    await asyncio.sleep(seconds)
    task.cancel()
    await task


async def _timed_out(call: Callable[[], Any], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await call()


async def _one_of_a_group(call: Callable[[], Any], seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(call())
        await asyncio.sleep(seconds)
        raise LookupError


_BROKEN_OFF = {
    "cancelled": (_ACORE, _cancelled, {}),
    "one of several requests": (_ACORE, _cancelled, {"max_documents_per_request": 1}),
    "timed out": (_ACORE, _timed_out, {}),
    "one of a group": (_ACORE, _one_of_a_group, {}),
    "langchain": (_FACES["langchain-async"], _cancelled, {}),
    "llama-index": (_FACES["llama-index-async"], _cancelled, {}),
}


@pytest.mark.parametrize(("face", "broken_off", "options"), _BROKEN_OFF.values(), ids=_BROKEN_OFF)
def test_cancelled_while_waiting_for_an_answer(face, made, deaf, options, broken_off):
    """The traceback of a cancelled call, or of a timeout around it, shows no key."""
    reranker = made(face.kind, base_url=deaf, **options)

    _fails_quietly(
        lambda: asyncio.run(broken_off(lambda: face.ranked(reranker), 0.1)),
        asyncio.CancelledError,
        TimeoutError,
        ExceptionGroup,
    )


def _hang(connection: socket.socket) -> None:
    while connection.recv(65_536):  # until the client leaves
        pass


def _trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" ")
        threading.Event().wait(0.02)


@pytest.mark.parametrize("behave", [_hang, _trickle], ids=["no answer", "trickling answer"])
@pytest.mark.parametrize("through", ["our own client", "the caller's client"])
def test_cancelled_at_any_point(behave, through):
    """Whether the answer has begun or not, and through whatever client."""

    async def call(base_url):
        async with httpx.AsyncClient() as client:
            own = through == "our own client"
            options = {} if own else {"async_http_client": client}
            reranker = Reranker(base_url=base_url, api_key=_KEY, **options)
            await _cancelled(lambda: reranker.arerank(_QUERY, _TEXTS), 0.2)

    with _served(behave) as base_url:
        _fails_quietly(lambda: asyncio.run(call(base_url)), asyncio.CancelledError)


_OURS = tuple(
    str(Path(package.__file__).parent)
    for package in (qwen_rerank, langchain_qwen_rerank, llama_index_qwen_rerank)
)


def _is_ours(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


def _alive() -> Iterator[types.FrameType]:
    """Every frame in which a thread is, or a coroutine or generator waits."""
    for top in sys._current_frames().values():
        frame: types.FrameType | None = top
        while frame is not None:
            yield frame
            frame = frame.f_back
    for each in gc.get_objects():
        if isinstance(each, types.CoroutineType | types.AsyncGeneratorType | types.GeneratorType):
            kept = [getattr(each, name, None) for name in ("cr_frame", "ag_frame", "gi_frame")]
            yield from (frame for frame in kept if frame is not None)


def _holding() -> set[str]:
    """The names of those of our own frames that hold the key at this moment."""
    ours = [(each.f_code.co_qualname, repr(each.f_locals)) for each in _alive() if _is_ours(each)]
    assert {"BaseReranker._rank", "BaseReranker._arank"} & dict(ours).keys()
    return {name for name, held in ours if _KEY in held}


def _holding_in_flight(face: Face, **options: Any) -> set[str]:
    """Those that hold the key while a call waits for its answer."""
    asked, seen = threading.Event(), threading.Event()

    def behave(_: socket.socket) -> None:
        asked.set()
        seen.wait(30)

    with _served(behave) as base_url:
        reranker = face.kind(base_url=base_url, api_key=_KEY, max_retries=0, **options)
        waiting = threading.Thread(target=_raised, args=[partial(face, reranker)])
        waiting.start()
        assert asked.wait(10)
        holding = _holding()
        for _ in range(1_000):  # what is just being written has to be somewhere
            if not holding:
                break
            threading.Event().wait(0.01)
            holding &= _holding()
        seen.set()
        waiting.join(10)
    return holding


@_every_face
def test_frames_of_a_call_in_flight_show_no_key(face):
    """Who prints all that runs while a call waits, as monitors do, sees no key in our frames."""
    assert _holding_in_flight(face) == set()


@_both_colours
def test_frames_of_a_call_through_a_callers_client_show_no_key(face):
    """Nor where it is a client of the caller's that waits."""
    if face.native:
        options: dict[str, Any] = {"async_http_client": httpx.AsyncClient()}
    else:
        options = {"http_client": httpx.Client()}

    assert _holding_in_flight(face, **options) == set()


def test_cancelled_while_queueing(made, deaf):
    """A call that is cancelled before its turn shows no key either."""
    reranker = made(Reranker, base_url=deaf, max_concurrency=1)

    async def call():
        first = asyncio.ensure_future(reranker.arerank(_QUERY, _TEXTS))
        await asyncio.sleep(0.05)
        try:
            await _cancelled(lambda: reranker.arerank(_QUERY, _TEXTS), 0.05)
        finally:
            first.cancel()

    assert _places(_raised(lambda: asyncio.run(call()))) == []


@_both_colours
@pytest.mark.parametrize(
    ("behave", "options"),
    [(_hang, {}), (_trickle, {}), (_hang, {"max_documents_per_request": 1})],
    ids=["no answer", "trickling answer", "several requests"],
)
def test_interrupted_from_the_keyboard(face, behave, options, request):
    """Ctrl-C in the middle of a call leaves a traceback without the key."""
    # A run in the background may have been started with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    main = threading.main_thread().ident

    def interrupt(connection: socket.socket) -> None:
        if next(requests) == 0:
            signal.pthread_kill(main, signal.SIGINT)
        behave(connection)

    requests = itertools.count()
    with _served(interrupt) as base_url:
        reranker = Reranker(base_url=base_url, api_key=_KEY, max_retries=0, **options)
        _fails_quietly(partial(face, reranker), KeyboardInterrupt)


# Failures of what the caller brought


class _Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A caller's transport that raises what it was given, before or within the answer."""

    def __init__(self, error: BaseException, *, in_the_body: bool = False) -> None:
        self._error = error
        self._in_the_body = in_the_body

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self._in_the_body:
            raise copy.copy(self._error)  # several threads would share its frames
        return httpx.Response(200, stream=_Stream(self._error), request=request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._in_the_body:
            raise self._error  # one object for several requests keeps frames of none
        return self.handle_request(request)


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield b"{"
        raise self._error

    async def __aiter__(self) -> Any:
        yield b"{"
        raise self._error


_FOREIGN: list[BaseException] = [
    LookupError("mine"),
    asyncio.CancelledError("mine"),
    ExceptionGroup("mine", [ValueError("one"), LookupError("two")]),
    KeyboardInterrupt("mine"),
    httpx.InvalidURL("mine"),
    httpx.ReadError("mine"),
    httpx.TooManyRedirects("mine"),
]


@_both_colours
@pytest.mark.parametrize("where", ["head", "body", "one of several heads"])
def test_a_callers_transport_fails(face, made, where):
    """An error out of the caller's own client comes out without frames that hold the key."""
    several = {"max_documents_per_request": 1} if "several" in where else {}
    make = partial(made, face.kind, **several)
    for error in _FOREIGN:
        transport = _Transport(copy.copy(error), in_the_body=where == "body")

        assert _places(_raised(partial(_through, face, make, transport=transport))) == [], error


@_both_colours
@pytest.mark.parametrize("when", ["request", "response"])
def test_a_callers_hook_fails(face, made, when):
    """Nor does an error out of one of its event hooks."""

    def hook(_):
        raise LookupError("mine")

    async def ahook(_):
        raise LookupError("mine")

    hooks = {when: [ahook if face.native else hook]}

    _fails_quietly(
        partial(_through, face, partial(made, face.kind), event_hooks=hooks), LookupError
    )


class _Cache(dict):
    def __init__(self, kind: type[BaseException], method: str) -> None:
        super().__init__()
        self._kind, self._method = kind, method

    def __getitem__(self, key: Any) -> Any:
        if self._method == "get":
            raise self._kind("mine")
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._method == "set":
            raise self._kind("mine")
        super().__setitem__(key, value)


@_both_colours
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["get", "set"])
def test_a_callers_cache_fails(face, made, kind, method):
    """A broken cache leads to a warning in the log or to its own error, and to no key."""
    reranker = made(face.kind, cache=_Cache(kind, method))
    if kind is KeyboardInterrupt:
        assert _places(_raised(partial(face, reranker))) == []
    else:
        face(reranker)


def test_what_a_cache_is_given(made):
    """Neither the keys nor the values of a cache hold the API key."""
    cache: dict[Any, Any] = {}
    made(Reranker, cache=cache).rerank(_QUERY, _TEXTS)

    assert len(cache) == 3
    assert _KEY not in repr(cache)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
def test_a_callback_of_llama_index_fails(made, native):
    """A callback handler that fails inside a call shows no key in its traceback."""

    class Broken(LlamaDebugHandler):
        def on_event_end(self, *_: Any, **__: Any) -> None:
            raise LookupError("mine")

    manager = CallbackManager([Broken(print_trace_on_end=False)])
    reranker = made(llama_index_qwen_rerank.QwenRerank, callback_manager=manager)
    face = _FACES["llama-index-async" if native else "llama-index-sync"]

    _fails_quietly(partial(face, reranker), LookupError)


# Wrong construction


class _Text(str):
    __slots__ = ()


class _Sealed(SecretStr):
    pass


_WRONG: dict[str, Callable[[Any], Any]] = {
    "misspelt": lambda kind: kind(apikey=_KEY),
    "misspelt beside": lambda kind: kind(api_key=_KEY, dashscope_apikey=_KEY),
    "by position": lambda kind: kind(_KEY),
    "by position too": lambda kind: kind(_KEY, api_key=_KEY),
    "under both names": lambda kind: kind(api_key=_KEY, dashscope_api_key=_KEY, top_n=0),
    "another option wrong": lambda kind: kind(api_key=_KEY, top_n=0, timeout="never"),
    "in a list": lambda kind: kind(api_key=[_KEY]),
    "in a dict": lambda kind: kind(api_key={"api_key": _KEY}),
    "in a function": lambda kind: kind(api_key=lambda: _KEY),
    "as bytes": lambda kind: kind(api_key=_KEY.encode(), top_n=0),
    "as broken bytes": lambda kind: kind(api_key=_KEY.encode() + b"\xff"),
    "a kind of str": lambda kind: kind(api_key=_Text(_KEY), top_n=0),
    "a kind of SecretStr": lambda kind: kind(api_key=_Sealed(_KEY), top_n=0),
    "sealed with a newline": lambda kind: kind(api_key=SecretStr(f"{_KEY}\r\nx: y")),
    "with a newline": lambda kind: kind(api_key=f"{_KEY}\nx: y"),
    "with a NUL": lambda kind: kind(api_key=f"{_KEY}\0"),
    "with an accent": lambda kind: kind(api_key=f"{_KEY}\u00e9"),
    "with half a letter": lambda kind: kind(api_key=f"{_KEY}\ud800"),
    "as model": lambda kind: kind(api_key=_KEY, model=_KEY),
    "as model in a list": lambda kind: kind(api_key=_KEY, model=[_KEY]),
    "as base_url": lambda kind: kind(api_key=_KEY, base_url=_KEY),
    "as user of base_url": lambda kind: kind(api_key=_KEY, base_url=f"https://{_KEY}@h.example"),
    "as password": lambda kind: kind(api_key=_KEY, base_url=f"https://user:{_KEY}@h.example"),
    "as query of base_url": lambda kind: kind(api_key=_KEY, base_url=f"https://h.example?k={_KEY}"),
    "as path of base_url": lambda kind: kind(api_key=_KEY, base_url=f"https://h.example/{_KEY}/v1"),
    "as host of base_url": lambda kind: kind(
        api_key=_KEY, base_url=f"https://{_KEY}.example/compatible-mode/v1"
    ),
    "as port": lambda kind: kind(api_key=_KEY, base_url=f"https://h.example:{_KEY}/"),
    "as host of plain http": lambda kind: kind(api_key=_KEY, base_url=f"http://{_KEY}.example/"),
    "as region": lambda kind: kind(api_key=_KEY, region=_KEY),
    "as region alone": lambda kind: kind(region=_KEY),
    "as workspace": lambda kind: kind(api_key=_KEY, workspace=_KEY),
    "as protocol": lambda kind: kind(api_key=_KEY, protocol=_KEY),
    "as instruct": lambda kind: kind(api_key=_KEY, instruct=[_KEY]),
    "as top_n": lambda kind: kind(api_key=_KEY, top_n=_KEY),
    "as on_error": lambda kind: kind(api_key=_KEY, on_error=_KEY),
    "as allow_http": lambda kind: kind(api_key=_KEY, allow_http=_KEY),
    "as client": lambda kind: kind(api_key=_KEY, client=_KEY),
    "as http_client": lambda kind: kind(api_key=_KEY, http_client={"headers": {"a": _KEY}}),
    "as callback_manager": lambda kind: kind(api_key=_KEY, callback_manager=_KEY),
    "as metadata_mode": lambda kind: kind(api_key=_KEY, metadata_mode=_KEY),
    "in nested options": lambda kind: kind(options={"connection": [{"api_key": _KEY}]}),
    "in headers": lambda kind: kind(api_key=_KEY, headers={"Authorization": f"Bearer {_KEY}"}),
}


@_every_kind
def test_wrong_construction_shows_no_key(kind):
    """However the key is given wrongly, what is raised says so without it."""
    for name, wrong in _WRONG.items():
        error = _raised(partial(wrong, kind))

        assert isinstance(error, ValueError | TypeError), name
        assert _places(error) == [], name


@_every_kind
def test_odd_construction_shows_no_key(kind):
    """What is taken for a key is not shown either."""
    odd = [
        kind(dashscope_api_key=_KEY),
        kind(api_key=f" {_KEY}\n"),
        kind.model_validate({"api_key": _KEY}),
        kind(api_key=_KEY, cache={}, http_client=httpx.Client()),
    ]

    assert _KEY not in repr([(made, vars(made), made._resolved.endpoint) for made in odd])


_GIVEN: dict[str, Any] = {
    "beside a wrong option": {"api_key": _KEY, "top_n": 0},
    "under another name": {"apikey": _KEY},
    "in a list": {"api_key": [_KEY]},
    "as model": {"api_key": _OTHER, "model": _KEY},
    "as base_url": {"api_key": _OTHER, "base_url": f"https://{_KEY}@h.example"},
    "as region": {"region": _KEY},
    "instead of all": _KEY,
    "instead of all, in a list": [_KEY],
}
_AS_JSON = {
    "beside a wrong option": f'{{"api_key": "{_KEY}", "top_n": 0}}',
    "cut short": f'{{"api_key": "{_KEY}", ',
}


@_every_kind
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
def test_pydantics_ways_in_leave_no_frames(kind):
    """Nor do their frames, by the names of pydantic's first version either, or JSON cut short."""
    for how in ("model_validate", "model_validate_strings", "parse_obj", "validate"):
        for name in ("beside a wrong option", "instead of all"):
            call = getattr(kind, how)
            assert _places(_raised(lambda call=call, name=name: call(_GIVEN[name]))) == [], how
    for how in ("model_validate_json", "parse_raw"):
        for name in ("beside a wrong option", "cut short"):
            call = getattr(kind, how)
            assert _places(_raised(lambda call=call, name=name: call(_AS_JSON[name]))) == [], how


@_every_kind
def test_attributes_show_no_key(kind):
    """An object whose attributes are read for options is no other case."""
    owner = types.SimpleNamespace(api_key=_KEY, top_n=0)

    error = _raised(lambda: kind.model_validate(owner, from_attributes=True))

    assert "top_n" in str(error)
    assert _KEY not in str(error) + repr(error)


@_every_kind
def test_a_key_that_nobody_checked_is_sealed(kind):
    """What is made without any check still shows no key."""
    made = kind.model_construct(api_key=_KEY, model="m")

    assert made.model == "m"
    assert _KEY not in repr([made, vars(made)])


# In the models, settings and functions of others


def _said_by(error: ValidationError) -> str:
    """All that pydantic's error says of what it was given, in any way."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    assert str(again) == str(error)
    assert error.__cause__ is error.__context__ is None
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


def _assigned_field(kind):
    options = {"validate_assignment": True}
    theirs = create_model("Theirs", __config__=options, reranker=(kind | None, None))()
    return lambda given: setattr(theirs, "reranker", given)


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


def _dict_of_tuples(kind):
    theirs = TypeAdapter(dict[str, tuple[kind, ...]])
    return lambda given: theirs.validate_python({"rerankers": [given]}, strict=False)


_THEIRS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "a field": _field,
    "a field, from JSON": _json_field,
    "a field that is assigned": _assigned_field,
    "an argument": _argument,
    "one of two": _one_of_two,
    "a dict of tuples": _dict_of_tuples,
    "one or another": lambda kind: (
        TypeAdapter(kind | langchain_qwen_rerank.QwenRerankRetriever).validate_python
    ),
}


@pytest.mark.parametrize("theirs", _THEIRS.values(), ids=_THEIRS)
def test_in_models_of_others_no_key_is_shown(theirs):
    """Whoever validates a reranker, and whatever is wrong with it, the error holds no key."""
    for validate in map(theirs, [*_KINDS.values(), langchain_qwen_rerank.QwenRerankRetriever]):
        for given in _GIVEN.values():
            error = _raised(partial(validate, given))

            assert type(error) is ValidationError
            assert _KEY not in _said_by(error)
            assert _KEY[:12] not in str(error)
            assert {each["input"] for each in error.errors()} == {"**********"}


def test_what_is_wrong_in_models_of_others_is_told():
    """Their error still says what is wrong, and where."""
    error = _raised(partial(_THEIRS["a dict of tuples"](Reranker), {"top_n": 0}))

    assert [each["loc"] for each in error.errors()] == [("rerankers", 0)]
    assert "top_n: input should be greater than or equal to 1" in str(error)


@_every_kind
def test_models_of_others_hold_rerankers(kind):
    """What is right is taken, from options or as an object, and shown without the key."""
    theirs = create_model("Theirs", reranker=(kind, ...), others=(list[kind], []))
    made = kind(api_key=_KEY, region="cn-hongkong")

    configured = theirs(reranker={"api_key": _KEY, "top_n": 7}, others=[made])

    assert configured.others == [made]
    assert configured.reranker.top_n == 7
    assert configured.reranker.api_key.get_secret_value() == _KEY
    assert _KEY not in repr(configured) + configured.model_dump_json()
    assert _KEY not in repr(configured.model_dump())
    assert len(theirs.model_json_schema()["$defs"]) >= 1  # named, and described once


_SLIPS: dict[str, Callable[[Any], Any]] = {
    "as api_key": lambda kind: kind(api_key=_KEY),
    "as dashscope_api_key": lambda kind: kind(dashscope_api_key=_KEY),
    "in options of the reranker": lambda kind: kind(reranker={"api_key": _KEY, "top_n": 0}),
    "as reranker": lambda kind: kind(reranker=_KEY, base_retriever=_KEY),
    "as k": lambda kind: kind(k=_KEY, tags=_KEY),
    "validated": lambda kind: kind.model_validate({"api_key": _KEY}),
}


def test_a_retriever_that_is_given_the_key():
    """The key belongs to the reranker; given to the retriever, it is refused and not shown."""
    for name, slip in _SLIPS.items():
        error = _raised(partial(slip, langchain_qwen_rerank.QwenRerankRetriever))

        assert type(error) is ValueError, name
        assert _places(error) == [], name


def test_a_retriever_that_is_assigned_the_key():
    """Nor is it when it is assigned there."""
    reranker = langchain_qwen_rerank.QwenRerank(api_key=_OTHER)
    retriever = langchain_qwen_rerank.QwenRerankRetriever(
        base_retriever=RunnableLambda(lambda _: []), reranker=reranker
    )
    for name in ("api_key", "reranker", "k", "base_retriever"):
        error = _raised(lambda name=name: setattr(retriever, name, _KEY))

        assert type(error) is ValueError, name
        assert _places(error) == [], name
    assert retriever.reranker is reranker


# Wrong assignment

_ASSIGNED: dict[str, Callable[[Any], None]] = {
    "key in a list": lambda made: setattr(made, "api_key", [_KEY]),
    "key with a newline": lambda made: setattr(made, "api_key", f"{_KEY}\nx: y"),
    "sealed with a newline": lambda made: setattr(made, "api_key", SecretStr(f"{_KEY}\nx")),
    "key as broken bytes": lambda made: setattr(made, "api_key", _KEY.encode() + b"\xff"),
    "misspelt": lambda made: setattr(made, "apikey", _KEY),
    "alias": lambda made: setattr(made, "dashscope_api_key", [_KEY]),
    "model": lambda made: setattr(made, "model", _KEY),
    "base_url": lambda made: setattr(made, "base_url", f"https://{_KEY}@h.example"),
    "region": lambda made: setattr(made, "region", _KEY),
    "workspace": lambda made: setattr(made, "workspace", f"{_KEY}."),
    "top_n": lambda made: setattr(made, "top_n", _KEY),
    "client": lambda made: setattr(made, "client", _KEY),
    "http_client": lambda made: setattr(made, "http_client", [_KEY]),
    "a copy": lambda made: made.model_copy(update={"api_key": [_KEY]}),
    "a copy's region": lambda made: made.model_copy(update={"region": _KEY}),
    "a copy by the former name": lambda made: made.copy(update={"region": _KEY}),
}


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
@_every_kind
def test_wrong_assignment_shows_no_key(kind):
    """Nor is it shown where it is assigned wrongly; and what was there before stays."""
    reranker = kind(api_key=_OTHER)
    for name, assign in _ASSIGNED.items():
        error = _raised(partial(assign, reranker))

        assert isinstance(error, ValueError), name
        assert _places(error) == _places(error, _OTHER) == [], name
        assert _KEY not in repr(vars(reranker)), name
        assert reranker.api_key == SecretStr(_OTHER)


_REFUSED: list[Callable[[Any], Any]] = [
    lambda made: made(Reranker).rerank("", _TEXTS),
    lambda made: made(Reranker).rerank(_QUERY, _TEXTS, top_n=0),
    lambda made: made(Reranker).rerank(_QUERY, _TEXTS, model=_KEY),
    lambda made: made(Reranker).rerank(_QUERY, _TEXTS, api_key=_KEY),
    lambda made: made(Reranker).rerank(_QUERY, _TEXTS, top_n=1, instruct=_KEY),
    lambda made: asyncio.run(made(Reranker).arerank("", _TEXTS)),
    lambda made: asyncio.run(made(Reranker).arerank(_QUERY, _TEXTS, model=_KEY)),
    lambda made: made(Reranker).estimate(_QUERY, _TEXTS, model=_KEY),
    lambda made: made(langchain_qwen_rerank.QwenRerank).compress_documents([1], _QUERY),
    lambda made: made(langchain_qwen_rerank.QwenRerank).rerank(_TEXTS, _QUERY, model=_KEY),
    lambda made: made(langchain_qwen_rerank.QwenRerank).estimate(_TEXTS, _QUERY, model=_KEY),
    lambda made: asyncio.run(
        made(langchain_qwen_rerank.QwenRerank).arerank(_TEXTS, _QUERY, model=_KEY)
    ),
    lambda made: made(llama_index_qwen_rerank.QwenRerank).postprocess_nodes([1], query_str="a"),
]


def test_wrong_calls_show_no_key(made):
    """A call that is refused before anything is sent has no key in its frames."""
    for number, call in enumerate(_REFUSED):
        assert _places(_raised(lambda call=call: call(made))) == [], number


class _TakesNoOptions(langchain_qwen_rerank.QwenRerankRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return super()._get_relevant_documents(query, run_manager=run_manager)


@pytest.mark.parametrize("native", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("options", [{"model": _KEY}, {"k": 2, "api_key": _KEY}])
@pytest.mark.parametrize("kind", [langchain_qwen_rerank.QwenRerankRetriever, _TakesNoOptions])
def test_wrong_calls_of_a_retriever_show_no_key(made, native, options, kind):
    """What LangChain's own frames hold is LangChain's; ours hold nothing by then."""
    retriever = kind(
        base_retriever=RunnableLambda(lambda _: [Document("a")]),
        reranker=made(langchain_qwen_rerank.QwenRerank),
    )
    call = partial(retriever.ainvoke if native else retriever.invoke, _QUERY, **options)

    error = _raised(lambda: asyncio.run(call()) if native else call())

    assert _KEY not in str(error)
    assert len(_frames(error)) >= 2
    assert _KEY not in repr(_frames(error))


# Keys that are found


def _module(key: str | None, base_url: str = "https://dashscope.aliyuncs.com/api/v1"):
    module = types.ModuleType("dashscope")
    module.api_key, module.base_http_api_url = key, base_url
    return module


@pytest.fixture(name="home")
def _home(tmp_path: Path, watch: Watch) -> Iterator[Path]:  # noqa: ARG001  which looks later
    """The SDK's folder, where a key may be; it is emptied before the watch looks for others."""
    home = tmp_path / ".dashscope"
    home.mkdir()
    yield home
    for file in home.iterdir():
        file.unlink()


def _broken_places(monkeypatch, home) -> dict[str, Callable[[], None]]:
    """Settings that hold the key and cannot work."""
    env, config = monkeypatch.setenv, home / "config.toml"

    def written(text: str) -> Callable[[], None]:
        return lambda: config.write_text(text) and None

    def both(name: str, value: str) -> Callable[[], None]:
        def set_both() -> None:
            env("DASHSCOPE_API_KEY", _KEY)
            env(name, value)

        return set_both

    return {
        "accent in the environment": lambda: env("DASHSCOPE_API_KEY", f"{_KEY}\u00e9"),
        "newline in the environment": lambda: env("DASHSCOPE_API_KEY", f"{_KEY}\r\nx: y"),
        "two lines in the key file": lambda: (home / "api_key").write_text(f"{_KEY}\nx") and None,
        "broken TOML": written(f'api_key = "{_KEY}'),
        "TOML of a wrong encoding": lambda: config.write_bytes(_KEY.encode() + b"\xff") and None,
        "unknown region beside it": written(f'api_key = "{_KEY}"\nregion = "mars-1"'),
        "bad URL beside it": written(f'api_key = "{_KEY}"\nbase_url = "ftp://x"'),
        "bad workspace beside it": written(f'api_key = "{_KEY}"\nworkspace = "a.b"'),
        "key as the file's region": written(f'api_key = "{_KEY}"\nregion = "{_KEY}"'),
        "key as region": both("DASHSCOPE_REGION", _KEY),
        "key as URL": both("DASHSCOPE_BASE_URL", _KEY),
        "key in a URL": both("DASHSCOPE_HTTP_BASE_URL", f"https://u:{_KEY}@h.example"),
        "key as workspace": both("DASHSCOPE_WORKSPACE", f"{_KEY}."),
        "newline in the module": lambda: monkeypatch.setitem(
            sys.modules, "dashscope", _module(f"{_KEY}\n1")
        ),
        "URL of the module": lambda: monkeypatch.setitem(
            sys.modules, "dashscope", _module(_KEY, f"https://{{workspace_id}}.{_KEY}.example")
        ),
    }


_PLACES = list(_broken_places(pytest.MonkeyPatch(), Path()))


def _call_resolving(face: Face, how: str) -> Callable[[], Any]:
    """A call of an object that looks for its endpoint only now."""
    if how == "unpickled":
        reranker = pickle.loads(pickle.dumps(face.kind(api_key=_OTHER)))  # noqa: S301  our own
    else:  # a client was injected, but for the other colour
        sdk = types.SimpleNamespace(transport=types.SimpleNamespace())
        client = httpx.Client if face.native else httpx.AsyncClient
        sdk.transport.http_client = client(base_url="https://h.example")
        reranker = face.kind(**{"client" if face.native else "async_client": sdk})
    return partial(face, reranker)


@_every_kind
@pytest.mark.parametrize("place", _PLACES)
def test_broken_places_at_construction(monkeypatch, home, kind, place):
    """A key that was found where something is wrong with it is not shown by the complaint."""
    _broken_places(monkeypatch, home)[place]()

    _fails_quietly(kind, ValueError)


@_both_colours
@pytest.mark.parametrize(
    ("how", "place"),
    [
        *(("unpickled", place) for place in _PLACES),
        ("other colour", "accent in the environment"),
    ],
)
def test_broken_places_at_a_call(monkeypatch, home, face, how, place):
    """Nor if the settings are looked up, or have changed, only at the call."""
    call = _call_resolving(face, how)
    _broken_places(monkeypatch, home)[place]()

    _fails_quietly(call, ValueError)


@_both_colours
@pytest.mark.parametrize("place", ["environment", "key file", "config file", "module"])
def test_found_keys_are_silent(monkeypatch, service, home, face, place):
    """A key that was found works, and is shown as little as one that was given."""
    if place == "environment":
        monkeypatch.setenv("DASHSCOPE_API_KEY", _KEY)
    elif place == "key file":
        (home / "api_key").write_text(f"{_KEY}\n")
    elif place == "config file":
        (home / "config.toml").write_text(f'api_key = "{_KEY}"')
    else:
        monkeypatch.setitem(sys.modules, "dashscope", _module(_KEY))
    reranker = face.kind(base_url=service.base_url, max_retries=0)
    service.script(_echoed(401, "InvalidApiKey"))

    error = _raised(partial(face, reranker))
    face(reranker)

    assert [request.status for request in service.log] == [401, 200]
    assert _places(error) == []
    shown = [reranker, vars(reranker), reranker.__pydantic_private__, reranker.model_dump()]
    assert _KEY not in repr([*shown, reranker.__getstate__(), pickle.dumps(reranker, 0)])
