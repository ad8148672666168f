"""docs/offline.md has a row for each client that scripts/clients.py asks, in its version."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_clients():
    """Every client that is asked stands in the table, none else does, and all of them got ranks.

    But the one that asks for a model which was retired.
    """
    asked = runpy.run_path(str(ROOT / "scripts" / "clients.py"))["CLIENTS"]
    page = (ROOT / "docs" / "offline.md").read_text(encoding="utf-8")
    table = page.partition("<!-- clients -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| (.+?) \| (\S+==\S+|\S+@\S+) \| (\w+) \| (.+?) \|", table, re.MULTILINE)

    assert [row[:2] for row in rows] == [
        (name, packages[0].removeprefix("npm:")) for name, packages, _ in asked
    ], "docs/offline.md is old: run make clients"
    assert [row[0] for row in rows if row[3] != "yes"] == [
        "langchain-community's `DashScopeRerank`"
    ]
