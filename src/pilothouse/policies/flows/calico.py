"""What Calico's two forms have in common: ends, actions, reporters and the rules that were hit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pilothouse.policies.flows.model import EndKind, FlowEnd, Observed, PolicyHit
from pilothouse.policies.flows.values import Unfit, address, mapping, text
from pilothouse.policies.rules import Direction

_WORKLOAD, _HOST, _SET, _NETWORK = "wep", "hep", "ns", "net"
TYPES: Mapping[Any, str] = {
    **dict.fromkeys(("WorkloadEndpoint", 1, "wep"), _WORKLOAD),
    **dict.fromkeys(("HostEndpoint", 2, "hep"), _HOST),
    **dict.fromkeys(("NetworkSet", 3, "ns"), _SET),
    **dict.fromkeys(("Network", 4, "net"), _NETWORK),
}
"""By protobuf's name, by protobuf's number, and as flow logs write it."""
REPORTERS: Mapping[Any, Direction] = {
    **dict.fromkeys(("Src", 1, "src"), Direction.EGRESS),
    **dict.fromkeys(("Dst", 2, "dst"), Direction.INGRESS),
}
ACTIONS: Mapping[Any, str] = {
    **dict.fromkeys(("Allow", 1, "allow"), "allow"),
    **dict.fromkeys(("Deny", 2, "deny"), "deny"),
    **dict.fromkeys(("Pass", 3, "pass"), "pass"),
}
_OBSERVED = {"allow": Observed.ALLOW, "deny": Observed.DENY}
_KINDS = {
    1: "CalicoNetworkPolicy",
    2: "GlobalNetworkPolicy",
    3: "StagedNetworkPolicy",
    4: "StagedGlobalNetworkPolicy",
    5: "StagedKubernetesNetworkPolicy",
    6: "NetworkPolicy",
    9: "Profile",
    10: "EndOfTier",
}
"""protobuf's numbers of policy kinds; 7 and 8 were renamed between versions and stay unnamed."""
_PUBLIC = frozenset(("pub", "PUBLIC NETWORK"))
_PRIVATE = frozenset(("pvt", "PRIVATE NETWORK"))
_KUBERNETES = "knp.default."


def known(table: Mapping[Any, Any], value: Any) -> Any:
    """The table's entry, None for whatever has none (a list, say)."""
    return table.get(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def observed(value: Any) -> Observed:
    return _OBSERVED.get(known(ACTIONS, value), Observed.UNKNOWN)


def reporter(value: Any) -> Direction | None:
    found: Direction | None = known(REPORTERS, value)
    return found


def end(kind: Any, namespace: Any, exact: Any, shared: Any, ip: Any, side: str) -> FlowEnd:
    """An end from Calico's type, namespace, own name, aggregated name and address, as a record holds them.

    The aggregated name is `generateName` and a `*` for pods that have one, the pod's own name for others, the node for
    a host endpoint, and `pub` or `pvt` for an address that Calico does not know
    (https://github.com/projectcalico/calico/blob/master/felix/collector/types/endpoint/endpoint.go). Without a type,
    as Whisker had it at first, a name in a namespace is taken for a pod's. Raises `Unfit`.
    """
    try:
        return _end(known(TYPES, kind), namespace, exact, shared, ip, side)
    except TypeError:  # a list or an object has no hash
        raise Unfit(f"a name of the {side} is no text") from None


@lru_cache(maxsize=16_384)
def _end(what: str | None, namespace: Any, exact: Any, shared: Any, ip: Any, side: str) -> FlowEnd:
    """Ends are met again and again."""
    space = text(namespace, f"the {side}'s namespace")
    own, common = text(exact, f"the {side}'s name"), text(shared, f"the {side}'s aggregated name")
    where = address(ip, f"the {side}'s address")
    if not (own or common or where):
        raise Unfit(f"the {side} has no name")
    if what == _HOST:
        return FlowEnd(EndKind.HOST, name=common or own, address="" if common or own else where)
    if what == _SET:
        return FlowEnd(EndKind.NETWORK_SET, space, common or own)
    if what == _NETWORK or (what is None and common in _PUBLIC | _PRIVATE):
        return _network(common or own, where)
    if own:
        return FlowEnd(EndKind.POD, space, own)
    if common.endswith("*"):
        return FlowEnd(EndKind.WORKLOAD, space, common)
    if what == _WORKLOAD or space:
        return FlowEnd(EndKind.POD, space, common) if common else FlowEnd(EndKind.ADDRESS, address=where)
    return FlowEnd(EndKind.UNKNOWN, name=common, address=where)


def _network(name: str, where: str) -> FlowEnd:
    if where:
        return FlowEnd(EndKind.ADDRESS, address=where)
    if name in _PUBLIC:
        return FlowEnd(EndKind.PUBLIC)
    return FlowEnd(EndKind.PRIVATE) if name in _PRIVATE else FlowEnd(EndKind.UNKNOWN, name=name)


def service(namespace: Any, name: Any) -> str:
    space, called = text(namespace, "service namespace"), text(name, "service name")
    return f"{space}/{called}" if space and called else ""


# ---------------------------------------------------------------- the rules that were hit


def trace(data: dict[str, Any], enforced: str, pending: str) -> tuple[tuple[PolicyHit, ...], tuple[PolicyHit, ...]]:
    """The rules under those two names, which mostly are the same."""
    first, second = data.get(enforced), data.get(pending)
    found = hits(first, enforced)
    return found, found if first == second else hits(second, pending)


def hits(value: Any, name: str) -> tuple[PolicyHit, ...]:
    """From a list of objects (Goldmane, Whisker) or of texts (flow logs)."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Unfit(f"`{name}` is no list")
    return tuple([_written(item, name) if isinstance(item, str) else _listed(mapping(item, name)) for item in value])


def _listed(item: dict[str, Any]) -> PolicyHit:
    try:
        return _known_hit(tuple(item.items()))
    except TypeError:  # it has a trigger, which is an object
        return _hit(item)


@lru_cache(maxsize=16_384)
def _known_hit(items: tuple[tuple[str, Any], ...]) -> PolicyHit:
    return _hit(dict(items))


def _hit(item: dict[str, Any]) -> PolicyHit:
    kind = item.get("kind")
    shown = known(_KINDS, kind) if isinstance(kind, int) else text(kind, "kind")
    trigger = mapping(item.get("trigger"), "trigger")
    named = trigger if shown == "EndOfTier" and trigger else item
    return PolicyHit(
        shown or "",
        text(named.get("name"), "name"),
        text(named.get("namespace"), "namespace"),
        text(item.get("tier"), "tier"),
        known(ACTIONS, item.get("action")) or "",
        _index(item.get("ruleIndex", item.get("rule_index"))),
    )


def _index(value: Any) -> int | None:
    """-1 is the end of a tier. protobuf leaves out a 0, which therefore stays unknown."""
    try:
        found = int(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found < 100_000 else None


def _written(value: str, name: str) -> PolicyHit:
    """`index|tier|namespace/name|action|rule`; a staged policy has `staged:` before its name, one of Kubernetes
    `knp.default.`, a profile `__PROFILE__.`, and rule -1 is the end of the tier
    (https://github.com/projectcalico/calico/blob/master/goldmane/proto/methods.go)."""
    parts = text(value, name).split("|")
    if len(parts) < 4:
        raise Unfit(f"`{name}` holds something that is no policy hit: {value[:60]}")
    _, tier, full, action, *rest = parts
    namespace, _, called = full.rpartition("/")
    staged = "staged:" in called
    called = called.rpartition("staged:")[2]
    kubernetes = called.startswith(_KUBERNETES)
    if called.startswith("__PROFILE__."):
        return PolicyHit(
            "Profile", called.removeprefix("__PROFILE__."), action=action, rule=_index(rest[0] if rest else None)
        )
    if rest and rest[0] == "-1":
        kind = "EndOfTier"
    elif kubernetes:
        kind = "StagedKubernetesNetworkPolicy" if staged else "NetworkPolicy"
    else:
        kind = ("Staged" if staged else "") + ("NetworkPolicy" if namespace else "GlobalNetworkPolicy")
        kind = "CalicoNetworkPolicy" if kind == "NetworkPolicy" else kind
    return PolicyHit(
        kind, called.removeprefix(_KUBERNETES), namespace, tier, action.lower(), _index(rest[0] if rest else None)
    )


def is_staged(hit: PolicyHit) -> bool:
    return hit.kind.startswith("Staged")
