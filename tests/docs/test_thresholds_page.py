"""docs/thresholds.md shows what its commands print and draw."""

import platform
import re

import pytest
from write_thresholds import PAGE, shown, stored

# What the passages were cut from; another release has other texts, and so other figures.
WRITTEN_WITH = "3.11.7"


@pytest.mark.slow
def test_the_page_shows_what_its_commands_print(tmp_path):
    """Table, proposal and notes of the demo's questions, and the picture that is stored."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("langchain_core")
    pytest.importorskip("llama_index.core")
    printed, picture = shown(tmp_path)

    written = stored()
    if platform.python_version() != WRITTEN_WITH:
        printed, written = (re.sub(r"[\d.,▸─ \n│]+", " ", text) for text in (printed, written))
    assert printed == written
    words = (b"recall", b"precision", b"documents kept", b"score_threshold")
    for svg in (picture, PAGE.with_suffix(".svg").read_bytes()):
        assert all(word in svg for word in words)
