"""The release checklist, in repositories that are ready and in such as are not."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "release.py"


PROJECT = """\
[project]
version = "1.2.0"

[tool.qwen-rerank]
published = true
"""


@pytest.fixture(name="script", scope="module")
def _script():
    sys.path.insert(0, str(SCRIPT.parent))  # install_lines lies beside it
    spec = importlib.util.spec_from_file_location("release", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="git")
def _git(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
        subprocess.run(  # noqa: S603  our own words
            ["git", *identity, *arguments],  # noqa: S607  whichever git there is
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    return git


@pytest.fixture(name="repository")
def _repository(tmp_path, git):
    """One that is ready to be released as 1.2.0."""
    (tmp_path / "qwen_rerank").mkdir()
    (tmp_path / "qwen_rerank/__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.0 (2026-12-31)\n\n- All.\n")
    git("init", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--message=all")
    return tmp_path


def _write(file, text):
    return lambda repository, git: (
        (repository / file).write_text(text),
        git("commit", "--all", "--message=changed"),
    )


_NOT_READY = {
    "an older changelog": (_write("CHANGELOG.md", "## 1.1.0 (2026-01-01)\n"), "begins with 1.1.0"),
    "no date": (_write("CHANGELOG.md", "## 1.2.0 (unreleased)\n"), "has (unreleased) where"),
    "no entry": (_write("CHANGELOG.md", "# Changelog\n"), "has no entry"),
    "another version": (_write("qwen_rerank/__init__.py", '__version__ = "1.1.0"'), "is not 1.2.0"),
    "pages of a clone": (
        _write("pyproject.toml", PROJECT.replace("true", "false")),
        "install from a clone: python scripts/release.py --publish",
    ),
    "a new file": (lambda repository, _: (repository / "x").touch(), "not clean:\n?? x"),
    "another branch": (lambda _, git: git("switch", "--create=other"), "branch other, not main"),
    "a detached head": (lambda _, git: git("switch", "--detach"), "branch (none), not main"),
    "a tag": (lambda _, git: git("tag", "v1.2.0"), "v1.2.0 is there already"),
}


def test_ready(script, repository):
    """A clean main branch whose version, changelog and package agree has no problem."""
    assert list(script.problems(repository)) == []


@pytest.mark.parametrize(("change", "said"), _NOT_READY.values(), ids=_NOT_READY)
def test_not_ready(script, repository, git, change, said):
    """Each thing that is not as it has to be is named."""
    change(repository, git)

    (problem,) = script.problems(repository)

    assert said in problem


def test_the_pages_are_turned(script, repository, git, monkeypatch):
    """With --publish every install line names the release, and nothing else changes."""
    (repository / "pyproject.toml").write_text(PROJECT.replace("true", "false"))
    (repository / "README.md").write_text(
        "It is not on the package index yet, so pages install it from a clone;\n"
        "name it as `qwen-rerank[cli] @ file:///path/of/a/clone`. Pages have `qwen-rerank[cli]`.\n"
        "From a clone of the project:\n\n"
        'pip install ".[emulator]" numpy\n'
        "`pip install .` pip install ./other .[dot]\n"
    )
    before = (repository / "README.md").read_text()
    git("add", "--all")
    git("commit", "--message=from a clone")
    monkeypatch.setattr(script, "ROOT", repository)

    assert script.main("--publish") == 0
    assert (repository / "pyproject.toml").read_text() == PROJECT
    assert (repository / "README.md").read_text() == (
        "Pages install it from the package index;\n"
        "name it as `qwen-rerank[cli]`. Pages have `qwen-rerank[cli]`.\n"
        "From the package index:\n\n"
        'pip install "qwen-rerank[emulator]" numpy\n'
        "`pip install qwen-rerank` pip install ./other .[dot]\n"
    )
    assert [each.split(":")[0] for each in script.problems(repository)] == ["the tree is not clean"]
    script.install_lines.turn(repository, index=False)
    assert (repository / "README.md").read_text() == before


def test_it_stops_before_anything_is_run(script, repository, git, monkeypatch, capsys):
    """While a question is open no command is run."""
    git("tag", "v1.2.0")
    monkeypatch.setattr(script, "ROOT", repository)
    monkeypatch.setattr(script, "COMMANDS", (("touch", "ran"),))

    assert script.main() == 1
    assert not (repository / "ran").exists()
    assert "Not yet:\n- the tag v1.2.0" in capsys.readouterr().out


def test_a_command_that_fails_ends_it(script, repository, monkeypatch, capsys):
    """The first command that fails is the last."""
    monkeypatch.setattr(script, "ROOT", repository)
    monkeypatch.setattr(script, "COMMANDS", (("false",), ("touch", "ran")))

    assert script.main() == 1
    assert not (repository / "ran").exists()
    assert capsys.readouterr().out.endswith("Not yet: false failed\n")


def test_what_is_left(script, repository, monkeypatch, capsys):
    """In the end it says what only people can do, with the version filled in."""
    monkeypatch.setattr(script, "ROOT", repository)
    monkeypatch.setattr(script, "COMMANDS", (("touch", "ran"),))

    assert script.main() == 0
    assert (repository / "ran").exists()
    assert "git tag --annotate v1.2.0" in capsys.readouterr().out
