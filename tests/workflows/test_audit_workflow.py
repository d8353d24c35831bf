"""Logs read into the store, what they certainly show, one thread, and the worker that reads on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.access_world import write_platform
from support.audit_logs import (
    BEGIN,
    DECIMAL,
    PRINT,
    SERIAL,
    binding_change,
    encoded,
    event,
    node,
    read_line,
    text,
    vault_line,
)

from pilothouse.access import locks
from pilothouse.access.ledger import Entry
from pilothouse.files import audit_logs
from pilothouse.files.audit_settings import AuditSettings
from pilothouse.problems import Conflict, Invalid
from pilothouse.store import Store, events, findings, ledger, unusual, users
from pilothouse.store import certificates as rows
from pilothouse.store import locks as lock_rows
from pilothouse.store.certificates import Certificate, State
from pilothouse.store.jobs import JobState
from pilothouse.workflows import audit, audit_jobs
from pilothouse.workflows import unusual as scoring
from pilothouse.workflows.audit import Imported, Mounts, Reader
from pilothouse.workflows.rendering import Opened, open_platform
from pilothouse.workflows.upkeep import Upkeep

CERTIFICATE = Certificate(
    "vaulted", DECIMAL, "alice", "developer", ("ph:developer:payments",), "cd" * 32, BEGIN, BEGIN + timedelta(hours=16)
)
NOW = BEGIN + timedelta(days=1)


class Place:
    """A store, the small platform, and short words for what tests do."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.root = write_platform(folder / "platform")
        self.store = Store(self.data)
        self.store.migrate()
        self.opened: Opened = open_platform(self.root)
        self.now = NOW
        self.told: list[tuple[tuple[str, ...], str, str]] = []

    def read(self, *lines: dict[str, Any], cluster: str = "vaulted", data: bytes = b"") -> Imported:
        stream = io.BytesIO(data or text(*lines))
        reader = Reader(self.store, Mounts.of(self.opened), Imported("log", cluster=cluster))
        return reader.read(audit_logs.of_stream(stream, "log"))

    def issue(self, certificate: Certificate = CERTIFICATE, print_: str = PRINT) -> None:
        with self.store.write() as connection:
            rows.add(connection, certificate)
            rows.issued(connection, certificate.cluster, certificate.serial, print_, certificate.not_after, "PEM")
            data = {"fingerprint": print_, "intent": "99"}
            ledger.append(connection, Entry("certificate.intent", certificate.user, "99", "vaulted"), BEGIN)
            entry = Entry("certificate.issued", certificate.user, certificate.serial, "vaulted", data)
            ledger.append(connection, entry, BEGIN)

    def found(self, cluster: str = "vaulted", **settings: Any) -> dict[str, str]:
        """Code → message."""
        all_ = audit.certain_findings(self.store, self.opened, cluster, AuditSettings(**settings), self.now)
        return {item.problem.code.removeprefix("access/"): item.problem.message for item in all_}

    def upkeep(self) -> Upkeep:
        return Upkeep(self.store, self.root, self.data, lambda: self.now, lambda *message: self.told.append(message))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.store.close()


def test_the_usual_is_no_finding(place: Place) -> None:
    place.issue()
    place.read(vault_line(0.01), read_line(1, "payments/database"))
    place.read(event(1), event(2, verb="get"), node(3))
    assert place.found() == {}


def test_a_log_that_is_read_twice_changes_nothing(place: Place) -> None:
    lines = (event(1), event(2), event(2, stage="ResponseStarted"), node(3))
    first = place.read(*lines)
    assert (first.lines, first.kept, first.added) == (4, 3, 3)
    assert (first.first, first.last) == (BEGIN + timedelta(minutes=1), BEGIN + timedelta(minutes=3))
    second = place.read(*lines)
    assert (second.kept, second.added) == (3, 0)
    third = place.read(vault_line(0), vault_line(0), vault_line(5), cluster="")
    assert (third.kept, third.added) == (3, 2)


def test_broken_lines_are_counted_and_named_and_end_nothing(place: Place) -> None:
    bad = b"".join(b'{"number": %d\n' % number for number in range(9))
    found = place.read(data=encoded(event(1)) + b"\n" + bad + b"[]\n" + encoded(event(2)) + b"\n")
    assert (found.added, found.broken) == (2, 10)
    assert found.examples == [f"line {number}: it is no JSON" for number in range(2, 7)]
    nothing = place.read(data=b"not a log\nat all\n")
    assert (nothing.kind, nothing.broken) == (None, 2)


def test_the_log_of_an_api_server_wants_a_cluster(place: Place) -> None:
    with pytest.raises(Invalid, match="does not say of which cluster"):
        place.read(event(1), cluster="")


def test_many_lines_go_in_by_the_batch(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "BATCH", 7)
    assert place.read(*(event(number / 10) for number in range(50))).added == 50


def test_a_certificate_that_was_never_issued(place: Place) -> None:
    place.issue()
    other = event(2, user__extra={"authentication.kubernetes.io/credential-id": [f"X509SHA256={'ee' * 32}"]})
    place.read(event(1), other)
    message = place.found()["unknown-certificate"]
    assert "alice used a certificate on vaulted that was never issued here" in message
    assert "audit a1-2" in message
    # The same certificate is nobody's on another cluster.
    place.read(event(1), cluster="dev")
    assert "a1-1" in place.found("dev")["unknown-certificate"]


def test_a_signature_past_the_portal(place: Place) -> None:
    place.read(vault_line(0))
    assert f"serial {DECIMAL}, from 10.1.2.3" in place.found()["signed-past-portal"]
    place.issue()
    assert "signed-past-portal" not in place.found()


def test_a_signature_of_this_moment_may_still_reach_the_ledger(place: Place) -> None:
    place.read(vault_line(0))
    place.now = BEGIN + timedelta(seconds=5)
    assert place.found() == {}
    place.now = BEGIN + timedelta(seconds=40)
    assert "signed-past-portal" in place.found()


def test_a_log_that_hides_serials_says_so_and_accuses_nobody(place: Place) -> None:
    place.issue()
    hidden = {"data": {"serial_number": "hmac-sha256:1", "certificate": "hmac-sha256:2"}}
    place.read(vault_line(-5, response=hidden), vault_line(5, response=hidden))
    assert list(place.found()) == ["vault-audit-hides-serials"]
    place.read(vault_line(0), vault_line(9, response={"data": {"serial_number": SERIAL}}))
    assert place.found() == {}


def test_use_after_it_was_given_back(place: Place) -> None:
    place.issue()
    with place.store.write() as connection:
        rows.end(connection, "vaulted", DECIMAL, State.GIVEN_BACK, BEGIN + timedelta(minutes=10))
    place.read(event(1), event(10.05))  # within what clocks may differ
    assert place.found() == {}
    place.read(event(11), event(12))
    assert "after it was given back at 2026-11-21 08:10:00 UTC, first in audit a1-11" in place.found()["used-after-end"]


def test_use_after_the_account_was_closed(place: Place) -> None:
    users.add(place.store, "alice", "correct horse battery", BEGIN)
    users.set_disabled(place.store, "alice", True, BEGIN + timedelta(minutes=10))
    place.issue()
    place.read(event(9))
    assert place.found() == {}
    place.read(event(20))
    assert "after the account was closed" in place.found()["used-after-end"]


@pytest.mark.parametrize("kind", list(locks.Kind))
def test_use_after_it_was_locked(place: Place, kind: locks.Kind) -> None:
    place.issue()
    found = rows.get(place.store, DECIMAL, "vaulted")
    assert found is not None
    subject = "alice" if kind is locks.Kind.USER else DECIMAL
    target = locks.Target(kind, subject, "alice", "vaulted", found.fingerprint)
    lock_rows.put(place.store, locks.lock("l-1", target, "pat", "laptop stolen", BEGIN + timedelta(minutes=10)))
    place.read(event(9))
    assert place.found() == {}
    place.read(event(20))
    assert "locked at 2026-11-21 08:10:00 UTC" in place.found()["used-after-end"]


def test_names_of_kubernetes_own(place: Place) -> None:
    groups = ["system:masters", "system:authenticated"]
    place.read(event(1, user__username="kubernetes-admin", user__groups=groups))
    assert "kubernetes-admin came to vaulted with system:masters" in place.found()["system-name-used"]
    place.read(vault_line(1, request__data={"common_name": "system:kube-scheduler"}))
    messages = [
        item.problem.message
        for item in audit.certain_findings(place.store, place.opened, "vaulted", AuditSettings(), NOW)
        if item.problem.code == "access/system-name-used"
    ]
    assert any("had Vault sign system:kube-scheduler" in message for message in messages)


def test_bindings_that_were_changed_outside(place: Place) -> None:
    place.read(binding_change(1, "gitops"), binding_change(2, "mallory"), binding_change(3, "mallory"))
    assert place.found(appliers={"vaulted": ("gitops", "mallory")}) == {}
    message = place.found(appliers={"vaulted": ("gitops",)})["binding-changed-outside"]
    assert "mallory did patch of clusterrolebindings ph:developer on vaulted" in message


def test_the_account_that_binds_requests_is_known_from_the_cluster(place: Place) -> None:
    """Bindings of requests are its own to make and delete, and nothing else of ours is."""
    account = "system:serviceaccount:pilothouse:worker"
    elevated = {"verb": "create", "objectRef": _binding("clusterrolebindings", "ph:elev:g-x7k2m9qa")}
    gone = {"verb": "delete", "objectRef": _binding("rolebindings", "ph:elev:g-x7k2m9qa")}
    place.read(binding_change(1, account, **elevated), binding_change(2, account, **gone))
    assert "system:serviceaccount:pilothouse:worker did" in place.found()["binding-changed-outside"]
    text_ = (place.root / "platform.yaml").read_text()
    at = text_.index("name: vaulted")
    begin = text_.index("spec:", at) + len("spec:")
    assert text_[begin] == "\n"
    (place.root / "platform.yaml").write_text(f"{text_[:begin]}\n  elevation: {{account: '{account}'}}{text_[begin:]}")
    place.opened = open_platform(place.root)
    assert place.opened.loaded.platform.clusters["vaulted"].elevation.account == account
    assert place.found() == {}
    for number, (who, change) in enumerate(
        (
            ("mallory", elevated),
            (account, {"verb": "patch", "objectRef": _binding("clusterrolebindings", "ph:elev:g-x7k2m9qa")}),
            (account, {"verb": "create", "objectRef": _binding("clusterroles", "ph:elev:g-x7k2m9qa")}),
            (account, {"verb": "create", "objectRef": _binding("clusterrolebindings", "ph:developer")}),
        )
    ):
        place.read(binding_change(10 + number, who, **change))
    found = audit.certain_findings(place.store, place.opened, "vaulted", AuditSettings(), NOW)
    assert [(item.who, item.problem.message.split(" on ")[0]) for item in found] == [
        ("mallory", "mallory did create of clusterrolebindings ph:elev:g-x7k2m9qa"),
        (account, f"{account} did patch of clusterrolebindings ph:elev:g-x7k2m9qa"),
        (account, f"{account} did create of clusterroles ph:elev:g-x7k2m9qa"),
        (account, f"{account} did create of clusterrolebindings ph:developer"),
    ]


def _binding(resource: str, name: str) -> dict[str, str]:
    return {"resource": resource, "apiGroup": "rbac.authorization.k8s.io", "name": name}


def test_a_hole_in_a_log_and_the_file_that_fills_it(place: Place) -> None:
    place.read(node(0), node(10), node(60), node(70))
    assert "silent from 2026-11-21 08:10:00 to 2026-11-21 09:00:00 UTC" in place.found()["audit-gap"]
    place.read(*(node(minute) for minute in range(10, 61, 10)))
    assert place.found() == {}


def test_a_line_that_is_missing_in_vaults_log(place: Place) -> None:
    place.issue(replace(CERTIFICATE, asked_at=BEGIN + timedelta(minutes=30)))
    place.read(read_line(0, "payments/database"))
    assert place.found() == {}  # not covered yet
    place.read(read_line(0, "payments/database"), read_line(60, "payments/database"))
    assert f"does not show the certificate {DECIMAL} of alice" in place.found()["audit-gap"]
    place.read(vault_line(30))
    assert place.found() == {}


def test_findings_stay_the_same_while_a_log_is_read_on(place: Place) -> None:
    place.read(event(1))
    _, fresh = audit.record_findings(place.store, place.opened, AuditSettings(), NOW)
    assert [item.code for item in fresh] == ["access/unknown-certificate"]
    place.read(event(2), event(3))
    _, fresh = audit.record_findings(place.store, place.opened, AuditSettings(), NOW)
    assert fresh == ()
    assert len(findings.current(place.store, "vaulted")) == 1


def test_expected_ends_a_finding_and_stands_in_the_ledger(place: Place) -> None:
    place.read(event(1))

    def known() -> tuple[Any, ...]:
        return audit.certain_findings(place.store, place.opened, "vaulted", AuditSettings(), NOW)

    (finding,) = known()
    with pytest.raises(Invalid, match="a reason is needed"):
        audit.expect(place.store, finding.id, "olga", " x ", NOW, known)
    with pytest.raises(Invalid, match="there is no finding"):
        audit.expect(place.store, "a-nothing", "olga", "it was meant", NOW, known)
    audit.expect(place.store, finding.id, "olga", "it was meant", NOW, known)
    assert known() == ()
    (entry,), _ = ledger.find(place.store, ledger.Filter(kind="audit.expected"))
    assert (entry.entry.actor, entry.entry.subject, entry.entry.data["reason"]) == ("olga", finding.id, "it was meant")
    with pytest.raises(Invalid, match="there is no finding"):
        audit.expect(place.store, finding.id, "olga", "it was meant", NOW, known)


# ---------------------------------------------------------------- threads


def test_one_thread_from_every_end(place: Place) -> None:
    place.issue()
    place.read(vault_line(0.01))
    place.read(event(1), event(5), event(6, verb="get", responseStatus={"code": 403}))
    whole = audit.thread(place.store, DECIMAL)
    assert whole.certificate is not None
    assert [row.entry.kind for row in whole.ledger] == ["certificate.intent", "certificate.issued"]
    assert [item.serial for item in whole.vault] == [DECIMAL]
    listed, got = whole.done
    assert (listed.verb, listed.count, listed.refused) == ("list", 2, 0)
    assert (listed.first, listed.last) == (BEGIN + timedelta(minutes=1), BEGIN + timedelta(minutes=5))
    assert (got.verb, got.refused) == ("get", 1)
    assert "PEM" not in str(whole.as_data())
    for asked in (SERIAL, SERIAL.upper(), PRINT, f"X509SHA256={PRINT}", "7f1e-0.01"):
        assert audit.thread(place.store, asked) == whole
    from_event = audit.thread(place.store, "a1-5")
    assert [item.audit_id for item in from_event.events] == ["a1-5"]
    assert replace(from_event, events=()) == whole
    with pytest.raises(Invalid, match="nothing is known of 4711"):
        audit.thread(place.store, "4711")


def test_the_thread_of_what_was_never_issued(place: Place) -> None:
    place.read(vault_line(0))
    place.read(event(1))
    by_vault = audit.thread(place.store, DECIMAL)
    assert (by_vault.certificate, by_vault.cluster) == (None, "vaulted")
    by_event = audit.thread(place.store, "a1-1")
    assert by_event.certificate is None
    assert (by_event.fingerprint, [item.verb for item in by_event.done]) == (PRINT, ["list"])


# ---------------------------------------------------------------- the worker


def _settings(place: Place, log: Path) -> None:
    (place.data / "audit.yaml").write_text(
        f"sources: [{{cluster: vaulted, kind: kubernetes, path: {log}}}]\nlearningDays: 14\n"
    )


def test_the_worker_reads_on_and_tells(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(text(node(0), event(1)))
    _settings(place, log)
    outcome = place.upkeep().audit()
    assert (outcome.state, outcome.message) == (JobState.PROBLEMS, "1 new records, 1 findings, 0 logs not read")
    ((people, subject, said),) = place.told
    assert people == ("olga", "pat")
    assert subject == "1 findings in audit logs"
    assert "never issued here" in said
    assert place.upkeep().audit().message == "0 new records, 1 findings, 0 logs not read"
    with log.open("ab") as file:
        file.write(text(event(2), event(3)) + b"broken\n")
    assert place.upkeep().audit().message.startswith("2 new records, 1 lines that cannot be read")
    assert len(place.told) == 1


def test_a_long_log_is_judged_before_it_is_read_to_its_end(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(text(*(event(number / 100) for number in range(100))))
    _settings(place, log)
    monkeypatch.setattr(audit_jobs, "STEP", 10_000)
    monkeypatch.setattr(audit_jobs, "LONGEST", timedelta(0))
    upkeep = place.upkeep()
    seen = []
    for _ in range(20):
        place_clock = iter(range(10_000))
        upkeep.clock = lambda ticks=place_clock: NOW + timedelta(seconds=next(ticks))  # type: ignore[misc]
        seen.append(upkeep.audit().message)
        if "more to read" not in seen[-1]:
            break
    assert seen[0].endswith("1 findings, 0 logs not read, 1 logs with more to read")
    assert 3 < len(seen) < 20
    assert sum(int(message.split()[0]) for message in seen) == 100


def test_a_log_that_cannot_be_read_is_a_finding(place: Place, tmp_path: Path) -> None:
    _settings(place, tmp_path / "away.log")
    assert place.upkeep().audit().state is JobState.PROBLEMS
    (found,) = findings.current(place.store)
    assert found.problem.code == "access/audit-unread"
    (tmp_path / "away.log").write_bytes(text(node(0)))
    assert place.upkeep().audit().state is JobState.OK
    assert findings.current(place.store) == ()


def _month(place: Place) -> None:
    """Alice works for thirty days from one place; then somebody else does, with her login."""
    for day in range(30):
        at = BEGIN - timedelta(days=30 - day)
        events.record(place.store, events.Event(at, "login", "alice", address="203.0.113.7"))
    lines = [
        event(minutes, sourceIPs=["203.0.113.7"])
        for day in range(30)
        for minutes in (-1440 * (30 - day), -1440 * (30 - day) + 60)
    ]
    stolen = [
        event(-300 + n / 10, sourceIPs=["198.51.100.9"], userAgent="curl/8", responseStatus={"code": 403})
        for n in range(40)
    ]
    place.read(*lines, *stolen)
    reads = [read_line(-1440 * day, "payments/database") for day in range(1, 31)]
    odd = [read_line(-200, f"payments/{name}") for name in ("old", "backup", "admin")]
    place.read(*sorted([*reads, *odd], key=lambda line: str(line["time"])))


def test_what_is_unusual_from_the_records_themselves(place: Place) -> None:
    _month(place)
    place.now = BEGIN + timedelta(hours=6)
    judged = scoring.run(place.store, place.opened.loaded.platform, AuditSettings(), place.now)
    by_who = {kept.alert.who: kept for kept in judged.pages}
    assert set(by_who) == {"alice", "vaulted:payments/payments"}
    assert {signal.rule for signal in by_who["alice"].alert.signals} >= {"new-network", "new-agent", "denied-spike"}
    workload = by_who["vaulted:payments/payments"].alert
    assert [(signal.rule, len(signal.also)) for signal in workload.signals] == [("new-secret", 2)]
    assert {item.problem.code for item in findings.current(place.store)} == {"access/unusual-activity"}
    # The same records again page nobody again.
    assert scoring.run(place.store, place.opened.loaded.platform, AuditSettings(), place.now).pages == ()


def test_expected_is_learned(place: Place) -> None:
    _month(place)
    place.now = BEGIN + timedelta(hours=6)
    upkeep = place.upkeep()
    assert upkeep.unusual().state is JobState.PROBLEMS
    assert {subject for _, subject, _ in place.told} == {
        "Unusual activity of alice",
        "Unusual activity of vaulted:payments/payments",
    }
    for kept in unusual.find(place.store, paged=True):
        audit.expect(place.store, kept.id, "olga", "they told me so", place.now, tuple)
        with pytest.raises(Conflict, match="called"):
            audit.expect(place.store, kept.id, "olga", "they told me so", place.now, tuple)
    assert upkeep.unusual().state is JobState.OK
    allowed = {(item.rule, item.value) for item in unusual.exceptions(place.store)}
    assert {("new-network", "198.51.100.0/24"), ("new-secret", "kv-vaulted/data/payments/admin")} <= allowed
    assert ("denied-spike", "") not in allowed
    place.read(event(-100, sourceIPs=["198.51.100.9"], userAgent="curl/8"))
    later = scoring.run(place.store, place.opened.loaded.platform, AuditSettings(), place.now)
    assert later.problems == ()


def test_old_lines_go_and_what_was_found_stays(place: Place) -> None:
    from pilothouse.store import audit as kept

    _month(place)
    place.now = BEGIN + timedelta(hours=6)
    place.upkeep().unusual()
    assert kept.purge(place.store, place.now + timedelta(days=200)) > 60
    assert kept.covered(place.store, "vaulted") == {}
    assert len(unusual.find(place.store, paged=True)) == 2


def test_the_digest_is_told_once(place: Place) -> None:
    lines = [event(-1440 * day, sourceIPs=["203.0.113.7"]) for day in range(30, 0, -1)]
    place.read(*lines, event(-1300, sourceIPs=["198.51.100.9"]))
    place.now = BEGIN + timedelta(hours=1)
    upkeep = place.upkeep()
    upkeep.unusual()
    upkeep.unusual()
    ((_, subject, said),) = place.told
    assert subject == "Unusual activity of 2026-11-20: 1"
    assert "198.51.100.0/24" in said
