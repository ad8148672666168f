import importlib.util
import ssl
import urllib.request

import pytest
from self_signed import PAIR

from qwen_rerank import Reranker, _route, errors

_URL = "https://dashscope.aliyuncs.com/api/v1"
_PROXY = "http://proxy.example:3128"
_PASSWORD = "hunter2"


@pytest.fixture(name="follow")
def _follow(monkeypatch):
    """The proxy for a URL where only these variables are set."""

    def follow(url=_URL, **variables):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return _route.proxy_for(url)

    return follow


# Which variable


@pytest.mark.parametrize("spelt", [str.upper, str.lower])
@pytest.mark.parametrize(
    ("url", "name"), [(_URL, "https_proxy"), ("http://h", "http_proxy"), ("http://h", "all_proxy")]
)
def test_the_variable_of_the_scheme(follow, spelt, url, name):
    """The variable of the URL's scheme names a proxy, or that of all, in either case."""
    proxy = follow(url, **{spelt(name): _PROXY})

    assert (proxy.url, proxy.variable) == (_PROXY, spelt(name))
    assert proxy.named_by == f"the environment variable {spelt(name)}"


def test_no_variable_for_the_scheme(follow):
    """Without one hosts are reached directly: a proxy for http is none for https, nor the reverse.

    In a CGI script HTTP_PROXY may be a request's header, so there only http_proxy counts.
    """
    assert follow() is None
    assert follow(HTTP_PROXY=_PROXY) is None
    assert follow("http://h", HTTPS_PROXY=_PROXY) is None
    assert follow("http://h", REQUEST_METHOD="GET", HTTP_PROXY=_PROXY) is None
    assert follow("http://h", REQUEST_METHOD="GET", http_proxy=_PROXY).url == _PROXY


def test_which_variable_wins(follow):
    """The scheme's own wins over that of all, a lower-case one over its twin, text over blanks."""
    others = {"ALL_PROXY": "a", "all_proxy": "b", "HTTPS_PROXY": "c"}

    assert follow(**others, https_proxy=_PROXY).variable == "https_proxy"
    assert follow(**others, HTTP_PROXY=_PROXY).host == "c"
    assert follow(ALL_PROXY="a", HTTPS_PROXY=" ").host == "a"
    assert follow(HTTPS_PROXY="\t") is None


@pytest.mark.parametrize("host", ["127.1.2.3:8000", "LOCALHOST", "localhost.:1", "[::1]:8000"])
def test_this_machine(follow, host):
    """Calls to this machine go through no proxy."""
    assert follow(f"http://{host}/api/v1", HTTP_PROXY=_PROXY, ALL_PROXY=_PROXY) is None


def test_settings_of_the_system(monkeypatch, follow):
    """Where no variable is set, what macOS or Windows is told counts, its exceptions included."""
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": _PROXY})
    asked = []
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: asked.append(host) or False)

    assert (follow().url, follow().named_by) == (_PROXY, "the proxy setting of this system")
    assert set(asked) == {"dashscope.aliyuncs.com:443"}
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda _: True)
    assert follow() is None


# Exceptions


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", _URL),
        ("DASHSCOPE.Aliyuncs.com", "https://dashscope.aliyuncs.COM."),
        (".aliyuncs.com", _URL),
        ("*.aliyuncs.com", _URL),
        (" other.example , aliyuncs.com", _URL),
        ("other.example aliyuncs.com", _URL),
        ("aliyuncs.com:443", _URL),
        ("https://dashscope.aliyuncs.com/", _URL),
        ("10.1.2.3:8443", "https://10.1.2.3:8443"),
        ("10.0.0.0/8", "https://10.1.2.3:8443"),
        ("[fd00::1]:8443", "https://[fd00::1]:8443"),
        ("fd00::/8", "https://[fd00::1]"),
        ("FD00:0:0::1", "https://[fd00::1]"),
    ],
)
def test_exempt_hosts(follow, no_proxy, url):
    """NO_PROXY takes hosts, what is below them, ports, addresses, networks and the star."""
    assert follow(url, ALL_PROXY=_PROXY, NO_PROXY=no_proxy) is None
    assert follow(url, ALL_PROXY=_PROXY, no_proxy=no_proxy) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("", _URL),
        (".", _URL),
        ("hscope.aliyuncs.com", _URL),
        ("dashscope.aliyuncs.com.evil.example", _URL),
        ("aliyuncs.com:80", _URL),
        ("http://dashscope.aliyuncs.com", _URL),
        ("10.0.0.0/99", "https://10.1.2.3"),
        ("0.0.0.0/0", "https://[fd00::1]"),
        ("[fd00::1]:1", "https://[fd00::1]"),
    ],
)
def test_hosts_that_are_not_exempt(follow, no_proxy, url):
    """Anything else goes through the proxy."""
    assert follow(url, ALL_PROXY=_PROXY, NO_PROXY=no_proxy).url == _PROXY


# What a value means


@pytest.mark.parametrize(
    ("value", "url", "auth"),
    [
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128", None),
        ("proxy.example", "http://proxy.example:80", None),
        ("https://proxy.example", "https://proxy.example:443", None),
        ("[fd00::1]", "http://[fd00::1]:80", None),
        ("http://me:hunter2@proxy.example:1", "http://proxy.example:1", ("me", "hunter2")),
        ("http://me@proxy.example:1", "http://proxy.example:1", ("me", "")),
        ("http://a%40b:%3a%2F%C3%A9@h:1", "http://h:1", ("a@b", ":/\u00e9")),
        ("socks5://proxy.example", "socks5://proxy.example:1080", None),
        ("SOCKS4A://h", "socks4a://h:1080", None),
    ],
)
def test_values(follow, value, url, auth):
    """A proxy is a host, with a scheme, a port and a login if they are given."""
    proxy = follow(HTTPS_PROXY=value)

    assert (proxy.url, proxy.auth) == (url, auth)
    assert proxy.kind == ("socks" if url.startswith("socks") else "http")
    assert proxy.resolves == (not url.startswith(("socks4:", "socks5:")))
    assert _PASSWORD not in repr(proxy)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ftp://me:hunter2@h:1", r"has a scheme that is not known.*\nKnown are http://, https://"),
        ("http://me:hunter2@", "is not the URL"),
        ("http://me:hunter2@h:port", "is not the URL"),
        ("http://me:hunter2#@h:1", "is not the URL.*percent-encoded"),
        ("http://h:1/hunter2", "is not the URL"),
        ("http://h:1#hunter2", "is not the URL"),
        ("http://[hunter2]", "is not the URL"),
        ("http://a%3Ab:hunter2@h:1", "has a user name with a colon"),
    ],
)
def test_values_that_cannot_be_followed(follow, shown, value, said):
    """A wrong setting is named with its remedy, and is never an outage; no password is shown."""
    with pytest.raises(errors.RequestError, match=f"(?s)^HTTPS_PROXY .*{said}") as caught:
        follow(HTTPS_PROXY=value)

    assert caught.value.hint
    assert not caught.value.passes_through
    assert _PASSWORD not in shown(caught.value)


def test_socks_takes_a_package(monkeypatch, follow, shown):
    """Without aiohttp-socks a SOCKS proxy is refused, with the line that installs it."""
    monkeypatch.setattr(_route, "find_spec", lambda _: None)

    with pytest.raises(errors.RequestError, match=r'(?s)^all_proxy .*-rerank\[socks\]"') as caught:
        follow(all_proxy=f"socks5://me:{_PASSWORD}@h")

    assert _PASSWORD not in shown(caught.value)
    assert importlib.util.find_spec("aiohttp_socks"), "the extra all has it"
    assert follow(all_proxy=_PROXY, NO_PROXY="*") is None


# Certificates


def _subjects(context):
    return {value for each in context.get_ca_certs() for ((_, value),) in each["subject"]}


@pytest.fixture(name="files")
def _files(tmp_path):
    """A certificate of "localhost" in a file, and in a directory as OpenSSL looks it up."""
    file, folder = tmp_path / "pair.pem", tmp_path / "certificates"
    folder.mkdir()
    file.write_text(PAIR)
    (folder / "ce275665.0").write_text(PAIR)
    return {"file": str(file), "folder": str(folder)}


def test_certificates_by_default():
    """Without a variable the bundle of certifi counts, and is read once."""
    context = _route.certificates()

    assert len(context.get_ca_certs()) > 50
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert _route.certificates() is context
    assert _route.certificate_variables() == {}


def test_a_broken_bundle_of_certifi(monkeypatch, tmp_path):
    """An installation without its bundle is named, and no variable is blamed."""
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "cacert.pem"))
    _route._read_certificates.cache_clear()

    with pytest.raises(errors.RequestError, match=r"^certifi names .*cacert\.pem, which cannot"):
        _route.certificates()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_DIR", "{folder}"),
        ("SSL_CERT_DIR", "/none:{folder}"),
        ("CURL_CA_BUNDLE", "{folder}"),
    ],
)
def test_a_directory_of_certificates(monkeypatch, serve, files, name, value):
    """A server is trusted whose certificate OpenSSL finds in the directory, and no other is."""
    server = serve(lambda server, connection: server.answer(connection), files["file"])

    def greet():
        reranker = Reranker(base_url=f"https://localhost:{server.port}", api_key="none")
        reranker.warm_up()

    monkeypatch.setenv(name, value.format(**files))
    greet()
    monkeypatch.delenv(name)
    with pytest.raises(errors.ServiceError, match="SSL_CERT_FILE"):
        greet()
    assert len(server.requests) == 1


def test_which_certificates_win(monkeypatch, files):
    """OpenSSL's two variables go together, before that of requests, before that of curl.

    Each is the only one that counts where it is the first; one that holds only blanks is none.
    """
    names = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    for name in names:
        monkeypatch.setenv(name, " ")
    assert _route.certificate_variables() == {}

    for name in names[:3]:
        monkeypatch.setenv(name, files["file"])
        assert _route.certificate_variables() == {name: files["file"]}
        assert _subjects(_route.certificates()) == {"localhost"}
    monkeypatch.setenv("SSL_CERT_DIR", files["folder"])
    assert [*_route.certificate_variables()] == ["SSL_CERT_FILE", "SSL_CERT_DIR"]
    assert _subjects(_route.certificates()) == {"localhost"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SSL_CERT_FILE", "{tmp}/none", r"/none, which cannot be read \(No such file"),
        ("SSL_CERT_FILE", "{tmp}", r"cannot be read \(Is a directory\)"),
        ("SSL_CERT_FILE", "{tmp}/empty", r"cannot be read \(no certificates in it\)"),
        ("SSL_CERT_DIR", "{tmp}/empty:{tmp}/none", "names no directory"),
    ],
)
def test_certificates_that_are_not_there(monkeypatch, tmp_path, name, value, said):
    """A wrong setting is named with its remedy, and is never an outage; mended, it works."""
    (tmp_path / "empty").touch()
    monkeypatch.setenv(name, value.format(tmp=tmp_path))

    with pytest.raises(errors.RequestError, match=f"^{name} .*{said}") as caught:
        _route.certificates()

    assert "unset it" in caught.value.hint
    monkeypatch.delenv(name)
    assert _route.certificates()
