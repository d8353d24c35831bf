"""The chain that a connection meets, tier by tier, and the places that are named."""

from __future__ import annotations

from typing import Any

from policies.asked import shop, site

from pilothouse.files.snapshot import read_text
from pilothouse.policies.ask import parse
from pilothouse.policies.engine.decide import Outcome
from pilothouse.policies.explain import as_data, explain
from pilothouse.policies.site import of_snapshot
from policies import raw

API = {"matchLabels": {"app": "api"}}
FROM_WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


def told(*objects: Any, source: str = "shop/web", destination: str = "shop/api", port: str = "8080") -> Any:
    return explain(site(*shop(*objects)), source, destination, parse(port))


def test_tier_by_tier() -> None:
    everyone: dict[str, Any] = {"selector": "all()", "types": ["Ingress"]}
    found = told(
        raw.tier("first", 100),
        raw.tier("second", 200, "Pass"),
        raw.calico("first.a", **everyone, tier="first", order=5, ingress=[raw.rule("Log"), raw.rule("Pass")]),
        raw.calico("second.b", **everyone, tier="second", ingress=[raw.rule("Deny", source={"nets": ["8.8.8.8/32"]})]),
        raw.kubernetes("shop/p", {}, ingress=[{}]),
    )
    chain = found.stories[0].ingress.chain
    assert [(met.tier, met.name, met.did) for met in chain] == [
        ("first", "GlobalNetworkPolicy first.a", "passes to the next tier"),
        ("first", "", "passed on"),
        ("second", "GlobalNetworkPolicy second.b", "no rule matches"),
        ("second", "", "no rule matched: its default action passes it on"),
        ("default", "NetworkPolicy shop/p", "allows"),
    ]
    assert [(met.order, met.rule, met.decides) for met in chain if met.name] == [
        (5, 1, False),
        (float("inf"), None, False),
        (1000, 0, True),
    ]
    assert [met.tier_order for met in chain] == [100, 100, 200, 200, 1_000_000]
    assert str(chain[0]) == "GlobalNetworkPolicy first.a (order 5): passes to the next tier"


def test_the_end_of_a_tier_denies() -> None:
    found = told(raw.kubernetes("shop/p", {}, ingress=[]))
    last = found.stories[0].ingress.chain[-1]
    assert (last.did, last.decides) == ("no rule matched: its default action denies", True)
    assert str(last) == "end of tier default: no rule matched: its default action denies"


def test_what_nothing_isolates() -> None:
    found = told()
    assert [met.did for met in found.stories[0].ingress.chain] == ["not isolated"]
    assert found.wanted is Outcome.DENY


def test_profiles_come_last() -> None:
    profile = raw.profile("kns.shop", ingress=[raw.rule("Deny")], egress=[raw.rule()])
    found = told(profile)
    assert [(met.name, met.did, met.decides) for met in found.stories[0].ingress.chain] == [
        ("Profile kns.shop", "denies", True)
    ]


def test_a_condition_is_told() -> None:
    rule = raw.rule(protocol="TCP", http={"methods": ["GET"]})
    found = told(raw.calico("shop/p", "all()", types=["Ingress"], ingress=[rule]))
    assert found.answer.verdict is Outcome.CONDITIONAL
    assert found.stories[0].ingress.chain[0].did == "allows some requests"


def test_each_answer_of_a_question_has_a_story() -> None:
    odd = raw.kubernetes("shop/odd", {"matchLabels": {"app": "web"}}, ingress=[])
    found = told(odd, source="data/db", destination="10.0.0.0/24")
    assert {(str(story.pair.outcome), story.ingress.end) for story in found.stories} >= {
        ("deny", "shop/web-0"),
        ("allow", "shop/api"),
    }


MANIFESTS = """\
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {matchLabels: {app: b}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: c}}
    - from:
        - podSelector: {matchLabels: {app: a}}
      ports:
        - port: 80
"""


def test_places_are_lines_of_the_manifests() -> None:
    snapshot, _ = read_text(MANIFESTS, "world.yaml")
    where = of_snapshot(snapshot)
    allowed = explain(where, "x/a", "x/b", parse("80"))
    assert [str(met.place) for met in allowed.stories[0].ingress.chain] == ["world.yaml:21:7"]
    denied = explain(where, "x/a", "x/b", parse("81"))
    assert {miss.name.rpartition(" ")[2]: miss.place.line for miss in denied.stories[0].ingress.near} == {
        "ingress[0]": 19,
        "ingress[1]": 21,
    }
    assert denied.edit is not None
    [change] = denied.edit.changes
    assert (change.title, str(change.place)) == (
        "add port 81/TCP to NetworkPolicy x/p ingress[1]", "world.yaml:24:9",
    )  # fmt: skip
    assert "+        - protocol: TCP\n+          port: 81" in change.text


def test_where_no_policy_decides_there_is_no_edit() -> None:
    own = told(raw.kubernetes("shop/p", {}, ingress=[]), source="192.168.0.1", destination="shop/web-0")
    assert (own.edits, own.no_edit) == ((), "no policy decides it")
    outside = told(source="8.8.8.8", destination="9.9.9.9")
    assert outside.no_edit == "no policy decides about two addresses outside"
    unnamed = told(destination="data/db", port="http")
    assert unnamed.no_edit == "give the container port of the destination the name http"
    families = told(source="fd00::1")
    assert families.no_edit == "there is nothing that policies could decide about"


def test_as_data() -> None:
    data = as_data(told(raw.kubernetes("shop/p", API, ingress=[{"from": [FROM_WEB], "ports": [{"port": 80}]}])))
    assert (data["verdict"], data["wanted"], data["noEdit"]) == ("deny", "allow", None)
    egress, ingress = data["stories"][0]["sides"]
    assert (egress["outcome"], ingress["outcome"]) == ("allow", "deny")
    assert ingress["chain"][0] | {"place": ""} == {
        "tier": "default", "tierOrder": 1_000_000, "policy": "NetworkPolicy shop/p", "order": 1000, "rule": None,
        "did": "no rule matches", "place": "", "decides": False,
    }  # fmt: skip
    assert ingress["near"][0]["reasons"] == [{"kind": "port", "sentence": "wanted port 8080, the rule has 80"}]
    assert data["edits"][0]["changes"][0]["manifest"]["spec"]["ingress"][0]["ports"][1] == {
        "protocol": "TCP", "port": 8080,
    }  # fmt: skip
