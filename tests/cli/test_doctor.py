"""`qwen-rerank doctor`: what it shows, asks, measures and writes, and what it says is wrong."""

import io
import json
import re
import socket
import ssl
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console
from self_signed import PAIR

from qwen_rerank import RequestError
from qwen_rerank._endpoint import Endpoint
from qwen_rerank._limits import limits_for
from qwen_rerank._values import Price
from qwen_rerank.cli import main
from qwen_rerank.cli.doctor import chart
from qwen_rerank.cli.doctor.exams import (
    CANDIDATES,
    EXAMS,
    QUERY,
    independence,
    instruct,
    judged_independence,
    judged_length,
    latency,
    over_long,
    passage,
)
from qwen_rerank.cli.doctor.probe import Rehearsal, Terms, Told, key_end
from qwen_rerank.emulator import Emulator, Reply

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
QUESTIONS = list(EXAMS)
TERMS = Terms(limits_for("qwen3-rerank"), 500, takes_instruct=True)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Whatever terminal the tests run in, the doctor sees a pipe of 300 columns."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def live(monkeypatch, emulator):
    """An environment in which the service is the emulator."""
    settle(monkeypatch, emulator)
    return emulator


def settle(monkeypatch, emulator):
    """Points the environment at *emulator*."""
    monkeypatch.setenv("DASHSCOPE_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", emulator.api_key)


@pytest.fixture
def visit(capsys, tmp_path):
    """Runs the doctor without a question; its exit code, report and output on one line."""

    def run(*arguments, yes=True):
        file = tmp_path / "report.json"
        code = main(["doctor", "--json", str(file), *["--yes"] * yes, *arguments])
        out, err = capsys.readouterr()
        assert err == "" or not yes
        return code, json.loads(file.read_text()), flat(out)

    return run


def flat(out):
    """*out* without frames and line breaks, so that a sentence can be found in it."""
    return " ".join(re.sub(r"[│╭╮╰╯─├┤┬┴┼]", " ", out).split())


def posts(emulator):
    """The questions that *emulator* was asked."""
    return [request for request in emulator.log if request.method == "POST"]


def scored(function):
    """A script that gives each document ``function(document, place, documents)``."""

    def reply(request):
        if request.method != "POST":
            return Reply(200, "", repeat=None)
        documents = request.body.get("input", request.body)["documents"]
        results = [
            {"index": place, "relevance_score": function(text, place, documents)}
            for place, text in enumerate(documents)
        ]
        body = {"output": {"results": results}, "results": results, "request_id": "r"}
        return Reply(200, body, repeat=None)

    return reply


# What it does when all is well


@pytest.mark.parametrize("protocol", ["dashscope", "compatible"])
def test_all_is_well(live, visit, protocol):
    """Every question is answered, in order, and the exit code is 0."""
    code, report, out = visit("--protocol", protocol)
    titles = ("Set-up", "Cost", "Reachability", "One call", "Measured", "Latency", "Spent")
    places = [out.index(title) for title in titles]
    assert code == 0
    assert places == sorted(places)
    assert report["problems"] == []
    assert all(report[question] for question in QUESTIONS)
    assert report["call"]["best_first"]
    assert live.api_key not in out


@pytest.mark.usefixtures("live")
def test_it_fits_the_terminal(capsys, monkeypatch):
    """Nothing is wider than 80 columns, and a pipe gets no escape codes."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", "--yes"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out


@pytest.mark.parametrize("protocol", ["dashscope", "compatible"])
@pytest.mark.parametrize("over", ["truncate", "refuse"])
@pytest.mark.parametrize("model", ["qwen3-rerank", "qwen3.7-text-rerank", "gte-rerank-v2"])
def test_what_it_announces_is_what_is_billed(monkeypatch, visit, protocol, over, model, canary):
    """What is named first is billed to a tenth, whatever becomes of over-long documents."""
    if (model, protocol) == ("gte-rerank-v2", "compatible"):
        pytest.skip("is served by the native protocol only")
    with Emulator(api_key=canary, over_long=over) as emulator:
        settle(monkeypatch, emulator)
        _, report, _ = visit("--model", model, "--protocol", protocol)
        sent = posts(emulator)
    billed, planned = sum(request.tokens or 0 for request in sent), report["planned"]
    assert report["spent"]["tokens"] == billed
    assert len(sent) <= planned["requests"] <= len(sent) + 8
    assert planned["least_tokens" if over == "refuse" else "tokens"] == pytest.approx(billed, 0.1)
    assert report["spent"]["requests"] == sum(request.status == 200 for request in sent)


def test_the_price_is_named(live, visit, monkeypatch):
    """Where a list price is known, it is named before and after, with its source."""
    price = Price(0.5, "CNY", "a page", "2026")
    monkeypatch.setattr("qwen_rerank.cli.doctor.probe.price_of", lambda *_: price)
    _, report, out = visit()
    planned, spent = report["planned"], report["spent"]
    assert live.log
    assert planned["cost"] == pytest.approx(planned["tokens"] * 0.5 / 1e6, abs=1e-6)
    assert (planned["price_source"], spent["currency"]) == ("a page", "CNY")
    assert f"CNY {planned['cost']:.4f} by the list price" in out
    assert f"CNY {spent['cost']:.4f} by the list price" in out


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_it_takes_no_for_an_answer(live, capsys, monkeypatch, answer):
    """It names the cost and asks; without a yes not even a connection is made."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"sends up to \d+ requests .* tokens in all", " ".join(out.split()))
    assert err == "Nothing was sent.\n"
    assert live.log == ()


def test_a_yes_is_enough(live, capsys, monkeypatch):
    """A yes at the question sends it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["doctor"]) == 0
    assert len(posts(live)) > 20
    assert "Measured" in capsys.readouterr().out


# Where each setting came from


def setup_of(capsys, monkeypatch, tmp_path, *arguments):
    """The set-up as the report has it; nothing is sent."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    file = tmp_path / "setup.json"
    assert main(["doctor", "--json", str(file), *arguments]) == 1
    capsys.readouterr()
    setup = json.loads(file.read_text())["setup"]
    return {name: (each["value"], each["found_in"]) for name, each in setup.items()}


def test_defaults_and_the_environment(capsys, monkeypatch, tmp_path):
    """A key's last four characters are shown with its variable; defaults are called so."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    setup = setup_of(capsys, monkeypatch, tmp_path)
    assert setup == {
        "key": ("...cdef", "the environment variable DASHSCOPE_API_KEY"),
        "region": ("cn-beijing", "default"),
        "host": ("dashscope.aliyuncs.com", "default"),
        "url": (
            "https://dashscope.aliyuncs.com/api/v1/services/rerank/text-rerank/text-rerank",
            None,
        ),
        "proxy": (None, None),
        "certificates": ("those of certifi", "default"),
        "workspace": (None, None),
        "headers": (None, None),
        "protocol": ("dashscope", "default"),
        "server": (None, None),
        "model": ("qwen3-rerank", "default"),
        "length": (None, None),
    }


def test_options(capsys, monkeypatch, tmp_path):
    """What an option says is shown as coming from it."""
    monkeypatch.setenv("MY_KEY", "sk-fedcba9876543210")
    arguments = ["--api-key-env", "MY_KEY", "--region", "ap-southeast-1", "--workspace", "ws-1"]
    setup = setup_of(
        capsys,
        monkeypatch,
        tmp_path,
        *arguments,
        *("--model", "qwen3-vl-rerank", "--protocol", "compatible"),
    )
    assert setup["key"] == ("...3210", "the environment variable MY_KEY")
    assert setup["region"] == ("ap-southeast-1", "--region")
    assert setup["host"] == ("ws-1.ap-southeast-1.maas.aliyuncs.com", "--region")
    assert setup["workspace"] == ("ws-1", "--workspace")
    assert setup["protocol"] == ("compatible", "--protocol")
    assert setup["model"] == ("qwen3-vl-rerank", "--model")


def test_files(capsys, monkeypatch, tmp_path):
    """The SDK's files are named."""
    folder = tmp_path / ".dashscope"
    folder.mkdir()
    (folder / "api_key").write_text("sk-0123456789abcdef\n")
    (folder / "config.toml").write_text('region = "cn-hongkong"\nworkspace = "ws-2"\n')
    setup = setup_of(capsys, monkeypatch, tmp_path)
    assert setup["key"] == ("...cdef", "the key file ~/.dashscope/api_key")
    assert setup["region"] == ("cn-hongkong", "region in the dashscope config file")
    assert setup["workspace"] == ("ws-2", "workspace in the dashscope config file")


def test_proxies_and_certificates(capsys, monkeypatch, tmp_path):
    """Each is shown with the variable that names it; of a proxy no password."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("all_proxy", "socks5h://me:hunter2@proxy.example")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(PAIR)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    setup = setup_of(capsys, monkeypatch, tmp_path)
    assert setup["proxy"] == (
        "socks5h://proxy.example:1080",
        "the environment variable all_proxy",
    )
    assert setup["certificates"] == (
        str(bundle),
        "the environment variable REQUESTS_CA_BUNDLE",
    )


@pytest.mark.parametrize(
    ("arguments", "where", "known"),
    [
        ([], "cn-beijing (Beijing)", True),
        (["--region", "us-east-1"], "us-east-1 (Virginia)", False),
    ],
)
def test_regions(capsys, monkeypatch, arguments, where, known):
    """A region is shown with its city, and that nobody knows whether one serves rerank."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", *arguments]) == 1
    out = flat(capsys.readouterr().out)
    assert f"region {where}" in out
    assert (f"lists no rerank model for {where}: whether one is served" in out) != known


@pytest.mark.parametrize(
    ("region", "model", "said"),
    [
        ("ap-southeast-1", "qwen3.7-text-rerank", "lists qwen3-rerank for ap-southeast-1"),
        ("ap-southeast-1", "qwen3-rerank", None),
        ("cn-beijing", "qwen3.7-text-rerank", None),
        ("cn-beijing", "qwen3-reranker", "Did you mean --model qwen3-rerank?"),
    ],
)
def test_a_model_that_is_not_listed(capsys, monkeypatch, region, model, said):
    """Before anything is paid for it warns of a model that the vendor does not list there."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", "--region", region, "--model", model]) == 1
    out = flat(capsys.readouterr().out)
    assert (said or "url") in out
    assert ("The vendor lists" in out or "documents. Did you" in out) is (said is not None)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("'sk-0123456789abcdef'", "has quotes around it, '***': leave"),
        ("sk-01234 56789abcdef", "holds a blank that no HTTP header can carry: *** ***"),
        ("sk-01234\u00a056789abcdef", "can carry: ***\\xa0***"),
    ],
)
def test_a_key_that_was_pasted_with_more(capsys, monkeypatch, key, shape):
    """Quotes and blanks of a key are shown where they stand, and nothing else of it."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", key)
    assert main(["doctor", "--yes"]) == 1
    out = flat(capsys.readouterr().out)
    assert shape in out
    assert "the environment variable DASHSCOPE_API_KEY" in out
    assert "56789" not in out


def test_a_quote_within_a_key(capsys, monkeypatch, tmp_path):
    """One that stands inside may be meant, so it is shown beside the key's end."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-01234'56789abcdef")
    assert setup_of(capsys, monkeypatch, tmp_path)["key"][0] == "...cdef (with a quote in it)"


@pytest.mark.parametrize(
    ("protocol", "model", "answer"),
    [
        ("dashscope", "qwen3-rerank", "same"),
        ("compatible", "qwen3-rerank", "same"),
        ("dashscope", "gte-rerank-v2", "refused"),
    ],
)
def test_the_other_protocol(live, visit, protocol, model, answer):
    """The same list is asked by the other protocol too, and what it says is no problem."""
    code, report, _ = visit("--protocol", protocol, "--model", model)
    found = report["protocols"]
    assert (code, found["answer"]) == (0, answer)
    assert found["difference"] == (0 if answer == "same" else None)
    asked = {"compatible" in request.path for request in posts(live)}
    assert asked == {True, False}


@pytest.mark.parametrize(
    ("key", "end"),
    [(None, None), ("abc", ""), ("abcdefgh", "gh"), ("sk-0123456789abcdef", "cdef")],
)
def test_no_more_than_a_quarter_of_a_key(key, end):
    """Of a short key less is shown; never more than four characters."""
    secret = None if key is None else SecretStr(key)
    shown = Endpoint("http://x/", "x", local=False, api_key=secret, workspace=None)
    assert key_end(shown) == end


def test_a_key_for_any_host(visit, emulator, monkeypatch):
    """--api-key-env names the variable whose key is sent."""
    monkeypatch.setenv("MY_KEY", emulator.api_key)
    code, report, _ = visit("--base-url", emulator.base_url, "--api-key-env", "MY_KEY")
    assert code == 0
    assert report["setup"]["key"]["found_in"] == "the environment variable MY_KEY"
    assert report["setup"]["host"]["found_in"] == "--base-url"


def test_headers_of_a_gateway(visit, emulator, monkeypatch):
    """--header-env names a header and the variable with its value, which is not shown."""
    monkeypatch.setenv("MY_KEY", emulator.api_key)
    monkeypatch.setenv("GATEWAY", "token-of-the-gateway")
    named = ["--header-env", "X-Gateway=GATEWAY", "--header-env", "x-team=MY_KEY"]
    code, report, out = visit("--base-url", emulator.base_url, "--api-key-env", "MY_KEY", *named)
    assert code == 0
    assert report["setup"]["headers"] == {
        "value": "x-gateway, x-team",
        "found_in": "--header-env",
    }
    assert "x-gateway, x-team" in out
    assert "token-of-the-gateway" not in f"{out}{report}"
    assert emulator.log[-1].headers["x-gateway"] == "token-of-the-gateway"


# Both answers of each question


@pytest.mark.usefixtures("live")
def test_scores_that_are_independent(visit):
    """A pointwise scorer is found to be one."""
    _, report, out = visit()
    found = report["score_independence"]
    assert (found["answer"], found["others"]) == ("same", 50)
    assert found["alone"] == found["order"] == found["again"] == 0
    assert "independent" in out


def relevance(text):
    """A score that the answer wins."""
    return 0.9 if text == CANDIDATES[1] else 0.5 if text == CANDIDATES[2] else 0.1


def test_scores_that_depend_on_neighbours(live, visit):
    """Scores that shrink with the length of the list are noticed, and by how much."""
    live.script(scored(lambda text, _, all_: relevance(text) / (1 if len(all_) < 40 else 2)))
    _, report, out = visit()
    found = report["score_independence"]
    assert found["answer"] == "depends"
    assert found["alone"] == pytest.approx(0.45)
    assert found["order"] == 0
    assert "depends on the others" in out
    assert "0.45 alone" in out


def test_scores_that_depend_on_the_order(live, visit):
    """Scores that favour the head of the list are noticed."""
    live.script(scored(lambda text, place, all_: relevance(text) + 0.05 * (place > len(all_) / 2)))
    _, report, _ = visit()
    found = report["score_independence"]
    assert found["answer"] == "depends"
    assert found["order"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ((0.0, 0.0, 0.0), "same"),
        ((0.001, 0.0, 0.002), "nearly"),
        ((0.2, 0.0, 0.0), "depends"),
        ((0.0, 0.2, 0.02), "depends"),
        ((0.02, 0.03, 0.02), "unsteady"),
        ((0.5, 0.03, 0.02), "depends"),
    ],
)
def test_the_word_for_differences(differences, answer):
    """Noise that the same request shows too is not taken for the neighbours' influence."""
    alone, order, again = differences
    found = judged_independence(alone=alone, order=order, again=again, spread=0.9, others=50)
    assert found.answer == answer


@pytest.mark.usefixtures("live")
def test_long_documents_that_are_cut(visit):
    """A service that reads only the head is found to, and what it bills is named."""
    _, report, out = visit()
    found = report["over_long"]
    assert (found["answer"], found["counted"], found["documented"]) == ("cut", 4000, 4000)
    assert "Billed: 4,000 tokens" in out


def test_long_documents_that_are_refused(monkeypatch, visit, canary):
    """A service that answers 400 is found to, and the length is narrowed down."""
    with Emulator(api_key=canary, over_long="refuse") as emulator:
        settle(monkeypatch, emulator)
        code, report, out = visit()
    found = report["over_long"]
    assert code == 0
    assert found["answer"] == "refused"
    assert 3_800 < found["most_accepted"] <= 4_000 < found["least_refused"] < 4_200
    assert "Range of input length should be [1, 4000]" in out


class Strict(Rehearsal):
    """A service that takes nothing over a tenth of its documented limit."""

    def ask(self, ask, *, patient=True):
        """Refuses."""
        if max(map(len, ask.documents)) > 1_500:
            raise RequestError("too long")
        return super().ask(ask, patient=patient)


def test_a_limit_far_below_the_documented_one():
    """If even a much shorter document is refused, it says so instead of searching on."""
    found = over_long(Strict(TERMS, refuses=False))
    assert (found.answer, found.most_accepted, found.least_refused) == ("refused", None, 3_000)


@pytest.mark.parametrize(
    ("scores", "tokens", "answer", "counted"),
    [
        ((0.9, 0.1, 0.1), 3 * 4_008, "cut", 4_000),
        ((0.9, 0.8, 0.1), 3 * 5_008, "read", 5_000),
        ((0.1, 0.1, 0.1), 3 * 5_008, "unclear", 5_000),
        ((0.9, 0.1, 0.1), 0, "cut", None),
        ((0.9, 0.1, 0.1), 3, "cut", None),
    ],
)
def test_the_word_for_long_documents(scores, tokens, answer, counted):
    """Whether the end was read is told by the answer that stands there."""
    found = judged_length(Told(scores, tokens, 0.0), 5_000, 4_000, 8)
    assert (found.answer, found.counted) == (answer, counted)


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("model", "answer"), [("qwen3-rerank", "per document"), ("gte-rerank-v2", "not counted")]
)
def test_whether_instruct_is_billed(visit, model, answer):
    """The bills of two instructs tell whether their tokens count."""
    _, report, out = visit("--model", model)
    found = report["instruct"]
    assert found["answer"] == answer
    assert found["billed"] == (3 * found["ours"] if answer == "per document" else 0)
    assert f"Does instruct count in usage? {answer}" in out


class Billed:
    """A service that bills what it is told to."""

    terms = TERMS

    def __init__(self, *bills):
        self.bills = list(bills)

    def ask(self, ask, **_):
        """The next bill."""
        return Told((0.5,) * len(ask.documents), self.bills.pop(0), 0.0)


@pytest.mark.parametrize(
    ("bills", "answer"),
    [
        ((124, 100), "per document"),
        ((108, 100), "per request"),
        ((100, 100), "not counted"),
        ((100, 124), "unclear"),
        ((0, 0), "unreported"),
        ((None, None), "unreported"),
    ],
)
def test_the_word_for_a_bill(bills, answer):
    """Counted once for each document, once for the request, or not; or nobody says."""
    found = instruct(Billed(*bills))
    assert found.answer == answer
    assert found.billed is None or found.billed >= 0


def test_a_server_with_small_requests_and_no_instruct():
    """Fewer others are asked with, sizes end earlier, and what is not taken is not asked."""
    small = Rehearsal(Terms(limits_for("my-model"), 32, takes_instruct=False), refuses=False)
    assert instruct(small).answer == "not taken"
    assert small.requests == 0
    assert independence(small).others == 31
    assert [one.documents for one in latency(small).lists] == [1, 10]


def test_a_kind_of_server(capsys, monkeypatch, tmp_path):
    """--server implies the protocol it speaks, and is shown; no key is needed."""
    arguments = ["--server", "tei", "--base-url", "http://127.0.0.1:9"]
    setup = setup_of(capsys, monkeypatch, tmp_path, *arguments)
    assert setup["server"] == ("tei", "--server")
    assert setup["protocol"] == ("compatible", "--server")
    assert setup["key"] == (None, None)


@pytest.mark.parametrize(
    ("kind", "billed", "others", "blank"),
    [
        ("vllm", "per document", 50, "accepted"),
        ("sglang", "unreported", 50, "refused"),
        ("tei", "not taken", 31, "accepted"),
    ],
)
def test_servers_of_your_own(visit, emulator, kind, billed, others, blank):
    """Each kind is examined in its own dialect and within its own limits, without a key."""
    there = ["--server", kind, "--base-url", emulator.server_url(kind)]
    code, report, out = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert code == 0
    # The emulator's servers take 32,768 tokens for a pair; vLLM alone refuses more.
    assert report["over_long"]["answer"] == ("refused" if kind == "vllm" else "cut")
    told = "the server" if kind in ("vllm", "tei") else "the model's name"
    length = {"value": "32,768 tokens for query and document", "found_in": told}
    assert report["setup"]["length"] == length
    assert report["instruct"]["answer"] == billed
    assert report["score_independence"]["others"] == others
    assert report["over_long"]["documented"] == 32_768
    assert report["blanks"]["empty"] == blank
    assert report["setup"]["key"]["value"] is None
    for part in ("call", "spent"):
        assert (report[part]["tokens"] is None) == (kind != "vllm")
    assert ("no tokens reported" in out) == ("not reported" in out) == (kind != "vllm")


def test_what_it_announces_covers_a_server_of_ones_own(visit):
    """The template, which is billed with every pair, and a length that the server tells count."""
    with Emulator(max_model_len=1_000) as emulator:
        there = ["--server", "vllm", "--base-url", emulator.server_url("vllm")]
        _, report, out = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert report["spent"]["tokens"] <= report["planned"]["tokens"]
    assert "1,000 tokens for query and document" in out


@pytest.mark.parametrize("counts", [True, False])
def test_whether_an_instruct_counts(counts):
    """It is asked with a contrary one, and said in words."""
    told = Told((0.9, 0.5, 0.1), 100, 0.0)
    answers = [told, told._replace(scores=(0.1, 0.5, 0.9), tokens=90) if counts else told]

    class Asked:
        terms = TERMS

        def ask(self, _, **__):
            return answers.pop(0)

    found = instruct(Asked())
    console = Console(width=200, file=io.StringIO())
    console.print(chart.answers({"instruct": found}))
    words = "It counts here" if counts else "It does not count here"
    assert words in console.file.getvalue()


@pytest.mark.parametrize(
    ("score", "error"),
    [
        (lambda *_: 0.5, "Equal scores"),
        (lambda _, text: 0.1 if "tea" in text else 0.8, "A tie"),
        (lambda _, text: 0.9 if "tea" in text else 0.8, "Wrong order"),
        (lambda _, text: 0.6 if "Ines" in text else -0.4, "Negative scores"),
    ],
)
def test_scores_that_are_odd(visit, score, error):
    """Equal scores for all, and negative ones, are named for what they are."""
    with Emulator(score=score) as emulator:
        there = ["--server", "vllm", "--base-url", emulator.server_url("vllm")]
        code, report, _ = visit(*there, "--model", "Qwen/Qwen3-Reranker-0.6B")
    assert code == 1
    assert [each["error"] for each in report["problems"]] == [error]


def test_a_server_that_answers_to_any_name(visit, emulator):
    """An Infinity with one model serves it under every name, and says which it used."""
    there = ["--server", "infinity", "--base-url", emulator.server_url("infinity")]
    code, report, _ = visit(*there, "--model", "my-reranker")
    assert code == 1
    [problem] = report["problems"]
    assert problem["error"] == "Another model"
    assert "Qwen/Qwen3-Reranker-0.6B" in problem["message"]


def test_a_limit_that_nobody_documents(visit, emulator):
    """Of a model that we know nothing of, no guess of ours is called documented."""
    there = ["--server", "sglang", "--base-url", emulator.server_url("sglang")]
    _, report, out = visit(*there, "--model", "my-own-reranker")
    assert report["over_long"]["documented"] is None
    assert "No limit is documented" in out


@pytest.mark.usefixtures("live")
def test_blank_documents_that_are_refused(visit):
    """A service that fails the request is found to, in its own words."""
    _, report, out = visit()
    assert report["blanks"]["empty"] == report["blanks"]["spaces"] == "refused"
    assert "text input should not be empty" in out


def test_blank_documents_that_are_accepted(live, visit):
    """A service that ranks them is found to."""
    live.script(scored(lambda text, *_: relevance(text)))
    _, report, _ = visit()
    assert report["blanks"] == {"empty": "accepted", "spaces": "accepted", "said": None}


def test_blank_documents_are_two_questions(live, visit):
    """Empty and white text may be treated differently."""

    def reply(request):
        if request.method == "POST" and "" in request.body["input"]["documents"]:
            return Reply.error(400, "InvalidParameter", "empty!", repeat=None)
        return scored(lambda text, *_: relevance(text))(request)

    live.script(reply)
    _, report, out = visit()
    assert report["blanks"] == {"empty": "refused", "spaces": "accepted", "said": "empty!"}
    assert "empty refused, spaces accepted" in out


@pytest.mark.parametrize(
    ("model", "sizes"),
    [("qwen3-rerank", [1, 10, 50, 100, 500]), ("qwen3-vl-rerank", [1, 10, 50, 100])],
)
def test_latency_by_size(live, visit, model, sizes):
    """As many sizes as the model takes are timed, over new connections and open ones."""
    _, report, out = visit("--model", model)
    lists = report["latency"]["lists"]
    assert [one["documents"] for one in lists] == sizes
    assert all(0 < one["cold"] < 60 and 0 < one["warm"] < 60 for one in lists)
    assert all(re.search(rf"\b{size} +[\d.,]+ ms", out) for size in sizes)
    assert max(request.documents for request in live.log) == sizes[-1]


def test_a_size_that_fails(live, visit):
    """A length that the service refuses has its reason instead of a time."""
    live.fault("413", holding=passage(400))
    code, report, out = visit()
    *rest, last = report["latency"]["lists"]
    assert code == 0
    assert all(one["failed"] is None for one in rest)
    assert (last["cold"], last["failed"]) == (None, "The request body is too large.")
    assert "The request body is too large." in out


def test_a_rehearsal_asks_what_is_asked(live, visit):
    """The documents of all examinations are different texts, so that none is scored for free."""
    visit()
    for request in posts(live):
        documents = request.body.get("input", request.body)["documents"]
        assert len(set(documents)) == len(documents)
    assert len({passage(number) for number in range(500)}) == 500


# What it says is wrong

WRONG = {
    "another region's key": (["401-native"], [], "A key works only in its own region"),
    "another region's key, compatible": (
        ["401-compatible"],
        ["--protocol", "compatible"],
        "by the environment variable DASHSCOPE_BASE_URL: is that where the key was made?",
    ),
    "a workspace that is not the key's": (
        ["401-workspace"],
        [],
        "this key belongs to no such workspace",
    ),
    "a retired model": ([], ["--model", "gte-rerank"], "set --model qwen3-rerank"),
    "a model that is none": ([], ["--model", "qwen9"], "qwen9 is not offered on"),
    "not on this route": (
        [],
        ["--model", "qwen3-vl-rerank", "--protocol", "compatible"],
        "not offered on this route: set --protocol dashscope",
    ),
    "free quota, 403": (["403-free-tier"], [], "turn it off to pay for calls"),
    "free quota, 429": (["429-free-quota"], [], "enable pay-as-you-go"),
    "arrears": (["400-arrearage"], [], "top up the Alibaba Cloud account"),
    "arrears, 429": (["429-postpaid"], [], "top up the Alibaba Cloud account"),
    "not bought": (["429-not-purchased"], [], "enable pay-as-you-go"),
    "not activated": (["403-unpurchased"], [], "activate Model Studio first"),
    "no grant": (["403-model"], [], "grant it in the console"),
    "not a member": (["403-workspace"], [], "this key belongs to no such workspace"),
    "a workspace that is none": (["404-workspace"], [], "this key belongs to no such workspace"),
    "nothing there": (
        ["404-path"],
        [],
        "Check the environment variable DASHSCOPE_BASE_URL, and what stands",
    ),
    "a login page": (
        ["html-200"],
        [],
        "Check the environment variable DASHSCOPE_BASE_URL and the proxy settings",
    ),
    "a proxy's refusal": (
        ["html-403"],
        [],
        "Check the environment variable DASHSCOPE_BASE_URL and the proxy settings",
    ),
    "a proxy that wants a login": (
        ["proxy-407"],
        [],
        "Check the environment variable DASHSCOPE_BASE_URL and the proxy settings",
    ),
    "moved": (["redirect"], [], "set --base-url to it"),
    "nobody listens": (
        ["refused"],
        [],
        "Check the network, the proxy settings and the environment variable DASHSCOPE_BASE_URL",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setup_ends_in_what_to_do(live, visit, case):
    """The sentence that mends it is shown and kept, nothing more is asked, and the code is 1."""
    faults, arguments, fix = WRONG[case]
    for fault in faults:
        live.fault(fault)
    code, report, out = visit(*arguments)
    (problem,) = report["problems"]
    assert code == 1
    assert problem["during"] in ("reachability", "call")
    assert fix in problem["hint"]
    assert fix in out
    assert out.index("What to do") < out.index(fix)
    assert all(report[question] is None for question in QUESTIONS)
    assert {request.documents for request in posts(live)} <= {3}
    live.clear()


@pytest.mark.parametrize(
    ("variables", "arguments", "fix"),
    [
        ({}, [], "set the environment variable DASHSCOPE_API_KEY or --api-key-env"),
        (
            {},
            ["--base-url", "https://dashscope.aliyuncs.com/compatible-mode/v1"],
            "use https://dashscope.aliyuncs.com/api/v1",
        ),
        (
            {"DASHSCOPE_BASE_URL": "https://dashscope.aliyuncs.com/compatible-mode/v1"},
            [],
            "the environment variable DASHSCOPE_BASE_URL ends in a route that serves chat models",
        ),
        ({}, ["--region", "mars"], "region must be one of cn-beijing"),
        (
            {},
            ["--region", "ap-northeast-1"],
            "(Tokyo) has no shared host: set --workspace or --base-url",
        ),
        (
            {"DASHSCOPE_API_KEY": '"sk-0123456789abcdef"'},
            [],
            "the API key in the environment variable DASHSCOPE_API_KEY has quotes around it",
        ),
        (
            {"DASHSCOPE_API_KEY": "Bearer sk-0123456789abcdef"},
            [],
            "the API key in the environment variable DASHSCOPE_API_KEY has 'Bearer ' before it",
        ),
        (
            {"DASHSCOPE_API_KEY": "sk-01234567 89abcdef"},
            [],
            "the environment variable DASHSCOPE_API_KEY holds a blank that no HTTP header can",
        ),
        (
            {"DASHSCOPE_API_KEY": " "},
            [],
            "no API key (the environment variable DASHSCOPE_API_KEY is blank)",
        ),
        (
            {"DASHSCOPE_API_KEY": "sk-0123456789abcdef", "https_proxy": "ftp://proxy.example"},
            [],
            "https_proxy has a scheme that is not known",
        ),
        (
            {"DASHSCOPE_API_KEY": "sk-0123456789abcdef", "SSL_CERT_FILE": "/none.pem"},
            [],
            "SSL_CERT_FILE names /none.pem, which cannot be read",
        ),
        (
            {},
            ["--base-url", "http://gpu.example/v1"],
            "use https, or --allow-http on a network you trust",
        ),
    ],
)
def test_a_setup_that_names_no_host(visit, monkeypatch, variables, arguments, fix):
    """A setting refused before anything is sent ends in its sentence and exit code 1."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, report, out = visit(*arguments)
    assert code == 1
    assert fix in out
    assert fix in report["problems"][0]["message"]
    assert (report["problems"][0]["during"], report["setup"]) == ("set-up", None)


def test_a_name_that_is_not_known(visit, monkeypatch):
    """A host without an address ends in the setting to look at."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    code, report, out = visit()
    assert code == 1
    assert report["problems"][0]["during"] == "reachability"
    assert "The name dashscope.aliyuncs.com is not known here: check the network" in out


class Refusing(BaseHTTPRequestHandler):
    """Knows nobody's key."""

    def do_HEAD(self):
        """Nothing."""
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        """A refusal that would like to take over the terminal."""
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"code": "InvalidApiKey", "message": "\x1b[2J\u202e[/bold] who?"})
        self.send_response(401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        """Silence."""


@contextmanager
def encrypted(folder):
    """A server that speaks TLS as localhost, as its base URL."""
    (folder / "pair.pem").write_text(PAIR)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/api/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_certificate_that_is_not_trusted(visit, tmp_path, monkeypatch):
    """A certificate of nobody ends in the setting that would vouch for it."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    with encrypted(tmp_path) as base_url:
        code, report, out = visit("--base-url", base_url)
    assert code == 1
    assert report["problems"][0]["during"] == "reachability"
    assert "The certificate is not trusted here: set SSL_CERT_FILE" in out


def test_encryption_is_timed_and_words_are_tamed(visit, tmp_path, monkeypatch):
    """TLS has its own time, and what a server says can neither draw nor hide."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pair.pem"))
    with encrypted(tmp_path) as base_url:
        code, report, out = visit("--base-url", base_url)
    assert code == 1
    assert all(report["reach"][step] > 0 for step in ("connect", "tls", "answer"))
    assert "[/bold] who?" in out
    assert out.isprintable()
    assert report["problems"][0]["status"] == 401


def test_the_name_is_timed_too(monkeypatch, tmp_path, capsys):
    """Of a host that is not this machine the look-up is measured by itself."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **more: real("127.0.0.1", *rest, **more)
    )
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-0123456789abcdef")
    file = tmp_path / "report.json"
    with Emulator() as emulator:
        base_url = emulator.base_url.replace("127.0.0.1", "gateway.example")
        arguments = ["--base-url", base_url, "--allow-http", "--json", str(file), "--yes"]
        assert main(["doctor", *arguments]) == 1
    report = json.loads(file.read_text())
    assert report["reach"]["look_up"] > 0
    assert report["setup"]["key"]["value"] is None  # a found key is not for this host
    assert "this machine alone: set --api-key-env" in flat(capsys.readouterr().out)


def test_a_model_that_prefers_nonsense(live, visit):
    """An order that nobody would call right is a problem with its own advice; the rest goes on."""
    live.script(scored(lambda text, *_: float(text == CANDIDATES[0])))
    code, report, out = visit()
    assert code == 1
    assert report["problems"][0]["error"] == "Wrong order"
    assert not report["call"]["best_first"]
    assert report["latency"]
    assert f"Asked {QUERY!r}, the model prefers" in out


def test_a_question_that_fails_is_left_open(live, visit):
    """A failure amid the questions is a problem of its question; the others are answered."""
    live.fault("400-content", holding=passage(3))
    code, report, out = visit()
    problems = {problem["during"]: problem["error"] for problem in report["problems"]}
    assert code == 1
    assert problems["score independence"] == "ContentError"
    assert report["score_independence"] is None
    assert report["instruct"]["answer"] == "per document"
    assert "Not answered: score independence" in out


def test_an_empty_purse_ends_the_visit(live, visit):
    """Once the balance is used up, nothing more is asked, and what was found is kept."""
    live.fault("400-arrearage", holding=passage(3))
    code, report, out = visit()
    assert code == 1
    assert len(report["problems"]) == 1
    assert report["call"]["best_first"]
    assert [report[question] for question in QUESTIONS] == [None] * len(QUESTIONS)
    assert "top up the Alibaba Cloud account" in out


def test_an_empty_purse_at_the_end_is_no_latency(live, visit):
    """Lists fail by their length only if the service says so of the request."""
    live.fault("400-arrearage", holding=passage(400))
    code, report, out = visit()
    assert code == 1
    assert report["problems"][0]["during"] == "latency"
    assert report["blanks"]
    assert "Not answered: latency" in out


# The report


@pytest.mark.usefixtures("live")
def test_an_earlier_report_is_kept_until_something_is_asked(monkeypatch, tmp_path, capsys):
    """Who says no, or looks at the cost only, keeps what an earlier visit found."""
    file = tmp_path / "report.json"
    file.write_text("earlier")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["doctor", "--json", str(file)]) == 1
    assert file.read_text() == "earlier"
    assert main(["doctor", "--json", "-"]) == 2
    assert "--json takes a file" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_found(live, monkeypatch, tmp_path, capsys):
    """What was paid for is in the report, with its sum, when a visit is broken off."""

    def broken_off(asker):
        if not isinstance(asker, Rehearsal):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        "qwen_rerank.cli.doctor.flow.EXAMS", {**EXAMS, "score_independence": broken_off}
    )
    file = tmp_path / "report.json"
    assert main(["doctor", "--yes", "--json", str(file)]) == 130
    report = json.loads(file.read_text())
    assert report["reach"]
    assert report["call"]["best_first"]
    assert report["spent"]["requests"] == len(posts(live)) == 1
    assert "Spent: 1 request," in capsys.readouterr().out


def test_a_report_that_cannot_be_written(live, capsys, tmp_path):
    """That is known before anything is sent."""
    assert main(["doctor", "--yes", "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "cannot be written: No such file" in capsys.readouterr().err
    assert live.log == ()


def test_a_variable_without_a_key(live, capsys):
    """A wrong name for --api-key-env is one sentence, without what may be a key."""
    for typed in ("NO_SUCH_KEY", "sk-0123456789abcdef", "token_abc123"):  # or the key itself
        assert main(["doctor", "--yes", "--api-key-env", typed]) == 2
        out, err = capsys.readouterr()
        assert (out, live.log) == ("", ())
        assert err == (
            "qwen-rerank doctor: --api-key-env takes the name of an environment variable that "
            "holds a key\n"
        )


def fields(value, path=""):
    """The names of all fields of *value*, as the page writes them."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}{name}"
            yield from fields(inner, f"{path}{name}.")


def test_the_page_describes_every_field(live, visit):
    """docs/doctor.md has each field of the report, and no other."""
    live.fault("413", holding=passage(3))
    _, broken, _ = visit()
    live.clear()
    _, whole, _ = visit()
    described = set(re.findall(r"^\| `([a-z_.]+)` \|", PAGE.read_text(), re.MULTILINE))
    setup = {"value", "found_in"}
    seen = {
        name
        for report in (broken, whole)
        for name in fields(report)
        if not (name.startswith("setup.") and name.rpartition(".")[2] in setup)
    }
    assert seen == described
