import contextlib
import gc
import gzip
import itertools
import json
import logging
import math
import re
import socket
import struct
import threading
import time
import warnings
import zlib
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
import pytest

from qwen_rerank.emulator import FAULTS, Emulator, Reply
from qwen_rerank.emulator._faults import BY_NAME, Asked
from qwen_rerank.emulator._onwire import GIGABYTE_SENT, Whole
from qwen_rerank.emulator._when import ALWAYS, Faults, When, parsed

QUERY, DOCUMENTS = "blue cat", ["a dog", "the blue cat", "a blue sky"]
BODIES = {
    "native": (
        "/api/v1/services/rerank/text-rerank/text-rerank",
        {"model": "qwen3-rerank", "input": {"query": QUERY, "documents": DOCUMENTS}},
    ),
    "compatible": (
        "/compatible-api/v1/reranks",
        {"model": "qwen3-rerank", "query": QUERY, "documents": DOCUMENTS},
    ),
}
ENDLESS = ["no-answer", "slow-headers", "trickle", "body-1gb-announced", "body-1gb-sent"]


def address(emulator):
    """Return host and port."""
    url = httpx.URL(emulator.base_url)
    return url.host, url.port


def written(protocol="native", *headers, key="sk-emulator"):
    """Return a request as bytes."""
    path, body = BODIES[protocol]
    raw = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: here",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(raw)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def sending(emulator, raw):
    """Return a connection on which *raw* has been sent."""
    connection = socket.create_connection(address(emulator))
    connection.sendall(raw)
    return connection


class Seen(NamedTuple):
    """What a socket saw: all the bytes, and how they ended."""

    raw: bytes
    end: str

    @property
    def body(self):
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def comparable(self):
        """The bytes without what differs every time."""
        return re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}|date: .*?\r\n", b"", self.raw)

    @property
    def status(self):
        line = re.match(rb"HTTP/1\.1 (\d{3}) ", self.raw)
        return int(line[1]) if line else None

    def header(self, name):
        head = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")
        found = re.search(rf"(?im)^{name}: (.*?)\r?$", head)
        return found and found[1]


def reading(connection, *, seconds=30.0, most=math.inf):
    """Read until the end, *seconds* of silence, or *most* bytes or a few more."""
    raw = bytearray()
    connection.settimeout(seconds)
    try:
        while len(raw) < most:
            if not (part := connection.recv(65_536)):
                return Seen(bytes(raw), "closed")
            raw += part
    except TimeoutError:
        return Seen(bytes(raw), "silence")
    except ConnectionResetError:
        return Seen(bytes(raw), "reset")
    return Seen(bytes(raw), "enough")


def seen(emulator, protocol="native", key="sk-emulator", **limits):
    """Ask on a connection of its own, which is not to be kept."""
    with sending(emulator, written(protocol, "Connection: close", key=key)) as connection:
        return reading(connection, **limits)


def honest(emulator, protocol="native"):
    """Return the honest body, without the request's id."""
    emulator.clear()
    return nameless(seen(emulator, protocol).body)


def nameless(raw):
    """Return the JSON in *raw* without the request's id."""
    return {name: value for name, value in json.loads(raw).items() if not name.endswith("id")}


def results_in(body):
    """Return the results of either protocol."""
    return body.get("output", body)["results"]


def wait_until(condition):
    """Return when *condition* is true; give up after half a minute."""
    for _ in range(3_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


# The whole list


def test_every_fault_is_described():
    """Each name has one sentence, and no two faults have the same."""
    assert len(set(FAULTS.values())) == len(FAULTS) > 100
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in FAULTS)
    assert all(re.fullmatch(r"[^\n]+[.\"]", sentence) for sentence in FAULTS.values())
    with pytest.raises(TypeError):
        FAULTS["mine"] = "No."


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("refused", "no-answer")])
def test_every_fault_is_seen_and_logged(emulator, caplog, name):
    """Each fault changes what is answered; the log has the status that was sent."""
    most = 1 if name in ENDLESS else 2 * 10**6
    usual = seen(emulator, most=most)
    emulator.clear()
    emulator.fault(name)
    got = seen(emulator, most=most)
    (logged,) = emulator.log
    emulator.clear()

    assert (got.comparable, got.end) != (usual.comparable, usual.end)
    if name != "slow-headers":
        assert logged.status == got.status
    assert "sk-" not in repr(vars(logged))
    assert seen(emulator).status == 200
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


# Connection and framing


@pytest.mark.parametrize("end", ["reset", "close"])
def test_connections_end_early(emulator, end):
    """Reset or closed, before any byte or in the middle of a body announced in full."""
    emulator.fault(f"{end}-before", first=1)
    emulator.fault(f"{end}-mid")
    before, mid = seen(emulator), seen(emulator)

    assert (before.raw, mid.status) == (b"", 200)
    assert len(mid.body) == int(mid.header("content-length")) // 2 > 0
    assert before.end == mid.end == ("reset" if end == "reset" else "closed")


def test_refused(emulator):
    """Nobody listens, open connections are dropped, and nobody else is given the port."""
    with sending(emulator, written()) as idle, sending(emulator, written()[:-5]) as half:
        assert reading(idle, most=1).status == 200
        emulator.fault("refused")

        assert reading(idle).end in ("closed", "reset")
        assert reading(half).end in ("closed", "reset")
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address(emulator))
            emulator.fault("refused")
        with socket.socket() as other, pytest.raises(OSError, match=r"[Aa]ddress"):
            other.bind(address(emulator))
    emulator.clear()

    assert seen(emulator).status == 200


def test_refused_from_the_start_and_to_the_end():
    """It can be refused before the start and through a restart, and be stopped meanwhile."""
    emulator = Emulator(faults=["refused"])
    for _ in range(2):
        with emulator, pytest.raises(ConnectionRefusedError):
            socket.create_connection(address(emulator))
    emulator.clear()
    with emulator:
        assert seen(emulator).status == 200


def test_a_refused_port_that_is_taken(monkeypatch, calling):
    """If somebody takes the port in the instant between, that is an error, and stop works."""
    emulator = calling().emulator

    def bind(*_):
        raise OSError("Address already in use")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "bind", bind)
        with pytest.raises(OSError, match="in use"):
            emulator.fault("refused")
    emulator.clear()
    emulator.stop()


def test_no_answer(emulator):
    """The request is read and logged; others are answered meanwhile."""
    emulator.fault("no-answer", first=1)
    with sending(emulator, written()) as connection:
        assert reading(connection, seconds=0.1) == (b"", "silence")
        assert seen(emulator).status == 200
    assert [entry.status for entry in emulator.log] == [None, 200]


def test_two_answers(emulator):
    """The first answer is honest; right behind it is a second, of another request."""
    expected = honest(emulator)
    emulator.fault("two-answers")
    got = seen(emulator)
    length = int(got.header("content-length"))
    first, other = got.body[:length], Seen(got.body[length:], got.end)
    ours, theirs = results_in(json.loads(first)), results_in(json.loads(other.body))

    assert nameless(first) == expected
    assert (other.status, int(other.header("content-length"))) == (200, len(other.body))
    assert [each["index"] for each in theirs] == [each["index"] for each in reversed(ours)]
    assert other.header("x-request-id") == "of-another-request"
    assert json.loads(other.body)["request_id"] == "of-another-request"


@pytest.mark.parametrize("name", ["two-answers", "length-short", "header-huge"])
def test_the_connection_goes_on(emulator, name):
    """After what is too much on a connection, its next request is answered all the same."""
    emulator.fault(name, first=1)
    two = written() + written("compatible", "Connection: close")
    with sending(emulator, two) as connection:
        got = reading(connection)

    assert got.raw.count(b"HTTP/1.1 200 OK") == (3 if name == "two-answers" else 2)
    assert [(entry.path, entry.status) for entry in emulator.log] == [
        (BODIES[protocol][0], 200) for protocol in ("native", "compatible")
    ]


def test_a_gigabyte_waits_for_whoever_reads_slowly(emulator):
    """It is really sent, and does not fill the emulator's memory meanwhile."""
    emulator.fault("body-1gb-sent")
    with sending(emulator, written()) as connection:

        def waiting():
            return sum(
                one.transport.get_write_buffer_size()
                for one in tuple(emulator._running._server.server_state.connections)
                if one.transport.get_extra_info("peername") == connection.getsockname()
            )

        wait_until(waiting)
        assert waiting() < 10**6
        assert reading(connection, most=10**7).end == "enough"


def test_the_gigabyte_ends():
    """Whoever reads all of it has the honest answer, and exactly the announced length."""
    whole = Whole(200, ((b"content-length", b"13"),), b'{"results": 1}')
    head, *pieces = GIGABYTE_SENT.pieces(whole)
    head, _, start = head.partition(b"\r\n\r\n")

    assert head.endswith(b"content-length: 1000000000")
    assert len(start) + sum(map(len, pieces)) == 10**9
    assert {piece.strip() for piece in set(pieces[:-1])} == {b""}
    assert start + pieces[-1].strip() == whole.body


def test_what_is_written():
    """Lies about the length, minutes byte by byte, half a body and silence, no HTTP, bad chunks."""
    whole = Whole(200, ((b"content-length", b"14"),), b'{"results": 1}')
    names = ("slow-headers", "trickle", "body-1gb-announced", "garbage", "header-huge")
    slow, (head, *rest), announced, [garbage], [huge] = (
        list(BY_NAME[name].pieces(whole)) for name in names
    )
    first, broken = BY_NAME["chunk-broken"].pieces(whole)

    for name, length in {"short": b"7", "long": b"114", "garbage": b"abc"}.items():
        lying = whole.head((b"content-length", length)) + whole.body
        assert list(BY_NAME[f"length-{name}"].pieces(whole)) == [lying]
    assert {len(piece) for piece in (*slow, *rest)} == {1}
    assert BY_NAME["slow-headers"].pause == BY_NAME["trickle"].pause
    assert min(len(slow), len(rest)) * BY_NAME["trickle"].pause >= 300
    assert b"".join(slow).endswith(b"\r\n\r\n" + whole.body)
    assert head == whole.head((b"content-length", b"%d" % len(rest)))
    assert b"".join(rest).strip() == whole.body
    assert announced == [whole.head((b"content-length", b"1000000000")) + whole.body[:7]]
    assert BY_NAME["body-1gb-announced"].end == "silence"
    assert not garbage.startswith(b"HTTP/")
    assert b"x-padding: %b\r\n" % (b"x" * 2**20) in huge
    assert first.endswith(b'\r\n\r\n7\r\n{"resul\r\n')
    assert broken.startswith(b"none\r\n")


# Bodies with HTTP 200


@pytest.mark.parametrize(
    ("name", "unspoilt", "headers"),
    [
        ("content-type-wrong", bytes, {"content-type": "text/plain"}),
        ("bom", lambda raw: raw.removeprefix(b"\xef\xbb\xbf"), {}),
        ("gzip", gzip.decompress, {"content-encoding": "gzip"}),
        ("invalid-utf8", lambda raw: raw.replace(b', "note": "caf\xe9"', b""), {}),
    ],
)
def test_spoilt_bodies(name, unspoilt, headers):
    """An honest body is spoilt in one way that can be undone."""
    raw = b'{"results": []}'
    got = BY_NAME[name].body(raw, 3)

    assert (unspoilt(got), BY_NAME[name].headers) == (raw, headers)
    assert (got == raw) is (name == "content-type-wrong")


def test_the_bomb(emulator):
    """A megabyte unpacks to a gigabyte, and its checksum is right."""
    emulator.fault("gzip-bomb")
    got = seen(emulator)
    size, count = 10**6, 1_000
    packed, trailer = got.body[10:-8], got.body[-8:]
    chunk = packed[: len(packed) // count]  # unpacking all of them takes seconds
    rest = packed.removeprefix(chunk * count)
    unpacker, checksum = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for _ in range(count):
        checksum = zlib.crc32(b" " * size, checksum)

    assert got.header("content-encoding") == "gzip"
    assert len(got.body) < 1_100_000
    assert (unpacker.decompress(chunk + rest), unpacker.eof) == (b" " * size, True)
    assert trailer == struct.pack("<II", checksum, size * count)


# Other statuses, and bodies that are no answer: tests/faults says what each ends in


def test_fixed_answers():
    """Bodies that have nothing to do with what was asked, and how long a 429 asks to wait."""
    bodies = {"empty-body": "", "json-null": "null", "json-list": "[]", "json-string": '"ok"'}
    bodies["deep-json"] = "[" * 100_000 + "]" * 100_000
    waits = {"429-after-seconds": "1", "429-after-10000": "10000", "429-after-garbage": "soon"}
    asked = Asked("Bearer sk-a", "/", 80, datetime(2026, 11, 29, 23, 59, 58, tzinfo=UTC))

    assert {name: BY_NAME[name].body for name in bodies} == bodies
    assert {name: BY_NAME[name].headers["retry-after"] for name in waits} == waits
    assert BY_NAME["429-after-date"](asked).headers == {
        "retry-after": "Mon, 30 Nov 2026 00:00:00 GMT"
    }
    assert BY_NAME["not-json"].headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("name", "called", "code"),
    [
        ("401-native", "compatible", "InvalidApiKey"),
        ("401-compatible", "native", "invalid_api_key"),
        ("200-error-compatible", "native", "InvalidParameter"),
    ],
)
def test_the_other_envelope(emulator, name, called, code):
    """Some refusals come in one envelope, whichever protocol was called."""
    emulator.fault(name)
    body = json.loads(seen(emulator, called).body)

    assert ("error" in body) is name.endswith("compatible")
    assert body.get("error", body)["code"] == code


def test_the_key_is_echoed_and_not_logged(emulator):
    """Whatever key was presented comes back twice, and is not in the log."""
    emulator.fault("key-echoed")
    for key in ("sk-emulator", "sk-somebody-elses"):
        got = seen(emulator, key=key)

        assert got.status == 401
        assert f"Bearer {key}" in got.body.decode()
        assert got.header("x-authorization") == f"Bearer {key}"
    assert "sk-" not in repr([vars(entry) for entry in emulator.log])


# Results that are no ranking


ONE, TWO = '{"index": 2, "relevance_score": 0.5}', '{"index": 0, "relevance_score": 0.25}'
FIRST = {  # what becomes of the first of two results, about three documents
    "result-null": "null",
    "index-negative": ONE.replace("2", "-1"),
    "index-n": ONE.replace("2", "3"),
    "index-string": ONE.replace("2", '"0"'),
    "index-float": ONE.replace("2", "1.0"),
    "index-true": ONE.replace("2", "true"),
    "index-null": ONE.replace("2", "null"),
    "index-missing": '{"relevance_score": 0.5}',
    "score-nan": ONE.replace("0.5", "NaN"),
    "score-infinity": ONE.replace("0.5", "1e400"),
    "score-minus-infinity": ONE.replace("0.5", "-1e400"),
    "score-huge-integer": ONE.replace("0.5", "1" + "0" * 400),
    "score-string": ONE.replace("0.5", '"0.9"'),
    "score-true": ONE.replace("0.5", "true"),
    "score-null": ONE.replace("0.5", "null"),
    "score-missing": '{"index": 2}',
}
ALTERED = {name: f"[{first}, {TWO}]" for name, first in FIRST.items()} | {
    "results-null": "null",
    "results-empty": "[]",
    "results-object": f'{{"0": {ONE}, "1": {TWO}}}',
    "result-missing": f"[{TWO}]",
    "result-extra": f"[{ONE}, {TWO}, {TWO.replace('0,', '3,')}]",
    "index-duplicate": f"[{ONE}, {TWO.replace('0,', '2,')}]",
    "unsorted": f"[{TWO}, {ONE}]",
}


def test_what_is_altered():
    """Each fault alters in the results what its name says, and nothing else."""
    raw = f'{{"results": [{ONE}, {TWO}], "id": "r"}}'.encode()

    for name, results in ALTERED.items():
        altered = f'{{"results": {results}, "id": "r"}}'
        assert BY_NAME[name].body(raw, 3).decode() == altered, name


def test_what_else_is_altered():
    """What is beside the results is missing or garbage, or all is cut in half.

    A lone result comes twice, and the results of another request are of more documents.
    """
    raw = b'{"results": [{"index": 0}], "usage": {}, "id": "r"}'
    altered = {
        "no-output": b'{"usage": {}, "id": "r"}',
        "usage-missing": raw.replace(b', "usage": {}', b""),
        "usage-garbage": raw.replace(b"{}", b'{"total_tokens": "many"}'),
        "request-id-missing": raw.replace(b', "id": "r"', b""),
        "truncated-json": raw[: len(raw) // 2],
        "index-duplicate": raw.replace(b"[", b'[{"index": 0}, '),
    }
    others = json.loads(BY_NAME["others-results"].body(raw, 3))["results"]

    assert {name: BY_NAME[name].body(raw, 3) for name in altered} == altered
    assert [each["index"] for each in others] == [6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("protocol", BODIES)
def test_an_altered_answer_is_honest_in_all_else(emulator, protocol):
    """By either protocol, and it is billed; where the request id is missing, it is nowhere."""
    expected = honest(emulator, protocol)
    del results_in(expected)[0]
    emulator.clear()
    emulator.fault("result-missing", first=1)
    emulator.fault("request-id-missing")
    altered, without_id = seen(emulator, protocol), seen(emulator, protocol)

    assert (altered.status, nameless(altered.body)) == (200, expected)
    assert altered.header("x-request-id") == emulator.log[0].request_id
    assert emulator.log[0].tokens > 0
    assert emulator.log[1].request_id not in without_id.raw.decode()


def test_what_the_service_refuses_stays_refused(emulator):
    """There is no result in it to alter; only how it is written can be wrong."""
    emulator.fault("score-nan", first=1)
    emulator.fault("two-answers")
    refused, twice = seen(emulator, key="sk-wrong"), seen(emulator, key="sk-wrong")

    assert (refused.status, json.loads(refused.body)["code"]) == (401, "InvalidApiKey")
    assert twice.raw.count(b"HTTP/1.1 401 Unauthorized") == 2
    assert [entry.status for entry in emulator.log] == [401, 401]


# Which requests


def due(when, count):
    """Return the numbers of the requests that meet the fault."""
    faults = Faults()
    faults.add("503", when)
    return [number for number in range(1, count + 1) if faults.take(None) is not None]


@pytest.mark.parametrize(
    ("when", "numbers"),
    [(When(first=2), [1, 2]), (When(nth=3), [3]), (When(percent=25), [4, 8])],
)
def test_which_requests(when, numbers):
    """The first so many, one of them, or so many of a hundred."""
    assert due(when, 8) == numbers


@pytest.mark.parametrize(("percent", "count"), [(1, 100), (0.5, 50), (33, 3_300)])
def test_percents_are_exact(percent, count):
    """Of ten thousand requests exactly so many meet the fault, evenly spread."""
    numbers = due(When(percent=percent), 10_000)
    gaps = {after - before for before, after in itertools.pairwise(numbers)}

    assert len(numbers) == count
    assert max(gaps) - min(gaps) <= 1


def test_several_percentages_take_turns():
    """Faults of the same percentage do not all mean the same request."""
    faults = Faults()
    faults.add("503", When(percent=25))
    faults.add("500", When(percent=25))
    taken = [faults.take(None) for _ in range(40)]

    assert (taken.count(BY_NAME["503"]), taken.count(BY_NAME["500"])) == (10, 7)


def test_requests_that_hold_a_text():
    """Only the requests one of whose documents has the text, whichever way it is sent."""
    name, when = parsed("500:holding=blue: sk", ALWAYS)
    text = "x blue: sky"

    assert name == "500"
    assert when.applies({"documents": ["a", text]}, 1)
    assert when.applies({"input": {"documents": [{"text": text}]}}, 1)
    assert not when.applies({"query": text, "documents": ["blue", ": sky"]}, 1)
    assert not when.applies({"documents": [{"image": text}]}, 1)
    assert not when.applies({"documents": None}, 1)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_requests_that_hold_a_url(kind):
    """Of pictures and films the URL counts, wherever they stand."""
    private, item = When(holding="private.example"), {kind: "https://private.example/a"}

    assert private.applies({"input": {"query": "q", "documents": ["a", item]}}, 1)
    assert private.applies({"input": {"query": item, "documents": ["a"]}}, 1)


def test_the_first_that_applies_wins(caller, emulator):
    """The script goes first and meets no fault; then the fault that was set first.

    A fault counts what neither the script nor a fault before it took.
    """
    emulator.script(Reply(418, "{}"))
    emulator.fault("503", nth=2)
    emulator.fault("429-rate", first=2)
    emulator.fault("500:nth=1")
    emulator.fault("504", nth=2)
    statuses = [caller.http.post(emulator.base_url).status_code for _ in range(7)]

    assert statuses == [418, 429, 503, 429, 500, 404, 504]


@pytest.mark.parametrize(
    ("name", "when", "said"),
    [
        ("score-nam", {}, "no fault 'score-nam'; the nearest name is 'score-nan'"),
        ("", {}, "no fault ''"),
        ("503:last=1", {}, "does not end in :first=N, :nth=N, :percent=P or :holding=TEXT"),
        ("503:first=few", {}, "does not end in"),
        ("503:first=1", {"nth": 2}, "'503:first=1' says already"),
        ("503", {"first": 1, "nth": 2}, "one of first, nth, percent and holding"),
        ("503", {"nth": 0}, "nth must be a whole number of at least 1, not 0"),
        ("503", {"first": 1.5}, "first must be a whole number"),
        ("503", {"percent": 0}, "percent must be over 0 and at most 100, not 0"),
        ("503", {"percent": math.nan}, "at most 100"),
        ("503", {"holding": ""}, "holding must not be empty"),
        ("refused:percent=5", {}, "a refused connection is never seen"),
    ],
)
def test_what_is_no_fault(emulator, name, when, said):
    """A wrong name or an impossible choice is an error at once, and changes nothing."""
    with pytest.raises(ValueError, match=re.escape(said)):
        emulator.fault(name, **when)
    assert seen(emulator).status == 200


# Lifetimes


def test_stop_waits_for_nobody(capfd, caplog):
    """Whatever is delayed, half sent or idle, written for minutes or kept silent, stop returns.

    It leaves no thread, no socket and no word behind.
    """
    gc.collect()  # what other tests left behind is not counted here
    before = set(threading.enumerate())
    emulator = Emulator().start()
    emulator.script(Reply(delay=3_600.0))
    for name in ENDLESS:
        emulator.fault(name, first=1)
    sent = [b"", written()[:-5], *[written()] * (1 + len(ENDLESS))]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(sending(emulator, raw)) for raw in sent]
        wait_until(lambda: len(emulator.log) == 1 + len(ENDLESS))
        clients.append(stack.enter_context(sending(emulator, written())))
        assert reading(clients[-1], most=1).status == 200
        stopping = threading.Thread(target=emulator.stop, daemon=True)
        stopping.start()
        stopping.join(60.0)
        assert not stopping.is_alive()
        for connection in clients:
            assert reading(connection, most=10**8).end in ("closed", "reset")
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always")
        gc.collect()

    assert set(threading.enumerate()) <= before  # another test's thread may have ended meanwhile
    assert [str(leak.message) for leak in leaks] == []
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_endless_ends_with_the_client(emulator, name):
    """When the client leaves, nothing goes on for it."""
    emulator.fault(name)
    seen(emulator, seconds=0.1, most=1)

    wait_until(lambda: not emulator._running._server.server_state.tasks)
