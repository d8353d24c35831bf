"""Every rendered manifest is strictly valid, and the check would notice if it were not."""

from __future__ import annotations

import pytest
import yaml
from support.testbed import CLUSTERS, accepted, derived, kubeconform

from pilothouse.artifacts.model import Format
from pilothouse.artifacts.write import serialise


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_manifest(cluster: str) -> None:
    documents = [item for item in derived(cluster).artifacts if item.format is Format.MANIFESTS]
    count = sum(len(list(item.data)) for item in documents)
    assert count > 20
    said = accepted(kubeconform("\n---\n".join(serialise(item).decode() for item in documents)))
    assert f"Valid: {count}, Invalid: 0, Errors: 0, Skipped: 0" in said


def policy(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {"podSelector": {}, **spec},
    }


CALICO = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "NetworkPolicy",
    "metadata": {"name": "x", "namespace": "shop"},
    "spec": {"selector": "all()", "types": ["Egress"], "egress": [{"action": "Allow", "protocol": "TCP"}]},
}


def test_good_ones_pass() -> None:
    accepted(kubeconform(yaml.safe_dump_all([policy(policyTypes=["Egress"]), CALICO])))


@pytest.mark.parametrize(
    "manifest",
    [
        policy(policyType=["Egress"]),
        policy(egress=[{"ports": [{"port": 80, "protcol": "TCP"}]}]),
        policy(egress=[{"to": [{"ipBlock": {}}]}]),
        {**policy(), "kind": "NetworkPolicies"},
        {**policy(), "apiVersion": "networking.k8s.io/v1beta9"},
        {"apiVersion": "autoscaling/v2beta1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replica": 1}},
        {**CALICO, "spec": {"selectr": "all()"}},
        {**CALICO, "spec": {"egress": [{"action": "allow"}]}},
        {**CALICO, "metadata": {"name": "x"}},
        {**CALICO, "apiVersion": "projectcalico.org/v2"},
    ],
    ids=str,
)
def test_mistakes_fail(manifest: dict[str, object]) -> None:
    done = kubeconform(yaml.safe_dump(manifest))
    assert done.returncode != 0
    assert "Skipped: 0" in done.stdout
