"""A plan carried out step by step, and taken back where it cannot be finished.

One apply runs on a cluster at a time (`clients.kubernetes.lease`). On a failure, and on Ctrl-C, what this run did is
undone in reverse order from what was read before it: what it created is deleted, what it changed or deleted is written
as it was. An object that cannot be put back is named.

Network policies are looked at by what they mean (`policies.compare.judge`): before anything is sent, each step's reach;
after the last step, whether what the server then has means what was planned; after an undoing, whether it means what it
meant before.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

from pilothouse.artifacts.objects import Object, ObjectKey, comparable, written
from pilothouse.artifacts.ordering import Step
from pilothouse.clients.kubernetes import Api, Lease, LeaseLost
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Cluster
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.compare.rollout import Difference, decides
from pilothouse.policies.flows.promotion import candidates
from pilothouse.policies.staging import Staging, in_force, staged_first
from pilothouse.problems import (
    Conflict,
    Invalid,
    PilothouseError,
    Place,
    Problem,
    Unavailable,
    error,
    has_errors,
    nearest,
    one_of,
)
from pilothouse.reports import plural
from pilothouse.workflows import apply_plan, live, policy_flows, rendering
from pilothouse.workflows.apply_plan import Planned, Server
from pilothouse.workflows.rendering import ClusterResult, Opened, Where
from pilothouse.workflows.standing import read_standing

UNDO_ATTEMPTS = 10
UNDO_PAUSE = 2.0
"""How often, and how many seconds apart, a server that went away in the middle is asked again before it is given up."""

SAME = Difference()
Progress = Callable[[str], None]
Ask = Callable[[Planned], bool]
"""Shown the plan; whether to go on."""


class Turn(Protocol):
    """The right to change a cluster. `keep` raises `LeaseLost` once it is somebody else's."""

    def keep(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NotUndone:
    """An object that could not be put back: what was tried, and why it failed."""

    key: ObjectKey
    wanted: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key} ({self.wanted}: {self.reason})"


class ApplyFailed(PilothouseError):
    """An apply that did not come to its end. `undone` were put back, `left` could not be; `meaning` says in words
    whether every connection is as before ("" where no policy was touched)."""

    def __init__(
        self,
        cluster: str,
        at: Step,
        cause: str,
        undone: tuple[ObjectKey, ...],
        left: tuple[NotUndone, ...],
        hint: str,
        meaning: str = "",
    ) -> None:
        took_back = f"the {len(undone)} changes made before were undone" if undone else "nothing was changed before"
        if left:
            took_back = f"{len(undone)} changes were undone, and {len(left)} COULD NOT BE: {'; '.join(map(str, left))}"
        looked = f"; {meaning}" if meaning else ""
        super().__init__(f"apply of {cluster} failed at {at.key}: {cause}; {took_back}{looked}", hint)
        self.cluster = cluster
        self.at = at
        self.cause = cause
        self.undone = undone
        self.left = left
        self.meaning = meaning


class NotAsPlanned(PilothouseError):
    """Everything was applied, and what the server has then does not mean what was planned."""

    def __init__(self, cluster: str, found: str, difference: Difference = SAME) -> None:
        super().__init__(
            f"{cluster} was applied, and {found}",
            "see who else writes policies there (another tool, a webhook), then apply again",
        )
        self.cluster = cluster
        self.difference = difference

    def problem(self, place: Place) -> Problem:
        return error("apply/not-as-planned", self.message, place, self.hint, cluster=self.cluster)


class Refused(Invalid):
    """What is declared for a cluster has errors (`problems`), so that nothing of it is applied."""


class Cancelled(KeyboardInterrupt):
    """Ctrl-C in the middle; everything that was done is undone."""

    def __init__(self, cluster: str, undone: tuple[ObjectKey, ...], meaning: str = "") -> None:
        looked = f"; {meaning}" if meaning else ""
        super().__init__(f"apply of {cluster} was cancelled; {len(undone)} changes were undone{looked}")
        self.undone = undone
        self.meaning = meaning


@dataclass(frozen=True)
class Applied:
    """What came of it. `done` is False where nobody wanted it, or where it was a dry run."""

    planned: Planned
    result: ClusterResult
    done: bool = False
    verified: bool = False
    """Whether the policies were read back afterwards, and mean what was planned."""

    @property
    def summary(self) -> str:
        """Such as `2 added, 1 changed, 0 removed`."""
        counts = dict.fromkeys(("add", "change", "remove"), 0)
        for change in self.planned.changes:
            counts[change.action] += 1
        text = f"{counts['add']} added, {counts['change']} changed, {counts['remove']} removed"
        return f"{text}, {len(self.planned.held)} held back" if self.planned.held else text


@dataclass(frozen=True, slots=True)
class Options:
    """`full` tries every object on the server; `hold` applies the rest where something cannot be applied. `enforce` are
    namespaces that are not staged first, and with `enforce_all` none is; `flows` files of observed flows, of which
    nothing may be denied by a namespace that is to be enforced."""

    full: bool = True
    force: bool = False
    prune_all: bool = False
    dry_run: bool = False
    hold: bool = False
    enforce: frozenset[str] = frozenset()
    enforce_all: bool = False
    flows: tuple[Path, ...] = ()


def apply(
    opened: Opened,
    name: str,
    today: date,
    where: Where,
    options: Options = Options(),
    ask: Ask = lambda _: True,
    progress: Progress = lambda _: None,
    now: datetime | None = None,
) -> Applied:
    """Derive, prove, plan, ask, apply. `now` is the moment by which staged policies have stood (default: this one).

    Raises `Refused` where a check has errors, `Invalid` where objects cannot be applied (unless `hold`), `Conflict`
    where too much would be removed, it is another cluster, or somebody else applies; `ApplyFailed` where it was undone;
    `NotAsPlanned` where the server then has something else.
    """
    cluster = opened.loaded.platform.clusters[name]
    progress(f"checking {name}")
    if has_errors(opened.problems):
        raise Refused("the documents have errors, so nothing is applied", "mend them first", opened.problems)
    inputs, result = rendering.derive_cluster(opened, name, today, where)
    problems = (*opened.problems, *result.problems)
    if has_errors(problems):
        raise Refused(f"{name} has errors, so nothing is applied", "`pilothouse check` shows them", problems)
    manifests = apply_plan.desired_of(result.artifacts.manifests())
    with closing(live.api_of(cluster, where.kubeconfig, where.context)) as api:
        progress(f"comparing {name} with {api.host}")
        judge = Judge(inputs.snapshot, cluster, inputs)
        staging = _staged(api, inputs, manifests, options, now or datetime.now(UTC), progress)
        planned = _planned(api, cluster, staging, options, judge)
        if planned.strangers and not planned.owned and not live.is_declared(cluster, api):
            raise Conflict(
                f"{api.host} carries what was applied for cluster {planned.strangers[0]}, and nothing for {name}",
                "is it the right kubeconfig and context? A cluster that was renamed gives up its old objects first",
            )
        applied = Applied(planned, result)
        if options.dry_run or not ask(planned):
            return applied
        _require_appliable(planned, options)
        if planned.is_empty:
            return replace(applied, done=True)
        with Lease(api, holder()) as lease:
            # Somebody may have changed something while the plan was read.
            again = _planned(api, cluster, staging, options, judge)
            if not again.same_as(planned):
                raise Conflict(f"{name} has changed since the plan was shown", "look at the plan again")
            verified = run(api, again, lease, progress, judge)
        return Applied(again, result, done=True, verified=verified)


def apply_now(
    api: Api,
    cluster: Cluster,
    result: ClusterResult,
    options: Options,
    progress: Progress = lambda _: None,
    inputs: Inputs | None = None,
    now: datetime | None = None,
) -> Applied:
    """As `apply`, with nobody to ask: planned and carried out under the lease. The worker's way. Without `inputs`
    nothing is staged first, and nothing is evaluated."""
    manifests = apply_plan.desired_of(result.artifacts.manifests())
    judge = Judge(inputs.snapshot, cluster, inputs) if inputs else None
    with Lease(api, holder()) as lease:
        staging = Staging(manifests)
        if inputs is not None:
            staging = _staged(api, inputs, manifests, options, now or datetime.now(UTC), progress)
        planned = _planned(api, cluster, staging, options, judge)
        verified = run(api, planned, lease, progress, judge)
    return Applied(planned, result, done=True, verified=verified)


def _planned(api: Server, cluster: Cluster, staging: Staging, options: Options, judge: Judge | None) -> Planned:
    planned = apply_plan.plan(api, cluster, staging.manifests, options.full, options.force, judge)
    if not options.dry_run:
        apply_plan.require_safe(planned, len(staging.manifests), options.prune_all)
    return replace(planned, staging=staging)


def _require_appliable(planned: Planned, options: Options) -> None:
    if options.hold or not planned.refused:
        return
    first, more = planned.refused[0], len(planned.refused) - 1
    others = f" (and {more} more)" if more else ""
    raise Invalid(f"{first.key} on {planned.cluster}: {first.message}{others}; nothing was applied", first.hint)


def _staged(
    api: Server,
    inputs: Inputs,
    manifests: tuple[dict[str, Any], ...],
    options: Options,
    now: datetime,
    progress: Progress,
) -> Staging:
    """What of the manifests is staged first."""
    cluster = inputs.cluster
    declared = sorted(set(in_force(manifests)))
    for name in sorted(options.enforce):
        if name not in declared:
            raise Invalid(
                f"namespace {name} is not to be enforced on {cluster.name}",
                nearest(name, declared)
                or f"the Cluster document must say so, and every pod be declared; {one_of(declared)}",
            )
    present = read_standing(api, cluster).objects.values()
    denied: dict[str, str] = {}
    readings = [policy_flows.read_flows(path, progress=progress) for path in options.flows]
    if readings:
        for item in candidates(inputs, [reading.flows for reading in readings]):
            if item.total.flows:
                first = item.denied[0]
                example = f"{first.source} → {first.destination} at {first.port}"
                denied[item.namespace] = f"{plural(item.total.count, 'connection')}, such as {example}"
    released = declared if options.enforce_all else options.enforce
    found = staged_first(manifests, present, cluster, inputs.snapshot, now, released, denied)
    return replace(found, problems=tuple(problem for reading in readings for problem in reading.problems))


def holder() -> str:
    return f"pilothouse {socket.gethostname()}/{os.getpid()}"


# ---------------------------------------------------------------- carrying out


def run(
    server: Server,
    planned: Planned,
    turn: Turn,
    progress: Progress = lambda _: None,
    judge: Judge | None = None,
) -> bool:
    """Every step in its order; on a failure what was done is undone. With a `judge` the policies are read back then,
    and at the end: whether they were, and mean what was planned.

    Raises `ApplyFailed`, `Cancelled` or `NotAsPlanned`.
    """
    done: list[tuple[Step, Object | None]] = []
    for number, step in enumerate(planned.steps, 1):
        progress(f"{step.action} {step.key} ({number} of {len(planned.steps)})")
        try:
            turn.keep()
        except LeaseLost as lost:
            # Whoever has the turn now brings everything to its end; to undo would be to work against it.
            raise ApplyFailed(planned.cluster, step, f"{lost.message}; nothing was undone", (), (), lost.hint) from lost
        except BaseException as failure:
            _fail(server, planned, done, step, failure, judge)
        done.append((step, None))  # whether it happened is not known before the answer
        try:
            done[-1] = (step, _do(server, planned, step))
        except BaseException as failure:
            _fail(server, planned, done, step, failure, judge)
    if judge is not None and any(decides(step.key) for step in planned.steps):
        progress("reading back what stands there now")
        _verify(server, planned, judge)
        return True
    return False


def _verify(server: Server, planned: Planned, judge: Judge) -> None:
    """Whether the server has what was planned, by meaning."""
    try:
        found = read_standing(server, judge.cluster)
    except PilothouseError as failure:
        raise NotAsPlanned(planned.cluster, f"could not be read back: {failure.message}") from failure
    difference = judge.difference(planned.standing.after(planned.steps), found)
    if not difference.is_empty:
        raise NotAsPlanned(
            planned.cluster, f"what stands there is not what was planned: {difference.named()}", difference
        )


def _meaning(server: Server, planned: Planned, done: list[tuple[Step, Object | None]], judge: Judge | None) -> str:
    """Whether every connection is as it was before, in words."""
    if judge is None or not any(decides(step.key) for step, _ in done):
        return ""
    try:
        difference = judge.difference(planned.standing, read_standing(server, judge.cluster))
    except PilothouseError as failure:
        return f"whether every connection is as before could not be read back ({failure.message})"
    except KeyboardInterrupt:
        return "whether every connection is as before was not read back"
    if difference.is_empty:
        return "read back, every connection is as before"
    return f"read back, it is NOT as before: {difference.named()}"


def _do(server: Server, planned: Planned, step: Step) -> Object | None:
    if step.action == "delete":
        server.delete(step.manifest)
        return None
    if step.before is not None and step.key in planned.intruders:
        server.remove_fields(step.before, planned.intruders[step.key])
    # What was copied or put up for the time of the run is nobody else's.
    return server.apply(step.manifest, force=planned.force or step.passing)


def _fail(
    server: Server,
    planned: Planned,
    done: list[tuple[Step, Object | None]],
    step: Step,
    failure: BaseException,
    judge: Judge | None,
) -> NoReturn:
    undone, left = undo(server, done)
    meaning = _meaning(server, planned, done, judge)
    if isinstance(failure, KeyboardInterrupt) and not left:
        raise Cancelled(planned.cluster, undone, meaning) from failure
    if not isinstance(failure, PilothouseError | KeyboardInterrupt):
        failure.add_note(f"{len(undone)} changes were undone; not undone: {'; '.join(map(str, left)) or 'none'}")
        raise failure
    cause = failure.message if isinstance(failure, PilothouseError) else "cancelled"
    hint = failure.hint if isinstance(failure, PilothouseError) else "see each object, and apply again"
    raise ApplyFailed(planned.cluster, step, cause, undone, left, hint, meaning) from failure


def undo(
    server: Server,
    done: Iterable[tuple[Step, Object | None]],
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[tuple[ObjectKey, ...], tuple[NotUndone, ...]]:
    """Take steps back, the last one first: (what was put back, what could not be).

    A server that does not answer is waited for, once. A second Ctrl-C does not end this.
    """
    undone: list[ObjectKey] = []
    left: list[NotUndone] = []
    patience = UNDO_ATTEMPTS
    for step, after in reversed(list(done)):
        wanted = "to be deleted" if step.before is None and step.action == "apply" else "to be as it was"
        while True:
            try:
                if _take_back(server, step, after) and not step.passing:
                    undone.append(step.key)
                break
            except KeyboardInterrupt:
                continue
            except Unavailable as failure:
                patience -= 1
                if patience <= 0:
                    left.append(NotUndone(step.key, wanted, failure.message))
                    break
                sleep(UNDO_PAUSE)
            except PilothouseError as failure:
                left.append(NotUndone(step.key, wanted, failure.message))
                break
    return tuple(undone), tuple(left)


def _take_back(server: Server, step: Step, after: Object | None) -> bool:
    """Whether there was something to take back. It may be that the step never happened: its answer got lost."""
    present = server.get(step.manifest)
    if step.action == "delete":
        if present is not None and step.before is not None and _uid(present) == _uid(step.before):
            return False
        server.apply(written(step.manifest), force=True)
    elif step.before is not None:
        if present is not None and written(present) == written(step.before):
            return False
        server.apply(comparable(step.manifest, step.before), force=True)
    else:
        made = _uid(after) if after is not None else ""
        if present is None or (made and not step.passing and _uid(present) != made):
            return False
        return server.delete(present)
    return True


def _uid(manifest: Object) -> str:
    return str((manifest.get("metadata") or {}).get("uid", ""))
