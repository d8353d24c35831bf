"""The content folder `policies/`, read into values: `baseline.yaml` and `guardrails.yaml`.

pydantic stands here and nowhere else in the component. `read` never raises: a file that
is missing or wrong is a problem, and the value is None, so that nothing is derived from half a baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from pilothouse import source
from pilothouse.inputs import Content
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import Cluster, Exposure, Network, PortRef, Protocol
from pilothouse.problems import NOWHERE, Place, Problem, Problems, Severity, error, nearest, one_of

BASELINE = "policies/baseline.yaml"
GUARDRAILS = "policies/guardrails.yaml"


@dataclass(frozen=True, slots=True)
class SystemPeer:
    """Pods of the platform itself. `host_network` pods are met at the node's addresses. `service` is the name of the
    Kubernetes Service in front of them, "" where none is named."""

    name: str
    title: str
    namespace: str
    pod_selector: LabelSelector
    ports: tuple[PortRef, ...] = ()
    host_network: bool = False
    service: str = ""
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True, slots=True)
class ExemptPods:
    """Pods of a governed namespace that no policy of ours selects: `label` has one of `values`."""

    namespace: str
    label: str
    values: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Ends:
    """What an invariant speaks of; every condition that is set must hold. Without any: everything there is.

    `governed` are the pods that policies of ours isolate, `outside` all addresses that no pod has, `public` those of
    them that are neither private nor the cluster's, `unnamed` those that no declaration names by range or domain.
    """

    governed: bool = False
    exposure: str = ""
    sensitivity: str = ""
    services: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    team: str = ""
    outside: bool = False
    public: bool = False
    unnamed: bool = False
    networks: tuple[Network, ...] = ()
    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    """Where only one of the two is set: pods of every namespace, or every pod of these."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """`isolated`: these pods are isolated in both directions. Else: nothing of `source` but `spared` reaches anything
    of `destination`, at `ports` ((protocol number, first, last); empty: at anything), save what is declared where
    `unless_declared` says so."""

    name: str
    title: str = ""
    severity: Severity = Severity.ERROR
    isolated: Ends | None = None
    source: Ends = Ends()
    destination: Ends = Ends()
    ports: tuple[tuple[int, int, int], ...] = ()
    unless_declared: bool = False
    spared: Ends | None = None
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def ends(self) -> tuple[Ends, ...]:
        """Everything that it speaks of."""
        return tuple(item for item in (self.isolated, self.source, self.destination, self.spared) if item is not None)


@dataclass(frozen=True, slots=True)
class OwnTier:
    """A Calico tier of the platform's own, met before the tier of everybody's policies."""

    name: str
    order: float


@dataclass(frozen=True, slots=True)
class Baseline:
    exempt_namespaces: frozenset[str] = frozenset()
    exempt_pods: tuple[ExemptPods, ...] = ()
    system_peers: tuple[SystemPeer, ...] = ()
    dns: tuple[SystemPeer, ...] = ()
    metrics: tuple[SystemPeer, ...] = ()
    secrets: tuple[SystemPeer, ...] = ()
    edge: tuple[SystemPeer, ...] = ()
    logs: tuple[SystemPeer, ...] = ()
    private_ranges: tuple[Network, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    tier: OwnTier | None = None

    def exempt_in(self, namespace: str) -> tuple[ExemptPods, ...]:
        return tuple(item for item in self.exempt_pods if item.namespace == namespace)


@dataclass(frozen=True, slots=True)
class ForbiddenPort:
    port: int
    why: str


@dataclass(frozen=True, slots=True)
class ForbiddenDestination:
    network: Network
    why: str


@dataclass(frozen=True, slots=True)
class DomainPattern:
    pattern: str
    why: str


class Consent:
    """Words of `approvals`."""

    NONE = "none"
    SECOND_PERSON = "second-person"
    PLATFORM_TEAM = "platform-team"


@dataclass(frozen=True, slots=True)
class Guardrails:
    min_reason_length: int = 0
    require_expiry: bool = False
    max_days: int = 0
    """0 means no limit."""
    widest_ipv4: int = 0
    widest_ipv6: int = 0
    forbidden_ports: tuple[ForbiddenPort, ...] = ()
    internet_exposures: frozenset[Exposure] = frozenset()
    internet_services: tuple[str, ...] = ()
    forbidden_destinations: tuple[ForbiddenDestination, ...] = ()
    forbidden_domains: tuple[DomainPattern, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    approve_public_egress: str = Consent.NONE
    approve_internet_egress: str = Consent.NONE
    approve_high_sensitivity: str = Consent.NONE


@dataclass(frozen=True, slots=True)
class PolicyContent:
    baseline: Baseline | None
    guardrails: Guardrails | None
    problems: Problems = ()

    def refused_on(self, cluster: Cluster) -> tuple[ForbiddenDestination, ...]:
        """What policies of ours deny on that cluster before anything else is asked: only Calico's kinds can deny."""
        if cluster.policy_kinds != "calico" or self.baseline is None or self.baseline.tier is None:
            return ()
        return self.guardrails.forbidden_destinations if self.guardrails else ()


def read(content: Content) -> PolicyContent:
    """Both files, with every complaint about them."""
    problems: list[Problem] = []
    baseline = _load(content, BASELINE, "PolicyBaseline", _Baseline, problems)
    guardrails = _load(content, GUARDRAILS, "PolicyGuardrails", _Guardrails, problems)
    return PolicyContent(
        _baseline(*baseline, problems) if baseline else None,
        guardrails[1].spec.value() if guardrails else None,
        tuple(problems),
    )


# ---------------------------------------------------------------- the documents' models


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as failure:
        raise ValueError(f"{failure} | write a range such as 10.0.0.0/8 or fd00::/8") from None
    return text


_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
Cidr = Annotated[str, AfterValidator(_network)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class _Requirement(_Strict):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class _Selector(_Strict):
    match_labels: dict[str, str] = {}
    match_expressions: list[_Requirement] = []

    def value(self) -> LabelSelector:
        return LabelSelector.from_dict(self.model_dump(by_alias=True))


class _Port(_Strict):
    port: int = Field(ge=1, le=65535)
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class _SystemPeer(_Strict):
    title: str = ""
    namespace: str
    pod_selector: _Selector
    ports: list[_Port] = []
    host_network: bool = False
    service: str = ""


class _OwnTier(_Strict):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    order: float = Field(gt=0, lt=1_000_000)


class _ExemptPods(_Strict):
    namespace: str
    label: str
    values: list[str] = Field(min_length=1)
    reason: str = Field(min_length=1)


class _Implied(_Strict):
    dns: list[str] = []
    metrics: list[str] = []
    secrets: list[str] = []
    edge: list[str] = []
    logs: list[str] = []


class _Ends(_Strict):
    governed: bool = False
    exposure: Literal["internal", "edge"] | None = None
    sensitivity: Literal["normal", "high"] | None = None
    services: list[str] = []
    namespaces: list[str] = []
    team: str = ""
    outside: bool = False
    public: bool = False
    unnamed: bool = False
    cidrs: list[Cidr] = []
    pod_selector: _Selector | None = None
    namespace_selector: _Selector | None = None

    def value(self) -> Ends:
        return Ends(
            self.governed,
            self.exposure or "",
            self.sensitivity or "",
            tuple(self.services),
            tuple(self.namespaces),
            self.team,
            self.outside,
            self.public,
            self.unnamed,
            tuple(ip_network(item) for item in self.cidrs),
            self.pod_selector.value() if self.pod_selector else None,
            self.namespace_selector.value() if self.namespace_selector else None,
        )


class _PortRange(_Port):
    end_port: int = Field(default=0, ge=0, le=65535)

    @model_validator(mode="after")
    def _upwards(self) -> _PortRange:
        if self.end_port and self.end_port < self.port:
            raise ValueError("`endPort` is below `port` | swap them")
        return self


class _Connections(_Strict):
    to: _Ends = _Ends()
    ports: list[_PortRange] = []
    unless: Literal["declared"] | None = None


class _Never(_Connections):
    source: _Ends = Field(default=_Ends(), alias="from")


class _Only(_Connections):
    source: _Ends = Field(alias="from")
    among: _Ends = _Ends()


class _Invariant(_Strict):
    name: str = Field(min_length=1)
    title: str = ""
    severity: Literal["error", "warning"] = "error"
    isolated: _Ends | None = None
    never: _Never | None = None
    only: _Only | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> _Invariant:
        if sum(item is not None for item in (self.isolated, self.never, self.only)) != 1:
            raise ValueError("says `isolated`, `never` or `only` | keep one of them")
        return self

    def value(self, place: Place) -> Invariant:
        said: _Connections = self.never or self.only or _Never()
        return Invariant(
            self.name,
            self.title,
            Severity(self.severity),
            self.isolated.value() if self.isolated else None,
            (self.only.among if self.only else self.never.source if self.never else _Ends()).value(),
            said.to.value(),
            tuple((_NUMBERS[port.protocol], port.port, port.end_port or port.port) for port in said.ports),
            said.unless is not None,
            self.only.source.value() if self.only else None,
            place,
        )


class _BaselineSpec(_Strict):
    exempt_namespaces: list[str] = []
    exempt_pods: list[_ExemptPods] = []
    system_peers: dict[str, _SystemPeer] = {}
    implied: _Implied = _Implied()
    private_ranges: list[Cidr]
    invariants: list[_Invariant] = []
    tier: _OwnTier | None = None

    @field_validator("invariants")
    @classmethod
    def _names_once(cls, value: list[_Invariant]) -> list[_Invariant]:
        if len({item.name for item in value}) < len(value):
            raise ValueError("two invariants have one name | give each its own")
        return value


class _Baseline(_Strict):
    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["PolicyBaseline"]
    spec: _BaselineSpec


class _ForbiddenPort(_Strict):
    port: int = Field(ge=1, le=65535)
    why: str


class _PublicEgress(_Strict):
    min_reason_length: int = Field(default=0, ge=0)
    require_expiry: bool = False
    max_days: int = Field(default=0, ge=0)
    widest_ipv4: int = Field(default=0, ge=0, le=32, alias="widestIPv4")
    widest_ipv6: int = Field(default=0, ge=0, le=128, alias="widestIPv6")
    forbidden_ports: list[_ForbiddenPort] = []


class _Internet(_Strict):
    exposures: list[Literal["internal", "edge"]] = []
    services: list[str] = []


class _ForbiddenDestination(_Strict):
    cidr: Cidr
    why: str


class _Pattern(_Strict):
    pattern: str = Field(min_length=1)
    why: str


class _Domains(_Strict):
    forbidden: list[_Pattern] = []
    allowed: list[str] = []


_Consent = Literal["none", "second-person", "platform-team"]


class _Approvals(_Strict):
    public_egress: _Consent = "none"
    internet_egress: _Consent = "none"
    high_sensitivity: _Consent = "none"


class _GuardrailsSpec(_Strict):
    public_egress: _PublicEgress = _PublicEgress()
    internet: _Internet = _Internet()
    forbidden_destinations: list[_ForbiddenDestination] = []
    domains: _Domains = _Domains()
    approvals: _Approvals = _Approvals()

    @field_validator("forbidden_destinations")
    @classmethod
    def _each_once(cls, value: list[_ForbiddenDestination]) -> list[_ForbiddenDestination]:
        if len({item.cidr for item in value}) < len(value):
            raise ValueError("a range stands twice | keep one of them")
        return value

    def value(self) -> Guardrails:
        public = self.public_egress
        return Guardrails(
            min_reason_length=public.min_reason_length,
            require_expiry=public.require_expiry,
            max_days=public.max_days,
            widest_ipv4=public.widest_ipv4,
            widest_ipv6=public.widest_ipv6,
            forbidden_ports=tuple(ForbiddenPort(item.port, item.why) for item in public.forbidden_ports),
            internet_exposures=frozenset(Exposure(item) for item in self.internet.exposures),
            internet_services=tuple(self.internet.services),
            forbidden_destinations=tuple(
                ForbiddenDestination(ip_network(item.cidr), item.why) for item in self.forbidden_destinations
            ),
            forbidden_domains=tuple(DomainPattern(item.pattern.lower(), item.why) for item in self.domains.forbidden),
            allowed_domains=tuple(item.lower() for item in self.domains.allowed),
            approve_public_egress=self.approvals.public_egress,
            approve_internet_egress=self.approvals.internet_egress,
            approve_high_sensitivity=self.approvals.high_sensitivity,
        )


class _Guardrails(_Strict):
    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["PolicyGuardrails"]
    spec: _GuardrailsSpec


# ---------------------------------------------------------------- from document to value


def _load(
    content: Content, path: str, kind: str, model: type[source.Model], problems: list[Problem]
) -> tuple[source.Node, source.Model] | None:
    text = content.get(path)
    if text is None:
        problems.append(
            error("policies/missing-content", f"there is no {path}", Place(path), f"add a document of kind {kind}")
        )
        return None
    nodes, found = source.load(text)
    problems.extend(found)
    if found:
        return None
    if len(nodes) != 1:
        problems.append(
            error(
                "policies/missing-content",
                f"{path} holds {len(nodes)} documents where one is expected",
                text.place(),
                f"keep one document of kind {kind}",
            )
        )
        return None
    value, found = source.validate(nodes[0], model, "policies")
    problems.extend(found)
    return (nodes[0], value) if value is not None else None


def _baseline(node: source.Node, document: _Baseline, problems: list[Problem]) -> Baseline | None:
    spec = document.spec
    peers = {
        name: SystemPeer(
            name,
            peer.title or name,
            peer.namespace,
            peer.pod_selector.value(),
            tuple(PortRef(number=port.port, protocol=Protocol(port.protocol)) for port in peer.ports),
            peer.host_network,
            peer.service,
            node.key_at("spec", "systemPeers", name),
        )
        for name, peer in spec.system_peers.items()
    }
    before = len(problems)

    def named(field_name: str) -> tuple[SystemPeer, ...]:
        found = []
        for index, name in enumerate(getattr(spec.implied, field_name)):
            if name in peers:
                found.append(peers[name])
            else:
                problems.append(
                    error(
                        "policies/unknown-system-peer",
                        f"`implied.{field_name}` names `{name}`, which is no system peer",
                        node.at("spec", "implied", field_name, index),
                        nearest(name, peers) or one_of(peers),
                    )
                )
        return tuple(found)

    value = Baseline(
        exempt_namespaces=frozenset(spec.exempt_namespaces),
        exempt_pods=tuple(
            ExemptPods(item.namespace, item.label, tuple(item.values), item.reason) for item in spec.exempt_pods
        ),
        system_peers=tuple(peers.values()),
        dns=named("dns"),
        metrics=named("metrics"),
        secrets=named("secrets"),
        edge=named("edge"),
        logs=named("logs"),
        private_ranges=tuple(ip_network(item) for item in spec.private_ranges),
        invariants=tuple(
            item.value(node.at("spec", "invariants", index)) for index, item in enumerate(spec.invariants)
        ),
        tier=OwnTier(spec.tier.name, spec.tier.order) if spec.tier else None,
    )
    return value if len(problems) == before else None
