"""Index templates and lifecycle of the log indices, per retention class; and who may read and write them.

Lifecycle settings stand in a component template of their own, because a server without lifecycle
management refuses a template that names a policy. Shapes:
https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-put-index-template
https://www.elastic.co/docs/reference/elasticsearch/index-lifecycle-actions
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilothouse.artifacts.model import Document, Format
from pilothouse.collectors.logging import roles
from pilothouse.collectors.logging.content import Class, Settings
from pilothouse.collectors.logging.sizing import ClassSize, Sizing
from pilothouse.inputs import Inputs
from pilothouse.labels import ownership


def documents(inputs: Inputs, settings: Settings, sizing: Sizing) -> Iterator[Document]:
    """Each document is the body of one request; its file's name is the name in the address."""
    yield from _storage(settings, sizing, ownership(inputs.cluster.name))
    yield from roles.documents(inputs, settings)


def _storage(settings: Settings, sizing: Sizing, marks: dict[str, str]) -> Iterator[Document]:
    retention = settings.retention
    prefix = retention.prefix
    stream = retention.write == "data-stream"
    settings_body = {"index": {**settings.index_settings.get("index", {}), "refresh_interval": f"{retention.refresh}s"}}
    yield _component(f"{prefix}-settings", {"settings": settings_body}, marks)
    yield _component(f"{prefix}-mappings", {"mappings": settings.mappings}, marks)
    by_name = {size.name: size for size in sizing.classes}
    for item in retention.classes:
        index = retention.index(item.name)
        size = by_name[item.name]
        lifecycle: dict[str, Any] = {"name": index}
        if not stream:
            lifecycle["rollover_alias"] = index
        yield _component(f"{index}-lifecycle", {"settings": {"index": {"lifecycle": lifecycle}}}, marks)
        yield Document(
            f"elasticsearch/lifecycle/{index}.json",
            {"policy": {"_meta": _meta(item, marks), "phases": _phases(settings, item, size)}},
            Format.JSON,
        )
        template: dict[str, Any] = {
            "index_patterns": [index if stream else f"{index}-*"],
            "priority": retention.priority,
            "composed_of": [f"{prefix}-settings", f"{prefix}-mappings", f"{index}-lifecycle"],
            "template": {
                "settings": {"index": {"number_of_shards": size.primaries, "number_of_replicas": item.replicas}}
            },
            "_meta": _meta(item, marks),
        }
        if stream:
            template["data_stream"] = {}
        else:
            # The first index of the alias, made once; every later one is made by the rollover.
            yield Document(
                f"elasticsearch/first-indices/{index}-000001.json",
                {"aliases": {index: {"is_write_index": True}}},
                Format.JSON,
            )
        yield Document(f"elasticsearch/index-templates/{index}.json", template, Format.JSON)


def _component(name: str, template: dict[str, Any], marks: dict[str, str]) -> Document:
    return Document(
        f"elasticsearch/component-templates/{name}.json",
        {"template": template, "_meta": marks},
        Format.JSON,
    )


def _meta(item: Class, marks: dict[str, str]) -> dict[str, Any]:
    return {**marks, "description": f"records kept for {item.days} days"}


def _phases(settings: Settings, item: Class, size: ClassSize) -> dict[str, Any]:
    rollover = settings.retention.rollover
    # A short class rolls over sooner, so that its last records are not kept for much longer than its days.
    age = min(rollover.max_age, max(86400, item.days * 86400 // 4))
    hot: dict[str, Any] = {"rollover": {"max_primary_shard_size": rollover.size, "max_age": f"{age // 3600}h"}}
    hot["set_priority"] = {"priority": 100}
    phases: dict[str, Any] = {"hot": {"min_age": "0ms", "actions": hot}}
    if item.warm_after_days:
        phases["warm"] = {
            "min_age": f"{item.warm_after_days}d",
            "actions": {"forcemerge": {"max_num_segments": 1}, "readonly": {}, "set_priority": {"priority": 50}}
            | ({"shrink": {"number_of_shards": 1}} if size.primaries > 1 else {}),
        }
    # Ages count from the rollover, so a record is kept for at least its days.
    phases["delete"] = {"min_age": f"{item.days}d", "actions": {"delete": {}}}
    return phases
