"""docs/limits.md is what the table in the core says."""

from write_limits import PAGE, page


def test_page_is_true():
    """The page about limits and prices is written from the table as it is."""
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/limits.md is old: run make limits"
