"""What ends once a namespace is enforced, and what a service may do beside what is declared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from support.builders import cluster, inputs, pod, service, snapshot

from pilothouse.inputs import Inputs
from pilothouse.inventory.model import KubeService, ServicePort
from pilothouse.platform.model import Edge, Enforcement, PortRef, Service, ServicePeer
from pilothouse.policies import adoption, edges
from pilothouse.policies import site as sites
from pilothouse.policies.compare.adopting import Adopting, adopting, as_data
from pilothouse.policies.compare.beside import Beside, beside, declared_reach
from pilothouse.policies.content import read
from pilothouse.policies.site import Site

HTTP = PortRef(name="http")


def leading(key: str, app: str = "") -> KubeService:
    """A Kubernetes Service whose port 80 leads to port 8080 of the pods of that app."""
    namespace, name = key.split("/")
    return KubeService(namespace, name, {"app": app or name}, (ServicePort("http", 80, 8080),), ("10.50.0.9",))


def world(*services: Service, enforcement: Enforcement = Enforcement.STAGED, more: Iterable[str] = ()) -> Inputs:
    """One pod of each service, with a Kubernetes Service before it, and the pods of `more`."""
    keys = [f"{item.key}.1" for item in services]
    pods = [pod(key, ips=(f"10.40.0.{number}",)) for number, key in enumerate([*keys, *more], 1)]
    found = inputs(services, on=cluster(calico_api="projectcalico.org/v3", enforcement=enforcement))
    return replace(found, snapshot=snapshot(pods, services=tuple(leading(item.key) for item in services)))


def to(key: str, **fields: Any) -> Edge:
    return Edge(ServicePeer(*key.split("/")), (HTTP,), **fields)


def both(found: Inputs) -> tuple[Site, Site]:
    return sites.of_platform(found), sites.of_platform(found, as_if_enforced=True)


def modes(found: Inputs) -> dict[str, adoption.NamespaceMode]:
    baseline = read(found.content).baseline
    assert baseline is not None
    return dict(adoption.modes(found, baseline))


def rows(found: Inputs) -> dict[str, Adopting]:
    return {row.namespace: row for row in adopting(*both(found), modes(found), edges.of(found))}


def test_a_pod_that_nobody_declares_is_cut_with_the_services_before_it() -> None:
    found = world(service("shop/web"), more=["shop/batch.1"])
    services = (*found.snapshot.services, leading("shop/old-batch", "batch"))
    row = rows(replace(found, snapshot=replace(found.snapshot, services=services)))["shop"]
    assert [(item.pod, item.services) for item in row.undeclared] == [("batch.1", ("old-batch",))]
    assert row.cuts
    assert row.pods == 2
    assert not row.enforced


def test_a_service_that_nobody_declares_to_go_to_would_be_reached_by_nobody() -> None:
    found = rows(world(service("shop/web", egress=(to("shop/cart"),)), service("shop/cart"), service("shop/lonely")))
    assert [item.service for item in found["shop"].unreached] == ["shop/web", "shop/lonely"]
    assert found["shop"].unreached[0].port == "80/TCP (of its pods 8080/TCP)"
    assert found["shop"].unreached[0].pods == ("shop/web.1",)


def test_nothing_more_ends_where_it_is_enforced_already() -> None:
    row = rows(world(service("shop/web"), enforcement=Enforcement.ENFORCED))["shop"]
    assert row.enforced
    assert (row.unreached, row.ends, row.isolation) == ((), (), ())
    assert not row.cuts


def test_what_one_end_alone_declares_is_named_in_both_namespaces() -> None:
    found = rows(world(service("shop/web", egress=(to("bank/ledger"),)), service("bank/ledger", ingress=())))
    for name in ("shop", "bank"):
        assert [(item.source, item.destination) for item in found[name].refused] == [("shop/web", "bank/ledger")]


def test_what_is_past_its_last_day_is_named() -> None:
    lapsed = to("shop/cart", expires=date(2026, 1, 31))
    found = rows(world(service("shop/web", egress=(lapsed,)), service("shop/cart")))
    assert [edge.expires for edge in found["shop"].lapsed] == [date(2026, 1, 31)]


def test_isolation_is_said_and_open_namespaces_come_first() -> None:
    declared = world(service("shop/web"), service("bank/ledger"))
    on = replace(
        declared.cluster,
        enforcement=Enforcement.ENFORCED,
        namespace_enforcement={"shop": Enforcement.STAGED},
    )
    found = replace(declared, platform=replace(declared.platform, clusters={"dev": on}), cluster=on)
    order = list(rows(found))
    assert order == ["shop", "bank"]
    assert {item.direction for item in rows(found)["shop"].isolation} == {"egress", "ingress"}
    data = as_data(rows(found).values())
    assert {item["namespace"]: item["mode"] for item in data} == {"shop": "staged", "bank": "enforced"}


# ---------------------------------------------------------------- beside what is declared


def looked(found: Inputs, key: str, *, enforced: bool = False) -> Beside:
    site = both(found)[enforced]
    reach = declared_reach(site, edges.of(found), modes(found))
    assert reach is not None
    return beside(site, reach, key)


def test_enforced_policies_allow_exactly_what_is_declared() -> None:
    found = world(service("shop/web", egress=(to("shop/cart"),)), service("shop/cart"))
    for key in ("shop/web", "shop/cart"):
        assert looked(found, key, enforced=True).same


def test_a_staged_namespace_is_open_beside_its_declarations() -> None:
    found = looked(world(service("shop/web", egress=(to("shop/cart"),)), service("shop/cart")), "shop/web")
    assert not found.same
    assert found.less == ()
    assert ("shop/web", "shop/cart") in {(str(change.source), str(change.destination)) for change in found.more}
    assert all("shop/web" in (change.source.name, change.destination.name) for change in found.more)


@pytest.mark.parametrize("key", ["shop/web", "shop/cart"])
def test_what_the_policies_leave_out_is_less(key: str) -> None:
    """The declarations of tomorrow beside the policies of today."""
    before = world(service("shop/web"), service("shop/cart"), enforcement=Enforcement.ENFORCED)
    goes = service("shop/web", egress=(to("shop/cart"),))
    after = world(goes, service("shop/cart"), enforcement=Enforcement.ENFORCED)
    site = replace(sites.of_platform(before), inputs=after)
    reach = declared_reach(site, edges.of(after), modes(after))
    assert reach is not None
    found = beside(site, reach, key)
    assert found.more == ()
    assert [str(change) for change in found.less] == ["- shop/web → shop/cart at 8080"]


def test_without_declarations_there_is_nothing_to_compare() -> None:
    found = world(service("shop/web"))
    assert declared_reach(replace(sites.of_platform(found), inputs=None), edges.of(found), ()) is None
