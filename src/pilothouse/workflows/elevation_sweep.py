"""The second look at bindings of requests: by what is found on the clusters, whatever is written down.

It removes what a crash, a restored database or a person left behind: a binding past the end that it says itself, one
whose request is unknown or over, one that was changed. A binding that was changed is made anew as it should be. One
that somebody took away while its request stood is not: they may have meant it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pilothouse.access import elevation
from pilothouse.access.elevation import Judged, Verdict
from pilothouse.access.grants import State, settle
from pilothouse.access.ledger import Entry
from pilothouse.platform.model import Cluster, Platform
from pilothouse.problems import PilothouseError, Problem, error, warning
from pilothouse.store import elevations, events
from pilothouse.store import grants as grant_rows
from pilothouse.store.elevations import State as Bound
from pilothouse.store.events import Event
from pilothouse.store.jobs import JobState
from pilothouse.workflows import fence_watch, live
from pilothouse.workflows.elevation import ACTOR, KINDS, Reach, Result, Server, named
from pilothouse.workflows.elevation_state import wake
from pilothouse.workflows.vault_elevation import Vaults, roles_of, worker_roles

if TYPE_CHECKING:
    from pilothouse.workflows.upkeep import Upkeep

SOURCE = "elevation"
PAGES = ("access/fence-missing", "access/fence-changed")
"""What the platform team is told at once, besides the alert on the numbers of the findings."""
_ODD = (Verdict.UNKNOWN, Verdict.CHANGED)
"""What only somebody else can have done: these are findings even where they were mended."""


def run(upkeep: Upkeep, reach: Reach = live.worker_api, vaults: Vaults = worker_roles) -> Result:
    """Look at every cluster that the worker has credentials for. One that does not answer holds up no other."""
    platform = upkeep.opened().loaded.platform
    clusters = [cluster for cluster in platform.clusters.values() if live.is_read(cluster)]
    found: list[Problem] = []
    removed = 0
    for cluster in clusters:
        problems, count = _on_cluster(upkeep, platform, cluster, reach)
        roles, gone = _roles(upkeep, cluster, vaults)
        problems += roles
        count += gone
        fresh = upkeep.find(SOURCE, cluster.name, problems)
        _tell(upkeep, cluster, [item for item in fresh if item.code in PAGES])
        found += problems
        removed += count
    if not clusters:
        return JobState.OK, "no cluster names a token that lies here"
    said = f"{len(clusters)} clusters looked at, {removed} bindings and roles removed"
    return (JobState.PROBLEMS if found else JobState.OK), said + (f"; {found[0].message}" if found else "")


def _on_cluster(upkeep: Upkeep, platform: Platform, cluster: Cluster, reach: Reach) -> tuple[list[Problem], int]:
    standing = {
        item.grant_id: item
        for item in elevations.unfinished(upkeep.store)
        if item.cluster == cluster.name and item.state is Bound.BOUND
    }
    try:
        with closing(reach(cluster)) as server:
            listed = [item for kind in KINDS for item in server.objects(kind)]
            present = [item for item in listed if elevation.is_one(item)]
            problems, count = _swept(upkeep, platform, cluster, server, present)
            if cluster.binds_requests:
                problems += fence_watch.problems(server, platform, cluster, listed)
    except PilothouseError as failure:
        # Where nothing is bound by request and none ever was, a cluster that is away is the snapshot's finding alone.
        return ([_unseen(cluster, failure)] if cluster.binds_requests or standing else []), 0
    seen = {elevation.request_of(item) for item in present}
    problems += [_missing(upkeep, cluster, standing[id]) for id in _taken_away(upkeep, cluster, standing, seen)]
    return problems, count


def _roles(upkeep: Upkeep, cluster: Cluster, vaults: Vaults) -> tuple[list[Problem], int]:
    """What stands in the cluster's Vault for no request that is claimed is removed."""
    opening = roles_of(vaults, cluster, upkeep.opened().loaded.content)
    if opening is None or not cluster.elevation.vault_secret_file:
        return [], 0
    gone, problems = 0, []
    try:
        with opening() as roles:
            for swept in roles.sweep(partial(grant_rows.get, upkeep.store), upkeep.clock):
                gone += 1
                message = f"{swept.role} was removed from the Vault of {cluster.name}: {swept.why}"
                problems += [_foreign_role(cluster, message)] if swept.odd else []
                events.record(
                    upkeep.store, Event(upkeep.clock(), "elevation.role-removed", ACTOR, cluster.name, message, data={})
                )
    except PilothouseError as failure:
        problems.append(
            warning(
                "access/elevation-unseen",
                f"the roles of requests in the Vault of {cluster.name} could not be looked at: {failure.message}",
                cluster.place,
                failure.hint,
                cluster=cluster.name,
            )
        )
    return problems, gone


def _foreign_role(cluster: Cluster, message: str) -> Problem:
    return error(
        "access/elevation-role-changed",
        message,
        cluster.place,
        "see Vault's audit log for who wrote it: nobody but the worker writes such roles",
        cluster=cluster.name,
    )


def _tell(upkeep: Upkeep, cluster: Cluster, fresh: list[Problem]) -> None:
    team = upkeep.opened().loaded.platform.platform_team
    if fresh and team is not None:
        text = "\n\n".join(f"{item.message}\n{item.hint}" for item in fresh)
        upkeep.tell(tuple(member.user for member in team.members), f"The worker's fence on {cluster.name}", text)


def _swept(
    upkeep: Upkeep, platform: Platform, cluster: Cluster, server: Server, present: list[Any]
) -> tuple[list[Problem], int]:
    problems, count = [], 0
    for item in present:
        # Read after the list: a binding is made after its claim was written down, so its request is known.
        grant = grant_rows.get(upkeep.store, elevation.request_of(item))
        profile = platform.profiles.get(grant.profile) if grant else None
        judged = elevation.judge(item, grant, profile, platform, cluster.name, upkeep.clock())
        if not judged.goes:
            continue
        try:
            count += server.delete(item)
        except PilothouseError as failure:
            problems.append(_stays(cluster, item, judged, failure))
            continue
        problems += _told(upkeep, cluster, item, judged)
    return problems, count


def _told(upkeep: Upkeep, cluster: Cluster, item: Any, judged: Judged) -> Iterator[Problem]:
    """What was removed is recorded; the other job brings what is written down in line."""
    request = elevation.request_of(item)
    message = f"{named(item)} was removed: {judged.why}"
    data = {"binding": named(item), "why": judged.why, "subjects": item.get("subjects") or []}
    moment = upkeep.clock()
    events.record(upkeep.store, Event(moment, f"elevation.{judged.verdict}", ACTOR, request, message, data=data))
    row = elevations.get(upkeep.store, request)
    if judged.verdict is Verdict.CHANGED and row is not None:
        elevations.again(upkeep.store, row)
    wake(upkeep.store, ACTOR, moment)
    if judged.verdict in _ODD:
        yield error(
            "access/elevation-binding-changed",
            f"{named(item)} on {cluster.name} is not the worker's: {judged.why}; it was removed",
            cluster.place,
            "see the API server's audit log for who wrote it: nobody but the worker makes such bindings",
            cluster=cluster.name,
        )


def _taken_away(
    upkeep: Upkeep, cluster: Cluster, standing: dict[str, elevations.Elevation], seen: set[str]
) -> Iterator[str]:
    """Requests that were bound before the list was read, stand still, and were not in it."""
    for id in sorted(set(standing) - seen):
        grant, row = grant_rows.get(upkeep.store, id), elevations.get(upkeep.store, id)
        if grant is None or row is None or row.serial != standing[id].serial:
            continue
        if row.state is Bound.BOUND and settle(grant, upkeep.clock()).state is State.CLAIMED:
            yield id


def _missing(upkeep: Upkeep, cluster: Cluster, row: elevations.Elevation) -> Problem:
    moment: datetime = upkeep.clock()
    why = "somebody else removed it before its end"
    entry = Entry("elevation.unbound", ACTOR, row.grant_id, cluster.name, {"why": why})
    elevations.gone(upkeep.store, row, entry, moment, why)
    return warning(
        "access/elevation-binding-changed",
        f"the binding of request {row.grant_id} on {cluster.name} is gone: {why}",
        cluster.place,
        "it is not made again; whoever needs it asks anew",
        cluster=cluster.name,
    )


def _stays(cluster: Cluster, item: Any, judged: Judged, failure: PilothouseError) -> Problem:
    return error(
        "access/elevation-binding-stays",
        f"{named(item)} on {cluster.name} may not stand ({judged.why}) and could not be removed: {failure.message}",
        cluster.place,
        f"kubectl delete {str(item['kind']).lower()} {item['metadata']['name']}"
        + (f" -n {item['metadata']['namespace']}" if item["metadata"].get("namespace") else ""),
        cluster=cluster.name,
    )


def _unseen(cluster: Cluster, failure: PilothouseError) -> Problem:
    return warning(
        "access/elevation-unseen",
        f"the bindings of requests on {cluster.name} could not be looked at: {failure.message}",
        cluster.place,
        failure.hint,
        cluster=cluster.name,
    )
