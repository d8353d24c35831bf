"""Plans, applies and undoing: the same on the stand-in and on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from support import applied
from support.bed.kubernetes import KubeApi
from support.kube_fake import FakeServer

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.clients.kubernetes import Api, LeaseLost, to_endpoint
from pilothouse.platform.model import Cluster
from pilothouse.problems import Conflict, Severity
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.apply_plan import Planned
from pilothouse.workflows.applying import ApplyFailed

Manifest = dict[str, Any]


class Always:
    """A turn that nobody takes away."""

    def keep(self) -> None:
        return


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    wanted = applied.namespaces_of(applied.manifests("dev"))
    if request.param == "fake":
        yield FakeServer(wanted)
        return
    real: KubeApi = request.getfixturevalue("kube_api")
    applied.namespaces(real, wanted)
    client = Api(to_endpoint(real.endpoint))
    with applied.cleaned(real):
        yield client
    client.close()


@pytest.fixture
def cluster() -> Cluster:
    return applied.cluster("dev")


@pytest.fixture
def manifests() -> list[Manifest]:
    return deepcopy(applied.manifests("dev"))


def bring(server: Any, cluster: Cluster, manifests: list[Manifest], **options: bool) -> Planned:
    planned = apply_plan.plan(server, cluster, manifests, **options)
    applying.run(server, planned, Always())
    return planned


def test_what_is_declared_is_there_and_a_second_apply_has_nothing_to_do(
    server: Any, cluster: Cluster, manifests: list[Manifest]
) -> None:
    first = bring(server, cluster, manifests)
    assert (first.held, first.owned, first.checked) == ((), 0, len(manifests))
    assert {change.action for change in first.changes} == {"add"}
    for full in (False, True):
        again = bring(server, cluster, manifests, full=full)
        assert (again.steps, again.owned) == ((), len(manifests))


def test_a_declaration_that_goes_takes_its_object_along(
    server: Any, cluster: Cluster, manifests: list[Manifest]
) -> None:
    bring(server, cluster, manifests)
    planned = bring(server, cluster, manifests[1:])
    assert [(c.action, c.key) for c in planned.changes] == [("remove", ObjectKey.of(manifests[0]))]
    assert server.get(manifests[0]) is None
    assert server.get(manifests[1]) is not None


def test_a_label_that_is_no_longer_declared_goes(server: Any, cluster: Cluster, manifests: list[Manifest]) -> None:
    account = next(m for m in manifests if m["kind"] == "ServiceAccount")
    account["metadata"]["labels"]["pilothouse.dev/extra"] = "yes"
    bring(server, cluster, manifests)
    del account["metadata"]["labels"]["pilothouse.dev/extra"]
    planned = bring(server, cluster, manifests)
    assert [c.key for c in planned.changes] == [ObjectKey.of(account)]
    assert "extra" in planned.changes[0].text()
    assert "pilothouse.dev/extra" not in server.get(account)["metadata"]["labels"]


def test_a_missing_namespace_is_said_and_holds_up_nobody(
    server: Any, cluster: Cluster, manifests: list[Manifest]
) -> None:
    stray = deepcopy(next(m for m in manifests if m["kind"] == "ServiceAccount"))
    stray["metadata"]["namespace"] = "nowhere"
    planned = bring(server, cluster, [*manifests, stray])
    (held,) = planned.held
    assert (held.code, held.severity) == ("apply/no-namespace", Severity.WARNING)
    assert 'namespaces "nowhere" not found' in held.message
    assert planned.refused == ()
    assert len(planned.changes) == len(manifests)


def test_a_kind_that_the_cluster_does_not_serve_is_said(
    server: Any, cluster: Cluster, manifests: list[Manifest]
) -> None:
    strange = {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "GlobalNetworkSet",
        "metadata": {"name": "x", "labels": manifests[0]["metadata"]["labels"]},
        "spec": {"nets": []},
    }
    planned = apply_plan.plan(server, cluster, [*manifests, strange])
    assert [(item.code, item.key.kind) for item in planned.held] == [("apply/not-served", "GlobalNetworkSet")]


def test_what_a_failing_run_did_is_undone(server: Any, cluster: Cluster, manifests: list[Manifest]) -> None:
    bring(server, cluster, manifests)
    before = {ObjectKey.of(m): server.get(m) for m in manifests}
    changed = deepcopy(manifests)
    binding = next(m for m in changed if m["kind"] == "RoleBinding")
    binding["roleRef"]["name"] = "view"
    policy = next(m for m in changed if m["kind"] == "NetworkPolicy" and m["spec"].get("egress"))
    policy["spec"]["egress"] = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    added = deepcopy(policy)
    added["metadata"]["name"] = "pilothouse-zz-added"
    gone = next(m for m in changed if m["kind"] == "ServiceAccount")
    changed.remove(gone)
    planned = apply_plan.plan(server, cluster, [*changed, added])

    class Stops:
        """Somebody pulls the plug before the last step."""

        def __init__(self) -> None:
            self.left = len(planned.steps)

        def keep(self) -> None:
            self.left -= 1
            if not self.left:
                raise Conflict("no more", "")

    with pytest.raises(ApplyFailed, match="no more") as failed:
        applying.run(server, planned, Stops())
    assert failed.value.left == ()
    assert len(failed.value.undone) >= 3
    assert server.get(added) is None
    for manifest in manifests:
        was, now = before[ObjectKey.of(manifest)], server.get(manifest)
        assert {k: v for k, v in now.items() if k != "metadata"} == {k: v for k, v in was.items() if k != "metadata"}
        assert now["metadata"]["labels"] == was["metadata"]["labels"]
    assert apply_plan.plan(server, cluster, manifests).steps == ()


def test_whose_turn_it_no_longer_is_stops_and_undoes_nothing(
    server: Any, cluster: Cluster, manifests: list[Manifest]
) -> None:
    class Lost:
        def __init__(self) -> None:
            self.calls = 0

        def keep(self) -> None:
            self.calls += 1
            if self.calls > 3:
                raise LeaseLost("somebody else has it", "")

    planned = apply_plan.plan(server, cluster, manifests)
    with pytest.raises(ApplyFailed, match="nothing was undone"):
        applying.run(server, planned, Lost())
    assert sum(server.get(m) is not None for m in manifests) == 3


# ---------------------------------------------------------------- on the stand-in alone


@pytest.fixture
def fake(manifests: list[Manifest]) -> FakeServer:
    return FakeServer(applied.namespaces_of(manifests))


def test_a_forbidden_kind_is_named_and_the_rest_is_applied(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest]
) -> None:
    fake.forbidden = {"ServiceAccount"}
    planned = bring(fake, cluster, manifests)
    assert {item.code for item in planned.held} == {"apply/forbidden"}
    assert {item.key.kind for item in planned.held} == {"ServiceAccount"}
    assert len(planned.refused) == sum(m["kind"] == "ServiceAccount" for m in manifests)
    assert len(fake.present) == len(manifests) - len(planned.held)


def test_the_policies_of_a_namespace_are_applied_together(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest]
) -> None:
    """One is somebody else's object: no other of its namespace is applied, those of others are."""
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    other = deepcopy(policies[0])
    other["metadata"] |= {"namespace": "data", "name": "pilothouse-elsewhere"}
    theirs = deepcopy(policies[0])
    theirs["metadata"]["labels"] = {}
    fake.create(theirs)
    planned = bring(fake, cluster, [*manifests, other])
    found = {item.key.name: item.code for item in planned.held}
    assert found.pop(policies[0]["metadata"]["name"]) == "apply/foreign-object"
    assert set(found.values()) == {"apply/held-back"}
    assert len(found) == len(policies) - 1
    assert fake.get(other) is not None
    assert fake.get(theirs)["spec"] == theirs["spec"]  # type: ignore[index]


def test_too_much_is_not_removed_by_mistake(fake: FakeServer, cluster: Cluster, manifests: list[Manifest]) -> None:
    bring(fake, cluster, manifests)
    few = apply_plan.plan(fake, cluster, manifests[:5])
    with pytest.raises(Conflict, match="more than half") as refused:
        apply_plan.require_safe(few, 5, False)
    assert "--prune-all" in refused.value.hint
    apply_plan.require_safe(few, 5, True)
    none = apply_plan.plan(fake, cluster, [])
    with pytest.raises(Conflict, match="nothing is desired on dev"):
        apply_plan.require_safe(none, 0, False)
    apply_plan.require_safe(apply_plan.plan(fake, cluster, manifests[2:]), 5, False)


def test_an_object_that_cannot_be_put_back_is_named(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest]
) -> None:
    bring(fake, cluster, manifests)
    changed = deepcopy(manifests)
    accounts = [m for m in changed if m["kind"] == "ServiceAccount"]
    for item in accounts[:2]:
        item["metadata"]["labels"]["pilothouse.dev/extra"] = "yes"
    planned = apply_plan.plan(fake, cluster, changed)
    assert len(planned.steps) == 2

    def progress(text: str) -> None:
        if "(2 of 2)" in text:
            fake.refused = {item["metadata"]["name"] for item in accounts[:2]}

    with pytest.raises(ApplyFailed) as failed:
        applying.run(fake, planned, Always(), progress)
    (left,) = failed.value.left
    assert left.key == planned.steps[0].key
    assert f"COULD NOT BE: {left.key}" in failed.value.message
    assert "is refused" in failed.value.message
