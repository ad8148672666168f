"""Fails every test that prints, logs, pickles, dumps or stores the emulator's API key.

A pytest plugin. The emulator that the tests share is started with `CANARY` as its key, and nothing
that a test run puts out may hold that text: standard output and error, what child processes print,
log records of every library down to DEBUG, warnings, pickles, JSON, errors that a test expects and
all that pydantic's hold of anybody's models, the account of a failure, and the files below
``tmp_path``. Only the wire may. What is found is masked in the report, so that not even
that shows the key.
"""

import functools
import json
import logging
import pickle
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import cloudpickle
import pydantic
import pytest

CANARY = "sk-canary-that-nobody-may-ever-see-4f1d8c"
_MASK = "[the API key]"
_WIRE = "qwen_rerank.emulator._wire"  # writes what a server answers, which may quote the key
_FILE = 32 * 2**20  # bytes; nothing a test stores is larger


class Watch:
    """Looks for one secret in all that passes by, while it is installed.

    Args:
        secret: What must not be seen.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._patches = pytest.MonkeyPatch()
        self.leaks: list[str] = []
        self.debug = True
        """Whether records below a logger's own level are looked at too, which takes time."""

    def look(self, where: str, what: object) -> None:
        """Notes a leak if *what* (text, bytes, or anything, by its repr) holds the secret."""
        text = what.decode("latin-1") if isinstance(what, bytes | bytearray) else what
        text = text if isinstance(text, str) else repr(text)
        if self._secret in text:
            at = text.index(self._secret)
            self.leaks.append(f"{where}: ...{self.masked(text[max(0, at - 60) : at + 100])}...")

    def masked(self, text: str) -> str:
        """*text* without the secret."""
        return text.replace(self._secret, _MASK)

    def taken(self) -> list[str]:
        """The leaks so far, each once; they are forgotten."""
        leaks, self.leaks = list(dict.fromkeys(self.leaks)), []
        return leaks

    def look_below(self, folder: Path) -> None:
        """Looks into every file below *folder*; one that is the key and no more is a key file."""
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file() and not path.is_symlink() and path.stat().st_size < _FILE:
                held = path.read_bytes()
                if held.strip() != self._secret.encode():
                    self.look(f"the file {path.name}", held)

    def __enter__(self) -> Self:
        """Installs the watch, in the whole process."""
        for owner, name in (
            (pickle, "dumps"),
            (cloudpickle, "dumps"),
            (cloudpickle.cloudpickle, "dumps"),
            (json, "dumps"),
            (pydantic.BaseModel, "model_dump_json"),
            (subprocess.Popen, "communicate"),
            (pytest.CaptureFixture, "readouterr"),
        ):
            self._tap(owner, name)
        self._tap_warnings()
        self._tap_logs()
        self._tap_raises()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the watch away."""
        self._patches.undo()

    def _tap(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def tapped(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if sys._getframe(1).f_globals.get("__name__") != _WIRE:
                self._look_at(f"what {owner.__name__}.{name} returned", result)
            return result

        self._patches.setattr(owner, name, tapped)

    def _look_at(self, where: str, result: object) -> None:
        for each in result if isinstance(result, tuple) else (result,):
            if isinstance(each, str | bytes):
                self.look(where, each)

    def _tap_warnings(self) -> None:
        # Every warning that is shown or recorded passes here; one that is an error is raised.
        original = warnings.WarningMessage.__init__

        def tapped(message: Any, *arguments: Any, **options: Any) -> None:
            original(message, *arguments, **options)
            self.look("a warning", str(message))

        self._patches.setattr(warnings.WarningMessage, "__init__", tapped)

    def _tap_logs(self) -> None:
        # Instead of a handler and a lower level, which other tests' caplog would notice: loggers
        # are made to speak, and what would have been below their level goes no further than here.
        enabled, handle = logging.Logger.isEnabledFor, logging.Logger.handle

        def is_enabled_for(logger: logging.Logger, level: int) -> bool:
            return self.debug or enabled(logger, level)

        def tapped(logger: logging.Logger, record: logging.LogRecord) -> None:
            goes_on = max(logger.getEffectiveLevel(), logging.root.manager.disable + 1)
            if self.debug or record.levelno >= goes_on:
                self.look(f"the log of {record.name}", _all_of(record))
            if record.levelno >= goes_on:
                handle(logger, record)

        self._patches.setattr(logging.Logger, "isEnabledFor", is_enabled_for)
        self._patches.setattr(logging.Logger, "handle", tapped)

    def _tap_raises(self) -> None:
        # Nobody else sees what pydantic's errors hold: their class is not to be changed.
        original = pytest.RaisesExc.__exit__

        def tapped(
            raises: Any, kind: Any, error: BaseException | None, at: types.TracebackType | None
        ) -> bool:
            if error is not None:
                self.look(f"an expected {type(error).__name__}", _said_by(error))
            return original(raises, kind, error, at)

        self._patches.setattr(pytest.RaisesExc, "__exit__", tapped)


def _said_by(error: BaseException) -> str:
    """What *error* can be made to say."""
    said = f"{error}\n{error!r}"
    if not isinstance(error, pydantic.ValidationError):
        return said
    try:
        return f"{said}\n{error.errors()}\n{error.json()}"
    except ValueError:  # not all that can be given can be JSON
        return f"{said}\n{error.errors()}"


def _all_of(record: logging.LogRecord) -> str:
    """What any formatter could make of *record*."""
    try:
        said = record.getMessage()
    except Exception:  # noqa: BLE001  a broken record shows its arguments
        said = ""
    traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
    return f"{said}\n{vars(record)}\n{traceback}"


_watch = Watch(CANARY)


@pytest.fixture(scope="session", name="canary")
def _canary() -> str:
    """The key that the emulator of the tests is started with, and that nobody may see."""
    return CANARY


def pytest_configure() -> None:
    """Begins to watch."""
    _watch.__enter__()


def pytest_unconfigure() -> None:
    """Ends it."""
    _watch.__exit__()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Tests marked slow send too many requests to read every log record of each."""
    _watch.debug = item.get_closest_marker("slow") is None
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """Fails the phase that leaked; what it captured is masked, whether that was seen or not."""
    report: pytest.TestReport = yield
    for name, captured in report.sections:
        _watch.look(name, captured)
    # What was masked then is in the item still, and would be found again in the next phase.
    item._report_sections[:] = [
        (when, key, _watch.masked(captured)) for when, key, captured in item._report_sections
    ]
    report.sections = [(name, _watch.masked(captured)) for name, captured in report.sections]
    _watch.look("the account of the failure", report.longreprtext)
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if call.when == "call" and folder is not None:
        _watch.look_below(folder)
    if leaks := _watch.taken():
        said = _watch.masked(report.longreprtext)
        report.outcome = "failed"
        report.longrepr = "\n".join([said, "The API key was seen in", *leaks]).strip()
    return report
