"""What several files of use cases need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi


@pytest.fixture(scope="module")
def kube_of_file() -> Iterator[Callable[[], KubeApi]]:
    """A real API server for one file, once a test asks for it: what is set for all of it meets no other file."""
    made: list[KubeApi] = []

    def get() -> KubeApi:
        if not made:
            made.append(kubernetes.start())
        return made[0]

    yield get
    for item in made:
        item.stop()
