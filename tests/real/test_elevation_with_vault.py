"""Elevation where Vault signs, with every server real: kubectl before, during and after, and what is left in Vault."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support import testbed
from support.bed import kubernetes
from support.bed.kubernetes import KubeApi
from support.vault_day import Day, vault_day

from pilothouse.access import vault_elevation
from pilothouse.store import Store, elevations, findings
from pilothouse.worker.scheduler import Worker
from pilothouse.workflows import elevation, elevation_sweep
from pilothouse.workflows.upkeep import JOBS, Upkeep

pytestmark = pytest.mark.real
SECONDS = 20.0
REASON = ("--reason", "drain a node", "--ticket", "PLAT-4711")


@pytest.fixture(scope="module")
def api() -> Iterator[KubeApi]:
    found = kubernetes.start()
    yield found
    found.stop()


@pytest.fixture
def day(tmp_path: Path, vault: Any, slapd: Any, api: KubeApi) -> Iterator[Day]:
    with vault_day(tmp_path, vault, slapd, api, elevated=True) as made:
        yield made


@pytest.fixture
def upkeep(day: Day) -> Iterator[Upkeep]:
    store = Store(day.data)
    yield Upkeep(store, day.platform, day.data, lambda: datetime.now(UTC), lambda *_: None)
    store.close()


@contextmanager
def working(upkeep: Upkeep) -> Iterator[None]:
    worker = Worker(upkeep, tuple(job for job in JOBS if job.name.startswith("elevat")))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def ask(day: Day, profile: str = "cluster-admin") -> str:
    """The id of a request of olga's that pat has approved."""
    said = day.run("access", "elevate", profile, "-c", day.site.name, *REASON, "--for", "30m", "-o", "json")
    id = str(json.loads(said)["id"])
    day.of("pat").run("access", "approve", id)
    return id


def elevated(day: Day, *arguments: str, profile: str = "cluster-admin") -> subprocess.CompletedProcess[str]:
    config = day.home / "pilothouse/kubeconfig" / f"{day.site.name}.{profile}.yaml"
    return subprocess.run(
        [str(testbed.program("kubectl")), "--kubeconfig", str(config), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=day.environment,
    )


def roles(day: Day) -> list[str]:
    return [name for name in day.site.root.list(f"{day.site.pki}/roles") if vault_elevation.is_one(name)]


def until(what: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < SECONDS, "not within the time"
        time.sleep(0.02)


def test_elevated_allowed_given_back_refused(day: Day, upkeep: Upkeep) -> None:
    day.login("olga")
    with working(upkeep):
        id = ask(day)
        assert roles(day) == []
        assert "olga may act as cluster-admin" in day.run("access", "claim", id)
        assert [vault_elevation.request_of(name) for name in roles(day)] == [id]
        who = json.loads(testbed.accepted(elevated(day, "auth", "whoami", "-o", "json")))["status"]["userInfo"]
        assert (who["username"], set(who["groups"])) == ("olga", {f"ph:elev:{id}", "system:authenticated"})
        until(lambda: elevated(day, "get", "secrets", "-A").returncode == 0)
        config = (day.home / "pilothouse/kubeconfig" / f"{day.site.name}.cluster-admin.yaml").read_text()
        key = next((day.home / "pilothouse/credentials").glob("*.cluster-admin.json")).read_text()
        copy = day.home / "copy.json"  # of the key and the certificate, which give-back cannot reach
        copy.write_text(key)
        assert "PRIVATE" not in config
        assert "no rights" in day.run("access", "give-back", id)
        held = json.loads(key)
        for name in ("key", "certificate"):
            (day.home / name).write_text(held[name])
        until(lambda: _with_copy(day).returncode != 0)  # how soon: `test_elevation_on_server`
        assert "Forbidden" in _with_copy(day).stderr
        until(lambda: roles(day) == [])
    assert {"elevation.bound", "elevation.given-back", "elevation.unbound"} <= set(day.kinds())


def test_two_people_break_the_glass_with_their_own_logins_at_vault(day: Day, upkeep: Upkeep) -> None:
    day.login("olga")
    with working(upkeep):
        id = ask(day, "glass")
        assert "olga may act as glass" in day.run("access", "claim", id)
        assert [vault_elevation.request_of(name) for name in roles(day)] == [id]
        until(lambda: elevated(day, "get", "secrets", "-A", profile="glass").returncode == 0)
        day.run("access", "give-back", id)
        until(lambda: roles(day) == [])
    assert {"break-glass.claimed", "break-glass.given-back", "elevation.unbound"} <= set(day.kinds())


def _with_copy(day: Day) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(testbed.program("kubectl")),
            *("--server", day.api.url, "--certificate-authority", str(day.api.ca_file)),
            *("--client-certificate", str(day.home / "certificate"), "--client-key", str(day.home / "key")),
            *("get", "secrets", "-A"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=day.environment,
    )


def test_a_claim_without_a_login_at_vault_costs_nothing_but_another_claim(day: Day, upkeep: Upkeep) -> None:
    day.login("olga")
    id = ask(day)
    kept = day.home / "pilothouse/vault" / f"{day.site.name}.json"
    away = kept.read_text()
    kept.unlink()
    with working(upkeep):
        said = day.run("access", "claim", id, code=2)
        assert "no login there came with the request" in said
        assert f"pilothouse access claim {id}" in said
        kept.write_text(away)
        kept.chmod(0o600)
        assert "olga may act as cluster-admin" in day.run("access", "claim", id)


def test_where_the_worker_gets_into_no_vault_nothing_is_bound(day: Day, upkeep: Upkeep) -> None:
    day.login("olga")
    secret = Path(upkeep.opened().loaded.platform.clusters[day.site.name].elevation.vault_secret_file)
    good = secret.read_text()
    secret.write_text("{}")
    with working(upkeep):
        id = ask(day)
        said = day.run("access", "claim", id, code=2)
        assert "does not hold what the worker logs in with at Vault" in said
        assert "the request can be claimed again" in said
        assert roles(day) == []
        assert [item for item in day.api.get(BINDINGS)["items"] if id in item["metadata"]["name"]] == []
        secret.write_text(good)
        until(lambda: elevations.get(upkeep.store, id) is None or not elevations.unfinished(upkeep.store))
        assert "olga may act as cluster-admin" in day.run("access", "claim", id)


BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


def test_what_a_worker_that_died_in_between_left_is_swept(day: Day, upkeep: Upkeep) -> None:
    """Between role and binding, and between the end of the binding and that of the role."""
    day.login("olga")

    class Dies(Exception):
        """As a process does: nothing after it is done."""

    def broken(_server: Any, _wanted: Any) -> tuple[str, ...]:
        raise Dies

    id = ask(day)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elevation, "bind", broken)
        claiming = threading.Thread(target=lambda: day.run("access", "claim", id, code=2))
        claiming.start()
        until(lambda: elevations.get(upkeep.store, id) is not None)
        with pytest.raises(Dies):
            elevation.run(upkeep)
        assert [vault_elevation.request_of(name) for name in roles(day)] == [id]
        claiming.join()  # the claim ends for want of a binding, and the request is open again
    _, said = elevation_sweep.run(upkeep)
    assert "bindings and roles removed" in said
    assert roles(day) == []
    with working(upkeep):
        assert "olga may act as cluster-admin" in day.run("access", "claim", id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pilothouse.workflows.vault_elevation.Roles.remove", broken)
        day.run("access", "give-back", id)
        with pytest.raises(Dies):
            elevation.run(upkeep)
        assert [item for item in day.api.get(BINDINGS)["items"] if id in item["metadata"]["name"]] == []
        assert len(roles(day)) == 1
    elevation_sweep.run(upkeep)
    assert roles(day) == []
    elevation.run(upkeep)
    assert not elevations.unfinished(upkeep.store)


def test_a_vault_that_is_away_is_a_finding_of_the_sweep(day: Day, upkeep: Upkeep) -> None:
    secret = Path(upkeep.opened().loaded.platform.clusters[day.site.name].elevation.vault_secret_file)
    secret.write_text("{}")
    elevation_sweep.run(upkeep)
    found = [item.problem for item in findings.current(upkeep.store) if item.problem.code == "access/elevation-unseen"]
    assert [f"pilothouse access vault elevator {day.site.name}" in item.hint for item in found] == [True]
