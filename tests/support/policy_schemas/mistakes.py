"""One mistake at a time in the sample of a kind, and a word of what the API server says of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from support.policy_schemas.samples import sample
from support.policy_schemas.words import Kind

GONE = object()
"""In place of a value: the field is taken away."""


@dataclass(frozen=True)
class Mistake:
    """`changes` are values by dotted path; `cel` where only the API server can see it."""

    kind: str
    changes: dict[str, Any]
    says: str
    cel: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {', '.join(f'{path}={_shown(value)}' for path, value in self.changes.items())}"

    def made(self, kind: Kind) -> dict[str, Any]:
        """The sample of the kind with the mistake in it."""
        found = sample(kind)
        for path, value in self.changes.items():
            *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
            at: Any = found
            for step in way:
                at = at[step]
            if value is GONE:
                del at[last]
            elif isinstance(at, list) and last == len(at):
                at.append(deepcopy(value))
            else:
                at[last] = deepcopy(value)
        return found


def _shown(value: Any) -> str:
    return "gone" if value is GONE else repr(value)[:40]


def _wrong(kind: str, path: str, value: Any, says: str, cel: bool = False) -> Mistake:
    return Mistake(kind, {path: value}, says, cel)


UNKNOWN, ENUM, PATTERN, REQUIRED = "field not declared in schema", "Unsupported value", "should match", "Required value"
ANY_OF, NOT, DUPLICATE, ONE = "(anyOf)", "(not)", "duplicate entries", "must have at most 1 item"
NUMERIC = "expected numeric"
MOST, LEAST = "should be less than or equal to", "should be greater than or equal to"

_RULE = "spec.ingress.0"
_SERVICE = {"name": "api", "namespace": "data"}

NAMESPACED = [
    _wrong("NetworkPolicy", "spec.selectr", "all()", UNKNOWN),
    _wrong("NetworkPolicy", "spec.namespaceSelector", "all()", UNKNOWN),
    _wrong("NetworkPolicy", "spec.stagedAction", "Set", UNKNOWN),
    _wrong("NetworkPolicy", "spec.preDNAT", True, UNKNOWN),
    _wrong("NetworkPolicy", "spec.order", "ten", NUMERIC),
    _wrong("NetworkPolicy", "spec.order", "10", NUMERIC),
    _wrong("NetworkPolicy", "spec.tier", "Not_A_Name", PATTERN),
    _wrong("NetworkPolicy", "spec.types", [], "at least 1 items"),
    _wrong("NetworkPolicy", "spec.types", ["Both"], ENUM),
    _wrong("NetworkPolicy", "spec.types", ["Ingress", "Ingress"], DUPLICATE),
    _wrong("NetworkPolicy", "spec.types", "Ingress", "expected list"),
    _wrong("NetworkPolicy", "spec.performanceHints", ["Hurry"], ENUM),
    _wrong("NetworkPolicy", "spec.selector", "app == 'web' && global()", "global()", cel=True),
    _wrong("NetworkPolicy", "spec", GONE, REQUIRED),
    # ------------------------------------------------------------ rules
    _wrong("NetworkPolicy", f"{_RULE}.action", "allow", ENUM),
    _wrong("NetworkPolicy", f"{_RULE}.action", "Drop", ENUM),
    _wrong("NetworkPolicy", f"{_RULE}.action", GONE, REQUIRED),
    _wrong("NetworkPolicy", f"{_RULE}.sorce", {}, UNKNOWN),
    _wrong("NetworkPolicy", f"{_RULE}.protocol", "tcp", ENUM),
    _wrong("NetworkPolicy", f"{_RULE}.protocol", 0, ENUM),
    _wrong("NetworkPolicy", f"{_RULE}.protocol", 256, ENUM),
    _wrong("NetworkPolicy", f"{_RULE}.protocol", GONE, ANY_OF),
    _wrong("NetworkPolicy", f"{_RULE}.protocol", "UDPLite", ANY_OF),
    _wrong("NetworkPolicy", f"{_RULE}.ipVersion", 5, ENUM),
    _wrong("NetworkPolicy", "spec.ingress.1.ipVersion", 6, NOT),
    _wrong("NetworkPolicy", "spec.ingress.2.ipVersion", 4, ANY_OF),
    _wrong("NetworkPolicy", "spec.ingress.1.icmp.type", GONE, ANY_OF),
    _wrong("NetworkPolicy", "spec.ingress.1.icmp.type", 255, MOST),
    _wrong("NetworkPolicy", "spec.ingress.1.icmp.code", -1, LEAST),
    _wrong("NetworkPolicy", "spec.ingress.1.protocol", "SCTP", ANY_OF),
    _wrong("NetworkPolicy", f"{_RULE}.action", "Deny", ANY_OF),  # beside http
    Mistake("NetworkPolicy", {f"{_RULE}.protocol": "UDP"}, ANY_OF),  # beside http
    _wrong("NetworkPolicy", f"{_RULE}.http.paths.0", {"exact": "/a", "prefix": "/b"}, ONE),
    _wrong("NetworkPolicy", f"{_RULE}.http.paths.0", {"exact": "health"}, PATTERN),
    _wrong("NetworkPolicy", "spec.egress.0.http", {"methods": ["GET"]}, UNKNOWN),
    # ------------------------------------------------------------ ends of rules
    _wrong("NetworkPolicy", f"{_RULE}.destination.domains", ["bank.example"], UNKNOWN),
    _wrong("NetworkPolicy", f"{_RULE}.destination.ports", [0], LEAST),
    _wrong("NetworkPolicy", f"{_RULE}.destination.ports", [65536], MOST),
    _wrong("NetworkPolicy", f"{_RULE}.destination.ports", ["1-80"], PATTERN),
    _wrong("NetworkPolicy", f"{_RULE}.destination.ports", ["HTTP"], PATTERN),
    _wrong("NetworkPolicy", f"{_RULE}.destination.ports", ["90:80"], "ends where it begins", cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.destination.ports", ["80:70000"], "from 1 to 65535", cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", ["10.0.0.300/8"], ANY_OF, cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", ["10.0.0.1"], ANY_OF, cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets.2", "fd00::/8", ANY_OF),
    _wrong("NetworkPolicy", f"{_RULE}.destination.notNets", ["fd00::/8"], ANY_OF),
    _wrong("NetworkPolicy", "spec.ingress.2.source.nets", ["10.0.0.0/8"], ANY_OF),
    Mistake(
        "NetworkPolicy",
        {f"{_RULE}.source.nets": ["fd00::/8"], f"{_RULE}.source.notNets": GONE},
        ANY_OF,
    ),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", ["10.0.0.0/33"], ANY_OF, cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", ["everywhere"], "of type cidr"),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", ["10.0.0.1/8"], "bits set beyond", cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", ["10.0.0.0/8", "10.0.0.0/8"], DUPLICATE),
    _wrong("NetworkPolicy", f"{_RULE}.source.nets", "10.0.0.0/8", "expected list"),
    _wrong("NetworkPolicy", f"{_RULE}.source.selector", "global()", "global()", cel=True),
    _wrong("NetworkPolicy", f"{_RULE}.source.selector", "a" * 1025, "may not be more than 1024"),
    _wrong("NetworkPolicy", f"{_RULE}.source.serviceAccounts", ["web"], "expected map"),
    _wrong("NetworkPolicy", f"{_RULE}.source.services", _SERVICE, NOT),
    _wrong("NetworkPolicy", f"{_RULE}.destination.services", _SERVICE, UNKNOWN),
    _wrong("NetworkPolicy", "spec.egress.0.source", {"services": _SERVICE}, UNKNOWN),
    _wrong("NetworkPolicy", "spec.egress.0.destination.services", {"namespace": "data"}, REQUIRED),
    *(
        _wrong("NetworkPolicy", f"spec.egress.0.destination.{name}", value, NOT)
        for name, value in {
            "selector": "all()",
            "notSelector": "has(a)",
            "namespaceSelector": "all()",
            "nets": ["10.0.0.0/8"],
            "notNets": ["10.0.0.0/8"],
            "serviceAccounts": {"names": ["web"]},
        }.items()
    ),
    Mistake("NetworkPolicy", {"spec.egress.0.protocol": "TCP", "spec.egress.0.destination.ports": [80]}, NOT),
    # ------------------------------------------------------------ the others with a namespace
    _wrong("StagedNetworkPolicy", "spec.stagedAction", "Drop", ENUM),
    _wrong("StagedNetworkPolicy", "spec.stagedAction", "Delete", NOT),  # with all that it says
    *(
        Mistake("StagedNetworkPolicy", {"spec": {"stagedAction": "Delete", name: value}}, NOT)
        for name, value in {
            "order": 1,
            "selector": "all()",
            "egress": [{"action": "Deny"}],
        }.items()
    ),
    _wrong("StagedNetworkPolicy", f"{_RULE}.action", "allow", ENUM),
    _wrong("StagedKubernetesNetworkPolicy", "spec.stagedAction", "set", ENUM),
    _wrong("StagedKubernetesNetworkPolicy", "spec.stagedAction", "Delete", NOT),
    _wrong("StagedKubernetesNetworkPolicy", "spec.selector", "all()", UNKNOWN),
    _wrong("StagedKubernetesNetworkPolicy", "spec.policyTypes", ["ingress"], ENUM),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.from.0", {}, "at least 1 properties"),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.from.1.podSelector", {}, NOT),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.from.1.ipBlock.cidr", "10.0.0.0", ANY_OF, cel=True),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.ports.0.endPort", 7999, "no larger", cel=True),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.ports.0.port", GONE, ANY_OF),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.ports.1.endPort", 90, "no larger", cel=True),
    _wrong("StagedKubernetesNetworkPolicy", f"{_RULE}.ports.0.protocol", "ICMP", ENUM),
    _wrong("StagedKubernetesNetworkPolicy", "spec.podSelector.matchExpressions.0.operator", "Equals", ENUM),
    _wrong("StagedKubernetesNetworkPolicy", "spec.podSelector.matchExpressions.0.operator", "Exists", NOT),
    _wrong("StagedKubernetesNetworkPolicy", "spec.podSelector.matchExpressions.0.values", [], ANY_OF),
    _wrong("NetworkSet", "spec.nets", ["10.0.0.0/8", "bank.example"], PATTERN),
    _wrong("NetworkSet", "spec.nets", ["10.0.0.0/8/8"], ANY_OF, cel=True),
    _wrong("NetworkSet", "spec.labels", {}, UNKNOWN),
]

CLUSTER_WIDE = [
    _wrong("GlobalNetworkPolicy", "spec.preDNAT", True, NOT),  # beside doNotTrack
    _wrong("GlobalNetworkPolicy", "spec.applyOnForward", GONE, ANY_OF),
    _wrong("GlobalNetworkPolicy", "spec.doNotTrack", "yes", "expected boolean"),
    Mistake("GlobalNetworkPolicy", {"spec.doNotTrack": GONE, "spec.preDNAT": True}, NOT),  # with rules for egress
    Mistake(
        "GlobalNetworkPolicy",
        {"spec.doNotTrack": GONE, "spec.preDNAT": True, "spec.egress": GONE},
        "ingress alone",
        cel=True,
    ),
    _wrong("GlobalNetworkPolicy", "spec.namespaceSelector", "global()", "global()", cel=True),
    _wrong("GlobalNetworkPolicy", "spec.selector", "a" * 1025, "may not be more than 1024"),
    _wrong("GlobalNetworkPolicy", "spec.egress.0.destination.services.namespace", GONE, REQUIRED),
    _wrong("StagedGlobalNetworkPolicy", "spec.stagedAction", "", ENUM),
    Mistake("StagedGlobalNetworkPolicy", {"spec": {"stagedAction": "Delete", "applyOnForward": True}}, NOT),
    _wrong("StagedGlobalNetworkPolicy", "spec.order", True, NUMERIC),
    _wrong("Tier", "spec.defaultAction", "Allow", ENUM),
    _wrong("Tier", "spec.order", "first", NUMERIC),
    _wrong("Tier", "spec.after", "default", UNKNOWN),
    _wrong("Tier", "metadata.name", "default", "default action of the tier default is Deny", cel=True),
    _wrong("Tier", "metadata.name", "kube-admin", "order of the tier kube-admin is 1000", cel=True),
    _wrong("GlobalNetworkSet", "spec.nets", "10.0.0.0/8", "expected list"),
    _wrong("GlobalNetworkSet", "spec.allowedEgressDomains", ["bank.example"], UNKNOWN),
    _wrong("Profile", "spec.selector", "all()", UNKNOWN),
    _wrong("Profile", "spec.labelsToApply", {"a": 1}, "expected string"),
    _wrong("Profile", "spec.ingress.0.action", "permit", ENUM),
    _wrong("HostEndpoint", "spec.node", GONE, REQUIRED),
    _wrong("HostEndpoint", "spec.node", "", "at least 1 chars"),
    Mistake("HostEndpoint", {"spec.interfaceName": GONE, "spec.expectedIPs": GONE}, ANY_OF),
    _wrong("HostEndpoint", "spec.interfaceName", "a-very-long-interface", PATTERN),
    _wrong("HostEndpoint", "spec.expectedIPs", ["10.0.0.0/8"], ANY_OF),
    _wrong("HostEndpoint", "spec.ports.0.protocol", "ICMP", ENUM),
    _wrong("HostEndpoint", "spec.ports.0.protocol", GONE, REQUIRED),
    _wrong("HostEndpoint", "spec.ports.0.port", 0, LEAST),
]

SIG_NETWORK = [
    _wrong("AdminNetworkPolicy", "spec.priority", 1001, MOST),
    _wrong("AdminNetworkPolicy", "spec.priority", "1", NUMERIC),
    _wrong("AdminNetworkPolicy", "spec.priority", GONE, REQUIRED),
    _wrong("AdminNetworkPolicy", "spec.tier", "Admin", UNKNOWN),
    _wrong("AdminNetworkPolicy", "spec.subject", GONE, REQUIRED),
    _wrong("AdminNetworkPolicy", "spec.subject", {}, "at least 1 properties"),
    _wrong("AdminNetworkPolicy", "spec.subject.pods", {"namespaceSelector": {}, "podSelector": {}}, ONE),
    _wrong("AdminNetworkPolicy", f"{_RULE}.action", "Accept", ENUM),
    _wrong("AdminNetworkPolicy", f"{_RULE}.from", [], "at least 1 items"),
    _wrong("AdminNetworkPolicy", f"{_RULE}.from.0", {"networks": ["10.0.0.0/8"]}, UNKNOWN),
    _wrong("AdminNetworkPolicy", f"{_RULE}.from.1.pods.podSelector", GONE, REQUIRED),
    _wrong("AdminNetworkPolicy", f"{_RULE}.name", "n" * 101, "may not be more than 100"),
    _wrong("AdminNetworkPolicy", f"{_RULE}.ports", [], "at least 1 items"),
    _wrong("AdminNetworkPolicy", f"{_RULE}.ports.0.portNumber.port", 0, LEAST),
    _wrong("AdminNetworkPolicy", f"{_RULE}.ports.0.portNumber.protocol", "ICMP", ENUM),
    _wrong("AdminNetworkPolicy", f"{_RULE}.ports.1.portRange.end", 999, "end before its start", cel=True),
    _wrong("AdminNetworkPolicy", "spec.egress.0.ports.2", {"namedPort": "http"}, "pods alone", cel=True),
    _wrong("AdminNetworkPolicy", "spec.egress.0.action", "Deny", "action Allow alone", cel=True),
    _wrong("AdminNetworkPolicy", "spec.egress.0.to.0.networks", ["10.0.0.0"], ANY_OF, cel=True),
    _wrong("AdminNetworkPolicy", "spec.egress.0.to.2.domainNames", ["bank"], PATTERN),
    _wrong("BaselineAdminNetworkPolicy", "metadata.name", "other", "called default", cel=True),
    _wrong("BaselineAdminNetworkPolicy", "spec.priority", 1, UNKNOWN),
    _wrong("BaselineAdminNetworkPolicy", f"{_RULE}.action", "Pass", ENUM),
    _wrong("ClusterNetworkPolicy", "spec.tier", GONE, REQUIRED),
    _wrong("ClusterNetworkPolicy", "spec.tier", "Default", ENUM),
    _wrong("ClusterNetworkPolicy", "spec.priority", -1, LEAST),
    _wrong("ClusterNetworkPolicy", f"{_RULE}.action", "Allow", ENUM),
    _wrong("ClusterNetworkPolicy", f"{_RULE}.ports", [], UNKNOWN),
    _wrong("ClusterNetworkPolicy", f"{_RULE}.protocols.0.tcp", {}, "at least 1 properties"),
    _wrong("ClusterNetworkPolicy", f"{_RULE}.protocols.0.udp", {"destinationPort": {"number": 1}}, ONE),
    _wrong("ClusterNetworkPolicy", f"{_RULE}.protocols.0.tcp.destinationPort.number", 65536, MOST),
    _wrong(
        "ClusterNetworkPolicy",
        f"{_RULE}.protocols.1.udp.destinationPort.range",
        {"start": 9, "end": 9},
        "ends after its start",
        cel=True,
    ),
    _wrong("ClusterNetworkPolicy", "spec.egress.0.action", "Pass", "action Accept alone", cel=True),
]

CALICO = [*NAMESPACED, *CLUSTER_WIDE]
