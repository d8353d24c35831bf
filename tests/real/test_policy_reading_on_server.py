"""Reading policies agrees with a real API server: both refuse the same, and what it fills in changes no meaning.

Kubernetes' own validation is the server's; that of the other kinds is our closed schemas'.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support import policy_kinds, policy_random
from support.bed.kubernetes import KubeApi
from support.policy_kinds import Kind
from support.policy_schemas import mistakes
from support.policy_schemas.mistakes import Mistake
from support.policy_schemas.samples import sample
from support.policy_schemas.server import refusal_of_new, stored
from support.testbed import CLUSTERS, bank

from pilothouse.policies import derive, reading
from pilothouse.policies.rules import PolicySet
from pilothouse.problems import Problem, Severity

Manifest = dict[str, Any]

RANDOM = 192
SEED = 7


def policy(**spec: Any) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {"podSelector": {}, **spec},
    }


def peer(**fields: Any) -> Manifest:
    return policy(ingress=[{"from": [fields]}])


def block(cidr: Any, *excepted: Any) -> Manifest:
    return policy(egress=[{"to": [{"ipBlock": {"cidr": cidr, **({"except": list(excepted)} if excepted else {})}}]}])


def port(**fields: Any) -> Manifest:
    return policy(ingress=[{"ports": [fields]}])


def expression(**fields: Any) -> Manifest:
    return {**policy(), "spec": {"podSelector": {"matchExpressions": [fields]}}}


def named(name: str, **metadata: Any) -> Manifest:
    return {**policy(), "metadata": {"name": name, "namespace": "shop", **metadata}}


TAKEN = {
    "nothing but pods": policy(),
    "no spec": {name: value for name, value in policy().items() if name != "spec"},
    "no podSelector": {**policy(), "spec": {"policyTypes": ["Ingress"]}},
    "podSelector null": {**policy(), "spec": {"podSelector": None}},
    "everything null": policy(ingress=None, egress=None, policyTypes=None),
    "rules empty": policy(ingress=[], egress=[]),
    "a rule for everybody": policy(ingress=[{}], egress=[{}]),
    "peers and ports empty": policy(ingress=[{"from": [], "ports": []}]),
    "peers and ports null": policy(ingress=[{"from": None, "ports": None}]),
    "types empty": policy(policyTypes=[]),
    "both types": policy(policyTypes=["Egress", "Ingress"]),
    "a type twice": policy(policyTypes=["Ingress", "Ingress"]),
    "types without rules": policy(policyTypes=["Egress"]),
    "rules without their type": policy(policyTypes=["Ingress"], egress=[{}]),
    "every namespace": peer(namespaceSelector={}),
    "pods of namespaces": peer(namespaceSelector={"matchLabels": {"a": "b"}}, podSelector={}),
    "an empty label": peer(podSelector={"matchLabels": {"a": ""}}),
    "a long key": peer(podSelector={"matchLabels": {f"{'d' * 63}.example/{'k' * 63}": "v" * 63}}),
    "a network": block("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"),
    "an IPv6 network": block("fd00::/8", "fd00:1::/32"),
    "everything": block("0.0.0.0/0"),
    "one address": block("192.0.2.1/32"),
    "bits beyond the prefix": block("192.168.242.213/24"),
    "bits beyond the prefix of an exception": block("10.0.0.0/8", "10.1.2.3/16"),
    "an exception twice": block("10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16"),
    "leading zeros": block("010.0.0.0/8"),
    "IPv6 in capitals": block("FD00::/8"),
    "a port": port(port=80),
    "a named port": port(port="http", protocol="UDP"),
    "a name of one letter": port(port="a"),
    "a name with digits": port(port="1-a-2"),
    "a protocol alone": port(protocol="SCTP"),
    "a port of nothing": port(),
    "nulls for a port": port(port=None, protocol=None, endPort=None),
    "the last port": port(port=65535, endPort=65535),
    "a range": port(port=1, endPort=65535),
    "In": expression(key="a", operator="In", values=["b", ""]),
    "Exists": expression(key="a", operator="Exists"),
    "Exists with none": expression(key="a", operator="Exists", values=[]),
    "a value twice": expression(key="a", operator="NotIn", values=["b", "b"]),
    "a name with dots": named("a.b-c"),
    "annotations": named("x", annotations={"why": "a reason, of any text: ä"}),
}

REFUSED = {
    "endPort below port": port(port=90, endPort=80),
    "endPort without port": port(endPort=80),
    "endPort of a name": port(port="http", endPort=80),
    "endPort beyond": port(port=80, endPort=65536),
    "endPort zero": port(port=80, endPort=0),
    "endPort as text": port(port=80, endPort="90"),
    "port zero": port(port=0),
    "port below zero": port(port=-1),
    "port beyond": port(port=65536),
    "port as text": port(port="80"),
    "port a fraction": port(port=80.5),
    "port true": port(port=True),
    "a name in capitals": port(port="HTTP"),
    "a long name": port(port="a-name-too-long-"),
    "a name of digits": port(port="80-90"),
    "two hyphens": port(port="a--b"),
    "an empty name": port(port=""),
    "a protocol without ports": port(protocol="ICMP"),
    "a protocol in small letters": port(protocol="tcp"),
    "a protocol's number": port(protocol=6),
    "an unknown field of a port": port(port=80, protcol="TCP"),
    "a peer of nothing": peer(),
    "a network beside pods": peer(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}),
    "a network beside namespaces": peer(ipBlock={"cidr": "10.0.0.0/8"}, namespaceSelector={}),
    "an unknown field of a peer": peer(podSelector={}, ipblock={}),
    "a network of nothing": peer(ipBlock={}),
    "an empty network": block(""),
    "a network without a prefix": block("10.0.0.0"),
    "a network that is none": block("10.0.0.300/8"),
    "a prefix beyond": block("10.0.0.0/33"),
    "a prefix below": block("10.0.0.0/-1"),
    "a network's name": block("internet"),
    "a network as a number": block(10),
    "a zone": block("fe80::1%eth0/64"),
    "spaces": block(" 10.0.0.0/8"),
    "an exception outside": block("10.0.0.0/8", "11.0.0.0/16"),
    "an exception that is all of it": block("10.0.0.0/8", "10.0.0.0/8"),
    "an exception larger than it": block("10.0.0.0/8", "0.0.0.0/0"),
    "an exception of the other family": block("10.0.0.0/8", "fd00::/16"),
    "an exception that is none": block("10.0.0.0/8", "10.1.0.0"),
    "an exception null": block("10.0.0.0/8", None),
    "exceptions as text": peer(ipBlock={"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}),
    "a type in small letters": policy(policyTypes=["ingress"]),
    "a type that is none": policy(policyTypes=["Both"]),
    "three types": policy(policyTypes=["Ingress", "Egress", "Ingress"]),
    "types as text": policy(policyTypes="Ingress"),
    "an unknown field": policy(policyType=["Egress"]),
    "an unknown field of a rule": policy(ingress=[{"to": []}]),
    "an unknown field at the top": {**policy(), "rules": []},
    "rules as a mapping": policy(ingress={}),
    "a rule as text": policy(ingress=["all"]),
    "peers as a mapping": policy(ingress=[{"from": {"podSelector": {}}}]),
    "ports as numbers": policy(ingress=[{"ports": [80]}]),
    "pods as a list": {**policy(), "spec": {"podSelector": []}},
    "pods as labels": {**policy(), "spec": {"podSelector": {"app": "web"}}},
    "a number for a label": peer(podSelector={"matchLabels": {"a": 1}}),
    "a label's value": peer(podSelector={"matchLabels": {"a": "b c"}}),
    "a label's value too long": peer(podSelector={"matchLabels": {"a": "v" * 64}}),
    "a label's key": peer(podSelector={"matchLabels": {"a b": "c"}}),
    "a label's empty key": peer(podSelector={"matchLabels": {"": "c"}}),
    "a label's prefix": peer(podSelector={"matchLabels": {"A.example/b": "c"}}),
    "an operator that is none": expression(key="a", operator="Equals", values=["b"]),
    "no operator": expression(key="a", values=["b"]),
    "no key": expression(operator="Exists"),
    "In without values": expression(key="a", operator="In"),
    "NotIn without values": expression(key="a", operator="NotIn", values=[]),
    "Exists with values": expression(key="a", operator="Exists", values=["b"]),
    "a value that is none": expression(key="a", operator="In", values=["b c"]),
    "a capital in a name": named("Web"),
    "an underscore in a name": named("a_b"),
    "a name too long": named("n" * 254),
    "a label of its own": named("x", labels={"a": "b c"}),
}


def errors(found: reading.Reading) -> list[Problem]:
    return [problem for problem in found.problems if problem.severity is Severity.ERROR]


@pytest.mark.parametrize("name", [*TAKEN, *REFUSED])
def test_kubernetes_policies_are_taken_by_both_or_by_neither(name: str, policy_api: KubeApi) -> None:
    manifest = TAKEN[name] if name in TAKEN else REFUSED[name]
    said = refusal_of_new(policy_api, manifest)
    found = reading.from_data(manifest)
    assert (said == "") is (name in TAKEN), said
    assert (errors(found) == []) is (name in TAKEN), found.problems
    assert len(found.policies.policies) == (name in TAKEN)


READ_ALL_THE_SAME = {
    "NetworkPolicy spec=gone": "earlier Calico takes it as an empty one",
    "NetworkPolicy spec.types=[]": "earlier Calico takes it as none",
    "StagedGlobalNetworkPolicy spec.stagedAction=''": "earlier Calico takes it as none",
    "NetworkPolicy spec.ingress.0.source.nets=['10.0.0.0/8', '10.0.0.0/8']": "it says nothing else than once",
    "NetworkPolicy spec.ingress.0.source.nets=['10.0.0.1/8']": "a warning: once stored, it is enforced as 10.0.0.0/8",
    "AdminNetworkPolicy spec.ingress.0.ports=[]": "the first v1alpha1 took it for every port",
    "AdminNetworkPolicy spec.egress.0.to.2.domainNames=['bank']": "a warning: names of domains are not evaluated",
}
"""Mistakes that reading does not refuse, and why."""


@pytest.mark.parametrize("mistake", [*mistakes.CALICO, *mistakes.SIG_NETWORK], ids=str)
def test_a_mistake_that_the_schemas_refuse_is_an_error(mistake: Mistake) -> None:
    for kind in policy_kinds.KINDS:
        if kind.name == mistake.kind:
            found = reading.from_data(mistake.made(kind))
            assert bool(errors(found)) is (str(mistake) not in READ_ALL_THE_SAME), kind.api_version


def test_every_exception_is_one() -> None:
    assert READ_ALL_THE_SAME.keys() <= {str(item) for item in (*mistakes.CALICO, *mistakes.SIG_NETWORK)}


@pytest.mark.parametrize("kind", policy_kinds.KINDS, ids=lambda kind: f"{kind.api_version}/{kind.name}")
def test_a_sample_is_no_error(kind: Kind) -> None:
    found = reading.from_data(sample(kind))
    assert errors(found) == []
    assert found.unknown == {}


# ---------------------------------------------------------------- what the server stored


def meaning(manifest: Manifest) -> tuple[PolicySet, list[tuple[str, str]]]:
    """What a manifest says, and what is said about it."""
    found = reading.from_data(manifest)
    return found.policies, [(problem.code, problem.message) for problem in found.problems]


def same_when_stored(api: KubeApi, manifests: list[Manifest]) -> int:
    """Fails where a stored object says something else than what was written; how many the server filled in."""
    filled = 0
    for manifest in manifests:
        found = stored(api, manifest)
        assert meaning(found) == meaning(manifest), yaml.safe_dump_all([manifest, found])
        filled += found["spec"] != manifest["spec"]
    return filled


def test_what_the_server_fills_in_changes_no_meaning(policy_api: KubeApi) -> None:
    """Kubernetes' own form alone: as it is written, and with what the server makes of it."""
    written = [
        manifest
        for manifest in TAKEN.values()
        if "null" not in str(manifest) and "spec" in manifest and None not in manifest["spec"].values()
    ]
    assert same_when_stored(policy_api, written) > 20


def test_what_random_objects_say_is_said_by_what_is_stored(policy_api: KubeApi) -> None:
    found = policy_random.objects(SEED, RANDOM)
    assert [problem for item in found for problem in errors(reading.from_data(item))] == []
    assert same_when_stored(policy_api, found) > RANDOM // 8


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_is_derived_is_said_by_what_is_stored(cluster: str, policy_api: KubeApi) -> None:
    found = [dict(item) for item in derive(bank(cluster)).artifacts.manifests()]
    same_when_stored(policy_api, found)
    assert errors(reading.from_data(*found)) == []
    assert errors(reading.from_data(*(stored(policy_api, item) for item in found))) == []
