"""What has to hold before a release, on every Python that this machine has: `nox --list`.

The tests never see the source tree here: they come from the sdist, the packages from the wheel.
"""

import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
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
# Releases of the frameworks between the lowest and the newest that people still have.
OLDER = (
    *(f"langchain-core=={each}" for each in ("0.3.80", "1.0.0", "1.2.0", "1.3.0")),
    *(f"llama-index-core=={each}" for each in ("0.14.0", "0.14.10")),
)
# What the tests take beside them: newer ones do not know older frameworks, or make them warn.
OF_THEN = (
    "langgraph-checkpoint<4.1",
    "langgraph-prebuilt<1.0.3",
    "langsmith<0.5",
    "openinference-instrumentation-llama-index<4.4",
    "pydantic<2.12",
)
# What only the newest releases are asked for: they show what a new installation brings.
SHOWS = ("tests/docs", "tests/test_examples*.py", "tests/test_notebooks.py")
# Beside those of make check; resolving these takes too long for that. Without its bound an old
# TruLens would do, which asks for nothing.
NEIGHBOURS = ("trulens>=2", "langfuse", "mlflow", "deepeval")
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
@nox.parametrize("frameworks", [nox.param(each, id=each) for each in FRAMEWORKS if each != "both"])
def lowest(session: nox.Session, frameworks: str) -> None:
    """Run the tests against the wheel with the lowest dependencies that pyproject.toml allows.

    With a framework that is its lowest release, and of the rest what that itself asks for.
    """
    chosen = FRAMEWORKS[frameworks]
    groups = [EXTRAS[each] for each in chosen] or [PROJECT["project"]["dependencies"]]
    if not chosen:
        groups += [each for name, each in EXTRAS.items() if name not in FRAMEWORKS]
    pins = [
        f"{each.name}=={bound.version}"
        for each in map(Requirement, chain.from_iterable(groups))
        for bound in each.specifier
        if bound.operator == ">="
    ]
    asked = ["tests/frameworks"] if chosen else [f"--ignore-glob=*/{each}" for each in SHOWS]
    _test(session, chosen, pins=[*pins, *OF_THEN], default=asked)


@nox.session(python=PYTHONS[0], requires=["build"])
@nox.parametrize("release", [nox.param(each, id=each) for each in OLDER])
def older(session: nox.Session, release: str) -> None:
    """Run the tests of a framework's package with an older release of that framework."""
    framework = release.partition("-core")[0]
    _test(session, [framework], pins=[release, *OF_THEN], default=["tests/frameworks"])


@nox.session(requires=["build"])
def neighbours(session: nox.Session) -> None:
    """Find out whether all extras can be installed beside what people measure and trace with."""
    wanted = f"{PROJECT['project']['name']}[all] @ {_built('*.whl').as_uri()}"
    session.install("--dry-run", "--ignore-installed", wanted, *NEIGHBOURS)


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


def _test(
    session: nox.Session,
    frameworks: list[str],
    *,
    pins: Sequence[str] = (),
    default: Sequence[str] = (),
) -> None:
    """Run the tests of the sdist; the packages beside them are removed, so the wheel's are used."""
    extras = ["cli", "emulator", "evaluate", "images", "plots", "socks", *frameworks]
    groups = ["dev"] if len(frameworks) == 2 else ["test", *(f"test-{each}" for each in frameworks)]
    with TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins))
        _install(session, extras, groups, "--constraint", constraints, pins=pins)

    with TemporaryDirectory() as folder:  # not below the source tree, whose settings pytest finds
        shutil.unpack_archive(_built("*.tar.gz"), folder, filter="data")
        (root,) = Path(folder).iterdir()
        for name in PACKAGES:
            shutil.rmtree(root / name)
        session.chdir(root)
        asked = session.posargs or ["--numprocesses=auto", "--dist=worksteal", *default]
        session.run("pytest", *asked)


def _install(
    session: nox.Session,
    extras: list[str],
    groups: list[str],
    *more: str | Path,
    pins: Sequence[str] = (),
) -> None:
    wheel = _built("*.whl")
    wanted = nox.project.dependency_groups(PROJECT, *groups)
    if any(each.startswith("langchain-core==0.") for each in pins):  # it was LangChain itself then
        wanted = [each for each in wanted if not each.startswith("langchain-classic")]
    package = f"{PROJECT['project']['name']}[{','.join(extras)}] @ {wheel.as_uri()}"
    session.install("--no-compile", package, *wanted, *more)  # as in the Makefile
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
