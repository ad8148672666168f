"""The running server: `Emulator`, its thread and its socket. What it answers lives elsewhere."""

import asyncio
import contextlib
import http.client
import ipaddress
import socket
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, get_args

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from qwen_rerank.emulator._app import Desk, build
from qwen_rerank.emulator._faults import REFUSED
from qwen_rerank.emulator._log import Log, LoggedRequest
from qwen_rerank.emulator._script import Script, Scripted
from qwen_rerank.emulator._servers import SERVERS
from qwen_rerank.emulator._service import OverLong, Score, Service
from qwen_rerank.emulator._tokenizer import qwen_tokenizer
from qwen_rerank.emulator._when import Faults, When, parsed

_STARTUP_SECONDS = 30.0
_TICK_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 75  # well over a test's pauses, so that a pooled connection is still good


class Emulator:
    """A local DashScope rerank service, over real HTTP on loopback.

    It answers both documented protocols, enforces the documented limits with the documented
    errors, and can be told what to answer instead. It was written from documents and public
    reports and never compared with the live service. It refuses in the words that were
    recorded; where recordings disagree, as on the status of an unknown model, it answers with the
    newest, and the others are faults. **Its scores are a lexical stand-in, not the Qwen models**:
    deterministic, and a pair's score depends on that pair alone.

    Images and videos, which qwen3-vl-rerank takes on the native protocol, are neither seen nor
    fetched. Words stand for them: for an image sent as base64 its own description (the PNG texts
    Title, Description and Comment, EXIF's ImageDescription, a JPEG's comment) or else its main
    colours, such as "red dark blue"; for what is sent by URL the last part of its path, such as
    "red sports car" for ``.../red-sports-car.png``. An image scores highest for itself. For a URL
    that cannot be downloaded, set a fault:
    ``emulator.fault("400-media-inspection", holding="private.example")``.

    It also plays the servers that people run themselves (`server_url`): they serve one model, named
    ``Qwen/Qwen3-Reranker-0.6B``, want no key unless told to, refuse fields that they do not
    document, and meet no fault that alters an honest answer.

    Args:
        host: A loopback address.
        port: Port, or 0 for any free one.
        api_key: The key that callers must present.
        over_long: "truncate" cuts items over the model's token limit, "refuse" answers 400. The
            vendor's pages disagree on which is true.
        score: Scores a pair instead of the lexical scorer: ``(query, document) -> float``. It may
            be called from several threads. Of an image or video it is given the words that stand
            for it.
        shuffle: Answer in a fixed order that is not by score, which the service documents it
            never does.
        max_model_len: Tokens that query, instruction, document and template may have together on
            the servers of `server_url`: vLLM refuses what is longer and tells the number at
            ``/v1/models``, TEI tells it at ``/info`` and Xinference in its model's registration,
            and all but vLLM cut the document silently.
        server_key: The key that the servers of `server_url` want, where they look at one: vLLM does
            below ``/v1`` and ``/v2`` only. None wants none.
        faults: What goes wrong from the first request on, such as "503:first=2"; see `fault`.
        log_size: How many requests `log` keeps, the latest; None for all.

    Raises:
        ValueError: The host is not loopback, the key is blank, *over_long* is unknown, a fault is,
            or *max_model_len* is less than 1.

    Examples:
        >>> with Emulator() as emulator:
        ...     emulator.log
        ()
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "sk-emulator",
        over_long: OverLong = "truncate",
        score: Score | None = None,
        shuffle: bool = False,
        max_model_len: int = 32_768,
        server_key: str | None = None,
        faults: Iterable[str] = (),
        log_size: int | None = None,
    ) -> None:
        if not _is_loopback(host):
            raise ValueError(f"the emulator listens on loopback only, not on {host!r}")
        if not api_key.strip():
            raise ValueError("the key must not be blank")
        if over_long not in get_args(OverLong):
            raise ValueError(f'over_long must be "truncate" or "refuse", not {over_long!r}')
        if max_model_len < 1:
            raise ValueError(f"max_model_len must be at least 1, not {max_model_len}")
        self._max_model_len = max_model_len
        self._server_key = server_key
        self._host = host
        self._port = port
        self._api_key = api_key.strip()  # as it arrives in a header
        self._over_long = over_long
        self._score = score
        self._shuffle = shuffle
        self._log = Log(log_size)
        self._script = Script()
        self._faults = Faults()
        self._refusing = False
        self._running: _Running | None = None
        self._address: str | None = None
        for fault in faults:
            self.fault(fault)

    def start(self) -> Self:
        """Start to serve; return when a request has been answered.

        The first start in a process also loads the Qwen vocabulary, in about 0.4 s.

        Raises:
            OSError: The port is taken.
            RuntimeError: It is running already, or did not come up.
        """
        if self._running is not None:
            raise RuntimeError("the emulator is running already")
        service = Service(qwen_tokenizer(), self._score, self._over_long, self._shuffle)
        desk = Desk(
            service,
            self._script,
            self._faults,
            self._log,
            self._api_key,
            self._max_model_len,
            self._server_key,
        )
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family)
        port = listener.getsockname()[1]
        self._address = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self._running = _Running(desk, listener)
        try:
            self._running.wait_until_it_answers(self._host, port)
            if self._refusing:
                self._running.refuse()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop serving, and drop whatever is unanswered. Does nothing if it is not running."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """The native protocol's base, such as ``http://127.0.0.1:49152/api/v1``.

        It stays readable after `stop`.

        Raises:
            RuntimeError: The emulator was never started.
        """
        return f"{self._origin()}/api/v1"

    @property
    def compatible_base_url(self) -> str:
        """The compatible protocol's base, such as ``http://127.0.0.1:49152/compatible-api/v1``."""
        return f"{self._origin()}/compatible-api/v1"

    def server_url(self, server: str) -> str:
        """The address of a server of another kind, such as ``http://127.0.0.1:49152/vllm``.

        Args:
            server: "vllm", "sglang", "tei", "xinference", "infinity", "litellm" or "cohere".

        Raises:
            ValueError: There is no such server.
        """
        if server not in SERVERS:
            raise ValueError(f"server must be one of {', '.join(SERVERS)}, not {server!r}")
        return self._origin() + SERVERS[server].prefix

    @property
    def api_key(self) -> str:
        """The key that callers must present."""
        return self._api_key

    @property
    def log(self) -> tuple[LoggedRequest, ...]:
        """The requests seen since the last `clear`, in order of arrival.

        A request is there as soon as its body has been read, and gets its status and tokens
        just before the answer is sent. ``GET /``, which only says what this is, is not logged.
        """
        return self._log.snapshot()

    @property
    def requests_seen(self) -> int:
        """How many requests came since the last `clear`, kept in `log` or not."""
        return self._log.seen

    def script(self, *replies: Scripted) -> None:
        """Say what to answer to the next requests, in order; then service is normal again.

        Args:
            replies: Each a `Reply`, or a function that is given the `LoggedRequest` and returns a
                `Reply`. A function runs on the server's event loop: keep it short.

        Raises:
            TypeError: One of them is neither.
        """
        self._script.add(*replies)

    def fault(
        self,
        name: str,
        *,
        first: int | None = None,
        nth: int | None = None,
        percent: float | None = None,
        holding: str | None = None,
    ) -> None:
        """Let something go wrong with every request from now on, or with some of them.

        Of several faults that are set, the first that applies to a request wins. A request that
        the script answers meets no fault and is not counted. "refused" must not be set by a
        function that the emulator calls, nor cleared: it would wait for itself.

        Args:
            name: One of `FAULTS`. It may carry one of the following options, after a colon:
                ``score-nan:percent=5``.
            first: Only the next so many requests.
            nth: Only one request; 1 is the next.
            percent: Only so many of a hundred requests, evenly spread by a counter: of those that
                no fault set before it took.
            holding: Only requests one of whose documents contains this text, or one of whose
                images and videos has it in its URL.

        Raises:
            ValueError: There is no such fault, more than one option is given, one is out of its
                range, or "refused" is given any: nobody sees a refused connection.
            OSError: Somebody else took the port in the instant in which "refused" gave it back.
        """
        name, when = parsed(name, When(first, nth, percent, holding))
        if name != REFUSED:
            self._faults.add(name, when)
        elif not self._refusing:
            if self._running is not None:
                self._running.refuse()
            self._refusing = True

    def clear(self) -> None:
        """Forget the log, what is left of the script, and all faults; listen again if refusing."""
        self._log.clear()
        self._script.clear()
        self._faults.clear()
        if self._refusing:
            if self._running is not None:
                self._running.listen()
            self._refusing = False

    def __repr__(self) -> str:
        state = "running" if self._running else "stopped"
        return f"<Emulator {self._address or self._host}, {state}>"

    def _origin(self) -> str:
        if self._address is None:
            raise RuntimeError("the emulator has no address before it is started")
        return f"http://{self._address}"


class _Running:
    """One run of the server: a listening socket, a thread, an event loop."""

    def __init__(self, desk: Desk, listener: socket.socket) -> None:
        self._server = _Server(
            listener,
            uvicorn.Config(
                build(desk),
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            ),
        )
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()  # known before the thread begins, so `stop` can be
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="qwen-rerank-emulator", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._runner:
                self._runner.run(self._server.serve(sockets=[self._server.listener]))
        except BaseException as error:  # noqa: BLE001 - shown by the thread that started this one
            self._error = error
        finally:
            self._server.listener.close()

    def wait_until_it_answers(self, host: str, port: int) -> None:
        """Ask for ``/``: the socket listens already, so this waits for the loop to answer."""
        connection = http.client.HTTPConnection(host, port, timeout=_STARTUP_SECONDS)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            self.stop()  # so that the thread has told what happened to it
            raise RuntimeError("the emulator did not come up") from self._error or error
        finally:
            connection.close()

    def refuse(self) -> None:
        """Return when nobody listens and no connection is open."""
        asyncio.run_coroutine_threadsafe(self._server.refuse(), self._loop).result()

    def listen(self) -> None:
        """Return when the port listens again."""
        asyncio.run_coroutine_threadsafe(self._server.listen(), self._loop).result()

    def stop(self) -> None:
        """Return when the thread has ended."""
        with contextlib.suppress(RuntimeError):  # the loop has closed by itself
            self._loop.call_soon_threadsafe(self._server.stopping.set)
        self._thread.join()


class _Server(uvicorn.Server):
    """Uvicorn's server, which ends at once on an event instead of looking at a flag."""

    def __init__(self, listener: socket.socket, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listener = listener
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        while not self.stopping.is_set():
            await self.on_tick(0)  # the Date of the answers
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), timeout=_TICK_SECONDS)

    async def refuse(self) -> None:
        """Hang up, and keep the port with a socket that does not listen."""
        address = self.listener.getsockname()
        await self._hang_up()
        self.listener = socket.socket(self.listener.family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT
        self.listener.bind(address)

    async def listen(self) -> None:
        """Serve again, on the socket of `refuse`."""
        await self.startup(sockets=[self.listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        await self._hang_up()

    async def _hang_up(self) -> None:
        # First no new connections, then a few turns of the loop for those just accepted: asyncio
        # would leak a connection whose server closes before its transport is made.
        with contextlib.suppress(NotImplementedError):  # Windows, where this cannot happen
            asyncio.get_running_loop().remove_reader(self.listener)
        await asyncio.sleep(0.01)
        for server in self.servers:
            server.close()
        state = self.server_state
        while state.connections or state.tasks:
            for connection in tuple(state.connections):
                connection.transport.abort()
            await asyncio.sleep(0.01)
        for server in self.servers:
            await server.wait_closed()


class _Protocol(H11Protocol):
    """Uvicorn's h11 protocol, with its transport within reach of the routes, and no access log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn.Config(access_log=False) would change the process's logging instead.
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # asyncio sets this only where a socket names its protocol, which create_server's do not;
        # without it every answer on a reused connection takes 40 ms.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)

    def _get_upgrade(self) -> None:
        """Nothing, without a warning: Java's client, for one, offers HTTP/2 with its requests."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
