"""What may be typed as an end, and what it means."""

from __future__ import annotations

from typing import Any

import pytest
from policies.asked import answer, owned, sentences, shop, site

from pilothouse.policies.ask import find
from pilothouse.policies.ask.ends import Kind
from pilothouse.policies.site import Site
from pilothouse.problems import Invalid
from policies import raw


def more(kind: str, name: str, spec: dict[str, Any], **rest: Any) -> dict[str, Any]:
    space, own = name.split("/")
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": own, "namespace": space}, "spec": spec, **rest}


@pytest.fixture
def where() -> Site:
    alias = more("Service", "shop/alias", {"type": "ExternalName", "externalName": "db.example"})
    sql = raw.service("data/sql", {"app": "db"}, 15432, "sql")
    sql["spec"]["clusterIP"] = "10.9.0.1"
    headless = raw.service("shop/all", {"app": "web"}, 80, 8080)
    headless["spec"]["clusterIP"] = "None"
    return site(
        *shop(
            sql,
            headless,
            alias,
            raw.service("shop/nobody", {"app": "none"}, 80, 80),
            raw.pod("shop/agent", "192.168.0.1", {"app": "agent"}, host_network=True),
            raw.pod("shop/lost", "", {"app": "lost"}, host_network=True, node="n9"),
            raw.pod("shop/done", "10.0.0.9", {"app": "web"}, phase="Succeeded"),
            raw.pod("shop/soon", "", {"app": "web"}, node="", phase="Pending"),
            owned(raw.pod("shop/once", "10.0.0.8", {"app": "job"}, phase="Failed"), "job"),
            raw.host_endpoint("edge", "192.168.0.1 fd00:ffff::1", profiles=["projectcalico-default-allow"]),
            raw.host_endpoint("bare", "", node="n9"),
        )
    )


@pytest.mark.parametrize(
    ("text", "kind", "points"),
    [
        ("shop/web", Kind.WORKLOAD, ["shop/web-0", "shop/web-1"]),
        ("workload:shop/web", Kind.WORKLOAD, ["shop/web-0", "shop/web-1"]),
        ("shop/web-0", Kind.POD, ["shop/web-0"]),
        ("pod:shop/web-0", Kind.POD, ["shop/web-0"]),
        ("10.0.0.1", Kind.POD, ["shop/web-0"]),
        ("fd00::1", Kind.POD, ["shop/web-0"]),
        ("shop/agent", Kind.POD, ["shop/agent (192.168.0.1)"]),
        ("host:edge", Kind.HOST, ["edge (192.168.0.1)", "edge (fd00:ffff::1)"]),
        ("host:n2", Kind.HOST, ["n2 (192.168.0.2)"]),
        ("192.168.0.2", Kind.ADDRESS, ["192.168.0.2"]),
        ("8.8.8.8", Kind.ADDRESS, ["8.8.8.8"]),
        ("8.8.8.8/32", Kind.ADDRESS, ["8.8.8.8"]),
        ("10.0.0.0/24", Kind.RANGE, []),
        ("2001:db8::/32", Kind.RANGE, []),
        ("internet", Kind.INTERNET, []),
        ("new:shop/app=web,tier=front", Kind.FUTURE, ["shop/(a new pod with app=web,tier=front)"]),
        ("new:shop/", Kind.FUTURE, ["shop/(a new pod with no label)"]),
        ("data/sql", Kind.KUBERNETES_SERVICE, []),
        ("svc:data/sql", Kind.KUBERNETES_SERVICE, []),
        ("10.9.0.1", Kind.KUBERNETES_SERVICE, []),
        ("shop/soon", Kind.POD, ["shop/soon"]),
    ],
)
def test_an_end_in_each_form(where: Site, text: str, kind: Kind, points: list[str]) -> None:
    found = find(where, text)
    assert (found.kind, [point.name for point in found.points]) == (kind, points)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("shop/wbe", "is no service, workload, pod or Kubernetes Service", "did you mean `shop/web`?"),
        ("pod:shop/web", "is no pod", "shop/web-"),
        ("workload:shop/wep", "is no workload", "did you mean `shop/web`?"),
        ("svc:data/sq", "is no Kubernetes Service", "did you mean `data/sql`?"),
        ("svc:sql", "is no Kubernetes Service", ""),
        ("host:edg", "is no host endpoint or node", "did you mean `edge`?"),
        ("host:bare", "no address of bare is known", "address"),
        ("web", "is no end of a connection", "namespace/name"),
        ("shop/", "is no end of a connection", ""),
        ("a/b/c", "is no end of a connection", ""),
        ("shop/done", "has finished", "a pod that runs"),
        ("shop/job", "every pod of shop/job has finished", ""),
        ("shop/lost", "its node's address is not known", "nodes"),
        ("shop/alias", "only another name", "address"),
        ("127.0.0.1", "never leaves the pod", "pod"),
        ("new:shop/app", "is no label", "app=web"),
        ("new:shop/app=a b", "is no label", ""),
        ("new:/app=a", "names no namespace", ""),
    ],
)
def test_an_end_that_means_nothing(where: Site, text: str, message: str, hint: str) -> None:
    with pytest.raises(Invalid, match=message) as raised:
        find(where, text)
    assert hint in raised.value.hint
    assert raised.value.hint


def test_connections_come_from_the_pods_behind_a_service(where: Site) -> None:
    found = find(where, "data/sql", source=True)
    assert [point.name for point in found.points] == ["data/db"]
    assert "pods behind it" in str(found.notes[0])
    for text, message in (("10.9.0.1", "nothing comes from it"), ("shop/nobody", "no pod stands behind")):
        with pytest.raises(Invalid, match=message):
            find(where, text, source=True)


def test_what_is_left_out_or_does_not_run_yet_is_said(where: Site) -> None:
    assert "its traffic has the node's address" in str(find(where, "shop/agent").notes)
    assert "1 pod not scheduled yet" in str(find(where, "shop/soon").notes)
    assert "no such pod runs" in str(find(where, "new:shop/app=web").notes)
    assert find(where, "new:shop/app=web").future
    jobs = site(*shop(owned(raw.pod("shop/web-9", "10.0.0.9", {"app": "web"}, phase="Failed"), "web")))
    assert "1 finished pod left out" in str(find(jobs, "shop/web").notes)


def test_a_workload_without_pods_is_judged_by_its_template() -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    idle = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "idle", "namespace": "shop"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    only_web = raw.kubernetes("shop/p", {}, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    where = site(*shop(idle, only_web))
    found = answer(where, "shop/idle", "shop/api", "8080")
    assert found.verdict.value == "allow"
    assert found.source.kind is Kind.WORKLOAD


def test_backends_of_both_families_and_on_the_hosts_network() -> None:
    agent = raw.pod("data/agent", "192.168.0.2", {"app": "db"}, host_network=True, node="n2")
    service = raw.service("data/sql", {"app": "db"}, 15432, 5432)
    service["spec"] |= {"clusterIP": "10.9.0.1", "clusterIPs": ["10.9.0.1", "fd00:9::1"]}
    where = site(*shop(agent, service))
    found = answer(where, "shop/web", "svc:data/sql", "15432")
    assert {name for pair in found.pairs for name in pair.destinations} == {"data/db", "data/agent (192.168.0.2)"}
    assert answer(where, "shop/web", "fd00:9::1", "15432").pairs == ()
    elsewhere = raw.endpoint_slice("data/sql-1", "sql", "203.0.113.9", "5432/TCP")
    elsewhere["ports"][0]["name"] = "main"
    outside = answer(site(*shop(service, elsewhere)), "shop/web", "svc:data/sql", "15432")
    assert [pair.destinations for pair in outside.pairs] == [("203.0.113.9",)]


def test_a_range_with_bits_of_a_host_is_taken_as_the_api_server_takes_it(where: Site) -> None:
    found = find(where, "10.0.0.77/24")
    assert found.name == "10.0.0.0/24"
    assert "bits of a host" in str(found.notes)


def test_a_range_is_every_region_of_it_and_the_pods_in_it() -> None:
    spec = {"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "8.8.0.0/16"}}]}]}
    where = site(*shop(raw.kubernetes("shop/p", {}, **spec)))
    found = answer(where, "shop/api", "8.0.0.0/8", "53")
    shown = {pair.outcome.value: pair.destinations for pair in found.pairs}
    assert shown == {"allow": ("8.8.0.0/16",), "deny": ("8.0.0.0/8 but for its parts",)}
    assert found.verdict.value == "mixed"
    pods = answer(where, "shop/api", "10.0.1.0/24", "53")
    assert {pair.destinations for pair in pods.pairs} == {("data/db",), ("10.0.1.0/24",)}
    inside = answer(where, "shop/api", "8.8.4.0/24", "53")
    assert [(pair.destinations, pair.outcome.value) for pair in inside.pairs] == [(("8.8.4.0/24",), "allow")]


def test_the_internet_leaves_private_ranges_out() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}}
    where = site(*shop(raw.kubernetes("shop/p", {}, policyTypes=["Egress"], egress=[{"to": [block]}])))
    found = answer(where, "shop/api", "internet", "443")
    assert found.verdict.value == "allow"
    assert [pair.destinations for pair in found.pairs] == [("the internet",)]
    assert answer(where, "shop/web", "internet", "443").verdict.value == "mixed"  # nothing is said of IPv6
    assert "IPv6" not in sentences(found)


def test_an_ipv6_address_in_any_of_its_forms() -> None:
    where = site(*shop(raw.pod("shop/six", "fd00::0:7", {"app": "six"})))
    for text in ("fd00::7", "fd00:0::7", "FD00::7"):
        assert find(where, text).name == "shop/six"
    assert find(where, "fd00:ffff:0::1").points[0].node == "n1"


def test_an_address_is_asked_in_its_own_family() -> None:
    where = site(*shop())
    assert [pair.versions for pair in answer(where, "10.0.0.1", "shop/web-1", "80").pairs] == [(4,)]
    assert [pair.versions for pair in answer(where, "shop/web-0", "shop/web-1", "80").pairs] == [(4, 6)]
    none = answer(where, "fd00::1", "shop/api", "80")
    assert (none.pairs, none.verdict.value) == ((), "deny")
    assert "no address family in common" in sentences(none)
