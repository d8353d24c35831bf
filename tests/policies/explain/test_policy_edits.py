"""Edits that flip a verdict: which is chosen, and that it does what it says when it is applied to the manifests."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from policies.asked import applied, can_be_typed, port_of, shop, site, verdict, written
from policies.cases import packets, random_world

from pilothouse.policies.ask import parse
from pilothouse.policies.explain import explain
from pilothouse.policies.explain.edits import Edit
from policies import raw

WEB = {"matchLabels": {"app": "web"}}
API = {"matchLabels": {"app": "api"}}
DENY = raw.kubernetes("shop/deny", {}, policyTypes=["Ingress"])


def edit(objects: Iterable[Mapping[str, Any]], source: str, destination: str, port: str) -> Edit:
    """The best edit. Each one that is offered flips the verdict, once it is applied to the manifests."""
    objects = list(objects)
    found = explain(site(*objects), source, destination, parse(port))
    assert found.edits, found.no_edit
    for each in found.edits:
        fresh = site(*applied(objects, [change.data for change in each.changes]))
        assert verdict(fresh, source, destination, port) is found.wanted
    assert [each.rank for each in found.edits] == sorted(each.rank for each in found.edits)
    return found.edits[0]


def titles(found: Edit) -> list[str]:
    return [change.title for change in found.changes]


# ---------------------------------------------------------------- to allow


def test_a_port_for_a_rule_that_lacks_only_that() -> None:
    rule = {"from": [{"podSelector": WEB}], "ports": [{"port": 80}]}
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "shop/web", "shop/api", "8080")
    assert titles(found) == ["add port 8080/TCP to NetworkPolicy shop/p ingress[0]"]
    assert (found.others, found.size) == ((), 0)
    assert "+        - protocol: TCP\n+          port: 8080" in found.changes[0].text


def test_a_peer_for_a_rule_that_lacks_only_that() -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "front"}}}], "ports": [{"port": 8080}]}
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "data/db", "shop/api", "8080")
    assert titles(found) == ["add a peer to NetworkPolicy shop/p ingress[0]"]
    peer = found.changes[0].data["spec"]["ingress"][0]["from"][1]
    assert peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}},
        "podSelector": {"matchLabels": {"app": "db"}},
    }


def test_a_rule_where_none_is_near() -> None:
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[])), "shop/web", "shop/api", "8080")
    assert titles(found) == ["add an Allow rule to NetworkPolicy shop/p"]
    assert found.changes[0].data["spec"]["policyTypes"] == ["Ingress"]


def test_a_policy_where_every_other_edit_says_more() -> None:
    """A rule for web in a policy of all pods would open the others, too."""
    found = edit(shop(DENY), "shop/web", "shop/api", "8080")
    assert titles(found) == ["add NetworkPolicy shop/allow-web-to-api"]
    assert found.others == ()
    assert found.changes[0].data["spec"] == {
        "podSelector": API,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": WEB}], "ports": [{"protocol": "TCP", "port": 8080}]}],
    }
    assert found.changes[0].text.startswith("+apiVersion: networking.k8s.io/v1")


def test_both_sides_deny() -> None:
    closed = raw.kubernetes("shop/closed", {}, policyTypes=["Ingress", "Egress"])
    found = edit(shop(closed), "shop/web", "shop/api", "8080")
    assert titles(found) == ["add an Allow rule to NetworkPolicy shop/closed"] * 2
    assert [sorted(change.data["spec"]) for change in found.changes] == [
        ["egress", "podSelector", "policyTypes"],
        ["egress", "ingress", "podSelector", "policyTypes"],
    ]
    assert found.others == ()


def test_an_address() -> None:
    out = raw.kubernetes("shop/out", API, policyTypes=["Egress"], egress=[])
    found = edit(shop(out), "shop/api", "203.0.113.7", "443")
    assert found.changes[0].data["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    ]
    whole = edit(shop(out), "shop/api", "203.0.113.0/24", "443")
    assert whole.changes[0].data["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    internet = edit(shop(out), "shop/api", "internet", "443")
    assert "10.0.0.0/8" in internet.changes[0].data["spec"]["egress"][0]["to"][0]["ipBlock"]["except"]


def test_a_deny_of_calico_is_met_by_an_allow_before_it() -> None:
    deny = raw.calico("shop/no", "app == 'api'", types=["Ingress"], order=5, ingress=[raw.rule("Deny")])
    found = edit(shop(deny), "shop/web", "shop/api", "8080")
    assert titles(found) == ["add an Allow rule to NetworkPolicy shop/no before ingress[0]"]
    first = found.changes[0].data["spec"]["ingress"][0]
    assert first == {
        "action": "Allow",
        "protocol": "TCP",
        "source": {"selector": "app == 'web'"},
        "destination": {"ports": [8080]},
    }


def test_a_global_policy_says_the_namespace() -> None:
    deny = raw.calico("no", "app == 'api'", types=["Ingress"], ingress=[raw.rule("Deny")])
    found = edit(shop(deny), "shop/web", "shop/api", "icmp")
    first = found.changes[0].data["spec"]["ingress"][0]
    assert first["source"] == {"selector": "app == 'web'", "namespaceSelector": "projectcalico.org/name == 'shop'"}
    assert (first["protocol"], first["icmp"]) == ("ICMP", {"type": 8, "code": 0})


def test_admin_policies_have_their_own_words() -> None:
    everyone = {"namespaces": {}}
    rules = [{"action": "Deny", "from": [{"namespaces": {}}]}]
    found = edit(shop(raw.admin("no", 5, everyone, ingress=rules)), "shop/web", "shop/api", "8080")
    assert titles(found)[0].startswith("add ")
    both = explain(site(*shop(raw.admin("no", 5, everyone, ingress=rules))), "shop/web", "shop/api", parse("8080"))
    texts = [change.text for each in both.edits for change in each.changes]
    assert any("portNumber" in text for text in texts)
    rules = [{"action": "Deny", "from": [{"namespaces": {}}]}]
    newer = edit(shop(raw.cluster("no", "Admin", 5, everyone, ingress=rules)), "shop/web", "shop/api", "8080")
    assert newer.changes


def test_what_else_an_edit_opens_is_told() -> None:
    """There is no Calico here, and the one policy is for all pods of the namespace."""
    closed = raw.kubernetes("shop/p", {}, policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": API}]}])
    found = explain(site(*shop(closed)), "shop/web", "shop/web", parse("8080"))
    wider = [each for each in found.edits if each.others]
    assert all(str(item).startswith("+ ") for each in wider for item in each.others)
    assert found.edit is not None
    assert found.edit.size == min(each.size for each in found.edits)


# ---------------------------------------------------------------- to deny


def test_a_peer_of_several() -> None:
    rule = {"from": [{"podSelector": WEB}, {"namespaceSelector": {"matchLabels": {"tier": "data"}}}]}
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "data/db", "shop/api", "8080")
    assert any("shop/p ingress[0]" in title for title in titles(found))
    assert all(item.source.name == "data/db" for item in found.others)


def test_a_port_of_several() -> None:
    rule = {"from": [{"podSelector": WEB}], "ports": [{"port": 80}, {"port": 8080}]}
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "shop/web", "shop/api", "8080")
    assert titles(found) == ["take port 8080/TCP from NetworkPolicy shop/p ingress[0]"]
    assert found.others == ()


def test_a_port_within_a_range() -> None:
    rule = {"from": [{"podSelector": WEB}], "ports": [{"port": 8000, "endPort": 9000}]}
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "shop/web", "shop/api", "8080")
    assert found.changes[0].data["spec"]["ingress"][0]["ports"] == [
        {"port": 8000, "endPort": 8079},
        {"port": 8081, "endPort": 9000},
    ]


@pytest.mark.parametrize(
    ("port", "kept"),
    [
        ("8080", [80, "9000:9100", "8000"]),
        ("9050", [80, "9000:9049", "9051:9100", "8000", "http"]),
        ("9000", [80, "9001:9100", "8000", "http"]),
    ],
)
def test_a_port_of_several_in_calicos_forms(port: str, kept: list[object]) -> None:
    rule = raw.rule(
        protocol="TCP", source={"selector": "app == 'web'"}, destination={"ports": [80, "9000:9100", "8000", "http"]}
    )
    policy = raw.calico("shop/p", "app == 'api'", types=["Ingress"], ingress=[rule])
    found = edit(shop(policy), "shop/web", "shop/api", port)
    assert found.changes[0].data["spec"]["ingress"][0]["destination"]["ports"] == [
        int(item) if item == "8000" else item for item in kept
    ]


def test_a_named_port_of_several() -> None:
    rule = {
        "from": [{"podSelector": WEB}],
        "ports": [{"port": "sql"}, {"port": "http"}, {"port": 53, "protocol": "UDP"}],
    }
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "shop/web", "shop/api", "8080")
    assert found.changes[0].data["spec"]["ingress"][0]["ports"] == [{"port": "sql"}, {"port": 53, "protocol": "UDP"}]


def test_a_namespace_without_one_workload() -> None:
    rule = {"from": [{"namespaceSelector": {"matchLabels": {"tier": "data"}}}], "ports": [{"port": 8080}]}
    other = raw.pod("data/cache", "10.0.1.2", {"app": "cache"})
    found = edit(shop(other, raw.kubernetes("shop/p", API, ingress=[rule])), "data/db", "shop/api", "8080")
    assert titles(found) == ["leave db out of NetworkPolicy shop/p ingress[0]"]
    assert found.changes[0].data["spec"]["ingress"][0]["from"][0]["podSelector"] == {
        "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]
    }
    assert found.others == ()


def test_a_host_endpoint_gets_a_global_policy() -> None:
    host = raw.host_endpoint("edge", "192.168.0.1", {"role": "edge"})
    found = edit(shop(host), "8.8.8.8", "host:edge", "443")
    assert titles(found) == ["add GlobalNetworkPolicy allow-8-8-8-8-on-edge"]
    spec = found.changes[0].data["spec"]
    assert (spec["selector"], spec["ingress"][0]["source"]) == ("role == 'edge'", {"nets": ["8.8.8.8/32"]})


def test_where_felix_or_a_profile_decides() -> None:
    host = raw.host_endpoint("edge", "192.168.0.1")
    failsafe = explain(site(*shop(host)), "8.8.8.8", "host:edge", parse("22"))
    assert failsafe.no_edit == "Felix lets its failsafe ports through, whatever the policies say"
    closed = explain(site(*shop(host)), "8.8.8.8", "host:edge", parse("80"))
    assert closed.no_edit == "no edit of one policy or two that was tried does it"
    deny = raw.profile("mine", ingress=[raw.rule("Deny")], egress=[raw.rule()])
    held = raw.host_endpoint("edge", "192.168.0.1", profiles=["mine"])
    profile = explain(site(*shop(held, deny)), "8.8.8.8", "host:edge", parse("80"))
    assert profile.no_edit == "a profile decides, and no policy that was tried comes before it"


def test_an_exception_of_a_range() -> None:
    rule = {"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 8080}]}
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=[rule])), "203.0.113.7", "shop/api", "8080")
    block = found.changes[0].data["spec"]["ingress"][0]["from"][0]["ipBlock"]
    assert block == {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]}
    assert found.others == ()


def test_the_only_rule_goes_and_its_type_stays() -> None:
    rule = {"from": [{"podSelector": WEB}], "ports": [{"port": 8080}]}
    out = raw.kubernetes("shop/p", API, egress=[{"to": [{"podSelector": WEB}]}])
    found = edit(shop(out), "shop/api", "shop/web", "8080")
    assert found.changes
    removed = edit(shop(raw.kubernetes("shop/q", API, ingress=[rule])), "shop/web", "shop/api", "8080")
    assert titles(removed) == ["remove NetworkPolicy shop/q ingress[0]"]
    assert removed.changes[0].data["spec"] == {"podSelector": API, "ingress": [], "policyTypes": ["Ingress"]}


def test_several_rules_that_allow_it_go_together() -> None:
    rules = [{"from": [{"podSelector": WEB}]}, {"from": [{"podSelector": {}}], "ports": [{"port": 8080}]}]
    found = edit(shop(raw.kubernetes("shop/p", API, ingress=rules)), "shop/web", "shop/api", "8080")
    assert len(found.changes) == 2


def test_where_nothing_is_isolated() -> None:
    found = edit(shop(), "shop/web", "shop/api", "8080")
    spec = found.changes[0].data["spec"]
    assert found.changes[0].data["kind"] == "NetworkPolicy"
    assert "policyTypes" in spec
    assert found.others  # Kubernetes has no Deny
    calico = raw.network_set("shop/set", ["8.8.8.8/32"])
    found = edit(shop(calico), "shop/web", "shop/api", "8080")
    assert found.others == ()
    direction = "ingress" if "ingress" in found.changes[0].data["spec"] else "egress"
    assert [rule["action"] for rule in found.changes[0].data["spec"][direction]] == ["Deny", "Allow"]
    assert "order" not in found.changes[0].data["spec"]  # after whatever comes later


def test_a_deny_of_calico_before_what_allows() -> None:
    allow = raw.calico("shop/yes", "all()", types=["Ingress"], order=5, ingress=[raw.rule()])
    found = edit(shop(allow), "shop/web", "shop/api", "8080")
    assert titles(found)[0].startswith("add a Calico NetworkPolicy")  # a rule of that policy would be for all pods
    assert found.others == ()
    offered = explain(site(*shop(allow)), "shop/web", "shop/api", parse("8080")).edits
    fresh = [change.data for each in offered for change in each.changes if change.title.startswith("add a Calico")]
    assert {item["spec"]["order"] for item in fresh if "ingress" in item["spec"]} == {4}


def test_a_pass_that_lets_through_is_preceded_by_a_deny() -> None:
    passing = raw.calico("shop/pass", "app == 'api'", types=["Ingress"], order=5, ingress=[raw.rule("Pass")])
    found = edit(shop(passing), "shop/web", "shop/api", "8080")
    assert titles(found) == ["add a Deny rule to NetworkPolicy shop/pass before ingress[0]"]


# ---------------------------------------------------------------- any world


def probed(seed: int) -> int:
    """How many edits were applied to the manifests of a random world, and flipped the verdict."""
    world = random_world(seed)
    where = site(*world.objects)
    found = packets(world, limit=40, seed=seed)
    count = 0
    for source, destination, packet in random.Random(seed).sample(found, min(4, len(found))):
        if not can_be_typed(packet):
            continue
        ends, port = (written(source), written(destination)), port_of(packet)
        told = explain(where, *ends, parse(port))
        assert bool(told.edits) is not bool(told.no_edit)
        for each in told.edits:
            fresh = site(*applied(world.objects, [change.data for change in each.changes]))
            assert verdict(fresh, *ends, port) is told.wanted
            assert told.answer.verdict is not told.wanted
            if not each.others:  # then nothing else may differ, whatever is asked
                for probe in random.Random(seed).sample(found, min(8, len(found))):
                    others, asked = (written(probe[0]), written(probe[1])), port_of(probe[2])
                    if (others, asked) != (ends, port) and can_be_typed(probe[2]):
                        assert verdict(fresh, *others, asked) is verdict(where, *others, asked)
            count += 1
    return count


@pytest.mark.parametrize("batch", range(4))
def test_every_edit_flips_the_verdict(batch: int) -> None:
    """In random worlds, with every kind of policy: an edit does what it says once it is applied to the manifests."""
    assert sum(probed(seed) for seed in range(batch * 10, batch * 10 + 10)) > 20
