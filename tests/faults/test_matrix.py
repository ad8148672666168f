"""Every fault through the core, some through every way in: a right ranking or the table's error.

The other combinations, more than a thousand, are for `make faults-all`.
"""

import inspect
import itertools
from itertools import product

import pytest
from fault_calls import DOORS, MODES, SECRET, WAYS, Bench, Case, Seen
from fault_table import ROWS, SENT_AGAIN, Row
from write_docs import PAGE, comparable, page

import qwen_rerank
from qwen_rerank import DeadlineError, QuotaError, RerankError
from qwen_rerank.emulator import FAULTS

MARGIN = 10.0  # seconds; a busy machine is no bug
# A connection that breaks, a call that is wrong, an account that is empty, and what does no harm.
EXAMPLES = {"reset-mid", "400-model", "403-free-tier", "bom"}
QUICKEST = {"refused", "reset-mid", "503", "429-rate"}


def _unless_left(chosen: bool, *values: object) -> object:
    return pytest.param(*values, marks=() if chosen else pytest.mark.faults_all)


CASES = [
    _unless_left(case.row.name in EXAMPLES or case[1:4] == ("core", "sync", "raise"), case)
    for case in itertools.starmap(Case, product(ROWS, DOORS, WAYS, MODES))
]
SOME = [_unless_left(row.name in QUICKEST, row) for row in ROWS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault(bench: Bench, case: Case):
    """A fault ends in the right ranking, in the error of the table, or passed through: no more.

    It is over in time, says the same through each door, shows no key, leaves the caller's objects
    alone, is repeated only if that may help and never without end, and the next call of the same
    object is right again.
    """
    _check(bench.seen(case), case)
    if case.door != "core" and case.mode == "raise" and case.row.gives:
        of_core = bench.message(case._replace(door="core"))
        # Words of the system and of libraries depend on how far the fault let the call come.
        assert bench.message(case) == of_core or of_core.startswith("No answer from HOST:")


@pytest.mark.parametrize("row", SOME, ids=lambda row: row.name)
def test_compatible_protocol(bench: Bench, row: Row):
    """The compatible protocol fails as the native one does, with its own spelling of the codes."""
    case = Case(row, "core", "sync", "raise", "compatible")

    _check(bench.seen(case), case)


@pytest.mark.parametrize("row", [it for it in SOME if it.values[0].heals], ids=lambda row: row.name)
def test_heals(bench: Bench, row: Row):
    """A fault that may pass and does is not seen by the user: the second attempt is the answer."""
    verdict, requests = bench.healed(row)

    assert verdict == "right"
    assert requests == (1 if row.requests == (0, 0) else 2)


def test_every_fault_has_a_row():
    """The matrix has every fault that the emulator knows, once, and nothing it does not know."""
    names = [row.name for row in ROWS]

    assert len(names) == len(set(names))
    assert {row.told for row in ROWS if row.name == row.told} == set(FAULTS)
    assert all(row.told.partition(":")[0] in FAULTS for row in ROWS if row.told)
    assert all(row.wire or row.name in FAULTS for row in ROWS)


def test_no_bill_in_a_loop():
    """No row allows a request to go out more often than once, and max_retries times again."""
    for row in ROWS:
        others = 4 if "max_documents_per_request" in row.options else 0
        assert row.requests[1] <= 1 + others + (SENT_AGAIN if row.repeated else 0)


def test_every_row_is_tested():
    """In every run each row goes through the core, and each way in is gone by some; the rest too.

    Those are for `make faults-all`: three doors, sync and async, raising and passing through.
    """
    every = set(itertools.starmap(Case, product(ROWS, DOORS, WAYS, MODES)))
    ran = {it.values[0] for it in CASES if not it.marks}

    assert {it.values[0] for it in CASES} == every
    assert {case.row for case in ran if case.door == "core"} == set(ROWS)
    assert {case[1:] for case in ran} == {case[1:] for case in every}
    assert {it.values[0].name for it in SOME if not it.marks} == QUICKEST


def test_every_error_has_a_row():
    """Each class of error is what some fault ends in, so that none is a promise on paper."""
    classes = {kind for kind in vars(qwen_rerank).values() if inspect.isclass(kind)}
    errors = {kind for kind in classes if issubclass(kind, RerankError)} - {RerankError}

    assert {row.gives for row in ROWS if row.gives} == errors


def test_page_is_true(bench: Bench):
    """The page about faults is what calls do today; if it is not, run `make faults`."""
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""

    assert comparable(written) == comparable(page(bench)), "docs/faults.md is old: run make faults"


def _check(seen: Seen, case: Case) -> None:
    row, gives = case.row, case.row.gives
    passed = row.passes and case.mode == "passthrough"
    if gives is None:
        assert seen.verdict == "right", seen.error
    else:
        assert seen.verdict == ("original" if passed else gives.__name__), seen.error
    if seen.error is not None:
        code = row.code if case.protocol == "dashscope" else row.compatible
        assert type(seen.error) is gives
        assert (seen.error.status, seen.error.code) == (row.status, code)
        assert seen.error.retryable == (row.repeated or gives is DeadlineError)
        assert row.documents in (None, seen.error.documents)
    level = "ERROR" if gives is QuotaError else "WARNING"
    assert seen.levels == ((level,) if passed else ())
    assert SECRET not in seen.shown
    assert seen.seconds < seen.limit + MARGIN
    assert seen.untouched
    assert row.requests[0] <= seen.requests <= row.requests[1]
    assert seen.after == "whole"
