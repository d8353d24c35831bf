"""Makes clusters full of policies, of any size: `python bench/policies_made.py --pods 10000 --out FILE`.

One JSON list as the API prints it: microservices with five pods each that call one another (few are called by many, as
in life), about one policy for every two pods, most of them Kubernetes' own, the others Calico's with tiers, order,
Deny and Pass. Object by object goes to the file: the memory that it takes hardly grows with the cluster. The same
numbers and seed make the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import policies_calico
from bank_system import box, image, kube_system
from generate import RANGES
from kubeobjects import Box, Object, PortOf, World

CLUSTER = "policies"
MONITORING = "monitoring"
METRICS = PortOf("metrics", 9102)
NETWORKING = "networking.k8s.io/v1"
ROUTERS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""What is not the internet (https://www.rfc-editor.org/rfc/rfc1918)."""

_PORTS = (8080, 8080, 8080, 8443, 9090, 9090, 5432, 6379, *range(7000, 7048))
_NAMES = {8080: "http", 8443: "https", 9090: "grpc", 5432: "postgres", 6379: "redis"}
_SUBJECTS = (
    "account address archive audit balance basket batch billing booking branch budget card catalogue claim consent "
    "contract coupon credit customer delivery deposit device document event exchange fee fraud gift identity image "
    "import invoice label ledger limit loan location loyalty mail market media member message offer order partner "
    "payment payroll price product profile quote rate refund report return reward risk route salary schedule search"
).split()
_ROLES = ("api", "worker", "store", "feed", "sync", "view", "rules", "index")
_CROWD = 25
"""More callers than that are no longer listed one by one: a policy then admits those that carry a label."""


@dataclass
class Made:
    """A service while it is being made; `calls` and `callers` are indices of others."""

    index: int
    namespace: str
    name: str
    team: str
    port: int
    sensitivity: str
    zone: str
    replicas: int
    stateful: bool
    dual_stack: bool
    calls: list[int] = field(default_factory=list)
    callers: list[int] = field(default_factory=list)

    @property
    def port_name(self) -> str:
        return _NAMES.get(self.port, "main")

    @property
    def crowd_label(self) -> str:
        """Carried by the pods of its callers, where those are many."""
        return f"calls-{self.namespace}-{self.name}"


@dataclass(frozen=True)
class Size:
    """`policies` are of every kind together."""

    pods: int
    services: int
    namespaces: int
    policies: int

    @classmethod
    def of(cls, pods: int, replicas: int = 5, crowd: int = 100) -> Size:
        """That many pods in a service and in a namespace; a policy for every two pods, and two at least for each
        service and namespace."""
        services = max(1, pods // replicas)
        namespaces = min(services, max(1, pods // crowd))
        return cls(pods, services, namespaces, max(pods // 2, 2 * (services + namespaces)))


DUAL_STACK = 0.2


def cluster(
    path: Path,
    pods: int,
    seed: int = 1,
    *,
    replicas: int = 5,
    crowd: int = 100,
    dual_stack: float = DUAL_STACK,
    kubernetes_only: bool = False,
) -> Size:
    """Writes a cluster with that many pods of services to `path`.

    `replicas` of them make a service, `crowd` a namespace. The cluster's own (DNS, monitoring, two on every node)
    come on top. `dual_stack` is the share of the services
    whose pods have IPv6 addresses, too. `kubernetes_only` leaves out everything that is Calico's, and the pods on the
    nodes' own network; there are fewer policies then.
    """
    if pods < replicas or replicas < 1:
        raise ValueError("a cluster has at least the pods of one service")
    size = Size.of(pods, replicas, crowd)
    made = planned(size, seed, dual_stack)
    dice = random.Random(f"policies/{size}/{seed}")
    world = World(CLUSTER, **RANGES)
    with _listed(path, world, {(item.namespace, item.name) for item in made if item.dual_stack}):
        _cluster(world, made, size, kubernetes_only)
        left = size.policies - _kubernetes_policies(world, made, dice)
        if not kubernetes_only:
            policies_calico.write(world, made, left, dice)
    return size


# ---------------------------------------------------------------- who calls whom


def planned(size: Size, seed: int = 1, dual_stack: float = DUAL_STACK) -> list[Made]:
    """The services of a cluster of that size, and who calls whom."""
    dice = random.Random(f"services/{size}/{seed}/{dual_stack}")
    made = []
    each, rest = divmod(size.pods, size.services)
    for index in range(size.services):
        number, kind = index % size.namespaces, index // size.namespaces
        subject = _SUBJECTS[number % len(_SUBJECTS)]
        suffix = f"-{number // len(_SUBJECTS) + 1}" if number >= len(_SUBJECTS) else ""
        word = _SUBJECTS[(number + 7 * kind) % len(_SUBJECTS)]
        item = Made(
            index=index,
            namespace=f"{subject}{suffix}",
            name=f"{word}-{_ROLES[kind % len(_ROLES)]}" + (f"-{kind}" if kind >= len(_ROLES) else ""),
            team=f"team-{number // 3 + 1:02d}",
            port=dice.choice(_PORTS),
            sensitivity="high" if dice.random() < 0.1 else "normal",
            zone=dice.choices(("open", "inner", "restricted"), (10, 75, 15))[0],
            replicas=each + (index < rest),
            stateful=dice.random() < 0.1,
            dual_stack=dice.random() < dual_stack,
        )
        made.append(item)
    _calls(made, size, dice)
    return made


def _calls(made: list[Made], size: Size, dice: random.Random) -> None:
    """Most call one or two others, a few call many (Pareto); a few are called by many (Zipf). Half stays at home."""
    ranked = list(range(len(made)))
    dice.shuffle(ranked)
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(ranked))))
    homes: dict[str, list[int]] = {}
    for item in made:
        homes.setdefault(item.namespace, []).append(item.index)
    for item in made:
        count = min(30, len(made) - 1, int(dice.paretovariate(1.4)))
        near = dice.choices(homes[item.namespace], k=(count + 1) // 2) if count else []
        far = dice.choices(ranked, cum_weights=weights, k=count // 2) if count else []
        for other in dict.fromkeys((*near, *far)):
            if other != item.index:
                item.calls.append(other)
                made[other].callers.append(item.index)


# ---------------------------------------------------------------- the file


@contextmanager
def _listed(path: Path, world: World, dual_stack: set[tuple[str, str]]) -> Iterator[None]:
    """While it lasts, what `world` makes goes to `path` as the members of one list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", buffering=1 << 20) as file:
        between = iter([""])
        encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True, check_circular=False).encode

        def write(data: Object) -> None:
            kind, metadata = data["kind"], data["metadata"]
            if kind == "Pod":
                six = (metadata["namespace"], metadata["labels"].get("app")) in dual_stack
                _flesh_out(data, world, six)
            elif kind == "EndpointSlice" and not data["endpoints"]:
                return
            elif kind == "Service" and (metadata["namespace"], metadata["name"]) not in dual_stack:
                _single_stack(data["spec"])
            file.write(next(between, ","))
            file.write(encode(data))

        world.sink = write
        file.write('{"apiVersion":"v1","items":[')
        yield
        file.write('],"kind":"List","metadata":{"resourceVersion":""}}\n')


def _single_stack(spec: Object) -> None:
    spec |= {"clusterIPs": spec["clusterIPs"][:1], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}


def _flesh_out(pod: Object, world: World, six: bool) -> None:
    """What the API server, the scheduler and the kubelet write into every pod, and nobody looks at here."""
    spec, status, name = pod["spec"], pod["status"], pod["metadata"]["name"]
    token = f"kube-api-access-{world.letters(5, 'token', name)}"
    mounts = [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": token, "readOnly": True}]
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        container["imagePullPolicy"] = "IfNotPresent"
        container["resources"] = {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}}
        container["terminationMessagePolicy"] = "File"
        container["volumeMounts"] = mounts
    spec["schedulerName"] = "default-scheduler"
    spec["securityContext"] = {"runAsNonRoot": True}
    spec["terminationGracePeriodSeconds"] = 30
    spec["tolerations"] = _TOLERATIONS
    spec["volumes"] = [{"name": token, "projected": _TOKEN}]
    status["qosClass"] = "Burstable"
    for state in status.get("containerStatuses", ()):
        state["containerID"] = f"containerd://{world.number('container', name):064x}"
        state["image"] = image(state["name"])
        state["lastState"] = {}
    if not six and not spec.get("hostNetwork"):
        status["podIPs"] = status["podIPs"][:1]


_TOLERATIONS = [
    {"effect": "NoExecute", "key": f"node.kubernetes.io/{key}", "operator": "Exists", "tolerationSeconds": 300}
    for key in ("not-ready", "unreachable")
]
_TOKEN: dict[str, Any] = {
    "defaultMode": 420,
    "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
    ],
}


# ---------------------------------------------------------------- what runs


def _cluster(world: World, made: list[Made], size: Size, kubernetes_only: bool) -> None:
    world.node("control-1", 10, control_plane=True)
    for index in range(max(2, -(-size.pods // 100))):
        world.node(f"worker-{index + 1}", 20 + index)
    for name in ("default", "kube-system", MONITORING):
        world.namespace(name, {})
        world.account(name, "default")
    if kubernetes_only:
        dns = Box(
            "coredns", "registry.k8s.io/coredns/coredns:v1.12.4", (PortOf("dns", 53, "UDP"), PortOf("dns-tcp", 53))
        )
        world.deployment("kube-system", "coredns", {"k8s-app": "kube-dns"}, (dns,), 1)
    else:
        kube_system(world)
    world.account(MONITORING, "prometheus")
    prometheus = box("prometheus", PortOf("web", 9090))
    replicas = 1 if kubernetes_only else 2
    world.stateful_set(MONITORING, "prometheus", {"app": "prometheus"}, (prometheus,), replicas, account="prometheus")
    for item in made[: size.namespaces]:
        world.namespace(item.namespace, {"team": item.team, "tier": "product"})
        world.account(item.namespace, "default")
    for item in made:
        _service(world, item, made)


def _service(world: World, item: Made, made: list[Made]) -> None:
    labels = {"app": item.name, "sensitivity": item.sensitivity, "team": item.team, "zone": item.zone}
    for other in item.calls:
        if len(made[other].callers) > _CROWD:
            labels[made[other].crowd_label] = "true"
    world.account(item.namespace, item.name)
    make = world.stateful_set if item.stateful else world.deployment
    ports = (PortOf(item.port_name, item.port), METRICS)
    pods = make(item.namespace, item.name, labels, (box(item.name, *ports),), item.replicas, account=item.name)
    offered = [(item.port_name, 80, item.port_name)]
    world.service(item.namespace, item.name, {"app": item.name}, offered, pods)


# ---------------------------------------------------------------- Kubernetes' policies


def _kubernetes_policies(world: World, made: list[Made], dice: random.Random) -> int:
    """Two per namespace and two per service; how many those are."""
    namespaces = dict.fromkeys(item.namespace for item in made)
    for name in namespaces:
        both = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        world.plain(NETWORKING, "NetworkPolicy", "default-deny", name, spec=both)
        world.plain(NETWORKING, "NetworkPolicy", "dns", name, spec=_dns())
    for item in made:
        for direction, rules in (("ingress", _ingress(item, made, dice)), ("egress", _egress(item, made, dice))):
            spec: Object = {
                "podSelector": _pods(item),
                "policyTypes": [direction.capitalize()],
                **({direction: rules} if rules else {}),
            }
            world.plain(NETWORKING, "NetworkPolicy", f"{item.name}-{direction}", item.namespace, spec=spec)
    return 2 * (len(namespaces) + len(made))


def _dns() -> Object:
    peer = {"namespaceSelector": _namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    ports = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {"egress": [{"ports": ports, "to": [peer]}], "podSelector": {}, "policyTypes": ["Egress"]}


def _namespace(name: str) -> Object:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}


def _pods(item: Made) -> Object:
    return {"matchLabels": {"app": item.name}}


def _peer(other: Made, home: str) -> Object:
    if other.namespace == home:
        return {"podSelector": _pods(other)}
    return {"namespaceSelector": _namespace(other.namespace), "podSelector": _pods(other)}


def _port(item: Made, dice: random.Random) -> Object:
    """By number, and now and then by name or as a range."""
    chance = dice.random()
    if chance < 0.15:
        return {"port": item.port_name, "protocol": "TCP"}
    if chance < 0.18:
        return {"endPort": item.port + 9, "port": item.port, "protocol": "TCP"}
    return {"port": item.port, "protocol": "TCP"}


def _ingress(item: Made, made: list[Made], dice: random.Random) -> list[Object]:
    rules: list[Object] = []
    if len(item.callers) > _CROWD:
        callers = {"matchExpressions": [{"key": item.crowd_label, "operator": "In", "values": ["true"]}]}
        products = {"matchLabels": {"tier": "product"}}
        rules.append({"from": [{"namespaceSelector": products, "podSelector": callers}], "ports": [_port(item, dice)]})
    elif item.callers:
        peers = [_peer(made[other], item.namespace) for other in item.callers]
        rules.append({"from": peers, "ports": [_port(item, dice)]})
    elif dice.random() < 0.2:  # nobody in the cluster calls it: partners do
        rules.append({"from": [{"ipBlock": {"cidr": _partner(dice)}}], "ports": [_port(item, dice)]})
    scrapers = {"namespaceSelector": _namespace(MONITORING), "podSelector": {"matchLabels": {"app": "prometheus"}}}
    rules.append({"from": [scrapers], "ports": [{"port": METRICS.number, "protocol": "TCP"}]})
    return rules


def _egress(item: Made, made: list[Made], dice: random.Random) -> list[Object]:
    rules: list[Object] = [
        {"ports": [_port(made[other], dice)], "to": [_peer(made[other], item.namespace)]} for other in item.calls
    ]
    chance = dice.random()
    https = [{"port": 443, "protocol": "TCP"}]
    if chance < 0.03:
        block: Object = {"cidr": "0.0.0.0/0", "except": list(ROUTERS)}
        rules.append({"ports": https, "to": [{"ipBlock": block}]})
    elif chance < 0.07:
        rules.append({"ports": https, "to": [{"ipBlock": {"cidr": _partner(dice)}}]})
    elif chance < 0.08:  # meant for machines beside the cluster: the pods' addresses lie in it, too
        rules.append({"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": [RANGES["services4"]]}}]})
    elif chance < 0.09 and item.dual_stack:
        rules.append({"ports": https, "to": [{"ipBlock": {"cidr": "2001:db8:40::/48"}}]})
    return rules


def _partner(dice: random.Random) -> str:
    return f"203.0.113.{16 * dice.randrange(16)}/28"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a cluster full of policies.")
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=5, help="pods of a service")
    parser.add_argument("--crowd", type=int, default=100, help="pods of a namespace")
    parser.add_argument("--dual-stack", type=float, default=DUAL_STACK, help="share of the services with IPv6, too")
    parser.add_argument("--kubernetes-only", action="store_true", help="without Calico's kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    size = cluster(
        given.out,
        given.pods,
        given.seed,
        replicas=given.replicas,
        crowd=given.crowd,
        dual_stack=given.dual_stack,
        kubernetes_only=given.kubernetes_only,
    )
    print(f"{given.out}: {size}")


if __name__ == "__main__":
    main()
