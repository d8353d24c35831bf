"""A plan carried out step by step, and taken back where it cannot be finished.

One apply runs on a cluster at a time (`clients.kubernetes.lease`). On a failure, and on Ctrl-C, what this run did is
undone in reverse order from what was read before it: what it created is deleted, what it changed or deleted is written
as it was. An object that cannot be put back is named.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NoReturn, Protocol

from pilothouse.artifacts.objects import Object, ObjectKey, comparable, written
from pilothouse.artifacts.ordering import Step
from pilothouse.clients.kubernetes import Api, Lease, LeaseLost
from pilothouse.platform.model import Cluster
from pilothouse.problems import Conflict, Invalid, PilothouseError, Unavailable, has_errors
from pilothouse.workflows import apply_plan, live, rendering
from pilothouse.workflows.apply_plan import Planned, Server
from pilothouse.workflows.rendering import ClusterResult, Opened, Where

UNDO_ATTEMPTS = 10
UNDO_PAUSE = 2.0
"""How often, and how many seconds apart, a server that went away in the middle is asked again before it is given up."""

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
    """An apply that did not come to its end. `undone` were put back, `left` could not be."""

    def __init__(
        self, cluster: str, at: Step, cause: str, undone: tuple[ObjectKey, ...], left: tuple[NotUndone, ...], hint: str
    ) -> None:
        took_back = f"the {len(undone)} changes made before were undone" if undone else "nothing was changed before"
        if left:
            took_back = f"{len(undone)} changes were undone, and {len(left)} COULD NOT BE: {'; '.join(map(str, left))}"
        super().__init__(f"apply of {cluster} failed at {at.key}: {cause}; {took_back}", hint)
        self.cluster = cluster
        self.at = at
        self.cause = cause
        self.undone = undone
        self.left = left


class Refused(Invalid):
    """What is declared for a cluster has errors (`problems`), so that nothing of it is applied."""


class Cancelled(KeyboardInterrupt):
    """Ctrl-C in the middle; everything that was done is undone."""

    def __init__(self, cluster: str, undone: tuple[ObjectKey, ...]) -> None:
        super().__init__(f"apply of {cluster} was cancelled; {len(undone)} changes were undone")
        self.undone = undone


@dataclass(frozen=True)
class Applied:
    """What came of it. `done` is False where nobody wanted it, or where it was a dry run."""

    planned: Planned
    result: ClusterResult
    done: bool = False

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
    """`full` tries every object on the server; `hold` applies the rest where something cannot be applied."""

    full: bool = True
    force: bool = False
    prune_all: bool = False
    dry_run: bool = False
    hold: bool = False


def apply(
    opened: Opened,
    name: str,
    today: date,
    where: Where,
    options: Options = Options(),
    ask: Ask = lambda _: True,
    progress: Progress = lambda _: None,
) -> Applied:
    """Derive, prove, plan, ask, apply.

    Raises `Refused` where a check has errors, `Invalid` where objects cannot be applied (unless `hold`), `Conflict`
    where too much would be removed, it is another cluster, or somebody else applies; `ApplyFailed` where it was undone.
    """
    cluster = opened.loaded.platform.clusters[name]
    progress(f"checking {name}")
    if has_errors(opened.problems):
        raise Refused("the documents have errors, so nothing is applied", "mend them first", opened.problems)
    _, result = rendering.derive_cluster(opened, name, today, where)
    problems = (*opened.problems, *result.problems)
    if has_errors(problems):
        raise Refused(f"{name} has errors, so nothing is applied", "`pilothouse check` shows them", problems)
    manifests = apply_plan.desired_of(result.artifacts.manifests())
    with closing(live.api_of(cluster, where.kubeconfig, where.context)) as api:
        progress(f"comparing {name} with {api.host}")
        planned = _planned(api, cluster, manifests, options)
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
            again = _planned(api, cluster, manifests, options)
            if not again.same_as(planned):
                raise Conflict(f"{name} has changed since the plan was shown", "look at the plan again")
            run(api, again, lease, progress)
        return Applied(again, result, done=True)


def apply_now(
    api: Api, cluster: Cluster, result: ClusterResult, options: Options, progress: Progress = lambda _: None
) -> Applied:
    """As `apply`, with nobody to ask: planned and carried out under the lease. The worker's way."""
    manifests = apply_plan.desired_of(result.artifacts.manifests())
    with Lease(api, holder()) as lease:
        planned = _planned(api, cluster, manifests, options)
        run(api, planned, lease, progress)
    return Applied(planned, result, done=True)


def _planned(api: Server, cluster: Cluster, manifests: tuple[dict[str, Any], ...], options: Options) -> Planned:
    planned = apply_plan.plan(api, cluster, manifests, options.full, options.force)
    if not options.dry_run:
        apply_plan.require_safe(planned, len(manifests), options.prune_all)
    return planned


def _require_appliable(planned: Planned, options: Options) -> None:
    if options.hold or not planned.refused:
        return
    first, more = planned.refused[0], len(planned.refused) - 1
    others = f" (and {more} more)" if more else ""
    raise Invalid(f"{first.key} on {planned.cluster}: {first.message}{others}; nothing was applied", first.hint)


def holder() -> str:
    return f"pilothouse {socket.gethostname()}/{os.getpid()}"


# ---------------------------------------------------------------- carrying out


def run(server: Server, planned: Planned, turn: Turn, progress: Progress = lambda _: None) -> None:
    """Every step in its order; on a failure what was done is undone. Raises `ApplyFailed` or `Cancelled`."""
    done: list[tuple[Step, Object | None]] = []
    for number, step in enumerate(planned.steps, 1):
        progress(f"{step.action} {step.key} ({number} of {len(planned.steps)})")
        try:
            turn.keep()
        except LeaseLost as lost:
            # Whoever has the turn now brings everything to its end; to undo would be to work against it.
            raise ApplyFailed(planned.cluster, step, f"{lost.message}; nothing was undone", (), (), lost.hint) from lost
        except BaseException as failure:
            _fail(server, planned, done, step, failure)
        done.append((step, None))  # whether it happened is not known before the answer
        try:
            done[-1] = (step, _do(server, planned, step))
        except BaseException as failure:
            _fail(server, planned, done, step, failure)


def _do(server: Server, planned: Planned, step: Step) -> Object | None:
    if step.action == "delete":
        server.delete(step.manifest)
        return None
    if step.before is not None and step.key in planned.intruders:
        server.remove_fields(step.before, planned.intruders[step.key])
    # What was copied or put up for the time of the run is nobody else's.
    return server.apply(step.manifest, force=planned.force or step.passing)


def _fail(
    server: Server, planned: Planned, done: list[tuple[Step, Object | None]], step: Step, failure: BaseException
) -> NoReturn:
    undone, left = undo(server, done)
    if isinstance(failure, KeyboardInterrupt) and not left:
        raise Cancelled(planned.cluster, undone) from failure
    if not isinstance(failure, PilothouseError | KeyboardInterrupt):
        failure.add_note(f"{len(undone)} changes were undone; not undone: {'; '.join(map(str, left)) or 'none'}")
        raise failure
    cause = failure.message if isinstance(failure, PilothouseError) else "cancelled"
    hint = failure.hint if isinstance(failure, PilothouseError) else "see each object, and apply again"
    raise ApplyFailed(planned.cluster, step, cause, undone, left, hint) from failure


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
