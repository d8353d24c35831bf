"""`helm/values.yaml` of a cluster: the chart's own defaults, and what the platform says about this cluster.

Reads `helm/pilothouse/values.yaml` (the defaults) and `helm/sizes.yaml` (resources by the number of declared
services) from the content. What is derived can be given to `helm install --values` as it is.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pilothouse.artifacts.model import EMPTY, Artifacts, Derived, Document
from pilothouse.delivery.values import Resources, Values
from pilothouse.inputs import Content, Inputs
from pilothouse.platform.model import Cluster, Endpoint
from pilothouse.problems import Problem, error, ordered
from pilothouse.source import Model, Node, load, validate

AREA = "delivery"
VALUES = "helm/pilothouse/values.yaml"
SIZES = "helm/sizes.yaml"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Size(BaseModel):
    """Resources for platforms of at most so many services; the last one has no end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    services: Annotated[int, Field(ge=1)] | None = None
    portal: Resources
    worker: Resources


class Sizes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: Annotated[tuple[Size, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Sizes:
        limits = [size.services for size in self.sizes[:-1]]
        if self.sizes[-1].services is not None or None in limits:
            raise ValueError("the last size alone has no `services` | give every size but the last its limit")
        numbers = [number for number in limits if number is not None]
        if numbers != sorted(set(numbers)):
            raise ValueError("the sizes do not ascend | put the smallest first")
        return self

    def fitting(self, services: int) -> Size:
        """The first size that holds so many services."""
        return next(size for size in self.sizes if size.services is None or services <= size.services)


def derive(inputs: Inputs) -> Derived:
    """`helm/values.yaml`, and what is wrong with the content it is made from."""
    problems: list[Problem] = []
    node, values = _read(inputs.content, VALUES, Values, problems)
    _, sizes = _read(inputs.content, SIZES, Sizes, problems)
    if node is None or values is None or sizes is None:
        return Derived(EMPTY, ordered(problems))
    cluster = inputs.cluster
    size = sizes.fitting(len(inputs.platform.services_on(cluster.name)))
    defaults: dict[str, Any] = node.data
    derived: dict[str, Any] = {
        "cluster": cluster.name,
        "portal": {"resources": _resources(size.portal)},
        "worker": {"resources": _resources(size.worker)},
        "servers": _servers(cluster),
        "rbac": {"apply": cluster.apply == "auto"},
        "networkPolicy": {"egressPorts": _egress_ports(cluster, values)},
    }
    comment = (
        f"Values of the chart helm/pilothouse for {cluster.name}; size {size.name}.\n"
        f"helm upgrade --install pilothouse helm/pilothouse --namespace pilothouse --values values.yaml"
    )
    document = Document("helm/values.yaml", _laid_over(defaults, derived), comment=comment)
    return Derived(Artifacts.of([document]), ordered(problems))


def _read(content: Content, path: str, model: type[Model], problems: list[Problem]) -> tuple[Node | None, Model | None]:
    source = content.get(path)
    if source is None:
        problems.append(
            error(
                "delivery/missing-content",
                f"{path} is missing",
                hint="restore the file: the chart's values cannot be derived without it",
            )
        )
        return None, None
    nodes, found = load(source)
    problems.extend(found)
    if not nodes or found:
        if not found:
            problems.append(error("delivery/missing-content", f"{path} is empty", source.place(), "restore its text"))
        return None, None
    value, found = validate(nodes[0], model, AREA)
    problems.extend(found)
    return nodes[0], value


def _resources(resources: Resources) -> dict[str, Any]:
    return resources.model_dump(by_alias=True, exclude_none=True)


def _servers(cluster: Cluster) -> dict[str, Any]:
    servers = cluster.servers
    return {
        "kubernetes": _url(servers.kubernetes),
        "vault": _url(servers.vault),
        "prometheus": _url(servers.prometheus),
        "elasticsearch": _url(servers.elasticsearch),
        "grafana": _url(servers.grafana),
        "alertmanagers": [endpoint.url for endpoint in servers.alertmanagers],
    }


def _url(endpoint: Endpoint | None) -> str:
    return endpoint.url if endpoint else ""


def _egress_ports(cluster: Cluster, values: Values) -> list[int]:
    """The ports that the portal and its worker call: those of the servers, of the API server, and the chart's own."""
    servers = cluster.servers
    endpoints = (
        servers.kubernetes,
        servers.vault,
        servers.prometheus,
        servers.elasticsearch,
        servers.grafana,
        *servers.alertmanagers,
    )
    ports = {*values.network_policy.egress_ports, cluster.api_server_port}
    for endpoint in endpoints:
        if endpoint:
            address = urlsplit(endpoint.url)
            port = address.port or _DEFAULT_PORTS.get(address.scheme)
            if port:
                ports.add(port)
    return sorted(ports)


def _laid_over(below: Any, above: Any) -> Any:
    """`above` over `below`, mapping by mapping; the order of keys is that of `below`."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {
            key: _laid_over(below[key], above[key]) if key in above and key in below else above.get(key, below.get(key))
            for key in [*below, *(key for key in above if key not in below)]
        }
    return above
