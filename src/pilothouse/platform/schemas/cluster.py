"""The `Cluster` document."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import Field

from pilothouse.platform.authority import Authority, Elevation, LockWebhook
from pilothouse.platform.model import (
    AlertSeverity,
    Cluster,
    Endpoint,
    Enforcement,
    LoggingCapacity,
    Servers,
    Versions,
)
from pilothouse.platform.schemas.base import (
    AbsolutePath,
    Address,
    Cidr,
    Domain,
    Name,
    NamedModel,
    PortNumber,
    Seconds,
    Size,
    Strict,
    Url,
    Version,
)
from pilothouse.source import Node, Path

Mode = Literal["enforced", "staged", "off"]


class VersionsModel(Strict):
    kubernetes: Version = "1.34"
    prometheus: Version = "3.15"
    alertmanager: Version = "0.31"
    elasticsearch: Version = "8.19"
    fluentd: Version = "1.16"


class CalicoModel(Strict):
    api_version: Literal["projectcalico.org/v3", "crd.projectcalico.org/v1"] = Field(
        description="The API group that Calico's kinds are written to"
    )
    policy_kinds: Literal["kubernetes", "calico"] = Field(
        default="kubernetes",
        description="Of network policies: Kubernetes' own wherever those can say it, or Calico's throughout",
    )


class PrometheusModel(Strict):
    shards: int = Field(default=1, ge=1, le=100, description="Number of leaf servers")


class EnforcementModel(Strict):
    default: Mode = "staged"
    namespaces: dict[Name, Mode] = Field(default_factory=dict, description="Where it differs from the default")
    staged_for: Seconds = Field(
        default=0,
        description="With Calico: how long an apply leaves a namespace's policies staged before it enforces them; "
        "left out, it enforces at once",
    )


class ApiServerModel(Strict):
    addresses: list[Address] = Field(
        default_factory=list, description="At which pods meet the API server, after address translation"
    )
    port: PortNumber = 6443


class EndpointModel(Strict):
    url: Url
    token_file: AbsolutePath | None = Field(default=None, description="On the machine that uses it")
    ca_file: AbsolutePath | None = Field(default=None, description="On the machine that uses it")
    user: str = Field(default="", max_length=253, description="The token file holds the password of that user")

    def value(self, node: Node, *path: str | int) -> Endpoint:
        return Endpoint(self.url, self.token_file or "", self.ca_file or "", self.user, node.at(*path))


class ServersModel(Strict):
    kubernetes: EndpointModel | None = None
    vault: EndpointModel | None = None
    prometheus: EndpointModel | None = Field(default=None, description="The global Prometheus")
    leaves: list[EndpointModel] = Field(default_factory=list, description="The leaf Prometheus servers, by shard")
    alertmanagers: list[EndpointModel] = Field(default_factory=list, description="Each one; alerts go to all of them")
    elasticsearch: EndpointModel | None = None
    grafana: EndpointModel | None = None

    def value(self, node: Node) -> Servers:
        here: Path = ("spec", "servers")

        def one(name: str, model: EndpointModel | None) -> Endpoint | None:
            return model.value(node, *here, name) if model else None

        return Servers(
            one("kubernetes", self.kubernetes),
            one("vault", self.vault),
            one("prometheus", self.prometheus),
            tuple(item.value(node, *here, "leaves", index) for index, item in enumerate(self.leaves)),
            tuple(item.value(node, *here, "alertmanagers", index) for index, item in enumerate(self.alertmanagers)),
            one("elasticsearch", self.elasticsearch),
            one("grafana", self.grafana),
        )


class LockWebhookModel(Strict):
    url: Annotated[Url, Field(pattern="^https://")] = Field(description="Address at which the API server reaches it")
    failure_policy: Literal["NoOpinion", "Deny"] = Field(
        default="NoOpinion",
        description="While it does not answer: RBAC alone decides, or certificates of ours may do nothing",
    )


class AuthorityModel(Strict):
    backend: Literal["embedded", "vault"] = "embedded"
    mount: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_/-]*$")] | None = Field(
        default=None, description="Vault's PKI mount, one per cluster; left out: pki-<cluster>"
    )
    common_name: str | None = Field(
        default=None, description="Of the authority's certificate; left out: <cluster> access"
    )
    login: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_/-]*$")] = Field(
        default="ldap", description="Vault's LDAP auth mount, at which engineers log in"
    )
    self_test_token_file: str | None = Field(
        default=None,
        description="File with a token such as engineers have, with which the signer tries the escapes at the mount",
    )
    webhook: LockWebhookModel | None = Field(
        default=None, description="The authorization webhook of locks; left out: the API server does not ask"
    )


class ElevationModel(Strict):
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9:._@/-]*$", max_length=253)] = Field(
        description="The worker's user on this cluster, such as system:serviceaccount:pilothouse:pilothouse"
    )
    vault_secret_file: str | None = Field(
        default=None,
        description="Where Vault signs: file with what the worker logs in with at Vault (`access vault elevator`)",
    )


class LoggingModel(Strict):
    data_nodes: int = Field(default=3, ge=1, le=1000, description="Elasticsearch data nodes")
    heap: Size = Field(default=4 * 1024**3, description="Of each data node")
    coordinating_nodes: int = Field(default=2, ge=0, le=1000)
    outage: Seconds = Field(default=3600, description="How long Elasticsearch may be away without a lost record")


class ClusterSpec(Strict):
    environment: str = Field(min_length=1, max_length=63, description="Such as dev, test, uat or prod")
    pod_cidrs: list[Cidr] = Field(alias="podCIDRs", min_length=1)
    service_cidrs: list[Cidr] = Field(alias="serviceCIDRs", min_length=1)
    node_cidrs: list[Cidr] = Field(alias="nodeCIDRs", min_length=1)
    versions: VersionsModel = Field(default_factory=VersionsModel)
    calico: CalicoModel | None = Field(default=None, description="Left out where there is no Calico")
    prometheus: PrometheusModel = Field(default_factory=PrometheusModel)
    enforcement: EnforcementModel = Field(default_factory=EnforcementModel)
    max_severity: Literal["page", "ticket", "info"] = Field(
        default="page", description="No alert of this cluster is louder"
    )
    api_server: ApiServerModel = Field(default_factory=ApiServerModel)
    node_local_dns: list[Address] = Field(
        default_factory=list, alias="nodeLocalDNS", description="Addresses of the node-local DNS cache"
    )
    servers: ServersModel = Field(default_factory=ServersModel)
    authority: AuthorityModel = Field(default_factory=AuthorityModel)
    logging: LoggingModel = Field(default_factory=LoggingModel)
    domain_addresses: dict[Domain, list[Address]] = Field(
        default_factory=dict, description="What `domain` peers resolve to, pinned"
    )
    apply: Literal["manual", "auto"] = Field(default="manual", description="auto: the worker applies what was approved")
    elevation: ElevationModel | None = Field(
        default=None,
        description="The worker binds each request for an elevated profile, and unbinds it; left out, bindings stand",
    )


class ClusterDocument(Strict):
    """A cluster: its networks, versions, servers, and how strict it is."""

    api_version: Literal["pilothouse.dev/v1"]
    kind: Literal["Cluster"]
    metadata: NamedModel
    spec: ClusterSpec

    def value(self, node: Node) -> Cluster:
        spec = self.spec
        name = self.metadata.name
        return Cluster(
            name=name,
            environment=spec.environment,
            pod_cidrs=tuple(spec.pod_cidrs),
            service_cidrs=tuple(spec.service_cidrs),
            node_cidrs=tuple(spec.node_cidrs),
            versions=Versions(**spec.versions.model_dump()),
            calico_api=spec.calico.api_version if spec.calico else "",
            policy_kinds=spec.calico.policy_kinds if spec.calico else "kubernetes",
            shards=spec.prometheus.shards,
            enforcement=Enforcement(spec.enforcement.default),
            namespace_enforcement={
                namespace: Enforcement(mode) for namespace, mode in sorted(spec.enforcement.namespaces.items())
            },
            staged_for=spec.enforcement.staged_for,
            max_severity=AlertSeverity(spec.max_severity),
            api_server=tuple(spec.api_server.addresses),
            api_server_port=spec.api_server.port,
            node_local_dns=tuple(spec.node_local_dns),
            servers=spec.servers.value(node),
            authority=Authority(
                spec.authority.backend,
                spec.authority.mount or f"pki-{name}",
                spec.authority.common_name or f"{name} access",
                spec.authority.login,
                spec.authority.self_test_token_file or "",
                LockWebhook(**spec.authority.webhook.model_dump()) if spec.authority.webhook else None,
            ),
            logging=LoggingCapacity(
                spec.logging.data_nodes, spec.logging.heap, spec.logging.coordinating_nodes, spec.logging.outage
            ),
            domain_addresses={
                domain: tuple(sorted(addresses, key=_by_family))
                for domain, addresses in sorted(spec.domain_addresses.items())
            },
            apply=spec.apply,
            elevation=Elevation(
                spec.elevation.account, spec.elevation.vault_secret_file or "", node.at("spec", "elevation")
            )
            if spec.elevation
            else Elevation(),
            place=node.at("metadata", "name"),
        )


def _by_family(network: IPv4Network | IPv6Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen
