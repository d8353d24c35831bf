"""Writes the snapshots of the bank: `python bench/snapshots.py [FOLDER]` (default `examples/bank/snapshots`).

What runs in each cluster is said here once more, apart from the bank's declarations, as in life: the two
are made by different people. A test holds the committed files against what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bank_system import (
    AS_FOLDER,
    CLUSTERS,
    GRPC,
    HTTP,
    METRICS,
    SIZES,
    box,
    bundle,
    calico,
    image,
    kube_system,
    nodes_and_namespaces,
    rbac,
    world,
)
from kubeobjects import Box, Object, PortOf, World

# ---------------------------------------------------------------- the bank's services


def services(world: World) -> None:
    _, _, many = SIZES[world.name]

    def plain(
        namespace: str,
        name: str,
        *boxes: Box,
        target: int | str = "http",
        port: int = 80,
        replicas: int = 0,
        extra: dict[str, str] | None = None,
        **more: Any,
    ) -> list[Object]:
        """A Deployment with a ServiceAccount, and a Service on another port than the container's."""
        world.account(namespace, name)
        pods = world.deployment(
            namespace,
            name,
            {"app": name, **(extra or {})},
            boxes or (box(name, HTTP, METRICS),),
            replicas or many,
            account=name,
            **more,
        )
        if target:
            world.service(namespace, name, {"app": name}, [(str(target), port, target)], pods)
        return pods

    # A sidecar of the old kind, an ordinary container, and an init container that has finished.
    plain(
        "channels",
        "gateway",
        box("warm-cache", kind="init"),
        box("gateway", HTTP, METRICS),
        Box("envoy", "docker.io/envoyproxy/envoy:v1.36.2", (PortOf("admin", 9901),)),
    )
    plain(
        "channels",
        "web-bff",
        states=("Evicted",) if world.name == "prod" else (),
        replicas=4 if world.name == "prod" else 0,
    )
    plain("channels", "mobile-bff", states=("Unschedulable",) if world.name == "uat" else ())
    plain("channels", "webhooks")

    # A native sidecar: an init container that stays, with a port of its own.
    agent = Box("vault-agent", "docker.io/hashicorp/vault:1.21.1", (PortOf("agent-metrics", 9101),), "sidecar")
    plain("payments", "payments", box("migrate", kind="init"), agent, box("payments", HTTP, METRICS))
    world.account("payments", "standing-orders")
    minute = 29_897_640
    states = ("Failed" if world.name == "dev" else "Succeeded", "Succeeded", "Running")
    for index, state in enumerate(states):
        job = f"standing-orders-{minute + 60 * index}"
        labels = {"app": "standing-orders", "batch.kubernetes.io/job-name": job, "job-name": job}
        labels["batch.kubernetes.io/controller-uid"] = world.uid("Job", "payments", job)
        world.pod(
            "payments",
            f"{job}-{world.letters(5, job)}",
            labels,
            (box("standing-orders"),),
            owner=("batch/v1", "Job", job),
            account="standing-orders",
            state=state,
            generate_name=f"{job}-",
        )
    stateful(world, "payments", "settlement", (box("settlement", METRICS),), 1 if many < 3 else 2)

    stateful(world, "ledger", "ledger", (box("ledger", GRPC, METRICS),), many, ("grpc", 9090))
    if world.name != "dev":
        plain("ledger", "reporting", box("reporting", METRICS), target="", replicas=1)

    plain("accounts", "accounts")
    plain("accounts", "identity")
    plain(
        "accounts",
        "statements",
        box("statements", PortOf("http", 8443), METRICS),
        target=8443,
        states=("Creating",) if world.name == "uat" else (),
    )

    plain("cards", "cards")
    plain("cards", "tokenizer", box("tokenizer", PortOf("http", 8443), METRICS), port=443)

    # The canary's port `http` has another number: the Service and the policies go by the name.
    scoring = {"tier": "scoring"}
    stable = plain("risk", "fraud", extra={**scoring, "track": "stable"}, target="")
    canary = world.deployment(
        "risk",
        "fraud-canary",
        {"app": "fraud", **scoring, "track": "canary"},
        (box("fraud", PortOf("http", 8081), METRICS, tag="2026.12.0-rc.1"),),
        1,
        account="fraud",
    )
    world.service("risk", "fraud", {"app": "fraud"}, [("http", 80, "http")], stable + canary)
    plain("risk", "features", box("features", GRPC, METRICS), target="grpc", port=9090)
    plain("risk", "sanctions", replicas=1 if many < 3 else 2)
    if world.name != "dev":  # Somebody's notebook: no declaration, no owner.
        world.pod("risk", "notebook-niaj", {"app": "notebook", "user": "niaj"}, (box("notebook", PortOf("web", 8888)),))

    plain("notifications", "dispatcher", states=("NotReady",) if world.name == "dev" else ())
    relay = world.service("notifications", "mail-relay", {}, [("submission", 587, 587)], [], headless=True)
    relay["metadata"]["labels"] = {"app": "mail-relay"}
    world.plain(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "mail-relay-manual",
        "notifications",
        addressType="IPv4",
        labels={"kubernetes.io/service-name": "mail-relay"},
        endpoints=[{"addresses": ["172.31.20.25"], "conditions": {"ready": True}}],
        ports=[{"name": "submission", "port": 587, "protocol": "TCP"}],
    )

    def exporter(of: str, port: int) -> Box:
        return Box("exporter", image(f"{of}-exporter", "1.0.4"), (PortOf("metrics", port),))

    redis = Box("redis", "docker.io/library/redis:8.4.0", (PortOf("redis", 6379),))
    stateful(world, "data", "redis", (redis, exporter("redis", 9121)), 3 if many == 3 else 1, ("redis", 6379))
    postgres = Box("postgres", "docker.io/library/postgres:18.1", (PortOf("postgres", 5432),))
    stateful(world, "data", "postgres", (postgres, exporter("postgres", 9187)), min(many, 2), ("postgres", 5432))
    kafka = Box("kafka", "docker.io/apache/kafka:4.1.1", (PortOf("kafka", 9092), PortOf("replication", 9093)))
    stateful(world, "data", "kafka", (kafka, exporter("kafka", 9404)), 3 if many > 1 else 1, ("kafka", 9092))
    plain("platform-tools", "quota-reporter", box("quota-reporter", METRICS), target="", replicas=1)


def stateful(
    world: World, namespace: str, name: str, boxes: tuple[Box, ...], replicas: int, port: tuple[str, int] | None = None
) -> None:
    """A StatefulSet with its ServiceAccount, its headless Service and, for clients, an ordinary one."""
    world.account(namespace, name)
    pods = world.stateful_set(namespace, name, {"app": name}, boxes, replicas, account=name)
    exposed = port or ("metrics", 9102)
    world.service(
        namespace, f"{name}-headless", {"app": name}, [(exposed[0], exposed[1], exposed[0])], pods, headless=True
    )
    if port:
        world.service(namespace, name, {"app": name}, [(port[0], port[1], port[0])], pods)


def doors_and_foreign_policies(world: World) -> None:
    for name, host in (("gateway", "www"), ("webhooks", "webhooks")):
        address = f"{host}.bank.example" if world.name == "prod" else f"{host}.{world.name}.bank.example"
        backend = {"service": {"name": name, "port": {"name": "http"}}}
        world.plain(
            "networking.k8s.io/v1",
            "Ingress",
            name,
            "channels",
            spec={
                "ingressClassName": "edge",
                "rules": [
                    {"host": address, "http": {"paths": [{"backend": backend, "path": "/", "pathType": "Prefix"}]}}
                ],
                "tls": [{"hosts": [address], "secretName": f"{name}-tls"}],
            },
            status={"loadBalancer": {}},
        )
    # Written by hand before there were declarations, and still there.
    world.plain(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "allow-channels",
        "cards",
        labels={"app.kubernetes.io/managed-by": "Helm"},
        spec={
            "podSelector": {"matchLabels": {"app": "cards"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "channels"}}}],
                    "ports": [{"port": "http", "protocol": "TCP"}],
                }
            ],
        },
    )
    world.plain(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "grafana",
        "monitoring",
        spec={
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "grafana"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": 3000, "protocol": "TCP"}]}],
        },
    )


# ---------------------------------------------------------------- writing


def objects(cluster: str) -> list[Object]:
    """Every object of that cluster, as kubectl orders them: by kind as asked for, then by namespace and name."""
    made = world(cluster)
    for part in (nodes_and_namespaces, kube_system, calico, bundle, services, doors_and_foreign_policies, rbac):
        part(made)
    order = (
        "Namespace",
        "Node",
        "Pod",
        "Service",
        "EndpointSlice",
        "ServiceAccount",
        "NetworkPolicy",
        "Ingress",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    )

    def key(item: Object) -> tuple[int, str, str, str]:
        kind, calico_kind = item["kind"], "calico" in item["apiVersion"]
        place = len(order) if calico_kind or kind not in order else order.index(kind)
        return (place, kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])

    return sorted(made.objects, key=key)


def kubectl_list(items: list[Object]) -> str:
    """As `kubectl get -o json` prints a List: four spaces, keys sorted."""
    data = {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
    return json.dumps(data, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


PLURALS = {
    "NetworkPolicy": "networkpolicies",
    "Ingress": "ingresses",
    "GlobalNetworkPolicy": "globalnetworkpolicies",
    "StagedNetworkPolicy": "stagednetworkpolicies",
}


def files() -> dict[str, str]:
    """Every snapshot's text by path below the folder of snapshots."""
    found: dict[str, str] = {}
    for cluster in CLUSTERS:
        items = objects(cluster)
        if cluster not in AS_FOLDER:
            found[f"{cluster}.json"] = kubectl_list(items)
            continue
        for kind, calico_kind in dict.fromkeys((item["kind"], "calico" in item["apiVersion"]) for item in items):
            name = PLURALS.get(kind, f"{kind.lower()}s") + (".calico" if calico_kind else "")
            chosen = [i for i in items if i["kind"] == kind and ("calico" in i["apiVersion"]) == calico_kind]
            found[f"{cluster}/{name}.json"] = kubectl_list(chosen)
    return found


def main() -> None:
    default = Path(__file__).parents[1] / "examples" / "bank" / "snapshots"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    for path, text in files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"{target}  {len(text):,} bytes")


if __name__ == "__main__":
    main()
