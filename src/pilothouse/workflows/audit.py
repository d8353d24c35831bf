"""Audit logs of Vault and API servers: read in, judged against what was issued, and shown as one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pilothouse.access import content as vault_content
from pilothouse.access import vault as vault_names
from pilothouse.access.audit import certain
from pilothouse.access.audit.certain import Found, Ours
from pilothouse.access.audit.lines import kind_of, parse, serial_of
from pilothouse.access.audit.model import ClusterRecord, Kind, VaultRecord
from pilothouse.access.audit.spans import Cover, gaps
from pilothouse.access.grants import Grant
from pilothouse.access.ledger import Entry, Recorded
from pilothouse.access.locks import Kind as Locked
from pilothouse.files.audit_logs import Line
from pilothouse.files.audit_settings import AuditSettings, silence
from pilothouse.platform.model import Platform
from pilothouse.problems import Invalid, Problem, nearest, one_of
from pilothouse.store import Store, findings, grants, ledger, locks, unusual, users
from pilothouse.store import audit as rows
from pilothouse.store import certificates as certificate_rows
from pilothouse.store.audit import KeptCluster, KeptVault, Summary
from pilothouse.store.certificates import Certificate
from pilothouse.workflows.audit_streams import open_late
from pilothouse.workflows.rendering import Opened

SOURCE = "audit"
BATCH = 1000
SHOWN = 5
"""Broken lines that are named; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """Mounts of every cluster's Vault, by path: what signs for which cluster, and where workloads log in and read."""

    authority: Mapping[str, str]
    others: Mapping[str, str]

    @classmethod
    def of(cls, opened: Opened) -> Mounts:
        content, _ = vault_content.read(opened.loaded.content)
        if content is None:
            raise Invalid("the bundle's content for Vault cannot be read", "run `pilothouse check`")
        authority, others = {}, {}
        for name, cluster in opened.loaded.platform.clusters.items():
            authority[vault_names.mount(cluster, content)] = name
            others[content.key_value_mount.format(cluster=name)] = name
            others[f"auth/{content.workload_mount.format(cluster=name)}"] = name
        return cls(authority, others)

    def cluster_of(self, record: VaultRecord) -> str:
        """The cluster that a path belongs to; "" for what is of none."""
        return self.authority.get(record.mount) or self.others.get(record.mount, "")


@dataclass
class Imported:
    """What came of one log: `lines` read, `kept` that are of use, `added` that were not there yet."""

    source: str
    kind: Kind | None = None
    cluster: str = ""
    lines: int = 0
    kept: int = 0
    added: int = 0
    broken: int = 0
    examples: list[str] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None

    def wrong(self, number: int, why: str) -> None:
        self.broken += 1
        if len(self.examples) < SHOWN:
            self.examples.append(f"line {number}: {why}")


@dataclass
class Reader:
    """Reads the lines of one log into the store, a bounded number at a time.

    `cluster` is that of an API server's log, which does not say so itself. `longest` is the silence that is no hole.
    """

    store: Store
    mounts: Mounts
    result: Imported
    longest: timedelta | None = None
    name: str = ""
    _vault: list[KeptVault] = field(default_factory=list)
    _cluster: list[KeptCluster] = field(default_factory=list)
    _cover: Cover | None = None

    def read(self, lines: Iterable[Line]) -> Imported:
        """All of them; what was read stays, whatever ends the reading."""
        try:
            for line in lines:
                self.take(line)
        finally:
            self.flush()
        return self.result

    def take(self, line: Line) -> None:
        self.result.lines += 1
        if line.wrong:
            self.result.wrong(line.number, line.wrong)
            return
        if self.result.kind is None:
            self.result.kind = kind_of(line.data)
            if self.result.kind is None:
                self.result.wrong(line.number, "it is a line of neither Vault nor an API server")
                return
        if self.result.kind is Kind.KUBERNETES and not self.result.cluster:
            raise Invalid(
                f"{self.result.source} is the log of an API server, and does not say of which cluster",
                "name it with --cluster",
            )
        try:
            record = parse(self.result.kind, line.data)
        except ValueError as failure:
            self.result.wrong(line.number, str(failure))
            return
        if record is not None:
            self._keep(record)
        if len(self._vault) + len(self._cluster) >= BATCH:
            self._write()

    def _keep(self, record: VaultRecord | ClusterRecord) -> None:
        at = record.ended if isinstance(record, ClusterRecord) else record.at
        self.result.first = min(self.result.first or at, at)
        self.result.last = max(self.result.last or at, at)
        if self._cover is None:
            assert self.result.kind is not None
            self._cover = Cover(self.longest if self.longest is not None else silence(self.result.kind))
        self._cover.add(at)
        if isinstance(record, VaultRecord):
            cluster = self.mounts.cluster_of(record)
            if cluster and (record.type == "response" or record.error):
                self._vault.append(KeptVault(record, cluster, certain.signs(record, self.mounts.authority)))
                self.result.kept += 1
        elif certain.is_of_use(record):
            self._cluster.append(
                KeptCluster(
                    record,
                    self.result.cluster,
                    certain.is_ours(record),
                    certain.bears_system_name(record),
                    certain.changes_ours(record),
                )
            )
            self.result.kept += 1

    def _write(self) -> None:
        if self._vault or self._cluster:
            self.result.added += rows.add(self.store, self._vault, self._cluster)
            self._vault, self._cluster = [], []

    def flush(self) -> None:
        """Write what is held, and what time was covered: of Vault's log for every cluster that it may serve."""
        self._write()
        if self._cover is None or self.result.kind is None:
            return
        longest = self.longest if self.longest is not None else silence(self.result.kind)
        served = set(self.mounts.authority.values())
        clusters = {self.result.cluster} if self.result.cluster else served
        for cluster in sorted(clusters):
            rows.cover(self.store, cluster, self.result.kind, self.name, self._cover.spans, longest)
        self._cover = None


# ---------------------------------------------------------------- certain findings


def certain_findings(
    store: Store, opened: Opened, cluster: str, settings: AuditSettings, now: datetime
) -> tuple[Found, ...]:
    """Everything that the logs of that cluster certainly show, but for what was called expected."""
    declared = opened.loaded.platform.clusters[cluster]
    by_vault = declared.authority.backend == "vault"
    hidden = rows.hidden_mounts(store, cluster)
    found = [
        *certain.unknown(cluster, rows.unknown_certificates(store, cluster)),
        *certain.past_portal(cluster, rows.unknown_signatures(store, cluster, now - certain.SETTLE)),
        *certain.hidden_serials(cluster, hidden),
        *certain.used_late(cluster, _late(store, cluster, now)),
        *open_late(store, cluster, now),
        *certain.system_names(cluster, rows.system_names(store, cluster)),
        *certain.system_signatures(cluster, rows.signatures(store, cluster)),
        *certain.outside_changes(
            cluster,
            rows.rbac_changes(store, cluster),
            frozenset(settings.appliers.get(cluster, ())),
            declared.elevation.account,
        ),
    ]
    longest = {(item.kind, item.name): item.silence for item in settings.sources if item.cluster == cluster}
    for (kind, name), spans in rows.covered(store, cluster).items():
        found += certain.gap(cluster, kind, name, gaps(spans, longest.get((kind, name), silence(kind))))
        if kind is Kind.VAULT and by_vault and not hidden:
            for span in spans:
                found += certain.unseen(cluster, rows.unseen(store, cluster, span))
    expected = unusual.answers(store)
    return tuple({item.id: item for item in found if item.id not in expected}.values())


def _late(store: Store, cluster: str, now: datetime) -> Iterator[tuple[ClusterRecord, Ours]]:
    for use, serial, user, ended_at in rows.late_uses(store, cluster, certain.SKEW):
        yield use, Ours(user, serial, ended_at, "it was given back")
    for name, since in users.closed(store).items():
        for use in rows.uses_of(store, cluster, name, since + certain.SKEW):
            yield use, Ours(name, f"SHA-256 {use.fingerprint[:16]}", since, "the account was closed")
    for lock in locks.find(store, since=now):
        target = lock.target
        for use in rows.uses_of(store, cluster, target.user, lock.at + certain.SKEW):
            if target.kind is Locked.USER:
                yield use, Ours(target.user, f"SHA-256 {use.fingerprint[:16]}", lock.at, "the person was locked")
            elif target.cluster == cluster and target.fingerprint == use.fingerprint:
                yield use, Ours(target.user, target.subject, lock.at, "it was locked")


def all_findings(store: Store, opened: Opened, settings: AuditSettings, now: datetime) -> tuple[Found, ...]:
    """Those of every cluster."""
    return tuple(
        item for cluster in opened.clusters() for item in certain_findings(store, opened, cluster, settings, now)
    )


def record_findings(
    store: Store, opened: Opened, settings: AuditSettings, now: datetime
) -> tuple[tuple[Found, ...], tuple[Problem, ...]]:
    """(all that holds now, what is new), after the findings of every cluster were replaced."""
    everything: list[Found] = []
    fresh: list[Problem] = []
    for cluster in opened.clusters():
        found = certain_findings(store, opened, cluster, settings, now)
        new, _ = findings.replace(store, SOURCE, cluster, (item.problem for item in found), now)
        everything += found
        fresh += new
    return tuple(everything), tuple(fresh)


# ---------------------------------------------------------------- one thread


@dataclass(frozen=True, slots=True)
class Thread:
    """Everything that is known of one certificate, request or event; fields are empty where nothing is."""

    cluster: str = ""
    certificate: Certificate | None = None
    grant: Grant | None = None
    ledger: tuple[Recorded, ...] = ()
    vault: tuple[VaultRecord, ...] = ()
    events: tuple[ClusterRecord, ...] = ()
    done: tuple[Summary, ...] = ()
    fingerprint: str = ""

    def as_data(self) -> dict[str, Any]:
        entries = [
            {"sequence": row.sequence, "at": row.at, "kind": row.entry.kind, "actor": row.entry.actor,
             "subject": row.entry.subject, "data": row.entry.data}
            for row in self.ledger
        ]  # fmt: skip
        certificate = replace(self.certificate, pem="") if self.certificate else None
        return {
            "cluster": self.cluster,
            "certificate": certificate,
            "request": self.grant,
            "fingerprint": self.fingerprint,
            "ledger": entries,
            "vault": self.vault,
            "events": self.events,
            "done": self.done,
        }


def thread(store: Store, asked: str) -> Thread:
    """By a serial (decimal, or Vault's with colons), a SHA-256 fingerprint, a request of ours, Vault's request id, or
    an auditID. `Invalid` where nothing is known of it."""
    asked = asked.strip()
    if serial := serial_of(asked):
        found = certificate_rows.get(store, serial)
        shown = rows.vault_thread(store, serial=serial)
        if found is None and not shown:
            raise _nothing(asked)
        if found is None:
            return _unrecorded(store, shown)
        return _whole(store, found)
    grant = grants.get(store, asked)
    if grant is not None:
        found = certificate_rows.get(store, grant.serial, grant.cluster) if grant.serial else None
        return _whole(store, found) if found else Thread(grant.cluster, None, grant, _entries(store, {grant.id}))
    if shown := rows.vault_thread(store, request_id=asked):
        signed = next((item for item in shown if item.serial), None)
        found = certificate_rows.get(store, signed.serial) if signed else None
        return _whole(store, found) if found else _unrecorded(store, shown)
    if events := rows.event(store, asked):
        cluster, first = events[0]
        of_it = tuple(record for _, record in events)
        found = certificate_rows.by_fingerprint(store, first.fingerprint) if first.fingerprint else None
        if found is not None:
            return replace(_whole(store, found), events=of_it)
        done = rows.summary(store, cluster, first.fingerprint) if first.fingerprint else ()
        return Thread(cluster, events=of_it, done=done, fingerprint=first.fingerprint)
    found = certificate_rows.by_fingerprint(store, asked.lower().removeprefix("x509sha256="))
    if found is None:
        raise _nothing(asked)
    return _whole(store, found)


def _nothing(asked: str) -> Invalid:
    return Invalid(
        f"nothing is known of {asked}",
        "give a serial, a request, Vault's request id or an auditID; was its log imported?",
    )


def _whole(store: Store, certificate: Certificate) -> Thread:
    grant = grants.get(store, certificate.grant_id) if certificate.grant_id else None
    subjects = {certificate.serial} | ({grant.id} if grant else set())
    entries = _entries(store, subjects)
    intents = {str(row.entry.data["intent"]) for row in entries if "intent" in row.entry.data}
    if intents:
        entries = _entries(store, subjects | intents)
    done = rows.summary(store, certificate.cluster, certificate.fingerprint) if certificate.fingerprint else ()
    vault = rows.vault_thread(store, serial=certificate.serial)
    return Thread(certificate.cluster, certificate, grant, entries, vault, (), done, certificate.fingerprint)


def _unrecorded(store: Store, shown: tuple[VaultRecord, ...]) -> Thread:
    """What Vault signed and we have no record of."""
    cluster = rows.vault_cluster(store, shown[0].request_id)
    print_ = next((item.fingerprint for item in shown if item.fingerprint), "")
    done = rows.summary(store, cluster, print_) if print_ else ()
    return Thread(cluster, vault=shown, done=done, fingerprint=print_)


def _entries(store: Store, subjects: Iterable[str]) -> tuple[Recorded, ...]:
    found: list[Recorded] = []
    for subject in sorted(subjects):
        found += ledger.find(store, ledger.Filter(subject=subject), limit=200)[0]
    return tuple(sorted(found, key=lambda row: row.sequence))


# ---------------------------------------------------------------- expected


def expect(
    store: Store, id: str, by: str, reason: str, now: datetime, known: Callable[[], Iterable[Found]]
) -> unusual.Answer:
    """Somebody says that a finding is as it should be: kept with the reason, in the ledger, and an exception from then
    on. `Invalid` for an id that nothing has, `Conflict` where that was said before."""
    reason = " ".join(reason.split())
    if len(reason) < 5:
        raise Invalid("a reason is needed, of 5 characters or more", "say why this was to be expected")
    kept = unusual.get(store, id)
    if kept is not None:
        signals = tuple((signal.rule, value) for signal in kept.alert.signals for value in (signal.value, *signal.also))
        answer = unusual.Answer(id, by, now, reason[:500], kept.alert.who, signals)
        what = f"the unusual {kept.alert.day} of {kept.alert.who}"
        cluster = ""
    else:
        found = {item.id: item for item in known()}
        if id not in found:
            raise Invalid(f"there is no finding `{id}`", nearest(id, found) or one_of(found))
        answer = unusual.Answer(id, by, now, reason[:500])
        what, cluster = found[id].problem.message, found[id].problem.cluster
    unusual.expect(store, answer)
    with store.write() as connection:
        data = {"reason": answer.reason, "what": what[:500]}
        ledger.append(connection, Entry("audit.expected", by[:100], id, cluster, data), now)
    return answer


def team_of(platform: Platform, user: str) -> str:
    """The first team that names the person, or ""."""
    found = platform.teams_of_person(user)
    return found[0].name if found else ""
