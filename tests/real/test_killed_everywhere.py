"""kill -9 at every step of every request about access, where the ledger lies in a file and where in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import kill_walk
from support.kill_walk import REQUESTS, Walk
from support.stores import migrated


@pytest.fixture
def walk(request: Any, tmp_path: Path, record_property: Callable[[str, object], None]) -> Iterator[Walk]:
    if request.param == "SQLite":
        with kill_walk.walking(tmp_path) as made:
            yield made
    else:
        with migrated(request.getfixturevalue("postgresql")) as url, kill_walk.walking(tmp_path, url) as made:
            yield made
    rows = [(f"{process}, {request.param}", *rest) for process, *rest in made.rows]
    record_property("killed", rows)


@pytest.mark.parametrize(
    ("walk", "name"),
    [("PostgreSQL" if name == "claim" else "SQLite", name) for name in REQUESTS],
    indirect=["walk"],
)
def test_the_portal_is_killed_at_every_step(walk: Walk, name: str) -> None:
    kill_walk.of_portal(walk, name)
    assert walk.rows[0][2] == "the request was read"
    assert walk.rows[-1][2] == "the answer is made, and not sent"


@pytest.mark.parametrize("walk", ["PostgreSQL"], indirect=True)
@pytest.mark.parametrize("elevated", [False, True], ids=["standing", "elevated"])
def test_the_signer_is_killed_at_every_step(walk: Walk, elevated: bool) -> None:
    kill_walk.of_signer(walk, "claim" if elevated else "certificate", elevated)
    assert {"before the signature", "after the signature", "after the commit"} <= {row[2] for row in walk.rows}
