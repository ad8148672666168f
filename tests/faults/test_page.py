"""docs/faults.md says what the matrix sees."""

from fault_calls import Bench
from write_docs import PAGE, comparable, page


def test_page_is_true(bench: Bench):
    """The page about faults is what calls do today; if it is not, run `make faults`."""
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""

    assert comparable(written) == comparable(page(bench)), "docs/faults.md is old: run make faults"
