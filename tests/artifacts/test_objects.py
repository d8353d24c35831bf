from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilothouse.artifacts.objects import MANAGER, ObjectKey, comparable, intruding, is_owned, plan, written
from pilothouse.labels import ownership


def policy(name: str, port: int = 80, owned: bool = True, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "a", "labels": ownership("dev") if owned else {}, **metadata},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": port}]}]},
    }


def test_fields_of_the_server_and_of_others_are_no_change() -> None:
    current = policy("x", uid="1", resourceVersion="2", managedFields=[], annotations={"foreign": "kept"})
    current["status"] = {"a": 1}
    assert plan([policy("x")], [current], "dev") == ()


def test_a_version_of_the_group_is_no_other_object() -> None:
    other = policy("x") | {"apiVersion": "networking.k8s.io/v1beta1"}
    assert ObjectKey.of(other) == ObjectKey.of(policy("x"))
    assert ObjectKey.of({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}) == ObjectKey(
        "", "Secret", "", "s"
    )


def test_adds_changes_and_removes_only_what_is_ours() -> None:
    current = [policy("changed", 81), policy("gone"), policy("foreign", owned=False), policy("elsewhere")]
    current[3]["metadata"]["labels"] = ownership("prod")
    changes = plan([policy("changed"), policy("new")], current, "dev")
    assert [(change.action, str(change.key)) for change in changes] == [
        ("change", "NetworkPolicy a/changed"),
        ("remove", "NetworkPolicy a/gone"),
        ("add", "NetworkPolicy a/new"),
    ]
    text = changes[0].text()
    assert "- port: 81\n" in text
    assert "- port: 80\n" in text
    assert is_owned(current[1], "dev")
    assert not is_owned(current[2], "dev")


def test_a_list_of_another_length_is_shown_whole() -> None:
    current = policy("x")
    current["spec"]["egress"].append({"ports": [{"port": 1, "protocol": "TCP"}]})
    (change,) = plan([policy("x")], [current], "dev")
    assert change.before is not None
    assert len(change.before["spec"]["egress"]) == 2
    assert "port: 1\n" in change.text()


def turned(value: Any) -> Any:
    """The same with the keys of every mapping the other way round."""
    if isinstance(value, Mapping):
        return {key: turned(value[key]) for key in reversed(list(value))}
    return [turned(item) for item in value] if isinstance(value, list) else value


def test_the_order_of_keys_is_no_difference_in_the_text() -> None:
    rules = [
        {"to": [{"podSelector": {"matchLabels": {"app": app}}}], "ports": [{"port": port, "protocol": "TCP"}]}
        for app, port in (("a", 1), ("b", 2), ("c", 3))
    ]
    desired, current = policy("x"), policy("x")
    desired["spec"]["egress"], current["spec"]["egress"] = rules, rules[1:]
    (change,) = plan([desired], [turned(current)], "dev")
    lines = [line for line in change.text().splitlines()[2:] if line[:1] in "+-"]
    assert [line[0] for line in lines] == ["+"] * len(lines)
    assert [line[1:].strip() for line in lines] == [
        "- ports:", "- port: 1", "protocol: TCP", "to:", "- podSelector:", "matchLabels:", "app: a"
    ]  # fmt: skip


def managed(manifest: dict[str, Any], manager: str, operation: str, fields: dict[str, Any]) -> None:
    entry = {"manager": manager, "operation": operation, "fieldsV1": fields}
    manifest["metadata"].setdefault("managedFields", []).append(entry)


def test_what_we_once_wrote_and_no_longer_name_is_a_change() -> None:
    current = policy("x", annotations={"ours": "old", "theirs": "kept"})
    managed(current, MANAGER, "Apply", {"f:metadata": {"f:annotations": {"f:ours": {}}}})
    managed(current, "kubectl-annotate", "Update", {"f:metadata": {"f:annotations": {"f:theirs": {}}}})
    (change,) = plan([policy("x")], [current], "dev")
    assert change.before is not None
    assert change.before["metadata"]["annotations"] == {"ours": "old"}


def test_a_rule_beside_ours_is_a_change_and_an_intrusion() -> None:
    current = policy("x")
    current["spec"]["ingress"] = [{}]
    managed(current, MANAGER, "Apply", {"f:spec": {"f:egress": {}, "f:podSelector": {}, "f:policyTypes": {}}})
    (change,) = plan([policy("x")], [current], "dev")
    assert "-  ingress:" in change.text()
    assert intruding(policy("x"), current) == (("spec", "ingress"),)
    # Once it was ours, the next apply takes it away by itself.
    current["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ingress"] = {}
    assert intruding(policy("x"), current) == ()


def test_a_key_more_in_a_rule_is_a_change() -> None:
    current = policy("x")
    current["spec"]["egress"][0]["to"] = [{"podSelector": {}}]
    assert len(plan([policy("x")], [current], "dev")) == 1


def test_a_role_that_is_filled_by_others_is_an_intrusion() -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r", "labels": ownership("dev")},
        "rules": [],
    }
    assert intruding(role, {**role, "aggregationRule": {}}) == (("aggregationRule",),)
    assert comparable(role, {**role, "aggregationRule": {}}) != written(role)
    assert comparable(role, role) == written(role)
