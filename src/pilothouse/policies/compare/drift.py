"""What runs held against what is declared, by meaning: our policies as derived against those of ours that the snapshot
holds, both beside everybody else's.

What the API server fills in, a policy that was renamed, rules in another order or another API group decide about no
packet, so they are no drift; one port more is. What is staged is compared with what is to be staged as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.artifacts.objects import ObjectKey, is_owned, plan
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import ContainerPort, Pod
from pilothouse.policies.adoption import shown
from pilothouse.policies.compare.groups import (
    Change,
    Group,
    Isolation,
    change_data,
    change_of,
    flips,
    grouped,
    isolation,
    isolation_data,
)
from pilothouse.policies.derive import derive
from pilothouse.policies.engine import Engine, Vocabulary
from pilothouse.policies.engine.decide import Decision, Outcome, decide
from pilothouse.policies.naming import declared as declared_words
from pilothouse.policies.parties import Parties
from pilothouse.policies.reading import from_data, read
from pilothouse.policies.rules import Direction, Policy, PolicySet
from pilothouse.policies.site import foreign
from pilothouse.problems import NOWHERE, Place, Problem, Problems, Severity, error, info, warning
from pilothouse.reports import plural

MAX_FINDINGS = 50
"""More differences than this have one cause; the rest is counted."""
_FREEDOM = {Outcome.DENY: 0, Outcome.CONDITIONAL: 1, Outcome.ALLOW: 2}


@dataclass(frozen=True, slots=True)
class Cause:
    """What decides otherwise: the object as `Kind namespace/name`, its rule as `ingress rule 2` where one can be named
    ("" else), and what is the matter with it in words."""

    object: str
    rule: str
    words: str
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Deviation:
    """One connection that comes to something else live (`change.after`) than declared (`change.before`). `staged`: only
    by what staged policies would do. `place` is the declaration of one end."""

    change: Change
    staged: bool
    causes: tuple[Cause, ...]
    place: Place = NOWHERE

    @property
    def opens(self) -> bool:
        """Whether more is allowed than declared."""
        return _FREEDOM[self.change.after] > _FREEDOM[self.change.before]

    def __str__(self) -> str:
        change = self.change
        who = "staged policies would" if self.staged else "live policies"
        ends = f"{change.source} → {change.destination} at {change.ports}"
        if Outcome.CONDITIONAL in (change.before, change.after):
            text = f"{who} {change.after} {ends}, declared to {change.before}"
        elif self.opens:
            text = f"{who} allow {ends}, which is not declared"
        else:
            text = f"{who} deny {ends}, which is declared"
        why = f": {' and '.join(cause.words for cause in self.causes)}" if self.causes else ""
        return f"{text}{why} (for example {change.example})"


@dataclass(frozen=True, slots=True)
class Drift:
    """`absent` counts the declared policies where not one object of ours is live: then nothing else is said.
    `written_differently` are objects whose text differs, where nothing that they mean does."""

    cluster: str
    deviations: tuple[Deviation, ...] = ()
    isolation: tuple[tuple[Isolation, bool], ...] = ()
    """Where isolation begins (is live and not declared) or ends; and whether by staged policies only."""
    written_differently: tuple[str, ...] = ()
    absent: int = 0
    unread: Problems = field(default=(), repr=False)
    """Errors in live policies, which were left out."""

    @property
    def is_empty(self) -> bool:
        """Whether what runs means what is declared."""
        return not self.deviations and not self.isolation and not self.absent

    @property
    def summary(self) -> str:
        """One line."""
        if self.absent:
            return f"no policy of ours is live on {self.cluster}; {self.absent} are declared"
        if self.is_empty:
            return f"what runs on {self.cluster} means what is declared"
        opened = sum(item.opens for item in self.deviations)
        parts = [
            f"{plural(opened, 'connection')} opened" * bool(opened),
            f"{plural(len(self.deviations) - opened, 'connection')} cut" * (opened < len(self.deviations)),
            f"isolation differs in {plural(len(self.isolation), 'place')}" * bool(self.isolation),
        ]
        return f"{self.cluster}: {', '.join(part for part in parts if part)}"


def drift(inputs: Inputs, manifests: Iterable[Mapping[str, Any]] | None = None) -> Drift:
    """The drift of one cluster, on its snapshot; `manifests` are our policies as rendered, where they are at hand."""
    if manifests is None:
        manifests = derive(inputs).artifacts.under("policies/").manifests()
    name, rendered = inputs.cluster.name, tuple(manifests)
    if rendered and not any(is_owned(item.data, name) for item in inputs.snapshot.policies):
        return Drift(name, absent=sum(1 for item in rendered if str(item["kind"]).endswith("Policy")))
    declared = foreign(inputs).policies | from_data(*rendered).policies
    found = read(inputs.snapshot.policies)
    live = found.policies
    sets = (declared.enforced(), live.enforced(), declared.preview(), live.preview())
    known = declared_words(inputs) | Vocabulary(workloads=True)
    engines = Engine.together(inputs.snapshot, sets, known=known, future=_to_come(inputs, declared | live))
    parties = Parties(inputs, engines[0].universe)
    deviations = list(_deviations(engines[0], engines[1], parties, staged=False))
    turned = list(isolation(engines[0], engines[1]))
    staged: list[Deviation] = []
    waiting: list[Isolation] = []
    if _staged(declared) or _staged(live):
        felt = {_meaning(item.change) for item in deviations}
        staged = [
            item
            for item in _deviations(engines[2], engines[3], parties, staged=True)
            if _meaning(item.change) not in felt
        ]
        waiting = [item for item in isolation(engines[2], engines[3]) if item not in turned]
    return Drift(
        name,
        (*deviations, *staged),
        (*((item, False) for item in turned), *((item, True) for item in waiting)),
        () if deviations or staged or turned or waiting else _written_differently(inputs, rendered),
        unread=tuple(problem for problem in found.problems if problem.severity is Severity.ERROR),
    )


def _to_come(inputs: Inputs, policies: PolicySet) -> Iterator[Pod]:
    """Pods for namespaces that have policies and no pods yet, so that what differs there is seen all the same: one of
    each service, and one that nobody declares."""
    there = {pod.namespace for pod in inputs.snapshot.pods if pod.is_endpoint}
    spaces = {policy.namespace for policy in policies.policies if policy.namespace} - there
    for service in inputs.platform.services_on(inputs.cluster.name):
        if service.namespace in spaces:
            labels = dict(service.pod_selector.match_labels)
            ports = tuple(ContainerPort(port.name, port.number, port.protocol.value) for port in service.ports)
            name = f"(a new pod of {service.name})"
            yield Pod(service.namespace, name, labels, service.service_account, ports, from_template=True)
    for space in sorted(spaces):
        yield Pod(space, "(a new pod that nobody declares)", from_template=True)


def _staged(policies: PolicySet) -> bool:
    return any(policy.staged for policy in policies.policies)


def _meaning(change: Change) -> object:
    return (change.source, change.destination, change.before, change.after, change.connections)


# ---------------------------------------------------------------- connections


def _deviations(declared: Engine, live: Engine, parties: Parties, *, staged: bool) -> Iterator[Deviation]:
    groups = grouped(
        declared.reach,
        live.reach,
        parties,
        parties,
        ~flips(declared, live, Direction.EGRESS),
        ~flips(declared, live, Direction.INGRESS),
        sets=live.policies.sets,
    )
    for group in groups:
        places = [place for piece in group.example if (place := parties.place(piece)).path]
        yield Deviation(
            change_of(live.universe, group),
            staged,
            tuple(_causes(declared, live, group)),
            places[0] if places else NOWHERE,
        )


def _causes(declared: Engine, live: Engine, group: Group) -> Iterator[Cause]:
    """What decides otherwise about the group's example, on each side that differs."""
    packet = group.connections.first()
    for was, now in zip(decide(declared, *group.example, packet), decide(live, *group.example, packet), strict=True):
        if was.outcome is not now.outcome and (cause := _told(was, now)) is not None:
            yield cause


def _told(was: Decision, now: Decision) -> Cause | None:
    if now.rule is not None and isinstance(now.policy, Policy):
        rule = f"{now.direction} rule {now.rule.index + 1}"
        return Cause(now.policy.key, rule, f"{rule} of {now.policy.key}", now.rule.place)
    if was.rule is not None and isinstance(was.policy, Policy):
        rule = f"{was.direction} rule {was.rule.index + 1}"
        return Cause(was.policy.key, rule, f"the declared {rule} of {was.policy.key} is not there")
    missing = [policy for policy in was.isolating if policy.key not in {policy.key for policy in now.isolating}]
    if missing:
        return Cause(missing[0].key, "", f"{missing[0].key} is not there")
    return None


# ---------------------------------------------------------------- text


def _written_differently(inputs: Inputs, rendered: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Objects that a comparison by text finds."""
    changes = plan(rendered, (item.data for item in inputs.snapshot.policies), inputs.cluster.name)
    return tuple(str(change.key) for change in changes)


def is_policy(key: ObjectKey) -> bool:
    """Whether an object is compared here, so that its text says nothing more."""
    return key.group in _GROUPS


_GROUPS = ("networking.k8s.io", "projectcalico.org", "crd.projectcalico.org")


# ---------------------------------------------------------------- findings


def problems(found: Drift, place: Place = NOWHERE) -> Problems:
    """`policies/drift` for each difference: an error where it opens something, a warning where it cuts or is staged
    only; and one `policies/written-differently`. `place` is where what has no place of its own is shown."""
    name = found.cluster
    if found.absent:
        message = f"not one of {plural(found.absent, 'declared policy', 'declared policies')} is live on cluster {name}"
        return (error("policies/drift", message, place, f"`pilothouse apply {name}`, or read it again", cluster=name),)
    problems: list[Problem] = []
    for item, staged in found.isolation:
        what = "is live and not declared" if item.begins else "is declared and not live"
        text = f"{item}; it {what}"
        severe = error if not item.begins and not staged else warning
        problems.append(severe("policies/drift", f"{'staged: ' * staged}{text}", place, _HINT, cluster=name))
    for deviation in found.deviations[:MAX_FINDINGS]:
        severe = error if deviation.opens and not deviation.staged else warning
        teams = sorted({deviation.change.source.team, deviation.change.destination.team} - {""})
        where = deviation.place if deviation.place.path else place
        related = tuple(cause.place for cause in deviation.causes if cause.place.path)
        problems.append(
            severe("policies/drift", str(deviation), where, _HINT, related=related, teams=tuple(teams), cluster=name)
        )
    if len(found.deviations) > MAX_FINDINGS:
        rest = found.deviations[MAX_FINDINGS:]
        severe = error if any(item.opens and not item.staged for item in rest) else warning
        text = f"{len(rest)} more groups of connections differ on cluster {name}"
        problems.append(severe("policies/drift", text, place, _HINT, cluster=name))
    if found.written_differently:
        count = plural(len(found.written_differently), "policy", "policies")
        text = f"{count} of ours on {name} written otherwise than rendered, with the same meaning"
        problems.append(
            info(
                "policies/written-differently",
                f"{text}: {shown(found.written_differently)}",
                place,
                "nothing to do; the next apply writes them anew",
                cluster=name,
            )
        )
    return tuple(problems)


_HINT = "`pilothouse apply` undoes it; or declare what was done by hand, so that it stays"


def as_data(found: Drift) -> dict[str, Any]:
    """The drift as JSON can hold it."""
    return {
        "cluster": found.cluster,
        "drift": not found.is_empty,
        "summary": found.summary,
        "absent": found.absent,
        "connections": [
            {
                **change_data(item.change),
                "opens": item.opens,
                "staged": item.staged,
                "causes": [{"object": cause.object, "rule": cause.rule} for cause in item.causes],
                "message": str(item),
            }
            for item in found.deviations
        ],
        "isolation": [isolation_data(item) | {"staged": staged} for item, staged in found.isolation],
        "writtenDifferently": list(found.written_differently),
        "unread": [problem.message for problem in found.unread],
    }
