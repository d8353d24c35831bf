"""People, sessions and limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from pilothouse.problems import Conflict, Invalid
from pilothouse.store import Store, limits, sessions, users
from pilothouse.store.schema import sessions as sessions_table
from pilothouse.store.schema import users as users_table

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
PASSWORD = "a long enough password"


@pytest.fixture
def alice(store: Store) -> users.User:
    return users.add(
        store, "alice", PASSWORD, NOW, display_name="Alice Adler", email="alice@bank.example", groups=["payments"]
    )


def test_a_person_is_verified_by_password(store: Store, alice: users.User) -> None:
    assert users.verify(store, "alice", PASSWORD) == alice
    assert users.get(store, "alice") == alice
    assert users.everyone(store) == (alice,)
    assert users.verify(store, "alice", PASSWORD + "x") is None
    assert users.verify(store, "ALICE", PASSWORD) is None
    assert users.verify(store, "nobody", PASSWORD) is None


def test_the_hash_is_argon2id(store: Store, alice: users.User) -> None:
    with store.read() as connection:
        found = connection.execute(select(users_table.c.password_hash)).scalar_one()
    assert found.startswith("$argon2id$")
    assert PASSWORD not in found


def test_an_unknown_name_costs_a_verification_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    verify = PasswordHasher.verify

    def spy(self: PasswordHasher, hashed: str, password: str) -> bool:
        seen.append(hashed)
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", spy)
    assert users.verify(store, "nobody", PASSWORD) is None
    assert len(seen) == 1


def test_an_old_hash_is_renewed_at_login(store: Store, alice: users.User) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    with store.write() as connection:
        connection.execute(update(users_table).values(password_hash=weak))
    assert users.verify(store, "alice", PASSWORD)
    with store.read() as connection:
        assert connection.execute(select(users_table.c.password_hash)).scalar_one() != weak


def test_a_damaged_hash_lets_nobody_in(store: Store, alice: users.User) -> None:
    with store.write() as connection:
        connection.execute(update(users_table).values(password_hash="nonsense"))
    assert users.verify(store, "alice", PASSWORD) is None


@pytest.mark.parametrize("name", ["", "Alice", "system:masters", "system", "a b", "a/../b", "x" * 65, "-a"])
def test_bad_names(store: Store, name: str) -> None:
    with pytest.raises(Invalid, match="no user name"):
        users.add(store, name, PASSWORD, NOW)


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_bad_passwords(store: Store, password: str) -> None:
    with pytest.raises(Invalid, match="12 to 200"):
        users.add(store, "bob", password, NOW)


def test_a_name_is_taken_once(store: Store, alice: users.User) -> None:
    with pytest.raises(Conflict, match="already"):
        users.add(store, "alice", PASSWORD, NOW)


def test_composed_and_decomposed_passwords_are_the_same(store: Store) -> None:
    users.add(store, "bob", "grün ist die Brücke", NOW)
    assert users.verify(store, "bob", "gru\u0308n ist die Bru\u0308cke")


def test_a_new_password_ends_every_session(store: Store, alice: users.User) -> None:
    token, _ = sessions.start(store, alice, NOW)
    users.set_password(store, "alice", "another long password", NOW)
    assert sessions.find(store, token, NOW) is None
    assert users.verify(store, "alice", PASSWORD) is None
    assert users.verify(store, "alice", "another long password")
    with pytest.raises(Invalid, match="no user"):
        users.set_password(store, "nobody", PASSWORD, NOW)


def test_a_closed_account(store: Store, alice: users.User) -> None:
    token, _ = sessions.start(store, alice, NOW)
    users.set_disabled(store, "alice", True, NOW)
    assert sessions.find(store, token, NOW) is None
    assert users.verify(store, "alice", PASSWORD) is None
    users.set_disabled(store, "alice", False, NOW)
    assert users.verify(store, "alice", PASSWORD)
    with pytest.raises(Invalid, match="no user"):
        users.set_disabled(store, "nobody", True, NOW)


def test_a_removed_account(store: Store, alice: users.User) -> None:
    token, _ = sessions.start(store, alice, NOW)
    users.remove(store, "alice", NOW)
    assert users.get(store, "alice") is None
    assert sessions.find(store, token, NOW) is None


# ---------------------------------------------------------------- sessions


def test_the_token_is_nowhere_in_the_database(store: Store, alice: users.User) -> None:
    token, session = sessions.start(store, alice, NOW, address="10.0.0.7", agent="curl/8\x1b[31m")
    assert session.agent == "curl/8\ufffd[31m"
    with store.read() as connection:
        row = connection.execute(select(sessions_table)).one()
    assert token not in str(row)
    assert sessions.find(store, token, NOW) == session
    assert sessions.find(store, session.id, NOW) is None


def test_the_command_lines_session_lasts_the_day_without_a_call(store: Store, alice: users.User) -> None:
    token, _ = sessions.start(store, alice, NOW, kind="token")
    for hours in (1, 5, 15):
        assert [item.kind for item in sessions.living(store, "alice", NOW + timedelta(hours=hours))] == ["token"]
    assert sessions.find(store, token, NOW + timedelta(hours=15)) is not None
    assert sessions.find(store, token, NOW + timedelta(hours=16)) is None


def test_sessions_end_by_idleness_and_by_age(store: Store, alice: users.User) -> None:
    token, _ = sessions.start(store, alice, NOW)
    assert sessions.find(store, token, NOW + sessions.IDLE - timedelta(seconds=1))
    # The look of a moment ago counts as being there.
    assert sessions.find(store, token, NOW + sessions.IDLE + timedelta(minutes=30))
    assert sessions.find(store, token, NOW + timedelta(hours=12)) is None
    moment = NOW
    token, _ = sessions.start(store, alice, NOW)
    while moment < NOW + sessions.LONGEST - timedelta(hours=1):
        moment += timedelta(hours=1)
        assert sessions.find(store, token, moment)
    assert sessions.find(store, token, NOW + sessions.LONGEST) is None


def test_a_login_replaces_the_session_before_it(store: Store, alice: users.User) -> None:
    old, _ = sessions.start(store, alice, NOW)
    new, _ = sessions.start(store, alice, NOW, replaces=old)
    assert sessions.find(store, old, NOW) is None
    assert sessions.find(store, new, NOW)


def test_revocation(store: Store, alice: users.User) -> None:
    one, first = sessions.start(store, alice, NOW)
    two, second = sessions.start(store, alice, NOW + timedelta(seconds=1), kind="token")
    assert [item.id for item in sessions.living(store, "alice", NOW)] == [second.id, first.id]
    assert not sessions.revoke(store, first.id, NOW, user="bob")
    assert sessions.end(store, one, NOW)
    assert not sessions.end(store, one, NOW)
    assert sessions.find(store, one, NOW) is None
    assert sessions.find(store, two, NOW)
    assert [item.id for item in sessions.living(store, "alice", NOW)] == [second.id]


def test_nonsense_is_no_token(store: Store) -> None:
    assert sessions.find(store, "", NOW) is None
    assert sessions.find(store, "x" * 5000, NOW) is None
    assert sessions.find(store, "x" * 43, NOW) is None


def test_addresses_are_remembered(store: Store, alice: users.User) -> None:
    assert not sessions.is_known(store, "alice", "10.0.0.7")
    sessions.start(store, alice, NOW, address="10.0.0.7")
    sessions.start(store, alice, NOW, address="10.0.0.7")
    assert sessions.is_known(store, "alice", "10.0.0.7")
    assert not sessions.is_known(store, "bob", "10.0.0.7")


def test_old_sessions_are_removed(store: Store, alice: users.User) -> None:
    sessions.start(store, alice, NOW)
    assert sessions.purge(store, NOW + timedelta(days=1)) == 0
    assert sessions.purge(store, NOW + timedelta(days=9)) == 1


# ---------------------------------------------------------------- limits


def test_a_limit_counts_from_the_first_attempt(store: Store) -> None:
    limit = limits.Limit("try", 2, timedelta(minutes=15))
    assert limits.hit(store, limit, "alice", NOW) == limits.Allowance(True, 1, 900)
    assert limits.hit(store, limit, "alice", NOW + timedelta(minutes=5)) == limits.Allowance(True, 0, 600)
    assert limits.hit(store, limit, "alice", NOW + timedelta(minutes=10)) == limits.Allowance(False, 0, 300)
    assert limits.hit(store, limit, "bob", NOW).allowed
    assert limits.hit(store, limit, "alice", NOW + timedelta(minutes=15)).allowed


def test_a_success_clears_a_limit(store: Store) -> None:
    limit = limits.Limit("try", 1, timedelta(minutes=15))
    limits.hit(store, limit, "alice", NOW)
    limits.clear(store, limit, "alice")
    assert limits.hit(store, limit, "alice", NOW).allowed


def test_an_attempt_is_given_back(store: Store) -> None:
    limit = limits.Limit("try", 2, timedelta(minutes=15))
    limits.hit(store, limit, "alice", NOW)
    limits.hit(store, limit, "alice", NOW)
    limits.give_back(store, limit, "alice")
    assert limits.hit(store, limit, "alice", NOW).allowed
    assert not limits.hit(store, limit, "alice", NOW).allowed


def test_attempts_at_the_same_moment_are_all_counted(store: Store) -> None:
    limit = limits.Limit("try", 5, timedelta(minutes=15))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: limits.hit(store, limit, "alice", NOW).allowed, range(20)))
    assert sum(found) == 5


def test_windows_that_are_over_are_removed(store: Store) -> None:
    limits.hit(store, limits.Limit("try", 1, timedelta(minutes=1)), "alice", NOW)
    assert limits.purge(store, NOW) == 0
    assert limits.purge(store, NOW + timedelta(minutes=1)) == 1


def test_portions_give_out_no_more_than_the_limit_and_write_seldom(store: Store) -> None:
    limit = limits.Limit("try", 25, timedelta(minutes=15))
    portals = [limits.Portions(limit, 10) for _ in range(2)]
    found = [portals[turn % 2].hit(store, "alice", NOW).allowed for turn in range(60)]
    assert sum(found) == 25
    assert portals[0].hit(store, "bob", NOW).allowed
    assert not limits.hit(store, limit, "alice", NOW).allowed
    later = NOW + timedelta(minutes=15)
    assert [portals[0].hit(store, "alice", later).allowed for _ in range(26)] == [True] * 25 + [False]


def test_a_portion_serves_without_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    portions = limits.Portions(limits.Limit("try", 100, timedelta(minutes=15)), 10)
    assert portions.hit(store, "alice", NOW).allowed
    monkeypatch.setattr(store, "write", None)
    assert all(portions.hit(store, "alice", NOW).allowed for _ in range(9))
    with pytest.raises(TypeError):
        portions.hit(store, "alice", NOW)


def test_portions_at_the_same_moment_are_all_counted(store: Store) -> None:
    portions = limits.Portions(limits.Limit("try", 35, timedelta(minutes=15)), 10)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: portions.hit(store, "alice", NOW).allowed, range(100)))
    assert sum(found) == 35


def test_portions_forget_windows_that_are_over(store: Store) -> None:
    portions = limits.Portions(limits.Limit("try", 10, timedelta(minutes=1)), 5, most=2)
    for name in ("a", "b", "c", "d"):
        assert portions.hit(store, name, NOW).allowed
    assert set(portions._left) == {"a", "b"}
    assert portions.hit(store, "e", NOW + timedelta(minutes=1)).allowed
    assert set(portions._left) == {"e"}
