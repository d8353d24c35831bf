"""The bank's documents for the stack's one cluster: a copy of examples/bank with a Cluster document of its own.

What the bank declares for prod holds here. Time runs faster: scrapes come every few seconds, and what an alert waits
for is a thirtieth, so that a person sees in seconds what takes minutes elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pilothouse.files import git
from pilothouse.files.content import bundle_root, example
from pilothouse.promql import format_duration, parse_duration

CLUSTER = "stack"
LIKE = "prod"
SHARDS = 2
HASTE = 30
"""So many times faster than declared alerts wait."""
INTERVAL = 2
"""Seconds from scrape to scrape, and from evaluation to evaluation."""
SERVICES, NODES = "10.96.0.0/16", "10.95.0.0/24"
AUTHORITY = f"pki-{CLUSTER}"
"""Vault's mount of the authority."""
CALICO = "projectcalico.org/v3"
"""The API group of Calico's kinds, which the API server serves without a Calico behind them."""


@dataclass(frozen=True)
class Addresses:
    """Where the servers listen, and the files that reach them. `hook` is the webhook that stands for pager and chat."""

    api: str
    api_token: Path
    api_ca: Path
    vault: str
    elasticsearch: str
    elasticsearch_user: str
    elasticsearch_password: Path
    leaves: tuple[str, ...]
    prometheus: str
    alertmanager: str
    hook: str
    portal: str
    pods: str
    """The pods' network: real addresses of this machine, at which generated exporters answer."""


def write(root: Path, addresses: Addresses) -> Path:
    """The platform's folder as a Git repository of one commit."""
    bank = example()
    for kind in ("teams", "services", "profiles", "policies"):
        for path in sorted((bank / kind).rglob("*.yaml")):
            documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
            _save(root / path.relative_to(bank), *(_document(item, addresses) for item in documents))
    shutil.copy(bank / "platform.yaml", root / "platform.yaml")
    _save(root / "clusters" / f"{CLUSTER}.yaml", cluster(addresses))
    for name, data in content(addresses).items():
        _save(root / name, data)
    git.init(root).commit_all("The bank on this machine", "pilothouse", "pilothouse@localhost")
    return root


def commit_snapshot(root: Path, text: str) -> None:
    """Put what kubectl printed where commands look for it that are not told to look at the cluster."""
    path = root / "snapshots" / f"{CLUSTER}.json"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    git.init(root).commit_all("What runs", "pilothouse", "pilothouse@localhost")


def _save(path: Path, *documents: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False, width=120), encoding="utf-8")


# ---------------------------------------------------------------- documents


def cluster(addresses: Addresses) -> dict[str, Any]:
    """The Cluster document: loopback addresses, its own token and CA files."""
    like = yaml.safe_load((example() / "clusters" / f"{LIKE}.yaml").read_text(encoding="utf-8"))["spec"]
    spec: dict[str, Any] = {
        "environment": "sandbox",
        "podCIDRs": [addresses.pods],
        "serviceCIDRs": [SERVICES],
        "nodeCIDRs": [NODES],
        "versions": like["versions"],
        "calico": {"apiVersion": CALICO},
        "prometheus": {"shards": SHARDS},
        "enforcement": like["enforcement"],
        "maxSeverity": "page",
        "apiServer": {"addresses": ["10.95.0.10"], "port": 6443},
        "servers": {
            "kubernetes": {
                "url": addresses.api,
                "tokenFile": str(addresses.api_token),
                "caFile": str(addresses.api_ca),
            },
            "vault": {"url": addresses.vault},
            "prometheus": {"url": addresses.prometheus},
            "leaves": [{"url": url} for url in addresses.leaves],
            "alertmanagers": [{"url": addresses.alertmanager}],
            "elasticsearch": {
                "url": addresses.elasticsearch,
                "user": addresses.elasticsearch_user,
                "tokenFile": str(addresses.elasticsearch_password),
            },
        },
        "authority": {"backend": "vault", "mount": AUTHORITY, "commonName": "Bank stack access"},
        "logging": {"dataNodes": 1, "heap": "512MiB", "coordinatingNodes": 1, "outage": "15m"},
        "domainAddresses": like["domainAddresses"],
        "apply": "auto",
    }
    return {
        "apiVersion": "pilothouse.dev/v1",
        "kind": "Cluster",
        "metadata": {"name": CLUSTER},
        "spec": spec,
    }


def _document(document: dict[str, Any], addresses: Addresses) -> dict[str, Any]:
    document = narrowed(document)
    if document["kind"] == "Team":
        team = document["metadata"]["name"]
        document["spec"]["receivers"] = [
            {"severity": severity, "webhook": f"{addresses.hook}/{team}-{severity}"}
            for severity in ("page", "ticket", "info")
        ]
    if document["kind"] == "Service":
        for alert in document["spec"].get("alerts", ()):
            hurry(alert)
    return document


def narrowed(value: Any) -> Any:
    """The same without what is declared for other clusters than the one that this is like."""
    if isinstance(value, dict):
        return {key: narrowed(item) for key, item in value.items() if key != "clusters"}
    if isinstance(value, list):
        return [narrowed(item) for item in value if not isinstance(item, dict) or LIKE in item.get("clusters", (LIKE,))]
    return value


def hurry(alert: dict[str, Any]) -> None:
    """Shorten what an alert waits for."""
    for key in ("for", "keepFiring"):
        if key in alert:
            seconds = max(INTERVAL, round(parse_duration(str(alert[key])) / HASTE))
            alert[key] = format_duration(seconds)


# ---------------------------------------------------------------- content


def content(addresses: Addresses) -> dict[str, Any]:
    """Files laid over the bundle's content, by path."""
    bundle = bundle_root()
    timed = {"interval": f"{INTERVAL}s", "timeout": f"{INTERVAL * 900}ms"}
    files: dict[str, Any] = {}
    for path in sorted((bundle / "collectors" / "scrape").glob("*.yaml")):
        files[f"collectors/scrape/{path.name}"] = _scraped(_load(path) | timed)
    files["collectors/services.yaml"] = _load(bundle / "collectors" / "services.yaml") | timed
    files["collectors/federation.yaml"] = _load(bundle / "collectors" / "federation.yaml") | {
        **timed,
        "evaluationInterval": f"{INTERVAL}s",
        "leafAddress": _leaf_address(addresses.leaves),
    }
    for path in sorted((bundle / "alerts" / "rules").glob("*.yaml")):
        group = _load(path)
        for rule in group["rules"]:
            hurry(rule)
        files[f"alerts/rules/{path.name}"] = group
    files["alerts/routing.yaml"] = _routing(_load(example() / "alerts" / "routing.yaml"), addresses)
    files["alerts/links.yaml"] = {"portalUrl": addresses.portal}
    return files


def _load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _leaf_address(leaves: tuple[str, ...]) -> str:
    """What the addresses have in common, with {shard} for the one digit in which they differ."""
    first, *others = (url.removeprefix("http://") for url in leaves)
    for at, sign in enumerate(first):
        pattern = f"{first[:at]}{{shard}}{first[at + 1 :]}"
        if sign == "0" and [pattern.format(shard=number + 1) for number in range(len(others))] == others:
            return pattern
    raise ValueError(f"the addresses of the leaves {leaves} do not count from 0")


def _scraped(job: dict[str, Any]) -> dict[str, Any]:
    """The job as this machine can answer it."""
    if job["job"] == "kube-apiserver":
        # The API server listens on loopback, which no EndpointSlice may name: it is found as the pod it is elsewhere.
        discover = {"role": "pod", "namespaces": ["kube-system"], "selector": {"component": "kube-apiserver"}}
        job |= {"discover": discover | {"port": "https"}, "shardBy": "node", "podLabels": True}
        del job["relabel"]
    if job["discover"]["role"] in ("node", "servers"):
        # The nodes are kwok's, which have no kubelet; and the servers' certificates last a day, which is no alert here.
        never = {"source_labels": ["__address__"], "regex": "nobody", "action": "keep"}
        job["relabel"] = [never, *job.get("relabel", ())]
    return job


def _routing(routing: dict[str, Any], addresses: Addresses) -> dict[str, Any]:
    for severity, timers in routing["severities"].items():
        wait = {"page": "1s", "ticket": "3s", "info": "5s"}[severity]
        timers |= {"groupWait": wait, "groupInterval": "5s"}
        # At whatever hour somebody tries the stack, tickets are sent too.
        timers.pop("active", None)
    routing["global"]["resolveTimeout"] = "1m"
    routing["watchdog"]["webhook"] = f"{addresses.hook}/watchdog-{{cluster}}-{{leaf}}"
    return routing
