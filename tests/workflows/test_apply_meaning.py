"""An apply looked at by what policies mean: before a step, after the last one, and after an undoing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from support import applied, testbed
from support import builders as make
from support.kube_fake import FakeServer

from pilothouse.artifacts.objects import Object, ObjectKey
from pilothouse.labels import ownership
from pilothouse.platform.model import Cluster
from pilothouse.policies.compare.judge import Judge
from pilothouse.problems import NOWHERE, Invalid, Severity
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.apply_plan import Planned
from pilothouse.workflows.applying import ApplyFailed, Cancelled, NotAsPlanned

Manifest = dict[str, Any]
V3 = "projectcalico.org/v3"


class Always:
    """A turn that nobody takes away."""

    def keep(self) -> None:
        return


class Stops:
    """Ends in the middle with `failure`, before step number `at`."""

    def __init__(self, at: int, failure: BaseException) -> None:
        self.left = at
        self.failure = failure

    def keep(self) -> None:
        self.left -= 1
        if not self.left:
            raise self.failure


@pytest.fixture
def cluster() -> Cluster:
    return applied.cluster("dev")


@pytest.fixture
def manifests() -> list[Manifest]:
    return deepcopy(applied.manifests("dev"))


@pytest.fixture
def judge(cluster: Cluster) -> Judge:
    inputs = testbed.bank("dev")
    return Judge(inputs.snapshot, cluster, inputs)


@pytest.fixture
def fake(manifests: list[Manifest]) -> FakeServer:
    return FakeServer(applied.namespaces_of(manifests))


def plan(fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge) -> Planned:
    return apply_plan.plan(fake, cluster, manifests, judge=judge)


def a_policy(manifests: list[Manifest]) -> Manifest:
    return next(m for m in manifests if m["kind"] == "NetworkPolicy" and m["spec"].get("egress"))


def test_afterwards_it_is_read_back(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge
) -> None:
    planned = plan(fake, cluster, manifests, judge)
    assert [stage.name for stage in planned.rollout.stages] == ["shelter", "allow", "deny", "end of shelter"]
    assert applying.run(fake, planned, Always(), judge=judge) is True
    again = plan(fake, cluster, manifests, judge)
    assert (again.steps, again.rollout.stages) == ((), ())
    assert applying.run(fake, again, Always(), judge=judge) is False


def test_what_a_webhook_made_of_a_policy_is_named(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(fake, cluster, manifests, judge)
    name = a_policy(manifests)["metadata"]["name"]
    send = fake.apply

    def rewritten(manifest: Object, dry_run: bool = False, force: bool = False) -> Manifest:
        if manifest["metadata"]["name"] == name:
            manifest = {**manifest, "spec": {**manifest["spec"], "egress": [{}]}}
        return send(manifest, dry_run, force)

    monkeypatch.setattr(fake, "apply", rewritten)
    with pytest.raises(NotAsPlanned, match="what stands there is not what was planned: ") as failed:
        applying.run(fake, planned, Always(), judge=judge)
    assert not failed.value.difference.is_empty
    assert "+ " in failed.value.message
    said = failed.value.problem(NOWHERE)
    assert (said.code, said.severity, said.cluster) == ("apply/not-as-planned", Severity.ERROR, "dev")


def test_after_an_undoing_every_connection_is_as_before(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge
) -> None:
    applying.run(fake, plan(fake, cluster, manifests, judge), Always(), judge=judge)
    changed = deepcopy(manifests)
    a_policy(changed)["spec"]["egress"] = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    planned = plan(fake, cluster, changed, judge)
    assert len(planned.steps) == 3
    with pytest.raises(ApplyFailed, match="read back, every connection is as before"):
        applying.run(fake, planned, Stops(3, Invalid("no more", "")), judge=judge)
    with pytest.raises(Cancelled, match="read back, every connection is as before"):
        applying.run(fake, planned, Stops(3, KeyboardInterrupt()), judge=judge)


def test_after_an_undoing_that_failed_what_is_otherwise_is_named(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge
) -> None:
    applying.run(fake, plan(fake, cluster, manifests, judge), Always(), judge=judge)
    changed = deepcopy(manifests)
    policy = a_policy(changed)
    policy["spec"]["egress"] = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    planned = plan(fake, cluster, changed, judge)

    def progress(text: str) -> None:
        if "(3 of 3)" in text:
            fake.refused = {policy["metadata"]["name"]}

    with pytest.raises(ApplyFailed, match="read back, it is NOT as before: ") as failed:
        applying.run(fake, planned, Stops(3, Invalid("no more", "")), progress, judge)
    assert [item.key for item in failed.value.left] == [ObjectKey.of(policy)]
    assert "192.0.2.0/24" in failed.value.meaning


def test_what_touches_no_policy_is_not_read_back(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge
) -> None:
    applying.run(fake, plan(fake, cluster, manifests, judge), Always(), judge=judge)
    account = next(m for m in manifests if m["kind"] == "ServiceAccount")
    account["metadata"]["labels"]["pilothouse.dev/extra"] = "yes"
    planned = plan(fake, cluster, manifests, judge)
    assert planned.rollout.stages == ()
    assert applying.run(fake, planned, Always(), judge=judge) is False


# ---------------------------------------------------------------- a step that opens


class Calico(FakeServer):
    """With Calico's own API."""

    def served(self) -> frozenset[str]:
        return super().served() | {V3}


def calico(name: str, order: int, *rules: tuple[str, str]) -> Manifest:
    """Egress of every pod of `shop`: (action, the app it goes to)."""
    return {
        "apiVersion": V3,
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop", "labels": ownership("dev")},
        "spec": {
            "order": order,
            "selector": "all()",
            "types": ["Egress"],
            "egress": [{"action": action, "destination": {"selector": f"app == '{app}'"}} for action, app in rules],
        },
    }


def test_a_step_that_would_open_something_is_held_back_with_its_namespace() -> None:
    """The denial moves to another policy: where the old one lost it first, a third would let it through."""
    on = make.cluster(calico_api=V3)
    snapshot = make.snapshot([make.pod(f"shop/{app}.1", ips=(f"10.40.0.{n}",)) for n, app in enumerate("abc", 1)])
    judge = Judge(snapshot, on)
    server = Calico({"shop", "desk"})
    rest = calico("rest", 30, ("Allow", "b"), ("Allow", "c"))
    before = [calico("first", 20, ("Deny", "b"), ("Allow", "c")), rest]
    planned = apply_plan.plan(server, on, before, judge=judge)
    assert planned.held == ()
    applying.run(server, planned, Always(), judge=judge)

    other = replace_namespace(calico("elsewhere", 10, ("Allow", "a")), "desk")
    after = [
        calico("first", 20, ("Allow", "c"), ("Allow", "a")),
        rest,
        calico("second", 10, ("Deny", "b"), ("Allow", "c")),
        other,
    ]
    planned = apply_plan.plan(server, on, after, judge=judge)
    assert {item.key.name: item.code for item in planned.held} == {
        "first": "apply/unsafe-step",
        "second": "apply/held-back",
    }
    unsafe = next(item for item in planned.held if item.code == "apply/unsafe-step")
    assert unsafe.severity is Severity.ERROR
    assert "opens for a moment what neither the old nor the new policies allow: shop/" in unsafe.message
    assert " to shop/b.1 at " in unsafe.message
    assert [change.key.name for change in planned.changes] == ["elsewhere"]
    assert planned.rollout.breaches == ()

    # In two parts each is safe.
    for part in ([before[0], rest, after[2]], after[:3]):
        planned = apply_plan.plan(server, on, part, judge=judge)
        assert planned.held == ()
        assert applying.run(server, planned, Always(), judge=judge) is True


def replace_namespace(manifest: Manifest, namespace: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def test_a_plan_is_the_same_when_nothing_has_changed_meanwhile(
    fake: FakeServer, cluster: Cluster, manifests: list[Manifest], judge: Judge
) -> None:
    """What was evaluated once is not evaluated again."""
    one, two = plan(fake, cluster, manifests, judge), plan(fake, cluster, manifests, judge)
    assert one.same_as(two)
    assert one.rollout is two.rollout
    assert replace(two, steps=two.steps[1:]).same_as(one) is False
