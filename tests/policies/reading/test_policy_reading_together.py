"""Manifests of every kind together: what stands there twice, tiers, kinds that are not read, and hostile documents."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.policy_documents import documents, only, underlined

from pilothouse.inventory.parse import at, parse
from pilothouse.policies.reading import from_data, manifest_of, policy_of, read
from pilothouse.policies.rules import ANY_ORDER, Action, Family, Policy, Tier
from pilothouse.problems import NOWHERE, Place, Severity

API, STORED, SIG = "projectcalico.org/v3", "crd.projectcalico.org/v1", "policy.networking.k8s.io"


def make(kind: str, name: str, spec: Any = None, version: str = API, namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec or {}}


def names(*objects: dict[str, Any]) -> list[str]:
    reading = from_data(*objects)
    assert reading.problems == ()
    return [policy.key for policy in reading.policies.policies]


# ---------------------------------------------------------------- each object once


@pytest.mark.parametrize("turned", [False, True])
def test_of_an_object_in_both_groups_the_api_form_counts(turned: bool) -> None:
    stored = make("NetworkPolicy", "default.a", {"types": ["Egress"], "order": 1}, STORED, "n")
    shown = make("NetworkPolicy", "a", {"order": 2}, API, "n")
    found = from_data(*((shown, stored) if turned else (stored, shown)))
    assert found.problems == ()
    assert [(policy.name, policy.order) for policy in found.policies.policies] == [("a", 2.0)]


def test_names_in_other_tiers_keep_their_tier() -> None:
    tier = make("Tier", "ops", {"order": 5})
    stored = make("GlobalNetworkPolicy", "ops.a", {"tier": "ops", "types": ["Ingress"]}, STORED)
    shown = make("GlobalNetworkPolicy", "ops.a", {"tier": "ops"})
    assert names(tier, stored, shown) == ["GlobalNetworkPolicy ops.a"]


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        (
            make("NetworkPolicy", "a", {}, "networking.k8s.io/v1", "n"),
            make("NetworkPolicy", "knp.default.a", {}, API, "n"),
        ),
        (
            make("StagedKubernetesNetworkPolicy", "a", {}, API, "n"),
            make("StagedNetworkPolicy", "knp.default.a", {}, API, "n"),
        ),
        (
            make(
                "ClusterNetworkPolicy",
                "a",
                {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}},
                f"{SIG}/v1alpha2",
            ),
            make("GlobalNetworkPolicy", "kcnp.kube-admin.a", {"tier": "kube-admin"}),
        ),
        (
            make("AdminNetworkPolicy", "a", {"priority": 1, "subject": {"namespaces": {}}}, f"{SIG}/v1alpha1"),
            make("GlobalNetworkPolicy", "kanp.adminnetworkpolicy.a", {"tier": "adminnetworkpolicy"}),
        ),
    ],
)
def test_what_the_api_shows_of_others_counts_once(original: dict[str, Any], shown: dict[str, Any]) -> None:
    expected = names(original)
    assert names(original, shown) == names(shown, original) == expected
    assert len(names(shown)) == 1


def test_kubernetes_and_calico_policies_of_one_name_are_two() -> None:
    assert (
        len(
            names(make("NetworkPolicy", "a", {}, "networking.k8s.io/v1", "n"), make("NetworkPolicy", "a", {}, API, "n"))
        )
        == 2
    )


def test_the_same_object_twice_is_a_warning_and_the_last_counts() -> None:
    one, two = make("GlobalNetworkPolicy", "a", {"order": 1}), make("GlobalNetworkPolicy", "a", {"order": 2})
    reading = from_data(one, two)
    assert (only(reading).code, only(reading).severity) == ("policies/duplicate-object", Severity.WARNING)
    assert [policy.order for policy in reading.policies.policies] == [2.0]


# ---------------------------------------------------------------- tiers


def test_a_tier_that_is_not_there_is_an_error_where_tiers_are_given(tmp_path: Path) -> None:
    text = yaml.safe_dump_all(
        [make("Tier", "platform", {"order": 5}), make("GlobalNetworkPolicy", "platfrom.a", {"tier": "platfrom"})]
    )
    reading = documents(tmp_path, text)
    assert (only(reading).code, only(reading).severity) == ("policies/unknown-tier", Severity.ERROR)
    assert underlined(only(reading).place) == "platfrom"
    assert only(reading).hint == "did you mean `platform`?; until then it is left out"
    assert reading.policies.policies == ()


def test_without_any_tier_its_order_is_unknown_and_it_comes_last() -> None:
    reading = from_data(*(make("GlobalNetworkPolicy", f"ops.{name}", {"tier": "ops"}) for name in "ab"))
    assert (only(reading).code, only(reading).severity) == ("policies/unknown-tier", Severity.WARNING)
    assert "2 policies" in only(reading).message
    assert reading.policies.tiers == (Tier("ops", ANY_ORDER, Action.DENY),)
    assert len(reading.policies.policies) == 2


def test_the_tiers_that_always_exist_need_no_object() -> None:
    tiers = ["default", "kube-admin", "kube-baseline", "adminnetworkpolicy"]
    reading = from_data(
        make("Tier", "other"), *(make("GlobalNetworkPolicy", f"p{n}", {"tier": t}) for n, t in enumerate(tiers))
    )
    assert reading.problems == ()
    assert {tier.name: tier.order for tier in reading.policies.tiers} == {
        "other": ANY_ORDER,
        "default": 1_000_000.0,
        "kube-admin": 1_000.0,
        "kube-baseline": 10_000_000.0,
    }


def test_a_refused_tier_takes_its_policies_to_the_end() -> None:
    reading = from_data(
        make("Tier", "ops", {"order": "1"}),
        make("Tier", "b"),
        make("NetworkPolicy", "ops.a", {"tier": "ops"}, API, "n"),
    )
    assert [item.code for item in reading.problems] == ["policies/bad-value", "policies/unknown-tier"]
    assert [item.severity for item in reading.problems] == [Severity.ERROR, Severity.WARNING]
    assert len(reading.policies.policies) == 1


@pytest.mark.parametrize("second", ["ops", "adminnetworkpolicy"])
def test_duplicate_tiers(second: str) -> None:
    first = "kube-admin" if second != "ops" else "ops"
    spec = {"order": 1000, "defaultAction": "Pass"}
    reading = from_data(make("Tier", first, spec), make("Tier", second, spec))
    assert (only(reading).code, only(reading).severity) == ("policies/duplicate-tier", Severity.ERROR)
    assert [tier.name for tier in reading.policies.tiers] == [first]


# ---------------------------------------------------------------- one by one, and without places


def test_one_object_by_itself() -> None:
    value, problems = policy_of(manifest_of(make("NetworkPolicy", "a", {}, "networking.k8s.io/v1", "n")))
    assert isinstance(value, Policy)
    assert (value.family, problems) == (Family.KUBERNETES, ())
    value, problems = policy_of(manifest_of(make("Tier", "a", {"order": "x"})))
    assert (value, [item.code for item in problems]) == (None, ["policies/bad-value"])
    assert policy_of(manifest_of(make("FelixConfiguration", "default"))) == (None, ())


def test_what_was_derived_has_no_place_unless_one_is_given() -> None:
    data = make("NetworkPolicy", "a", {"ingress": [{}]}, "networking.k8s.io/v1", "n")
    found = from_data(data).policies.policies[0]
    assert (found.place, found.ingress[0].place) == (NOWHERE, NOWHERE)
    placed, _ = policy_of(manifest_of(data, Place("a.yaml", 3, 1)))
    assert isinstance(placed, Policy)
    assert (placed, placed.ingress[0].place) == (found, Place("a.yaml", 3, 1))


def test_kinds_that_are_not_read_are_counted_and_named() -> None:
    reading = from_data(
        make("FelixConfiguration", "one"),
        make("FelixConfiguration", "two"),
        make("Role", "r", version="v1"),
        make("NetworkPolicy", "a", {}, "networking.k8s.io/v1", "n"),
    )
    assert reading.unknown == {"FelixConfiguration.projectcalico.org": 2, "Role": 1}
    assert [(item.code, item.severity) for item in reading.problems] == [("policies/unknown-kind", Severity.INFO)] * 2
    assert "2 objects of kind FelixConfiguration.projectcalico.org" in reading.problems[1].message
    assert len(reading.policies.policies) == 1


def test_json_has_the_place_of_its_file() -> None:
    here = Place("cluster.json")
    snapshot, _ = parse([(make("GlobalNetworkPolicy", "a", {"ingress": [{}]}), at(here))])
    assert only(read(snapshot.policies)).place == here


# ---------------------------------------------------------------- hostile documents

SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]}
ENTITY = {
    "nets": ["10.0.0.0/8"],
    "notNets": ["10.1.0.0/16"],
    "selector": "has(a)",
    "notSelector": "b == 'c'",
    "namespaceSelector": "global()",
    "serviceAccounts": {"names": ["a"], "selector": "has(b)"},
    "ports": [1, "2:3", "http"],
}
RULE = {
    "action": "Allow",
    "protocol": "TCP",
    "ipVersion": 4,
    "notProtocol": 17,
    "notICMP": {"type": 1, "code": 2},
    "source": ENTITY,
    "destination": {"notPorts": [7]},
    "http": {"methods": ["GET"], "paths": [{"exact": "/"}, {"prefix": "/a"}]},
    "metadata": {"annotations": {"a": "b"}},
}
PODS = {"pods": {"namespaceSelector": SELECTOR, "podSelector": SELECTOR}}
WHOLE: list[dict[str, Any]] = [
    make(
        "NetworkPolicy",
        "a",
        {
            "podSelector": SELECTOR,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [{"podSelector": SELECTOR, "namespaceSelector": SELECTOR}], "ports": [{"port": "http"}]}
            ],
            "egress": [
                {
                    "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                    "ports": [{"port": 1, "endPort": 2, "protocol": "UDP"}],
                }
            ],
        },
        "networking.k8s.io/v1",
        "n",
    ),
    make("StagedKubernetesNetworkPolicy", "a", {"stagedAction": "Set", "podSelector": SELECTOR}, API, "n"),
    make(
        "GlobalNetworkPolicy",
        "a",
        {
            "tier": "ops",
            "order": 1.5,
            "selector": "has(a)",
            "namespaceSelector": "has(b)",
            "serviceAccountSelector": "has(c)",
            "types": ["Ingress", "Egress"],
            "applyOnForward": True,
            "doNotTrack": False,
            "preDNAT": False,
            "performanceHints": ["AssumeNeededOnEveryNode"],
            "ingress": [RULE],
            "egress": [{"action": "Pass", "destination": {"services": {"name": "a", "namespace": "b"}}}],
        },
        STORED,
    ),
    make(
        "StagedNetworkPolicy",
        "a",
        {"stagedAction": "Set", "ingress": [{"action": "Deny", "protocol": "ICMP", "icmp": {"type": 8}}]},
        API,
        "n",
    ),
    make("Tier", "ops", {"order": 5, "defaultAction": "Pass"}),
    make("NetworkSet", "a", {"nets": ["10.0.0.0/8", "192.0.2.1"]}, API, "n"),
    make("Profile", "kns.a", {"ingress": [RULE], "labelsToApply": {"a": "b"}}),
    make(
        "HostEndpoint",
        "a",
        {
            "node": "n",
            "interfaceName": "*",
            "expectedIPs": ["192.0.2.1"],
            "profiles": ["p"],
            "ports": [{"name": "a", "port": 1, "protocol": "TCP"}],
        },
    ),
    make(
        "AdminNetworkPolicy",
        "a",
        {
            "priority": 5,
            "subject": PODS,
            "ingress": [
                {
                    "name": "x",
                    "action": "Deny",
                    "from": [PODS],
                    "ports": [{"namedPort": "http"}, {"portNumber": {"port": 1, "protocol": "UDP"}}],
                }
            ],
            "egress": [
                {
                    "action": "Allow",
                    "to": [{"nodes": SELECTOR}, {"networks": ["10.0.0.0/8"]}, {"domainNames": ["a.example"]}],
                    "ports": [{"portRange": {"start": 1, "end": 2}}],
                }
            ],
        },
        f"{SIG}/v1alpha1",
    ),
    make(
        "ClusterNetworkPolicy",
        "a",
        {
            "tier": "Baseline",
            "priority": 5,
            "subject": {"namespaces": SELECTOR},
            "egress": [
                {
                    "action": "Accept",
                    "to": [PODS],
                    "protocols": [
                        {"tcp": {"destinationPort": {"range": {"start": 1, "end": 2}}}},
                        {"destinationNamedPort": "a"},
                    ],
                }
            ],
        },
        f"{SIG}/v1beta1",
    ),
]


def test_the_documents_to_spoil_are_whole() -> None:
    reading = from_data(*WHOLE)
    assert [item.code for item in reading.problems] == ["policies/domain-names"]
    found = reading.policies
    assert [len(part) for part in (found.policies, found.sets, found.profiles, found.hosts)] == [6, 1, 1, 1]


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


SPOTS = [(number, path) for number, whole in enumerate(WHOLE) for path in places(whole["spec"], ("spec",))]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "global()", "all()", "has(", "10.0.0.1/8", "::/0", "0", "-1", "1:2", "Allow", "TCP", "\x00", "é"]
    ),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=3)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=5,
    ),
)


@given(st.sampled_from(SPOTS), VALUES, st.sampled_from(["replace", "remove", "rename", "twice"]))
def test_a_spoiled_document_is_read_or_complained_of(
    spot: tuple[int, tuple[str | int, ...]], value: Any, how: str
) -> None:
    """Never an exception, and never a policy less without an error that names it."""
    number, path = spot
    data = copy.deepcopy(WHOLE[number])
    holder: Any = data
    for step in path[:-1]:
        holder = holder[step]
    last: Any = path[-1]
    if how == "replace":
        holder[last] = value
    elif how == "remove":
        del holder[last]
    elif isinstance(holder, dict):
        holder[str(value) if how == "rename" else f"{last}s"] = holder.pop(last)
    else:
        holder.append(value)
    found, problems = policy_of(manifest_of(data))
    assert found is not None or problems
    for problem in problems:
        assert problem.message.startswith(f"{data['kind']} ")
        assert problem.message.isprintable()
    if found is not None:
        hash(found)
        assert all(problem.severity is not Severity.ERROR for problem in problems)
        assert policy_of(manifest_of(data))[0] == found


@pytest.mark.parametrize("field", ["podSelector", "ingress"])
def test_a_document_without_a_bottom_is_an_error(field: str) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    spec = {field: {"matchLabels": deep} if field == "podSelector" else [{"from": deep}]}
    reading = from_data(make("NetworkPolicy", "a", spec, "networking.k8s.io/v1", "n"))
    assert [item.code for item in reading.problems] == ["policies/bad-value"]
    while deep:  # taken apart by hand: letting go of it all at once would recurse
        deep = deep.pop()


@pytest.mark.parametrize("whole", WHOLE, ids=lambda item: str(item["kind"]))
def test_what_is_written_as_json_reads_the_same(whole: dict[str, Any]) -> None:
    assert policy_of(manifest_of(json.loads(json.dumps(whole)))) == policy_of(manifest_of(whole))
