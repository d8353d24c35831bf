"""Which certificates a lock leaves good: it depends on whether the API server asks, and on what it can tell."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.access_values import elevated, profile
from support.builders import cluster, platform

from pilothouse.access.locks import Kind, Target
from pilothouse.platform.authority import Authority, Elevation, LockWebhook
from pilothouse.platform.model import Cluster, Platform, Versions
from pilothouse.store import Store
from pilothouse.store import certificates as rows
from pilothouse.store.certificates import Certificate
from pilothouse.workflows.unheld import unheld

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
USER = Target(Kind.USER, "alice", "alice")
ONE = Target(Kind.CERTIFICATE, "1", "alice", "dev", "ab" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    made.migrate()
    with made.write() as connection:
        for serial, name, grant, hours in (
            ("1", "developer", "", 16), ("2", "developer", "", 8), ("3", "cluster-admin", "g-1", 1)
        ):  # fmt: skip
            end = NOW + timedelta(hours=hours)
            rows.add(connection, Certificate("dev", serial, "alice", name, ("ph:x",), serial * 64, NOW, end, grant))
            rows.issued(connection, "dev", serial, serial * 64, end, "")
    yield made
    made.close()


def declared(on: Cluster, generation: int = 0) -> Platform:
    profiles = {item.name: item for item in (profile(generation=generation), elevated())}
    return platform(clusters=[on], profiles=profiles)


def asks(version: str) -> Cluster:
    webhook = Authority(webhook=LockWebhook("https://locks.bank.example:8443"))
    return cluster("dev", authority=webhook, versions=Versions(kubernetes=version))


def test_a_cluster_that_does_not_ask(store: Store) -> None:
    admin, developer = unheld(store, declared(cluster("dev"), generation=4), USER, NOW)
    assert developer.startswith("2 certificates for developer on dev may be used until 2026-11-22 00:00 UTC")
    assert "write `generation: 5` into the profile" in developer
    assert admin.startswith("1 certificate for cluster-admin on dev")
    (one,) = unheld(store, declared(cluster("dev")), ONE, NOW)
    assert one.startswith("1 certificate for developer on dev")
    assert "vault apply" not in one


def test_a_cluster_that_asks_and_one_that_cannot_tell_them_apart(store: Store) -> None:
    assert unheld(store, declared(asks("1.34")), USER, NOW) == unheld(store, declared(asks("1.34")), ONE, NOW) == ()
    assert unheld(store, declared(asks("1.31")), USER, NOW) == ()
    (one,) = unheld(store, declared(asks("1.31")), ONE, NOW)
    assert "it cannot tell them apart" in one


def test_what_needs_no_generation(store: Store) -> None:
    binds = cluster("dev", elevation=Elevation("system:serviceaccount:pilothouse:worker"))
    assert [item.split(" on ")[0] for item in unheld(store, declared(binds), USER, NOW)] == [
        "2 certificates for developer"
    ]
    assert unheld(store, declared(cluster("dev")), USER, NOW + timedelta(days=1)) == ()
    assert unheld(store, declared(cluster("other")), USER, NOW) == ()


def test_a_vault_is_applied_too_and_a_profile_may_be_gone(store: Store) -> None:
    vaulted = cluster("dev", authority=Authority(backend="vault"))
    (one,) = unheld(store, declared(vaulted), ONE, NOW)
    assert "then `pilothouse apply dev` and `pilothouse access vault apply dev`" in one
    (gone,) = unheld(store, platform(clusters=[cluster("dev")], profiles={}), ONE, NOW)
    assert "not declared any more" in gone
