import threading
from datetime import timedelta

import pytest
from support.access_values import NOW, elevated

from pilothouse.access import grants as machine
from pilothouse.access.ledger import EMPTY, Entry
from pilothouse.problems import Conflict, Invalid, Unavailable
from pilothouse.store import certificates, grants, ledger
from pilothouse.store.certificates import Certificate, State


def record(store, *kinds, actor="alice"):
    with store.write() as connection:
        return [
            ledger.append(connection, Entry(kind, actor, f"s-{kind}", "dev", {"reason": "naïve 100%"}), NOW)
            for kind in kinds
        ]


# ---------------------------------------------------------------- ledger


def test_entries_follow_each_other(store):
    assert ledger.head(store) == EMPTY
    first, second = record(store, "a.one", "a.two")
    (third,) = record(store, "b.one")
    assert list(ledger.everything(store)) == [first, second, third]
    assert ledger.head(store) == third.head
    assert ledger.verify(store) == ((), third.head)
    assert list(ledger.everything(store, 3)) == [third]


def test_what_is_rolled_back_is_not_there(store):
    def broken():
        with store.write() as connection:
            ledger.append(connection, Entry("a", "b"), NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert ledger.head(store) == EMPTY


def test_writers_at_once_make_one_chain(store):
    barrier = threading.Barrier(4)

    def write():
        barrier.wait()
        for _ in range(5):
            record(store, "a.step")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems, head = ledger.verify(store)
    assert (problems, head.sequence) == ((), 20)


@pytest.mark.parametrize("statement", ["UPDATE ledger SET actor = 'x'", "DELETE FROM ledger"])
def test_entries_are_never_changed(store, statement):
    record(store, "a.one")
    with pytest.raises((Unavailable, Conflict), match="only ever added to"), store.write() as connection:
        connection.exec_driver_sql(statement)
    assert ledger.verify(store)[0] == ()


def test_batches_are_read_to_the_end(store, monkeypatch):
    monkeypatch.setattr(ledger, "BATCH", 2)
    record(store, *"abcde")
    assert len(list(ledger.everything(store))) == 5


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (ledger.Filter(), 3),
        (ledger.Filter(actor="alice"), 2),
        (ledger.Filter(kind="certificate"), 2),
        (ledger.Filter(kind="certificate.issued"), 1),
        (ledger.Filter(kind="%"), 0),
        (ledger.Filter(subject="s-elevation.requested"), 1),
        (ledger.Filter(cluster="prod"), 0),
        (ledger.Filter(text="100%"), 3),
        (ledger.Filter(text="naïve"), 3),
        (ledger.Filter(text="_"), 0),
        (ledger.Filter(since=NOW), 3),
        (ledger.Filter(until=NOW), 0),
    ],
)
def test_filters(store, wanted, count):
    record(store, "certificate.intent", "certificate.issued")
    record(store, "elevation.requested", actor="olga")
    found, total = ledger.find(store, wanted)
    assert len(found) == total == count


def test_the_newest_come_first_and_in_pages(store):
    record(store, *"abc")
    found, total = ledger.find(store, limit=2, offset=1)
    assert ([entry.entry.kind for entry in found], total) == (["b", "a"], 3)


# ---------------------------------------------------------------- grants


def ask(store, id="g-1", **fields):
    values = {"user": "olga", "profile": elevated(), "cluster": "dev", "reason": "repair", "seconds": 1800, "now": NOW}
    grant = machine.request(id, **{**values, **fields})
    grants.add(store, grant)
    return grant


def approve(store, id="g-1", by="pat"):
    return grants.change(store, id, lambda g: machine.approve(g, by, "", NOW), by, "elevation.approved", NOW)


def test_a_request_is_kept_with_its_entry(store):
    asked = ask(store)
    assert grants.get(store, "g-1") == asked
    assert grants.get(store, "none") is None
    approved = approve(store)
    assert grants.find(store, "olga", only_open=True) == (approved,)
    assert [entry.entry.kind for entry in ledger.everything(store)] == ["elevation.requested", "elevation.approved"]


def test_a_step_that_is_refused_leaves_nothing(store):
    ask(store)
    with pytest.raises(Invalid, match="own"):
        approve(store, by="olga")
    with pytest.raises(Invalid, match="no request"):
        approve(store, "none")
    assert grants.get(store, "g-1").state == "requested"
    assert ledger.head(store).sequence == 1


def test_one_open_request_of_a_kind(store):
    ask(store)
    with pytest.raises(Invalid, match=r"g-1 .* is still requested"):
        ask(store, "g-2")
    ask(store, "g-3", cluster="prod")
    ask(store, "g-4", now=NOW + timedelta(hours=5))
    with pytest.raises(Conflict):
        ask(store, "g-1", cluster="test")


def test_without_approval_both_steps_are_recorded(store):
    ask(store, profile=elevated(approval=False))
    assert [entry.entry.kind for entry in ledger.everything(store)] == ["elevation.requested", "elevation.approved"]


def test_deadlines_are_settled_once(store):
    ask(store)
    ask(store, "g-2", cluster="prod")
    approve(store, "g-2")
    grants.change(store, "g-2", lambda g: machine.claim(g, "7", NOW), "olga", "x", NOW)
    assert grants.settle(store, NOW) == ()
    ended = grants.settle(store, NOW + timedelta(hours=4))
    assert [(g.id, g.state.value) for g in ended] == [("g-2", "expired"), ("g-1", "lapsed")]
    assert grants.settle(store, NOW + timedelta(hours=9)) == ()
    kinds = [entry.entry.kind for entry in ledger.everything(store)]
    assert kinds[-2:] == ["elevation.expired", "elevation.lapsed"]


# ---------------------------------------------------------------- certificates


def certificate(serial="1", **fields):
    values = {"cluster": "dev", "user": "alice", "profile": "developer", "groups": ("ph:developer",), "key_sha256": "k"}
    times = {"asked_at": NOW, "not_after": NOW + timedelta(hours=1)}
    return Certificate(serial=serial, **{**values, **times, **fields})


def test_a_certificate_from_intent_to_end(store):
    with store.write() as connection:
        certificates.add(connection, certificate())
    assert not certificates.get(store, "1").is_alive(NOW)
    end = NOW + timedelta(minutes=30)
    with store.write() as connection:
        certificates.issued(connection, "dev", "1", "f" * 64, end, "PEM")
    found = certificates.get(store, "1", "dev")
    assert (found.state, found.not_after, found.fingerprint, found.pem) == (State.ISSUED, end, "f" * 64, "PEM")
    assert found.is_alive(NOW)
    assert not found.is_alive(end)
    assert certificates.alive(store, NOW) == {"developer": 1}
    assert certificates.alive(store, end) == {}
    assert certificates.of_user(store, "alice", NOW) == (found,)
    assert certificates.get(store, "1", "prod") is None
    with store.write() as connection:
        certificates.end(connection, "dev", "1", State.GIVEN_BACK, NOW)
    assert certificates.of_user(store, "alice", NOW) == ()
    assert certificates.of_user(store, "alice")[0].ended_at == NOW


def test_a_serial_is_signed_once_per_authority(store):
    with store.write() as connection:
        certificates.add(connection, certificate())
        certificates.add(connection, certificate(cluster="prod"))
    with pytest.raises(Conflict), store.write() as connection:
        certificates.add(connection, certificate(user="bob"))


def test_a_key_is_known_again(store):
    with store.write() as connection:
        certificates.add(connection, certificate())
        assert not certificates.is_of_another_user(connection, "k", "alice")
        assert certificates.is_of_another_user(connection, "k", "bob")
        assert not certificates.is_of_another_user(connection, "other", "bob")
