"""The worker's jobs on live clusters: read them, apply what was agreed to. Each returns a state and a line for people.

One cluster that does not answer, or whose objects are refused, holds up no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pilothouse.clients.kubernetes import Api
from pilothouse.files.git import Repository
from pilothouse.platform.model import Cluster
from pilothouse.problems import PilothouseError, Problem, error, has_errors, warning
from pilothouse.store import events
from pilothouse.store.events import Event
from pilothouse.store.jobs import JobState
from pilothouse.workflows import applying, live, rendering
from pilothouse.workflows.apply_plan import Held
from pilothouse.workflows.applying import Applied, ApplyFailed, NotAsPlanned, Options
from pilothouse.workflows.rendering import Opened

if TYPE_CHECKING:
    from pilothouse.workflows.upkeep import Upkeep

WHOLE_EVERY = timedelta(hours=1)
"""How often every object is tried on the server, also where nothing seems to differ."""
SEEN_WITHIN = timedelta(minutes=10)
"""How old the snapshot may be that decides what is enforced."""
MAX_NAMED = 5
"""How many of the objects that changed are named on the jobs page and in an event."""

Result = tuple[JobState, str]


def read(upkeep: Upkeep) -> Result:
    """Read each cluster that may be read, and keep what it is."""
    clusters = [cluster for cluster in upkeep.opened().loaded.platform.clusters.values() if live.is_read(cluster)]
    lines, failed = [], False
    for cluster in clusters:
        problems, line = _read(upkeep, cluster)
        upkeep.find("snapshot", cluster.name, problems)
        lines.append(line)
        failed = failed or any(problem.code == "worker/cluster-unread" for problem in problems)
    if not clusters:
        return JobState.OK, "no cluster names a token that lies here; snapshots are those of the platform's folder"
    return JobState.PROBLEMS if failed else JobState.OK, "; ".join(lines)


def _read(upkeep: Upkeep, cluster: Cluster) -> tuple[list[Problem], str]:
    now = upkeep.clock()
    try:
        with closing(live.worker_api(cluster)) as api:
            found, problems, changed = live.read_and_keep(api, cluster.name, upkeep.snapshots, now)
    except PilothouseError as failure:
        last = live.kept(upkeep.snapshots, cluster.name)
        since = f"the last good one is {_age(now, last.read_at)} old" if last else "there is none from before"
        problem = warning(
            "worker/cluster-unread",
            f"cluster {cluster.name} could not be read: {failure.message}",
            cluster.place,
            failure.hint,
            cluster=cluster.name,
        )
        return [problem], f"{cluster.name} not read, {since}: {failure.message}"
    pods = f"{cluster.name} {len(found.pods)} pods{', changed' if changed else ''}"
    return list(problems), pods


def _age(now: datetime, then: datetime) -> str:
    minutes = max(int((now - then).total_seconds() // 60), 0)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


# ---------------------------------------------------------------- applying


def apply(upkeep: Upkeep) -> Result:
    """Apply each cluster that is applied by the worker."""
    opened = upkeep.read()
    clusters = [cluster for cluster in opened.loaded.platform.clusters.values() if cluster.apply == "auto"]
    if not clusters:
        return JobState.OK, "no cluster says `apply: auto`"
    if has_errors(opened.problems):
        return JobState.PROBLEMS, "the documents have errors, so nothing is applied"
    lines, failed = [], False
    for cluster in clusters:
        problems, line = _apply(upkeep, opened, cluster)
        upkeep.find("apply", cluster.name, problems)
        lines.append(f"{cluster.name}: {line}")
        failed = failed or has_errors(problems)
    return JobState.PROBLEMS if failed else JobState.OK, "; ".join(lines)


def _apply(upkeep: Upkeep, opened: Opened, cluster: Cluster) -> tuple[list[Problem], str]:
    now, name = upkeep.clock(), cluster.name
    if not live.is_read(cluster):
        return [_no_token(cluster)], "not applied: its token is not here"
    last = upkeep.whole.get(name)
    full = last is None or now - last >= WHOLE_EVERY
    try:
        with closing(live.worker_api(cluster)) as api:
            applied = _applied(upkeep, opened, cluster, api, full)
    except PilothouseError as failure:
        upkeep.whole.pop(name, None)  # what is there is to be looked at as a whole
        code = "worker/apply-undone" if isinstance(failure, ApplyFailed) else "worker/apply-failed"
        problem = error(code, f"{name}: {failure.message}", cluster.place, failure.hint, cluster=name)
        if isinstance(failure, NotAsPlanned):
            problem = failure.problem(cluster.place)
        _record(upkeep, name, "apply.failed", failure.message, {})
        return [problem], failure.message
    if full:
        upkeep.whole[name] = now
    if applied.planned.changes:
        _record(upkeep, name, "apply.done", _told(applied), {"changes": [str(c.key) for c in applied.planned.changes]})
    return list(_problems(applied, cluster)), applied.summary if applied.planned.changes else _quiet(applied)


def _no_token(cluster: Cluster) -> Problem:
    endpoint = cluster.servers.kubernetes
    file = endpoint.token_file if endpoint else ""
    return warning(
        "worker/no-token",
        f"cluster {cluster.name} is to be applied by the worker, and "
        + (f"its token {file} is not on this machine" if file else "its document names no token"),
        cluster.place,
        "put the token there, readable by the worker, or set `apply: manual`",
        cluster=cluster.name,
    )


def _applied(upkeep: Upkeep, opened: Opened, cluster: Cluster, api: Api, full: bool) -> Applied:
    """Raises `ApplyFailed` where it was undone, and whatever else kept it from being applied."""
    last = live.kept(upkeep.snapshots, cluster.name)
    if last is None or upkeep.clock() - last.read_at > SEEN_WITHIN:
        # What runs there decides which namespaces may be enforced: nothing is applied without having seen it lately.
        live.read_and_keep(api, cluster.name, upkeep.snapshots, upkeep.clock())
    inputs, result = rendering.derive_cluster(opened, cluster.name, upkeep.clock().date())
    if has_errors(result.problems):
        first = next(problem for problem in result.problems if has_errors([problem]))
        raise applying.Refused(f"{cluster.name} is not applied: {first.message}", "`pilothouse check` shows all of it")
    options = Options(full=full, hold=True)
    return applying.apply_now(api, cluster, result, options, inputs=inputs, now=upkeep.clock())


def _problems(applied: Applied, cluster: Cluster) -> Iterator[Problem]:
    yield from (item.problem(cluster.name, cluster.place) for item in applied.planned.staging.waiting)
    by_hand: dict[str, list[Held]] = {}
    for item in applied.planned.held:
        if item.code == "apply/forbidden":
            by_hand.setdefault(item.key.kind, []).append(item)
        else:
            yield item.problem(cluster.name, cluster.place)
    for kind, items in sorted(by_hand.items()):
        names = ", ".join(str(item.key) for item in items[:MAX_NAMED])
        more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
        yield warning(
            "worker/apply-by-hand",
            f"the worker may not apply {kind} on {cluster.name}: {names}{more} ({items[0].message})",
            cluster.place,
            f"`pilothouse apply {cluster.name}` with credentials that may, or grant them to the worker",
            cluster=cluster.name,
        )


def _quiet(applied: Applied) -> str:
    held = f", {len(applied.planned.held)} held back" if applied.planned.held else ""
    return f"{applied.planned.checked} objects as declared{held}"


def _told(applied: Applied) -> str:
    """What changed, the first few by name."""
    changes = applied.planned.changes
    names = ", ".join(f"{change.action} {change.key}" for change in changes[:MAX_NAMED])
    more = f" and {len(changes) - MAX_NAMED} more" if len(changes) > MAX_NAMED else ""
    return f"{applied.summary}: {names}{more}"


def _record(upkeep: Upkeep, cluster: str, kind: str, message: str, data: dict[str, object]) -> None:
    repository = Repository(upkeep.root)
    commit = repository.head() if repository.is_repository() else ""
    said = f"{message} (commit {commit[:12]})" if commit else message
    events.record(
        upkeep.store, Event(upkeep.clock(), kind, "pilothouse", cluster, said, data={**data, "commit": commit})
    )
