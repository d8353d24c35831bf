"""Manifests of every policy kind, together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.inventory.model import Manifest
from pilothouse.policies.reading import admin, calico, kubernetes, sets
from pilothouse.policies.reading.document import LEFT_OUT, Document, Memory
from pilothouse.policies.rules import (
    ADMIN_TIER,
    BASELINE_TIER,
    DEFAULT_TIER,
    STANDARD_TIERS,
    TIER_ALIASES,
    HostEndpoint,
    NetworkSet,
    Policy,
    PolicySet,
    Profile,
    Tier,
)
from pilothouse.problems import NOWHERE, Place, Problem, Problems, error, info, nearest, ordered, warning

Value = Policy | Tier | NetworkSet | Profile | HostEndpoint
Reader = Callable[[Document], Value | None]

_API = "projectcalico.org"
_STORED = "crd.projectcalico.org"
_SIG = "policy.networking.k8s.io"

_CALICO: Mapping[str, Reader] = {
    "NetworkPolicy": calico.network_policy,
    "GlobalNetworkPolicy": calico.global_network_policy,
    "StagedNetworkPolicy": calico.staged_network_policy,
    "StagedGlobalNetworkPolicy": calico.staged_global_network_policy,
    "StagedKubernetesNetworkPolicy": kubernetes.staged_network_policy,
    "Tier": sets.tier,
    "NetworkSet": sets.network_set,
    "GlobalNetworkSet": sets.network_set,
    "Profile": sets.profile,
    "HostEndpoint": sets.host_endpoint,
}
_READERS: Mapping[str, Mapping[str, Reader]] = {
    "networking.k8s.io": {"NetworkPolicy": kubernetes.network_policy},
    "extensions": {"NetworkPolicy": kubernetes.network_policy},
    _API: _CALICO,
    _STORED: _CALICO,
    _SIG: {
        "AdminNetworkPolicy": admin.admin_network_policy,
        "BaselineAdminNetworkPolicy": admin.baseline_admin_network_policy,
        "ClusterNetworkPolicy": admin.cluster_network_policy,
    },
}
# How Calico's API calls what is not its own: prefix of the name → (its kinds here, the kinds that it shows).
_SHOWN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("knp.default.", "NetworkPolicy", ("kubernetes/NetworkPolicy",)),
    ("knp.default.", "StagedNetworkPolicy", ("calico/StagedKubernetesNetworkPolicy",)),
    (f"kcnp.{ADMIN_TIER}.", "GlobalNetworkPolicy", ("sig/ClusterNetworkPolicy",)),
    (f"kcnp.{BASELINE_TIER}.", "GlobalNetworkPolicy", ("sig/ClusterNetworkPolicy",)),
    ("kanp.adminnetworkpolicy.", "GlobalNetworkPolicy", ("sig/AdminNetworkPolicy",)),
    ("kbanp.baselineadminnetworkpolicy.", "GlobalNetworkPolicy", ("sig/BaselineAdminNetworkPolicy",)),
)
_FAMILIES = {_API: "calico", _STORED: "calico", _SIG: "sig"}

Name = tuple[str, str, str]
"""Family and kind, namespace, name."""


@dataclass(frozen=True)
class Reading:
    """What manifests say, what is wrong with them, and by `Kind.group` how many are of a kind that is not read."""

    policies: PolicySet = field(default_factory=PolicySet)
    problems: Problems = ()
    unknown: Mapping[str, int] = field(default_factory=dict)


def read(manifests: Iterable[Manifest]) -> Reading:
    """Every policy, tier, network set, profile and host endpoint among the manifests.

    An object with an error is left out; the problem names it. What stands there twice counts once: of an object in both
    of Calico's API groups the `projectcalico.org` form, and of a Kubernetes policy that Calico's API shows as its own
    (`knp.default.…`) the original. `kns.…` and `ksa.…` profiles are kept as they are.
    """
    problems: list[Problem] = []
    unknown: Counter[str] = Counter()
    memory = Memory()
    values: list[tuple[Value, Manifest]] = []
    refused_tiers: set[str] = set()
    for reader, manifest in _distinct(manifests, problems, unknown):
        value = _value(reader, Document(manifest, memory, problems))
        if value is not None:
            values.append((value, manifest))
        elif manifest.kind == "Tier":
            refused_tiers.add(TIER_ALIASES.get(manifest.name, manifest.name))
    found = _together(values, refused_tiers, problems)
    return Reading(found, ordered(problems), dict(sorted(unknown.items())))


def policy_of(manifest: Manifest) -> tuple[Value | None, Problems]:
    """One object as a value; None where it cannot be used or is of a kind that is not read.

    Whether its tier exists is not looked at.
    """
    problems: list[Problem] = []
    reader = _reader(manifest)
    if reader is None:
        return None, ()
    return _value(reader, Document(manifest, Memory(), problems)), ordered(problems)


def from_data(*documents: Mapping[str, Any]) -> Reading:
    """What plain manifests say, such as pilothouse derives itself: as `read`, with no places."""
    return read(manifest_of(data) for data in documents)


def manifest_of(data: Mapping[str, Any], place: Place = NOWHERE) -> Manifest:
    """A manifest of plain data, which has `kind`, `apiVersion` and a name."""
    metadata = data.get("metadata") or {}
    return Manifest(data["kind"], data["apiVersion"], metadata.get("namespace") or "", metadata["name"], data, place)


def shown_again(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Those that Calico's API makes of others in the list, such as `knp.default.web` of the NetworkPolicy `web`."""
    names = [_name(item, _FAMILIES.get(item.api_version.rpartition("/")[0], "kubernetes")) for item in manifests]
    present = set(names)
    return [item for item, name in zip(manifests, names, strict=True) if _original(name) in present]


def _value(reader: Reader, doc: Document) -> Value | None:
    try:
        return reader(doc)
    except RecursionError:
        doc.bad(("spec",), "is nested too deeply", "no policy has more than twenty levels")
        return None


def _reader(manifest: Manifest) -> Reader | None:
    readers = _READERS.get(manifest.api_version.partition("/")[0])
    return readers.get(manifest.kind) if readers else None


# ---------------------------------------------------------------- each object once


def _distinct(
    manifests: Iterable[Manifest], problems: list[Problem], unknown: Counter[str]
) -> Iterable[tuple[Reader, Manifest]]:
    found: dict[Name, tuple[Reader, Manifest]] = {}
    strangers: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        reader = _reader(manifest)
        group = manifest.api_version.rpartition("/")[0]
        if reader is None:
            strangers.setdefault(f"{manifest.kind}.{group}" if group else manifest.kind, []).append(manifest)
            continue
        key = _name(manifest, _FAMILIES.get(group, "kubernetes"))
        other = found.get(key)
        if other is None or not _keeps_first(other[1], manifest, problems):
            found[key] = (reader, manifest)
    for name, them in strangers.items():
        unknown[name] = len(them)
        problems.append(_stranger(name, them))
    shown = [key for key in found if _original(key) in found]
    for key in shown:
        del found[key]
    return found.values()


def _name(manifest: Manifest, family: str) -> Name:
    name = manifest.name
    if family == "calico":
        if manifest.kind == "Tier":
            name = TIER_ALIASES.get(name, name)
        elif name.startswith("default.") and manifest.kind.endswith("Policy"):
            name = calico.plain_name(name)
    return (f"{family}/{manifest.kind}", manifest.namespace, name)


def _original(key: Name) -> Name | None:
    """The name of the object that Calico's API shows under this name."""
    family_and_kind, namespace, name = key
    if not name.startswith("k") or not family_and_kind.startswith("calico/"):
        return None
    kind = family_and_kind[len("calico/") :]
    for prefix, shown_as, originals in _SHOWN:
        if shown_as == kind and name.startswith(prefix):
            return (originals[0], namespace, name[len(prefix) :])
    return None


def _keeps_first(first: Manifest, second: Manifest, problems: list[Problem]) -> bool:
    """Of the same object twice: whether the first one counts."""
    if _is_stored(first) is not _is_stored(second):
        return _is_stored(second)
    place = second.at(("metadata", "name"))
    related = (first.at(("metadata", "name")),)
    if second.kind == "Tier":
        problems.append(
            error(
                "policies/duplicate-tier",
                f"Tier {second.name} stands twice"
                if first.name == second.name
                else f"Tier {second.name} is Tier {first.name} under its earlier name",
                place,
                f"remove one of them; {LEFT_OUT}",
                related=related,
            )
        )
        return True
    shown = f"{second.namespace}/{second.name}" if second.namespace else second.name
    problems.append(
        warning(
            "policies/duplicate-object",
            f"{second.kind} {shown} stands twice; the last one counts",
            place,
            "remove one of them",
            related=related,
        )
    )
    return False


def _is_stored(manifest: Manifest) -> bool:
    return manifest.api_version.startswith(f"{_STORED}/")


def _stranger(name: str, them: list[Manifest]) -> Problem:
    count = "1 object" if len(them) == 1 else f"{len(them):,} objects"
    first = them[0]
    return info(
        "policies/unknown-kind",
        f"{count} of kind {name} not read, such as {first.name}: no kind of network policy that pilothouse knows",
        first.place,
        "nothing to do, where it does not decide about connections",
    )


# ---------------------------------------------------------------- the set


def _together(values: list[tuple[Value, Manifest]], refused_tiers: set[str], problems: list[Problem]) -> PolicySet:
    tiers = {value.name: value for value, _ in values if isinstance(value, Tier)}
    policies = [(value, manifest) for value, manifest in values if isinstance(value, Policy)]
    kept = _in_known_tiers(policies, tiers, refused_tiers, problems)
    for policy in kept:
        if policy.tier not in tiers:
            tiers[policy.tier] = STANDARD_TIERS.get(policy.tier) or Tier(policy.tier)
    return PolicySet(
        tuple(kept),
        tuple(tiers.values()),
        tuple(value for value, _ in values if isinstance(value, NetworkSet)),
        tuple(value for value, _ in values if isinstance(value, Profile)),
        tuple(value for value, _ in values if isinstance(value, HostEndpoint)),
    )


def _in_known_tiers(
    policies: list[tuple[Policy, Manifest]], tiers: Mapping[str, Tier], refused: set[str], problems: list[Problem]
) -> list[Policy]:
    """Without the policies whose tier is missing among those given; where none at all are given, all of them."""
    kept: list[Policy] = []
    lost: dict[str, list[Manifest]] = {}
    for policy, manifest in policies:
        if policy.tier == DEFAULT_TIER or policy.tier in tiers or policy.tier in STANDARD_TIERS:
            kept.append(policy)
        elif not tiers or policy.tier in refused:
            kept.append(policy)
            lost.setdefault(policy.tier, []).append(manifest)
        else:
            problems.append(
                error(
                    "policies/unknown-tier",
                    f"{policy.key}: there is no tier `{policy.tier}`",
                    manifest.at(("spec", "tier")),
                    f"{nearest(policy.tier, (*tiers, *STANDARD_TIERS)) or 'add the Tier'}; {LEFT_OUT}",
                )
            )
    problems.extend(_order_unknown(tier, them, tier in refused) for tier, them in lost.items())
    return kept


def _order_unknown(tier: str, them: list[Manifest], refused: bool) -> Problem:
    of = "1 policy" if len(them) == 1 else f"{len(them):,} policies"
    why = "its Tier is left out" if refused else "no Tier is given"
    return warning(
        "policies/unknown-tier",
        f"the order of the tier `{tier}` of {of} is not known, for {why}: it is taken as the last",
        them[0].at(("spec", "tier")),
        "correct the Tier" if refused else "read the Tiers too: kubectl get tiers -o yaml",
    )
