"""Who could do something at a moment, and what somebody can do now: declarations, RBAC, people and ledger joined."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pilothouse import access
from pilothouse.access import can_i, history, reach
from pilothouse.access.history import Living
from pilothouse.access.locks import Kind, Lock
from pilothouse.access.permissions import Action, Person, may, person_of
from pilothouse.access.reach import Right, Way
from pilothouse.artifacts.objects import is_owned
from pilothouse.files import git
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Platform
from pilothouse.problems import Denied, Invalid, PilothouseError, nearest, one_of
from pilothouse.store import Store, ledger, sessions, users
from pilothouse.store import locks as lock_rows
from pilothouse.workflows.rendering import Opened, inputs_for, open_platform

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WhoCan:
    """`commit` is the one whose declarations were used, "" for those of now; `notes` say what the answer rests on."""

    question: str
    cluster: str
    at: datetime
    ways: tuple[Way, ...]
    commit: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WhatCan:
    """`locked` is the lock that holds on the person: then none of it can be had."""

    user: str
    teams: tuple[str, ...]
    groups: tuple[str, ...]
    rights: tuple[Right, ...]
    certificates: tuple[Living, ...]
    locked: Lock | None = None
    notes: tuple[str, ...] = ()


def who_can(
    store: Store,
    opened: Opened,
    person: Person,
    question: can_i.Question,
    cluster: str,
    now: datetime,
    at: datetime | None = None,
) -> WhoCan:
    """Every way to it on that cluster, with the certificates that were alive at `at` (default: now).

    For a past moment the declarations are those of the commit of that time, where the platform is a Git repository.
    What is known of directory groups of people is that of now.
    """
    _require(person, None, opened.loaded.platform)
    moment = at or now
    if moment > now:
        raise Invalid(f"{moment:%Y-%m-%d %H:%M} UTC has not come yet", "give a moment that has passed")
    notes: list[str] = []
    with _as_of(opened, at, notes) as (then, commit):
        platform = then.loaded.platform
        _check_cluster(platform, cluster)
        present = _manifests(then, cluster, moment.date())
        people = known_people(store, platform, now)
        found = reach.who_can(platform, cluster, question, present, people, living(store, moment))
    if found.missing:
        notes.append(f"not known, and whoever is bound to it is not listed: {', '.join(found.missing)}")
    notes.append("people are those with an account, a session or a place in a team; their groups are those of now")
    return WhoCan(str(question), cluster, moment, found.ways, commit, tuple(notes))


def what_can(store: Store, opened: Opened, person: Person, user: str, now: datetime, cluster: str = "") -> WhatCan:
    """Everything that the person can do, on that cluster or on all of them, and the certificates they hold."""
    platform = opened.loaded.platform
    found = next((item for item in known_people(store, platform, now) if item.user == user), None)
    _require(person, found or Person(user), platform)
    certificates = tuple(item for item in living(store, now) if item.user == user and cluster in ("", item.cluster))
    if found is None and not certificates:
        names = [item.user for item in known_people(store, platform, now)]
        raise Invalid(f"there is no person `{user}`", nearest(user, names) or "the name is the directory's own")
    if cluster:
        _check_cluster(platform, cluster)
    notes = [] if found else [f"{user} has no account and no session: only certificates are known"]
    known = found or Person(user)
    rights: list[Right] = []
    for name in (cluster,) if cluster else tuple(platform.clusters):
        present = _manifests(opened, name, now.date())
        rights += reach.what_can(platform, platform.clusters[name], known, present)
    locked = lock_rows.holding(store, Kind.USER, user, now)
    return WhatCan(
        user, tuple(sorted(known.teams)), tuple(sorted(known.groups)), tuple(rights), certificates, locked, tuple(notes)
    )


def living(store: Store, at: datetime) -> tuple[Living, ...]:
    """The certificates that were alive at that moment, by the ledger."""
    recent = ledger.between(store, ("certificate.", "elevation."), at - history.LONGEST, at)
    ever = ledger.between(store, ("lock.set", "lock.lifted"), None, at)
    return history.living(sorted((*recent, *ever), key=lambda item: item.sequence), at)


def known_people(store: Store, platform: Platform, now: datetime) -> tuple[Person, ...]:
    """Open accounts, people of a directory who are logged in, and members of teams, each with what is known of them."""
    found: dict[str, Person] = {}
    closed: set[str] = set()
    for account in users.everyone(store):
        if account.disabled:
            closed.add(account.name)
        else:
            found[account.name] = person_of(platform, account.name, account.groups)
    for name, groups in sessions.groups_of_living(store, now).items():
        if name not in closed and name not in found:
            found[name] = person_of(platform, name, groups)
    for team in platform.teams.values():
        for member in team.members:
            if member.user not in closed:
                found.setdefault(member.user, person_of(platform, member.user))
    return tuple(found[name] for name in sorted(found))


@contextmanager
def _as_of(opened: Opened, at: datetime | None, notes: list[str]) -> Iterator[tuple[Opened, str]]:
    """(the platform as it was then, its commit); that of now, with a note, where that cannot be had."""
    if at is None:
        yield opened, ""
        return
    repository = git.Repository(opened.root)
    if not repository.is_repository():
        notes.append("the platform is no Git repository: the declarations are those of now")
        yield opened, ""
        return
    commit = repository.at(at)
    if not commit:
        notes.append("the platform has no commit of that time: the declarations are those of now")
        yield opened, ""
        return
    with tempfile.TemporaryDirectory(prefix="pilothouse-") as folder:
        try:
            repository.export(commit, Path(folder))
            then = open_platform(Path(folder))
        except PilothouseError as failure:
            notes.append(f"the platform of commit {commit[:12]} cannot be read ({failure.message}): it is that of now")
            yield opened, ""
            return
        notes.append(f"declarations of commit {commit[:12]}; what else the cluster held is its snapshot in that commit")
        yield then, commit


def _manifests(opened: Opened, cluster: str, today: date) -> tuple[Manifest, ...]:
    inputs: Inputs
    inputs, _ = inputs_for(opened, cluster, today)
    rendered = list(access.derive(inputs).artifacts.under("rbac/").manifests())
    foreign = [item.data for item in inputs.snapshot.rbac if not is_owned(item.data, cluster)]
    return reach.manifests(inputs.platform, inputs.cluster, [*rendered, *foreign])


def _check_cluster(platform: Platform, cluster: str) -> None:
    if cluster not in platform.clusters:
        raise Invalid(
            f"there is no cluster `{cluster}`", nearest(cluster, platform.clusters) or one_of(platform.clusters)
        )


def _require(person: Person, subject: Person | None, platform: Platform) -> None:
    decision = may(person, Action.READ_AUDIT, subject, platform)
    if not decision:
        ask = f"ask {', '.join(decision.whom_to_ask)}" if decision.whom_to_ask else ""
        raise Denied(f"who can do what is for those who may read the ledger: {decision.why}", ask)


def moment_of(text: str) -> datetime:
    """`2026-11-22`, `2026-11-22T03:00` or with an offset; UTC where none is given. `Invalid` for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as failure:
        raise Invalid(f"{text!r} is no moment", "write it as 2026-11-22T03:00, in UTC or with an offset") from failure
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
