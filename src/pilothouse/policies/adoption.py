"""How far each namespace is governed: enforced, staged, withheld, off or exempt.

Adoption is safe: a namespace that the Cluster document declares `enforced` is enforced only when every
running pod in it is declared or exempt in the snapshot. Until then it is staged, and the pods that would
be cut are named. Staging needs Calico; without it the policies are withheld.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pilothouse import labels
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform.model import Enforcement
from pilothouse.policies.content import Baseline
from pilothouse.policies.matching import Directory
from pilothouse.problems import Problem, info, warning
from pilothouse.reports import plural


class Mode(StrEnum):
    ENFORCED = "enforced"
    STAGED = "staged"
    WITHHELD = "withheld"
    """Would be staged, but the cluster has no Calico that could stage it: nothing is rendered."""
    OFF = "off"
    EXEMPT = "exempt"

    @property
    def governs(self) -> bool:
        """Whether policies are derived for the namespace at all."""
        return self in (Mode.ENFORCED, Mode.STAGED, Mode.WITHHELD)


@dataclass(frozen=True, slots=True)
class NamespaceMode:
    """`undeclared` are the names of running pods that no service selects and nothing exempts."""

    namespace: str
    declared: Enforcement
    mode: Mode
    undeclared: tuple[str, ...] = ()


def modes(inputs: Inputs, baseline: Baseline) -> Mapping[str, NamespaceMode]:
    """Every namespace that a service, the Cluster document or the snapshot names, sorted."""
    cluster = inputs.cluster
    services = {service.key: service for service in inputs.platform.services_on(cluster.name)}
    directory = Directory(services, inputs.snapshot)
    claimed = {pod.key for service in services.values() for pod in directory.pods_of_service(service)}
    names = {*directory.by_namespace, *inputs.snapshot.namespace_labels, *inputs.snapshot.pods_by_namespace}
    names.update(cluster.namespace_enforcement)
    found: dict[str, NamespaceMode] = {}
    for name in sorted(names):
        declared = cluster.enforcement_of(name)
        if name in baseline.exempt_namespaces:
            found[name] = NamespaceMode(name, declared, Mode.EXEMPT)
            continue
        exempt = exempt_selector(baseline, name)
        undeclared = tuple(
            pod.name
            for pod in inputs.snapshot.pods_by_namespace.get(name, ())
            if _can_be_cut(pod) and pod.key not in claimed and exempt.matches(pod.labels)
        )
        found[name] = NamespaceMode(name, declared, _mode(inputs, declared, undeclared), undeclared)
    return found


def exempt_selector(baseline: Baseline, namespace: str) -> LabelSelector:
    """Selects the pods of the namespace that are *not* exempt."""
    return LabelSelector(
        (), tuple(Requirement(item.label, "NotIn", item.values) for item in baseline.exempt_in(namespace))
    )


def _can_be_cut(pod: Pod) -> bool:
    """A pending pod has no network yet, but would be cut as soon as it has; one on the host's network never is."""
    return not pod.is_finished and not pod.host_network


def _mode(inputs: Inputs, declared: Enforcement, undeclared: tuple[str, ...]) -> Mode:
    if declared is Enforcement.OFF:
        return Mode.OFF
    if declared is Enforcement.ENFORCED and not undeclared and not inputs.snapshot.is_empty:
        return Mode.ENFORCED
    return Mode.STAGED if inputs.cluster.calico_api else Mode.WITHHELD


def findings(inputs: Inputs, found: Mapping[str, NamespaceMode]) -> list[Problem]:
    """What the modes mean for people: namespaces not adopted yet, withheld policies, an empty snapshot."""
    cluster = inputs.cluster
    problems: list[Problem] = []
    unknown = [
        item.namespace
        for item in found.values()
        if item.declared is Enforcement.ENFORCED and item.mode.governs and inputs.snapshot.is_empty
    ]
    if unknown:
        problems.append(
            warning(
                "policies/no-snapshot",
                f"nothing is known about what runs on cluster {cluster.name}, so what is declared "
                f"enforced stays {'staged' if cluster.calico_api else 'withheld'}: {shown(tuple(unknown))}",
                cluster.place,
                "render with a snapshot of the cluster",
                cluster=cluster.name,
            )
        )
    for item in found.values():
        number = plural(len(item.undeclared), "running pod")
        pods = f"{number} without a declaration would be cut: {shown(item.undeclared)}"
        if item.declared is Enforcement.ENFORCED and item.undeclared and item.mode is not Mode.EXEMPT:
            problems.append(
                warning(
                    "policies/not-adopted",
                    f"namespace {item.namespace} is declared enforced and stays {item.mode}; {pods}",
                    cluster.place,
                    "declare these pods with a Service, or exempt them in policies/baseline.yaml",
                    teams=_owners(inputs, item.namespace),
                    cluster=cluster.name,
                )
            )
    withheld = [item for item in found.values() if item.mode is Mode.WITHHELD]
    if withheld and not inputs.snapshot.is_empty:
        problems.append(_withheld(inputs, withheld))
    problems += _foreign(inputs, found)
    return problems


def _foreign(inputs: Inputs, found: Mapping[str, NamespaceMode]) -> list[Problem]:
    """Policies of others in governed namespaces: Kubernetes adds policies up, so that one of them may undo a denial."""
    others: dict[str, list[str]] = {}
    for item in inputs.snapshot.policies:
        mode = found.get(item.namespace)
        ours = item.labels.get(labels.OWNED_BY) == labels.OWNER
        in_force = item.kind.endswith("NetworkPolicy") and not item.kind.startswith("Staged")
        if in_force and not ours and mode is not None and mode.mode.governs:
            others.setdefault(item.namespace, []).append(f"{item.kind} {item.name}")
    return [
        info(
            "policies/foreign-policy",
            f"namespace {namespace} has policies that pilothouse did not write: {shown(tuple(names))}",
            inputs.cluster.place,
            "declare what they allow, then remove them; until then they add to what is allowed",
            teams=_owners(inputs, namespace),
            cluster=inputs.cluster.name,
        )
        for namespace, names in sorted(others.items())
    ]


def _withheld(inputs: Inputs, items: list[NamespaceMode]) -> Problem:
    cluster = inputs.cluster.name
    cut = tuple(f"{item.namespace}/{pod}" for item in items for pod in item.undeclared)
    pods = f"pods that would be cut: {shown(cut)}" if cut else "no running pod would be cut"
    names = shown(tuple(item.namespace for item in items), 20)
    return info(
        "policies/withheld",
        f"cluster {cluster} has no Calico that could stage policies, so those of {names} are withheld; {pods}",
        inputs.cluster.place,
        "set a namespace to enforced once every pod in it is declared",
        teams=tuple(sorted({team for item in items for team in _owners(inputs, item.namespace)})),
        cluster=cluster,
    )


def _owners(inputs: Inputs, namespace: str) -> tuple[str, ...]:
    services = inputs.platform.services_on(inputs.cluster.name)
    return tuple(sorted({service.team for service in services if service.namespace == namespace}))


def shown(names: tuple[str, ...], limit: int = 8) -> str:
    """The names on one line, cut after `limit`."""
    tail = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + tail
