"""Staged first: a namespace comes under policy only after the staged form of its policies has stood for a while.

What an apply finds in the cluster decides. A namespace that is to be enforced is one of these:

- **enforced**: a policy of ours is in force there. It stays so, whatever changes.
- **empty**: nothing runs there that could be cut. It is enforced at once, before anything comes.
- **staged**: its staged default deny has stood for as long as the Cluster document says (`enforcement.stagedFor`), and
  observed flows, where they are given, show nothing that would be denied: it is enforced now. Else it stays staged.
- **open**: nothing of ours stands there. It is staged.

A person may name namespaces that are enforced at once. Without Calico there is no staged form
(https://docs.tigera.io/calico/latest/network-policy/staged-network-policies), so nothing waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pilothouse.artifacts.objects import Object, ObjectKey, is_owned
from pilothouse.artifacts.ordering import is_transition
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Snapshot
from pilothouse.platform.model import Cluster
from pilothouse.policies.manifests import PART_LABEL, staged
from pilothouse.problems import Place, Problem, Problems, warning

_GROUPS = ("networking.k8s.io", "projectcalico.org", "crd.projectcalico.org")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A namespace that is declared enforced and is staged for now. `since` is when its staged form was made (None: by
    this apply), `until` when it has stood long enough (None: that depends on when it is applied); `denied` is what
    observed flows say against it."""

    namespace: str
    since: datetime | None = None
    until: datetime | None = None
    denied: str = ""

    @property
    def why(self) -> str:
        if self.denied:
            return f"observed flows would be denied: {self.denied}"
        if self.until is None:
            return "its policies are staged first"
        return f"its policies are staged until {self.until:%Y-%m-%d %H:%M} UTC"

    def problem(self, cluster: str, place: Place) -> Problem:
        return warning(
            "policies/staged-first",
            f"namespace {self.namespace} is declared enforced and is staged on {cluster} for now: {self.why}",
            place,
            f"see what Calico reports; `pilothouse apply {cluster} --enforce {self.namespace}` does not wait",
            cluster=cluster,
        )


@dataclass(frozen=True)
class Staging:
    """`manifests` with those of the waiting namespaces in their staged form. `begins` are the namespaces that come
    under policy with this apply."""

    manifests: tuple[Object, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    begins: tuple[str, ...] = ()
    problems: Problems = ()
    """What of the observed flows could not be read."""


def staged_first(
    manifests: Iterable[Object],
    present: Iterable[Object],
    cluster: Cluster,
    snapshot: Snapshot,
    now: datetime,
    released: Collection[str] = (),
    denied: Mapping[str, str] | None = None,
) -> Staging:
    """What is to be applied now. `manifests` are all that is desired, `present` the policies that the cluster has.

    `released` are namespaces that do not wait; `denied` says of each namespace in words what observed flows would lose.
    """
    wanted = tuple(manifests)
    standing = [item for item in present if is_owned(item, cluster.name)]
    begins = sorted(set(in_force(wanted)) - set(in_force(standing)))
    waiting = []
    for namespace in begins:
        if not cluster.calico_api or namespace in released or not _runs(snapshot, namespace):
            continue
        item = _waiting(namespace, standing, cluster, now, (denied or {}).get(namespace, ""))
        if item is not None:
            waiting.append(item)
    held = {item.namespace for item in waiting}
    return Staging(
        tuple(staged(item, cluster.calico_api) if _namespace(item) in held else item for item in wanted),
        tuple(waiting),
        tuple(name for name in begins if name not in held),
    )


def as_applied(inputs: Inputs, manifests: Iterable[Object], now: datetime) -> tuple[Object, ...]:
    """What an apply would leave of these in the cluster that the snapshot shows."""
    present = (item.data for item in inputs.snapshot.policies)
    return staged_first(manifests, present, inputs.cluster, inputs.snapshot, now).manifests


def _waiting(namespace: str, standing: list[Object], cluster: Cluster, now: datetime, denied: str) -> Waiting | None:
    if not cluster.staged_for:
        return Waiting(namespace, denied=denied) if denied else None
    since = _staged_since(standing, namespace)
    until = since + timedelta(seconds=cluster.staged_for) if since else None
    if until is None or now < until or denied:
        return Waiting(namespace, since, until, denied)
    return None


def _namespace(item: Object) -> str:
    """The namespace in which the object is a policy in force; "" where it is none."""
    key = ObjectKey.of(item)
    return key.namespace if key.kind == "NetworkPolicy" and key.group in _GROUPS else ""


def in_force(items: Iterable[Object]) -> Iterator[str]:
    """The namespaces in which some of these are policies in force, each as often as there are."""
    for item in items:
        namespace = _namespace(item)
        if namespace and not is_transition(item):
            yield namespace


def _runs(snapshot: Snapshot, namespace: str) -> bool:
    pods = snapshot.pods_by_namespace.get(namespace, ())
    return any(not pod.is_finished and not pod.host_network for pod in pods)


def _staged_since(standing: Iterable[Object], namespace: str) -> datetime | None:
    """When the API server made the staged default deny: it comes with the first policies of a namespace, and stays
    while others change."""
    for item in standing:
        key, metadata = ObjectKey.of(item), item["metadata"]
        part = (metadata.get("labels") or {}).get(PART_LABEL)
        if key.namespace == namespace and key.kind.startswith("Staged") and part == "default-deny":
            made = metadata.get("creationTimestamp")
            return datetime.fromisoformat(str(made)) if made else None
    return None


def as_data(staging: Staging) -> dict[str, Any]:
    """As JSON can hold it."""
    return {
        "waiting": [
            {
                "namespace": item.namespace,
                "since": item.since.isoformat() if item.since else None,
                "until": item.until.isoformat() if item.until else None,
                "reason": item.why,
            }
            for item in staging.waiting
        ],
        "begins": list(staging.begins),
    }
