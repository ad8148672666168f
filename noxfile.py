"""What has to hold before a release, on every Python that this machine has: `nox --list`.

The tests never see the source tree here: they come from the sdist, the packages from the wheel.
"""

import os
import shutil
import subprocess
import tarfile
import zipfile
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.5.1"  # requires=

PROJECT = nox.project.load_toml("pyproject.toml")
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
PYTHONS = nox.project.python_versions(PROJECT)
EXTRAS = PROJECT["project"]["optional-dependencies"]
FRAMEWORKS = {
    "both": ["langchain", "llama-index"],
    "langchain": ["langchain"],
    "llama-index": ["llama-index"],
    "none": [],
}
DIST = Path("dist").resolve()

if shutil.which("pyenv") and "PYENV_VERSION" not in os.environ:
    # Without a version chosen, pyenv's python3.x commands only complain.
    listed = subprocess.run(["pyenv", "versions", "--bare"], check=True, capture_output=True)  # noqa: S607
    os.environ["PYENV_VERSION"] = ":".join(reversed(listed.stdout.decode().split()))


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it, into dist/."""
    session.install("build")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", DIST)


@nox.session(requires=["build"])
def package(session: nox.Session) -> None:
    """Check what is in the wheel and the sdist, and that an index can show them."""
    session.install("twine")
    session.run("twine", "check", "--strict", *DIST.iterdir())

    tracked = set(session.run("git", "ls-files", external=True, silent=True).splitlines())
    ours = {name for name in tracked if name.partition("/")[0] in PACKAGES}
    with zipfile.ZipFile(_built("*.whl")) as wheel:
        packed = set(wheel.namelist())
    info = {name for name in packed if ".dist-info/" in name}
    _same(session, "the wheel", packed - info, ours)
    if not any(name.endswith("/licenses/LICENSE") for name in info):
        session.error("the wheel has no LICENSE")
    with tarfile.open(_built("*.tar.gz")) as sdist:
        packed = {each.name.partition("/")[2] for each in sdist if each.isfile()}
    # What is not for those who get an sdist: this repository's own machinery.
    left_out = {name for name in tracked if name.startswith((".ci/", ".github/"))}
    _same(session, "the sdist", packed, (tracked - left_out) | {"PKG-INFO"})


@nox.session(python=PYTHONS, requires=["build"])
@nox.parametrize("frameworks", [nox.param(each, id=each) for each in FRAMEWORKS])
def tests(session: nox.Session, frameworks: str) -> None:
    """Run the tests against the wheel, with these frameworks and no other."""
    _test(session, FRAMEWORKS[frameworks])


@nox.session(python=PYTHONS[0], requires=["build"])
def lowest(session: nox.Session) -> None:
    """Run the tests against the wheel with the lowest dependencies that pyproject.toml allows."""
    groups = [PROJECT["project"]["dependencies"], *EXTRAS.values()]
    wanted = map(Requirement, chain.from_iterable(groups))
    pins = [
        f"{each.name}=={bound.version}"
        for each in wanted
        for bound in each.specifier
        if bound.operator == ">="
    ]
    with TemporaryDirectory() as folder:
        constraints = Path(folder) / "lowest.txt"
        constraints.write_text("\n".join(pins))
        _test(session, FRAMEWORKS["both"], "--constraint", constraints)


@nox.session(requires=["build"])
def types(session: nox.Session) -> None:
    """Check with mypy and pyright what a user's type checker sees of the wheel."""
    _install(session, ["all"], ["test"])
    session.install("mypy", "pyright[nodejs]")
    session.chdir("tests/typing")  # where neither finds the source tree, nor its settings
    session.run("mypy", "--strict", "--config-file=", ".")
    session.run("pyright")
    for name in PACKAGES:
        session.run("pyright", "--verifytypes", name, "--ignoreexternal")


def _test(session: nox.Session, frameworks: list[str], *options: str | Path) -> None:
    """Run the tests of the sdist; the packages beside them are removed, so the wheel's are used."""
    tools = [each for each in EXTRAS["all"] if not each.startswith(PROJECT["project"]["name"])]
    extras = ["images", "emulator", "socks", *frameworks]
    groups = ["dev"] if len(frameworks) == 2 else ["test", *(f"test-{each}" for each in frameworks)]
    _install(session, extras, groups, *tools, *options)

    with TemporaryDirectory() as folder:  # not below the source tree, whose settings pytest finds
        shutil.unpack_archive(_built("*.tar.gz"), folder, filter="data")
        (root,) = Path(folder).iterdir()
        for name in PACKAGES:
            shutil.rmtree(root / name)
        session.chdir(root)
        session.run("pytest", *(session.posargs or ["--numprocesses=auto", "--dist=worksteal"]))


def _install(session: nox.Session, extras: list[str], groups: list[str], *more: str | Path) -> None:
    wheel = _built("*.whl")
    wanted = nox.project.dependency_groups(PROJECT, *groups)
    session.install(
        f"{PROJECT['project']['name']}[{','.join(extras)}] @ {wheel.as_uri()}", *wanted, *more
    )
    session.install("--force-reinstall", "--no-deps", wheel)  # nox -r keeps environments


def _built(pattern: str) -> Path:
    (built,) = DIST.glob(pattern)
    return built


def _same(session: nox.Session, what: str, found: set[str], expected: set[str]) -> None:
    """End the session if the two sets differ."""
    if found != expected:
        session.error(
            f"{what} lacks {sorted(expected - found)} and has {sorted(found - expected)} too much"
        )
