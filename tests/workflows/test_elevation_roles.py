"""The worker where Vault signs: in which order role and binding come and go, and what a failure of either leaves.

Vault is a table here; `tests/real/test_vault_elevation.py` and `test_elevation_with_vault.py` are about the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.builders import bundle_content
from support.elevation_world import ACCOUNT, Site, site

from pilothouse.access import content as vault_content
from pilothouse.access import vault_elevation
from pilothouse.access.content import VaultContent
from pilothouse.platform.authority import Authority, Elevation
from pilothouse.platform.model import Cluster
from pilothouse.problems import Unavailable
from pilothouse.store import elevations, findings
from pilothouse.store.elevations import State
from pilothouse.workflows import elevation, elevation_sweep
from pilothouse.workflows import vault_elevation as hand

ENTITY = "3c9f1c2e-0a5b-4e57-9d0e-6f1b7a8c9d10"
OTHER = "3c9f1c2e-0a5b-4e57-9d0e-6f1b7a8c9d11"


class Table:
    """What a Vault holds; `said` is what was done there and at the API server, in order."""

    def __init__(self) -> None:
        self.entities = {"olga": ENTITY}
        self.roles: dict[str, dict[str, Any]] = {}
        self.said: list[str] = []
        self.away = False
        self.changes: dict[str, Any] = {}

    def read(self, path: str) -> dict[str, Any] | None:
        return {"ldap/": {"accessor": "auth_ldap_0123abcd"}} if path == "sys/auth" else None

    def list(self, _path: str) -> tuple[str, ...]:
        return tuple(sorted(self.roles))

    def write(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "identity/lookup/entity":
            return {"id": self.entities.get(body["alias_name"], "")}
        name = path.rpartition("/")[2]
        self.said.append("role made")
        self.roles[name] = {**body, **self.changes}
        return self.roles[name]

    def delete(self, path: str) -> None:
        self.said.append("role removed")
        del self.roles[path.rpartition("/")[2]]

    @contextmanager
    def opened(self, cluster: Cluster, content: VaultContent) -> Iterator[hand.Roles]:
        if self.away:
            raise Unavailable("Vault at https://vault does not answer")
        yield hand.Roles(self, cluster, content)


@pytest.fixture
def place(tmp_path: Path) -> Site:
    """Claims are signed by the signer's own authority; for the worker it is Vault that signs on dev."""
    found: Site = site(tmp_path)
    opened = found.upkeep.read()
    platform = opened.loaded.platform
    dev = replace(
        platform.clusters["dev"],
        authority=Authority("vault", "pki-dev", "dev access"),
        elevation=Elevation(ACCOUNT, "/nowhere"),
    )
    loaded = replace(opened.loaded, platform=replace(platform, clusters={**platform.clusters, "dev": dev}))
    found.upkeep._opened = replace(opened, loaded=loaded)
    table = Table()
    found.table = table  # type: ignore[attr-defined]
    make, delete = found.server.make, found.server.delete
    found.server.make = lambda item: table.said.append("bound") or make(item)
    found.server.delete = lambda item, *more: table.said.append("unbound") or delete(item, *more)
    found.turn = lambda *_: elevation.run(found.upkeep, found.reach, table.opened)  # type: ignore[method-assign]
    object.__setattr__(found.issuance, "pause", found.turn)
    return found


def state_of(place: Site, id: str) -> tuple[State, str]:
    row = elevations.get(place.world.store, id)
    assert row is not None
    return row.state, row.error


def test_the_role_is_there_before_the_binding_and_goes_after_it(place: Any) -> None:
    id = place.approved()
    place.claim(id)
    assert place.table.said == ["role made", "bound"]
    assert list(place.table.roles) == [vault_elevation.role_name(ENTITY, id)]
    assert "no rights on dev" in place.give_back(id).meaning
    assert place.table.said == ["role made", "bound", "unbound", "role removed"]
    assert (place.table.roles, place.bindings()) == ({}, [])


def test_without_a_role_nothing_is_bound_and_the_claim_says_why(place: Any) -> None:
    id = place.approved()
    for why, cause in (
        ("does not answer", lambda: setattr(place.table, "away", True)),
        ("does not know olga yet", lambda: place.table.entities.clear()),
        ("otherwise than it was written", lambda: place.table.changes.update(server_flag="true")),
    ):
        cause()
        with pytest.raises(Unavailable, match=why):
            place.claim(id)
        assert (place.table.roles, place.bindings()) == ({}, [])
        place.table.away, place.table.entities, place.table.changes = False, {"olga": ENTITY}, {}
        elevation.run(place.upkeep, place.reach, place.table.opened)
    place.claim(id)
    assert len(place.table.roles) == 1


def test_rights_end_while_vault_is_away_and_the_role_goes_when_it_is_back(place: Any) -> None:
    id = place.approved()
    place.claim(id)
    place.table.away = True
    place.give_back(id)
    assert place.bindings() == []
    state, error = state_of(place, id)
    assert (state, "does not answer" in error) == (State.BOUND, True)
    place.table.away = False
    elevation.run(place.upkeep, place.reach, place.table.opened)
    assert (state_of(place, id), place.table.roles) == ((State.GONE, ""), {})


def test_a_binding_that_fails_leaves_a_role_that_the_next_run_removes(place: Any) -> None:
    id = place.approved()
    make = place.server.make

    def refuse(_item: Any) -> Any:
        raise Unavailable("the API server does not answer")

    place.server.make = refuse
    with pytest.raises(Unavailable, match="the API server does not answer"):
        place.claim(id)
    place.server.make = make
    elevation.run(place.upkeep, place.reach, place.table.opened)
    assert (place.table.roles, place.bindings()) == ({}, [])


def test_the_sweep_tells_a_leftover_from_what_somebody_else_wrote(place: Any) -> None:
    lives = place.approved()
    place.claim(lives)
    over = place.approved(profile="cluster-admin", who="pat", by="olga")
    for name in (
        vault_elevation.role_name(ENTITY, over),
        vault_elevation.role_name(ENTITY, "g-unknown"),
        vault_elevation.role_name(OTHER, lives),
        "req_by-hand",
        "developer",
    ):
        place.table.roles[name] = {}
    _, said = elevation_sweep.run(place.upkeep, place.reach, place.table.opened)
    assert "4 bindings and roles removed" in said
    assert set(place.table.roles) == {vault_elevation.role_name(ENTITY, lives), "developer"}
    odd = [item.problem for item in findings.current(place.world.store, "dev")]
    assert [item.code for item in odd].count("access/elevation-role-changed") == 3
    place.table.away = True
    elevation_sweep.run(place.upkeep, place.reach, place.table.opened)
    assert "access/elevation-unseen" in {item.problem.code for item in findings.current(place.world.store, "dev")}


def test_content_that_cannot_be_used_is_the_reason() -> None:
    broken = bundle_content({"secrets/vault/settings.yaml": "kind: x"})
    assert vault_content.read(broken)[0] is None
    signs = replace(_dev(), authority=Authority("vault", "pki-dev", "dev access"))
    opening = hand.roles_of(Table().opened, signs, broken)
    assert opening is not None
    with pytest.raises(Unavailable, match="secrets/vault cannot be used"):
        opening()
    assert hand.roles_of(Table().opened, _dev(), broken) is None


def _dev() -> Cluster:
    from support.builders import cluster

    return cluster("dev", elevation=Elevation(ACCOUNT, "/nowhere"))
