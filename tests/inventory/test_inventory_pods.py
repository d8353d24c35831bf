"""Pods, services and endpoint slices: what counts as a port, an address, a backend."""

from __future__ import annotations

from typing import Any

from pilothouse.inventory.model import ContainerPort, EndpointSlice, KubeService, Pod, ServicePort
from pilothouse.inventory.parse import at, parse
from pilothouse.labels import LabelSelector
from pilothouse.problems import NOWHERE


def pod(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> Pod:
    data = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "labels": {"app": "p"}}}
    snapshot, problems = parse([({**data, "spec": spec or {}, "status": status or {}}, at(NOWHERE))])
    assert problems == ()
    return snapshot.pods[0]


def service(spec: dict[str, Any], status: dict[str, Any] | None = None) -> KubeService:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}}
    snapshot, problems = parse([({**data, "spec": spec, "status": status or {}}, at(NOWHERE))])
    assert problems == ()
    return snapshot.services[0]


def endpoint_slice(**fields: Any) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": "s"}
    data = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "namespace": "n", "labels": labels},
        **fields,
    }
    snapshot, problems = parse([(data, at(NOWHERE))])
    assert problems == ()
    return snapshot.endpoint_slices[0]


RUNNING = {"phase": "Running"}


def test_ports_are_those_of_containers_that_stay() -> None:
    found = pod(
        {
            "initContainers": [
                {"name": "migrate", "ports": [{"containerPort": 1}]},
                {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 2, "name": "admin"}]},
            ],
            "containers": [
                {"name": "main", "ports": [{"containerPort": 3, "protocol": "UDP"}]},
                {"name": "sidecar", "ports": [{"containerPort": 4}]},
            ],
        },
        RUNNING,
    )
    assert found.ports == (ContainerPort("admin", 2), ContainerPort("", 3, "UDP"), ContainerPort("", 4))
    assert found.containers == ("proxy", "main", "sidecar")


def test_addresses_of_both_families_or_the_single_one() -> None:
    both = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    assert pod({}, RUNNING | both).ips == ("10.0.0.1", "fd00::1")
    assert pod({}, RUNNING | {"podIP": "10.0.0.1"}).ips == ("10.0.0.1",)
    assert pod({}, RUNNING | {"podIPs": [{"ip": ""}]}).ips == ()
    assert pod({}, RUNNING).ips == ()


def test_what_is_an_endpoint_of_a_policy() -> None:
    placed = {"nodeName": "n1"}
    assert pod(placed, RUNNING).is_endpoint
    assert pod(placed, {"phase": "Pending"}).is_endpoint
    assert not pod({}, {"phase": "Pending"}).is_endpoint
    assert not pod(placed, {"phase": "Succeeded"}).is_endpoint
    assert not pod(placed, {"phase": "Failed"}).is_endpoint
    assert not pod(placed | {"hostNetwork": True}, RUNNING).is_endpoint
    assert pod().is_endpoint, "written by hand: one that would run"


def test_ready_is_a_condition_and_taken_for_granted_of_a_written_pod() -> None:
    assert pod({}, RUNNING | {"conditions": [{"type": "Ready", "status": "True"}]}).ready
    assert not pod({}, RUNNING | {"conditions": [{"type": "Ready", "status": "False"}]}).ready
    assert not pod({}, RUNNING).ready
    assert pod().ready


def test_the_account_in_either_spelling() -> None:
    assert pod({"serviceAccountName": "a", "serviceAccount": "b"}).service_account == "a"
    assert pod({"serviceAccount": "b"}).service_account == "b"
    assert pod().service_account == "default"


def test_the_port_of_a_service_may_differ_from_its_target() -> None:
    found = service(
        {
            "selector": {"app": "x"},
            "clusterIPs": ["10.0.0.9", "fd00::9"],
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http"},
                {"name": "tls", "port": 443, "targetPort": 8443, "nodePort": 30443},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "zero", "port": 54, "targetPort": 0},
            ],
            "type": "NodePort",
        }
    )
    assert found.ports == (
        ServicePort("http", 80, "http"),
        ServicePort("tls", 443, 8443, "TCP", 30443),
        ServicePort("dns", 53, 53, "UDP"),
        ServicePort("zero", 54, 54),
    )
    assert (found.cluster_ips, found.type, found.is_headless) == (("10.0.0.9", "fd00::9"), "NodePort", False)


def test_headless_external_and_balanced_services() -> None:
    assert service({"clusterIP": "None"}).is_headless
    assert service({"type": "ExternalName", "externalName": "x.example"}).cluster_ips == ()
    balanced = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"hostname": "lb.example"}]}}
    assert service({"externalIPs": ["192.0.2.1"]}, balanced).external_ips == ("192.0.2.1", "198.51.100.7")


def test_a_slice_holds_what_is_ready_and_what_is_not() -> None:
    found = endpoint_slice(
        endpoints=[
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "a"}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "targetRef": {"kind": "Pod", "name": "b"}},
            {"addresses": ["10.0.0.3", "10.0.0.4"]},
        ],
        ports=[{"name": "http", "port": 8080}, {"name": "all"}],
    )
    assert (found.service, found.addresses) == ("s", ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"))
    assert found.targets == ("a", "b", "", "")
    assert found.ready == (True, False, True, True)
    assert found.ports == (ServicePort("http", 8080, 8080),)


def test_a_snapshot_selects_its_pods() -> None:
    items = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "n", "labels": {"app": "x"}},
            "spec": {"nodeName": "n1"},
            "status": {"phase": phase},
        }
        for name, phase in (("a", "Running"), ("b", "Succeeded"), ("c", "Running"))
    ]
    snapshot, _ = parse([({"apiVersion": "v1", "kind": "List", "items": items}, at(NOWHERE))])
    assert [p.name for p in snapshot.select("n", LabelSelector.of(app="x"))] == ["a", "c"]
    assert list(snapshot.select("elsewhere", LabelSelector())) == []
    assert snapshot.namespace_labels["n"] == {"kubernetes.io/metadata.name": "n"}
