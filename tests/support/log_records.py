"""Records as the rendered Fluentd configuration makes them from lines, with the Ruby of its filters run by Ruby.

What is not Ruby stands here in a few words: the record as it comes from the container's file and from the metadata of
Kubernetes, and the id. Drop rules (`grep`) are not run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.testbed import REAL, accepted, run

from pilothouse.artifacts.model import Derived
from pilothouse.collectors import logging
from pilothouse.collectors.logging.config import Element
from pilothouse.source import Source

Record = dict[str, Any]


def records(
    ruby: Path, what: Derived, namespace: str, labels: dict[str, str], lines: Iterable[str], time: str
) -> tuple[str, list[Record]]:
    """(index, records) of a pod's lines: what its output sends with `create`, each with its `_hash`."""
    fluent, routes, treatments = (_read(what, name) for name in ("fluent.conf", "routes.conf", "treatments.conf"))
    given: list[Record] = []
    for line in lines:
        record: Record = {"stream": "stdout", "message": line}
        record["_hash"] = hashlib.sha256(f"{time} stdout {line}".encode()).hexdigest()
        record["kubernetes"] = {
            "namespace_name": namespace,
            "pod_name": "pod-1",
            "pod_id": "0d5f9d2e-0000-4000-8000-000000000000",
            "container_name": "main",
            "host": "node-1",
            "labels": labels,
        }
        given.append(record)
    tag = f"kubernetes.var.log.containers.pod-1_{namespace}_main-{'0' * 64}.log"
    routed = _treated(ruby, _filters(routes, tag), given, tag)
    (route,) = {record["route"] for record in routed}
    tag = f"ph.{route}"
    label = next(item for item in fluent.all("label") if item.argument == "@TREAT")
    chain = [*_filters(label, tag), *_filters(treatments, tag)]
    removed = {name for item in label.all("filter") for name in item.get("remove_keys").split(",")}
    made = _treated(ruby, chain, routed, tag)
    shipped = [
        {"@timestamp": time} | {key: value for key, value in item.items() if key not in removed} for item in made
    ]
    output = next(item for item in fluent.all("label") if item.argument == "@SHIP").all("match")[0]
    return output.get("index_name").replace("${retention}", route.split(".")[1]), shipped


def _read(what: Derived, name: str) -> Element:
    root, problems = logging.parse(Source(name, str(what.artifacts[f"fluentd/{name}"].data)))
    assert problems == ()
    return root


def _filters(root: Element, tag: str) -> list[dict[str, Any]]:
    return [
        {"prepare": item.get("prepare_value") or None, "values": {p.key: p.value for p in item.all("record")[0].params}}
        for item in root.all("filter")
        if item.get("@type") == "record_modifier" and any(_matches(form, tag) for form in item.argument.split())
    ]


def _matches(pattern: str, tag: str) -> bool:
    """Fluentd's patterns: `*` is one part of a tag, `**` any number of them; `**_x_**` is text within one."""
    import re

    expression = re.escape(pattern).replace(r"\.\*\*", r"(\..*)?").replace(r"\*\*", ".*").replace(r"\*", r"[^.]+")
    return re.fullmatch(expression, tag) is not None


def _treated(ruby: Path, chain: list[dict[str, Any]], given: list[Record], tag: str) -> list[Record]:
    body = {"filters": chain, "records": [{"tag_parts": tag.split("."), "record": record} for record in given]}
    made: list[Record] = json.loads(accepted(run(ruby, REAL / "fluentd_filters.rb", stdin=json.dumps(body))))
    return made


def actions(index: str, made: Iterable[Record]) -> list[dict[str, Any]]:
    """The lines of a bulk request: `create` with the record's own id, as the output writes it."""
    return [line for record in made for line in ({"create": {"_index": index, "_id": record["_hash"]}}, record)]
