"""The systems that are attacked: each is started once for a run, and every test gets it in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import attacked
from support.attacked import System
from support.bed import directory
from support.bed import vault as vault_server
from support.bed.fixtures import Bed
from support.vault_site import real_site

REAL = pytest.param("Vault and slapd", marks=pytest.mark.real)


@pytest.fixture(scope="session", params=["embedded", REAL])
def started(request: Any, bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("attacked")
    if request.param == "embedded":
        with attacked.embedded(folder) as system:
            yield system
        return
    vault = bed.keeper("vault", vault_server.start).get()
    slapd = bed.keeper("slapd", directory.start).get()
    with real_site(vault, slapd) as site:
        site.extra["branch"].add_user("pat", attacked.PASSWORD)
        site.extra["branch"].add_member("platform-admins", "pat")
        with attacked.with_vault(folder, site, slapd) as system:
            yield system


@pytest.fixture
def system(started: System) -> System:
    """With nobody stopped for what an earlier test tried."""
    started.forget_limits()
    return started
