"""Checks across documents: names that exist, ends that agree, people who are reached."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest
from support.builders import TODAY, cluster, pod, service, snapshot, team
from support.builders import platform as build

from pilothouse.inventory.model import Owner, Snapshot
from pilothouse.labels import LabelSelector, Requirement
from pilothouse.platform import documents
from pilothouse.platform.authority import Authority
from pilothouse.platform.checks import check, check_against, selected_twice
from pilothouse.platform.model import (
    AccessProfile,
    Alert,
    AlertSeverity,
    CidrPeer,
    Edge,
    Endpoint,
    Enforcement,
    Metrics,
    Platform,
    PodsPeer,
    Port,
    PortRef,
    Protocol,
    Receiver,
    ReplicasBelow,
    Rotation,
    Secret,
    Sensitivity,
    Servers,
    Service,
    ServicePeer,
)
from pilothouse.problems import Place, Problem, Severity
from pilothouse.source import Source


def full_team(name: str, **fields: Any) -> Any:
    defaults: dict[str, Any] = {
        "receivers": (Receiver(AlertSeverity.PAGE, email=f"{name}@bank.example"),),
        "rotation": Rotation((f"{name}-1",), date(2026, 1, 5)),
        "approvers": (f"{name}-1",),
    }
    return team(name, **{**defaults, **fields})


def platform(*services: Service, **fields: Any) -> Platform:
    """Complete teams, so that only what a test is about is a problem."""
    names = {item.team for item in services}
    teams = [full_team(name) for name in names if name not in {t.name for t in fields.get("teams", ())}]
    given = list(fields.pop("teams", ()))
    return build(services, [*given, *teams, full_team("ops", platform=True)], **fields)


def found(given: Platform, code: str = "") -> list[Problem]:
    return [p for p in check(given) if not code or p.code == f"platform/{code}"]


def egress(target: str, *ports: str | int, **fields: Any) -> Edge:
    return Edge(ServicePeer(*target.split("/")), refs(*ports), **fields)


def refs(*ports: str | int) -> tuple[PortRef, ...]:
    return tuple(PortRef(name=p) if isinstance(p, str) else PortRef(number=p) for p in ports)


def test_a_platform_that_fits_has_no_problem() -> None:
    assert found(platform(service("a/x", egress=(egress("b/y", "http"),)), service("b/y"))) == []


# ---------------------------------------------------------------- references


def test_an_unknown_team_has_the_nearest_name() -> None:
    given = platform(service("a/x", team="payments"))
    given = replace(given, services={"a/x": service("a/x", team="paymants")})
    (problem,) = found(given, "unknown-team")
    assert problem.hint == "did you mean `payments`?"
    assert problem.teams == ("paymants",)


def test_an_unknown_service_in_another_namespace() -> None:
    given = platform(service("a/x", egress=(egress("lodger/ledger"),)), service("ledger/ledger"))
    (problem,) = found(given, "unknown-service")
    assert problem.hint == "did you mean `ledger/ledger`?"


def test_an_unknown_service_without_a_near_name() -> None:
    given = platform(service("a/x", ingress=(egress("zzz/qqq"),)))
    (problem,) = found(given, "unknown-service")
    assert "ingress of `a/x`" in problem.message
    assert "podSelector" in problem.hint


def test_what_could_not_be_read_is_not_missed() -> None:
    given = platform(service("a/x", egress=(egress("b/y"),), clusters=frozenset({"prod"})))
    unreadable = frozenset({"Service b/y", "Cluster prod"})
    assert found(replace(given, unreadable=unreadable), "unknown-service") == []
    assert found(replace(given, unreadable=unreadable), "unknown-cluster") == []


def test_a_file_that_could_not_be_read_is_named_in_the_hint() -> None:
    given = replace(platform(service("a/x", egress=(egress("zzz/qqq"),))), unreadable=frozenset({"broken.yaml"}))
    assert "broken.yaml" in found(given, "unknown-service")[0].hint


def test_unknown_clusters_on_every_kind_of_item() -> None:
    there = frozenset({"prdo"})
    given = platform(
        service(
            "a/x",
            clusters=there,
            egress=(egress("a/x", clusters=there),),
            alerts=(Alert(ReplicasBelow(1), AlertSeverity.PAGE, clusters=there),),
            secrets=(Secret("a/b", "/s", there),),
        ),
        clusters=[cluster("prod")],
        profiles={"p": AccessProfile("p", "", "", ("g",), (), clusters=there)},
    )
    problems = found(given, "unknown-cluster")
    assert {p.message.split(" names ")[0] for p in problems} == {"`a/x`", "the egress of `a/x`", "profile `p`"}
    assert {p.hint for p in problems} == {"did you mean `prod`?"}


def test_port_names_are_those_of_the_destination() -> None:
    target = service("b/y", ports=(Port("grpc", 9000), Port("dns", 53, Protocol.UDP)))
    given = platform(service("a/x", egress=(egress("b/y", "grcp"),)), target)
    (problem,) = found(given, "unknown-port")
    assert "`b/y` does not have" in problem.message
    assert problem.hint == "did you mean `grpc`?"
    assert problem.teams == ("a", "b")
    assert found(platform(service("a/x", egress=(egress("b/y", "grpc"),)), target)) == []


def test_a_named_port_must_have_the_protocol() -> None:
    edge = Edge(ServicePeer("b", "y"), (PortRef(name="http", protocol=Protocol.UDP),))
    (problem,) = found(platform(service("a/x", egress=(edge,)), service("b/y")), "unknown-port")
    assert "`http` over UDP" in problem.message
    assert problem.hint == "known: http"


def test_a_destination_without_ports_is_told_to_declare_them() -> None:
    given = platform(service("a/x", egress=(egress("b/y", "http"),)), service("b/y", ports=()))
    assert found(given, "unknown-port")[0].hint == "declare its `ports`"


def test_ingress_ports_are_the_own_ones() -> None:
    peer = PodsPeer(LabelSelector.of(app="z"))
    (problem,) = found(platform(service("a/x", ingress=(Edge(peer, refs("htpt")),))), "unknown-port")
    assert "`a/x` does not have" in problem.message


def test_addresses_have_no_named_ports() -> None:
    edge = Edge(CidrPeer(ip_network("203.0.113.0/24")), refs("https"))
    assert found(platform(service("a/x", egress=(edge,))), "unknown-port")[0].hint == "write the port's number"
    labelled = Edge(PodsPeer(LabelSelector.of(app="z")), refs("https"))
    assert found(platform(service("a/x", egress=(labelled,)))) == []


def test_a_number_that_the_destination_does_not_declare_is_a_warning() -> None:
    given = platform(service("a/x", egress=(egress("b/y", 80),)), service("b/y"))
    (problem,) = found(given)
    assert (problem.code, problem.severity) == ("platform/undeclared-port", Severity.WARNING)
    assert problem.hint == "its ports are http (8080)"
    wide = Edge(ServicePeer("b", "y"), (PortRef(number=8000, end=8100),))
    assert found(platform(service("a/x", egress=(wide,)), service("b/y"))) == []


def test_metrics_need_a_tcp_port_of_that_name() -> None:
    ports = (Port("http", 8080), Port("stats", 9102, Protocol.UDP))
    for name in ("stats", "httpp"):
        (problem,) = found(platform(service("a/x", ports=ports, metrics=Metrics(name))), "unknown-port")
        assert "to scrape" in problem.message
    assert found(platform(service("a/x", ports=ports, metrics=Metrics("http")))) == []


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        ((Port("a", 1), Port("a", 2)), "the name `a`"),
        ((Port("a", 1), Port("b", 1)), "the number 1"),
    ],
)
def test_duplicate_ports(ports: tuple[Port, ...], says: str) -> None:
    (problem,) = found(platform(service("a/x", ports=ports)), "duplicate-port")
    assert says in problem.message


def test_one_name_for_two_protocols_is_fine() -> None:
    ports = (Port("dns", 53), Port("dns", 53, Protocol.UDP))
    assert found(platform(service("a/x", ports=ports))) == []


def test_high_sensitivity_must_list() -> None:
    high = Sensitivity.HIGH
    (problem,) = found(platform(service("a/x", sensitivity=high)))
    assert problem.code == "platform/missing-ingress"
    assert found(platform(service("a/x", sensitivity=high, ingress=()))) == []


def test_items_that_hold_nowhere() -> None:
    given = platform(
        service("a/x", clusters=frozenset({"dev"}), egress=(egress("b/y", clusters=frozenset({"prod"})),)),
        service("b/y"),
        clusters=[cluster("dev"), cluster("prod")],
    )
    assert [p.code for p in found(given)] == ["platform/never-holds"]


def test_an_edge_to_a_service_that_runs_elsewhere() -> None:
    given = platform(
        service("a/x", clusters=frozenset({"dev"}), egress=(egress("b/y"),)),
        service("b/y", clusters=frozenset({"prod"})),
        clusters=[cluster("dev"), cluster("prod")],
    )
    (problem,) = found(given)
    assert problem.code == "platform/never-holds"
    assert problem.hint == "`b/y` runs on prod"


def test_an_edge_that_is_said_twice() -> None:
    given = platform(service("a/x", egress=(egress("b/y", "http"), egress("b/y", "http"))), service("b/y"))
    assert [p.code for p in found(given)] == ["platform/repeated-edge"]


# ---------------------------------------------------------------- selectors


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"app": "x"}, {"app": "x"}, "select the same pods (app=x)"),
        ({"app": "x"}, {"app": "x", "tier": "web"}, "every pod of `a/y`"),
        ({"app": "x"}, {"app": "y"}, ""),
        ({"app": "x"}, {"tier": "web"}, ""),
    ],
)
def test_overlapping_selectors(one: dict[str, str], other: dict[str, str], says: str) -> None:
    given = platform(
        service("a/x", pod_selector=LabelSelector.of(one), team="one", place=Place("x.yaml", 1, 1)),
        service("a/y", pod_selector=LabelSelector.of(other), team="two", place=Place("y.yaml", 1, 1)),
    )
    problems = found(given, "overlapping-selectors")
    assert len(problems) == bool(says)
    for problem in problems:
        assert says in problem.message
        assert problem.teams == ("one", "two")
        assert (problem.place.path, problem.related[0].path) == ("y.yaml", "x.yaml")


def test_expressions_overlap_too() -> None:
    def among(*values: str) -> LabelSelector:
        return LabelSelector((), (Requirement("app", "In", values),))

    given = platform(
        service("a/x", pod_selector=among("x", "y")),
        service("a/y", pod_selector=LabelSelector.of(app="y")),
        service("a/z", pod_selector=among("z", "q")),
        service("a/w", pod_selector=among("z")),
    )
    assert {p.message.split("` and `")[0] for p in found(given, "overlapping-selectors")} == {
        "the selectors of `a/x",
        "the selectors of `a/w",
    }


def test_selectors_on_different_clusters_or_namespaces_do_not_meet() -> None:
    same = LabelSelector.of(app="x")
    given = platform(
        service("a/x", pod_selector=same, clusters=frozenset({"dev"})),
        service("a/y", pod_selector=same, clusters=frozenset({"prod"})),
        service("b/x", pod_selector=same),
        clusters=[cluster("dev"), cluster("prod")],
    )
    assert found(given) == []


# ---------------------------------------------------------------- both ends


def pair(out: tuple[Edge, ...], listed: tuple[Edge, ...] | None, **fields: Any) -> list[Problem]:
    ports = (Port("http", 8080), Port("grpc", 9000), Port("dns", 53, Protocol.UDP))
    given = platform(service("a/x", egress=out), service("b/y", ingress=listed, ports=ports), **fields)
    return found(given, "ends-disagree")


def test_a_service_that_lists_nothing_takes_whoever_declares() -> None:
    assert pair((egress("b/y", "http"),), None) == []


def test_the_target_does_not_list_the_source() -> None:
    (problem,) = pair((egress("b/y", "http", place=Place("x.yaml", 5, 7)),), ())
    assert problem.severity is Severity.ERROR
    assert problem.teams == ("a", "b")
    assert problem.place.path == "x.yaml"
    assert "team b adds `- {from: {service: a/x}, ports: [http]}`" in problem.hint


def test_the_source_does_not_declare() -> None:
    (problem,) = pair((), (egress("a/x", "http", place=Place("y.yaml", 5, 7)),))
    assert problem.place.path == "y.yaml"
    assert "team a adds `- {to: {service: b/y}, ports: [http]}`" in problem.hint


def test_ends_that_agree_by_name_and_number() -> None:
    assert pair((egress("b/y", 8080),), (egress("a/x", "http"),)) == []
    assert pair((egress("b/y"),), (egress("a/x"),)) == []
    udp = Edge(ServicePeer("b", "y"), (PortRef(number=53, protocol=Protocol.UDP),))
    assert pair((udp,), (egress("a/x", "dns"),)) == []
    wide = Edge(ServicePeer("a", "x"), (PortRef(number=8000, end=8500), PortRef(number=8501, end=9100)))
    narrow = Edge(ServicePeer("b", "y"), (PortRef(number=8400, end=8600),))
    (problem,) = pair((narrow,), (wide,))
    assert problem.severity is Severity.WARNING, "the two listed ranges together hold the declared one"


def test_ports_that_are_not_listed() -> None:
    (problem,) = pair((egress("b/y", "http", "grpc"),), (egress("a/x", "http"),))
    assert problem.severity is Severity.ERROR
    assert "on port grpc" in problem.message
    (problem,) = pair((egress("b/y"),), (egress("a/x", "http"),))
    assert "on every port" in problem.message


def test_ports_that_are_listed_for_nothing_are_a_warning() -> None:
    udp = PortRef(number=5353, protocol=Protocol.UDP)
    listed = Edge(ServicePeer("a", "x"), (*refs("http", "grpc"), udp, PortRef(number=10, end=20)))
    (problem,) = pair((egress("b/y", "http"),), (listed,))
    assert problem.severity is Severity.WARNING
    assert "on ports 10-20, 5353/UDP, grpc" in problem.message


def test_peers_by_label_may_stand_for_the_other_end() -> None:
    same = Edge(PodsPeer(LabelSelector.of(app="x"), LabelSelector.of({"kubernetes.io/metadata.name": "a"})))
    everywhere = Edge(PodsPeer(LabelSelector(), LabelSelector()))
    other_namespace = Edge(PodsPeer(LabelSelector.of(app="x"), LabelSelector.of({"kubernetes.io/metadata.name": "c"})))
    other_pods = Edge(PodsPeer(LabelSelector.of(app="q"), LabelSelector()))
    own_namespace = Edge(PodsPeer(LabelSelector.of(app="x")))
    out = (egress("b/y", "http"),)
    assert pair(out, (same,)) == pair(out, (everywhere,)) == []
    assert len(pair(out, (other_namespace,))) == len(pair(out, (other_pods,))) == len(pair(out, (own_namespace,))) == 1
    assert pair((everywhere,), (egress("a/x", "http"),)) == []
    assert pair((*out, everywhere), (egress("a/x", "http", "grpc"),)) == []
    assert pair((egress("b/y", "http", "grpc"),), (egress("a/x", "http"), everywhere)) == []


def test_peers_by_label_of_the_own_namespace() -> None:
    listed = (Edge(PodsPeer(LabelSelector.of(app="x"))),)
    given = platform(service("a/x", egress=(egress("a/y", "http"),)), service("a/y", ingress=listed))
    assert found(given) == []


def test_a_disagreement_on_some_clusters_names_them() -> None:
    both = [cluster("dev"), cluster("prod", authority=Authority(mount="p"))]
    out = (egress("b/y", "http"),)
    (problem,) = pair(out, (egress("a/x", "http", clusters=frozenset({"dev"})),), clusters=both)
    assert problem.message.endswith("(on prod)")
    assert problem.cluster == "prod"
    (problem,) = pair(out, (), clusters=both)
    assert problem.cluster == ""
    assert "(on " not in problem.message


def test_a_service_that_talks_to_itself() -> None:
    given = platform(service("a/x", egress=(egress("a/x", "http"),), ingress=()))
    (problem,) = found(given)
    assert problem.code == "platform/ends-disagree"
    assert problem.teams == ("a",)


# ---------------------------------------------------------------- people, clusters, profiles


def codes(given: Platform) -> list[str]:
    return [p.code.removeprefix("platform/") for p in check(given)]


def test_a_team_that_nobody_reaches() -> None:
    given = platform(service("a/x"), teams=[team("a", members=())])
    assert sorted(codes(given)) == ["no-approver", "no-receiver", "no-rotation"]


def test_a_team_without_services_may_be_empty() -> None:
    assert codes(platform(service("a/x"), teams=[team("idle")])) == []


def test_pages_need_a_receiver_for_pages() -> None:
    quiet = full_team("a", receivers=(Receiver(AlertSeverity.TICKET, email="a@bank.example"),))
    page = (Alert(ReplicasBelow(1), AlertSeverity.PAGE),)
    assert codes(platform(service("a/x", alerts=page), teams=[quiet])) == ["no-receiver"]
    assert codes(platform(service("a/x"), teams=[quiet])) == []


def test_people_who_are_no_members() -> None:
    given = platform(
        service("a/x"),
        teams=[full_team("a", approvers=("a-11",), rotation=Rotation(("a-1", "zed"), date(2026, 1, 5)))],
    )
    problems = found(given, "unknown-user")
    assert [p.message.split(" is ")[0] for p in problems] == ["`a-11`", "`zed`"]
    assert problems[0].hint == "did you mean `a-1`?"
    assert codes(platform(service("a/x"), teams=[full_team("a", members=(), approvers=("directory-user",))])) == []


def test_a_member_twice() -> None:
    twice = full_team("a")
    assert codes(platform(service("a/x"), teams=[replace(twice, members=twice.members * 2)])) == [
        "duplicate-member",
        "duplicate-member",
    ]


def test_exactly_one_platform_team() -> None:
    given = platform(service("a/x"))
    none = replace(given, teams={"a": given.teams["a"]})
    assert codes(none) == ["no-platform-team"]
    assert codes(replace(none, unreadable=frozenset({"Team ops"}))) == []
    two = replace(given, teams={**given.teams, "b": full_team("b", platform=True)})
    assert codes(two) == ["two-platform-teams"]


def test_a_platform_needs_a_cluster() -> None:
    given = replace(platform(service("a/x")), clusters={})
    assert codes(given) == ["no-cluster"]
    assert codes(replace(given, unreadable=frozenset({"Cluster dev"}))) == []


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"service_cidrs": (ip_network("10.40.8.0/24"),)}, Severity.ERROR),
        ({"node_cidrs": (ip_network("10.40.8.0/24"),)}, Severity.WARNING),
        ({"pod_cidrs": (ip_network("10.40.0.0/16"), ip_network("10.40.0.0/24"))}, Severity.ERROR),
        ({"pod_cidrs": (ip_network("10.40.0.0/16"), ip_network("fd00::/48"))}, None),
    ],
)
def test_ranges_that_overlap(fields: dict[str, Any], severity: Severity | None) -> None:
    problems = found(platform(service("a/x"), clusters=[cluster(**fields)]), "overlapping-cidrs")
    assert [p.severity for p in problems] == ([severity] if severity else [])


def test_one_authority_per_cluster() -> None:
    one = cluster("dev", authority=Authority(mount="pki"))
    other = cluster("prod", authority=Authority(mount="pki"))
    assert codes(platform(service("a/x"), clusters=[one, other])) == ["shared-authority"]
    elsewhere = replace(other, servers=Servers(vault=Endpoint("https://vault.prod.example")))
    assert codes(platform(service("a/x"), clusters=[one, elsewhere])) == []


def test_enforcement_of_a_namespace_that_nobody_declares() -> None:
    on = cluster(namespace_enforcement={"paymets": Enforcement.ENFORCED, "a": Enforcement.ENFORCED})
    (problem,) = found(platform(service("a/x"), service("payments/x"), clusters=[on]))
    assert problem.code == "platform/unknown-namespace"
    assert problem.hint == "did you mean `payments`?"


def test_groups_of_kubernetes_itself_are_never_handed_out() -> None:
    profile = AccessProfile("p", "", "", ("ok", "system:masters"), (), approver_groups=("system:nodes",))
    assert codes(platform(service("a/x"), profiles={"p": profile})) == ["system-group", "system-group"]


# ---------------------------------------------------------------- against a cluster


def against(given: Platform, snap: Snapshot, day: date = TODAY, **fields: Any) -> list[Problem]:
    return list(check_against(given, given.clusters["dev"], snap, day, **fields))


def test_expired_egress_is_a_warning() -> None:
    edge = Edge(CidrPeer(ip_network("203.0.113.0/24")), expires=date(2026, 11, 20))
    (problem,) = against(platform(service("a/x", egress=(edge,))), Snapshot())
    assert (problem.code, problem.severity) == ("platform/egress-expired", Severity.WARNING)
    assert against(platform(service("a/x", egress=(edge,))), Snapshot(), date(2026, 11, 20)) == []
    elsewhere = replace(edge, clusters=frozenset({"prod"}))
    assert against(platform(service("a/x", egress=(elsewhere,))), Snapshot()) == []


def test_a_pod_that_two_services_select() -> None:
    given = platform(
        service("a/x", pod_selector=LabelSelector.of(app="x"), team="one"),
        service("a/y", pod_selector=LabelSelector.of(tier="web"), team="two"),
    )
    snap = snapshot(
        [
            pod("a/x.1", {"app": "x", "tier": "web"}, service_account="x"),
            pod("a/x.2", {"app": "x"}, service_account="x"),
            pod("a/y.1", {"tier": "web"}, service_account="y"),
            pod("a/done", {"app": "x", "tier": "web"}, phase="Succeeded"),
        ]
    )
    (problem,) = selected_twice(given, given.clusters["dev"], snap)
    assert "select the same pod, such as x.1" in problem.message
    assert problem.teams == ("one", "two")
    assert problem in against(given, snap)


def test_pods_without_a_declaration() -> None:
    given = platform(service("a/x"))
    snap = snapshot(
        [
            pod("a/x.1", service_account="x"),
            pod("a/cache.1", owner=Owner("Deployment", "cache")),
            pod("a/cache.2", owner=Owner("Deployment", "cache")),
            pod("a/lonely"),
            pod("new/one"),
            pod("kube-system/dns"),
            pod("tools/t"),
        ]
    )
    problems = against(given, snap, exempt=frozenset({"kube-system", "tools"}))
    assert sorted(p.message for p in problems) == [
        "on dev, 1 pod is not declared in namespace `new`",
        "on dev, Deployment cache (2 pods) is not declared in namespace `a`",
        "on dev, Pod lonely is not declared in namespace `a`",
    ]
    assert {p.severity for p in problems} == {Severity.INFO}
    assert {p.teams for p in problems} == {("a",), ()}


@pytest.mark.parametrize(
    ("pods", "says"),
    [
        ([pod("a/x-7f9", {"app": "xx"})], "pod x-7f9 carries app=xx"),
        ([pod("a/zz", {}, owner=Owner("StatefulSet", "x"))], "carries app=zz"),
        ([pod("a/other")], "list the clusters"),
        ([pod("b/other")], "there is no namespace `a`"),
    ],
)
def test_a_declaration_without_pods(pods: list[Any], says: str) -> None:
    problems = [p for p in against(platform(service("a/x")), snapshot(pods)) if p.code == "platform/no-pods"]
    assert len(problems) == 1
    assert says in problems[0].hint


def test_pods_with_another_service_account() -> None:
    (problem,) = against(platform(service("a/x")), snapshot([pod("a/x")]))
    assert problem.code == "platform/other-service-account"
    assert "run as default, not as x" in problem.message


def test_an_empty_snapshot_says_nothing() -> None:
    assert against(platform(service("a/x")), Snapshot()) == []


def test_whoever_refers_to_a_document_that_was_refused_is_not_blamed_as_well() -> None:
    """Its kind is misspelt, or its apiVersion is a newer one: what it means to declare can be read all the same."""
    texts = {
        "a.yaml": "apiVersion: pilothouse.dev/v1\nkind: Servce\nmetadata: {name: api, namespace: a}\n",
        "b.yaml": "apiVersion: pilothouse.dev/v9\nkind: Service\nmetadata: {name: api, namespace: b}\n",
        "c.yaml": """\
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: api, namespace: c}
spec:
  podSelector: {matchLabels: {app: api}}
  egress:
    - {to: {service: a/api}, ports: [80]}
    - {to: {service: b/api}, ports: [80]}
  team: nobody
""",
    }
    read = documents.read([Source(path, text) for path, text in texts.items()])
    assert sorted(p.code for p in read.problems) == ["platform/unknown-api-version", "platform/unknown-kind"]
    assert read.platform.unreadable == {"Service a/api", "Service b/api"}
    assert found(read.platform, "unknown-service") == []
    (team,) = found(read.platform, "unknown-team")
    assert (team.place.line, team.place.column, team.place.width) == (9, 9, 6), "at the team, not at the name"
