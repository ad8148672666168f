"""The watch over the API key sees every kind of leak: a check that cannot fail is none."""

import json
import logging
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from secrets_watch import CANARY, Watch

_OTHER = "sk-another-secret-1b7e"

# Tests that leak, each in a way of its own. The key is not spelled out: these are stored and shown.
_PLANTED = {
    "stdout": "print(CANARY)",
    "capsys": "read = request.getfixturevalue('capsys').readouterr; print(CANARY); read()",
    "child": "subprocess.run(['echo', CANARY], capture_output=True)",
    "log_message": "logging.getLogger('httpcore.http11').debug('sent %s', CANARY)",
    "log_extra": "logging.getLogger('any').debug('sent', extra={'headers': {'a': CANARY}})",
    "log_error": "failing(logging.getLogger('asyncio').exception)",
    "log_broken": "tell(logging.getLogger('httpx').handle, '%d', CANARY)",
    "warning_recorded": "with pytest.warns(UserWarning): warnings.warn(CANARY)",
    "pickle": "pickle.dumps({'api_key': CANARY}, 0)",
    "cloudpickle": "key = CANARY; cloudpickle.dumps(lambda: key)",
    "json": "json.dumps([CANARY])",
    "pydantic": "Model(key=CANARY).model_dump_json()",
    "model_of_others": "with pytest.raises(ValueError): Theirs(models=[{'key': [CANARY] * 9}])",
    "expected_error": "with pytest.raises(ValueError): int(CANARY)",
    "file": "(tmp_path / 'deep').mkdir(); (tmp_path / 'deep' / 'x').write_text('key=' + CANARY)",
    "failure_local": "headers = {'authorization': CANARY}; assert not headers",
    "setup": "request.getfixturevalue('talkative_before')",
    "teardown": "request.getfixturevalue('talkative_after')",
}
_CLEAN = {
    "another_key": "print('sk-emulator'); json.dumps('sk-emulator'); pickle.dumps('sk-emulator')",
    "key_file": "(tmp_path / 'api_key').write_text(CANARY + '\\n')",
    "model_of_others_clean": "with pytest.raises(ValueError): Theirs(models=[{'key': 7}])",
    "debug_stays_quiet": "logging.getLogger('a').debug('b'); assert caplog.records == []",
    "told_levels_hold": "caplog.set_level('INFO', 'a'); logging.getLogger('a').info('b'); "
    "assert [each.message for each in caplog.records] == ['b']",
}
_HEAD = """
import json, logging, pickle, subprocess, warnings
import cloudpickle, pydantic, pytest
from secrets_watch import CANARY

class Model(pydantic.BaseModel):
    key: str

class Theirs(pydantic.BaseModel):
    models: list[Model]

def tell(handle, *arguments):
    handle(logging.LogRecord('x', 10, 'x', 1, *arguments, None))

def failing(tell):
    try:
        raise ValueError(CANARY)
    except ValueError:
        tell('failed')

@pytest.fixture
def talkative_before():
    print(CANARY)

@pytest.fixture
def talkative_after():
    yield
    print(CANARY)
"""


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], str]:
    """How each of these ended in a run of pytest of its own, and what that run printed."""
    folder = tmp_path_factory.mktemp("planted")
    tests = [
        f"def test_{name}(caplog, tmp_path, request):\n    {code}"
        for name, code in (_PLANTED | _CLEAN).items()
    ]
    (folder / "test_planted.py").write_text("\n\n".join([_HEAD, *tests]))
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "secrets_watch", "-p", "no:asyncio"]
    done = subprocess.run(  # noqa: S603  our own tests
        [*command, f"--basetemp={folder / 'inner'}", "--rootdir", str(folder), str(folder)],
        env={"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    ended: dict[str, set[str]] = {}
    for outcome, name in re.findall(r"(?m)^(PASSED|FAILED|ERROR) \S+::test_(\w+)", done.stdout):
        ended.setdefault(name, set()).add(outcome)
    return ended, done.stdout + done.stderr


def test_a_planted_leak_is_seen(run):
    """A test that lets the key out in any way fails, whatever its assertions say."""
    ended, _ = run

    assert [kind for kind in _PLANTED if not ended[kind] & {"FAILED", "ERROR"}] == []


def test_what_leaks_nothing_passes(run):
    """Another key, a key file, and logging as it was: none of them is a leak."""
    ended, _ = run

    assert [kind for kind in _CLEAN if ended[kind] != {"PASSED"}] == []


def test_the_report_shows_no_key(run):
    """What was seen, and where, is told without the key itself."""
    _, printed = run

    assert CANARY not in printed
    assert printed.count("The API key was seen in") >= len(_PLANTED)
    assert "the log of httpcore.http11: ...sent [the API key]" in printed
    assert "the file x: ...key=[the API key]" in printed


def test_a_watch_is_taken_away_whole():
    """After a watch everything is as before, and nothing is noted any more."""
    before = (pickle.dumps, json.dumps, logging.Logger.handle, logging.Logger.isEnabledFor)

    with Watch(_OTHER) as watch:
        assert pickle.dumps is not before[0]
        assert watch.taken() == []
    json.dumps(_OTHER)

    assert before == (pickle.dumps, json.dumps, logging.Logger.handle, logging.Logger.isEnabledFor)
    assert watch.taken() == []


def test_leaks_are_told_once():
    """The same leak, however often, is one; and what was told is forgotten."""
    with Watch(_OTHER) as watch:
        for _ in range(3):
            json.dumps({"key": _OTHER})

    assert watch.taken() == ['what json.dumps returned: ...{"key": "[the API key]"}...']
    assert watch.taken() == []


def test_without_debug_only_what_is_logged_counts():
    """Where requests are many, records below a logger's level are left alone."""
    with Watch(_OTHER) as watch:
        watch.debug = False
        logging.getLogger("qwen_rerank").debug(_OTHER)
        assert watch.taken() == []
        watch.debug = True
        logging.getLogger("qwen_rerank").debug(_OTHER)

    assert len(watch.taken()) == 1
