"""What is declared: the values that every component derives from.

They are made by `platform.documents` from the documents of a platform folder and
are valid by themselves (names are names, CIDRs are CIDRs); whether they fit
each other is `platform.checks`. Every value that came from a line of a file
carries its `place`, which takes no part in equality.

All tuples keep the order of the document; all mappings of `Platform` are sorted by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from pilothouse.labels import EVERYTHING, LabelSelector
from pilothouse.platform.authority import Authority, Elevation
from pilothouse.problems import NOWHERE, Place

Network = IPv4Network | IPv6Network


class Exposure(StrEnum):
    INTERNAL = "internal"
    EDGE = "edge"
    """Reached from outside the cluster, through the ingress controllers."""


class Sensitivity(StrEnum):
    NORMAL = "normal"
    HIGH = "high"


class AlertSeverity(StrEnum):
    """From the loudest: a `page` wakes somebody, a `ticket` waits for the day, `info` is only shown."""

    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"

    @property
    def loudness(self) -> int:
        return {"page": 2, "ticket": 1, "info": 0}[self.value]


class Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


# ---------------------------------------------------------------- peers and edges


@dataclass(frozen=True, slots=True)
class ServicePeer:
    """Another declared service, written `namespace/name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PodsPeer:
    """Pods by label. `namespace_selector` None means the declaring service's own namespace."""

    pod_selector: LabelSelector = EVERYTHING
    namespace_selector: LabelSelector | None = None

    def __str__(self) -> str:
        where = "" if self.namespace_selector is None else f" in namespaces {self.namespace_selector}"
        return f"pods {self.pod_selector}{where}"


@dataclass(frozen=True, slots=True)
class CidrPeer:
    network: Network

    def __str__(self) -> str:
        return str(self.network)


@dataclass(frozen=True, slots=True)
class ApiServerPeer:
    """The cluster's own API server (`Cluster.api_server` says where it listens)."""

    def __str__(self) -> str:
        return "the API server"


@dataclass(frozen=True, slots=True)
class InternetPeer:
    """Every public address: everything but private, pod, service, node and link-local ranges."""

    def __str__(self) -> str:
        return "the internet"


@dataclass(frozen=True, slots=True)
class DomainPeer:
    """A DNS name; for egress only."""

    name: str

    def __str__(self) -> str:
        return self.name


Peer = ServicePeer | PodsPeer | CidrPeer | ApiServerPeer | InternetPeer | DomainPeer


@dataclass(frozen=True, slots=True)
class PortRef:
    """A port of an edge: exactly one of `name` and `number` is set; `end` closes a numeric range.

    Ports are container ports, as policies see them. `protocol` None means "as the
    named port declares it", else TCP.
    """

    name: str = ""
    number: int = 0
    end: int = 0
    protocol: Protocol | None = None

    def __str__(self) -> str:
        text = self.name or (f"{self.number}-{self.end}" if self.end else str(self.number))
        return f"{text}/{self.protocol}" if self.protocol and self.protocol is not Protocol.TCP else text


@dataclass(frozen=True, slots=True)
class Edge:
    """One item of `ingress` (peer = who may come) or `egress` (peer = where it goes).

    `ports` empty means every port. `clusters` empty means every cluster.
    `expires` is the last day on which an egress holds.
    """

    peer: Peer
    ports: tuple[PortRef, ...] = ()
    clusters: frozenset[str] = frozenset()
    reason: str = ""
    expires: date | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def holds_on(self, cluster: str) -> bool:
        return not self.clusters or cluster in self.clusters

    def expired(self, today: date) -> bool:
        return self.expires is not None and today > self.expires


# ---------------------------------------------------------------- service


@dataclass(frozen=True, slots=True)
class Port:
    """A container port. `name` is unique within the service together with its protocol."""

    name: str
    number: int
    protocol: Protocol = Protocol.TCP
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the pods answer a scrape; `series_per_pod` is the budget that limits follow from."""

    port: str
    path: str = "/metrics"
    series_per_pod: int = 1000
    interval: int | None = None
    """Seconds between scrapes; None takes the default of `collectors/`."""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ReplicasBelow:
    """Fires while fewer than `minimum` pods of the owning workloads are ready."""

    minimum: int


@dataclass(frozen=True, slots=True)
class SqlLatencyAbove:
    """Fires while the quantile of a query's latency is above `seconds`."""

    query: str
    seconds: float
    quantile: float


@dataclass(frozen=True, slots=True)
class Expression:
    """A rule of the team's own; `name` is the alert's name."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    condition: ReplicasBelow | SqlLatencyAbove | Expression
    severity: AlertSeverity
    for_seconds: int = 0
    summary: str = ""
    runbook: str = ""
    clusters: frozenset[str] = frozenset()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def holds_on(self, cluster: str) -> bool:
        return not self.clusters or cluster in self.clusters


@dataclass(frozen=True, slots=True)
class LogDrop:
    key: str
    equals: str


@dataclass(frozen=True, slots=True)
class Logs:
    """`format` is json, text or logfmt; `rate` is bytes per second per pod; `retention` is days."""

    format: str = "text"
    rate: int = 50 * 1024
    retention_days: int = 30
    drop: tuple[LogDrop, ...] = ()
    redact: tuple[str, ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of Vault by path (below the key-value mount), and where it appears in the pod.

    `keys` are those that become files; empty means every key that the secret has.
    """

    path: str
    mount_path: str
    clusters: frozenset[str] = frozenset()
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    keys: tuple[str, ...] = ()

    def holds_on(self, cluster: str) -> bool:
        return not self.clusters or cluster in self.clusters


@dataclass(frozen=True, slots=True)
class Service:
    """A microservice, written beside its code by the team that owns it.

    `ingress` None means "reached by whoever declares egress to it"; a tuple, even an
    empty one, is the whole list. `logs` None means the pipeline's defaults.
    """

    namespace: str
    name: str
    team: str
    pod_selector: LabelSelector
    service_account: str = "default"
    exposure: Exposure = Exposure.INTERNAL
    sensitivity: Sensitivity = Sensitivity.NORMAL
    description: str = ""
    ports: tuple[Port, ...] = ()
    ingress: tuple[Edge, ...] | None = None
    egress: tuple[Edge, ...] = ()
    metrics: Metrics | None = None
    alerts: tuple[Alert, ...] = ()
    logs: Logs | None = None
    secrets: tuple[Secret, ...] = ()
    clusters: frozenset[str] = frozenset()
    """The clusters that it runs on; empty means all of them."""
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    team_place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def key(self) -> str:
        """`namespace/name`, unique in a platform."""
        return f"{self.namespace}/{self.name}"

    def runs_on(self, cluster: str) -> bool:
        return not self.clusters or cluster in self.clusters

    def port(self, name: str) -> Port | None:
        return next((port for port in self.ports if port.name == name), None)


# ---------------------------------------------------------------- team


@dataclass(frozen=True, slots=True)
class Member:
    """A person of a team; `user` is the directory's own name of the account."""

    user: str
    name: str = ""
    email: str = ""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where an alert of one severity ends: exactly one of the channels is set.

    `url_file` and the like name a file on the Alertmanager's machine that holds the
    secret part; a secret itself is never declared.
    """

    severity: AlertSeverity
    email: str = ""
    webhook: str = ""
    slack_channel: str = ""
    pagerduty_key_file: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A weekly on-call rotation: `users[k]` from `start` + k weeks, handed over at `handover` in `timezone`.

    `start` is the day of the first handover; `handover` is (hour, minute).
    """

    users: tuple[str, ...]
    start: date
    handover: tuple[int, int] = (9, 0)
    timezone: str = "UTC"
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Team:
    """`groups` are directory groups whose members belong to the team; `approvers` are users of it."""

    name: str
    title: str = ""
    members: tuple[Member, ...] = ()
    groups: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    receivers: tuple[Receiver, ...] = ()
    rotation: Rotation | None = None
    platform: bool = False
    """The infrastructure team: owns the clusters, receives alerts that nobody else owns, reviews guardrails."""
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def receiver(self, severity: AlertSeverity) -> Receiver | None:
        """The receiver for that severity, or the next louder one, or None."""
        louder = sorted(
            (r for r in self.receivers if r.severity.loudness >= severity.loudness), key=lambda r: r.severity.loudness
        )
        return louder[0] if louder else None


# ---------------------------------------------------------------- cluster


class Enforcement(StrEnum):
    ENFORCED = "enforced"
    STAGED = "staged"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Versions:
    """As declared, such as "1.34" or "3.15"."""

    kubernetes: str = "1.34"
    prometheus: str = "3.15"
    alertmanager: str = "0.31"
    elasticsearch: str = "8.19"
    fluentd: str = "1.16"

    @staticmethod
    def number(version: str) -> tuple[int, ...]:
        """ "3.15" → (3, 15), for comparisons."""
        return tuple(int(part) for part in version.lstrip("v").split(".") if part.isdigit())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server of the cluster: address, and files on the machine that talks to it.

    `token_file` and `ca_file` are paths on the machine where the rendered
    configuration is used, never contents. With a `user` the token file holds that user's password.
    """

    url: str
    token_file: str = ""
    ca_file: str = ""
    user: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the cluster's servers lie; an absent one is None or empty."""

    kubernetes: Endpoint | None = None
    vault: Endpoint | None = None
    prometheus: Endpoint | None = None
    """The global Prometheus."""
    leaves: tuple[Endpoint, ...] = ()
    """The leaf Prometheus servers by shard, where pilothouse may ask them itself."""
    alertmanagers: tuple[Endpoint, ...] = ()
    elasticsearch: Endpoint | None = None
    grafana: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class LoggingCapacity:
    """What the log pipeline was given: Fluentd agents are one per node."""

    data_nodes: int = 3
    heap_bytes: int = 4 * 1024**3
    coordinating_nodes: int = 2
    outage_seconds: int = 3600
    """How long Elasticsearch may be away without a lost record."""


@dataclass(frozen=True, slots=True)
class Cluster:
    name: str
    environment: str
    pod_cidrs: tuple[Network, ...]
    service_cidrs: tuple[Network, ...]
    node_cidrs: tuple[Network, ...]
    versions: Versions = Versions()
    calico_api: str = ""
    """`projectcalico.org/v3`, `crd.projectcalico.org/v1`, or "" where there is no Calico."""
    policy_kinds: str = "kubernetes"
    """`kubernetes`: policies are Kubernetes' own wherever those can say it; `calico`: Calico's throughout."""
    shards: int = 1
    """Number of leaf Prometheus servers."""
    enforcement: Enforcement = Enforcement.STAGED
    namespace_enforcement: Mapping[str, Enforcement] = field(default_factory=dict)
    """Per namespace, where it differs from `enforcement`."""
    staged_for: int = 0
    """Seconds for which the policies of a namespace stand staged before an apply enforces them; 0: not at all."""
    max_severity: AlertSeverity = AlertSeverity.PAGE
    """No alert of this cluster is louder."""
    api_server: tuple[Network, ...] = ()
    """Addresses at which pods meet the API server, after DNAT."""
    api_server_port: int = 6443
    node_local_dns: tuple[Network, ...] = ()
    """Addresses of the node-local DNS cache, where there is one."""
    servers: Servers = Servers()
    authority: Authority = field(default_factory=Authority)
    logging: LoggingCapacity = LoggingCapacity()
    domain_addresses: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    """What `domain` peers resolve to, where the platform team pins it; otherwise a worker job resolves them."""
    apply: str = "manual"
    """`manual`, or `auto`: the worker applies what was approved."""
    elevation: Elevation = field(default_factory=Elevation)
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def binds_requests(self) -> bool:
        """Whether each request for an elevated profile has a group and a binding of its own here."""
        return bool(self.elevation.account)

    def enforcement_of(self, namespace: str) -> Enforcement:
        return self.namespace_enforcement.get(namespace, self.enforcement)

    @property
    def cluster_networks(self) -> tuple[Network, ...]:
        """Pod, service and node ranges."""
        return self.pod_cidrs + self.service_cidrs + self.node_cidrs


# ---------------------------------------------------------------- access profile


@dataclass(frozen=True, slots=True)
class RbacRule:
    """A Kubernetes PolicyRule."""

    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()


class Scope(StrEnum):
    """Where the rules of a profile hold."""

    CLUSTER = "cluster"
    TEAM_NAMESPACES = "team-namespaces"
    """In the namespaces of the services that the holder's teams own: one binding per team."""
    NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class AccessProfile:
    """Which certificate maps to which RBAC.

    `groups` are the directory groups that may ask. `lifetime` and `max_lifetime` are seconds:
    what is given when nothing is said, and the most that may be asked for.
    An `elevated` profile needs a reason and, with `approval`, another person of `approver_groups`.
    """

    name: str
    title: str
    description: str
    groups: tuple[str, ...]
    rules: tuple[RbacRule, ...]
    scope: Scope = Scope.TEAM_NAMESPACES
    namespaces: tuple[str, ...] = ()
    cluster_role: str = ""
    """An existing ClusterRole to bind instead of `rules`."""
    lifetime: int = 16 * 3600
    max_lifetime: int = 16 * 3600
    renewal: int = 0
    """Seconds of one certificate where `lifetime` is that of a login which renews them; 0 for one that lasts."""
    elevated: bool = False
    approval: bool = False
    approver_groups: tuple[str, ...] = ()
    without_approval: str = ""
    """Why an elevated profile needs no approval, in words."""
    ticket: str = ""
    """What the ticket of a request must look like (a regular expression for all of it); "" where none is needed."""
    break_glass: tuple[str, ...] = ()
    """Users of whom any two open the profile together; then there are neither `groups` nor `approver_groups`."""
    clusters: frozenset[str] = frozenset()
    generation: int = 0
    """Part of the groups of its certificates, from 1; 0 for none. Raised, it ends all of them at once."""
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def leaf(self) -> int:
        """Seconds that one certificate lasts when nothing is said."""
        return self.renewal or self.lifetime

    @property
    def longest_leaf(self) -> int:
        """The most seconds that one certificate may last."""
        return self.renewal or self.max_lifetime

    def holds_on(self, cluster: str) -> bool:
        return not self.clusters or cluster in self.clusters


# ---------------------------------------------------------------- platform


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything that is declared. Keys: team, cluster and profile by name, service by `namespace/name`."""

    name: str = ""
    teams: Mapping[str, Team] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    profiles: Mapping[str, AccessProfile] = field(default_factory=dict)
    unreadable: frozenset[str] = field(default=frozenset(), compare=False)
    """What is declared but could not be read, such as `Service payments/api`, or a file's path
    where its YAML ended early. Nothing complains that these are missing."""

    def services_on(self, cluster: str) -> tuple[Service, ...]:
        return tuple(service for service in self.services.values() if service.runs_on(cluster))

    def services_of(self, team: str) -> tuple[Service, ...]:
        return tuple(service for service in self.services.values() if service.team == team)

    def namespaces_of(self, team: str, cluster: str) -> tuple[str, ...]:
        """Namespaces in which that team owns a service on that cluster, sorted."""
        return tuple(sorted({s.namespace for s in self.services_of(team) if s.runs_on(cluster)}))

    @property
    def platform_team(self) -> Team | None:
        return next((team for team in self.teams.values() if team.platform), None)

    def teams_of_person(self, user: str, groups: frozenset[str] = frozenset()) -> tuple[Team, ...]:
        """The teams of a person: by name among the members, or through one of the directory groups."""
        return tuple(
            team
            for team in self.teams.values()
            if any(member.user == user for member in team.members) or groups.intersection(team.groups)
        )
