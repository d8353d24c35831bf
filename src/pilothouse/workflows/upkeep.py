"""What the worker does by itself: each function is one job, called with what it needs, returning a line for people.

Findings that a job makes replace those of its last run; a backend that does not answer is the job's
result, never its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pilothouse.access import break_glass
from pilothouse.access import grants as machine
from pilothouse.access.grants import Grant
from pilothouse.access.ledger import Head
from pilothouse.artifacts.objects import is_owned
from pilothouse.files import tree
from pilothouse.files.domains import DOMAINS
from pilothouse.files.git import Repository
from pilothouse.files.snapshot import SNAPSHOTS
from pilothouse.platform.model import Edge, Service
from pilothouse.policies import staging
from pilothouse.policies.compare import drift as policy_drift
from pilothouse.policies.domains import Resolver
from pilothouse.problems import PilothouseError, Place, Problem, Problems, Severity, has_errors, warning
from pilothouse.reports import summary
from pilothouse.store import Store, events, findings, grants, ledger, limits, sessions
from pilothouse.store import notices as notice_rows
from pilothouse.store.jobs import JobState
from pilothouse.workflows import notices, proposals, rendering
from pilothouse.workflows.access import Notifier
from pilothouse.workflows.rendering import KeptDomains, Opened

REMIND_DAYS = (30, 7, 1)
"""An egress that ends is reminded of when so many days are left."""
RENDERED = "rendered"
"""The folder of the worker's own render, within the data folder."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: `message` is one line for people."""

    state: JobState
    message: str


@dataclass
class Upkeep:
    """What the jobs share. `clock` gives aware UTC moments; `tell` takes (users, subject, text) and must not raise."""

    store: Store
    root: Path
    data: Path
    clock: Callable[[], datetime]
    tell: Callable[[tuple[str, ...], str, str], None]
    whole: dict[str, datetime] = field(default_factory=dict)
    """Cluster → when every object of it was last tried on its server."""
    asked_by: str = ""
    """Who asked for the run that goes on; nobody where it was its time."""
    resolver: Resolver | None = None
    """Resolves domains that are not pinned; without one they are what was kept."""
    channels: Mapping[str, Notifier] = field(default_factory=dict)
    """By which people are told: `mail`, `webhook`."""
    _opened: Opened | None = field(default=None, repr=False)

    def opened(self) -> Opened:
        """The platform as the last `reload` read it, and the domains as of now."""
        if self._opened is None:
            return self.read()
        return replace(self._opened, domains=KeptDomains(self.domains, self.clock()))

    def read(self) -> Opened:
        """The platform as it is now."""
        domains = KeptDomains(self.domains, self.clock())
        self._opened = rendering.open_platform(self.root, kept=self.snapshots, domains=domains)
        return self._opened

    @property
    def snapshots(self) -> Path:
        """The folder of the last good snapshots of clusters that are read live."""
        return self.data / SNAPSHOTS

    @property
    def domains(self) -> Path:
        """The folder of what was resolved of the domains that services name."""
        return self.data / DOMAINS

    # ------------------------------------------------------------ jobs

    def reload(self) -> Outcome:
        """Pull the repository where it has a remote, push what was committed here, and read the platform again."""
        repository = Repository(self.root)
        pulled = ""
        if repository.is_repository() and repository.has_remote():
            pulled = f"pulled {repository.pull()[:12]}; "
            if commits := repository.ahead():
                repository.push()
                pulled += f"pushed {commits} commit{'s' if commits > 1 else ''}; "
        opened = self.read()
        self.find("platform", "", opened.problems)
        services = len(opened.loaded.platform.services)
        return _outcome(opened.problems, f"{pulled}{services} services, {summary(opened.problems)}")

    def render(self) -> Outcome:
        """Derive, prove and write every cluster to the data folder."""
        opened = self.read()
        result = rendering.render(opened, (), self.data / RENDERED, self.clock().date())
        for cluster in result.clusters:
            self.find("render", cluster.cluster, cluster.problems)
        if result.failed:
            return Outcome(JobState.PROBLEMS, f"nothing was written: {summary(result.all_problems)}")
        changed = [
            f"{item.cluster} {len(item.change.added) + len(item.change.changed) + len(item.change.removed)}"
            for item in result.clusters
            if item.change and not item.change.is_empty
        ]
        return Outcome(JobState.OK, f"files changed: {', '.join(changed)}" if changed else "no file changed")

    def snapshot(self) -> Outcome:
        """Read every cluster whose document names a token; what was read last stays where one does not answer."""
        from pilothouse.workflows import cluster_jobs

        return Outcome(*cluster_jobs.read(self))

    def resolve(self) -> Outcome:
        """Resolve the domains that services of read or applied clusters name; what a name was stays for a while."""
        from pilothouse.workflows import domains

        return Outcome(*domains.resolve(self))

    def log_store(self) -> Outcome:
        """Read every declared log store; what is wrong with one is a finding."""
        from pilothouse.workflows import log_findings

        return Outcome(*log_findings.look(self))

    def audit(self) -> Outcome:
        """Read the audit logs of Vault and the API servers on; what they certainly show are findings."""
        from pilothouse.workflows import audit_jobs

        return Outcome(*audit_jobs.read(self))

    def unusual(self) -> Outcome:
        """Hold what people and workloads did against what is usual for them."""
        from pilothouse.workflows import audit_jobs

        return Outcome(*audit_jobs.score(self))

    def elevate(self) -> Outcome:
        """Bind every request that was claimed, and unbind every one that is over, where a cluster says so."""
        from pilothouse.workflows import elevation

        return Outcome(*elevation.run(self))

    def sweep_elevations(self) -> Outcome:
        """Look at every cluster for bindings that may not stand any more, whatever is written down about them."""
        from pilothouse.workflows import elevation_sweep

        return Outcome(*elevation_sweep.run(self))

    def apply(self) -> Outcome:
        """Bring every cluster with `apply: auto` to what is declared.

        Where somebody asked for it, such as whoever agreed to a change, this worker's own clone is brought up to date
        first. A remote that does not answer keeps nothing from being applied: what lies here was agreed to as well.
        """
        from pilothouse.workflows import cluster_jobs

        missing = self._catch_up() if self.asked_by else ""
        state, message = cluster_jobs.apply(self)
        if missing:
            return Outcome(JobState.PROBLEMS if state is JobState.OK else state, f"not pulled: {missing}; {message}")
        return Outcome(state, message)

    def _catch_up(self) -> str:
        """Pull where there is a remote; why that could not be done."""
        repository = Repository(self.root)
        try:
            if repository.is_repository() and repository.has_remote():
                repository.pull()
        except PilothouseError as failure:
            return failure.message
        return ""

    def drift(self) -> Outcome:
        """Compare what was rendered with what should be, and what runs, or a snapshot holds, with what was declared."""
        opened = self.opened()
        if has_errors(opened.problems):
            return Outcome(JobState.PROBLEMS, "the documents have errors, so what should be is not known")
        self.snapshot()
        counts = []
        for name in opened.clusters():
            found = list(self._drift_of(opened, name))
            self.find("drift", name, found)
            if found:
                counts.append(f"{name} {len(found)}")
        return Outcome(
            JobState.PROBLEMS if counts else JobState.OK, f"differences: {', '.join(counts)}" if counts else "no drift"
        )

    def _drift_of(self, opened: Opened, cluster: str) -> Iterable[Problem]:
        place = opened.loaded.platform.clusters[cluster].place
        inputs, result = rendering.derive_cluster(opened, cluster, self.clock().date())
        folder = self.data / RENDERED / cluster
        if folder.is_dir():
            change = tree.diff_tree(folder, result.files)
            for path in (*change.changed, *change.removed, *change.added):
                yield warning(
                    "worker/rendered-differs",
                    f"the rendered {cluster}/{path} is not what the declarations lead to",
                    place,
                    "nobody should edit the rendered tree; the next render writes it anew",
                    cluster=cluster,
                )
        manifests = (*inputs.snapshot.policies, *inputs.snapshot.rbac)
        if not any(is_owned(manifest.data, cluster) for manifest in manifests):
            return  # nothing of ours was ever applied there: that is no drift
        policies = staging.as_applied(inputs, result.artifacts.under("policies/").manifests(), self.clock())
        yield from policy_drift.problems(policy_drift.drift(inputs, policies), place)
        for change_ in rendering.object_changes(inputs, result):
            if policy_drift.is_policy(change_.key):
                continue  # compared by what it means
            yield warning(
                "worker/cluster-differs",
                f"{change_.key} on {cluster} is not what was declared ({change_.action} would mend it)",
                place,
                "see `pilothouse diff --live`; apply again, or declare what was done by hand",
                cluster=cluster,
            )

    def expire(self) -> Outcome:
        """End what is past its time: requests for access, proposals, sessions, counters, old entries."""
        now = self.clock()
        settled = grants.settle(self.store, now)
        ended = len(settled)
        self._break_glass([grant for grant in settled if grant.break_glass], now)
        for grant in settled:
            if not grant.break_glass:
                subject, text = machine.told(grant, "", str(grant.state))
                self.tell(tuple(dict.fromkeys(filter(None, (grant.user, grant.decided_by)))), subject, text)
        old = proposals.expire(self.store, now)
        gone = sessions.purge(self.store, now)
        limits.purge(self.store, now)
        events.purge(self.store, now)
        findings.purge(self.store, now)
        notice_rows.purge(self.store, now)
        return Outcome(JobState.OK, f"ended {ended} access requests, {old} proposals, {gone} sessions")

    def _break_glass(self, ended: Iterable[Grant], now: datetime) -> None:
        """Tell that one has ended by itself; open ones, and those that nobody has reviewed, are findings."""
        platform = self.opened().loaded.platform
        for grant in ended:
            subject, text = break_glass.told(grant, str(grant.state))
            self.tell(break_glass.concerned(platform, grant.profile), subject, text)
        self.find("break-glass", "", break_glass.findings(grants.broken_glass(self.store), platform, now))

    def notices(self) -> Outcome:
        """Deliver what people are to be told; what has waited for long, or was given up, is a finding."""
        went, missed = notices.deliver(self.store, self.channels, self.clock)
        found = notices.findings(self.store, self.clock())
        self.find("notices", "", found)
        said = f"{went} delivered, {missed} failed"
        return Outcome(JobState.PROBLEMS if found else JobState.OK, said)

    def verify(self) -> Outcome:
        """Walk the ledger's chain from its first entry, up to the head that the signer keeps beside its keys."""
        kept = self.data / "signer" / "head"
        exported = [Head.parse(kept.read_text(encoding="ascii"))] if os.access(kept, os.R_OK) else []
        problems, head = ledger.verify(self.store, exported)
        self.find("ledger", "", problems)
        if problems:
            return Outcome(JobState.FAILED, f"the ledger is broken: {problems[0].message}")
        return Outcome(JobState.OK, f"{head.sequence} entries, the chain is whole")

    def remind(self) -> Outcome:
        """Say which egress ends soon, and tell its team, once for each of `REMIND_DAYS`."""
        now = self.clock()
        opened = self.opened()
        platform = opened.loaded.platform
        soon = [
            (service, edge, (edge.expires - now.date()).days)
            for service in platform.services.values()
            for edge in service.egress
            if edge.expires is not None and 0 <= (edge.expires - now.date()).days <= max(REMIND_DAYS)
        ]
        self.find("reminders", "", [_ends(service, edge, days) for service, edge, days in soon])
        told = sum(self._remind(service, edge, days, now) for service, edge, days in soon)
        return Outcome(JobState.OK, f"{len(soon)} end within {max(REMIND_DAYS)} days, {told} reminders sent")

    def _remind(self, service: Service, edge: Edge, days: int, now: datetime) -> bool:
        stage = min(limit for limit in REMIND_DAYS if days <= limit)
        subject = f"{service.key} → {edge.peer} until {edge.expires}: {stage} days"
        wanted = events.Filter(kind="egress.reminded", subject=subject)
        if events.find(self.store, wanted, limit=1)[1]:
            return False
        people = proposals.asked(self.opened().loaded.platform, f"team:{service.team}")
        self.tell(people, f"An egress of {service.key} ends in {days} days", _ends(service, edge, days).message)
        events.record(
            self.store, events.Event(now, "egress.reminded", "pilothouse", subject, f"told {', '.join(people)}")
        )
        return True

    def find(self, source: str, cluster: str, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Write down what a job finds now; what of it is new."""
        shown = [problem for problem in problems if problem.severity is not Severity.INFO]
        return findings.replace(self.store, source, cluster, shown, self.clock())[0]


def _ends(service: Service, edge: Edge, days: int) -> Problem:
    place: Place = edge.place
    return warning(
        "worker/egress-ends",
        f"the egress of {service.key} to {edge.peer} ends on {edge.expires}, in {days} days",
        place,
        "propose a later `expires`, or remove it",
        teams=(service.team,),
    )


def _outcome(problems: Problems, message: str) -> Outcome:
    return Outcome(JobState.PROBLEMS if has_errors(problems) else JobState.OK, message)


class Lane(StrEnum):
    """Jobs of one lane run one after the other; the lanes run at the same time."""

    DEFAULT = "default"
    URGENT = "urgent"
    """Somebody waits for it: it never stands behind a long render."""
    LOGS = "logs"
    """What a log shows is to be known within a minute, whatever else takes long."""
    NOTICES = "notices"
    """A mail server that hangs keeps nothing else from being done."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the worker: `every` is its period; `run` does it.

    What a `local` job makes lies in the worker's own data folder, so that each of several workers runs it for itself.
    """

    name: str
    title: str
    every: timedelta
    run: Callable[[Upkeep], Outcome]
    local: bool = False
    lane: Lane = Lane.DEFAULT


JOBS = (
    Job("reload", "Read the platform and its snapshots", timedelta(seconds=30), Upkeep.reload, local=True),
    Job("snapshot", "Read the clusters that name a token", timedelta(minutes=1), Upkeep.snapshot, local=True),
    Job("domains", "Resolve the domains that services name", timedelta(minutes=1), Upkeep.resolve, local=True),
    Job("render", "Derive, prove and write every cluster", timedelta(minutes=5), Upkeep.render, local=True),
    Job("apply", "Apply what was agreed to, where a cluster says so", timedelta(minutes=5), Upkeep.apply),
    Job("drift", "Compare what is with what was declared", timedelta(minutes=10), Upkeep.drift),
    Job("log-store", "Read the log stores", timedelta(minutes=5), Upkeep.log_store),
    Job("audit", "Read the audit logs on", timedelta(seconds=20), Upkeep.audit, lane=Lane.LOGS),
    Job("unusual", "Judge what is unusual", timedelta(minutes=15), Upkeep.unusual),
    Job(
        "elevate",
        "Bind and unbind requests for elevated profiles",
        timedelta(seconds=30),
        Upkeep.elevate,
        lane=Lane.URGENT,
    ),
    Job("elevation-sweep", "Remove bindings of requests that are over", timedelta(minutes=1), Upkeep.sweep_elevations),
    Job("notices", "Deliver what people are to be told", timedelta(seconds=15), Upkeep.notices, lane=Lane.NOTICES),
    Job("expire", "End requests, proposals and sessions past their time", timedelta(minutes=1), Upkeep.expire),
    Job("verify-ledger", "Verify the ledger's chain", timedelta(hours=1), Upkeep.verify),
    Job("remind", "Remind before an egress expires", timedelta(hours=12), Upkeep.remind),
)


def run(job: Job, upkeep: Upkeep) -> Outcome:
    """One run; a `PilothouseError` is its outcome."""
    try:
        return job.run(upkeep)
    except PilothouseError as failure:
        return Outcome(JobState.FAILED, failure.with_hint)
