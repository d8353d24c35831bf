"""What an apply would do to a cluster: read, compared, tried on the server without effect, put in order.

Nothing here changes anything. What cannot be applied is held back with its reason, and what must not be without it
with it: the policies of a namespace are applied together or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pilothouse.artifacts.objects import (
    Object,
    ObjectChange,
    ObjectKey,
    comparable,
    intruding,
    is_owned,
    written,
)
from pilothouse.artifacts.ordering import Change, Step, foreign_policies, is_transition, order
from pilothouse.clients.kubernetes import Answered, FieldConflict, Forbidden, Rejected, kinds
from pilothouse.clients.kubernetes.kinds import Kind
from pilothouse.labels import CLUSTER_LABEL, OWNED_BY, OWNER
from pilothouse.platform.model import Cluster
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.compare.rollout import Breach, Rollout, Standing, decides
from pilothouse.policies.staging import Staging
from pilothouse.problems import Conflict, Invalid, Place, Problem, Severity, error, warning
from pilothouse.workflows.standing import AT_ONCE, objects, standing_of

Value = TypeVar("Value")
Item = TypeVar("Item")


class Server(Protocol):
    """What a plan asks of an API server (`clients.kubernetes.Api`)."""

    host: str

    def served(self) -> frozenset[str] | None: ...
    def objects(self, kind: Kind, page: int = 500, selector: str = "") -> list[dict[str, Any]]: ...
    def get(self, manifest: Object) -> dict[str, Any] | None: ...
    def apply(self, manifest: Object, dry_run: bool = False, force: bool = False) -> dict[str, Any]: ...
    def remove_fields(self, current: Object, paths: tuple[tuple[str, ...], ...], dry_run: bool = False) -> None: ...
    def delete(self, manifest: Object, dry_run: bool = False) -> bool: ...


@dataclass(frozen=True, slots=True)
class Held:
    """An object that is left as it is, and why; `code` is that of the problem."""

    key: ObjectKey
    code: str
    message: str
    hint: str
    severity: Severity = Severity.ERROR

    def problem(self, cluster: str, place: Place) -> Problem:
        make = error if self.severity is Severity.ERROR else warning
        return make(self.code, f"{self.key} on {cluster}: {self.message}", place, self.hint, cluster=cluster)


@dataclass(frozen=True)
class Planned:
    """`changes` are what the cluster gains, changes and loses; `steps` how, in order. `owned` counts what is ours there
    now, `checked` what was compared."""

    cluster: str
    changes: tuple[ObjectChange, ...] = ()
    steps: tuple[Step, ...] = ()
    held: tuple[Held, ...] = ()
    owned: int = 0
    checked: int = 0
    strangers: tuple[str, ...] = ()
    """Other clusters whose objects of ours are there."""
    shared: tuple[str, ...] = ()
    """Namespaces that open or close beside policies of others, where connections may pause for a moment."""
    intruders: Mapping[ObjectKey, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Fields of others in what is ours, which a forced apply takes out."""
    force: bool = False
    pruned: int = 0
    """How many objects of ours go; a policy that is enforced instead of staged, or the other way round, does not."""
    standing: Standing = field(default_factory=Standing)
    """The policies that were there."""
    rollout: Rollout = field(default_factory=Rollout)
    """What the steps do to traffic, where there was somebody to judge."""
    staging: Staging = field(default_factory=Staging)

    @property
    def refused(self) -> tuple[Held, ...]:
        """What a person has to decide or mend before anything is applied by hand."""
        return tuple(item for item in self.held if item.severity is Severity.ERROR)

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def same_as(self, other: Planned) -> bool:
        """Whether both would do the same to the same objects."""
        return [(s.phase, s.action, s.key, s.manifest) for s in self.steps] == [
            (s.phase, s.action, s.key, s.manifest) for s in other.steps
        ]


def desired_of(manifests: Iterable[Object]) -> tuple[dict[str, Any], ...]:
    """Manifests as JSON holds them, so that they compare with what a server sends."""
    return tuple(json.loads(json.dumps(manifest)) for manifest in manifests)


def require_safe(planned: Planned, wanted: int, prune_all: bool) -> None:
    """`Conflict` where an apply would remove so much that it is more likely a mistake."""
    if prune_all or not planned.pruned:
        return
    hint = "see what `pilothouse render` makes of the platform; if it is meant, say --prune-all"
    if not wanted:
        raise Conflict(
            f"nothing is desired on {planned.cluster}, so all {planned.pruned} objects would be removed", hint
        )
    if planned.pruned * 2 > planned.owned:
        raise Conflict(
            f"{planned.pruned} of our {planned.owned} objects on {planned.cluster} would be removed, more than half",
            hint,
        )


def plan(
    server: Server,
    cluster: Cluster,
    manifests: Iterable[Object],
    full: bool = False,
    force: bool = False,
    judge: Judge | None = None,
) -> Planned:
    """Compare what should be with what is, and try every change on the server without effect.

    `full` tries every object, also one in which nothing seems to differ: the server knows its own defaults.
    `force` takes fields from other managers. `judge` evaluates what the steps do to traffic: policies of a namespace
    in which they would open or cut something on the way are held back. Raises what the server's client raises where it
    does not answer.
    """
    desired = {ObjectKey.of(manifest): manifest for manifest in desired_of(manifests)}
    return _Planner(server, cluster, desired, full, force, judge).run()


class _Planner:
    def __init__(
        self,
        server: Server,
        cluster: Cluster,
        desired: Mapping[ObjectKey, Object],
        full: bool,
        force: bool,
        judge: Judge | None,
    ) -> None:
        self.server = server
        self.cluster = cluster
        self.desired = dict(desired)
        self.full = full
        self.force = force
        self.judge = judge
        self.standing = Standing()
        self.held: dict[ObjectKey, Held] = {}
        self.policies: dict[ObjectKey, Object] = {}
        self.live: dict[ObjectKey, Object] = {}
        self.unseen = False
        """Whether there may be policies of others that nobody here can read."""
        self.strangers: set[str] = set()
        self.intruders: dict[ObjectKey, tuple[tuple[str, ...], ...]] = {}

    def run(self) -> Planned:
        with ThreadPoolExecutor(AT_ONCE) as pool:

            def each(call: Callable[[Item], Value], items: Iterable[Item]) -> list[Value]:
                return list(pool.map(call, items))

            self.read(each)
            changes = self.compare(each)
            tried = each(self.attempt, changes)
        found = [change for change, is_one in zip(changes, tried, strict=True) if is_one]
        found, steps, rollout = self.judged(self.without_held(found))
        return Planned(
            self.cluster.name,
            tuple(_shown(change) for change in found if not _passing(change)),
            steps,
            tuple(self.held[key] for key in sorted(self.held)),
            sum(is_owned(item, self.cluster.name) and not is_transition(item) for item in self.live.values()),
            len(self.desired),
            tuple(sorted(self.strangers - {self.cluster.name, ""})),
            self.shared(found, rollout),
            self.intruders,
            self.force,
            self.pruned(found),
            self.standing,
            rollout,
        )

    # ------------------------------------------------------------ reading

    def read(self, each: Callable[[Callable[[Kind], Any], Iterable[Kind]], list[Any]]) -> None:
        """What is ours, and every policy of anybody."""
        served = self.server.served()
        applied = kinds.applied(served, self.cluster.calico_api)
        known = {(kind.group, kind.name) for kind in applied}
        for key in list(self.desired):
            if (key.group, key.kind) not in known:
                said = "the cluster does not serve that kind"
                self.hold(key, "apply/not-served", said, _NOT_SERVED, Severity.WARNING)
        isolating = kinds.isolating(served, self.cluster.calico_api)
        wanted = (*applied, *isolating)
        found = dict(zip(wanted, each(lambda kind: objects(self.server, kind), wanted), strict=True))
        deciding = {kind: items for kind, items in found.items() if decides(ObjectKey(kind.group, kind.name, "", ""))}
        self.standing = standing_of(deciding)
        for kind, items in found.items():
            if isinstance(items, Forbidden):
                for key in list(self.desired):
                    if (key.group, key.kind) == (kind.group, kind.name):
                        self.hold(key, "apply/forbidden", items.said, items.hint)
                if kind in isolating:  # it may isolate any pod: nothing may be opened on the way
                    self.unseen = True
                    unseen = ObjectKey(kind.group, kind.name, "", "unseen")
                    self.policies[unseen] = {
                        "apiVersion": kind.group_version,
                        "kind": kind.name,
                        "metadata": {"name": "unseen"},
                    }
                continue
            for item in items:
                key = ObjectKey.of(item)
                if kind in deciding and key not in self.standing.objects:
                    continue  # Calico's API shows a policy of Kubernetes as one of its own
                labels = item["metadata"].get("labels") or {}
                if labels.get(OWNED_BY) == OWNER:
                    self.strangers.add(labels.get(CLUSTER_LABEL, ""))
                if kind.name.endswith("NetworkPolicy"):
                    self.policies[key] = item
                if key in self.desired or is_owned(item, self.cluster.name):
                    self.live[key] = item

    # ------------------------------------------------------------ comparing

    def compare(self, each: Callable[[Callable[[ObjectKey], Any], Iterable[ObjectKey]], list[Any]]) -> list[Change]:
        """What seems to differ, and with `full` everything."""
        unseen = [key for key in self.desired if key not in self.live and key not in self.held]
        for key, found in zip(unseen, each(self.look, unseen), strict=True):
            if found is not None:
                self.live[key] = found
        changes = []
        for key, manifest in self.desired.items():
            if key in self.held:
                continue
            present = self.live.get(key)
            if present is not None and not is_owned(present, self.cluster.name):
                self.hold(key, "apply/foreign-object", "an object of that name is there, and is not ours", _FOREIGN)
                continue
            if present is not None and (paths := intruding(manifest, present)):
                self.intruders[key] = paths
                if not self.force:
                    self.hold(key, "apply/conflict", _intrusion(present, paths), _CONFLICT)
                    continue
            if present is None or self.full or not _is_exact(key) or _differs(manifest, present):
                changes.append(Change(key, present, manifest))
        changes += [Change(key, item, None) for key, item in self.live.items() if key not in self.desired]
        return changes

    def look(self, key: ObjectKey) -> Object | None:
        """An object that is not ours but has the name of one that should be."""
        try:
            return self.server.get(self.desired[key])
        except Forbidden:
            return None  # the attempt will say so

    # ------------------------------------------------------------ trying

    def attempt(self, change: Change) -> bool:
        """Whether it is a change after all; what the server would refuse is held back."""
        key, before, after = change.key, change.before, change.after
        try:
            if after is None:
                assert before is not None
                self.server.delete(before, dry_run=True)
                return True
            if before is not None and key in self.intruders:
                self.server.remove_fields(before, self.intruders[key], dry_run=True)
            if before is not None and before.get("roleRef") != after.get("roleRef"):
                self.server.delete(before, dry_run=True)  # it cannot change: it is made anew
                return True
            would_be = self.server.apply(after, dry_run=True, force=self.force)
        except FieldConflict as failure:
            self.hold(key, "apply/conflict", failure.message.partition(": ")[2], _CONFLICT)
        except Forbidden as failure:
            if before is not None and after is not None and not _differs(after, before):
                return False  # nothing seems to differ, so nobody has to ask for more
            self.hold(key, "apply/forbidden", failure.said, failure.hint)
        except Rejected as failure:
            if failure.absent and key.namespace:
                self.hold(key, "apply/no-namespace", failure.said, _NO_NAMESPACE, Severity.WARNING)
            else:
                self.hold(key, "apply/refused", failure.said, _REFUSED)
        except (Conflict, Invalid) as failure:
            said = failure.said if isinstance(failure, Answered) else failure.message
            self.hold(key, "apply/refused", said, _REFUSED)
        else:
            return before is None or key in self.intruders or written(would_be) != written(before)
        return False

    def hold(self, key: ObjectKey, code: str, message: str, hint: str, severity: Severity = Severity.ERROR) -> None:
        self.held[key] = Held(key, code, message, hint, severity)

    # ------------------------------------------------------------ what belongs together

    def without_held(self, changes: list[Change]) -> list[Change]:
        """Without the policies of a namespace in which one is held back: half of them would cut or open."""
        stuck = {
            key.namespace
            for key, item in self.held.items()
            if key.kind.endswith("NetworkPolicy") and item.code != "apply/no-namespace"
        }
        kept = []
        for change in changes:
            if change.key.kind.endswith("NetworkPolicy") and change.key.namespace in stuck:
                self.hold(
                    change.key,
                    "apply/held-back",
                    "another policy of its namespace could not be applied",
                    "mend that one: the policies of a namespace are applied together",
                    Severity.WARNING,
                )
            else:
                kept.append(change)
        return kept

    def judged(self, changes: list[Change]) -> tuple[list[Change], tuple[Step, ...], Rollout]:
        """The steps, and what they do to traffic; without those that would open or cut something on the way.

        A shelter stands beside policies of others where that opens nothing, which only an evaluation of all of them can
        say: where one cannot be read there is none.
        """
        spaces = {change.key.namespace for change in changes if change.key.kind.endswith("NetworkPolicy")}
        beside = spaces if self.judge and not self.unseen else set()
        while True:
            steps = order(changes, self.policies.values(), self.cluster.name, beside)
            rollout = self.judge.rollout(self.standing, steps) if self.judge else Rollout()
            opened = {breach.namespace for breach in rollout.breaches if breach.opened}
            doubtful = beside if rollout.unread else beside & opened
            if doubtful:
                beside = beside - doubtful
                continue
            if not rollout.breaches:
                return changes, steps, rollout
            for breach in rollout.breaches:
                self.hold_for(breach, changes)
            kept = self.without_held([change for change in changes if change.key not in self.held])
            if len(kept) == len(changes):
                raise Invalid(f"{self.cluster.name}: {rollout.breaches[0]}", _UNSAFE)
            changes = kept

    def hold_for(self, breach: Breach, changes: list[Change]) -> None:
        """The object whose step it is, or where that is a copy or a shelter the first policy of the namespace."""
        keys = [change.key for change in changes if decides(change.key)]
        near = [key for key in keys if key.namespace == breach.namespace]
        key = breach.step.key if breach.step.key in keys else next(iter(near), None)
        if key is not None:
            self.hold(key, "apply/unsafe-step", str(breach), _UNSAFE)

    def pruned(self, changes: list[Change]) -> int:
        """Without what is there afterwards in another form: enforced instead of staged, or of another kind."""
        kept = {_policy_name(key) for key in self.desired} - {None}
        return sum(
            change.after is None and not _passing(change) and _policy_name(change.key) not in kept for change in changes
        )

    def shared(self, changes: list[Change], rollout: Rollout) -> tuple[str, ...]:
        """Namespaces in which connections may pause: those where the evaluation says so; without one, those in which
        policies come or go and somebody else's are there too."""
        if self.judge is not None:
            return tuple(sorted({pause.namespace for pause in rollout.pauses}))
        others = {key.namespace for key in foreign_policies(self.policies.values(), self.cluster.name)}
        touched = {
            change.key.namespace
            for change in changes
            if change.key.kind == "NetworkPolicy" and (change.before is None or change.after is None)
        }
        return tuple(sorted(touched & others))


def _policy_name(key: ObjectKey) -> tuple[str, str] | None:
    return (key.namespace, key.name.removeprefix("default.")) if key.kind.endswith("NetworkPolicy") else None


def _differs(manifest: Object, present: Object) -> bool:
    return comparable(manifest, present) != written(manifest)


def _is_exact(key: ObjectKey) -> bool:
    """Whether comparing here finds every difference: the server fills nothing in, and lists are atomic."""
    return key.group != "apps"


def _passing(change: Change) -> bool:
    return change.after is None and change.before is not None and is_transition(change.before)


def _shown(change: Change) -> ObjectChange:
    if change.after is None:
        return ObjectChange(change.key, written(change.before or {}), None)
    before = None if change.before is None else comparable(change.after, change.before)
    return ObjectChange(change.key, before, written(change.after))


def _intrusion(present: Object, paths: tuple[tuple[str, ...], ...]) -> str:
    fields = ", ".join("." + ".".join(path) for path in paths)
    owners = sorted(
        {
            str(entry.get("manager"))
            for entry in (present.get("metadata") or {}).get("managedFields") or ()
            for path in paths
            if _holds(entry.get("fieldsV1") or {}, path)
        }
    )
    return f"somebody else added {fields}" + (f" ({', '.join(owners)})" if owners else "")


def _holds(fields: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    found: Any = fields
    for name in path:
        found = found.get(f"f:{name}") if isinstance(found, Mapping) else None
    return found is not None


_CONFLICT = "declare what was done by hand, or take the fields back with `pilothouse apply --force-conflicts`"
_FOREIGN = "remove it, or hand it over by giving it our labels (docs/applying.md)"
_REFUSED = "the API server or one of its admission policies says why; mend that"
_UNSAFE = "apply the change in two parts, or take away the policies of others that stand in the way"
_NO_NAMESPACE = "the namespace's owner creates it; what is declared in it is applied as soon as it is there"
_NOT_SERVED = "install it, or change `calico` in the Cluster document"
