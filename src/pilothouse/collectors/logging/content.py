"""The content of `collectors/fluentd` and `collectors/elasticsearch`, read into values.

This module reads `pipeline.yaml`, `sizing.yaml`, `daemonset.yaml` and `filters/*.conf` of the first folder,
and `retention.yaml`, `settings.json` and `mappings.json` of the second. Mistakes are problems with a caret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from pilothouse.collectors.logging import parse
from pilothouse.collectors.logging.config import Element
from pilothouse.inputs import Content
from pilothouse.problems import Problem, error
from pilothouse.source import Node, load, validate

FLUENTD = "collectors/fluentd"
ELASTICSEARCH = "collectors/elasticsearch"
AREA = "logging"

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB|TiB|)\Z")
_FACTORS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_TIME = re.compile(r"([0-9]+)(s|m|h|d)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _bytes(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{value!r} is no size | write it as 512KiB, 8MiB or 20GiB")
    found = _SIZE.match(str(value))
    if not found:
        raise ValueError(f"{value!r} is no size | write it as 512KiB, 8MiB or 20GiB")
    return int(float(found[1]) * _FACTORS[found[2]])


def _duration(value: Any) -> Any:
    found = _TIME.match(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is no duration | write it as 30s, 5m, 12h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _days(value: Any) -> Any:
    found = re.match(r"([0-9]+)d\Z", value) if isinstance(value, str) else None
    if not found or int(found[1]) < 1:
        raise ValueError(f"{value!r} is no number of days | write it as 30d")
    return int(found[1])


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Duration = Annotated[int, BeforeValidator(_duration), Field(gt=0)]
Days = Annotated[int, BeforeValidator(_days)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False)


class Read(_Strict):
    path: str
    exclude: tuple[str, ...] = ()
    state_folder: str = "/var/log/fluentd"
    refresh_interval: Duration = 10
    rotate_wait: Duration = 5
    lines_per_read: Annotated[int, Field(ge=1)] = 1000


class Treatment(_Strict):
    """What holds for a service that says nothing, or for pods that nobody declared. `rate` is bytes per second."""

    format: Literal["json", "text", "logfmt"]
    rate: Bytes
    retention: Days


class Lift(_Strict):
    level: tuple[str, ...] = ()
    message: tuple[str, ...] = ()


class Limits(_Strict):
    line_bytes: Annotated[int, Field(ge=1)]
    period: Duration


class Pipeline(_Strict):
    read: Read
    defaults: Treatment
    undeclared: Treatment
    redact: tuple[str, ...] = ()
    mask: str
    lift: Lift
    limits: Limits


class InFlight(_Strict):
    percent: Annotated[float, Field(gt=0, le=10)]
    hard_percent: Annotated[float, Field(gt=0, le=10)]
    expansion: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _ordered(self) -> InFlight:
        if self.percent > self.hard_percent:
            raise ValueError("`percent` is above `hardPercent` | the setpoint lies below the limit")
        return self


class Bulk(_Strict):
    target: Bytes
    p99_seconds: Annotated[float, Field(gt=0, alias="p99Seconds")]
    mean_seconds: Annotated[float, Field(gt=0, alias="meanSeconds")]


class Chunk(_Strict):
    smallest: Bytes


class Threads(_Strict):
    most: Annotated[int, Field(ge=1, le=64)]


class Sizing(_Strict):
    in_flight: InFlight
    bulk: Bulk
    chunk: Chunk
    threads: Threads
    flush_interval: Duration
    burst_interval: Positive
    request_timeout: Annotated[int, BeforeValidator(_duration), Field(ge=30)]
    retry_max_interval: Duration
    drain_factor: Positive
    buffer_margin: Annotated[float, Field(ge=1.15)]
    node_disk: Bytes


class Ports(_Strict):
    metrics: Annotated[int, Field(ge=1, le=65535)]
    monitor: Annotated[int, Field(ge=1, le=65535)]


class Agents(_Strict):
    """The DaemonSet."""

    namespace: Name
    name: Name
    image: Annotated[str, Field(pattern=r"^[^\s@]+(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?$")]
    service_account: Name
    credentials: str = ""
    resources: dict[str, dict[str, str]] = Field(default_factory=dict)
    priority_class_name: str = ""
    tolerations: tuple[dict[str, str], ...] = ()
    ports: Ports

    @model_validator(mode="after")
    def _pinned(self) -> Agents:
        name = self.image.rsplit("/", 1)[-1]
        if "@sha256:" not in name and (":" not in name or name.endswith(":latest")):
            raise ValueError(f"the image {self.image} has no fixed tag | name a tag other than `latest`, or a digest")
        return self


class Class(_Strict):
    name: Name
    days: Annotated[int, Field(ge=1)]
    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    warm_after_days: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _warm_before_deleted(self) -> Class:
        if self.warm_after_days is not None and self.warm_after_days >= self.days:
            raise ValueError("`warmAfterDays` is not below `days` | the index would be deleted before it is warm")
        return self


class Rollover(_Strict):
    size: Annotated[str, Field(pattern=r"^[1-9][0-9]*gb$")]
    max_age: Duration
    min_period: Duration

    @property
    def bytes(self) -> int:
        return int(self.size.removesuffix("gb")) * 1024**3


class Shards(_Strict):
    bytes_per_second: Bytes
    per_data_node: Annotated[int, Field(ge=1, le=1000)]


class Retention(_Strict):
    prefix: Name
    write: Literal["data-stream", "alias"]
    classes: Annotated[tuple[Class, ...], Field(min_length=1)]
    rollover: Rollover
    shards: Shards
    refresh: Duration
    storage_factor: Annotated[float, Field(ge=1)]
    priority: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Retention:
        days = [item.days for item in self.classes]
        if days != sorted(set(days)) or len({item.name for item in self.classes}) != len(days):
            raise ValueError("`classes` must have names and days of their own, the shortest first | reorder them")
        return self

    def class_for(self, days: int) -> Class | None:
        """The first class that keeps records at least that long."""
        return next((item for item in self.classes if item.days >= days), None)

    def index(self, class_name: str) -> str:
        """The data stream or alias that records of a class are written to."""
        return f"{self.prefix}-{class_name}"


@dataclass(frozen=True)
class Settings:
    """Everything that people edit. `filters` are the elements of `filters/*.conf` in the order of their names."""

    pipeline: Pipeline
    sizing: Sizing
    agents: Agents
    retention: Retention
    index_settings: dict[str, Any]
    mappings: dict[str, Any]
    filters: tuple[tuple[str, tuple[Element, ...]], ...]
    retention_node: Node


Model = TypeVar("Model", bound=BaseModel)


def read(content: Content) -> tuple[Settings | None, list[Problem]]:
    """The settings, or None when a file is missing or wrong; every problem is returned."""
    problems: list[Problem] = []
    pipeline, _ = _document(content, f"{FLUENTD}/pipeline.yaml", Pipeline, problems)
    sizing, _ = _document(content, f"{FLUENTD}/sizing.yaml", Sizing, problems)
    agents, _ = _document(content, f"{FLUENTD}/daemonset.yaml", Agents, problems)
    retention, retention_node = _document(content, f"{ELASTICSEARCH}/retention.yaml", Retention, problems)
    index_settings = _mapping(content, f"{ELASTICSEARCH}/settings.json", problems)
    mappings = _mapping(content, f"{ELASTICSEARCH}/mappings.json", problems)
    filters = _filters(content, problems)
    if pipeline and retention:
        for name, treatment in (("defaults", pipeline.defaults), ("undeclared", pipeline.undeclared)):
            if retention.class_for(treatment.retention) is None:
                node = _node(content, f"{FLUENTD}/pipeline.yaml", [])
                place = node.at(name, "retention") if node else problems[0].place
                problems.append(_too_long(f"`{name}.retention`", treatment.retention, retention, place))
    if problems or not (pipeline and sizing and agents and retention and retention_node):
        return None, problems
    return (
        Settings(pipeline, sizing, agents, retention, index_settings, mappings, filters, retention_node),
        problems,
    )


def _too_long(what: str, days: int, retention: Retention, place: Any) -> Problem:
    longest = retention.classes[-1]
    return error(
        "logging/retention-too-long",
        f"{what} is {days} days, and no retention class keeps records that long (the longest, {longest.name}: "
        f"{longest.days} days)",
        place,
        f"ask for {longest.days}d or less, or add a class to {ELASTICSEARCH}/retention.yaml",
    )


def too_long(service: str, days: int, retention: Retention, place: Any) -> Problem:
    """The problem of a service that asks for more than any class gives."""
    return _too_long(f"the retention of {service}", days, retention, place)


def _node(content: Content, path: str, problems: list[Problem]) -> Node | None:
    source = content.get(path)
    if source is None:
        problems.append(
            error(
                "logging/missing-content",
                f"{path} is missing",
                hint="restore the file: the log pipeline cannot be derived without it",
            )
        )
        return None
    nodes, found = load(source)
    problems.extend(found)
    if found:
        return None
    if not nodes:
        problems.append(error("logging/missing-content", f"{path} is empty", source.place(), "restore its text"))
        return None
    return nodes[0]


def _document(
    content: Content, path: str, model: type[Model], problems: list[Problem]
) -> tuple[Model | None, Node | None]:
    node = _node(content, path, problems)
    if node is None:
        return None, None
    value, found = validate(node, model, AREA)
    problems.extend(found)
    return value, node


def _mapping(content: Content, path: str, problems: list[Problem]) -> dict[str, Any]:
    # JSON is YAML, so that duplicate keys are found here too.
    node = _node(content, path, problems)
    if node is None:
        return {}
    if not isinstance(node.data, dict):
        problems.append(error("logging/bad-value", f"{path} is no JSON object", node.at(), "write it as { … }"))
        return {}
    return node.data


def _filters(content: Content, problems: list[Problem]) -> tuple[tuple[str, tuple[Element, ...]], ...]:
    pieces: list[tuple[str, tuple[Element, ...]]] = []
    for path, source in content.under(f"{FLUENTD}/filters", ".conf"):
        root, found = parse.parse(source)
        problems.extend(found)
        for param in root.params:
            problems.append(
                error(
                    "logging/filter-piece",
                    f"`{param.key}` stands outside an element",
                    param.place,
                    "a piece holds <filter> elements alone",
                )
            )
        for child in root.children:
            if child.name != "filter" or not child.argument.startswith("ph."):
                problems.append(
                    error(
                        "logging/filter-piece",
                        f"<{child.name} {child.argument}> is no filter of the pipeline",
                        child.place,
                        "a piece holds <filter ph.…> elements alone: sources, matches and labels are derived",
                    )
                )
        pieces.append((path, root.children))
    return tuple(pieces)
