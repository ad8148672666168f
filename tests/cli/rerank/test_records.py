"""`qwen-rerank rerank`: what a line may be, and what is written of it."""

import json

import pytest
from bulk_files import RED


def test_the_shape_of_a_line(job, capfd):
    """A line of output has the input's line and ids, every document best first, and the bill."""
    documents = [{"id": 7, "text": "tea"}, "", "a red car"]
    job.write({"id": "q", "query": "a red car", "documents": documents}, b"", RED)

    assert job.rank() == 0

    found = job.ranked
    assert set(found) == {1, 3}  # 2 is blank
    assert found[1]["id"] == "q"
    assert [hit["index"] for hit in found[1]["results"]] == [2, 0, 1]
    assert found[1]["results"][1]["id"] == 7
    assert found[1]["results"][2] == {"index": 1, "score": None}
    assert found[1]["model"] == "qwen3-rerank"
    assert found[1]["tokens"] > 0
    assert "id" not in found[3]
    assert capfd.readouterr().err.startswith("qwen-rerank rerank: 2 lines ranked, ")


def test_any_text(job):
    """Any script, a lone surrogate, a byte order mark and line separators are no trouble."""
    line = {
        "id": "é\u2028",
        "query": "红色的车",
        "documents": ["绿茶\u2028", "红色的车 🚗", "\udc80"],
    }
    job.write(b"\xef\xbb\xbf" + json.dumps(line).encode(), {**line, "id": "\udc80"})

    assert job.rank() == 0

    lines = [json.loads(line) for line in job.output.read_text().split("\n")[:-1]]
    assert {line["id"] for line in lines} == {"é\u2028", "\udc80"}
    assert all(line["results"][0]["index"] == 1 for line in lines)


def test_images_and_videos(job, emulator):
    """Media go by URL, as queries too, and a text together with its image is one document."""
    car = {"image": "https://pictures.example/red-car.png"}
    documents = [
        {"id": "v", "video": "https://pictures.example/green-tea.mp4"},
        {"id": "i", **car},
        {"id": "b", "text": "tea", "image": "https://pictures.example/tea.png"},
    ]
    job.write({"query": car, "documents": documents})

    assert job.rank("--model", "qwen3-vl-rerank") == 0

    assert job.ranked[1]["results"][0]["id"] == "i"
    assert len(emulator.log[0].body["input"]["documents"]) == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8: byte 1"),
        (b"[1]", "not an object"),
        (b"[" * 100_000, "nested too deeply"),
        ({"query": "q"}, 'needs "query" and "documents"'),
        ({"query": "q", "documents": "text"}, "must be a list"),
        ({"query": 3, "documents": []}, '"query" must be a text'),
        ({"query": {"image": "/etc/passwd"}, "documents": []}, "the query: url must begin"),
        ({"query": {"image": "https://h/a.png", "text": "q"}, "documents": []}, '"query" must be'),
        ({"query": "q", "documents": [1]}, "document 0 must be a text or an object"),
        ({"query": "q", "documents": ["a", {"txt": "b"}]}, 'document 1 needs "text"'),
        ({"query": "q", "documents": [{"text": 1}]}, '"text" of document 0 must be'),
        ({"query": "q", "documents": [{"id": [], "text": "t"}]}, '"id" of document 0'),
        ({"query": "q", "documents": [{"video": "file:///v.mp4"}]}, "a Video takes"),
        ({"id": True, "query": "q", "documents": []}, '"id" of the line'),
        ({"query": " ", "documents": ["a"]}, "query is blank"),
    ],
)
def test_a_bad_line_is_noted_and_the_rest_goes_on(job, capfd, line, reason):
    """It goes to --errors with its number and reason; the exit code says that lines failed."""
    job.write(RED, line, RED)

    assert job.rank() == 4

    assert set(job.ranked) == {1, 3}
    [(number, noted)] = job.failed.items()
    assert number == 2
    assert reason in noted["reason"]
    assert noted["error"] in ("InvalidLine", "RequestError")
    assert f"what failed is in {job.errors}" in capfd.readouterr().err


def test_a_line_of_any_length(job, monkeypatch):
    """A line without an end does not fill the memory."""
    monkeypatch.setattr("qwen_rerank.cli._lines.LONGEST", 1000)
    job.write(RED, b"x" * 5000, RED, b"y" * 3000)

    assert job.rank() == 4

    assert set(job.ranked) == {1, 3}
    assert [noted["reason"] for noted in job.failed.values()] == [
        "the line is longer than 1,000 bytes"
    ] * 2


def test_ids_that_a_run_cannot_hold(job):
    """In a TREC run an id has no white space and stands once; places stand for missing ids."""
    twice = [{"id": "d", "text": "a"}, {"id": "d", "text": "b"}]
    job.write(
        RED | {"id": "a b"},
        {"query": "q", "documents": twice},
        {"query": "q", "documents": [{"id": "", "text": "a"}]},
        RED,
    )

    assert job.rank("--format", "trec") == 4

    assert set(job.failed) == {1, 2, 3}
    assert job.output.read_text() == "4 Q0 1 1 2 qwen3-rerank\n4 Q0 0 2 1 qwen3-rerank\n"


def test_an_id_stands_in_a_run_once(job):
    """Two lists of one id, in whatever runs they are ranked, are not mixed into one."""
    named = [RED | {"id": "a"}, RED | {"id": 3}]
    job.write(*named)
    assert job.rank("--format", "trec") == 0

    job.write(*named, RED, RED | {"id": "a"}, RED)
    assert job.rank("--format", "trec", "--resume") == 4

    assert {number: each["reason"] for number, each in job.failed.items()} == {
        3: "an id of another line, '3', cannot stand in a TREC run again",
        4: "an id of another line, 'a', cannot stand in a TREC run again",
    }
    assert sorted(line.split()[0] for line in job.output.read_text().splitlines()) == [*"3355aa"]
