"""Verdicts of every kind, and what each is based on: items 7 to 13 of what Kubernetes leaves to the plugin."""

from __future__ import annotations

from typing import Any

import pytest
from policies.asked import answer, can_be_typed, owned, port_of, sentences, shop, site, verdict, written
from policies.cases import packets, random_world
from policies.reference import verdict as reference

from pilothouse.policies.ask import Profile, as_data
from pilothouse.policies.ask import verdict as engine_verdict
from pilothouse.policies.ask.judge import Relation
from pilothouse.policies.engine import Packet
from pilothouse.policies.engine.decide import Outcome
from policies import raw

WEB = {"matchLabels": {"app": "web"}}
API = {"matchLabels": {"app": "api"}}
DENY = raw.kubernetes("shop/deny", {}, policyTypes=["Ingress", "Egress"])
FROM_WEB = raw.kubernetes("shop/from-web", API, ingress=[{"from": [{"podSelector": WEB}], "ports": [{"port": "http"}]}])


def data_service(kind: str = "ClusterIP", target: Any = "sql", node_port: int = 0) -> dict[str, Any]:
    found = raw.service("data/sql", {"app": "db"}, 15432, target)
    found["spec"] |= {"type": kind, "clusterIP": "10.9.0.1"}
    if node_port:
        found["spec"]["ports"][0]["nodePort"] = node_port
    return found


# ---------------------------------------------------------------- kinds of verdicts


def test_allow_and_deny_name_what_decides() -> None:
    where = site(*shop(FROM_WEB))
    allowed = answer(where, "shop/web", "shop/api", "8080")
    assert allowed.verdict is Outcome.ALLOW
    assert "ingress: shop/from-web ingress[0] allows" in sentences(allowed)
    assert "egress: no policy applies" in sentences(allowed)
    denied = answer(where, "data/db", "shop/api", "8080")
    assert denied.verdict is Outcome.DENY
    assert "ingress: no rule of shop/from-web matches" in sentences(denied)


def test_an_http_match_is_conditional() -> None:
    rule = raw.rule(protocol="TCP", http={"methods": ["GET"]})
    where = site(*shop(raw.calico("shop/get", "app == 'api'", types=["Ingress"], ingress=[rule])))
    found = answer(where, "shop/web", "shop/api", "8080")
    assert found.verdict is Outcome.CONDITIONAL
    assert "`http` match" in sentences(found)
    whole = answer(where, "shop/web", "shop/api")
    assert whole.verdict is Outcome.CONDITIONAL
    assert str(whole.pairs[0].said.conditional) == "every TCP port"


def test_pods_that_differ_are_mixed() -> None:
    odd = raw.kubernetes("shop/odd", {"matchLabels": {"odd": "yes"}}, ingress=[])
    web = owned(raw.pod("shop/web-2", "10.0.0.4", {"app": "web", "odd": "yes"}), "web")
    found = answer(site(*shop(odd, web)), "shop/api", "shop/web", "8080")
    assert found.verdict is Outcome.MIXED
    shown = {pair.destinations: pair.outcome.value for pair in found.pairs}
    assert shown == {("shop/web-0", "shop/web-1"): "allow", ("shop/web-2",): "deny"}


def test_pods_that_nothing_tells_apart_get_one_answer() -> None:
    found = answer(site(*shop(FROM_WEB)), "shop/web", "shop/api", "8080")
    assert [(pair.sources, pair.versions) for pair in found.pairs] == [(("shop/web-0", "shop/web-1"), (4,))]


def test_without_a_port_the_answer_is_what_is_allowed() -> None:
    where = site(*shop(FROM_WEB, DENY))
    out = raw.kubernetes("shop/out", WEB, policyTypes=["Egress"], egress=[{"ports": [{"port": 8080, "endPort": 9000}]}])
    assert answer(where, "shop/web", "shop/api").verdict is Outcome.DENY
    found = answer(site(*shop(FROM_WEB, DENY, out)), "shop/web", "shop/api")
    assert [str(pair.said.allowed) for pair in found.pairs] == ["8080"]
    assert found.verdict is Outcome.ALLOW
    assert "egress: by shop/deny, shop/out" in sentences(found)
    assert as_data(found)["pairs"][0]["allowed"] == "8080"


def test_a_named_port_is_each_destinations_own() -> None:
    where = site(*shop(FROM_WEB, owned(raw.pod("shop/web-3", "10.0.0.5", {"app": "web"}, "http=9090/TCP"), "web")))
    found = answer(where, "shop/api", "shop/web", "http")
    assert {(pair.destinations, str(pair.packet)) for pair in found.pairs} == {
        (("shop/web-0", "shop/web-1"), "8080/TCP"),
        (("shop/web-3",), "9090/TCP"),
    }
    assert verdict(where, "shop/web", "shop/api", "dns/UDP") is Outcome.DENY
    none = answer(where, "shop/web", "data/db", "http")
    assert none.verdict is Outcome.DENY
    assert "has no port named http" in sentences(none)


# ---------------------------------------------------------------- 7: ipBlock and pods


def test_whether_an_ip_block_matches_pods_is_calicos_choice() -> None:
    block = raw.kubernetes("data/in", {}, ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]}])
    where = site(*shop(block))
    found = answer(where, "shop/web", "data/db", "5432")
    assert found.verdict is Outcome.ALLOW
    assert "Calico matches an `ipBlock` by address" in sentences(found)
    strict = answer(where, "shop/web", "data/db", "5432", "k8s-strict")
    assert strict.verdict is Outcome.UNDEFINED
    assert "does not say whether an `ipBlock` matches" in sentences(strict)
    outside = answer(where, "10.0.0.200", "data/db", "5432", "k8s-strict")
    assert outside.verdict is Outcome.ALLOW
    calico = raw.calico("data/nets", "all()", types=["Ingress"], ingress=[raw.rule(source={"nets": ["10.0.0.0/24"]})])
    assert verdict(site(*shop(calico)), "shop/web", "data/db", "5432", "k8s-strict") is Outcome.ALLOW


# ---------------------------------------------------------------- 8: other protocols


def test_icmp_under_policies_of_kubernetes() -> None:
    open_ = raw.kubernetes("shop/open", API, ingress=[{"from": [{"podSelector": WEB}]}])
    where = site(*shop(open_))
    for packet in ("icmp", "proto:47"):
        found = answer(where, "shop/web", "shop/api", packet)
        assert found.verdict is Outcome.ALLOW
        assert "every protocol" in sentences(found)
        denied = answer(where, "data/db", "shop/api", packet)
        assert denied.verdict is Outcome.DENY
        for source in ("shop/web", "data/db"):
            strict = answer(where, source, "shop/api", packet, "k8s-strict")
            assert strict.verdict is Outcome.UNDEFINED
            assert "leaves other protocols to the plugin" in sentences(strict)
    assert verdict(where, "shop/api", "shop/web", "icmp", "k8s-strict") is Outcome.ALLOW  # nothing isolates web
    whole = answer(where, "shop/web", "shop/api", "", "k8s-strict")
    assert str(whole.pairs[0].said.undefined) == "ICMP, ICMPv6, every other protocol"


def test_calico_says_what_its_own_policies_mean_for_icmp() -> None:
    rule = raw.rule(protocol="ICMP", icmp={"type": 8})
    where = site(*shop(raw.calico("shop/ping", "app == 'api'", types=["Ingress"], ingress=[rule])))
    for profile in Profile:
        assert verdict(where, "shop/web", "shop/api", "icmp:8/0", profile) is Outcome.ALLOW
        assert verdict(where, "shop/web", "shop/api", "icmp:9/0", profile) is Outcome.DENY


def test_icmp_is_of_one_family() -> None:
    where = site(*shop())
    assert [pair.versions for pair in answer(where, "shop/web-0", "shop/web-1", "icmp").pairs] == [(4,)]
    assert [pair.versions for pair in answer(where, "shop/web-0", "shop/web-1", "icmp6").pairs] == [(6,)]


# ---------------------------------------------------------------- 9: own node, itself


@pytest.mark.parametrize("profile", Profile)
def test_its_own_node_always_reaches_a_pod(profile: Profile) -> None:
    where = site(*shop(DENY))
    for node in ("192.168.0.1", "host:n1"):
        found = answer(where, node, "shop/web-0", "8080", profile)
        assert found.verdict is Outcome.ALLOW
        assert "from its own node" in sentences(found)
    assert verdict(where, "192.168.0.2", "shop/web-0", "8080", profile) is Outcome.DENY
    assert verdict(where, "192.168.0.1", "shop/web", "8080", profile) is Outcome.MIXED  # one of two is on n1


def test_a_pod_and_its_own_node() -> None:
    where = site(*shop(DENY))
    found = answer(where, "shop/web-0", "192.168.0.1", "10250")
    assert found.verdict is Outcome.DENY
    assert "defaultEndpointToHostAction" in sentences(found)
    strict = answer(where, "shop/web-0", "192.168.0.1", "10250", "k8s-strict")
    assert strict.verdict is Outcome.ALLOW
    assert "its own node whatever" in sentences(strict)
    closed = raw.host_endpoint("edge", "192.168.0.1")
    assert verdict(site(*shop(closed)), "shop/web-0", "host:edge", "80") is Outcome.ALLOW
    assert verdict(site(*shop(closed)), "shop/api", "host:edge", "80") is Outcome.DENY  # it runs on another node
    assert verdict(site(*shop(closed)), "shop/web-0", "host:edge") is Outcome.ALLOW


def test_a_pod_reaches_itself() -> None:
    where = site(*shop(DENY))
    found = answer(where, "shop/api", "shop/api", "8080")
    assert found.verdict is Outcome.ALLOW
    assert "never leaves it" in sentences(found)
    strict = answer(where, "shop/api", "shop/api", "8080", "k8s-strict")
    assert strict.verdict is Outcome.UNDEFINED
    assert "sends to itself" in sentences(strict)
    assert verdict(site(*shop()), "shop/api", "shop/api", "8080", "k8s-strict") is Outcome.ALLOW


def test_what_pods_send_to_themselves_does_not_hide_their_siblings() -> None:
    found = answer(site(*shop(DENY)), "shop/web", "shop/web", "8080")
    assert found.verdict is Outcome.DENY
    assert [(pair.is_own, pair.outcome.value) for pair in found.pairs] == [(True, "allow"), (False, "deny")]
    later = answer(site(*shop(DENY)), "new:shop/app=web", "new:shop/app=web", "8080")
    assert later.verdict is Outcome.DENY  # two pods of the future are not one


# ---------------------------------------------------------------- 10: on the host's network, pending


def test_a_pod_on_the_hosts_network_is_its_node() -> None:
    agent = raw.pod("shop/agent", "192.168.0.2", {"app": "web"}, host_network=True, node="n2")
    where = site(*shop(FROM_WEB, agent, raw.pod("shop/api-2", "10.0.0.7", {"app": "api"})))
    found = answer(where, "shop/agent", "shop/api-2", "8080")
    assert found.verdict is Outcome.DENY  # its labels count for nothing
    assert "its traffic has the node's address" in sentences(found)
    strict = answer(where, "shop/agent", "shop/api-2", "8080", "k8s-strict")
    assert strict.verdict is Outcome.DENY  # api-2 gives no port that name
    named = site(*shop(FROM_WEB, agent, raw.pod("shop/api-2", "10.0.0.7", {"app": "api"}, "http=8080/TCP")))
    strict = answer(named, "shop/agent", "shop/api-2", "8080", "k8s-strict")
    assert strict.verdict is Outcome.UNDEFINED
    assert "leaves open whether policies select pods on the host's network" in sentences(strict)
    into = raw.kubernetes("shop/none", {"matchLabels": {"app": "web"}}, ingress=[])
    hosted = site(*shop(into, agent))
    assert verdict(hosted, "data/db", "shop/agent", "80") is Outcome.ALLOW
    assert verdict(hosted, "data/db", "shop/agent", "80", "k8s-strict") is Outcome.UNDEFINED


def test_a_pending_pod_is_judged_as_it_will_be() -> None:
    soon = raw.pod("shop/soon", "", {"app": "web"}, node="", phase="Pending")
    where = site(*shop(FROM_WEB, soon))
    assert verdict(where, "shop/soon", "shop/api", "8080") is Outcome.ALLOW
    assert verdict(where, "new:shop/app=web", "shop/api", "8080") is Outcome.ALLOW
    assert verdict(where, "new:shop/app=other", "shop/api", "8080") is Outcome.DENY
    assert verdict(where, "new:data/app=web", "shop/api", "8080") is Outcome.DENY


# ---------------------------------------------------------------- 11: Services


def test_a_service_is_judged_after_its_address_was_translated() -> None:
    only = raw.kubernetes("data/sql", {}, ingress=[{"ports": [{"port": 5432}]}])
    where = site(*shop(only, data_service()))
    for name in ("svc:data/sql", "data/sql", "10.9.0.1"):
        found = answer(where, "shop/web", name, "15432")
        assert found.verdict is Outcome.ALLOW
        assert [(str(pair.sent), str(pair.packet)) for pair in found.pairs] == [("15432/TCP", "5432/TCP")]
        assert "after its address and port became those of a pod" in sentences(found)
    assert verdict(where, "shop/web", "svc:data/sql", "main") is Outcome.ALLOW  # the port's own name
    assert verdict(where, "shop/web", "svc:data/sql") is Outcome.ALLOW
    assert verdict(where, "shop/web", "data/db", "15432") is Outcome.DENY
    assert "port 15432/TCP of Service data/sql is 5432 of its pods" in sentences(
        answer(where, "shop/web", "data/db", "15432")
    )


def test_a_service_without_that_port_or_without_backends() -> None:
    where = site(*shop(data_service()))
    wrong = answer(where, "shop/web", "svc:data/sql", "80")
    assert wrong.verdict is Outcome.DENY
    assert "Service data/sql has no port 80/TCP; known: 15432/TCP" in sentences(wrong)
    assert "has no port named http" in sentences(answer(where, "shop/web", "svc:data/sql", "http"))
    asleep = raw.endpoint_slice("data/sql-1", "sql", "10.0.1.1", "5432/TCP", ready=False)
    asleep["ports"][0]["name"] = "main"
    none = answer(site(*shop(data_service(), asleep)), "shop/web", "svc:data/sql", "15432")
    assert none.verdict is Outcome.DENY
    assert "no ready backend" in sentences(none)


def test_backends_may_differ() -> None:
    closed = raw.kubernetes("data/closed", {"matchLabels": {"role": "spare"}}, ingress=[])
    spare = raw.pod("data/spare", "10.0.1.2", {"app": "db", "role": "spare"}, "sql=5433/TCP")
    found = answer(site(*shop(data_service(), closed, spare)), "shop/web", "svc:data/sql", "15432")
    assert found.verdict is Outcome.MIXED
    assert {(pair.destinations, str(pair.packet), pair.outcome.value) for pair in found.pairs} == {
        (("data/db",), "5432/TCP", "allow"),
        (("data/spare",), "5433/TCP", "deny"),
    }


def test_a_headless_service_translates_nothing() -> None:
    service = data_service()
    service["spec"]["clusterIP"] = "None"
    only = raw.kubernetes("data/sql", {}, ingress=[{"ports": [{"port": 5432}]}])
    where = site(*shop(only, service))
    found = answer(where, "shop/web", "svc:data/sql", "5432")
    assert found.verdict is Outcome.ALLOW
    assert "headless" in sentences(found)
    assert verdict(where, "shop/web", "svc:data/sql", "15432") is Outcome.DENY


def test_an_ip_block_may_be_held_against_the_services_address() -> None:
    to_address = {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}
    out = raw.kubernetes("shop/out", {}, policyTypes=["Egress"], egress=[to_address])
    where = site(*shop(data_service(), out))
    assert verdict(where, "shop/web", "svc:data/sql", "15432") is Outcome.DENY
    strict = answer(where, "shop/web", "svc:data/sql", "15432", "k8s-strict")
    assert strict.verdict is Outcome.UNDEFINED
    assert "the Service's address or the pod's" in sentences(strict)
    by_label = {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}]}
    labelled = raw.kubernetes("shop/out", {}, policyTypes=["Egress"], egress=[by_label])
    for profile in Profile:
        assert verdict(site(*shop(data_service(), labelled)), "shop/web", "svc:data/sql", "15432", profile) is (
            Outcome.ALLOW
        )


# ---------------------------------------------------------------- 12: through a node


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_the_source_of_what_enters_through_a_node_may_be_that_node(kind: str) -> None:
    from_office = {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
    where = site(*shop(data_service(kind, node_port=30001), raw.kubernetes("data/in", {}, ingress=[from_office])))
    found = answer(where, "203.0.113.7", "svc:data/sql", "15432")
    assert found.verdict is Outcome.MIXED
    assert "externalTrafficPolicy" in sentences(found)
    assert verdict(where, "203.0.113.7", "svc:data/sql", "15432", "k8s-strict") is Outcome.UNDEFINED
    assert verdict(where, "8.8.8.8", "svc:data/sql", "15432") is Outcome.DENY
    assert verdict(where, "shop/web", "svc:data/sql", "15432") is Outcome.DENY
    by_node = answer(where, "203.0.113.7", "192.168.0.2", "30001")
    assert by_node.verdict is Outcome.MIXED
    assert "port 30001 of a node leads to Service data/sql" in sentences(by_node)
    assert verdict(where, "203.0.113.7", "192.168.0.2", "30002") is Outcome.ALLOW  # no policy between two addresses


def test_a_cluster_ip_is_not_entered_through_a_node() -> None:
    from_office = {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
    where = site(*shop(data_service(), raw.kubernetes("data/in", {}, ingress=[from_office])))
    assert verdict(where, "203.0.113.7", "svc:data/sql", "15432") is Outcome.ALLOW


# ---------------------------------------------------------------- the rest


def test_two_addresses_outside() -> None:
    found = answer(site(*shop(DENY)), "8.8.8.8", "9.9.9.9", "53/UDP")
    assert found.verdict is Outcome.ALLOW
    assert "no policy holds between two addresses" in sentences(found)


def test_a_host_endpoint() -> None:
    guarded = raw.host_endpoint("edge", "192.168.0.1", {"role": "edge"})
    ssh = raw.calico(
        "web", "role == 'edge'", types=["Ingress"], ingress=[raw.rule(protocol="TCP", destination={"ports": [443]})]
    )
    where = site(*shop(guarded, ssh))
    assert verdict(where, "8.8.8.8", "host:edge", "443") is Outcome.ALLOW
    assert verdict(where, "8.8.8.8", "host:edge", "80") is Outcome.DENY
    failsafe = answer(where, "8.8.8.8", "192.168.0.1", "22")
    assert failsafe.verdict is Outcome.ALLOW
    assert "hostendpoint" in sentences(failsafe)


def test_staged_policies_count_in_a_preview() -> None:
    where = site(*shop(raw.staged_kubernetes("shop/deny", {}, policyTypes=["Ingress"])))
    assert verdict(where, "data/db", "shop/api", "80") is Outcome.ALLOW
    assert verdict(where.preview(), "data/db", "shop/api", "80") is Outcome.DENY


def test_policies_that_were_left_out_are_named() -> None:
    from pilothouse.inventory.parse import at, parse
    from pilothouse.policies.site import of_snapshot
    from pilothouse.problems import Place

    broken = raw.calico("shop/bad", "app = web", types=["Ingress"])
    snapshot, _ = parse((each, at(Place("world"))) for each in shop(broken))
    found = answer(of_snapshot(snapshot), "shop/web", "shop/api", "80")
    assert any("shop/bad" in text for text in found.unread)
    assert as_data(found)["unread"] == list(found.unread)


def test_as_data_holds_both_sides_and_the_basis() -> None:
    data = as_data(answer(site(*shop(FROM_WEB)), "shop/web", "shop/api", "8080"))
    assert (data["verdict"], data["profile"], data["asked"]) == ("allow", "calico", "8080/TCP")
    assert data["source"] == {"kind": "workload", "name": "shop/web"}
    [pair] = data["pairs"]
    assert pair["families"] == ["IPv4"]
    assert pair["ingress"] | {"place": ""} == {
        "outcome": "allow", "by": "shop/from-web ingress[0]", "tier": "default", "rule": 0, "place": "",
    }  # fmt: skip
    assert all(item["source"].startswith("https://") for item in pair["basis"])


@pytest.mark.parametrize("batch", range(4))
def test_the_reference_evaluator_gives_the_same_answers(batch: int) -> None:
    """In random worlds, what always passes included. One difference is Calico's own: a pod's egress policies hold for
    the way to its own node, which Kubernetes lets through."""
    asked = 0
    for seed in range(batch * 10, batch * 10 + 10):
        world = random_world(seed)
        where = site(*world.objects)
        for source, destination, packet in packets(world, limit=25, seed=seed):
            if not can_be_typed(packet):
                continue
            ends = [end.address if end.pod else written(end) for end in (source, destination)]
            found = answer(where, *ends, port_of(packet))
            if any(pair.relation is Relation.TO_OWN_NODE for pair in found.pairs):
                strict = answer(where, *ends, port_of(packet), "k8s-strict")
                assert strict.verdict.value == reference(world, source, destination, packet, own_traffic=True)
                continue
            assert found.verdict.value == reference(world, source, destination, packet, own_traffic=True), ends
            asked += 1
    assert asked > 100


def test_many_questions_to_one_engine() -> None:
    engine = site(*shop(FROM_WEB)).engine
    assert engine_verdict(engine, "shop/web-0", "shop/api", Packet(6, 8080)) is Outcome.ALLOW
    assert engine_verdict(engine, "10.0.1.1", "shop/api", Packet(6, 8080)) is Outcome.DENY
    with pytest.raises(ValueError, match="no endpoints of one family"):
        engine_verdict(engine, "shop/none", "shop/api", Packet(6, 8080))
    odd = raw.kubernetes("shop/v4", WEB, ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])
    assert engine_verdict(site(*shop(odd)).engine, "shop/web-0", "shop/web-1", Packet(6, 80)) is Outcome.MIXED
