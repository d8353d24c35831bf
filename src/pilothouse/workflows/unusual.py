"""What people and workloads did, from our own records and the audit logs, judged by `access.unusual`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from ipaddress import ip_address

from pilothouse.access.unusual import Act, Activity, Alert, Settings, judge
from pilothouse.alerts.rotation import shift_at
from pilothouse.files.audit_settings import AuditSettings
from pilothouse.platform.model import Platform, Rotation
from pilothouse.problems import Problem, error
from pilothouse.store import Store, audit_days, events, findings, unusual
from pilothouse.store import certificates as certificate_rows
from pilothouse.store.audit_days import Read, Use
from pilothouse.store.certificates import Certificate
from pilothouse.store.unusual import Kept
from pilothouse.workflows.audit import team_of

SOURCE = "unusual"
WINDOW = timedelta(days=90)
"""What is older is no baseline any more, and its lines are gone."""
SHOWN = timedelta(days=7)
"""A page stays a finding for so long, unless somebody calls it expected."""
PODS = "pods"
"""Stands for every address of a cluster's pods: a workload gets another one with each start."""


@dataclass(frozen=True, slots=True)
class Judged:
    """`pages` are those that were not there before; `problems` what is a finding now."""

    days: int
    pages: tuple[Kept, ...]
    problems: tuple[Problem, ...]


def run(store: Store, platform: Platform, settings: AuditSettings, now: datetime) -> Judged:
    """Judge the window anew, keep what is unusual, and replace the findings. The same records give the same days."""
    rules = Settings(page_at=settings.page_at, learning_days=settings.learning_days)
    alerts: list[Alert] = list(judge(activities(store, platform, now), unusual.exceptions(store), rules))
    pages = unusual.keep(store, alerts)
    problems = tuple(
        _problem(kept) for kept in unusual.find(store, since=now - SHOWN, paged=True) if kept.expected is None
    )
    findings.replace(store, SOURCE, "", problems, now)
    return Judged(len(alerts), pages, problems)


def _problem(kept: Kept) -> Problem:
    alert = kept.alert
    signs = "; ".join(f"{signal.rule}: {signal.evidence}" for signal in alert.signals)
    return error(
        "access/unusual-activity",
        f"{'workload ' if alert.workload else ''}{alert.who} did several unusual things on {alert.day}",
        hint=f"{signs}. Ask them; if they cannot explain it, lock them. If they can:"
        f" `pilothouse access audit expected {kept.id} --reason …`",
    )


def activities(store: Store, platform: Platform, now: datetime) -> list[Activity]:
    """Everything of the window in order of time: days that are over as they were kept, today from its lines."""
    since, today = _window(now)
    lines = (*audit_days.kept(store, since, today), audit_days.of_lines(store, today, today + 2 * audit_days.DAY))
    return _together(store, platform, since, lines)


def activities_of_lines(store: Store, platform: Platform, now: datetime) -> list[Activity]:
    """The same from the lines alone: what the kept days have to come to."""
    since, today = _window(now)
    return _together(store, platform, since, (audit_days.of_lines(store, since, today + 2 * audit_days.DAY),))


def _window(now: datetime) -> tuple[datetime, datetime]:
    """(the first whole day that `WINDOW` holds, today), each at its begin in UTC."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - WINDOW + audit_days.DAY, today


def _together(
    store: Store, platform: Platform, since: datetime, lines: Iterable[audit_days.Activity]
) -> list[Activity]:
    collect = _Collect(platform)
    issued = certificate_rows.since(store, since)
    claimed = {item.serial: item.address for item in issued}
    by_print = {item.fingerprint: item for item in issued if item.fingerprint}
    found = [
        collect.made(Activity(event.at, event.actor, Act.LOGIN, event.address))
        for event in _events(store, "login", since)
        if event.kind == "login"
    ]
    for item in issued:
        activity = Activity(item.asked_at, item.user, Act.ISSUED, claimed.get(item.serial, ""), subject=item.profile)
        found.append(collect.made(activity))
    for part in lines:
        found += [collect.used(use, by_print.get(use.fingerprint), claimed) for use in part.uses]
        found += [collect.read(read) for read in part.reads]
    return sorted(found, key=_order)


def _order(item: Activity) -> tuple[object, ...]:
    """By time. What came at the same moment is put in an order of its own, whatever order the store gave it in."""
    return item.at, item.who, item.act.value, item.subject, item.address, item.agent, item.claimed_from, item.count


class _Collect:
    """Records as activities, with what the declarations say of who did it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._team = cache(lambda user: team_of(platform, user))
        self._rotations = cache(lambda user: rotations_of(platform, user))
        self._is_pod = cache(partial(_is_pod, platform))

    def made(self, activity: Activity) -> Activity:
        return Activity(
            activity.at,
            activity.who,
            activity.act,
            activity.address,
            activity.agent,
            activity.subject,
            self._team(activity.who),
            activity.count,
            activity.denied,
            activity.claimed_from,
            self._on_call(activity.who, activity.at),
        )

    def used(self, use: Use, certificate: Certificate | None, claimed: dict[str, str]) -> Activity:
        elevated = certificate is not None and bool(certificate.grant_id)
        origin = claimed.get(certificate.serial, "") if certificate is not None and elevated else ""
        return self.made(
            Activity(
                use.at,
                use.user,
                Act.USED,
                use.address,
                use.agent,
                count=use.count,
                denied=use.refused,
                claimed_from=origin,
            )
        )

    def read(self, read: Read) -> Activity:
        """A workload is another one on another cluster."""
        return Activity(
            read.at,
            f"{read.cluster}:{read.workload}",
            Act.SECRET,
            PODS if self._is_pod(read.cluster, read.address) else read.address,
            subject=read.path,
            count=read.count,
            denied=read.refused,
            workload=True,
        )

    def _on_call(self, user: str, at: datetime) -> bool:
        shifts = (shift_at(rotation, at) for rotation in self._rotations(user))
        return any(shift is not None and shift.user == user for shift in shifts)


def rotations_of(platform: Platform, user: str) -> tuple[Rotation, ...]:
    """The rotations that the person takes part in."""
    return tuple(
        team.rotation for team in platform.teams.values() if team.rotation is not None and user in team.rotation.users
    )


def _is_pod(platform: Platform, cluster: str, address: str) -> bool:
    declared = platform.clusters.get(cluster)
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return declared is not None and any(
        found in network for network in declared.pod_cidrs if network.version == found.version
    )


def _events(store: Store, kind: str, since: datetime) -> Iterator[events.Event]:
    offset = 0
    while True:
        batch, _ = events.find(store, events.Filter(kind=kind, since=since), limit=5000, offset=offset)
        yield from batch
        offset += len(batch)
        if len(batch) < 5000:
            return
