"""Rows of audit logs on every database: each line once, and the questions that findings and scores ask."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from support.audit_logs import BEGIN, DECIMAL, PRINT, binding_change, encoded, event, read_line, vault_line

from pilothouse.access.audit import certain
from pilothouse.access.audit.lines import parse
from pilothouse.access.audit.model import ClusterRecord, Kind, Span, VaultRecord
from pilothouse.access.unusual import Alert, Signal
from pilothouse.store import Store, audit, audit_days, unusual
from pilothouse.store import certificates as certificate_rows
from pilothouse.store.audit import KeptCluster, KeptVault
from pilothouse.store.certificates import Certificate, State
from pilothouse.store.unusual import Answer

END = BEGIN + timedelta(days=3)


def of_cluster(line: dict[str, Any], cluster: str = "dev") -> KeptCluster:
    record = parse(Kind.KUBERNETES, encoded(line))
    assert isinstance(record, ClusterRecord)
    return KeptCluster(
        record, cluster, certain.is_ours(record), certain.bears_system_name(record), certain.changes_ours(record)
    )


def of_vault(line: dict[str, Any], cluster: str = "dev") -> KeptVault:
    record = parse(Kind.VAULT, encoded(line))
    assert isinstance(record, VaultRecord)
    return KeptVault(record, cluster, certain.signs(record, ["pki-vaulted"]))


def issue(store: Store, serial: str = DECIMAL, print_: str = PRINT, minutes: float = 0) -> None:
    at = BEGIN + timedelta(minutes=minutes)
    row = Certificate("dev", serial, "alice", "developer", ("ph:developer",), "cd" * 32, at, at + timedelta(hours=16))
    with store.write() as connection:
        certificate_rows.add(connection, row)
        certificate_rows.issued(connection, "dev", serial, print_, row.not_after, "PEM")


def test_each_line_is_there_once(store: Store) -> None:
    lines = [of_cluster(event(number / 100)) for number in range(1000)]
    assert audit.add(store, [], lines + lines[:10]) == 1000
    assert audit.add(store, [of_vault(vault_line())], lines) == 1
    assert audit.add(store, [of_vault(vault_line()), of_vault(vault_line(type="request"))], []) == 1
    # The same line of another cluster is another one.
    assert audit.add(store, [], [of_cluster(event(0), "prod")]) == 1


def test_what_was_never_issued_and_what_was_used_late(store: Store) -> None:
    audit.add(store, [], [of_cluster(event(minute)) for minute in (3, 1, 2)])
    (first,) = audit.unknown_certificates(store, "dev")
    assert (first.audit_id, first.groups) == ("a1-1", ("ph:developer:payments", "system:authenticated"))
    issue(store)
    assert audit.unknown_certificates(store, "dev") == ()
    with store.write() as connection:
        certificate_rows.end(connection, "dev", DECIMAL, State.GIVEN_BACK, BEGIN + timedelta(seconds=90))
    ((use, serial, user, ended),) = audit.late_uses(store, "dev", timedelta(seconds=5))
    assert (use.audit_id, serial, user, ended) == ("a1-2", DECIMAL, "alice", BEGIN + timedelta(seconds=90))
    assert audit.late_uses(store, "dev", timedelta(minutes=5)) == ()
    assert [item.audit_id for item in audit.uses_of(store, "dev", "alice", BEGIN + timedelta(minutes=2))] == ["a1-3"]


def test_signatures_and_what_is_missing(store: Store) -> None:
    audit.add(store, [of_vault(vault_line(1))], [])
    assert [item.serial for item in audit.unknown_signatures(store, "dev", BEGIN + timedelta(hours=1))] == [DECIMAL]
    assert audit.unknown_signatures(store, "dev", BEGIN) == ()
    issue(store)
    assert audit.unknown_signatures(store, "dev", BEGIN + timedelta(hours=1)) == ()
    issue(store, "77", "ef" * 32, minutes=10)
    span = Span(BEGIN, BEGIN + timedelta(hours=1))
    assert audit.unseen(store, "dev", span) == (("77", "alice", BEGIN + timedelta(minutes=10)),)
    assert audit.hidden_mounts(store, "dev") == ()


def test_changes_once_for_each_person_and_object(store: Store) -> None:
    changes = [binding_change(1, "mallory"), binding_change(2, "mallory"), binding_change(3, "eve")]
    audit.add(store, [], [of_cluster(line) for line in changes])
    assert [item.user for item in audit.rbac_changes(store, "dev")] == ["mallory", "eve"]


def test_spans_grow_together(store: Store) -> None:
    hour = timedelta(hours=1)
    longest = timedelta(minutes=15)
    audit.cover(store, "dev", Kind.KUBERNETES, "", [Span(BEGIN, BEGIN + hour)], longest)
    audit.cover(store, "dev", Kind.KUBERNETES, "", [Span(BEGIN + 2 * hour, BEGIN + 3 * hour)], longest)
    audit.cover(store, "dev", Kind.VAULT, "b", [Span(BEGIN, BEGIN)], longest)
    found = audit.covered(store, "dev")
    assert len(found[Kind.KUBERNETES, ""]) == 2
    audit.cover(store, "dev", Kind.KUBERNETES, "", [Span(BEGIN + hour, BEGIN + 2 * hour)], longest)
    assert audit.covered(store, "dev") == {
        (Kind.KUBERNETES, ""): (Span(BEGIN, BEGIN + 3 * hour),),
        (Kind.VAULT, "b"): (Span(BEGIN, BEGIN),),
    }


def test_uses_are_counted_by_the_hour_and_reads_by_the_day(store: Store) -> None:
    minutes = (1, 2, 59, 61)
    refused = event(30, responseStatus={"code": 403})
    audit.add(store, [], [of_cluster(line) for line in (*(event(minute) for minute in minutes), refused)])
    uses = sorted(audit_days.of_lines(store, BEGIN, END).uses, key=lambda item: item.at)
    assert [(item.at, item.count, item.refused) for item in uses] == [
        (BEGIN + timedelta(minutes=1), 4, 1),
        (BEGIN + timedelta(minutes=61), 1, 0),
    ]
    assert (uses[0].address, uses[0].fingerprint) == ("10.1.2.3", PRINT)
    lines = [read_line(minute, "payments/database") for minute in (0, 90, 60 * 24)]
    denied = [
        read_line(120, "payments/other", type=kind, error="permission denied") for kind in ("request", "response")
    ]
    audit.add(store, [of_vault(line) for line in (*lines, *denied)], [])
    reads = sorted(audit_days.of_lines(store, BEGIN, END).reads, key=lambda item: item.at)
    assert [(item.at, item.workload, item.path, item.count, item.refused) for item in reads] == [
        (BEGIN, "payments/payments", "kv-vaulted/data/payments/database", 2, 0),
        (BEGIN + timedelta(hours=2), "payments/payments", "kv-vaulted/data/payments/other", 1, 1),
        (BEGIN + timedelta(days=1), "payments/payments", "kv-vaulted/data/payments/database", 1, 0),
    ]


def test_a_summary_of_what_was_done(store: Store) -> None:
    audit.add(store, [], [of_cluster(event(minute)) for minute in (1, 2)])
    audit.add(store, [], [of_cluster(event(3, verb="watch", stage=stage)) for stage in ("ResponseStarted", "Panic")])
    listed, watched = audit.summary(store, "dev", PRINT)
    assert (listed.verb, listed.count, listed.first) == ("list", 2, BEGIN + timedelta(minutes=1))
    assert (watched.verb, watched.count) == ("watch", 1)
    assert audit.summary(store, "prod", PRINT) == ()
    ((cluster, found),) = audit.event(store, "a1-1")
    assert (cluster, found.verb) == ("dev", "list")
    assert audit.purge(store, BEGIN + timedelta(days=91)) == 4


def test_unusual_days_grow_and_page_once(store: Store) -> None:
    day = BEGIN.date()
    small = Alert("alice", day, 25, False, (Signal("new-network", 25, "n", "e", "b"),))
    assert unusual.keep(store, [small]) == ()
    more = (*small.signals, Signal("new-agent", 25, "a", "e", "b", ("c",)))
    paged = Alert("alice", day, 50, True, more)
    (fresh,) = unusual.keep(store, [paged])
    assert fresh.alert == paged
    assert unusual.keep(store, [paged, small]) == ()
    (kept,) = unusual.find(store, "alice", BEGIN - timedelta(days=1), paged=True)
    assert (kept.id, kept.alert, kept.expected) == (fresh.id, paged, None)
    answer = Answer(kept.id, "olga", BEGIN, "she told me", "alice", (("new-agent", "a"), ("denied-spike", "")))
    unusual.expect(store, answer)
    found = unusual.get(store, kept.id)
    assert found is not None
    assert found.expected == answer
    assert [(item.who, item.value) for item in unusual.exceptions(store)] == [("alice", "a")]
    assert unusual.purge(store, BEGIN + timedelta(days=500)) == 1
