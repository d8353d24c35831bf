import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.access.can_i import Identity, Question, allows, can_i, known_resources, question
from pilothouse.problems import Invalid

GROUP = "rbac.authorization.k8s.io"


def role(name, *rules, namespace="", labels=None, aggregate=None):
    data = {
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": {"name": name, "labels": labels or {}},
        "rules": list(rules),
    }
    if namespace:
        data["metadata"]["namespace"] = namespace
    if aggregate:
        data["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": aggregate}]}
    return data


def rule(*resources, verbs=("get",), groups=("",), names=()):
    data = {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
    return data | ({"resourceNames": list(names)} if names else {})


def binding(name, role_name, *subjects, namespace="", kind="ClusterRole"):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": metadata,
        "subjects": list(subjects),
        "roleRef": {"kind": kind, "name": role_name, "apiGroup": GROUP},
    }


def group(name):
    return {"kind": "Group", "name": name}


ALICE = Identity("alice", frozenset(("ph:developer:payments",)))


def test_a_role_binding_of_a_cluster_role_holds_in_its_namespace():
    objects = [
        role("dev", rule("pods")),
        binding("b", "dev", group("ph:developer:payments"), namespace="payments"),
    ]
    yes = can_i(ALICE, question("get", "pods", "payments"), objects)
    assert yes
    assert yes.why == "RoleBinding payments/b binds ClusterRole dev to group ph:developer:payments"
    assert yes.by[0].rule == rule("pods")
    assert not can_i(ALICE, question("get", "pods", "cards"), objects)
    assert not can_i(ALICE, question("get", "pods"), objects)
    assert not can_i(ALICE, question("delete", "pods", "payments"), objects)
    assert not can_i(Identity("bob"), question("get", "pods", "payments"), objects)


def test_a_cluster_role_binding_holds_everywhere():
    objects = [role("r", rule("pods", "nodes")), binding("b", "r", {"kind": "User", "name": "alice"})]
    for namespace in ("", "payments"):
        assert can_i(ALICE, question("get", "po", namespace), objects)
    assert can_i(ALICE, question("get", "no"), objects).by[0].subject == "user alice"


def test_a_role_is_that_of_the_bindings_namespace():
    objects = [
        role("r", rule("pods"), namespace="a"),
        role("r", rule("secrets"), namespace="b"),
        binding("x", "r", group("g"), namespace="b", kind="Role"),
    ]
    who = Identity("x", frozenset(("g",)))
    assert not can_i(who, question("get", "pods", "b"), objects)
    assert can_i(who, question("get", "secrets", "b"), objects)


def test_subresources_names_and_urls():
    objects = [
        role(
            "r",
            rule("pods/log", "*/scale", groups=("", "apps")),
            rule("configmaps", names=("settings",), verbs=("get", "update")),
            {"nonResourceURLs": ["/healthz", "/metrics/*"], "verbs": ["get"]},
        ),
        binding("b", "r", group("system:authenticated")),
    ]
    who = Identity("anyone")
    assert can_i(who, question("get", "pods/log", "x"), objects)
    assert not can_i(who, question("get", "pods", "x"), objects)
    assert can_i(who, question("get", "deploy/scale", "x"), objects)
    assert not can_i(who, question("get", "deploy", "x"), objects)
    assert can_i(who, question("update", "cm/settings", "x"), objects)
    assert not can_i(who, question("update", "cm/other", "x"), objects)
    assert not can_i(who, question("update", "cm", "x"), objects)
    assert can_i(who, question("get", "/healthz"), objects)
    assert can_i(who, question("get", "/metrics/cadvisor"), objects)
    assert not can_i(who, question("get", "/logs"), objects)
    in_namespace = [objects[0], binding("b", "r", group("system:authenticated"), namespace="x")]
    assert not can_i(who, question("get", "/healthz"), in_namespace)


def test_aggregated_roles_are_the_union_of_their_parts():
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    objects = [
        role("view", aggregate=label),
        role("part", rule("widgets", groups=("example.org",)), labels=label),
        role("loop", aggregate=label, labels=label),
        role("other", rule("secrets"), labels={"x": "y"}),
        binding("b", "view", group("g")),
    ]
    who = Identity("x", frozenset(("g",)))
    assert can_i(who, question("get", "widgets.example.org"), objects)
    assert not can_i(who, question("get", "secrets"), objects)


def test_service_accounts():
    subject = {"kind": "ServiceAccount", "name": "api"}
    objects = [role("r", rule("pods")), binding("b", "r", subject, namespace="payments")]
    who = Identity("system:serviceaccount:payments:api")
    assert can_i(who, question("get", "pods", "payments"), objects).by[0].subject == "ServiceAccount payments/api"
    assert not can_i(Identity("system:serviceaccount:x:api"), question("get", "pods", "payments"), objects)


def test_masters_pass_by_rbac():
    assert can_i(Identity("x", frozenset(("system:masters",))), question("delete", "nodes"), [])


def test_a_role_that_was_not_given_makes_a_no_uncertain():
    decision = can_i(ALICE, question("get", "pods"), [binding("b", "view", group("ph:developer:payments"))])
    assert not decision
    assert decision.missing == ("ClusterRole view",)
    assert "not certain" in decision.why


def test_objects_without_subjects_or_rules_do_no_harm():
    empty = [
        {"kind": "ConfigMap"},
        {"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": None},
        {"kind": "ClusterRoleBinding", "metadata": {"name": "b"}, "subjects": None, "roleRef": {}},
        binding("b", "r", group("ph:developer:payments"), {"kind": "Robot", "name": "x"}),
    ]
    assert can_i(ALICE, question("get", "pods"), empty).why == "no binding of this identity allows it"


@pytest.mark.parametrize(
    ("typed", "resource", "api_group", "name"),
    [
        ("pod", "pods", "", ""),
        ("po/web-1", "pods", "", "web-1"),
        ("pods/exec", "pods/exec", "", ""),
        ("Deployment", "deployments", "apps", ""),
        ("ingress", "ingresses", "networking.k8s.io", ""),
        ("networkpolicy", "networkpolicies", "networking.k8s.io", ""),
        ("widgets.example.org", "widgets", "example.org", ""),
        ("widgets.example.org/status", "widgets/status", "example.org", ""),
        ("hpa", "horizontalpodautoscalers", "autoscaling", ""),
    ],
)
def test_what_people_type(typed, resource, api_group, name):
    asked = question("get", typed)
    assert (asked.resource, asked.group, asked.name) == (resource, api_group, name)


def test_an_unknown_resource_needs_its_group():
    with pytest.raises(Invalid, match="`widgets`") as caught:
        question("get", "widgets")
    assert "widgets.example.org" in caught.value.hint
    with pytest.raises(Invalid) as caught:
        question("get", "podz")
    assert "pods" in caught.value.hint
    assert "pods" in known_resources()


def test_a_question_in_words():
    assert str(question("get", "deploy/web", "shop")) == "get deployments.apps web in shop"
    assert str(question("get", "/version")) == "get /version"


words = st.sampled_from(("a", "b", "c"))
some = st.lists(words, max_size=3)


@given(verbs=some, groups=some, resources=some, names=some, verb=words, group=words, resource=words, name=words)
def test_a_rule_allows_exactly_what_it_lists(verbs, groups, resources, names, verb, group, resource, name):
    given_rule = {"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names}
    expected = verb in verbs and group in groups and resource in resources and (not names or name in names)
    assert allows(given_rule, Question(verb, resource, group, "", name)) is expected
