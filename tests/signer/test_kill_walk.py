"""kill -9 at every step: never a certificate without a record, a clean next start, no request claimed twice.

The other requests to the portal, and the same on PostgreSQL, are in `real/test_killed_everywhere.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import kill_walk
from support.kill_walk import Walk


@pytest.fixture
def walk(tmp_path: Path, record_property: Callable[[str, object], None]) -> Iterator[Walk]:
    with kill_walk.walking(tmp_path) as made:
        yield made
    record_property("killed", made.rows)


@pytest.mark.parametrize("elevated", [False, True], ids=["standing", "elevated"])
def test_the_signer_is_killed_at_every_step_of_a_signature(walk: Walk, elevated: bool) -> None:
    kill_walk.of_signer(walk, "claim" if elevated else "certificate", elevated)
    steps = [row[2] for row in walk.rows]
    assert steps[0] == "the request was read"
    assert steps[-1] == "the answer is made, and not sent"
    assert {"before the signature", "after the signature", "before INSERT ledger", "after the commit"} <= set(steps)
    assert len(steps) >= 16
    # Before the intent is committed nothing is signed, after it the record stands.
    kept = {row[2]: row[3] for row in walk.rows}
    assert kept["before the signature"] == kept["after the signature"] == "certificate.intent"


def test_the_portal_is_killed_at_every_step_of_a_claim(walk: Walk) -> None:
    kill_walk.of_portal(walk, "claim")
    steps = [row[2] for row in walk.rows]
    assert (steps[0], steps[-1]) == ("the request was read", "the answer is made, and not sent")
    assert "after the signer is asked" in steps
