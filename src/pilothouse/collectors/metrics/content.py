"""The files of `collectors/` that the metrics part reads; their format is documented in `collectors/README.md`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from pilothouse.collectors.metrics.model import Federation, Job, ServiceScrape, Settings, ShardBy
from pilothouse.inputs import Content
from pilothouse.problems import Problem, Problems, error
from pilothouse.promql import Rule, check, parse_duration
from pilothouse.source import Node, Source, load, validate

AREA = "collectors"


def _duration(text: str) -> str:
    try:
        seconds = parse_duration(text)
    except ValueError as failure:
        raise ValueError(f"{failure} | write a number and a unit, from the largest unit down") from failure
    if seconds <= 0:
        raise ValueError("must be more than nothing | write for example 30s or 5m")
    return text


def _regex(text: str) -> str:
    """RE2 is narrower than Python's: it looks neither ahead nor behind, and refers to no group."""
    try:
        re.compile(text)
    except re.error as failure:
        raise ValueError(
            f"{text!r} is no regular expression: {failure} | quote the characters .+*?()[]{{}}|"
        ) from failure
    if re.search(r"\(\?(=|!|<=|<!|P=)|\\[1-9]", text):
        raise ValueError(f"{text!r} is no regular expression of RE2 | do without looking around and references")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", text):
        raise ValueError(f"{text!r} is no name of a series | write level:metric:operations")
    return text


def _group_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
        raise ValueError(f"{text!r} is no name of a file | use lower-case letters, digits and dashes")
    return text


Duration = Annotated[str, AfterValidator(_duration)]
Regex = Annotated[str, AfterValidator(_regex)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class _Relabel(BaseModel):
    """https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config"""

    model_config = ConfigDict(extra="forbid")

    source_labels: list[str] | None = None
    separator: str | None = None
    target_label: str | None = None
    regex: Regex | None = None
    modulus: int | None = None
    replacement: str | None = None
    action: Literal[
        "replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase",
        "keepequal", "dropequal",
    ] = "replace"  # fmt: skip


class _Discover(_Document):
    role: Literal["pod", "node", "endpointslice", "servers"]
    namespaces: list[str] = []
    selector: dict[str, str] = {}
    port: str | int = ""


class _Timed(_Document):
    interval: Duration = "30s"
    timeout: Duration = "10s"

    @model_validator(mode="after")
    def _ordered(self) -> _Timed:
        if parse_duration(self.timeout) > parse_duration(self.interval):
            raise ValueError("`timeout` is longer than `interval` | Prometheus refuses that: shorten the timeout")
        return self


class _Job(_Timed):
    job: str = Field(min_length=1)
    title: str = ""
    discover: _Discover
    prober: str = ""
    scheme: Literal["http", "https"] = "http"
    path: str = "/metrics"
    params: dict[str, list[str]] = {}
    authorization: Literal["none", "cluster"] = "none"
    insecure_skip_verify: bool = False
    shard_by: ShardBy = ShardBy.NODE
    honor_labels: bool = False
    pod_labels: bool = False
    pod_series: bool = False
    sample_limit: int = Field(0, ge=0)
    metrics: list[str] = []
    relabel: list[_Relabel] = []
    metric_relabel: list[_Relabel] = []

    @model_validator(mode="after")
    def _probed(self) -> _Job:
        if (self.discover.role == "servers") != bool(self.prober):
            raise ValueError("`prober` and the role `servers` need each other | set both, or neither")
        if self.prober and self.shard_by is not ShardBy.ONCE:
            raise ValueError("a prober is asked by one leaf alone | write `shardBy: once`")
        return self


class _Services(_Timed):
    sample_headroom: float = Field(1.2, ge=1)
    label_limit: int = Field(0, ge=0)
    label_value_length_limit: int = Field(0, ge=0)
    fallback_scrape_protocol: str = ""
    metric_relabel: list[_Relabel] = []


class _Federation(_Timed):
    leaf_address: str
    evaluation_interval: Duration = "30s"
    matches_per_request: int = Field(200, ge=1)
    leaf_series_capacity: int = Field(1_500_000, ge=1)

    @model_validator(mode="after")
    def _addressed(self) -> _Federation:
        if "{shard}" not in self.leaf_address:
            raise ValueError("`leafAddress` must hold {shard} | every leaf needs an address of its own")
        return self


class _Rule(_Document):
    record: Annotated[str, AfterValidator(_name)]
    expr: str
    labels: dict[str, str] = {}
    side: Literal["", "leaf", "global"] = ""


class _Group(_Document):
    group: Annotated[str, AfterValidator(_group_name)]
    rules: list[_Rule]


def read(content: Content) -> tuple[Settings, Problems]:
    """The settings, with defaults for what is missing, and every mistake in the files."""
    problems: list[Problem] = []
    jobs: dict[str, Job] = {}
    for node in _nodes(content, "collectors/scrape", problems):
        parsed, complaints = validate(node, _Job, AREA)
        problems += complaints
        if parsed is None:
            continue
        if parsed.job in jobs:
            problems.append(
                error(
                    "collectors/duplicate-job",
                    f"two files describe the scrape job `{parsed.job}`",
                    node.at("job"),
                    "rename one of them, or remove it",
                    related=(jobs[parsed.job].place,),
                )
            )
            continue
        jobs[parsed.job] = _job(parsed, node)
    services, federation = ServiceScrape(), Federation()
    for node in _file(content, "collectors/services.yaml", problems):
        found, complaints = validate(node, _Services, AREA)
        problems += complaints
        services = _services(found) if found else services
    for node in _file(content, "collectors/federation.yaml", problems):
        given, complaints = validate(node, _Federation, AREA)
        problems += complaints
        federation = _federation(given) if given else federation
    rules: list[Rule] = []
    for node in _nodes(content, "collectors/recording", problems):
        group, complaints = validate(node, _Group, AREA)
        problems += complaints
        if group is not None:
            rules += _rules(group, node, problems)
    return Settings(tuple(jobs[name] for name in sorted(jobs)), services, federation, tuple(rules)), tuple(problems)


def _nodes(content: Content, folder: str, problems: list[Problem]) -> list[Node]:
    return [node for _, source in content.under(folder) for node in _load(source, problems)]


def _file(content: Content, path: str, problems: list[Problem]) -> list[Node]:
    source = content.get(path)
    return _load(source, problems) if source else []


def _load(source: Source, problems: list[Problem]) -> list[Node]:
    nodes, complaints = load(source)
    problems += complaints
    return nodes


def _relabel(items: list[_Relabel]) -> tuple[dict[str, Any], ...]:
    return tuple(item.model_dump(exclude_none=True, exclude_unset=True) for item in items)


def _job(parsed: _Job, node: Node) -> Job:
    return Job(
        name=parsed.job,
        role=parsed.discover.role,
        title=parsed.title,
        namespaces=tuple(parsed.discover.namespaces),
        selector=dict(sorted(parsed.discover.selector.items())),
        port=str(parsed.discover.port),
        prober=parsed.prober,
        scheme=parsed.scheme,
        path=parsed.path,
        params={name: tuple(values) for name, values in sorted(parsed.params.items())},
        authorized=parsed.authorization == "cluster",
        insecure_skip_verify=parsed.insecure_skip_verify,
        shard_by=parsed.shard_by,
        honor_labels=parsed.honor_labels,
        pod_labels=parsed.pod_labels,
        pod_series=parsed.pod_series,
        interval=parse_duration(parsed.interval),
        timeout=parse_duration(parsed.timeout),
        sample_limit=parsed.sample_limit,
        metrics=tuple(parsed.metrics),
        relabel=_relabel(parsed.relabel),
        metric_relabel=_relabel(parsed.metric_relabel),
        place=node.at("job"),
    )


def _services(parsed: _Services) -> ServiceScrape:
    return ServiceScrape(
        interval=parse_duration(parsed.interval),
        timeout=parse_duration(parsed.timeout),
        sample_headroom=parsed.sample_headroom,
        label_limit=parsed.label_limit,
        label_value_length_limit=parsed.label_value_length_limit,
        fallback_scrape_protocol=parsed.fallback_scrape_protocol,
        metric_relabel=_relabel(parsed.metric_relabel),
    )


def _federation(parsed: _Federation) -> Federation:
    return Federation(
        leaf_address=parsed.leaf_address,
        interval=parse_duration(parsed.interval),
        timeout=parse_duration(parsed.timeout),
        evaluation_interval=parse_duration(parsed.evaluation_interval),
        matches_per_request=parsed.matches_per_request,
        leaf_series_capacity=parsed.leaf_series_capacity,
    )


def _rules(group: _Group, node: Node, problems: list[Problem]) -> list[Rule]:
    rules = []
    for index, item in enumerate(group.rules):
        place = node.at("rules", index, "expr")
        tree, complaints = check(item.expr, place)
        problems += complaints
        if tree is not None:
            rules.append(
                Rule(group.group, item.expr, record=item.record, labels=item.labels, side=item.side, place=place)
            )
    return rules
