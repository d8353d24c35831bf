"""What a worker resolved of the domains of a cluster, as a file of its data folder: `domains/<cluster>.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pilothouse.inputs import Resolved, SeenAddress
from pilothouse.problems import Invalid, Unavailable

DOMAINS = "domains"
KIND = "ResolvedDomains"
API_VERSION = "pilothouse.dev/v1"


def path_of(folder: Path, cluster: str) -> Path:
    return folder / f"{cluster}.json"


def read(path: Path) -> dict[str, Resolved]:
    """The domains of a file, by name; none where there is no file. Raises `Invalid` for a damaged one and `Unavailable`
    for one that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as failure:
        raise Unavailable(f"cannot read {path}: {failure}", "check the owner of the data folder") from failure
    try:
        data = json.loads(text)
        if (data["apiVersion"], data["kind"]) != (API_VERSION, KIND):
            raise ValueError(f"it is {data['apiVersion']} {data['kind']}")
        return {
            name: Resolved(name, tuple(_address(item) for item in items)) for name, items in data["domains"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise Invalid(
            f"{path} is damaged: {failure}", "remove it; the worker resolves anew within a minute"
        ) from failure


def _address(item: Mapping[str, str]) -> SeenAddress:
    seen, expires = (datetime.fromisoformat(item[word]) for word in ("seen", "expires"))
    if seen.tzinfo is None or expires.tzinfo is None:
        raise ValueError(f"a moment without a zone at {item['network']}")
    return SeenAddress(ip_network(item["network"]), seen, expires)


def write(path: Path, resolved: Mapping[str, Resolved]) -> None:
    """The file anew, whole or not at all. Raises `Unavailable`."""
    data: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "domains": {
            name: [
                {"network": str(a.network), "seen": a.seen.isoformat(), "expires": a.expires.isoformat()}
                for a in resolved[name].addresses
            ]
            for name in sorted(resolved)
        },
    }
    aside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as failure:
        with suppress(OSError):
            aside.unlink()
        raise Unavailable(f"cannot keep {path}: {failure.strerror}", "check owner and free space") from failure
