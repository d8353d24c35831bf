"""Machines as accounts: no password, one token that ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pilothouse.problems import Conflict, Invalid
from pilothouse.store import Store, machines, sessions, users
from pilothouse.store.users import User

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MONTH = timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "data")
    made.migrate()
    return made


def test_a_machine_has_a_token_and_no_password(store: Store, tmp_path: Path) -> None:
    token = machines.add(store, "ci", ("deployer", "viewer", "deployer"), "payments", MONTH, NOW)
    found = users.get(store, "ci")
    assert found is not None
    assert (found.is_machine, found.profiles, found.team) == (True, ("deployer", "viewer"), "payments")
    held = sessions.find(store, token, NOW + timedelta(days=29))
    assert held is not None
    assert (held.kind, held.user.name, held.expires_at) == ("machine", "ci", NOW + MONTH)
    assert sessions.find(store, token, NOW + MONTH) is None
    assert users.verify(store, "ci", "") is None
    assert users.verify(store, "ci", token) is None
    with pytest.raises(Invalid, match="with a password"):
        users.set_password(store, "ci", "correct horse battery", NOW)
    store.close()
    assert all(token.encode() not in path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())


def test_a_new_token_or_a_closed_account_ends_the_one_before(store: Store) -> None:
    first = machines.add(store, "ci", ("deployer",), "", MONTH, NOW)
    second = machines.new_token(store, "ci", MONTH, NOW)
    assert sessions.find(store, first, NOW) is None
    assert sessions.find(store, second, NOW) is not None
    users.set_disabled(store, "ci", True, NOW)
    assert sessions.find(store, second, NOW) is None
    with pytest.raises(Invalid, match="is closed"):
        machines.new_token(store, "ci", MONTH, NOW)
    users.set_disabled(store, "ci", False, NOW)
    assert sessions.find(store, second, NOW) is None  # what ended stays ended


def test_what_is_no_machine_is_refused(store: Store) -> None:
    users.add(store, "alice", "correct horse battery", NOW)
    with pytest.raises(Conflict, match="there is a user `alice`"):
        machines.add(store, "alice", ("deployer",), "", MONTH, NOW)
    with pytest.raises(Invalid, match="no machine `alice`"):
        machines.new_token(store, "alice", MONTH, NOW)
    for name in ("system-ci", "CI", "a b", ""):
        with pytest.raises(Invalid, match="no user name"):
            machines.add(store, name, ("deployer",), "", MONTH, NOW)
    with pytest.raises(Invalid, match="could do nothing"):
        machines.add(store, "ci", (), "", MONTH, NOW)
    for lasts in (timedelta(), timedelta(days=91)):
        with pytest.raises(Invalid, match="at most 90 days"):
            machines.add(store, "ci", ("deployer",), "", lasts, NOW)


def test_a_person_of_that_name_goes_on_under_nothing(store: Store) -> None:
    token, _ = sessions.start(store, User("ci", groups=frozenset(("engineers",))), NOW)
    machines.add(store, "ci", ("deployer",), "", MONTH, NOW)
    assert sessions.find(store, token, NOW) is None
