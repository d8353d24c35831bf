"""The values of the chart `helm/pilothouse`: their shape, and the JSON schema that Helm holds them against.

`helm/pilothouse/values.schema.json` is written from these models (`schema`), and a test keeps the two in step.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Url = Annotated[str, Field(pattern=r"^(https?://[^\s]+)?$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Image(_Strict):
    repository: Annotated[str, Field(min_length=1, pattern=r"^[^\s:@]+(:[0-9]+/[^\s:@]+)?$")]
    tag: Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$")]
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")]
    pull_policy: Literal["IfNotPresent", "Always", "Never"]
    pull_secrets: tuple[Name, ...]

    @field_validator("tag")
    @classmethod
    def _fixed(cls, tag: str) -> str:
        if tag == "latest":
            raise ValueError("`latest` is whatever was pushed last | name a version or a digest")
        return tag


class Amounts(_Strict):
    cpu: Quantity | None = None
    memory: Quantity


class Resources(_Strict):
    requests: Amounts
    limits: Amounts


class Process(_Strict):
    resources: Resources


class Portal(Process):
    replicas: Annotated[int, Field(ge=1, le=20)]
    port: Port


class Worker(Process):
    metrics_port: Annotated[int, Field(ge=0, le=65535)]


class Database(_Strict):
    existing_secret: str
    port: Port


class Persistence(_Strict):
    size: Quantity
    storage_class: str
    existing_claim: str


class PlatformFolder(_Strict):
    repository: str
    git_home_secret: str
    existing_claim: str
    config_maps: tuple[Name, ...]


class Credentials(_Strict):
    secret: Name
    mount_path: Annotated[str, Field(pattern=r"^/[^\s:]+$")]


class Servers(_Strict):
    kubernetes: Url
    vault: Url
    prometheus: Url
    elasticsearch: Url
    grafana: Url
    alertmanagers: tuple[Annotated[str, Field(pattern=r"^https?://[^\s]+$")], ...]


class Tls(_Strict):
    existing_secret: str


class Rbac(_Strict):
    apply: bool


class NetworkPolicy(_Strict):
    enabled: bool
    ingress_namespace: Name
    monitoring_namespace: Name
    egress_ports: tuple[Port, ...]


class Ingress(_Strict):
    enabled: bool
    class_name: str
    host: str
    tls_secret: str


class DisruptionBudget(_Strict):
    enabled: bool


class Scheduling(_Strict):
    node_selector: dict[str, str]
    tolerations: tuple[dict[str, Any], ...]
    priority_class_name: str


class WebhookService(_Strict):
    """`cluster_ip` "" lets Kubernetes choose; `node_port` 0 as well. API servers know no names of the cluster's DNS, so
    one of the two, or a load balancer, is what their kubeconfig names."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    cluster_ip: Annotated[str, Field(pattern=r"^([0-9a-fA-F.:]+)?$")] = ""
    node_port: Annotated[int, Field(ge=0, le=65535)] = 0


class Webhook(Process):
    """The authorization webhook of locks, as a Deployment of its own."""

    enabled: bool = False
    replicas: Annotated[int, Field(ge=1, le=20)] = 2
    port: Port = 8443
    tls_secret: str = ""
    client_ca_secret: str = ""
    service: WebhookService = WebhookService()
    allowed_networks: tuple[str, ...] = ()
    resources: Resources = Resources(requests=Amounts(cpu="50m", memory="96Mi"), limits=Amounts(memory="192Mi"))


class Audit(_Strict):
    """The audit logs that the worker reads: what `DATA/audit.yaml` says, and the folder in which they lie."""

    config: dict[str, Any] = Field(default_factory=dict)
    mount_path: Annotated[str, Field(pattern=r"^/[^\s:]+$")] = "/audit"
    host_path: Annotated[str, Field(pattern=r"^(/[^\s:]*)?$")] = ""
    existing_claim: str = ""
    group: Annotated[int, Field(ge=0, le=4294967294)] = 0


class Values(_Strict):
    """Everything that an installation may say."""

    cluster: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$", max_length=63)]
    image: Image
    portal: Portal
    worker: Worker
    database: Database
    persistence: Persistence
    platform: PlatformFolder
    credentials: tuple[Credentials, ...]
    servers: Servers
    trusted_proxies: tuple[str, ...]
    tls: Tls
    rbac: Rbac
    network_policy: NetworkPolicy
    ingress: Ingress
    disruption_budget: DisruptionBudget
    scheduling: Scheduling
    extra_args: dict[Literal["portal", "worker"], tuple[str, ...]]
    # Later than the others: a platform's own file of values that was written before still holds.
    webhook: Webhook = Webhook()
    audit: Audit = Audit()


def schema() -> dict[str, Any]:
    """The JSON schema of the values, as Helm reads it; descriptions of the models are left out."""
    found = Values.model_json_schema(by_alias=True)
    found["$schema"] = "http://json-schema.org/draft-07/schema#"
    # Helm lays `global` into the values of every chart that is a part of another.
    found["properties"]["global"] = {"type": "object"}
    cleaned: dict[str, Any] = _without_titles(found)
    return cleaned


def _without_titles(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_titles(item)
            for key, item in value.items()
            # A property may itself be called so; then its value is a schema and not a text.
            if not (key in ("title", "description") and isinstance(item, str))
        }
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    return value
