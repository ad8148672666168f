"""Which host, path, key and headers a call uses: the dashscope SDK's rules without its import.

Reads the environment and the SDK's files; sends nothing. The rules that keep a key where it belongs
live here and nowhere else.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from qwen_rerank._advice import Advice, Option, advise
from qwen_rerank._route import is_loopback, names_host, split_url
from qwen_rerank._servers import SERVERS, Protocol, Server
from qwen_rerank._wire import PATHS
from qwen_rerank.errors import DeadlineError

__all__ = [
    "KEY",
    "PLANS",
    "QUOTES",
    "REGIONS",
    "Endpoint",
    "Region",
    "borrowed",
    "checked_headers",
    "resolve",
    "url_below",
]


class Region(NamedTuple):
    """An Alibaba Cloud region.

    Attributes:
        city: Where it is, in the vendor's words.
        host: Its shared host; None where only workspace hosts serve it (dashscope 2.0.2 quietly
            sends those to Singapore, and us-east-1 too, whose keys are others).
        listed: The rerank models that the vendor lists for it; None for none that was found.
    """

    city: str
    host: str | None
    listed: str | None


# Hosts: https://www.alibabacloud.com/help/model-studio/base-url of 2026-10-11, in English, Spanish,
# Japanese and Chinese; the French page has no shared host for us-east-1. Models:
# https://www.alibabacloud.com/help/en/model-studio/text-rerank-api of 2026-10-12.
REGIONS = {
    "cn-beijing": Region("Beijing", "https://dashscope.aliyuncs.com", "all"),
    "ap-southeast-1": Region("Singapore", "https://dashscope-intl.aliyuncs.com", "qwen3-rerank"),
    "cn-hongkong": Region("Hong Kong", "https://cn-hongkong.dashscope.aliyuncs.com", None),
    "us-east-1": Region("Virginia", "https://dashscope-us.aliyuncs.com", None),
    "eu-central-1": Region("Frankfurt", None, None),
    "ap-northeast-1": Region("Tokyo", None, None),
}
_DEFAULT_REGION = "cn-beijing"

# Hosts of subscriptions, mostly for chat and code models, whose keys begin with "sk-sp-". Until
# 2026-11-29 no evidence was found that any of them serves rerank.
PLANS = {
    "token-plan.cn-beijing.maas.aliyuncs.com": "Token Plan",
    "coding.dashscope.aliyuncs.com": "Coding Plan",
    "coding-intl.dashscope.aliyuncs.com": "Coding Plan",
}

# Not *.aliyuncs.com: anybody can rent a bucket or a function there.
_ALIBABA = re.compile(
    r"dashscope(-[a-z]+)?\.aliyuncs\.com"
    r"|[a-z0-9-]+\.dashscope\.aliyuncs\.com"
    r"|([a-z0-9_-]+\.)+maas\.aliyuncs\.com"
)
_PLAN_KEY = "sk-sp-"
# Ends of paths that are somebody else's on every host: of chat models and of embeddings.
_OTHER_TASKS = re.compile(
    r"/compatible-mode(/|$)|/(chat/completions|embeddings|responses|messages)$|/services/aigc(/|$)"
)
# Characters; a shorter key opens nothing, and masking it would spoil ordinary text.
_LEAST_SECRET = 8
# What DashScope's keys look like; one that stands in the wrong place is better refused than shown.
KEY = re.compile(r"\bsk-[\w-]{16,}")
# A token of RFC 9110.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Other characters are sent in one way by httpx and in another by aiohttp.
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_HEADERS_OF_OPTIONS = {"authorization": "api_key", "x-dashscope-workspace": "workspace"}
_HEADERS_OF_REQUESTS = frozenset(
    (
        *("accept", "accept-encoding", "content-encoding", "content-length", "content-type"),
        *("connection", "expect", "host", "keep-alive", "proxy-authorization", "te", "trailer"),
        *("proxy-connection", "transfer-encoding", "upgrade"),
    )
)
# What the SDK takes. A part of a host name, which it may become, is a character shorter.
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# Straight ones and those that word processors make of them.
QUOTES = "\"'`\u2018\u2019\u201c\u201d"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and what they carry.

    Attributes:
        url: The full URL to post to.
        host: Its host, for messages.
        local: Whether that is this machine; such calls never go through a proxy.
        api_key: The key to send, or None to send none.
        workspace: The workspace to name in a header, or None.
        extra: Headers of the caller's, by lower-case names that are none of ours.
        found_in: Which option, variable or file gave the ``key``, the ``host`` and the
            ``workspace``; "" for a default and for what there is none of.
        given: The options that somebody has set, for messages; of secrets only that they are.
        origin: Scheme and host of *url*.
        region: The Alibaba Cloud region that serves *host*, or None for any other and for `PLANS`.
    """

    url: str
    host: str
    local: bool
    api_key: SecretStr | None
    workspace: str | None
    extra: tuple[tuple[str, SecretStr], ...] = ()
    found_in: Mapping[str, str] = field(default_factory=dict, compare=False)
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    origin: str = field(init=False, compare=False, repr=False)
    region: str | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        origin = "{0.scheme}://{0.netloc}/".format(urlsplit(self.url))
        object.__setattr__(self, "origin", origin)  # each call asks for both
        object.__setattr__(self, "region", self._region())

    @property
    def key_from(self) -> str:
        """What gave the key, for a sentence."""
        return self.found_in.get("key", "your client")

    @property
    def is_of_plan(self) -> bool:
        """Whether host or key is of a plan for chat models."""
        key = self.api_key.get_secret_value() if self.api_key is not None else ""
        return key.startswith(_PLAN_KEY) or self._name in PLANS

    @property
    def workspace_from(self) -> str:
        """What gave the workspace, likewise."""
        return self.found_in.get("workspace", "")

    @property
    def places(self) -> Advice:
        """What the host is made of, for a sentence: options, variables and files; "" by default."""
        if not self.found_in:
            return Advice("your client")
        of_workspace = self.workspace and self.host.startswith(f"{self.workspace}.")
        made_of = [self.found_in["workspace"] if of_workspace else "", self.found_in["host"]]
        return _named(filter(None, made_of), use="change")

    @property
    def unknown(self) -> Advice:
        """What to do if no such host is known."""
        return advise(
            (
                (
                    "The name {host}, which comes from {places}, is not known here: check that, "
                    "and the network."
                ),
                "The name {host} is not known here: check the network and its name servers.",
            ),
            host=self.host,
            places=self.places,
        )

    def _region(self) -> str | None:
        if (host := self._name) in PLANS:
            return None  # what a region lists, prices too, is not for subscriptions
        for name, region in REGIONS.items():
            of_workspace = host.endswith(f".{name}.maas.aliyuncs.com")
            if f"https://{host}" == region.host or of_workspace:
                return name
        return None

    @property
    def _name(self) -> str:
        """The host as names are compared: in small letters and without its port."""
        return urlsplit(f"//{self.host}").hostname or ""

    def late(self, documents: tuple[int, ...] = (), *, silent: bool = False) -> DeadlineError:
        """The error of a call whose time ran out before this host had answered.

        Args:
            documents: Positions of those without a score.
            silent: Whether nothing at all came from the host.
        """
        if not silent:
            return DeadlineError(
                f"The call's timeout ran out before {self.host} had answered all of it.",
                hint=advise(
                    "{timeout=:change} is for the whole call, in seconds: raise it, or send fewer "
                    "documents."
                ),
                documents=documents,
            )
        return DeadlineError(
            f"The call's timeout ran out, and {self.host} had answered nothing.",
            hint=advise(
                "If it is only slow, raise {timeout=:change}, which is for the whole call, in "
                "seconds. If every call ends so,",
                (
                    "what {places} leads to may be no rerank service: look at its log.",
                    "something on the way may swallow them, such as a firewall or a proxy.",
                ),
                places=self.places,
            ),
            documents=documents,
        )

    @property
    def secret(self) -> str:
        """The key, if it is long enough to be one; else nothing that needs to be masked."""
        key = self.api_key.get_secret_value() if self.api_key is not None else ""
        return key if len(key) >= _LEAST_SECRET else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key and the values of the caller's headers, likewise, the longest first."""
        values = (value.get_secret_value() for _, value in self.extra)
        long = {value for value in values if len(value) >= _LEAST_SECRET}
        return tuple(sorted({self.secret, *long} - {""}, key=len, reverse=True))

    def masked(self, text: str | None) -> str | None:
        """*text* as it may be shown: some servers quote the key they were given."""
        for secret in self.secrets if text else ():
            text = (text or "").replace(secret, "***")
        return text

    def masked_advice(self, advice: str | None) -> str | None:
        """*advice*, likewise; its options stay options."""
        if not isinstance(advice, Advice):
            return self.masked(advice)
        return advice.mapped(lambda text: self.masked(text) or "")

    def headers(self) -> dict[str, str]:
        """The headers of every request; holds the key in the clear, so make it late."""
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "qwen-rerank",
            **{name: value.get_secret_value() for name, value in self.extra},
        }
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        if self.workspace is not None:
            headers["x-dashscope-workspace"] = self.workspace
        return headers


class _Found(NamedTuple):
    """A setting and the place that gave it."""

    value: str | None
    place: str


def resolve(
    *,
    api_key: SecretStr | None,
    base_url: str | None,
    region: str | None,
    workspace: str | None,
    protocol: Protocol,
    allow_http: bool,
    key_required: bool = True,
    server: Server | None = None,
    headers: Mapping[str, SecretStr] | None = None,
) -> Endpoint:
    """The endpoint for these options, completed from what the dashscope SDK would find.

    Of two sources the first wins: an option, ``dashscope.settings``, the module ``dashscope``, the
    environment, the SDK's ``config.toml``, its key file. The first two of the SDK's count where
    somebody has loaded it and set them in code; what it read from the environment when it was
    imported is read here from the environment, so that importing it changes nothing. A region that
    was asked for wins over a base URL that was found. What is blank is none. A key that was found,
    rather than passed, goes only to Alibaba Cloud and loopback.

    Args:
        api_key: The key passed by the caller, or None to look for one.
        base_url: Base URL, such as ``https://host/api/v1``, or None for the region's.
        region: One of `REGIONS`, or None for the one found, else ``cn-beijing``.
        workspace: Workspace id, or None for the one found, else none.
        protocol: The protocol to be spoken; decides the path.
        allow_http: Whether plain http may leave this machine.
        key_required: False if another client carries a key of its own.
        server: What kind of server it is, if not DashScope; it gets no key that was only found.
        headers: More headers, checked.

    Raises:
        ValueError: The options name no host that we would send this key to.
    """
    if server is not None and (protocol != "compatible" or base_url is None):
        raise ValueError(
            advise(
                "{server=:name} says what answers at {base_url=:name}: give that too; its "
                "protocol is 'compatible'"
            )
        )
    config = _config()
    if region is not None and region not in REGIONS:
        raise _no_region("region")
    if base_url is not None and region is not None:
        raise ValueError(
            advise(
                "give either {base_url=:name} or {region=:name}: a base URL already says where "
                "to send"
            )
        )
    named = workspace
    workspace, workspace_place = _first(
        (workspace, "workspace"),
        (_in_settings("workspace"), "dashscope.settings.workspace"),
        _variable("DASHSCOPE_WORKSPACE"),
        _variable("DASHSCOPE_WORKSPACE_ID"),
        (config.get("workspace"), "workspace in the dashscope config file"),
    )
    if workspace is not None and not _WORKSPACE.fullmatch(workspace):
        raise ValueError(
            _named([workspace_place]) + " must be an id of letters, digits, '-' and '_', 64 at most"
        )
    base = _Found(base_url, "base_url")
    if base.value is None and region is None:
        base = _found_base_url(config, workspace)
    if base.value is None:
        base = _region_base_url(region, _Found(workspace, workspace_place), config)
    parts = _checked(base, allow_http, protocol, is_ours=server is None)
    host, local = parts.hostname or "", is_loopback(parts.hostname or "")
    key = _clean(api_key)
    key_place = "api_key" if key is not None else ""
    trusted = server is None and (local or _ALIBABA.fullmatch(host))
    if key is None and trusted:
        key, key_place = _found_api_key(config)
        key = _clean(key, f" in {key_place}")
    if key is None and key_required and _ALIBABA.fullmatch(host):
        blank = f" ({key_place} is blank)" if key_place else ""
        raise ValueError(
            f"no API key{blank}: "
            + advise(
                "set the environment variable DASHSCOPE_API_KEY or {api_key=}, or try it without a "
                "key on the emulator (`qwen-rerank serve`, in Python qwen_rerank.emulator.Emulator)"
            )
        )
    return Endpoint(
        url=url_below(base.value or "", protocol, server),
        host=parts.netloc,
        local=local,
        api_key=key,
        workspace=workspace if trusted else named,
        extra=tuple((headers or {}).items()),
        found_in={
            "key": key_place if key is not None else "",
            "host": base.place,
            "workspace": workspace_place if trusted or named else "",
        },
    )


def borrowed(
    base_url: str,
    *,
    api_key: SecretStr | None,
    workspace: str | None,
    protocol: Protocol,
    server: Server | None = None,
    headers: Mapping[str, SecretStr] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Endpoint:
    """The endpoint behind a client of the caller's, which carries its own key and host.

    Args:
        base_url: The client's base URL.
        api_key: A key passed to us, which then replaces the client's; else None.
        workspace: Likewise.
        protocol: The protocol to be spoken; decides the path.
        server: What kind of server it is, if not DashScope; likewise.
        headers: More headers, checked.
        given: The options that are set, for messages.

    Raises:
        ValueError: The client has no base URL.
    """
    host = urlsplit(base_url).hostname
    if not host:
        raise ValueError("the injected client has no base URL: build it with its own base_url=...")
    return Endpoint(
        url=url_below(base_url, protocol, server),
        host=urlsplit(base_url).netloc.rpartition("@")[2],
        local=is_loopback(host),
        api_key=_clean(api_key),
        workspace=workspace,
        extra=tuple((headers or {}).items()),
        given=given or {},
    )


def checked_headers(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    """*headers* by lower-case name, frozen. Values may be secrets, so messages hold none.

    Raises:
        ValueError: A name or value cannot be sent, or belongs to the request itself.
    """
    kept: dict[str, SecretStr] = {}
    for given, value in headers.items():
        if not _HEADER_NAME.fullmatch(given) or KEY.search(given):
            raise ValueError("a header's name must be of letters, digits and '-', and is no key")
        name = given.lower()
        if name in _HEADERS_OF_OPTIONS:
            option = Option(_HEADERS_OF_OPTIONS[name], use="change")
            raise ValueError(Advice(f"{name!r} is what ", option, " is for"))
        if name in _HEADERS_OF_REQUESTS:
            raise ValueError(f"{name!r} is set by every request itself")
        if name in kept:
            raise ValueError(f"{name!r} is given twice")
        if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(
                f"the value of {name!r} must be of printable ASCII characters, without line breaks "
                "and without blanks at its ends"
            )
        kept[name] = value
    return MappingProxyType(kept)


def url_below(base: str, protocol: Protocol, server: Server | None = None) -> str:
    """The rerank URL of *protocol* below *base*, or that of *server*.

    *base* may be a bare host, a base that ends in the path of either protocol (every DashScope host
    serves both), the full rerank URL, or the base of a gateway with a path of its own. The base of
    a server may end in any part of its path.
    """
    base = base.rstrip("/")
    if server is not None:
        head, tail = SERVERS[server].path
        if base.endswith(tail):
            return base
        has_version = head and re.search(r"/v\d$", base)
        return base + (tail if has_version or not head else head + tail)
    head, tail = PATHS[protocol]
    if base.endswith(tail) and not base.endswith(head + tail):
        return base  # a gateway's full URL
    for head, tail in PATHS.values():
        if base.endswith(tail):
            base = base.removesuffix(tail).rstrip("/")
        if base.endswith(head):
            base = base.removesuffix(head)
            return base + "".join(PATHS[protocol])
    head, tail = PATHS[protocol]
    return base + (head if not urlsplit(base).path else "") + tail


def _config() -> Mapping[str, Any]:
    """The SDK's ``config.toml``, or an empty mapping."""
    path = Path(_variable("DASHSCOPE_CONFIG").value or "~/.dashscope/config.toml")
    try:
        text = path.expanduser().read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return {}
    import tomllib  # noqa: PLC0415  few have the file

    try:
        read = tomllib.loads(text.decode())
    except ValueError:  # bad TOML or bad UTF-8; the text may hold the key, so it is not shown
        raise ValueError(f"{path} is not valid TOML") from None
    return {name: value for name, value in read.items() if isinstance(value, str)}


def _found_base_url(config: Mapping[str, Any], workspace: str | None) -> _Found:
    value, place = _first(
        (_in_settings("base_url"), "dashscope.settings.base_url"),
        (_set_in_module("base_http_api_url"), "dashscope.base_http_api_url"),
        _variable("DASHSCOPE_BASE_URL"),
        _variable("DASHSCOPE_HTTP_BASE_URL"),
        (config.get("base_url"), "base_url in the dashscope config file"),
    )
    if value is not None and "{workspace_id}" in value:  # how the SDK leaves it open
        if workspace is None:
            raise ValueError(_named([place]) + advise(" needs a workspace: set {workspace=}"))
        value = value.replace("{workspace_id}", workspace)
    return _Found(value, place)


def _region_base_url(region: str | None, workspace: _Found, config: Mapping[str, Any]) -> _Found:
    region, place = _first(
        (region, "region"),
        (_in_settings("region"), "dashscope.settings.region"),
        _variable("DASHSCOPE_REGION"),
        _variable("DASHSCOPE_API_REGION"),
        (config.get("region"), "region in the dashscope config file"),
        (_DEFAULT_REGION, ""),
    )
    if region not in REGIONS:
        raise _no_region(place)
    if workspace.value is not None:
        if not _LABEL.fullmatch(workspace.value):
            raise ValueError(
                _named([workspace.place])
                + advise(
                    " does not fit into a host name, which takes 63 characters and no '-' at the "
                    "end: set {base_url=} too"
                )
            )
        return _Found(f"https://{workspace.value}.{region}.maas.aliyuncs.com/api/v1", place)
    city, shared, _ = REGIONS[region]
    if shared is None:
        raise ValueError(
            advise(
                "region {region} ({city}) has no shared host: set {workspace=} or {base_url=}, "
                "otherwise the call would be served from another region, where this key is not "
                "valid",
                region=repr(region),
                city=city,
            )
        )
    return _Found(f"{shared}/api/v1", place)


def _no_region(place: str) -> ValueError:
    # Its value is not repeated: it might be a misplaced key.
    known = ", ".join(f"{name} ({region.city})" for name, region in REGIONS.items())
    return ValueError(_named([place]) + f" must be one of {known}")


def _found_api_key(config: Mapping[str, Any]) -> tuple[SecretStr | None, str]:
    """The key that was found and its place; without one, the place of one that is blank."""
    path, _ = _first(
        (_set_in_module("api_key_file_path"), ""),
        _variable("DASHSCOPE_API_KEY_FILE_PATH"),
        ("~/.dashscope/api_key", ""),
    )
    path = path or ""
    try:
        in_file = Path(path).expanduser().read_text("utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):
        in_file = None
    found = (
        (_in_settings("api_key"), "dashscope.settings.api_key"),
        (_set_in_module("api_key"), "dashscope.api_key"),
        (os.environ.get("DASHSCOPE_API_KEY"), "the environment variable DASHSCOPE_API_KEY"),
        (config.get("api_key"), "api_key in the dashscope config file"),
        (in_file, f"the key file {path}"),
    )
    key, place = _first(*found)
    if key is None:
        return None, next((place for blank, place in found if blank is not None), "")
    return SecretStr(key), place


def _variable(name: str) -> _Found:
    return _first((os.environ.get(name), f"the environment variable {name}"))


def _first(*found: tuple[str | None, str]) -> _Found:
    """The first of *found* that has a value; blanks are none."""
    return next((_Found(*each) for each in found if each[0] and each[0].strip()), _Found(None, ""))


def _in_settings(name: str) -> str | None:
    """What somebody has set in ``dashscope.settings`` (2.x), if that is loaded."""
    settings = vars(sys.modules.get("dashscope", object)).get("settings")
    explicit = getattr(settings, "get_explicit", None)
    value = explicit(name) if callable(explicit) else None
    return value if isinstance(value, str) else None


def _set_in_module(name: str) -> str | None:
    """A setting of the module dashscope that somebody has changed since it was imported."""
    value = vars(sys.modules.get("dashscope", object)).get(name)
    imported = vars(sys.modules.get("dashscope.common.env", object)).get(name)
    return value if isinstance(value, str) and value != imported else None


def _clean(key: SecretStr | None, place: str = "") -> SecretStr | None:
    """*key* as it is sent, or None for a blank one; *place* is for messages."""
    # A key read from a file often ends in a newline.
    text = key.get_secret_value().strip() if key is not None else ""
    if not text:
        return None
    if text[0] in QUOTES or text[-1] in QUOTES:
        raise ValueError(f"the API key{place} has quotes around it, {_shape(text)}: leave them off")
    if re.match(r"bearer\s", text, re.IGNORECASE):
        raise ValueError(f"the API key{place} has 'Bearer ' before it: leave that off, it is added")
    if not text.isascii() or not text.isprintable() or " " in text:
        what = "blank" if any(map(str.isspace, text)) else "character"
        raise ValueError(
            f"the API key{place} holds a {what} that no HTTP header can carry: {_shape(text)}"
        )
    return SecretStr(text)


def _shape(key: str) -> str:
    """*key* with its quotes and blanks, and nothing else of it."""
    kept = (
        each if each in QUOTES or not each.isprintable() or each == " " else "*" for each in key
    )
    return re.sub(r"\*+", "***", "".join(kept)).encode("unicode_escape").decode()


def _checked(base: _Found, allow_http: bool, protocol: Protocol, *, is_ours: bool) -> SplitResult:
    """*base* split, if it is a URL that a key may be sent to. Messages do not repeat the value.

    Args:
        base: A base URL, and where it was found.
        allow_http: Whether plain http may leave this machine.
        protocol: The protocol to be spoken.
        is_ours: Whether DashScope's protocols are spoken there, and not a server's of one's own.
    """
    value, place = base.value or "", _named([base.place])
    try:
        parts = split_url(value)
    except ValueError:
        raise ValueError(place + " is not a URL") from None
    if parts.scheme not in ("http", "https") or not names_host(parts):
        raise ValueError(place + " must look like https://host/api/v1")
    if "@" in parts.netloc:
        raise ValueError(
            place + advise(" must not hold a user name or password; a key goes into {api_key=}")
        )
    if "?" in value or "#" in value or not re.fullmatch(r"[!-~]*", value) or "\\" in value:
        raise ValueError(place + " must end with its path: no query, fragment, spaces or backslash")
    if KEY.search(value):
        raise ValueError(
            place + advise(" holds what looks like an API key, which goes into {api_key=}")
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        raise ValueError(
            place
            + advise(
                " is plain http, which would show the key and the documents on the way: use https, "
                "or {allow_http=True} on a network you trust"
            )
        )
    if is_ours and (wrong := _is_elsewhere(parts)):
        raise ValueError(place + f" {wrong}: " + _instead(parts, protocol))
    return parts


def _is_elsewhere(parts: SplitResult) -> str:
    """Why no rerank URL can be made of a base; "" if one can."""
    path, host = parts.path.rstrip("/"), parts.hostname or ""
    if any(path.endswith(tail) for _, tail in PATHS.values()) and "/compatible-mode/" not in path:
        return ""  # the full URL, by somebody who knows
    if host in PLANS:
        return (
            f"is the host of a {PLANS[host]}, which nobody has seen serve rerank (if yours does, "
            "give the full URL of its rerank route)"
        )
    if _OTHER_TASKS.search(path):
        return "ends in a route that serves chat models or embeddings but not rerank"
    for head, tail in PATHS.values():
        steps = tail.split("/")
        halves = ["/".join(steps[:length]) for length in range(2, len(steps))]
        if any(path.endswith(half) for half in halves):
            return "ends in a part of the rerank route"
        if _ALIBABA.fullmatch(host) and path and head.startswith(f"{path}/"):
            return "ends in a part of the rerank route"
    if _ALIBABA.fullmatch(host) and path not in ("", *(head for head, _ in PATHS.values())):
        return "has a path that serves no rerank on this host"
    return ""


def _instead(parts: SplitResult, protocol: Protocol) -> Advice:
    """What to write instead of such a base."""
    host = parts.hostname or ""
    root = f"{parts.scheme}://{parts.netloc}"
    if host in PLANS:
        abroad = host.startswith("coding-intl")
        root = REGIONS["ap-southeast-1" if abroad else "cn-beijing"].host or root
    elif not _ALIBABA.fullmatch(host):  # a gateway may have a path of its own
        cut = re.split(r"/(?:api/v1|compatible-(?:api|mode)|services|v\d|chat)(?:/|$)", parts.path)
        root += "/..." if cut[0].strip("/") else ""  # that may hold a secret
    native, compatible = (f"{root}{PATHS[each][0]}" for each in ("dashscope", "compatible"))
    if protocol == "compatible":
        return advise("use {compatible}", compatible=compatible)
    return advise(
        "use {native}, or {compatible} with {protocol='compatible'}",
        native=native,
        compatible=compatible,
    )


def _named(places: Iterable[str], use: str = "name") -> Advice:
    """What gave a setting, for a sentence: options, variables and files."""
    named = [Option(place, use=use) if place.isidentifier() else place for place in places]
    return Advice(*[part for each in named for part in (" and ", each)][1:])
