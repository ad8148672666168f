"""Which host, path, key and headers a call has, and where keys may go.

The order of the sources is that of the SDK, beside which tests/docs/test_regions_page.py asks us.
"""

import json
import pwd
import sys
import types
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yarl
from pydantic import SecretStr

from qwen_rerank import _endpoint

_KEY = "sk-given-0123456789abcdef"
_FOUND = "sk-found-0123456789abcdef"
_NATIVE = "/api/v1/services/rerank/text-rerank/text-rerank"
_FLAT = "/compatible-api/v1/reranks"
_OWN = "/services/rerank/text-rerank/text-rerank"  # below a gateway's own path


def _resolve(api_key=_KEY, **options):
    return _endpoint.resolve(
        **{
            "api_key": None if api_key is None else SecretStr(api_key),
            "base_url": None,
            "region": None,
            "workspace": None,
            "protocol": "dashscope",
            "allow_http": False,
            **options,
        }
    )


def _key(endpoint):
    return endpoint.api_key and endpoint.api_key.get_secret_value()


def _write(path, text):
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


@pytest.fixture(name="loaded")
def _loaded(monkeypatch):
    """Stands for a dashscope that somebody has imported."""

    def module(name):
        made = types.ModuleType(name)
        made.api_key = made.api_key_file_path = None
        made.base_http_api_url = "https://dashscope.aliyuncs.com/api/v1"
        monkeypatch.setitem(sys.modules, name, made)
        return made

    module("dashscope.common.env")
    return module("dashscope")


# Hosts and regions


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "dashscope.aliyuncs.com"),
        ({"region": "ap-southeast-1"}, "dashscope-intl.aliyuncs.com"),
        ({"region": "cn-hongkong"}, "cn-hongkong.dashscope.aliyuncs.com"),
        ({"region": "us-east-1"}, "dashscope-us.aliyuncs.com"),
        ({"workspace": "ws-1"}, "ws-1.cn-beijing.maas.aliyuncs.com"),
        *(
            ({"region": region, "workspace": "llm_X1"}, f"llm_X1.{region}.maas.aliyuncs.com")
            for region in _endpoint.REGIONS
        ),
    ],
)
def test_regions(options, host):
    """Each region has its shared host or the workspace's own."""
    endpoint = _resolve(**options)

    assert endpoint.url == f"https://{host}{_NATIVE}"
    assert endpoint.host == host
    assert not endpoint.local
    assert endpoint.workspace == options.get("workspace")
    assert endpoint.region == options.get("region", "cn-beijing")


@pytest.mark.parametrize("host", [*_endpoint.PLANS, "gateway.example"])
def test_hosts_of_no_region(host):
    """Of the host of a subscription, or of another, nothing is known by its region: no price."""
    full = f"https://{host}/api/v1/services/rerank/text-rerank/text-rerank"
    assert _resolve(base_url=full).region is None


def test_regions_without_a_shared_host():
    """A region that would silently be served from another is refused."""
    with pytest.raises(ValueError, match=r"'eu-central-1' \(Frankfurt\) has no shared host: set w"):
        _resolve(region="eu-central-1")


@pytest.mark.parametrize("by", ["option", "DASHSCOPE_REGION", "DASHSCOPE_API_REGION", "file"])
def test_unknown_regions(monkeypatch, by):
    """An unknown region is refused, wherever it comes from; the known ones are listed by city."""
    if by == "file":
        _write("~/.dashscope/config.toml", 'region = "mars-1"')
    elif by != "option":
        monkeypatch.setenv(by, "mars-1")

    with pytest.raises(ValueError, match=r"one of cn-beijing \(Beijing\), ap-south"):
        _resolve(region="mars-1" if by == "option" else None)


def test_region_and_base_url_exclude_each_other():
    """Two options that say where to send are one too many."""
    with pytest.raises(ValueError, match="either base_url or region"):
        _resolve(region="cn-beijing", base_url="https://dashscope.aliyuncs.com")


@pytest.mark.parametrize("workspace", ["a.evil", "-evil", "a" * 65, "a\n"])
def test_bad_workspaces(monkeypatch, workspace):
    """A workspace becomes no other host and no header; the message says where it comes from."""
    monkeypatch.setenv("DASHSCOPE_WORKSPACE", workspace)

    for given, place in ((workspace, "workspace"), (None, "the environment variable DASH")):
        with pytest.raises(ValueError, match=rf"^{place}\w* must be an id of letters") as caught:
            _resolve(workspace=given)
        assert "evil" not in str(caught.value)


@pytest.mark.parametrize("workspace", ["a" * 64, "a-"])
def test_workspaces_that_fit_into_no_host_name(workspace):
    """A workspace that the SDK takes and DNS does not can be named, but has no host of its own."""
    assert _resolve(workspace=workspace, base_url="https://h").workspace == workspace
    with pytest.raises(ValueError, match=r"^workspace does not fit .* set base_url= too"):
        _resolve(workspace=workspace)


# Base URLs that are found


def test_the_modules_base_url_may_name_a_workspace(loaded):
    """The placeholder that dashscope.set_region leaves is filled in."""
    loaded.base_http_api_url = "https://{workspace_id}.ap-southeast-1.maas.aliyuncs.com/api/v1"

    assert _resolve(workspace="ws-1").host == "ws-1.ap-southeast-1.maas.aliyuncs.com"
    with pytest.raises(ValueError, match=r"base_http_api_url needs a workspace: set workspace="):
        _resolve()


def test_odd_module_settings_are_ignored(loaded):
    """A module-level setting that is no text counts as not set."""
    loaded.base_http_api_url = loaded.api_key = 7

    assert _resolve().host == "dashscope.aliyuncs.com"
    with pytest.raises(ValueError, match="no API key"):
        _resolve(None)


def test_a_found_base_url_is_checked(monkeypatch):
    """A bad URL from the environment is refused by the name of its variable."""
    monkeypatch.setenv("DASHSCOPE_HTTP_BASE_URL", "ftp://files.example")

    with pytest.raises(ValueError, match="the environment variable DASHSCOPE_HTTP_BASE_URL must"):
        _resolve()


# Base URLs: refusals


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("https://user:hunter2@dashscope.aliyuncs.com/api/v1", "user name or password"),
        ("https://dashscope.aliyuncs.com/api/v1?token=hunter2", "no query"),
        ("https://dashscope.aliyuncs.com/hunter2\\api", "backslash"),
        ("https://dashscope.aliyuncs.com/api v1/hunter2", "spaces"),
        ("https://dashscope.aliyuncs.com/\u00e9hunter2", "spaces"),
        ("http://dashscope.aliyuncs.com/api/v1/hunter2", "plain http.*allow_http=True"),
        ("file:///etc/hunter2", "must look like https://host/api/v1"),
        ("https://:443/hunter2", "must look like"),
        ("https://a..b/hunter2", "must look like"),
        ("https://" + "a" * 64 + ".example/hunter2", "must look like"),
        ("https://dashscope.aliyuncs.com:99999/hunter2", "is not a URL"),
        # What two programs might read differently.
        ("https://hunter2\\@dashscope.aliyuncs.com/", "user name or password"),
        ("https://dashscope.aliyuncs.com%40hunter2/", "must look like"),
        ("https://hunter2\\.dashscope.aliyuncs.com/", "must look like"),
        ("https://dashscope\u3002aliyuncs\u3002com", "must look like"),  # ideographic full stops
        ("https://dashscope.aliyuncs.com\uff0fhunter2", "is not a URL"),  # a full-width slash
        ("https://hunter2\n.dashscope.aliyuncs.com", "must (look like|end with its path)"),
        ("https://[::1].hunter2/", "must look like|is not a URL"),
        ("https://hunter2#@dashscope.aliyuncs.com", "no query, fragment"),
    ],
)
def test_refused_base_urls(base_url, said):
    """A URL that cannot be right is refused; the message says why, and repeats no secret of it."""
    with pytest.raises(ValueError, match=f"^base_url .*({said})") as caught:
        _resolve(base_url=base_url)

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


_HERE = "https://dashscope.aliyuncs.com"
_GATEWAY = "https://gw.example"


@pytest.mark.parametrize(
    ("base_url", "instead"),
    [
        (f"{_HERE}/api", _HERE),
        (f"{_HERE}/api/v1/services/rerank/text-rerank", _HERE),
        (f"{_HERE}/v1", _HERE),
        (f"{_HERE}/api/v1/services/aigc/text-generation/generation", _HERE),
        ("https://coding.dashscope.aliyuncs.com/v1", _HERE),
        ("https://coding-intl.dashscope.aliyuncs.com/v1", "https://dashscope-intl.aliyuncs.com"),
        ("https://token-plan.cn-beijing.maas.aliyuncs.com/compatible-mode/v1", _HERE),
        (f"{_GATEWAY}/api/v1/services/rerank", _GATEWAY),
        (f"{_GATEWAY}/v1/chat/completions", _GATEWAY),
        (f"{_GATEWAY}:8443/compatible-mode/v1", f"{_GATEWAY}:8443"),
        (f"{_GATEWAY}/hunter2/v1/embeddings", f"{_GATEWAY}/..."),
    ],
)  # fmt: skip
def test_a_base_that_leads_nowhere(base_url, instead):
    """Half of the path, a route of other models and a plan's host are met with what to write."""
    for protocol, path in (("dashscope", "/api/v1"), ("compatible", "/compatible-api/v1")):
        with pytest.raises(ValueError, match=r"^base_url ") as caught:
            _resolve(base_url=base_url, protocol=protocol)
        assert f": use {instead}{path}" in str(caught.value)
        assert "hunter2" not in str(caught.value)


def test_a_full_url_is_taken_as_it_is():
    """Whoever gives the whole rerank URL knows where it is, also on the host of a plan."""
    url = "https://coding.dashscope.aliyuncs.com/v1/reranks"
    assert _resolve(base_url=url, protocol="compatible").url == url


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, "The name dashscope.aliyuncs.com is not known here: check the network and"),
        ({"region": "ap-southeast-1"}, "which comes from region=, is not known here"),
        ({"workspace": "w", "region": "us-east-1"}, "comes from workspace= and region=, is not"),
        ({"workspace": "w", "base_url": "https://gw.example"}, "comes from base_url=, is not"),
    ],
)
def test_a_host_that_is_not_known(options, places):
    """If nobody knows the name, the error says what it was made of."""
    assert places in _resolve(**options).unknown


# The URL below a base


@pytest.mark.parametrize(
    ("base", "native", "flat"),
    [
        ("https://h", f"https://h{_NATIVE}", f"https://h{_FLAT}"),
        ("https://h/api/v1/", f"https://h{_NATIVE}", f"https://h{_FLAT}"),
        ("https://h/compatible-api/v1//", f"https://h{_NATIVE}", f"https://h{_FLAT}"),
        (f"https://h{_NATIVE}", f"https://h{_NATIVE}", f"https://h{_FLAT}"),
        (f"https://h{_FLAT}", f"https://h{_NATIVE}", f"https://h{_FLAT}"),
        ("https://h/gw/api/v1", f"https://h/gw{_NATIVE}", f"https://h/gw{_FLAT}"),
        ("https://h/gw", f"https://h/gw{_OWN}", "https://h/gw/reranks"),
        ("https://h/gw/reranks", f"https://h/gw{_OWN}", "https://h/gw/reranks"),
    ],
)
def test_url_below(base, native, flat):
    """A host, either base, a full URL or a gateway's base all lead to the protocol's URL."""
    assert _endpoint.url_below(base, "dashscope") == native
    assert _endpoint.url_below(base, "compatible") == flat


# Where keys come from


@pytest.mark.parametrize("blank", ["", "\t\n"])
def test_what_is_blank_is_none(monkeypatch, loaded, blank):
    """A variable, a file or a setting that holds only blanks is as good as not there."""
    places = "API_KEY BASE_URL HTTP_BASE_URL REGION API_REGION WORKSPACE WORKSPACE_ID"
    for place in [*places.split(), "CONFIG", "API_KEY_FILE_PATH"]:
        monkeypatch.setenv(f"DASHSCOPE_{place}", blank)
    loaded.api_key = loaded.base_http_api_url = loaded.api_key_file_path = blank
    config = "".join(f"{name} = {json.dumps(blank)}\n" for name in ("api_key", "region"))
    _write("~/.dashscope/config.toml", config)
    _write("~/.dashscope/api_key", blank)

    with pytest.raises(ValueError, match="no API key"):
        _resolve(None)
    endpoint = _resolve()
    assert (endpoint.host, endpoint.workspace) == ("dashscope.aliyuncs.com", None)
    _write("~/.dashscope/api_key", "sk-file")
    assert _key(_resolve(None)) == "sk-file"


def test_other_places_for_the_files(monkeypatch, tmp_path, loaded):
    """Both files can be elsewhere, and a missing one is none."""
    _write(tmp_path / "my key", " sk-elsewhere \n")
    monkeypatch.setenv("DASHSCOPE_API_KEY_FILE_PATH", str(tmp_path / "my key"))
    assert _key(_resolve(None)) == "sk-elsewhere"
    _write(tmp_path / "of the module", "sk-of-the-module")
    loaded.api_key_file_path = str(tmp_path / "of the module")
    assert _key(_resolve(None)) == "sk-of-the-module"

    loaded.api_key_file_path = None
    monkeypatch.setenv("DASHSCOPE_API_KEY_FILE_PATH", str(tmp_path / "none"))
    _write(tmp_path / "my.toml", 'api_key = "sk-toml"')
    monkeypatch.setenv("DASHSCOPE_CONFIG", str(tmp_path / "my.toml"))
    assert _key(_resolve(None)) == "sk-toml"


def test_what_cannot_be_read_is_none(monkeypatch, tmp_path):
    """Neither a folder nor binary junk is a key, nor what is no text in the config file.

    And a process without a home folder is told that there is no key, and no more.
    """
    key_file = tmp_path / ".dashscope" / "api_key"
    key_file.mkdir(parents=True)
    _write("~/.dashscope/config.toml", 'api_key = 7\nregion = ""\nbase_url = ["x"]\n[workspace]')
    with pytest.raises(ValueError, match="no API key"):
        _resolve(None)
    assert _resolve().host == "dashscope.aliyuncs.com"

    key_file.rmdir()
    key_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no API key"):
        _resolve(None)

    def nobody(_):
        raise KeyError("nobody")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(ValueError, match="no API key"):
        _resolve(None)
    assert _key(_resolve()) == _KEY


@pytest.mark.parametrize("content", [b'api_key = "sk-secret-in-file', b'api_key = "\xff"'])
def test_a_broken_config_file(tmp_path, content):
    """A config file that is no TOML is named, and nothing of it is shown."""
    (tmp_path / ".dashscope").mkdir()
    (tmp_path / ".dashscope" / "config.toml").write_bytes(content)

    with pytest.raises(ValueError, match=r"config\.toml is not valid TOML") as caught:
        _resolve()

    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_no_key_for_an_alibaba_host():
    """Without a key, the error names the way to try it; another client may bring its own."""
    with pytest.raises(ValueError, match=r"DASHSCOPE_API_KEY.*emulator"):
        _resolve(None)
    assert _resolve(None, key_required=False).api_key is None


def test_what_is_around_a_key(monkeypatch):
    """White space around a pasted key is dropped, and one that is blank is looked for."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", _FOUND)

    assert _key(_resolve(f" {_KEY}\r\n")) == _KEY
    assert _key(_resolve(" \n")) == _FOUND


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (f"'{_KEY}'\n", "has quotes around it.*: leave"),
        (f"{_KEY}\u201d", "has quotes around it.*: leave"),
        (f"bearer\t{_KEY}", "has 'Bearer ' before it: leave"),
        (f"{_KEY}\u00e9", "holds a character that no HTTP header can carry"),
        (f"{_KEY}\x7f", "holds a character that no HTTP header can carry"),
        (f"{_KEY} x-evil: 1", "holds a blank that no HTTP header can carry"),
        (f"{_KEY}\r\nx-evil: 1", "holds a blank that no HTTP header can carry"),
    ],
)
def test_keys_that_were_pasted_with_more(monkeypatch, key, said):
    """What is wrong around or in a key is named, and where that key is, but not the key."""
    _write("~/.dashscope/api_key", key)
    for place in (" in the key file ~/.dashscope/api_key", " in the environment variable DASH", ""):
        if "environment" in place:
            monkeypatch.setenv("DASHSCOPE_API_KEY", key)
        with pytest.raises(ValueError, match=f"^the API key{place}.* {said}") as caught:
            _resolve(None if place else key)

        assert _KEY not in str(caught.value)


# Where keys may go


@pytest.mark.parametrize("where", ["environment", "file", "config", "module"])
def test_a_found_key_never_goes_elsewhere(monkeypatch, loaded, where):
    """No other host gets a key that was not passed for it."""
    if where == "environment":
        monkeypatch.setenv("DASHSCOPE_API_KEY", _FOUND)
    elif where == "file":
        _write("~/.dashscope/api_key", _FOUND)
    elif where == "config":
        _write("~/.dashscope/config.toml", f'api_key = "{_FOUND}"')
    else:
        loaded.api_key = _FOUND

    assert _key(_resolve(None)) == _FOUND
    endpoint = _resolve(None, base_url="https://gateway.example/api/v1")
    monkeypatch.setenv("DASHSCOPE_BASE_URL", "https://gateway.example/api/v1")

    assert endpoint.api_key is _resolve(None).api_key is None
    assert "authorization" not in endpoint.headers()


# Accepted, because a key may be passed for any host; but a found one is not for them.
_FOREIGN = [
    "dashscope.aliyuncs.com.evil.com",
    "evil-dashscope.aliyuncs.com",
    "dashscope-x.y.aliyuncs.com",
    "bucket.oss-cn-beijing.aliyuncs.com",
    "maas.aliyuncs.com",
    "x.evilmaas.aliyuncs.com",
    "dashscope.aliyuncs.com.",
    "xn--dshscope-2fg.aliyuncs.com",  # a Cyrillic letter, as DNS spells it
    "localhost.evil.com",
    "localhost.",
    "127.1",
    "0.0.0.0",  # noqa: S104  not to be listened on
    "[::127.0.0.1]",
    "10.0.0.1",
]


@pytest.mark.parametrize("host", _FOREIGN)
def test_look_alikes(monkeypatch, host):
    """A host that merely looks like Alibaba Cloud or loopback gets no found key, nor plain http."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", _FOUND)

    endpoint = _resolve(None, base_url=f"https://{host}/api/v1")

    assert (endpoint.api_key, endpoint.local) == (None, False)
    with pytest.raises(ValueError, match=r"base_url is plain http.*allow_http=True"):
        _resolve(base_url=f"http://{host}/api/v1")


@pytest.mark.parametrize(
    "base_url",
    [
        "https://DASHSCOPE.AliyunCS.com:443/api/v1",
        "https://dashscope-us.aliyuncs.com",
        "https://cn-hongkong.dashscope.aliyuncs.com",
        "https://llm_x.eu-central-1.maas.aliyuncs.com",
        "https://ws-1.cn-beijing.maas.aliyuncs.com/../../x/services/rerank/text-rerank/text-rerank",
        "https://dashscope.aliyuncs.com//evil.com/services/rerank/text-rerank/text-rerank/",
        "https://dashscope.aliyuncs.com/@evil.com/services/rerank/text-rerank/text-rerank/",
        "http://LOCALHOST:8000",
        "http://127.255.255.254",
        "http://[0:0:0:0:0:0:0:1]:8000",
    ],
)
def test_what_was_checked_is_what_is_called(monkeypatch, base_url):
    """Wherever a found key goes, both http libraries read the same host as the check did."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", _FOUND)

    endpoint = _resolve(None, base_url=base_url)

    host = urlsplit(base_url).hostname
    assert endpoint.headers()["authorization"] == f"Bearer {_FOUND}"
    assert httpx.URL(endpoint.url).host in {host, "::1"}
    assert yarl.URL(endpoint.url).host in {host, "::1"}
    assert httpx.URL(endpoint.origin).host in {host, "::1"}
    assert endpoint.local == base_url.startswith("http:")


def test_a_found_workspace_stays_at_home(monkeypatch):
    """A workspace that was found is named to Alibaba Cloud and this machine only."""
    monkeypatch.setenv("DASHSCOPE_WORKSPACE", "ws-found")
    gateway = "https://gateway.example"

    assert _resolve(base_url="https://dashscope.aliyuncs.com").workspace == "ws-found"
    assert _resolve(base_url="http://127.0.0.1:1").workspace == "ws-found"
    assert _resolve(base_url=gateway).workspace is None
    assert _resolve(base_url=gateway, workspace="ws-1").workspace == "ws-1"


# What is sent


def test_headers():
    """Every request says what it is, who asks, and that it wants plain bytes."""
    assert _resolve(workspace="ws-1").headers() == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "qwen-rerank",
        "authorization": f"Bearer {_KEY}",
        "x-dashscope-workspace": "ws-1",
    }


# A client of the caller's


def _borrowed(base_url, **options):
    options = {"api_key": None, "workspace": None, "protocol": "dashscope", **options}
    return _endpoint.borrowed(base_url, **options)


def test_borrowed():
    """An injected client's host is called, its own key stays its own, and no password is shown.

    A key passed to us replaces the client's, and so does a workspace.
    """
    endpoint = _borrowed("http://user:hunter2@gateway.example:8000/api/v1/")
    assert endpoint.url.endswith(f"@gateway.example:8000{_NATIVE}")
    assert endpoint.host == "gateway.example:8000"
    assert (endpoint.local, endpoint.api_key) == (False, None)

    key = SecretStr(f"{_KEY}\n")
    endpoint = _borrowed("http://127.0.0.1:1", api_key=key, workspace="w", protocol="compatible")
    assert endpoint.url == f"http://127.0.0.1:1{_FLAT}"
    assert (endpoint.local, endpoint.workspace, _key(endpoint)) == (True, "w", _KEY)


def test_borrowed_without_a_host():
    """A client that knows no host is refused."""
    with pytest.raises(ValueError, match="the injected client has no base URL"):
        _borrowed("/api/v1")
