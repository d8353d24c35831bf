"""The `Service` document, which a product team writes beside its code."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from pilothouse.labels import EVERYTHING
from pilothouse.platform.model import (
    Alert,
    AlertSeverity,
    ApiServerPeer,
    CidrPeer,
    DomainPeer,
    Edge,
    Exposure,
    Expression,
    InternetPeer,
    LogDrop,
    Logs,
    Metrics,
    Peer,
    PodsPeer,
    Port,
    Protocol,
    ReplicasBelow,
    Secret,
    Sensitivity,
    Service,
    ServicePeer,
    SqlLatencyAbove,
)
from pilothouse.platform.schemas.base import (
    AbsolutePath,
    Cidr,
    Clusters,
    Day,
    Days,
    Domain,
    EdgePort,
    HttpPath,
    Name,
    PortName,
    PortNumber,
    Rate,
    Seconds,
    SecretKey,
    SelectorModel,
    ServiceKey,
    Strict,
    Subdomain,
    Url,
    VaultPath,
    Yes,
    exactly_one,
    one_required,
)
from pilothouse.problems import Place
from pilothouse.source import Node

_PEERS = ("service", "pod_selector", "namespace_selector", "cidr", "api_server", "internet", "domain")
_METRIC = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


_PEER_SCHEMA = one_required("service", "cidr", "apiServer", "internet", "domain")
_PEER_SCHEMA["oneOf"].append({"anyOf": [{"required": ["podSelector"]}, {"required": ["namespaceSelector"]}]})


class PeerModel(Strict):
    """The other end of an edge: exactly one form (the two selectors may stand together)."""

    model_config = ConfigDict(json_schema_extra=_PEER_SCHEMA)

    service: ServiceKey | None = Field(default=None, description="A declared service")
    pod_selector: SelectorModel | None = Field(
        default=None, description="Pods by label; of the own namespace, unless namespaceSelector is given too"
    )
    namespace_selector: SelectorModel | None = Field(
        default=None, description="Namespaces by label; {} is every namespace"
    )
    cidr: Cidr | None = Field(default=None, description="Addresses outside the cluster")
    api_server: Yes | None = Field(default=None, description="The cluster's own API server")
    internet: Yes | None = Field(default=None, description="Every public address; for egress only")
    domain: Domain | None = Field(default=None, description="A DNS name; for egress only")

    @model_validator(mode="after")
    def _one_form(self) -> PeerModel:
        if {"pod_selector", "namespace_selector"} <= self.model_fields_set:
            exactly_one(self, tuple(name for name in _PEERS if name != "namespace_selector"), "a peer")
        else:
            exactly_one(self, _PEERS, "a peer")
        return self

    def value(self) -> Peer:
        if self.service is not None:
            return ServicePeer(*self.service)
        if self.cidr is not None:
            return CidrPeer(self.cidr)
        if self.api_server:
            return ApiServerPeer()
        if self.internet:
            return InternetPeer()
        if self.domain is not None:
            return DomainPeer(self.domain)
        return PodsPeer(
            self.pod_selector.value() if self.pod_selector else EVERYTHING,
            self.namespace_selector.value() if self.namespace_selector else None,
        )


class IngressModel(Strict):
    """Who may come in."""

    from_: PeerModel = Field(alias="from", description="Who may come")
    ports: list[EdgePort] = Field(default_factory=list, description="Ports of this service; left out: every port")
    clusters: Clusters
    reason: str = ""

    @field_validator("from_")
    @classmethod
    def _inside(cls, peer: PeerModel) -> PeerModel:
        if peer.internet or peer.domain is not None:
            form = "internet" if peer.internet else "domain"
            raise ValueError(
                f"`{form}` is for egress only"
                " | declare `exposure: edge` to be reached from outside, or name the addresses with `cidr`"
            )
        return peer


class EgressModel(Strict):
    """Where it goes."""

    to: PeerModel = Field(description="Where it goes")
    ports: list[EdgePort] = Field(default_factory=list, description="Ports of the destination; left out: every port")
    clusters: Clusters
    reason: str = Field(default="", description="Why; public destinations need one")
    expires: Day | None = Field(
        default=None, description="The last day on which it holds; public destinations need one"
    )


class PortModel(Strict):
    name: PortName
    container_port: PortNumber
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class MetricsModel(Strict):
    port: PortName = Field(description="The name of one of the ports")
    path: HttpPath = "/metrics"
    series_per_pod: int = Field(
        default=1000, ge=1, le=10_000_000, description="The most series that one pod may expose"
    )
    interval: Seconds | None = Field(
        default=None, description="Between two scrapes; left out: the default of collectors/"
    )

    @field_validator("interval")
    @classmethod
    def _not_too_often(cls, seconds: int | None) -> int | None:
        if seconds is not None and not 5 <= seconds <= 300:
            raise ValueError(
                "a scrape interval lies between 5s and 5m | beyond 5m, Prometheus takes the series for gone"
            )
        return seconds


class SqlLatencyModel(Strict):
    query: str = Field(min_length=1, max_length=200, description="The label `query` of sql_query_duration_seconds")
    seconds: float = Field(gt=0)
    quantile: float = Field(gt=0, lt=1)


class AlertModel(Strict):
    """Exactly one of the three forms."""

    model_config = ConfigDict(json_schema_extra=one_required("replicasBelow", "sqlLatencyAbove", "expr"))

    replicas_below: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Fires with fewer ready pods than this"
    )
    sql_latency_above: SqlLatencyModel | None = Field(
        default=None, description="Fires while a query's quantile is slower"
    )
    expr: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="PromQL of the team's own")
    name: str | None = Field(default=None, description="The alert's name; with `expr` only")
    for_: Seconds = Field(default=0, alias="for", description="How long the condition must hold")
    severity: Literal["page", "ticket", "info"]
    summary: str = ""
    runbook: Url | None = None
    clusters: Clusters

    @model_validator(mode="after")
    def _one_form(self) -> AlertModel:
        form = exactly_one(self, ("replicas_below", "sql_latency_above", "expr"), "the condition of an alert")
        if form == "expr" and not self.name:
            raise ValueError("an alert with `expr` needs a name | add `name:`, in CamelCase, such as RefundQueueStuck")
        if form != "expr" and self.name is not None:
            raise ValueError(
                "`name` goes with `expr` only: the other forms are named after what they watch | remove `name`"
            )
        if self.name is not None and not _METRIC.match(self.name):
            raise ValueError(f"{self.name!r} is no alert name | use letters, digits and `_`, such as RefundQueueStuck")
        return self

    def value(self, place: Place) -> Alert:
        condition: ReplicasBelow | SqlLatencyAbove | Expression
        if self.replicas_below is not None:
            condition = ReplicasBelow(self.replicas_below)
        elif self.sql_latency_above is not None:
            form = self.sql_latency_above
            condition = SqlLatencyAbove(form.query, float(form.seconds), float(form.quantile))
        else:
            condition = Expression(self.name or "", self.expr or "")
        return Alert(
            condition,
            AlertSeverity(self.severity),
            self.for_,
            self.summary,
            self.runbook or "",
            frozenset(self.clusters),
            place,
        )


class DropModel(Strict):
    key: str = Field(min_length=1)
    equals: str


class LogsModel(Strict):
    format: Literal["json", "text", "logfmt"] = "text"
    rate: Rate = Field(default=50 * 1024, description="The most that one pod may log")
    retention: Days = Field(default=30, description="How long records are kept")
    drop: list[DropModel] = Field(default_factory=list, description="Records that are not shipped")
    redact: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Keys whose values are blanked"
    )

    @field_validator("retention")
    @classmethod
    def _not_for_ever(cls, days: int) -> int:
        if days > 3650:
            raise ValueError("records are kept for at most 3650d | export what must be kept longer")
        return days


class SecretModel(Strict):
    path: VaultPath = Field(description="Below Vault's key-value mount")
    mount_path: AbsolutePath = Field(description="Where it appears in the pod")
    keys: list[SecretKey] = Field(
        default_factory=list, description="The keys that become files; left out: every key that it has"
    )
    clusters: Clusters


class ServiceMetadata(Strict):
    name: Name
    namespace: Name


class ServiceSpec(Strict):
    team: Name = Field(description="The team that owns it")
    description: str = ""
    pod_selector: SelectorModel = Field(description="A Kubernetes LabelSelector; may not be empty")
    service_account_name: Subdomain = Field(default="default", description="The ServiceAccount that its pods run as")
    exposure: Literal["internal", "edge"] = Field(
        default="internal", description="edge: reached from outside the cluster"
    )
    sensitivity: Literal["normal", "high"] = Field(default="normal", description="high: must list its ingress")
    clusters: Clusters
    ports: list[PortModel] = Field(default_factory=list)
    ingress: list[IngressModel] | None = Field(
        default=None, description="The whole list of who may come; left out: whoever declares egress to it"
    )
    egress: list[EgressModel] = Field(default_factory=list)
    metrics: MetricsModel | None = None
    alerts: list[AlertModel] = Field(default_factory=list)
    logs: LogsModel | None = None
    secrets: list[SecretModel] = Field(default_factory=list)

    @field_validator("pod_selector")
    @classmethod
    def _selects_something(cls, selector: SelectorModel) -> SelectorModel:
        if not selector.match_labels and not selector.match_expressions:
            raise ValueError(
                "an empty selector selects every pod of the namespace"
                " | name a label, such as matchLabels: {app: payments}"
            )
        return selector


class ServiceDocument(Strict):
    """A microservice: whose it is, what it talks to, and what it gets for free."""

    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["Service"]
    metadata: ServiceMetadata
    spec: ServiceSpec

    def value(self, node: Node) -> Service:
        spec = self.spec
        return Service(
            namespace=self.metadata.namespace,
            name=self.metadata.name,
            team=spec.team,
            pod_selector=spec.pod_selector.value(),
            service_account=spec.service_account_name,
            exposure=Exposure(spec.exposure),
            sensitivity=Sensitivity(spec.sensitivity),
            description=spec.description,
            ports=tuple(
                Port(port.name, port.container_port, Protocol(port.protocol), node.at("spec", "ports", index))
                for index, port in enumerate(spec.ports)
            ),
            ingress=None
            if spec.ingress is None
            else tuple(
                _edge(item.from_, item.ports, item.clusters, item.reason, None, node.at("spec", "ingress", index))
                for index, item in enumerate(spec.ingress)
            ),
            egress=tuple(
                _edge(item.to, item.ports, item.clusters, item.reason, item.expires, node.at("spec", "egress", index))
                for index, item in enumerate(spec.egress)
            ),
            metrics=self._metrics(node),
            alerts=tuple(alert.value(node.at("spec", "alerts", index)) for index, alert in enumerate(spec.alerts)),
            logs=self._logs(node),
            secrets=tuple(
                Secret(
                    item.path,
                    item.mount_path,
                    frozenset(item.clusters),
                    node.at("spec", "secrets", index),
                    tuple(item.keys),
                )
                for index, item in enumerate(spec.secrets)
            ),
            clusters=frozenset(spec.clusters),
            place=node.at("metadata", "name"),
            team_place=node.at("spec", "team"),
        )

    def _metrics(self, node: Node) -> Metrics | None:
        found = self.spec.metrics
        if found is None:
            return None
        return Metrics(found.port, found.path, found.series_per_pod, found.interval, node.at("spec", "metrics", "port"))

    def _logs(self, node: Node) -> Logs | None:
        found = self.spec.logs
        if found is None:
            return None
        return Logs(
            found.format,
            found.rate,
            found.retention,
            tuple(LogDrop(item.key, item.equals) for item in found.drop),
            tuple(found.redact),
            node.at("spec", "logs"),
        )


def _edge(
    peer: PeerModel, ports: list[EdgePort], clusters: list[str], reason: str, expires: date | None, place: Place
) -> Edge:
    return Edge(peer.value(), tuple(ports), frozenset(clusters), reason, expires, place)
