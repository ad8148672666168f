import itertools
import logging
import socket
import threading

import httpx
import pytest
import uvicorn

from qwen_rerank.emulator import Emulator, Reply, _server


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.2"])
def test_every_loopback_host_will_do(calling, host):
    """Names and IPv6 addresses of loopback are served as well."""
    try:
        caller = calling(host=host)
    except OSError:
        pytest.skip(f"this machine has no {host}")

    assert caller.native().status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com", ""])  # noqa: S104  what is refused
def test_other_hosts_are_refused(host):
    """It never listens where others could reach it."""
    with pytest.raises(ValueError, match="loopback only"):
        Emulator(host=host)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"api_key": " "}, "key"),
        ({"over_long": "cut"}, "over_long"),
        ({"max_model_len": 0}, "max_model_len must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options, named):
    """A blank key, an unknown way with long items or no length at all is an error at once."""
    with pytest.raises(ValueError, match=named):
        Emulator(**options)


def test_an_offer_of_http_2_is_ignored(caller, caplog):
    """A client that offers it, as Java's does, is answered over HTTP/1.1, and nothing is said."""
    offer = {"connection": "upgrade, http2-settings", "upgrade": "h2c", "http2-settings": ""}
    body = {"model": "qwen3-rerank", "query": "q", "documents": ["d"]}
    assert caller.post(caller.compatible_url, json=body, headers=offer).status_code == 200
    assert not [each for each in caplog.records if each.name.startswith("uvicorn")]


def test_options_reach_the_service(calling):
    """The key, the scoring function, the order and the treatment of long items are settable."""
    caller = calling(
        api_key="sk-other",
        over_long="refuse",
        score=lambda _, document: len(document) / 100,
        shuffle=True,
    )
    url, body = caller.compatible_url, {"model": "qwen3-rerank", "query": "q"}
    shuffled = caller.post(url, key="sk-other", json=body | {"documents": ["aa", "b", "cccc"]})
    long = caller.post(url, key="sk-other", json=body | {"documents": ["word " * 4_001]})

    assert caller.emulator.api_key == "sk-other"
    assert shuffled.json()["results"] == [
        {"index": 0, "relevance_score": 0.02},
        {"index": 2, "relevance_score": 0.04},
        {"index": 1, "relevance_score": 0.01},
    ]
    assert long.json()["error"]["message"] == "Range of input length should be [1, 4000]"


def test_it_can_be_stopped_and_started_again():
    """Stopping twice is harmless, starting twice is an error, and the log survives a restart.

    Before the first start there is no address, and after it there is always the last one.
    """
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="no address before it is started"):
        emulator.base_url  # noqa: B018  it raises
    emulator.stop()
    emulator.start()
    first = emulator.base_url
    with pytest.raises(RuntimeError, match="running already"):
        emulator.start()
    httpx.post(first, trust_env=False)
    emulator.stop()
    emulator.stop()

    with pytest.raises(httpx.ConnectError):
        httpx.get(first, trust_env=False)
    assert emulator.base_url == first
    with emulator:
        assert httpx.get(emulator.base_url, trust_env=False).status_code == 404
    assert len(emulator.log) == 2


def test_a_taken_port_is_an_error():
    """A port in use raises at start; it is free again as soon as stop returns."""
    with Emulator() as first:
        port = httpx.URL(first.base_url).port
        second = Emulator(port=port)
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            second.start()
        httpx.get(first.base_url, trust_env=False)
    with second:
        assert second.base_url == first.base_url
        assert httpx.get(second.base_url, trust_env=False).status_code == 404


def test_a_server_that_does_not_come_up_is_an_error(monkeypatch):
    """If the server dies while starting, start raises, and says why."""

    async def startup(*_, **__):
        raise ZeroDivisionError("no server today")

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    before = set(threading.enumerate())

    with pytest.raises(RuntimeError, match="did not come up") as caught:
        Emulator().start()
    assert "no server today" in str(caught.value.__cause__)
    assert set(threading.enumerate()) <= before


def test_several_at_once(calling):
    """Emulators in one process do not share logs, scripts or keys."""
    one, two = calling(api_key="sk-one"), calling()
    one.emulator.script(Reply(418, "{}"))

    assert two.native().status_code == 200
    assert one.native().status_code == 418
    assert one.native().status_code == 401
    assert (len(one.emulator.log), len(two.emulator.log)) == (2, 1)


async def test_start_within_a_running_loop():
    """It can be started and stopped by a coroutine, and called from it."""
    with Emulator() as emulator:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(emulator.base_url)

    assert answer.status_code == 404


def test_logging_is_left_alone(capfd):
    """Neither uvicorn's loggers nor the terminal see anything of a normal run."""
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    state = [(each.level, list(each.handlers), each.propagate) for each in loggers]
    with Emulator() as emulator:
        httpx.get(emulator.base_url, trust_env=False)

    assert state == [(each.level, list(each.handlers), each.propagate) for each in loggers]
    assert capfd.readouterr() == ("", "")


def test_repr_tells_the_state_and_not_the_key():
    """The repr shows where it listens and whether it runs; never the key."""
    emulator = Emulator(api_key="sk-private")
    shown = [repr(emulator)]
    with emulator:
        shown.append(repr(emulator))

    assert shown[0] == "<Emulator 127.0.0.1, stopped>"
    assert shown[1].startswith("<Emulator 127.0.0.1:")
    assert shown[1].endswith(", running>")
    assert "sk-" not in "".join(shown)


def test_answers_are_not_held_back(caller, emulator):
    """On a reused connection the head does not wait for an acknowledgement (40 ms on Linux)."""
    caller.native()
    open_ = tuple(emulator._running._server.server_state.connections)
    sockets = [each.transport.get_extra_info("socket") for each in open_]

    assert sockets
    assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets)


def test_the_date_moves(monkeypatch, calling):
    """Each answer says when it was sent: a Date is good for reading a Retry-After against it."""
    monkeypatch.setattr(_server, "_TICK_SECONDS", 0.001)
    days = itertools.count(1)
    monkeypatch.setattr(uvicorn.server, "formatdate", lambda *_, **__: f"day {next(days)}")
    caller = calling()

    dates = {caller.native().headers["date"] for _ in range(20)}

    assert len(dates) > 1
