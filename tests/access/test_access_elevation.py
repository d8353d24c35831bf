"""The binding of one request, the worker's rights, and the fence, as they are rendered."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from support.access_values import NOW, elevated, profile
from support.builders import cluster, inputs, service

from pilothouse.access import derive, elevation, fence, grants
from pilothouse.access.can_i import Identity, can_i, question
from pilothouse.access.elevation import Verdict
from pilothouse.inputs import Inputs
from pilothouse.platform.model import AccessProfile, Elevation, Endpoint, Scope, Servers, Versions
from pilothouse.problems import Invalid

ACCOUNT = "system:serviceaccount:pilothouse:pilothouse"
SERVERS = Servers(kubernetes=Endpoint("https://api.dev.bank.example:6443", "/etc/pilothouse/dev/token", ""))
REPAIR = elevated("repair", cluster_role="", scope=Scope.TEAM_NAMESPACES)


def given(*profiles: AccessProfile, **fields: Any) -> Inputs:
    values = {"elevation": Elevation(ACCOUNT), "servers": SERVERS, **fields}
    made: Inputs = inputs([service("payments/api")], profiles={item.name: item for item in profiles})
    return dataclasses.replace(made, cluster=dataclasses.replace(made.cluster, **values))


def rendered(found: Inputs) -> list[dict[str, Any]]:
    return [dict(item) for item in derive(found).artifacts.under("rbac/").manifests()]


def codes(found: Inputs) -> list[str]:
    return [item.code for item in derive(found).problems]


def named(manifests: list[dict[str, Any]], kind: str) -> list[str]:
    return [item["metadata"]["name"] for item in manifests if item["kind"] == kind]


def test_where_the_worker_binds_no_binding_of_an_elevated_profile_stands() -> None:
    found = given(elevated(), REPAIR, profile())
    assert codes(found) == []
    manifests = rendered(found)
    names = {item["metadata"]["name"] for item in manifests if item["kind"].endswith("Binding")}
    assert not any(name.startswith("ph:elev") for name in names)
    assert "ph:elevated:repair" in named(manifests, "ClusterRole")
    without = rendered(given(elevated(), elevation=Elevation()))
    assert named(without, "ClusterRoleBinding") == ["ph:elevated:cluster-admin"]


def test_the_worker_may_bind_the_roles_of_elevated_profiles_where_they_hold_and_nothing_else() -> None:
    manifests = rendered(given(elevated(), REPAIR, profile()))
    worker = Identity(ACCOUNT)
    rbac = "rbac.authorization.k8s.io"

    def may(verb: str, what: str, namespace: str = "", name: str = "") -> bool:
        return can_i(worker, question(verb, what, namespace, name), manifests).allowed

    assert may("create", f"clusterrolebindings.{rbac}")
    assert may("create", f"rolebindings.{rbac}", "payments")
    assert not may("create", f"rolebindings.{rbac}", "kube-system")
    assert may("bind", f"clusterroles.{rbac}", name="cluster-admin")
    assert may("bind", f"clusterroles.{rbac}", "payments", "ph:elevated:repair")
    assert not may("bind", f"clusterroles.{rbac}", name="ph:elevated:repair")
    assert not may("bind", f"clusterroles.{rbac}", name="admin")
    for verb in ("update", "patch", "escalate", "impersonate", "deletecollection"):
        assert not may(verb, f"clusterrolebindings.{rbac}")
    assert not may("escalate", f"clusterroles.{rbac}", name="cluster-admin")
    assert not may("create", f"clusterrolebindings.{rbac}") or may("delete", f"clusterrolebindings.{rbac}")


def test_without_a_profile_for_the_whole_cluster_the_worker_creates_nothing_for_it() -> None:
    manifests = rendered(given(REPAIR))
    wide = question("create", "clusterrolebindings.rbac.authorization.k8s.io")
    assert not can_i(Identity(ACCOUNT), wide, manifests)


def test_the_fence_names_account_roles_and_places() -> None:
    manifests = rendered(given(elevated(), REPAIR))
    (policy,) = [item for item in manifests if item["kind"] == "ValidatingAdmissionPolicy"]
    assert ACCOUNT in policy["spec"]["matchConditions"][0]["expression"]
    text = " ".join(item["expression"] for item in policy["spec"]["validations"])
    assert '["payments"]' in text
    assert '== "cluster-admin"' in text
    assert "duration('3660s')" in text
    (bound,) = [item for item in manifests if item["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert bound["spec"] == {"policyName": "pilothouse-elevation", "validationActions": ["Deny"]}
    nothing = rendered(given(profile()))
    (policy,) = [item for item in nothing if item["kind"] == "ValidatingAdmissionPolicy"]
    assert "(false)" in policy["spec"]["validations"][4]["expression"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"versions": Versions(kubernetes="1.29")}, "access/no-admission-policy"),
        ({"servers": Servers()}, "access/elevation-account"),
        ({"elevation": Elevation("system:kube-controller-manager")}, "access/elevation-account"),
        ({"elevation": Elevation("system:serviceaccount:pilothouse")}, "access/elevation-account"),
    ],
)
def test_what_keeps_it_from_working_is_a_problem(fields: dict[str, Any], code: str) -> None:
    assert codes(given(elevated(), **fields)) == [code]


def test_an_old_cluster_gets_no_policy_and_the_same_rights() -> None:
    manifests = rendered(given(elevated(), versions=Versions(kubernetes="1.29")))
    assert not [item for item in manifests if item["kind"].startswith("Validating")]
    assert "pilothouse:elevation:cluster" in named(manifests, "ClusterRole")


def test_a_user_that_is_no_service_account_is_bound_as_one() -> None:
    manifests = rendered(given(elevated(), elevation=Elevation("pilothouse@bank.example")))
    (bound,) = [item for item in manifests if item["metadata"]["name"] == "pilothouse:elevation" and "roleRef" in item]
    assert (bound["subjects"][0]["kind"], bound["subjects"][0]["name"]) == ("User", "pilothouse@bank.example")


# ---------------------------------------------------------------- what is found


def asked(ticket: str, wanted: str = "") -> grants.Grant:
    profile = elevated(ticket=wanted)
    return grants.request("g-1", "olga", profile, "dev", "repair the node", 1800, NOW, ticket)


def test_a_ticket_stands_beside_the_reason() -> None:
    assert asked(" PLAT-4711 ").what_for == "PLAT-4711: repair the node"
    assert asked("PLAT-4711", "PLAT-[0-9]+").ticket == "PLAT-4711"
    assert asked("").what_for == "repair the node"
    approved = grants.approve(asked("PLAT-4711"), "pat", "", NOW)
    assert "Reason: PLAT-4711: repair the node" in grants.told(approved, "pat", "approved")[1]


@pytest.mark.parametrize(
    ("ticket", "wanted", "says"),
    [
        ("", "PLAT-[0-9]+", "cluster-admin wants a ticket"),
        ("PLAT-", "PLAT-[0-9]+", "`PLAT-` is no ticket for cluster-admin"),
        ("see PLAT-1", "PLAT-[0-9]+", "is no ticket"),
        ("PLAT-1\nforged", "", "on one line"),
        ("x" * 101, "", "at most 100 characters"),
    ],
)
def test_a_ticket_that_does_not_do(ticket: str, wanted: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as caught:
        asked(ticket, wanted)
    assert caught.value.hint


def claimed() -> grants.Grant:
    asked = grants.request("g-1", "olga", elevated(), "dev", "repair the node", 1800, NOW)
    return grants.claim(grants.approve(asked, "pat", "", NOW), "4711", NOW)


def found_binding(**fields: Any) -> dict[str, Any]:
    return elevation.binding("g-1", "olga", "2026-11-21T12:30:00Z", elevated(), "dev") | fields


def verdict(found: dict[str, Any], grant: grants.Grant | None, minutes: float = 10, name: str = "dev") -> Verdict:
    platform = given(elevated()).platform
    now = NOW + timedelta(minutes=minutes)
    return elevation.judge(found, grant, platform.profiles["cluster-admin"], platform, name, now).verdict


def test_a_binding_is_judged_by_itself_and_by_its_request() -> None:
    assert cluster("dev").name == "dev"
    assert verdict(found_binding(), claimed()) is Verdict.STANDS
    assert verdict(found_binding(), claimed(), minutes=30) is Verdict.EXPIRED
    assert verdict(found_binding(), None) is Verdict.UNKNOWN
    assert verdict(found_binding(), claimed(), name="prod") is Verdict.UNKNOWN
    assert verdict(found_binding(), grants.give_back(claimed(), NOW)) is Verdict.ENDED
    assert verdict(found_binding(roleRef={"kind": "ClusterRole", "name": "admin"}), claimed()) is Verdict.CHANGED
    assert verdict(found_binding(subjects=[]), claimed()) is Verdict.CHANGED
    stripped = found_binding()
    stripped["metadata"] = {"name": "ph:elev:g-1"}
    assert elevation.is_one(stripped)
    assert verdict(stripped, claimed()) is Verdict.CHANGED
    assert verdict(stripped, claimed(), minutes=30) is Verdict.ENDED  # by its request, where it says no end itself
    longer = found_binding()
    longer["metadata"]["annotations"][elevation.EXPIRES_ANNOTATION] = "2026-11-22T12:30:00Z"
    assert verdict(longer, claimed()) is Verdict.CHANGED
    elsewhere = found_binding(kind="RoleBinding")
    elsewhere["metadata"]["namespace"] = "payments"
    assert verdict(elsewhere, claimed()) is Verdict.CHANGED


def test_a_request_whose_profile_is_declared_no_more_ends_by_itself() -> None:
    platform = given().platform
    judged = elevation.judge(found_binding(), claimed(), None, platform, "dev", NOW + timedelta(minutes=1))
    assert not judged.goes


@pytest.mark.parametrize("said", ["", "never", "2026-11-21T12:30:00"])
def test_an_end_that_is_no_moment_is_none(said: str) -> None:
    found = found_binding()
    found["metadata"]["annotations"][elevation.EXPIRES_ANNOTATION] = said
    assert elevation.expiry_of(found) is None
    assert fence.has_policies(cluster("dev"))
