import dataclasses
from datetime import timedelta

import pytest
from support.access_values import NOW

from pilothouse.access import locks as machine
from pilothouse.access.locks import Kind, Target
from pilothouse.problems import Conflict, Denied, Invalid
from pilothouse.store import certificates, ledger, locks, sessions
from pilothouse.store.certificates import Certificate, State
from pilothouse.store.users import User

HOUR = timedelta(hours=1)
ALICE = Target(Kind.USER, "alice", "alice")


def leaf(store, serial="1000", user="alice", session="", key="k1", state=State.ISSUED):
    row = Certificate("dev", serial, user, "developer", ("ph:developer:payments",), key, NOW, NOW + 16 * HOUR)
    with store.write() as connection:
        certificates.add(connection, dataclasses.replace(row, session=session))
        certificates.issued(connection, "dev", serial, f"{int(serial):064x}", NOW + 16 * HOUR, "")
        if state is not State.ISSUED:
            certificates.end(connection, "dev", serial, state, NOW)
    return Target(Kind.CERTIFICATE, serial, user, "dev", f"{int(serial):064x}")


def put(store, target=ALICE, until=None, id="l-1", by="olga", at=NOW):
    return locks.put(store, machine.lock(id, target, by, "lost laptop", at, until))


def refuse(store, user="alice", session="", key="k9", now=NOW):
    with store.write() as connection:
        locks.refuse(connection, user, session, key, now)


def kinds(store):
    return [entry.entry.kind for entry in ledger.everything(store)]


def test_a_person_is_refused_until_the_lock_is_lifted(store):
    made, _ = put(store)
    with pytest.raises(Denied, match="alice is locked by olga"):
        refuse(store)
    refuse(store, "bob")
    assert locks.held(store, NOW).users == {"alice": made}
    lifted = locks.lift(store, Kind.USER, "alice", "pat", "found", NOW + HOUR)
    assert locks.find(store) == (lifted,)
    assert locks.find(store, since=NOW + HOUR) == ()
    refuse(store)
    with pytest.raises(Invalid, match="alice is not locked"):
        locks.lift(store, Kind.USER, "alice", "pat", "", NOW)
    assert kinds(store) == ["lock.set", "lock.lifted"]
    assert ledger.verify(store)[0] == ()


def test_a_lock_ends_by_itself_at_its_time(store):
    put(store, until=NOW + HOUR)
    with pytest.raises(Denied):
        refuse(store)
    refuse(store, now=NOW + HOUR)
    assert len(locks.held(store, NOW + HOUR)) == 0


def test_a_shorter_lock_changes_nothing_and_a_longer_one_takes_its_place(store):
    put(store, until=NOW + 2 * HOUR)
    with pytest.raises(Conflict):
        put(store, until=NOW + HOUR, id="l-2")
    assert kinds(store) == ["lock.set"]
    longer, _ = put(store, id="l-3", at=NOW + HOUR)
    assert locks.find(store, since=NOW + HOUR) == (longer,)
    assert [item.id for item in locks.find(store, "alice")] == ["l-3", "l-1"]


def test_the_sessions_of_a_locked_person_end(store):
    mine, _ = sessions.start(store, User("alice"), NOW, kind="token")
    theirs, _ = sessions.start(store, User("bob"), NOW, kind="token")
    assert put(store)[1] == 1
    assert sessions.find(store, mine, NOW) is None
    assert sessions.find(store, theirs, NOW) is not None


def test_a_certificate_ends_its_own_session_and_its_key_is_not_signed_again(store):
    token, first = sessions.start(store, User("alice"), NOW, kind="token")
    other, _ = sessions.start(store, User("alice"), NOW, kind="token")
    target = leaf(store, session=first.id)
    leaf(store, "1001", session=sessions.hashed(other), key="k2")
    assert put(store, target)[1] == 1
    assert sessions.find(store, token, NOW) is None
    assert sessions.find(store, other, NOW) is not None
    with pytest.raises(Denied, match=r"certificate 1000 of alice on dev is locked by olga .* not renewed"):
        refuse(store, session=first.id)
    with pytest.raises(Denied, match="not renewed"):
        refuse(store, key="k1")
    refuse(store, session=sessions.hashed(other), key="k2")
    assert list(locks.held(store, NOW).certificates) == [target.fingerprint]


def test_what_was_given_back_is_refused_by_api_servers_as_well(store):
    given = leaf(store, "1001", key="k2", state=State.GIVEN_BACK)
    leaf(store, "1002", key="k3", state=State.FAILED)
    leaf(store, "1003", key="k4")
    found = locks.held(store, NOW)
    assert list(found.certificates) == [given.fingerprint]
    assert found.certificates[given.fingerprint].reason == "given back"
    assert len(locks.held(store, NOW + 16 * HOUR)) == 0


def test_a_use_is_an_entry(store):
    made, _ = put(store)
    locks.used(store, made, "prod", NOW + HOUR)
    last = list(ledger.everything(store))[-1].entry
    assert (last.kind, last.actor, last.cluster, last.data["lock"]) == ("lock.used", "alice", "prod", "l-1")
