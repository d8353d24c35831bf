"""The worker's job that binds and unbinds: what is claimed has its binding, what is over has none.

It goes by what is written down, so it may be run at any time and as often as one likes: a run that was cut short is
made good by the next. `elevation_sweep` goes by what is found on the clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pilothouse.access import elevation
from pilothouse.access.elevation import API_VERSION, REQUEST_LABEL
from pilothouse.access.grants import Grant, State, settle
from pilothouse.access.ledger import Entry
from pilothouse.artifacts.objects import Object
from pilothouse.clients.kubernetes import Clash, Rejected, kinds
from pilothouse.clients.kubernetes.kinds import Kind
from pilothouse.clients.together import together
from pilothouse.platform.model import Cluster, Platform
from pilothouse.problems import Invalid, PilothouseError, Unavailable
from pilothouse.store import elevations, jobs
from pilothouse.store import grants as grant_rows
from pilothouse.store.elevations import Elevation
from pilothouse.store.elevations import State as Bound
from pilothouse.store.jobs import JobState
from pilothouse.workflows import fence_watch, live
from pilothouse.workflows.elevation_state import JOB
from pilothouse.workflows.vault_elevation import Opening, Vaults, roles_of, worker_roles

if TYPE_CHECKING:
    from pilothouse.workflows.upkeep import Upkeep

DEADLINE = 9.0
"""Seconds for all clusters of a run: one that hangs keeps nobody on another one waiting for longer."""
LONGEST_PAUSE = 60
KINDS = tuple(kinds.of({"apiVersion": API_VERSION, "kind": kind}) for kind in ("ClusterRoleBinding", "RoleBinding"))
ACTOR = "pilothouse"

Result = tuple[JobState, str]


class Server(Protocol):
    """What is asked of an API server (`clients.kubernetes.Api`)."""

    def objects(self, kind: Kind, page: int = 500, selector: str = "") -> list[Any]: ...
    def get(self, manifest: Object) -> dict[str, Any] | None: ...
    def make(self, manifest: Object) -> dict[str, Any]: ...
    def delete(self, manifest: Object, dry_run: bool = False) -> bool: ...
    def close(self) -> None: ...


Reach = Callable[[Cluster], Server]


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done about one request: make these bindings, or (None) remove whatever it has."""

    item: Elevation
    grant: Grant | None
    wanted: tuple[dict[str, Any], ...] | None


@dataclass(frozen=True, slots=True)
class Done:
    """`touched` are the bindings that were made or removed; `why` is the reason where it failed."""

    work: Work
    touched: tuple[str, ...] = ()
    why: str = ""


def run(upkeep: Upkeep, reach: Reach = live.worker_api, vaults: Vaults = worker_roles) -> Result:
    """Do what is due, and plan the next run for the moment at which the next elevation ends."""
    now, store = upkeep.clock(), upkeep.store
    held = [(item, grant_rows.get(store, item.grant_id)) for item in elevations.unfinished(store)]
    standing = [grant for item, grant in held if _is_claimed(item, grant, now) and grant is not None]
    due = [(item, grant) for item, grant in held if item.state is Bound.WANTED or not _is_claimed(item, grant, now)]
    done = _carry_out(upkeep, due, reach, vaults, now) if due else []
    for one in done:
        _record(upkeep, one, upkeep.clock())
    _plan(upkeep, standing, done, now)
    failed = [f"{one.work.item.grant_id} on {one.work.item.cluster}: {one.why}" for one in done if one.why]
    counts = f"{len(standing)} requests stand, {len(done) - len(failed)} of {len(done)} bound or unbound"
    return (JobState.PROBLEMS, f"{counts}; {'; '.join(failed)}") if failed else (JobState.OK, counts)


def _is_claimed(item: Elevation, grant: Grant | None, now: datetime) -> bool:
    return grant is not None and grant.serial == item.serial and settle(grant, now).state is State.CLAIMED


def _plan(upkeep: Upkeep, standing: Iterable[Grant], done: Iterable[Done], now: datetime) -> None:
    moments = [grant.expires_at for grant in standing if grant.expires_at is not None]
    moments += [now + timedelta(seconds=min(2**one.work.item.tries, LONGEST_PAUSE)) for one in done if one.why]
    if moments:
        jobs.due_by(upkeep.store, JOB, min(moments))


# ---------------------------------------------------------------- on the clusters


def _carry_out(
    upkeep: Upkeep, due: list[tuple[Elevation, Grant | None]], reach: Reach, vaults: Vaults, now: datetime
) -> list[Done]:
    platform = _platform(upkeep, [grant for item, grant in due if _is_claimed(item, grant, now) and grant is not None])
    works: dict[str, list[Work]] = {}
    done: list[Done] = []
    for item, grant in due:
        cluster = platform.clusters.get(item.cluster)
        try:
            wanted = _wanted(platform, item, grant) if _is_claimed(item, grant, now) and grant is not None else None
        except PilothouseError as failure:
            done.append(Done(Work(item, grant, ()), why=failure.message))
            continue
        work = Work(item, grant, wanted)
        if cluster is not None:
            works.setdefault(cluster.name, []).append(work)
        elif wanted is None:  # nobody can look there any more, and the certificate has ended or was given back
            elevations.gone(upkeep.store, item, None, now, f"cluster {item.cluster} is declared no more")
        else:
            done.append(Done(work, why=f"cluster {item.cluster} is declared no more"))
    content = upkeep.opened().loaded.content
    calls = {}
    for name, mine in works.items():
        roles = roles_of(vaults, platform.clusters[name], content)
        calls[name] = partial(_on_cluster, reach, platform, platform.clusters[name], mine, roles)
    for name, answer in together(calls, DEADLINE).items():
        if isinstance(answer, PilothouseError):
            done += [Done(work, why=answer.message) for work in works[name]]
        else:
            done += answer
    return done


def _platform(upkeep: Upkeep, claimed: list[Grant]) -> Platform:
    """The platform as it was read last, and read anew where it does not know what was claimed."""
    platform = upkeep.opened().loaded.platform
    if all(grant.profile in platform.profiles and grant.cluster in platform.clusters for grant in claimed):
        return platform
    return upkeep.read().loaded.platform


def _wanted(platform: Platform, item: Elevation, grant: Grant) -> tuple[dict[str, Any], ...]:
    profile = platform.profiles.get(grant.profile)
    if profile is None or not profile.elevated or not profile.holds_on(item.cluster) or grant.expires_at is None:
        raise Invalid(f"{grant.profile} is no elevated profile on {item.cluster} any more")
    found = elevation.bindings(grant.id, grant.user, grant.expires_at, profile, platform, item.cluster, item.teams)
    if not found:
        raise Invalid(f"{grant.profile} holds in no namespace of {item.cluster} for {grant.user}")
    return found


def _on_cluster(
    reach: Reach, platform: Platform, cluster: Cluster, works: list[Work], roles: Opening | None
) -> list[Done]:
    with closing(reach(cluster)) as server:
        fenced = partial(fence_watch.require, server, platform, cluster)
        return [_one(server, work, fenced, roles) for work in works]


def _one(server: Server, work: Work, fenced: Callable[[], None], roles: Opening | None) -> Done:
    """Where Vault signs, the role under which it does is made before the binding and removed after it: without the
    binding it is good for nothing."""
    request = work.item.grant_id
    try:
        if work.wanted is None:
            gone = unbind(server, request)
            if roles is not None:
                with roles() as hand:
                    gone += hand.remove(request)
            return Done(work, gone)
        fenced()  # right before, each time: what takes rights away needs no fence
        if roles is None or work.grant is None:
            return Done(work, bind(server, work.wanted))
        with roles() as hand:
            made = hand.make(request, work.grant.user)
        return Done(work, (*bind(server, work.wanted), made))
    except PilothouseError as failure:
        return Done(work, why=failure.message)


def bind(server: Server, wanted: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Make the bindings of a request; one of that name which says something else is replaced.

    A namespace that is not there is passed over, unless none is.
    """
    made, missing = [], ""
    for manifest in wanted:
        try:
            _make(server, manifest)
        except Rejected as failure:
            if not failure.absent:
                raise
            missing = failure.said
            continue
        made.append(named(manifest))
    if not made:
        raise Unavailable(missing or "nothing was bound")
    return tuple(made)


def _make(server: Server, manifest: Mapping[str, Any]) -> None:
    try:
        server.make(manifest)
    except Clash:
        found = server.get(manifest)
        if found is not None:
            if elevation.same(found, manifest):
                return  # made by a run that was cut short
            server.delete(found)
        server.make(manifest)


def unbind(server: Server, request: str) -> tuple[str, ...]:
    """Remove every binding that a request has; what was removed."""
    found = [
        item
        for kind in KINDS
        for item in server.objects(kind, selector=f"{REQUEST_LABEL}={request}")
        if elevation.request_of(item) == request
    ]
    return tuple(named(item) for item in found if server.delete(item))


def named(manifest: Mapping[str, Any]) -> str:
    """Such as `RoleBinding payments/ph:elev:g-x7k2m9qa`."""
    metadata = manifest["metadata"]
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{manifest['kind']} {where}{metadata['name']}"


# ---------------------------------------------------------------- what is written down


def _record(upkeep: Upkeep, done: Done, now: datetime) -> None:
    work, item, store = done.work, done.work.item, upkeep.store
    if done.why:
        elevations.failed(store, item, done.why)
        return
    user, profile = (work.grant.user, work.grant.profile) if work.grant else ("", "")
    data: dict[str, Any] = {"user": user, "profile": profile, "bindings": list(done.touched)}
    if work.wanted is not None:
        first = work.wanted[0]
        data |= {
            "role": first["roleRef"]["name"],
            "expires": first["metadata"]["annotations"][elevation.EXPIRES_ANNOTATION],
        }
        elevations.bound(store, item, Entry("elevation.bound", ACTOR, item.grant_id, item.cluster, data), now)
        return
    state = settle(work.grant, now).state.value if work.grant else "unknown"
    entry = Entry("elevation.unbound", ACTOR, item.grant_id, item.cluster, data | {"request": state})
    happened = bool(done.touched) or item.state is Bound.BOUND
    elevations.gone(store, item, entry if happened else None, now)
