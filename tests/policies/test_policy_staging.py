"""Staged first: what an apply finds in the cluster decides whether a namespace is enforced now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support import builders as make

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Enforcement
from pilothouse.policies.derive import derive
from pilothouse.policies.manifests import staged
from pilothouse.policies.staging import Staging, as_applied, as_data, staged_first
from pilothouse.problems import NOWHERE, Severity

Manifest = dict[str, Any]
V3 = "projectcalico.org/v3"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = 86_400


def inputs(calico: str = V3, staged_for: int = DAY) -> Inputs:
    """Two namespaces that are to be enforced, and one where nothing runs yet."""
    services = [make.service("shop/web"), make.service("desk/app"), make.service("void/later")]
    pods = [make.pod("shop/web.1", ips=("10.40.0.1",)), make.pod("desk/app.1", ips=("10.40.0.2",))]
    on = make.cluster(calico_api=calico, enforcement=Enforcement.ENFORCED, staged_for=staged_for)
    return make.inputs(services, pods=pods, on=on)


def rendered(given: Inputs) -> list[Manifest]:
    return [dict(item) for item in derive(given).artifacts.under("policies/").manifests()]


def decided(given: Inputs, present: Iterable[Manifest] = (), **options: Any) -> Staging:
    return staged_first(rendered(given), present, given.cluster, given.snapshot, NOW, **options)


def standing(given: Inputs, namespace: str, age: timedelta, form: bool = True) -> list[Manifest]:
    """The policies of a namespace as they stand since then, staged or enforced."""
    made = (NOW - age).isoformat().replace("+00:00", "Z")
    items = [item for item in rendered(given) if item["metadata"].get("namespace") == namespace]
    found = [staged(item, given.cluster.calico_api) if form else item for item in items]
    return [{**item, "metadata": {**item["metadata"], "creationTimestamp": made}} for item in found]


def kinds(found: Staging, namespace: str) -> set[str]:
    return {item["kind"] for item in found.manifests if item["metadata"].get("namespace") == namespace}


STAGED, ENFORCED = {"StagedKubernetesNetworkPolicy"}, {"NetworkPolicy"}


def test_what_is_open_is_staged_and_what_is_empty_is_enforced() -> None:
    found = decided(inputs())
    assert [item.namespace for item in found.waiting] == ["desk", "shop"]
    assert (kinds(found, "shop"), kinds(found, "desk"), kinds(found, "void")) == (STAGED, STAGED, ENFORCED)
    assert found.begins == ("void",)
    said = found.waiting[1].problem("dev", NOWHERE)
    assert (said.code, said.severity) == ("policies/staged-first", Severity.WARNING)
    assert said.message == (
        "namespace shop is declared enforced and is staged on dev for now: its policies are staged first"
    )
    assert "--enforce shop" in said.hint


@pytest.mark.parametrize(("calico", "staged_for"), [("", DAY), (V3, 0)])
def test_nothing_waits_without_calico_or_where_nobody_asked(calico: str, staged_for: int) -> None:
    given = inputs(calico, staged_for)
    found = decided(given)
    assert (found.waiting, found.begins) == ((), ("desk", "shop", "void"))
    assert list(found.manifests) == rendered(given)


@pytest.mark.parametrize(("age", "mode"), [(timedelta(hours=23), STAGED), (timedelta(hours=24), ENFORCED)])
def test_it_is_enforced_once_its_staged_form_has_stood_long_enough(age: timedelta, mode: set[str]) -> None:
    given = inputs()
    found = decided(given, standing(given, "shop", age))
    assert kinds(found, "shop") == mode
    assert ("shop" in found.begins) == (mode == ENFORCED)
    assert kinds(found, "desk") == STAGED
    if mode == STAGED:
        (waiting,) = (item for item in found.waiting if item.namespace == "shop")
        assert waiting.why == "its policies are staged until 2026-11-21 13:00 UTC"


def test_what_is_enforced_stays_so() -> None:
    given = inputs()
    found = decided(given, standing(given, "shop", timedelta(0), form=False))
    assert kinds(found, "shop") == ENFORCED
    assert "shop" not in found.begins


def test_policies_of_another_cluster_or_of_nobody_do_not_count() -> None:
    given = inputs()
    for labels in ({}, {"app.kubernetes.io/managed-by": "pilothouse", "pilothouse.dev/cluster": "other"}):
        others = [
            {**item, "metadata": {**item["metadata"], "labels": labels}}
            for item in standing(given, "shop", timedelta(days=9), form=False)
        ]
        assert kinds(decided(given, others), "shop") == STAGED


def test_named_namespaces_do_not_wait() -> None:
    found = decided(inputs(), released=["shop"])
    assert (kinds(found, "shop"), kinds(found, "desk")) == (ENFORCED, STAGED)
    assert found.begins == ("shop", "void")


@pytest.mark.parametrize("staged_for", [0, DAY])
def test_what_was_seen_and_would_be_denied_keeps_it_staged(staged_for: int) -> None:
    given = inputs(staged_for=staged_for)
    found = decided(given, standing(given, "shop", timedelta(days=9)), denied={"shop": "2 connections"})
    (waiting,) = (item for item in found.waiting if item.namespace == "shop")
    assert waiting.why == "observed flows would be denied: 2 connections"
    assert kinds(found, "shop") == STAGED
    assert kinds(decided(given, denied={"shop": "2 connections"}, released=["shop"]), "shop") == ENFORCED


def test_only_policies_that_count_are_staged() -> None:
    """Sets, and what is no policy at all, go as they are."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": "shop"}}
    given = inputs()
    found = staged_first([account, *rendered(given)], (), given.cluster, given.snapshot, NOW)
    assert found.manifests[0] == account
    was = {(item["metadata"].get("namespace"), item["metadata"]["name"]) for item in rendered(given)}
    assert {(key.namespace, key.name) for key in map(ObjectKey.of, found.manifests[1:])} == was


def test_what_an_apply_would_leave_by_the_snapshot() -> None:
    given = inputs()
    assert {item["kind"] for item in as_applied(given, rendered(given), NOW)} == STAGED | ENFORCED
    later = replace(given, cluster=replace(given.cluster, staged_for=0))
    assert list(as_applied(later, rendered(later), NOW)) == rendered(later)


def test_as_data() -> None:
    given = inputs()
    data = as_data(decided(given, standing(given, "shop", timedelta(hours=1))))
    assert data["begins"] == ["void"]
    assert data["waiting"][0] == {
        "namespace": "desk",
        "since": None,
        "until": None,
        "reason": "its policies are staged first",
    }
    assert data["waiting"][1]["until"] == "2026-11-22T11:00:00+00:00"
