"""Every fault through the core, some through every way in: a right ranking or the table's error.

The other combinations, more than a thousand, are for `make faults-all`.
"""

import inspect
from itertools import product, starmap

import pytest
from fault_calls import DOORS, MODES, WAYS, Bench, Case
from fault_table import ROWS, SENT_AGAIN
from write_docs import PAGE, comparable, page

import qwen_rerank
from qwen_rerank import DeadlineError, QuotaError, RerankError
from qwen_rerank.emulator import FAULTS

# A connection that breaks, a call that is wrong, an account that is empty, and what does no harm.
EXAMPLES = {"reset-mid", "400-model", "403-free-tier", "bom"}


def _unless_left(case: Case) -> object:
    """*case*, which takes place in every run or is left to `make faults-all`."""
    chosen = case.row.name in EXAMPLES or case[1:] == ("core", "sync", "raise")
    return pytest.param(case, marks=() if chosen else pytest.mark.faults_all)


CASES = [*map(_unless_left, starmap(Case, product(ROWS, DOORS, WAYS, MODES)))]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault(bench: Bench, case: Case):
    """A fault ends in the right ranking, in the error of the table, or passed through: no more.

    It says the same through each door, leaves the caller's objects alone, is repeated only if that
    may help and never without end, and the next call of the same object is right again.
    """
    seen, row = bench.seen(case), case.row
    passed = row.passes and case.mode == "passthrough"
    if row.gives is None:
        assert seen.verdict == "right", seen.error
    else:
        assert seen.verdict == ("original" if passed else row.gives.__name__), seen.error
    if seen.error is not None:
        assert type(seen.error) is row.gives
        assert (seen.error.status, seen.error.code) == (row.status, row.code)
        assert seen.error.retryable == (row.repeated or row.gives is DeadlineError)
        assert row.documents in (None, seen.error.documents)
    if case.door != "core" and case.mode == "raise" and row.gives:
        of_core = bench.message(case._replace(door="core"))
        # Words of the system and of libraries depend on how far the fault let the call come.
        assert bench.message(case) == of_core or of_core.startswith("No answer from HOST:")
    level = "ERROR" if row.gives is QuotaError else "WARNING"
    assert seen.levels == ((level,) if passed else ())
    assert row.requests[0] <= seen.requests <= row.requests[1]
    assert seen.untouched
    assert seen.after == "whole"


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


def test_every_error_has_a_row():
    """Each class of error is what some fault ends in, so that none is a promise on paper."""
    classes = {kind for kind in vars(qwen_rerank).values() if inspect.isclass(kind)}
    errors = {kind for kind in classes if issubclass(kind, RerankError)} - {RerankError}

    assert {row.gives for row in ROWS if row.gives} == errors


def test_page_is_true(bench: Bench):
    """The page about faults is what calls do today; if it is not, run `make faults`."""
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""

    assert comparable(written) == comparable(page(bench)), "docs/faults.md is old: run make faults"
