from datetime import timedelta

from support.access_values import NOW

from pilothouse.access import history
from pilothouse.access.ledger import EMPTY, Entry, append

HOUR = timedelta(hours=1)
END = (NOW + 16 * HOUR).isoformat()


def chain(*entries):
    """Entries an hour apart, the first at NOW."""
    head, found = EMPTY, []
    for number, entry in enumerate(entries):
        found.append(append(head, entry, NOW + number * HOUR))
        head = found[-1].head
    return found


def intent(serial="1", request="", user="alice"):
    data = {"profile": "developer", "groups": ["ph:developer:payments"], "not_after": END, "request": request}
    return Entry("certificate.intent", user, serial, "dev", data)


def issued(serial="1", **more):
    return Entry("certificate.issued", "alice", serial, "dev", {"fingerprint": "ab", "not_after": END, **more})


def serials(entries, at):
    return [item.serial for item in history.living(entries, at)]


def test_alive_from_its_signature_to_its_end():
    entries = chain(intent(), issued())
    assert serials(entries, NOW) == []  # an intent is no certificate
    (found,) = history.living(entries, NOW + HOUR)
    assert (found.user, found.groups, found.issued_at) == ("alice", {"ph:developer:payments"}, NOW + HOUR)
    assert serials(entries, NOW + 16 * HOUR) == []


def test_what_came_later_counts_for_nothing():
    entries = chain(intent(), issued(), Entry("certificate.given-back", "alice", "1", "dev"), intent("2"))
    assert serials(entries, NOW + HOUR) == ["1"]
    assert serials(entries, NOW + 2 * HOUR) == []
    failed = chain(intent(), Entry("certificate.failed", "alice", "1", "dev"), issued())
    assert serials(failed, NOW + 3 * HOUR) == []


def test_vault_chooses_the_serial_itself():
    assert serials(chain(intent("1"), issued("77", intent="1")), NOW + HOUR) == ["77"]


def test_a_request_brings_its_reason_and_who_approved():
    entries = chain(
        Entry("elevation.requested", "alice", "g-1", "dev", {"reason": "replace a node"}),
        Entry("elevation.approved", "pat", "g-1", "dev", {"comment": ""}),
        intent(request="g-1"),
        issued(),
    )
    (found,) = history.living(entries, NOW + 3 * HOUR)
    assert (found.request, found.approved_by, found.reason) == ("g-1", "pat", "replace a node")
    glass = chain(
        Entry("break-glass.requested", "alice", "g-1", "dev", {"reason": "replace a node", "ticket": "PLAT-1"}),
        Entry("break-glass.approved", "pat", "g-1", "dev", {"comment": ""}),
        intent(request="g-1"),
        issued(),
    )
    (found,) = history.living(glass, NOW + 3 * HOUR)
    assert (found.approved_by, found.reason) == ("pat", "PLAT-1: replace a node")
    by_itself = Entry("elevation.approved", "alice", "g-1", "dev", {"why": "the profile needs no approval"})
    (found,) = history.living(chain(by_itself, intent(request="g-1"), issued()), NOW + 3 * HOUR)
    assert found.approved_by == ""


def test_locks_of_then():
    until = (NOW + 4 * HOUR).isoformat()
    entries = chain(
        intent(),
        issued(),
        Entry("lock.set", "olga", "alice", "", {"kind": "user", "until": until}),
        Entry("lock.set", "olga", "1", "dev", {"kind": "certificate", "until": ""}),
        Entry("lock.lifted", "olga", "1", "dev", {"kind": "certificate"}),
    )
    locked = [history.living(entries, NOW + hours * HOUR)[0].locked for hours in (1, 2, 3, 4)]
    assert locked == [False, True, True, False]
