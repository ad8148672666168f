"""Proxies that speak HTTP and SOCKS as the tests' clients expect; they lead to this machine only.

What they were asked for is kept, so that a test can tell who looked up a name.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit


class Proxy(socketserver.ThreadingTCPServer):
    """What the two have in common.

    Attributes:
        asked: What they were asked for, such as ``CONNECT service.example:443``.
        heads: What they were told with it, in HTTP.
    """

    daemon_threads = True

    def __init__(self, hosts: Mapping[str, int], login: tuple[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), None)  # type: ignore[arg-type]  see finish_request
        self._hosts = hosts
        self.login = login
        self.asked: list[str] = []
        self.heads: list[str] = []

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        request.settimeout(10)
        with contextlib.suppress(OSError, EOFError):
            self.serve(request)

    def serve(self, client: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        raise NotImplementedError

    def reach(self, host: str, port: int) -> socket.socket:
        """A connection to what stands for *host*."""
        if host not in {*self._hosts, "127.0.0.1"}:
            raise ConnectionRefusedError(host)
        return socket.create_connection(("127.0.0.1", self._hosts.get(host, port)), 10)


class HttpProxy(Proxy):
    """A forward proxy for http, and a tunnel for https."""

    def serve(self, client: socket.socket) -> None:
        head, body = b"", b""
        while b"\r\n\r\n" not in head:
            head += _some(client)
        head, _, body = head.partition(b"\r\n\r\n")
        line, *headers = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        self.asked.append(f"{method} {target}")
        self.heads.append("\n".join(headers))
        told = [each for each in headers if each.lower().startswith("proxy-authorization:")]
        if self.login is not None:
            login = base64.b64encode(":".join(self.login).encode()).decode()
            if [each.partition(": ")[2] for each in told] != [f"Basic {login}"]:
                client.sendall(
                    b"HTTP/1.1 407 Who?\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )
                return
        url = urlsplit(target if "://" in target else f"//{target}")
        try:
            server = self.reach(url.hostname or "", url.port or 80)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return
        with server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                kept = [each for each in headers if each not in told]
                path = target.partition(url.netloc)[2] or "/"
                lines = [f"{method} {path} HTTP/1.1", *kept, "connection: close", "", ""]
                server.sendall("\r\n".join(lines).encode("latin-1") + body)
            relay(client, server)


class SocksProxy(Proxy):
    """SOCKS 4, 4a (RFC-less) and 5 (RFC 1928, 1929), for connections only."""

    def serve(self, client: socket.socket) -> None:
        version = _read(client, 1)
        host, port = self._five(client) if version == b"\5" else self._four(client)
        if not host:
            return
        self.asked.append(f"{host}:{port}")
        try:
            server = self.reach(host, port)
        except OSError:
            client.sendall(b"\5\4\0\1" + bytes(6) if version == b"\5" else b"\0\x5b" + bytes(6))
            return
        with server:
            client.sendall(b"\5\0\0\1" + bytes(6) if version == b"\5" else b"\0\x5a" + bytes(6))
            relay(client, server)

    def _five(self, client: socket.socket) -> tuple[str, int]:
        methods = _read(client, _read(client, 1)[0])
        wanted = 0 if self.login is None else 2
        if wanted not in methods:
            client.sendall(b"\5\xff")
            return "", 0
        client.sendall(bytes([5, wanted]))
        if self.login is not None:
            _read(client, 1)
            told = tuple(_read(client, _read(client, 1)[0]).decode() for _ in self.login)
            client.sendall(b"\1\0" if told == self.login else b"\1\1")
            if told != self.login:
                return "", 0
        kind = _read(client, 4)[3]
        if kind == 3:
            host = _read(client, _read(client, 1)[0]).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _read(client, length))
        return host, int.from_bytes(_read(client, 2), "big")

    def _four(self, client: socket.socket) -> tuple[str, int]:
        _read(client, 1)
        port = int.from_bytes(_read(client, 2), "big")
        address = _read(client, 4)
        user = _until_zero(client)
        name = _until_zero(client) if address[:3] == b"\0\0\0" else ""
        if self.login is not None and user != self.login[0]:
            client.sendall(b"\0\x5d" + bytes(6))
            return "", 0
        return name or socket.inet_ntoa(address), port


def _some(connection: socket.socket) -> bytes:
    if not (data := connection.recv(65_536)):
        raise EOFError
    return data


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        if not (piece := connection.recv(length - len(data))):
            raise EOFError
        data += piece
    return data


def _until_zero(connection: socket.socket) -> str:
    return b"".join(iter(lambda: _read(connection, 1), b"\0")).decode()


def relay(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes between the two, either of which may be encrypted, until one ends."""
    while True:
        unread = [
            each for each in (one, other) if isinstance(each, ssl.SSLSocket) and each.pending()
        ]
        ready = unread or select.select([one, other], [], [], 10)[0]
        for each in ready or [one]:
            if not (data := each.recv(65_536)):
                return
            (other if each is one else one).sendall(data)
