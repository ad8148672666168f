"""Connections as aiohttp keeps them, each looked at before it is used again; it sends nothing.

Imported at the first call, because importing aiohttp takes longer than a call.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import sys
import weakref
from typing import Any

import aiohttp
from aiohttp.client import ClientTimeout
from aiohttp.connector import Connection

from qwen_rerank._route import Proxy

__all__ = ["session"]

_IDLE = 15.0  # seconds after which an unused connection is closed


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
    )


class _Connector(aiohttp.TCPConnector):
    """Never hands out a connection that has something to say before it is asked.

    That is its end, which costs a request that is sent on it, or bytes behind the last answer,
    which would be the answer to the next request: another list's scores in good order.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: ClientTimeout
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
    poll = select.poll()  # select takes no file above 1,024
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
