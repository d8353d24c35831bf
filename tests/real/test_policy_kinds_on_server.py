"""Calico's and SIG Network's kinds on a real API server: what we derive is taken, mistakes are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import yaml
from policies.cases import random_world
from policies.table import CASES
from support import policy_kinds, policy_random
from support.bed.kubernetes import KubeApi
from support.policy_kinds import Kind
from support.policy_schemas import mistakes
from support.policy_schemas.mistakes import Mistake
from support.policy_schemas.samples import NAMESPACE, sample
from support.policy_schemas.server import refusal, stored
from support.testbed import CLUSTERS, accepted, bank, kubeconform

from pilothouse.policies import derive, manifests
from pilothouse.policies.adoption import Mode

Manifest = dict[str, Any]

FORMS = tuple(kind.api_version for kind in policy_kinds.KINDS if kind.name == "Tier")
RANDOM = 240
SEED = 20261121
WORLDS = 20

every_kind = pytest.mark.parametrize("kind", policy_kinds.KINDS, ids=lambda kind: f"{kind.api_version}/{kind.name}")


def refused(api: KubeApi, items: Iterable[Manifest]) -> list[str]:
    found = ((item, refusal(api, item)) for item in items)
    return [f"{item['kind']} {item['metadata']['name']}: {why}\n{yaml.safe_dump(item)}" for item, why in found if why]


def kind_of(name: str, group: str) -> Kind:
    return next(kind for kind in policy_kinds.of(group) if kind.name == name)


# ---------------------------------------------------------------- the kinds


def test_every_kind_is_served_in_its_scope(policy_api: KubeApi) -> None:
    found = set()
    for version in {kind.api_version for kind in policy_kinds.KINDS}:
        for item in policy_api.get(f"/apis/{version}")["resources"]:
            if "/" not in item["name"]:
                found.add((version, item["kind"], item["namespaced"]))
    assert found == {(kind.api_version, kind.name, kind.namespaced) for kind in policy_kinds.KINDS}
    assert len(found) == 23


@every_kind
def test_the_sample_is_taken_and_given_back(kind: Kind, policy_api: KubeApi) -> None:
    made = sample(kind)
    found = stored(policy_api, made)
    assert found["spec"] == made["spec"]
    assert found["metadata"]["labels"] == made["metadata"]["labels"]
    accepted(kubeconform(yaml.safe_dump(made)))


def test_what_is_left_out_is_filled_in(policy_api: KubeApi) -> None:
    found = {}
    for name, spec in (
        ("NetworkPolicy", {}),
        ("StagedGlobalNetworkPolicy", {}),
        ("Tier", {}),
        ("StagedKubernetesNetworkPolicy", {"ingress": [{"ports": [{"port": 80}]}]}),
    ):
        made = {**sample(kind_of(name, "projectcalico.org")), "spec": spec}
        found[name] = stored(policy_api, made)["spec"]
    assert found == {
        "NetworkPolicy": {"tier": "default"},
        "StagedGlobalNetworkPolicy": {"tier": "default", "stagedAction": "Set"},
        "Tier": {"defaultAction": "Deny"},
        "StagedKubernetesNetworkPolicy": {
            "stagedAction": "Set",
            "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}],
        },
    }


# ---------------------------------------------------------------- mistakes


def in_every_group(table: list[Mistake]) -> list[Any]:
    groups = policy_kinds.CALICO if table is mistakes.CALICO else (policy_kinds.SIG_NETWORK,)
    return [pytest.param(item, group, id=f"{group} {item}") for item in table for group in groups]


@pytest.mark.parametrize(("mistake", "group"), in_every_group(mistakes.CALICO) + in_every_group(mistakes.SIG_NETWORK))
def test_a_mistake_is_refused(mistake: Mistake, group: str, policy_api: KubeApi) -> None:
    assert mistake.says in refusal(policy_api, mistake.made(kind_of(mistake.kind, group)))


def test_a_policy_without_its_namespace_and_a_tier_within_one_are_refused(policy_api: KubeApi) -> None:
    for name, where in (("NetworkPolicy", {"name": "x"}), ("Tier", {"name": "x", "namespace": "shop"})):
        made = {**sample(kind_of(name, "projectcalico.org")), "metadata": where}
        assert refusal(policy_api, made).startswith("404")


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "for the server alone"])
def test_the_files_see_what_schemas_can(seen: bool) -> None:
    """Of every mistake but those that only rules in CEL can see, the files for kubeconform complain too."""
    made = [
        item.made(kind_of(item.kind, group))
        for table, group in ((mistakes.CALICO, "projectcalico.org"), (mistakes.SIG_NETWORK, policy_kinds.SIG_NETWORK))
        for item in table
        if item.cel is not seen
    ]
    assert len(made) > 10
    said = kubeconform(yaml.safe_dump_all(made)).stdout
    valid, invalid = (0, len(made)) if seen else (len(made), 0)
    assert f"Valid: {valid}, Invalid: {invalid}, Errors: 0, Skipped: 0" in said, said


# ---------------------------------------------------------------- what is derived


@cache
def policies(cluster: str, form: str, kinds: str = "kubernetes") -> tuple[Manifest, ...]:
    """Every policy and set of a cluster of the bank, as if all of it were enforced by Calico in that form."""
    inputs = bank(cluster)
    derived = derive(replace(inputs, cluster=replace(inputs.cluster, calico_api=form, policy_kinds=kinds)))
    return tuple(dict(item) for item in derived.as_if_enforced())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_policy_is_taken_enforced(cluster: str, form: str, policy_api: KubeApi) -> None:
    found = policies(cluster, form)
    kinds = Counter((item["apiVersion"], item["kind"]) for item in found)
    assert kinds["networking.k8s.io/v1", "NetworkPolicy"] > 10
    assert kinds[form, "NetworkPolicy"] > 0
    assert kinds[form, "GlobalNetworkSet"] > 0
    assert refused(policy_api, found) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_policy_is_taken_staged(cluster: str, form: str, policy_api: KubeApi) -> None:
    found = [manifests.staged(item, form) for item in policies(cluster, form)]
    kinds = Counter((item["apiVersion"], item["kind"]) for item in found)
    assert {version for version, _ in kinds} == {form}
    assert kinds[form, "StagedKubernetesNetworkPolicy"] > 10
    assert kinds[form, "StagedNetworkPolicy"] > 0
    assert refused(policy_api, found) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_policy_in_calicos_own_kinds_is_taken(cluster: str, form: str, policy_api: KubeApi) -> None:
    found = policies(cluster, form, "calico")
    staged = [manifests.staged(item, form) for item in found if item["kind"] == "NetworkPolicy"]
    kinds = Counter((item["apiVersion"], item["kind"]) for item in (*found, *staged))
    assert {version for version, _ in kinds} == {form}
    assert kinds[form, "NetworkPolicy"] == kinds[form, "StagedNetworkPolicy"] > 10
    assert kinds[form, "Tier"] == 1
    assert refused(policy_api, [*found, *staged]) == []
    accepted(kubeconform(yaml.safe_dump_all([*found, *staged])))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_is_rendered_is_taken(cluster: str, policy_api: KubeApi) -> None:
    """As the cluster itself declares it: its own form, and each namespace staged or enforced."""
    found = derive(bank(cluster))
    rendered = [dict(item) for item in found.artifacts.manifests()]
    assert {item.mode for item in found.modes.values()} & {Mode.ENFORCED, Mode.STAGED}
    assert len(rendered) > 5
    assert refused(policy_api, rendered) == []


# ---------------------------------------------------------------- chance, and the table of semantics


def test_random_objects_are_taken(policy_api: KubeApi) -> None:
    found = policy_random.objects(SEED, RANDOM)
    assert {(item["apiVersion"], item["kind"]) for item in found} == {
        ("networking.k8s.io/v1", "NetworkPolicy"),
        *((kind.api_version, kind.name) for kind in policy_kinds.KINDS),
    }
    assert refused(policy_api, found) == []
    accepted(kubeconform(yaml.safe_dump_all(found)))


def policies_of(objects: Iterable[Manifest]) -> list[Manifest]:
    """Those of a policy kind, each in the namespace of the samples if it is in any."""
    served = {(kind.api_version, kind.name) for kind in policy_kinds.KINDS} | {
        ("networking.k8s.io/v1", "NetworkPolicy")
    }
    found = [item for item in objects if (item["apiVersion"], item["kind"]) in served]
    where = {"namespace": NAMESPACE}
    return [
        {**item, "metadata": item["metadata"] | (where if "namespace" in item["metadata"] else {})} for item in found
    ]


def test_the_cases_of_the_semantics_are_policies_that_a_server_takes(policy_api: KubeApi) -> None:
    found = policies_of(item for case in CASES for item in case.objects)
    assert len(found) > 100
    assert refused(policy_api, found) == []


def test_the_random_worlds_of_the_semantics_are_what_a_server_takes(policy_api: KubeApi) -> None:
    found: list[Manifest] = []
    for seed in range(WORLDS):
        found += policies_of(random_world(seed).objects)
    assert len(found) > 4 * WORLDS
    assert refused(policy_api, found) == []
