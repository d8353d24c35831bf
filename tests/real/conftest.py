"""The real programs as fixtures, and the marker that keeps `make test` from running what needs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import applied, policy_kinds, policy_random, testbed
from support.bed import kubernetes
from support.bed.fixtures import Bed
from support.policy_schemas import samples


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


@pytest.fixture
def policy_api(bed: Bed) -> Iterator[kubernetes.KubeApi]:
    """An API server with every policy kind, and the namespaces of the bank and of the samples."""
    yield from bed.keeper("policy_api", _start_policy_api).used()


def _start_policy_api() -> kubernetes.KubeApi:
    made = kubernetes.start()
    policy_kinds.install(made, policy_kinds.KINDS)
    names = {samples.NAMESPACE, policy_random.NAMESPACE}
    for cluster in testbed.CLUSTERS:
        names |= applied.namespaces_of(applied.manifests(cluster))
    applied.namespaces(made, names)
    return made
