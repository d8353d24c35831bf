"""Makes platforms of any size: `python bench/generate.py --services 2000 --pods 10000 --out DIR`.

A platform folder with every kind of document and one cluster, `prod`, with its snapshot. It has no errors, and the same
numbers and seed make the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from bank_system import box, bundle, kube_system
from kubeobjects import PortOf, World

CLUSTER = "prod"
EXPIRES = "2027-06-30"
API_VERSION = "pilothouse.dev/v1"

_SUBJECTS = (
    "account address archive audit balance basket batch billing booking branch budget card catalogue claim consent "
    "contract coupon credit customer delivery deposit device document event exchange fee fraud gift identity image "
    "import invoice label ledger limit loan location loyalty mail market media member message offer order partner "
    "payment payroll price product profile quote rate refund report return reward risk route salary schedule search "
    "session settlement shipment stock storage subscription survey tariff tax ticket token transfer user voucher wallet"
).split()
_ROLES = ("api", "worker", "store", "feed", "sync", "view", "rules", "index")
_PEOPLE = "alex blair casey drew eden finley gray harper indigo jamie kai logan morgan noel oakley parker".split()


@dataclass
class Made:
    """A service while it is being made; `calls` and `callers` are keys of others."""

    namespace: str
    name: str
    team: str
    port: int
    high: bool
    lists: bool
    stateful: bool
    edge: bool
    calls: list[str] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def port_name(self) -> str:
        return "http" if self.port != 9090 else "grpc"


def platform(
    out: Path, services: int, namespaces: int, pods: int, seed: int = 1, alertmanagers: Sequence[str] = ()
) -> None:
    """Write a platform of that many services in that many namespaces, and a snapshot with that many of their pods.

    The pods of the cluster's own (DNS, monitoring, one Fluentd per node and so on) come on top. `alertmanagers` are
    addresses of its Alertmanagers, instead of names that lead nowhere.
    """
    if services < 1 or namespaces < 1 or pods < 0:
        raise ValueError("a platform has at least one service in one namespace")
    namespaces = min(namespaces, services)
    dice = random.Random(f"{services}/{namespaces}/{pods}/{seed}")
    made = _services(services, namespaces, dice)
    teams = sorted({item.team for item in made.values()})

    _write(out / "platform.yaml", {"kind": "Platform", "metadata": {"name": f"generated-{services}"}, "spec": {}})
    for team in ("platform", *teams):
        _write(out / "teams" / f"{team}.yaml", _team(team, dice))
    world = World(CLUSTER, **RANGES)
    declared = _cluster(world, pods, dice, sorted({m.namespace for m in made.values()}))
    if alertmanagers:
        declared["spec"]["servers"]["alertmanagers"] = [{"url": url} for url in alertmanagers]
    _write(out / "clusters" / f"{CLUSTER}.yaml", declared)
    _write(out / "profiles" / "auditor.yaml", _profile())
    for item in made.values():
        _write(out / "services" / item.namespace / f"{item.name}.yaml", _service(item, made, dice))
    _snapshot(out / "snapshots" / f"{CLUSTER}.json", world, made, pods)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump({"apiVersion": API_VERSION, **document}, Dumper=dumper, sort_keys=False, width=120)
    path.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- who calls whom


def _services(count: int, namespaces: int, dice: random.Random) -> dict[str, Made]:
    """Services that call a few others, mostly near ones; some are called by many, as in life."""
    made: dict[str, Made] = {}
    for index in range(count):
        number = index % namespaces
        subject = _SUBJECTS[number % len(_SUBJECTS)]
        suffix = f"-{number // len(_SUBJECTS) + 1}" if number >= len(_SUBJECTS) else ""
        kind = index // namespaces
        name = f"{_SUBJECTS[(number + 7 * kind) % len(_SUBJECTS)]}-{_ROLES[kind % len(_ROLES)]}"
        high = dice.random() < 0.1
        item = Made(
            namespace=f"{subject}{suffix}",
            name=f"{name}-{kind}" if kind >= len(_ROLES) else name,
            team=f"team-{number // 3 + 1:02d}",
            port=dice.choice((8080, 8080, 9090)),
            high=high,
            lists=high or dice.random() < 0.3,
            stateful=dice.random() < 0.1,
            edge=dice.random() < 0.02,
        )
        made[item.key] = item
    keys = list(made)
    popular = keys[: max(1, count // 50)]
    for item in made.values():
        for other in sorted(set(dice.sample(keys, min(2, count)) + dice.sample(popular, min(1, len(popular))))):
            if other != item.key:
                item.calls.append(other)
                made[other].callers.append(item.key)
    return made


# ---------------------------------------------------------------- documents


def _service(item: Made, made: dict[str, Made], dice: random.Random) -> dict[str, Any]:
    egress: list[dict[str, Any]] = [
        {"to": {"service": other}, "ports": [made[other].port_name]} for other in item.calls
    ]
    chance = dice.random()
    if chance < 0.05:
        domain = f"api.partner-{dice.randrange(40)}.example"
        egress.append({"to": {"domain": domain}, "ports": [443], "reason": "partner's API", "expires": EXPIRES})
    elif chance < 0.1:
        cidr = f"203.0.113.{16 * dice.randrange(16)}/28"
        egress.append({"to": {"cidr": cidr}, "ports": [443], "reason": "partner's network", "expires": EXPIRES})
    elif chance < 0.12:
        egress.append({"to": {"apiServer": True}, "ports": [6443]})
    elif item.edge:
        egress.append({"to": {"internet": True}, "ports": [443], "reason": "webhooks", "expires": EXPIRES})
    spec: dict[str, Any] = {
        "team": item.team,
        "description": f"Service {item.name} of the generated platform",
        "podSelector": {"matchLabels": {"app": item.name}},
        "serviceAccountName": item.name,
        "exposure": "edge" if item.edge else "internal",
        "sensitivity": "high" if item.high else "normal",
        "ports": [
            {"name": item.port_name, "containerPort": item.port},
            {"name": "metrics", "containerPort": 9102},
        ],
    }
    if item.lists:
        spec["ingress"] = [{"from": {"service": other}, "ports": [item.port_name]} for other in sorted(item.callers)]
    spec["egress"] = egress
    spec["metrics"] = {"port": "metrics", "seriesPerPod": dice.choice((500, 1000, 2000))}
    spec["alerts"] = _alerts(item, dice)
    spec["logs"] = {
        "format": dice.choice(("json", "json", "text", "logfmt")),
        "rate": dice.choice(("1KiB/s", "2KiB/s", "5KiB/s")),
        "retention": dice.choice(("7d", "14d", "30d")),
    }
    if dice.random() < 0.5:
        spec["secrets"] = [{"path": f"{item.namespace}/{item.name}", "mountPath": "/secrets/main"}]
    return {"kind": "Service", "metadata": {"name": item.name, "namespace": item.namespace}, "spec": spec}


def _alerts(item: Made, dice: random.Random) -> list[dict[str, Any]]:
    alerts: list[dict[str, Any]] = [{"replicasBelow": 1, "for": "5m", "severity": "page"}]
    if dice.random() < 0.5:
        query = f"select_{item.name.replace('-', '_')}"
        latency = {"query": query, "seconds": 0.25, "quantile": 0.99}
        alerts.append({"sqlLatencyAbove": latency, "for": "10m", "severity": "ticket"})
    if dice.random() < 0.3:
        alerts.append(
            {
                "name": "".join(part.capitalize() for part in item.name.split("-")) + "ErrorsHigh",
                "expr": 'sum(rate(requests_total{code=~"5.."}[5m])) / sum(rate(requests_total[5m])) > 0.05',
                "for": "10m",
                "severity": dice.choice(("page", "ticket")),
                "summary": "More than 5 % of the requests fail",
                "runbook": f"https://wiki.example/runbooks/{item.name}",
            }
        )
    return alerts


def _team(name: str, dice: random.Random) -> dict[str, Any]:
    people = [f"{person}-{name}" for person in dice.sample(_PEOPLE, 4)]
    spec: dict[str, Any] = {
        "title": name.capitalize().replace("-", " "),
        "members": [
            {"user": user, "name": user.split("-")[0].capitalize(), "email": f"{user}@generated.example"}
            for user in people
        ],
        "groups": [f"{name}-engineers"],
        "approvers": people[:2],
        "receivers": [
            {"severity": "page", "pagerdutyKeyFile": f"/etc/alertmanager/secrets/{name}-pagerduty"},
            {"severity": "ticket", "email": f"{name}@generated.example"},
        ],
        "onCall": {"users": people, "start": "2026-01-05", "handover": "09:00", "timezone": "UTC"},
    }
    if name == "platform":
        spec["platform"] = True
    return {"kind": "Team", "metadata": {"name": name}, "spec": spec}


def _cluster(world: World, pods: int, dice: random.Random, namespaces: list[str]) -> dict[str, Any]:
    staged = sorted(dice.sample(namespaces, len(namespaces) // 10))
    servers = {
        "kubernetes": {"url": "https://api.prod.generated.example:6443", "caFile": "/etc/pilothouse/prod/ca.crt"},
        "vault": {"url": "https://vault.prod.generated.example:8200"},
        "prometheus": {"url": "https://prometheus.prod.generated.example"},
        "alertmanagers": [{"url": "https://alertmanager.prod.generated.example"}],
        "elasticsearch": {"url": "https://logs.prod.generated.example:9200"},
        "grafana": {"url": "https://grafana.prod.generated.example"},
    }
    spec = {
        "environment": CLUSTER,
        "podCIDRs": [world.pods4, world.pods6],
        "serviceCIDRs": [world.services4, world.services6],
        "nodeCIDRs": [world.nodes4, world.nodes6],
        "versions": {"kubernetes": "1.34", "prometheus": "3.15", "alertmanager": "0.31"},
        "calico": {"apiVersion": "projectcalico.org/v3"},
        "prometheus": {"shards": max(2, pods // 500)},
        "enforcement": {"default": "enforced", "namespaces": dict.fromkeys(staged, "staged")},
        "maxSeverity": "page",
        "apiServer": {"addresses": ["10.96.0.10", "fd00:96::a"], "port": 6443},
        "nodeLocalDNS": ["169.254.20.10"],
        "servers": servers,
        "authority": {"backend": "embedded", "mount": "pki-prod", "commonName": "Generated prod access"},
        "logging": {"dataNodes": 12, "heap": "30GiB", "coordinatingNodes": 4, "outage": "1h"},
        "domainAddresses": {f"api.partner-{number}.example": [f"192.0.2.{number + 1}"] for number in range(40)},
    }
    return {"kind": "Cluster", "metadata": {"name": CLUSTER}, "spec": spec}


def _profile() -> dict[str, Any]:
    rules = [{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list"]}]
    spec = {
        "title": "Auditor",
        "description": "Read which connections are allowed.",
        "groups": ["auditors"],
        "scope": "cluster",
        "rules": rules,
        "lifetime": "4h",
        "maxLifetime": "8h",
    }
    return {"kind": "AccessProfile", "metadata": {"name": "auditor"}, "spec": spec}


# ---------------------------------------------------------------- the cluster


RANGES = {
    "pods4": "10.64.0.0/12",
    "pods6": "fd00:64::/48",
    "services4": "10.112.0.0/16",
    "services6": "fd00:112::/108",
    "nodes4": "10.96.0.0/16",
    "nodes6": "fd00:96::/64",
}
"""Of addresses, with room for 4,000 nodes and 60,000 services."""


def _snapshot(path: Path, world: World, made: dict[str, Made], pods: int) -> None:
    """One object after the other goes to the file: the memory that it takes does not grow with the cluster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        between = iter([""])

        def write(data: dict[str, Any]) -> None:
            file.write(next(between, ","))
            file.write(json.dumps(data, separators=(",", ":"), sort_keys=True))

        world.sink = write
        file.write('{"apiVersion":"v1","items":[')
        _objects(world, made, pods)
        file.write('],"kind":"List","metadata":{"resourceVersion":""}}\n')


def _objects(world: World, made: dict[str, Made], pods: int) -> None:
    """What runs in the cluster. The same names make the same objects."""
    world.node("control-1", 10, control_plane=True)
    for index in range(max(2, -(-pods // 100))):  # a node of the usual size takes about a hundred
        world.node(f"worker-{index + 1}", 20 + index)
    system = ("default", "ingress", "kube-system", "logging", "monitoring", "pilothouse", "vault")
    for name in sorted({*system, *(item.namespace for item in made.values())}):
        world.namespace(name, {"tier": "product"} if name not in system else {})
        world.account(name, "default")
    kube_system(world)
    bundle(world)
    each, rest = divmod(pods, len(made))
    for index, item in enumerate(made.values()):
        ports = (PortOf(item.port_name, item.port), PortOf("metrics", 9102))
        make = world.stateful_set if item.stateful else world.deployment
        world.account(item.namespace, item.name)
        own = make(
            item.namespace,
            item.name,
            {"app": item.name},
            (box(item.name, *ports),),
            each + (index < rest),
            account=item.name,
        )
        world.service(item.namespace, item.name, {"app": item.name}, [(item.port_name, 80, item.port_name)], own)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a platform of any size.")
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--namespaces", type=int, help="default: a twentieth of the services, at most 100")
    parser.add_argument("--pods", type=int, help="default: five per service")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    namespaces = given.namespaces or min(100, max(1, given.services // 20))
    pods = 5 * given.services if given.pods is None else given.pods
    platform(given.out, given.services, namespaces, pods, given.seed)
    print(f"{given.out}: {given.services:,} services in {namespaces} namespaces, {pods:,} pods")


if __name__ == "__main__":
    main()
