"""`qwen-rerank rerank`: what a line may be, and what is written of it."""

import json

import pytest
from bulk_files import RED, rank, read, write


def test_the_shape_of_a_line(tmp_path, capfd):
    """A line of output has the input's line and ids, every document best first, and the bill."""
    out = tmp_path / "out"
    source = write(
        tmp_path / "in",
        {"id": "q", "query": "a red car", "documents": [{"id": 7, "text": "tea"}, "", "a red car"]},
        b"",
        RED,
    )

    assert rank(source, out) == 0

    found = read(out)
    assert set(found) == {1, 3}  # 2 is blank
    assert found[1]["id"] == "q"
    assert [hit["index"] for hit in found[1]["results"]] == [2, 0, 1]
    assert found[1]["results"][1]["id"] == 7
    assert found[1]["results"][2] == {"index": 1, "score": None}
    assert found[1]["model"] == "qwen3-rerank"
    assert found[1]["tokens"] > 0
    assert "id" not in found[3]
    assert capfd.readouterr().err.startswith("qwen-rerank rerank: 2 lines ranked, ")


def test_any_text(tmp_path):
    """Any script, a lone surrogate, a byte order mark and line separators are no trouble."""
    out = tmp_path / "out"
    line = {
        "id": "é\u2028",
        "query": "红色的车",
        "documents": ["绿茶\u2028", "红色的车 🚗", "\udc80"],
    }
    source = tmp_path / "in"
    write(source, b"\xef\xbb\xbf" + json.dumps(line).encode(), {**line, "id": "\udc80"})

    assert rank(source, out) == 0

    lines = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert {line["id"] for line in lines} == {"é\u2028", "\udc80"}
    assert all(line["results"][0]["index"] == 1 for line in lines)


def test_images_and_videos(tmp_path, emulator):
    """Media go by URL, as queries too, and a text together with its image is one document."""
    out = tmp_path / "out"
    source = write(
        tmp_path / "in",
        {
            "query": {"image": "https://pictures.example/red-car.png"},
            "documents": [
                {"id": "v", "video": "https://pictures.example/green-tea.mp4"},
                {"id": "i", "image": "https://pictures.example/red-car.png"},
                {"id": "b", "text": "tea", "image": "https://pictures.example/tea.png"},
            ],
        },
    )

    assert rank(source, out, "--model", "qwen3-vl-rerank") == 0

    assert read(out)[1]["results"][0]["id"] == "i"
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
        ({"query": {"image": "https://h/a.png", "video": "v"}, "documents": []}, '"query" must be'),
        ({"query": "q", "documents": [1]}, "document 0 must be a text or an object"),
        ({"query": "q", "documents": ["a", {"txt": "b"}]}, 'document 1 needs "text"'),
        ({"query": "q", "documents": [{"text": 1}]}, '"text" of document 0 must be'),
        ({"query": "q", "documents": [{"id": [], "text": "t"}]}, '"id" of document 0'),
        ({"query": "q", "documents": [{"video": "file:///v.mp4"}]}, "a Video takes"),
        ({"id": True, "query": "q", "documents": []}, '"id" of the line'),
        ({"query": " ", "documents": ["a"]}, "query is blank"),
    ],
)
def test_a_bad_line_is_noted_and_the_rest_goes_on(tmp_path, capfd, line, reason):
    """It goes to --errors with its number and reason; the exit code says that lines failed."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", RED, line, RED)

    assert rank(source, out, "--errors", str(errors)) == 4

    assert set(read(out)) == {1, 3}
    noted = read(errors)
    assert set(noted) == {2}
    assert reason in noted[2]["reason"]
    assert noted[2]["error"] in ("InvalidLine", "RequestError")
    assert f"what failed is in {errors}" in capfd.readouterr().err


def test_a_line_of_any_length(tmp_path, monkeypatch):
    """A line without an end does not fill the memory."""
    monkeypatch.setattr("qwen_rerank.cli._lines.LONGEST", 1000)
    out, errors = tmp_path / "out", tmp_path / "errors"
    source = write(tmp_path / "in", RED, b"x" * 5000, RED, b"y" * 3000)

    assert rank(source, out, "--errors", str(errors)) == 4

    assert set(read(out)) == {1, 3}
    assert [noted["reason"] for noted in read(errors).values()] == [
        "the line is longer than 1,000 bytes"
    ] * 2


def test_ids_that_a_run_cannot_hold(tmp_path):
    """In a TREC run an id has no white space and stands once; places stand for missing ids."""
    out, errors = tmp_path / "out", tmp_path / "errors"
    twice = [{"id": "d", "text": "a"}, {"id": "d", "text": "b"}]
    source = write(
        tmp_path / "in",
        RED | {"id": "a b"},
        {"query": "q", "documents": twice},
        {"query": "q", "documents": [{"id": "", "text": "a"}]},
        RED,
    )

    assert rank(source, out, "--format", "trec", "--errors", str(errors)) == 4

    assert set(read(errors)) == {1, 2, 3}
    assert out.read_text() == "4 Q0 1 1 2 qwen3-rerank\n4 Q0 0 2 1 qwen3-rerank\n"


def test_an_id_stands_in_a_run_once(tmp_path):
    """Two lists of one id, in whatever runs they are ranked, are not mixed into one."""
    source, out, errors = tmp_path / "in", tmp_path / "out", tmp_path / "errors"
    arguments = ["--format", "trec", "--errors", str(errors), "--resume"]
    write(source, RED | {"id": "a"}, RED | {"id": 3})
    assert rank(source, out, *arguments) == 0

    write(source, RED | {"id": "a"}, RED | {"id": 3}, RED, RED | {"id": "a"}, RED)
    assert rank(source, out, *arguments) == 4

    assert {number: each["reason"] for number, each in read(errors).items()} == {
        3: "an id of another line, '3', cannot stand in a TREC run again",
        4: "an id of another line, 'a', cannot stand in a TREC run again",
    }
    assert sorted(line.split()[0] for line in out.read_text().splitlines()) == [*"3355aa"]
