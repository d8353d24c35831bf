"""The domains that services name, resolved and kept for whoever derives from the platform.

For each cluster that the worker reads or applies it keeps `domains/<cluster>.json` in its data folder.
`workflows.rendering` reads that into the inputs. Where addresses have changed, the worker applies at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pilothouse.files import domains as files
from pilothouse.inputs import Resolved
from pilothouse.platform.model import Cluster, Network
from pilothouse.policies import domains
from pilothouse.policies.domains import Answer, Barred, Refreshed, Resolver, Use
from pilothouse.problems import Invalid, PilothouseError, Problems, has_errors
from pilothouse.store import events, jobs
from pilothouse.store.events import Event
from pilothouse.store.jobs import JobState
from pilothouse.workflows import live
from pilothouse.workflows.rendering import Opened

if TYPE_CHECKING:
    from pilothouse.workflows.upkeep import Upkeep

SOURCE = "domains"
MAX_NAMED = 5
"""How many domains the line of a run names."""

Result = tuple[JobState, str]
Changes = dict[str, tuple[list[str], list[str]]]


@dataclass(frozen=True)
class _Task:
    """What is to be done for one cluster."""

    cluster: Cluster
    kept: Mapping[str, Resolved]
    uses: Mapping[str, tuple[Use, ...]]
    names: tuple[str, ...]
    ranges: tuple[Barred, ...]


def resolve(upkeep: Upkeep) -> Result:
    """Refresh the domains of every cluster that is read or applied here. One that cannot be kept holds up no other."""
    opened, now = upkeep.opened(), upkeep.clock().replace(microsecond=0)
    clusters = opened.loaded.platform.clusters
    mine = {name: item for name, item in clusters.items() if item.apply == "auto" or live.is_read(item)}
    for name in clusters.keys() - mine.keys():
        upkeep.find(SOURCE, name, ())
    if upkeep.resolver is None:
        return JobState.OK, "this worker has no resolver; what was kept holds until it expires"
    if not mine:
        return JobState.OK, "no cluster is read or applied here"
    said, state, tasks = [], JobState.OK, []
    for name, cluster in mine.items():
        try:
            tasks.append(_task(upkeep, opened, cluster, now.date()))
        except PilothouseError as failure:
            state = JobState.PROBLEMS
            said.append(f"{name} not resolved: {failure.message}")
    answers = upkeep.resolver.resolve(sorted({name for task in tasks for name in task.names}))
    changed = []
    for task in tasks:
        name = task.cluster.name
        try:
            found, changes = _refresh(upkeep, task, answers, now)
        except PilothouseError as failure:
            state = JobState.PROBLEMS
            said.append(f"{name} not kept: {failure.message}")
            continue
        if changes:
            changed.append(task.cluster)
        if found.failed or found.refused:
            state = JobState.PROBLEMS
        said.append(_told(task, found, changes))
    if any(cluster.apply == "auto" for cluster in changed):
        with suppress(Invalid):  # no worker made its jobs known yet: the first one begins with an apply
            jobs.request(upkeep.store, "apply", "pilothouse", upkeep.clock())
    return state, "; ".join(said)


def _task(upkeep: Upkeep, opened: Opened, cluster: Cluster, today: date) -> _Task:
    ranges = _barred(opened, cluster)
    uses = domains.named(opened.loaded.platform, cluster.name, today)
    kept = _kept(upkeep.domains, cluster.name)
    # While documents have errors, services may be missing that are there again once they are mended.
    names = {*uses, *kept} if has_errors(opened.problems) else {*uses}
    return _Task(cluster, kept, uses, domains.to_resolve(sorted(names), cluster), ranges)


def _barred(opened: Opened, cluster: Cluster) -> tuple[Barred, ...]:
    ranges = domains.barred(opened.loaded.content, cluster)
    if ranges is None:
        raise Invalid("policies/baseline.yaml or guardrails.yaml cannot be read", "`pilothouse check` says why")
    return ranges


def _kept(folder: Path, cluster: str) -> Mapping[str, Resolved]:
    try:
        return files.read(files.path_of(folder, cluster))
    except Invalid:
        return {}  # it is written anew


def _refresh(upkeep: Upkeep, task: _Task, answers: Mapping[str, Answer], now: datetime) -> tuple[Refreshed, Changes]:
    name = task.cluster.name
    asked = {domain: answers[domain] for domain in task.names}
    found = domains.refresh(task.kept, asked, now, task.ranges)
    path = files.path_of(upkeep.domains, name)
    if found.resolved != task.kept or not path.exists():
        files.write(path, found.resolved)
    upkeep.find(SOURCE, name, domains.findings(found, task.uses, task.cluster))
    changes = domains.changes(task.kept, found.resolved)
    if changes:
        text = ", ".join(f"{domain} {_signed(*changes[domain])}" for domain in list(changes)[:MAX_NAMED])
        more = f" and {len(changes) - MAX_NAMED} more" if len(changes) > MAX_NAMED else ""
        data = {domain: {"added": came, "removed": went} for domain, (came, went) in changes.items()}
        events.record(upkeep.store, Event(now, "domains.changed", "pilothouse", name, f"{text}{more}"[:500], data=data))
    return found, changes


def _signed(came: list[str], went: list[str]) -> str:
    return " ".join([*(f"+{item}" for item in came), *(f"-{item}" for item in went)])


def _told(task: _Task, found: Refreshed, changes: Changes) -> str:
    name = task.cluster.name
    if not task.names:
        pinned = sum(domain in task.cluster.domain_addresses for domain in task.uses)
        return f"{name} nothing to resolve, {pinned} pinned"
    parts = [f"{name} {len(task.names)} domains"]
    if changes:
        parts.append(f"{len(changes)} changed")
    bad = {**dict.fromkeys(found.refused, "has refused addresses"), **found.failed}
    if bad:
        shown = ", ".join(f"{domain} ({bad[domain]})" for domain in sorted(bad)[:MAX_NAMED])
        parts.append(f"{len(bad)} with problems: {shown}")
    return ", ".join(parts)


# ---------------------------------------------------------------- looking


@dataclass(frozen=True)
class Row:
    """One domain on a cluster. `resolved` is empty where it is pinned, or nobody has resolved it."""

    domain: str
    pinned: tuple[Network, ...]
    resolved: Resolved
    uses: tuple[Use, ...]

    @property
    def expires(self) -> datetime | None:
        return self.resolved.expires


@dataclass(frozen=True)
class Listing:
    """`rows` are the domains that services of the cluster name, by name."""

    cluster: str
    rows: tuple[Row, ...]
    problems: Problems = ()


def listing(opened: Opened, name: str, now: datetime, today: date, resolver: Resolver | None = None) -> Listing:
    """The domains of a cluster as they are kept; with a resolver, as the next refresh would make them, with what it
    would find. Nothing is written. `Invalid` where baseline or guardrails cannot be read."""
    cluster = opened.loaded.platform.clusters[name]
    ranges = _barred(opened, cluster)
    uses = domains.named(opened.loaded.platform, name, today)
    kept: Mapping[str, Resolved] = {}
    if opened.domains is not None:
        kept = files.read(files.path_of(opened.domains.folder, name))
    problems: Problems = ()
    if resolver is not None:
        found = domains.refresh(kept, resolver.resolve(domains.to_resolve(uses, cluster)), now, ranges)
        resolved, problems = found.resolved, domains.findings(found, uses, cluster)
    else:
        resolved = domains.held(kept, now, ranges)
    rows = []
    for domain, found_uses in uses.items():
        pinned = domain in cluster.domain_addresses
        rows.append(
            Row(
                domain,
                cluster.domain_addresses.get(domain, ()),
                Resolved(domain) if pinned else resolved.get(domain, Resolved(domain)),
                found_uses,
            )
        )
    return Listing(name, tuple(rows), problems)
