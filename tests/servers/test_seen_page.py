import pytest
from seen_page import PAGE, imitating, known, section


@pytest.fixture(name="emulator", scope="module")
def _emulator():
    with imitating() as emulator:
        yield emulator


@pytest.mark.parametrize("name", known())
def test_emulator_beside_the_real_server(name, emulator):
    """The page says what the emulator's imitation does with the duties of the real server."""
    assert section(name, emulator) in PAGE.read_text(encoding="utf-8"), (
        "docs/own-servers-seen.md is old: run python tests/servers/run.py --page"
    )
