"""The manifests of the agents: DaemonSet, RBAC and the ConfigMaps of their configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pilothouse.collectors.logging.content import Settings
from pilothouse.inputs import Inputs
from pilothouse.labels import ownership

CONFIG_BYTES = 900_000
"""The most that one ConfigMap carries; the API server refuses more than 1 MiB:
https://kubernetes.io/docs/concepts/configuration/configmap/#motivation"""


def manifests(inputs: Inputs, settings: Settings, files: Mapping[str, str]) -> list[dict[str, Any]]:
    """`files` are the configuration's texts by name. Raises `ValueError` where one is too large for a ConfigMap."""
    agents, cluster = settings.agents, inputs.cluster
    labels = {
        "app.kubernetes.io/name": agents.name,
        "app.kubernetes.io/component": "logging",
        **ownership(cluster.name),
    }
    maps = _config_maps(agents.name, agents.namespace, labels, files)
    account = {"kind": "ServiceAccount", "name": agents.service_account, "namespace": agents.namespace}
    reader = f"pilothouse-{agents.name}"
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": agents.service_account, "namespace": agents.namespace, "labels": labels},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": reader, "labels": labels},
            "rules": [{"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": reader, "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": reader},
            "subjects": [account],
        },
        *maps,
        _daemon_set(inputs, settings, labels, [item["metadata"]["name"] for item in maps], files),
    ]


def _config_maps(
    name: str, namespace: str, labels: Mapping[str, str], files: Mapping[str, str]
) -> list[dict[str, Any]]:
    """As few ConfigMaps as hold the files; a file that is too large for one is cut at the lines between elements."""
    groups: list[dict[str, str]] = [{}]
    room = CONFIG_BYTES
    for path in sorted(files):
        needed = len(files[path].encode())
        if needed > CONFIG_BYTES:
            raise ValueError(f"{path} is larger than a ConfigMap may be")
        if needed > room:
            groups.append({})
            room = CONFIG_BYTES
        groups[-1][path] = files[path]
        room -= needed
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{name}-config" if index == 0 else f"{name}-config-{index + 1}",
                "namespace": namespace,
                "labels": dict(labels),
            },
            "data": group,
        }
        for index, group in enumerate(groups)
    ]


def _daemon_set(
    inputs: Inputs, settings: Settings, labels: Mapping[str, str], maps: list[str], files: Mapping[str, str]
) -> dict[str, Any]:
    agents, state = settings.agents, settings.pipeline.read.state_folder
    checksum = hashlib.sha256("\0".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()
    environment: list[dict[str, Any]] = [
        {"name": "FLUENTD_CONF", "value": "fluent.conf"},
        {"name": "K8S_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    if agents.credentials:
        for variable, key in (("ELASTICSEARCH_USER", "username"), ("ELASTICSEARCH_PASSWORD", "password")):
            environment.append(
                {"name": variable, "valueFrom": {"secretKeyRef": {"name": agents.credentials, "key": key}}}
            )
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": "/fluentd/etc", "readOnly": True},
        {"name": "logs", "mountPath": "/var/log", "readOnly": True},
        {"name": "state", "mountPath": state},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount of the container, not a file of ours
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "projected": {"sources": [{"configMap": {"name": name}} for name in maps]}},
        {"name": "logs", "hostPath": {"path": "/var/log", "type": "Directory"}},
        {"name": "state", "hostPath": {"path": state, "type": "DirectoryOrCreate"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    server = inputs.cluster.servers.elasticsearch
    if server and server.ca_file:
        mounts.append({"name": "ca", "mountPath": server.ca_file, "readOnly": True})
        volumes.append({"name": "ca", "hostPath": {"path": server.ca_file, "type": "File"}})
    container = {
        "name": "fluentd",
        "image": agents.image,
        "env": environment,
        "ports": [
            {"name": "metrics", "containerPort": agents.ports.metrics, "protocol": "TCP"},
            {"name": "monitor", "containerPort": agents.ports.monitor, "protocol": "TCP"},
        ],
        # No liveness probe: an agent whose buffer is full answers nothing until Elasticsearch takes
        # records again, and a restart would not help it.
        "readinessProbe": {
            "httpGet": {"path": "/api/config.json", "port": "monitor"},
            "periodSeconds": 15,
            "timeoutSeconds": 5,
            "failureThreshold": 4,
        },
        "resources": agents.resources,
        "securityContext": {
            # The kubelet's log files belong to root.
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": mounts,
    }
    selector = {"app.kubernetes.io/name": agents.name}
    pod: dict[str, Any] = {
        "serviceAccountName": agents.service_account,
        "terminationGracePeriodSeconds": 60,
        "tolerations": [dict(item) for item in agents.tolerations],
        "containers": [container],
        "volumes": volumes,
    }
    if agents.priority_class_name:
        pod["priorityClassName"] = agents.priority_class_name
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": agents.name, "namespace": agents.namespace, "labels": dict(labels)},
        "spec": {
            "selector": {"matchLabels": selector},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {
                    "labels": dict(labels),
                    "annotations": {"checksum/config": checksum, "prometheus.io/port": str(agents.ports.metrics)},
                },
                "spec": pod,
            },
        },
    }
