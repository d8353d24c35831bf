"""The real programs as fixtures, and the marker that keeps `make test` from running what needs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import testbed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if testbed.REAL in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def promtool() -> Path:
    return testbed.program("promtool")


@pytest.fixture(scope="session")
def amtool() -> Path:
    return testbed.program("amtool")


@pytest.fixture(scope="session")
def helm() -> Path:
    return testbed.program("helm")


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    return testbed.program("kubeconform")


@pytest.fixture(scope="session")
def ruby() -> Path:
    return testbed.program("ruby")


@pytest.fixture(scope="session")
def chromium() -> Path:
    return testbed.program("chromium")
