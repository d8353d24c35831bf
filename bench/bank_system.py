"""What every cluster of the bank runs for itself: nodes, DNS, Calico, monitoring, logging, Vault, ingress, roles."""

from __future__ import annotations

from typing import Any

from kubeobjects import Box, Object, PortOf, World

REGISTRY = "registry.bank.example"

HTTP = PortOf("http", 8080)
METRICS = PortOf("metrics", 9102)
GRPC = PortOf("grpc", 9090)

TIERS = {"channels": "product", "payments": "product", "cards": "product", "ledger": "product", "accounts": "product"}
TIERS |= {"risk": "product", "notifications": "product", "data": "data", "platform-tools": "platform"}
SYSTEM = ("default", "ingress", "kube-node-lease", "kube-public", "kube-system", "logging", "monitoring", "pilothouse")

CLUSTERS = {"dev": (16, "v1.35.0"), "test": (24, "v1.35.0"), "uat": (32, "v1.34.2"), "prod": (40, "v1.34.2")}
"""The second number of its pods' addresses (one less for the nodes, one more for the services), and its version."""
SIZES = {"dev": (1, 2, 1), "test": (1, 2, 1), "uat": (1, 3, 2), "prod": (3, 4, 3)}
"""Control plane nodes, workers, replicas of a product's service."""
CALICO = {"test": "crd.projectcalico.org/v1", "uat": "projectcalico.org/v3", "prod": "projectcalico.org/v3"}
AS_FOLDER = frozenset(("test", "prod"))


def world(cluster: str) -> World:
    """An empty cluster with the address ranges that its declaration gives."""
    number, version = CLUSTERS[cluster]
    return World(
        cluster,
        pods4=f"10.{number}.0.0/16",
        pods6=f"fd00:10:{number}::/56",
        services4=f"10.{number + 1}.0.0/16",
        services6=f"fd00:10:{number + 1}::/112",
        nodes4=f"10.{number - 1}.0.0/24",
        nodes6=f"fd00:10:{number - 1}::/64",
        version=version,
    )


def image(name: str, tag: str = "2026.11.3") -> str:
    return f"{REGISTRY}/{name}:{tag}"


def box(name: str, *ports: PortOf, kind: str = "main", tag: str = "2026.11.3") -> Box:
    return Box(name, image(name, tag), ports, kind)


def nodes_and_namespaces(world: World) -> None:
    control, workers, _ = SIZES[world.name]
    for index in range(control):
        world.node(f"{world.name}-control-{index + 1}", 10 + index, control_plane=True)
    for index in range(workers):
        world.node(f"{world.name}-worker-{index + 1}", 20 + index)
    calico = ("calico-apiserver", "calico-system") if CALICO.get(world.name) == "projectcalico.org/v3" else ()
    for name in sorted((*SYSTEM, *calico, "vault", *TIERS)):
        labels = {"tier": TIERS[name], "pod-security.kubernetes.io/enforce": "restricted"} if name in TIERS else {}
        world.namespace(name, labels)
        world.account(name, "default")


def kube_system(world: World) -> None:
    for node in [name for name in world.nodes if "control" in name]:
        for name, port in (("etcd", 2381), ("kube-apiserver", 6443)):
            world.pod(
                "kube-system",
                f"{name}-{node}",
                {"component": name, "tier": "control-plane"},
                (Box(name, f"registry.k8s.io/{name}:{world.version}", (PortOf("probe-port", port),)),),
                owner=("v1", "Node", node),
                node=node,
                host_network=True,
                annotations={"kubernetes.io/config.source": "file"},
            )
    for name in ("coredns", "kube-proxy", "node-local-dns"):
        world.account("kube-system", name)
    proxy = Box("kube-proxy", f"registry.k8s.io/kube-proxy:{world.version}")
    world.daemon_set(
        "kube-system", "kube-proxy", {"k8s-app": "kube-proxy"}, (proxy,), account="kube-proxy", host_network=True
    )
    dns = (PortOf("dns", 53, "UDP"), PortOf("dns-tcp", 53))
    cache = Box("node-cache", "registry.k8s.io/dns/k8s-dns-node-cache:1.26.4", (*dns, PortOf("metrics", 9253)))
    world.daemon_set(
        "kube-system",
        "node-local-dns",
        {"k8s-app": "node-local-dns"},
        (cache,),
        account="node-local-dns",
        host_network=True,
    )
    core = Box("coredns", "registry.k8s.io/coredns/coredns:v1.12.4", (*dns, PortOf("metrics", 9153)))
    pods = world.deployment("kube-system", "coredns", {"k8s-app": "kube-dns"}, (core,), 2, account="coredns")
    world.service(
        "kube-system",
        "kube-dns",
        {"k8s-app": "kube-dns"},
        [("dns", 53, 53, "UDP"), ("dns-tcp", 53, 53), ("metrics", 9153, 9153)],
        pods,
        cluster_ip=10,
    )
    control = [world.addresses_of(name)[0] for name in world.nodes if "control" in name]
    world.service("default", "kubernetes", {}, [("https", 443, 6443)], [], cluster_ip=1)
    world.plain(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "kubernetes",
        "default",
        addressType="IPv4",
        labels={"kubernetes.io/service-name": "kubernetes"},
        endpoints=[{"addresses": [ip], "conditions": {"ready": True}} for ip in control],
        ports=[{"name": "https", "port": 6443, "protocol": "TCP"}],
    )


def calico(world: World) -> None:
    """Calico's own pods, and policies that the network team wrote by hand."""
    api = CALICO.get(world.name)
    if not api:
        return
    home = "kube-system" if api.startswith("crd") else "calico-system"
    world.account(home, "calico-node")
    world.daemon_set(
        home,
        "calico-node",
        {"k8s-app": "calico-node"},
        (Box("calico-node", "quay.io/calico/node:v3.31.2"),),
        account="calico-node",
        host_network=True,
    )
    prefix = "default." if api.startswith("crd") else ""  # the CRDs' names say the tier, the API server's don't have to
    world.plain(api, "Tier", "default", spec={"order": 1000000, "defaultAction": "Deny"})
    # A tier of its own: a Pass out of the default tier, which is the last, would allow what the teams' policies deny.
    world.plain(api, "Tier", "network", spec={"order": 100, "defaultAction": "Pass"})
    world.plain(
        api,
        "GlobalNetworkPolicy",
        "network.deny-metadata",
        labels={"team": "network"},
        spec={
            "order": 10,
            "tier": "network",
            "selector": "all()",
            "types": ["Egress"],
            "egress": [{"action": "Deny", "destination": {"nets": ["169.254.169.254/32"]}}],
        },
    )
    world.plain(
        api,
        "GlobalNetworkSet",
        "branch-offices",
        labels={"zone": "branch"},
        spec={"nets": ["172.31.64.0/20", "fd00:31:64::/64"]},
    )
    world.plain(
        api, "NetworkSet", "supervisor", "ledger", labels={"role": "supervisor"}, spec={"nets": ["172.31.40.0/28"]}
    )
    world.plain(
        api,
        "StagedNetworkPolicy",
        f"{prefix}try-scoring-only",
        "risk",
        spec={
            "order": 500,
            "tier": "default",
            "selector": "app == 'features'",
            "types": ["Ingress"],
            "ingress": [
                {
                    "action": "Allow",
                    "protocol": "TCP",
                    "source": {"selector": "tier == 'scoring'"},
                    "destination": {"ports": [9090]},
                }
            ],
        },
    )
    world.plain(api, "IPPool", "default-ipv4", spec={"cidr": world.pods4, "natOutgoing": True, "vxlanMode": "Always"})


def bundle(world: World) -> None:
    """Monitoring, logging, Vault, ingress and pilothouse itself."""

    def labels(name: str, component: str = "") -> dict[str, str]:
        found = {"app.kubernetes.io/name": name}
        return {**found, "app.kubernetes.io/component": component} if component else found

    for namespace, names in {
        "monitoring": ("prometheus", "alertmanager", "kube-state-metrics", "node-exporter", "grafana"),
        "logging": ("fluentd", "elasticsearch"),
        "vault": ("vault", "vault-agent-injector"),
        "ingress": ("ingress-controller",),
        "pilothouse": ("pilothouse",),
    }.items():
        for name in names:
            world.account(namespace, name)

    server = Box("prometheus", "quay.io/prometheus/prometheus:v3.15.0", (PortOf("web", 9090),))
    shards = {"uat": 2, "prod": 3}.get(world.name, 1)
    leaves = world.stateful_set(
        "monitoring", "prometheus-leaf", labels("prometheus", "leaf"), (server,), shards, account="prometheus"
    )
    world.service(
        "monitoring", "prometheus-leaf", labels("prometheus", "leaf"), [("web", 9090, "web")], leaves, headless=True
    )
    top = world.stateful_set(
        "monitoring", "prometheus-global", labels("prometheus", "global"), (server,), 1, account="prometheus"
    )
    world.service("monitoring", "prometheus", labels("prometheus", "global"), [("web", 80, "web")], top)
    mesh = (PortOf("web", 9093), PortOf("mesh", 9094), PortOf("mesh", 9094, "UDP"))
    alerting = Box("alertmanager", "quay.io/prometheus/alertmanager:v0.31.0", mesh)
    pods = world.stateful_set(
        "monitoring", "alertmanager", labels("alertmanager"), (alerting,), min(shards, 2), account="alertmanager"
    )
    world.service("monitoring", "alertmanager", labels("alertmanager"), [("web", 9093, "web")], pods, headless=True)
    state = Box(
        "kube-state-metrics",
        "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0",
        (PortOf("http-metrics", 8080), PortOf("telemetry", 8081)),
    )
    world.deployment(
        "monitoring", "kube-state-metrics", labels("kube-state-metrics"), (state,), 1, account="kube-state-metrics"
    )
    exporter = Box("node-exporter", "quay.io/prometheus/node-exporter:v1.10.2", (PortOf("metrics", 9100),))
    world.daemon_set(
        "monitoring", "node-exporter", labels("node-exporter"), (exporter,), account="node-exporter", host_network=True
    )
    grafana = Box("grafana", "docker.io/grafana/grafana:12.3.0", (PortOf("http", 3000),))
    pods = world.deployment("monitoring", "grafana", labels("grafana"), (grafana,), 1, account="grafana")
    world.service("monitoring", "grafana", labels("grafana"), [("http", 80, "http")], pods)

    fluentd = Box("fluentd", image("fluentd", "1.16.11"), (PortOf("metrics", 24231),))
    world.daemon_set("logging", "fluentd", labels("fluentd"), (fluentd,), account="fluentd")
    elastic = Box(
        "elasticsearch",
        "docker.elastic.co/elasticsearch/elasticsearch:8.19.7",
        (PortOf("https", 9200), PortOf("transport", 9300)),
    )
    data_nodes = {"dev": 1, "test": 2}.get(world.name, 3)
    pods = world.stateful_set(
        "logging", "elasticsearch", labels("elasticsearch"), (elastic,), data_nodes, account="elasticsearch"
    )
    world.service("logging", "elasticsearch", labels("elasticsearch"), [("https", 9200, "https")], pods)

    vault = Box("vault", "docker.io/hashicorp/vault:1.21.1", (PortOf("https", 8200), PortOf("https-internal", 8201)))
    pods = world.stateful_set("vault", "vault", labels("vault", "server"), (vault,), min(shards, 3), account="vault")
    world.service("vault", "vault", labels("vault", "server"), [("https", 8200, "https")], pods)
    injector = Box("vault-agent-injector", "docker.io/hashicorp/vault-k8s:1.7.1", (PortOf("https", 8080),))
    pods = world.deployment(
        "vault",
        "vault-agent-injector",
        labels("vault-agent-injector", "webhook"),
        (injector,),
        1,
        account="vault-agent-injector",
    )
    world.service(
        "vault", "vault-agent-injector", labels("vault-agent-injector", "webhook"), [("https", 443, "https")], pods
    )

    door = Box(
        "controller",
        image("ingress-controller", "5.2.0"),
        (PortOf("http", 80), PortOf("https", 443), PortOf("metrics", 10254)),
    )
    pods = world.deployment(
        "ingress",
        "ingress-controller",
        labels("ingress-controller"),
        (door,),
        min(shards + 1, 3),
        account="ingress-controller",
    )
    world.service(
        "ingress",
        "ingress-controller",
        labels("ingress-controller"),
        [("http", 80, "http"), ("https", 443, "https")],
        pods,
        type="LoadBalancer",
        external=f"198.51.100.{200 + list(CLUSTERS).index(world.name)}",
    )

    portal = Box("portal", image("pilothouse", "0.1.0"), (PortOf("http", 8420),))
    pods = world.deployment(
        "pilothouse", "pilothouse-portal", labels("pilothouse", "portal"), (portal,), 1, account="pilothouse"
    )
    world.service("pilothouse", "pilothouse-portal", labels("pilothouse", "portal"), [("http", 80, "http")], pods)
    worker = Box("worker", image("pilothouse", "0.1.0"), (PortOf("metrics", 8421),))
    world.deployment(
        "pilothouse", "pilothouse-worker", labels("pilothouse", "worker"), (worker,), 1, account="pilothouse"
    )


def rbac(world: World) -> None:
    """The standard ClusterRoles (their rules shortened), and roles that others made."""
    api, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    boot = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    read = ["get", "list", "watch"]
    write = ["create", "delete", "deletecollection", "patch", "update"]
    view = [
        {
            "apiGroups": [""],
            "resources": [
                "configmaps",
                "endpoints",
                "events",
                "namespaces",
                "persistentvolumeclaims",
                "pods",
                "pods/log",
                "pods/status",
                "serviceaccounts",
                "services",
            ],
            "verbs": read,
        },
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets", "deployments", "deployments/scale", "replicasets", "statefulsets"],
            "verbs": read,
        },
        {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": read},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": read},
    ]
    change = [
        {
            "apiGroups": [""],
            "resources": ["pods/attach", "pods/exec", "pods/portforward", "secrets"],
            "verbs": read + write,
        },
        {"apiGroups": [""], "resources": ["configmaps", "persistentvolumeclaims", "pods", "services"], "verbs": write},
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets", "deployments", "deployments/scale", "statefulsets"],
            "verbs": write,
        },
        {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": write},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": write},
    ]
    rule = [{"apiGroups": [group], "resources": ["rolebindings", "roles"], "verbs": read + write}]

    def collects(target: str) -> Object:
        return {"clusterRoleSelectors": [{"matchLabels": {f"rbac.authorization.k8s.io/aggregate-to-{target}": "true"}}]}

    world.plain(
        api,
        "ClusterRole",
        "cluster-admin",
        labels=boot,
        rules=[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    )
    for name, lower, rules in (
        ("view", "edit", view),
        ("edit", "admin", view + change),
        ("admin", "", view + change + rule),
    ):
        extra = {f"rbac.authorization.k8s.io/aggregate-to-{lower}": "true"} if lower else {}
        world.plain(api, "ClusterRole", name, labels={**boot, **extra}, aggregationRule=collects(name), rules=rules)
    for name, target, rules in (("view", "view", view), ("edit", "edit", change), ("admin", "admin", rule)):
        world.plain(
            api,
            "ClusterRole",
            f"system:aggregate-to-{name}",
            rules=rules,
            labels={**boot, f"rbac.authorization.k8s.io/aggregate-to-{target}": "true"},
        )
    world.plain(
        api,
        "ClusterRole",
        "system:discovery",
        labels=boot,
        rules=[
            {
                "nonResourceURLs": [
                    "/api",
                    "/api/*",
                    "/apis",
                    "/apis/*",
                    "/healthz",
                    "/livez",
                    "/openapi",
                    "/openapi/*",
                    "/readyz",
                    "/version",
                    "/version/",
                ],
                "verbs": ["get"],
            }
        ],
    )

    def subject(kind: str, name: str, namespace: str = "") -> Object:
        return {"kind": kind, "name": name, **({"namespace": namespace} if namespace else {"apiGroup": group})}

    def binding(name: str, role: str, subjects: list[Object], namespace: str = "", **more: Any) -> None:
        world.plain(
            api,
            "RoleBinding" if namespace else "ClusterRoleBinding",
            name,
            namespace,
            subjects=subjects,
            roleRef={"apiGroup": group, "kind": more.pop("kind", "ClusterRole"), "name": role},
            **more,
        )

    binding("cluster-admin", "cluster-admin", [subject("Group", "system:masters")], labels=boot)
    binding("system:discovery", "system:discovery", [subject("Group", "system:authenticated")], labels=boot)
    world.plain(
        api,
        "ClusterRole",
        "quota-reporter",
        rules=[{"apiGroups": [""], "resources": ["namespaces", "resourcequotas"], "verbs": ["get", "list"]}],
    )
    binding("quota-reporter", "quota-reporter", [subject("ServiceAccount", "quota-reporter", "platform-tools")])
    for namespace in ("payments", "cards"):
        world.account(namespace, "release-pipeline")
        binding("release-pipeline", "edit", [subject("ServiceAccount", "release-pipeline", namespace)], namespace)
    world.plain(
        api,
        "Role",
        "leader-election",
        "ledger",
        rules=[{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}],
    )
    binding(
        "leader-election", "leader-election", [subject("ServiceAccount", "ledger", "ledger")], "ledger", kind="Role"
    )
