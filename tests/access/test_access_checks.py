import dataclasses

import pytest
from support.access_values import elevated, profile
from support.builders import cluster, inputs, service

from pilothouse.access import derive
from pilothouse.inventory.model import Manifest, Namespace
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.platform.model import RbacRule, Scope, Secret
from pilothouse.problems import Severity


def codes(*profiles):
    given = inputs([service("payments/api")], profiles={p.name: p for p in profiles})
    return [p.code for p in derive(given).problems]


def rules(*items):
    return tuple(RbacRule(*item) for item in items)


def test_profiles_without_mistakes_have_no_problems():
    assert codes(profile(), elevated()) == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (profile("elevated"), "access/reserved-name"),
        (profile("elev"), "access/reserved-name"),
        (profile(groups=("system:masters",)), "access/system-group"),
        (elevated(approver_groups=("system:admins",)), "access/system-group"),
        (profile(rules=()), "access/empty-profile"),
        (elevated(rules=rules((("",), ("pods",), ("get",)))), "access/rules-and-role"),
        (profile(max_lifetime=17 * 3600), "access/lifetime"),
        (profile(lifetime=3600, max_lifetime=1800), "access/lifetime"),
        (profile(lifetime=60), "access/lifetime"),
        (elevated(max_lifetime=7200), "access/lifetime"),
        (profile(renewal=60), "access/lifetime"),
        (profile(renewal=16 * 3600), "access/lifetime"),
        (elevated(renewal=900), "access/lifetime"),
        (elevated(approver_groups=()), "access/no-approvers"),
        (profile(approval=True, approver_groups=("leads",)), "access/approval-not-elevated"),
        (profile(rules=rules((("rbac.authorization.k8s.io",), ("roles",), ("escalate",)))), "access/escalation"),
        (profile(rules=rules((("",), ("users",), ("impersonate",)))), "access/escalation"),
        (profile(rules=rules((("rbac.authorization.k8s.io",), ("roles",), ("bind",)))), "access/escalation"),
        (profile(rules=rules((("rbac.authorization.k8s.io",), ("roles",), ("create",)))), "access/escalation"),
        (profile(rules=rules((("*",), ("roles",), ("patch",)))), "access/escalation"),
        (profile(rules=rules((("",), ("serviceaccounts/token",), ("create",)))), "access/escalation"),
        (profile(rules=rules((("",), ("*",), ("get",)))), "access/wildcard"),
        (profile(rules=rules((("",), ("pods",), ("*",)))), "access/wildcard"),
        (profile(rules=rules((("",), ("secrets",), ("get",)))), "access/reads-secrets"),
        (profile(rules=(RbacRule(verbs=("get",), non_resource_urls=("/healthz",)),)), "access/needs-cluster-scope"),
        (profile(rules=rules((("",), ("nodes",), ("get",)))), "access/needs-cluster-scope"),
        (profile(cluster_role="system:node"), "access/system-role"),
        (profile(cluster_role="admin"), "access/standing-admin"),
        (profile(scope=Scope.NAMESPACES), "access/no-namespaces"),
        (profile(namespaces=("payments",)), "access/no-namespaces"),
        (profile(scope=Scope.NAMESPACES, namespaces=("nowhere",)), "access/unknown-namespace"),
    ],
)
def test_each_mistake_of_a_profile_is_found(given, code):
    assert codes(given) == [code]


def test_what_elevated_profiles_may_give():
    everything = rules((("*",), ("*",), ("*",)))
    assert codes(elevated(cluster_role="", rules=everything)) == []
    assert codes(elevated(cluster_role="", rules=rules((("",), ("serviceaccounts/token",), ("create",))))) == []


def test_bind_is_allowed_for_named_roles():
    bind = RbacRule(("rbac.authorization.k8s.io",), ("clusterroles",), ("bind",), ("view",))
    assert codes(elevated(cluster_role="", rules=(bind,))) == []


def test_profiles_of_other_clusters_are_not_looked_at():
    assert codes(profile(rules=(), clusters=frozenset(("prod",)))) == []


def _role(name, **labels):
    data = {"kind": "ClusterRole", "metadata": {"name": name, "labels": labels}}
    return Manifest("ClusterRole", "rbac.authorization.k8s.io/v1", "", name, data)


def test_a_role_that_the_cluster_does_not_have():
    given = inputs([service("payments/api")], profiles={"developer": profile(cluster_role="veiw")})
    owned = _role("veiw", **{"app.kubernetes.io/managed-by": "pilothouse"})
    snapshot = dataclasses.replace(given.snapshot, rbac=(_role("view"), owned))
    (found,) = derive(dataclasses.replace(given, snapshot=snapshot)).problems
    assert found.code == "access/unknown-cluster-role"
    assert found.hint == "did you mean `view`?"
    assert found.severity is Severity.WARNING


def test_a_namespace_of_the_snapshot_is_known():
    given = inputs([], profiles={"developer": profile(scope=Scope.NAMESPACES, namespaces=("tools",))})
    snapshot = dataclasses.replace(given.snapshot, namespaces=(Namespace("tools", {NAMESPACE_NAME_LABEL: "tools"}),))
    assert derive(dataclasses.replace(given, snapshot=snapshot)).problems == ()


def test_mistakes_of_workload_secrets():
    def secret(path):
        return (Secret(path, "/s"),)

    services = (
        service("payments/api", secrets=secret("payments/db"), service_account="default"),
        service("cards/a", team="cards", secrets=secret("payments/db"), service_account="x"),
        service("cards/b", team="cards", service_account="x"),
        service("cards/c", team="cards", secrets=secret("shared"), service_account="c"),
        service("cards/d", team="cards", service_account="default"),
        service("tools/a", team="tools", service_account="z"),
        service("tools/b", team="tools", service_account="z"),
    )
    found = derive(inputs(services)).problems
    assert sorted(p.code for p in found) == ["access/default-account", "access/foreign-secret", "access/shared-account"]
    foreign = next(p for p in found if p.code == "access/foreign-secret")
    assert foreign.teams == ("cards", "payments")


def test_clusters_share_no_pki_mount():
    from pilothouse.platform.authority import Authority

    both = [cluster(name, authority=Authority(mount="pki")) for name in ("dev", "prod")]
    from support.builders import platform

    given = inputs([], on=both[1], platform=platform([], clusters=both))
    assert [p.code for p in derive(given).problems] == ["access/shared-mount"]
    assert derive(inputs([], on=both[0], platform=platform([], clusters=both))).problems == ()


def test_vault_as_authority_needs_the_accessor_of_its_directory():
    from pilothouse.platform.authority import Authority

    (found,) = derive(inputs([], on=cluster(authority=Authority("vault")))).problems
    assert found.code == "access/ldap-accessor-missing"
    assert found.place.path == "secrets/vault/settings.yaml"
    assert found.place.excerpt.strip().startswith("accessors:")
