"""Connections as aiohttp keeps them, each looked at before it is used again; it sends nothing.

Imported at the first call, because importing aiohttp takes longer than a call.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import sys
import weakref
from http.client import responses
from typing import Any

import aiohttp
from aiohttp.client import ClientTimeout
from aiohttp.connector import Connection
from yarl import URL

from qwen_rerank._route import Proxy, distrust
from qwen_rerank.errors import RerankError

__all__ = ["failure_of", "session"]

# Headers that anybody may see.
_SHOWN = {"host", "accept", "accept-encoding", "content-length", "content-type", "user-agent"}
_IDLE = 15.0  # seconds after which an unused connection is closed
# What a SOCKS proxy answers to whom it does not serve (RFC 1928; 93 is version 4's), None standing
# for a login that it does not take or another protocol. The other codes are about the host.
_SOCKS_REFUSALS = (None, 2, 7, 8, 93)


def session(proxy: Proxy | None, certificates: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """What sends, in the running event loop."""
    options: dict[str, Any] = {
        # Never the limit: how many requests are in flight is decided elsewhere.
        "limit": 0,
        "keepalive_timeout": _IDLE,
        "ssl": certificates or True,
    }
    if proxy is not None and proxy.kind == "socks":
        connector: aiohttp.TCPConnector = _through_socks(proxy, options)
    else:
        connector = _Connector(**options)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        request_class=_Request,
    )


class _Request(aiohttp.ClientRequest):
    """Shows those who trace what is sent no header that could hold a key, such as a gateway's."""

    async def _on_headers_request_sent(self, method: str, url: URL, headers: Any) -> None:
        shown = headers.copy()
        for name in {*map(str.lower, headers)} - _SHOWN:
            shown.popall(name)
        await super()._on_headers_request_sent(method, url, shown)


class _Connector(aiohttp.TCPConnector):
    """Never hands out a connection that has something to say before it is asked.

    That is its end, which costs a request that is sent on it, or bytes behind the last answer,
    which would be the answer to the next request: another list's scores in good order.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: ClientTimeout,  # noqa: ASYNC109  aiohttp's own
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol not in self._used:
                self._used.add(protocol)
                if (closed := getattr(protocol, "closed", None)) is not None:
                    closed.add_done_callback(_seen)
                return connection
            if protocol is not None and not protocol.should_close and _is_quiet(connection):
                return connection
            connection.close()


def failure_of(proxy: Proxy, error: BaseException, cause: BaseException) -> RerankError | None:
    """What *error*, which came of *cause*, says of *proxy*; None if it is not about that."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        said = f"HTTP {error.status} {responses.get(error.status, '')}".rstrip()
        return proxy.refusal(said) if error.status < 500 else proxy.dead_end(said)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        ours = (error.host, error.port) == (proxy.host, proxy.port)
        return _absence(proxy, cause) if ours else None
    if proxy.kind == "http":
        return None
    from aiohttp_socks import ProxyConnectionError, ProxyError  # noqa: PLC0415  few have one

    if isinstance(error, EOFError):  # python-socks (3.2) lets it through
        return _absence(proxy, ConnectionError("it hung up"))
    if isinstance(error, ProxyConnectionError):
        return _absence(proxy, cause)
    if not isinstance(error, ProxyError):
        return None
    refused = error.error_code in _SOCKS_REFUSALS
    return proxy.refusal(str(error)) if refused else proxy.dead_end(str(error))


def _absence(proxy: Proxy, cause: BaseException) -> RerankError:
    hint: str | None = None
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = distrust(cause)
    elif isinstance(cause, ssl.SSLError):
        hint = f"It is named by {proxy.named_by}: write http:// there if the proxy speaks that."
    failure = proxy.absence(str(cause), hint)
    failure.retryable = not isinstance(cause, ssl.SSLCertVerificationError)
    return failure


def _seen(closed: asyncio.Future[None]) -> None:
    """Takes note of how a connection ended, which is complained of if nobody does."""
    if not closed.cancelled():
        closed.exception()


def _is_quiet(connection: Connection) -> bool:
    transport = connection.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return False
    if sys.platform == "win32":
        return not select.select([sock], [], [], 0)[0]
    # Select takes no file above 1,024, and gevent's poll gives way to who would see that we run.
    gevent = sys.modules.get("gevent.monkey")
    poll = (gevent.get_original("select", "poll") if gevent else select.poll)()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _through_socks(proxy: Proxy, options: dict[str, Any]) -> aiohttp.TCPConnector:
    from aiohttp_socks import ProxyConnector, ProxyType  # noqa: PLC0415  few have one

    class Through(_Connector, ProxyConnector):
        """The same, behind a SOCKS proxy."""

    user, password = proxy.auth or (None, None)
    return Through(
        host=proxy.host,
        port=proxy.port,
        proxy_type=ProxyType.SOCKS4 if "socks4" in proxy.scheme else ProxyType.SOCKS5,
        username=user,
        password=password,
        rdns=proxy.resolves,
        **options,
    )
