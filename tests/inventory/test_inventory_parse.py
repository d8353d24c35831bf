"""Objects turned into a snapshot: forms of lists, versions, kinds, owners, templates."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.inventory.model import Manifest, Owner, Snapshot
from pilothouse.inventory.parse import KNOWN, at, parse
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.problems import Place, Problems, Severity
from pilothouse.source import Source, load

HERE = Place("cluster.json")


def read(*objects: Any) -> tuple[Snapshot, Problems]:
    return parse(((item, at(HERE)) for item in objects), source="test")


def make(kind: str, name: str, namespace: str = "shop", api_version: str = "v1", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def deployment(name: str = "web", kind: str = "Deployment", **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"serviceAccountName": "runner", "containers": [{"name": "main", "ports": [{"containerPort": 80}]}]},
    }
    return make(
        kind,
        name,
        api_version="apps/v1",
        spec={"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    )


# ---------------------------------------------------------------- lists


def test_lists_nest_however_they_like() -> None:
    one, two, three = (make("ServiceAccount", name) for name in ("one", "two", "three"))
    inner = {"apiVersion": "v1", "kind": "List", "items": [two, [three]]}
    snapshot, problems = read([{"apiVersion": "v1", "kind": "List", "items": [one, inner]}])
    assert snapshot.accounts == (("shop", "one"), ("shop", "three"), ("shop", "two"))
    assert problems == ()


def test_items_of_a_typed_list_take_the_lists_kind() -> None:
    item = {"metadata": {"name": "web-1", "namespace": "shop"}, "spec": {"containers": [{"name": "main"}]}}
    snapshot, problems = read({"apiVersion": "v1", "kind": "PodList", "items": [item]})
    assert [pod.key for pod in snapshot.pods] == ["shop/web-1"]
    assert problems == ()


def test_nothing_and_null_documents_are_nothing() -> None:
    snapshot, problems = read(None, [], {"apiVersion": "v1", "kind": "List", "items": []})
    assert snapshot.is_empty
    assert problems == ()


@pytest.mark.parametrize("item", ["text", 7, {"metadata": {}}, {"kind": "Pod"}, {"apiVersion": "v1"}])
def test_what_is_no_object_is_a_problem(item: Any) -> None:
    _, problems = read(item)
    assert [p.code for p in problems] == ["inventory/malformed-object"]
    assert "kubectl get -o json" in problems[0].hint


def test_lists_that_never_end_are_a_problem_and_no_crash() -> None:
    item: Any = make("Pod", "web")
    for _ in range(30):
        item = [item]
    snapshot, problems = read(item)
    assert snapshot.pods == ()
    assert [p.code for p in problems] == ["inventory/malformed-object"]


# ---------------------------------------------------------------- versions and kinds


def test_a_newer_api_is_an_error_that_counts_the_objects() -> None:
    snapshot, problems = read(*(make("Pod", f"web-{n}", api_version="v2") for n in range(3)), make("Pod", "old"))
    assert [pod.name for pod in snapshot.pods] == ["old"]
    assert [(p.code, p.severity) for p in problems] == [("inventory/newer-api", Severity.ERROR)]
    assert "3 objects of kind Pod in version v2" in problems[0].message
    assert "v1" in problems[0].hint


@pytest.mark.parametrize(
    ("kind", "api_version", "code"),
    [
        ("Ingress", "networking.k8s.io/v1beta1", "inventory/older-api"),
        ("Ingress", "extensions/v1beta1", "inventory/older-api"),
        ("Role", "rbac.authorization.k8s.io/v1alpha1", "inventory/older-api"),
        ("CronJob", "batch/v2alpha1", "inventory/older-api"),
        ("CronJob", "batch/v2", "inventory/newer-api"),
        ("EndpointSlice", "discovery.k8s.io/v2", "inventory/newer-api"),
        ("GlobalNetworkPolicy", "projectcalico.org/v4", "inventory/newer-api"),
        ("Deployment", "apps/someday", "inventory/newer-api"),
        ("AdminNetworkPolicy", "policy.networking.k8s.io/v1alpha2", "inventory/newer-api"),
        ("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha1", "inventory/older-api"),
    ],
)
def test_versions_are_newer_or_older(kind: str, api_version: str, code: str) -> None:
    _, problems = read(make(kind, "x", api_version=api_version))
    assert [p.code for p in problems] == [code]


def test_other_kinds_are_counted_and_foreign_groups_told_apart() -> None:
    snapshot, problems = read(
        make("ConfigMap", "a"),
        make("ConfigMap", "b"),
        make("Service", "c", api_version="serving.knative.dev/v1"),
        make("Service", "d", api_version="pilothouse.dev/v1"),
        make("Service", "e"),
    )
    assert snapshot.others == {"ConfigMap": 2, "Service.pilothouse.dev": 1, "Service.serving.knative.dev": 1}
    assert [service.name for service in snapshot.services] == ["e"]
    assert problems == ()


def test_the_same_object_twice_is_a_warning_and_the_last_counts() -> None:
    first = make("Service", "web", spec={"ports": [{"port": 80}]})
    snapshot, problems = read(first, make("Service", "web", spec={"ports": [{"port": 81}]}))
    assert [port.port for port in snapshot.services[0].ports] == [81]
    assert [(p.code, p.severity) for p in problems] == [("inventory/duplicate-object", Severity.WARNING)]
    assert problems[0].message.startswith("Service shop/web")
    assert problems[0].related == (HERE,)


def test_policies_of_kubernetes_and_calico_share_a_name_without_harm() -> None:
    snapshot, problems = read(
        make("NetworkPolicy", "allow", api_version="networking.k8s.io/v1"),
        make("NetworkPolicy", "allow", api_version="projectcalico.org/v3"),
        make("GlobalNetworkPolicy", "deny", "ignored", api_version="crd.projectcalico.org/v1"),
        make("AdminNetworkPolicy", "admin", "", api_version="policy.networking.k8s.io/v1alpha1"),
    )
    assert [(p.namespace, p.name, p.api_version) for p in snapshot.policies] == [
        ("", "admin", "policy.networking.k8s.io/v1alpha1"),
        ("", "deny", "crd.projectcalico.org/v1"),
        ("shop", "allow", "networking.k8s.io/v1"),
        ("shop", "allow", "projectcalico.org/v3"),
    ]
    assert problems == ()


@pytest.mark.parametrize("version", ["v1alpha2", "v1beta1"])
def test_both_versions_of_a_cluster_network_policy_are_kept(version: str) -> None:
    snapshot, problems = read(make("ClusterNetworkPolicy", "x", "", api_version=f"policy.networking.k8s.io/{version}"))
    assert ([p.kind for p in snapshot.policies], problems) == (["ClusterNetworkPolicy"], ())


def test_a_manifest_says_where_its_values_and_keys_stand() -> None:
    text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelector: {}\n"
    nodes, _ = load(Source("a.yaml", text))
    snapshot, _ = parse([(nodes[0].data, lambda path: nodes[0].at(*path))])
    manifest = snapshot.policies[0]
    assert str(manifest.at(("spec", "podSelector"))) == "a.yaml:5:16"
    assert manifest.place == manifest.at(())
    assert Manifest("Role", "v1", "a", "b", {}, HERE).at(("spec",)) == HERE


def test_accounts_keep_their_labels() -> None:
    plain, labelled = make("ServiceAccount", "a"), make("ServiceAccount", "b", metadata={"labels": {"x": "y"}})
    snapshot, _ = read(labelled, plain)
    assert snapshot.accounts == (("shop", "a"), ("shop", "b"))
    assert snapshot.account_labels == {("shop", "b"): {"x": "y"}}


def test_roles_bindings_and_ingresses_stay_whole() -> None:
    role = make("ClusterRole", "view", "", api_version="rbac.authorization.k8s.io/v1", rules=[{"verbs": ["get"]}])
    ingress = make("Ingress", "web", api_version="networking.k8s.io/v1", spec={"rules": []})
    snapshot, _ = read(role, ingress)
    assert snapshot.rbac[0].data is role
    assert (snapshot.rbac[0].namespace, snapshot.rbac[0].labels) == ("", {})
    assert snapshot.ingresses[0].data is ingress


def test_every_known_kind_has_versions_or_is_explained() -> None:
    assert [kind for kind, groups in KNOWN.items() if not any(groups.values())] == []


# ---------------------------------------------------------------- namespaces and nodes


def test_namespaces_carry_their_name_and_those_that_are_only_mentioned_exist() -> None:
    snapshot, _ = read(
        make("Namespace", "shop", "", metadata={"labels": {"tier": "product"}}),
        make("Pod", "a", "elsewhere"),
        make("Service", "b", ""),
    )
    assert {n.name: n.labels for n in snapshot.namespaces} == {
        "default": {NAMESPACE_NAME_LABEL: "default"},
        "elsewhere": {NAMESPACE_NAME_LABEL: "elsewhere"},
        "shop": {NAMESPACE_NAME_LABEL: "shop", "tier": "product"},
    }


def test_a_node_has_its_ips_and_ranges() -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}]}
    node = make("Node", "n1", "", spec={"podCIDR": "10.1.0.0/24"}, status=status)
    both = make("Node", "n2", "", spec={"podCIDR": "10.1.1.0/24", "podCIDRs": ["10.1.1.0/24", "fd00:1::/64"]})
    snapshot, _ = read(both, node, make("Node", "n3", ""))
    assert [(n.name, n.addresses, n.pod_cidrs) for n in snapshot.nodes] == [
        ("n1", ("10.0.0.1",), ("10.1.0.0/24",)),
        ("n2", (), ("10.1.1.0/24", "fd00:1::/64")),
        ("n3", (), ()),
    ]


# ---------------------------------------------------------------- workloads and owners


def owned(name: str, kind: str, owner: str, labels: dict[str, str] | None = None, phase: str = "Running") -> Any:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": owner, "controller": True}
    return make(
        "Pod",
        name,
        metadata={"labels": labels or {}, "ownerReferences": [{"kind": "Foreign", "name": "x"}, reference]},
        spec={"nodeName": "n1", "containers": []},
        status={"phase": phase},
    )


@pytest.mark.parametrize(
    ("kind", "owner", "labels", "root"),
    [
        ("ReplicaSet", "web-6d4cf56db6", {"pod-template-hash": "6d4cf56db6"}, Owner("Deployment", "web")),
        ("ReplicaSet", "web-6d4cf56db6", {}, Owner("ReplicaSet", "web-6d4cf56db6")),
        ("ReplicaSet", "web", {"pod-template-hash": "6d4cf56db6"}, Owner("ReplicaSet", "web")),
        ("Job", "night-29897640", {}, Owner("CronJob", "night")),
        ("Job", "migrate", {}, Owner("Job", "migrate")),
        ("StatefulSet", "db", {}, Owner("StatefulSet", "db")),
        ("Node", "n1", {}, Owner("Node", "n1")),
    ],
)
def test_owners_go_to_the_root(kind: str, owner: str, labels: dict[str, str], root: Owner) -> None:
    snapshot, _ = read(owned("p", kind, owner, labels))
    assert snapshot.pods[0].owner == root


def test_owners_that_the_snapshot_holds_are_followed_and_a_cycle_ends() -> None:
    def with_owner(data: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
        data["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
        return data

    replica_set = with_owner(deployment("web-abc", "ReplicaSet"), "Rollout", "web")
    one = with_owner(deployment("one", "ReplicaSet"), "ReplicaSet", "two")
    two = with_owner(deployment("two", "ReplicaSet"), "ReplicaSet", "one")
    snapshot, problems = read(
        replica_set, one, two, owned("p", "ReplicaSet", "web-abc"), owned("q", "ReplicaSet", "one")
    )
    assert [pod.owner for pod in snapshot.pods] == [Owner("Rollout", "web"), Owner("ReplicaSet", "two")]
    assert problems == ()


def test_a_workload_without_pods_stands_in_with_its_template() -> None:
    snapshot, problems = read(deployment())
    pod = snapshot.pods[0]
    assert problems == ()
    assert (pod.key, pod.labels, pod.service_account, pod.phase) == ("shop/web", {"app": "web"}, "runner", "Running")
    assert (pod.from_template, pod.ips, pod.owner) == (True, (), Owner("Deployment", "web"))
    assert pod.is_endpoint
    assert [port.number for port in pod.ports] == [80]


@pytest.mark.parametrize(
    "pod",
    [
        owned("web-6d4cf56db6-abcde", "ReplicaSet", "web-6d4cf56db6", {"pod-template-hash": "6d4cf56db6"}),
        make("Pod", "by-hand", metadata={"labels": {"app": "web"}}, spec={}),
    ],
)
def test_a_workload_with_pods_needs_no_stand_in(pod: Any) -> None:
    snapshot, _ = read(deployment(), pod)
    assert [p.name for p in snapshot.pods] == [pod["metadata"]["name"]]
    assert [w.name for w in snapshot.workloads] == ["web"]


def test_a_loose_pod_of_another_kind_does_not_count_for_the_workload() -> None:
    loose = make("Pod", "else", metadata={"labels": {"app": "other"}}, spec={})
    snapshot, _ = read(deployment(), loose)
    assert [p.name for p in snapshot.pods] == ["else", "web"]


def test_no_replicas_make_no_pod() -> None:
    snapshot, _ = read(deployment(replicas=0))
    assert snapshot.pods == ()
    assert snapshot.workloads[0].replicas == 0


def test_replicas_of_each_kind() -> None:
    template = {"metadata": {"labels": {"app": "j"}}, "spec": {}}
    snapshot, problems = read(
        deployment("a", replicas=4),
        deployment("b", "StatefulSet"),
        deployment("c", "DaemonSet"),
        {**deployment("d", "DaemonSet"), "status": {"desiredNumberScheduled": 7}},
        make("Job", "e", api_version="batch/v1", spec={"parallelism": 2, "template": template}),
        make("CronJob", "f", api_version="batch/v1", spec={"jobTemplate": {"spec": {"template": template}}}),
        make("Node", "n1", ""),
        make("Node", "n2", ""),
    )
    assert problems == ()
    assert {w.name: w.replicas for w in snapshot.workloads} == {"a": 4, "b": 1, "c": 2, "d": 7, "e": 2, "f": 1}
    assert [p.name for p in snapshot.pods] == ["a", "b-0", "c", "d", "e", "f"]
    assert snapshot.workloads[-1].selector.to_dict() == {"matchLabels": {"app": "j"}}


def test_expressions_select_too() -> None:
    expressions = [{"key": "app", "operator": "In", "values": ["web"]}, {"key": "x", "operator": "DoesNotExist"}]
    snapshot, problems = read(deployment(selector={"matchExpressions": expressions}))
    assert problems == ()
    assert str(snapshot.workloads[0].selector) == "app in (web),!x"


# ---------------------------------------------------------------- malformed


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (make("Pod", ""), "metadata.name"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": "web"}, "metadata"),
        (make("Pod", "p", metadata={"labels": {"version": 2}}), "metadata.labels.version"),
        (make("Pod", "p", metadata={"labels": {"version": None}}), "metadata.labels.version"),
        (make("Pod", "p", spec={"containers": {"name": "x"}}), "spec.containers"),
        (make("Pod", "p", spec={"containers": ["x"]}), "spec.containers[0]"),
        (make("Pod", "p", spec={"containers": [None]}), "spec.containers[0]"),
        (make("Pod", "p", spec={"nodeName": 7}), "spec.nodeName"),
        (make("Pod", "p", spec={"nodeName": ["n"]}), "spec.nodeName"),
        (make("Pod", "p", status={"phase": "Napping"}), "status.phase"),
        (
            make("Pod", "p", spec={"containers": [{"ports": [{"containerPort": "80"}]}]}),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            make("Pod", "p", spec={"containers": [{"ports": [{"containerPort": True}]}]}),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            make("Pod", "p", spec={"containers": [{"ports": [{"name": "http"}]}]}),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            make("Pod", "p", spec={"containers": [{"ports": [{"containerPort": 70000}]}]}),
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            make("Pod", "p", spec={"containers": [{"ports": [{"containerPort": 80, "protocol": "HTTP"}]}]}),
            "spec.containers[0].ports[0].protocol",
        ),
        (make("Service", "s", spec={"ports": [{"port": 80, "targetPort": 1.5}]}), "spec.ports[0].targetPort"),
        (make("Service", "s", spec={"ports": [{"port": 80, "protocol": "tcp"}]}), "spec.ports[0].protocol"),
        (make("Service", "s", spec={"selector": {"app": True}}), "spec.selector.app"),
        (make("Service", "s", spec={"clusterIPs": "10.0.0.1"}), "spec.clusterIPs"),
        (make("Service", "s", spec={"externalIPs": [1]}), "spec.externalIPs[0]"),
        (make("Ingress", "i", api_version="networking.k8s.io/v1", metadata={"labels": []}), "metadata.labels"),
        (make("Deployment", "d", api_version="apps/v1", spec={}), "spec.template"),
        (deployment(selector={"matchLabels": {"app": "other"}}), "spec.selector"),
        (
            deployment(selector={"matchExpressions": [{"key": "a", "operator": "Is"}]}),
            "spec.selector.matchExpressions[0]",
        ),
        (deployment(replicas="3"), "spec.replicas"),
    ],
)
def test_a_malformed_object_is_named_with_its_field(item: Any, field: str) -> None:
    snapshot, problems = read(item, make("ServiceAccount", "fine"))
    assert [(p.code, p.severity) for p in problems] == [("inventory/malformed-object", Severity.ERROR)]
    assert f"`{field}`" in problems[0].message
    assert snapshot.accounts == (("shop", "fine"),)
    assert snapshot.pods == snapshot.services == ()


def test_a_template_that_is_malformed_below_its_labels() -> None:
    item = deployment()
    item["spec"]["template"]["spec"]["containers"] = [{"name": 1}]
    snapshot, problems = read(item)
    assert snapshot.pods == ()
    assert (
        "Deployment shop/web: `spec.template.spec.containers[0].name` must be a string: quote it" in problems[0].message
    )


def test_the_place_of_a_malformed_field_is_asked_for_by_path() -> None:
    def locate(path: tuple[str | int, ...]) -> Place:
        return Place("m.yaml", len(path))

    wrong = make("Pod", "p", spec={"containers": [{"name": 3}]})
    _, problems = parse([({"kind": "List", "apiVersion": "v1", "items": [wrong]}, locate)])
    assert problems[0].place == Place("m.yaml", len(("items", 0, "spec", "containers", 0, "name")))


def test_reading_twice_is_the_same_in_any_order() -> None:
    objects = [make("Pod", "b"), make("Pod", "a"), make("Service", "z"), make("Service", "y"), deployment()]
    assert read(*objects)[0] == read(*reversed(objects))[0]
