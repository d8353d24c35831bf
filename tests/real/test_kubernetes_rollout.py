"""The bank's dev cluster, with Calico, on a real API server: from nothing through staged to enforced and back, with
failures on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support import applied, testbed
from support.bed.kubernetes import KubeApi

from pilothouse import bundle
from pilothouse.artifacts.objects import Object
from pilothouse.clients.kubernetes import Api, to_endpoint
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Enforcement
from pilothouse.policies.compare.judge import Judge
from pilothouse.policies.compare.rollout import Standing, decides
from pilothouse.policies.staging import staged_first
from pilothouse.problems import Invalid
from pilothouse.workflows import apply_plan, applying
from pilothouse.workflows.apply_plan import Planned
from pilothouse.workflows.applying import ApplyFailed
from pilothouse.workflows.standing import read_standing

CALICO = "projectcalico.org/v3"
SPACE = "cards"
HOUR = timedelta(hours=1)
FAILURES = 6


class Always:
    """A turn that nobody takes away."""

    def keep(self) -> None:
        return


class Failing:
    """The API server, which refuses the change of that number."""

    def __init__(self, api: Api, at: int) -> None:
        self._api = api
        self._left = at
        self.host = api.host

    def _counted(self, call: Callable[[], Any]) -> Any:
        self._left -= 1
        if not self._left:
            raise Invalid("not today")
        return call()

    def apply(self, manifest: Object, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        return self._counted(lambda: self._api.apply(manifest, dry_run, force))  # type: ignore[no-any-return]

    def delete(self, manifest: Object, dry_run: bool = False) -> bool:
        return self._counted(lambda: self._api.delete(manifest, dry_run))  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


@pytest.fixture
def api(policy_api: KubeApi) -> Iterator[Api]:
    client = Api(to_endpoint(policy_api.endpoint))
    with applied.cleaned(policy_api):
        yield client
    client.close()


def declared(mode: Enforcement) -> Inputs:
    """The bank's dev with Calico, its namespace `cards` so far governed."""
    found = testbed.bank("dev")
    modes = {**found.cluster.namespace_enforcement, SPACE: mode}
    cluster = replace(found.cluster, calico_api=CALICO, staged_for=3600, namespace_enforcement=modes)
    clusters = {**found.platform.clusters, cluster.name: cluster}
    return replace(found, cluster=cluster, platform=replace(found.platform, clusters=clusters))


def planned(api: Api, inputs: Inputs, now: datetime) -> tuple[Planned, Judge]:
    manifests = apply_plan.desired_of(bundle.derive(inputs).artifacts.manifests())
    present = read_standing(api, inputs.cluster).objects.values()
    staging = staged_first(manifests, present, inputs.cluster, inputs.snapshot, now)
    judge = Judge(inputs.snapshot, inputs.cluster, inputs)
    plan = apply_plan.plan(api, inputs.cluster, staging.manifests, full=True, judge=judge)
    return replace(plan, staging=staging), judge


def bring(api: Api, inputs: Inputs, now: datetime) -> Planned:
    """Carried out, after it failed at several of its steps about policies, and all was as before each time."""
    first, judge = planned(api, inputs, now)
    assert (first.held, first.rollout.breaches) == ((), ())
    before = said(read_standing(api, inputs.cluster))
    numbers = [number for number, step in enumerate(first.steps, 1) if decides(step.key)]
    for number in {*numbers[:: max(1, len(numbers) // FAILURES)], *numbers[-1:]}:
        plan, judge = planned(api, inputs, now)
        assert steps(plan) == steps(first)
        with pytest.raises(ApplyFailed, match="not today") as failed:
            applying.run(Failing(api, number), plan, Always(), judge=judge)
        assert failed.value.at == plan.steps[number - 1]
        assert failed.value.left == ()
        assert failed.value.meaning == "read back, every connection is as before"
        assert said(read_standing(api, inputs.cluster)) == before
    plan, judge = planned(api, inputs, now)
    assert applying.run(api, plan, Always(), judge=judge) is bool(numbers)
    assert planned(api, inputs, now)[0].steps == ()
    return plan


def steps(plan: Planned) -> list[tuple[str, str, str]]:
    """What is put back after a deletion is another object on the server, and the same for everybody else."""
    return [(step.phase.name, step.action, str(step.key)) for step in plan.steps]


def said(standing: Standing) -> dict[str, Any]:
    return {str(key): item.get("spec") for key, item in standing.objects.items()}


def kinds(api: KubeApi) -> set[str]:
    found = {key.kind for key in applied.ours(api) if key.namespace == SPACE}
    return {kind for kind in found if kind.endswith("NetworkPolicy")}


STAGED, ENFORCED = {"StagedKubernetesNetworkPolicy", "StagedNetworkPolicy"}, {"NetworkPolicy"}


def test_from_nothing_through_staged_to_enforced_and_back(policy_api: KubeApi, api: Api) -> None:
    now = datetime.now(UTC)
    enforced = declared(Enforcement.ENFORCED)

    first = bring(api, enforced, now)
    assert [item.namespace for item in first.staging.waiting] == [SPACE]
    assert kinds(policy_api) <= STAGED
    assert kinds(policy_api)
    assert all(stage.difference.is_empty for stage in first.rollout.stages)

    second = bring(api, enforced, now + 2 * HOUR)
    assert (second.staging.waiting, second.staging.begins) == ((), (SPACE,))
    assert kinds(policy_api) == ENFORCED
    names = [stage.name for stage in second.rollout.stages]
    assert names[0] == "shelter"
    assert names[-2:] == ["end of shelter", "unstage"]
    assert [stage.name for stage in second.rollout.stages if not stage.difference.is_empty] == ["end of shelter"]

    third = bring(api, declared(Enforcement.STAGED), now + 2 * HOUR)
    assert third.staging.begins == ()
    assert kinds(policy_api) <= STAGED
    assert third.rollout.stages[0].name == "stage"

    bring(api, declared(Enforcement.OFF), now + 2 * HOUR)
    assert kinds(policy_api) == set()
