"""Pods that may exist later: one for each combination of answers that the selectors can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from support import builders as make

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import EndpointSlice, KubeService, Namespace, Pod, ServicePort
from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.model import Edge, Enforcement, PodsPeer, PortRef, Service
from pilothouse.policies import derive, edges
from pilothouse.policies.content import Baseline, read
from pilothouse.policies.prove import future
from pilothouse.policies.prove.future import NEW_NAMESPACE, Future
from pilothouse.policies.prove.proof import Prover
from pilothouse.policies.reading import from_data
from pilothouse.policies.rules import PolicySet

HTTP = (PortRef(name="http"),)


def given(*services: Service, pods: tuple[Pod, ...] = (), **fields: Any) -> Inputs:
    on = make.cluster(enforcement=Enforcement.ENFORCED, **fields)
    return make.inputs(services, pods=pods, on=on)


def baseline(inputs: Inputs) -> Baseline:
    found = read(inputs.content).baseline
    assert found is not None
    return found


def coming(inputs: Inputs, *documents: Mapping[str, Any]) -> Future:
    policies = from_data(*documents).policies if documents else PolicySet()
    return future.of(
        inputs, baseline(inputs), {service.namespace for service in inputs.platform.services.values()}, policies
    )


def labels_in(found: Future, namespace: str) -> list[dict[str, str]]:
    return [dict(pod.labels) for pod in found.pods if pod.namespace == namespace]


def policy(selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "a"},
        "spec": {"podSelector": selector, **spec},
    }


def test_each_service_has_one_and_nobody_has_one() -> None:
    found = coming(given(make.service("a/web"), make.service("a/api")))
    assert labels_in(found, "a") == [{}, {"app": "api"}, {"app": "web"}]
    assert [pod.name for pod in found.pods if pod.namespace == "a"] == [
        "(a new pod without labels)",
        "(a new pod of api)",
        "(a new pod of web)",
    ]
    assert [(port.name, port.number) for port in found.pods[1].ports] == [("http", 8080)]
    assert labels_in(found, NEW_NAMESPACE) == [{}]


def test_selectors_that_may_meet_are_told_apart_in_every_combination() -> None:
    both = make.service("a/both", pod_selector=LabelSelector.of(tier="data"))
    found = coming(given(make.service("a/web"), both))
    assert sorted(map(sorted, labels_in(found, "a"))) == [[], ["app"], ["app", "tier"], ["tier"]]
    shared = next(pod for pod in found.pods if len(pod.labels) == 2)
    assert shared.name == "(a new pod of both, web)"


def test_policies_tell_apart_what_declarations_do_not() -> None:
    inputs = given(make.service("a/web"))
    rule = {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "spy"}}}]}
    document = policy({"matchLabels": {"old": "yes"}}, ingress=[rule])
    found = coming(inputs, document)
    assert {frozenset(item.items()) for item in labels_in(found, "a")} >= {
        frozenset(),
        frozenset({("old", "yes")}),
        frozenset({("role", "spy")}),
        frozenset({("app", "web"), ("role", "spy"), ("old", "yes")}),
    }
    assert {"role": "spy"} in labels_in(found, NEW_NAMESPACE)
    assert found.covers(from_data(document).policies)
    assert not coming(inputs).covers(from_data(document).policies)


def test_namespaces_that_do_not_exist_are_told_apart_by_their_labels() -> None:
    peer = PodsPeer(LabelSelector.of(app="redis"), LabelSelector.of(tier="data"))
    inputs = given(make.service("a/web", egress=(Edge(peer, HTTP),)))
    found = coming(inputs)
    name = "(a new namespace with tier=data)"
    assert Namespace(name, {NAMESPACE_NAME_LABEL: name, "tier": "data"}) in found.snapshot.namespaces
    assert labels_in(found, name) == [{}, {"app": "redis"}]
    assert labels_in(found, NEW_NAMESPACE) == [{}]


def test_they_have_addresses_that_nobody_has() -> None:
    pods = (make.pod("a/web.1", ips=("10.40.255.255",)),)
    cidrs = (ip_network("10.40.0.0/16"), ip_network("fd00:40::/64"))
    found = coming(given(make.service("a/web"), pods=pods, pod_cidrs=cidrs))
    assert {pod.ips for pod in found.pods} == {("10.40.255.254", "fd00:40::ffff:ffff:ffff:ffff")}


def test_too_many_combinations_are_tried_one_by_one_and_named() -> None:
    services = [make.service(f"a/s{n}", pod_selector=LabelSelector.of({f"key{n}": "x"})) for n in range(12)]
    found = coming(given(*services))
    assert found.simplified == ("a",)
    assert len(labels_in(found, "a")) == 13


def test_a_service_that_policies_match_gets_what_it_selects() -> None:
    inputs = given(make.service("a/web"), pods=(make.pod("a/web.1", ips=("10.40.0.1",)),))
    ports = (ServicePort("dns", 53, 53, "UDP"),)
    known = EndpointSlice("kube-system", "dns-1", "kube-dns", ("10.40.0.7",), ("dns.1",), (True,), ports)
    service = KubeService("kube-system", "kube-dns", {"k8s-app": "kube-dns"})
    pods = (*inputs.snapshot.pods, make.pod("kube-system/dns.1", {"k8s-app": "kube-dns"}, ips=("10.40.0.7",)))
    snapshot = replace(make.snapshot(pods), services=(service,), endpoint_slices=(known,))
    inputs = replace(inputs, snapshot=snapshot)
    assert coming(inputs).snapshot.endpoint_slices == (known,)
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "a"},
        "spec": {
            "types": ["Egress"],
            "egress": [
                {"action": "Allow", "destination": {"services": {"name": "kube-dns", "namespace": "kube-system"}}}
            ],
        },
    }
    found = coming(inputs, document)
    (new,) = (item for item in found.snapshot.endpoint_slices if item != known)
    (pod,) = (pod for pod in found.pods if pod.labels == {"k8s-app": "kube-dns"})
    assert (new.service, new.addresses, new.ports) == ("kube-dns", pod.ips, ports)
    assert pod.ips not in {other.ips for other in found.pods if other is not pod}


def test_the_proof_tries_them() -> None:
    """A policy of ours that also selects pods which nobody has yet is found by a pod that has its label."""
    inputs = given(make.service("a/web"), make.service("b/api"), pods=(make.pod("a/web.1"), make.pod("b/api.1")))
    documents = [dict(item) for item in derive(inputs).artifacts.manifests()]
    spy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "spy", "namespace": "b"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "api"}},
            "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": "spy"}}}]}],
        },
    }
    prover = Prover(inputs, baseline(inputs), edges.of(inputs), from_data(*documents).policies)
    assert prover.check() == ()
    messages = [problem.message for problem in prover.check_other(from_data(*documents, spy).policies)]
    assert any("(a new pod with role=spy)" in message and "b/api at everything" in message for message in messages)
