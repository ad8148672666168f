"""How a host is reached: which proxy and which certificates the environment names; sends nothing.

It knows no HTTP library. A setting that cannot be followed is an error that names its variable, and
never an outage; a proxy's password is in no message, repr or frame.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from qwen_rerank._advice import Advice, advise
from qwen_rerank._fork import no_fork
from qwen_rerank.errors import AuthenticationError, RequestError, ServiceError

if TYPE_CHECKING:
    import ssl

__all__ = [
    "Proxy",
    "certificate_variables",
    "certificates",
    "distrust",
    "is_loopback",
    "names_host",
    "proxy_for",
    "split_url",
]

# Of what is known to speak HTTP or SOCKS, with the port that a value may leave out.
_PORTS = {
    "http": 80,
    "https": 443,
    "socks4": 1080,
    "socks4a": 1080,
    "socks5": 1080,
    "socks5h": 1080,
}

_CERTIFICATES_HINT = (
    "Name a file of PEM certificates (or what c_rehash makes of a directory), or unset it."
)

_SYSTEM = "the proxy setting of this system"

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*\.?|[0-9a-f:.]*:[0-9a-f:.]*"
_BRACKETS = r"\[[0-9a-fA-F:.]+\](:\d*)?"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that the environment names.

    Attributes:
        scheme: ``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``.
        host: Its host; an IPv6 address without brackets.
        port: Its port.
        auth: User and password, or None.
        variable: The environment variable that names it, as it is spelled there; "" for the
            system's own settings on macOS and Windows.
    """

    scheme: str
    host: str
    port: int
    variable: str
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Its URL without user and password; may be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def named_by(self) -> str:
        """What names it, for messages."""
        return f"the environment variable {self.variable}" if self.variable else _SYSTEM

    @property
    def kind(self) -> Literal["http", "socks"]:
        """What is spoken with it."""
        return "socks" if self.scheme.startswith("socks") else "http"

    @property
    def resolves(self) -> bool:
        """Whether it looks up the name of the host that is called."""
        return self.scheme not in ("socks4", "socks5")

    def refusal(self, said: str) -> AuthenticationError:
        """The error where it does not serve who asks: a wrong setting, and no outage."""
        return AuthenticationError(
            f"The proxy {self.url} refuses this call: {said}.",
            hint=f"It is named by {self.named_by}: check user, password and port there, and where "
            "it lets you go, or exempt the host with NO_PROXY.",
        )

    def absence(self, said: str, hint: str | None = None) -> ServiceError:
        """The error where it cannot be reached."""
        check = f"It is named by {self.named_by}: check host and port there."
        return ServiceError(f"The proxy {self.url} cannot be reached: {said}.", hint=hint or check)

    def dead_end(self, said: str) -> ServiceError:
        """The error where it cannot reach the host."""
        return ServiceError(
            f"The proxy {self.url} cannot reach the host: {said}.",
            hint=f"It is named by {self.named_by}: check the host, and where that proxy may go.",
        )


def distrust(error: ssl.SSLCertVerificationError, *, by_client: bool = False) -> Advice:
    """What to do about a certificate that we, or a client of the caller's, did not accept."""
    match error.verify_code:
        case 9 | 10:  # not valid yet, or no more
            return Advice(
                "Whoever runs that host has to renew its certificate, unless the clock of this "
                "machine is wrong."
            )
        case 62 | 64:  # for another name or address
            return Advice(
                "The certificate is for another name: check the host, and whether something in "
                "between answers for it, such as a proxy or a login page."
            )
        case _:
            if by_client:
                return advise(
                    "The certificate is not trusted by {http_client=:change}: make that with "
                    "verify=..."
                )
            return advise(
                "The certificate is not trusted here: set SSL_CERT_FILE to a file with that of its "
                "issuer, or pass {http_client=}."
            )


def proxy_for(url: str) -> Proxy | None:
    """The proxy through which *url* is reached, or None to go there directly.

    The variable of the URL's scheme, then ``ALL_PROXY``, unless ``NO_PROXY`` names the host; in
    either case, the lower one first. This machine is always reached directly. Ask once a line: it
    reads the whole environment, which takes longer than planning a call.

    Raises:
        RequestError: The variable names no proxy that could be used.
    """
    found = _proxy_for(url)
    if isinstance(found, RequestError):
        # From here, where no frame holds the password.
        raise found
    return found


def _proxy_for(url: str) -> Proxy | RequestError | None:
    from urllib.request import getproxies, getproxies_environment, proxy_bypass  # noqa: PLC0415

    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if is_loopback(host):
        return None
    named = {name: value.strip() for name, value in getproxies().items()}
    value = named.get(parts.scheme) or named.get("all")
    port = parts.port or _PORTS.get(parts.scheme, 0)
    if not value or _is_exempt(parts.scheme, host, port, named.get("no", "")):
        return None
    if not getproxies_environment():  # macOS and Windows have settings and exceptions of their own
        return None if proxy_bypass(f"{host}:{port}") else _read(value, "")
    wanted = f"{parts.scheme}_proxy" if named.get(parts.scheme) else "all_proxy"
    spelled = (name for name in os.environ if name.lower() == wanted)
    return _read(value, next(name for name in spelled if os.environ[name].strip() == value))


def _is_exempt(scheme: str, host: str, port: int, no_proxy: str) -> bool:
    """Whether *no_proxy* names the host: names and what is below them, addresses, networks."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        if entry == "*":
            return True
        only, _, rest = entry.rpartition("://")
        if only not in ("", scheme):
            continue
        if address is not None:
            found = any(address in network for network in _networks(rest, port))
        else:
            name = rest.rstrip("/").removesuffix(f":{port}").removeprefix("*").lstrip(".")
            found = name != "" and f".{host}".endswith(f".{name}")
        if found:
            return True
    return False


def _networks(entry: str, port: int) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The addresses that *entry* names at *port*: one, or a network."""
    for text in (entry, entry.removesuffix(f":{port}")):
        try:
            return [ipaddress.ip_network(re.sub(r"^\[(.*)\]$", r"\1", text), strict=False)]
        except ValueError:
            continue
    return []


def _read(value: str, variable: str) -> Proxy | RequestError:
    """The proxy that *value* means, or what is wrong with it."""
    scheme, given, rest = value.partition("://")
    scheme, rest = (scheme.lower(), rest) if given else ("http", value)
    if scheme not in _PORTS:
        known = ", ".join(f"{known}://" for known in _PORTS)
        return _unusable(variable, "has a scheme that is not known", f"Known are {known}.")
    try:
        parts = split_url(f"{scheme}://{rest}")
    except ValueError:
        parts = urlsplit("")
    if not names_host(parts) or parts.path not in ("", "/") or parts.query or parts.fragment:
        return _unusable(
            variable,
            "is not the URL of a proxy",
            f"Write it as {scheme}://user:password@host:port, user and password percent-encoded "
            "or left out, or unset it.",
        )
    proxy = Proxy(
        scheme,
        parts.hostname or "",
        parts.port or _PORTS[scheme],
        variable,
        (unquote(parts.username or ""), unquote(parts.password or ""))
        if "@" in parts.netloc
        else None,
    )
    if proxy.auth is not None and ":" in proxy.auth[0] and proxy.kind == "http":
        return _unusable(variable, "has a user name with a colon", "No HTTP proxy can be told one.")
    if proxy.kind == "socks" and find_spec("aiohttp_socks") is None:
        return _unusable(
            variable,
            "names a SOCKS proxy, which takes aiohttp-socks",
            'Install it: pip install "qwen-rerank[socks]". Or exempt the host with NO_PROXY.',
        )
    return proxy


def _unusable(variable: str, what: str, remedy: str) -> RequestError:
    return RequestError(f"{variable or _SYSTEM} {what}; nothing was sent.", hint=remedy)


def split_url(value: str) -> SplitResult:
    """*value* split, its port checked too.

    Raises:
        ValueError: It is no URL.
    """
    parts = urlsplit(value)
    _ = parts.port  # raises on a bad one
    return parts


def names_host(parts: SplitResult) -> bool:
    """Whether a URL has a host that every program reads alike."""
    # What stands behind a bracket would otherwise be ignored.
    odd = "[" in parts.netloc and not re.fullmatch(_BRACKETS, parts.netloc.rpartition("@")[2])
    return not odd and re.fullmatch(_HOST, parts.hostname or "") is not None


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def certificates() -> ssl.SSLContext:
    """What servers and proxies have to show, as the environment says, else certifi's.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, as OpenSSL reads them; if neither is set,
    ``REQUESTS_CA_BUNDLE``, then ``CURL_CA_BUNDLE``, either of which may be a file or a directory.
    Shared by all that the same variables lead to, because reading takes longer than a call.

    Raises:
        RequestError: What a variable names cannot be read.
    """
    return _read_certificates(tuple(certificate_variables().items()))


def certificate_variables() -> Mapping[str, str]:
    """The variables that `certificates` follows and what they name; empty for certifi's."""
    for names in (("SSL_CERT_FILE", "SSL_CERT_DIR"), ("REQUESTS_CA_BUNDLE",), ("CURL_CA_BUNDLE",)):
        if found := {name: value for name in names if (value := os.environ.get(name, "").strip())}:
            return found
    return {}


@cache
def _read_certificates(named: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415  nothing is encrypted to this machine

    import certifi  # noqa: PLC0415

    source, file, folder = "certifi", None if named else certifi.where(), None
    for variable, path in named:
        # OpenSSL skips those that are not there, and would trust nobody if none is.
        folders = [each for each in path.split(os.pathsep) if Path(each).is_dir()]
        if variable != "SSL_CERT_FILE" and folders:
            folder = os.pathsep.join(folders)
        elif variable == "SSL_CERT_DIR":
            raise _unusable(variable, f"names no directory: {path}", _CERTIFICATES_HINT)
        else:
            source, file = variable, path
    try:
        with no_fork:
            return ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        if (log := os.environ.get("SSLKEYLOGFILE")) and error.filename == log:
            source, file = "SSLKEYLOGFILE", log
        why = "no certificates in it" if isinstance(error, ssl.SSLError) else error.strerror
    raise _unusable(source, f"names {file}, which cannot be read ({why})", _CERTIFICATES_HINT)
