from support.access_values import elevated, profile
from support.builders import cluster, inputs, service, team

from pilothouse.access import derive, names, rbac
from pilothouse.artifacts.write import serialise
from pilothouse.labels import ownership
from pilothouse.platform.model import ApiServerPeer, Edge, RbacRule, Scope, Secret

SERVICES = (service("payments/api"),)


def documents(profiles, services=SERVICES, **fields):
    return derive(inputs(services, profiles={p.name: p for p in profiles}, **fields)).artifacts


def test_a_profile_of_team_namespaces_is_bound_once_per_team_and_namespace():
    services = (
        service("payments/api"),
        service("ledger/book", team="payments"),
        service("cards/api", team="cards"),
        service("lab/api", team="lab", clusters=frozenset(("test",))),
    )
    found = documents([profile()], services)["rbac/developer.yaml"].data
    assert [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in found] == [
        ("ClusterRole", None, "ph:developer"),
        ("RoleBinding", "cards", "ph:developer:cards"),
        ("RoleBinding", "ledger", "ph:developer:payments"),
        ("RoleBinding", "payments", "ph:developer:payments"),
    ]
    assert found[0]["rules"] == [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]}
    ]
    assert found[2]["subjects"] == [
        {"kind": "Group", "name": "ph:developer:payments", "apiGroup": "rbac.authorization.k8s.io"}
    ]
    for manifest in found:
        assert ownership("dev").items() <= manifest["metadata"]["labels"].items()


def test_an_elevated_profile_binds_its_own_group_to_the_role_that_was_approved_beforehand():
    (binding,) = documents([elevated()])["rbac/cluster-admin.yaml"].data
    assert binding["kind"] == "ClusterRoleBinding"
    assert binding["subjects"][0]["name"] == "ph:elevated:cluster-admin"
    assert binding["roleRef"]["name"] == "cluster-admin"


def test_a_profile_of_named_namespaces():
    rules = (RbacRule(non_resource_urls=("/metrics",), verbs=("get",)), RbacRule((), ("pods",), ("get",), ("web-1",)))
    found = documents([profile(scope=Scope.NAMESPACES, namespaces=("b", "a", "a"), rules=rules)])
    role, first, second = found["rbac/developer.yaml"].data
    assert role["rules"] == [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["web-1"], "verbs": ["get"]},
    ]
    assert [first["metadata"]["namespace"], second["metadata"]["namespace"]] == ["a", "b"]


def test_a_profile_of_other_clusters_is_left_out():
    assert "rbac/developer.yaml" not in documents([profile(clusters=frozenset(("prod",)))])
    bound_nowhere = profile(cluster_role="view")
    assert "rbac/developer.yaml" not in documents([bound_nowhere], services=())


def test_accounts_for_workloads_with_secrets():
    secret = (Secret("payments/database", "/secrets/db"),)
    services = (
        service("payments/api", secrets=secret),
        service("payments/jobs", secrets=secret, egress=(Edge(ApiServerPeer()),)),
        service("payments/web"),
        service("payments/old", secrets=(Secret("payments/x", "/x", frozenset(("prod",))),)),
    )
    api, jobs = documents([], services)["accounts/payments.yaml"].data
    assert api["metadata"]["name"] == "api"
    assert api["automountServiceAccountToken"] is False
    assert api["metadata"]["labels"]["pilothouse.dev/team"] == "payments"
    assert jobs["metadata"]["name"] == "jobs"
    assert jobs["automountServiceAccountToken"] is True


def test_a_shared_account_is_written_once_and_belongs_to_no_single_team():
    secret = (Secret("payments/database", "/secrets/db"),)
    services = (
        service("payments/api", secrets=secret, service_account="app"),
        service("payments/web", secrets=secret, service_account="app", team="web"),
    )
    (account,) = documents([], services)["accounts/payments.yaml"].data
    assert "pilothouse.dev/team" not in account["metadata"]["labels"]


def test_group_names_can_be_taken_apart_again():
    for name in (
        names.GroupName("developer"),
        names.GroupName("developer", "payments"),
        names.GroupName("admin", elevated=True),
        names.GroupName("admin", "payments", True),
        names.GroupName("", elevated=True, request="g-x7k2m9qa"),
    ):
        assert names.GroupName.parse(str(name)) == name
    for other in (
        "developers",
        "ph:",
        "ph:a:b:c",
        "ph:a:",
        "ph:elevated",
        "ph:elevated:a:b:c",
        "ph:elev",
        "ph:elev:a:b",
        "ph:elev:a",
    ):
        assert names.GroupName.parse(other) is None
    assert names.groups_for(profile(), ("b", "a", "a")) == ("ph:developer:a", "ph:developer:b")
    assert names.groups_for(elevated(), ("a",)) == ("ph:elevated:cluster-admin",)


def test_the_source_of_a_profile_stands_in_its_objects():
    from pilothouse.problems import Place

    given = profile(place=Place("secrets/profiles/developer.yaml", 3, 1))
    role = next(rbac.of_profile(given, inputs([service("a/b")]).platform, cluster()))
    assert role["metadata"]["annotations"] == {"pilothouse.dev/source": "secrets/profiles/developer.yaml"}


def test_deriving_twice_gives_the_same_bytes():
    given = inputs(
        [service("payments/api", secrets=(Secret("payments/db", "/s"),))],
        profiles={"developer": profile()},
        teams=[team("payments")],
    )
    once, twice = ([serialise(d) for d in derive(given).artifacts] for _ in range(2))
    assert once == twice
