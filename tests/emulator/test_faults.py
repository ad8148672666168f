import contextlib
import copy
import gc
import gzip
import http.client
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
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx
import pytest

from qwen_rerank.emulator import FAULTS, Emulator, Reply
from qwen_rerank.emulator._faults import BY_NAME
from qwen_rerank.emulator._onwire import GIGABYTE_SENT, Whole
from qwen_rerank.emulator._when import Faults, When

KEY = b"Bearer sk-emulator"
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
PROTOCOLS = sorted(BODIES)
ENDLESS = ["no-answer", "slow-headers", "trickle", "body-1gb-announced", "body-1gb-sent"]

both = pytest.mark.parametrize("protocol", PROTOCOLS)


def address(emulator):
    """Return host and port."""
    url = httpx.URL(emulator.base_url)
    return url.host, url.port


def written(protocol="native", *headers, key=KEY):
    """Return a request as bytes."""
    path, body = BODIES[protocol]
    raw = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1".encode(),
        b"Host: here",
        b"Authorization: " + key,
        b"Content-Length: %d" % len(raw),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + raw


class Seen(NamedTuple):
    """What a socket saw: all the bytes, and how they ended."""

    raw: bytes
    end: str

    @property
    def head(self):
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").lower()

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

    @property
    def length(self):
        return re.search(r"^content-length: (.*?)\r?$", self.head, re.MULTILINE)[1]


def reading(connection, *, seconds=30.0, most=math.inf):
    """Read until the end, for *seconds*, or *most* bytes or a few more."""
    raw, until = bytearray(), time.monotonic() + seconds
    try:
        while len(raw) < most:
            connection.settimeout(max(0.001, until - time.monotonic()))
            if not (part := connection.recv(65_536)):
                return Seen(bytes(raw), "closed")
            raw += part
    except TimeoutError:
        return Seen(bytes(raw), "silence")
    except ConnectionResetError:
        return Seen(bytes(raw), "reset")
    return Seen(bytes(raw), "enough")


def seen(emulator, protocol="native", **limits):
    """Ask on a connection of its own, which is not to be kept."""
    with socket.create_connection(address(emulator)) as connection:
        connection.sendall(written(protocol, b"Connection: close"))
        return reading(connection, **limits)


def posted(emulator, protocol="native", key=KEY):
    """Ask with the standard library's client; return its answer and the body."""
    connection = http.client.HTTPConnection(*address(emulator), timeout=30)
    path, body = BODIES[protocol]
    try:
        connection.request("POST", path, json.dumps(body), {"Authorization": key.decode()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def honest(emulator, protocol="native"):
    """Return the honest body, without the request's id."""
    emulator.clear()
    return nameless(json.loads(posted(emulator, protocol)[1]))


def nameless(body):
    """Return *body* without the request's id."""
    return {name: value for name, value in body.items() if name not in ("request_id", "id")}


def results_in(body):
    """Return the results of either protocol."""
    return body.get("output", body)["results"]


def asked(emulator, count):
    """Ask so many times where nothing is served; return the statuses."""
    with httpx.Client(trust_env=False, verify=False) as client:  # noqa: S501  nothing is encrypted
        return [client.post(emulator.base_url).status_code for _ in range(count)]


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
    assert posted(emulator)[0].status == 200
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


# Connection and framing


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("reset-before", "reset"),
        ("reset-mid", "reset"),
        ("close-before", "closed"),
        ("close-mid", "closed"),
    ],
)
def test_connections_end_early(emulator, name, end):
    """Reset or closed, before any byte or in the middle of a body announced in full."""
    emulator.fault(name)
    got = seen(emulator)

    assert got.end == end
    if name.endswith("before"):
        assert got.raw == b""
    else:
        assert len(got.body) == int(got.length) // 2 > 0
    assert emulator.log[0].status == (None if name.endswith("before") else 200)


def test_refused(emulator):
    """Nobody listens, open connections are dropped, and nobody else is given the port."""
    with contextlib.ExitStack() as stack:
        idle, half = [
            stack.enter_context(socket.create_connection(address(emulator))) for _ in range(2)
        ]
        idle.sendall(written())
        assert reading(idle, most=1).status == 200
        half.sendall(written()[:-5])
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

    assert posted(emulator)[0].status == 200


def test_refused_from_the_start_and_to_the_end():
    """It can be refused before the start and through a restart, and be stopped meanwhile."""
    emulator = Emulator(faults=["refused"])
    for _ in range(2):
        with emulator, pytest.raises(ConnectionRefusedError):
            socket.create_connection(address(emulator))
    emulator.clear()
    with emulator:
        assert posted(emulator)[0].status == 200
        emulator.fault("refused")
        emulator.clear()
        assert posted(emulator)[0].status == 200


def test_a_refused_port_that_is_taken(monkeypatch, emulator, calling):
    """If somebody takes the port in the instant between, that is an error, and stop works."""
    caller = calling()

    def bind(*_):
        raise OSError("Address already in use")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "bind", bind)
        with pytest.raises(OSError, match="in use"):
            caller.emulator.fault("refused")
    caller.emulator.clear()
    caller.emulator.stop()
    assert posted(emulator)[0].status == 200


def test_no_answer(emulator):
    """The request is read and logged; others are answered meanwhile."""
    emulator.fault("no-answer", first=1)
    with socket.create_connection(address(emulator)) as connection:
        connection.sendall(written())
        assert reading(connection, seconds=0.1) == (b"", "silence")
        assert posted(emulator)[0].status == 200
    assert [entry.status for entry in emulator.log] == [None, 200]


@pytest.mark.parametrize("name", ["length-short", "length-long", "length-garbage"])
def test_lengths_that_lie(emulator, name):
    """The body is whole and honest; the length is not its own."""
    expected = honest(emulator)
    emulator.fault(name)
    got = seen(emulator)

    assert nameless(json.loads(got.body)) == expected
    assert got.end == "closed"
    if name == "length-garbage":
        assert got.length == "abc"
    else:
        said = {"length-short": len(got.body) // 2, "length-long": len(got.body) + 100}
        assert int(got.length) == said[name]


def test_two_answers(emulator):
    """The first answer is honest; right behind it is a second, of another request."""
    expected = honest(emulator)
    emulator.fault("two-answers")
    got = seen(emulator)
    first, second = got.body[: int(got.length)], got.body[int(got.length) :]
    other = Seen(second, got.end)
    ours, theirs = json.loads(first), json.loads(other.body)

    assert nameless(ours) == expected
    assert (other.status, int(other.length)) == (200, len(other.body))
    assert [r["index"] for r in results_in(theirs)] == [
        r["index"] for r in reversed(results_in(ours))
    ]
    assert "x-request-id: of-another-request" in other.head
    assert ours["request_id"] != theirs["request_id"]


@pytest.mark.parametrize("name", ["two-answers", "length-short", "header-huge"])
def test_the_connection_goes_on(emulator, name):
    """After what is too much on a connection, its next request is answered all the same."""
    emulator.fault(name, first=1)
    with socket.create_connection(address(emulator)) as connection:
        connection.sendall(written() + written("compatible", b"Connection: close"))
        got = reading(connection)

    assert got.raw.count(b"HTTP/1.1 200 OK") == (3 if name == "two-answers" else 2)
    assert [(entry.path, entry.status) for entry in emulator.log] == [
        (BODIES[protocol][0], 200) for protocol in ("native", "compatible")
    ]


def test_a_gigabyte_is_sent(emulator):
    """It really comes, as JSON that could be whole, and waits for whoever reads slowly."""
    expected = honest(emulator)
    emulator.fault("body-1gb-sent")
    with socket.create_connection(address(emulator)) as connection:
        connection.sendall(written())
        until, waiting = time.monotonic() + 30, 0
        while not waiting and time.monotonic() < until:
            time.sleep(0.01)
            waiting = sum(
                one.transport.get_write_buffer_size()
                for one in tuple(emulator._running._server.server_state.connections)
                if one.transport.get_extra_info("peername") == connection.getsockname()
            )
        got = reading(connection, most=10**7)

    assert 0 < waiting < 10**6
    assert (got.length, got.end) == ("1000000000", "enough")
    assert nameless(json.loads(got.body + b"}")) == expected


def test_the_gigabyte_ends():
    """Whoever reads all of it has the honest answer, and exactly the announced length."""
    whole = Whole(200, ((b"content-length", b"13"),), b'{"results": 1}')
    head, *pieces = GIGABYTE_SENT.pieces(whole)
    start = head.partition(b"\r\n\r\n")[2]

    assert len(start) + sum(map(len, pieces)) == 10**9
    assert {piece.strip() for piece in set(pieces[:-1])} == {b""}
    assert start + pieces[-1].strip() == whole.body


# Bodies with HTTP 200


@pytest.mark.parametrize(
    ("name", "unspoilt"),
    [
        ("content-type-wrong", bytes),
        ("bom", lambda raw: raw.removeprefix(b"\xef\xbb\xbf")),
        ("gzip", gzip.decompress),
        ("invalid-utf8", lambda raw: raw.replace(b', "note": "caf\xe9"', b"")),
    ],
)
def test_spoilt_bodies(emulator, name, unspoilt):
    """An honest body is spoilt in one way that can be undone."""
    expected = honest(emulator)
    emulator.fault(name)
    answer, got = posted(emulator)

    assert nameless(json.loads(unspoilt(got))) == expected
    assert (unspoilt(got) == got) is (name == "content-type-wrong")
    assert answer.getheader("content-encoding") == ("gzip" if name == "gzip" else None)
    assert answer.getheader("content-type") == (
        "text/plain" if name == "content-type-wrong" else "application/json"
    )
    assert answer.getheader("x-request-id") == emulator.log[-1].request_id


def test_the_bomb(emulator):
    """A megabyte unpacks to a gigabyte, and its checksum is right."""
    emulator.fault("gzip-bomb")
    answer, got = posted(emulator)
    size, count = 10**6, 1_000
    packed, trailer = got[10:-8], got[-8:]
    chunk = packed[: len(packed) // count]  # unpacking all of them takes seconds
    rest = packed.removeprefix(chunk * count)
    unpacker, checksum = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for _ in range(count):
        checksum = zlib.crc32(b" " * size, checksum)

    assert answer.getheader("content-encoding") == "gzip"
    assert len(got) < 1_100_000
    assert (unpacker.decompress(chunk + rest), unpacker.eof) == (b" " * size, True)
    assert trailer == struct.pack("<II", checksum, size * count)


# Other statuses, and bodies that are no answer: tests/faults says what each ends in


@both
@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("401-native", 401, "InvalidApiKey"),
        ("401-compatible", 401, "invalid_api_key"),
        ("200-error-compatible", 200, "InvalidParameter"),
    ],
)
def test_the_other_envelope(emulator, protocol, name, status, code):
    """Some refusals come in one envelope, whichever protocol was called."""
    emulator.fault(name)
    answer, got = posted(emulator, protocol)
    body = json.loads(got)

    assert answer.status == status
    assert ("error" in body) is name.endswith("compatible")
    assert body.get("error", body)["code"] == code


def test_retry_after_a_date(emulator):
    """The date is one to two seconds ahead."""
    emulator.fault("429-after-date")
    before = time.time()
    answer, _ = posted(emulator)
    ahead = parsedate_to_datetime(answer.getheader("retry-after")).timestamp() - time.time()

    assert answer.getheader("retry-after").endswith(" GMT")
    assert 1 - (time.time() - before) <= ahead <= 2


def test_the_key_is_echoed_and_not_logged(emulator):
    """Whatever key was presented comes back twice, and is not in the log."""
    emulator.fault("key-echoed")
    for key in (KEY, b"Bearer sk-somebody-elses"):
        answer, got = posted(emulator, key=key)

        assert answer.status == 401
        assert key in got
        assert answer.getheader("x-authorization") == key.decode()
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


@pytest.mark.parametrize("name", ALTERED)
def test_what_is_altered(name):
    """Each fault alters in the results what its name says, and nothing else."""
    raw = f'{{"results": [{ONE}, {TWO}], "id": "r"}}'.encode()

    assert BY_NAME[name].body(raw, 3).decode() == f'{{"results": {ALTERED[name]}, "id": "r"}}'


def test_what_else_is_altered():
    """The results are missing, cut in half with all the rest, or of more documents."""
    raw = b'{"results": [], "usage": {}}'
    others = json.loads(BY_NAME["others-results"].body(raw, 3))["results"]

    assert BY_NAME["no-output"].body(raw, 3) == b'{"usage": {}}'
    assert BY_NAME["truncated-json"].body(raw, 3) == raw[: len(raw) // 2]
    assert [each["index"] for each in others] == [6, 5, 4, 3, 2, 1, 0]


@both
def test_the_rest_is_honest(emulator, protocol):
    """What is beside altered results is the honest answer's, by either protocol, and is billed."""
    expected = honest(emulator, protocol)
    del results_in(expected)[0]
    emulator.fault("result-missing")
    answer, got = posted(emulator, protocol)

    assert (answer.status, nameless(json.loads(got))) == (200, expected)
    assert emulator.log[-1].tokens > 0


def test_fixed_answers():
    """Bodies that have nothing to do with what was asked, and how long a 429 asks to wait."""
    bodies = {"empty-body": "", "json-null": "null", "json-list": "[]", "json-string": '"ok"'}
    bodies["deep-json"] = "[" * 100_000 + "]" * 100_000
    waits = {"429-after-seconds": "1", "429-after-10000": "10000", "429-after-garbage": "soon"}

    assert {name: BY_NAME[name].body for name in bodies} == bodies
    assert {name: BY_NAME[name].headers["retry-after"] for name in waits} == waits
    assert BY_NAME["not-json"].headers["content-type"] == "text/plain"


def test_what_is_written():
    """Byte by byte for minutes, half a body and silence, no HTTP, a huge header, bad chunks."""
    whole = Whole(200, ((b"content-length", b"14"),), b'{"results": 1}')
    names = ("slow-headers", "trickle", "body-1gb-announced", "garbage", "header-huge")
    slow, (head, *rest), announced, [garbage], [huge] = (
        list(BY_NAME[name].pieces(whole)) for name in names
    )
    first, broken = BY_NAME["chunk-broken"].pieces(whole)

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


def test_a_lone_result_can_be_a_duplicate(caller, emulator):
    """With one document the one result comes twice."""
    emulator.fault("index-duplicate")

    assert [each["index"] for each in results_in(caller.native(documents=["a"]).json())] == [0, 0]


def test_what_is_beside_the_results(emulator):
    """Usage and request id can be missing or no number, and the ranking is right."""
    expected = honest(emulator)
    got = {}
    for name in ("usage-missing", "usage-garbage", "request-id-missing"):
        emulator.clear()
        emulator.fault(name)
        answer, raw = posted(emulator)
        got[name] = json.loads(raw)
        assert (answer.getheader("x-request-id") is None) is (name == "request-id-missing")

    assert nameless(got["usage-missing"]) == {k: v for k, v in expected.items() if k != "usage"}
    assert nameless(got["usage-garbage"]) == expected | {"usage": {"total_tokens": "many"}}
    assert got["request-id-missing"] == expected


@both
@pytest.mark.parametrize("name", ["score-nan", "request-id-missing"])
def test_what_the_service_refuses_stays_refused(emulator, protocol, name):
    """A refusal is honest: there is no result in it to change."""
    emulator.fault(name)
    answer, got = posted(emulator, protocol, key=b"Bearer sk-wrong")
    body = json.loads(got)

    assert (answer.status, answer.getheader("content-type")) == (401, "application/json")
    assert body.get("error", body)["code"] in ("InvalidApiKey", "invalid_api_key")
    assert answer.getheader("x-request-id")


def test_a_refusal_can_be_written_badly(emulator):
    """How an answer is written has nothing to do with what it says."""
    emulator.fault("two-answers")
    with socket.create_connection(address(emulator)) as connection:
        connection.sendall(written("native", b"Connection: close", key=b"Bearer sk-wrong"))
        got = reading(connection)

    assert got.raw.count(b"HTTP/1.1 401 Unauthorized") == 2
    assert emulator.log[0].status == 401


# Which requests


def due(when, count):
    """Return the numbers of the requests that meet the fault."""
    faults = Faults()
    faults.add("503", when)
    return [number for number in range(1, count + 1) if faults.take(None) is not None]


@pytest.mark.parametrize(
    ("when", "numbers"),
    [
        (When(first=2), [1, 2]),
        (When(nth=3), [3]),
        (When(percent=25), [4, 8]),
        (When(percent=100), [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_which_requests(when, numbers):
    """All, the first so many, one of them, or so many of a hundred."""
    assert due(when, 8) == numbers


@pytest.mark.parametrize(("percent", "count"), [(1, 100), (0.5, 50), (33, 3_300)])
def test_percents_are_exact(percent, count):
    """Of ten thousand requests exactly so many meet the fault, evenly spread."""
    numbers = due(When(percent=percent), 10_000)
    gaps = {after - before for before, after in itertools.pairwise(numbers)}

    assert len(numbers) == count
    assert max(gaps) - min(gaps) <= 1


@both
@pytest.mark.parametrize("item", [str, lambda text: {"text": text}])
def test_requests_that_hold_a_text(caller, emulator, protocol, item):
    """Only the requests one of whose documents has the text; never those without documents."""
    path, body = copy.deepcopy(BODIES[protocol])
    url = emulator.base_url.removesuffix("/api/v1") + path
    body["model"] = "qwen3-vl-rerank"
    emulator.fault("500:holding=blue: sk")
    statuses = []
    for documents in (["a", "x blue: sky"], ["blue", ": sky"], [{"image": "blue: sk"}], None):
        given = [item(d) if isinstance(d, str) else d for d in documents or []]
        body.get("input", body)["documents"] = given if documents else documents
        statuses.append(caller.http.post(url, json=body).status_code)

    assert statuses == [500, 401, 401, 401]


def test_the_first_that_applies_wins(emulator):
    """The one that was set first goes first, and a fault counts what none before it took."""
    emulator.fault("503", nth=2)
    emulator.fault("429-rate", first=2)
    emulator.fault("500:nth=1")
    emulator.fault("504", nth=2)
    statuses = asked(emulator, 6)

    assert statuses == [429, 503, 429, 500, 404, 504]


def test_several_percentages_take_turns(emulator):
    """Faults of the same percentage do not all mean the same request."""
    emulator.fault("503:percent=25")
    emulator.fault("500:percent=25")
    statuses = asked(emulator, 40)

    assert (statuses.count(503), statuses.count(500)) == (10, 7)


def test_the_script_goes_first(emulator):
    """What the script answers meets no fault, and is not counted."""
    emulator.script(Reply(418, "{}"))
    emulator.fault("503", first=1)
    statuses = asked(emulator, 3)

    assert statuses == [418, 503, 404]


@pytest.mark.parametrize(
    ("name", "when", "said"),
    [
        ("score-nam", {}, "no fault 'score-nam'; the nearest name is 'score-nan'"),
        ("", {}, "no fault ''"),
        ("503:", {}, "does not end in :first=N, :nth=N, :percent=P or :holding=TEXT"),
        ("503:last=1", {}, "does not end in"),
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
    if not when:
        with pytest.raises(ValueError, match=re.escape(said)):
            Emulator(faults=["500", name])
    assert posted(emulator)[0].status == 200


# Lifetimes


def test_stop_does_not_wait(calling, capfd, caplog):
    """Whatever is being written or kept silent, stop returns at once and leaves nothing."""
    gc.collect()  # what other tests left behind is not counted here
    before = set(threading.enumerate())
    for name in [*ENDLESS, "reset-mid", "header-huge", "two-answers", "refused"]:
        emulator = calling().emulator
        with contextlib.ExitStack() as stack:
            emulator.fault(name.replace("refused", "no-answer"))
            for protocol in PROTOCOLS:
                connection = stack.enter_context(socket.create_connection(address(emulator)))
                connection.sendall(written(protocol))
            until = time.monotonic() + 30
            while len(emulator.log) < len(PROTOCOLS) and time.monotonic() < until:
                time.sleep(0.01)
            if name == "refused":
                emulator.fault(name)
            begun = time.monotonic()
            emulator.stop()
            assert time.monotonic() - begun < 20.0, name  # all of them would go on for minutes
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
    state = emulator._running._server.server_state
    seen(emulator, seconds=0.1, most=10**6)
    until = time.monotonic() + 30
    while state.tasks and time.monotonic() < until:
        time.sleep(0.01)

    assert not state.tasks
