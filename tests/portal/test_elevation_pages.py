"""A request that the worker binds, in the portal, its API and on the command line, with a worker beside them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.access_portal import access_portal
from support.access_values import csr, key
from support.access_world import World
from support.elevation_world import announce, declare, fenced, working
from support.kube_fake import FakeServer
from support.portal import login

from pilothouse.access import grants
from pilothouse.clients.kubernetes.transport import Forbidden
from pilothouse.store import grants as grant_rows

Site = tuple[Flask, World, FakeServer]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    token = tmp_path / "token"
    token.write_text("none")
    names = ("olga", "pat")
    with access_portal(tmp_path, names, lambda root: declare(root, "https://fake.example", token)) as (app, world, _):
        yield app, world, fenced(world)


def approved(world: World, cluster: str = "dev", id: str = "g-1") -> str:
    profile = world.declared().profiles["cluster-admin"]
    now = world.clock()
    grant_rows.add(world.store, grants.request(id, "olga", profile, cluster, "repair the node", 1800, now))
    grant_rows.change(world.store, id, lambda it: grants.approve(it, "pat", "", now), "pat", "elevation.approved", now)
    return id


def text(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.get_data(as_text=True)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.get_data(as_text=True))).split())


def test_where_vault_signs_a_claim_is_made_on_ones_own_machine(site: Site) -> None:
    app, world, _ = site
    olga = login(app, "olga")
    page = text(olga.get(f"/access/requests/{approved(world, 'vaulted', 'g-2')}"))
    assert "pilothouse access claim g-2" in page
    assert "Vault signs for vaulted, with your own login there" in page
    assert "Or paste a signing request" not in page
    assert "Or paste a signing request" in text(olga.get(f"/access/requests/{approved(world)}"))


def test_the_binding_is_there_and_gone(site: Site) -> None:
    app, world, server = site
    olga, id = login(app, "olga"), approved(world)
    announce(world)
    with working(world, lambda _cluster: server):
        claimed = text(olga.post(f"/access/requests/{id}/claim", data={"csr": csr(key("olga"))}))
        assert "Your certificate" in claimed
        assert "On the cluster bound bound on dev since" in claimed
        assert [key_.name for key_ in server.present if key_.name.startswith("ph:elev:")] == [f"ph:elev:{id}"]
        assert "bound on dev since" in text(olga.get("/"))
        assert "bound on dev since" in text(olga.get("/access/"))
        assert olga.post("/access/give-back", data={"id": id}).status_code == 302
        assert not [key_ for key_ in server.present if key_.name.startswith("ph:elev:")]
    assert "its certificate has no rights on dev any more" in text(olga.get("/access/"))
    assert "its binding on dev was removed at" in text(olga.get(f"/access/requests/{id}"))


def test_a_cluster_that_refuses_leaves_the_request_to_be_claimed_again(site: Site) -> None:
    app, world, server = site
    olga, id = login(app, "olga"), approved(world)
    announce(world)

    def refuse(_manifest: Any) -> Any:
        raise Forbidden("dev answered 403: no", "")

    with working(world, lambda _cluster: server):
        server.make = refuse  # type: ignore[method-assign]
        said = text(olga.post(f"/access/requests/{id}/claim", data={"csr": csr(key("olga"))}), 503)
        assert f"dev did not bind request {id}: dev answered 403: no" in said
        assert f"pilothouse access claim {id}" in text(olga.get(f"/access/requests/{id}"))
        del server.make
        assert "Your certificate" in text(olga.post(f"/access/requests/{id}/claim", data={"csr": csr(key("olga"))}))


def test_what_still_stands_after_a_give_back_is_on_the_home_page(site: Site) -> None:
    app, world, server = site
    olga, id = login(app, "olga"), approved(world)
    announce(world)
    with working(world, lambda _cluster: server):
        olga.post(f"/access/requests/{id}/claim", data={"csr": csr(key("olga"))})
        server.forbidden.add("ClusterRoleBinding")
        olga.post("/access/give-back", data={"id": id})
    page = text(olga.get("/"))
    assert "given-back" in page
    assert "not done its binding on dev could not be removed, which is tried again" in page
    assert "its binding on dev still stands: 403" in page
