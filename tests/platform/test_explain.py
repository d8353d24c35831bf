"""Each value of a document with the line it comes from, or as the default."""

from __future__ import annotations

from pilothouse.platform.explain import effective
from pilothouse.source import Source

TEXT = """\
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: other}
spec: {}
---
apiVersion: pilothouse.dev/v1
kind: Team
metadata: {name: payments}
spec:
  platform: true
  groups: []
  members: [{user: alice, email: alice@bank.example}]
  onCall: {users: [alice, bob], start: 2026-01-05}
"""


def test_given_values_have_a_place_and_defaults_have_none() -> None:
    found = {item.path: item for item in effective(Source("t.yaml", TEXT), "Team", "payments")}
    assert found["spec.platform"].value == "true"
    assert str(found["spec.platform"].place) == "t.yaml:10:13"
    assert found["spec.members[0].email"].value == "alice@bank.example"
    assert found["spec.onCall.users"].value == "alice, bob"
    assert found["spec.onCall.timezone"].value == "UTC"
    assert found["spec.onCall.timezone"].place is None
    assert found["spec.groups"].value == "[]"
    assert "spec.title" not in found, "an empty default says nothing"


def test_a_document_that_is_not_there_or_not_valid_has_no_values() -> None:
    assert effective(Source("t.yaml", TEXT), "Team", "nobody") == ()
    broken = TEXT.replace("platform: true", "platform: maybe")
    assert effective(Source("t.yaml", broken), "Team", "payments") == ()


def test_an_empty_mapping() -> None:
    text = (
        "apiVersion: pilothouse.dev/v1\nkind: Service\nmetadata: {name: x, namespace: a}\n"
        "spec: {team: a, podSelector: {matchLabels: {app: x}}, egress: [{to: {namespaceSelector: {}}}]}\n"
    )
    found = {item.path: item.value for item in effective(Source("s.yaml", text), "Service", "a/x")}
    assert found["spec.podSelector.matchLabels.app"] == "x"
    assert found["spec.exposure"] == "internal"


def test_a_value_in_its_short_form_is_shown_as_it_was_written() -> None:
    text = (
        "apiVersion: pilothouse.dev/v1\nkind: Service\nmetadata: {name: x, namespace: a}\n"
        "spec: {team: a, podSelector: {matchLabels: {app: x}},\n"
        "  egress: [{to: {service: a/z}, ports: [grpc, 8080]}, {to: {service: a/y}, ports: [53/UDP]}]}\n"
    )
    found = {item.path: item for item in effective(Source("s.yaml", text), "Service", "a/x")}
    assert found["spec.egress[0].ports"].value == "grpc, 8080"
    assert str(found["spec.egress[0].ports"].place) == "s.yaml:5:40"
    assert found["spec.egress[1].ports"].value == "53/UDP"
    assert not any(path.startswith("spec.egress[0].ports[") for path in found)
