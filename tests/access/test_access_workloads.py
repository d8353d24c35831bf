"""What a team lays over its workloads for the secrets that it declares."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support.builders import bundle_content, cluster, inputs, service

from pilothouse.access import content, derive, pod, workloads
from pilothouse.access.workloads import Target
from pilothouse.artifacts.model import Format
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Owner, Pod, Snapshot
from pilothouse.platform.model import Endpoint, Secret, Servers, Versions

ON = cluster("prod", servers=Servers(vault=Endpoint("https://vault.bank.example:8200")))
API = service("payments/api", secrets=(Secret("payments/database", "/secrets/database", keys=("user",)),))


def given(*pods: Pod, on: Any = ON, services: Any = (API,)) -> Inputs:
    made: Inputs = inputs(list(services), content=bundle_content())
    platform = dataclasses.replace(made.platform, clusters={on.name: on})
    return dataclasses.replace(made, platform=platform, cluster=on, snapshot=Snapshot(pods=tuple(pods)))


def running(name: str, kind: str, workload: str, *containers: str) -> Pod:
    labels = dict(API.pod_selector.match_labels)
    return Pod("payments", name, labels, owner=Owner(kind, workload), containers=containers)


def files(found: Inputs) -> dict[str, Any]:
    return {item.path: item for item in derive(found).artifacts.under("workloads/")}


def test_a_service_that_runs_nowhere_yet_is_a_deployment_called_like_it() -> None:
    found = files(given())
    folder = "workloads/payments/api"
    assert sorted(found) == [f"{folder}/deployment-api.yaml", f"{folder}/kustomization.yaml", f"{folder}/values.yaml"]
    assert {item.format for item in found.values()} == {Format.YAML}, "nothing that is applied by itself"
    (patch,) = found[f"{folder}/kustomization.yaml"].data["patches"]
    assert patch == {"path": "deployment-api.yaml", "target": {"kind": "Deployment", "name": "api"}}
    body = found[f"{folder}/deployment-api.yaml"].data
    assert (body["apiVersion"], body["kind"], body["metadata"]["name"]) == ("apps/v1", "Deployment", "api")
    assert body["spec"]["template"]["spec"]["serviceAccountName"] == "api"


def test_the_workloads_are_those_that_the_snapshot_shows() -> None:
    snapshot = given(
        running("api-1", "Deployment", "api", "api", "proxy"),
        running("api-2", "Deployment", "api", "api", "proxy"),
        running("canary-1", "StatefulSet", "api-canary", "server", pod.SIDECAR),
        running("night-1", "CronJob", "api-night", "one", "two"),
        running("odd-1", "Rollout", "api-odd", "api"),
        Pod("payments", "bare", dict(API.pod_selector.match_labels), containers=("api",)),
    ).snapshot
    assert workloads.targets(API, snapshot) == (
        Target("CronJob", "api-night", "api"),  # which of the two is not known: the team puts it right
        Target("Deployment", "api", "api"),
        Target("StatefulSet", "api-canary", "server"),
    )


def test_a_cron_job_has_its_template_a_level_deeper() -> None:
    found = files(given(running("night-1", "CronJob", "api-night", "api")))
    body = found["workloads/payments/api/cronjob-api-night.yaml"].data
    assert (body["apiVersion"], body["kind"]) == ("batch/v1", "CronJob")
    template = body["spec"]["jobTemplate"]["spec"]["template"]
    assert [item["name"] for item in template["spec"]["initContainers"]] == [pod.INIT, pod.SIDECAR]


def test_the_values_say_the_same_as_the_patch() -> None:
    found = files(given())
    values = found["workloads/payments/api/values.yaml"].data["secrets"]
    template = found["workloads/payments/api/deployment-api.yaml"].data["spec"]["template"]
    assert values["podAnnotations"] == template["metadata"]["annotations"]
    for name in ("volumes", "initContainers", "serviceAccountName"):
        assert values[name] == template["spec"][name]
    assert values["volumeMounts"] == template["spec"]["containers"][0]["volumeMounts"]
    assert values["containers"] == []


def test_without_native_sidecars_the_values_have_a_further_container() -> None:
    old = dataclasses.replace(ON, versions=Versions(kubernetes="1.28"))
    values = files(given(on=old))["workloads/payments/api/values.yaml"].data["secrets"]
    assert [item["name"] for item in values["containers"]] == [pod.SIDECAR]
    assert [item["name"] for item in values["initContainers"]] == [pod.INIT]


def test_only_services_with_secrets_on_a_cluster_with_vault() -> None:
    assert files(given(services=[service("payments/api")])) == {}
    assert files(given(on=cluster("prod"))) == {}
    elsewhere = dataclasses.replace(API, secrets=(Secret("a/b", "/secrets/b", clusters=frozenset(("dev",))),))
    assert files(given(services=[elsewhere])) == {}


def test_more_than_a_pod_can_be_told_is_a_problem() -> None:
    many = tuple(Secret(f"payments/{'x' * 180}-{n}", f"/secrets/{'y' * 180}-{n}") for n in range(500))
    found = given(services=[dataclasses.replace(API, secrets=many)])
    settings, _ = content.read(bundle_content())
    assert settings is not None
    assert [item.code for item in workloads.problems(found, settings)] == ["access/too-many-secrets"]
    assert list(workloads.documents(found, settings)) == []


@pytest.mark.parametrize("kind", sorted(pod.WRAPPERS))
def test_every_kind_has_a_patch_of_its_own_name(kind: str) -> None:
    (target,) = workloads.targets(API, given(running("x", kind, "some", "api")).snapshot)
    assert target.file == f"{kind.lower()}-some.yaml"
