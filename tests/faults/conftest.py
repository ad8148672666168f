"""Puts the table and the calls of the fault matrix within reach of its tests; tests nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # write_docs.py is a script beside its modules

from fault_calls import Bench


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves most combinations to `make faults-all`: they take time, and seldom show more."""
    if "faults_all" not in config.option.markexpr:
        rest = [item for item in items if item.get_closest_marker("faults_all") is not None]
        config.hook.pytest_deselected(items=rest)
        items[:] = [item for item in items if item.get_closest_marker("faults_all") is None]


@pytest.fixture(scope="session", name="bench")
def _bench(canary: str) -> Iterator[Bench]:
    """One emulator and one event loop for the whole matrix; what a call did is remembered."""
    with Bench(canary) as bench:
        yield bench
