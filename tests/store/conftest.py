"""The store of a test: every test that asks for `store` holds on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores import migrated

from pilothouse.store import Store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """What a `Store` is made of: a folder, or the address of a database with its tables."""
    if request.param == "sqlite":
        yield tmp_path / "data"
        return
    with migrated(request.getfixturevalue("postgresql")) as url:
        yield url


@pytest.fixture
def store(where: Path | str) -> Iterator[Store]:
    made = Store(where)
    made.migrate()
    yield made
    made.close()
