"""The recipe for Ray Data, run on two local workers: `make ray`.

Ray itself is seen only from outside, as a user's script sees it: starting it takes some 15 seconds.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SCRIPT = Path(__file__).parents[1] / "examples" / "ray_data.py"


@pytest.fixture(name="run")
def _run(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the script and returns what it put out."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  our own interpreter, our own script
            [sys.executable, str(SCRIPT), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | variables,
        )

    return run


@pytest.fixture(name="service")
def _service(emulator) -> dict[str, str]:
    """The variables that make the emulator the service."""
    return {"DASHSCOPE_API_KEY": emulator.api_key, "DASHSCOPE_BASE_URL": emulator.base_url}


def written(folder: Path) -> list[dict]:
    """The rows of the JSONL files in *folder*."""
    files = sorted(folder.glob("*.json*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_without_arguments(run):
    """It makes up lists, and up to two workers rank them; Ray reports nothing home."""
    done = run()

    assert done.returncode == 0, done.stderr
    assert re.search(r"^64 lists, [\d,]+ tokens, 0 without an answer, [12] workers", done.stdout)
    assert "Usage stats collection is enabled" not in done.stdout + done.stderr


def test_a_file(run, emulator, service, tmp_path):
    """Every list comes back once, in order, with the key of the worker's environment."""
    lists = [
        {"query": f"platform {number}", "documents": ["tea", f"to platform {number}", "platform"]}
        for number in range(60)
    ]
    lists[7]["query"] = " "
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lists))
    done = run("--live", "in.jsonl", "out", **service)

    assert done.returncode == 0, done.stderr
    rows = written(tmp_path / "out")
    assert sorted(row["query"] for row in rows) == sorted(row["query"] for row in lists)
    for row in rows:
        blank = row["query"] == " "
        assert row["order"] == ([0, 1, 2] if blank else [1, 2, 0])
        assert row["problem"] == ("RequestError: query is blank" if blank else "")
    assert len(emulator.log) == 59
    assert sum(row["tokens"] for row in rows) == sum(request.tokens for request in emulator.log)


def test_the_rate_is_of_all_workers_together(run, emulator, service):
    """Sixty-four lists at eight a second take eight seconds, and both workers have their share."""
    done = run("--live", "--rate", "8", **service)
    taken = float(re.search(r"([\d.]+) s with their start", done.stdout)[1])

    assert "2 workers" in done.stdout
    assert len(emulator.log) == 64
    assert taken > 7


def test_a_refused_key_ends_the_job(run, service):
    """A key that is not the service's ends in its error, not in a million empty answers."""
    done = run("--live", **(service | {"DASHSCOPE_API_KEY": "sk-0123456789abcdef"}))

    assert done.returncode == 1
    assert "AuthenticationError: Invalid API-key provided." in done.stderr.splitlines()[-2]
    assert done.stderr.splitlines()[-1].startswith("A key works only in its own region")
    assert "sk-0123456789abcdef" not in done.stdout + done.stderr
