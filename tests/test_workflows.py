"""The workflows run what contributors run: commands of the Makefile and sessions of noxfile.py."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"

pytestmark = pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="an sdist has no workflows")


def _jobs():
    for file in sorted(WORKFLOWS.glob("*.yml")):
        workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            yield f"{file.stem}.{name}", job


def test_every_python_of_the_classifiers_is_tested():
    """The matrix has the Pythons that pyproject.toml promises."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [
        name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)
    ]

    assert dict(_jobs())["ci.nox"]["strategy"]["matrix"]["python"] == promised


def test_every_command_is_there():
    """Each `make` target and each nox session that a job runs exists."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "--json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    sessions = {each[key] for each in json.loads(listed.stdout) for key in ("name", "session")}
    jobs = dict(_jobs())
    matrix = jobs["ci.nox"]["strategy"]["matrix"]
    once = jobs["ci.nox-once"]["strategy"]["matrix"]["include"]

    assert set(jobs["ci.make"]["strategy"]["matrix"]["target"]) <= targets
    assert {each["session"] for each in once} <= sessions
    assert {
        f"tests-{python}({frameworks})"
        for python in matrix["python"]
        for frameworks in matrix["frameworks"]
    } <= sessions


def test_actions_are_pinned_and_jobs_end():
    """Every action has a version, every job a limit, and the checkout keeps no credentials."""
    for name, job in _jobs():
        assert job["timeout-minutes"] <= 45, name
        for step in job["steps"]:
            used = step.get("uses", "")
            assert not used or re.search(r"@(v\d+|release/v\d+)$", used), used
            if used.startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}


def test_continuous_integration_runs_what_the_readme_says():
    """The README's own test command is a line of .ci/run, under ``set -e``."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert re.search(r"^```shell\n(?:make .*\n)*make test\n", readme, re.MULTILINE)
    assert {"set -euo pipefail", "make test"} <= set(lines)


def test_the_demo_installs_what_it_needs(tmp_path):
    """In a fresh clone it installs its own extra and says so; after `make test` nothing more."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def steps(target):
        command = ["make", "--no-print-directory", "--dry-run", target]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603  our own
        return done.stdout

    assert re.findall(r"--editable '(.*?)'(.*) --progress", steps("demo")) == [(".[demo]", "")]
    assert steps("demo").index("Into .venv") < steps("demo").index("pip install")
    assert "--editable '.[all]' --group dev" in steps("test")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed").touch()
    assert steps("demo") == ".venv/bin/qwen-rerank demo\n"
