from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

from support import builders as make

from pilothouse.inputs import Content, Inputs
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import (
    CidrPeer,
    Edge,
    Exposure,
    InternetPeer,
    Logs,
    Metrics,
    PodsPeer,
    Port,
    PortRef,
    Secret,
    ServicePeer,
)
from pilothouse.policies import edges
from pilothouse.policies.edges import Origin
from pilothouse.policies.rules import Direction

HTTP = (PortRef(name="http"),)


def to(key: str, *ports: PortRef, **more: object) -> Edge:
    namespace, name = key.split("/")
    return Edge(ServicePeer(namespace, name), ports or HTTP, **more)  # type: ignore[arg-type]


def origins(found: edges.Edges, key: str, direction: Direction) -> list[tuple[str, str]]:
    return [(str(edge.origin), str(edge.peer)) for edge in found.of(key, direction)]


def test_a_service_without_a_list_is_reached_by_whoever_declares_it() -> None:
    found = edges.of(make.inputs([make.service("a/web", egress=(to("b/api"),)), make.service("b/api")]))
    accepted = found.of("b/api", Direction.INGRESS)[0]
    assert (accepted.origin, str(accepted.peer), accepted.ports) == (Origin.ACCEPTED, "a/web", HTTP)
    assert accepted.reason == "a/web declares egress to it"
    assert found.callers == {"b/api": ("a/web",)}
    assert found.disagreements == ()


def test_a_service_with_a_list_has_said_all() -> None:
    listed = make.service("b/api", team="bees", ingress=(Edge(ServicePeer("a", "good"), HTTP),))
    inputs = make.inputs(
        [make.service("a/bad", egress=(to("b/api"),)), make.service("a/good", egress=(to("b/api"),)), listed]
    )
    found = edges.of(inputs)
    assert [edge.agreed for edge in found.of("a/bad", Direction.EGRESS) if edge.others] == [False]
    assert [edge.agreed for edge in found.of("a/good", Direction.EGRESS) if edge.others] == [True]
    assert [(d.source, d.destination, d.teams) for d in found.disagreements] == [("a/bad", "b/api", ("a", "bees"))]
    assert origins(found, "b/api", Direction.INGRESS)[0] == ("declared", "a/good")
    assert found.callers == {"b/api": ("a/good",)}


def test_two_ends_that_name_other_ports_disagree() -> None:
    ports = (Port("http", 8080), Port("grpc", 9090))
    listed = make.service("b/api", ports=ports, ingress=(Edge(ServicePeer("a", "web"), (PortRef(name="grpc"),)),))
    for port, agreed in (
        (PortRef(name="http"), False),
        (PortRef(number=9000, end=9100), True),
        (PortRef(number=9090), True),
    ):
        found = edges.of(make.inputs([make.service("a/web", egress=(to("b/api", port),)), listed]))
        assert [edge.agreed for edge in found.of("a/web", Direction.EGRESS) if edge.others] == [agreed]


def test_a_list_by_label_accepts_the_pods_it_means_and_a_range_accepts_no_service() -> None:
    by_label = Edge(PodsPeer(LabelSelector.of(app="web"), LabelSelector()), ())
    by_range = Edge(CidrPeer(ip_network("10.0.0.0/8")), ())
    for item, agreed in ((by_label, True), (by_range, False)):
        services = [make.service("a/web", egress=(to("b/api"),)), make.service("b/api", ingress=(item,))]
        found = edges.of(make.inputs(services))
        assert [edge.agreed for edge in found.of("a/web", Direction.EGRESS) if edge.others] == [agreed]


def test_a_peer_by_label_means_services_by_their_selector_or_by_their_pods() -> None:
    data = PodsPeer(LabelSelector.of(role="store"), LabelSelector.of({"kubernetes.io/metadata.name": "b"}))
    services = [
        make.service("a/web", egress=(Edge(data, ()),)),
        make.service("b/static", pod_selector=LabelSelector.of(app="static", role="store")),
        make.service("b/running"),
        make.service("b/other"),
        make.service("c/static", pod_selector=LabelSelector.of(role="store")),
    ]
    pods = [make.pod("b/running", {"app": "running", "role": "store"})]
    found = edges.of(make.inputs(services, pods=pods))
    assert found.of("a/web", Direction.EGRESS)[0].others == ("b/running", "b/static")
    assert origins(found, "b/running", Direction.INGRESS)[0] == ("accepted", "a/web")
    own = PodsPeer(LabelSelector.of(app="other"))
    found = edges.of(make.inputs([make.service("b/x", egress=(Edge(own, ()),)), *services[1:]]))
    assert found.of("b/x", Direction.EGRESS)[0].others == ("b/other",)


def test_edges_are_narrowed_to_the_cluster_and_lapse() -> None:
    over = Edge(InternetPeer(), HTTP, expires=make.TODAY - timedelta(days=1))
    last_day = Edge(CidrPeer(ip_network("203.0.113.0/24")), HTTP, expires=make.TODAY)
    elsewhere = Edge(CidrPeer(ip_network("198.51.100.0/24")), HTTP, clusters=frozenset({"prod"}))
    found = edges.of(make.inputs([make.service("a/web", egress=(over, last_day, elsewhere))]))
    declared = [str(edge.peer) for edge in found.of("a/web") if edge.origin is Origin.DECLARED]
    assert declared == ["203.0.113.0/24"]
    assert [str(edge.peer) for edge in found.expired] == ["the internet"]
    assert found.problems == ()


def test_a_peer_that_runs_elsewhere_is_a_warning() -> None:
    services = [make.service("a/web", egress=(to("b/api"),)), make.service("b/api", clusters=frozenset({"prod"}))]
    found = edges.of(make.inputs(services))
    assert [problem.code for problem in found.problems] == ["policies/peer-not-here"]
    assert "b/api" not in found.by_service


def test_implied_edges_say_why() -> None:
    service = make.service(
        "a/web",
        exposure=Exposure.EDGE,
        ports=(Port("http", 8080), Port("metrics", 9102)),
        metrics=Metrics("metrics"),
        secrets=(Secret("a/db", "/x"), Secret("a/prod-only", "/y", frozenset({"prod"}))),
        logs=Logs(),
    )
    on = make.cluster(node_local_dns=(ip_network("169.254.20.10/32"),))
    found = edges.of(make.inputs([service], on=on))
    assert origins(found, "a/web", Direction.EGRESS) == [
        ("secrets", "Vault"),
        ("dns", "169.254.20.10/32"),
        ("dns", "cluster DNS"),
        ("logs", "the node's Fluentd"),
    ]
    assert origins(found, "a/web", Direction.INGRESS) == [
        ("metrics", "Prometheus"),
        ("exposure", "the ingress controllers"),
        ("probes", "the node's kubelet"),
    ]
    by_origin = {edge.origin: edge for edge in found}
    assert by_origin[Origin.SECRETS].reason == "reads a/db"
    assert by_origin[Origin.EXPOSURE].ports_text == "http"
    assert by_origin[Origin.PROBES].ports_text == "-"
    assert [edge.origin for edge in found if not edge.needs_rule] == [Origin.LOGS, Origin.PROBES]
    assert all(edge.is_implied for edge in found)


def test_without_a_readable_baseline_there_are_no_edges_but_problems() -> None:
    inputs = make.inputs([make.service("a/web")])
    found = edges.of(Inputs(inputs.platform, inputs.cluster, inputs.snapshot, Content(), inputs.today))
    assert found.by_service == {}
    assert {problem.code for problem in found.problems} == {"policies/missing-content"}
