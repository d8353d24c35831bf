"""The example bank as a platform whose one cluster lies on this machine: loopback addresses, own token and CA files.

It is what the bank declares for prod. Scrapes and evaluations come every second, and notifications at once, so that a
test sees in seconds what takes minutes otherwise: all of it by files laid over the bundle's content.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from support.testbed import BANK, ROOT

from pilothouse.inputs import Inputs
from pilothouse.platform.model import Endpoint
from pilothouse.problems import has_errors

CLUSTER = "local"
LIKE = "prod"
QUICK = {"interval": "1s", "timeout": "900ms"}


def write(
    folder: Path,
    *,
    shards: int = 1,
    servers: Mapping[str, Endpoint | Iterable[Endpoint]] | None = None,
    hook: str = "http://127.0.0.1:9/",
    content: Mapping[str, Any] | None = None,
) -> Path:
    """The platform's folder. Each team's receivers are `<hook><team>-<severity>`; `content` are further files."""
    for kind in ("teams", "services", "profiles"):
        for path in sorted((BANK / kind).rglob("*.yaml")):
            target = folder / path.relative_to(BANK)
            target.parent.mkdir(parents=True, exist_ok=True)
            documents = [_local(item, hook) for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
            target.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    for name in ("platform.yaml", "pilothouse.yaml"):
        if (BANK / name).exists():
            shutil.copy(BANK / name, folder / name)
    files: dict[str, Any] = {
        f"clusters/{CLUSTER}.yaml": cluster(shards, servers or {}),
        **quick(hook),
        **(content or {}),
    }
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return folder


def cluster(shards: int, servers: Mapping[str, Endpoint | Iterable[Endpoint]]) -> dict[str, Any]:
    """The Cluster document."""
    document = yaml.safe_load((BANK / "clusters" / f"{LIKE}.yaml").read_text(encoding="utf-8"))
    document["metadata"]["name"] = CLUSTER
    spec = document["spec"]
    spec["prometheus"] = {"shards": shards}
    spec["authority"] = {"backend": "embedded"}
    spec["servers"] = {
        name: _endpoint(value) if isinstance(value, Endpoint) else [_endpoint(item) for item in value]
        for name, value in servers.items()
    }
    return dict(document)


def _endpoint(endpoint: Endpoint) -> dict[str, str]:
    named = {"tokenFile": endpoint.token_file, "caFile": endpoint.ca_file, "user": endpoint.user}
    return {"url": endpoint.url, **{name: value for name, value in named.items() if value}}


def quick(hook: str) -> dict[str, Any]:
    """Content that makes everything happen within seconds."""
    files: dict[str, Any] = {}
    for path in sorted((ROOT / "collectors" / "scrape").glob("*.yaml")):
        files[f"collectors/scrape/{path.name}"] = yaml.safe_load(path.read_text(encoding="utf-8")) | QUICK
    for name in ("services", "federation"):
        text = (ROOT / "collectors" / f"{name}.yaml").read_text(encoding="utf-8")
        files[f"collectors/{name}.yaml"] = yaml.safe_load(text) | QUICK
    files["collectors/federation.yaml"]["evaluationInterval"] = "1s"
    routing = yaml.safe_load((ROOT / "alerts" / "routing.yaml").read_text(encoding="utf-8"))
    for timers in routing["severities"].values():
        timers |= {"groupWait": "200ms", "groupInterval": "1s"}
    # Whatever the time of day is when a test runs, tickets are sent, and what is only worth knowing is not.
    routing["intervals"] = {
        "always": [{"years": ["2020:2090"]}],
        "never": [{"years": ["2001"]}],
    }
    routing["severities"]["ticket"]["active"] = ["always"]
    routing["severities"]["info"]["active"] = ["never"]
    routing["watchdog"] |= {"webhook": f"{hook}watchdog-{{cluster}}-{{leaf}}"}
    files["alerts/routing.yaml"] = routing
    return files


def inputs(root: Path) -> Inputs:
    """The inputs of its cluster. Documents with errors fail here, each named."""
    from pilothouse.workflows.rendering import inputs_for, open_platform

    opened = open_platform(root)
    assert not has_errors(opened.problems), [str(item) for item in opened.problems]
    return inputs_for(opened, CLUSTER, datetime.now(UTC).date())[0]


def _local(document: dict[str, Any], hook: str) -> dict[str, Any]:
    document = _narrowed(document)
    if document["kind"] == "Team":
        name = document["metadata"]["name"]
        document["spec"]["receivers"] = [
            {"severity": severity, "webhook": f"{hook}{name}-{severity}"} for severity in ("page", "ticket", "info")
        ]
    return document


def _narrowed(value: Any) -> Any:
    """The same without what is declared for other clusters than the one that this is like."""
    if isinstance(value, dict):
        return {key: _narrowed(item) for key, item in value.items() if key != "clusters"}
    if isinstance(value, list):
        return [
            _narrowed(item) for item in value if not isinstance(item, dict) or LIKE in item.get("clusters", (LIKE,))
        ]
    return value
